//! The handler of backtests.

use std::sync::Arc;

use analysis::ledger::trial_of;
use bytes::Bytes;
use jesse::{
    candles::{Source, store::ChunkFiles},
    plan::{BacktestPlan, cache_key, facets},
    rest::{self, RestEngine},
    runner::{Runner, TaskError, TaskResult},
    spec::{BacktestSpec, DEFAULT_WARM_UP_CANDLES},
    strategies::publish,
};
use jobs::{
    CacheKey, Claim, ErrorCode, JobError, Queue, StoredResult,
    backend::{Assignment, Handled},
    blobs::Blobs,
    ledger::TrialRecord,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{Attendant, unreadable},
    code::Code,
    on_runner::{Task, provenance},
    stored::{self, New},
};

/// What a client reads first; all the others are in the result.
const SUMMARY_METRICS: [&str; 20] = [
    "total",
    "win_rate",
    "net_profit",
    "net_profit_percentage",
    "annual_return",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "omega_ratio",
    "max_drawdown",
    "max_underwater_period",
    "expectancy_percentage",
    "ratio_avg_win_loss",
    "average_holding_period",
    "longs_count",
    "shorts_count",
    "fee",
    "starting_balance",
    "finishing_balance",
    "total_open_trades",
];

/// Computes backtests, and what else takes the code and candles of one.
#[derive(Debug)]
pub(crate) struct Backtests {
    pub(crate) queue: Queue,
    pub(crate) blobs: Blobs,
    /// Not there when all is computed on Jesse's server.
    pub(crate) runner: Option<Arc<Runner>>,
    /// Jesse's own servers, if there are any.
    pub(crate) rest: Option<Arc<RestEngine>>,
    pub(crate) chunks: ChunkFiles,
    pub(crate) code: Code,
    pub(crate) attendant: Arc<Attendant>,
}

impl Backtests {
    /// Runs one backtest to its outcome, or until it must stop.
    pub(crate) async fn handle(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, stop } = assignment;
        let stopping = CancellationToken::new();
        let compute = self.compute(&claim, &stopping);
        self.attendant.attend(&claim, stop, &stopping, compute).await
    }

    async fn compute(&self, claim: &Claim, stop: &CancellationToken) -> Result<StoredResult, TaskError> {
        let spec: BacktestSpec =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let plan: BacktestPlan =
            serde_json::from_str(&claim.plan).map_err(|error| unreadable(claim, &error))?;
        if let Some(server) = &plan.server {
            return self.compute_on_server(claim, (&spec, &plan, server), stop).await;
        }
        let task = Task {
            name: "backtest",
            spec: &spec,
            more: json!({"fast_mode": spec.fast_mode, "benchmark": spec.benchmark, "scenario": spec.scenario}),
        };
        let result = self.compute_on_runner(claim, task, &plan, stop).await?;
        self.store(claim, (&spec, &plan), result).await
    }

    /// Stores the body, then says under which key: that of what was really run.
    async fn store(
        &self,
        claim: &Claim,
        (spec, plan): (&BacktestSpec, &BacktestPlan),
        result: TaskResult,
    ) -> Result<StoredResult, TaskError> {
        let engine = publish::engine(&result.engine);
        // What was really run has the last word: this worker's Jesse may be another than the one planned for.
        let cache_key = plan.scoped(cache_key(spec, &plan.bundles, &plan.series, &engine));
        let provenance = provenance(spec, plan, &result, &cache_key);
        let summary = summary(spec, plan, &result.value);
        let body = result.body.unwrap_or_default();
        self.keep(claim, (spec, plan), Found { body, cache_key, provenance, summary }).await
    }

    /// Stores the body, and says what the record is to hold.
    pub(crate) async fn keep(
        &self,
        claim: &Claim,
        (spec, plan): (&BacktestSpec, &BacktestPlan),
        found: Found,
    ) -> Result<StoredResult, TaskError> {
        let Found { body, cache_key, provenance, summary } = found;
        let (key, facets) = (plan.shared.then(|| cache_key.to_string()), facets(spec));
        let trial = TrialRecord { names: names(spec, plan, &cache_key), trial: trial_of(&body) };
        let trial = Some(Box::new(trial));
        let new = New { body, summary, provenance, key, facets, trial };
        Ok(stored::store(&self.blobs.results, claim, new).await?)
    }
}

/// What the ledger knows the result by: the key that was asked for, and that of what was really run.
fn names(spec: &BacktestSpec, plan: &BacktestPlan, run: &CacheKey) -> Vec<String> {
    let asked = match &plan.server {
        Some(server) => plan.scoped(rest::cache_key(spec, &plan.bundles, server, &plan.engine)),
        None => plan.scoped(cache_key(spec, &plan.bundles, &plan.series, &plan.engine)),
    };
    let mut names = vec![asked.to_string(), run.to_string()];
    names.dedup();
    names
}

/// What a backtest found, on whichever engine.
pub(crate) struct Found {
    pub(crate) body: Bytes,
    /// The key of what was really run.
    pub(crate) cache_key: CacheKey,
    pub(crate) provenance: Value,
    pub(crate) summary: Value,
}

/// This worker has servers only, and what it was given is for the runner.
pub(crate) fn no_runner() -> TaskError {
    let message = "this worker has Jesse's servers only (--engine rest), and this was planned for the runner";
    TaskError::NoEngine(JobError::new(ErrorCode::Internal, message).retryable())
}

pub(crate) fn summary(spec: &BacktestSpec, plan: &BacktestPlan, value: &Value) -> Value {
    let metrics = &value["metrics"];
    let chosen: serde_json::Map<_, _> = SUMMARY_METRICS
        .into_iter()
        .filter_map(|name| metrics.get(name).map(|value| (name.to_owned(), value.clone())))
        .collect();
    let mut summary = json!({"metrics": chosen, "compute_s": value["compute_s"]});
    let mut warnings: Vec<_> = of_candles(plan).collect();
    if spec.scenario.is_some() {
        warnings.push("computed on altered candles, to see what might have happened".to_owned());
    }
    if value["trades"] == 0 && (1..DEFAULT_WARM_UP_CANDLES).contains(&spec.warm_up_candles) {
        // Jesse cuts what indicators get to the length of the warm-up, and a longer period then gives NaN for ever.
        warnings.push(format!(
            "no trades: indicators saw {} candles only, as warm_up_candles says, and one with a longer period has no value",
            spec.warm_up_candles
        ));
    }
    if !warnings.is_empty() {
        summary["warning"] = warnings.join("; ").into();
    }
    summary
}

/// What a reader must know of the candles.
pub(crate) fn of_candles(plan: &BacktestPlan) -> impl Iterator<Item = String> {
    let synthetic = plan.series.iter().any(|series| matches!(series.source, Source::Synthetic { .. }));
    let synthetic =
        synthetic.then(|| "computed on synthetic candles, which no market made".to_owned()).into_iter();
    let filled = plan.series.iter().filter_map(|planned| {
        let filled = planned.filled.as_ref()?;
        let (minutes, gaps, symbol) = (filled.minutes, filled.gaps, planned.series.symbol());
        Some(format!("{minutes} minutes of {symbol} in {gaps} gaps had no candle and repeat the last close"))
    });
    synthetic.chain(filled)
}

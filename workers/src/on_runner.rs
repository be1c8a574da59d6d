//! Work of Jesse's on stored candles in the runner: code and candles are brought here by their hashes, and a task computes.

use std::path::Path;

use jesse::{
    candles::{Series, store::StoreError},
    catalogue::Market,
    disk_cache::InUse,
    plan::BacktestPlan,
    runner::{TaskError, TaskRequest, TaskResult},
    spec::{BacktestSpec, DataRoute, Route},
    strategies::publish,
};
use jobs::{CacheKey, Claim, ErrorCode, JobError};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{record_progress, unavailable},
    backtest::{Backtests, no_runner},
    code::CodeError,
};

/// Strategies that draw random numbers draw the same ones again.
const SEED: u32 = 0;

/// What the runner is to do.
pub(crate) struct Task<'a> {
    /// As the Python side calls it.
    pub(crate) name: &'static str,
    /// The strategies, their settings and the range.
    pub(crate) spec: &'a BacktestSpec,
    /// What the task takes besides: an object.
    pub(crate) more: Value,
}

/// The candles of one symbol, which stay on the disk for as long as this lives.
struct SeriesFiles {
    series: Series,
    months: Vec<InUse>,
}

impl Backtests {
    /// Runs a task on what the plan has pinned, and records how far it is.
    pub(crate) async fn compute_on_runner(
        &self,
        claim: &Claim,
        task: Task<'_>,
        plan: &BacktestPlan,
        stop: &CancellationToken,
    ) -> Result<TaskResult, TaskError> {
        let runner = self.runner.as_ref().ok_or_else(no_runner)?;
        let code = self.code.get(&plan.bundles).await.map_err(|error| match error {
            CodeError::Conflict(why) => JobError::new(ErrorCode::InvalidSpec, format!("routes: {why}")),
            error => unavailable(claim, "code", &error),
        })?;
        let series = self.candle_files(plan).await.map_err(|error| unavailable(claim, "candles", &error))?;
        let (sender, receiver) = mpsc::channel(4);
        let request = TaskRequest {
            task: task.name,
            args: arguments(task, plan, code.path(), &series),
            limits: plan.limits,
            progress: Some(&sender),
        };
        let running = runner.run(request, stop);
        tokio::select! {
            result = running => result,
            never = record_progress(&self.queue, claim, receiver) => match never {},
        }
    }

    async fn candle_files(&self, plan: &BacktestPlan) -> Result<Vec<SeriesFiles>, StoreError> {
        let mut all = Vec::with_capacity(plan.series.len());
        for planned in &plan.series {
            let mut months = Vec::with_capacity(planned.chunks.len());
            for chunk in &planned.chunks {
                months.push(self.chunks.get(chunk).await?);
            }
            all.push(SeriesFiles { series: planned.series.clone(), months });
        }
        Ok(all)
    }
}

/// The receipt: everything that the result was computed from.
pub(crate) fn provenance(
    spec: &BacktestSpec,
    plan: &BacktestPlan,
    result: &TaskResult,
    cache_key: &CacheKey,
) -> Value {
    json!({
        "bundles": plan.bundles,
        "candles": plan.series,
        "engine": publish::engine(&result.engine),
        "exchange": plan.exchange,
        "config": config(spec, plan),
        "cache_key": cache_key,
        "seed": SEED,
        "sandbox": result.engine.sandbox.active,
        "faster": result.engine.faster,
    })
}

/// Jesse's own name for what is neither code nor candles.
fn config(spec: &BacktestSpec, plan: &BacktestPlan) -> Value {
    let mut config = json!({
        "starting_balance": spec.balance,
        "fee": spec.fee,
        "type": match plan.exchange.market { Market::Spot => "spot", Market::Futures => "futures" },
        "futures_leverage": spec.leverage,
        "futures_leverage_mode": spec.leverage_mode,
        "exchange": spec.exchange,
        "warm_up_candles": spec.warm_up_candles,
    });
    if let Some(model) = &plan.exchange.simulation_model {
        config["simulation_model"] = model.as_str().into();
    }
    if let Some(annualization) = plan.exchange.annualization {
        config["annualization"] = annualization.into();
    }
    config
}

fn arguments(task: Task<'_>, plan: &BacktestPlan, bundle: &Path, series: &[SeriesFiles]) -> Value {
    let Task { spec, more, .. } = task;
    let (start_ms, finish_ms) = spec.range_ms();
    let series: Vec<_> = series
        .iter()
        .map(|SeriesFiles { series, months }| {
            let files: Vec<_> = months.iter().map(InUse::path).collect();
            json!({"exchange": series.exchange(), "symbol": series.symbol(), "files": files})
        })
        .collect();
    let exchange = &spec.exchange;
    let route = |route: &Route| {
        let Route { strategy, symbol, timeframe } = route;
        json!({"exchange": exchange, "strategy": strategy, "symbol": symbol, "timeframe": timeframe})
    };
    let data_route = |DataRoute { symbol, timeframe }: &DataRoute| json!({"exchange": exchange, "symbol": symbol, "timeframe": timeframe});
    let mut arguments = json!({
        "bundle": bundle,
        "config": config(spec, plan),
        "routes": spec.routes.iter().map(route).collect::<Vec<_>>(),
        "data_routes": spec.data_routes.iter().map(data_route).collect::<Vec<_>>(),
        "series": series,
        "warmup_start_ms": spec.warm_up_start_ms(),
        "start_ms": start_ms,
        "finish_ms": finish_ms,
        "hyperparameters": (!spec.hyperparameters.is_empty()).then_some(&spec.hyperparameters),
        "seed": SEED,
        "fill_gaps": spec.allow_gaps,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut arguments, more) {
        all.extend(more);
    }
    arguments
}

//! The handler of backtests.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jesse::{
    candles::{
        Source,
        store::{ChunkFiles, StoreError},
    },
    catalogue::{Engine, Market},
    plan::{BacktestPlan, cache_key},
    runner::{Runner, TaskError, TaskRequest, TaskResult},
    spec::{BacktestSpec, DataRoute, Route},
    strategies::{bundle, publish},
};
use jobs::{
    Claim, ErrorCode, JobError, Outcome, Progress, Queue, Receipt, StoredResult,
    backend::{Assignment, Handled, StopReason},
    blobs::{BlobId, Blobs},
    chain,
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Progress is recorded at most this often, and not at all for what is over sooner.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// How long a worker without Jesse waits before it lets go of a run, which it may well get again.
const NO_ENGINE_PAUSE: Duration = Duration::from_secs(2);

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

/// Computes backtests.
#[derive(Debug)]
pub(crate) struct Backtests {
    pub(crate) queue: Queue,
    pub(crate) blobs: Blobs,
    pub(crate) runner: Arc<Runner>,
    pub(crate) chunks: ChunkFiles,
    /// Unpacked bundles, by hash.
    pub(crate) bundles: PathBuf,
}

impl Backtests {
    /// Runs one backtest to its outcome, or until it must stop.
    pub(crate) async fn handle(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, mut stop } = assignment;
        let stopping = CancellationToken::new();
        let compute = self.compute(&claim, &stopping);
        tokio::pin!(compute);
        let mut reason: Option<StopReason> = None;
        let computed = loop {
            tokio::select! {
                computed = &mut compute => break computed,
                why = stop.stopped(), if reason.is_none() => {
                    reason = Some(why);
                    stopping.cancel();
                }
            }
        };
        match (computed, reason) {
            (Ok(result), _) => Handled::Finished(Outcome::Succeeded(result)),
            (Err(TaskError::Failed(error)), _) => Handled::Finished(Outcome::Failed(error)),
            (Err(TaskError::Stopped), reason) => Handled::Stopped(reason.unwrap_or(StopReason::HandBack)),
            (Err(TaskError::NoEngine(error)), reason) => {
                // Another worker may be better off; this one must not fail job after job meanwhile.
                tracing::warn!(run.id = %claim.run, error = chain(&error), "a run is handed back: Jesse is not there");
                let _stopped = tokio::time::timeout(NO_ENGINE_PAUSE, stop.stopped()).await;
                Handled::Stopped(reason.unwrap_or(StopReason::HandBack))
            }
        }
    }

    async fn compute(&self, claim: &Claim, stop: &CancellationToken) -> Result<StoredResult, TaskError> {
        let unreadable = |error: serde_json::Error| {
            tracing::error!(run.id = %claim.run, %error, "a plan cannot be read");
            JobError::new(ErrorCode::Internal, "this worker cannot read the plan; it is of another version")
                .retryable()
        };
        let spec: BacktestSpec = serde_json::from_str(&claim.request).map_err(unreadable)?;
        let plan: BacktestPlan = serde_json::from_str(&claim.plan).map_err(unreadable)?;
        let ready = self.runner.ready().await.map_err(TaskError::NoEngine)?;
        let engine = publish::engine(&ready);
        let bundle =
            self.unpack(&plan.bundles).await.map_err(|error| self.unavailable(claim, "code", &*error))?;
        let series =
            self.candle_files(&plan).await.map_err(|error| self.unavailable(claim, "candles", &error))?;

        let (sender, receiver) = mpsc::channel(4);
        let request = TaskRequest {
            task: "backtest",
            args: arguments(&spec, &plan, &bundle, &series),
            limits: plan.limits,
            progress: Some(&sender),
        };
        let running = self.runner.run(request, stop);
        let result = tokio::select! {
            result = running => result?,
            never = self.record_progress(claim, receiver) => match never {},
        };
        self.store(claim, (&spec, &plan), engine, result).await
    }

    /// Records progress for as long as it is polled.
    async fn record_progress(
        &self,
        claim: &Claim,
        mut steps: mpsc::Receiver<Progress>,
    ) -> std::convert::Infallible {
        let mut last = Instant::now();
        while let Some(progress) = steps.recv().await {
            if last.elapsed() < PROGRESS_EVERY {
                continue;
            }
            last = Instant::now();
            if let Err(error) = self.queue.progress(claim.run, claim.fence, &progress).await {
                tracing::debug!(run.id = %claim.run, error = chain(&error), "progress was not recorded");
            }
        }
        std::future::pending().await
    }

    /// A folder with the code, unpacked once.
    async fn unpack(&self, bundles: &[BlobId]) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
        let names: Vec<_> = bundles.iter().map(BlobId::as_str).collect();
        let target = match names[..] {
            [one] => self.bundles.join(one),
            _ => self.bundles.join(BlobId::of(names.join("+").as_bytes()).as_str()),
        };
        if tokio::fs::try_exists(&target).await? {
            return Ok(target);
        }
        let mut archives = Vec::with_capacity(bundles.len());
        for id in bundles {
            let archive = self.blobs.inputs.get(id).await?;
            archives.push(archive.ok_or_else(|| format!("bundle {id} is not in the blob store any more"))?);
        }
        let (parent, folder) = (self.bundles.clone(), target.clone());
        tokio::task::spawn_blocking(move || unpack_whole(&archives, &parent, &folder)).await??;
        Ok(target)
    }

    async fn candle_files(&self, plan: &BacktestPlan) -> Result<Vec<Value>, StoreError> {
        let mut all = Vec::with_capacity(plan.series.len());
        for planned in &plan.series {
            let mut files = Vec::with_capacity(planned.chunks.len());
            for chunk in &planned.chunks {
                files.push(self.chunks.path(chunk).await?);
            }
            let (exchange, symbol) = (planned.series.exchange(), planned.series.symbol());
            all.push(json!({"exchange": exchange, "symbol": symbol, "files": files}));
        }
        Ok(all)
    }

    /// What was pinned cannot be brought here: worth another attempt, perhaps on another worker.
    #[expect(clippy::unused_self, reason = "reads as one step of computing")]
    fn unavailable(&self, claim: &Claim, what: &str, error: &(dyn std::error::Error + 'static)) -> JobError {
        tracing::error!(run.id = %claim.run, error = chain(error), what, "what a run needs cannot be fetched");
        JobError::new(ErrorCode::Internal, format!("the worker could not fetch the {what} it needs"))
            .retryable()
    }

    /// Stores the body, then says under which key: that of what was really run.
    async fn store(
        &self,
        claim: &Claim,
        (spec, plan): (&BacktestSpec, &BacktestPlan),
        engine: Engine,
        result: TaskResult,
    ) -> Result<StoredResult, TaskError> {
        let body = result.body.unwrap_or_default();
        let bytes = body.len() as u64;
        let blob = self
            .blobs
            .results
            .put(body)
            .await
            .map_err(|error| self.unavailable(claim, "blob store", &error))?;
        // What was really run has the last word: this worker's Jesse may be another than the one planned for.
        let cache_key = cache_key(spec, &plan.bundles, &plan.series, &engine);
        let id = if plan.shared { cache_key.to_string() } else { claim.run.to_string() };
        let provenance = json!({
            "bundles": plan.bundles,
            "candles": plan.series,
            "engine": engine,
            "cache_key": cache_key,
            "seed": SEED,
        });
        let provenance = RawValue::from_string(provenance.to_string()).map_err(|error| {
            JobError::new(ErrorCode::Internal, format!("the receipt cannot be written: {error}"))
        })?;
        Ok(StoredResult {
            id,
            summary: summary(plan, &result.value).to_string(),
            receipt: Receipt { blob, bytes, provenance },
        })
    }
}

/// Strategies that draw random numbers draw the same ones again.
const SEED: u32 = 0;

fn arguments(spec: &BacktestSpec, plan: &BacktestPlan, bundle: &Path, series: &[Value]) -> Value {
    let (start_ms, finish_ms) = spec.range_ms();
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
    let exchange = &spec.exchange;
    let route = |route: &Route| {
        let Route { strategy, symbol, timeframe } = route;
        json!({"exchange": exchange, "strategy": strategy, "symbol": symbol, "timeframe": timeframe})
    };
    let data_route = |DataRoute { symbol, timeframe }: &DataRoute| json!({"exchange": exchange, "symbol": symbol, "timeframe": timeframe});
    json!({
        "bundle": bundle,
        "config": config,
        "routes": spec.routes.iter().map(route).collect::<Vec<_>>(),
        "data_routes": spec.data_routes.iter().map(data_route).collect::<Vec<_>>(),
        "series": series,
        "warmup_start_ms": spec.warm_up_start_ms(),
        "start_ms": start_ms,
        "finish_ms": finish_ms,
        "hyperparameters": (!spec.hyperparameters.is_empty()).then_some(&spec.hyperparameters),
        "fast_mode": spec.fast_mode,
        "benchmark": spec.benchmark,
        "seed": SEED,
        "fill_gaps": spec.allow_gaps,
    })
}

fn summary(plan: &BacktestPlan, value: &Value) -> Value {
    let metrics = &value["metrics"];
    let chosen: serde_json::Map<_, _> = SUMMARY_METRICS
        .into_iter()
        .filter_map(|name| metrics.get(name).map(|value| (name.to_owned(), value.clone())))
        .collect();
    let mut summary = json!({"metrics": chosen, "compute_s": value["compute_s"]});
    let warnings: Vec<_> = warnings(plan).collect();
    if !warnings.is_empty() {
        summary["warning"] = warnings.join("; ").into();
    }
    summary
}

fn warnings(plan: &BacktestPlan) -> impl Iterator<Item = String> {
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

fn unpack_whole(archives: &[bytes::Bytes], parent: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(parent)?;
    let folder = tempfile::Builder::new().prefix("unpacking-").tempdir_in(parent)?;
    bundle::unpack(archives, folder.path())?;
    match std::fs::rename(folder.path(), target) {
        // Another run was faster; both unpacked the same.
        Err(_) if target.exists() => Ok(()),
        Ok(()) => {
            let _moved = folder.keep();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

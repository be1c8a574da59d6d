#![doc = include_str!("../README.md")]

mod attend;
mod backtest;
mod code;
mod import;
mod metrics;
mod on_runner;
mod on_server;
mod parents;
mod risk;
mod run_folder;
mod runner_files;
mod significance;
mod stored;
pub mod traces;
mod unused;
mod validate;
pub mod webhooks;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use apalis::prelude::{WorkerBuilder, WorkerBuilderExt};
use apalis_core::error::BoxDynError;
use jesse::{
    candles::{
        closes::{self, CloseFiles},
        exchange::ExchangeSettings,
        store::{self, CandleStore, ChunkFiles},
    },
    disk_cache::DiskCache,
    rest::{OfferPublisher, RestEngine, RestError, RestSettings},
    runner::{Runner, RunnerSettings, Sandbox, SandboxMode, Upkeep},
    strategies::publish::Publisher,
};
use jobs::{
    Collected, ErrorCode, JobError, Kind, Outage, Outcome, Queue, QueueError, WorkerId,
    backend::{Assignment, Capacity, Handled, LeaseBackend},
    blobs::Blobs,
    chain, collect_garbage,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use metrics::RunMetrics;
pub use runner_files::write as write_runner_package;

use attend::Attendant;
use backtest::Backtests;
use code::Code;
use import::Imports;
use parents::Parents;
use risk::Analyses;
use run_folder::RunFolder;
use validate::Validations;

/// How long handing back may take, as when Redis is away.
const HAND_BACK_LIMIT: Duration = Duration::from_secs(15);

/// How much longer than a run's time-out its handler may take, to start and to store the result.
const OVERTIME: Duration = Duration::from_mins(5);

/// How often the results' sizes are looked at.
const EVICT_EVERY: Duration = Duration::from_secs(1);

/// What a worker keeps on its disk for as long as there is room.
const CACHED: &[&str] = &[store::FOLDER, closes::FOLDER, code::FOLDER];

/// How often expired results are removed; at least four times in the time that they are kept.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// How much longer than its record a result's body is kept at least: it is stored before.
const BODY_KEPT_LONGER: Duration = Duration::from_mins(1);

/// What a worker computes backtests with.
#[derive(Debug, Clone)]
pub enum Engines {
    /// Jesse in processes of its own: whatever is planned for it.
    Runner,
    /// Jesse's own servers.
    Servers(RestSettings),
    /// Both, each for what is planned for it.
    Both(RestSettings),
}

impl Engines {
    fn servers(&self) -> Option<&RestSettings> {
        match self {
            Self::Runner => None,
            Self::Servers(settings) | Self::Both(settings) => Some(settings),
        }
    }

    fn has_runner(&self) -> bool {
        !matches!(self, Self::Servers(_))
    }
}

/// How a worker is set up.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The Python interpreter that has Jesse.
    pub python: PathBuf,
    /// A folder for what the worker keeps on its disk: candles, code, snapshots.
    pub folder: PathBuf,
    /// The Jesse project whose strategies it publishes.
    pub project: Option<PathBuf>,
    /// How many runs at once.
    pub slots: u32,
    /// Megabytes that all runs at once may take. A run whose limit is larger runs alone.
    pub memory_mb: u32,
    /// How long runs may go on after the worker was asked to stop, before they are handed back.
    pub grace: Duration,
    /// The largest result.
    pub max_result_bytes: usize,
    /// What it computes with.
    pub engines: Engines,
    /// The most that all stored results may take up, bodies and records; those not used for longest are evicted.
    pub cache_max_bytes: u64,
    /// How many bytes of candles and code it keeps on its disk, beside those in use.
    pub cache_bytes: u64,
    /// How many processes keep a warm Jesse and fork.
    pub runners: usize,
    /// Whether a process may do further backtests of strategies that keep nothing between runs.
    pub reuse_processes: bool,
    /// Whether strategies are shut off from the machine.
    pub sandbox: SandboxMode,
    /// How exchanges are asked for candles; nothing if they may not be.
    pub exchanges: Option<ExchangeAccess>,
    /// Folders that strategies may read all the same.
    pub readable: Vec<PathBuf>,
}

/// How exchanges are asked for candles. See [`ExchangeSettings`].
#[derive(Debug, Clone)]
pub struct ExchangeAccess {
    /// Scheme and host to be used in place of an exchange's.
    pub url: Option<String>,
    /// How often a request is tried.
    pub attempts: u32,
}

/// Why a worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its folders cannot be prepared.
    #[error("the worker's folders cannot be prepared")]
    Io(#[from] std::io::Error),
    /// The REST engine cannot be set up.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The HTTP client for webhooks cannot be set up.
    #[error("the HTTP client for webhooks cannot be set up")]
    Webhooks(#[source] reqwest::Error),
    /// The apalis worker ended.
    #[error("the worker ended")]
    Worker(#[source] BoxDynError),
}

/// What computes runs, by kind.
#[derive(Debug)]
struct Handlers {
    backtests: Backtests,
    validations: Validations,
    imports: Imports,
    parents: Parents,
    analyses: Analyses,
}

/// A worker process. See the crate's documentation.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    queue: Queue,
    handlers: Arc<Handlers>,
    cache: Arc<DiskCache>,
    publisher: Option<Arc<Publisher>>,
    offers: Option<Arc<OfferPublisher>>,
    metrics: RunMetrics,
    /// Holds what the runner needs for as long as it may be started again.
    _folder: RunFolder,
}

impl Worker {
    /// Starts to import Jesse in the background.
    pub fn start(
        settings: WorkerSettings,
        queue: Queue,
        blobs: Blobs,
        metrics: RunMetrics,
    ) -> Result<Self, WorkerError> {
        let folder = RunFolder::make(&settings.folder.join("run"))?;
        let [candles, bundles, snapshots] =
            ["candles", "bundles", "snapshots"].map(|name| settings.folder.join(name));
        let readable = settings.readable.iter().chain([&candles]).cloned().collect();
        let staging = vec![bundles, snapshots.clone()];
        let sandbox = Sandbox { mode: settings.sandbox, readable, staging };
        let has_runner = settings.engines.has_runner();
        let runner = has_runner.then(|| start_runner(&settings, &folder, sandbox, &metrics)).transpose()?;
        let rest = settings.engines.servers().cloned().map(RestEngine::new).transpose()?.map(Arc::new);
        let publisher = settings.project.clone().zip(runner.clone()).map(|(project, runner)| {
            let redis = queue.redis().clone();
            Arc::new(Publisher::new(project, snapshots, runner, blobs.inputs.clone(), redis))
        });
        let offers = rest.clone().map(|rest| Arc::new(OfferPublisher::new(rest, queue.redis().clone())));
        let parents = Parents {
            queue: queue.clone(),
            blobs: blobs.clone(),
            max_result_bytes: settings.max_result_bytes,
        };
        let cache = DiskCache::new(settings.folder.clone(), CACHED, settings.cache_bytes)?;
        let cache = Arc::new(cache);
        let code = || Code { cache: cache.clone(), blobs: blobs.inputs.clone() };
        let attendant = Arc::new(Attendant::new(blobs.clone()));
        let validations = Validations {
            blobs: blobs.clone(),
            runner: runner.clone(),
            code: code(),
            attendant: attendant.clone(),
        };
        let analyses = Analyses {
            blobs: blobs.clone(),
            closes: CloseFiles::new(cache.clone(), blobs.inputs.clone()),
            parents: parents.clone(),
            attendant: attendant.clone(),
            max_result_bytes: settings.max_result_bytes,
        };
        let exchanges = settings.exchanges.as_ref().filter(|_| has_runner).map(|access| ExchangeSettings {
            python: settings.python.clone(),
            package: package(&folder),
            url: access.url.clone(),
            attempts: access.attempts,
        });
        let imports = Imports {
            queue: queue.clone(),
            candles: CandleStore::new(queue.redis().clone(), blobs.inputs.clone()),
            blobs: blobs.clone(),
            exchanges,
            attendant: attendant.clone(),
        };
        let backtests = Backtests {
            queue: queue.clone(),
            chunks: ChunkFiles::new(cache.clone(), blobs.inputs.clone()),
            code: code(),
            attendant,
            blobs,
            runner,
            rest,
        };
        let handlers = Arc::new(Handlers { backtests, validations, imports, parents, analyses });
        Ok(Self { settings, queue, handlers, cache, publisher, offers, metrics, _folder: folder })
    }

    /// Ends when there is an engine: Jesse has been imported, or a server answers; or with why there is none.
    pub async fn ready(&self) -> Result<(), JobError> {
        let Backtests { runner, rest, .. } = &self.handlers.backtests;
        match (runner, rest) {
            (Some(runner), None) => runner.ready().await.map(|_| ()),
            (None, Some(rest)) => rest.ready().await,
            (Some(runner), Some(rest)) => match runner.ready().await {
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "Jesse cannot be imported here; its servers compute alone"
                    );
                    rest.ready().await
                }
            },
            (None, None) => Err(JobError::new(ErrorCode::Internal, "no engine is set up")),
        }
    }

    /// What publishes the catalogue, if this worker has a project.
    pub fn publisher(&self) -> Option<Arc<Publisher>> {
        self.publisher.clone()
    }

    /// What publishes what Jesse's servers can run, if there are any.
    pub fn offers(&self) -> Option<Arc<OfferPublisher>> {
        self.offers.clone()
    }

    /// Claims and computes runs until `stop`, then drains.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), WorkerError> {
        let watching = async {
            match &self.publisher {
                Some(publisher) => publisher.watch(&stop).await,
                None => stop.cancelled().await,
            }
        };
        let asking = async {
            match &self.offers {
                Some(offers) => offers.watch(&stop).await,
                None => stop.cancelled().await,
            }
        };
        let working = async {
            // Without Jesse there is nothing to claim for.
            loop {
                match stop.run_until_cancelled(self.ready()).await {
                    None => return Ok(()),
                    Some(Ok(())) => break,
                    Some(Err(error)) => {
                        tracing::warn!(
                            error = chain(&error),
                            "no run is claimed while Jesse cannot be started"
                        );
                        let _stopped = tokio::time::timeout(Duration::from_secs(5), stop.cancelled()).await;
                    }
                }
            }
            self.work(&stop).await
        };
        let ((), (), (), outcome) = tokio::join!(watching, asking, self.sweep(&stop), working);
        if let Some(runner) = &self.handlers.backtests.runner {
            runner.stop().await;
        }
        outcome
    }

    /// Keeps results within their bounds, whoever computed them: their bodies go when they are evicted, invalidated or have
    /// expired.
    async fn sweep(&self, stop: &CancellationToken) {
        let kept = self.queue.retention().results;
        let every = SWEEP_EVERY.min(kept / 4);
        let age = kept + every.max(BODY_KEPT_LONGER);
        let mut swept: Option<Instant> = None;
        let mut outage = Outage::new("results are not kept within their bounds");
        while !stop.is_cancelled() {
            match self.evict().await {
                Ok(()) => outage.over(),
                Err(error) => outage.failed(&error),
            }
            if swept.is_none_or(|swept| swept.elapsed() > every) {
                swept = Some(Instant::now());
                match self.handlers.backtests.blobs.results.remove_older_than(age).await {
                    Ok(0) => {}
                    Ok(removed) => tracing::info!(removed, "expired results were removed"),
                    Err(error) => tracing::warn!(error = chain(&error), "expired results cannot be removed"),
                }
                self.remove_unused_inputs().await;
                self.trim().await;
            }
            let _stopped = tokio::time::timeout(EVICT_EVERY, stop.cancelled()).await;
        }
    }

    async fn remove_unused_inputs(&self) {
        match unused::remove_unused_inputs(&self.queue, &self.handlers.backtests.blobs.inputs).await {
            Ok(Some(Collected { removed, waiting })) if removed > 0 => {
                tracing::info!(removed, waiting, "candles and code that nothing refers to were removed");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "candles and code that nothing refers to cannot be removed"
                );
            }
        }
    }

    async fn evict(&self) -> Result<(), QueueError> {
        let evicted = self.queue.evict(self.settings.cache_max_bytes).await?.results;
        if evicted > 0 {
            tracing::info!(evicted, "results were evicted to make room");
        }
        collect_garbage(&self.queue, &self.handlers.backtests.blobs.results).await?;
        Ok(())
    }

    /// Makes room on the disk. Whoever adds something does that too, but knows only what this process has added.
    async fn trim(&self) {
        let cache = self.cache.clone();
        match tokio::task::spawn_blocking(move || cache.trim()).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(bytes)) => {
                tracing::info!(bytes, "candles and code that were not used of late were removed");
            }
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "the worker's disk cannot be tidied up"),
        }
    }

    fn capacity(&self) -> Capacity {
        Capacity { slots: self.settings.slots, memory_mb: self.settings.memory_mb }
    }

    async fn work(&self, stop: &CancellationToken) -> Result<(), WorkerError> {
        while !stop.is_cancelled() {
            let backend = LeaseBackend::new(self.queue.clone(), worker_id(), self.capacity());
            let drain = backend.drain_handle();
            let (handlers, queue) = (self.handlers.clone(), self.queue.clone());
            let handle = move |assignment: Assignment| {
                let (handlers, queue) = (handlers.clone(), queue.clone());
                async move {
                    let span = traces::of_run(&queue, &assignment.claim).await;
                    let handled = dispatch(&handlers, assignment).instrument(span.clone()).await;
                    span.record("run.outcome", metrics::outcome(&handled));
                    if matches!(handled, Handled::Finished(Outcome::Failed(_))) {
                        span.record("otel.status_code", "ERROR");
                    }
                    Ok::<Handled, BoxDynError>(handled)
                }
            };
            let worker = WorkerBuilder::new("runs")
                .backend(backend)
                .concurrency(self.settings.slots as usize)
                .enable_tracing()
                .layer(self.metrics.clone())
                .catch_panic()
                .build(handle);
            let draining = async {
                stop.cancelled().await;
                drain.drain(self.settings.grace).await;
                tokio::time::sleep(HAND_BACK_LIMIT).await;
                tracing::warn!(
                    "runs cannot be handed back; they are taken up again when their leases are over"
                );
            };
            let asked = stop.clone();
            let stopped = async move {
                asked.cancelled().await;
                Ok::<(), apalis_core::error::WorkerError>(())
            };
            let outcome = tokio::select! {
                outcome = worker.run_until(stopped) => outcome,
                () = draining => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::error!(error = chain(&error), "the worker ended and is started again");
                let _stopped = tokio::time::timeout(Duration::from_secs(1), stop.cancelled()).await;
            }
        }
        Ok(())
    }
}

/// Where the Python side is, once the runner was started.
fn package(folder: &RunFolder) -> PathBuf {
    folder.path().join("python")
}

fn start_runner(
    settings: &WorkerSettings,
    folder: &RunFolder,
    sandbox: Sandbox,
    metrics: &RunMetrics,
) -> Result<Arc<Runner>, WorkerError> {
    let package = package(folder);
    runner_files::write(&package)?;
    let runner = Runner::start(RunnerSettings {
        python: settings.python.clone(),
        package,
        folder: folder.path().to_owned(),
        max_result_bytes: settings.max_result_bytes,
        zygotes: settings.runners,
        sandbox,
        stay: if settings.reuse_processes { settings.slots as usize } else { 0 },
        upkeep: Upkeep::default(),
        starts: Some(metrics.engine_starts()),
    })?;
    Ok(Arc::new(runner))
}

async fn dispatch(handlers: &Handlers, assignment: Assignment) -> Handled {
    let claim = &assignment.claim;
    let (run, kind, limit) = (claim.run, claim.kind, Duration::from_secs(claim.timeout_s.into()) + OVERTIME);
    let handling = async {
        match kind {
            Kind::Backtest => handlers.backtests.handle(assignment).await,
            Kind::Optimize => Handled::Finished(handlers.parents.optimize(&assignment.claim).await),
            Kind::WalkForward => Handled::Finished(handlers.parents.walk_forward(&assignment.claim).await),
            Kind::MonteCarlo if risk::is_analysis(&assignment.claim) => {
                handlers.analyses.handle(assignment).await
            }
            Kind::RiskReport
            | Kind::VarCalculation
            | Kind::StressTest
            | Kind::CorrelationMatrix
            | Kind::PairsBacktest
            | Kind::FactorAnalysis
            | Kind::RegimeDetector
            | Kind::AnalyzeResults => handlers.analyses.handle(assignment).await,
            Kind::MonteCarlo => Handled::Finished(handlers.parents.monte_carlo(&assignment.claim).await),
            Kind::SignificanceTest => handlers.backtests.handle_significance_test(assignment).await,
            Kind::CandlesImport => Box::pin(handlers.imports.handle(assignment)).await,
            Kind::StrategyValidate => handlers.validations.handle(assignment).await,
            Kind::Batch => failed(JobError::new(ErrorCode::Internal, "a batch is no run")),
        }
    };
    // Whoever computes keeps to the time-out by itself; this is for the one that hangs in doing so.
    tokio::time::timeout(limit, handling).await.unwrap_or_else(|_| {
        tracing::error!(run.id = %run, kind = kind.as_str(), "a handler did not end in time and was dropped");
        failed(JobError::new(ErrorCode::Internal, "the worker did not end this run in time").retryable())
    })
}

fn failed(error: JobError) -> Handled {
    Handled::Finished(Outcome::Failed(error))
}

/// Host, process and a random part: a worker that is started again is another worker.
fn worker_id() -> WorkerId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let host = host.map_or_else(|_| "host".to_owned(), |host| host.trim().to_owned());
    let random = uuid::Uuid::new_v4().simple().to_string();
    WorkerId::new(format!("{host}-{}-{}", std::process::id(), &random[..8]))
}

//! Keeping the catalogue up to date: reads the project when it changed, stores bundles, and asks Python what each new
//! bundle contains.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    ErrorCode, JobError, QueueError, Redis,
    blobs::{BlobError, BlobId, BlobStore},
    chain,
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    bundle,
    project::{self, ProjectError, Stamp},
};
use crate::{
    catalogue::{Engine, Hyperparameter, Strategy},
    plan::Limits,
    published::{Publication, Published, publisher_id},
    runner::{Ready, Runner, TaskError, TaskRequest},
};

/// How often the project is looked at when nobody asks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a publisher says that it is there.
const PRESENT_EVERY: Duration = Duration::from_mins(1);
/// What reading and importing a strategy may use.
const LIMITS: Limits = Limits { wall_s: 30, cpu_s: 30, memory_mb: 1024 };

/// Why the catalogue could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The project cannot be read.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A bundle cannot be made.
    #[error("a strategy cannot be packed")]
    Pack(#[from] std::io::Error),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Redis failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Python could not look at the project.
    #[error("the project cannot be examined: {0}")]
    Runner(#[from] TaskError),
    /// Python answered something unexpected.
    #[error("the runner answered something unexpected")]
    Answer(#[from] serde_json::Error),
}

/// What the task `scan` says of a strategy.
#[derive(Debug, Deserialize)]
struct Scanned {
    name: String,
    files: Vec<String>,
    requires: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Scan {
    strategies: Vec<Scanned>,
}

/// What the task `describe` says of a strategy.
#[derive(Debug, Deserialize)]
struct Description {
    hyperparameters: Vec<Hyperparameter>,
    doc: String,
}

/// What is known from earlier rounds.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    engine: Option<Engine>,
    /// By strategy and bundle: a bundle never changes, so neither does what it contains.
    described: HashMap<(String, BlobId), Strategy>,
}

/// See the module's documentation.
pub struct Publisher {
    project: PathBuf,
    work: PathBuf,
    runner: Arc<Runner>,
    blobs: BlobStore,
    published: Published,
    id: String,
    known: Mutex<Known>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("project", &self.project).finish_non_exhaustive()
    }
}

impl Publisher {
    /// A publisher of this project; `work` is a folder for snapshots.
    pub fn new(project: PathBuf, work: PathBuf, runner: Arc<Runner>, blobs: BlobStore, redis: Redis) -> Self {
        // The same project has the same id, whatever folder a worker was started in.
        let project = std::path::absolute(&project).unwrap_or(project);
        let (published, id) = (Published::new(redis), publisher_id(&host_name(), &project));
        Self { project, work, runner, blobs, published, id, known: Mutex::default() }
    }

    /// Publishes the catalogue if the project changed since the last time. What is saved before this is called is in the
    /// catalogue when it returns.
    pub async fn refresh(&self) -> Result<(), PublishError> {
        let mut known = self.known.lock().await;
        let ready = self.runner.ready().await.map_err(TaskError::NoEngine)?;
        let engine = engine(&ready);
        let stamp = self.stamp().await?;
        if known.stamp.as_ref() == Some(&stamp) && known.engine.as_ref() == Some(&engine) {
            return Ok(());
        }
        if known.engine.as_ref() != Some(&engine) {
            known.described.clear();
        }
        let strategies = self.strategies(&stamp, &mut known.described).await?;
        let count = strategies.len();
        let publication = Publication {
            engine: engine.clone(),
            exchanges: ready.exchanges.clone(),
            timeframes: ready.timeframes.clone(),
            sandbox: ready.sandbox.clone(),
            strategies,
            project: self.project_name(),
            engine_since_ms: 0,
            since_ms: BTreeMap::new(),
        };
        if self.published.publish(&self.id, &publication).await? {
            tracing::info!(
                strategies = count,
                jesse.version = engine.jesse_version,
                "the catalogue is published"
            );
        }
        (known.stamp, known.engine) = (Some(stamp), Some(engine));
        Ok(())
    }

    /// Looks at the project again and again, until `stop`. A failure is logged when it is a new one.
    pub async fn watch(&self, stop: &CancellationToken) {
        let (mut last_failure, mut present): (_, Option<Instant>) = (None, None);
        while !stop.is_cancelled() {
            let refreshed = match self.notice_loss().await {
                Ok(()) => self.refresh().await,
                Err(error) => Err(error),
            };
            if refreshed.is_ok() && present.is_none_or(|said| said.elapsed() > PRESENT_EVERY) {
                self.say_present().await;
                present = Some(Instant::now());
            }
            let failure = refreshed.err().map(|error| chain(&error));
            if let Some(error) = failure.as_ref().filter(|failure| last_failure.as_ref() != Some(*failure)) {
                tracing::warn!(error, "the catalogue cannot be published");
            }
            last_failure = failure;
            let _stopped = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
        }
    }

    async fn say_present(&self) {
        match self.published.present(&self.id).await {
            Ok(forgotten) => {
                for project in forgotten {
                    tracing::info!(
                        project,
                        "the strategies of a project whose workers are gone are forgotten"
                    );
                }
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "this publisher could not say that it is there");
            }
        }
    }

    /// The last two parts of its path and the machine: what people need to find it, and no more.
    fn project_name(&self) -> String {
        let parts: Vec<_> =
            self.project.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let last = parts[parts.len().saturating_sub(2)..].join("/");
        format!("{} on {}", last.trim_start_matches("//"), host_name())
    }

    /// A Redis that lost its data, or is another one, has to be told everything again.
    async fn notice_loss(&self) -> Result<(), PublishError> {
        if !self.published.has(&self.id).await? {
            *self.known.lock().await = Known::default();
        }
        Ok(())
    }

    async fn stamp(&self) -> Result<Stamp, PublishError> {
        let project = self.project.clone();
        let stamp =
            tokio::task::spawn_blocking(move || project::stamp(&project)).await.map_err(BlobError::from)?;
        Ok(stamp?)
    }

    async fn strategies(
        &self,
        stamp: &Stamp,
        described: &mut HashMap<(String, BlobId), Strategy>,
    ) -> Result<BTreeMap<String, Strategy>, PublishError> {
        let files = project::read(&self.project, stamp)?;
        let snapshot = self.snapshot(&files)?;
        let scan = self.ask("scan", json!({"root": snapshot.path()})).await?;
        let scan: Scan = serde_json::from_value(scan)?;
        let mut strategies = BTreeMap::new();
        for scanned in scan.strategies {
            let packed = bundle::pack(&files, scanned.files.iter(), &scanned.requires)?;
            let id = BlobId::of(&packed);
            let known = described.get(&(scanned.name.clone(), id.clone())).cloned();
            let strategy = if let Some(strategy) = known {
                strategy
            } else {
                self.blobs.put(packed.into()).await?;
                self.describe(&scanned.name, id, snapshot.path()).await?
            };
            strategies.insert(scanned.name, strategy);
        }
        *described = strategies
            .iter()
            .map(|(name, found)| ((name.clone(), found.bundle.clone()), found.clone()))
            .collect();
        Ok(strategies)
    }

    /// Writes the files that were read, so that Python sees these and not what the project has become.
    fn snapshot(&self, files: &project::Files) -> Result<tempfile::TempDir, PublishError> {
        std::fs::create_dir_all(&self.work)?;
        let folder = tempfile::Builder::new().prefix("snapshot-").tempdir_in(&self.work)?;
        for (path, bytes) in files {
            let target = folder.path().join(path);
            target.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(target, bytes)?;
        }
        Ok(folder)
    }

    async fn describe(
        &self,
        name: &str,
        bundle: BlobId,
        snapshot: &std::path::Path,
    ) -> Result<Strategy, PublishError> {
        let answer = self.ask("describe", json!({"bundle": snapshot, "strategy": name})).await;
        let broken = |error| Strategy {
            bundle: bundle.clone(),
            doc: String::new(),
            hyperparameters: Vec::new(),
            error: Some(error),
        };
        match answer {
            Ok(value) => match serde_json::from_value::<Description>(value) {
                Ok(Description { hyperparameters, doc }) => {
                    Ok(Strategy { bundle, doc, hyperparameters, error: None })
                }
                Err(error) => {
                    let message =
                        format!("the hyperparameters of {name} are not as Jesse wants them: {error}");
                    Ok(broken(JobError::new(ErrorCode::StrategyError, message)))
                }
            },
            // Our own trouble says nothing about the strategy: try the whole round again later.
            Err(TaskError::Failed { error, .. }) if error.retryable || error.code == ErrorCode::Internal => {
                Err(TaskError::from(error).into())
            }
            Err(TaskError::Failed { error, .. }) => Ok(broken(error)),
            Err(error @ (TaskError::Stopped | TaskError::Interrupted | TaskError::NoEngine(_))) => {
                Err(error.into())
            }
        }
    }

    async fn ask(&self, task: &'static str, args: serde_json::Value) -> Result<serde_json::Value, TaskError> {
        let request = TaskRequest { task, args, limits: LIMITS, progress: None };
        Ok(self.runner.run(request, &CancellationToken::new()).await?.value)
    }
}

/// This machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    name.map_or_else(|_| "host".to_owned(), |name| name.trim().to_owned())
}

/// The engine that a runner is.
pub fn engine(ready: &Ready) -> Engine {
    let environment = json!([ready.python, ready.packages, ready.cpu]).to_string();
    Engine {
        jesse_version: ready.jesse_version.clone(),
        semantics: ready.engine.clone(),
        environment: blake3::hash(environment.as_bytes()).to_hex()[..32].to_owned(),
    }
}

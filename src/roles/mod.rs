//! What the one binary can be: a subcommand each.

pub mod cache;
pub mod candles;
mod data;
pub mod keys;
pub mod mcp;
mod open;
pub mod serve;
mod shutdown;
pub mod strategies;
pub mod up;
pub mod webhooks;
pub mod worker;

use std::{
    io,
    path::{Path, PathBuf},
};

use jobs::{
    JobError, Queue, QueueError, Redis,
    blobs::{BlobError, Blobs},
    private_redis::StartError,
};

use crate::settings::{DataSettings, StorageSettings};

pub use data::{DataFolder, LockError};
pub use shutdown::on_signal;

/// Why a role cannot start or go on. Its text is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A setting that does not fit.
    #[error("{0}")]
    Setting(String),
    /// Another process uses the data folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The private Redis.
    #[error(transparent)]
    PrivateRedis(#[from] StartError),
    /// The private Redis ended by itself.
    #[error("the private Redis ended by itself ({0}); see redis.log in the data folder")]
    RedisEnded(String),
    /// Redis.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The blob store.
    #[error("the place for results, candles and code (--blobs, JESSE_JOBS_BLOBS) cannot be used")]
    Blobs(#[from] BlobError),
    /// The address.
    #[error("{0} cannot be listened on")]
    Listen(std::net::SocketAddr, #[source] io::Error),
    /// The server ended.
    #[error("the server ended")]
    Serve(#[source] io::Error),
    /// The worker ended.
    #[error(transparent)]
    Worker(#[from] workers::WorkerError),
    /// Jesse cannot be imported.
    #[error(
        "Jesse cannot be started; JESSE_PYTHON (or --python) must name a Python 3.10 to 3.12 in which `pip install jesse` was \
         done: {0}"
    )]
    Jesse(JobError),
    /// No Jesse server answers.
    #[error("no Jesse server can be used; see JESSE_HOST, JESSE_URLS and JESSE_PASSWORD: {0}")]
    JesseServer(JobError),
    /// Candles.
    #[error(transparent)]
    Candles(#[from] candles::CandlesError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::CacheError),
    /// Standard output.
    #[error("standard output cannot be written")]
    Print(#[source] io::Error),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    /// Strategies.
    #[error(transparent)]
    Strategies(#[from] strategies::StrategiesError),
    /// A folder.
    #[error("{0} cannot be used")]
    Folder(PathBuf, #[source] io::Error),
    /// The metrics contradict each other: a defect.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
}

/// Connects to Redis.
pub(crate) fn open_queue(url: &str, storage: &StorageSettings) -> Result<Queue, RoleError> {
    let StorageSettings { redis, data } = storage;
    let connection = Redis::open_with(url, &redis.access.access(), &redis.name, redis.redis_pool_size)?;
    Ok(Queue::new(connection, data.retention()))
}

/// Connects to a Redis that runs already, for roles that need one.
pub(crate) async fn open_shared_queue(storage: &StorageSettings) -> Result<Queue, RoleError> {
    let url = storage.redis.url().ok_or_else(|| {
        RoleError::Setting(
            "REDIS_URL (or --redis-url) is needed here; `jesse-jobs up` starts a Redis of its own".into(),
        )
    })?;
    let queue = open_queue(url, storage)?;
    warn_of_dangers(&queue).await;
    Ok(queue)
}

/// Opens the blob store; `folder` is the data folder. A store that is away for the moment is waited for by those who
/// need it, one that refuses must be mended first.
pub(crate) async fn open_blobs(
    settings: &DataSettings,
    folder: &Path,
    queue: &Queue,
) -> Result<Blobs, RoleError> {
    let location = settings.blob_location(folder).map_err(BlobError::from)?;
    // Not `vars`, which panics at what is no text.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let blobs = Blobs::open(&location, queue.redis(), variables)?;
    match blobs.check().await {
        Ok(()) => {}
        Err(error) if error.is_retryable() => {
            tracing::warn!(%location, error = jobs::chain(&error), "the blob store does not answer");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(blobs)
}

/// Says at the start what in a Redis that is not ours puts jobs at risk.
pub(crate) async fn warn_of_dangers(queue: &Queue) {
    for danger in queue.redis().dangers().await {
        tracing::warn!("this Redis is not safe for jobs: {danger}");
    }
}

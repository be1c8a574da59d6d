//! What the one binary can be: a subcommand each.

pub mod cache;
pub mod candles;
mod data;
mod open;
pub mod serve;
mod shutdown;
pub mod up;
pub mod worker;

use std::{io, path::PathBuf};

use jobs::{JobError, Queue, QueueError, Redis, blobs::BlobError, private_redis::StartError};

use crate::settings::StorageSettings;

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
    #[error("the folder for results cannot be used")]
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
    /// Candles.
    #[error(transparent)]
    Candles(#[from] candles::CandlesError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::CacheError),
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
    let connection = Redis::open(url, &redis.name, redis.redis_pool_size)?;
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

/// Says at the start what in a Redis that is not ours puts jobs at risk.
pub(crate) async fn warn_of_dangers(queue: &Queue) {
    for danger in queue.redis().dangers().await {
        tracing::warn!("this Redis is not safe for jobs: {danger}");
    }
}

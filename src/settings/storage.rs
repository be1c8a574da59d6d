//! Redis, and where data is kept for how long.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jobs::blobs::{BlobLocation, LocationError};

/// How Redis is reached, beside its URL.
#[derive(Debug, Clone, Args)]
pub struct RedisAccessSettings {
    /// File with the certificates (PEM) of those who may vouch for a Redis behind rediss://, instead of the system's
    #[arg(long, env = "REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,

    /// File with a certificate (PEM) to show to Redis, for one that asks for it
    #[arg(long, env = "REDIS_CERT_FILE")]
    pub redis_cert_file: Option<PathBuf>,

    /// File with its key (PEM)
    #[arg(long, env = "REDIS_KEY_FILE")]
    pub redis_key_file: Option<PathBuf>,

    /// User who logs in to sentinels; Redis's own is in REDIS_URL
    #[arg(long, env = "REDIS_SENTINEL_USERNAME")]
    pub redis_sentinel_username: Option<String>,

    /// Password for sentinels
    #[arg(long, env = "REDIS_SENTINEL_PASSWORD", hide_env_values = true)]
    pub redis_sentinel_password: Option<String>,
}

impl RedisAccessSettings {
    /// What is set; what is empty, as in many files of settings, is not.
    pub fn access(&self) -> jobs::RedisAccess {
        let file = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        jobs::RedisAccess {
            ca_file: file(&self.redis_ca_file),
            certificate_file: file(&self.redis_cert_file),
            key_file: file(&self.redis_key_file),
            sentinel_username: text(&self.redis_sentinel_username),
            sentinel_password: text(&self.redis_sentinel_password),
        }
    }
}

/// The Redis to use.
#[derive(Debug, Clone, Args)]
pub struct RedisSettings {
    /// Redis, e.g. redis://127.0.0.1:6379/0 (rediss:// for TLS), several nodes of a Redis Cluster, separated by commas, or
    /// redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0; without it `up` starts a private one
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// See the struct.
    #[command(flatten)]
    pub access: RedisAccessSettings,

    /// Keeps deployments apart that share a Redis: all keys start with {NAME}
    #[arg(long, env = "JESSE_JOBS_NAME", default_value = "jj")]
    pub name: String,

    /// Connections to Redis that short commands share
    #[arg(long, env = "REDIS_POOL_SIZE", default_value_t = 4)]
    pub redis_pool_size: usize,
}

impl RedisSettings {
    /// The Redis that is named, if one is: an empty REDIS_URL, as in many files of settings, names none.
    pub fn url(&self) -> Option<&str> {
        self.redis_url.as_deref().filter(|url| !url.is_empty())
    }
}

/// Where data is kept.
#[derive(Debug, Clone, Args)]
pub struct DataSettings {
    /// Folder for the private Redis, what a worker keeps on its disk, and (unless --blobs names another place) results,
    /// candles and code
    #[arg(long, env = "JESSE_JOBS_DATA", default_value = "data")]
    pub data: PathBuf,

    /// Where results, candles and code are kept: a folder, file:///FOLDER, s3://BUCKET/PREFIX (with the usual AWS_*
    /// variables), or redis: for the Redis that the jobs are in; default: DATA/blobs
    #[arg(long, env = "JESSE_JOBS_BLOBS")]
    pub blobs: Option<String>,

    /// Days that a finished job and a result are kept; parts of a day too, down to nine seconds (0.0001)
    #[arg(long, env = "JESSE_JOBS_RETENTION_DAYS", default_value_t = 7.0, value_parser = retention_days)]
    pub retention_days: f64,

    /// Days that the ledger of a campaign is kept after its last trial: what was tried, and its daily returns (about 2 KB for a
    /// year of one), in Redis
    #[arg(long, env = "JESSE_JOBS_LEDGER_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub ledger_days: u64,
}

/// Nine seconds to ten years, in days.
fn retention_days(text: &str) -> Result<f64, String> {
    let days = text.parse().ok().filter(|days| (0.0001..=3650.0).contains(days));
    days.ok_or_else(|| "must be a number of days from 0.0001 (nine seconds) to 3650".to_owned())
}

impl DataSettings {
    /// Where blobs are kept; `folder` is the data folder.
    pub fn blob_location(&self, folder: &Path) -> Result<BlobLocation, LocationError> {
        match self.blobs.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => text.parse(),
            None => Ok(BlobLocation::Folder(folder.join("blobs"))),
        }
    }

    /// How long things are kept.
    pub fn retention(&self) -> jobs::Retention {
        let kept = Duration::from_hours(24).mul_f64(self.retention_days);
        let trials = Duration::from_hours(24 * self.ledger_days);
        jobs::Retention { jobs: kept, results: kept, trials }
    }
}

/// The Redis and the places for data that the parts of a deployment share.
#[derive(Debug, Clone, Args)]
pub struct StorageSettings {
    /// See the struct.
    #[command(flatten)]
    pub redis: RedisSettings,
    /// See the struct.
    #[command(flatten)]
    pub data: DataSettings,
}

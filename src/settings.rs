//! Settings: one struct per concern, read from flags, then the environment, then a file `.env`.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use jesse::runner::SandboxMode;
use jobs::blobs::{BlobLocation, LocationError};

/// Where clients are served.
#[derive(Debug, Clone, Args)]
pub struct ApiSettings {
    /// Address and port to serve HTTP and MCP on, instead of --host and --port
    #[arg(long, env = "JESSE_JOBS_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Address to serve on
    #[arg(long, env = "MCP_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// Port to serve on; 0 takes a free one
    #[arg(long, env = "MCP_PORT", default_value_t = 8100)]
    pub port: u16,

    /// Host names that clients may address besides localhost (comma-separated)
    #[arg(long, env = "JESSE_JOBS_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,

    /// Longest that one HTTP request may wait, in seconds; it never bounds a job
    #[arg(long, env = "MCP_TIMEOUT", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub request_timeout: u64,

    /// Let clients write strategies, which is running their code on the workers
    #[arg(long, env = "JESSE_JOBS_ALLOW_STRATEGY_WRITE")]
    pub allow_strategy_write: bool,
}

impl ApiSettings {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::new(self.host, self.port))
    }
}

/// The Redis to use.
#[derive(Debug, Clone, Args)]
pub struct RedisSettings {
    /// Redis, e.g. redis://127.0.0.1:6379/0, or several nodes of a Redis Cluster, separated by commas; without it `up`
    /// starts a private one
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

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

    /// Days that a finished job and a result are kept
    #[arg(long, env = "JESSE_JOBS_RETENTION_DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub retention_days: u64,
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
        let kept = Duration::from_hours(24 * self.retention_days);
        jobs::Retention { jobs: kept, results: kept }
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

/// How jobs are computed.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Jesse project whose strategies are offered; default: this folder if it has "strategies", else DATA/project
    #[arg(long, env = "JESSE_PROJECT")]
    pub project: Option<PathBuf>,

    /// Jobs computed at once; default: the number of processors
    #[arg(long = "workers", env = "JESSE_JOBS_WORKERS")]
    pub slots: Option<u32>,

    /// Megabytes that all jobs at once may take by their limits; default: the machine's memory
    #[arg(long, env = "JESSE_JOBS_WORKER_MEMORY_MB")]
    pub worker_memory_mb: Option<u32>,

    /// Python that has Jesse installed; default: .venv/bin/python if it exists, else python3
    #[arg(long, env = "JESSE_PYTHON")]
    pub python: Option<PathBuf>,

    /// Seconds that jobs may go on after a stop was asked for, before they are handed back to the queue
    #[arg(long, env = "JESSE_JOBS_GRACE", default_value_t = 10)]
    pub grace: u64,

    /// Most bytes that all stored results may take up; beyond that those not used for longest are evicted
    #[arg(long, env = "CACHE_MAX_BYTES", default_value_t = 10 << 30)]
    pub cache_max_bytes: u64,

    /// Largest result in megabytes
    #[arg(long, env = "JESSE_JOBS_MAX_RESULT_MB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub max_result_mb: u32,

    /// Megabytes of candles and code kept on the worker's disk; what was used longest ago goes, never what is in use
    #[arg(long, env = "JESSE_JOBS_WORKER_CACHE_MB", default_value_t = 20_480, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub worker_cache_mb: u64,
    /// Processes that keep Jesse imported and start runs; one starts over a hundred a second
    #[arg(long, env = "JESSE_JOBS_RUNNERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub runners: u32,

    /// Whether strategies are shut off from network, files and processes of this machine: off, on (or nothing runs), or auto
    /// (where the kernel allows it; /health says)
    #[arg(long, env = "SANDBOX", default_value = "auto", value_parser = SandboxMode::from_str)]
    pub sandbox: SandboxMode,

    /// Folders that strategies may read in the sandbox, beside Python and their own code (comma-separated)
    #[arg(long, env = "JESSE_JOBS_SANDBOX_READABLE", value_delimiter = ',')]
    pub sandbox_readable: Vec<PathBuf>,
}

impl WorkerArgs {
    /// The worker's settings; `folder` is what it keeps on its disk.
    pub fn worker_settings(&self, folder: PathBuf, project: Option<PathBuf>) -> workers::WorkerSettings {
        let processors = || {
            let found = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        workers::WorkerSettings {
            python: self.python.clone().unwrap_or_else(default_python),
            folder,
            project,
            slots: self.slots.unwrap_or_else(processors).max(1),
            memory_mb: self.worker_memory_mb.unwrap_or_else(machine_memory_mb),
            grace: Duration::from_secs(self.grace),
            cache_max_bytes: self.cache_max_bytes,
            max_result_bytes: (self.max_result_mb as usize) << 20,
            cache_bytes: self.worker_cache_mb << 20,
            runners: self.runners as usize,
            sandbox: self.sandbox,
            readable: self
                .sandbox_readable
                .iter()
                .filter_map(|folder| std::path::absolute(folder).ok())
                .collect(),
        }
    }
}

/// What the kernel says there is; without a word from it, memory is not what bounds the worker.
fn machine_memory_mb() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.and_then(|kilobytes| u32::try_from(kilobytes / 1024).ok()).unwrap_or(u32::MAX)
}

fn default_python() -> PathBuf {
    let local = PathBuf::from(".venv/bin/python");
    if local.exists() { std::path::absolute(&local).unwrap_or(local) } else { "python3".into() }
}

/// Who shares results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CacheScope {
    /// All tenants of the deployment.
    #[default]
    Deployment,
    /// Each tenant has results and runs of its own.
    Tenant,
}

/// What a job may use when it does not say.
#[derive(Debug, Clone, Args)]
pub struct LimitSettings {
    /// Longest run in seconds, also the most that timeout_s may ask for
    #[arg(long, env = "JESSE_JOBS_TIMEOUT", default_value_t = 3600)]
    pub job_timeout: u32,

    /// Memory of one run in megabytes, on top of Jesse itself
    #[arg(long, env = "JESSE_JOBS_MEMORY_MB", default_value_t = 2048)]
    pub job_memory_mb: u32,

    /// Who shares results and runs in flight: deployment (all tenants) or tenant (nobody with another)
    #[arg(long, env = "CACHE_SCOPE", default_value = "deployment")]
    pub cache_scope: CacheScope,

    /// Most jobs of a tenant that have not ended; more are refused for the time being
    #[arg(long, env = "JESSE_JOBS_MAX_OPEN", default_value_t = jobs::MAX_OPEN)]
    pub max_open: u32,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// error, warn, info, debug, trace, or a filter such as info,jobs=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info,rmcp=warn,apalis_core=warn", global = true)]
    pub log_level: String,

    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

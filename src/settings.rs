//! Settings: one struct per concern, read from flags, then the environment, then a file `.env`.

#![allow(rustdoc::bare_urls, reason = "the comments of settings are their help on a terminal")]

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use jesse::{
    rest::{self, RestSettings, Token},
    runner::SandboxMode,
};
use jobs::blobs::{BlobLocation, LocationError};
use workers::webhooks::{AddressFilter, Allowed, WebhookSettings};

use crate::api::{Origin, Resource};

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

    /// Origins of web pages that may call from browsers, e.g. https://app.example.com (comma-separated; * for all, where every call
    /// needs a key); none by default
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// Longest that one HTTP request may wait, in seconds; it never bounds a job
    #[arg(long, env = "MCP_TIMEOUT", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub request_timeout: u64,

    /// Let clients write strategies, which is running their code on the workers
    #[arg(long, env = "JESSE_JOBS_ALLOW_STRATEGY_WRITE")]
    pub allow_strategy_write: bool,

    /// See the struct.
    #[command(flatten)]
    pub access: AccessSettings,
}

impl ApiSettings {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::new(self.host, self.port))
    }
}

/// Who is served, and how often.
#[derive(Debug, Clone, Args)]
pub struct AccessSettings {
    /// File with the operator's own key (32 or more characters in one line), which may do everything; with it every call needs
    /// a key. It is read at the start
    #[arg(long, env = "ADMIN_KEY_FILE")]
    pub admin_key_file: Option<PathBuf>,

    /// Issuer of tokens (JWT) that are taken beside API keys, e.g. https://id.example.com/realms/trading; with it every call needs a
    /// key or a token. Its claim scope names what is allowed, as for keys
    #[arg(long, env = "TOKEN_ISSUER")]
    pub token_issuer: Option<String>,

    /// What tokens must be for: the URL of /mcp as clients know it, e.g. https://jobs.example.com/mcp, and others (comma-separated)
    #[arg(long, env = "TOKEN_AUDIENCE", value_delimiter = ',')]
    pub token_audience: Vec<String>,

    /// Where the issuer's keys are; default: where its metadata (/.well-known/openid-configuration) say
    #[arg(long, env = "TOKEN_JWKS_URL")]
    pub token_jwks_url: Option<String>,

    /// The claim of a token that names the tenant
    #[arg(long, env = "TOKEN_TENANT_CLAIM", default_value = "tenant")]
    pub token_tenant_claim: String,

    /// Bound how often each caller may call, all API instances together; a key's own rate holds in any case
    #[arg(long, env = "RATE_LIMIT_ENABLED", value_parser = clap::builder::BoolishValueParser::new())]
    pub rate_limit_enabled: bool,

    /// Calls a minute that a caller may make whose key does not say
    #[arg(long, env = "RATE_LIMIT_REQUESTS_PER_MINUTE", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_limit_requests_per_minute: u32,

    /// Calls that it may make at once; default: a sixth of those a minute
    #[arg(long, env = "RATE_LIMIT_BURST", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate_limit_burst: Option<u32>,
}

impl AccessSettings {
    /// The issuer that is named, if one is, and the audiences.
    fn issuer(&self) -> Result<Option<(&str, &str)>, String> {
        let issuer = self.token_issuer.as_deref().filter(|issuer| !issuer.is_empty());
        let Some(issuer) = issuer else { return Ok(None) };
        let audience = self.token_audience.iter().find(|audience| !audience.is_empty()).ok_or(
            "--token-issuer (TOKEN_ISSUER) needs --token-audience (TOKEN_AUDIENCE), or tokens for other services would be taken too",
        )?;
        Ok(Some((issuer, audience)))
    }

    /// Tokens of the external issuer, if there is one. An error says which setting does not fit.
    pub fn tokens(&self) -> Result<Option<access::Tokens>, String> {
        let Some((issuer, _)) = self.issuer()? else { return Ok(None) };
        let settings = access::TokenSettings {
            issuer: issuer.to_owned(),
            audiences: self.token_audience.iter().filter(|audience| !audience.is_empty()).cloned().collect(),
            jwks_url: self.token_jwks_url.clone().filter(|url| !url.is_empty()),
            tenant_claim: self.token_tenant_claim.clone(),
        };
        access::Tokens::new(settings).map(Some).map_err(|why| format!("--token-issuer: {why}"))
    }

    /// What OAuth clients are told of this server, if there is an issuer.
    pub fn resource(&self) -> Result<Option<Resource>, String> {
        let Some((issuer, audience)) = self.issuer()? else { return Ok(None) };
        Resource::new(audience, issuer).map(Some).map_err(|why| format!("--token-audience: {why}"))
    }

    /// How often those may call whose key does not say; nothing for as often as they like.
    pub fn rate(&self) -> Option<access::Rate> {
        let per_minute = self.rate_limit_requests_per_minute;
        let burst = self.rate_limit_burst.unwrap_or_else(|| (per_minute / 6).clamp(1, 100_000));
        access::Rate::new(per_minute, burst).filter(|_| self.rate_limit_enabled)
    }

    /// The operator's own key, if there is one. An error says what is wrong with the file.
    pub fn admin_key(&self) -> Result<Option<access::AdminKey>, String> {
        let file = self.admin_key_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        file.map(crate::callers::read_admin_key).transpose()
    }
}

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

    /// See the struct.
    #[command(flatten)]
    pub exchanges: ExchangeArgs,

    /// See the struct.
    #[command(flatten)]
    pub servers: ServerSettings,
}

/// Whether candles may come from exchanges.
#[derive(Debug, Clone, Copy, Args)]
pub struct ImportSettings {
    /// Whether clients may have candles fetched from exchanges (candles_import), which the workers ask over the network; the same
    /// everywhere in a deployment. Keys need the scope candles:write
    #[arg(long, env = "JESSE_JOBS_CANDLE_IMPORTS", default_value = "on")]
    pub candle_imports: Allows,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Allows {
    /// It may.
    On,
    /// It may not.
    Off,
}

impl ImportSettings {
    /// Whether they may.
    pub fn allowed(self) -> bool {
        self.candle_imports == Allows::On
    }
}

/// How exchanges are asked for candles.
#[derive(Debug, Clone, Args)]
pub struct ExchangeArgs {
    /// How often a request is tried that an exchange refuses for its rate limit, or fails to answer
    #[arg(long, env = "JESSE_JOBS_EXCHANGE_ATTEMPTS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub exchange_attempts: u32,

    /// Scheme and host to use in place of an exchange's own, such as those of a relay, e.g. http://127.0.0.1:8080
    #[arg(long, env = "JESSE_JOBS_EXCHANGE_URL", value_name = "URL")]
    pub exchange_url: Option<String>,
}

impl ExchangeArgs {
    /// What they come to. An error says what does not fit.
    pub fn access(&self) -> Result<workers::ExchangeAccess, String> {
        let url = self.exchange_url.clone().filter(|url| !url.is_empty());
        rest::parse_urls(url.as_deref()).map_err(|error| error.to_string())?;
        Ok(workers::ExchangeAccess { url, attempts: self.exchange_attempts })
    }
}

/// Which engine backtests are planned for.
#[derive(Debug, Clone, Copy, Args)]
pub struct EngineSettings {
    /// What computes backtests; the same everywhere in a deployment. auto: the runner, and Jesse's servers, if there are any, for
    /// strategies and candles that only they have
    #[arg(long, env = "JESSE_JOBS_ENGINE", default_value = "auto")]
    pub engine: EngineChoice,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Jesse in processes of the worker's own: fast, all that went into a result is pinned.
    Runner,
    /// Jesse's own servers.
    Rest,
    /// The runner; and the servers, if there are any, for strategies and candles that only they have.
    Auto,
}

/// Jesse's own servers.
#[derive(Debug, Clone, Args)]
pub struct ServerSettings {
    /// Host of a Jesse server
    #[arg(long, env = "JESSE_HOST")]
    pub jesse_host: Option<String>,

    /// Its port
    #[arg(long, env = "JESSE_PORT", default_value_t = 9000)]
    pub jesse_port: u16,

    /// Whether it is spoken to over TLS
    #[arg(long, env = "JESSE_USE_HTTPS", value_parser = clap::builder::BoolishValueParser::new())]
    pub jesse_use_https: bool,

    /// Several servers with the same strategies and candles, instead of host and port, e.g.
    /// http://10.0.0.1:9000,http://10.0.0.2:9000
    #[arg(long, env = "JESSE_URLS", value_delimiter = ',')]
    pub jesse_urls: Vec<String>,

    /// The servers' password; the environment hides it better than a flag
    #[arg(long, env = "JESSE_PASSWORD", hide_env_values = true)]
    pub jesse_password: Option<String>,

    /// The token that Jesse's login hands out, instead of the password
    #[arg(long, env = "JESSE_API_TOKEN", hide_env_values = true)]
    pub jesse_api_token: Option<String>,

    /// Backtests at once on one server, from one worker process; Jesse itself has no bound
    #[arg(long, env = "JESSE_CONCURRENCY", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub jesse_concurrency: u32,

    /// Seconds that a result of a server may answer equal requests, since it does not tell what it depends on; 0: never
    #[arg(long, env = "JESSE_CACHE_TTL", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub jesse_cache_ttl: u64,
}

impl ServerSettings {
    /// The servers that are named, if any are.
    fn rest(&self, max_result_bytes: usize) -> Result<Option<RestSettings>, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let urls: Vec<String> =
            self.jesse_urls.iter().filter(|url| !url.trim().is_empty()).cloned().collect();
        let texts = match given(&self.jesse_host) {
            _ if !urls.is_empty() => urls,
            Some(host) => {
                let scheme = if self.jesse_use_https { "https" } else { "http" };
                vec![format!("{scheme}://{host}:{}", self.jesse_port)]
            }
            None => return Ok(None),
        };
        let urls = rest::parse_urls(texts.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        let token = match (given(&self.jesse_api_token), given(&self.jesse_password)) {
            (Some(token), _) => Token::new(token),
            (None, Some(password)) => Token::of_password(&password),
            (None, None) => return Err("Jesse's server asks for JESSE_PASSWORD or JESSE_API_TOKEN".into()),
        };
        Ok(Some(RestSettings {
            urls,
            token,
            concurrency: self.jesse_concurrency,
            cache_ttl: Duration::from_secs(self.jesse_cache_ttl),
            max_result_bytes,
        }))
    }
}

impl WorkerArgs {
    /// What it computes with.
    fn engines(&self, engine: EngineChoice) -> Result<workers::Engines, String> {
        use workers::Engines;

        let servers = self.servers.rest(self.max_result_bytes())?;
        match (engine, servers) {
            (EngineChoice::Runner, _) | (EngineChoice::Auto, None) => Ok(Engines::Runner),
            (EngineChoice::Auto, Some(servers)) => Ok(Engines::Both(servers)),
            (EngineChoice::Rest, Some(servers)) => Ok(Engines::Servers(servers)),
            (EngineChoice::Rest, None) => {
                Err("--engine rest needs a Jesse server: JESSE_HOST or JESSE_URLS".into())
            }
        }
    }

    fn max_result_bytes(&self) -> usize {
        (self.max_result_mb as usize) << 20
    }

    /// The worker's settings; `folder` is what it keeps on its disk. An error says what does not fit.
    pub fn worker_settings(
        &self,
        folder: PathBuf,
        project: Option<PathBuf>,
        engine: EngineChoice,
        imports: ImportSettings,
    ) -> Result<workers::WorkerSettings, String> {
        let processors = || {
            let found = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        Ok(workers::WorkerSettings {
            python: self.python.clone().unwrap_or_else(default_python),
            folder,
            project,
            slots: self.slots.unwrap_or_else(processors).max(1),
            memory_mb: self.worker_memory_mb.unwrap_or_else(machine_memory_mb),
            grace: Duration::from_secs(self.grace),
            max_result_bytes: self.max_result_bytes(),
            engines: self.engines(engine)?,
            cache_max_bytes: self.cache_max_bytes,
            cache_bytes: self.worker_cache_mb << 20,
            runners: self.runners as usize,
            sandbox: self.sandbox,
            exchanges: Some(self.exchanges.access()?).filter(|_| imports.allowed()),
            readable: self
                .sandbox_readable
                .iter()
                .filter_map(|folder| std::path::absolute(folder).ok())
                .collect(),
        })
    }
}

/// What the kernel says there is; without a word from it, memory is not what bounds the worker.
fn machine_memory_mb() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.and_then(|kilobytes| u32::try_from(kilobytes / 1024).ok()).unwrap_or(u32::MAX)
}

/// The interpreter that is used when none is named.
pub fn default_python() -> PathBuf {
    let local = PathBuf::from(".venv/bin/python");
    if local.exists() { std::path::absolute(&local).unwrap_or(local) } else { "python3".into() }
}

/// Where webhooks may go.
#[derive(Debug, Clone, Args)]
pub struct ReceiverSettings {
    /// Networks, addresses and host names that webhooks may be sent to beside public addresses, e.g. 10.1.0.0/16,hooks.internal
    /// (comma-separated)
    #[arg(long, env = "WEBHOOK_ALLOW", value_delimiter = ',', value_parser = Allowed::from_str)]
    pub webhook_allow: Vec<Allowed>,
}

impl ReceiverSettings {
    /// What is allowed.
    pub fn filter(&self) -> AddressFilter {
        AddressFilter::new(self.webhook_allow.iter().cloned())
    }
}

/// Whether a process delivers webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delivers {
    /// Beside what else it does.
    On,
    /// Others do.
    Off,
    /// It does nothing else, and needs no Jesse.
    Only,
}

/// How webhooks are delivered.
#[derive(Debug, Clone, Args)]
pub struct WebhookArgs {
    /// Whether this process delivers webhooks: on, off, or (for a worker) only, which needs no Jesse
    #[arg(long, env = "JESSE_JOBS_WEBHOOKS", default_value = "on")]
    pub webhooks: Delivers,

    /// See the struct.
    #[command(flatten)]
    pub receivers: ReceiverSettings,

    /// Seconds between the attempts to deliver a webhook, on average: each pause is drawn between none and twice it
    #[arg(long, env = "WEBHOOK_SCHEDULE", value_delimiter = ',', value_parser = seconds,
        default_value = "5,300,1800,7200,18000,36000,50400,72000,86400")]
    pub webhook_schedule: Vec<Duration>,

    /// Seconds that one attempt may take
    #[arg(long, env = "WEBHOOK_TIMEOUT", default_value = "15", value_parser = seconds)]
    pub webhook_timeout: Duration,

    /// Attempts at once for one receiver; fewer while it fails
    #[arg(long, env = "WEBHOOK_CONCURRENCY", default_value_t = jobs::webhooks::DEFAULT_WIDTH, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub webhook_concurrency: u32,

    /// Attempts at once in this process
    #[arg(long, env = "WEBHOOK_SLOTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub webhook_slots: u32,

    /// Hours of nothing but failures after which an endpoint is disabled
    #[arg(long, env = "WEBHOOK_DISABLE_HOURS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub webhook_disable_hours: u64,
}

/// The longest that all pauses of a schedule may take together, on average: deliveries are not kept for longer.
const LONGEST_SCHEDULE: Duration = Duration::from_hours(96);
const MOST_ATTEMPTS: usize = 30;

impl WebhookArgs {
    /// How to deliver. An error says what does not fit.
    pub fn webhook_settings(&self) -> Result<WebhookSettings, String> {
        let schedule = self.webhook_schedule.clone();
        if schedule.len() >= MOST_ATTEMPTS || schedule.iter().sum::<Duration>() > LONGEST_SCHEDULE {
            return Err(format!(
                "--webhook-schedule: at most {} pauses, which take {} hours together",
                MOST_ATTEMPTS - 1,
                LONGEST_SCHEDULE.as_secs() / 3600
            ));
        }
        if !(Duration::from_millis(100)..=Duration::from_mins(2)).contains(&self.webhook_timeout) {
            return Err("--webhook-timeout: must be from 0.1 to 120".into());
        }
        Ok(WebhookSettings {
            schedule,
            timeout: self.webhook_timeout,
            slots: self.webhook_slots as usize,
            disable_after: Duration::from_hours(self.webhook_disable_hours),
        })
    }
}

/// A number of seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|duration| *duration <= Duration::from_hours(30 * 24))
        .ok_or_else(|| "must be from 0 to 2592000".into())
}

fn holdout_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=crate::service::MOST_HELD_OUT).contains(share));
    share.ok_or_else(|| format!("must be a number from 0 to {}", crate::service::MOST_HELD_OUT))
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

    /// Part of the candles, the last, that the first job of a campaign on a symbol holds out of a tenant's research, 0 (nothing) to
    /// 0.5; a campaign may say another
    #[arg(long, env = "JESSE_JOBS_HOLDOUT_SHARE", default_value_t = 0.2, value_parser = holdout_share)]
    pub holdout_share: f64,

    /// Most jobs of a tenant that have not ended; more are refused for the time being
    #[arg(long, env = "JESSE_JOBS_MAX_OPEN", default_value_t = jobs::MAX_OPEN)]
    pub max_open: u32,
}

/// What is logged and traced, and where that goes.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// error, warn, info, debug, trace, or a filter such as info,jobs=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info,rmcp=warn,apalis_core=warn", global = true)]
    pub log_level: String,

    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// File to log to instead of standard error, one for each process; when it is full, it becomes FILE.1, that FILE.2, and so on
    #[arg(long, env = "LOG_FILE", global = true)]
    pub log_file: Option<PathBuf>,

    /// Megabytes after which the log file is full
    #[arg(long, env = "LOG_FILE_MB", default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub log_file_mb: u32,

    /// Log files that are kept, the one that is written included
    #[arg(long, env = "LOG_FILES", default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub log_files: u32,

    /// Collector to send traces to (OTLP over HTTP), e.g. http://127.0.0.1:4318; the other OTEL_* variables of its kind hold too:
    /// OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,

    /// What this process is called in traces
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "jesse-jobs", global = true)]
    pub service_name: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

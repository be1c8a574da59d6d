//! How jobs are computed: with how much of the machine, with which Jesse, and what may be asked of exchanges.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use jesse::{rest, runner::SandboxMode};

use super::engine::{EngineChoice, ServerSettings};

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

    /// Whether a process may do further backtests of strategies whose code is known to keep nothing between runs, which saves its start
    /// and its end; all others have a process for each run
    #[arg(long, env = "JESSE_JOBS_REUSE_PROCESSES", default_value_t = true, action = clap::ArgAction::Set)]
    pub reuse_processes: bool,

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
            reuse_processes: self.reuse_processes,
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

//! What computes backtests: the runner, or Jesse's own servers and how they are reached.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jesse::rest::{self, RestSettings, Token};

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
    pub(super) fn rest(&self, max_result_bytes: usize) -> Result<Option<RestSettings>, String> {
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

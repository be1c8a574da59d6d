//! Where clients are served, who they are, and what they may use.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

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

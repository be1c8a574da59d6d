//! `keys`: make, list, revoke and rotate API keys, whether or not `up` runs on the data folder. Whoever reaches the deployment's
//! Redis may do that; in the console administrators can, and give no more than they have.

use std::io::Write;

use access::{
    AccessError, ApiKey, Audit, AuditEntry, KeyId, KeyStore, KeyTerms, Rate, Scope, Scopes, parse_label,
    parse_tenant,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jobs::{Queue, Share, TenantId};
use serde_json::{Value, json};

use super::{RoleError, open::Opened};
use crate::{settings::StorageSettings, views};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Why keys could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The keys, or Redis.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Standard output.
    #[error("the answer cannot be printed")]
    Print(#[from] std::io::Error),
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it (JSON), this once; from the first key on every call needs one
    Create {
        /// What it is good for
        #[command(flatten)]
        new: New,
        /// Where the deployment is
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Print all keys without their secrets (JSON)
    List {
        /// Where the deployment is
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Take a key back; it is refused everywhere within 5 seconds
    Revoke {
        /// The key's id, as `keys list` shows it
        #[arg(value_name = "ID")]
        id: KeyId,
        /// Where the deployment is
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Make and print another key for the same terms (JSON); the old one goes on for a while
    Rotate {
        /// The old key's id, as `keys list` shows it
        #[arg(value_name = "ID")]
        id: KeyId,
        /// Hours that the old key goes on; 0 ends it at once
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(0..=720))]
        overlap_hours: u16,
        /// Days that the new key is good for; for ever if left out
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3650))]
        expires_days: Option<u16>,
        /// Where the deployment is
        #[command(flatten)]
        storage: StorageSettings,
    },
}

/// A key to be made.
#[derive(Debug, Clone, Args)]
pub struct New {
    /// Whose it is: tenants see their own jobs and webhooks only
    #[arg(long, default_value = "default", value_parser = parse_tenant)]
    tenant: TenantId,
    /// What it is for, in your words
    #[arg(long, default_value = "", value_parser = parse_label)]
    label: String,
    /// What it allows (comma-separated): jobs:read, jobs:write, strategies:read, strategies:write (runs code),
    /// candles:write (imports from exchanges), webhooks, cache, admin; none implies another
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "jobs:read,jobs:write,strategies:read,webhooks,cache"
    )]
    scopes: Vec<Scope>,
    /// Calls a minute, or calls a minute/calls at once, e.g. 60/10; else as RATE_LIMIT_REQUESTS_PER_MINUTE says
    #[arg(long)]
    rate: Option<Rate>,
    /// Days that it is good for; for ever if left out
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3650))]
    expires_days: Option<u16>,
    /// See the struct.
    #[command(flatten)]
    share: ShareOfTenant,
}

/// What the tenant, with all its keys, is entitled to. Giving one sets all of them.
#[derive(Debug, Clone, Args)]
pub struct ShareOfTenant {
    /// How much of the workers' time the tenant gets, compared with others; 1 unless it was set
    #[arg(long, value_parser = weight)]
    weight: Option<f64>,
    /// Most runs of the tenant at once; no bound if left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_running: Option<u32>,
    /// Most jobs of the tenant that have not ended; as JESSE_JOBS_MAX_OPEN says if left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_open: Option<u32>,
}

impl ShareOfTenant {
    fn share(&self) -> Option<Share> {
        let Self { weight, max_running, max_open } = *self;
        let given = weight.is_some() || max_running.is_some() || max_open.is_some();
        given.then(|| Share { weight: weight.unwrap_or(1.0), max_running, max_open })
    }
}

fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse::<f64>().ok().filter(|weight| (0.001..=1000.0).contains(weight));
    weight.ok_or_else(|| "must be a number from 0.001 to 1000".into())
}

/// Does it.
pub async fn run(command: KeysCommand) -> Result<(), RoleError> {
    let (KeysCommand::Create { storage, .. }
    | KeysCommand::List { storage }
    | KeysCommand::Revoke { storage, .. }
    | KeysCommand::Rotate { storage, .. }) = &command;
    let opened = Opened::open(storage).await?;
    let answer = carry_out(&command, &opened.queue).await;
    opened.close().await;
    let mut stdout = std::io::stdout().lock();
    let printed = writeln!(stdout, "{:#}", answer?);
    Ok(printed.map_err(KeysError::from)?)
}

async fn carry_out(command: &KeysCommand, queue: &Queue) -> Result<Value, KeysError> {
    let keys = KeyStore::new(queue.redis().clone());
    let done = match command {
        KeysCommand::Create { new, .. } => create(&keys, queue, new).await,
        KeysCommand::List { .. } => return list(&keys).await,
        KeysCommand::Revoke { id, .. } => revoke(&keys, id).await,
        KeysCommand::Rotate { id, overlap_hours, expires_days, .. } => {
            rotate(&keys, id, *overlap_hours, *expires_days).await
        }
    };
    let (answer, entry) = done?;
    Audit::new(queue.redis().clone()).write(&entry).await;
    Ok(answer)
}

async fn create(keys: &KeyStore, queue: &Queue, new: &New) -> Result<(Value, AuditEntry), KeysError> {
    let New { tenant, label, scopes, rate, expires_days, share } = new;
    let scopes: Scopes = scopes.iter().copied().collect();
    let terms = KeyTerms {
        label: label.clone(),
        tenant: tenant.clone(),
        scopes,
        rate: *rate,
        created_ms: Timestamp::now().as_millisecond(),
    };
    if let Some(share) = share.share() {
        queue.set_share(tenant, share).await.map_err(AccessError::from)?;
    }
    let expires_ms = in_days(*expires_days);
    let key = keys.create(&terms, expires_ms).await?;
    Ok((shown(&key, &terms, expires_ms), entry("keys create", &terms.tenant, &key.id())))
}

async fn rotate(
    keys: &KeyStore,
    id: &KeyId,
    overlap_hours: u16,
    expires_days: Option<u16>,
) -> Result<(Value, AuditEntry), KeysError> {
    let until = Timestamp::now().as_millisecond() + i64::from(overlap_hours) * HOUR_MS;
    let expires_ms = in_days(expires_days);
    let (key, terms) = keys.rotate(id, expires_ms, until).await?;
    Ok((shown(&key, &terms, expires_ms), entry("keys rotate", &terms.tenant, id)))
}

async fn revoke(keys: &KeyStore, id: &KeyId) -> Result<(Value, AuditEntry), KeysError> {
    let tenant = keys.list().await?.into_iter().find(|key| key.id == id.as_str());
    keys.revoke(id).await?;
    let tenant = tenant.map_or_else(|| TenantId::new(""), |key| key.terms.tenant);
    Ok((json!({ "revoked": id.as_str() }), entry("keys revoke", &tenant, id)))
}

async fn list(keys: &KeyStore) -> Result<Value, KeysError> {
    let shown = |key: access::KeyView| {
        let mut view = terms(&key.terms, key.expires_ms);
        view["id"] = key.id.into();
        view["used_at"] = json!(key.used_ms.map(views::time));
        view
    };
    let keys: Vec<_> = keys.list().await?.into_iter().map(shown).collect();
    Ok(json!({ "keys": keys }))
}

/// The one time that a key is shown.
fn shown(key: &ApiKey, of: &KeyTerms, expires_ms: Option<i64>) -> Value {
    let mut view = terms(of, expires_ms);
    view["id"] = key.id().as_str().into();
    view["key"] = key.reveal().into();
    view
}

fn terms(terms: &KeyTerms, expires_ms: Option<i64>) -> Value {
    let KeyTerms { label, tenant, scopes, rate, created_ms } = terms;
    json!({
        "label": label,
        "tenant": tenant,
        "scopes": scopes,
        "rate": rate.map(|rate| rate.to_string()),
        "created_at": views::time(*created_ms),
        "expires_at": expires_ms.map(views::time),
    })
}

fn entry(action: &str, tenant: &TenantId, key: &KeyId) -> AuditEntry {
    AuditEntry {
        tenant: tenant.to_string(),
        key: "command-line".into(),
        action: action.into(),
        target: key.to_string(),
        outcome: "ok".into(),
        ..AuditEntry::default()
    }
}

fn in_days(days: Option<u16>) -> Option<i64> {
    days.map(|days| Timestamp::now().as_millisecond() + i64::from(days) * DAY_MS)
}

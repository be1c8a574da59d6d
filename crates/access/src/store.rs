//! Keys in Redis. The README of this crate lists the Redis keys.

use std::{sync::LazyLock, time::Duration};

use jobs::{QueueError, Redis, TenantId};
use redis::Script;
use serde::{Deserialize, Serialize};

use crate::{
    error::AccessError,
    key::{ApiKey, KeyHash, KeyId},
    rate::Rate,
    scope::Scopes,
};

/// The most keys of a deployment.
pub const MOST_KEYS: u32 = 10_000;
/// How long an expired key is still listed, in milliseconds.
const LISTED_MS: i64 = 30 * 86_400_000;

static CREATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("create.lua")));
static TOUCH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("touch.lua")));

/// What a key is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTerms {
    /// What it is for, in the operator's words.
    pub label: String,
    /// Who has it.
    pub tenant: TenantId,
    /// What it allows.
    pub scopes: Scopes,
    /// How often it may be used; else as often as the deployment's setting says.
    pub rate: Option<Rate>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
}

/// The longest label, in bytes.
const LONGEST_LABEL: usize = 200;

/// A text that cannot say what a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {LONGEST_LABEL} bytes, in one line")]
pub struct InvalidLabel;

/// Reads what a key is for.
pub fn parse_label(text: &str) -> Result<String, InvalidLabel> {
    let fits = text.len() <= LONGEST_LABEL && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(InvalidLabel) }
}

/// A key as it is listed: all but its secret.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    /// Its public part.
    pub id: String,
    /// What it is good for.
    #[serde(flatten)]
    pub terms: KeyTerms,
    /// When it ends to be good, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When it was last used, to the minute or so, in milliseconds since 1970.
    pub used_ms: Option<i64>,
}

/// A key as it is stored.
#[derive(Debug)]
pub(crate) struct StoredKey {
    pub(crate) hash: KeyHash,
    pub(crate) terms: KeyTerms,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) used_ms: Option<i64>,
}

/// The fields of a key's hash.
type Fields = (Option<String>, Option<String>, Option<i64>, Option<i64>);

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct KeyStore {
    redis: Redis,
    prefix: String,
}

impl KeyStore {
    /// The keys of the deployment that this Redis serves.
    pub fn new(redis: Redis) -> Self {
        let prefix = format!("{}:access", redis.tag());
        Self { redis, prefix }
    }

    fn key(&self, id: &KeyId) -> String {
        format!("{}:key:{id}", self.prefix)
    }

    fn ids(&self) -> String {
        format!("{}:keys", self.prefix)
    }

    fn closed(&self) -> String {
        format!("{}:closed", self.prefix)
    }

    /// Makes a key. It is shown this once: only its hash is kept.
    pub async fn create(&self, terms: &KeyTerms, expires_ms: Option<i64>) -> Result<ApiKey, AccessError> {
        self.add(terms, expires_ms, None).await
    }

    /// Makes another key for the same terms, which lasts until `expires_ms`; the old one ends at `old_until_ms`, if not before.
    pub async fn rotate(
        &self,
        id: &KeyId,
        expires_ms: Option<i64>,
        old_until_ms: i64,
    ) -> Result<(ApiKey, KeyTerms), AccessError> {
        let stored = self.find(id).await?.ok_or_else(|| AccessError::NotFound(id.clone()))?;
        let until = stored.expires_ms.map_or(old_until_ms, |expires| expires.min(old_until_ms));
        let mut terms = stored.terms;
        terms.created_ms = now_ms();
        let key = self.add(&terms, expires_ms, Some((id, until))).await?;
        Ok((key, terms))
    }

    async fn add(
        &self,
        terms: &KeyTerms,
        expires_ms: Option<i64>,
        old: Option<(&KeyId, i64)>,
    ) -> Result<ApiKey, AccessError> {
        let record = serde_json::to_string(terms).map_err(|error| QueueError::Corrupt(error.to_string()))?;
        let key = ApiKey::generate()?;
        let id = key.id();
        let mut call = CREATE.prepare_invoke();
        call.key(self.key(&id)).key(self.ids()).key(self.closed());
        if let Some((old, _)) = old {
            call.key(self.key(old));
        }
        let goes = |expires_ms: Option<i64>| number(expires_ms.map(|at| at.saturating_add(LISTED_MS)));
        let old_until = old.map(|(_, until)| until);
        call.arg(id.as_str()).arg(key.hash().to_hex()).arg(record).arg(MOST_KEYS);
        call.arg(number(expires_ms)).arg(goes(expires_ms)).arg(number(old_until)).arg(goes(old_until));
        match self.redis.invoke::<String>(&call).await?.as_str() {
            "made" => Ok(key),
            "gone" => Err(AccessError::NotFound(old.map_or(id, |(old, _)| old.clone()))),
            "full" => Err(AccessError::Full),
            other => Err(QueueError::Corrupt(format!("create answered {other:?}")).into()),
        }
    }

    /// Takes a key back. Every instance notices within [`FRESH`](crate::FRESH).
    pub async fn revoke(&self, id: &KeyId) -> Result<(), AccessError> {
        let mut remove = redis::cmd("DEL");
        remove.arg(self.key(id));
        let removed: u32 = self.redis.query(&remove).await?;
        self.forget(id).await?;
        if removed == 0 { Err(AccessError::NotFound(id.clone())) } else { Ok(()) }
    }

    async fn forget(&self, id: &KeyId) -> Result<(), QueueError> {
        let mut forget = redis::cmd("SREM");
        forget.arg(self.ids()).arg(id.as_str());
        self.redis.query::<u32>(&forget).await.map(drop)
    }

    /// All keys, those of one tenant together, the oldest first.
    pub async fn list(&self) -> Result<Vec<KeyView>, AccessError> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.ids());
        let ids: Vec<String> = self.redis.query(&read).await?;
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids.iter().filter_map(|id| id.parse().ok()) {
            match self.find(&id).await? {
                Some(StoredKey { hash: _, terms, expires_ms, used_ms }) => {
                    keys.push(KeyView { id: id.to_string(), terms, expires_ms, used_ms });
                }
                // It expired long ago.
                None => self.forget(&id).await?,
            }
        }
        let place = |key: &KeyView| (key.terms.tenant.clone(), key.terms.created_ms, key.id.clone());
        keys.sort_by_key(place);
        Ok(keys)
    }

    /// The key with this id.
    pub(crate) async fn find(&self, id: &KeyId) -> Result<Option<StoredKey>, QueueError> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.key(id)).arg("hash").arg("record").arg("expires").arg("used");
        let (hash, record, expires_ms, used_ms): Fields = self.redis.query(&read).await?;
        let (Some(hash), Some(record)) = (hash, record) else { return Ok(None) };
        let corrupt = || QueueError::Corrupt(format!("the record of key {id}"));
        let hash = KeyHash::from_hex(&hash).ok_or_else(corrupt)?;
        let terms = serde_json::from_str(&record).map_err(|_| corrupt())?;
        Ok(Some(StoredKey { hash, terms, expires_ms, used_ms }))
    }

    /// Notes that a key was used.
    pub(crate) async fn touch(&self, id: &KeyId, at_ms: i64) -> Result<(), QueueError> {
        let mut call = TOUCH.prepare_invoke();
        call.key(self.key(id)).arg(at_ms);
        self.redis.invoke::<u32>(&call).await.map(drop)
    }

    /// Whether every call needs a key: from the first key on, also after the last is revoked. Else a revocation would open the doors.
    pub async fn is_closed(&self) -> Result<bool, QueueError> {
        let mut ask = redis::cmd("EXISTS");
        ask.arg(self.closed());
        self.redis.query(&ask).await
    }
}

fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_millis().try_into().unwrap_or(i64::MAX)
}

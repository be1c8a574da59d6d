//! Who calls, how often, and what they changed: what HTTP and MCP ask of the crate `access`.

use std::{path::Path, sync::Arc};

use access::{AdminKey, Audit, AuditEntry, Caller, Denied, Gate, Rate, RateLimiter, Scope, Tokens, Verdict};
use jobs::{QueueError, Redis};
use serde_json::json;

use crate::errors::{Code, ServiceError};

/// The id of a request, as its answer and the log have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    gate: Gate,
    limiter: RateLimiter,
    audit: Audit,
    /// How often those may call whose key does not say.
    rate: Option<Rate>,
}

impl Callers {
    /// Callers of the deployment that this Redis serves. With an `admin` key, or if `always`, nobody is served without a key;
    /// `rate` is for those whose key does not say.
    pub fn new(redis: &Redis, admin: Option<AdminKey>, always: bool, rate: Option<Rate>) -> Self {
        Self {
            gate: Gate::new(redis.clone(), admin, always),
            limiter: RateLimiter::new(redis.clone()),
            audit: Audit::new(redis.clone()),
            rate,
        }
    }

    /// The same for those who show tokens of an external issuer too.
    #[must_use]
    pub fn with_tokens(self, tokens: Option<Tokens>) -> Self {
        match tokens {
            Some(tokens) => Self { gate: self.gate.with_tokens(tokens), ..self },
            None => self,
        }
    }

    /// Who shows this key, or none.
    pub(crate) async fn identify(&self, shown: Option<&str>) -> Result<Caller, ServiceError> {
        self.gate.caller(shown).await.map_err(ServiceError::from)
    }

    /// Whether nobody is served without a key, as far as that can be told.
    pub(crate) async fn needs_key(&self) -> bool {
        self.gate.needs_key().await.unwrap_or(true)
    }

    /// Counts a call. Nothing is counted for those who have no limit.
    pub(crate) async fn count(&self, caller: &Caller) -> Option<(Rate, Result<Verdict, QueueError>)> {
        let rate = caller.rate.or(self.rate)?;
        Some((rate, self.limiter.take(&caller.key, rate).await))
    }

    /// The log of changes.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Notes a change.
    pub(crate) async fn note(&self, entry: &AuditEntry) {
        self.audit.write(entry).await;
    }
}

/// Reads the operator's key.
pub(crate) fn read_admin_key(file: &Path) -> Result<AdminKey, String> {
    let told = |why: String| format!("--admin-key-file (ADMIN_KEY_FILE) is {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| told(error.to_string()))?;
    AdminKey::new(&text).map_err(|error| told(error.to_string()))
}

/// Refuses what the caller's key does not allow.
pub(crate) fn require(caller: &Caller, scope: Scope) -> Result<(), ServiceError> {
    if caller.may(scope) {
        return Ok(());
    }
    let message = format!("this needs a key with the scope {scope}; yours has not got it");
    let mut error = ServiceError::new(Code::MissingScope, message);
    error.detail = json!({ "missing_scope": scope });
    Err(error)
}

impl From<Denied> for ServiceError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoKey => Self::new(Code::Unauthenticated, denied.to_string()),
            Denied::Invalid(_) | Denied::Unknown | Denied::Expired | Denied::Token(_) => {
                Self::new(Code::InvalidKey, denied.to_string())
            }
            Denied::Issuer(_) => Self::new(Code::Unavailable, denied.to_string()),
            Denied::Unavailable(error) => error.into(),
        }
    }
}

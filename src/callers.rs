//! Who calls, how often, and what they changed: what HTTP and MCP ask of the crate `access`.

use std::{path::Path, sync::Arc};

use access::{
    AdminKey, Audit, AuditEntry, Caller, Denied, Gate, KeyStore, Rate, RateLimiter, Scope, SessionToken,
    Tokens, Verdict,
};
use jobs::{QueueError, Redis};
use serde_json::json;

use crate::errors::{Code, ServiceError};

/// The id of a request, as its answer and the log have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Attempts to log in from one address. A secret cannot be guessed; this is so that trying costs the server nothing.
const LOGINS: Rate = Rate { per_minute: 10, burst: 10 };
/// The same from one connection's other end, behind which there may be many.
const LOGINS_OF_PEER: Rate = Rate { per_minute: 300, burst: 60 };

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Shared>);

#[derive(Debug, Clone)]
struct Shared {
    gate: Gate,
    limiter: RateLimiter,
    audit: Audit,
    keys: KeyStore,
    /// How often those may call whose key does not say.
    rate: Option<Rate>,
}

impl Callers {
    /// Callers of the deployment that this Redis serves. With an `admin` key, or if `always`, nobody is served without a key;
    /// `rate` is for those whose key does not say.
    pub fn new(redis: &Redis, admin: Option<AdminKey>, always: bool, rate: Option<Rate>) -> Self {
        Self(Arc::new(Shared {
            gate: Gate::new(redis.clone(), admin, always),
            limiter: RateLimiter::new(redis.clone()),
            audit: Audit::new(redis.clone()),
            keys: KeyStore::new(redis.clone()),
            rate,
        }))
    }

    /// The same for those who show tokens of an external issuer too.
    #[must_use]
    pub fn with_tokens(self, tokens: Option<Tokens>) -> Self {
        let Some(tokens) = tokens else { return self };
        let shared = Arc::unwrap_or_clone(self.0);
        Self(Arc::new(Shared { gate: shared.gate.with_tokens(tokens), ..shared }))
    }

    /// Who shows this key, or none.
    pub(crate) async fn identify(&self, shown: Option<&str>) -> Result<Caller, ServiceError> {
        self.0.gate.caller(shown).await.map_err(ServiceError::from)
    }

    /// Whether nobody is served without a key, as far as that can be told.
    pub(crate) async fn needs_key(&self) -> bool {
        self.0.gate.needs_key().await.unwrap_or(true)
    }

    /// Who opened this session; without one, whoever reaches the server as long as no keys are needed.
    pub(crate) async fn identify_session(
        &self,
        token: Option<&SessionToken>,
    ) -> Result<Caller, ServiceError> {
        match (self.0.gate.caller(None).await, token) {
            (Err(Denied::NoKey), Some(token)) => Ok(self.0.gate.session(token).await?),
            (caller, _) => Ok(caller?),
        }
    }

    /// Opens a session for whoever shows a key.
    pub(crate) async fn open_session(&self, shown: &str) -> Result<SessionToken, ServiceError> {
        Ok(self.0.gate.open_session(shown).await?)
    }

    /// Ends a session.
    pub(crate) async fn close_session(&self, token: &SessionToken) -> Result<(), ServiceError> {
        Ok(self.0.gate.close_session(token).await?)
    }

    /// Counts an attempt to log in from an address: from one that cannot be made up, and from one that a proxy names.
    pub(crate) async fn count_login(
        &self,
        peer: &str,
        forwarded: Option<&str>,
    ) -> Result<Option<Verdict>, QueueError> {
        let attempts = [
            (format!("login:{peer}"), LOGINS_OF_PEER),
            (format!("login:{peer}:{}", forwarded.unwrap_or_default()), LOGINS),
        ];
        for (who, rate) in attempts {
            let verdict = self.0.limiter.take(&who, rate).await?;
            if !verdict.admitted {
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    }

    /// The keys of the deployment.
    pub(crate) fn keys(&self) -> &KeyStore {
        &self.0.keys
    }

    /// Counts a call. Nothing is counted for those who have no limit.
    pub(crate) async fn count(&self, caller: &Caller) -> Option<(Rate, Result<Verdict, QueueError>)> {
        let rate = caller.rate.or(self.0.rate)?;
        Some((rate, self.0.limiter.take(&caller.key, rate).await))
    }

    /// The log of changes.
    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Notes a change.
    pub(crate) async fn note(&self, entry: &AuditEntry) {
        self.0.audit.write(entry).await;
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
            Denied::Randomness(error) => Self::internal("no session can be opened", &error),
            Denied::Issuer(_) => Self::new(Code::Unavailable, denied.to_string()),
            Denied::Unavailable(error) => error.into(),
        }
    }
}

//! The cache of results: how it is doing, and a way to remove some.

use access::{Caller, Scope};
use jobs::{CacheKey, CacheStats, Queue, Selector, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Service;
use crate::{
    callers::require,
    errors::{Code, ServiceError},
    settings::CacheScope,
};

/// The longest name that an invalidation may have. Jesse's own names are far shorter.
const LONGEST_NAME: usize = 200;

/// Which results to invalidate: `key` or `all` alone, or some of the others, which must all fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Invalidation")]
pub struct Invalidate {
    /// provenance.cache_key of one result
    #[serde(default)]
    #[schemars(with = "String")]
    pub key: Option<String>,
    /// Name of a strategy
    #[serde(default)]
    #[schemars(with = "String")]
    pub strategy: Option<String>,
    /// E.g. BTC-USDT
    #[serde(default)]
    #[schemars(with = "String")]
    pub symbol: Option<String>,
    /// As Jesse spells it
    #[serde(default)]
    #[schemars(with = "String")]
    pub exchange: Option<String>,
    /// For whom it was computed first
    #[serde(default)]
    #[schemars(with = "String")]
    pub tenant: Option<String>,
    /// true: everything
    #[serde(default)]
    #[schemars(with = "bool")]
    pub all: Option<bool>,
}

/// What an invalidation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Invalidated {
    /// Results that were stored and are not any more.
    pub invalidated: u64,
}

/// How the cache is doing: counts since the deployment's Redis was new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Cache")]
pub struct CacheView {
    /// Results stored.
    pub entries: u64,
    /// What they take up, bodies as stored and records.
    pub bytes: u64,
    /// The most they may take up, as workers enforce it; null before the first.
    pub max_bytes: Option<u64>,
    /// Jobs answered by a stored result.
    pub hits: u64,
    /// Jobs that found none.
    pub misses: u64,
    /// Jobs that joined a run in flight.
    pub coalesced: u64,
    /// Results removed to make room.
    pub evicted: u64,
    /// Results invalidated.
    pub invalidated: u64,
    /// Last use of the result that was not used for longest (UTC); null when there is none.
    pub oldest_use_at: Option<String>,
}

impl From<CacheStats> for CacheView {
    fn from(stats: CacheStats) -> Self {
        let CacheStats {
            entries,
            bytes,
            max_bytes,
            hits,
            misses,
            coalesced,
            evicted,
            invalidated,
            oldest_use_s,
        } = stats;
        let oldest = oldest_use_s.and_then(|second| jiff::Timestamp::from_second(second).ok());
        let oldest_use_at = oldest.map(|time| time.to_string());
        Self { entries, bytes, max_bytes, hits, misses, coalesced, evicted, invalidated, oldest_use_at }
    }
}

enum Target {
    Key(CacheKey),
    Matching(Selector),
}

impl Invalidate {
    /// Carries it out; answers how many results were stored.
    pub async fn run(self, queue: &Queue) -> Result<Invalidated, ServiceError> {
        let invalidated = match self.target()? {
            Target::Key(key) => queue.invalidate_key(&key).await?,
            Target::Matching(selector) => queue.invalidate(&selector).await?,
        };
        Ok(Invalidated { invalidated })
    }

    /// The same among what was computed for this tenant.
    fn of_tenant(self, own: &str) -> Result<Self, ServiceError> {
        if self.tenant.as_deref().is_some_and(|tenant| tenant != own) {
            return Err(invalid("tenant: yours alone, which may be left out"));
        }
        if self.key.is_some() {
            return Err(invalid(
                "key: needs an API key with the scope admin; name strategy, symbol or exchange",
            ));
        }
        self.clone().target()?;
        // `all` is all of one's own.
        Ok(Self { tenant: Some(own.to_owned()), all: None, ..self })
    }

    fn target(self) -> Result<Target, ServiceError> {
        let Self { key, strategy, symbol, exchange, tenant, all } = self;
        let named =
            [("strategy", &strategy), ("symbol", &symbol), ("exchange", &exchange), ("tenant", &tenant)];
        for (name, value) in named {
            if value.as_ref().is_some_and(|value| value.is_empty() || value.len() > LONGEST_NAME) {
                return Err(invalid(&format!("{name}: must have 1 to {LONGEST_NAME} bytes")));
            }
        }
        let some = named.iter().any(|(_, value)| value.is_some());
        match (key, all, some) {
            (None, Some(true), false) => Ok(Target::Matching(Selector::default())),
            (Some(key), None, false) if is_key(&key) => Ok(Target::Key(CacheKey::new(key))),
            (Some(_), None, false) => {
                Err(invalid("key: must have 64 hexadecimal digits, as provenance.cache_key of a result"))
            }
            (None, None, true) => {
                let tenant = tenant.map(TenantId::new);
                Ok(Target::Matching(Selector { strategy, symbol, exchange, tenant }))
            }
            _ => Err(invalid(
                "name what to invalidate: either key, or all (true), or some of strategy, symbol, exchange and tenant, which \
                 must all fit",
            )),
        }
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn invalid(message: &str) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}

impl Service {
    /// How the cache is doing.
    pub async fn cache(&self) -> Result<CacheView, ServiceError> {
        Ok(self.inner.queue.cache_stats().await?.into())
    }

    /// Invalidates results. Those that tenants share are for admins; where nothing is shared, others may remove their own.
    pub async fn invalidate(&self, caller: &Caller, which: Invalidate) -> Result<Invalidated, ServiceError> {
        require(caller, Scope::Cache)?;
        let which = if caller.may(Scope::Admin) { which } else { self.among_own(caller, which)? };
        let invalidated = which.clone().run(&self.inner.queue).await?;
        tracing::info!(tenant.id = %caller.tenant, key.id = %caller.key, ?which, results = invalidated.invalidated, "results were invalidated");
        Ok(invalidated)
    }

    fn among_own(&self, caller: &Caller, which: Invalidate) -> Result<Invalidate, ServiceError> {
        if self.inner.scope == CacheScope::Deployment {
            let mut error = ServiceError::new(
                Code::MissingScope,
                "all tenants share the stored results here, so only a key with the scope admin invalidates them; a call with \
                 cache: refresh computes anew",
            );
            error.detail = json!({ "missing_scope": Scope::Admin });
            return Err(error);
        }
        which.of_tenant(caller.tenant.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tenant_is_kept_to_its_own() {
        let among = |which| serde_json::from_value::<Invalidate>(which).unwrap().of_tenant("own");
        let own = Some("own".to_owned());
        assert_eq!(
            among(json!({"all": true})).unwrap(),
            Invalidate { tenant: own.clone(), ..Invalidate::default() }
        );
        let some = among(json!({"strategy": "Sma", "tenant": "own"})).unwrap();
        assert_eq!((some.strategy.as_deref(), some.tenant), (Some("Sma"), own));
        for wrong in [
            json!({"tenant": "other"}),
            json!({"strategy": "Sma", "tenant": "other"}),
            json!({"key": "0123456789abcdef".repeat(4)}),
            json!({}),
        ] {
            assert!(among(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_named_must_make_sense() {
        let target = |which| serde_json::from_value::<Invalidate>(which).unwrap().target();
        let key = "0123456789abcdef".repeat(4);
        for fine in [
            json!({"key": key}),
            json!({"all": true}),
            json!({"strategy": "Sma"}),
            json!({"strategy": "Sma", "symbol": "BTC-USDT", "exchange": "Binance", "tenant": "t"}),
        ] {
            assert!(target(fine.clone()).is_ok(), "{fine}");
        }
        for wrong in [
            json!({}),
            json!({"all": false}),
            json!({"all": true, "strategy": "Sma"}),
            json!({"key": key, "all": true}),
            json!({"key": key, "symbol": "BTC-USDT"}),
            json!({"key": "0123"}),
            json!({"key": "Z".repeat(64)}),
            json!({"strategy": ""}),
            json!({"strategy": "x".repeat(201)}),
        ] {
            assert!(target(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(serde_json::from_value::<Invalidate>(json!({"strategies": ["Sma"]})).is_err());
    }
}

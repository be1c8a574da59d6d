//! What a key allows.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One thing that a key may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// See jobs, batches and results.
    #[serde(rename = "jobs:read")]
    JobsRead,
    /// Submit, cancel and forget jobs.
    #[serde(rename = "jobs:write")]
    JobsWrite,
    /// See strategies and their code.
    #[serde(rename = "strategies:read")]
    StrategiesRead,
    /// Write strategies, which is to run code.
    #[serde(rename = "strategies:write")]
    StrategiesWrite,
    /// Import candles from exchanges, which all tenants share.
    #[serde(rename = "candles:write")]
    CandlesWrite,
    /// Manage webhooks.
    #[serde(rename = "webhooks")]
    Webhooks,
    /// Invalidate the tenant's own cached results.
    #[serde(rename = "cache")]
    Cache,
    /// What concerns all tenants: the audit log, metrics, pausing the queue, cached results that tenants share.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::JobsRead,
        Self::JobsWrite,
        Self::StrategiesRead,
        Self::StrategiesWrite,
        Self::CandlesWrite,
        Self::Webhooks,
        Self::Cache,
        Self::Admin,
    ];

    /// Its name in commands, tokens and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::JobsRead => "jobs:read",
            Self::JobsWrite => "jobs:write",
            Self::StrategiesRead => "strategies:read",
            Self::StrategiesWrite => "strategies:write",
            Self::CandlesWrite => "candles:write",
            Self::Webhooks => "webhooks",
            Self::Cache => "cache",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a scope; there are jobs:read, jobs:write, strategies:read, strategies:write, candles:write, webhooks, cache and admin"
)]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| UnknownScope(text.chars().take(64).collect()))
    }
}

/// A set of scopes. No scope implies another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Every scope there is.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// The scopes, in the order of the documentation.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    /// Whether it allows nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds the scope.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_scope_has_one_name_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.name());
        }
    }

    #[test]
    fn an_unknown_scope_is_refused_with_the_known_ones() {
        let error = "jobs:*".parse::<Scope>().unwrap_err().to_string();
        assert!(Scope::ALL.iter().all(|scope| error.contains(scope.name())), "{error}");
        assert!("x".repeat(1_000_000).parse::<Scope>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn no_scope_implies_another() {
        for held in Scope::ALL {
            let scopes: Scopes = [held].into_iter().collect();
            assert_eq!(
                Scope::ALL.into_iter().filter(|scope| scopes.allow(*scope)).collect::<Vec<_>>(),
                [held]
            );
        }
    }
}

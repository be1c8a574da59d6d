//! Typed identifiers. Every one is text in Redis and JSON; none can be passed where another is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not an id of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a {1} id: expected a UUID such as 01981c2e-6f1c-7000-8000-000000000000")]
pub struct InvalidId(String, &'static str);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id; ids made later sort later (`UUIDv7`).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// When it was made, in milliseconds since 1970, by the clock of whoever made it.
            pub fn made_ms(&self) -> Option<i64> {
                let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
                i64::try_from(seconds * 1000 + u64::from(nanoseconds) / 1_000_000).ok()
            }

            pub(crate) fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let shown = || text.chars().take(64).collect();
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId(shown(), $what))
            }
        }
    };
}

uuid_id!(
    /// One tenant's request. The only id that clients ever see. Ids sort by the time at which they were made.
    JobId, "job"
);
uuid_id!(
    /// One computation that one or many jobs wait for.
    RunId, "run"
);

/// A fencing token: made at random by whoever claims a run, so that it never repeats, not even after data loss or
/// failover of Redis (a counter would).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence(Uuid);

impl Fence {
    /// A new token.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for Fence {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is: the caller made or checked it.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Who a job belongs to.
    TenantId
);
text_id!(
    /// Hash of everything that a result depends on (64 hexadecimal digits). Equal keys, equal results.
    CacheKey
);
text_id!(
    /// A worker process: host, process id and a random part, so that a restarted worker is another worker.
    WorkerId
);

impl TenantId {
    /// The tenant of every call while no API keys exist.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

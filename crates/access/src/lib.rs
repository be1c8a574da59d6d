#![doc = include_str!("../README.md")]

mod audit;
mod caller;
mod error;
mod gate;
mod key;
mod rate;
mod scope;
mod session;
mod store;
mod tenant;
mod token;

pub use audit::{Audit, AuditEntry, AuditPage};
pub use caller::Caller;
pub use error::{AccessError, Denied};
pub use gate::{AdminKey, FRESH, Gate, InvalidAdminKey};
pub use key::{ApiKey, InvalidKey, InvalidKeyId, KeyHash, KeyId, NoRandomness};
pub use rate::{InvalidRate, Rate, RateLimiter, Verdict};
pub use scope::{Scope, Scopes, UnknownScope};
pub use session::{IDLE, InvalidToken, LONGEST, SessionToken};
pub use store::{InvalidLabel, KeyStore, KeyTerms, KeyView, MOST_KEYS, parse_label};
pub use tenant::{InvalidTenant, parse_tenant};
pub use token::{IssuerError, TokenFault, TokenSettings, Tokens};

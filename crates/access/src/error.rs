//! Why somebody is refused, and why a call about keys failed.

use jobs::QueueError;

use crate::{
    key::{InvalidKey, KeyId, NoRandomness},
    token::{IssuerError, TokenFault},
};

/// Why nobody is let in. No text repeats what was shown: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// A key is needed, and none was shown.
    #[error("an API key is needed: send Authorization: Bearer jj_...")]
    NoKey,
    /// What was shown has not the form of a key.
    #[error(transparent)]
    Invalid(#[from] InvalidKey),
    /// No such key: made up, or revoked.
    #[error("this API key is not known here, or was revoked")]
    Unknown,
    /// The key's time is over.
    #[error("this API key has expired; ask whoever runs the server for another")]
    Expired,
    /// No session can be opened.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A token that is no good.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// Nobody can say whether a token is good.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Redis does not say.
    #[error(transparent)]
    Unavailable(#[from] QueueError),
}

/// Why a call about keys failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No key has this id.
    #[error("there is no key {0}; `keys list` shows those there are")]
    NotFound(KeyId),
    /// There are as many keys as there may be.
    #[error("there are {} keys already, which is the most; revoke some", crate::MOST_KEYS)]
    Full,
    /// No key can be made.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Redis.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

//! Why a blob could not be stored or read.

use std::path::PathBuf;

use super::{BlobId, LocationError, MAX_BYTES};
use crate::error::QueueError;

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store is away, too slow, or overloaded. Nothing was lost; the same call may be made again.
    #[error("the blob store is not available; nothing was lost, try again")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answers that it will not do this: trying again is of no use before somebody mended the settings.
    #[error(
        "the blob store refuses; check that its bucket or folder exists and may be read, written and listed"
    )]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder of the store.
    #[error("the folder {0} for blobs cannot be made")]
    Folder(PathBuf, #[source] std::io::Error),
    /// The setting that says where blobs are kept.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// More than any result or chunk has.
    #[error("a blob of more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Compression failed, or the stored bytes are damaged.
    #[error("a blob cannot be (de)compressed")]
    Codec(#[from] std::io::Error),
    /// What was read does not have the hash it is stored under.
    #[error("blob {0} is damaged: its content has another hash")]
    Damaged(BlobId),
    /// Not a hash.
    #[error("{0:?} is not a blob id")]
    InvalidId(String),
    /// The compression task was cancelled, as at shutdown.
    #[error("interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl BlobError {
    /// Whether the same call may succeed a little later, with nobody mending anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        match error {
            // What did not get through, or was answered with "later", after some attempts.
            object_store::Error::Generic { .. } | object_store::Error::JoinError { .. } => {
                Self::Unavailable(Box::new(error))
            }
            error => Self::Refused(Box::new(error)),
        }
    }
}

impl From<QueueError> for BlobError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Unavailable(_) => Self::Unavailable(Box::new(error)),
            error => Self::Refused(Box::new(error)),
        }
    }
}

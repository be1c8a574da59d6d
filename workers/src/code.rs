//! The strategies' code on a worker's disk: each set of bundles that ran together is unpacked once, into a folder of its own.

use std::sync::Arc;

use jesse::{
    disk_cache::{DiskCache, InUse},
    strategies::bundle,
};
use jobs::blobs::{BlobError, BlobId, BlobStore};

/// The folder of code in a worker's cache.
pub(crate) const FOLDER: &str = "bundles";

/// Why code cannot be brought here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// The bundles do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A bundle is gone.
    #[error("bundle {0} is not in the blob store any more")]
    Lost(BlobId),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The disk failed.
    #[error("code cannot be unpacked")]
    Io(#[from] std::io::Error),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) cache: Arc<DiskCache>,
    pub(crate) blobs: BlobStore,
}

impl Code {
    /// A folder with the files of these bundles, which stays for as long as the answer lives.
    pub(crate) async fn get(&self, bundles: &[BlobId]) -> Result<InUse, CodeError> {
        let names: Vec<_> = bundles.iter().map(BlobId::as_str).collect();
        let name = match names[..] {
            [one] => one.to_owned(),
            _ => BlobId::of(names.join("+").as_bytes()).as_str().to_owned(),
        };
        if let Some(there) = self.cache.find(FOLDER, &name)? {
            return Ok(there);
        }
        let mut archives = Vec::with_capacity(bundles.len());
        for id in bundles {
            archives.push(self.blobs.get(id).await?.ok_or_else(|| CodeError::Lost(id.clone()))?);
        }
        let cache = self.cache.clone();
        let unpack = move || cache.add(FOLDER, &name, |folder| bundle::unpack(&archives, folder));
        let unpacked = tokio::task::spawn_blocking(unpack).await.map_err(BlobError::from)?;
        unpacked.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => CodeError::Conflict(error.to_string()),
            _ => error.into(),
        })
    }
}

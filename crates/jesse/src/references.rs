//! Which candles and which code anything refers to.

use std::collections::HashSet;

use jobs::{
    Redis,
    blobs::{BlobId, BlobStore},
};

use crate::{
    candles::{
        Manifest,
        store::{CandleStore, StoreError},
    },
    published::Published,
};

/// The chunks of all series and the bundles of all strategies, as they are now.
///
/// # Errors
/// When Redis is away, or when a document cannot be read, as one that a newer version wrote: then nobody can say what is
/// not used.
pub async fn inputs_in_use(redis: &Redis, inputs: &BlobStore) -> Result<HashSet<BlobId>, StoreError> {
    let series = CandleStore::new(redis.clone(), inputs.clone()).list().await?;
    let mut used: HashSet<BlobId> = Published::new(redis.clone()).bundles().await?.into_iter().collect();
    for chunk in series.iter().flat_map(Manifest::chunks) {
        used.insert(chunk.hash.parse()?);
    }
    Ok(used)
}

//! Where candles are kept: chunks in the blob store, a manifest per series among the documents, and on a worker's disk
//! the chunks that it has used, as plain `.npy` files that its processes map into memory together.

use std::{io, path::PathBuf, sync::Arc};

use jobs::{
    Lock, QueueError, Redis,
    blobs::{BlobError, BlobId, BlobStore},
    documents::{Document, Documents},
};

use crate::disk_cache::{DiskCache, InUse};

use super::{
    Candle, ChunkError, Manifest, ManifestError, PlanError, Series, Source, chunk::Chunk, merge::merge_month,
    merge::plan_import,
};

/// The collection of manifests.
const COLLECTION: &str = "candles";
/// Somebody else may import into the same series at the same time; whoever is second starts over.
const TRIES: usize = 10;

/// Why candles cannot be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// They do not fit what is stored.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// They make no sound manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// They are not sound.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Redis failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The disk failed.
    #[error("candles cannot be written to {0}")]
    Io(PathBuf, #[source] io::Error),
    /// A manifest names a chunk that the blob store does not have.
    #[error("the candles {0} are not in the blob store; import them again")]
    ChunkLost(BlobId),
    /// Others changed the series all the time.
    #[error("{0} is being changed by others; try again")]
    Busy(Series),
}

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The series as it is now.
    pub manifest: Manifest,
    /// How many months were written, because they changed.
    pub months_written: usize,
}

/// The name of a series' manifest among the documents.
pub fn document_name(series: &Series) -> String {
    series.to_string()
}

/// The manifests of this deployment.
pub fn manifests(redis: Redis) -> Documents<Manifest> {
    Documents::new(redis, COLLECTION)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct CandleStore {
    redis: Redis,
    manifests: Documents<Manifest>,
    blobs: BlobStore,
}

impl CandleStore {
    /// Candles in this blob store and this Redis.
    pub fn new(redis: Redis, blobs: BlobStore) -> Self {
        Self { manifests: manifests(redis.clone()), redis, blobs }
    }

    /// All series, by name.
    pub async fn list(&self) -> Result<Vec<Manifest>, StoreError> {
        let names = self.manifests.names().await?;
        let found = self.manifests.get_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        Ok(found.into_iter().flatten().map(|document| document.value.clone()).collect())
    }

    /// One series, if any of it is stored.
    pub async fn manifest(&self, series: &Series) -> Result<Option<Manifest>, StoreError> {
        let found = self.manifests.get(&document_name(series)).await?;
        Ok(found.map(|document| document.value.clone()))
    }

    /// One series with its version: the hash of its manifest, which changes with every candle.
    pub async fn versioned(&self, series: &Series) -> Result<Option<Arc<Document<Manifest>>>, StoreError> {
        Ok(self.manifests.get(&document_name(series)).await?)
    }

    /// The lock of whoever brings a series up to its source, unless somebody holds it. [`CandleStore::import`] is safe without:
    /// the lock keeps two from asking for the same, and from leaving a hole between what each of them brings.
    pub async fn lock(&self, series: &Series) -> Result<Option<Lock>, StoreError> {
        Ok(Lock::try_take(&self.redis, &format!("candles/{}", document_name(series))).await?)
    }

    /// The manifest of a series that takes candles of this source: before any is brought here that could not be stored.
    pub async fn manifest_for(
        &self,
        series: &Series,
        source: Source,
    ) -> Result<Option<Manifest>, StoreError> {
        let stored = self.manifest(series).await?;
        if let Some(stored) = &stored {
            stored.accept(source).map_err(PlanError::from)?;
        }
        Ok(stored)
    }

    /// Adds candles to a series; a candle replaces the stored one of the same minute. Months that do not change keep
    /// their chunk.
    pub async fn import(
        &self,
        series: &Series,
        source: Source,
        candles: &[Candle],
    ) -> Result<Imported, StoreError> {
        let name = document_name(series);
        for _ in 0..TRIES {
            let stored = self.manifests.get(&name).await?;
            let manifest = stored.as_ref().map(|stored| &stored.value);
            let mut written = Vec::new();
            for month in plan_import(manifest, source, candles)? {
                let merged = match month.stored {
                    Some(chunk) => merge_month(&self.read(chunk).await?, month.new),
                    None => month.new.to_vec(),
                };
                let (chunk, bytes) = Chunk::new(&merged)?;
                if month.stored == Some(&chunk) {
                    continue;
                }
                // Even if it is there: what is about to be referred to must be young, or it may go as unused.
                self.blobs.put(bytes.into()).await?;
                written.push(chunk);
            }
            let months_written = written.len();
            if let Some(manifest) = manifest.filter(|_| written.is_empty()) {
                return Ok(Imported { manifest: manifest.clone(), months_written });
            }
            let changed = match manifest {
                Some(manifest) => manifest.replacing(written)?,
                None => Manifest::new(series.clone(), source, written)?,
            };
            let expected = stored.as_ref().map(|stored| stored.hash.as_str());
            if self.manifests.replace(&name, expected, &changed).await? {
                return Ok(Imported { manifest: changed, months_written });
            }
        }
        Err(StoreError::Busy(series.clone()))
    }

    /// The candles of one month of a manifest.
    pub async fn read(&self, chunk: &Chunk) -> Result<Vec<Candle>, StoreError> {
        let id: BlobId = chunk.hash.parse()?;
        let bytes = self.blobs.get(&id).await?.ok_or(StoreError::ChunkLost(id))?;
        Ok(chunk.read(&bytes)?)
    }
}

/// The folder of chunks in a worker's cache.
pub const FOLDER: &str = "candles";

/// The chunks that a worker has on its disk.
#[derive(Debug)]
pub struct ChunkFiles {
    cache: Arc<DiskCache>,
    blobs: BlobStore,
}

impl ChunkFiles {
    /// Chunks in this cache, fetched from this blob store when they are missing.
    pub fn new(cache: Arc<DiskCache>, blobs: BlobStore) -> Self {
        Self { cache, blobs }
    }

    /// The file of a chunk, which stays for as long as the answer lives. Its content is that hash's, whoever wrote it: files
    /// appear whole and never change.
    pub async fn get(&self, chunk: &BlobId) -> Result<InUse, StoreError> {
        let name = format!("{chunk}.npy");
        let io = |error| StoreError::Io(PathBuf::from(&name), error);
        if let Some(there) = self.cache.find(FOLDER, &name).map_err(io)? {
            return Ok(there);
        }
        let bytes = self.blobs.get(chunk).await?.ok_or_else(|| StoreError::ChunkLost(chunk.clone()))?;
        let (cache, target) = (self.cache.clone(), name.clone());
        let added = tokio::task::spawn_blocking(move || {
            cache.add(FOLDER, &target, |path| std::fs::write(path, &bytes))
        });
        added.await.map_err(BlobError::from)?.map_err(io)
    }
}

/// What a client wants to know of a series.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "Series")]
pub struct SeriesView {
    /// The exchange as Jesse spells it.
    pub exchange: String,
    /// The symbol.
    pub symbol: String,
    /// First minute, UTC.
    pub from: String,
    /// Just after the last minute, UTC.
    pub to: String,
    /// How many candles.
    pub rows: u64,
    /// How many times minutes are missing in between.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaps: usize,
    /// Made by a generator, not by a market.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(gaps: &usize) -> bool {
    *gaps == 0
}

impl From<&Manifest> for SeriesView {
    fn from(manifest: &Manifest) -> Self {
        let text = |ms: i64| {
            jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
        };
        Self {
            exchange: manifest.series().exchange().to_owned(),
            symbol: manifest.series().symbol().to_owned(),
            from: text(manifest.first_ms()),
            to: text(manifest.end_ms()),
            rows: manifest.rows(),
            gaps: manifest.gaps().count(),
            synthetic: matches!(manifest.source(), Source::Synthetic { .. }),
        }
    }
}

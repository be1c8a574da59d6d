//! The blob store: immutable bytes addressed by their hash, zstd-compressed. It holds result bodies, candle chunks and
//! strategy bundles: in a folder, in an object store that speaks S3, or in the jobs' Redis ([`BlobLocation`]).
//!
//! What is read has the hash that was asked for, or is an error. Storing the same bytes again makes them young.
//!
//! Not guaranteed: a blob may be evicted; then [`BlobStore::get`] answers `None`. What is stored again in the very
//! moment in which it is removed for its age may be gone, except in Redis.

mod error;
mod id;
mod in_redis;
mod location;
mod s3;

use std::{
    fmt,
    io::Read,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, path::Path};

pub use error::BlobError;
pub use id::BlobId;
use in_redis::InRedis;
pub use location::{BlobLocation, LocationError};

use crate::redis::Redis;

/// The level at which zstd still takes under a millisecond for a month's result.
const LEVEL: i32 = 3;

/// More than the largest result that may be allowed: what unpacks to more is damaged.
const MAX_BYTES: u64 = 512 << 20;

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    backend: Backend,
    part: &'static str,
}

#[derive(Clone)]
enum Backend {
    Objects { store: Arc<dyn ObjectStore>, root: Path },
    Redis(InRedis),
}

impl fmt::Debug for Backend {
    /// Without what is in a store's settings: they have keys among them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Objects { store, root } => write!(formatter, "{store} {root}"),
            Self::Redis(_) => formatter.write_str("Redis"),
        }
    }
}

impl BlobStore {
    fn path(&self, root: &Path, name: &str) -> Path {
        let folder: String = name.chars().take(2).collect();
        root.clone().join(self.part).join(folder).join(format!("{name}.zst"))
    }

    /// Stores bytes; the same bytes are stored once.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, BlobError> {
        let (id, packed) = pack(bytes).await?;
        self.store(id.as_str(), packed).await?;
        Ok(id)
    }

    /// Stores bytes under a name of the caller's own choice, which nobody else uses: then it can be deleted although
    /// others stored the same bytes. Answers their hash and how many bytes they take up in the store.
    pub async fn put_as(&self, name: &str, bytes: Bytes) -> Result<(BlobId, u64), BlobError> {
        let (id, packed) = pack(bytes).await?;
        let size = packed.len() as u64;
        self.store(name, packed).await?;
        Ok((id, size))
    }

    async fn store(&self, name: &str, packed: Vec<u8>) -> Result<(), BlobError> {
        match &self.backend {
            Backend::Objects { store, root } => {
                store.put(&self.path(root, name), PutPayload::from(packed)).await?;
            }
            Backend::Redis(redis) => redis.put(self.part, name, &packed).await?,
        }
        Ok(())
    }

    /// The bytes of a blob, checked against its hash; `None` when it is not (or no longer) stored.
    pub async fn get(&self, id: &BlobId) -> Result<Option<Bytes>, BlobError> {
        self.get_as(id.as_str(), id).await
    }

    /// The same of what [`BlobStore::put_as`] stored under this name.
    pub async fn get_as(&self, name: &str, id: &BlobId) -> Result<Option<Bytes>, BlobError> {
        let packed = match &self.backend {
            Backend::Objects { store, root } => match store.get(&self.path(root, name)).await {
                Ok(found) => Some(found.bytes().await?),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            },
            Backend::Redis(redis) => redis.get(self.part, name).await?,
        };
        let Some(packed) = packed else { return Ok(None) };
        let id = id.clone();
        tokio::task::spawn_blocking(move || unpack(id, &packed).map(Some)).await?
    }

    /// Deletes what is stored under this name: one given to [`BlobStore::put_as`], or a blob's id. What is not there (any
    /// more) is deleted.
    pub async fn delete(&self, name: &str) -> Result<(), BlobError> {
        match &self.backend {
            Backend::Objects { store, root } => remove(store, &self.path(root, name)).await,
            Backend::Redis(redis) => Ok(redis.remove(self.part, name).await?),
        }
    }

    /// Removes what was last stored longer ago than `age`; answers how many.
    pub async fn remove_older_than(&self, age: Duration) -> Result<usize, BlobError> {
        let (store, root) = match &self.backend {
            Backend::Objects { store, root } => (store, root),
            Backend::Redis(redis) => return Ok(redis.remove_older_than(self.part, age).await?),
        };
        let old = |blob: &ObjectMeta| is_older(blob, age);
        let part = root.clone().join(self.part);
        let mut found = store.list(Some(&part));
        let mut removed = 0;
        while let Some(blob) = found.next().await.transpose()? {
            if !old(&blob) {
                continue;
            }
            // The list may be minutes old where it comes in pages; meanwhile somebody may have stored the blob again.
            match store.head(&blob.location).await {
                Ok(now) if old(&now) => {
                    remove(store, &blob.location).await?;
                    removed += 1;
                }
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    /// Removes what is stored under this name if that was last stored longer ago than `age`. Answers whether it is gone, as
    /// it also is when it was not there.
    pub async fn remove_if_older(&self, name: &str, age: Duration) -> Result<bool, BlobError> {
        let (store, root) = match &self.backend {
            Backend::Objects { store, root } => (store, root),
            Backend::Redis(redis) => return Ok(redis.remove_if_older(self.part, name, age).await?),
        };
        let path = self.path(root, name);
        match store.head(&path).await {
            Ok(blob) if is_older(&blob, age) => remove(store, &path).await.map(|()| true),
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The ids of all that was stored by its hash, a few at a time, in no order. What is stored meanwhile may be missing;
    /// an id may come twice.
    pub fn ids(&self) -> BoxStream<'_, Result<BlobId, BlobError>> {
        let names = match &self.backend {
            Backend::Objects { store, root } => {
                let found = store.list(Some(&root.clone().join(self.part)));
                let name = |blob: ObjectMeta| {
                    blob.location.filename().and_then(|name| name.strip_suffix(".zst")).map(str::to_owned)
                };
                found.map(move |blob| Ok(name(blob?).unwrap_or_default())).boxed()
            }
            Backend::Redis(redis) => {
                let page = move |from: Option<u64>| async move {
                    let Some(from) = from else { return Ok::<_, BlobError>(None) };
                    let (next, names) = redis.names(self.part, from).await?;
                    let names = futures::stream::iter(names.into_iter().map(Ok));
                    Ok(Some((names, Some(next).filter(|next| *next != 0))))
                };
                futures::stream::try_unfold(Some(0), page).try_flatten().boxed()
            }
        };
        // Others have names of somebody's own choice.
        names.try_filter_map(async |name: String| Ok(name.parse().ok())).boxed()
    }
}

fn is_older(blob: &ObjectMeta, age: Duration) -> bool {
    SystemTime::from(blob.last_modified).elapsed().is_ok_and(|elapsed| elapsed > age)
}

/// The hash of the bytes, and the bytes compressed.
async fn pack(bytes: Bytes) -> Result<(BlobId, Vec<u8>), BlobError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(BlobError::TooLarge);
    }
    tokio::task::spawn_blocking(move || {
        let packed = zstd::bulk::compress(&bytes, LEVEL)?;
        Ok((BlobId::of(&bytes), packed))
    })
    .await?
}

async fn remove(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<(), BlobError> {
    match store.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn unpack(id: BlobId, packed: &[u8]) -> Result<Bytes, BlobError> {
    let mut bytes = Vec::new();
    // Few damaged bytes may claim to be endlessly many.
    zstd::stream::Decoder::new(packed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if BlobId::of(&bytes) == id { Ok(bytes.into()) } else { Err(BlobError::Damaged(id)) }
}

/// The parts of a deployment's blob store.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// Candles and strategies.
    pub inputs: BlobStore,
    /// Results, which expire.
    pub results: BlobStore,
}

impl Blobs {
    /// The blobs at this place. A folder is made if it is missing; of Redis and S3 nothing is asked yet. The settings
    /// of S3 are the `AWS_*` among `variables`.
    pub fn open(
        location: &BlobLocation,
        redis: &Redis,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BlobError> {
        match location {
            BlobLocation::Folder(folder) => Self::in_folder(folder),
            BlobLocation::Redis => Ok(Self::on(&Backend::Redis(InRedis(redis.clone())))),
            BlobLocation::S3 { bucket, prefix } => {
                let store = s3::open(bucket, variables)?;
                Ok(Self::on(&Backend::Objects { store, root: prefix.clone() }))
            }
        }
    }

    /// In one folder, which is made if it is missing. Several machines may share the folder.
    pub fn in_folder(folder: &std::path::Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(folder).map_err(|error| BlobError::Folder(folder.to_owned(), error))?;
        let store =
            object_store::local::LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
        Ok(Self::on(&Backend::Objects { store: Arc::new(store), root: Path::default() }))
    }

    fn on(backend: &Backend) -> Self {
        let part = |part| BlobStore { backend: backend.clone(), part };
        Self { inputs: part("inputs"), results: part("results") }
    }

    /// Asks the store something harmless, so that a wrong bucket or key is noticed at the start rather than when the
    /// first result is to be stored.
    pub async fn check(&self) -> Result<(), BlobError> {
        match &self.inputs.backend {
            Backend::Redis(redis) => Ok(redis.0.ping().await?),
            Backend::Objects { store, root } => {
                match store.head(&root.clone().join("none")).await {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                // The store answers and knows the key. Why it does not list is not told apart; a bucket that is missing
                // is the likely reason, not that it went away in this moment.
                let first = store.list(Some(root)).next().await;
                first.transpose().map(|_| ()).map_err(|error| BlobError::Refused(Box::new(error)))
            }
        }
    }
}

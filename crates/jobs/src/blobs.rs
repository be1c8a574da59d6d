//! The blob store: immutable bytes addressed by their hash, zstd-compressed. It holds result bodies, candle chunks and
//! strategy bundles. Kept on a file system or an object store, so that Redis stays small.
//!
//! Not guaranteed: a blob may be evicted; then [`BlobStore::get`] answers `None`.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use serde::{Deserialize, Serialize};

/// The level at which zstd still takes under a millisecond for a month's result.
const LEVEL: i32 = 3;

/// The hash of a blob's bytes before compression (64 hexadecimal digits).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(String);

impl BlobId {
    /// The id that these bytes have.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BlobId {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        let valid =
            text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid { Ok(Self(text.into())) } else { Err(BlobError::InvalidId(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for BlobId {
    type Error = BlobError;

    fn try_from(text: String) -> Result<Self, BlobError> {
        text.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.0
    }
}

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store itself failed.
    #[error("the blob store failed")]
    Store(#[from] object_store::Error),
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

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    store: Arc<dyn ObjectStore>,
    part: Path,
}

impl BlobStore {
    /// A store in a folder, which is made if it is missing. Several machines may share the folder.
    pub fn in_folder(folder: &std::path::Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(folder)?;
        let store =
            object_store::local::LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
        Ok(Self { store: Arc::new(store), part: Path::default() })
    }

    /// A part of the store with a life of its own, such as the results, which expire, beside the inputs, which do not.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self { store: self.store.clone(), part: self.part.clone().join(name) }
    }

    fn path(&self, name: &str) -> Path {
        let folder: String = name.chars().take(2).collect();
        self.part.clone().join(folder).join(format!("{name}.zst"))
    }

    /// Removes what was last stored longer ago than `age`; answers how many.
    pub async fn remove_older_than(&self, age: Duration) -> Result<usize, BlobError> {
        let mut found = self.store.list(Some(&self.part));
        let mut removed = 0;
        while let Some(blob) = found.next().await.transpose()? {
            let stored = SystemTime::from(blob.last_modified);
            if stored.elapsed().is_ok_and(|elapsed| elapsed > age) {
                self.store.delete(&blob.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Stores bytes; the same bytes are stored once.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, BlobError> {
        let (id, packed) = pack(bytes).await?;
        self.store.put(&self.path(&id.0), PutPayload::from(packed)).await?;
        Ok(id)
    }

    /// Stores bytes under a name of the caller's own choice, which nobody else uses: then it can be deleted although
    /// others stored the same bytes. Answers their hash and how many bytes they take up in the store.
    pub async fn put_as(&self, name: &str, bytes: Bytes) -> Result<(BlobId, u64), BlobError> {
        let (id, packed) = pack(bytes).await?;
        let size = packed.len() as u64;
        self.store.put(&self.path(name), PutPayload::from(packed)).await?;
        Ok((id, size))
    }

    /// Deletes what [`BlobStore::put_as`] stored. What is not there (any more) is deleted.
    pub async fn delete(&self, name: &str) -> Result<(), BlobError> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of a blob, checked against its hash; `None` when it is not (or no longer) stored.
    pub async fn get(&self, id: &BlobId) -> Result<Option<Bytes>, BlobError> {
        self.get_as(&id.0, id).await
    }

    /// The same of what [`BlobStore::put_as`] stored under this name.
    pub async fn get_as(&self, name: &str, id: &BlobId) -> Result<Option<Bytes>, BlobError> {
        let packed = match self.store.get(&self.path(name)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let id = id.clone();
        tokio::task::spawn_blocking(move || {
            let bytes = zstd::stream::decode_all(packed.as_ref())?;
            if BlobId::of(&bytes) == id { Ok(Some(bytes.into())) } else { Err(BlobError::Damaged(id)) }
        })
        .await?
    }
}

/// The hash of the bytes, and the bytes compressed.
async fn pack(bytes: Bytes) -> Result<(BlobId, Vec<u8>), BlobError> {
    tokio::task::spawn_blocking(move || {
        let packed = zstd::bulk::compress(&bytes, LEVEL)?;
        Ok((BlobId::of(&bytes), packed))
    })
    .await?
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
    /// Both in one folder, which is made if it is missing. Several machines may share the folder.
    pub fn in_folder(folder: &std::path::Path) -> Result<Self, BlobError> {
        let all = BlobStore::in_folder(folder)?;
        Ok(Self { inputs: all.part("inputs"), results: all.part("results") })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn what_is_put_is_got_and_a_damaged_blob_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::in_folder(folder.path()).unwrap();
        let id = store.put(Bytes::from_static(b"some bytes")).await.unwrap();
        assert_eq!(store.put(Bytes::from_static(b"some bytes")).await.unwrap(), id);
        assert_eq!(store.get(&id).await.unwrap().unwrap(), "some bytes");
        assert_eq!(store.get(&BlobId::of(b"other")).await.unwrap(), None);

        let file = folder.path().join(store.path(id.as_str()).to_string());
        std::fs::write(&file, zstd::bulk::compress(b"other bytes", 1).unwrap()).unwrap();
        assert!(matches!(store.get(&id).await, Err(BlobError::Damaged(_))));
    }

    #[tokio::test]
    async fn what_has_a_name_of_its_own_goes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::in_folder(folder.path()).unwrap();
        let bytes = Bytes::from_static(b"some bytes");
        let (id, size) = store.put_as("one", bytes.clone()).await.unwrap();
        assert_eq!(store.put_as("two", bytes.clone()).await.unwrap(), (id.clone(), size));
        let on_disk = std::fs::metadata(folder.path().join(store.path("two").to_string())).unwrap();
        assert_eq!(on_disk.len(), size);
        store.delete("one").await.unwrap();
        store.delete("one").await.unwrap();
        assert_eq!(store.get_as("one", &id).await.unwrap(), None);
        assert_eq!(store.get_as("two", &id).await.unwrap().unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_part_expires_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::in_folder(folder.path()).unwrap();
        let (inputs, results) = (store.part("inputs"), store.part("results"));
        let id = inputs.put(Bytes::from_static(b"some bytes")).await.unwrap();
        results.put(Bytes::from_static(b"some bytes")).await.unwrap();
        assert_eq!(results.remove_older_than(Duration::from_mins(1)).await.unwrap(), 0);
        assert_eq!(results.remove_older_than(Duration::ZERO).await.unwrap(), 1);
        assert_eq!((results.get(&id).await.unwrap(), inputs.get(&id).await.unwrap().is_some()), (None, true));
    }

    #[test]
    fn only_a_hash_is_a_blob_id() {
        assert!(BlobId::of(b"").as_str().parse::<BlobId>().is_ok());
        for text in ["", "abc", "../../etc/passwd", &"Z".repeat(64)] {
            assert!(text.parse::<BlobId>().is_err(), "{text}");
        }
    }
}

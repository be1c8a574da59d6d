//! One contract for the three places where blobs can be kept, on a real Redis and a real S3 server.
use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use jobs::{
    Redis,
    blobs::{BlobError, BlobId, BlobLocation, BlobStore, Blobs},
};

use crate::{
    s3_server::{BUCKET, S3Server},
    server::TestRedis,
};

/// A store, and what is needed to do it harm.
struct Place {
    blobs: Blobs,
    harm: Harm,
}

enum Harm {
    Folder(tempfile::TempDir),
    S3 { server: S3Server, objects: PathBuf },
    Redis(TestRedis),
}

impl Place {
    fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = BlobLocation::Folder(folder.path().join("made/for it"));
        let redis = Redis::open("redis://127.0.0.1:1", "unused", 1).unwrap();
        Self { blobs: Blobs::open(&location, &redis, []).unwrap(), harm: Harm::Folder(folder) }
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let blobs = on_s3(&format!("s3://{BUCKET}/a/prefix"), server.variables());
        let objects = server.bucket().join("a/prefix");
        Self { blobs, harm: Harm::S3 { server, objects } }
    }

    async fn redis() -> Self {
        let server = TestRedis::own().await;
        let redis = Redis::open(server.url(), server.name(), 2).unwrap();
        Self { blobs: Blobs::open(&BlobLocation::Redis, &redis, []).unwrap(), harm: Harm::Redis(server) }
    }

    /// Puts other bytes under a result's name.
    async fn overwrite(&self, id: &BlobId, packed: &[u8]) {
        let name = format!("results/{}/{id}.zst", &id.as_str()[..2]);
        let file = match &self.harm {
            Harm::Folder(folder) => folder.path().join("made/for it").join(name),
            Harm::S3 { objects, .. } => objects.join(name),
            Harm::Redis(server) => {
                let key = format!("{{{}}}:blob:results/{id}", server.name());
                let mut set = redis::cmd("SET");
                // As a replacement: a name of another form would make this test nothing.
                set.arg(key).arg(packed).arg("XX");
                let set: Option<String> = set.query_async(&mut server.raw().await).await.unwrap();
                assert!(set.is_some());
                return;
            }
        };
        assert!(file.is_file());
        std::fs::write(file, packed).unwrap();
    }
}

fn on_s3(location: &str, variables: Vec<(String, String)>) -> Blobs {
    let redis = Redis::open("redis://127.0.0.1:1", "unused", 1).unwrap();
    Blobs::open(&location.parse().unwrap(), &redis, variables).unwrap()
}

/// Bytes that do not compress, other ones for each seed.
fn noise(length: usize, seed: &str) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn keeps_the_contract(place: &Place) {
    place.blobs.check().await.unwrap();
    let Blobs { inputs, results } = &place.blobs;
    put_get_remove(results).await;
    names_of_their_own(results).await;
    all_are_listed_and_the_young_stay(inputs).await;
    parts_expire_apart(inputs, results).await;
    many_writers(results).await;
    damage_is_noticed(place).await;
}

async fn put_get_remove(store: &BlobStore) {
    let bytes = Bytes::from_static(b"some bytes");
    let id = store.put(bytes.clone()).await.unwrap();
    assert_eq!(id, BlobId::of(&bytes));
    assert_eq!(store.get(&id).await.unwrap(), Some(bytes.clone()));
    assert_eq!(store.put(bytes).await.unwrap(), id);
    assert_eq!(store.get(&BlobId::of(b"other")).await.unwrap(), None);
    store.delete(id.as_str()).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), None);
    store.delete(id.as_str()).await.unwrap();
    for bytes in [Bytes::new(), Bytes::from(vec![0; 40 << 20]), noise(24 << 20, "large")] {
        let id = store.put(bytes.clone()).await.unwrap();
        assert!(store.get(&id).await.unwrap() == Some(bytes));
        store.delete(id.as_str()).await.unwrap();
    }
}

async fn names_of_their_own(store: &BlobStore) {
    let bytes = Bytes::from_static(b"the same bytes");
    let (id, size) = store.put_as("one", bytes.clone()).await.unwrap();
    assert_eq!(store.put_as("two", bytes.clone()).await.unwrap(), (id.clone(), size));
    store.delete("one").await.unwrap();
    assert_eq!(store.get_as("one", &id).await.unwrap(), None);
    assert_eq!(store.get_as("two", &id).await.unwrap(), Some(bytes));
    assert_eq!(store.get(&id).await.unwrap(), None, "what has a name is not found by its hash");
    store.delete("two").await.unwrap();
}

async fn all_are_listed_and_the_young_stay(store: &BlobStore) {
    let mut stored = std::collections::BTreeSet::new();
    // More than one page.
    for number in 0..250 {
        stored.insert(store.put(format!("listed {number}").into()).await.unwrap());
    }
    store.put_as("by-another-name", Bytes::from_static(b"not by its hash")).await.unwrap();
    let ids = || async { store.ids().try_collect::<std::collections::BTreeSet<_>>().await.unwrap() };
    assert!(ids().await == stored);
    let hour = Duration::from_hours(1);
    for id in &stored {
        assert!(!store.remove_if_older(id.as_str(), hour).await.unwrap());
    }
    assert!(ids().await == stored);
    assert!(store.remove_if_older(BlobId::of(b"nowhere").as_str(), hour).await.unwrap());
    // Stores tell time in seconds.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let again = store.put("listed 0".into()).await.unwrap();
    let old = BlobId::of(b"listed 1");
    let seconds = Duration::from_secs(2);
    assert!(!store.remove_if_older(again.as_str(), seconds).await.unwrap());
    assert!(store.remove_if_older(old.as_str(), seconds).await.unwrap());
    assert!(store.get(&again).await.unwrap().is_some() && store.get(&old).await.unwrap().is_none());
    for id in stored {
        store.delete(id.as_str()).await.unwrap();
    }
    store.delete("by-another-name").await.unwrap();
}

async fn parts_expire_apart(inputs: &BlobStore, results: &BlobStore) {
    let some = |name: &str| Bytes::from(name.to_owned());
    let kept = inputs.put(some("0")).await.unwrap();
    // More than one call takes.
    for number in 0..130 {
        results.put(some(&number.to_string())).await.unwrap();
    }
    assert_eq!(results.get(&kept).await.unwrap(), Some(some("0")));
    assert_eq!(results.remove_older_than(Duration::from_mins(1)).await.unwrap(), 0);
    // Stores tell time in seconds.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let young = results.put(some("7")).await.unwrap();
    assert_eq!(results.remove_older_than(Duration::from_secs(2)).await.unwrap(), 129);
    assert_eq!(results.get(&young).await.unwrap(), Some(some("7")));
    assert_eq!(results.get(&kept).await.unwrap(), None);
    assert_eq!(inputs.get(&kept).await.unwrap(), Some(some("0")));
    results.delete(young.as_str()).await.unwrap();
}

async fn many_writers(store: &BlobStore) {
    let writers: Vec<_> = (0..32)
        .map(|number| {
            // Every four write the same.
            let (store, bytes) = (store.clone(), noise(200_000, &(number / 4).to_string()));
            tokio::spawn(async move {
                let id = store.put(bytes.clone()).await.unwrap();
                assert!(store.get(&id).await.unwrap() == Some(bytes));
                id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for writer in writers {
        ids.push(writer.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 8);
    for id in ids {
        assert_eq!(store.get(&id).await.unwrap().map(|bytes| bytes.len()), Some(200_000));
    }
}

async fn damage_is_noticed(place: &Place) {
    let store = &place.blobs.results;
    let id = store.put(noise(10_000, "damage")).await.unwrap();
    for (packed, as_expected) in [
        (zstd::bulk::compress(b"other bytes", 1).unwrap(), true),
        (b"no zstd at all".to_vec(), false),
        (zstd::bulk::compress(&noise(10_000, "damage"), 1).unwrap()[..5_000].to_vec(), false),
        (Vec::new(), false),
    ] {
        place.overwrite(&id, &packed).await;
        let error = store.get(&id).await.unwrap_err();
        let other_hash = matches!(&error, BlobError::Damaged(damaged) if *damaged == id);
        assert!(if as_expected { other_hash } else { matches!(error, BlobError::Codec(_)) }, "{error:?}");
        assert!(!error.is_retryable());
    }
    // Storing it again mends it.
    store.put(noise(10_000, "damage")).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), Some(noise(10_000, "damage")));
}

async fn is_away(blobs: &Blobs) {
    let id = BlobId::of(b"some bytes");
    for error in [
        blobs.results.put(Bytes::from_static(b"some bytes")).await.unwrap_err(),
        blobs.results.get(&id).await.unwrap_err(),
        blobs.results.delete(id.as_str()).await.unwrap_err(),
        blobs.results.remove_older_than(Duration::ZERO).await.unwrap_err(),
        blobs.check().await.unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(error.to_string(), "the blob store is not available; nothing was lost, try again");
    }
}

#[tokio::test]
async fn a_folder_keeps_blobs() {
    keeps_the_contract(&Place::folder()).await;
}

#[tokio::test]
async fn redis_keeps_blobs() {
    let mut place = Place::redis().await;
    keeps_the_contract(&place).await;
    let Harm::Redis(server) = &mut place.harm else { unreachable!() };
    server.stop().await;
    is_away(&place.blobs).await;
    server.start().await;
    place.blobs.check().await.unwrap();
}

#[tokio::test]
async fn s3_keeps_blobs() {
    let mut place = Place::s3().await;
    keeps_the_contract(&place).await;
    let Harm::S3 { server, .. } = &mut place.harm else { unreachable!() };
    server.stop().await;
    is_away(&place.blobs).await;
}

#[tokio::test]
async fn s3_without_the_bucket_or_the_key_is_refused() {
    let server = S3Server::start().await;
    let refused = |error: BlobError| {
        assert!(matches!(error, BlobError::Refused(_)) && !error.is_retryable(), "{error:?}");
    };
    refused(on_s3("s3://no-such-bucket/x", server.variables()).check().await.unwrap_err());
    let wrong_key = server.variables().into_iter().map(|(name, value)| {
        let value = if name == "AWS_SECRET_ACCESS_KEY" { "another secret".into() } else { value };
        (name, value)
    });
    let blobs = on_s3(&format!("s3://{BUCKET}"), wrong_key.collect());
    refused(blobs.check().await.unwrap_err());
    refused(blobs.results.put(Bytes::from_static(b"some bytes")).await.unwrap_err());
    refused(blobs.results.get(&BlobId::of(b"some bytes")).await.unwrap_err());
    assert!(!format!("{blobs:?}").contains("another secret"));
}

#[tokio::test]
async fn a_variable_of_s3_that_does_not_fit_is_named() {
    let redis = Redis::open("redis://127.0.0.1:1", "unused", 1).unwrap();
    let location = "s3://a-bucket".parse().unwrap();
    let variables = [("AWS_ALLOW_HTTP".to_owned(), "perhaps".to_owned())];
    let error = jobs::chain(&Blobs::open(&location, &redis, variables).unwrap_err());
    assert!(error.contains("AWS_*") && error.contains("perhaps"), "{error}");
}

//! Blobs in the Redis that the jobs are in: one key each, and per part a sorted set of ids by when they were stored.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    error::QueueError,
    redis::Redis,
    scripts::{BLOB_EXPIRE, BLOB_PUT, BLOB_REMOVE, BLOBS_EXPIRE},
};

/// How many blobs one call removes at most.
const AT_ONCE: usize = 100;

#[derive(Debug, Clone)]
pub(super) struct InRedis(pub(super) Redis);

impl InRedis {
    pub(super) async fn put(&self, part: &str, name: &str, packed: &[u8]) -> Result<(), QueueError> {
        let mut call = BLOB_PUT.prepare_invoke();
        call.key(self.0.keys().blob(part, name)).key(self.0.keys().blobs(part));
        call.arg(name).arg(packed);
        self.0.invoke(&call).await
    }

    pub(super) async fn get(&self, part: &str, name: &str) -> Result<Option<Bytes>, QueueError> {
        let mut read = redis::cmd("GET");
        read.arg(self.0.keys().blob(part, name));
        Ok(self.0.query::<Option<Vec<u8>>>(&read).await?.map(Bytes::from))
    }

    pub(super) async fn remove(&self, part: &str, name: &str) -> Result<(), QueueError> {
        let mut call = BLOB_REMOVE.prepare_invoke();
        call.key(self.0.keys().blob(part, name)).key(self.0.keys().blobs(part)).arg(name);
        self.0.invoke(&call).await
    }

    /// Some of the names in a part, and where to go on; 0 at the begin and after the end. A name may come twice.
    pub(super) async fn names(&self, part: &str, from: u64) -> Result<(u64, Vec<String>), QueueError> {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(self.0.keys().blobs(part)).arg(from).arg("COUNT").arg(AT_ONCE);
        let (next, found): (u64, Vec<(String, f64)>) = self.0.query(&scan).await?;
        Ok((next, found.into_iter().map(|(name, _)| name).collect()))
    }

    pub(super) async fn remove_if_older(
        &self,
        part: &str,
        name: &str,
        age: Duration,
    ) -> Result<bool, QueueError> {
        let mut call = BLOB_EXPIRE.prepare_invoke();
        call.key(self.0.keys().blob(part, name)).key(self.0.keys().blobs(part));
        call.arg(name).arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self.0.invoke(&call).await
    }

    pub(super) async fn remove_older_than(&self, part: &str, age: Duration) -> Result<usize, QueueError> {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let mut removed = 0;
        loop {
            let mut call = BLOBS_EXPIRE.prepare_invoke();
            // The names of the blobs follow from the ids; they share the hash tag of the set's key.
            call.key(self.0.keys().blobs(part)).arg(self.0.keys().blob(part, "")).arg(age_ms).arg(AT_ONCE);
            let some: usize = self.0.invoke(&call).await?;
            removed += some;
            if some < AT_ONCE {
                return Ok(removed);
            }
        }
    }
}

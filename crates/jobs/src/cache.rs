//! Stored results as a cache: how large it is, what goes to make room, and what is invalidated.
//!
//! Equal cache keys mean equal results, so an edit, a re-import or an upgrade misses by itself. On top of that results
//! expire, are evicted when all together grow too large (least recently used first, never what an open batch used), and
//! can be invalidated. An invalidation holds from the moment it is recorded: results that it means answer no job any more,
//! although they are removed in chunks after that; a run that had begun before hands its result to those who wait for
//! it, but to nobody else, and is not joined any more (in the same millisecond of Redis's clock counts as before). Whoever invalidates goes through the chunks; workers go on with what
//! it could not.
//!
//! Results have no index by strategy, symbol and so on: that would cost every finished run several writes and some
//! hundred bytes, to save a walk through all results at each of the few invalidations.
//!
//! A body is in a file of its own (see [`crate::Stored`]). The script that removes a result from Redis writes the file's
//! name down in the same step; workers delete what is written down and then strike it out. Not guaranteed: that the
//! file of a worker that died before it handed in its result goes before the results' time is over.

use std::collections::HashMap;

use crate::{
    blobs::BlobStore,
    error::QueueError,
    facets::Selector,
    ids::CacheKey,
    queue::{Queue, parse},
};

/// How many files are deleted between two looks at the list.
const DELETED_AT_ONCE: usize = 100;
/// How many chunks one round of eviction takes at most, so that other work of the same task gets its turn.
const EVICTED_AT_ONCE: usize = 50;

/// How the cache is doing. The counters are those of the deployment, since its Redis was new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Results that are stored.
    pub entries: u64,
    /// Bytes that they take up, bodies as they are stored and records together.
    pub bytes: u64,
    /// The most bytes they may take up, once a worker has said so.
    pub max_bytes: Option<u64>,
    /// Jobs that a stored result answered.
    pub hits: u64,
    /// Jobs that would have taken a stored result, but had to be computed.
    pub misses: u64,
    /// Jobs that joined a run in flight.
    pub coalesced: u64,
    /// Results removed to make room.
    pub evicted: u64,
    /// Results invalidated.
    pub invalidated: u64,
    /// When the result that was not used for longest was last used (seconds since 1970): the next to be evicted.
    pub oldest_use_s: Option<i64>,
}

/// What a round of eviction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Results removed.
    pub results: u64,
}

impl Queue {
    /// Invalidates the result with this key; answers how many were stored, which is at most one.
    pub async fn invalidate_key(&self, key: &CacheKey) -> Result<u64, QueueError> {
        let mut call = self.call(&self.scripts.invalidate);
        call.arg("").arg(key.as_str());
        let (removed, _): (u64, String) = self.ask(&call).await?;
        Ok(removed)
    }

    /// Invalidates all results that are meant; answers how many were stored. Takes time in proportion to how many
    /// results there are, in short steps; it is in force from the first.
    pub async fn invalidate(&self, selector: &Selector) -> Result<u64, QueueError> {
        let selector = selector.to_text();
        let mut call = self.call(&self.scripts.invalidate);
        call.arg(&selector).arg("");
        let (_, answer): (u64, String) = self.ask(&call).await?;
        if answer == "busy" {
            return Err(QueueError::Invalidating);
        }
        self.purge(&selector).await
    }

    async fn purge(&self, selector: &str) -> Result<u64, QueueError> {
        let mut call = self.call(&self.scripts.purge);
        call.arg(selector);
        let mut most = 0;
        loop {
            let (removed, more): (u64, u8) = self.redis.invoke(&call).await?;
            // Nothing when a worker took the last step.
            most = most.max(removed);
            if more == 0 {
                return Ok(most);
            }
        }
    }

    /// One round of the reconciler of results: makes room until all take up at most `max_bytes`, and goes on with
    /// invalidations that others began.
    pub async fn evict(&self, max_bytes: u64) -> Result<Evicted, QueueError> {
        let mut call = self.call(&self.scripts.evict);
        call.arg(max_bytes);
        let mut evicted = Evicted::default();
        for _ in 0..EVICTED_AT_ONCE {
            let (results, more, purging): (u64, u8, Vec<String>) = self.redis.invoke(&call).await?;
            evicted.results += results;
            for selector in &purging {
                self.purge(selector).await?;
            }
            if more == 0 {
                break;
            }
        }
        Ok(evicted)
    }

    /// How the cache is doing.
    pub async fn cache_stats(&self) -> Result<CacheStats, QueueError> {
        type Found = (u64, (Option<u64>, Option<u64>), Vec<(String, f64)>, HashMap<String, u64>);
        let keys = self.redis.keys();
        let mut read = redis::pipe();
        read.zcard(keys.cached());
        read.cmd("HMGET").arg(keys.cache()).arg("bytes").arg("max");
        read.zrange_withscores(keys.cached(), 0, 0).hgetall(keys.stats());
        let (entries, (bytes, max_bytes), oldest, counters): Found = self.redis.pipeline(&read).await?;
        let counter = |name: &str| counters.get(name).copied().unwrap_or_default();
        Ok(CacheStats {
            entries,
            bytes: bytes.unwrap_or_default(),
            max_bytes,
            hits: counter("cache_hits"),
            misses: counter("cache_misses"),
            coalesced: counter("coalesced"),
            evicted: counter("cache_evicted"),
            invalidated: counter("cache_invalidated"),
            oldest_use_s: oldest.first().map(|(_, score)| last_use_s(*score)),
        })
    }

    async fn garbage(&self) -> Result<Vec<String>, QueueError> {
        let mut read = redis::cmd("SRANDMEMBER");
        read.arg(self.redis.keys().garbage()).arg(DELETED_AT_ONCE);
        self.redis.query(&read).await
    }

    async fn strike_out(&self, files: &[String]) -> Result<(), QueueError> {
        let mut remove = redis::cmd("SREM");
        remove.arg(self.redis.keys().garbage()).arg(files);
        self.redis.query(&remove).await
    }
}

/// The second in a result's score, as `results.lua` writes it.
#[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
fn last_use_s(score: f64) -> i64 {
    (score / 2_097_152.0).floor() as i64
}

/// Deletes the bodies that belong to no result any more; answers how many. Any number of processes may do so at once,
/// and one that dies leaves the rest to the others.
pub async fn collect_garbage(queue: &Queue, results: &BlobStore) -> Result<usize, QueueError> {
    let mut deleted = 0;
    loop {
        let files = queue.garbage().await?;
        if files.is_empty() {
            return Ok(deleted);
        }
        for file in &files {
            // What a name may be is decided here: it becomes a path.
            if parse::<crate::Fence>(file).is_ok() {
                results.delete(file).await?;
            }
        }
        queue.strike_out(&files).await?;
        deleted += files.len();
    }
}

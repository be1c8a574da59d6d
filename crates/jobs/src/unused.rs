//! Candles and code that nothing refers to any more. They stay for as long as a job that was planned with them, or the
//! receipt of a result, may still ask for them; then they go.
//!
//! Guaranteed: what goes was in no reference at the first sweep of its waiting time and just before it went, was stored by
//! nobody within that time, and no job is open that is older than its waiting time or, by [`Patience::margin`], nearly so.
//! So whoever refers to an input anew must store it first, even if it is there ([`BlobStore::put`] makes it young).
//!
//! Not guaranteed: that all goes in one sweep; the next one goes on.

use std::{collections::HashSet, time::Duration};

use futures::TryStreamExt;

use crate::{
    blobs::{BlobError, BlobId, BlobStore},
    error::QueueError,
    queue::Queue,
    record::Kind,
    scripts::INPUTS_SEEN,
};

/// How many names one call notes.
const NOTED_AT_ONCE: usize = 500;
/// How many inputs one sweep removes at most.
const REMOVED_MOST: usize = 1_000;
/// In which states a job is listed that has not ended: what runs is listed as queued.
const OPEN: [&str; 2] = ["queued", "waiting"];

/// When an input goes that nothing refers to.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long nothing must have referred to it, and nobody stored it.
    pub keep: Duration,
    /// How much younger than the first of that time all open jobs must be: a job may have been planned a moment before the
    /// last reference went, and be submitted a moment later.
    pub margin: Duration,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Inputs removed.
    pub removed: usize,
    /// Inputs that nothing refers to, after it.
    pub waiting: u64,
}

/// One sweep over the inputs. `in_use` answers the ids of all inputs that anything refers to, as it is at each call. Any number
/// of processes may do so at once.
///
/// # Errors
/// Those of the queue, of the store and of `in_use`; nothing goes whose references are not known.
pub async fn collect_unused<E: From<QueueError> + From<BlobError>>(
    queue: &Queue,
    inputs: &BlobStore,
    in_use: impl AsyncFn() -> Result<HashSet<BlobId>, E>,
    patience: Patience,
) -> Result<Collected, E> {
    let used = in_use().await?;
    let mut pages = inputs.ids().try_chunks(NOTED_AT_ONCE);
    while let Some(page) = pages.try_next().await.map_err(|error| error.1)? {
        let (used, unused): (Vec<_>, Vec<_>) = page.into_iter().partition(|id| used.contains(id));
        queue.note_inputs(&unused, &used).await?;
    }
    let due = queue.due_inputs(patience).await?;
    let mut collected = Collected::default();
    if !due.is_empty() {
        // Anew: what has become due is seldom, and may be in use again since the first look.
        let used = in_use().await?;
        for id in &due {
            if !used.contains(id) && inputs.remove_if_older(id.as_str(), patience.keep).await? {
                collected.removed += 1;
            }
        }
        // What is in use or young again begins to wait anew when nothing refers to it.
        queue.note_inputs(&[], &due).await?;
    }
    collected.waiting = queue.waiting_inputs().await?;
    Ok(collected)
}

impl Queue {
    /// Whether it is the caller's turn to look for unused inputs, which one process of a deployment does per `every`.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn may_collect_unused(&self, every: Duration) -> Result<bool, QueueError> {
        let mut take = redis::cmd("SET");
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        take.arg(self.redis.keys().unused_turn()).arg("taken").arg("NX").arg("PX").arg(every_ms);
        Ok(self.redis.query::<Option<String>>(&take).await?.is_some())
    }

    /// When the oldest job that has not ended was created, if there is any, and the time now: both by Redis's clock, in
    /// milliseconds since 1970.
    async fn oldest_open(&self) -> Result<(Option<u64>, u64), QueueError> {
        let (mut from, mut oldest) = ("0".to_owned(), None);
        loop {
            let mut call = self.call(&self.scripts.oldest);
            call.arg(&from);
            for kind in Kind::ALL {
                for state in OPEN {
                    call.arg(format!("{}:{state}", kind.as_str()));
                }
            }
            let (next, found, now): (String, String, u64) = self.redis.invoke(&call).await?;
            let found: Option<u64> = found.parse().ok();
            oldest = match (oldest, found) {
                (Some(known), Some(found)) => Some(found.min(known)),
                (known, found) => known.or(found),
            };
            if next == "0" {
                return Ok((oldest, now));
            }
            from = next;
        }
    }

    async fn note_inputs(&self, unused: &[BlobId], used: &[BlobId]) -> Result<(), QueueError> {
        let mut call = INPUTS_SEEN.prepare_invoke();
        call.key(self.redis.keys().unused_inputs()).arg(unused.len());
        for id in unused.iter().chain(used) {
            call.arg(id.as_str());
        }
        self.redis.invoke(&call).await
    }

    /// Inputs that have waited for long enough, those that have for longest first.
    async fn due_inputs(&self, patience: Patience) -> Result<Vec<BlobId>, QueueError> {
        let (oldest, now) = self.oldest_open().await?;
        let before =
            |time: u64, by: Duration| time.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        let mut until = before(now, patience.keep);
        if let Some(oldest) = oldest {
            until = until.min(before(oldest, patience.margin));
        }
        let mut read = redis::cmd("ZRANGEBYSCORE");
        // Without `until` itself: what was created in the same millisecond may be older.
        read.arg(self.redis.keys().unused_inputs()).arg("-inf").arg(format!("({until}"));
        read.arg("LIMIT").arg(0).arg(REMOVED_MOST);
        let due: Vec<String> = self.redis.query(&read).await?;
        Ok(due.iter().filter_map(|id| id.parse().ok()).collect())
    }

    async fn waiting_inputs(&self) -> Result<u64, QueueError> {
        let mut read = redis::cmd("ZCARD");
        read.arg(self.redis.keys().unused_inputs());
        self.redis.query(&read).await
    }
}

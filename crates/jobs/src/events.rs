//! Waiting for jobs. Each process reads the stream of events once, whatever the number of its waiters.
//!
//! An event only says "look again": who waits re-reads the job. So an event that is missed (the stream is capped,
//! Redis restarted) costs at most [`RECHECK`], never correctness.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::streams::{StreamReadOptions, StreamReadReply};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    error::QueueError,
    ids::{JobId, TenantId},
    outage::Outage,
    queue::Queue,
    record::JobView,
    redis::LONGEST_BLOCK,
};

/// How often a waiter looks even though nothing was announced.
const RECHECK: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(300);

type Waiters = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    queue: Queue,
    waiters: Waiters,
}

impl Events {
    /// Starts following the stream until `stop`.
    pub fn follow(queue: Queue, stop: CancellationToken) -> Self {
        let events = Self { queue, waiters: Waiters::default() };
        let follower = events.clone();
        tokio::spawn(async move { stop.run_until_cancelled(follower.read_stream()).await });
        events
    }

    async fn read_stream(self) {
        let mut last = "$".to_owned();
        let mut outage =
            Outage::new("events cannot be read, calls that wait look every other second instead");
        loop {
            if let Err(error) = self.read_until_error(&mut last, &mut outage).await {
                outage.failed(&error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn read_until_error(&self, last: &mut String, outage: &mut Outage) -> Result<(), QueueError> {
        let mut connection = self.queue.redis().blocking().await?;
        let key = self.queue.redis().keys().events();
        let options = StreamReadOptions::default()
            .block(LONGEST_BLOCK.as_millis().try_into().unwrap_or(1000))
            .count(1000);
        loop {
            let mut read = redis::cmd("XREAD");
            read.arg(&options).arg("STREAMS").arg(&key).arg(&*last);
            let reply: Option<StreamReadReply> = connection.query(&read).await?;
            outage.over();
            for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
                for name in ["job", "run"] {
                    for id in entry.get::<String>(name).iter().flat_map(|ids| ids.split(' ')) {
                        self.announce(id);
                    }
                }
                *last = entry.id;
            }
        }
    }

    fn announce(&self, id: &str) {
        let found = self.waiters.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(notify) = found {
            notify.notify_waiters();
        }
    }

    /// Reads a job when it has ended or `limit` is over, calling `seen` with each state or progress on the way.
    pub async fn wait(
        &self,
        job: JobId,
        tenant: &TenantId,
        limit: Duration,
        mut seen: impl FnMut(&JobView),
    ) -> Result<JobView, QueueError> {
        let end = Instant::now() + limit;
        let mut view = self.queue.get(job, tenant).await?;
        if view.state.is_terminal() || limit.is_zero() {
            return Ok(view);
        }
        let ids = [Some(job.to_string()), view.run.map(|run| run.to_string())];
        let subscription = Subscription::new(self.waiters.clone(), ids.into_iter().flatten());
        loop {
            let mut changes: Vec<_> =
                subscription.ids.iter().map(|(_, id)| Box::pin(id.notified())).collect();
            // Registered before the job is read again, so that no event falls between the two.
            for change in &mut changes {
                change.as_mut().enable();
            }
            view = self.queue.get(job, tenant).await?;
            let left = end.saturating_duration_since(Instant::now());
            if view.state.is_terminal() || left.is_zero() {
                return Ok(view);
            }
            seen(&view);
            let _elapsed =
                tokio::time::timeout(left.min(RECHECK), futures::future::select_all(changes)).await;
        }
    }
}

/// Entries of the table of waiters, taken out again when dropped.
struct Subscription {
    waiters: Waiters,
    ids: Vec<(String, Arc<Notify>)>,
}

impl Subscription {
    fn new(waiters: Waiters, ids: impl Iterator<Item = String>) -> Self {
        let mut table = waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = ids.map(|id| (id.clone(), table.entry(id).or_default().clone())).collect();
        drop(table);
        Self { waiters, ids }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut table = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, notify) in self.ids.drain(..) {
            drop(notify);
            // One reference is the table's own: nobody else waits for this id.
            if table.get(&id).is_some_and(|notify| Arc::strong_count(notify) == 1) {
                table.remove(&id);
            }
        }
    }
}

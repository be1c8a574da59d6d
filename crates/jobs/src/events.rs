//! Waiting for jobs. Each process reads the stream of events once, whatever the number of its waiters.
//!
//! An event only says "look again": who waits re-reads the job. So an event that is missed (the stream is capped,
//! Redis restarted) costs at most [`RECHECK`], never correctness.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, select_all};
use redis::streams::{StreamRangeReply, StreamReadOptions, StreamReadReply};
use tokio::{
    sync::{Notify, futures::OwnedNotified, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::QueueError,
    ids::{JobId, RunId, TenantId},
    outage::Outage,
    queue::Queue,
    record::Kind,
    redis::{Blocking, LONGEST_BLOCK},
    view::JobView,
};

/// How often a waiter looks even though nothing was announced. Thousands may wait: each look is a read of Redis.
const RECHECK: Duration = Duration::from_secs(20);
/// The same while the stream cannot be read, and for batches: their jobs are announced, the change of their counts is not.
const RECHECK_UNTOLD: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Queue,
    /// By the ids of jobs and runs.
    waiters: Mutex<HashMap<Uuid, Arc<Notify>>>,
    /// Whether the stream is being read.
    follows: AtomicBool,
    /// How often something was read.
    changes: watch::Sender<u64>,
}

impl Events {
    /// Starts following the stream until `stop`.
    pub fn follow(queue: Queue, stop: CancellationToken) -> Self {
        let (waiters, follows) = (Mutex::default(), AtomicBool::default());
        let shared = Arc::new(Shared { queue, waiters, follows, changes: watch::Sender::new(0) });
        let follower = shared.clone();
        tokio::spawn(async move { stop.run_until_cancelled(follower.read_stream()).await });
        Self(shared)
    }

    /// Tells whenever something has happened to any job, for those who look at many. It tells nothing while Redis is away.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Follows a job: see [`Watch::next`].
    pub async fn watch(&self, job: JobId, tenant: &TenantId) -> Result<Watch, QueueError> {
        Ok(self.watch_from(&self.0.queue.get(job, tenant).await?, tenant))
    }

    fn watch_from(&self, view: &JobView, tenant: &TenantId) -> Watch {
        let ids = [Some(view.job_id.as_uuid()), view.run.map(RunId::as_uuid)];
        let subscription = Subscription::new(self.0.clone(), ids.into_iter().flatten());
        let (job, tenant) = (view.job_id, tenant.clone());
        Watch { job, tenant, kind: view.kind, subscription, changes: Vec::new() }
    }

    /// Reads a job when it has ended or `limit` is over, calling `seen` with each state or progress on the way.
    ///
    /// Thousands wait: what a look needs is not kept between two of them.
    pub async fn wait(
        &self,
        job: JobId,
        tenant: &TenantId,
        limit: Duration,
        mut seen: impl FnMut(&JobView),
    ) -> Result<JobView, QueueError> {
        let end = Instant::now() + limit;
        let mut watch = {
            let view = self.0.look(job, tenant).await?;
            if view.state.is_terminal() || limit.is_zero() {
                return Ok(view);
            }
            self.watch_from(&view, tenant)
        };
        while let Ok(view) = tokio::time::timeout_at(end, watch.next()).await {
            let view = view?;
            if view.state.is_terminal() {
                return Ok(view);
            }
            seen(&view);
        }
        self.0.look(job, tenant).await
    }
}

impl Shared {
    async fn read_stream(self: Arc<Self>) {
        let mut last = None;
        let mut outage =
            Outage::new("events cannot be read, calls that wait look every other second instead");
        loop {
            if let Err(error) = self.read_until_error(&mut last, &mut outage).await {
                self.follows.store(false, Ordering::Relaxed);
                // They go over to looking more often.
                self.announce_all();
                outage.failed(&error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn read_until_error(
        &self,
        last: &mut Option<String>,
        outage: &mut Outage,
    ) -> Result<(), QueueError> {
        let mut connection = self.queue.redis().blocking().await?;
        let key = self.queue.redis().keys().events();
        let options = StreamReadOptions::default()
            .block(LONGEST_BLOCK.as_millis().try_into().unwrap_or(1000))
            .count(1000);
        loop {
            let mut read = redis::cmd("XREAD");
            // The first time from the newest on: `$` would skip what comes between two reads.
            let after = match last.clone() {
                Some(after) => after,
                None => newest(&mut connection, &key).await?,
            };
            read.arg(&options).arg("STREAMS").arg(&key).arg(&after);
            *last = Some(after);
            let reply: Option<StreamReadReply> = connection.query(&read).await?;
            outage.over();
            if !self.follows.swap(true, Ordering::Relaxed) {
                self.announce_all();
            }
            if reply.is_some() {
                self.changes.send_modify(|number| *number += 1);
            }
            for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
                for name in ["job", "run"] {
                    for id in entry.get::<String>(name).iter().flat_map(|ids| ids.split(' ')) {
                        self.announce(id);
                    }
                }
                *last = Some(entry.id);
            }
        }
    }

    fn announce(&self, id: &str) {
        let Ok(id) = Uuid::parse_str(id) else { return };
        let found = self.waiters.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(notify) = found {
            notify.notify_waiters();
        }
    }

    fn announce_all(&self) {
        for notify in self.waiters.lock().unwrap_or_else(PoisonError::into_inner).values() {
            notify.notify_waiters();
        }
    }

    /// A job as it stands. Boxed, since a future is as large as the largest of what it ever waits for.
    fn look<'a>(&'a self, job: JobId, tenant: &'a TenantId) -> BoxFuture<'a, Result<JobView, QueueError>> {
        Box::pin(self.queue.get(job, tenant))
    }

    /// How long nothing that is announced means that nothing has changed.
    fn patience(&self, kind: Kind) -> Duration {
        if kind == Kind::Batch || !self.follows.load(Ordering::Relaxed) { RECHECK_UNTOLD } else { RECHECK }
    }
}

/// A job that is followed.
#[derive(Debug)]
pub struct Watch {
    job: JobId,
    tenant: TenantId,
    kind: Kind,
    subscription: Subscription,
    /// What was listened for when the job was read last.
    changes: Vec<Pin<Box<OwnedNotified>>>,
}

impl Watch {
    /// The job as it stands: the first time at once, then when something has been announced of it or nothing for a while. So it may
    /// be the same as the last time.
    pub async fn next(&mut self) -> Result<JobView, QueueError> {
        if !self.changes.is_empty() {
            let announced = select_all(self.changes.drain(..));
            let patience = self.subscription.events.patience(self.kind);
            let _elapsed = tokio::time::timeout(patience, announced).await;
        }
        self.changes = self.subscription.listen();
        self.subscription.events.look(self.job, &self.tenant).await
    }
}

/// Entries of the table of waiters, taken out again when dropped.
#[derive(Debug)]
struct Subscription {
    events: Arc<Shared>,
    ids: Vec<(Uuid, Arc<Notify>)>,
}

impl Subscription {
    fn new(events: Arc<Shared>, ids: impl Iterator<Item = Uuid>) -> Self {
        let mut table = events.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = ids.map(|id| (id, table.entry(id).or_default().clone())).collect();
        drop(table);
        Self { events, ids }
    }

    /// Listens from now on, not only once it is awaited: whoever reads the job after this misses nothing.
    fn listen(&self) -> Vec<Pin<Box<OwnedNotified>>> {
        let listen = |(_, notify): &(Uuid, Arc<Notify>)| {
            let mut change = Box::pin(notify.clone().notified_owned());
            change.as_mut().enable();
            change
        };
        self.ids.iter().map(listen).collect()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut table = self.events.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, notify) in self.ids.drain(..) {
            drop(notify);
            // One reference is the table's own: nobody else waits for this id.
            if table.get(&id).is_some_and(|notify| Arc::strong_count(notify) == 1) {
                table.remove(&id);
            }
        }
    }
}

/// The id of the last event of the stream.
async fn newest(connection: &mut Blocking, stream: &str) -> Result<String, QueueError> {
    let mut read = redis::cmd("XREVRANGE");
    read.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let reply: StreamRangeReply = connection.query(&read).await?;
    Ok(reply.ids.into_iter().next().map_or_else(|| "0-0".to_owned(), |entry| entry.id))
}

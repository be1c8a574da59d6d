//! The apalis backend: runs claimed under leases for the slots that are free, the leases renewed by a task of their own,
//! outcomes handed in by the backend's layer.
//!
//! What apalis's rules ask for, and where it is done:
//! * `poll_next` ends only with a run; an error of Redis is retried inside, since any error ends the worker;
//! * nothing is prefetched: a claim asks for as many runs as slots are free, and apalis starts them at once; a slot is free when its
//!   handler has answered, so that the next run is claimed while the outcome is handed in;
//! * leases are renewed also while the worker drains, until the outcome is in: an own task, not `poll_ready`;
//! * a claim that is on its way when the worker drains or closes is driven to its end, and what it took is handed back;
//! * a claim whose answer is lost, because the connection broke, is looked for and handed back before the next one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    error::BoxDynError,
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::context::WorkerContext,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tower::{Layer, Service};

use crate::{
    error::{ErrorCode, JobError, QueueError, chain},
    ids::{Fence, RunId, WorkerId},
    outage::Outage,
    queue::Queue,
    record::{Claim, Finish, Outcome, Progress},
    rules::LEASE,
    work::{Free, Message, Stop},
};

/// How many runs a claim takes at most: it keeps others waiting for Redis, and while one is made the runs of the one before are
/// started.
const CLAIMED_AT_ONCE: u32 = 32;
const RETRY_PAUSE: Duration = Duration::from_millis(300);
const REAP_EVERY: Duration = Duration::from_secs(1);
/// How often a worker with a free slot looks for work even though nobody told it of any.
const POLL: Duration = Duration::from_secs(1);
/// How often expired jobs are looked for in the listings, by each worker; at least once in a tenth of the time that they are
/// kept.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// What a worker has in all.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Slots: a run takes one or more. The worker's concurrency should be the same.
    pub slots: u32,
    /// Megabytes for all runs at once.
    pub memory_mb: u32,
}

/// Why a run must stop now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Nobody waits for it any more.
    Cancelled,
    /// The lease is lost: whatever comes out of it will be refused.
    Lost,
    /// The worker shuts down and hands the run back.
    HandBack,
}

/// Tells the one who computes a run that it must stop.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Option<StopReason>>);

impl StopSignal {
    /// Ends when the run must stop, and says why. Never ends otherwise.
    pub async fn stopped(&mut self) -> StopReason {
        match self.0.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // The sender lives as long as the run is held.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// A run in the hands of a handler.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// What to compute.
    pub claim: Claim,
    /// When to stop computing it.
    pub stop: StopSignal,
}

/// What a handler says when its run was stopped before it had an outcome, or `Outcome` when it has one.
#[derive(Debug, Clone)]
pub enum Handled {
    /// The run has an outcome.
    Finished(Outcome),
    /// The run was stopped, its processes are gone.
    Stopped(StopReason),
    /// The run cannot be computed yet and would only take up its slot: it is to be queued again after this time. The progress says what it
    /// waits for.
    PutOff(Duration, Progress),
}

struct HeldRun {
    fence: Fence,
    stop: watch::Sender<Option<StopReason>>,
    slots: u32,
    memory_mb: u32,
    alone: bool,
    /// It has been computed, and its outcome is handed in.
    computed: bool,
}

/// The runs that this process holds.
struct Held {
    queue: Queue,
    worker: WorkerId,
    capacity: Capacity,
    runs: Mutex<HashMap<RunId, HeldRun>>,
    /// Those of them that have not started: they do when apalis asks again, which is at once unless it closes.
    claimed: Mutex<VecDeque<Assignment>>,
    count: watch::Sender<usize>,
    /// Somebody wants a run to stop.
    asked: Notify,
    /// There may be something to claim: something was queued, or a slot is free again.
    look: Notify,
    /// Nothing is to be started any more.
    draining: CancellationToken,
}

impl Held {
    fn new(queue: Queue, worker: WorkerId, capacity: Capacity) -> Self {
        Self {
            queue,
            worker,
            capacity,
            runs: Mutex::default(),
            claimed: Mutex::default(),
            count: watch::Sender::new(0),
            asked: Notify::new(),
            look: Notify::new(),
            draining: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, HeldRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claimed(&self) -> MutexGuard<'_, VecDeque<Assignment>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_up(&self, claim: Claim) {
        let (stop, receiver) = watch::channel(None);
        let Claim { fence, slots, memory_mb, alone, .. } = claim;
        self.lock().insert(claim.run, HeldRun { fence, stop, slots, memory_mb, alone, computed: false });
        self.count.send_modify(|count| *count += 1);
        self.claimed().push_back(Assignment { claim, stop: StopSignal(receiver) });
    }

    /// A handler has answered.
    fn computed(&self, run: RunId) {
        if let Some(held) = self.lock().get_mut(&run) {
            held.computed = true;
            self.look.notify_one();
        }
    }

    fn put_down(&self, run: RunId) {
        if self.lock().remove(&run).is_some() {
            self.count.send_modify(|count| *count -= 1);
            self.look.notify_one();
        }
    }

    /// What may be claimed. Outcomes that are being handed in take up no slot, until they would take up more than there are.
    fn free(&self) -> Free {
        let runs = self.lock();
        let Capacity { slots, memory_mb } = self.capacity;
        let alone = runs.values().any(|run| run.alone);
        let sum = |of: fn(&HeldRun) -> u32| runs.values().map(of).fold(0, u32::saturating_add);
        let computing = sum(|run| if run.computed { 0 } else { run.slots });
        let held = sum(|run| run.slots);
        let unused = slots.saturating_sub(computing).min(slots.saturating_mul(2).saturating_sub(held));
        Free {
            slots: if alone || self.draining.is_cancelled() { 0 } else { unused },
            memory_mb: memory_mb.saturating_sub(sum(|run| if run.computed { 0 } else { run.memory_mb })),
            idle: runs.is_empty(),
        }
    }

    fn stop(&self, run: RunId, reason: StopReason) {
        if let Some(held) = self.lock().get(&run) {
            held.stop.send_replace(Some(reason));
        }
    }

    /// Takes up what there is for the free slots. Answers whether there was something, and whether to ask again at once.
    async fn claim(&self, free: Free, close: &CancellationToken, outage: &mut Outage) -> (bool, bool) {
        let (fences, sent) = (free.fences(CLAIMED_AT_ONCE), Instant::now());
        match self.queue.claim_under(&fences, &self.worker, free).await {
            Ok((claims, more)) => {
                outage.over();
                let some = !claims.is_empty();
                for claim in claims {
                    self.take_up(claim);
                }
                if self.draining.is_cancelled() {
                    self.hand_back_claimed().await;
                }
                return (some, more);
            }
            // What cannot be read would be claimed again and again if it were handed back; as a stall it is given up in the end.
            Err(error @ QueueError::Corrupt(_)) => {
                outage.failed(&error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                outage.failed(&error);
                self.recover(&fences, sent, close, outage).await;
            }
        }
        (false, true)
    }

    /// Hands back what a failed claim may have taken: Redis may have carried it out, and its answer been lost. Gives up when the worker
    /// closes while Redis is away; then the leases end by themselves.
    async fn recover(&self, fences: &[Fence], sent: Instant, close: &CancellationToken, outage: &mut Outage) {
        let given_up = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            match self.queue.recover(fences, sent.elapsed(), given_up.elapsed()).await {
                Ok(0) => return,
                Ok(runs) => return tracing::info!(runs, "what a lost answer had claimed was handed back"),
                Err(_) if close.is_cancelled() => return,
                Err(error) => outage.failed(&error),
            }
        }
    }

    /// Renews when it is time, and at once when somebody wants a run to stop.
    async fn renew_forever(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LEASE / 4);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut outage = Outage::new("leases cannot be renewed");
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.asked.notified() => {}
            }
            let held: Vec<_> = self.lock().iter().map(|(run, held)| (*run, held.fence)).collect();
            if held.is_empty() {
                continue;
            }
            match self.queue.renew(&held).await {
                Ok(stop) => {
                    outage.over();
                    for (run, reason) in stop {
                        let reason = match reason {
                            Stop::Cancelled => StopReason::Cancelled,
                            Stop::Lost => StopReason::Lost,
                        };
                        self.stop(run, reason);
                    }
                }
                Err(error) => outage.failed(&error),
            }
        }
    }

    async fn listen_forever(self: Arc<Self>) {
        loop {
            if let Err(error) = self.listen_until_error().await {
                // Renewals and polling bring the same news, a little later.
                tracing::debug!(error = chain(&error), "messages to this worker are not heard");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn listen_until_error(&self) -> Result<(), QueueError> {
        let mut connection = self.queue.redis().blocking().await?;
        loop {
            match self.queue.wait_for_message(&mut connection, &self.worker).await? {
                Some(Message::Stop) => self.asked.notify_one(),
                Some(Message::Work) => self.look.notify_one(),
                None => {}
            }
        }
    }

    /// Every worker is a reconciler, also while all its slots are busy.
    async fn reap_forever(queue: Queue) {
        let mut tick = tokio::time::interval(REAP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            tick.tick().await;
            if swept.elapsed() > SWEEP_EVERY.min(queue.retention().jobs / 10) {
                swept = Instant::now();
                if let Err(error) = queue.sweep().await {
                    tracing::debug!(error = chain(&error), "listings were not swept");
                }
            }
            match queue.reap().await {
                Ok(reaped) => {
                    for (run, action, worker) in reaped.lost {
                        tracing::warn!(run.id = %run, worker.id = worker, action, "a run's lease ended without a word");
                    }
                }
                Err(error) => tracing::debug!(error = chain(&error), "the reconciler could not reach Redis"),
            }
        }
    }

    /// Hands in an outcome, for as long as it takes: the lease is renewed meanwhile.
    async fn hand_in(&self, claim: &Claim, handled: Handled) {
        let mut outage = Outage::new("an outcome cannot be handed in");
        loop {
            let answer = match &handled {
                Handled::Finished(outcome) => self.queue.finish(claim, outcome).await.map(Some),
                Handled::Stopped(StopReason::Cancelled) => {
                    self.queue.finish(claim, &Outcome::Cancelled).await.map(Some)
                }
                Handled::Stopped(StopReason::HandBack) => self.queue.release(claim).await.map(|()| None),
                Handled::Stopped(StopReason::Lost) => return,
                Handled::PutOff(after, waits_for) => {
                    self.queue.put_off(claim, *after, waits_for).await.map(|()| None)
                }
            };
            match answer {
                Ok(Some(Finish::Refused)) => {
                    tracing::warn!(run.id = %claim.run, "a result came too late and was refused");
                    return;
                }
                Ok(_) => return,
                // Corrupt means that this very call can never succeed; the reaper will count a stall.
                Err(error @ QueueError::Corrupt(_)) => {
                    tracing::error!(run.id = %claim.run, error = chain(&error), "an outcome cannot be handed in");
                    return;
                }
                Err(error) => {
                    outage.failed(&error);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Hands back what was not started.
    async fn hand_back_claimed(&self) {
        let claimed = std::mem::take(&mut *self.claimed());
        for Assignment { claim, .. } in claimed {
            self.hand_in(&claim, Handled::Stopped(StopReason::HandBack)).await;
            self.put_down(claim.run);
        }
    }
}

/// See the module's documentation.
pub struct LeaseBackend {
    held: Arc<Held>,
    /// See [`LeaseBackend::claim`].
    claiming: Option<BoxFuture<'static, bool>>,
    close: CancellationToken,
    closing: Option<BoxFuture<'static, ()>>,
    renewing: Arc<AbortOnDropHandle<()>>,
    _background: [AbortOnDropHandle<()>; 2],
}

/// Stops what a worker computes when it shuts down.
#[derive(Clone)]
pub struct Drain {
    held: Arc<Held>,
    /// Leases are renewed for as long as anybody may still hand in an outcome.
    _renewing: Arc<AbortOnDropHandle<()>>,
}

impl Drain {
    /// Hands back what has not started, and waits until nothing is computed any more; after `grace` hands back what is left.
    pub async fn drain(self, grace: Duration) {
        self.held.draining.cancel();
        let held = self.held.clone();
        let _on_its_way = tokio::spawn(async move { held.hand_back_claimed().await });
        let mut count = self.held.count.subscribe();
        if tokio::time::timeout(grace, count.wait_for(|count| *count == 0)).await.is_ok() {
            return;
        }
        let runs: Vec<_> = self.held.lock().keys().copied().collect();
        tracing::info!(runs = runs.len(), "the grace time is over; handing runs back");
        for run in runs {
            self.held.stop(run, StopReason::HandBack);
        }
    }
}

impl LeaseBackend {
    /// A backend that claims runs for `worker`. Starts the tasks that renew leases and reconcile; they end with it.
    pub fn new(queue: Queue, worker: WorkerId, capacity: Capacity) -> Self {
        let held = Arc::new(Held::new(queue.clone(), worker, capacity));
        let listening = tokio::spawn(held.clone().listen_forever());
        let reaping = tokio::spawn(Held::reap_forever(queue));
        Self {
            renewing: Arc::new(AbortOnDropHandle::new(tokio::spawn(held.clone().renew_forever()))),
            _background: [listening, reaping].map(AbortOnDropHandle::new),
            held,
            claiming: None,
            close: CancellationToken::new(),
            closing: None,
        }
    }

    /// A handle to stop what is being computed.
    pub fn drain_handle(&self) -> Drain {
        Drain { held: self.held.clone(), _renewing: self.renewing.clone() }
    }

    fn poll_claim(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let start = || Self::claim(self.held.clone(), self.close.clone()).boxed();
        let open = ready!(self.claiming.get_or_insert_with(start).poll_unpin(cx));
        self.claiming = None;
        Poll::Ready(open)
    }

    /// Ends with true when something was claimed, with false after `close`. A claim that is on its way to Redis is never given up, and
    /// what it takes is taken up though nobody asks: while the worker drains nobody does.
    async fn claim(held: Arc<Held>, close: CancellationToken) -> bool {
        let mut outage = Outage::new("no run can be claimed");
        while !close.is_cancelled() {
            let free = held.free();
            let (some, more) = if free.slots > 0 {
                let (held, close) = (held.clone(), close.clone());
                let attempt = tokio::spawn(async move {
                    let claimed = held.claim(free, &close, &mut outage).await;
                    (claimed, outage)
                });
                // It fails only when the process ends.
                let Ok((claimed, known)) = attempt.await else { return false };
                outage = known;
                claimed
            } else {
                (false, false)
            };
            if some {
                return true;
            }
            if !more {
                let told = tokio::time::timeout(POLL, held.look.notified());
                let _told = close.run_until_cancelled(told).await;
            }
        }
        false
    }
}

impl Backend for LeaseBackend {
    type Task = Task<Assignment>;
    type Error = QueueError;

    fn poll_ready(&mut self, _cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), QueueError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, QueueError>>> {
        match self.poll_claim(cx) {
            Poll::Ready(false) => return Poll::Ready(None),
            Poll::Ready(true) => {
                // The next claim is on its way while these are started: it goes out before.
                cx.waker().wake_by_ref();
                let _begun = self.poll_claim(cx);
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        let Some(assignment) = self.held.claimed().pop_front() else { return Poll::Pending };
        let Claim { run, attempt, .. } = assignment.claim;
        let task = TaskBuilder::new(assignment)
            .task_id(TaskId::from_string(run.to_string()))
            // The worker counts one up when it starts the task.
            .attempt(attempt.saturating_sub(1) as usize);
        Poll::Ready(Some(Ok(task.build())))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), QueueError>> {
        self.close.cancel();
        let (claiming, held) = (self.claiming.take(), self.held.clone());
        let close = || {
            async move {
                if let Some(claiming) = claiming {
                    claiming.await;
                }
                held.hand_back_claimed().await;
            }
            .boxed()
        };
        self.closing.get_or_insert_with(close).poll_unpin(cx).map(Ok)
    }
}

impl BackendConfig for LeaseBackend {
    type Args = Assignment;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = HandInLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _worker: &mut WorkerContext) -> HandInLayer {
        HandInLayer { held: self.held.clone() }
    }
}

/// The layer that hands in what a handler answers. A handler's error, or its panic caught by a layer inside, counts
/// as a failure of the run that is worth another attempt.
#[derive(Clone)]
pub struct HandInLayer {
    held: Arc<Held>,
}

impl<S> Layer<S> for HandInLayer {
    type Service = HandIn<S>;

    fn layer(&self, inner: S) -> HandIn<S> {
        HandIn { inner, held: self.held.clone() }
    }
}

/// See [`HandInLayer`].
#[derive(Clone)]
pub struct HandIn<S> {
    inner: S,
    held: Arc<Held>,
}

impl<S> Service<Task<Assignment>> for HandIn<S>
where
    S: Service<Task<Assignment>, Response = Handled>,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError>,
{
    type Response = Handled;
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<Handled, BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Assignment>) -> Self::Future {
        let (held, claim) = (self.held.clone(), task.args.claim.clone());
        let answer = self.inner.call(task);
        async move {
            let handled = answer.await.unwrap_or_else(|error| {
                let error: BoxDynError = error.into();
                tracing::error!(run.id = %claim.run, error = chain(&*error), "a handler failed");
                let error =
                    JobError::new(ErrorCode::Internal, "the worker failed while it ran this").retryable();
                Handled::Finished(Outcome::Failed(error))
            });
            held.computed(claim.run);
            held.hand_in(&claim, handled.clone()).await;
            held.put_down(claim.run);
            Ok(handled)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{queue::Retention, record::Kind, redis::Redis};

    /// What a worker of four slots may claim while it holds runs of these slots: computing, and handing in.
    #[tokio::test]
    async fn a_slot_is_free_once_its_run_was_computed_up_to_as_many_again() {
        let free = |computing: &[u32], handing_in: &[u32], alone: bool| {
            let redis = Redis::open("redis://127.0.0.1:1", "jj", 1).unwrap();
            let capacity = Capacity { slots: 4, memory_mb: 400 };
            let held = Held::new(Queue::new(redis, Retention::default()), WorkerId::new("w1"), capacity);
            let runs = computing
                .iter()
                .map(|slots| (slots, false))
                .chain(handing_in.iter().map(|slots| (slots, true)));
            for (slots, computed) in runs {
                let run = RunId::generate();
                held.take_up(Claim {
                    run,
                    fence: Fence::generate(),
                    kind: Kind::Backtest,
                    attempt: 1,
                    request: "{}".into(),
                    plan: "{}".into(),
                    alone,
                    slots: *slots,
                    memory_mb: slots * 100,
                    timeout_s: 1,
                });
                if computed {
                    held.computed(run);
                }
            }
            held.free()
        };
        let room = |slots, idle| Free { slots, memory_mb: slots * 100, idle };
        assert_eq!(free(&[], &[], false), room(4, true));
        assert_eq!(free(&[1, 2], &[], false), room(1, false));
        assert_eq!(free(&[1, 2], &[1, 3], false), room(1, false));
        assert_eq!(free(&[], &[3], false), room(4, false));
        // No more than there are slots may wait for Redis to take what came of them.
        assert_eq!(free(&[], &[4, 1], false), Free { slots: 3, memory_mb: 400, idle: false });
        assert_eq!(free(&[1], &[4, 4], false), Free { slots: 0, memory_mb: 300, idle: false });
        assert_eq!(
            free(&[], &[1], true).slots,
            0,
            "nothing runs beside one that must be alone, until it is over"
        );
    }
}

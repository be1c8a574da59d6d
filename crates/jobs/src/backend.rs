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

mod held;

use std::{
    sync::Arc,
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
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tower::{Layer, Service};

use self::held::Held;
use crate::{
    error::{ErrorCode, JobError, QueueError, chain},
    ids::WorkerId,
    outage::Outage,
    queue::Queue,
    record::{Claim, Outcome, Progress},
};

/// How often a worker with a free slot looks for work even though nobody told it of any.
const POLL: Duration = Duration::from_secs(1);
const REAP_EVERY: Duration = Duration::from_secs(1);
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
    /// The run cannot be computed yet and would only take up its slot: it is to be queued again after this time or some more (see
    /// [`Queue::put_off`]). The progress says what it waits for.
    PutOff(Duration, Progress),
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
        tracing::info!(runs = *count.borrow(), "the grace time is over; handing runs back");
        self.held.stop_all(StopReason::HandBack);
    }
}

impl LeaseBackend {
    /// A backend that claims runs for `worker`. Starts the tasks that renew leases and reconcile; they end with it.
    pub fn new(queue: Queue, worker: WorkerId, capacity: Capacity) -> Self {
        let held = Arc::new(Held::new(queue.clone(), worker, capacity));
        let listening = tokio::spawn(held.clone().listen_forever());
        let reaping = tokio::spawn(reap_forever(queue));
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

//! The apalis backend: runs claimed one by one under leases, the leases renewed by a task of their own, outcomes
//! handed in by the backend's layer.
//!
//! What apalis's rules ask for, and where it is done:
//! * `poll_next` ends only with a run; an error of Redis is retried inside, since any error ends the worker;
//! * nothing is prefetched: apalis asks for a run only when a slot is free (`concurrency`);
//! * leases are renewed also while the worker drains, until the outcome is in: an own task, not `poll_ready`;
//! * a claim that is on its way when the worker closes is driven to its end and handed back.

use std::{
    collections::HashMap,
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
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tower::{Layer, Service};

use crate::{
    error::{ErrorCode, JobError, QueueError, chain},
    ids::{Fence, RunId, WorkerId},
    outage::Outage,
    queue::{LEASE, Queue, Stop},
    record::{Claim, Finish, Outcome},
    redis::Blocking,
};

const RETRY_PAUSE: Duration = Duration::from_millis(300);
const REAP_EVERY: Duration = Duration::from_secs(1);

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
}

struct HeldRun {
    fence: Fence,
    stop: watch::Sender<Option<StopReason>>,
}

/// The runs that this process holds.
struct Held {
    queue: Queue,
    runs: Mutex<HashMap<RunId, HeldRun>>,
    count: watch::Sender<usize>,
    /// Somebody wants a run to stop.
    asked: Notify,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, HeldRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_up(&self, claim: Claim) -> Assignment {
        let (stop, receiver) = watch::channel(None);
        self.lock().insert(claim.run, HeldRun { fence: claim.fence, stop });
        self.count.send_modify(|count| *count += 1);
        Assignment { claim, stop: StopSignal(receiver) }
    }

    fn put_down(&self, run: RunId) {
        if self.lock().remove(&run).is_some() {
            self.count.send_modify(|count| *count -= 1);
        }
    }

    fn stop(&self, run: RunId, reason: StopReason) {
        if let Some(held) = self.lock().get(&run) {
            held.stop.send_replace(Some(reason));
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

    async fn listen_for_stops(self: Arc<Self>, worker: WorkerId) {
        loop {
            if let Err(error) = self.listen_until_error(&worker).await {
                // Renewals bring the same news, a little later.
                tracing::debug!(error = chain(&error), "requests to stop are not heard");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn listen_until_error(&self, worker: &WorkerId) -> Result<(), QueueError> {
        let mut connection = self.queue.redis().blocking().await?;
        loop {
            if self.queue.wait_for_stop(&mut connection, worker).await? {
                self.asked.notify_one();
            }
        }
    }

    /// Every worker is a reconciler, also while all its slots are busy.
    async fn reap_forever(queue: Queue) {
        let mut tick = tokio::time::interval(REAP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
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
}

/// See the module's documentation.
pub struct LeaseBackend {
    held: Arc<Held>,
    worker: WorkerId,
    claiming: Option<BoxFuture<'static, Option<Claim>>>,
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
    /// Waits until nothing is computed any more; after `grace` hands back what is left.
    pub async fn drain(self, grace: Duration) {
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
    pub fn new(queue: Queue, worker: WorkerId) -> Self {
        let held = Arc::new(Held {
            queue: queue.clone(),
            runs: Mutex::default(),
            count: watch::Sender::new(0),
            asked: Notify::new(),
        });
        let listening = tokio::spawn(held.clone().listen_for_stops(worker.clone()));
        let reaping = tokio::spawn(Held::reap_forever(queue));
        Self {
            renewing: Arc::new(AbortOnDropHandle::new(tokio::spawn(held.clone().renew_forever()))),
            _background: [listening, reaping].map(AbortOnDropHandle::new),
            held,
            worker,
            claiming: None,
            close: CancellationToken::new(),
            closing: None,
        }
    }

    /// A handle to stop what is being computed.
    pub fn drain_handle(&self) -> Drain {
        Drain { held: self.held.clone(), _renewing: self.renewing.clone() }
    }

    /// Ends with a run, or without one after `close`. A claim that is on its way to Redis is never given up.
    async fn claim(queue: Queue, worker: WorkerId, close: CancellationToken) -> Option<Claim> {
        let mut blocking = None;
        let mut outage = Outage::new("no run can be claimed");
        while !close.is_cancelled() {
            match Self::claim_or_wait(&queue, &worker, &mut blocking, &close).await {
                Ok(Some(claim)) => return Some(claim),
                Ok(None) => outage.over(),
                Err(error) => {
                    blocking = None;
                    outage.failed(&error);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        None
    }

    async fn claim_or_wait(
        queue: &Queue,
        worker: &WorkerId,
        blocking: &mut Option<Blocking>,
        close: &CancellationToken,
    ) -> Result<Option<Claim>, QueueError> {
        if let Some(claim) = queue.claim(worker, 1).await?.pop() {
            return Ok(Some(claim));
        }
        let mut connection = match blocking.take() {
            Some(connection) => connection,
            None => queue.redis().blocking().await?,
        };
        if let Some(waited) = close.run_until_cancelled(queue.wait_for_work(&mut connection)).await {
            waited?;
            *blocking = Some(connection);
        }
        Ok(None)
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
        let start = || Self::claim(self.held.queue.clone(), self.worker.clone(), self.close.clone()).boxed();
        let claim = ready!(self.claiming.get_or_insert_with(start).poll_unpin(cx));
        self.claiming = None;
        let Some(claim) = claim else { return Poll::Ready(None) };
        let (id, attempt) = (claim.run.to_string(), claim.attempt);
        let task = TaskBuilder::new(self.held.take_up(claim))
            .task_id(TaskId::from_string(id))
            // The worker counts one up when it starts the task.
            .attempt(attempt.saturating_sub(1) as usize);
        Poll::Ready(Some(Ok(task.build())))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), QueueError>> {
        self.close.cancel();
        let (claiming, held) = (self.claiming.take(), self.held.clone());
        let close = || {
            async move {
                let Some(claiming) = claiming else { return };
                if let Some(claim) = claiming.await {
                    held.hand_in(&claim, Handled::Stopped(StopReason::HandBack)).await;
                }
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
            held.hand_in(&claim, handled.clone()).await;
            held.put_down(claim.run);
            Ok(handled)
        }
        .boxed()
    }
}

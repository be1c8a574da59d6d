//! The runs that a process holds, from their claims until their outcomes are in: their leases are renewed, who computes them is told to stop,
//! and what was not started is handed back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Assignment, Capacity, Handled, StopReason, StopSignal};
use crate::{
    error::{QueueError, chain},
    ids::{Fence, RunId, WorkerId},
    outage::Outage,
    queue::Queue,
    record::{Claim, Finish, Outcome},
    rules::LEASE,
    work::{Free, Message, Stop},
};

/// How many runs a claim takes at most: it keeps others waiting for Redis, and while one is made the runs of the one before are
/// started.
const CLAIMED_AT_ONCE: u32 = 32;
const RETRY_PAUSE: Duration = Duration::from_millis(300);

struct HeldRun {
    fence: Fence,
    stop: watch::Sender<Option<StopReason>>,
    slots: u32,
    memory_mb: u32,
    alone: bool,
    /// It has been computed, and its outcome is handed in.
    computed: bool,
}

/// See the module's documentation.
pub(super) struct Held {
    queue: Queue,
    worker: WorkerId,
    capacity: Capacity,
    runs: Mutex<HashMap<RunId, HeldRun>>,
    /// Those of them that have not started: they do when apalis asks again, which is at once unless it closes.
    claimed: Mutex<VecDeque<Assignment>>,
    pub(super) count: watch::Sender<usize>,
    /// Somebody wants a run to stop.
    asked: Notify,
    /// There may be something to claim: something was queued, or a slot is free again.
    pub(super) look: Notify,
    /// Nothing is to be started any more.
    pub(super) draining: CancellationToken,
}

impl Held {
    pub(super) fn new(queue: Queue, worker: WorkerId, capacity: Capacity) -> Self {
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

    pub(super) fn claimed(&self) -> MutexGuard<'_, VecDeque<Assignment>> {
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
    pub(super) fn computed(&self, run: RunId) {
        if let Some(held) = self.lock().get_mut(&run) {
            held.computed = true;
            self.look.notify_one();
        }
    }

    pub(super) fn put_down(&self, run: RunId) {
        if self.lock().remove(&run).is_some() {
            self.count.send_modify(|count| *count -= 1);
            self.look.notify_one();
        }
    }

    /// What may be claimed. Outcomes that are being handed in take up no slot, until they would take up more than there are.
    pub(super) fn free(&self) -> Free {
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

    pub(super) fn stop_all(&self, reason: StopReason) {
        for held in self.lock().values() {
            held.stop.send_replace(Some(reason));
        }
    }

    /// Takes up what there is for the free slots. Answers whether there was something, and whether to ask again at once.
    pub(super) async fn claim(
        &self,
        free: Free,
        close: &CancellationToken,
        outage: &mut Outage,
    ) -> (bool, bool) {
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
    pub(super) async fn renew_forever(self: Arc<Self>) {
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

    pub(super) async fn listen_forever(self: Arc<Self>) {
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

    /// Hands in an outcome, for as long as it takes: the lease is renewed meanwhile.
    pub(super) async fn hand_in(&self, claim: &Claim, handled: Handled) {
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
    pub(super) async fn hand_back_claimed(&self) {
        let claimed = std::mem::take(&mut *self.claimed());
        for Assignment { claim, .. } in claimed {
            self.hand_in(&claim, Handled::Stopped(StopReason::HandBack)).await;
            self.put_down(claim.run);
        }
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

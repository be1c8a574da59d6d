//! Delivery workers: they hand over what has ended, and attempt what is due. Any number of them stand side by side; one that is killed leaves
//! what it held to the others when its leases end.

mod address;
mod metrics;
mod payload;
mod sender;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use analysis::selection::of_batch;
use jobs::{
    JobView, Outage, QueueError, chain,
    webhooks::{Attempt, AttemptOutcome, ClaimedDelivery, DisablePolicy, EventType, Webhooks},
};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use address::{AddressFilter, Allowed, InvalidAllowed, Refused, SystemNames};
pub use metrics::WebhookMetrics;
pub use sender::{Answer, Message, Sender};

/// How much longer than an attempt a lease lasts: time to say what came of it.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How often it is looked for what is due even if nothing said so.
const RECHECK: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// The shortest pause between two looks that find nothing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// How many deliveries one look takes at most.
const CLAIMED_AT_ONCE: usize = 100;

/// How a delivery worker is set up.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Pauses between the attempts of a delivery, on average: each is drawn between none and twice it.
    pub schedule: Vec<Duration>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts at once in this process.
    pub slots: usize,
    /// After how long of failing an endpoint is disabled.
    pub disable_after: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct WebhookWorker {
    webhooks: Webhooks,
    sender: Sender,
    settings: WebhookSettings,
    metrics: WebhookMetrics,
    /// Something may be due.
    wake: Notify,
}

impl WebhookWorker {
    /// A worker that sends with `sender`.
    pub fn new(
        webhooks: Webhooks,
        sender: Sender,
        settings: WebhookSettings,
        metrics: WebhookMetrics,
    ) -> Arc<Self> {
        Arc::new(Self { webhooks, sender, settings, metrics, wake: Notify::new() })
    }

    /// Hands over and delivers until `stop`; then ends the attempts that are being made.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.hand_over_all(&stop), self.attempt_all(&stop));
    }

    async fn hand_over_all(&self, stop: &CancellationToken) {
        let mut outage = Outage::new("ends of jobs cannot be handed over to webhooks");
        while !stop.is_cancelled() {
            match stop.run_until_cancelled(self.hand_over_until_error(&mut outage)).await {
                None => return,
                Some(error) => outage.failed(&error),
            }
            let _stopped = tokio::time::timeout(RETRY_PAUSE, stop.cancelled()).await;
        }
    }

    async fn hand_over_until_error(&self, outage: &mut Outage) -> QueueError {
        let mut watch = match self.webhooks.connect().await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            match self.webhooks.wait(&mut watch).await {
                Ok(true) => {
                    if let Err(error) = self.webhooks.hand_over().await {
                        return error;
                    }
                    self.wake.notify_one();
                }
                Ok(false) => {}
                Err(error) => return error,
            }
            outage.over();
        }
    }

    async fn attempt_all(self: &Arc<Self>, stop: &CancellationToken) {
        let mut outage = Outage::new("webhooks cannot be delivered");
        let mut attempts = JoinSet::new();
        while !stop.is_cancelled() {
            while attempts.try_join_next().is_some() {}
            let pause = self.take_up(&mut attempts, &mut outage).await;
            self.metrics.set_flying(attempts.len());
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                Some(_) = attempts.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Each is bounded by itself.
        while attempts.join_next().await.is_some() {}
    }

    /// Claims what is due and begins to attempt it; answers when to look again.
    async fn take_up(self: &Arc<Self>, attempts: &mut JoinSet<()>, outage: &mut Outage) -> Duration {
        let free = self.settings.slots.saturating_sub(attempts.len()).min(CLAIMED_AT_ONCE);
        if free == 0 {
            return RECHECK;
        }
        match self.webhooks.claim(u32::try_from(free).unwrap_or(u32::MAX), self.lease()).await {
            Ok(taken) => {
                outage.over();
                for delivery in taken.deliveries {
                    let worker = self.clone();
                    attempts.spawn(async move { worker.attempt(delivery).await });
                }
                taken.next.unwrap_or(RECHECK).clamp(SHORTEST_PAUSE, RECHECK)
            }
            Err(error) => {
                outage.failed(&error);
                RETRY_PAUSE
            }
        }
    }

    fn lease(&self) -> Duration {
        self.settings.timeout + LEASE_MARGIN
    }

    async fn attempt(&self, delivery: ClaimedDelivery) {
        let end = Instant::now() + self.lease();
        let job = match self.job(&delivery).await {
            Ok(job) => job,
            Err(error) => {
                // It is due again when its lease ends.
                tracing::debug!(delivery.id = %delivery.id, error = chain(&error), "a webhook's job cannot be read");
                return;
            }
        };
        let now = jiff::Timestamp::now();
        if delivery.tries == 0 {
            let since = now.as_millisecond() - delivery.at_ms;
            self.metrics.lag(Duration::from_millis(u64::try_from(since).unwrap_or_default()));
        }
        let selection = match &job {
            // A payload without it is better than none.
            Some(job) => of_batch(self.webhooks.queue(), &delivery.tenant, job).await.unwrap_or_else(|error| {
                tracing::debug!(delivery.id = %delivery.id, error = chain(&error), "the jobs of a batch are not compared");
                None
            }),
            None => None,
        };
        let body = payload::payload(&delivery, job, selection);
        let (id, seconds) = (format!("msg_{}", delivery.message), now.as_second());
        let signatures: Vec<_> =
            delivery.secrets.iter().map(|secret| secret.sign(&id, seconds, body.as_bytes())).collect();
        let message = Message { id, seconds, signatures: signatures.join(" "), body };
        let answer = self.sender.send(&delivery.url, message).await;

        let outcome = answer.outcome(self.pause_after(&delivery));
        self.metrics.attempted(outcome, answer.refused, answer.took);
        tracing::debug!(
            delivery.id = %delivery.id, webhook.endpoint = %delivery.endpoint, tenant.id = %delivery.tenant,
            http.status = answer.status, ?outcome, error = answer.error, "attempted a webhook"
        );
        let attempt = Attempt {
            at_ms: now.as_millisecond(),
            took_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
            status: answer.status,
            error: answer.error,
            response: answer.response,
        };
        self.report(&delivery, outcome, &attempt, end).await;
    }

    /// What the event is about; `None` when the record has expired, or for a test.
    async fn job(&self, delivery: &ClaimedDelivery) -> Result<Option<JobView>, QueueError> {
        if delivery.event == EventType::Test.as_str() {
            return Ok(None);
        }
        let Ok(job) = delivery.message.parse() else { return Ok(None) };
        match self.webhooks.queue().get(job, &delivery.tenant).await {
            Ok(view) => Ok(Some(view)),
            Err(QueueError::JobNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pause before the next attempt, if there is to be one: with full jitter, so that what failed together does not come
    /// together again.
    fn pause_after(&self, delivery: &ClaimedDelivery) -> Option<Duration> {
        if delivery.event == EventType::Test.as_str() {
            return None;
        }
        let step = self.settings.schedule.get(delivery.tries as usize)?;
        // The upper 32 of a UUIDv4's random bits, as a fraction.
        let random = u32::try_from(uuid::Uuid::new_v4().as_u128() >> 96).unwrap_or(u32::MAX);
        Some(step.mul_f64(2.0 * f64::from(random) / f64::from(u32::MAX)))
    }

    /// Hands in what came of an attempt, for as long as the delivery is ours: while Redis is away it is tried again.
    async fn report(
        &self,
        delivery: &ClaimedDelivery,
        outcome: AttemptOutcome,
        attempt: &Attempt,
        end: Instant,
    ) {
        let attempts = u32::try_from(self.settings.schedule.len()).unwrap_or(u32::MAX);
        let policy = DisablePolicy { failing_for: self.settings.disable_after, failures: attempts };
        loop {
            match self.webhooks.attempted(delivery, outcome, attempt, policy).await {
                Ok(Some(true)) => {
                    tracing::warn!(
                        webhook.endpoint = %delivery.endpoint, tenant.id = %delivery.tenant,
                        "a webhook's endpoint was disabled: it answered 410, or has failed for days"
                    );
                }
                Ok(Some(false)) => {}
                Ok(None) => {
                    tracing::debug!(delivery.id = %delivery.id, "a webhook was delivered too late to count");
                }
                Err(error) if Instant::now() < end => {
                    tracing::debug!(delivery.id = %delivery.id, error = chain(&error), "what came of a webhook is told again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(
                        delivery.id = %delivery.id, error = chain(&error),
                        "what came of a webhook cannot be recorded; it will be sent again"
                    );
                }
            }
            return;
        }
    }
}

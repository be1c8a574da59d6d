//! What delivery workers do: hand over, claim, say what came of it.

use std::time::Duration;

use super::{
    ATTEMPTED, Attempt, CLAIM, DeliveryId, EndpointId, HAND_OVER, Secret, TEST, WebhookError, Webhooks,
    endpoints::{now_ms, old_secrets, parsed_secret},
};
use crate::{
    error::QueueError,
    ids::TenantId,
    queue::{json, parse},
    redis::{Blocking, LONGEST_BLOCK},
    rules::milliseconds,
};

/// How many entries of the outbox one script call hands over.
const HANDED_OVER_AT_ONCE: u32 = 50;
/// How many attempts a delivery's log keeps.
const ATTEMPTS_KEPT: u32 = 12;

/// A delivery in the hands of a worker.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Which.
    pub id: DeliveryId,
    /// Which claim of it this is: proof of holding it.
    claim: String,
    /// Whose endpoint it is for.
    pub endpoint: EndpointId,
    /// Whose job it is about.
    pub tenant: TenantId,
    /// What the event is about: a job's id. Part of the message's id.
    pub message: String,
    /// The name of the event.
    pub event: String,
    /// When it happened (milliseconds since 1970).
    pub at_ms: i64,
    /// Where it goes.
    pub url: String,
    /// Attempts so far.
    pub tries: u32,
    /// When the delivery was made (milliseconds since 1970).
    pub created_ms: i64,
    /// What it is signed with, the newest first.
    pub secrets: Vec<Secret>,
}

/// What was claimed, and when to ask again.
#[derive(Debug)]
pub struct Taken {
    /// The deliveries.
    pub deliveries: Vec<ClaimedDelivery>,
    /// In how long something more is due; `None` when nothing waits.
    pub next: Option<Duration>,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver took it.
    Delivered,
    /// It is to be tried again.
    Retry {
        /// In how long.
        after: Duration,
        /// For how long the receiver wants nothing at all.
        hold: Duration,
    },
    /// It is given up.
    Failed,
    /// It is given up, and the receiver wants nothing more.
    Gone,
}

/// When an endpoint is disabled for failing: both must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisablePolicy {
    /// It has failed for this long.
    pub failing_for: Duration,
    /// This often in a row.
    pub failures: u32,
}

/// How much waits, in the whole deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookBacklog {
    /// Events that nobody has made deliveries of.
    pub outbox: u64,
    /// Receivers for which something waits or is being attempted.
    pub receivers: u64,
    /// For how long the most overdue of them has waited.
    pub overdue: Duration,
}

type Row = (String, String, String, String, String, String, String, String, String, String, String, String);

impl Webhooks {
    /// Makes deliveries of what is in the outbox; answers how many entries there were.
    pub async fn hand_over(&self) -> Result<u64, QueueError> {
        let mut call = self.queue.call(&HAND_OVER);
        call.arg(HANDED_OVER_AT_ONCE).arg(self.pending_ms()).arg(self.width);
        let mut all = 0;
        loop {
            let (number, more): (u64, u8) = self.queue.redis.invoke(&call).await?;
            all += number;
            if more == 0 {
                return Ok(all);
            }
        }
    }

    /// A connection to wait on, see [`Webhooks::wait`].
    pub async fn connect(&self) -> Result<OutboxWatch, QueueError> {
        Ok(OutboxWatch(self.queue.redis.blocking().await?))
    }

    /// Waits for something in the outbox, a second at most; answers whether there is. After an error the connection is to be made anew.
    pub async fn wait(&self, watch: &mut OutboxWatch) -> Result<bool, QueueError> {
        let mut wait = redis::cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(milliseconds(LONGEST_BLOCK));
        wait.arg("STREAMS").arg(self.queue.redis.keys().outbox()).arg("0");
        let reply: Option<redis::Value> = watch.0.query(&wait).await?;
        Ok(reply.is_some())
    }

    /// Takes up to `most` deliveries that are due, each for as long as `lease`: what is not handed in by then is due again.
    pub async fn claim(&self, most: u32, lease: Duration) -> Result<Taken, WebhookError> {
        let mut call = self.queue.call(&CLAIM);
        call.arg(most).arg(milliseconds(lease)).arg(self.width).arg(self.pending_ms());
        let (next, rows): (i64, Vec<Row>) =
            self.queue.redis.invoke(&call).await.map_err(WebhookError::Queue)?;
        let mut deliveries = Vec::with_capacity(rows.len());
        for row in rows {
            deliveries.push(self.claimed(row).await?);
        }
        Ok(Taken { deliveries, next: u64::try_from(next).ok().map(Duration::from_millis) })
    }

    async fn claimed(&self, row: Row) -> Result<ClaimedDelivery, WebhookError> {
        let (id, claim, endpoint, tenant, message, event, at, url, tries, created, secret, old) = row;
        let tenant = TenantId::new(tenant);
        let newest = match secret.as_str() {
            // The first message to a URL that a job names, and nobody has asked for the secret yet.
            "" => self.secret_of_jobs(&tenant).await?,
            text => parsed_secret(text)?,
        };
        let now = now_ms();
        let old = old_secrets(&old)?.into_iter().filter(|(_, until)| *until > now).map(|(secret, _)| secret);
        Ok(ClaimedDelivery {
            id: DeliveryId(id),
            claim,
            endpoint: EndpointId(endpoint),
            tenant,
            message,
            event,
            at_ms: parse(&at)?,
            url,
            tries: parse(&tries)?,
            created_ms: parse(&created)?,
            secrets: std::iter::once(newest).chain(old).collect(),
        })
    }

    /// Says what came of an attempt. Answers whether the endpoint was disabled by it; `None` when the lease was over and another worker has
    /// the delivery.
    pub async fn attempted(
        &self,
        delivery: &ClaimedDelivery,
        outcome: AttemptOutcome,
        attempt: &Attempt,
        policy: DisablePolicy,
    ) -> Result<Option<bool>, QueueError> {
        let (name, after, hold) = match outcome {
            AttemptOutcome::Delivered => ("delivered", Duration::ZERO, Duration::ZERO),
            AttemptOutcome::Retry { after, hold } => ("retry", after, hold),
            AttemptOutcome::Failed => ("failed", Duration::ZERO, Duration::ZERO),
            AttemptOutcome::Gone => ("gone", Duration::ZERO, Duration::ZERO),
        };
        let mut call = self.queue.call(&ATTEMPTED);
        call.arg(&delivery.id.0).arg(&delivery.claim).arg(name);
        call.arg(milliseconds(after)).arg(milliseconds(hold)).arg(json(attempt)?).arg(ATTEMPTS_KEPT);
        call.arg(self.kept_ms()).arg(self.pending_ms());
        call.arg(policy.failures).arg(milliseconds(policy.failing_for)).arg(self.width);
        let answer: String = self.queue.redis.invoke(&call).await?;
        Ok(match answer.as_str() {
            "late" => None,
            other => Some(other == "disabled"),
        })
    }

    /// Makes a delivery of the event `webhook.test` to an endpoint, which workers attempt once.
    pub async fn test(&self, tenant: &TenantId, endpoint: &EndpointId) -> Result<DeliveryId, WebhookError> {
        let message = uuid::Uuid::now_v7().to_string();
        let mut call = self.queue.call(&TEST);
        call.arg(tenant.as_str()).arg(endpoint.as_str()).arg(message).arg(self.pending_ms()).arg(self.width);
        let id: Option<String> = self.queue.ask(&call).await?;
        id.map(DeliveryId).ok_or(WebhookError::NotFound)
    }

    /// How much waits.
    pub async fn backlog(&self) -> Result<WebhookBacklog, QueueError> {
        let keys = self.queue.redis.keys();
        let mut read = redis::pipe();
        read.cmd("XLEN").arg(keys.outbox()).zcard(keys.lanes()).zrange_withscores(keys.lanes(), 0, 0);
        let (outbox, receivers, first): (u64, u64, Vec<(String, f64)>) =
            self.queue.redis.pipeline(&read).await?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "times in milliseconds are whole and far below 2^52"
        )]
        let overdue = first.first().map_or(0, |(_, due)| now_ms() - *due as i64);
        let overdue = Duration::from_millis(u64::try_from(overdue).unwrap_or_default());
        Ok(WebhookBacklog { outbox, receivers, overdue })
    }
}

/// A connection to wait on for events.
pub struct OutboxWatch(Blocking);

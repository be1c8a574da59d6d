//! The log of an endpoint's deliveries, and sending some of them again.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeliveryId, EndpointId, RESEND, WebhookError, Webhooks};
use crate::{error::QueueError, ids::TenantId, queue::parse};

/// How many deliveries one step of a long resend looks at.
const RESENT_AT_ONCE: usize = 100;
/// How many deliveries a page of the log looks at, at most, to find those that are wanted.
const SCANNED: usize = 1000;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its next attempt, or is being attempted.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It was given up.
    Failed,
}

/// One attempt, as it is kept: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began (milliseconds since 1970).
    pub at_ms: i64,
    /// How long it took.
    pub took_ms: u64,
    /// The HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer's body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response: String,
}

/// One event for one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The name of the event.
    pub event: String,
    /// What the event is about: a job's id.
    pub message: String,
    /// The URL, if a job named it.
    pub url: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// When the event happened (milliseconds since 1970).
    pub at_ms: i64,
    /// When it was given up or taken.
    pub ended_ms: Option<i64>,
    /// When its next attempt is due, while it waits for one.
    pub due_ms: Option<i64>,
    /// Its attempts, oldest first; of many the last.
    pub attempts: Vec<Attempt>,
}

/// A page of a log.
#[derive(Debug)]
pub struct Deliveries {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
    /// How many to pass over for the next page; `None` at the end. A page may be short though there is a next one.
    pub next: Option<usize>,
}

/// Which deliveries to send again. One that waits for its next attempt gets it at once.
#[derive(Debug, Clone)]
pub enum Resend {
    /// This one.
    One(DeliveryId),
    /// Those made in this time (milliseconds since 1970).
    Range {
        /// Not before.
        since_ms: i64,
        /// Not after.
        until_ms: i64,
        /// Only those that were given up; then the time is that at which they were.
        failed_only: bool,
    },
}

impl Webhooks {
    /// A delivery of an endpoint.
    pub async fn delivery(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        id: &DeliveryId,
    ) -> Result<Delivery, WebhookError> {
        let found = self.read_deliveries(std::slice::from_ref(id)).await?.pop().flatten();
        let own =
            found.filter(|(owner, delivery)| owner == tenant.as_str() && delivery.endpoint == *endpoint);
        own.map(|(_, delivery)| delivery).ok_or(WebhookError::NoDelivery)
    }

    /// A page of an endpoint's log, newest first; with `state`, of those in it.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        state: Option<DeliveryState>,
        first: usize,
        most: usize,
    ) -> Result<Deliveries, WebhookError> {
        // So that another tenant's is not told apart from one that is not there.
        self.endpoint(tenant, endpoint).await?;
        let log = self.queue.redis.keys().log(endpoint.as_str(), state == Some(DeliveryState::Failed));
        let (mut deliveries, mut place) = (Vec::new(), first);
        loop {
            let mut read = redis::cmd("ZREVRANGE");
            read.arg(&log).arg(place).arg(place + most - 1);
            let ids: Vec<String> = self.queue.redis.query(&read).await?;
            let (number, ids) = (ids.len(), ids.into_iter().map(DeliveryId).collect::<Vec<_>>());
            for (offset, found) in self.read_deliveries(&ids).await?.into_iter().enumerate() {
                let Some((_, delivery)) = found else { continue };
                if state.is_none_or(|state| state == delivery.state) {
                    deliveries.push(delivery);
                }
                if deliveries.len() == most {
                    return Ok(Deliveries { deliveries, next: Some(place + offset + 1) });
                }
            }
            place += number;
            if number < most {
                return Ok(Deliveries { deliveries, next: None });
            }
            if place - first >= SCANNED {
                return Ok(Deliveries { deliveries, next: Some(place) });
            }
        }
    }

    /// Several deliveries with their tenants; `None` for each that has expired.
    async fn read_deliveries(
        &self,
        ids: &[DeliveryId],
    ) -> Result<Vec<Option<(String, Delivery)>>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.queue.redis.keys();
        let mut read = redis::pipe();
        for id in ids {
            read.hgetall(keys.delivery(&id.0));
        }
        let records: Vec<HashMap<String, String>> = self.queue.redis.pipeline(&read).await?;
        let mut scores = redis::pipe();
        for (id, record) in ids.iter().zip(&records) {
            let lane = record.get("lane").map_or("", String::as_str);
            scores.cmd("ZSCORE").arg(keys.due(lane, false)).arg(&id.0);
        }
        let due: Vec<Option<f64>> = self.queue.redis.pipeline(&scores).await?;
        let found = ids.iter().zip(records).zip(due).map(|((id, record), due)| delivery(id, record, due));
        found.collect()
    }

    /// Sends deliveries of an endpoint again, with the same id and a new schedule; answers how many. Many take several steps.
    pub async fn resend(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        which: &Resend,
    ) -> Result<u64, WebhookError> {
        let call = || {
            let mut call = self.queue.call(&RESEND);
            call.arg(tenant.as_str()).arg(endpoint.as_str()).arg(self.pending_ms()).arg(self.width);
            call
        };
        match which {
            Resend::One(id) => {
                let mut call = call();
                call.arg("one").arg(&id.0);
                let sent: Option<(u64, i64)> = self.queue.ask(&call).await?;
                sent.map(|(sent, _)| sent).ok_or(WebhookError::NoDelivery)
            }
            Resend::Range { since_ms, until_ms, failed_only } => {
                let (mut sent, mut passed) = (0, 0);
                loop {
                    let mut call = call();
                    call.arg("range").arg(*since_ms).arg(*until_ms).arg(u8::from(*failed_only));
                    call.arg(RESENT_AT_ONCE).arg(passed);
                    let step: Option<(u64, i64)> = self.queue.ask(&call).await?;
                    let (number, next) = step.ok_or(WebhookError::NotFound)?;
                    sent += number;
                    if next < 0 {
                        return Ok(sent);
                    }
                    passed = next;
                }
            }
        }
    }
}

fn delivery(
    id: &DeliveryId,
    mut record: HashMap<String, String>,
    due: Option<f64>,
) -> Result<Option<(String, Delivery)>, QueueError> {
    let mut take = |name: &str| record.remove(name);
    // What is left of an expired one has no tenant.
    let (Some(tenant), Some(endpoint)) = (take("tenant"), take("endpoint")) else { return Ok(None) };
    let corrupt = |what: String| QueueError::Corrupt(format!("a delivery's {what}"));
    let state = match take("state").unwrap_or_default().as_str() {
        "pending" => DeliveryState::Pending,
        "delivered" => DeliveryState::Delivered,
        "failed" => DeliveryState::Failed,
        other => return Err(corrupt(format!("state is {other:?}"))),
    };
    let attempts = take("log").unwrap_or_default();
    let attempts = attempts.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    #[expect(clippy::cast_possible_truncation, reason = "times in milliseconds are whole and far below 2^52")]
    let due_ms = due.map(|due| due as i64);
    let delivery = Delivery {
        id: id.clone(),
        endpoint: EndpointId(endpoint),
        event: take("event").unwrap_or_default(),
        message: take("message").unwrap_or_default(),
        url: take("url"),
        state,
        at_ms: parse(&take("at").unwrap_or_default())?,
        ended_ms: take("ended").map(|ended| parse(&ended)).transpose()?,
        due_ms,
        attempts: attempts.map_err(|error| corrupt(format!("attempts: {error}")))?,
    };
    Ok(Some((tenant, delivery)))
}

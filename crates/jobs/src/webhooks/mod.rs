//! Telling receivers of the ends of jobs: endpoints of a tenant, and URLs that single jobs name.
//!
//! The script that ends a job also writes an entry to the stream `outbox`. [`Webhooks::hand_over`] makes a *delivery* of it for
//! each receiver, and removes the entry, in one script. What is due stands apart for each receiver, in its *lane*: an
//! endpoint has one of its own, and so has each server that the URLs of a tenant's jobs name. Workers claim what is due under
//! a lease, and say what came of it. The lanes take turns, and one whose receiver does not answer gets one attempt at a time, so that it
//! neither delays nor evicts another's deliveries. Keys and their types are listed in `scripts`; how a lane works, in `lanes.lua`.
//!
//! Guaranteed: an event is delivered at least once, or was attempted as often as the schedule has steps, as long as Redis
//! keeps its data, whoever dies when. Not guaranteed: that it is delivered once only, or in the order of the events; nor anything
//! beyond the bounds (about 500,000 events while nobody hands over, 100,000 deliveries for each endpoint).

mod deliveries;
mod endpoints;
mod event;
mod secret;
mod work;

use std::{fmt, sync::LazyLock, time::Duration};

use redis::Script;
use serde::{Deserialize, Serialize};

use crate::{
    error::QueueError,
    ids::TenantId,
    queue::Queue,
    rules::milliseconds,
    scripts::{VERSION, assemble},
};

pub use deliveries::{Attempt, Deliveries, Delivery, DeliveryState, Resend};
pub use endpoints::{Endpoint, EndpointChange, Health, MOST_ENDPOINTS, NewEndpoint, check_url};
pub use event::EventType;
pub use secret::{InvalidSecret, NoRandomness, Secret};
pub use work::{AttemptOutcome, ClaimedDelivery, DisablePolicy, OutboxWatch, Taken, WebhookBacklog};

/// How much longer than an ended one a delivery is kept that has not ended: longer than a schedule takes.
const PENDING_LONGER: Duration = Duration::from_hours(8 * 24);

/// Why a call about webhooks failed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The tenant has no such endpoint.
    #[error("no webhook with this id")]
    NotFound,
    /// The endpoint has no such delivery (any more).
    #[error("no delivery with this id")]
    NoDelivery,
    /// The tenant has as many endpoints as it may.
    #[error("there are {MOST_ENDPOINTS} webhooks already, which is the most")]
    Full,
    /// No secret can be made.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Redis.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// An endpoint of a tenant, or what stands for the URLs that its single jobs name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointId(String);

impl EndpointId {
    fn generate() -> Self {
        Self(format!("ep_{}", uuid::Uuid::now_v7().simple()))
    }

    /// What stands for all URLs that a tenant's single jobs name: it has their secret and their deliveries.
    pub fn of_jobs(tenant: &TenantId) -> Self {
        Self(format!("jobs/{tenant}"))
    }

    /// The endpoint that a tenant calls so: `jobs`, or an id. `None` for what no endpoint can be called.
    pub fn parse(text: &str, tenant: &TenantId) -> Option<Self> {
        let is_id = |text: &str| {
            text.strip_prefix("ep_")
                .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        };
        match text {
            "jobs" => Some(Self::of_jobs(tenant)),
            id => is_id(id).then(|| Self(id.to_owned())),
        }
    }

    /// Whether it stands for the URLs of single jobs.
    pub fn is_of_jobs(&self) -> bool {
        self.0.starts_with("jobs/")
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    /// As its tenant calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_of_jobs() { "jobs" } else { &self.0 })
    }
}

/// One event for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// `None` for what is no id.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn script(own: &str) -> Script {
    assemble(VERSION, &["records", "jobs"], &[include_str!("lanes.lua"), own])
}

static HAND_OVER: LazyLock<Script> = LazyLock::new(|| script(include_str!("hand_over.lua")));
static CLAIM: LazyLock<Script> = LazyLock::new(|| script(include_str!("claim.lua")));
static ATTEMPTED: LazyLock<Script> = LazyLock::new(|| script(include_str!("attempted.lua")));
static ENDPOINT: LazyLock<Script> = LazyLock::new(|| script(include_str!("endpoint.lua")));
static RESEND: LazyLock<Script> = LazyLock::new(|| script(include_str!("resend.lua")));
static TEST: LazyLock<Script> = LazyLock::new(|| script(include_str!("test.lua")));

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    queue: Queue,
    /// Attempts that one receiver gets at once.
    width: u32,
}

/// Attempts that one receiver gets at once unless something else is set.
pub const DEFAULT_WIDTH: u32 = 10;

impl Webhooks {
    /// The webhooks of this queue.
    pub fn new(queue: Queue) -> Self {
        Self { queue, width: DEFAULT_WIDTH }
    }

    /// The same with so many attempts at once for one receiver. All workers should have the same.
    #[must_use]
    pub fn with_width(self, width: u32) -> Self {
        Self { width: width.max(1), ..self }
    }

    /// The queue underneath.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Milliseconds that a delivery is kept which has ended.
    fn kept_ms(&self) -> u64 {
        milliseconds(self.queue.retention().jobs)
    }

    /// Milliseconds that one is kept which has not.
    fn pending_ms(&self) -> u64 {
        milliseconds(self.queue.retention().jobs + PENDING_LONGER)
    }
}

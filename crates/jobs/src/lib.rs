#![doc = include_str!("../README.md")]

pub mod backend;
pub mod blobs;
pub mod documents;
mod error;
mod events;
mod ids;
mod outage;
pub mod private_redis;
mod queue;
mod record;
mod redis;
mod scripts;
mod state;

pub use error::{ErrorCode, JobError, QueueError, chain};
pub use events::Events;
pub use ids::{CacheKey, Fence, InvalidId, JobId, RunId, TenantId, WorkerId};
pub use outage::Outage;
pub use queue::{Depth, LEASE, Queue, Reaped, Retention, Stop};
pub use record::{
    Accepted, CacheMode, Claim, Finish, Idempotency, JobView, Kind, Outcome, Priority, Progress, Receipt,
    StoredResult, Submission,
};
pub use redis::Redis;
pub use state::JobState;

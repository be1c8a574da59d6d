#![doc = include_str!("../README.md")]

pub mod backend;
mod batch;
pub mod blobs;
mod cache;
pub mod documents;
mod error;
mod events;
mod facets;
pub mod holdouts;
mod ids;
pub mod ledger;
mod lock;
mod outage;
pub mod private_redis;
mod queue;
mod record;
mod redis;
mod rules;
mod scripts;
mod state;
mod tags;
mod tls;
mod together;
mod trial;
mod unused;
mod view;
pub mod webhooks;
mod work;
mod workers;

pub use batch::{BatchSubmission, Child, OnFailure};
pub use cache::{CacheStats, Evicted, collect_garbage};
pub use error::{ErrorCode, JobError, QueueError, chain};
pub use events::{Events, Watch};
pub use facets::{Facets, Selector};
pub use ids::{CacheKey, Fence, InvalidId, JobId, RunId, TenantId, WorkerId};
pub use lock::Lock;
pub use outage::Outage;
pub use queue::{Backlog, Depth, Filter, MAX_OPEN, Page, Queue, Retention, Share};
pub use record::{
    Accepted, CacheMode, Claim, Details, Finish, Idempotency, Kind, Looks, Outcome, Priority, Progress,
    Receipt, Stored, StoredResult, Submission, Treatment,
};
pub use redis::{Redis, RedisAccess, RedisCall};
pub use rules::LEASE;
pub use state::JobState;
pub use tags::{InvalidTags, Tags};
pub use tls::choose_tls;
pub use unused::{Collected, Patience, collect_unused};
pub use view::{Counts, JobView, Troubles};
pub use work::{Free, Reaped, Stop};
pub use workers::{RunAtWork, Working};

//! All contact of the measurements with the API of `jobs`: when that changes, this module follows, and they stay what
//! they are. (`chaos` is about what that API promises, so it uses it as it is.)

use std::time::{SystemTime, UNIX_EPOCH};

use jobs::{
    BatchSubmission, CacheKey, Child, Claim, Facets, Free, JobState, Kind, OnFailure, Outcome, Progress,
    Queue, Receipt, Redis, Retention, Stored, StoredResult, Submission, TenantId, Treatment, WorkerId,
    backend::{Capacity, LeaseBackend},
    blobs::BlobId,
};
use serde_json::value::RawValue;

pub(crate) use jobs::{
    JobId, QueueError,
    backend::{Assignment, Handled},
};

/// Keeps the keys apart from those of a real deployment; `bench/queues.py` looks for result records under it.
const NAME: &str = "bench";
/// Shared by all calls.
const CONNECTIONS: usize = 4;

/// The queue in this Redis; nothing is connected yet.
pub(crate) fn open(url: &str) -> Result<Queue, QueueError> {
    Ok(Queue::new(Redis::open(url, NAME, CONNECTIONS)?, Retention::default()).with_max_open(u32::MAX))
}

/// Nanoseconds since 1970: a number that no other process has.
pub(crate) fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// What a job carries.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// Shown with the job (JSON).
    pub(crate) request: String,
    /// What a worker gets (JSON).
    pub(crate) plan: String,
}

/// The queue under test.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    queue: Queue,
    worker: WorkerId,
    tenant: TenantId,
    /// Makes cache keys of one process differ from those of any other.
    origin: u128,
}

impl Bench {
    /// The queue in this Redis; nothing is connected yet.
    pub(crate) fn open(url: &str) -> Result<Self, QueueError> {
        let (queue, origin) = (open(url)?, now_ns());
        let worker = WorkerId::new(format!("bench-{}", std::process::id()));
        Ok(Self { queue, worker, tenant: TenantId::default_tenant(), origin })
    }

    /// Opens every connection; what it reads is not there.
    pub(crate) async fn connect(&self) -> Result<(), QueueError> {
        let nothing = |_| async {
            match self.get(JobId::generate()).await {
                Err(error) if !matches!(error, QueueError::JobNotFound) => Err(error),
                _ => Ok(()),
            }
        };
        futures::future::try_join_all((0..CONNECTIONS).map(nothing)).await?;
        Ok(())
    }

    /// `number` makes the cache key: equal ones would be coalesced.
    fn submission(&self, number: usize, payload: Payload) -> Submission {
        Submission {
            tenant: self.tenant.clone(),
            kind: Kind::Backtest,
            treatment: Treatment::default(),
            cache_key: self.cache_key(number),
            request: payload.request,
            plan: payload.plan,
            start_at_ms: None,
            deadline_ms: None,
            idempotency: None,
            instead_of: None,
            trial_of: Vec::new(),
        }
    }

    /// Accepts one job.
    pub(crate) async fn submit(&self, number: usize, payload: Payload) -> Result<JobId, QueueError> {
        Ok(self.queue.submit(&self.submission(number, payload)).await?.0)
    }

    fn cache_key(&self, number: usize) -> CacheKey {
        CacheKey::new(format!("{:032x}{number:032x}", self.origin))
    }

    /// Accepts many jobs in one call, and gives each its record.
    pub(crate) async fn submit_many(
        &self,
        numbers: std::ops::Range<usize>,
        payload: &Payload,
    ) -> Result<JobId, QueueError> {
        let child = |number| Child {
            cache_key: self.cache_key(number),
            request: payload.request.clone(),
            plan: 0,
            trial_of: Vec::new(),
        };
        let batch = BatchSubmission {
            tenant: self.tenant.clone(),
            kind: Kind::Backtest,
            treatment: Treatment::default(),
            on_failure: OnFailure::Continue,
            request: "{}".into(),
            plans: vec![payload.plan.clone()],
            children: numbers.map(child).collect(),
            idempotency: None,
        };
        let (id, _) = self.queue.submit_batch(&batch).await?;
        self.queue.open(id).await?;
        Ok(id)
    }

    /// Reads a job; answers whether it has succeeded.
    pub(crate) async fn get(&self, job: JobId) -> Result<bool, QueueError> {
        Ok(self.queue.get(job, &self.tenant).await?.state == JobState::Succeeded)
    }

    /// Cancels a job.
    pub(crate) async fn cancel(&self, job: JobId) -> Result<(), QueueError> {
        self.queue.cancel(job, &self.tenant).await?;
        Ok(())
    }

    /// Claims up to `slots` runs.
    pub(crate) async fn claim(&self, slots: u32) -> Result<Vec<Claim>, QueueError> {
        Ok(self.queue.claim(&self.worker, Free { slots, memory_mb: 0, idle: true }).await?.0)
    }

    /// Renews one lease.
    pub(crate) async fn renew(&self, claim: &Claim) -> Result<(), QueueError> {
        self.queue.renew(&[(claim.run, claim.fence)]).await?;
        Ok(())
    }

    /// Reports progress.
    pub(crate) async fn progress(&self, claim: &Claim) -> Result<(), QueueError> {
        let progress = Progress { fraction: 0.5, message: "2023-06-01".into(), eta_s: Some(1.5) };
        self.queue.progress(claim.run, claim.fence, &progress).await?;
        Ok(())
    }

    /// Hands in a success and settles the job that waits for it.
    pub(crate) async fn finish(&self, claim: &Claim, summary: String) -> Result<(), QueueError> {
        self.queue.finish(claim, &success(claim, summary)).await?;
        Ok(())
    }

    /// What an apalis worker takes its runs from.
    pub(crate) fn backend(&self, slots: u32) -> LeaseBackend {
        LeaseBackend::new(self.queue.clone(), self.worker.clone(), Capacity { slots, memory_mb: 0 })
    }
}

/// The plan of an assignment.
pub(crate) fn plan(assignment: &Assignment) -> &str {
    &assignment.claim.plan
}

/// What a handler answers that has nothing to do.
pub(crate) fn handled(assignment: &Assignment) -> Handled {
    Handled::Finished(success(&assignment.claim, r#"{"ok":true}"#.into()))
}

fn success(claim: &Claim, summary: String) -> Outcome {
    // Each run has a result of its own, as with different cache keys.
    let id = claim.run.to_string();
    let receipt =
        Receipt { blob: BlobId::of(b"nothing"), file: None, bytes: 0, provenance: RawValue::NULL.to_owned() };
    let stored = Stored { bytes: 20_000, facets: Facets::new("Binance", ["BTC-USDT"], ["Sma"]) };
    Outcome::Succeeded(StoredResult { id, summary, receipt, stored: Some(stored), trial: None })
}

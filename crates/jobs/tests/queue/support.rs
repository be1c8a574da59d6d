//! A queue of its own for each test, and short names for what tests do again and again.
use jobs::{
    Accepted, BatchSubmission, CacheKey, Child, Claim, ErrorCode, Facets, Free, JobError, JobId, JobState,
    JobView, Kind, OnFailure, Outcome, Queue, Reaped, Receipt, Redis, Retention, Stored, StoredResult,
    Submission, TenantId, Treatment, WorkerId, blobs::BlobId,
};
use serde_json::value::RawValue;

use crate::server::TestRedis;

pub(crate) struct Bench {
    pub(crate) queue: Queue,
    pub(crate) worker: WorkerId,
    pub(crate) tenant: TenantId,
    pub(crate) server: TestRedis,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::on(TestRedis::shared().await)
    }

    /// On a Redis that this test may stop or cut off.
    pub(crate) async fn alone() -> Self {
        Self::on(TestRedis::own().await)
    }

    fn on(server: TestRedis) -> Self {
        let queue = Queue::new(Redis::open(server.url(), server.name(), 4).unwrap(), Retention::default());
        Self { queue, worker: WorkerId::new("w1"), tenant: TenantId::default_tenant(), server }
    }

    /// The same queue as another program would open it.
    pub(crate) fn redis_again(&self) -> Redis {
        Redis::open(self.server.url(), self.server.name(), 2).unwrap()
    }

    #[expect(clippy::unused_self, reason = "reads as all the others")]
    pub(crate) fn submission(&self, key: &str) -> Submission {
        submission(key)
    }

    /// The same with a change to how it is treated.
    pub(crate) fn with(&self, key: &str, change: impl FnOnce(&mut Treatment)) -> Submission {
        let mut submission = self.submission(key);
        change(&mut submission.treatment);
        submission
    }

    pub(crate) fn batch(&self, keys: impl IntoIterator<Item = String>) -> BatchSubmission {
        let child = |key: String| Child {
            request: format!(r#"{{"of":"{key}"}}"#),
            cache_key: CacheKey::new(key),
            plan: 0,
            trial_of: Vec::new(),
        };
        BatchSubmission {
            tenant: self.tenant.clone(),
            kind: Kind::Backtest,
            treatment: Treatment::default(),
            on_failure: OnFailure::Continue,
            request: "{}".into(),
            plans: vec![r#"{"plan":"shared"}"#.into()],
            children: keys.into_iter().map(child).collect(),
            idempotency: None,
        }
    }

    /// Accepts a batch and gives its children their records.
    pub(crate) async fn submit_batch(&self, batch: &BatchSubmission) -> JobId {
        let (id, accepted) = self.queue.submit_batch(batch).await.unwrap();
        assert_eq!(accepted, Accepted::Queued);
        self.queue.open(id).await.unwrap();
        id
    }

    pub(crate) async fn submit(&self, key: &str) -> JobId {
        let (job, accepted) = self.queue.submit(&self.submission(key)).await.unwrap();
        assert_eq!(accepted, Accepted::Queued);
        job
    }

    /// The same call by somebody else.
    pub(crate) async fn submit_from(&self, tenant: &str, key: &str) -> (JobId, Accepted) {
        let submission = Submission { tenant: TenantId::new(tenant), ..self.submission(key) };
        self.queue.submit(&submission).await.unwrap()
    }

    /// As many claims as there are, up to this number.
    pub(crate) async fn claims(&self, slots: u32) -> Vec<Claim> {
        self.claims_with(Free { slots, memory_mb: 0, idle: true }).await
    }

    pub(crate) async fn claims_with(&self, free: Free) -> Vec<Claim> {
        loop {
            let (claims, more) = self.queue.claim(&self.worker, free).await.unwrap();
            if !claims.is_empty() || !more {
                return claims;
            }
        }
    }

    pub(crate) async fn claim(&self) -> Claim {
        self.claims(1).await.pop().unwrap()
    }

    pub(crate) async fn nothing_to_claim(&self) {
        assert!(self.claims(1).await.is_empty());
    }

    pub(crate) async fn finish(&self, claim: &Claim, outcome: &Outcome) {
        assert_eq!(self.queue.finish(claim, outcome).await.unwrap(), jobs::Finish::Accepted);
    }

    pub(crate) async fn view(&self, job: JobId) -> JobView {
        self.queue.get(job, &self.tenant).await.unwrap()
    }

    pub(crate) async fn state(&self, job: JobId) -> JobState {
        self.view(job).await.state
    }

    pub(crate) async fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.server.raw().await
    }

    /// The name of a key of this queue.
    pub(crate) fn key(&self, name: &str) -> String {
        self.server.key(name)
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query_async(&mut self.redis().await).await.unwrap()
    }

    /// Redis's clock.
    pub(crate) async fn now_ms(&self) -> i64 {
        let (seconds, micros): (i64, i64) = self.command(&["TIME"]).await;
        seconds * 1_000 + micros / 1_000
    }

    /// The reconciler, as if the last round had been a moment ago.
    pub(crate) async fn reap(&self) -> Reaped {
        let _gone: u64 = self.command(&["DEL", &self.key("beat"), &self.key("calm")]).await;
        self.queue.reap().await.unwrap()
    }

    /// Makes every lease look as if it had ended, which would take ten seconds of waiting.
    pub(crate) async fn end_all_leases(&self) {
        let mut redis = self.redis().await;
        let leases = self.key("leases");
        let held: Vec<String> =
            redis::cmd("ZRANGE").arg(&leases).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
        for run in held {
            redis::cmd("ZADD").arg(&leases).arg(1).arg(run).exec_async(&mut redis).await.unwrap();
        }
    }

    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.queue.counters().await.unwrap().get(name).copied().unwrap_or(0)
    }

    /// Nothing that was needed for the way of a job may be left when all jobs have ended.
    pub(crate) async fn assert_nothing_left(&self) {
        let mut keys = self.server.keys().await;
        let kept = [
            "job:",
            "request:",
            "result:",
            "done:",
            "inbox:",
            "idem:",
            "tenant:",
            "list:",
            "batch:",
            "kids:",
            "lists",
            "events",
            "outbox",
            "stats",
            "seq",
            "sched",
            "idle",
            "beat",
            "cache",
            "garbage",
            "purges",
            "tried:",
            "campaigns:",
            "trial:",
            "vault:",
            "looks:",
            "campaign:",
        ];
        keys.retain(|key| !kept.iter().any(|kept| key.starts_with(kept)));
        assert!(keys.is_empty(), "left in Redis: {keys:?}");
        let ready: Option<i64> = self.command(&["HGET", &self.key("sched"), "ready"]).await;
        assert_eq!(ready.unwrap_or(0), 0, "runs ready");
        let tenants: Vec<String> = self.command(&["KEYS", &self.key("tenant:*")]).await;
        for tenant in tenants {
            let counts: (Option<i64>, Option<i64>) =
                self.command(&["HMGET", &tenant, "open", "running"]).await;
            assert_eq!((counts.0.unwrap_or(0), counts.1.unwrap_or(0)), (0, 0), "{tenant}: open and running");
        }
    }
}

pub(crate) fn submission(key: &str) -> Submission {
    Submission {
        tenant: TenantId::default_tenant(),
        kind: Kind::Backtest,
        treatment: Treatment::default(),
        cache_key: CacheKey::new(key),
        request: format!(r#"{{"of":"{key}"}}"#),
        plan: format!(r#"{{"plan":"{key}"}}"#),
        start_at_ms: None,
        deadline_ms: None,
        idempotency: None,
        instead_of: None,
        trial_of: Vec::new(),
    }
}

pub(crate) fn success(id: &str) -> Outcome {
    success_about(id, 1_000, Facets::new("Binance", ["BTC-USDT"], ["Sma"]))
}

/// A result whose body takes up this much.
pub(crate) fn success_about(id: &str, bytes: u64, facets: Facets) -> Outcome {
    Outcome::Succeeded(StoredResult {
        trial: None,
        stored: Some(Stored { bytes, facets }),
        id: id.into(),
        summary: r#"{"total":3}"#.into(),
        receipt: Receipt {
            blob: BlobId::of(id.as_bytes()),
            file: None,
            bytes: 12,
            provenance: RawValue::from_string("{}".into()).unwrap(),
        },
    })
}

pub(crate) fn failure() -> JobError {
    JobError::new(ErrorCode::EngineCrashed, "it fell over")
}

/// The key that a claim's request was made of.
pub(crate) fn key_of(claim: &Claim) -> String {
    let request: serde_json::Value = serde_json::from_str(&claim.request).unwrap();
    request["of"].as_str().unwrap().to_owned()
}

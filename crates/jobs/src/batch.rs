//! Many jobs under one id.
//!
//! A batch is staged first: its children and what they share of their plans, in lists that expire by themselves. Then
//! one script makes it visible as a whole. After that its children are given records in chunks (`open`); those that
//! the cache answers end at once. The others stand in the queue as one entry, which yields them one by one. A stopped
//! batch yields nothing from that moment on, and its children are cancelled in chunks (`close`). Whoever commits or
//! cancels does the chunks right away; reconcilers finish what it could not.

use std::time::Duration;

use schemars::JsonSchema;

use crate::{
    error::{QueueError, chain},
    ids::{CacheKey, JobId, RunId, TenantId},
    queue::{BETWEEN_CAMPAIGNS, Queue, json, parse, views},
    record::{Accepted, Details, Idempotency, Kind, Treatment},
    view::{JobView, Records},
};

/// How many children are staged in one command.
const STAGED_AT_ONCE: usize = 500;
/// How long a batch may take from its first staged child to its commit.
const STAGED_FOR: Duration = Duration::from_mins(10);

/// What becomes of the other children when one did not succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They go on.
    #[default]
    Continue,
    /// They are cancelled.
    Stop,
}

/// One job of a batch about to be accepted.
#[derive(Debug, Clone)]
pub struct Child {
    /// What its result depends on.
    pub cache_key: CacheKey,
    /// What it computes (JSON).
    pub request: String,
    /// Which of the batch's plans it uses.
    pub plan: usize,
    /// The campaigns in whose ledgers it counts, if it is a trial of an idea.
    pub trial_of: Vec<String>,
}

/// A batch about to be accepted.
#[derive(Debug, Clone)]
pub struct BatchSubmission {
    /// Whose it is.
    pub tenant: TenantId,
    /// What its children compute.
    pub kind: Kind,
    /// How each child is to be treated. The webhook is the batch's alone.
    pub treatment: Treatment,
    /// What follows a failure.
    pub on_failure: OnFailure,
    /// What is shown as the batch's request (JSON).
    pub request: String,
    /// What the children share of their plans (JSON).
    pub plans: Vec<String>,
    /// The children, in order.
    pub children: Vec<Child>,
    /// Makes a repeat of this call answer the same batch, for a day.
    pub idempotency: Option<Idempotency>,
}

impl Queue {
    /// Accepts a batch: all of it or nothing. When this returns, it is in Redis, and a repeat after a lost answer
    /// accepts nothing twice. [`Queue::open`] is to be called next; reconcilers do it if the caller does not live to.
    pub async fn submit_batch(&self, batch: &BatchSubmission) -> Result<(JobId, Accepted), QueueError> {
        let id = JobId::generate();
        self.stage(id, batch).await?;
        match self.commit(id, batch).await {
            Err(QueueError::Unavailable(_)) => self.commit(id, batch).await,
            answer => answer,
        }
    }

    async fn stage(&self, id: JobId, batch: &BatchSubmission) -> Result<(), QueueError> {
        let keys = self.redis.keys();
        let (items, plans) = (keys.items(&id.to_string()), keys.plans(&id.to_string()));
        let expire = STAGED_FOR.as_secs().cast_signed();
        for (chunk, first) in batch.plans.chunks(STAGED_AT_ONCE).zip((0..).step_by(STAGED_AT_ONCE)) {
            let mut stage = redis::pipe();
            for (index, plan) in (first..).zip(chunk) {
                let index: usize = index;
                stage.hset(&plans, index, plan).ignore();
            }
            stage.expire(&plans, expire).ignore();
            self.redis.pipeline::<()>(&stage).await?;
        }
        for chunk in batch.children.chunks(STAGED_AT_ONCE) {
            let staged: Vec<_> = chunk
                .iter()
                .map(|Child { cache_key, request, plan, trial_of }| {
                    let (id, run) = (JobId::generate(), RunId::generate());
                    let campaigns = trial_of.join(BETWEEN_CAMPAIGNS);
                    format!("{id} {run} {cache_key} {plan} {campaigns}\n{request}")
                })
                .collect();
            let mut stage = redis::pipe();
            stage.rpush(&items, staged).ignore().expire(&items, expire).ignore();
            self.redis.pipeline::<()>(&stage).await?;
        }
        Ok(())
    }

    async fn commit(&self, id: JobId, batch: &BatchSubmission) -> Result<(JobId, Accepted), QueueError> {
        let BatchSubmission { tenant, kind, treatment, on_failure, request, children, idempotency, .. } =
            batch;
        let Treatment { priority, cache, max_attempts, timeout_s, slots, memory_mb, tags, webhook, looks } =
            treatment;
        let mut call = self.call(&self.scripts.commit);
        call.arg(id.to_string()).arg(tenant.as_str()).arg(kind.as_str()).arg(priority.band());
        call.arg(cache.as_str()).arg(children.len());
        call.arg(match on_failure {
            OnFailure::Continue => "continue",
            OnFailure::Stop => "stop",
        });
        call.arg(*max_attempts).arg(*timeout_s).arg(*slots).arg(*memory_mb);
        call.arg(json(&Details::of(treatment, None, None))?).arg(request).arg(tags.to_lines());
        call.arg(webhook.as_deref().unwrap_or_default());
        let (key, fingerprint) =
            idempotency.as_ref().map_or(("", ""), |given| (&given.key, &given.fingerprint));
        call.arg(key).arg(fingerprint).arg(self.max_open);
        call.arg(looks.as_ref().map(json).transpose()?.unwrap_or_default());
        let (id, answer): (String, String) = self.redis.invoke(&call).await?;
        match answer.as_str() {
            "queued" | "known" => Ok((parse(&id)?, Accepted::Queued)),
            "repeated" => Ok((parse(&id)?, Accepted::Repeated)),
            "conflict" => Err(QueueError::IdempotencyConflict(id)),
            "full" => Err(QueueError::Full),
            // Redis lost what was staged, or it took too long: nothing was accepted.
            "incomplete" => Err(QueueError::Unavailable("what was staged is not there any more".into())),
            other => Err(QueueError::Corrupt(format!("commit answered {other:?}"))),
        }
    }

    /// Gives all children of a batch their records.
    pub async fn open(&self, batch: JobId) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.open);
        call.arg(batch.to_string());
        while self.redis.invoke::<u64>(&call).await? > 0 {}
        Ok(())
    }

    /// The same in the background.
    pub fn open_soon(&self, batch: JobId) {
        let queue = self.clone();
        tokio::spawn(async move {
            if let Err(error) = queue.open(batch).await {
                tracing::debug!(batch.id = %batch, error = chain(&error), "left to be opened by a reconciler");
            }
        });
    }

    /// Cancels all children of a stopped batch that have not ended.
    pub(crate) async fn close(&self, batch: JobId) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.close);
        call.arg(batch.to_string());
        loop {
            // What has no record yet gets one, so that it is there as cancelled.
            self.open(batch).await?;
            if self.redis.invoke::<u64>(&call).await? == 0 {
                return Ok(());
            }
        }
    }

    /// A page of a batch's children in their order, from the one with index `first`, and how many have a record.
    pub async fn children(
        &self,
        batch: JobId,
        tenant: &TenantId,
        first: usize,
        most: usize,
    ) -> Result<(usize, Vec<JobView>), QueueError> {
        let mut call = self.call(&self.scripts.children);
        call.arg(batch.to_string()).arg(tenant.as_str()).arg(first).arg(most);
        let found: Option<(usize, Vec<(String, Records)>)> = self.ask(&call).await?;
        let (total, rows) = found.ok_or(QueueError::JobNotFound)?;
        Ok((total, views(rows)?))
    }
}

//! The queue as its callers see it: one method for each script.
//!
//! Guaranteed: what [`Queue::submit`] acknowledged is in Redis; of a run exactly one outcome is accepted; equal cache
//! keys in flight are computed once. Not guaranteed: that a worker which lost its lease notices before its next
//! renewal (it may compute in vain meanwhile, and its outcome is refused).

use std::{collections::HashMap, time::Duration};

use crate::{
    error::{ErrorCode, JobError, QueueError, chain},
    ids::{Fence, JobId, RunId, TenantId, WorkerId},
    record::{Accepted, Claim, Finish, JobView, Outcome, Progress, Receipt, Submission},
    redis::{Blocking, LONGEST_BLOCK, Redis},
    scripts::SCRIPTS,
    state::JobState,
};

/// How many elements a reconciler touches in one script.
const CHUNK: usize = 100;
/// A run whose worker was lost this often is given up: it may be what kills them.
const STALLS_TOLERATED: u32 = 3;
/// Retries wait a random time of up to `BACK_OFF * 2^attempt`, at most `BACK_OFF_MAX` (full jitter).
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_mins(5);

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// A job's record, after the job has ended.
    pub jobs: Duration,
    /// A result, after it was computed.
    pub results: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let week = Duration::from_hours(7 * 24);
        Self { jobs: week, results: week }
    }
}

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(10);

/// What the reconciler found.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Runs whose lease was over, what became of them (`stalled`, `dead` or `cancelled`), and who held them.
    pub lost: Vec<(RunId, String, String)>,
    /// Finished runs that still have jobs to settle.
    pub unsettled: Vec<RunId>,
}

/// What a renewal says of a run that must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody else holds it, or it is over.
    Lost,
    /// Nobody waits for it any more.
    Cancelled,
}

/// How long the queue is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Depth {
    /// Runs that wait for a worker.
    pub ready: u64,
    /// Runs being computed.
    pub running: u64,
    /// Runs that wait for their time.
    pub delayed: u64,
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    redis: Redis,
    retention: Retention,
}

impl Queue {
    /// The queue in this Redis.
    pub fn new(redis: Redis, retention: Retention) -> Self {
        Self { redis, retention }
    }

    /// How long things are kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// The connection underneath.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Accepts a job. When this returns, the job is in Redis, and it is there once: if an answer of Redis gets lost,
    /// the call is made again under the same id.
    pub async fn submit(&self, submission: &Submission) -> Result<(JobId, Accepted), QueueError> {
        let (job, run) = (JobId::generate(), RunId::generate());
        match self.submit_as(job, run, submission).await {
            Err(QueueError::Unavailable(_)) => self.submit_as(job, run, submission).await,
            answer => answer,
        }
    }

    async fn submit_as(
        &self,
        job: JobId,
        run: RunId,
        submission: &Submission,
    ) -> Result<(JobId, Accepted), QueueError> {
        let Submission { tenant, kind, priority, cache, cache_key, request, plan, max_attempts, idempotency } =
            submission;
        // The plan pins code and candles and has the limits: an edit in between makes it another call.
        let same_call = blake3::hash(
            format!("{kind:?} {priority:?} {cache:?} {max_attempts} {cache_key} {request} {plan}").as_bytes(),
        );
        let mut call = self.redis.script(&SCRIPTS.submit);
        call.arg(job.to_string()).arg(tenant.as_str()).arg(kind.as_str()).arg(priority.band());
        call.arg(cache.as_str()).arg(cache_key.as_str()).arg(&same_call.to_hex()[..32]).arg(request);
        call.arg(run.to_string()).arg(plan).arg(*max_attempts).arg(self.retention.jobs.as_secs());
        let (key, fingerprint) =
            idempotency.as_ref().map_or(("", ""), |given| (&given.key, &given.fingerprint));
        call.arg(key).arg(fingerprint);
        let (id, answer): (String, String) = self.redis.invoke(&call).await?;
        let accepted = match answer.as_str() {
            "joined" => Accepted::Joined,
            "cached" => Accepted::Cached,
            "repeated" => Accepted::Repeated,
            // Our own earlier try got through; what it found is in the job's record.
            "known" if self.get(job, tenant).await?.cached => Accepted::Cached,
            "queued" | "known" => Accepted::Queued,
            "conflict" => return Err(QueueError::IdempotencyConflict(id)),
            other => return Err(QueueError::Corrupt(format!("submit answered {other:?}"))),
        };
        Ok((parse(&id)?, accepted))
    }

    /// A tenant's job.
    pub async fn get(&self, job: JobId, tenant: &TenantId) -> Result<JobView, QueueError> {
        type Records = (HashMap<String, String>, HashMap<String, String>, i64);
        let mut call = self.redis.script(&SCRIPTS.read);
        call.arg(job.to_string()).arg(tenant.as_str());
        let value: redis::Value = self.redis.invoke(&call).await?;
        if matches!(&value, redis::Value::Array(items) if items.is_empty()) {
            return Err(QueueError::JobNotFound);
        }
        let (fields, run, ahead): Records =
            redis::from_redis_value(value).map_err(redis::RedisError::from)?;
        JobView::from_records(job, fields, run, ahead)
    }

    /// Cancels a job. Answers the state it was in; one that has ended stays as it is.
    pub async fn cancel(&self, job: JobId, tenant: &TenantId) -> Result<JobState, QueueError> {
        let mut call = self.redis.script(&SCRIPTS.cancel);
        call.arg(job.to_string()).arg(tenant.as_str());
        let before: Vec<String> = self.redis.invoke(&call).await?;
        let before = before.first().ok_or(QueueError::JobNotFound)?;
        // A live job answers with its run's state; `finished` means that its outcome is about to be settled.
        Ok(JobState::parse(before).unwrap_or(JobState::Running))
    }

    /// Claims up to `slots` runs for a worker.
    pub async fn claim(&self, worker: &WorkerId, slots: usize) -> Result<Vec<Claim>, QueueError> {
        type Row = (String, String, String, u32);
        let fences: Vec<_> = std::iter::repeat_with(Fence::generate).take(slots).collect();
        let mut call = self.redis.script(&SCRIPTS.claim);
        call.arg(worker.as_str()).arg(milliseconds(LEASE));
        for fence in &fences {
            call.arg(fence.to_string());
        }
        let rows: Vec<Row> = self.redis.invoke(&call).await?;
        let claim = |((run, kind, plan, attempt), fence): (Row, Fence)| {
            Ok(Claim { run: parse(&run)?, fence, kind: kind.parse()?, attempt, plan })
        };
        rows.into_iter().zip(fences).map(claim).collect()
    }

    /// Waits until a run may be ready, at most for [`LONGEST_BLOCK`].
    pub(crate) async fn wait_for_work(&self, connection: &mut Blocking) -> Result<(), QueueError> {
        let mut wait = redis::cmd("BLPOP");
        wait.arg(self.redis.keys().wake()).arg(LONGEST_BLOCK.as_secs_f64());
        let _token: Option<(String, String)> = connection.query(&wait).await?;
        Ok(())
    }

    /// Waits until somebody wants one of the worker's runs to stop, at most for [`LONGEST_BLOCK`]; answers whether.
    pub(crate) async fn wait_for_stop(
        &self,
        connection: &mut Blocking,
        worker: &WorkerId,
    ) -> Result<bool, QueueError> {
        let mut wait = redis::cmd("BLPOP");
        wait.arg(self.redis.keys().stops(worker.as_str())).arg(LONGEST_BLOCK.as_secs_f64());
        let token: Option<(String, String)> = connection.query(&wait).await?;
        Ok(token.is_some())
    }

    /// Renews the leases of what a worker holds; answers what must stop.
    pub async fn renew(&self, held: &[(RunId, Fence)]) -> Result<Vec<(RunId, Stop)>, QueueError> {
        let mut call = self.redis.script(&SCRIPTS.renew);
        call.arg(milliseconds(LEASE));
        for (run, fence) in held {
            call.arg(run.to_string()).arg(fence.to_string());
        }
        let stop: Vec<(String, String)> = self.redis.invoke(&call).await?;
        let why = |why: &str| if why == "cancelled" { Stop::Cancelled } else { Stop::Lost };
        stop.iter().map(|(run, reason)| Ok((parse(run)?, why(reason)))).collect()
    }

    /// Records how far a run is; answers whether the caller still holds it.
    pub async fn progress(&self, run: RunId, fence: Fence, progress: &Progress) -> Result<bool, QueueError> {
        let mut call = self.redis.script(&SCRIPTS.progress);
        call.arg(run.to_string()).arg(fence.to_string()).arg(json(progress)?);
        self.redis.invoke(&call).await
    }

    /// Hands in the outcome of a run and settles the jobs that wait for it.
    pub async fn finish(&self, claim: &Claim, outcome: &Outcome) -> Result<Finish, QueueError> {
        let mut call = self.redis.script(&SCRIPTS.finish);
        call.arg(claim.run.to_string()).arg(claim.fence.to_string());
        match outcome {
            Outcome::Succeeded(result) => {
                call.arg("succeeded").arg(&result.id).arg(&result.summary).arg(json(&result.receipt)?);
                call.arg(self.retention.results.as_secs());
            }
            Outcome::Failed(error) => {
                call.arg("failed").arg(json(error)?).arg(u8::from(error.retryable));
                call.arg(milliseconds(back_off(claim.attempt)));
            }
            Outcome::Cancelled => {
                call.arg("cancelled");
            }
        }
        let answer: String = self.redis.invoke(&call).await?;
        match answer.as_str() {
            "accepted" => {
                if let Err(error) = self.settle(claim.run).await {
                    tracing::debug!(run.id = %claim.run, error = chain(&error), "left to be settled by the reconciler");
                }
                Ok(Finish::Accepted)
            }
            "retry" => Ok(Finish::Retry),
            _ => Ok(Finish::Refused),
        }
    }

    /// Gives the jobs that wait for a finished run its outcome, in chunks. Idempotent; the reconciler does it again
    /// for runs whose worker did not get this far.
    pub async fn settle(&self, run: RunId) -> Result<(), QueueError> {
        loop {
            let mut call = self.redis.script(&SCRIPTS.settle);
            call.arg(run.to_string()).arg(CHUNK);
            let left: u64 = self.redis.invoke(&call).await?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Hands a run back unfinished, as at a graceful stop. Costs no attempt.
    pub async fn release(&self, claim: &Claim) -> Result<(), QueueError> {
        let mut call = self.redis.script(&SCRIPTS.release);
        call.arg(claim.run.to_string()).arg(claim.fence.to_string());
        self.redis.invoke(&call).await
    }

    /// One round of the reconciler: takes back what lost workers held, queues what is due, settles what is left.
    pub async fn reap(&self) -> Result<Reaped, QueueError> {
        let lost = JobError::new(
            ErrorCode::WorkerLost,
            format!(
                "the workers that ran this were lost {STALLS_TOLERATED} times (killed, or out of memory), so it was \
                 given up; if its memory limit is too small for it, shorten the date range"
            ),
        );
        let mut call = self.redis.script(&SCRIPTS.reap);
        call.arg(STALLS_TOLERATED).arg(json(&lost)?).arg(CHUNK);
        let (lost, unsettled): (Vec<(String, String, String)>, Vec<String>) =
            self.redis.invoke(&call).await?;
        let unsettled = unsettled.iter().map(|run| parse(run)).collect::<Result<Vec<_>, _>>()?;
        for run in &unsettled {
            self.settle(*run).await?;
        }
        let lost =
            lost.into_iter().map(|(run, action, worker)| Ok::<_, QueueError>((parse(&run)?, action, worker)));
        Ok(Reaped { lost: lost.collect::<Result<_, _>>()?, unsettled })
    }

    /// Where the body of a result lies and what it was computed from; `None` once it has expired.
    pub async fn receipt(&self, result: &str) -> Result<Option<Receipt>, QueueError> {
        let mut read = redis::cmd("HGET");
        read.arg(self.redis.keys().result(result)).arg("receipt");
        let receipt: Option<String> = self.redis.query(&read).await?;
        let corrupt = |error: serde_json::Error| QueueError::Corrupt(format!("receipt: {error}"));
        receipt.map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()
    }

    /// How long the queue is.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let keys = self.redis.keys();
        let mut read = redis::pipe();
        read.zcard(keys.ready()).zcard(keys.leases()).zcard(keys.delayed());
        let (ready, running, delayed) = self.redis.pipeline(&read).await?;
        Ok(Depth { ready, running, delayed })
    }

    /// The counters that the scripts keep, shared by all instances: `submitted`, `cache_hits`, `stalls` and so on.
    pub async fn counters(&self) -> Result<HashMap<String, u64>, QueueError> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.redis.keys().stats());
        self.redis.query(&read).await
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn back_off(attempt: u32) -> Duration {
    let most = BACK_OFF.saturating_mul(2_u32.saturating_pow(attempt)).min(BACK_OFF_MAX);
    // The upper 32 of a UUIDv4's random bits, as a fraction.
    let random = uuid::Uuid::new_v4().as_u128() >> 96;
    most.mul_f64(f64::from(u32::try_from(random).unwrap_or(u32::MAX)) / f64::from(u32::MAX))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(id: &str) -> Result<T, QueueError> {
    id.parse().map_err(|error: T::Err| QueueError::Corrupt(error.to_string()))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    serde_json::to_string(value).map_err(|error| QueueError::Corrupt(error.to_string()))
}

//! The queue as those see it who ask for jobs: one method for each script. What workers do is in `work`, what is done
//! with many jobs at once in `batch`.
//!
//! Guaranteed: what [`Queue::submit`] acknowledged is in Redis; of a run exactly one outcome is accepted; equal cache
//! keys in flight are computed once. Not guaranteed: that a worker which lost its lease notices before its next
//! renewal (it may compute in vain meanwhile, and its outcome is refused).

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{Script, ScriptInvocation};

use crate::{
    error::QueueError,
    ids::{JobId, RunId, TenantId},
    record::{Accepted, Details, Kind, Looks, Priority, Receipt, Submission, Treatment},
    redis::Redis,
    scripts::{Scripts, VERSION},
    state::JobState,
    tags::Tags,
    together::{Step, Together},
    view::{JobView, Records},
};

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// A job's record, after the job has ended.
    pub jobs: Duration,
    /// A result, after it was computed.
    pub results: Duration,
    /// What the ledger knows of a campaign, after its last trial.
    pub trials: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let week = Duration::from_hours(7 * 24);
        Self { jobs: week, results: week, trials: Duration::from_hours(365 * 24) }
    }
}

/// How long the queue is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Depth {
    /// Runs and children of batches that wait for a worker.
    pub ready: u64,
    /// Runs being computed.
    pub running: u64,
    /// Runs that wait for their time.
    pub delayed: u64,
    /// Whether claims are paused.
    pub paused: bool,
}

/// What waits of one tenant with one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The priority.
    pub priority: Priority,
    /// Whose.
    pub tenant: TenantId,
    /// Runs and children of batches that wait; of a tenant with more than twenty batches those of the later ones count as one each.
    pub waiting: u64,
    /// How long ago the first of them was submitted.
    pub oldest: Duration,
}

/// What a tenant is entitled to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Its part of the run time when others want some too, in relation to theirs.
    pub weight: f64,
    /// The most runs at once.
    pub max_running: Option<u32>,
    /// The most jobs that have not ended; the deployment's, if it has none of its own.
    pub max_open: Option<u32>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1.0, max_running: None, max_open: None }
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In one of these states; any, if empty.
    pub states: Vec<JobState>,
    /// Of one of these kinds; any, if empty.
    pub kinds: Vec<Kind>,
    /// With this campaign and these labels.
    pub tags: Tags,
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end. A page may be short though there is a next one.
    pub next: Option<u64>,
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) redis: Redis,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) version: u32,
    retention: Retention,
    /// The retention as scripts take it.
    kept: String,
    /// The most jobs that a tenant without a cap of its own may have open.
    pub(crate) max_open: u32,
    /// Says where in a trace a call is, if it is traced.
    trace: Option<fn() -> Option<String>>,
    submitting: Arc<Together>,
    pub(crate) finishing: Arc<Together>,
}

/// What few submissions say.
#[derive(Default, PartialEq, serde::Serialize)]
struct Rare<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    once: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<&'a Looks>,
}

/// What stands between the names of several campaigns.
pub(crate) const BETWEEN_CAMPAIGNS: &str = "\u{1e}";

/// How long it is known where in a trace a run was queued.
const TRACE_KEPT: Duration = Duration::from_hours(24);

/// How many jobs one call of a script accepts, and of how many runs one takes the outcome, where many are there at once.
const SUBMITTED_AT_ONCE: usize = 16;
const FINISHED_AT_ONCE: usize = 32;

/// The most jobs that a tenant may have open unless something else is set.
pub const MAX_OPEN: u32 = 200_000;

impl Queue {
    /// The queue in this Redis.
    pub fn new(redis: Redis, retention: Retention) -> Self {
        Self::of_version(redis, retention, VERSION)
    }

    /// The same as a program would see it whose records have another version: for tests of upgrades.
    #[doc(hidden)]
    pub fn of_version(redis: Redis, retention: Retention, version: u32) -> Self {
        let scripts = Arc::new(Scripts::new(version));
        let kept = format!(
            "{} {} {}",
            retention.jobs.as_secs(),
            retention.results.as_secs(),
            retention.trials.as_secs()
        );
        let together =
            |script, most| Together::new(redis.clone(), scripts.clone(), script, most, kept.clone());
        let submitting = together(|scripts: &Scripts| &scripts.submit, SUBMITTED_AT_ONCE);
        let finishing = together(|scripts: &Scripts| &scripts.finish, FINISHED_AT_ONCE);
        Self {
            redis,
            scripts,
            version,
            retention,
            kept,
            max_open: MAX_OPEN,
            trace: None,
            submitting,
            finishing,
        }
    }

    /// The same with another cap for tenants that have none of their own.
    #[must_use]
    pub fn with_max_open(self, max_open: u32) -> Self {
        Self { max_open, ..self }
    }

    /// The same, noting beside each run that it queues where in a trace that happened: what `current` answers in the task that
    /// submits. Runs of batches are not noted.
    #[must_use]
    pub fn with_traces(self, current: fn() -> Option<String>) -> Self {
        Self { trace: Some(current), ..self }
    }

    /// Where in a trace a run was queued, if that was noted and can be read.
    pub async fn trace_of(&self, run: RunId) -> Option<String> {
        let mut read = redis::cmd("GET");
        read.arg(self.redis.keys().trace(&run.to_string()));
        self.redis.query(&read).await.ok().flatten()
    }

    /// How long things are kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// The connection underneath.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// A call of a script, with the arguments that all scripts take.
    pub(crate) fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = self.redis.script(script);
        call.arg(&self.kept);
        call
    }

    /// Calls a script that may be called twice: once more if the answer was lost, as on a connection that was cut.
    pub(crate) async fn ask<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        match self.redis.invoke(call).await {
            Err(QueueError::Unavailable(_)) => self.redis.invoke(call).await,
            answer => answer,
        }
    }

    /// Accepts a job. When this returns, the job is in Redis, and it is there once: if an answer of Redis gets lost,
    /// the call is made again under the same id.
    pub async fn submit(&self, submission: &Submission) -> Result<(JobId, Accepted), QueueError> {
        let (job, run) = (JobId::generate(), RunId::generate());
        let trace = self.trace.and_then(|current| current());
        if let Some(trace) = &trace {
            let mut note = redis::cmd("SET");
            note.arg(self.redis.keys().trace(&run.to_string())).arg(trace);
            note.arg("EX").arg(TRACE_KEPT.as_secs());
            // A job does not depend on its trace.
            let _noted: Result<(), _> = self.redis.query(&note).await;
        }
        let answer = match self.submit_as(job, run, submission, false).await {
            Err(QueueError::Unavailable(_)) => self.submit_as(job, run, submission, true).await,
            answer => answer,
        };
        if trace.is_some() && !matches!(answer, Ok((_, Accepted::Queued))) {
            // There is no such run.
            let mut forget = redis::cmd("UNLINK");
            forget.arg(self.redis.keys().trace(&run.to_string()));
            let _forgotten: Result<(), _> = self.redis.query(&forget).await;
        }
        answer
    }

    async fn submit_as(
        &self,
        job: JobId,
        run: RunId,
        submission: &Submission,
        again: bool,
    ) -> Result<(JobId, Accepted), QueueError> {
        let Submission {
            tenant,
            kind,
            treatment,
            cache_key,
            request,
            plan,
            start_at_ms,
            deadline_ms,
            idempotency,
            instead_of,
            trial_of,
        } = submission;
        let Treatment { priority, cache, max_attempts, timeout_s, slots, memory_mb, tags, webhook, looks } =
            treatment;
        let details = json(&Details::of(treatment, *start_at_ms, *deadline_ms))?;
        let tags = tags.to_lines();
        // The plan pins code and candles and has the limits: an edit in between makes it another call.
        let mut same_call = blake3::Hasher::new();
        for part in [
            kind.as_str(),
            &details,
            &tags,
            webhook.as_deref().unwrap_or_default(),
            cache_key.as_str(),
            request,
            plan,
        ] {
            same_call.update(&part.len().to_le_bytes()).update(part.as_bytes());
        }
        let same_call = same_call.finalize().to_hex();
        let rare = Rare {
            start_at: *start_at_ms,
            deadline: *deadline_ms,
            tags: Some(tags).filter(|tags| !tags.is_empty()),
            webhook: webhook.as_deref(),
            once: idempotency.as_ref().map(|given| given.key.as_str()),
            of: idempotency.as_ref().map(|given| given.fingerprint.as_str()),
            instead_of: instead_of.map(|job| job.to_string()),
            looks: looks.as_ref(),
        };
        let profile = [
            tenant.as_str(),
            kind.as_str(),
            &priority.band().to_string(),
            cache.as_str(),
            &format!("{slots} {memory_mb}"),
            &format!("{max_attempts} {timeout_s}"),
            &self.max_open.to_string(),
            &trial_of.join(BETWEEN_CAMPAIGNS),
        ];
        let arguments = vec![
            format!("{} {details}\n{request}", self.version),
            format!("{plan}\n{request}"),
            if rare == Rare::default() { String::new() } else { json(&rare)? },
        ];
        let head = format!("{job}{run}{}{}", &same_call[..32], u8::from(again));
        let step = Step { head: Some((head, profile.join("\u{1f}"), cache_key.to_string())), arguments };
        // Nearly always it is our own id, which is not sent back.
        let (id, answer) = match self.submitting.step(step).await? {
            redis::Value::Array(parts) => {
                redis::from_redis_value(redis::Value::Array(parts)).map_err(redis::RedisError::from)?
            }
            answer => {
                let answer: String = redis::from_redis_value(answer).map_err(redis::RedisError::from)?;
                (job.to_string(), answer)
            }
        };
        let accepted = match answer.as_str() {
            "joined" => Accepted::Joined,
            "cached" => Accepted::Cached,
            "repeated" => Accepted::Repeated,
            // Our own earlier try got through; what it found is in the job's record.
            "known" if self.get(job, tenant).await?.cached => Accepted::Cached,
            "queued" | "known" => Accepted::Queued,
            "conflict" => return Err(QueueError::IdempotencyConflict(id)),
            "full" => return Err(QueueError::Full),
            other => return Err(QueueError::Corrupt(format!("submit answered {other:?}"))),
        };
        Ok((parse(&id)?, accepted))
    }

    /// A tenant's job.
    pub async fn get(&self, job: JobId, tenant: &TenantId) -> Result<JobView, QueueError> {
        let mut call = self.call(&self.scripts.read);
        call.arg(job.to_string()).arg(tenant.as_str());
        let records: Option<Records> = self.ask(&call).await?;
        JobView::from_records(job, records.ok_or(QueueError::JobNotFound)?)
    }

    /// A page of a tenant's jobs, newest first: at most `most`, beginning where an earlier page said (`before`).
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Page, QueueError> {
        let Filter { states, kinds, tags } = filter;
        let tags = tags.to_lines();
        let place = match states[..] {
            [JobState::Running] => "running",
            [JobState::Scheduled] => "scheduled",
            _ if tags.is_empty() => "lists",
            _ => "tag",
        };
        let states = if states.is_empty() { &JobState::ALL[..] } else { states };
        let kinds = if kinds.is_empty() { &Kind::ALL[..] } else { kinds };
        let lines = |names: Vec<&str>| names.join("\n");
        let mut call = self.call(&self.scripts.list);
        call.arg(tenant.as_str())
            .arg(most)
            .arg(before.map(|place| place.to_string()).unwrap_or_default())
            .arg(place);
        call.arg(lines(states.iter().map(|state| state.as_str()).collect()));
        call.arg(lines(kinds.iter().map(|kind| kind.as_str()).collect())).arg(tags);
        let (next, rows): (String, Vec<(String, Records)>) = self.ask(&call).await?;
        Ok(Page { jobs: views(rows)?, next: if next.is_empty() { None } else { Some(parse(&next)?) } })
    }

    /// Cancels a job; a batch with all its jobs. Answers the state it was in; one that has ended stays as it is.
    pub async fn cancel(&self, job: JobId, tenant: &TenantId) -> Result<JobState, QueueError> {
        let mut call = self.call(&self.scripts.cancel);
        call.arg(job.to_string()).arg(tenant.as_str());
        let before: Option<(String, u8)> = self.ask(&call).await?;
        let (before, is_batch) = before.ok_or(QueueError::JobNotFound)?;
        if is_batch == 1 {
            self.close(job).await?;
        }
        JobState::parse(&before).ok_or_else(|| QueueError::Corrupt(format!("unknown state {before:?}")))
    }

    /// Says what a tenant is entitled to.
    pub async fn set_share(&self, tenant: &TenantId, share: Share) -> Result<(), QueueError> {
        let Share { weight, max_running, max_open } = share;
        let cap = |cap: Option<u32>| cap.map(|cap| cap.to_string()).unwrap_or_default();
        let mut call = self.call(&self.scripts.tenant);
        // A weight of nothing would be waited for for ever.
        call.arg(tenant.as_str()).arg(weight.max(0.001)).arg(cap(max_running)).arg(cap(max_open));
        self.ask(&call).await
    }

    /// Lets no run be claimed any more, or lets claims go on. What is running goes on in both cases.
    pub async fn pause(&self, pause: bool) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.pause);
        call.arg(u8::from(pause));
        self.ask(&call).await
    }

    /// Where the body of a result lies and what it was computed from; `None` once it has expired.
    pub async fn receipt(&self, result: &str) -> Result<Option<Receipt>, QueueError> {
        let mut read = redis::cmd("GET");
        read.arg(self.redis.keys().result(result));
        let stored: Option<String> = self.redis.query(&read).await?;
        let corrupt = |error: serde_json::Error| QueueError::Corrupt(format!("receipt: {error}"));
        let receipt = stored.as_ref().map(|stored| stored.lines().nth(1).unwrap_or_default());
        receipt.map(|text| serde_json::from_str(text).map_err(corrupt)).transpose()
    }

    /// How long the queue is.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let keys = self.redis.keys();
        let mut read = redis::pipe();
        read.hget(keys.sched(), "ready").zcard(keys.leases()).zcard(keys.delayed()).exists(keys.paused());
        let (ready, running, delayed, paused): (Option<u64>, _, _, _) = self.redis.pipeline(&read).await?;
        Ok(Depth { ready: ready.unwrap_or_default(), running, delayed, paused })
    }

    /// What waits, by priority and tenant: of each priority a hundred tenants at most, those that are next. What waits
    /// because its tenant is at its running cap is not in it.
    pub async fn backlog(&self) -> Result<Vec<Backlog>, QueueError> {
        let (now_ms, rows): (String, Vec<String>) = self.ask(&self.call(&self.scripts.backlog)).await?;
        let now_ms: i64 = parse(&now_ms)?;
        let row = |row: &[String]| {
            let [band, tenant, waiting, oldest] = row else {
                return Err(QueueError::Corrupt(format!("a part of the backlog is {row:?}")));
            };
            let band: u8 = parse(band)?;
            let made_ms = parse::<RunId>(oldest)?.made_ms();
            let priority = Priority::ALL.into_iter().find(|priority| priority.band() == band);
            Ok(Backlog {
                priority: priority.ok_or_else(|| QueueError::Corrupt(format!("priority {band}")))?,
                tenant: TenantId::new(tenant),
                waiting: parse(waiting)?,
                // Ids say when they were made. The clock of whoever made it may be ahead of Redis's.
                oldest: Duration::from_millis(
                    made_ms.map_or(0, |made| u64::try_from(now_ms.saturating_sub(made)).unwrap_or(0)),
                ),
            })
        };
        rows.chunks(4).map(row).collect()
    }

    /// The counters that the scripts keep, shared by all instances: `submitted`, `cache_hits`, `stalls` and so on.
    pub async fn counters(&self) -> Result<HashMap<String, u64>, QueueError> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.redis.keys().stats());
        self.redis.query(&read).await
    }
}

pub(crate) fn views(rows: Vec<(String, Records)>) -> Result<Vec<JobView>, QueueError> {
    rows.into_iter().map(|(id, records)| JobView::from_records(parse(&id)?, records)).collect()
}

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(id: &str) -> Result<T, QueueError> {
    id.parse().map_err(|error: T::Err| QueueError::Corrupt(error.to_string()))
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    serde_json::to_string(value).map_err(|error| QueueError::Corrupt(error.to_string()))
}

//! The records: what is submitted, what a worker claims, and what a client reads.
//!
//! A job's request and a run's plan are JSON that this crate carries but does not look into.

use std::{collections::HashMap, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{JobError, QueueError},
    ids::{CacheKey, Fence, JobId, RunId, TenantId},
    state::{JobState, RunState},
};

/// What a job computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One backtest.
    Backtest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 1] = [Self::Backtest];

    /// The kind's name in Redis, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backtest => "backtest",
        }
    }
}

impl FromStr for Kind {
    type Err = QueueError;

    fn from_str(name: &str) -> Result<Self, QueueError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        found.ok_or_else(|| QueueError::Corrupt(format!("unknown kind of job {name:?}")))
    }
}

/// Which runs go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Someone waits for it.
    Interactive,
    /// The default.
    #[default]
    Normal,
    /// Whenever there is nothing else.
    Batch,
}

impl Priority {
    pub(crate) fn band(self) -> u8 {
        match self {
            Self::Interactive => 0,
            Self::Normal => 1,
            Self::Batch => 2,
        }
    }
}

/// How a job uses the results of earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// Take a stored result or join a run in flight; store the result.
    #[default]
    Use,
    /// Compute anew (or join a run in flight) and replace the stored result.
    Refresh,
    /// Neither read nor write the cache, and share no run.
    Off,
}

impl CacheMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Refresh => "refresh",
            Self::Off => "off",
        }
    }
}

/// A job about to be accepted.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Whose job it is.
    pub tenant: TenantId,
    /// What it computes.
    pub kind: Kind,
    /// How urgent it is.
    pub priority: Priority,
    /// How it uses earlier results.
    pub cache: CacheMode,
    /// What its result depends on.
    pub cache_key: CacheKey,
    /// What the client asked for, with defaults filled in (JSON): shown with the job.
    pub request: String,
    /// What a worker needs to compute it (JSON).
    pub plan: String,
    /// After how many failed attempts it is given up.
    pub max_attempts: u32,
    /// Makes a repeat of this call answer the same job, for a day.
    pub idempotency: Option<Idempotency>,
}

/// A client's key for one call, and what it sent with it.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// Chosen by the client.
    pub key: String,
    /// A hash of the call: the same key with another call is a mistake of the client.
    pub fingerprint: String,
}

/// How a submission was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A new run was queued.
    Queued,
    /// The job waits for a run that was in flight already.
    Joined,
    /// A stored result answered it: the job has succeeded.
    Cached,
    /// The same tenant's identical call is still live: this is its job.
    Repeated,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is at.
    pub message: String,
    /// Seconds left, once that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<f64>,
}

/// A run in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// Proof of holding it.
    pub fence: Fence,
    /// What it computes.
    pub kind: Kind,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What the submission planned (JSON).
    pub plan: String,
}

/// What a worker says of a run that it held.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It has a result; the body is in the blob store already.
    Succeeded(StoredResult),
    /// It failed.
    Failed(JobError),
    /// It was stopped because nobody waits for it any more.
    Cancelled,
}

/// A result whose body is in the blob store.
#[derive(Debug, Clone)]
pub struct StoredResult {
    /// What it is stored under: the cache key of what was really run, or the run's id when the cache is off.
    pub id: String,
    /// What a client reads first (JSON): the record of each job carries it.
    pub summary: String,
    /// Where the body lies and what it was computed from.
    pub receipt: Receipt,
}

/// Where a result's body lies, and the determinism receipt: the same inputs must give the same result again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// The body in the blob store.
    pub blob: crate::blobs::BlobId,
    /// Bytes of the body before compression.
    pub bytes: u64,
    /// What the result was computed from and with (JSON).
    pub provenance: Box<RawValue>,
}

/// What [`crate::Queue::finish`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The outcome stands.
    Accepted,
    /// The run failed and will be tried again.
    Retry,
    /// The caller no longer held the run; its outcome was dropped.
    Refused,
}

/// A job as a client sees it.
#[derive(Debug, Clone)]
pub struct JobView {
    /// Its id.
    pub job_id: JobId,
    /// What it computes.
    pub kind: Kind,
    /// Where it stands.
    pub state: JobState,
    /// Whether a stored result answered it.
    pub cached: bool,
    /// When it was accepted (milliseconds since 1970).
    pub created_ms: i64,
    /// When a worker last started its run.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// How far its run is, while it is running.
    pub progress: Option<Progress>,
    /// How many runs are ahead of it, while it is queued.
    pub queue_position: Option<u64>,
    /// What was asked for, with defaults filled in.
    pub request: Box<RawValue>,
    /// What it found, once it has succeeded.
    pub summary: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// What its result is stored under.
    pub result: Option<String>,
    /// The run it waits for or waited for.
    pub run: Option<RunId>,
}

type Fields = HashMap<String, String>;

/// Takes a field that must be there.
fn required(fields: &mut Fields, name: &str) -> Result<String, QueueError> {
    fields.remove(name).ok_or_else(|| QueueError::Corrupt(format!("a record has no {name:?}")))
}

fn parsed<T: FromStr>(text: &str, name: &str) -> Result<T, QueueError> {
    text.parse().map_err(|_| QueueError::Corrupt(format!("{name} is {text:?}")))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(format!("{name}: {error}")))
}

impl JobView {
    /// Puts a job together from its record, its run's, and its place in the queue.
    pub(crate) fn from_records(
        job_id: JobId,
        mut job: Fields,
        mut run: Fields,
        ahead: i64,
    ) -> Result<Self, QueueError> {
        let stored = required(&mut job, "state")?;
        let stored =
            JobState::parse(&stored).ok_or(QueueError::Corrupt(format!("unknown state {stored:?}")))?;
        let run_state = run.remove("state").as_deref().and_then(RunState::parse);
        let state = stored.of_live(run_state);
        let running = state == JobState::Running;
        let started = job.remove("started").or_else(|| run.remove("started").filter(|_| running));
        let milliseconds =
            |text: Option<String>, name: &str| text.map(|text| parsed(&text, name)).transpose();
        Ok(Self {
            job_id,
            kind: required(&mut job, "kind")?.parse()?,
            state,
            cached: job.remove("cached").is_some(),
            created_ms: parsed(&required(&mut job, "created")?, "created")?,
            started_ms: milliseconds(started, "started")?,
            finished_ms: milliseconds(job.remove("finished"), "finished")?,
            progress: match run.remove("progress") {
                Some(text) if running => Some(json(&text, "progress")?),
                _ => None,
            },
            queue_position: u64::try_from(ahead).ok().filter(|_| state == JobState::Queued),
            request: json(&required(&mut job, "req")?, "req")?,
            summary: job.remove("summary").map(|text| json(&text, "summary")).transpose()?,
            error: job.remove("error").map(|text| json(&text, "error")).transpose()?,
            result: job.remove("result"),
            run: job.remove("run").map(|text| parsed(&text, "run")).transpose()?,
        })
    }
}

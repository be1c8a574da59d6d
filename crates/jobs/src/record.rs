//! The records: what is submitted, what a worker claims, and what a client reads.
//!
//! A job's request and a run's plan are JSON that this crate carries but does not look into.

use std::{collections::HashMap, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    cache::Facets,
    error::{JobError, QueueError},
    holdouts::Looks,
    ids::{CacheKey, Fence, JobId, RunId, TenantId},
    ledger::TrialRecord,
    state::{JobState, RunState},
    tags::Tags,
};

/// What a job computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One backtest.
    Backtest,
    /// Candles from an exchange, up to what it has.
    CandlesImport,
    /// Whether a strategy can run, and if not, why.
    StrategyValidate,
    /// Many jobs under one id. It waits for them and holds no slot.
    Batch,
    /// A search for hyperparameters: rounds of backtests, for which it waits without holding a slot.
    Optimize,
    /// Optimisations over a sliding window, each judged on what comes after it.
    WalkForward,
    /// One backtest on many altered histories, or what else the returns or trades of a result could have come to.
    MonteCarlo,
    /// Whether a strategy's signals foretell the next bar.
    SignificanceTest,
    /// One page of all that matters about a result.
    RiskReport,
    /// How much can be lost.
    VarCalculation,
    /// What a result would have come to in bad times and under worse terms.
    StressTest,
    /// How symbols, or results, move together.
    CorrelationMatrix,
    /// Whether two symbols are tied, and what trading that would have come to.
    PairsBacktest,
    /// What moves a result.
    FactorAnalysis,
    /// Which state a market, or a result, is in.
    RegimeDetector,
    /// What drove a result.
    AnalyzeResults,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Backtest,
        Self::CandlesImport,
        Self::StrategyValidate,
        Self::Batch,
        Self::Optimize,
        Self::WalkForward,
        Self::MonteCarlo,
        Self::SignificanceTest,
        Self::RiskReport,
        Self::VarCalculation,
        Self::StressTest,
        Self::CorrelationMatrix,
        Self::PairsBacktest,
        Self::FactorAnalysis,
        Self::RegimeDetector,
        Self::AnalyzeResults,
    ];

    /// The kind's name in Redis, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backtest => "backtest",
            Self::CandlesImport => "candles_import",
            Self::StrategyValidate => "strategy_validate",
            Self::Batch => "batch",
            Self::Optimize => "optimize",
            Self::WalkForward => "walk_forward",
            Self::MonteCarlo => "monte_carlo",
            Self::SignificanceTest => "significance_test",
            Self::RiskReport => "risk_report",
            Self::VarCalculation => "var_calculation",
            Self::StressTest => "stress_test",
            Self::CorrelationMatrix => "correlation_matrix",
            Self::PairsBacktest => "pairs_backtest",
            Self::FactorAnalysis => "factor_analysis",
            Self::RegimeDetector => "regime_detector",
            Self::AnalyzeResults => "analyze_results",
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Batch];

    /// Its name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }

    pub(crate) fn band(self) -> u8 {
        match self {
            Self::Interactive => 0,
            Self::Normal => 1,
            Self::Batch => 2,
        }
    }
}

/// How a job uses the results of earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

/// How a job is to be treated.
#[derive(Debug, Clone)]
pub struct Treatment {
    /// How urgent it is.
    pub priority: Priority,
    /// How it uses earlier results.
    pub cache: CacheMode,
    /// After how many failed attempts it is given up.
    pub max_attempts: u32,
    /// Seconds that its run may take. Jobs that share a run get the longest of theirs. The plan says the same to the
    /// worker.
    pub timeout_s: u32,
    /// How many of a worker's slots its run takes up.
    pub slots: u32,
    /// Megabytes that its run may take of a worker's memory.
    pub memory_mb: u32,
    /// What it is listed under.
    pub tags: Tags,
    /// Where its end is told.
    pub webhook: Option<String>,
    /// What it looks at of what is held out of research: goes into its log.
    pub looks: Option<Looks>,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            priority: Priority::default(),
            cache: CacheMode::default(),
            max_attempts: 3,
            timeout_s: 3600,
            slots: 1,
            memory_mb: 0,
            tags: Tags::default(),
            webhook: None,
            looks: None,
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
    /// How it is to be treated.
    pub treatment: Treatment,
    /// What its result depends on.
    pub cache_key: CacheKey,
    /// What the client asked for, with defaults filled in (JSON): shown with the job, and given to the worker.
    pub request: String,
    /// What else a worker needs to compute it (JSON).
    pub plan: String,
    /// Not to be started before (milliseconds since 1970). A stored result answers it at once all the same.
    pub start_at_ms: Option<i64>,
    /// Not to be started after (milliseconds since 1970): then it is `expired`.
    pub deadline_ms: Option<i64>,
    /// Makes a repeat of this call answer the same job, for a day.
    pub idempotency: Option<Idempotency>,
    /// An ended job that this one runs once more: its record then names this one.
    pub instead_of: Option<JobId>,
    /// The campaigns in whose ledgers it counts, if it is a trial of an idea: names without control characters.
    pub trial_of: Vec<String>,
}

/// What of a job's treatment is shown with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// How urgent it is.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// How it uses earlier results.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: CacheMode,
    /// After how many failed attempts it is given up.
    pub max_attempts: u32,
    /// Seconds that its run may take.
    pub timeout_s: u32,
    /// Not to be started before (milliseconds since 1970).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at_ms: Option<i64>,
    /// Not to be started after (milliseconds since 1970).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<i64>,
    /// Whether it looks at what is held out of research.
    #[serde(skip_serializing_if = "is_default")]
    pub holdout: bool,
}

/// Every record has these, so what says nothing is left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Details {
    pub(crate) fn of(treatment: &Treatment, start_at_ms: Option<i64>, deadline_ms: Option<i64>) -> Self {
        let Treatment { priority, cache, max_attempts, timeout_s, looks, .. } = treatment;
        Self {
            priority: *priority,
            cache: *cache,
            max_attempts: *max_attempts,
            timeout_s: *timeout_s,
            start_at_ms,
            deadline_ms,
            holdout: looks.is_some(),
        }
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What the client asked for (JSON).
    pub request: String,
    /// What else the submission planned (JSON).
    pub plan: String,
    /// Whether nothing else may run beside it: it was lost with its worker before.
    pub alone: bool,
    /// How many of the worker's slots it takes up.
    pub slots: u32,
    /// Megabytes that it may take of the worker's memory.
    pub memory_mb: u32,
    /// Seconds that it may take.
    pub timeout_s: u32,
}

/// What a worker says of a run that it held.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It has a result; the body is in the blob store already.
    Succeeded(StoredResult),
    /// It failed.
    Failed(JobError),
    /// Its next step needs the results of this batch: it is queued again, with another plan, once that has ended.
    Awaits {
        /// What it waits for.
        batch: JobId,
        /// The plan of the next step (JSON).
        plan: String,
    },
    /// It was stopped because nobody waits for it any more.
    Cancelled,
}

impl From<StoredResult> for Outcome {
    fn from(result: StoredResult) -> Self {
        Self::Succeeded(result)
    }
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
    /// What else an invalidation may name it by; `None` when the body is not in a file of its own, which is then never
    /// deleted before its time.
    pub stored: Option<Stored>,
    /// What the ledger keeps of it, if it is a backtest.
    pub trial: Option<Box<TrialRecord>>,
}

/// A result's body in the blob store, in a file that has the name of the claim's fence: nobody else ever writes to it, so
/// that it can be deleted without a look at who else may have stored the same.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Bytes that it takes up.
    pub bytes: u64,
    /// What it is about.
    pub facets: Facets,
}

impl Stored {
    /// As the scripts take it.
    pub(crate) fn to_text(&self) -> String {
        format!("{}{}", self.bytes, self.facets.as_text())
    }
}

/// Where a result's body lies, and the determinism receipt: the same inputs must give the same result again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// The hash of the body.
    pub blob: crate::blobs::BlobId,
    /// The body's name in the blob store; without one it has that of its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
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
    /// How far its run is, or what it waits for.
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
    /// The run it waits for, until it has ended.
    pub run: Option<RunId>,
    /// How it is treated.
    pub details: Details,
    /// What it is listed under.
    pub tags: Tags,
    /// Where its end is told.
    pub webhook: Option<String>,
    /// The batch that it belongs to.
    pub batch: Option<JobId>,
    /// The batch that its run waits for, or waited for last.
    pub awaits: Option<JobId>,
    /// How the jobs of a batch stand, if it is one.
    pub counts: Option<Counts>,
    /// How its run fared so far.
    pub troubles: Troubles,
    /// The job that runs it once more.
    pub requeued_as: Option<JobId>,
}

/// How a run fared, while it is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Failures of its own.
    pub attempts: u32,
    /// Workers lost that ran it.
    pub stalls: u32,
    /// Graceful stops of workers that ran it.
    pub interruptions: u32,
}

/// How the jobs of a batch stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Ended with a result.
    pub succeeded: u64,
    /// Ended with an error of their own.
    pub failed: u64,
    /// Given up.
    pub dead: u64,
    /// Not started before their deadline.
    pub expired: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Of those that succeeded: answered by a stored result.
    pub cached: u64,
}

impl Counts {
    /// How many have not ended.
    pub fn open(&self) -> u64 {
        let ended = self.succeeded + self.failed + self.dead + self.expired + self.cancelled;
        self.total.saturating_sub(ended)
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, QueueError> {
        Ok(Self {
            total: counter(fields, "total")?,
            succeeded: counter(fields, "succeeded")?,
            failed: counter(fields, "failed")?,
            dead: counter(fields, "dead")?,
            expired: counter(fields, "expired")?,
            cancelled: counter(fields, "cancelled")?,
            cached: counter(fields, "cached")?,
        })
    }
}

type Fields = HashMap<String, String>;

fn parsed<T: FromStr>(text: &str, name: &str) -> Result<T, QueueError> {
    text.parse().map_err(|_| QueueError::Corrupt(format!("{name} is {text:?}")))
}

/// Takes a counter that is not there before it counts.
fn counter<T: FromStr + Default>(fields: &mut Fields, name: &str) -> Result<T, QueueError> {
    fields.remove(name).map_or_else(|| Ok(T::default()), |text| parsed(&text, name))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(format!("{name}: {error}")))
}

/// What the scripts answer for one job: its record, its run's without what that was made of ("" if there is none), its place in
/// the queue, its batch's fields, and whether the batch that it belongs to was stopped.
pub(crate) type Records = (String, String, i64, Fields, u8);

/// The fields that few records have: `<name>=<value>` with the byte 31 between them.
fn rare_fields(line: &str) -> Fields {
    let field = |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    line.split('\u{1f}').filter_map(field).collect()
}

/// The record of a job, as `records.lua` describes it.
struct JobRecord<'a> {
    state: &'a str,
    ended: &'a str,
    found: &'a str,
    error: &'a str,
    rare: Fields,
    details: &'a str,
    request: &'a str,
}

impl<'a> JobRecord<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.splitn(7, '\n');
        let mut line = || lines.next();
        Some(Self {
            state: line()?,
            ended: line()?,
            found: line()?,
            error: line()?,
            rare: rare_fields(line()?),
            details: line()?.split_once(' ')?.1,
            request: line()?,
        })
    }
}

/// The record of a run, as `records.lua` describes it, as far as it is shown.
pub(crate) struct RunRecord<'a> {
    pub(crate) state: &'a str,
    /// The job that waits for it, or `-`.
    pub(crate) waiter: &'a str,
    /// When it was last claimed, and by whom.
    pub(crate) claim: Option<(&'a str, &'a str)>,
    pub(crate) rare: Fields,
    /// `<version> <kind> <slots> <memory>`; "" where what it was made of is left out.
    pub(crate) about: &'a str,
}

impl<'a> RunRecord<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.splitn(5, '\n');
        let (state, claim, rare) = (lines.next()?, lines.next()?, lines.next()?);
        let mut state = state.split(' ');
        // `<fence> <estimate> <started> <place> <time-out> <worker>`
        let claim = claim.splitn(6, ' ').collect::<Vec<_>>();
        let claim =
            if let [_, _, started, _, _, worker] = claim[..] { Some((started, worker)) } else { None };
        let (state, waiter) = (state.next()?, state.nth(1)?);
        Some(Self { state, waiter, claim, rare: rare_fields(rare), about: lines.next().unwrap_or_default() })
    }
}

impl JobView {
    /// Puts a job together from its records.
    pub(crate) fn from_records(
        job_id: JobId,
        (job, run, ahead, mut batch, stopped): Records,
    ) -> Result<Self, QueueError> {
        let corrupt = |name: &str, text: &str| QueueError::Corrupt(format!("{name} is {text:?}"));
        let JobRecord { state: stored, ended, found, error, rare: mut job, details, request } =
            JobRecord::parse(&job).ok_or_else(|| corrupt("a job's record", &job))?;
        // `<state> <place in listings> <run or -> <flags> <time> <tenant>:<kind>`
        let mut words = stored.splitn(6, ' ');
        let (name, run_id) = (words.next().unwrap_or_default(), words.nth(1).filter(|run| *run != "-"));
        let run_id = run_id.map(|text| parsed(text, "run")).transpose()?;
        let created = words.nth(1).unwrap_or_default();
        let stored_state = JobState::parse(name).ok_or_else(|| corrupt("state", name))?;
        let run = RunRecord::parse(&run);
        let run_state = if stopped == 1 {
            Some(RunState::Stopping)
        } else {
            run.as_ref().and_then(|run| RunState::parse(run.state))
        };
        let (claim, mut run) = run.map_or_else(Default::default, |run| (run.claim, run.rare));
        let state = stored_state.of_live(run_state);
        let running = state == JobState::Running;
        let index = words.next().unwrap_or_default();
        let (_, kind) = index.rsplit_once(':').ok_or_else(|| corrupt("state", stored))?;
        let mut ended = ended.split(' ').map(|part| Some(part).filter(|part| !matches!(*part, "" | "-")));
        let (started, finished, result) =
            (ended.next().flatten(), ended.next().flatten(), ended.next().flatten());
        let cached = ended.next().flatten() == Some("c");
        let started = started.or_else(|| claim.filter(|_| running).map(|(started, _)| started));
        let there = |text| Some(text).filter(|text: &&str| !text.is_empty());
        Ok(Self {
            job_id,
            kind: kind.parse()?,
            state,
            cached,
            created_ms: parsed(created, "created")?,
            started_ms: started.map(|text| parsed(text, "started")).transpose()?,
            finished_ms: finished.map(|text| parsed(text, "finished")).transpose()?,
            progress: match run.remove("progress") {
                Some(text) if state != JobState::Queued => Some(json(&text, "progress")?),
                _ => None,
            },
            queue_position: u64::try_from(ahead).ok().filter(|_| state == JobState::Queued),
            request: json(request, "request")?,
            summary: there(found).map(|text| json(text, "found")).transpose()?,
            error: there(error).map(|text| json(text, "error")).transpose()?,
            result: result.map(str::to_owned),
            run: run_id,
            details: json(details, "details")?,
            tags: Tags::from_lines(&job.remove("tags").unwrap_or_default().replace('\u{1e}', "\n")),
            webhook: job.remove("hook"),
            awaits: run.remove("awaits").map(|text| parsed(&text, "awaits")).transpose()?,
            batch: job.remove("batch").map(|text| parsed(&text, "batch")).transpose()?,
            counts: batch.contains_key("total").then(|| Counts::from_fields(&mut batch)).transpose()?,
            requeued_as: job.remove("again").map(|text| parsed(&text, "again")).transpose()?,
            troubles: Troubles {
                attempts: counter(&mut run, "attempt")?,
                stalls: counter(&mut run, "stalls")?,
                interruptions: counter(&mut run, "interruptions")?,
            },
        })
    }
}

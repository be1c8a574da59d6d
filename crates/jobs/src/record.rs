//! The records: what is submitted, what a worker claims, and what it hands in.
//!
//! A job's request and a run's plan are JSON that this crate carries but does not look into.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{JobError, QueueError},
    facets::Facets,
    ids::{CacheKey, Fence, JobId, RunId, TenantId},
    tags::Tags,
    trial::TrialRecord,
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

/// The held-out series that a job looks at, and what its log entries say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looks {
    /// The series.
    pub series: Vec<String>,
    /// For people (JSON, one line).
    pub about: String,
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

//! Why a job failed ([`JobError`], stored with the job and shown to clients) and why a call to the queue failed
//! ([`QueueError`]). Neither knows of HTTP or MCP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong with a job. Stable: clients branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No strategy of that name exists.
    StrategyNotFound,
    /// The strategy's own code raised, at import or while it ran.
    StrategyError,
    /// The candle store does not hold the range, or has a gap in it.
    CandlesMissing,
    /// The request is not something that Jesse can run.
    InvalidSpec,
    /// The run used up its wall or CPU time.
    Timeout,
    /// The run used up its memory.
    OutOfMemory,
    /// The process that computed the run ended without a word.
    EngineCrashed,
    /// The result is larger than results may be.
    ResultTooLarge,
    /// The workers that ran it were lost, more often than is tolerated.
    WorkerLost,
    /// Not all jobs of the batch succeeded.
    BatchIncomplete,
    /// The data do not allow this analysis: too little of it, without variation, of different lengths.
    UnfitData,
    /// A result that this is computed from is not stored any more.
    InputGone,
    /// An exchange that candles were to come from refuses, does not answer, or answers nonsense.
    ExchangeError,
    /// A defect or an outage on our side.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 14] = [
        Self::StrategyNotFound,
        Self::StrategyError,
        Self::CandlesMissing,
        Self::InvalidSpec,
        Self::Timeout,
        Self::OutOfMemory,
        Self::EngineCrashed,
        Self::ResultTooLarge,
        Self::WorkerLost,
        Self::BatchIncomplete,
        Self::UnfitData,
        Self::InputGone,
        Self::ExchangeError,
        Self::Internal,
    ];

    /// The code's name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StrategyNotFound => "strategy_not_found",
            Self::StrategyError => "strategy_error",
            Self::CandlesMissing => "candles_missing",
            Self::InvalidSpec => "invalid_spec",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::EngineCrashed => "engine_crashed",
            Self::ResultTooLarge => "result_too_large",
            Self::WorkerLost => "worker_lost",
            Self::BatchIncomplete => "batch_incomplete",
            Self::UnfitData => "unfit_data",
            Self::InputGone => "input_gone",
            Self::ExchangeError => "exchange_error",
            Self::Internal => "internal",
        }
    }

    /// The code with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

/// Why a job failed, in words that say what to do next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What happened and what is allowed.
    pub message: String,
    /// Whether the same run may succeed when tried again.
    #[serde(default)]
    pub retryable: bool,
    /// Facts for programs: the range that exists, the traceback, the limit.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl JobError {
    /// A permanent failure.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false, detail: serde_json::Value::Null }
    }

    /// The same with facts for programs.
    #[must_use]
    pub fn with_detail(self, detail: serde_json::Value) -> Self {
        Self { detail, ..self }
    }

    /// The same, worth another attempt.
    #[must_use]
    pub fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }
}

/// Why a call to the queue did not go through.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Redis is away, too slow, or restarting. Nothing was lost; the same call may be made again.
    #[error("Redis is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// How Redis is to be reached cannot be meant so; says what can.
    #[error("Redis cannot be reached as set: {0}")]
    Setting(String),
    /// No such job, or not this tenant's: the two are not told apart.
    #[error("no job with this id")]
    JobNotFound,
    /// The idempotency key was used for another call.
    #[error("the idempotency key was used for another call, which is job {0}")]
    IdempotencyConflict(String),
    /// The tenant has as many jobs open as it may.
    #[error("too many jobs have not ended yet")]
    Full,
    /// Too many invalidations of results are being carried out.
    #[error("too many invalidations are being carried out")]
    Invalidating,
    /// A record that this version cannot read.
    #[error("a record in Redis cannot be read: {0}")]
    Corrupt(String),
    /// The blob store failed.
    #[error("the blob store failed")]
    Blobs(#[from] crate::blobs::BlobError),
}

/// One error of a call that carried out several steps.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SharedError(std::sync::Arc<QueueError>);

impl QueueError {
    /// The same error for each of those whom it concerns.
    pub(crate) fn shared(error: &std::sync::Arc<Self>) -> Self {
        match &**error {
            Self::Corrupt(message) => Self::Corrupt(message.clone()),
            Self::Setting(message) => Self::Setting(message.clone()),
            _ => Self::Unavailable(Box::new(SharedError(error.clone()))),
        }
    }
}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::UnexpectedReturnType
            | redis::ErrorKind::Parse
            | redis::ErrorKind::Server(redis::ServerErrorKind::ResponseError) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// An error with all its causes, for a log line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

//! Every error that a client can get: one table from code to HTTP status. What a client is told and what is logged are
//! two things: causes stay in the log.

use std::time::Duration;

use jobs::{ErrorCode, JobError, QueueError, webhooks::WebhookError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What went wrong with a call. Its name in JSON is stable: clients branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not well-formed.
    InvalidRequest,
    /// No such job, or not yours.
    JobNotFound,
    /// The idempotency key was used for another call.
    IdempotencyConflict,
    /// The tenant has too many jobs that have not ended.
    QueueFull,
    /// Too many invalidations of results are being carried out.
    CacheBusy,
    /// The range has days that are held out of research.
    HeldOut,
    /// The job cannot be run once more.
    NotRequeueable,
    /// The job has no result: it has not ended, or not well.
    ResultNotReady,
    /// The result was removed to make room.
    ResultEvicted,
    /// No such webhook, or not yours.
    WebhookNotFound,
    /// The tenant has as many webhooks as it may.
    WebhooksFull,
    /// The webhook is disabled.
    WebhookDisabled,
    /// Nothing is sent to such an address.
    UrlNotAllowed,
    /// The strategy's name is taken, or it is not one that clients can change.
    StrategyExists,
    /// Strategies cannot be written here.
    WritingNotAllowed,
    /// Candles cannot be fetched from exchanges here.
    ImportsNotAllowed,
    /// No such route, or nothing of that name.
    NotFound,
    /// The route does not have this method.
    MethodNotAllowed,
    /// The body is larger than allowed.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// A key is needed, and none was shown.
    Unauthenticated,
    /// The key is not known, was revoked, or has expired.
    InvalidKey,
    /// The key does not allow this.
    MissingScope,
    /// The caller calls more often than it may.
    RateLimited,
    /// The request names a host that this server does not answer for.
    HostNotAllowed,
    /// A web page of another origin had a browser send the request.
    OriginNotAllowed,
    /// A form of the console that none of its pages sent.
    FormRefused,
    /// No worker has published what it can run.
    EngineStarting,
    /// Redis or the blob store is away.
    Unavailable,
    /// A defect of ours.
    Internal,
    /// The job's own errors.
    #[serde(untagged)]
    Job(ErrorCode),
}

/// All of them, as one list of words.
impl JsonSchema for Code {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut names: Vec<_> = Self::all().map(|code| serde_json::json!(code)).collect();
        names.dedup();
        schemars::json_schema!({
            "type": "string",
            "enum": names,
            "description": "What went wrong: stable, for programs; docs/errors.md tells of each",
        })
    }
}

impl Code {
    /// Every code, those of jobs last.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Self::InvalidRequest,
            Self::JobNotFound,
            Self::IdempotencyConflict,
            Self::QueueFull,
            Self::CacheBusy,
            Self::HeldOut,
            Self::NotRequeueable,
            Self::ResultNotReady,
            Self::ResultEvicted,
            Self::WebhookNotFound,
            Self::WebhooksFull,
            Self::WebhookDisabled,
            Self::UrlNotAllowed,
            Self::StrategyExists,
            Self::WritingNotAllowed,
            Self::ImportsNotAllowed,
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::PayloadTooLarge,
            Self::UnsupportedMediaType,
            Self::Unauthenticated,
            Self::InvalidKey,
            Self::MissingScope,
            Self::RateLimited,
            Self::HostNotAllowed,
            Self::OriginNotAllowed,
            Self::FormRefused,
            Self::EngineStarting,
            Self::Unavailable,
        ];
        own.into_iter().chain(ErrorCode::ALL.into_iter().map(Self::Job))
    }

    /// What a client does about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::InvalidRequest => "Mend what the text names.",
            Self::JobNotFound => "Check the id; finished jobs are kept for some days.",
            Self::IdempotencyConflict => {
                "Use a new key for a new call; a repeat must be the same to the letter."
            }
            Self::QueueFull => "Wait for some of your jobs to end, or cancel some.",
            Self::CacheBusy => "Try again after `Retry-After`; `all` invalidates everything in one call.",
            Self::HeldOut => {
                "End at the `finish_date` that the text names; once you have chosen, say `holdout: true`: each look counts."
            }
            Self::NotRequeueable => "Requeue jobs that are failed, dead, expired or cancelled.",
            Self::ResultNotReady => {
                "Wait for the job with `?wait=` or job_get; a failed one has `error` instead."
            }
            Self::ResultEvicted => "Submit the same backtest again.",
            Self::WebhookNotFound => "Take an id from `/v1/webhooks`; what single jobs name is under `jobs`.",
            Self::WebhooksFull => "Delete one that is not used, or widen the events of another.",
            Self::WebhookDisabled => "Enable it first: `PATCH /v1/webhooks/{id}` with `enabled: true`.",
            Self::UrlNotAllowed => {
                "Name a public address; whoever runs the server can allow others with --webhook-allow."
            }
            Self::StrategyExists => "Choose another name, or say `replace` if that is what you want.",
            Self::WritingNotAllowed => {
                "Ask whoever runs the server; it can be allowed with --allow-strategy-write."
            }
            Self::ImportsNotAllowed => {
                "Ask whoever runs the server; it can be allowed with --candle-imports on."
            }
            Self::NotFound | Self::MethodNotAllowed => "See the routes at `/docs`, or in `/openapi.json`.",
            Self::PayloadTooLarge => "A body may have 1 MB.",
            Self::UnsupportedMediaType => "Send `Content-Type: application/json`.",
            Self::Unauthenticated => {
                "Send `Authorization: Bearer jj_...`; `jesse-jobs keys create` makes a key."
            }
            Self::InvalidKey => {
                "Ask whoever runs the server for a key; a revoked one is refused within 5 seconds."
            }
            Self::MissingScope => "Use a key that has the scope which the text names.",
            Self::RateLimited => "Wait for `Retry-After`; the headers `RateLimit` say what is left.",
            Self::FormRefused => "Load the page anew and send the form again.",
            Self::HostNotAllowed => {
                "Address the server as localhost, or name the host in JESSE_JOBS_ALLOWED_HOSTS."
            }
            Self::OriginNotAllowed => "Name the page's origin in CORS_ORIGINS, or show an API key.",
            Self::EngineStarting | Self::Unavailable => "Try again after `Retry-After`; nothing was lost.",
            Self::Job(ErrorCode::StrategyNotFound) => {
                "Take a name from `/v1/strategies`; the text suggests one."
            }
            Self::Job(ErrorCode::StrategyError) => "Mend the strategy: `traceback` has its last frames.",
            Self::Job(ErrorCode::CandlesMissing) => {
                "Choose a range that is stored (the text has it), or import more: `detail.import` has the arguments of candles_import."
            }
            Self::Job(ErrorCode::InvalidSpec) => "Mend the fields that `errors` names.",
            Self::Job(ErrorCode::Timeout) => "Shorten the range, or raise `timeout_s`.",
            Self::Job(ErrorCode::OutOfMemory) => "Shorten the range, or use fewer routes.",
            Self::Job(ErrorCode::EngineCrashed) => {
                "Look for what ends the process: `os._exit`, a native library."
            }
            Self::Job(ErrorCode::ResultTooLarge) => "Shorten the range, or use a longer timeframe.",
            Self::Job(ErrorCode::WorkerLost) => {
                "Submit again; if it happens again, it needs too much memory."
            }
            Self::Job(ErrorCode::BatchIncomplete) => {
                "List its jobs with `/v1/batches/{id}/jobs`; each failed one has its own error."
            }
            Self::Job(ErrorCode::UnfitData) => {
                "Give more data, or data that vary: the text says how many it takes."
            }
            Self::Job(ErrorCode::InputGone) => "Submit the backtest again, then the analysis of the new job.",
            Self::Job(ErrorCode::ExchangeError) => {
                "Mend what the text names, or submit it again later: what came is stored."
            }
            Self::Job(ErrorCode::Internal) | Self::Internal => "Report it; the cause is in the log.",
        }
    }

    /// The table.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated | Self::InvalidKey => 401,
            Self::HostNotAllowed
            | Self::OriginNotAllowed
            | Self::FormRefused
            | Self::WritingNotAllowed
            | Self::ImportsNotAllowed
            | Self::MissingScope => 403,
            Self::JobNotFound | Self::WebhookNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ResultNotReady
            | Self::NotRequeueable
            | Self::StrategyExists
            | Self::WebhooksFull
            | Self::WebhookDisabled => 409,
            Self::ResultEvicted => 410,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::QueueFull | Self::CacheBusy | Self::RateLimited => 429,
            Self::Job(ErrorCode::Internal) | Self::Internal => 500,
            Self::IdempotencyConflict | Self::HeldOut | Self::UrlNotAllowed | Self::Job(_) => 422,
            Self::EngineStarting | Self::Unavailable => 503,
        }
    }

    /// In how long the same call may go through.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::EngineStarting | Self::Unavailable | Self::CacheBusy => Some(Duration::from_secs(2)),
            Self::QueueFull => Some(Duration::from_secs(10)),
            _ => None,
        }
    }

    /// A short text that is the same for every occurrence.
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not well-formed",
            Self::Job(ErrorCode::StrategyNotFound) => "No such strategy",
            Self::Job(ErrorCode::StrategyError) => "The strategy's own code fails",
            Self::Job(ErrorCode::CandlesMissing) => "The candles are not there",
            Self::Job(ErrorCode::InvalidSpec) => "Jesse cannot run this",
            Self::Job(ErrorCode::Timeout) => "The run took too long",
            Self::Job(ErrorCode::OutOfMemory) => "The run used up its memory",
            Self::Job(ErrorCode::EngineCrashed) => "The run's process ended without a result",
            Self::Job(ErrorCode::ResultTooLarge) => "The result is too large",
            Self::Job(ErrorCode::WorkerLost) => "The workers were lost",
            Self::Job(ErrorCode::BatchIncomplete) => "Not all jobs of the batch succeeded",
            Self::Job(ErrorCode::UnfitData) => "The data do not allow this analysis",
            Self::Job(ErrorCode::InputGone) => "A result that this is computed from is gone",
            Self::Job(ErrorCode::ExchangeError) => "The exchange gives no candles",
            Self::Job(ErrorCode::Internal) | Self::Internal => "Something is wrong on our side",
            Self::JobNotFound => "No such job",
            Self::IdempotencyConflict => "The idempotency key was used for another call",
            Self::QueueFull => "Too many jobs have not ended",
            Self::CacheBusy => "Too many invalidations at once",
            Self::HeldOut => "These days are held out of research",
            Self::NotRequeueable => "The job cannot be run once more",
            Self::ResultNotReady => "The job has no result",
            Self::ResultEvicted => "The result is gone",
            Self::WebhookNotFound => "No such webhook",
            Self::WebhooksFull => "Too many webhooks",
            Self::WebhookDisabled => "The webhook is disabled",
            Self::UrlNotAllowed => "Webhooks may not be sent there",
            Self::StrategyExists => "The strategy cannot be changed like this",
            Self::WritingNotAllowed => "Strategies cannot be written here",
            Self::ImportsNotAllowed => "Candles cannot be fetched from exchanges here",
            Self::NotFound => "Nothing is there",
            Self::MethodNotAllowed => "The route does not have this method",
            Self::PayloadTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body is not JSON",
            Self::Unauthenticated => "A key is needed",
            Self::InvalidKey => "This key is not good (any more)",
            Self::MissingScope => "The key does not allow this",
            Self::RateLimited => "Too many calls",
            Self::FormRefused => "This form does not come from a page of the console",
            Self::HostNotAllowed => "This host name is not served",
            Self::OriginNotAllowed => "Web pages of this origin may not call",
            Self::EngineStarting => "No worker is ready yet",
            Self::Unavailable => "Redis or the blob store is not available",
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone, Serialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
#[schemars(rename = "CallError")]
pub struct ServiceError {
    /// What kind of error.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
    /// Facts for programs.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl ServiceError {
    /// An error without facts for programs.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: Value::Null }
    }

    /// A defect of ours: logged here, with its cause, and told without it.
    pub fn internal(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = jobs::chain(cause), "{what}");
        Self::new(Code::Internal, "something is wrong on our side; it was logged")
    }
}

impl From<JobError> for ServiceError {
    fn from(error: JobError) -> Self {
        Self { code: Code::Job(error.code), message: error.message, detail: error.detail }
    }
}

impl From<QueueError> for ServiceError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::JobNotFound => {
                Self::new(Code::JobNotFound, "no job with this id; finished jobs are kept for some days")
            }
            QueueError::Full => Self::new(
                Code::QueueFull,
                "too many of your jobs have not ended yet; nothing was accepted, try again when some have",
            ),
            QueueError::Invalidating => Self::new(
                Code::CacheBusy,
                "too many invalidations are being carried out; try again in a moment",
            ),
            QueueError::IdempotencyConflict(_) => Self::new(Code::IdempotencyConflict, error.to_string()),
            QueueError::Unavailable(_) => {
                // Whoever follows the events logs the outage, once.
                tracing::debug!(error = jobs::chain(&error), "a call failed");
                Self::new(
                    Code::Unavailable,
                    "Redis is not available; nothing was lost, try again in a moment",
                )
            }
            QueueError::Blobs(error) if error.is_retryable() => {
                tracing::error!(error = jobs::chain(&error), "a call failed");
                Self::new(Code::Unavailable, error.to_string())
            }
            QueueError::Corrupt(_) | QueueError::Blobs(_) | QueueError::Setting(_) => {
                Self::internal("a call failed", &error)
            }
        }
    }
}

impl From<WebhookError> for ServiceError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::NotFound | WebhookError::NoDelivery => {
                Self::new(Code::WebhookNotFound, error.to_string())
            }
            WebhookError::Full => Self::new(Code::WebhooksFull, error.to_string()),
            WebhookError::Randomness(_) => Self::internal("no secret can be made", &error),
            WebhookError::Queue(error) => error.into(),
        }
    }
}

impl From<jesse::plan::PlanError> for ServiceError {
    fn from(error: jesse::plan::PlanError) -> Self {
        match error {
            jesse::plan::PlanError::Job(error) => error.into(),
            jesse::plan::PlanError::Queue(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fmt::Write;

    use super::*;

    /// `docs/errors.md`, from the code.
    fn reference() -> String {
        let mut page = String::from(
            "# Error codes\n\nMade from the code: `UPDATE_DOCS=1 cargo test reference` writes it anew.\n\nOver HTTP an error is a problem \
             (RFC 9457, `application/problem+json`) with the field `code`; over MCP it is a tool result with `isError` and \
             `error.code`. A job that failed has its `error` with one of the codes marked \"job\", which a refused submit has too.\n\n\
             | code | HTTP | job | meaning | what to do |\n|---|---|---|---|---|\n",
        );
        for code in Code::all() {
            let name = serde_json::to_value(code).unwrap();
            let job = if matches!(code, Code::Job(_)) { "job" } else { "" };
            let (name, status) = (name.as_str().unwrap(), code.status());
            writeln!(page, "| `{name}` | {status} | {job} | {} | {} |", code.title(), code.advice()).unwrap();
        }
        page
    }

    #[test]
    fn the_reference_of_errors_is_up_to_date() {
        crate::reference::assert_up_to_date("docs/errors.md", &reference());
    }
}

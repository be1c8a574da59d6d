//! What holds for runs of every kind: stopping when the queue says so, and what becomes of a run that cannot be computed here.

use std::time::Duration;

use jesse::runner::TaskError;
use jobs::{
    Claim, ErrorCode, JobError, Outcome, StoredResult,
    backend::{Handled, StopReason, StopSignal},
    chain,
};
use tokio_util::sync::CancellationToken;

/// How long a worker without Jesse waits before it lets go of a run, which it may well get again.
const NO_ENGINE_PAUSE: Duration = Duration::from_secs(2);

/// Computes a run to its outcome, or until it must stop: then `stopping` is cancelled, which `compute` is to obey.
pub(crate) async fn attend(
    claim: &Claim,
    mut stop: StopSignal,
    stopping: &CancellationToken,
    compute: impl Future<Output = Result<StoredResult, TaskError>>,
) -> Handled {
    tokio::pin!(compute);
    let mut reason: Option<StopReason> = None;
    let computed = loop {
        tokio::select! {
            computed = &mut compute => break computed,
            why = stop.stopped(), if reason.is_none() => {
                reason = Some(why);
                stopping.cancel();
            }
        }
    };
    match (computed, reason) {
        (Ok(result), _) => Handled::Finished(Outcome::Succeeded(result)),
        (Err(TaskError::Failed(error)), _) => Handled::Finished(Outcome::Failed(error)),
        (Err(TaskError::Stopped), reason) => Handled::Stopped(reason.unwrap_or(StopReason::HandBack)),
        (Err(TaskError::NoEngine(error)), reason) => {
            // Another worker may be better off; this one must not fail job after job meanwhile.
            tracing::warn!(run.id = %claim.run, error = chain(&error), "a run is handed back: Jesse is not there");
            let _stopped = tokio::time::timeout(NO_ENGINE_PAUSE, stop.stopped()).await;
            Handled::Stopped(reason.unwrap_or(StopReason::HandBack))
        }
    }
}

/// What was planned is not of this version.
pub(crate) fn unreadable(claim: &Claim, error: &serde_json::Error) -> JobError {
    tracing::error!(run.id = %claim.run, %error, "a plan cannot be read");
    JobError::new(ErrorCode::Internal, "this worker cannot read the plan; it is of another version")
        .retryable()
}

/// What was pinned cannot be brought here: worth another attempt, perhaps on another worker.
pub(crate) fn unavailable(claim: &Claim, what: &str, error: &(dyn std::error::Error + 'static)) -> JobError {
    tracing::error!(run.id = %claim.run, error = chain(error), what, "what a run needs cannot be fetched");
    JobError::new(ErrorCode::Internal, format!("the worker could not fetch the {what} it needs")).retryable()
}

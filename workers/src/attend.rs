//! What holds for runs of every kind: stopping when the queue says so, and what becomes of a run that cannot be computed here.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jesse::runner::TaskError;
use jobs::{
    Claim, ErrorCode, JobError, Outcome, Progress, Queue, RunId,
    backend::{Handled, StopReason, StopSignal},
    blobs::Blobs,
    chain,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a worker without Jesse waits before it lets go of a run, which it may well get again.
const NO_ENGINE_PAUSE: Duration = Duration::from_secs(2);

/// Progress is recorded at most this often, and not at all for what is over sooner.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// How many runs are remembered: more than go down together.
const REMEMBERED: usize = 1024;

/// Looks after runs while they are computed.
#[derive(Debug)]
pub(crate) struct Attendant {
    blobs: Blobs,
    /// The runs of late that were handed back because the runner did not answer: through no fault of theirs, as far as is known.
    interrupted: Mutex<VecDeque<RunId>>,
}

impl Attendant {
    pub(crate) fn new(blobs: Blobs) -> Self {
        Self { blobs, interrupted: Mutex::default() }
    }

    /// Computes a run to its outcome, or until it must stop: then `stopping` is cancelled, which `compute` is to obey.
    pub(crate) async fn attend(
        &self,
        claim: &Claim,
        mut stop: StopSignal,
        stopping: &CancellationToken,
        compute: impl Future<Output = Result<impl Into<Outcome>, TaskError>>,
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
            (Ok(found), _) => Handled::Finished(found.into()),
            (Err(TaskError::Failed { error, output }), _) => {
                Handled::Finished(Outcome::Failed(self.with_output(claim, error, output).await))
            }
            (Err(TaskError::Interrupted), None) if self.interrupted_again(claim.run) => {
                let message = "the runner process stopped answering while it ran this, twice: something in the strategy stops it";
                Handled::Finished(Outcome::Failed(
                    JobError::new(ErrorCode::EngineCrashed, message).retryable(),
                ))
            }
            (Err(TaskError::Stopped | TaskError::Interrupted), reason) => {
                Handled::Stopped(reason.unwrap_or(StopReason::HandBack))
            }
            (Err(TaskError::NoEngine(error)), reason) => {
                // Another worker may be better off; this one must not fail job after job meanwhile.
                tracing::warn!(run.id = %claim.run, error = chain(&error), "a run is handed back: Jesse is not there");
                let _stopped = tokio::time::timeout(NO_ENGINE_PAUSE, stop.stopped()).await;
                Handled::Stopped(reason.unwrap_or(StopReason::HandBack))
            }
        }
    }

    /// Remembers a run; answers whether it was known.
    fn interrupted_again(&self, run: RunId) -> bool {
        let mut runs = self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.contains(&run) {
            return true;
        }
        if runs.len() == REMEMBERED {
            runs.pop_front();
        }
        runs.push_back(run);
        false
    }

    /// Stores what a failed run has printed, and says in the error where.
    async fn with_output(&self, claim: &Claim, mut error: JobError, output: String) -> JobError {
        if output.is_empty() {
            return error;
        }
        match self.blobs.results.put(output.into()).await {
            Ok(blob) => jesse::logs::refer(&mut error, &blob),
            Err(failure) => {
                // The error itself matters more.
                tracing::warn!(run.id = %claim.run, error = chain(&failure), "what a failed run printed cannot be stored");
            }
        }
        error
    }
}

/// Records progress for as long as it is polled.
pub(crate) async fn record_progress(
    queue: &Queue,
    claim: &Claim,
    mut steps: mpsc::Receiver<Progress>,
) -> std::convert::Infallible {
    let mut last = Instant::now();
    while let Some(progress) = steps.recv().await {
        if last.elapsed() < PROGRESS_EVERY {
            continue;
        }
        last = Instant::now();
        if let Err(error) = queue.progress(claim.run, claim.fence, &progress).await {
            tracing::debug!(run.id = %claim.run, error = chain(&error), "progress was not recorded");
        }
    }
    std::future::pending().await
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

//! One task, from the request to its end, as seen from here.

use std::time::Duration;

use jobs::{ErrorCode, JobError, Progress};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    PROCESSES, TaskError, TaskResult,
    process::Zygote,
    protocol::Exit,
    tasks::{Loss, OpenTask, TaskEvent},
};

/// Between asking a task to end and killing it.
const GRACE: Duration = Duration::from_secs(1);
/// How long a killed task may take to be gone before the zygote itself counts as stuck.
const GONE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a task that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Kills what is left of a task's process if it does not end by itself, then removes its scratch folder.
pub(super) fn see_off(mut task: OpenTask, scratch: tempfile::TempDir) {
    tokio::spawn(async move {
        let gone = async {
            while let Some(event) = task.events.recv().await {
                if matches!(event, TaskEvent::Exited(_) | TaskEvent::ZygoteLost(_)) {
                    break;
                }
            }
        };
        if tokio::time::timeout(GRACE, gone).await.is_ok() {
            task.finished();
        }
        // Otherwise dropping the task kills it.
        drop(scratch);
    });
}

/// Collects what is heard of one task.
pub(super) struct Watcher<'a> {
    zygote: &'a Zygote,
    task: &'a mut OpenTask,
    progress: Option<&'a mpsc::Sender<Progress>>,
    exit: Option<Exit>,
    /// Its connection has closed: nothing more will be heard of it.
    hung: bool,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(
        zygote: &'a Zygote,
        task: &'a mut OpenTask,
        progress: Option<&'a mpsc::Sender<Progress>>,
    ) -> Self {
        Self { zygote, task, progress, exit: None, hung: false }
    }

    /// Whether its process is known to have ended.
    pub(super) fn is_gone(&self) -> bool {
        self.exit.is_some()
    }

    /// Ends with the task's own answer, or with what its end without one means.
    pub(super) async fn answer(&mut self) -> Result<TaskResult, TaskError> {
        loop {
            let event = if self.exit.is_some() {
                // It is gone; what it said may still be on its way through its own connection.
                match tokio::time::timeout(LAST_WORDS, self.task.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Err(self.explain_exit().into()),
                }
            } else {
                self.task.events.recv().await
            };
            match event {
                Some(TaskEvent::Progress(progress)) => {
                    if let Some(sink) = self.progress {
                        // A slow reader misses steps, not the end.
                        let _full = sink.try_send(progress);
                    }
                }
                Some(TaskEvent::Result { value, body }) => {
                    let limit = self.zygote.max_body();
                    if body.as_ref().is_some_and(|body| body.len() > limit) {
                        return Err(too_large(limit).into());
                    }
                    return Ok(TaskResult { value, body, engine: self.zygote.ready().clone() });
                }
                Some(TaskEvent::TooLarge) => return Err(too_large(self.zygote.max_body()).into()),
                Some(TaskEvent::Failed(error)) => return Err(error.into()),
                Some(TaskEvent::Exited(exit)) => {
                    self.exit = Some(exit);
                    if self.hung {
                        return Err(self.explain_exit().into());
                    }
                }
                Some(TaskEvent::Refused(message)) => {
                    self.exit = Some(Exit::default());
                    return Err(JobError::new(ErrorCode::Internal, message).retryable().into());
                }
                Some(TaskEvent::Hung) if self.exit.is_some() => return Err(self.explain_exit().into()),
                Some(TaskEvent::Hung) => self.hung = true,
                Some(TaskEvent::ZygoteLost(Loss::TakenDown)) => {
                    self.exit = Some(Exit::default());
                    return Err(TaskError::Interrupted);
                }
                Some(TaskEvent::ZygoteLost(Loss::Ended)) | None => {
                    self.exit = Some(Exit::default());
                    return Err(zygote_lost().into());
                }
            }
        }
    }

    /// Kills the task; ends when it is gone.
    pub(super) async fn kill(&mut self) {
        let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
        let kill = json!({"type": "kill", "id": self.task.id, "grace_ms": grace_ms});
        if self.exit.is_none() && self.zygote.tasks().to_zygote(&kill).is_ok() {
            let gone = async {
                loop {
                    match self.task.events.recv().await {
                        Some(TaskEvent::Exited(exit)) => return exit,
                        Some(TaskEvent::ZygoteLost(_)) | None => return Exit::default(),
                        Some(_) => {}
                    }
                }
            };
            let exit = tokio::time::timeout(GONE_LIMIT, gone).await.unwrap_or_else(|_| {
                tracing::error!(
                    task.id = self.task.id,
                    "the zygote does not answer; it is killed with all its tasks"
                );
                self.zygote.tasks().kill_zygote();
                Exit::default()
            });
            self.exit = Some(exit);
        }
    }

    fn explain_exit(&self) -> JobError {
        let exit = self.exit.clone().unwrap_or_default();
        match (exit.cause.as_deref(), exit.signal, exit.status) {
            (Some("memory"), ..) => JobError::new(
                ErrorCode::OutOfMemory,
                "the run used up its memory limit and was stopped; a shorter date range or fewer routes need less",
            ),
            (Some("cpu"), ..) => JobError::new(
                ErrorCode::Timeout,
                "the run used up its processor time and was stopped; shorten the date range, or raise timeout_s",
            ),
            (Some("processes"), ..) => JobError::new(
                ErrorCode::StrategyError,
                format!("the strategy had more than {PROCESSES} processes and threads at once and was stopped"),
            ),
            (_, Some(signal), _) => JobError::new(
                ErrorCode::EngineCrashed,
                format!("the process that ran it was killed by signal {signal} before it gave a result"),
            )
            .retryable(),
            (_, None, status) => JobError::new(
                ErrorCode::EngineCrashed,
                format!(
                    "the process that ran it ended with status {} before it gave a result: something in the strategy \
                     ends the process (os._exit, or a native library)",
                    status.unwrap_or(0)
                ),
            ),
        }
        .with_detail(json!({"status": exit.status, "signal": exit.signal, "max_rss_kb": exit.max_rss_kb, "cpu_s": exit.cpu_s}))
    }
}

/// It took too long by the clock.
pub(super) fn timeout(wall_s: u32) -> JobError {
    let message =
        format!("the run was stopped after its {wall_s} s; shorten the date range, or raise timeout_s");
    JobError::new(ErrorCode::Timeout, message).with_detail(json!({ "timeout_s": wall_s }))
}

fn too_large(limit: usize) -> JobError {
    let message = format!(
        "the result has more than {} MB; shorten the date range or use a longer timeframe, so that there are fewer trades",
        limit >> 20
    );
    JobError::new(ErrorCode::ResultTooLarge, message).with_detail(json!({ "limit_bytes": limit }))
}

fn zygote_lost() -> JobError {
    JobError::new(ErrorCode::EngineCrashed, "the runner process ended while it ran this").retryable()
}

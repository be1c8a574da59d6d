//! The runner engine: one Python process (the zygote) imports Jesse once and forks a child for every task, so that a task
//! costs its computation and not Jesse's start.
//!
//! ```text
//! Runner ── control connection ──> zygote ──fork──> child ── its own connection ──> Runner
//! ```
//!
//! State never leaks between tasks, a crash kills one task, and stopping a task is killing its process group. The zygote
//! and all children end when this process does: it holds the other end of their sockets.
//!
//! Guaranteed: [`Runner::run`] returns only after the task has given its result or is known to be gone; when its future is
//! dropped, the task is killed. Not guaranteed: that a task cannot harm the files that this user may write; it runs
//! the strategy's code as this user.

mod connection;
mod process;
mod protocol;
mod tasks;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use jobs::{ErrorCode, JobError, Progress};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use protocol::Ready;

use crate::plan::Limits;
use protocol::Exit;
use tasks::{TaskEvent, Tasks};

/// Between asking a task to end and killing it.
const GRACE: Duration = Duration::from_secs(1);
/// How long a killed task may take to be gone before the zygote itself counts as stuck.
const GONE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a task that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The largest file that a task may write, which bounds its output too.
const FILE_MB: u32 = 64;

/// How to start the runner.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// The Python interpreter that has Jesse.
    pub python: PathBuf,
    /// The folder that holds the package `runner`.
    pub package: PathBuf,
    /// A folder of the runner's own, for its socket and its tasks' scratch folders. A socket's path may have about a
    /// hundred bytes.
    pub folder: PathBuf,
    /// The largest body of a result.
    pub max_result_bytes: usize,
}

/// A task's result.
#[derive(Debug)]
pub struct TaskResult {
    /// What the task says in short.
    pub value: Value,
    /// The body, if it has one.
    pub body: Option<Bytes>,
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] JobError),
    /// It was stopped, and its processes are gone.
    #[error("the task was stopped")]
    Stopped,
    /// It was not started: Jesse cannot be imported here. Says nothing about the task.
    #[error("{0}")]
    NoEngine(JobError),
}

/// A task for the runner.
#[derive(Debug)]
pub struct TaskRequest<'a> {
    /// `backtest`, `scan` or `describe`.
    pub task: &'static str,
    /// What the task takes.
    pub args: Value,
    /// What it may use.
    pub limits: Limits,
    /// Where progress goes.
    pub progress: Option<&'a mpsc::Sender<Progress>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Runner {
    tasks: Arc<Tasks>,
    ready: watch::Receiver<process::State>,
    folder: PathBuf,
    max_result_bytes: usize,
    stop: CancellationToken,
    supervisor: AbortOnDropHandle<()>,
}

impl Runner {
    /// Starts the zygote in the background; [`Runner::ready`] says when it serves. A zygote that ends is started again.
    pub fn start(settings: RunnerSettings) -> std::io::Result<Self> {
        let folder = settings.folder.clone();
        let socket = folder.join("runner.sock");
        let listener = tokio::net::UnixListener::bind(&socket)?;
        let tasks = Arc::new(Tasks::default());
        let (state, ready) = watch::channel(process::State::Starting);
        let max_result_bytes = settings.max_result_bytes;
        let stop = CancellationToken::new();
        let supervisor = process::supervise(settings, socket, listener, tasks.clone(), state, stop.clone());
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor));
        Ok(Self { tasks, ready, folder, max_result_bytes, stop, supervisor })
    }

    /// Stops the zygote and everything that its tasks have started.
    pub async fn stop(&self) {
        self.stop.cancel();
        while !self.supervisor.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the zygote said of itself, once it serves; or why it cannot be started.
    pub async fn ready(&self) -> Result<Arc<Ready>, JobError> {
        let mut ready = self.ready.clone();
        let state = ready.wait_for(|state| !matches!(state, process::State::Starting)).await;
        match state.as_deref() {
            Ok(process::State::Serving(ready)) => Ok(ready.clone()),
            Ok(process::State::Failed(why)) => {
                Err(JobError::new(ErrorCode::Internal, why.clone()).retryable())
            }
            Ok(process::State::Starting) | Err(_) => {
                Err(JobError::new(ErrorCode::Internal, "the runner has stopped").retryable())
            }
        }
    }

    /// Runs one task in a process of its own. Ends with its result, with its failure, or after `stop` with
    /// [`TaskError::Stopped`].
    pub async fn run(
        &self,
        request: TaskRequest<'_>,
        stop: &CancellationToken,
    ) -> Result<TaskResult, TaskError> {
        self.ready().await.map_err(TaskError::NoEngine)?;
        let scratch = tempfile::Builder::new().prefix("task-").tempdir_in(&self.folder);
        let scratch = scratch.map_err(|error| no_scratch(&error))?;
        let mut task = self.tasks.open();
        let fork = json!({
            "type": "fork",
            "task": request.task,
            "id": task.id,
            "scratch": scratch.path(),
            "limits": {"cpu_s": request.limits.cpu_s, "memory_mb": request.limits.memory_mb, "file_mb": FILE_MB},
            "args": request.args,
        });
        self.tasks.to_zygote(&fork).map_err(|_| zygote_lost())?;
        let mut watcher = Watcher {
            runner: self,
            events: &mut task.events,
            id: &task.id,
            progress: request.progress,
            exit: None,
            hung: false,
        };
        let deadline = Duration::from_secs(request.limits.wall_s.into());
        let outcome = tokio::select! {
            answer = watcher.answer() => answer,
            () = stop.cancelled() => {
                watcher.kill().await;
                Err(TaskError::Stopped)
            }
            () = tokio::time::sleep(deadline) => {
                watcher.kill().await;
                Err(timeout(request.limits.wall_s).into())
            }
        };
        if watcher.exit.is_none() {
            // The result is in. What is left to do for the process goes on by itself.
            see_off(task, scratch);
        } else {
            task.finished();
        }
        outcome
    }
}

/// Kills what is left of a task's process if it does not end by itself, then removes its scratch folder.
fn see_off(mut task: tasks::OpenTask, scratch: tempfile::TempDir) {
    tokio::spawn(async move {
        let gone = async {
            while let Some(event) = task.events.recv().await {
                if matches!(event, TaskEvent::Exited(_) | TaskEvent::ZygoteLost) {
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
struct Watcher<'a> {
    runner: &'a Runner,
    events: &'a mut mpsc::UnboundedReceiver<TaskEvent>,
    id: &'a str,
    progress: Option<&'a mpsc::Sender<Progress>>,
    exit: Option<Exit>,
    /// Its connection has closed: nothing more will be heard of it.
    hung: bool,
}

impl Watcher<'_> {
    /// Ends with the task's own answer, or with what its end without one means.
    async fn answer(&mut self) -> Result<TaskResult, TaskError> {
        loop {
            let event = if self.exit.is_some() {
                // It is gone; what it said may still be on its way through its own connection.
                match tokio::time::timeout(LAST_WORDS, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Err(self.explain_exit().into()),
                }
            } else {
                self.events.recv().await
            };
            match event {
                Some(TaskEvent::Progress(progress)) => {
                    if let Some(sink) = self.progress {
                        // A slow reader misses steps, not the end.
                        let _full = sink.try_send(progress);
                    }
                }
                Some(TaskEvent::Result(result)) => {
                    let limit = self.runner.max_result_bytes;
                    if result.body.as_ref().is_some_and(|body| body.len() > limit) {
                        return Err(too_large(limit).into());
                    }
                    return Ok(result);
                }
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
                Some(TaskEvent::ZygoteLost) | None => {
                    self.exit = Some(Exit::default());
                    return Err(zygote_lost().into());
                }
            }
        }
    }

    /// Kills the task; ends when it is gone.
    async fn kill(&mut self) {
        let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
        let kill = json!({"type": "kill", "id": self.id, "grace_ms": grace_ms});
        if self.exit.is_none() && self.runner.tasks.to_zygote(&kill).is_ok() {
            let gone = async {
                loop {
                    match self.events.recv().await {
                        Some(TaskEvent::Exited(exit)) => return exit,
                        Some(TaskEvent::ZygoteLost) | None => return Exit::default(),
                        Some(_) => {}
                    }
                }
            };
            let exit = tokio::time::timeout(GONE_LIMIT, gone).await.unwrap_or_else(|_| {
                tracing::error!(
                    task.id = self.id,
                    "the zygote does not answer; it is killed with all its tasks"
                );
                self.runner.tasks.kill_zygote();
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

fn timeout(wall_s: u32) -> JobError {
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

fn no_scratch(error: &std::io::Error) -> JobError {
    tracing::error!(error = jobs::chain(error), "no scratch folder for a task");
    JobError::new(ErrorCode::Internal, "the worker has no room for a scratch folder").retryable()
}

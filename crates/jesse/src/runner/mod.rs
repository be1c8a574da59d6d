//! The runner engine: Python processes (zygotes) that have imported Jesse once and fork a child for every task, so that a
//! task costs its computation and not Jesse's start.
//!
//! ```text
//! Runner ── control connection ──> zygote ──fork──> child ── its own connection ──> Runner
//! ```
//!
//! State never leaks between tasks, a crash kills one task, and stopping a task is killing its processes. The zygotes and all
//! children end when this process does: it holds the other end of their sockets.
//!
//! A child has one task, or, where its strategies are known to keep nothing between runs (`workers/runner/stateless.py`), further
//! ones of the same code under the same limits: starting and ending a process takes as long as simulating some weeks.
//!
//! A zygote is replaced when it has served long or grown, and when the installed packages have changed: the next one is
//! started beside it, gets all new tasks once it serves, and the old one ends with its last task. One that does not answer is
//! killed and started anew.
//!
//! Guaranteed: [`Runner::run`] returns only after the task has given its result or is known to be gone; when its future is
//! dropped, the task is killed. Not guaranteed: that a task cannot harm what this user may write, unless the sandbox is
//! active (see [`Ready::sandbox`]).

mod connection;
mod installed;
mod output;
mod pool;
mod process;
mod protocol;
mod tasks;
mod watcher;

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use jobs::{ErrorCode, JobError, Progress};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use protocol::{Ready, SandboxState};

use crate::plan::Limits;
use output::Output;
use pool::Pool;
use process::Zygote;
use watcher::{Watcher, see_off, timeout};

/// The largest file that a task may write, which bounds its output too.
const FILE_MB: u32 = 64;
/// How many processes and threads a task may have at once, its own included.
const PROCESSES: u32 = 64;

/// Whether tasks are shut off from the machine they run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SandboxMode {
    /// They are not.
    Off,
    /// They are where the kernel allows it.
    #[default]
    Auto,
    /// They are, or nothing runs.
    On,
}

impl SandboxMode {
    /// `off`, `auto` or `on`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        }
    }
}

impl std::fmt::Display for SandboxMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SandboxMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Off, Self::Auto, Self::On]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of off, auto and on"))
    }
}

/// What tasks may see of the machine.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Whether there is one.
    pub mode: SandboxMode,
    /// Folders that tasks may read, beside Python, its packages and the system's libraries: the candles.
    pub readable: Vec<PathBuf>,
    /// Folders that a task sees only until it has copied its code from there.
    pub staging: Vec<PathBuf>,
}

/// When zygotes are looked after, and what they may become before they are replaced.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// How often a zygote is asked whether it is there, and packages are looked at.
    pub look_every: Duration,
    /// One that takes longer to answer is killed and started anew.
    pub answer_within: Duration,
    /// How many tasks a zygote starts.
    pub most_tasks: u64,
    /// By how many megabytes it may grow.
    pub most_growth_mb: u64,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(2),
            answer_within: Duration::from_secs(15),
            most_tasks: 20_000,
            most_growth_mb: 256,
        }
    }
}

/// How to start the runner.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// The Python interpreter that has Jesse.
    pub python: PathBuf,
    /// The folder that holds the package `runner`.
    pub package: PathBuf,
    /// A folder of the runner's own, for its sockets and its tasks' scratch folders. A socket's path may have about a
    /// hundred bytes.
    pub folder: PathBuf,
    /// The largest body of a result.
    pub max_result_bytes: usize,
    /// How many zygotes serve side by side, at least one. A fork takes a zygote a few milliseconds, so that one serves some
    /// hundred tasks a second.
    pub zygotes: usize,
    /// What tasks may see of the machine.
    pub sandbox: Sandbox,
    /// How many processes of each zygote may wait a moment for further tasks of their strategies, where those are known to keep
    /// nothing between runs. With 0 each task has a process of its own.
    pub stay: usize,
    /// How zygotes are looked after.
    pub upkeep: Upkeep,
    /// Is told of each zygote that was started, or could not be.
    pub starts: Option<mpsc::UnboundedSender<Start>>,
}

/// That a zygote was started: Python, Jesse and what else it imports.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// How long that took.
    pub took: Duration,
    /// Whether it serves.
    pub serves: bool,
}

/// A task's result.
#[derive(Debug)]
pub struct TaskResult {
    /// What the task says in short.
    pub value: Value,
    /// The body, if it has one.
    pub body: Option<Bytes>,
    /// What the zygote that ran it said of itself.
    pub engine: Arc<Ready>,
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It failed.
    #[error("{error}")]
    Failed {
        /// Why.
        error: JobError,
        /// What it had printed by then: all, or the begin and the end.
        output: String,
    },
    /// It was stopped, and its processes are gone.
    #[error("the task was stopped")]
    Stopped,
    /// It was taken down together with a zygote that did not answer. Says nothing about the task.
    #[error("the runner process did not answer and was killed")]
    Interrupted,
    /// It was not started: Jesse cannot be imported here. Says nothing about the task.
    #[error("{0}")]
    NoEngine(JobError),
}

impl From<JobError> for TaskError {
    fn from(error: JobError) -> Self {
        Self::Failed { error, output: String::new() }
    }
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
    pool: Pool,
}

impl Runner {
    /// Starts the zygotes in the background; [`Runner::ready`] says when one serves. A zygote that ends is started again.
    pub fn start(settings: RunnerSettings) -> std::io::Result<Self> {
        Ok(Self { pool: Pool::start(settings)? })
    }

    /// Stops the zygotes and everything that their tasks have started.
    pub async fn stop(&self) {
        self.pool.stop().await;
    }

    /// What a zygote said of itself, once one serves (of several the youngest); or why none can be started.
    pub async fn ready(&self) -> Result<Arc<Ready>, JobError> {
        Ok(self.pool.youngest().await?.ready().clone())
    }

    /// Runs one task in a process of its own. Ends with its result, with its failure, or after `stop` with
    /// [`TaskError::Stopped`].
    pub async fn run(
        &self,
        request: TaskRequest<'_>,
        stop: &CancellationToken,
    ) -> Result<TaskResult, TaskError> {
        loop {
            let zygote = self.pool.least_loaded().await.map_err(TaskError::NoEngine)?;
            let Some(outcome) = run_on(&zygote, &request, stop).await? else {
                // It ended just now, before it was asked; another one will be there soon.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            return outcome;
        }
    }
}

/// Runs a task on this zygote; `None` if that one has ended before.
async fn run_on(
    zygote: &Zygote,
    request: &TaskRequest<'_>,
    stop: &CancellationToken,
) -> Result<Option<Result<TaskResult, TaskError>>, TaskError> {
    let scratch = tempfile::Builder::new().prefix("task-").tempdir_in(zygote.folder());
    let scratch = match scratch {
        Ok(scratch) => scratch,
        Err(_) if zygote.has_ended() => return Ok(None),
        Err(error) => return Err(no_scratch(&error).into()),
    };
    let output = Output::create(scratch.path()).map_err(|error| no_scratch(&error))?;
    let mut task = zygote.tasks().open();
    let Limits { wall_s, cpu_s, memory_mb } = request.limits;
    let fork = json!({
        "type": "fork",
        "task": request.task,
        "id": task.id,
        "scratch": scratch.path(),
        "limits": {"cpu_s": cpu_s, "memory_mb": memory_mb, "file_mb": FILE_MB, "processes": PROCESSES},
        "args": request.args,
    });
    if zygote.tasks().to_zygote(&fork).is_err() {
        task.finished();
        return Ok(None);
    }
    let mut watcher = Watcher::new(zygote, &mut task, request.progress);
    let outcome = tokio::select! {
        answer = watcher.answer() => answer,
        () = stop.cancelled() => {
            watcher.kill().await;
            Err(TaskError::Stopped)
        }
        () = tokio::time::sleep(Duration::from_secs(wall_s.into())) => {
            watcher.kill().await;
            Err(timeout(wall_s).into())
        }
    };
    let outcome = outcome.map_err(|error| match error {
        TaskError::Failed { error, .. } => TaskError::Failed { error, output: output.read() },
        other => other,
    });
    if watcher.is_gone() {
        task.finished();
    } else {
        // The result is in. What is left to do for the process goes on by itself.
        see_off(task, scratch);
    }
    Ok(Some(outcome))
}

fn no_scratch(error: &std::io::Error) -> JobError {
    tracing::error!(error = jobs::chain(error), "no scratch folder for a task");
    JobError::new(ErrorCode::Internal, "the worker has no room for a scratch folder").retryable()
}

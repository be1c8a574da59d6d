//! The table of a zygote's running tasks, and the way to the zygote.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jobs::{JobError, Progress};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::protocol;

/// What is heard of a task.
#[derive(Debug)]
pub(super) enum TaskEvent {
    Progress(Progress),
    Result {
        value: Value,
        body: Option<bytes::Bytes>,
    },
    Failed(JobError),
    /// Its result is larger than results may be; it was not read.
    TooLarge,
    /// Its connection closed.
    Hung,
    Exited(protocol::Exit),
    Refused(String),
    ZygoteLost(Loss),
}

/// How a zygote went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It ended by itself: one of its tasks may have done that.
    Ended,
    /// It was taken down by us: no task's fault.
    TakenDown,
}

/// The way to a connected zygote.
#[derive(Debug, Clone)]
struct Line {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    kill: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    open: HashMap<String, mpsc::UnboundedSender<TaskEvent>>,
    line: Option<Line>,
    started: u64,
    loss: Loss,
}

#[derive(Debug)]
pub(super) struct Tasks {
    inner: Mutex<Inner>,
    running: watch::Sender<usize>,
}

#[derive(Debug)]
pub(super) struct NoZygote;

impl Tasks {
    pub(super) fn new() -> Arc<Self> {
        let inner = Inner { open: HashMap::new(), line: None, started: 0, loss: Loss::Ended };
        Arc::new(Self { inner: Mutex::new(inner), running: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new task.
    pub(super) fn open(self: &Arc<Self>) -> OpenTask {
        // A random id: it is also what proves to us that a connection is the task's.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, events) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        inner.open.insert(id.clone(), sender);
        inner.started += 1;
        self.running.send_replace(inner.open.len());
        OpenTask { id, events, tasks: self.clone(), over: false }
    }

    /// How many there are right now.
    pub(super) fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Ends when there are none.
    pub(super) async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender is ours, so this cannot fail.
        let _closed = running.wait_for(|running| *running == 0).await;
    }

    /// Takes no more tasks from now on; only if there are none.
    pub(super) fn close_if_idle(&self) -> bool {
        let mut inner = self.lock();
        let idle = inner.open.is_empty();
        if idle {
            inner.line = None;
        }
        idle
    }

    /// How many there have been.
    pub(super) fn started(&self) -> u64 {
        self.lock().started
    }

    /// Passes on what was heard of a task; answers whether anybody listens.
    pub(super) fn tell(&self, id: &str, event: TaskEvent) -> bool {
        self.lock().open.get(id).is_some_and(|task| task.send(event).is_ok())
    }

    pub(super) fn connected(&self, frames: mpsc::UnboundedSender<Vec<u8>>, kill: CancellationToken) {
        self.lock().line = Some(Line { frames, kill });
    }

    /// Whether there is a zygote to ask.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().line.is_some()
    }

    /// The zygote is gone, and so are all its tasks.
    pub(super) fn zygote_lost(&self) {
        let mut inner = self.lock();
        inner.line = None;
        for task in inner.open.values() {
            let _nobody_listens = task.send(TaskEvent::ZygoteLost(inner.loss));
        }
    }

    pub(super) fn to_zygote(&self, message: &Value) -> Result<(), NoZygote> {
        let inner = self.lock();
        let sent = inner.line.as_ref().map(|line| line.frames.send(protocol::encode(message)));
        sent.and_then(Result::ok).ok_or(NoZygote)
    }

    /// The zygote is taken down by us.
    pub(super) fn take_down(&self) {
        self.lock().loss = Loss::TakenDown;
        self.zygote_lost();
    }

    /// Kills a zygote that does not answer, and with it all its tasks.
    pub(super) fn kill_zygote(&self) {
        let mut inner = self.lock();
        inner.loss = Loss::TakenDown;
        if let Some(line) = &inner.line {
            line.kill.cancel();
        }
    }

    fn close(&self, id: &str) {
        let mut inner = self.lock();
        inner.open.remove(id);
        self.running.send_replace(inner.open.len());
    }
}

/// A task in the table; dropped before it is over, it is killed.
#[derive(Debug)]
pub(super) struct OpenTask {
    pub(super) id: String,
    pub(super) events: mpsc::UnboundedReceiver<TaskEvent>,
    tasks: Arc<Tasks>,
    over: bool,
}

impl OpenTask {
    pub(super) fn finished(mut self) {
        self.over = true;
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        if !self.over {
            // Nobody waits for it any more, so there is no use in asking first.
            let _gone = self.tasks.to_zygote(&json!({"type": "kill", "id": self.id, "grace_ms": 0}));
        }
        self.tasks.close(&self.id);
    }
}

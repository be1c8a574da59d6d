//! The table of running tasks, and the way to the zygote.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jobs::{JobError, Progress};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{TaskResult, protocol};

/// What is heard of a task.
#[derive(Debug)]
pub(super) enum TaskEvent {
    Progress(Progress),
    Result(TaskResult),
    Failed(JobError),
    /// Its connection closed.
    Hung,
    Exited(protocol::Exit),
    Refused(String),
    ZygoteLost,
}

/// A connected zygote.
#[derive(Debug, Clone)]
pub(super) struct Zygote {
    pub(super) frames: mpsc::UnboundedSender<Vec<u8>>,
    pub(super) kill: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Tasks {
    open: Mutex<HashMap<String, mpsc::UnboundedSender<TaskEvent>>>,
    zygote: Mutex<Option<Zygote>>,
}

#[derive(Debug)]
pub(super) struct NoZygote;

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<TaskEvent>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new task.
    pub(super) fn open(self: &Arc<Self>) -> OpenTask {
        // A random id: it is also what proves to us that a connection is the task's.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, events) = mpsc::unbounded_channel();
        self.lock().insert(id.clone(), sender);
        OpenTask { id, events, tasks: self.clone(), over: false }
    }

    /// Passes on what was heard of a task; answers whether anybody listens.
    pub(super) fn tell(&self, id: &str, event: TaskEvent) -> bool {
        self.lock().get(id).is_some_and(|task| task.send(event).is_ok())
    }

    pub(super) fn connected(&self, zygote: Zygote) {
        *self.zygote.lock().unwrap_or_else(PoisonError::into_inner) = Some(zygote);
    }

    /// The zygote is gone, and so are all its tasks.
    pub(super) fn zygote_lost(&self) {
        *self.zygote.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for task in self.lock().values() {
            let _nobody_listens = task.send(TaskEvent::ZygoteLost);
        }
    }

    pub(super) fn to_zygote(&self, message: &Value) -> Result<(), NoZygote> {
        let zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = zygote.as_ref().map(|zygote| zygote.frames.send(protocol::encode(message)));
        sent.and_then(Result::ok).ok_or(NoZygote)
    }

    pub(super) fn kill_zygote(&self) {
        if let Some(zygote) = &*self.zygote.lock().unwrap_or_else(PoisonError::into_inner) {
            zygote.kill.cancel();
        }
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
        self.tasks.lock().remove(&self.id);
        if !self.over {
            // Nobody waits for it any more, so there is no use in asking first.
            let _gone = self.tasks.to_zygote(&json!({"type": "kill", "id": self.id, "grace_ms": 0}));
        }
    }
}

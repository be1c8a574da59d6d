//! The tasks extension (`io.modelcontextprotocol/tasks`) over the job records.
//!
//! A task is a job seen in another way: its id is the job's, and all that a client is told is read from the record in
//! Redis. So any instance answers for any task, and a restart loses none. Nothing is kept here.
//!
//! A job that fails is a task that *completed* with a tool error, as the extension asks for: a task that *failed* would
//! be one whose call the protocol could not carry out.

use std::time::Duration;

use jobs::{JobId, JobState, JobView};
use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolResult, DetailedTask, JsonObject, Task, TaskPayload, TaskStatus},
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{
    errors::{Code, ServiceError},
    views,
};

/// How long a call waits for its job before it answers a task.
pub(super) const GRACE: Duration = Duration::from_millis(300);

/// The shortest and the longest interval at which clients are asked to poll.
const SHORTEST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(5);
/// How many polls a job's remaining time is worth.
const POLLS: f64 = 4.0;

/// Whether the client of this request follows tasks.
pub(super) fn are_understood(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks())
}

/// A job as a task. `kept` is how long a record stays after its job has ended; `now_ms` is in milliseconds since 1970.
fn task(view: &JobView, kept: Duration, now_ms: i64) -> Task {
    let updated = view.finished_ms.or(view.started_ms).unwrap_or(view.created_ms);
    // A job that has not ended is kept for longer than this, since it will end later than now.
    let end = view.finished_ms.unwrap_or(now_ms);
    let ttl_ms =
        milliseconds(kept).saturating_add(end.saturating_sub(view.created_ms).try_into().unwrap_or(0));
    Task::new(view.job_id.to_string(), status(view.state), views::time(view.created_ms), views::time(updated))
        .with_status_message(message(view))
        .with_ttl_ms(ttl_ms)
        .with_poll_interval_ms(milliseconds(poll_interval(view, now_ms)))
}

/// The task that answers a call. What the call's arguments are called here is told now: later answers know the job alone.
pub(super) fn created(view: &JobView, kept: Duration, now_ms: i64, notes: &[String]) -> Task {
    let told: Vec<_> = std::iter::once(message(view)).chain(notes.iter().cloned()).collect();
    task(view, kept, now_ms).with_status_message(told.join("; "))
}

/// A job as a task with its outcome, which is what the call would have answered had it waited.
pub(super) fn detailed(
    view: JobView,
    kept: Duration,
    now_ms: i64,
    answer: impl FnOnce(JobView) -> Result<CallToolResult, ServiceError>,
) -> Result<DetailedTask, ServiceError> {
    let task = task(&view, kept, now_ms);
    let payload = match task.status {
        TaskStatus::Completed => TaskPayload::Completed { result: outcome(&answer(view)?)? },
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        _ => TaskPayload::Working,
    };
    Ok(DetailedTask::new(task, payload))
}

/// The job that a task's id names. A text that is no id names nothing, as does another tenant's: clients learn no more.
pub(super) fn job(task_id: &str) -> Result<JobId, ErrorData> {
    task_id.parse().map_err(|_| unknown())
}

/// What goes wrong with a task's request, for the protocol.
pub(super) fn protocol_error(error: ServiceError) -> ErrorData {
    let ServiceError { code, message, detail } = error;
    if code == Code::JobNotFound {
        return unknown();
    }
    ErrorData::internal_error(message, Some(json!({ "code": code, "detail": detail })))
}

fn unknown() -> ErrorData {
    ErrorData::invalid_params("no such task; finished ones are kept for some days", None)
}

fn status(state: JobState) -> TaskStatus {
    match state {
        JobState::Queued | JobState::Scheduled | JobState::Running | JobState::Waiting => TaskStatus::Working,
        JobState::Cancelled => TaskStatus::Cancelled,
        JobState::Succeeded | JobState::Failed | JobState::Dead | JobState::Expired => TaskStatus::Completed,
    }
}

fn outcome(result: &CallToolResult) -> Result<JsonObject, ServiceError> {
    let shown = serde_json::to_value(result)
        .map_err(|error| ServiceError::internal("a task's result cannot be shown", &error))?;
    let mut object = if let Value::Object(object) = shown { object } else { JsonObject::new() };
    object.entry("resultType").or_insert_with(|| "complete".into());
    Ok(object)
}

/// What people read while they wait.
fn message(view: &JobView) -> String {
    let state = view.state.as_str();
    if let Some(progress) = &view.progress {
        return format!("{state}: {} ({:.0} %)", progress.message, progress.fraction * 100.0);
    }
    if let Some(error) = &view.error {
        return format!("{state}: {}", error.message);
    }
    match view.queue_position {
        Some(0) => format!("{state}, next"),
        Some(ahead) => format!("{state}, {ahead} ahead"),
        None => state.to_owned(),
    }
}

/// A part of the time that the job is expected to take from now on: what it says itself, and before it can say that, as
/// long as it has taken so far.
fn poll_interval(view: &JobView, now_ms: i64) -> Duration {
    let told = view.progress.as_ref().and_then(|progress| progress.eta_s);
    let age = || {
        let ms = now_ms.saturating_sub(view.started_ms.unwrap_or(view.created_ms));
        Duration::from_millis(ms.try_into().unwrap_or(0)).as_secs_f64()
    };
    let left = told.filter(|left| left.is_finite()).unwrap_or_else(age) / POLLS;
    Duration::from_secs_f64(left.clamp(SHORTEST_POLL.as_secs_f64(), LONGEST_POLL.as_secs_f64()))
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

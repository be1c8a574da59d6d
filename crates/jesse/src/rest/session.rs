//! One backtest as a session on a server: started under an id that a successor can work out, followed to its end, cancelled
//! if need be, and removed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jobs::{ErrorCode, JobError, Progress};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    RestRequest, Server,
    events::{Event, Subscription},
    failures,
    http::{CallError, Client, SHORT_ANSWER, back_off},
    messages,
};
use crate::{runner::TaskError, spec::BacktestSpec};

/// How often the status is asked for while events are heard, and while they are not.
const POLL_SLOW: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(500);
/// A worker's heart beats every 15 s as long as its process lives; Jesse itself waits 90 s.
const HEARTBEAT_LIMIT_S: f64 = 50.0;
/// How long the server may be away while it computes.
const AWAY_LIMIT: Duration = Duration::from_mins(1);
/// How long the cause of a failure, which the events tell, may come after the failure.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a cancelled run may take to end before we go on without knowing.
const CANCEL_LIMIT: Duration = Duration::from_secs(4);
/// How long tidying up may delay the result.
const TIDY_LIMIT: Duration = Duration::from_secs(3);
/// How many sessions one attempt may start: one for each time that it is not clear whether the server took it.
const STARTS: u32 = 16;
/// How many of them at one go.
const STARTS_AT_ONCE: u32 = 4;

/// The namespace of our sessions' ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1f_30a4_5b0e_5c1c_9f0e_7a6c_8f52_3b11);

/// The id of an attempt's session. A successor works out the same and finds what its predecessor left.
pub fn id(run: &str, attempt: u32, start: u32) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{run}/{attempt}/{start}").as_bytes())
}

/// What a server says of a session in short.
#[derive(Debug, Deserialize)]
struct Status {
    session_id: Uuid,
    #[serde(rename = "status")]
    state: String,
    #[serde(default)]
    heartbeat_age_seconds: Option<f64>,
    #[serde(default)]
    progress: Value,
}

impl Status {
    fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "running" | "queued" | "draft")
    }
}

async fn statuses(client: &Client, ids: &[Uuid]) -> Result<Vec<Status>, CallError> {
    let answer = client.post("session-results/status", &json!({ "session_ids": ids })).await?;
    serde_json::from_value(answer["sessions"].clone()).map_err(|error| CallError::Answer(error.into()))
}

async fn status(client: &Client, id: Uuid) -> Result<Status, CallError> {
    let found = statuses(client, &[id]).await?;
    found.into_iter().next().ok_or_else(|| CallError::Answer("no status".into()))
}

async fn cancel(client: &Client, id: Uuid) -> Result<(), CallError> {
    client.post("backtest/cancel", &json!({ "id": id })).await.map(|_| ())
}

async fn remove(client: &Client, id: Uuid) -> Result<(), CallError> {
    match client.post(&format!("backtest/sessions/{id}/remove"), &json!({})).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Ends what an earlier worker left of this attempt and the one before it. Answers the ids that must not be used again: a process
/// that has not yet noticed that it is cancelled would take the new session for its own.
pub(super) async fn sweep(client: &Client, run: &str, attempt: u32) -> Result<HashSet<Uuid>, CallError> {
    let attempts = [attempt, attempt.saturating_sub(1)];
    let ids: Vec<_> =
        attempts.iter().flat_map(|attempt| (0..STARTS).map(|start| id(run, *attempt, start))).collect();
    let mut used = HashSet::new();
    for found in statuses(client, &ids).await? {
        match found.state.as_str() {
            "not_found" => continue,
            _ if found.is_open() => {
                tracing::info!(session.id = %found.session_id, server = client.name(), "an orphaned session is cancelled");
                cancel(client, found.session_id).await?;
            }
            "finished" | "stopped" => remove(client, found.session_id).await?,
            // Cancelled, and not known to have ended: it stays as the mark that its id is used.
            _ => {}
        }
        used.insert(found.session_id);
    }
    Ok(used)
}

/// A finished session.
pub(super) struct Finished {
    /// All that the server has of it.
    pub(super) session: Value,
    /// The candles that it said it had found for its first symbol, `[from, to)` in milliseconds.
    pub(super) candles: Option<(i64, i64)>,
}

/// A session that was started. Dropped before it is over, it is cancelled.
pub(super) struct Session {
    server: Arc<Server>,
    pub(super) id: Uuid,
    events: Subscription,
    candles: Option<(i64, i64)>,
    over: bool,
}

impl Session {
    /// Starts a session under an id that is not used. Where it is not clear whether the server took it, that one is cancelled and
    /// another is started.
    pub(super) async fn start(
        server: &Arc<Server>,
        request: &RestRequest<'_>,
        used: &HashSet<Uuid>,
    ) -> Result<Self, TaskError> {
        let ids =
            (0..STARTS).map(|start| id(request.run, request.attempt, start)).filter(|id| !used.contains(id));
        let mut last = None;
        for (id, attempt) in ids.zip(0..STARTS_AT_ONCE) {
            if attempt > 0 {
                tokio::time::sleep(back_off(attempt)).await;
            }
            let events = server.events.subscribe(id).await;
            let mut session = Self { server: server.clone(), id, events, candles: None, over: false };
            let body = messages::backtest(id, request.spec, request.exchange);
            match server.client.post_once("backtest", &body, SHORT_ANSWER).await {
                Ok(_) => return Ok(session),
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => {
                    session.over = true;
                    return Err(failures::of_call(error));
                }
            }
        }
        let full =
            || JobError::new(ErrorCode::EngineCrashed, "Jesse's server lost the run too often").retryable();
        Err(last.map_or_else(|| full().into(), failures::of_call))
    }

    /// Ends when the run has.
    pub(super) async fn follow(
        &mut self,
        spec: &BacktestSpec,
        progress: Option<&mpsc::Sender<Progress>>,
        limit: usize,
    ) -> Result<Finished, TaskError> {
        let mut next_poll = Instant::now() + POLL;
        let mut heard = Instant::now();
        loop {
            let event = tokio::select! {
                event = self.events.next() => Some(event),
                () = tokio::time::sleep_until(next_poll) => None,
            };
            match event {
                Some(Event::Finished | Event::Terminated) | None => {}
                Some(event) => {
                    self.take(event, spec, progress)?;
                    continue;
                }
            }
            match status(&self.server.client, self.id).await {
                Ok(status) => {
                    heard = Instant::now();
                    if let Some(finished) = self.judge(&status, spec, limit).await? {
                        return Ok(finished);
                    }
                    // Every 15 s at most; better than nothing where no events are heard.
                    if let Some(percent) =
                        status.progress["percent"].as_f64().filter(|_| !self.events.is_connected())
                    {
                        let fraction = (percent / 100.0).clamp(0.0, 1.0);
                        self.take(
                            Event::Progress { fraction, message: String::new(), eta_s: None },
                            spec,
                            progress,
                        )?;
                    }
                }
                Err(error) if error.is_transient() && heard.elapsed() < AWAY_LIMIT => {
                    tracing::debug!(session.id = %self.id, error = jobs::chain(&error), "a session's status is not known");
                }
                Err(error) if error.is_transient() => {
                    return Err(failures::lost("it does not answer any more"));
                }
                Err(error) => return Err(failures::of_call(error)),
            }
            next_poll = Instant::now() + if self.events.is_connected() { POLL_SLOW } else { POLL };
        }
    }

    /// What an event says of the run; an error is its end.
    fn take(
        &mut self,
        event: Event,
        spec: &BacktestSpec,
        progress: Option<&mpsc::Sender<Progress>>,
    ) -> Result<(), JobError> {
        match event {
            Event::Progress { fraction, message, eta_s } => {
                if let Some(sink) = progress {
                    // A slow reader misses steps, not the end.
                    let _full = sink.try_send(Progress { fraction, message, eta_s });
                }
                Ok(())
            }
            Event::Candles { from_ms, to_ms } => {
                self.candles = Some((from_ms, to_ms));
                Ok(())
            }
            Event::MissingCandles { message } => Err(JobError::new(ErrorCode::CandlesMissing, message)),
            Event::AddedRoute { message } => {
                let text = format!(
                    "the strategy reads candles that are no route of this backtest ({}); name them in data_routes",
                    message.trim_end_matches(" Adding it and retrying...")
                );
                Err(JobError::new(ErrorCode::InvalidSpec, text))
            }
            Event::Exception { error, traceback } => Err(failures::explain(spec, &error, &traceback)),
            Event::Terminated | Event::Finished => Ok(()),
        }
    }

    /// What a status means: the result, nothing yet, or the end.
    async fn judge(
        &mut self,
        status: &Status,
        spec: &BacktestSpec,
        limit: usize,
    ) -> Result<Option<Finished>, TaskError> {
        match status.state.as_str() {
            "finished" => {
                let session = self.read(limit).await?;
                // What was said of the candles may still be on its way through the socket.
                while let Ok(event) = tokio::time::timeout(Duration::ZERO, self.events.next()).await {
                    self.take(event, spec, None)?;
                }
                Ok(Some(Finished { session, candles: self.candles }))
            }
            "stopped" => Err(self.cause(spec).await),
            "cancelled" | "terminated" => Err(failures::lost("somebody cancelled it there")),
            "not_found" => Err(failures::lost("its session is gone")),
            // Its process may have died without anybody there having noticed.
            _ if status.heartbeat_age_seconds.is_some_and(|age| age > HEARTBEAT_LIMIT_S) => {
                Err(failures::lost("the process that ran it shows no sign of life"))
            }
            _ => Ok(None),
        }
    }

    async fn read(&self, limit: usize) -> Result<Value, TaskError> {
        let path = format!("backtest/sessions/{}", self.id);
        let answer = self.server.client.post_bounded(&path, &json!({}), limit).await;
        let mut answer = answer.map_err(failures::of_call)?;
        Ok(answer["session"].take())
    }

    /// Why a run was stopped: what the events say, else what is stored.
    async fn cause(&mut self, spec: &BacktestSpec) -> TaskError {
        if self.events.is_connected() {
            let said = async {
                loop {
                    let event = self.events.next().await;
                    if matches!(event, Event::Exception { .. } | Event::MissingCandles { .. }) {
                        return event;
                    }
                }
            };
            if let Ok(event) = tokio::time::timeout(LAST_WORDS, said).await
                && let Err(error) = self.take(event, spec, None)
            {
                return error.into();
            }
        }
        match self.read(SHORT_ANSWER).await {
            Ok(session) => {
                let text = |field: &str| session[field].as_str().unwrap_or_default().to_owned();
                failures::explain(spec, &text("exception"), &text("traceback")).into()
            }
            Err(error) => error,
        }
    }

    /// Passes a cancel on, and waits until the run's process says that it ends. One that computes without ever coming back to
    /// Jesse never notices: then this gives up, and the session stays as the mark that its id is used.
    pub(super) async fn cancel(mut self) {
        self.over = true;
        let cancelled = async {
            cancel(&self.server.client, self.id).await?;
            if self.events.is_connected() {
                while !matches!(
                    self.events.next().await,
                    Event::Terminated | Event::Exception { .. } | Event::Finished
                ) {}
                return Ok(true);
            }
            while status(&self.server.client, self.id).await?.is_open() {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, CallError>(false)
        };
        match tokio::time::timeout(CANCEL_LIMIT, cancelled).await {
            Ok(Ok(true)) => self.tidy().await,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::warn!(session.id = %self.id, error = jobs::chain(&error), "a cancel did not reach Jesse's server");
            }
            Err(_) => tracing::warn!(
                session.id = %self.id,
                server = self.server.client.name(),
                "the session is cancelled, but its process did not say that it ended; it may go on computing there"
            ),
        }
    }

    /// Removes the session, which has ended.
    pub(super) async fn close(mut self) {
        self.over = true;
        self.tidy().await;
    }

    async fn tidy(&self) {
        match tokio::time::timeout(TIDY_LIMIT, remove(&self.server.client, self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(session.id = %self.id, error = jobs::chain(&error), "a session was not removed");
            }
            Err(_) => tracing::debug!(session.id = %self.id, "a session was not removed in time"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (server, id) = (self.server.clone(), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = cancel(&server.client, id).await {
                    tracing::warn!(session.id = %id, error = jobs::chain(&error), "a session was left to itself");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_for_a_successor_and_differ_between_starts() {
        assert_eq!(id("run", 1, 0), id("run", 1, 0));
        let all: HashSet<_> = [id("run", 1, 0), id("run", 1, 1), id("run", 2, 0), id("other", 1, 0)].into();
        assert_eq!(all.len(), 4);
        assert_eq!(id("run", 1, 0).get_version_num(), 5);
    }
}

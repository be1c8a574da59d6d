//! What a server says while it computes: progress, and the true causes of failures, which its database often lacks.
//!
//! One WebSocket for each server, held for as long as this process lives once it was needed. The server sends everything to
//! everybody; what concerns none of our sessions is dropped. Not guaranteed: that everything arrives. Whoever follows a session
//! asks for its status besides.

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use base64::Engine as _;
use futures::{SinkExt, StreamExt};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::http::back_off;

/// The server sends a ping every 30 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long whoever starts a session waits for the connection. Without it the session is followed by polling.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest message; the largest are lists of trades, which we do not read.
const LARGEST: usize = 64 << 20;
/// The largest message when it is unpacked.
const LARGEST_UNPACKED: u64 = 16 << 20;

/// What is said of one session.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// How far it is, from 0 to 1, and what it is at.
    Progress { fraction: f64, message: String, eta_s: Option<f64> },
    /// The candles that it found for its first symbol, in milliseconds: `[from, to)`.
    Candles { from_ms: i64, to_ms: i64 },
    /// There are none, or not enough before the start.
    MissingCandles { message: String },
    /// It changed what it was asked to do, since the strategy reads candles that were not asked for.
    AddedRoute { message: String },
    /// It failed.
    Exception { error: String, traceback: String },
    /// It has noticed that it is cancelled.
    Terminated,
    /// Its result is stored.
    Finished,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    event: String,
    #[serde(default)]
    is_compressed: bool,
    #[serde(default)]
    data: Value,
}

type Sessions = Arc<Mutex<HashMap<Uuid, mpsc::UnboundedSender<Event>>>>;

fn lock(sessions: &Sessions) -> MutexGuard<'_, HashMap<Uuid, mpsc::UnboundedSender<Event>>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of one server.
pub(super) struct Events {
    url: Url,
    sessions: Sessions,
    connection: OnceLock<(watch::Receiver<bool>, AbortOnDropHandle<()>)>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address has the token in it.
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The events of one session, for as long as it lives.
#[derive(Debug)]
pub(super) struct Subscription {
    id: Uuid,
    sessions: Sessions,
    events: mpsc::UnboundedReceiver<Event>,
    connected: watch::Receiver<bool>,
}

impl Events {
    pub(super) fn new(url: Url) -> Self {
        Self { url, sessions: Sessions::default(), connection: OnceLock::new() }
    }

    /// Listens for a session that is about to start.
    pub(super) async fn subscribe(&self, id: Uuid) -> Subscription {
        let (sender, events) = mpsc::unbounded_channel();
        lock(&self.sessions).insert(id, sender);
        let (connected, _) = self.connection.get_or_init(|| {
            let (state, connected) = watch::channel(false);
            let listening = listen(self.url.clone(), self.sessions.clone(), state);
            (connected, AbortOnDropHandle::new(tokio::spawn(listening)))
        });
        let mut connected = connected.clone();
        // Held from here on, so that whoever stops waiting leaves nothing behind.
        let subscription =
            Subscription { id, sessions: self.sessions.clone(), events, connected: connected.clone() };
        let _late = tokio::time::timeout(PATIENCE, connected.wait_for(|connected| *connected)).await.is_err();
        subscription
    }
}

impl Subscription {
    /// The next event; never ends.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Whether events arrive just now.
    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.sessions).remove(&self.id);
    }
}

/// Connects again and again.
async fn listen(url: Url, sessions: Sessions, state: watch::Sender<bool>) {
    let mut failures = 0;
    loop {
        match receive(&url, &sessions, &state).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                // Its text may have the address in it, and so the token.
                tracing::debug!(
                    host = url.host_str(),
                    failures,
                    why,
                    "events of Jesse's server are not heard"
                );
            }
        }
        state.send_replace(false);
        tokio::time::sleep(back_off(failures + 1)).await;
    }
}

async fn receive(url: &Url, sessions: &Sessions, state: &watch::Sender<bool>) -> Result<(), &'static str> {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let connecting = tokio_tungstenite::connect_async_with_config(url.as_str(), Some(config), true);
    let (mut socket, _) = tokio::time::timeout(CONNECT_LIMIT, connecting)
        .await
        .map_err(|_| "the connection takes too long")?
        .map_err(|_| "there is no connection")?;
    state.send_replace(true);
    loop {
        let message = tokio::time::timeout(SILENCE_LIMIT, socket.next()).await;
        match message.map_err(|_| "the connection is silent")? {
            None | Some(Ok(Message::Close(_))) => return Ok(()),
            Some(Err(_)) => return Err("the connection broke"),
            Some(Ok(Message::Text(text))) => {
                let Ok(envelope) = serde_json::from_str::<Envelope>(&text) else { continue };
                if envelope.event == "ping" {
                    socket
                        .send(Message::text(r#"{"type":"pong"}"#))
                        .await
                        .map_err(|_| "the connection broke")?;
                } else {
                    dispatch(envelope, sessions);
                }
            }
            Some(Ok(_)) => {}
        }
    }
}

fn dispatch(envelope: Envelope, sessions: &Sessions) {
    // Whose it is stands in `id`, unless the worker is gone already; some say it themselves.
    let named = [&envelope.id, &envelope.data["session_id"]];
    let id = named.into_iter().find_map(|id| id.as_str()?.parse::<Uuid>().ok());
    let Some(sender) = id.and_then(|id| lock(sessions).get(&id).cloned()) else { return };
    if let Some(event) = event(envelope) {
        let _ended = sender.send(event);
    }
}

/// What a message means to us, if anything.
fn event(envelope: Envelope) -> Option<Event> {
    let name = envelope.event.strip_prefix("backtest.")?;
    // Before it is unpacked, which may be much work.
    if matches!(name, "trades" | "metrics" | "hyperparameters" | "alert" | "routes_info") {
        return None;
    }
    let data = if envelope.is_compressed { unpack(envelope.data.as_str()?)? } else { envelope.data };
    let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
    match name {
        "progressbar" => {
            let fraction = (data["current"].as_f64()? / 100.0).clamp(0.0, 1.0);
            let eta_s = data["estimated_remaining_seconds"].as_f64().filter(|_| fraction > 0.0);
            Some(Event::Progress { fraction, message: text("message"), eta_s })
        }
        "candles_info" => Some(Event::Candles {
            from_ms: whole(&data["starting_time"])?,
            to_ms: whole(&data["finishing_time"])?,
        }),
        "missing_candles" => Some(Event::MissingCandles { message: text("message") }),
        "notification" if text("message").starts_with("Missing data route") => {
            Some(Event::AddedRoute { message: text("message") })
        }
        "exception" => Some(Event::Exception { error: text("error"), traceback: text("traceback") }),
        "termination" => Some(Event::Terminated),
        "charts_image_ready" => Some(Event::Finished),
        _ => None,
    }
}

/// A number that Jesse writes as a float though it is a whole one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "out of range it becomes the nearest, which no range of candles has"
)]
fn whole(value: &Value) -> Option<i64> {
    value.as_f64().map(|number| number as i64)
}

/// base64(gzip(json)), to a bound.
fn unpack(text: &str) -> Option<Value> {
    let packed = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).take(LARGEST_UNPACKED).read_to_end(&mut unpacked).ok()?;
    serde_json::from_slice(&unpacked).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn read(message: Value) -> Option<Event> {
        event(serde_json::from_value(message).unwrap())
    }

    #[test]
    fn messages_as_captured_from_jesse() {
        let progress = json!({"id": null, "event": "backtest.progressbar", "is_compressed": false, "data": {
            "message": "Simulating", "current": 10.0, "estimated_remaining_seconds": 1.5}});
        let expected = Event::Progress { fraction: 0.1, message: "Simulating".into(), eta_s: Some(1.5) };
        assert_eq!(read(progress), Some(expected));
        let candles = json!({"event": "backtest.candles_info", "data": {
            "starting_time": 1_674_172_800_000.0, "finishing_time": 1_676_851_200_000.0}});
        let expected = Event::Candles { from_ms: 1_674_172_800_000, to_ms: 1_676_851_200_000 };
        assert_eq!(read(candles), Some(expected));
        for nothing in [json!({"event": "ping"}), json!({"event": "monte-carlo.exception", "data": {}})] {
            assert_eq!(read(nothing), None);
        }
    }

    #[test]
    fn compressed_messages_are_unpacked_and_broken_ones_dropped() {
        let said = json!({"error": "ValueError: x", "traceback": "…"}).to_string();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(said.as_bytes()).unwrap();
        let packed = base64::engine::general_purpose::STANDARD.encode(encoder.finish().unwrap());
        let message =
            |data: &str| json!({"event": "backtest.exception", "is_compressed": true, "data": data});
        let expected = Event::Exception { error: "ValueError: x".into(), traceback: "…".into() };
        assert_eq!(read(message(&packed)), Some(expected));
        for broken in ["", "%%%", &packed[..packed.len() / 2]] {
            assert_eq!(read(message(broken)), None, "{broken}");
        }
    }
}

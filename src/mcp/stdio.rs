//! MCP over standard input and output for clients that spawn their servers: each message is sent on to the HTTP endpoint
//! of a server, and what that answers is written back. Nothing is understood here but where a message goes.
//!
//! Calls run side by side; a call that the client cancels is dropped, which ends it on the server as well (the job goes
//! on). A call that the server cannot answer is answered here, with an error, so that no client waits for nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::Engine;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::sse::EventReader;

/// From this version on, headers say what is in the body.
const WITH_HEADERS: &str = "2026-07-28";
const VERSION_IN_META: &str = "io.modelcontextprotocol/protocolVersion";
/// The most calls at once.
const MOST_CALLS: usize = 256;
/// The largest message that a server may send, in bytes.
const MOST_BYTES: usize = 32 << 20;
/// How long a server may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may take for what holds up the messages behind it.
const FIRST: Duration = Duration::from_secs(30);
/// How long calls may go on once the client has closed its end.
const GRACE: Duration = Duration::from_secs(2);

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const NOT_ANSWERED: i32 = -32000;

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    endpoint: Url,
    key: Option<String>,
    /// What `initialize` agreed on.
    version: Mutex<Option<String>>,
    /// What cancels each call, by its id as JSON.
    calls: Mutex<HashMap<String, CancellationToken>>,
    running: TaskTracker,
    out: mpsc::Sender<String>,
}

impl Proxy {
    /// A proxy to this endpoint, which writes messages to `out`.
    pub(crate) fn new(
        endpoint: Url,
        key: Option<String>,
        out: mpsc::Sender<String>,
    ) -> reqwest::Result<Self> {
        let client = Client::builder().connect_timeout(CONNECT).build()?;
        let shared = Shared {
            client,
            endpoint,
            key,
            version: Mutex::default(),
            calls: Mutex::default(),
            running: TaskTracker::new(),
            out,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes in one message, and returns as soon as the next may be taken in.
    pub(crate) async fn take(&self, line: &[u8]) {
        let message = match serde_json::from_slice::<Value>(line) {
            Ok(message) if message.is_object() => message,
            Ok(_) => {
                return self.refuse(&Value::Null, INVALID_REQUEST, "a message must be one JSON object").await;
            }
            Err(error) => {
                return self.refuse(&Value::Null, PARSE_ERROR, &format!("not JSON: {error}")).await;
            }
        };
        let method = message["method"].as_str().unwrap_or_default();
        if method == "notifications/cancelled" {
            return self.cancel(&message["params"]["requestId"]);
        }
        // What follows goes by the version that this agrees on.
        if method == "initialize" || message.get("id").is_none() {
            return self.send_first(message).await;
        }
        self.start(message).await;
    }

    /// Waits a little for the calls that still run.
    pub(crate) async fn finish(&self) {
        self.shared.running.close();
        let _elapsed = tokio::time::timeout(GRACE, self.shared.running.wait()).await;
        for (_, call) in lock(&self.shared.calls).drain() {
            call.cancel();
        }
    }

    async fn start(&self, message: Value) {
        let id = message["id"].to_string();
        let cancelled = CancellationToken::new();
        let refused = {
            let mut calls = lock(&self.shared.calls);
            if calls.contains_key(&id) {
                Some("a request of this id has not been answered yet")
            } else if calls.len() >= MOST_CALLS {
                Some("too many requests at once; wait for some of them")
            } else {
                calls.insert(id.clone(), cancelled.clone());
                None
            }
        };
        if let Some(why) = refused {
            return self.refuse(&message["id"], INVALID_REQUEST, why).await;
        }
        let proxy = self.clone();
        self.shared.running.spawn(async move {
            let _cancelled = cancelled.run_until_cancelled(proxy.send(message)).await;
            lock(&proxy.shared.calls).remove(&id);
        });
    }

    fn cancel(&self, id: &Value) {
        if let Some(call) = lock(&self.shared.calls).remove(&id.to_string()) {
            call.cancel();
        }
    }

    /// Sends what is to be answered before the next message is taken in; not for ever, or a cancellation behind it would
    /// never be heard.
    async fn send_first(&self, message: Value) {
        let id = message.get("id").cloned();
        if tokio::time::timeout(FIRST, self.send(message)).await.is_err() {
            let why =
                format!("the server at {} did not answer in {} s", self.shared.endpoint, FIRST.as_secs());
            self.give_up(id.as_ref(), &why).await;
        }
    }

    async fn send(&self, message: Value) {
        let id = message.get("id").cloned();
        if let Err(why) = self.exchange(&message).await {
            self.give_up(id.as_ref(), &why).await;
        }
    }

    async fn give_up(&self, id: Option<&Value>, why: &str) {
        if let Some(id) = id {
            self.refuse(id, NOT_ANSWERED, why).await;
        } else {
            tracing::warn!("a notification was lost: {why}");
        }
    }

    /// Sends a message and writes whatever the server answers; says why if that is no answer.
    async fn exchange(&self, message: &Value) -> Result<(), String> {
        let response = self.request(message).send().await.map_err(|error| {
            format!("the server at {} cannot be reached: {}", self.shared.endpoint, jobs::chain(&error))
        })?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(());
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self.relay_events(response, message.get("id")).await;
        }
        let status = response.status();
        let body = read(response).await?;
        let answer = serde_json::from_slice::<Value>(&body).ok().filter(|answer| answer["jsonrpc"] == "2.0");
        let Some(mut answer) = answer else {
            let body: String = String::from_utf8_lossy(&body).chars().take(500).collect();
            return Err(format!("the server at {} answered {status}: {body}", self.shared.endpoint));
        };
        if message["method"] == "initialize"
            && let Some(version) = answer["result"]["protocolVersion"].as_str()
        {
            *lock(&self.shared.version) = Some(version.to_owned());
        }
        // What is refused before it is read is refused without its id; over a pipe nothing else tells which call it was.
        if let Some(id) = message.get("id")
            && answer["id"].is_null()
        {
            answer["id"] = id.clone();
        }
        self.write(answer.to_string()).await;
        Ok(())
    }

    fn request(&self, message: &Value) -> RequestBuilder {
        let Shared { client, endpoint, key, version, .. } = &*self.shared;
        let mut request = client
            .post(endpoint.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let own = message["params"]["_meta"][VERSION_IN_META].as_str();
        let agreed = lock(version).clone();
        let Some(version) = own.or(agreed.as_deref()) else { return request };
        request = request.header("MCP-Protocol-Version", header_text(version));
        if version >= WITH_HEADERS {
            let method = message["method"].as_str().unwrap_or_default();
            request = request.header("Mcp-Method", header_text(method));
            if let Some(name) = name(method, &message["params"]) {
                request = request.header("Mcp-Name", header_text(name));
            }
        }
        request
    }

    async fn relay_events(&self, mut response: Response, id: Option<&Value>) -> Result<(), String> {
        let mut events = EventReader::default();
        let mut answered = id.is_none();
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|error| format!("the answer was cut off: {}", jobs::chain(&error)))?;
            let Some(chunk) = chunk else { break };
            for data in events.feed(&chunk)? {
                let Ok(message) = serde_json::from_str::<Value>(&data) else { continue };
                answered |= message.get("method").is_none() && message.get("id") == id;
                self.write(message.to_string()).await;
            }
        }
        if answered { Ok(()) } else { Err("the server ended its answer before it was complete".into()) }
    }

    async fn refuse(&self, id: &Value, code: i32, message: &str) {
        let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
        self.write(error.to_string()).await;
    }

    async fn write(&self, line: String) {
        // Whoever reads is gone: then there is nobody to tell.
        let _gone = self.shared.out.send(line).await;
    }
}

/// What a message is about: the header `Mcp-Name` says it to proxies that do not read bodies.
fn name<'a>(method: &str, params: &'a Value) -> Option<&'a str> {
    let field = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    params[field].as_str()
}

/// A text as a header's value: as it is, or in base64 where headers cannot carry it.
fn header_text(text: &str) -> String {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text;
    if plain && !text.starts_with("=?base64?") {
        return text.to_owned();
    }
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| jobs::chain(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(format!("the answer is larger than {} MB", MOST_BYTES >> 20));
        }
    }
    Ok(body)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_cannot_carry_is_encoded() {
        assert_eq!(header_text("job_get"), "job_get");
        assert_eq!(header_text("strategy://Ä"), "=?base64?c3RyYXRlZ3k6Ly/DhA==?=");
        assert_eq!(header_text(" a\n"), "=?base64?IGEK?=");
    }
}

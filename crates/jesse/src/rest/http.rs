//! Calls of one server: authorised, bounded, and tried again where that may help.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue, RETRY_AFTER},
};
use serde_json::Value;

use super::{breaker::Breaker, settings::Token};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest silence within a call. A result of years takes Jesse some seconds to write.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);
/// How often a call is made at most.
const ATTEMPTS: u32 = 5;
/// The wait before the next one is a random time of up to `BACK_OFF * 2^attempt`, at most `BACK_OFF_MAX` (full jitter).
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// The longest that a server's Retry-After is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Answers that are not results.
pub(super) const SHORT_ANSWER: usize = 16 << 20;
/// Much of an error's text is the request again.
const TEXT_SHOWN: usize = 2048;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It was not reached, or the connection broke.
    #[error("Jesse's server at {0} cannot be reached")]
    Unreachable(String, #[source] Box<dyn Error + Send + Sync>),
    /// It is left alone for a while.
    #[error("Jesse's server at {0} failed several times and is left alone for a while")]
    Open(String),
    /// It does not accept the token.
    #[error("Jesse's server at {0} does not accept JESSE_PASSWORD or JESSE_API_TOKEN")]
    Unauthorised(String),
    /// It answered with an error.
    #[error("Jesse's server answered {status}: {message}")]
    Status {
        /// The status.
        status: u16,
        /// What it says, shortened.
        message: String,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Not what Jesse answers.
    #[error("Jesse's server answered something unexpected")]
    Answer(#[source] Box<dyn Error + Send + Sync>),
    /// Longer than allowed.
    #[error("Jesse's server answered more than {0} bytes")]
    TooLarge(usize),
}

impl CallError {
    /// Whether the same call may go through later, or elsewhere.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::Open(_) => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Unauthorised(_) | Self::Answer(_) | Self::TooLarge(_) => false,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

/// One server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) url: Url,
    http: reqwest::Client,
    token: Token,
    breaker: Breaker,
}

impl Client {
    pub(super) fn new(url: Url, token: Token) -> Result<Self, reqwest::Error> {
        jobs::choose_tls();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(SILENCE_LIMIT)
            .pool_max_idle_per_host(8)
            // It would carry the token to wherever it is sent.
            .redirect(reqwest::redirect::Policy::none())
            // The WebSocket goes straight to the server too.
            .no_proxy()
            .build()?;
        Ok(Self { url, http, token, breaker: Breaker::default() })
    }

    /// For log lines.
    pub(super) fn name(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn is_left_alone(&self) -> bool {
        self.breaker.is_open()
    }

    /// The address of its WebSocket, with the token in it: never to be logged.
    pub(super) fn events_url(&self) -> Option<Url> {
        let mut url = self.url.join("ws").ok()?;
        url.set_scheme(if url.scheme() == "https" { "wss" } else { "ws" }).ok()?;
        url.query_pairs_mut().append_pair("token", self.token.secret());
        Some(url)
    }

    /// A call that may be made several times.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.post_bounded(path, body, SHORT_ANSWER).await
    }

    /// The same with a bound on the answer.
    pub(super) async fn post_bounded(
        &self,
        path: &str,
        body: &Value,
        most: usize,
    ) -> Result<Value, CallError> {
        let mut attempt = 0;
        loop {
            let outcome = self.post_once(path, body, most).await;
            attempt += 1;
            match outcome {
                Err(error) if error.is_transient() && attempt < ATTEMPTS && !self.is_left_alone() => {
                    tracing::debug!(
                        server = self.name(),
                        path,
                        attempt,
                        error = jobs::chain(&error),
                        "a call is repeated"
                    );
                    if matches!(error, CallError::Status { status: 500, .. }) {
                        self.heal().await;
                    }
                    let asked = match error {
                        CallError::Status { retry_after, .. } => retry_after,
                        _ => None,
                    };
                    tokio::time::sleep(asked.unwrap_or_else(|| back_off(attempt)).min(RETRY_AFTER_MAX)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A call that is made once.
    pub(super) async fn post_once(&self, path: &str, body: &Value, most: usize) -> Result<Value, CallError> {
        let response = self.send(self.request(Method::POST, path)?.json(body)).await?;
        let bytes = read(response, most, self.name()).await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Answer(error.into()))
    }

    /// A failed statement leaves one of the server's threads in a transaction that fails all that it is asked later.
    /// This call opens a nested one, at whose end the thread is well again: it helps if it meets the same thread, which
    /// is usually the one that was free last.
    async fn heal(&self) {
        if let Ok(request) = self.request(Method::GET, "data-providers/credentials") {
            let _healed = self.send(request).await;
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.url.join(path).map_err(|error| CallError::Answer(error.into()))?;
        let mut token = HeaderValue::from_str(self.token.secret())
            .map_err(|_| CallError::Unauthorised(self.name().to_owned()))?;
        token.set_sensitive(true);
        Ok(self.http.request(method, url).header(AUTHORIZATION, token))
    }

    /// Sends a request; an answer that is an error becomes one.
    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        if !self.breaker.admit() {
            return Err(CallError::Open(self.name().to_owned()));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                self.note_failure();
                return Err(unreachable(self.name(), error));
            }
        };
        let status = response.status();
        // Jesse itself says 500 of a single call; these are said by what stands before it.
        if matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ) {
            self.note_failure();
        } else {
            self.breaker.succeeded();
        }
        if status.is_success() {
            return Ok(response);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(CallError::Unauthorised(self.name().to_owned()));
        }
        let retry_after = retry_after(&response);
        let text = read(response, SHORT_ANSWER, self.name()).await.unwrap_or_default();
        Err(CallError::Status { status: status.as_u16(), message: message(&text), retry_after })
    }

    fn note_failure(&self) {
        if self.breaker.failed() {
            tracing::warn!(server = self.name(), "Jesse's server fails and is left alone for a while");
        }
    }
}

fn unreachable(name: &str, error: reqwest::Error) -> CallError {
    CallError::Unreachable(name.to_owned(), error.without_url().into())
}

/// The body, unless it is longer than `most`.
async fn read(mut response: Response, most: usize, name: &str) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(name, error))? {
        if body.len() + chunk.len() > most {
            return Err(CallError::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What Jesse says in the fields that it uses for errors, else the beginning of the text.
fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(answer) => {
            let said = ["error", "message", "detail"].into_iter().find_map(|name| match &answer[name] {
                Value::String(text) => Some(text.clone()),
                // Its validation repeats the whole request in `input`.
                Value::Array(items) => Some(items.iter().map(complaint).collect::<Vec<_>>().join("; ")),
                _ => None,
            });
            said.unwrap_or_else(|| answer.to_string())
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(TEXT_SHOWN).collect()
}

fn complaint(item: &Value) -> String {
    let place = item["loc"].as_array().into_iter().flatten();
    let place: Vec<_> =
        place.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect();
    format!("{}: {}", place.join("."), item["msg"].as_str().unwrap_or_default())
}

/// A random time of up to the bound for this attempt.
pub(super) fn back_off(attempt: u32) -> Duration {
    let most = BACK_OFF.saturating_mul(2_u32.saturating_pow(attempt)).min(BACK_OFF_MAX);
    // The upper 32 of a UUIDv4's random bits, as a fraction.
    let random = u32::try_from(uuid::Uuid::new_v4().as_u128() >> 96).unwrap_or(u32::MAX);
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jesse_says_is_told_without_the_request() {
        let invalid = br#"{"detail":[{"type":"missing","loc":["body","id"],"msg":"Field required","input":{"secret":1}}]}"#;
        assert_eq!(message(invalid), "body.id: Field required");
        assert_eq!(message(br#"{"error":"E: x","traceback":"long"}"#), "E: x");
        assert_eq!(message(b"Internal Server Error"), "Internal Server Error");
        assert_eq!(message(&vec![b'x'; 5000]).len(), TEXT_SHOWN);
    }

    #[test]
    fn waits_are_random_and_bounded() {
        let waits: Vec<_> = (0..200).map(|_| back_off(30)).collect();
        assert!(waits.iter().all(|wait| *wait <= BACK_OFF_MAX));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}

//! One attempt over HTTP: where to, what was answered, and what that means.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::webhooks::AttemptOutcome;
use reqwest::{
    Client, Response, Url,
    dns::Resolve,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::address::{AddressFilter, FilteredResolver, Refused};
use crate::WorkerError;

/// How much of an answer's body is kept, and how much of it is read so that the connection can be used again.
const KEPT_BYTES: usize = 1024;
const READ_BYTES: usize = 16 << 10;
/// How long a body may take once the status is known, which is all that counts.
const BODY_LIMIT: Duration = Duration::from_secs(3);
/// The longest pause that a receiver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);
const CONNECTIONS_KEPT: usize = 16;

/// A message, ready to be sent.
#[derive(Debug)]
pub struct Message {
    /// `webhook-id`
    pub id: String,
    /// `webhook-timestamp`
    pub seconds: i64,
    /// `webhook-signature`
    pub signatures: String,
    /// The body.
    pub body: String,
}

/// What came of an attempt.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
    /// The URL itself names a forbidden address, or is none: no attempt will ever do better.
    pub hopeless: bool,
    /// It leads to a forbidden address, now at least.
    pub refused: bool,
    /// The beginning of the body.
    pub response: String,
    /// How long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    fn unsent(error: String) -> Self {
        Self { error: Some(error), hopeless: true, refused: true, ..Self::default() }
    }

    /// What is to follow. `step` is the pause until the next attempt; `None` when this was the last.
    pub(super) fn outcome(&self, step: Option<Duration>) -> AttemptOutcome {
        match (self.status, step) {
            (Some(200..=299), _) => AttemptOutcome::Delivered,
            (Some(410), _) => AttemptOutcome::Gone,
            (_, Some(step)) if !self.hopeless => {
                let hold = self.retry_after.unwrap_or_default();
                AttemptOutcome::Retry { after: step.max(hold), hold }
            }
            _ => AttemptOutcome::Failed,
        }
    }
}

/// Sends messages. Connections are kept; redirects are not followed, since they could lead anywhere; proxies are not used, since they
/// resolve names by themselves.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    filter: Arc<AddressFilter>,
    timeout: Duration,
}

impl Sender {
    /// Sends where `filter` allows it to; names are resolved by `names`. The whole of an attempt may take `timeout`.
    pub fn new(
        filter: AddressFilter,
        names: Arc<dyn Resolve>,
        timeout: Duration,
    ) -> Result<Self, WorkerError> {
        jobs::choose_tls();
        let filter = Arc::new(filter);
        let client = Client::builder()
            .dns_resolver(Arc::new(FilteredResolver::new(filter.clone(), names)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // An answer may be small and yet unpack to anything.
            .no_gzip()
            .timeout(timeout)
            .pool_max_idle_per_host(CONNECTIONS_KEPT)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("jesse-jobs/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(WorkerError::Webhooks)?;
        Ok(Self { client, filter, timeout })
    }

    /// Sends a message once.
    pub async fn send(&self, url: &str, message: Message) -> Answer {
        let began = Instant::now();
        let mut answer = match Url::parse(url) {
            Err(error) => Answer::unsent(format!("the URL cannot be read: {error}")),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Answer::unsent("the URL is neither http nor https".into())
            }
            Ok(url) => match self.filter.check(&url) {
                Err(refused) => Answer::unsent(refused.to_string()),
                Ok(()) => self.post(url, message).await,
            },
        };
        answer.took = began.elapsed();
        answer
    }

    async fn post(&self, url: Url, Message { id, seconds, signatures, body }: Message) -> Answer {
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures)
            .body(body);
        match request.send().await {
            Ok(response) => {
                let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
                let response = read(response).await;
                Answer { status: Some(status), response, retry_after, ..Answer::default() }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &reqwest::Error) -> Answer {
        let causes = || std::iter::successors(error.source(), |&cause| cause.source());
        if let Some(refused) = causes().find_map(|cause| cause.downcast_ref::<Refused>()) {
            return Answer { error: Some(refused.to_string()), refused: true, ..Answer::default() };
        }
        let what = if error.is_timeout() {
            format!("no answer within {} s", self.timeout.as_secs_f64())
        } else {
            // The last cause is what the system said; those before only say where. None has the URL.
            let cause = causes().last().map_or_else(|| "it failed".to_owned(), ToString::to_string);
            let cause: String = cause.chars().take(300).collect();
            if error.is_connect() {
                format!("no connection: {cause}")
            } else {
                format!("the connection broke: {cause}")
            }
        };
        Answer { error: Some(what), ..Answer::default() }
    }
}

/// The begin of a body, as text.
async fn read(mut response: Response) -> String {
    let (mut kept, mut read) = (Vec::new(), 0);
    let reading = async {
        while let Ok(Some(part)) = response.chunk().await {
            read += part.len();
            let room = KEPT_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(&part[..part.len().min(room)]);
            if read > READ_BYTES {
                break;
            }
        }
    };
    // One that never ends is cut here; what came is kept.
    let _cut = tokio::time::timeout(BODY_LIMIT, reading).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// The header `Retry-After`: seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default()
    };
    Some(after.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means() {
        let step = Some(Duration::from_secs(5));
        let answer = |status: u16| Answer { status: Some(status), ..Answer::default() };
        let retry = AttemptOutcome::Retry { after: Duration::from_secs(5), hold: Duration::ZERO };
        for status in [200, 201, 204, 299] {
            assert_eq!(answer(status).outcome(step), AttemptOutcome::Delivered, "{status}");
        }
        for status in [301, 302, 308, 400, 401, 404, 429, 500, 503] {
            assert_eq!(answer(status).outcome(step), retry, "{status}");
            assert_eq!(answer(status).outcome(None), AttemptOutcome::Failed, "{status}");
        }
        assert_eq!(answer(410).outcome(step), AttemptOutcome::Gone);
        assert_eq!(Answer::default().outcome(step), retry);
        assert_eq!(Answer::unsent(String::new()).outcome(step), AttemptOutcome::Failed);
        let later = Answer { retry_after: Some(Duration::from_mins(1)), ..answer(503) };
        let minute = Duration::from_mins(1);
        assert_eq!(later.outcome(step), AttemptOutcome::Retry { after: minute, hold: minute });
    }
}

//! Calls to the server.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use super::ClientError;

/// Which server, and how its answers are printed.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server
    #[arg(long, env = "JESSE_JOBS_URL", default_value = "http://127.0.0.1:8100")]
    pub(super) url: String,
    /// API key to show to it
    #[arg(long, env = "JESSE_JOBS_KEY", hide_env_values = true)]
    pub(super) key: Option<String>,
    /// Print JSON, as the server answers it
    #[arg(long)]
    pub(super) json: bool,
}

/// How long a server may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Pauses before a call that was not taken is made again: a server that restarts behind its proxy is no news to anybody.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// How much of an answer that is no problem document is shown.
const SHOWN: usize = 500;

/// The URL of a server as it is given, or why it is none.
pub(crate) fn server_url(given: &str) -> Result<Url, String> {
    let wrong = |why: String| {
        format!("--url (JESSE_JOBS_URL) is {given:?}: {why}; expected e.g. http://127.0.0.1:8100")
    };
    let url = Url::parse(given).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("neither http nor https".into()));
    }
    Ok(url)
}

/// See [`ServerArgs`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Server {
    client: Client,
    base: Url,
    key: Option<String>,
}

impl Server {
    pub(super) fn new(args: &ServerArgs) -> Result<Self, ClientError> {
        let base = server_url(&args.url).map_err(ClientError::Input)?;
        let client = Client::builder().connect_timeout(CONNECT).build();
        let client = client.map_err(|error| ClientError::Unreachable(args.url.clone(), error))?;
        Ok(Self { client, base, key: args.key.clone() })
    }

    pub(super) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.get_with(path, &[]).await
    }

    pub(super) async fn get_with(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        self.json(|| self.request(Method::GET, path, query)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json(|| self.request(Method::POST, path, &[]).json(body)).await
    }

    /// A call that may be repeated without being done twice.
    pub(super) async fn post_once(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let key = uuid::Uuid::now_v7().to_string();
        self.json(|| self.request(Method::POST, path, &[]).header("idempotency-key", &key).json(body)).await
    }

    async fn json(&self, request: impl Fn() -> RequestBuilder) -> Result<Value, ClientError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| ClientError::Unreachable(self.base.to_string(), error))
    }

    /// Sends it, again if it was not taken; anything but success is an error.
    pub(super) async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ClientError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let answer = request().send().await;
            let not_taken = match &answer {
                Ok(response) => matches!(
                    response.status(),
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY
                ),
                Err(error) => error.is_connect(),
            };
            if not_taken && let Some(pause) = pauses.next() {
                tokio::time::sleep(pause).await;
                continue;
            }
            let response = answer.map_err(|error| ClientError::Unreachable(self.base.to_string(), error))?;
            return if response.status().is_success() { Ok(response) } else { Err(refused(response).await) };
        }
    }
}

/// What a problem document says.
async fn refused(response: Response) -> ClientError {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let code = problem["code"].as_str().unwrap_or("unknown").to_owned();
    let detail = problem["detail"].as_str().map_or_else(|| text.chars().take(SHOWN).collect(), str::to_owned);
    ClientError::Refused { status, code, detail }
}

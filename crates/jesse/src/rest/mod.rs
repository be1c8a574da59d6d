//! The REST engine: backtests on servers of Jesse's own (`jesse run`), beside the runner, with one form of result.
//!
//! ```text
//! RestEngine ── POST /backtest, status, result ──> server ──> its process for the run ──> its Postgres
//!           <── WebSocket: progress, causes ──
//! ```
//!
//! A run takes the healthy server with the fewest runs of ours. It is followed over the WebSocket and by polling; the poll
//! decides. A server that fails is left alone for a while, and its runs are tried elsewhere.
//!
//! Guaranteed: a result covers the whole range that was asked for, or it is an error; a run that is stopped is cancelled on the
//! server, and one that its worker left behind is cancelled by the worker that takes it up. Not guaranteed: that what ran is what
//! was planned, beyond a strategy's main file, and that candles have no gaps: a server tells neither. A strategy that never comes back
//! to Jesse computes on after a cancel; and a strategy's prints and its curve of open positions are not told.

mod breaker;
mod coverage;
mod events;
mod failures;
mod http;
mod messages;
mod offer;
mod publish;
mod result;
mod session;
mod settings;
#[cfg(test)]
mod testing;

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jobs::{ErrorCode, JobError, Progress, blobs::BlobId};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use coverage::Coverage;
use coverage::needed;
pub use offer::{COLLECTION, DOCUMENT, Offer, SEMANTICS, cache_key};
pub use publish::{OfferError, OfferPublisher};
pub use result::REALISED;
pub use session::id as session_id;
pub use settings::{InvalidServer, RestSettings, Token, parse_urls};

use crate::{catalogue::Exchange, plan::Limits, runner::TaskError, spec::BacktestSpec};
use events::Events;
use http::{CallError, Client};
use session::Session;

/// How long a run waits for a server that is not left alone, before the worker lets go of it.
const NO_SERVER_LIMIT: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what a server says of its candles is believed: asking makes it look at its whole table.
const COVERAGE_AGE: Duration = Duration::from_secs(30);
/// What a session says besides its result, at most.
const BESIDES: usize = 4 << 20;

/// Why the engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No HTTP client can be made: TLS has no certificates to trust.
    #[error("calls to Jesse's servers cannot be made")]
    Client(#[from] reqwest::Error),
    /// Without one there is nothing to run on.
    #[error("the REST engine needs a Jesse server: JESSE_HOST or JESSE_URLS")]
    NoServer,
}

/// A backtest for the engine.
#[derive(Debug, Clone, Copy)]
pub struct RestRequest<'a> {
    /// What is asked for.
    pub spec: &'a BacktestSpec,
    /// How its exchange works.
    pub exchange: &'a Exchange,
    /// Wall time is all that can be limited on a server.
    pub limits: Limits,
    /// The run's id and attempt, of which the session's id is made.
    pub run: &'a str,
    /// See `run`.
    pub attempt: u32,
    /// Where progress goes.
    pub progress: Option<&'a mpsc::Sender<Progress>>,
}

/// A result, and what it was computed from as far as the server tells.
#[derive(Debug)]
pub struct RestResult {
    /// What it says in short, in the form of every engine's.
    pub value: Value,
    /// The body, likewise.
    pub body: Bytes,
    /// The hashes of the main files of the strategies that ran, where the server tells.
    pub bundles: Option<Vec<BlobId>>,
    /// The candles that the server had when it started.
    pub candles: Vec<Coverage>,
    /// The session on the server, which is removed.
    pub session: Uuid,
}

/// One server.
#[derive(Debug)]
struct Server {
    client: Client,
    events: Events,
    slots: Arc<Semaphore>,
    coverage: Mutex<Option<(Instant, Vec<Coverage>)>>,
}

impl Server {
    /// What candles there are, as of a moment ago.
    async fn coverage(&self) -> Result<Vec<Coverage>, CallError> {
        let mut known = self.coverage.lock().await;
        if let Some((_, coverage)) = known.as_ref().filter(|(read, _)| read.elapsed() < COVERAGE_AGE) {
            return Ok(coverage.clone());
        }
        let coverage = coverage::stored(&self.client).await?;
        *known = Some((Instant::now(), coverage.clone()));
        Ok(coverage)
    }

    /// Whether a run has all its candles here. What is missing may have been imported a moment ago.
    async fn needed(&self, spec: &BacktestSpec) -> Result<Vec<Coverage>, TaskError> {
        let stored = self.coverage().await.map_err(failures::of_call)?;
        if let Ok(needed) = needed(spec, &stored) {
            return Ok(needed);
        }
        *self.coverage.lock().await = None;
        let stored = self.coverage().await.map_err(failures::of_call)?;
        Ok(needed(spec, &stored)?)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RestEngine {
    servers: Vec<Arc<Server>>,
    settings: RestSettings,
}

impl RestEngine {
    /// An engine on these servers. None of them is called yet.
    pub fn new(settings: RestSettings) -> Result<Self, RestError> {
        if settings.urls.is_empty() {
            return Err(RestError::NoServer);
        }
        let server = |url: &reqwest::Url| {
            let client = Client::new(url.clone(), settings.token.clone())?;
            let events = Events::new(client.events_url().unwrap_or_else(|| url.clone()));
            let slots = Arc::new(Semaphore::new(settings.concurrency.max(1) as usize));
            Ok(Arc::new(Server { client, events, slots, coverage: Mutex::default() }))
        };
        let servers = settings.urls.iter().map(server).collect::<Result<_, reqwest::Error>>()?;
        Ok(Self { servers, settings })
    }

    /// Ends when a server answers, or with why the first one does not.
    pub async fn ready(&self) -> Result<(), JobError> {
        let mut why = None;
        for server in &self.servers {
            match server.client.post("system/general-info/local", &json!({})).await {
                Ok(_) => return Ok(()),
                Err(error) => why = why.or(Some(error)),
            }
        }
        let message = why.map_or_else(|| RestError::NoServer.to_string(), |error| jobs::chain(&error));
        Err(JobError::new(ErrorCode::Internal, message).retryable())
    }

    /// Runs one backtest. Ends with its result, with its failure, or after `stop` with [`TaskError::Stopped`].
    pub async fn run(
        &self,
        request: RestRequest<'_>,
        stop: &CancellationToken,
    ) -> Result<RestResult, TaskError> {
        let deadline = Instant::now() + Duration::from_secs(request.limits.wall_s.into());
        let starting = async {
            // Where it starts depends on what is free; what was left of it may be anywhere.
            let used = self.sweep(&request).await;
            let (server, slot) = self.free_server().await?;
            let candles = server.needed(request.spec).await?;
            let session = Session::start(&server, &request, &used).await?;
            Ok::<_, TaskError>((slot, candles, session))
        };
        let (_slot, candles, mut session) = tokio::select! {
            started = starting => started?,
            () = stop.cancelled() => return Err(TaskError::Stopped),
            () = tokio::time::sleep_until(deadline) => return Err(timeout(request.limits.wall_s).into()),
        };
        let id = session.id;
        let limit = self.settings.max_result_bytes;
        let outcome = tokio::select! {
            outcome = session.follow(request.spec, request.progress, limit + BESIDES) => outcome,
            () = stop.cancelled() => {
                session.cancel().await;
                return Err(TaskError::Stopped);
            }
            () = tokio::time::sleep_until(deadline) => {
                session.cancel().await;
                return Err(timeout(request.limits.wall_s).into());
            }
        };
        let finished = match outcome {
            Ok(finished) => finished,
            Err(error) => {
                end(session, &error).await;
                return Err(error);
            }
        };
        session.close().await;
        coverage::verify(request.spec, &candles, finished.candles)?;
        let (value, body) = result::map(request.spec, request.exchange, &finished.session, limit)?;
        let bundles = bundles(request.spec, &finished.session["strategy_codes"]);
        Ok(RestResult { value, body, bundles, candles, session: id })
    }

    /// Ends what an earlier worker left of this run, on all servers.
    async fn sweep(&self, request: &RestRequest<'_>) -> HashSet<Uuid> {
        let reachable = self.servers.iter().filter(|server| !server.client.is_left_alone());
        let sweeps = reachable.map(|server| session::sweep(&server.client, request.run, request.attempt));
        let mut used = HashSet::new();
        for swept in futures::future::join_all(sweeps).await {
            match swept {
                Ok(found) => used.extend(found),
                Err(error) => {
                    tracing::debug!(error = jobs::chain(&error), "a server was not searched for orphans");
                }
            }
        }
        used
    }

    /// The healthy server with the fewest runs of ours, once one has room.
    async fn free_server(&self) -> Result<(Arc<Server>, OwnedSemaphorePermit), TaskError> {
        let mut healthy_at = Instant::now();
        loop {
            let healthy = self.servers.iter().filter(|server| !server.client.is_left_alone());
            let mut healthy: Vec<_> = healthy.collect();
            healthy.sort_by_key(|server| std::cmp::Reverse(server.slots.available_permits()));
            for server in &healthy {
                if let Ok(slot) = server.slots.clone().try_acquire_owned() {
                    return Ok(((*server).clone(), slot));
                }
            }
            if !healthy.is_empty() {
                healthy_at = Instant::now();
            } else if healthy_at.elapsed() > NO_SERVER_LIMIT {
                let error = JobError::new(ErrorCode::Internal, "no Jesse server can be reached").retryable();
                return Err(TaskError::NoEngine(error));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Tidies up after a run that failed. If its process may live on, it is cancelled first.
async fn end(session: Session, error: &TaskError) {
    match error {
        // It was told by the process's own last words, or by its stored end.
        TaskError::Failed { error, .. }
            if error.code != ErrorCode::EngineCrashed && error.code != ErrorCode::InvalidSpec =>
        {
            session.close().await;
        }
        _ => session.cancel().await,
    }
}

/// The hashes of the main files that ran.
fn bundles(spec: &BacktestSpec, codes: &Value) -> Option<Vec<BlobId>> {
    let code = |symbol: &str| codes[format!("{}-{symbol}", spec.exchange)].as_str();
    let mut ids = spec
        .routes
        .iter()
        .map(|route| code(&route.symbol).map(|code| BlobId::of(code.as_bytes())))
        .collect::<Option<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn timeout(wall_s: u32) -> JobError {
    let message =
        format!("the run was stopped after its {wall_s} s; shorten the date range, or raise timeout_s");
    JobError::new(ErrorCode::Timeout, message).with_detail(json!({ "timeout_s": wall_s, "engine": "rest" }))
}

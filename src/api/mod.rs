//! HTTP: routes, and what holds for all of them.
//!
//! Every route stands in the table of [`routes`], behind a guard that tells who calls and what the key allows. While no API keys
//! exist, everybody who reaches the server is the default tenant, so it serves loopback addresses only; requests that name
//! another host (a web page that had its own name resolve to 127.0.0.1) are refused. The pages of [`crate::console`] stand in the same
//! table, behind the same guard.

mod answers;
mod audit;
mod batches;
mod cache;
mod campaigns;
mod compression;
mod connections;
mod cors;
mod docs;
mod events;
mod guard;
mod health;
mod jobs;
mod listing;
mod lists;
mod openapi;
mod problem;
mod queue;
mod report;
mod request_id;
mod resource;
mod routes;
mod strategies;
mod webhooks;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::StreamExt;
use rmcp::ServerHandler;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

pub use cors::Origin;
use guard::Guard;
pub(crate) use guard::{By, whole_seconds};
pub use guard::{Door, Needs};
pub(crate) use jobs::parse_id;
pub use problem::Problem;
pub(crate) use problem::{InPath, InQuery};
pub use resource::Resource;
pub use routes::{Route, routes};

use crate::{
    callers::Callers,
    errors::{Code, ServiceError},
    mcp,
    metrics::Metrics,
    service::Service,
    telemetry::{RequestSpan, request_span},
};

/// The largest body that a request may have.
const MAX_BODY: usize = 1 << 20;
/// The largest body of a batch.
const MAX_BATCH_BODY: usize = 32 << 20;
const BATCHES: &str = "/v1/batches";
/// How much of a larger one is read, to no purpose but that its sender gets the answer.
const HEARD_OUT: usize = 64 << 20;

/// What the routes need.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) service: Service,
    pub(crate) callers: Callers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) longest_wait: Duration,
    pub(crate) stop: CancellationToken,
    allowed_hosts: Arc<[String]>,
    origins: Arc<[Origin]>,
    /// Where tokens of an external issuer are taken.
    resource: Option<Arc<Resource>>,
}

impl Api {
    /// An API over this service, which ends waiting calls early once `stop` is cancelled.
    pub fn new(
        service: Service,
        callers: Callers,
        metrics: Arc<Metrics>,
        longest_wait: Duration,
        allowed_hosts: Vec<String>,
        stop: CancellationToken,
    ) -> Self {
        let local = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let allowed_hosts = local.into_iter().chain(allowed_hosts).collect();
        let origins = Arc::default();
        Self { service, callers, metrics, longest_wait, stop, allowed_hosts, origins, resource: None }
    }

    /// The same where OAuth clients are told who issues tokens.
    #[must_use]
    pub fn with_resource(self, resource: Option<Resource>) -> Self {
        Self { resource: resource.map(Arc::new), ..self }
    }

    /// The same for web pages of these origins too.
    #[must_use]
    pub fn with_origins(self, origins: Vec<Origin>) -> Self {
        Self { origins: origins.into(), ..self }
    }

    /// All routes.
    pub fn router(self) -> Router {
        let handler = mcp::Handler::new(self.service.clone(), self.callers.clone(), self.metrics.clone());
        self.router_with(handler)
    }

    /// All routes, with this handler of MCP: one that has tools of its own, for tests of the protocol.
    pub fn router_with(self, handler: impl ServerHandler + Clone) -> Router {
        let mcp = mcp::routes(handler, self.stop.clone());
        let of_mcp = Guard { api: self.clone(), needs: Needs::Key, door: Door::Api };
        let mcp = mcp.route_layer(middleware::from_fn_with_state(of_mcp, guard::guard));
        let add = |router: Router<Self>, route: Route| {
            let (path, serves) = route.guarded(&self);
            router.route(path, serves)
        };
        let router = routes()
            .into_iter()
            .fold(Router::new(), add)
            .merge(mcp)
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(hear_out))
            .layer(middleware::from_fn_with_state(self.clone(), observe));
        cors::allow(compression::compress(router), &self.origins)
            .layer(middleware::from_fn_with_state(self.clone(), check_host))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn(request_id::identify))
            .with_state(self)
    }
}

/// Refuses addresses that others can reach.
pub fn check_address(address: SocketAddr) -> Result<(), String> {
    if is_local(address) {
        return Ok(());
    }
    Err(format!(
        "{address} can be reached from other machines, and nobody is asked for a key there; listen on 127.0.0.1"
    ))
}

/// Whether only this machine can reach an address.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Serves until `api.stop`.
pub async fn run(api: Api, listener: TcpListener) {
    let stop = api.stop.clone();
    connections::serve(listener, api.router(), stop).await;
}

/// Serves what a worker has to say: its metrics, and that it runs.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    queue: ::jobs::Queue,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(health::worker_metrics))
        .route("/health/live", get(health::live))
        .with_state(Arc::new((metrics, queue)));
    connections::serve(listener, router, stop).await;
}

async fn no_such_route(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem(ServiceError::new(
        Code::NotFound,
        format!("no route {method} {path}; the API is under /v1, MCP under /mcp, the console at /"),
    ))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem(ServiceError::new(Code::MethodNotAllowed, format!("{path} does not take {method}")))
}

fn panicked(_cause: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    Problem(ServiceError::new(Code::Internal, "something is wrong on our side; it was logged"))
        .into_response()
}

/// The host part of a `Host` header, without the port.
fn host_of(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    match text.strip_prefix('[') {
        Some(rest) => rest.find(']').map(|end| &text[..end + 2]),
        None => Some(text.split(':').next().unwrap_or(text)),
    }
}

async fn check_host(State(api): State<Api>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST);
    let host = named.and_then(host_of).map(str::to_ascii_lowercase);
    if host.is_some_and(|host| api.allowed_hosts.contains(&host)) {
        return next.run(request).await;
    }
    let message = "this server answers for localhost only; name other hosts in JESSE_JOBS_ALLOWED_HOSTS";
    Problem(ServiceError::new(Code::HostNotAllowed, message)).into_response()
}

/// Refuses a body that is announced as too large, after it was sent: a sender whose connection is cut in the middle often
/// never sees why, and the next request on that connection fails too.
async fn hear_out(request: Request, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<usize> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let most = if request.uri().path() == BATCHES { MAX_BATCH_BODY } else { MAX_BODY };
    if announced.is_none_or(|length| length <= most) {
        return next.run(request).await;
    }
    let mut body = request.into_body().into_data_stream();
    let mut heard = 0;
    while heard <= HEARD_OUT
        && let Some(Ok(part)) = body.next().await
    {
        heard += part.len();
    }
    let message = format!("the body is larger than {} MB", most >> 20);
    Problem(ServiceError::new(Code::PayloadTooLarge, message)).into_response()
}

async fn observe(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let started = std::time::Instant::now();
    // The route as written, so that ids do not make a metric each.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let span = request_span(&method, &route, request.headers());
    request.extensions_mut().insert(RequestSpan(span.clone()));
    let response = next.run(request).instrument(span.clone()).await;
    let (status, time) = (response.status(), started.elapsed());
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    api.metrics.http(&route, method.as_str(), status.as_u16(), time);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(http.route = route, http.method = %method, "a request failed");
    }
    tracing::debug!(http.route = route, http.method = %method, http.status = status.as_u16(), duration_ms = time.as_secs_f64() * 1e3, "served");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_without_their_port() {
        let host = |text: &'static str| host_of(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(host("localhost:8100").as_deref(), Some("localhost"));
        assert_eq!(host("127.0.0.1").as_deref(), Some("127.0.0.1"));
        assert_eq!(host("[::1]:8100").as_deref(), Some("[::1]"));
        assert_eq!(host("[::1").as_deref(), None);
        assert_eq!(host("evil.example:80").as_deref(), Some("evil.example"));
    }

    #[test]
    fn only_loopback_is_served_without_keys() {
        let check = |text: &str| text.parse().map(|address| check_address(address).is_ok());
        assert_eq!(check("127.0.0.1:1"), Ok(true));
        assert_eq!(check("[::1]:1"), Ok(true));
        assert_eq!(check("0.0.0.0:1"), Ok(false));
        assert_eq!(check("192.168.1.2:1"), Ok(false));
    }
}

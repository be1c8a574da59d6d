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
mod layers;
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

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, Uri},
    routing::{Route as AxumRoute, get},
};
use rmcp::ServerHandler;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::layer::layer_fn;

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
};

/// The largest body that a request may have.
const MAX_BODY: usize = 1 << 20;
/// The largest body of a batch.
const MAX_BATCH_BODY: usize = 32 << 20;
const BATCHES: &str = "/v1/batches";

/// What the routes need. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

/// What all copies of an [`Api`] share.
#[derive(Debug, Clone)]
pub struct Shared {
    pub(crate) service: Service,
    pub(crate) callers: Callers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) longest_wait: Duration,
    pub(crate) stop: CancellationToken,
    allowed_hosts: Vec<String>,
    origins: Vec<Origin>,
    /// Where tokens of an external issuer are taken.
    resource: Option<Resource>,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
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
        let (origins, resource) = (Vec::new(), None);
        let shared =
            Shared { service, callers, metrics, longest_wait, stop, allowed_hosts, origins, resource };
        Self(Arc::new(shared))
    }

    /// The same where OAuth clients are told who issues tokens.
    #[must_use]
    pub fn with_resource(mut self, resource: Option<Resource>) -> Self {
        Arc::make_mut(&mut self.0).resource = resource;
        self
    }

    /// The same for web pages of these origins too.
    #[must_use]
    pub fn with_origins(mut self, origins: Vec<Origin>) -> Self {
        Arc::make_mut(&mut self.0).origins = origins;
        self
    }

    /// All routes.
    pub fn router(self) -> Router {
        let handler = mcp::Handler::new(self.service.clone(), self.callers.clone(), self.metrics.clone());
        self.router_with(handler)
    }

    /// All routes, with this handler of MCP: one that has tools of its own, for tests of the protocol.
    pub fn router_with(self, handler: impl ServerHandler + Clone) -> Router {
        let of_mcp = Guard { api: self.clone(), needs: Needs::Key, door: Door::Api };
        let mcp = mcp::routes(handler, self.stop.clone())
            .route_layer(layer_fn(move |route: AxumRoute| guard::guard(route, of_mcp.clone())));
        let add = |router: Router<Self>, route: Route| {
            let (path, serves) = route.guarded(&self);
            router.route(path, serves)
        };
        let api = self.clone();
        routes()
            .into_iter()
            .fold(Router::new(), add)
            .merge(mcp)
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(layer_fn(move |route: AxumRoute| layers::around(route, api.clone())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_keys() {
        let check = |text: &str| text.parse().map(|address| check_address(address).is_ok());
        assert_eq!(check("127.0.0.1:1"), Ok(true));
        assert_eq!(check("[::1]:1"), Ok(true));
        assert_eq!(check("0.0.0.0:1"), Ok(false));
        assert_eq!(check("192.168.1.2:1"), Ok(false));
    }
}

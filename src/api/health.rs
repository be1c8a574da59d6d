//! `/health`, for people and for load balancers, and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jobs::Queue;
use serde_json::json;

use super::{Api, Problem, guard::bearer};
use crate::{errors::ServiceError, metrics::Metrics, settings::EngineChoice};

/// All that matters, in the form that jesse-mcp gave it: 503 with the same body when Redis or every engine is away. Those who
/// should have shown a key are told no more than whether it works.
pub(super) async fn health(State(api): State<Api>, headers: HeaderMap) -> Response {
    let depth = api.service.queue().depth().await;
    let catalogue = match &depth {
        Ok(_) => api.service.published().await.ok().flatten(),
        Err(_) => None,
    };
    let engine = depth.is_ok() && api.service.has_engine().await.unwrap_or(false);
    let healthy = depth.is_ok() && engine;
    let known = api.callers.identify(bearer(&headers)).await.is_ok();
    let queue = depth
        .as_ref()
        .ok()
        .map(|depth| json!({"ready": depth.ready, "running": depth.running, "delayed": depth.delayed}));
    let mut body = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "jesse_api": match (engine, api.service.plans_for()) {
            (false, _) => "disconnected",
            (true, EngineChoice::Rest) => "connected",
            (true, EngineChoice::Runner | EngineChoice::Auto) => "embedded",
        },
        "timestamp": jiff::Timestamp::now().to_string(),
        "redis": if depth.is_ok() { "connected" } else { "disconnected" },
    });
    if known {
        body["queue"] = json!(queue);
        body["sandbox"] = json!(catalogue.map(|catalogue| catalogue.sandbox.clone()));
        body["version"] = env!("CARGO_PKG_VERSION").into();
    }
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// For Prometheus.
pub(super) async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    rendered(&api.metrics, api.service.queue(), true).await
}

/// The same of a worker, to everybody who reaches it: it names no tenant.
pub(super) async fn worker_metrics(
    State(worker): State<Arc<(Metrics, Queue)>>,
) -> Result<impl IntoResponse, Problem> {
    rendered(&worker.0, &worker.1, false).await
}

async fn rendered(
    metrics: &Metrics,
    queue: &Queue,
    names_tenants: bool,
) -> Result<impl IntoResponse + use<>, Problem> {
    let rendered = metrics.render(queue, names_tenants).await;
    let (format, text) =
        rendered.map_err(|error| ServiceError::internal("metrics cannot be written", &error))?;
    Ok(([(header::CONTENT_TYPE, format)], text))
}

/// The process runs.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// A backtest that is sent now would be accepted.
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.service.queue().redis().ping().await?;
    api.service.check_runnable().await?;
    Ok("ready\n")
}

//! `/health`, for people and for load balancers, and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jobs::Queue;

use super::{Api, Problem, guard::bearer};
use crate::{errors::ServiceError, metrics::Metrics};

/// All that matters, in the form that jesse-mcp gave it: 503 with the same body when Redis or every engine is away. Those who
/// should have shown a key are told no more than whether it works.
pub(super) async fn health(State(api): State<Api>, headers: HeaderMap) -> Response {
    let known = api.callers.identify(bearer(&headers)).await.is_ok();
    let health = api.service.health(known).await;
    let status = if health.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// For Prometheus.
pub(super) async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    rendered(&api.metrics, api.service.queue()).await
}

/// The same of a worker.
pub(super) async fn worker_metrics(
    State(worker): State<Arc<(Metrics, Queue)>>,
) -> Result<impl IntoResponse, Problem> {
    rendered(&worker.0, &worker.1).await
}

async fn rendered(metrics: &Metrics, queue: &Queue) -> Result<impl IntoResponse + use<>, Problem> {
    let rendered = metrics.render(queue).await;
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

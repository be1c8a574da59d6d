//! `/health`, for people and for load balancers, and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jobs::Queue;

use super::{
    Api, Problem,
    answers::Bearer,
    openapi::{Answer, Operation, OperationOutput, Schemas},
};
use crate::{errors::ServiceError, metrics::Metrics, service::Health};

impl IntoResponse for Health {
    fn into_response(self) -> Response {
        let status = if self.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

impl OperationOutput for Health {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(200, Answer::json::<Self>("It works", schemas));
        operation.answers(503, Answer::json::<Self>("It does not: Redis or every engine is away", schemas));
    }
}

/// All that matters, in the form that jesse-mcp gave it: 503 with the same body when Redis or every engine is away. Those who
/// should have shown a key are told no more than whether it works.
pub(super) async fn health(State(api): State<Api>, Bearer(shown): Bearer) -> Health {
    let known = api.callers.identify(shown.as_deref()).await.is_ok();
    api.service.health(known).await
}

/// Figures in a form of Prometheus.
pub(super) struct Rendered {
    format: String,
    text: Vec<u8>,
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.format)], self.text).into_response()
    }
}

impl OperationOutput for Rendered {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.answers(200, Answer::text("In the text format of Prometheus", prometheus::TEXT_FORMAT));
    }
}

/// For Prometheus.
pub(super) async fn metrics(State(api): State<Api>) -> Result<Rendered, Problem> {
    rendered(&api.metrics, api.service.queue(), true).await
}

/// The same of a worker, to everybody who reaches it: it names no tenant.
pub(super) async fn worker_metrics(State(worker): State<Arc<(Metrics, Queue)>>) -> Result<Rendered, Problem> {
    rendered(&worker.0, &worker.1, false).await
}

async fn rendered(metrics: &Metrics, queue: &Queue, names_tenants: bool) -> Result<Rendered, Problem> {
    let rendered = metrics.render(queue, names_tenants).await;
    let (format, text) =
        rendered.map_err(|error| ServiceError::internal("metrics cannot be written", &error))?;
    Ok(Rendered { format, text })
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

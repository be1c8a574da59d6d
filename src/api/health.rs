//! `/health`, for people and for load balancers, and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jobs::Queue;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem,
    answers::Bearer,
    openapi::{Answer, Operation, OperationOutput, Schemas},
};
use crate::{errors::ServiceError, metrics::Metrics, settings::EngineChoice};

/// Whether it works.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    status: Status,
    jesse_api: JesseApi,
    /// When this was so.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    redis: RedisState,
    /// How long the queue is: for those who may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Option<Depth>>,
    /// Whether and how strategies are shut off, as the workers say; null before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Option<serde_json::Value>>")]
    sandbox: Option<Option<serde_json::Value>>,
    /// Of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

/// Whether jobs are accepted and computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// They are.
    Healthy,
    /// Redis or every engine is away.
    Unhealthy,
}

/// What computes.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum JesseApi {
    /// Nothing.
    Disconnected,
    /// Jesse's own servers.
    Connected,
    /// Processes of our own.
    Embedded,
}

/// Whether Redis is there.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RedisState {
    /// It is.
    Connected,
    /// It is not.
    Disconnected,
}

/// How long the queue is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "QueueDepth")]
struct Depth {
    /// Runs that a worker could start.
    ready: u64,
    /// Runs that workers compute.
    running: u64,
    /// Runs that wait for their time.
    delayed: u64,
}

impl IntoResponse for Health {
    fn into_response(self) -> Response {
        let status = match self.status {
            Status::Healthy => StatusCode::OK,
            Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        };
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
    let depth = api.service.queue().depth().await;
    let catalogue = match &depth {
        Ok(_) => api.service.published().await.ok().flatten(),
        Err(_) => None,
    };
    let engine = depth.is_ok() && api.service.has_engine().await.unwrap_or(false);
    let known = api.callers.identify(shown.as_deref()).await.is_ok();
    Health {
        status: if depth.is_ok() && engine { Status::Healthy } else { Status::Unhealthy },
        jesse_api: match (engine, api.service.plans_for()) {
            (false, _) => JesseApi::Disconnected,
            (true, EngineChoice::Rest) => JesseApi::Connected,
            (true, EngineChoice::Runner | EngineChoice::Auto) => JesseApi::Embedded,
        },
        timestamp: jiff::Timestamp::now().to_string(),
        redis: if depth.is_ok() { RedisState::Connected } else { RedisState::Disconnected },
        sandbox: known.then(|| catalogue.map(|catalogue| serde_json::json!(catalogue.sandbox))),
        queue: known.then(|| {
            let depth = depth.ok()?;
            Some(Depth { ready: depth.ready, running: depth.running, delayed: depth.delayed })
        }),
        version: known.then_some(env!("CARGO_PKG_VERSION")),
    }
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
    rendered(&api.metrics, api.service.queue()).await
}

/// The same of a worker.
pub(super) async fn worker_metrics(State(worker): State<Arc<(Metrics, Queue)>>) -> Result<Rendered, Problem> {
    rendered(&worker.0, &worker.1).await
}

async fn rendered(metrics: &Metrics, queue: &Queue) -> Result<Rendered, Problem> {
    let rendered = metrics.render(queue).await;
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

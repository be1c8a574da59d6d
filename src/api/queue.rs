//! `/v1/queue`: how long it is, and a stop for it.

use std::collections::BTreeMap;

use access::Scope;
use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem, guard::By};

/// How long the queue is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub(super) struct QueueView {
    /// Runs that a worker could start.
    ready: u64,
    /// Runs that workers compute.
    running: u64,
    /// Runs that wait for their time.
    delayed: u64,
    /// Whether nothing is started.
    paused: bool,
    /// What has happened since the deployment's Redis was new, of all tenants together: for admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<BTreeMap<String, u64>>,
}

/// The counters tell of all tenants together, so they are for admins.
pub(super) async fn get(State(api): State<Api>, By(caller): By) -> Result<Json<QueueView>, Problem> {
    let depth = api.service.queue().depth().await?;
    let counters = if caller.may(Scope::Admin) {
        Some(api.service.queue().counters().await?.into_iter().collect())
    } else {
        None
    };
    let (ready, running, delayed, paused) = (depth.ready, depth.running, depth.delayed, depth.paused);
    Ok(Json(QueueView { ready, running, delayed, paused, counters }))
}

/// Nothing is started any more; what runs goes on, and jobs are accepted.
pub(super) async fn pause(State(api): State<Api>, by: By) -> Result<Json<QueueView>, Problem> {
    api.service.queue().pause(true).await?;
    get(State(api), by).await
}

pub(super) async fn resume(State(api): State<Api>, by: By) -> Result<Json<QueueView>, Problem> {
    api.service.queue().pause(false).await?;
    get(State(api), by).await
}

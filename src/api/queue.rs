//! `/v1/queue`: how long it is, and a stop for it.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, Problem};

pub(super) async fn get(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let depth = api.service.queue().depth().await?;
    let counters = api.service.queue().counters().await?;
    let counters: std::collections::BTreeMap<_, _> = counters.into_iter().collect();
    Ok(Json(json!({
        "ready": depth.ready,
        "running": depth.running,
        "delayed": depth.delayed,
        "paused": depth.paused,
        "counters": counters,
    })))
}

/// Nothing is started any more; what runs goes on, and jobs are accepted.
pub(super) async fn pause(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    api.service.queue().pause(true).await?;
    get(State(api)).await
}

pub(super) async fn resume(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    api.service.queue().pause(false).await?;
    get(State(api)).await
}

//! `/v1/queue`: how long it is, and a stop for it.

use access::Scope;
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, Problem, guard::By};

/// The counters tell of all tenants together, so they are for admins.
pub(super) async fn get(State(api): State<Api>, By(caller): By) -> Result<Json<Value>, Problem> {
    let depth = api.service.queue().depth().await?;
    let mut queue = json!({
        "ready": depth.ready,
        "running": depth.running,
        "delayed": depth.delayed,
        "paused": depth.paused,
    });
    if caller.may(Scope::Admin) {
        let counters = api.service.queue().counters().await?;
        let counters: std::collections::BTreeMap<_, _> = counters.into_iter().collect();
        queue["counters"] = json!(counters);
    }
    Ok(Json(queue))
}

/// Nothing is started any more; what runs goes on, and jobs are accepted.
pub(super) async fn pause(State(api): State<Api>, by: By) -> Result<Json<Value>, Problem> {
    api.service.queue().pause(true).await?;
    get(State(api), by).await
}

pub(super) async fn resume(State(api): State<Api>, by: By) -> Result<Json<Value>, Problem> {
    api.service.queue().pause(false).await?;
    get(State(api), by).await
}

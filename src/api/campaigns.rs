//! `/v1/campaigns` and `/v1/holdouts`: what was tried for one idea, what that leaves of the best of it, and what is held out of research.

use analysis::ledger::Figures;
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, Problem, guard::Tenant, problem::InPath};

/// Those with the latest trials first.
pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "campaigns": api.service.campaigns(&tenant).await? })))
}

/// What is held out of the tenant's research, and who has looked at it.
pub(super) async fn holdouts(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "holdouts": api.service.holdouts(&tenant).await? })))
}

/// The figures of one.
pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(name): InPath<String>,
) -> Result<Json<Figures>, Problem> {
    Ok(Json(api.service.campaign(&tenant, &name).await?))
}

//! `/v1/campaigns` and `/v1/holdouts`: what was tried for one idea, what that leaves of the best of it, and what is held out of research.

use analysis::ledger::Figures;
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    Api, Problem,
    guard::{By, Tenant},
    problem::{Body, InPath},
};
use crate::service::OpenDays;

/// Those with the latest trials first.
pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "campaigns": api.service.campaigns(&tenant).await? })))
}

/// What is held out of the tenant's research, and who has looked at it.
pub(super) async fn holdouts(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "holdouts": api.service.holdouts(&tenant).await? })))
}

/// Sets held-out days free for research.
pub(super) async fn open_days(
    State(api): State<Api>,
    By(caller): By,
    Body(open): Body<OpenDays>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "holdouts": api.service.open_days(&caller, &open).await? })))
}

/// The figures of one.
pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(name): InPath<String>,
) -> Result<Json<Figures>, Problem> {
    Ok(Json(api.service.campaign(&tenant, &name).await?))
}

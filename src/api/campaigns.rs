//! `/v1/campaigns` and `/v1/holdouts`: what was tried for one idea, what that leaves of the best of it, and what is held out of research.

use analysis::ledger::{Figures, HoldoutFigures};
use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem,
    guard::{By, Tenant},
    problem::{Body, InPath},
};
use crate::service::{CampaignView, OpenDays};

/// A tenant's campaigns.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Campaigns {
    /// Those with the latest trials first, at most 100.
    campaigns: Vec<CampaignView>,
}

/// What is held out of a tenant's research.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Holdouts {
    /// Series by series.
    holdouts: Vec<HoldoutFigures>,
}

/// Those with the latest trials first.
pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Campaigns>, Problem> {
    Ok(Json(Campaigns { campaigns: api.service.campaigns(&tenant).await? }))
}

/// What is held out of the tenant's research, and who has looked at it.
pub(super) async fn holdouts(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
) -> Result<Json<Holdouts>, Problem> {
    Ok(Json(Holdouts { holdouts: api.service.holdouts(&tenant).await? }))
}

/// Sets held-out days free for research.
pub(super) async fn open_days(
    State(api): State<Api>,
    By(caller): By,
    Body(open): Body<OpenDays>,
) -> Result<Json<Holdouts>, Problem> {
    Ok(Json(Holdouts { holdouts: api.service.open_days(&caller, &open).await? }))
}

/// The figures of one.
pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(name): InPath<String>,
) -> Result<Json<Figures>, Problem> {
    Ok(Json(api.service.campaign(&tenant, &name).await?))
}

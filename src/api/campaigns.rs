//! `/v1/campaigns`: what was tried for one idea, and what that leaves of the best of it.

use analysis::ledger::Figures;
use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem, guard::Tenant, problem::InPath};
use crate::service::CampaignView;

/// A tenant's campaigns.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Campaigns {
    /// Those with the latest trials first, at most 100.
    campaigns: Vec<CampaignView>,
}

/// Those with the latest trials first.
pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Campaigns>, Problem> {
    Ok(Json(Campaigns { campaigns: api.service.campaigns(&tenant).await? }))
}

/// The figures of one.
pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(name): InPath<String>,
) -> Result<Json<Figures>, Problem> {
    Ok(Json(api.service.campaign(&tenant, &name).await?))
}

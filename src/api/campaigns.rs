//! `/v1/campaigns`: what was tried for one idea, and what that leaves of the best of it.

use ::jobs::TenantId;
use analysis::ledger::Figures;
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, Problem, problem::InPath};

/// Those with the latest trials first.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "campaigns": api.service.campaigns(&TenantId::default_tenant()).await? })))
}

/// The figures of one.
pub(super) async fn get(
    State(api): State<Api>,
    InPath(name): InPath<String>,
) -> Result<Json<Figures>, Problem> {
    Ok(Json(api.service.campaign(&TenantId::default_tenant(), &name).await?))
}

//! `/v1/cache`: how the stored results are doing, and a way to remove some.

use ::jobs::TenantId;
use axum::{Json, extract::State};

use super::{Api, Problem, problem::Body};
use crate::service::{CacheView, Invalidate, Invalidated};

pub(super) async fn get(State(api): State<Api>) -> Result<Json<CacheView>, Problem> {
    Ok(Json(api.service.cache().await?))
}

pub(super) async fn invalidate(
    State(api): State<Api>,
    Body(which): Body<Invalidate>,
) -> Result<Json<Invalidated>, Problem> {
    Ok(Json(api.service.invalidate(&TenantId::default_tenant(), which).await?))
}

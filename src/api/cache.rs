//! `/v1/cache`: how the stored results are doing, and a way to remove some.

use axum::{Json, extract::State};

use super::{Api, Problem, guard::By, problem::Body};
use crate::service::{CacheView, Invalidate, Invalidated};

pub(super) async fn get(State(api): State<Api>) -> Result<Json<CacheView>, Problem> {
    Ok(Json(api.service.cache().await?))
}

pub(super) async fn invalidate(
    State(api): State<Api>,
    By(caller): By,
    Body(which): Body<Invalidate>,
) -> Result<Json<Invalidated>, Problem> {
    Ok(Json(api.service.invalidate(&caller, which).await?))
}

//! `/v1/batches`: many backtests in one call.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use jesse::grid::Grid;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api, Problem,
    guard::{By, Tenant},
    jobs::{Wait, accepted_as, idempotency, parse_id, wait_for},
    listing::{page_limit, page_of_batch},
    problem::{Body, InPath, InQuery},
};
use crate::{
    service::{BatchRequest, LONGEST_PAGE, SubmitOptions},
    views::JobAnswer,
};

/// The backtests, or a grid of them, and how all are to be treated.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBatch {
    #[serde(default)]
    jobs: Vec<Value>,
    grid: Option<Grid>,
    #[serde(default)]
    base: serde_json::Map<String, Value>,
    #[serde(default)]
    on_failure: ::jobs::OnFailure,
    #[serde(default)]
    cache: ::jobs::CacheMode,
    priority: Option<::jobs::Priority>,
    timeout_s: Option<u32>,
    max_attempts: Option<u32>,
    campaign: Option<String>,
    #[serde(default)]
    holdout: bool,
    holdout_share: Option<f64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    webhook: Option<String>,
}

pub(super) async fn submit(
    State(api): State<Api>,
    By(caller): By,
    headers: HeaderMap,
    Body(new): Body<NewBatch>,
) -> Result<Response, Problem> {
    let idempotency = idempotency(&headers, &new)?;
    let NewBatch { jobs, grid, base, on_failure, cache, priority, timeout_s, max_attempts, .. } = new;
    let (campaign, labels, webhook) = (new.campaign, new.labels, new.webhook);
    let (holdout, holdout_share, by) = (new.holdout, new.holdout_share, Some(caller.key));
    let request = BatchRequest { jobs, grid, base, on_failure };
    let options = SubmitOptions {
        cache,
        priority,
        timeout_s,
        max_attempts,
        campaign,
        holdout,
        holdout_share,
        labels,
        webhook,
        by,
    };
    let tenant = caller.tenant;
    let (batch, _) = api.service.submit_batch(&tenant, request, &options, idempotency).await?;
    let answer = JobAnswer::new(api.service.batch(&tenant, batch).await?);
    Ok(accepted_as(&format!("/v1/batches/{batch}"), &answer))
}

pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(wait): InQuery<Wait>,
) -> Result<Json<JobAnswer>, Problem> {
    let (batch, limit) = (parse_id(&id)?, wait.limit(&api)?);
    // Another kind of job is refused before it is waited for.
    api.service.batch(&tenant, batch).await?;
    Ok(Json(wait_for(&api, &tenant, batch, limit).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn jobs(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(Page { cursor, limit }): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let limit = page_limit(limit, LONGEST_PAGE)?;
    page_of_batch(&api, &tenant, parse_id(&id)?, cursor.as_deref(), limit).await
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<JobAnswer>, Problem> {
    let batch = parse_id(&id)?;
    api.service.batch(&tenant, batch).await?;
    Ok(Json(JobAnswer::new(api.service.cancel(&tenant, batch).await?)))
}

//! `/v1/batches`: many backtests in one call.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use jesse::grid::Grid;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api, Problem,
    answers::{Accepted, IdempotencyKey},
    guard::{By, Tenant},
    jobs::{Wait, parse_id, wait_for},
    listing::{Jobs, page_limit, page_of_batch},
    problem::{Body, InPath, InQuery},
};
use crate::{
    service::{BatchRequest, LONGEST_PAGE, SubmitOptions},
    views::JobAnswer,
};

/// The backtests, or a grid of them, and how all are to be treated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBatch {
    /// Each as the spec of a backtest; what is left out is taken from base
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Map<String, Value>>", length(max = 50_000))]
    jobs: Vec<Value>,
    /// Instead of jobs: every combination of these values
    grid: Option<Grid>,
    /// What all have in common
    #[serde(default)]
    base: serde_json::Map<String, Value>,
    /// What becomes of the others when one did not succeed
    #[serde(default)]
    on_failure: ::jobs::OnFailure,
    /// How the results of others are used
    #[serde(default)]
    cache: ::jobs::CacheMode,
    /// Default batch
    priority: Option<::jobs::Priority>,
    /// Seconds that each run may take
    #[schemars(range(min = 1))]
    timeout_s: Option<u32>,
    /// After how many failures of its own a job is given up; default 3
    #[schemars(range(min = 1, max = 10))]
    max_attempts: Option<u32>,
    /// Groups trials of one idea
    campaign: Option<String>,
    /// Looks at days that are held out of research too, which is logged and counted
    #[serde(default)]
    holdout: bool,
    /// With a campaign whose first job on a series this is: the share of its candles that is held out
    #[schemars(range(min = 0, max = 0.5))]
    holdout_share: Option<f64>,
    /// Name to value: jobs can be listed by them
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// URL that is told of the end of the batch, signed
    webhook: Option<String>,
}

pub(super) async fn submit(
    State(api): State<Api>,
    By(caller): By,
    key: IdempotencyKey,
    Body(new): Body<NewBatch>,
) -> Result<Accepted, Problem> {
    let idempotency = key.of(&new);
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
    let job = JobAnswer::new(api.service.batch(&tenant, batch).await?);
    Ok(Accepted { location: format!("/v1/batches/{batch}"), job })
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// `next_cursor` of the page before
    cursor: Option<String>,
    /// How many jobs; default 100
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

pub(super) async fn jobs(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(Page { cursor, limit }): InQuery<Page>,
) -> Result<Json<Jobs>, Problem> {
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

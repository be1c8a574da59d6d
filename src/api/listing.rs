//! `GET /v1/jobs`, and running what ended badly once more.

use std::collections::BTreeMap;

use ::jobs::{Filter, JobId, JobState, Kind, Tags, TenantId};
use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Api, Problem,
    guard::Tenant,
    jobs::parse_id,
    problem::{Body, InPath, InQuery},
};
use crate::{
    errors::{Code, ServiceError},
    service::{LONGEST_PAGE, job_filter, parts},
    views::JobAnswer,
};

/// Which jobs, and which page of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WhichJobs")]
pub(super) struct Query {
    /// Comma-separated states.
    state: Option<String>,
    /// Comma-separated kinds.
    kind: Option<String>,
    /// Jobs of this batch, in their order; it goes with `cursor` and `limit` only.
    batch: Option<String>,
    /// The campaign that they name.
    campaign: Option<String>,
    /// Comma-separated `name=value`.
    label: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many jobs; default 20.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

/// Some of the jobs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobPage")]
pub(super) struct Jobs {
    /// Newest first; those of a batch in their order.
    jobs: Vec<JobAnswer>,
    /// Where the next page begins; null at the end.
    next_cursor: Option<String>,
}

/// What came of running jobs once more.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RequeuePage")]
pub(super) struct RequeuedJobs {
    /// Those that are run once more.
    requeued: Vec<Requeued>,
    /// Those that cannot be.
    refused: Vec<Refused>,
    /// Where the next page begins; null at the end.
    next_cursor: Option<String>,
}

/// A job that is run once more.
#[derive(Debug, Serialize, JsonSchema)]
struct Requeued {
    /// The job that ended.
    #[schemars(extend("format" = "uuid"))]
    job_id: String,
    /// The job that does the same.
    #[schemars(extend("format" = "uuid"))]
    requeued_as: String,
}

/// A job that cannot be run once more.
#[derive(Debug, Serialize, JsonSchema)]
struct Refused {
    /// The job.
    #[schemars(extend("format" = "uuid"))]
    job_id: String,
    /// Why.
    error: ServiceError,
}

impl Query {
    fn limit(&self) -> Result<usize, ServiceError> {
        page_limit(self.limit, 20)
    }

    fn filter(&self) -> Result<Filter, ServiceError> {
        let label = |text: &str| {
            let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| invalid(format!("label: {:?} is not name=value", shown(text))))
        };
        let labels = parts(self.label.as_deref()).map(label).collect::<Result<BTreeMap<_, _>, _>>()?;
        job_filter(self.state.as_deref(), self.kind.as_deref(), self.campaign.clone(), labels)
    }

    fn before(&self) -> Result<Option<u64>, ServiceError> {
        let cursor =
            |text: &String| text.parse().map_err(|_| invalid("cursor: take it from `next_cursor`".into()));
        self.cursor.as_ref().map(cursor).transpose()
    }
}

/// How many jobs a page has: as asked for, or by default.
pub(super) fn page_limit(asked: Option<usize>, default: usize) -> Result<usize, ServiceError> {
    let limit = asked.unwrap_or(default);
    if (1..=LONGEST_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(invalid(format!("limit: must be from 1 to {LONGEST_PAGE}")))
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn invalid(message: String) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}

pub(super) async fn list(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InQuery(query): InQuery<Query>,
) -> Result<Json<Jobs>, Problem> {
    let limit = query.limit()?;
    if let Some(batch) = &query.batch {
        let alone = Query { batch: None, cursor: None, limit: None, ..query }.filter()?;
        if !(alone.states.is_empty() && alone.kinds.is_empty() && alone.tags == Tags::default()) {
            return Err(invalid("batch: goes with cursor and limit only".into()).into());
        }
        return page_of_batch(&api, &tenant, parse_id(batch)?, query.cursor.as_deref(), limit).await;
    }
    let page = api.service.list(&tenant, &query.filter()?, query.before()?, limit).await?;
    let jobs = page.jobs.into_iter().map(JobAnswer::listed).collect();
    Ok(Json(Jobs { jobs, next_cursor: page.next.map(|next| next.to_string()) }))
}

/// A page of a batch's jobs: the cursor is the place of the first.
pub(super) async fn page_of_batch(
    api: &Api,
    tenant: &TenantId,
    batch: JobId,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Json<Jobs>, Problem> {
    let first = cursor.map_or(Ok(0), str::parse::<u32>);
    let first = first.map_err(|_| invalid("cursor: take it from `next_cursor`".into()))? as usize;
    let view = api.service.batch(tenant, batch).await?;
    let total = view.counts.map_or(0, |counts| usize::try_from(counts.total).unwrap_or(usize::MAX));
    let (_, jobs) = api.service.children(tenant, batch, first, limit).await?;
    let next = first.saturating_add(limit);
    let jobs = jobs.into_iter().map(JobAnswer::listed).collect();
    Ok(Json(Jobs { jobs, next_cursor: (next < total).then(|| next.to_string()) }))
}

pub(super) async fn requeue(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<JobAnswer>, Problem> {
    let again = api.service.requeue(&tenant, parse_id(&id)?).await?;
    Ok(Json(JobAnswer::new(api.service.job(&tenant, again, std::time::Duration::ZERO, |_| {}).await?)))
}

/// Which ended jobs to run once more: those listed, a page at a time.
pub(super) async fn requeue_many(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Body(query): Body<Query>,
) -> Result<Json<RequeuedJobs>, Problem> {
    let mut filter = query.filter()?;
    if query.batch.is_some() {
        return Err(invalid("batch: not here; give the state, campaign and labels of the jobs".into()).into());
    }
    if filter.states.is_empty() {
        filter.states.push(JobState::Dead);
    }
    let again = [JobState::Dead, JobState::Failed, JobState::Expired, JobState::Cancelled];
    if let Some(state) = filter.states.iter().find(|state| !again.contains(state)) {
        let message = format!(
            "state: jobs that are {} are not run again; dead, failed, expired and cancelled ones are",
            state.as_str()
        );
        return Err(invalid(message).into());
    }
    filter.kinds = vec![Kind::Backtest];
    let page = api.service.list(&tenant, &filter, query.before()?, query.limit()?).await?;
    let (mut requeued, mut refused) = (Vec::new(), Vec::new());
    for job in page.jobs.iter().filter(|job| job.requeued_as.is_none()) {
        let job_id = job.job_id.to_string();
        match api.service.requeue(&tenant, job.job_id).await {
            Ok(again) => requeued.push(Requeued { job_id, requeued_as: again.to_string() }),
            // What holds for all would fail for each.
            Err(error)
                if matches!(error.code, Code::Unavailable | Code::QueueFull | Code::EngineStarting) =>
            {
                return Err(error.into());
            }
            Err(error) => refused.push(Refused { job_id, error }),
        }
    }
    Ok(Json(RequeuedJobs { requeued, refused, next_cursor: page.next.map(|next| next.to_string()) }))
}

//! Reading jobs: one or several by their ids, or a page of those that a filter lets through.

use std::{collections::BTreeMap, time::Duration};

use jobs::{JobId, JobView, Kind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    arguments,
    batch::RankBy,
    table::{self, Table},
    tools,
};
use crate::{
    errors::{Code, ServiceError},
    service::{LONGEST_PAGE, Service, job_filter},
    views::{JobAnswer, rounded},
};

/// The most jobs that one call reads.
const MOST_IDS: usize = 50;
/// The default length of a page: a table of these takes about 1,000 tokens.
const PAGE: usize = 20;

/// For which of several jobs a call waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    #[default]
    All,
    Any,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    /// A job or a batch
    #[serde(default)]
    #[schemars(with = "String")]
    job_id: Option<String>,
    /// Instead: up to 50, answered as a table
    #[serde(default)]
    job_ids: Vec<String>,
    /// For the end, 0 to 50; default 0
    #[serde(default)]
    #[schemars(with = "f64")]
    wait_seconds: Option<f64>,
    /// Of several: all (default) or any
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) until: Until,
    /// Of one: also its spec, with all defaults
    #[serde(default)]
    pub(super) detail: bool,
    /// Of a batch, as in backtest_batch
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) rank_by: RankBy,
}

impl Get {
    pub(super) fn wait(&self) -> Result<Duration, ServiceError> {
        arguments::wait(self.wait_seconds, 0.0)
    }

    /// The jobs asked for: one alone, or several for a table.
    pub(super) fn jobs(&self) -> Result<Wanted, ServiceError> {
        match (&self.job_id, self.job_ids.as_slice()) {
            (Some(job), []) => arguments::job_id(job).map(Wanted::One),
            (None, ids) if (1..=MOST_IDS).contains(&ids.len()) => {
                ids.iter().map(|id| arguments::job_id(id)).collect::<Result<_, _>>().map(Wanted::Several)
            }
            (None, []) => Err(invalid("missing field `job_id`, or `job_ids` for several".into())),
            (None, _) => Err(invalid(format!("job_ids: at most {MOST_IDS} at once"))),
            (Some(_), _) => Err(invalid("job_id, job_ids: give one of the two".into())),
        }
    }
}

/// See [`Get::jobs`].
pub(super) enum Wanted {
    One(JobId),
    Several(Vec<JobId>),
}

/// A job with all that there is to say of it, in numbers that mean something.
pub(super) fn detailed(view: JobView) -> JobAnswer {
    let mut answer = JobAnswer::new(view);
    answer.summary = answer.summary.map(|summary: Box<RawValue>| rounded(&summary));
    answer
}

/// Several jobs, once those that are waited for have ended.
pub(super) async fn several(
    service: &Service,
    tenant: &TenantId,
    ids: &[JobId],
    until: Until,
    wait: Duration,
) -> Result<Listed, ServiceError> {
    let waits = ids.iter().map(|id| Box::pin(service.job(tenant, *id, wait, |_| {})));
    let views = match until {
        Until::All => futures::future::try_join_all(waits).await?,
        Until::Any => {
            futures::future::select_all(waits).await.0?;
            let now = ids.iter().map(|id| service.job(tenant, *id, Duration::ZERO, |_| {}));
            futures::future::try_join_all(now).await?
        }
    };
    let open = views.iter().filter(|view| !view.state.is_terminal()).count();
    let next = (open > 0).then(|| format!("{open} have not ended; call job_get with wait_seconds 25 again"));
    Ok(Listed { table: table::of_jobs(&views), next_cursor: None, next })
}

/// Which jobs, and which page of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// E.g. queued,running
    #[serde(default)]
    #[schemars(with = "String")]
    state: Option<String>,
    /// backtest, optimize, ..., batch; comma-separated
    #[serde(default)]
    #[schemars(with = "String")]
    kind: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    campaign: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Of this batch, in order; only with cursor and limit
    #[serde(default)]
    #[schemars(with = "String")]
    batch_id: Option<String>,
    /// From next_cursor
    #[serde(default)]
    #[schemars(with = "String")]
    cursor: Option<String>,
    /// 1 to 100; default 20
    #[serde(default)]
    #[schemars(with = "u32")]
    limit: Option<usize>,
}

/// A page of jobs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(super) struct Listed {
    #[serde(flatten)]
    table: Table,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next: Option<String>,
}

/// A page of the tenant's jobs, newest first, or of a batch's, in their order.
pub(super) async fn list(service: &Service, tenant: &TenantId, query: List) -> Result<Listed, ServiceError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(invalid(format!("limit: must be from 1 to {LONGEST_PAGE}")));
    }
    let cursor = query.cursor.as_deref().map(str::parse::<u64>).transpose();
    let cursor = cursor.map_err(|_| invalid("cursor: take it from `next_cursor`".into()))?;
    let (state, kind) = (query.state.as_deref(), query.kind.as_deref());
    let filtered = state.is_some() || kind.is_some() || query.campaign.is_some() || !query.labels.is_empty();
    if let Some(batch) = &query.batch_id {
        if filtered {
            return Err(invalid("batch_id: goes with cursor and limit only".into()));
        }
        let batch = batch.parse().map_err(|error: jobs::InvalidId| invalid(format!("batch_id: {error}")))?;
        return page_of_batch(service, tenant, batch, cursor.unwrap_or(0), limit).await;
    }
    let filter = job_filter(state, kind, query.campaign.clone(), query.labels)?;
    let page = service.list(tenant, &filter, cursor, limit).await?;
    let next_cursor = page.next.map(|next| next.to_string());
    Ok(Listed { table: table::of_jobs(&page.jobs), next_cursor, next: None })
}

async fn page_of_batch(
    service: &Service,
    tenant: &TenantId,
    batch: JobId,
    first: u64,
    limit: usize,
) -> Result<Listed, ServiceError> {
    let first = u32::try_from(first).map_err(|_| invalid("cursor: take it from `next_cursor`".into()))?;
    let total = service.batch(tenant, batch).await?.counts.map_or(0, |counts| counts.total);
    let (_, jobs) = service.children(tenant, batch, first as usize, limit).await?;
    let next = u64::from(first) + limit as u64;
    let next_cursor = (next < total).then(|| next.to_string());
    Ok(Listed { table: table::of_jobs(&jobs), next_cursor, next: None })
}

/// Whether a job is answered as a table of its jobs.
pub(super) fn is_batch(view: &JobView) -> bool {
    view.kind == Kind::Batch
}

fn invalid(message: String) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}

/// What `job_get` may answer: a job, a batch, or a table of several.
pub(super) fn get_output() -> rmcp::model::JsonObject {
    let text = serde_json::json!({"type": "string"});
    let (object, list) = (serde_json::json!({"type": "object"}), serde_json::json!({"type": "array"}));
    tools::output(serde_json::json!({
        "job_id": text, "batch_id": text, "state": text, "next": text, "summary": object, "error": object,
        "counts": object, "columns": list, "rows": list,
    }))
}

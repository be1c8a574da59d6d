//! `/v1/jobs`.

use std::{collections::BTreeMap, time::Duration};

use ::access::Caller;
use ::jobs::{JobId, Kind, TenantId};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Api, Problem,
    answers::{Accepted, IdempotencyKey, IfNoneMatch, Png, Representation, Svg, Tagged, Text, etag},
    guard::{By, Tenant},
    openapi::{Answer, Schemas, one_of_each_kind, spec_of_any_kind},
    problem::{Body, InPath, InQuery},
};
use crate::{
    callers::require,
    charts::{self, Look},
    errors::{Code, ServiceError},
    service::{ResultBody, SubmitOptions, Wanted, Window},
    views::JobAnswer,
};

/// What kind of job, what it computes, and how it is to be treated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_of_each_kind)]
pub(super) struct NewJob {
    /// What is computed
    #[schemars(with = "String")]
    kind: NewKind,
    /// Of what
    #[schemars(schema_with = "spec_of_any_kind")]
    spec: Value,
    /// How the results of others are used
    #[serde(default)]
    cache: ::jobs::CacheMode,
    /// Default normal
    priority: Option<::jobs::Priority>,
    /// Seconds that a run may take
    #[schemars(range(min = 1))]
    timeout_s: Option<u32>,
    /// After how many failures of its own it is given up; default 3
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
    /// URL that is told of the end, signed
    webhook: Option<String>,
    /// Not before then, within a year
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    run_at: Option<Timestamp>,
    /// It expires unless it has started by then
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    deadline: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewKind {
    Backtest,
    Optimize,
    WalkForward,
    MonteCarlo,
    SignificanceTest,
    CandlesImport,
    RiskReport,
    VarCalculation,
    StressTest,
    CorrelationMatrix,
    PairsBacktest,
    FactorAnalysis,
    RegimeDetector,
    AnalyzeResults,
}

impl NewKind {
    fn kind(self) -> Kind {
        match self {
            Self::Backtest => Kind::Backtest,
            Self::Optimize => Kind::Optimize,
            Self::WalkForward => Kind::WalkForward,
            Self::MonteCarlo => Kind::MonteCarlo,
            Self::SignificanceTest => Kind::SignificanceTest,
            Self::CandlesImport => Kind::CandlesImport,
            Self::RiskReport => Kind::RiskReport,
            Self::VarCalculation => Kind::VarCalculation,
            Self::StressTest => Kind::StressTest,
            Self::CorrelationMatrix => Kind::CorrelationMatrix,
            Self::PairsBacktest => Kind::PairsBacktest,
            Self::FactorAnalysis => Kind::FactorAnalysis,
            Self::RegimeDetector => Kind::RegimeDetector,
            Self::AnalyzeResults => Kind::AnalyzeResults,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for the end of the job; the server may answer earlier.
    #[serde(default)]
    #[schemars(range(min = 0))]
    wait: f64,
}

impl Wait {
    pub(super) fn limit(&self, api: &Api) -> Result<Duration, Problem> {
        let wait = Duration::try_from_secs_f64(self.wait);
        let wait =
            wait.map_err(|_| ServiceError::new(Code::InvalidRequest, "wait: must be a number of seconds"))?;
        Ok(wait.min(api.longest_wait))
    }
}

/// Waits for a job, but not into a shutdown.
pub(super) async fn wait_for(
    api: &Api,
    tenant: &TenantId,
    job: JobId,
    limit: Duration,
) -> Result<JobAnswer, ServiceError> {
    let waiting = api.service.job(tenant, job, limit, |_| {});
    if let Some(view) = api.stop.run_until_cancelled(waiting).await {
        return Ok(JobAnswer::new(view?));
    }
    Ok(JobAnswer::new(api.service.job(tenant, job, Duration::ZERO, |_| {}).await?))
}

pub(super) async fn submit(
    State(api): State<Api>,
    By(caller): By,
    InQuery(wait): InQuery<Wait>,
    key: IdempotencyKey,
    Body(new): Body<NewJob>,
) -> Result<Accepted, Problem> {
    let limit = wait.limit(&api)?;
    let idempotency = key.of(&new);
    let NewJob { kind, spec, cache, priority, timeout_s, max_attempts, .. } = new;
    let (campaign, labels, webhook) = (new.campaign, new.labels, new.webhook);
    let (holdout, holdout_share) = (new.holdout, new.holdout_share);
    let window = Window { run_at: new.run_at, deadline: new.deadline };
    let wanted = Wanted::parse(kind.kind(), spec).map_err(|mut error| {
        error.message.insert_str(0, "spec: ");
        error
    })?;
    if let Some(scope) = wanted.scope() {
        require(&caller, scope)?;
    }
    let Caller { tenant, key: by, .. } = caller;
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
        by: Some(by),
    };
    let (job, accepted) = api.service.submit(&tenant, &wanted, &options, window, idempotency).await?;
    let limit = if accepted == ::jobs::Accepted::Cached { Duration::ZERO } else { limit };
    let answer = wait_for(&api, &tenant, job, limit).await?;
    Ok(Accepted { location: format!("/v1/jobs/{job}"), job: answer })
}

pub(crate) fn parse_id(text: &str) -> Result<JobId, ServiceError> {
    text.parse()
        .map_err(|error: ::jobs::InvalidId| ServiceError::new(Code::InvalidRequest, error.to_string()))
}

pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(wait): InQuery<Wait>,
) -> Result<Json<JobAnswer>, Problem> {
    let limit = wait.limit(&api)?;
    Ok(Json(wait_for(&api, &tenant, parse_id(&id)?, limit).await?))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<JobAnswer>, Problem> {
    let view = api.service.cancel(&tenant, parse_id(&id)?).await?;
    Ok(Json(JobAnswer::new(view)))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Comma-separated: metrics, trades, equity_curve, benchmark_curve, logs, provenance. All, if left out.
    fields: Option<String>,
}

pub(super) async fn result(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(Fields { fields }): InQuery<Fields>,
    known: IfNoneMatch,
) -> Result<Tagged<Found>, Problem> {
    let ResultBody { blob, fields: mut body, .. } = api.service.result(&tenant, parse_id(&id)?).await?;
    if let Some(wanted) = &fields {
        let wanted: Vec<_> = wanted.split(',').map(str::trim).collect();
        if let Some(unknown) = wanted.iter().find(|name| !body.contains_key(**name)) {
            let known: Vec<_> = body.keys().map(String::as_str).collect();
            let message = format!("fields: no {unknown:?} in this result; it has {}", known.join(", "));
            return Err(ServiceError::new(Code::InvalidRequest, message).into());
        }
        body.retain(|name, _| wanted.contains(&name.as_str()));
    }
    let tag = etag(blob.as_str(), fields.as_deref().unwrap_or("all"));
    known.unless(&tag, || Ok(Found(body)))
}

/// What a job found, or some fields of it.
pub(super) struct Found(BTreeMap<String, Box<RawValue>>);

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

impl Representation for Found {
    fn answer(schemas: &mut Schemas) -> Answer {
        Answer::json::<JobResult>("As asked for", schemas)
    }
}

/// What a job found. A backtest has the fields that are named here; other kinds have their own.
#[derive(JsonSchema)]
#[schemars(transform = only_what_was_asked_for)]
#[expect(dead_code, reason = "results are sent as they are stored, which this describes")]
struct JobResult {
    /// As Jesse names them: percentages in percent, periods in seconds or days
    metrics: Option<Value>,
    /// Each closed trade
    trades: Option<Value>,
    /// The balance, day by day
    equity_curve: Option<Value>,
    /// Buy and hold, if it was asked for
    benchmark_curve: Option<Value>,
    /// What the strategy printed
    logs: Option<Value>,
    /// What it was computed from: versions, and hashes of code and candles
    provenance: Option<Value>,
}

/// No field is in every result: calls name those they want, and kinds have different ones.
fn only_what_was_asked_for(result: &mut schemars::Schema) {
    result.remove("required");
}

/// Text that a strategy wrote: nothing that a browser should make anything else of.
pub(super) async fn logs(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Text, Problem> {
    Ok(Text(api.service.logs(&tenant, parse_id(&id)?).await?))
}

/// `?kind=equity|monthly&theme=light|dark`
pub(super) async fn chart(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(look): InQuery<Look>,
    known: IfNoneMatch,
) -> Result<Tagged<Svg>, Problem> {
    let result = api.service.result(&tenant, parse_id(&id)?).await?;
    let tag = etag(result.blob.as_str(), &format!("chart svg {look}"));
    known.unless(&tag, || Ok(Svg(charts::svg(&result, look)?)))
}

/// The same picture as PNG.
pub(super) async fn chart_png(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(look): InQuery<Look>,
    known: IfNoneMatch,
) -> Result<Tagged<Png>, Problem> {
    let result = api.service.result(&tenant, parse_id(&id)?).await?;
    let tag = etag(result.blob.as_str(), &format!("chart png {look}"));
    known.unless_made(&tag, async { Ok(Png(charts::png(result, look).await?)) }).await
}

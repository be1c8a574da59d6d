//! `/v1/jobs`.

use std::{collections::BTreeMap, time::Duration};

use ::jobs::{Accepted, Idempotency, JobId, JobState, Kind, TenantId};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api, Problem,
    guard::Tenant,
    problem::{Body, InPath, InQuery},
};
use crate::{
    chart,
    errors::{Code, ServiceError},
    service::{ResultBody, SubmitOptions, Wanted, Window},
    views::JobAnswer,
};

/// What kind of job, what it computes, and how it is to be treated.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJob {
    kind: NewKind,
    spec: Value,
    #[serde(default)]
    cache: ::jobs::CacheMode,
    priority: Option<::jobs::Priority>,
    timeout_s: Option<u32>,
    max_attempts: Option<u32>,
    campaign: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    webhook: Option<String>,
    run_at: Option<Timestamp>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for the end of the job.
    #[serde(default)]
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

/// The header `Idempotency-Key`: a text of the client's choice, as it is or as a quoted string.
pub(super) fn idempotency(
    headers: &HeaderMap,
    new: &impl std::fmt::Debug,
) -> Result<Option<Idempotency>, ServiceError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().map(|key| key.trim().trim_matches('"')).unwrap_or_default();
    if key.is_empty() || key.len() > 255 {
        let message = "Idempotency-Key: must have 1 to 255 visible ASCII characters";
        return Err(ServiceError::new(Code::InvalidRequest, message));
    }
    let fingerprint = blake3::hash(format!("{new:?}").as_bytes()).to_hex()[..32].to_owned();
    Ok(Some(Idempotency { key: key.to_owned(), fingerprint }))
}

/// Waits for a job, but not into a shutdown.
pub(super) async fn wait_for(
    api: &Api,
    tenant: &TenantId,
    job: JobId,
    limit: Duration,
) -> Result<JobAnswer, ServiceError> {
    let waited = api.stop.run_until_cancelled(api.service.job(tenant, job, limit, |_| {})).await;
    let view = match waited {
        Some(view) => view?,
        None => api.service.job(tenant, job, Duration::ZERO, |_| {}).await?,
    };
    Ok(JobAnswer::new(view))
}

pub(super) async fn submit(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InQuery(wait): InQuery<Wait>,
    headers: HeaderMap,
    Body(new): Body<NewJob>,
) -> Result<Response, Problem> {
    let limit = wait.limit(&api)?;
    let idempotency = idempotency(&headers, &new)?;
    let NewJob { kind, spec, cache, priority, timeout_s, max_attempts, .. } = new;
    let (campaign, labels, webhook) = (new.campaign, new.labels, new.webhook);
    let window = Window { run_at: new.run_at, deadline: new.deadline };
    let wanted = Wanted::parse(kind.kind(), spec).map_err(|mut error| {
        error.message.insert_str(0, "spec: ");
        error
    })?;
    let options = SubmitOptions { cache, priority, timeout_s, max_attempts, campaign, labels, webhook };
    let (job, accepted) = api.service.submit(&tenant, &wanted, &options, window, idempotency).await?;
    let limit = if accepted == Accepted::Cached { Duration::ZERO } else { limit };
    let answer = wait_for(&api, &tenant, job, limit).await?;
    Ok(accepted_as(&format!("/v1/jobs/{job}"), &answer))
}

/// 202 with where to look and when, or 200 when it has ended already.
pub(super) fn accepted_as(location: &str, answer: &JobAnswer) -> Response {
    let ended = JobState::parse(answer.state).is_some_and(JobState::is_terminal);
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, Json(answer)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(header::LOCATION, location);
    }
    if !ended {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
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

#[derive(Debug, Deserialize)]
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
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let ResultBody { blob, fields: mut body } = api.service.result(&tenant, parse_id(&id)?).await?;
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
    Ok(unless_unchanged(&headers, &tag, || Json(&body).into_response()))
}

/// Text that a strategy wrote: nothing that a browser should make anything else of.
pub(super) async fn logs(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<impl IntoResponse, Problem> {
    let text = api.service.logs(&tenant, parse_id(&id)?).await?;
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text))
}

pub(super) async fn chart(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let ResultBody { blob, fields } = api.service.result(&tenant, parse_id(&id)?).await?;
    let tag = etag(blob.as_str(), "chart");
    // Drawn only for those who do not have it.
    let drawn = || match chart::equity(fields.get("equity_curve").map(AsRef::as_ref)) {
        Ok(svg) => ([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response(),
        Err(error) => Problem::from(error).into_response(),
    };
    Ok(unless_unchanged(&headers, &tag, drawn))
}

/// Names a part of an immutable blob.
pub(super) fn etag(blob: &str, part: &str) -> String {
    format!("\"{}\"", &blake3::hash(format!("{blob} {part}").as_bytes()).to_hex()[..32])
}

pub(super) fn unless_unchanged(headers: &HeaderMap, tag: &str, body: impl FnOnce() -> Response) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged =
        known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag || known.trim() == "*"));
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { body() };
    if response.status().is_client_error() || response.status().is_server_error() {
        return response;
    }
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

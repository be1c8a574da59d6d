//! `/v1/strategies`.

use std::time::Duration;

use ::jobs::ErrorCode;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jesse::strategies::draft::DraftRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Problem,
    guard::Tenant,
    jobs::unless_unchanged,
    problem::{Body, InPath, InQuery},
};
use crate::{
    errors::{Code, ServiceError},
    service::Validation,
};

/// The most text of one answer, in bytes.
const MOST_SHOWN: usize = 256 << 10;
/// How long a validation is waited for unless the caller says.
const DEFAULT_WAIT_S: f64 = 25.0;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "strategies": api.service.strategies().await? })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// A path; all, if left out.
    file: Option<String>,
}

pub(super) async fn get(
    State(api): State<Api>,
    InPath(name): InPath<String>,
    InQuery(Part { file }): InQuery<Part>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let source =
        api.service.strategy(&name, file.as_deref(), MOST_SHOWN).await.map_err(missing_is_not_found)?;
    let text = serde_json::to_string(&source)
        .map_err(|error| ServiceError::internal("a strategy cannot be shown", &error))?;
    let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    Ok(unless_unchanged(&headers, &tag, || {
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for what the validation finds.
    wait: Option<f64>,
}

impl Wait {
    fn limit(&self, api: &Api) -> Result<Duration, Problem> {
        let wait = Duration::try_from_secs_f64(self.wait.unwrap_or(DEFAULT_WAIT_S));
        let wait =
            wait.map_err(|_| ServiceError::new(Code::InvalidRequest, "wait: must be a number of seconds"))?;
        Ok(wait.min(api.longest_wait))
    }
}

pub(super) async fn validate(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InQuery(wait): InQuery<Wait>,
    Body(draft): Body<DraftRequest>,
) -> Result<Response, Problem> {
    let limit = wait.limit(&api)?;
    let validation = api.service.validate(&tenant, draft, limit).await?;
    let status = if validation.valid.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer(status, &validation))
}

/// A strategy to be written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStrategy {
    name: Option<String>,
    source: Option<String>,
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    replace: bool,
}

pub(super) async fn write(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InQuery(wait): InQuery<Wait>,
    Body(new): Body<NewStrategy>,
) -> Result<Response, Problem> {
    let limit = wait.limit(&api)?;
    let NewStrategy { name, source, files, replace } = new;
    let draft = DraftRequest { name, source, files };
    let validation = api.service.write(&tenant, draft, replace, limit).await?;
    match validation.valid {
        None => Ok(answer(StatusCode::ACCEPTED, &validation)),
        Some(true) => {
            let mut response = answer(StatusCode::CREATED, &validation);
            if let Ok(location) = HeaderValue::from_str(&format!("/v1/strategies/{}", validation.name)) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Some(false) => {
            let message = format!("{} cannot run, so nothing was written; errors says why", validation.name);
            let mut error = ServiceError::new(Code::Job(ErrorCode::StrategyError), message);
            error.detail = json!({ "errors": validation.errors });
            Err(error.into())
        }
    }
}

pub(super) async fn delete(
    State(api): State<Api>,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Problem> {
    api.service.delete_strategy(&name).await.map_err(missing_is_not_found)?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(status: StatusCode, validation: &Validation) -> Response {
    let mut response = (status, Json(validation)).into_response();
    if status == StatusCode::ACCEPTED {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", validation.job_id)) {
            headers.insert(header::LOCATION, location);
        }
    }
    response
}

/// In a submit a strategy that does not exist is a mistake in the body; in a path it is a place where nothing is.
fn missing_is_not_found(error: ServiceError) -> ServiceError {
    match error.code {
        Code::Job(ErrorCode::StrategyNotFound) => ServiceError { code: Code::NotFound, ..error },
        _ => error,
    }
}

//! `/v1/strategies`.

use std::time::Duration;

use ::jobs::ErrorCode;
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jesse::strategies::draft::DraftRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Api, Problem,
    answers::{IfNoneMatch, JsonText, NoContent, Tagged, set},
    guard::Tenant,
    openapi::{Answer, Operation, OperationOutput, Schemas},
    problem::{Body, InPath, InQuery},
};
use crate::{
    errors::{Code, ServiceError},
    service::{StrategySource, StrategyView, Validation},
};

/// The most text of one answer, in bytes.
const MOST_SHOWN: usize = 256 << 10;
/// How long a validation is waited for unless the caller says.
const DEFAULT_WAIT_S: f64 = 25.0;

/// What can be run.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Strategies {
    /// By name.
    strategies: Vec<StrategyView>,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Strategies>, Problem> {
    Ok(Json(Strategies { strategies: api.service.strategies().await? }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// A path; all, if left out.
    file: Option<String>,
}

pub(super) async fn get(
    State(api): State<Api>,
    InPath(name): InPath<String>,
    InQuery(Part { file }): InQuery<Part>,
    known: IfNoneMatch,
) -> Result<Tagged<JsonText<StrategySource>>, Problem> {
    let source =
        api.service.strategy(&name, file.as_deref(), MOST_SHOWN).await.map_err(missing_is_not_found)?;
    let text = JsonText::new(&source)?;
    known.unless(&text.tag(), || Ok(text.clone()))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for what the validation finds; default 25.
    #[schemars(range(min = 0))]
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
) -> Result<Validated, Problem> {
    let limit = wait.limit(&api)?;
    Ok(Validated(api.service.validate(&tenant, draft, limit).await?))
}

/// What a validation found, or which job goes on with it.
pub(super) struct Validated(Validation);

impl IntoResponse for Validated {
    fn into_response(self) -> Response {
        let Self(validation) = self;
        match validation.valid {
            Some(_) => (StatusCode::OK, Json(validation)).into_response(),
            None => goes_on(validation),
        }
    }
}

impl OperationOutput for Validated {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(200, Answer::json::<Validation>("What was found", schemas));
        operation.answers(202, described_as_going_on(schemas));
    }
}

/// The strategy that was written, or the job that goes on with looking at it.
pub(super) struct Written(Validation);

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let Self(validation) = self;
        if validation.valid.is_none() {
            return goes_on(validation);
        }
        let location = format!("/v1/strategies/{}", validation.name);
        let mut response = (StatusCode::CREATED, Json(validation)).into_response();
        set(response.headers_mut(), header::LOCATION, &location);
        response
    }
}

impl OperationOutput for Written {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let written = Answer::json::<Validation>("It is written: backtests can use it", schemas);
        operation.answers(201, written.with_headers(&["Location"]));
        operation.answers(202, described_as_going_on(schemas));
    }
}

fn goes_on(validation: Validation) -> Response {
    let location = format!("/v1/jobs/{}", validation.job_id);
    let mut response = (StatusCode::ACCEPTED, Json(validation)).into_response();
    set(response.headers_mut(), header::LOCATION, &location);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn described_as_going_on(schemas: &mut Schemas) -> Answer {
    let goes_on = Answer::json::<Validation>("It takes longer than was waited: follow the job", schemas);
    goes_on.with_headers(&["Location", "Retry-After"])
}

/// A strategy to be written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStrategy {
    /// Default: the class in source
    name: Option<String>,
    /// Python code of strategies/NAME/__init__.py
    source: Option<String>,
    /// Instead or besides: path to text
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
    /// Use it instead of a project's strategy of the same name
    #[serde(default)]
    replace: bool,
}

pub(super) async fn write(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InQuery(wait): InQuery<Wait>,
    Body(new): Body<NewStrategy>,
) -> Result<Written, Problem> {
    let limit = wait.limit(&api)?;
    let NewStrategy { name, source, files, replace } = new;
    let draft = DraftRequest { name, source, files };
    let validation = api.service.write(&tenant, draft, replace, limit).await?;
    if validation.valid != Some(false) {
        return Ok(Written(validation));
    }
    let message = format!("{} cannot run, so nothing was written; errors says why", validation.name);
    let mut error = ServiceError::new(Code::Job(ErrorCode::StrategyError), message);
    error.detail = json!({ "errors": validation.errors });
    Err(error.into())
}

pub(super) async fn delete(
    State(api): State<Api>,
    InPath(name): InPath<String>,
) -> Result<NoContent, Problem> {
    api.service.delete_strategy(&name).await.map_err(missing_is_not_found)?;
    Ok(NoContent)
}

/// In a submit a strategy that does not exist is a mistake in the body; in a path it is a place where nothing is.
fn missing_is_not_found(error: ServiceError) -> ServiceError {
    match error.code {
        Code::Job(ErrorCode::StrategyNotFound) => ServiceError { code: Code::NotFound, ..error },
        _ => error,
    }
}

//! What the tools take.

use std::time::Duration;

use jesse::strategies::draft::DraftRequest;
use jobs::{InvalidId, JobId, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::aliases;
use crate::{
    errors::{Code, ServiceError},
    service::{SubmitOptions, Wanted},
};

/// Clients give up a call after 60 s.
const LONGEST_WAIT_S: f64 = 50.0;
pub(super) const DEFAULT_WAIT_S: f64 = 25.0;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// From backtest
    pub(super) job_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// From strategy_list
    pub(super) name: String,
    /// Only this path of it
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) file: Option<String>,
}

/// What `strategy_write` takes beside a draft.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replace {
    /// Use it instead of a project's strategy of the same name
    #[serde(default)]
    pub(super) replace: bool,
}

/// The arguments of `strategy_validate` and, with `replace`, of `strategy_write`.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) draft: DraftRequest,
    pub(super) replace: bool,
    pub(super) wait: Duration,
}

impl Written {
    pub(super) fn parse(arguments: Value, replaceable: bool) -> Result<Self, ServiceError> {
        let Value::Object(mut draft) = arguments else {
            return Err(ServiceError::new(Code::InvalidRequest, "the arguments must be an object"));
        };
        let mut take = |name: &str| {
            let taken = draft.remove(name).map(|value| (name.to_owned(), value));
            Value::Object(taken.into_iter().collect())
        };
        let Wait { wait_seconds } = parse(take("wait_seconds"))?;
        let Replace { replace } = if replaceable { parse(take("replace"))? } else { Replace::default() };
        Ok(Self { draft: parse(Value::Object(draft))?, replace, wait: wait(wait_seconds, DEFAULT_WAIT_S)? })
    }
}

/// How long `backtest` waits: an argument beside those of the backtest.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Wait {
    /// Wait this long for the result, 0 to 50; default 25
    #[serde(default)]
    #[schemars(with = "f64")]
    pub(super) wait_seconds: Option<f64>,
}

/// The arguments of a tool that submits a job, which belong to three concerns but lie side by side for the client.
#[derive(Debug)]
pub(super) struct Submitting {
    pub(super) wanted: Wanted,
    pub(super) options: SubmitOptions,
    pub(super) wait: Duration,
    /// What was called by names of others.
    pub(super) notes: Vec<String>,
}

impl Submitting {
    pub(super) const OPTIONS: [&str; 9] = [
        "cache",
        "priority",
        "timeout_s",
        "max_attempts",
        "campaign",
        "holdout",
        "holdout_share",
        "labels",
        "webhook",
    ];

    pub(super) fn parse(kind: Kind, arguments: Value) -> Result<Self, ServiceError> {
        let Value::Object(mut request) = arguments else {
            return Err(ServiceError::new(Code::InvalidRequest, "the arguments must be an object"));
        };
        let mut notes = Vec::new();
        aliases::correct(&mut request, &mut notes);
        let options = parse(take(&mut request, &Self::OPTIONS))?;
        let Wait { wait_seconds } = parse(take(&mut request, &["wait_seconds"]))?;
        let wanted = Wanted::parse(kind, Value::Object(request))?;
        Ok(Self { wanted, options, wait: wait(wait_seconds, DEFAULT_WAIT_S)?, notes })
    }
}

/// Takes some arguments out, as an object of their own.
pub(super) fn take(from: &mut Map<String, Value>, names: &[&str]) -> Value {
    let taken = names.iter().filter_map(|name| from.remove(*name).map(|value| ((*name).to_owned(), value)));
    Value::Object(taken.collect())
}

pub(super) fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, ServiceError> {
    serde_json::from_value(arguments)
        .map_err(|error| ServiceError::new(Code::InvalidRequest, error.to_string()))
}

pub(super) fn job_id(text: &str) -> Result<JobId, ServiceError> {
    text.parse()
        .map_err(|error: InvalidId| ServiceError::new(Code::InvalidRequest, format!("job_id: {error}")))
}

pub(super) fn wait(seconds: Option<f64>, default: f64) -> Result<Duration, ServiceError> {
    let seconds = seconds.unwrap_or(default);
    if !(0.0..=LONGEST_WAIT_S).contains(&seconds) {
        let message =
            format!("wait_seconds: must be from 0 to {LONGEST_WAIT_S}; to wait longer, call job_get again");
        return Err(ServiceError::new(Code::InvalidRequest, message));
    }
    Ok(Duration::from_secs_f64(seconds))
}

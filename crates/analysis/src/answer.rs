//! What an analysis answers, and why there may be none.

use jobs::{ErrorCode, JobError};
use risk::RiskError;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Everything.
    pub body: Value,
    /// What fits an agent's context.
    pub summary: Value,
}

/// The error of an analysis that is not possible: an option that is not allowed is the request's fault, all else is in the
/// data.
pub fn refusal(error: &RiskError) -> JobError {
    let code = match error {
        RiskError::OutOfRange { .. } | RiskError::TooLarge { .. } | RiskError::Unsupported(_) => {
            ErrorCode::InvalidSpec
        }
        _ => ErrorCode::UnfitData,
    };
    JobError::new(code, error.to_string())
}

pub(crate) fn unfit(message: impl Into<String>) -> JobError {
    JobError::new(ErrorCode::UnfitData, message)
}

pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> JobError {
    let message = message.to_string();
    // Some messages begin with what they are about.
    let message = message.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&message);
    let detail = json!({"errors": [{"field": field, "message": message}]});
    JobError::new(ErrorCode::InvalidSpec, format!("{field}: {message}")).with_detail(detail)
}

/// Reads what a client wrote; the error names the field.
pub(crate) fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, JobError> {
    serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| invalid(&error.path().to_string(), error.inner()))
}

/// As JSON; all types here have such a form.
pub(crate) fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// A part of an answer that the others do not need: why it is missing takes its place.
pub(crate) fn or_refused<T: Serialize>(part: Result<T, RiskError>) -> Value {
    match part {
        Ok(part) => value(&part),
        Err(error) => json!({ "refused": error.to_string() }),
    }
}

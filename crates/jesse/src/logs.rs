//! Where what a run printed is found later: in the body of its result, or, when it failed, in a blob that its error names.

use jobs::{JobError, blobs::BlobId};
use serde::Deserialize;
use serde_json::{Value, json};

/// The field of an error's detail that names the blob.
const FIELD: &str = "output";

/// The part of a result's body that holds what was printed.
#[derive(Debug, Deserialize)]
pub struct Logs {
    /// All of it, or its begin and its end.
    pub output: String,
}

/// Notes in an error where the output is.
pub fn refer(error: &mut JobError, output: &BlobId) {
    if !error.detail.is_object() {
        error.detail = json!({});
    }
    error.detail[FIELD] = output.as_str().into();
}

/// Where the output of a failed run is, if it printed anything.
pub fn referred(error: &JobError) -> Option<BlobId> {
    error.detail.get(FIELD).and_then(Value::as_str)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use jobs::ErrorCode;

    use super::*;

    #[test]
    fn what_is_noted_is_found() {
        let blob = BlobId::of(b"printed");
        for detail in [Value::Null, json!({"phase": "run"})] {
            let mut error = JobError::new(ErrorCode::StrategyError, "no").with_detail(detail);
            assert_eq!(referred(&error), None);
            refer(&mut error, &blob);
            assert_eq!(referred(&error).as_ref(), Some(&blob));
        }
    }
}

//! What jobs that are made of other jobs have in common.

use jobs::{CacheKey, CacheMode, ErrorCode, JobError, Priority};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How the children of a parent are to be treated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForChildren {
    /// Whose they are.
    pub tenant: String,
    /// How urgent they are.
    pub priority: Priority,
    /// How they use earlier results.
    pub cache: CacheMode,
    /// After how many failed attempts one is given up.
    pub max_attempts: u32,
    /// What they are grouped under.
    pub campaign: Option<String>,
    /// The campaign in whose ledger they count, if they are trials of an idea.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_of: Option<String>,
}

/// The hash of a canonical form.
pub(crate) fn key(of: &impl Serialize) -> CacheKey {
    let mut hasher = blake3::Hasher::new();
    // Writing into a hasher cannot fail, and all that is hashed has a JSON form.
    let _written = serde_json::to_writer(&mut hasher, of);
    CacheKey::new(hasher.finalize().to_hex().as_str())
}

/// The fields with these names, and the others: what belongs to several concerns lies side by side for the client.
pub(crate) fn split(fields: Map<String, Value>, names: &[&str]) -> (Value, Value) {
    let (own, others): (Map<_, _>, Map<_, _>) =
        fields.into_iter().partition(|(name, _)| names.contains(&name.as_str()));
    (own.into(), others.into())
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(fields: Value) -> Result<T, JobError> {
    serde_json::from_value(fields).map_err(|error| JobError::new(ErrorCode::InvalidSpec, error.to_string()))
}

/// What is wrong with a spec: {field, message}.
pub(crate) fn invalid(wrong: &[(String, String)]) -> JobError {
    let text: Vec<_> = wrong.iter().map(|(field, message)| format!("{field}: {message}")).collect();
    let errors: Vec<_> =
        wrong.iter().map(|(field, message)| json!({"field": field, "message": message})).collect();
    JobError::new(ErrorCode::InvalidSpec, text.join("; ")).with_detail(json!({ "errors": errors }))
}

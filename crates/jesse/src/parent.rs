//! What jobs that are made of other jobs have in common.

use jiff::civil::Date;
use jobs::{CacheKey, CacheMode, ErrorCode, JobError, Priority, holdouts::looks_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{candles::Series, spec::BacktestSpec};

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
    /// The days that are held out of research and that they may look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holdouts: Vec<Holdout>,
}

/// Days of a series that are held out of research.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdout {
    /// Which series.
    #[serde(flatten)]
    pub series: Series,
    /// The first of them.
    pub first_day: Date,
}

impl Holdout {
    /// Whether a backtest looks at them. Its warm-up counts as little as what it ends before.
    pub fn is_seen_by(&self, spec: &BacktestSpec) -> bool {
        spec.finish_date > self.first_day
            && spec.exchange == self.series.exchange()
            && spec.symbols().contains(self.series.symbol())
    }
}

impl ForChildren {
    /// The campaigns in whose ledgers one of them counts: that of the idea, and those of looks at what is held out.
    pub fn trials_of(&self, spec: &BacktestSpec) -> Vec<String> {
        let looks = self.holdouts.iter().filter(|holdout| holdout.is_seen_by(spec));
        self.trial_of
            .iter()
            .cloned()
            .chain(looks.map(|holdout| looks_of(&holdout.series.to_string())))
            .collect()
    }
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

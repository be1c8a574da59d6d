//! What exists: the strategies, exchanges and timeframes that workers offer, and the Jesse they run. Workers publish it
//! (see [`crate::published`]); API instances, which have neither the project nor Python, validate and plan against it.

use std::collections::BTreeMap;

use jobs::{JobError, blobs::BlobId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::runner::SandboxState;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// The Jesse that runs the jobs.
    pub engine: Engine,
    /// By name, as Jesse spells it.
    pub exchanges: BTreeMap<String, Exchange>,
    /// All timeframes that Jesse knows.
    pub timeframes: Vec<String>,
    /// By name.
    pub strategies: BTreeMap<String, Strategy>,
    /// What there is to know of names that stand for more than one strategy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflicts: BTreeMap<String, String>,
    /// Those that a client has written, and when (milliseconds since 1970).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written: BTreeMap<String, i64>,
    /// Whether strategies are shut off from the workers' machines, on all of them.
    #[serde(default)]
    pub sandbox: SandboxState,
}

/// The Jesse that runs the jobs. Both parts go into every cache key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// The version of the package `jesse`.
    pub jesse_version: String,
    /// The way Jesse is called, with a number that changes when a change of ours changes results.
    pub semantics: String,
    /// Hash of Python's version, all installed packages and the processor's features.
    pub environment: String,
}

/// What Jesse knows of an exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Spot or futures.
    #[serde(rename = "type")]
    pub market: Market,
    /// The taker's fee as a fraction.
    pub fee: f64,
    /// `cross`, `isolated`; empty for spot.
    #[serde(default)]
    pub leverage_modes: Vec<String>,
    /// How Jesse simulates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation_model: Option<String>,
    /// Trading days a year for Jesse's annual figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annualization: Option<u32>,
    /// What profits and losses are paid in, where the exchange knows one currency only. Jesse takes it for the quote asset
    /// of whatever is traded there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement_currency: Option<String>,
}

/// The kind of market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Market {
    /// What is bought is owned; no leverage, no shorts.
    Spot,
    /// Leverage and shorts.
    Futures,
}

/// A strategy as it was when the catalogue was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// The code and everything it imports, immutable.
    pub bundle: BlobId,
    /// The first line of its documentation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// What may be set.
    #[serde(default)]
    pub hyperparameters: Vec<Hyperparameter>,
    /// Why it cannot run: it does not parse, or raises when it is imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// What a hyperparameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HyperparameterType {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// One of the options.
    Categorical,
}

/// One parameter of a strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hyperparameter {
    /// Its name.
    pub name: String,
    /// What it may be.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: HyperparameterType,
    /// The smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub min: Option<f64>,
    /// The largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub max: Option<f64>,
    /// The distance between values that a search tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub step: Option<f64>,
    /// The options of a categorical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_values")]
    pub options: Option<Vec<serde_json::Value>>,
    /// What it is when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub default: Option<serde_json::Value>,
}

/// A number, a text, or true or false. Without a type, since lists of types are not understood by all clients.
fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({})
}

fn any_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {}})
}

impl Hyperparameter {
    /// The value in the one spelling that it has in cache keys (`5` for a float is `5.0`), or why it is not allowed.
    pub fn check(&self, value: &serde_json::Value) -> Result<serde_json::Value, String> {
        let number = |value: f64| {
            let below = self.min.is_some_and(|min| value < min);
            let above = self.max.is_some_and(|max| value > max);
            match (self.min, self.max) {
                (Some(min), Some(max)) if below || above => Err(format!("must be from {min} to {max}")),
                (Some(min), _) if below => Err(format!("must be at least {min}")),
                (_, Some(max)) if above => Err(format!("must be at most {max}")),
                _ => Ok(()),
            }
        };
        match (self.kind, value) {
            (HyperparameterType::Int, serde_json::Value::Number(given)) => {
                let whole = given.as_i64().or_else(|| whole(given.as_f64()?));
                let whole = whole.ok_or("must be a whole number")?;
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "bounds are small; a comparison needs no more"
                )]
                number(whole as f64)?;
                Ok(whole.into())
            }
            (HyperparameterType::Float, serde_json::Value::Number(given)) => {
                let given =
                    given.as_f64().filter(|value| value.is_finite()).ok_or("must be a finite number")?;
                number(given)?;
                // A zero has a sign, which is no other value.
                Ok((given + 0.0).into())
            }
            (HyperparameterType::Bool, serde_json::Value::Bool(_)) => Ok(value.clone()),
            (HyperparameterType::Categorical, value) => match &self.options {
                Some(options) if !options.contains(value) => {
                    let shown: Vec<_> = options.iter().take(20).map(ToString::to_string).collect();
                    Err(format!("must be one of {}", shown.join(", ")))
                }
                _ => Ok(value.clone()),
            },
            (HyperparameterType::Int, _) => Err("must be a whole number".into()),
            (HyperparameterType::Float, _) => Err("must be a number".into()),
            (HyperparameterType::Bool, _) => Err("must be true or false".into()),
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    // Up to 2^53 every whole number has one floating-point form.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
}

/// Minutes of a timeframe as Jesse spells them (`45m`, `4h`, `1D`, `1W`, `1M` of 30 days).
pub fn timeframe_minutes(timeframe: &str) -> Option<i64> {
    let unit = timeframe.chars().last()?;
    let count: i64 = timeframe.strip_suffix(unit)?.parse().ok().filter(|count| (1..=1000).contains(count))?;
    let minutes = match unit {
        'm' => 1,
        'h' => 60,
        'D' => 24 * 60,
        'W' => 7 * 24 * 60,
        'M' => 30 * 24 * 60,
        _ => return None,
    };
    Some(count * minutes)
}

/// The known name nearest to what was written, for "did you mean".
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &str| strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase());
    let best = known.map(|name| (close(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameter(kind: HyperparameterType) -> Hyperparameter {
        let (min, max) = (Some(1.0), Some(10.0));
        Hyperparameter { name: "x".into(), kind, min, max, step: None, options: None, default: None }
    }

    #[test]
    fn a_value_has_one_spelling() {
        let int = parameter(HyperparameterType::Int);
        assert_eq!(int.check(&json!(5)), int.check(&json!(5.0)));
        let float = parameter(HyperparameterType::Float);
        assert_eq!(float.check(&json!(5)).map(|value| value.to_string()), Ok("5.0".into()));
    }

    #[test]
    fn a_wrong_value_is_told_what_is_allowed() {
        let int = parameter(HyperparameterType::Int);
        for (wrong, why) in [
            (json!(0), "must be from 1 to 10"),
            (json!(5.5), "must be a whole number"),
            (json!("5"), "must be a whole number"),
            (json!(null), "must be a whole number"),
            (json!(1e300), "must be a whole number"),
        ] {
            assert_eq!(int.check(&wrong), Err(why.into()), "{wrong}");
        }
        let mut choice = parameter(HyperparameterType::Categorical);
        choice.options = Some(vec![json!("a"), json!(2)]);
        assert_eq!(choice.check(&json!("b")), Err("must be one of \"a\", 2".into()));
        assert!(choice.check(&json!(2)).is_ok());
    }

    #[test]
    fn timeframes_as_jesse_spells_them() {
        let minutes = ["1m", "45m", "4h", "1D", "3D", "1W", "1M"].map(timeframe_minutes);
        assert_eq!(minutes, [1, 45, 240, 1440, 4320, 10080, 43200].map(Some));
        for wrong in ["", "m", "1", "1x", "0m", "-1m", "1d", "99999999999999999999m", "é"] {
            assert_eq!(timeframe_minutes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let known = ["SmaCross", "Breakout"];
        assert_eq!(nearest("smacros", known.into_iter()), Some("SmaCross"));
        assert_eq!(nearest("zzz", known.into_iter()), None);
    }
}

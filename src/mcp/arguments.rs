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
    /// For the result, 0 to 50; default 25
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
        spread(kind, &mut request)?;
        let mut notes = Vec::new();
        aliases::correct(&mut request, &mut notes);
        let options = parse(take(&mut request, &Self::OPTIONS))?;
        let Wait { wait_seconds } = parse(take(&mut request, &["wait_seconds"]))?;
        let wanted = Wanted::parse(kind, Value::Object(request))?;
        Ok(Self { wanted, options, wait: wait(wait_seconds, DEFAULT_WAIT_S)?, notes })
    }
}

/// Lays beside the others what a search was given in one word: the arguments of a backtest, or of an optimisation.
fn spread(kind: Kind, request: &mut Map<String, Value>) -> Result<(), ServiceError> {
    let words: &[&str] = match kind {
        // Those of an optimisation may have a backtest in turn.
        Kind::WalkForward => &["optimize", "backtest"],
        Kind::Optimize | Kind::MonteCarlo | Kind::SignificanceTest => &["backtest"],
        _ => &[],
    };
    let invalid = |message: String| Err(ServiceError::new(Code::InvalidRequest, message));
    for word in words {
        let Some(held) = request.remove(*word) else { continue };
        let Value::Object(held) = held else {
            return invalid(format!("{word}: must be an object with arguments of {word}"));
        };
        for (name, value) in held {
            if request.contains_key(&name) {
                return invalid(format!("{name}: stands in {word} and beside it; give it once"));
            }
            request.insert(name, value);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn month() -> Value {
        json!({"strategy": "S", "exchange": "E", "symbol": "A-B", "timeframe": "1h", "start_date": "2023-01-01",
            "end_date": "2023-03-01", "fee": 0.001, "campaign": "c"})
    }

    #[test]
    fn a_backtest_in_one_word_is_the_same_as_its_arguments_beside_the_others() {
        let mut flat = month();
        for (name, value) in [("train_days", json!(20)), ("test_days", json!(10)), ("trials", json!(5))] {
            flat[name] = value;
        }
        let nested =
            json!({"train_days": 20, "test_days": 10, "optimize": {"trials": 5, "backtest": month()}});
        let beside = json!({"train_days": 20, "test_days": 10, "trials": 5, "backtest": month()});
        let [flat, nested, beside] =
            [flat, nested, beside].map(|arguments| Submitting::parse(Kind::WalkForward, arguments).unwrap());
        assert_eq!(format!("{:?}", nested.wanted), format!("{:?}", flat.wanted));
        assert_eq!(format!("{:?}", beside.wanted), format!("{:?}", flat.wanted));
        assert_eq!((nested.options.campaign, nested.notes), (Some("c".into()), flat.notes));
    }

    #[test]
    fn what_stands_twice_or_is_no_object_is_refused_by_name() {
        for (arguments, words) in [
            (json!({"backtest": month(), "fee": 0}), "fee: stands in backtest and beside it"),
            (json!({"backtest": "01981c2e-6f1c-7000-8000-000000000000"}), "backtest: must be an object"),
            (json!({"backtest": {"trails": 5}}), "trails"),
        ] {
            let error = Submitting::parse(Kind::Optimize, arguments).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
        // A backtest itself has no such argument.
        let error = Submitting::parse(Kind::Backtest, json!({"backtest": month()})).unwrap_err();
        assert!(error.message.contains("backtest"), "{error}");
    }
}

//! What is analysed.

use jesse::{catalogue::timeframe_minutes, spec::midnight_ms};
use jiff::civil::Date;
use jobs::{JobError, JobId};
use risk::{PeriodsPerYear, Returns, portfolio::Rebalancing};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::answer::{invalid, read, refusal};

/// The most results of one portfolio.
pub const MOST_PARTS: usize = 100;
/// The most returns that a client may give.
pub const MOST_RETURNS: usize = 20_000;
/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;

/// One backtest of a portfolio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// A succeeded backtest.
    pub job_id: JobId,
    /// Its share at the start.
    pub weight: f64,
}

/// Part of a portfolio, as a client writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartRequest {
    job_id: String,
    weight: Option<f64>,
}

/// As a client writes it: one of `job_id`, `jobs` and `returns`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SourceRequest {
    job_id: Option<String>,
    jobs: Option<Vec<PartRequest>>,
    rebalance: Option<Rebalancing>,
    returns: Option<Vec<f64>>,
    period: Option<String>,
    start_date: Option<String>,
    days_per_year: Option<f64>,
}

/// The fields of a source. `start_date` belongs to the returns only where they are given.
const FIELDS: [&str; 6] = ["job_id", "jobs", "rebalance", "returns", "period", "days_per_year"];

/// What is analysed, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Results of backtests.
    Results {
        /// Each with its weight; they sum to 1.
        parts: Vec<Part>,
        /// What becomes of the weights.
        rebalance: Rebalancing,
        /// For annual figures.
        days_per_year: f64,
    },
    /// Returns that came with the request.
    Returns {
        /// How many.
        values: usize,
        /// Of their bytes.
        hash: String,
        /// Length of one, as Jesse writes timeframes.
        period: String,
        /// Of the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_date: Option<Date>,
        /// For annual figures.
        days_per_year: f64,
    },
}

/// A source, and the returns that came with it.
pub type Taken = (Source, Option<Vec<f64>>);

impl Source {
    /// Takes the fields of a source out of a request: the source and the returns that were given. `None` if it names none.
    pub fn take(fields: &mut Map<String, Value>) -> Result<Option<Taken>, JobError> {
        let dated = fields.contains_key("returns");
        let mut own = Map::new();
        for name in FIELDS.iter().chain(dated.then_some(&"start_date")) {
            if let Some(value) = fields.remove(*name) {
                own.insert((*name).to_owned(), value);
            }
        }
        if own.is_empty() {
            return Ok(None);
        }
        Self::check(read(own)?).map(Some)
    }

    fn check(request: SourceRequest) -> Result<Taken, JobError> {
        let SourceRequest { job_id, jobs, rebalance, returns, period, start_date, days_per_year } = request;
        let days_per_year = days_per_year.unwrap_or(365.0);
        if !(1.0..=366.0).contains(&days_per_year) {
            return Err(invalid(
                "days_per_year",
                "must be from 1 to 366: 365 for crypto, 252 for a stock exchange",
            ));
        }
        let parts = match (job_id, jobs, &returns) {
            (Some(job_id), None, None) => vec![Part { job_id: id(&job_id)?, weight: 1.0 }],
            (None, Some(jobs), None) => parts(&jobs)?,
            (None, None, Some(returns)) => {
                let period = period.ok_or_else(|| {
                    invalid("period", "say how long a period of the returns is, e.g. 1D or 1h")
                })?;
                let values = returns.len();
                let start_date = start_date.map(|text| day("start_date", &text)).transpose()?;
                let source = Self::Returns { values, hash: hash(returns), period, start_date, days_per_year };
                source.given(returns.clone())?;
                return Ok((source, Some(returns.clone())));
            }
            _ => {
                return Err(invalid("job_id", "give one of job_id, jobs ([{job_id, weight}]) and returns"));
            }
        };
        if period.is_some() {
            return Err(invalid("period", "goes with returns only; a result's periods are days"));
        }
        let rebalance = rebalance.unwrap_or(Rebalancing::Daily);
        Ok((Self::Results { parts, rebalance, days_per_year }, None))
    }

    /// The jobs whose results are analysed.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Results { parts, .. } => parts,
            Self::Returns { .. } => &[],
        }
    }

    /// What goes into the key of an analysis beside the data themselves.
    pub(crate) fn key_part(&self) -> Value {
        match self {
            Self::Results { parts, rebalance, days_per_year } => {
                let weights: Vec<f64> = parts.iter().map(|part| part.weight).collect();
                json!({"weights": weights, "rebalance": rebalance, "days_per_year": days_per_year})
            }
            Self::Returns { .. } => json!(self),
        }
    }

    /// Given returns with their frequency and, if known, the milliseconds at which the first begins. Refuses what is no
    /// series of returns.
    pub(crate) fn given(&self, values: Vec<f64>) -> Result<Given, JobError> {
        let Self::Returns { period, start_date, days_per_year, .. } = self else {
            return Err(invalid("returns", "there are none"));
        };
        if values.len() > MOST_RETURNS {
            return Err(invalid(
                "returns",
                format!("{} values, at most {MOST_RETURNS} are allowed", values.len()),
            ));
        }
        let minutes = timeframe_minutes(period).filter(|minutes| *minutes <= 366 * 1440);
        let minutes = minutes.ok_or_else(|| {
            invalid("period", format!("{:?} is none; write e.g. 1m, 15m, 1h, 4h, 1D, 1W", short(period)))
        })?;
        let period_ms = minutes * MINUTE_MS;
        let frequency =
            PeriodsPerYear::of_length(period_ms, *days_per_year).map_err(|error| refusal(&error))?;
        let returns = Returns::new(values, frequency).map_err(|error| invalid("returns", error))?;
        Ok(Given { returns, period_ms, start_ms: start_date.map(midnight_ms) })
    }
}

/// Returns that came with a request.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) returns: Returns,
    pub(crate) period_ms: i64,
    pub(crate) start_ms: Option<i64>,
}

fn id(text: &str) -> Result<JobId, JobError> {
    text.parse().map_err(|error: jobs::InvalidId| invalid("job_id", error))
}

fn parts(jobs: &[PartRequest]) -> Result<Vec<Part>, JobError> {
    if !(1..=MOST_PARTS).contains(&jobs.len()) {
        return Err(invalid(
            "jobs",
            format!("a portfolio has 1 to {MOST_PARTS} results, not {}", jobs.len()),
        ));
    }
    let weighted = jobs.iter().filter(|job| job.weight.is_some()).count();
    if weighted != 0 && weighted != jobs.len() {
        return Err(invalid("jobs", "give each a weight, or none for equal ones"));
    }
    #[expect(clippy::cast_precision_loss, reason = "a hundred at most")]
    let equal = 1.0 / jobs.len() as f64;
    let part = |job: &PartRequest| Ok(Part { job_id: id(&job.job_id)?, weight: job.weight.unwrap_or(equal) });
    let parts = jobs.iter().map(part).collect::<Result<Vec<_>, JobError>>()?;
    if let Some(part) = parts.iter().find(|part| !(0.0..=1.0).contains(&part.weight)) {
        return Err(invalid("jobs", format!("a weight is {}: each must be from 0 to 1", part.weight)));
    }
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    if (sum - 1.0).abs() > 1e-6 {
        return Err(invalid("jobs", format!("the weights sum to {sum}, they must sum to 1")));
    }
    Ok(parts)
}

/// Of the very bits.
fn hash(values: &[f64]) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// A day as a client writes it.
pub(crate) fn day(field: &str, text: &str) -> Result<Date, JobError> {
    let wrong = |_: jiff::Error| invalid(field, format!("{:?} is no day; write YYYY-MM-DD", short(text)));
    text.parse().map_err(wrong)
}

/// A client's text, as far as it is worth repeating.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn take(fields: Value) -> Result<Option<Taken>, JobError> {
        let Value::Object(mut fields) = fields else { panic!("an object") };
        Source::take(&mut fields)
    }

    #[test]
    fn one_of_three_sources_is_taken_and_bad_ones_say_what_is_allowed() {
        let job = "01981c2e-6f1c-7000-8000-000000000000";
        let (source, given) = take(json!({"job_id": job})).unwrap().unwrap();
        assert_eq!((source.parts().len(), given), (1, None));
        let (source, _) = take(json!({"jobs": [{"job_id": job}, {"job_id": job}]})).unwrap().unwrap();
        assert_eq!(source.parts().iter().map(|part| part.weight).collect::<Vec<_>>(), [0.5, 0.5]);
        let (source, given) =
            take(json!({"returns": [0.01, -0.02], "period": "1h", "start_date": "2024-01-01"}))
                .unwrap()
                .unwrap();
        assert_eq!(given, Some(vec![0.01, -0.02]));
        assert!(serde_json::to_string(&source).unwrap().len() < 200, "the values are no part of the record");
        assert_eq!(take(json!({"symbol": "BTC-USDT"})).unwrap(), None);
        let many = json!({"returns": vec![0.0; MOST_RETURNS + 1], "period": "1D"});
        for (wrong, words) in [
            (json!({"job_id": "latest"}), "UUID"),
            (json!({"job_id": job, "returns": [0.1, 0.2], "period": "1D"}), "give one of"),
            (json!({"rebalance": "never"}), "give one of"),
            (json!({"jobs": []}), "1 to 100"),
            (json!({"jobs": [{"job_id": job, "weight": 0.5}, {"job_id": job}]}), "none for equal"),
            (json!({"jobs": [{"job_id": job, "weight": -1}, {"job_id": job, "weight": 2}]}), "from 0 to 1"),
            (json!({"jobs": [{"job_id": job, "weight": 0.5}, {"job_id": job, "weight": 0.6}]}), "sum to 1"),
            (json!({"job_id": job, "period": "1D"}), "returns only"),
            (json!({"returns": [0.1, 0.2]}), "how long a period"),
            (json!({"returns": [0.1, 0.2], "period": "1 day"}), "1h, 4h"),
            (json!({"returns": [0.1], "period": "1D"}), "at least 2"),
            (json!({"returns": [0.1, -1.5], "period": "1D"}), "above -1"),
            (json!({"returns": [0.1, "x"], "period": "1D"}), "f64"),
            (json!({"returns": [0.1, 0.2], "period": "1D", "days_per_year": 0}), "365 for crypto"),
            (json!({"returns": [0.1, 0.2], "period": "1D", "start_date": "soon"}), "soon"),
            (many, "at most 20000"),
        ] {
            let error = take(wrong.clone()).unwrap_err();
            assert!(error.message.contains(words), "{wrong}: {}", error.message);
        }
    }
}

//! `correlation_matrix`: how symbols, or results, move together.

use jobs::JobError;
use risk::dependence::{CorrelationMethod, correlation_matrix, ledoit_wolf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, refusal, unfit, value},
    candles::Candles,
    inputs::Inputs,
    source::Source,
    track::{about, daily},
};

/// Up to so many series the whole matrix is in the summary.
const SHOWN_WHOLE: usize = 8;
/// Else so many of the strongest and the weakest pairs.
const SHOWN_PAIRS: usize = 5;

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrelationRequest {
    /// Of values or of ranks.
    pub method: CorrelationMethod,
    /// Of the intervals.
    pub confidence: f64,
}

impl Default for CorrelationRequest {
    fn default() -> Self {
        Self { method: CorrelationMethod::Pearson, confidence: 0.95 }
    }
}

impl CorrelationRequest {
    pub(crate) fn check(self) -> Result<(), JobError> {
        if self.confidence > 0.0 && self.confidence < 1.0 {
            Ok(())
        } else {
            Err(invalid("confidence", "must be between 0 and 1, both excluded"))
        }
    }
}

/// One of the pairs, by name.
#[derive(Debug, Clone, Serialize)]
struct Pair<'a> {
    a: &'a str,
    b: &'a str,
    value: f64,
    low: f64,
    high: f64,
    p_value: f64,
}

pub(crate) fn compute(
    (candles, source): (Option<&Candles>, Option<&Source>),
    request: CorrelationRequest,
    inputs: &Inputs,
) -> Result<Answer, JobError> {
    let (names, series, data) = match (candles, source) {
        (Some(candles), _) => {
            let aligned = candles.aligned(inputs)?;
            let data = aligned.data(candles, inputs);
            (inputs.names(), aligned.returns, data)
        }
        (None, Some(_)) => of_results(inputs)?,
        (None, None) => return Err(unfit("there is nothing to correlate")),
    };
    let found = correlation_matrix(&series, request.method, request.confidence)
        .map_err(|error| named(&refusal(&error), &names))?;
    let shrunk = ledoit_wolf(&series).map_err(|error| refusal(&error))?;
    let mut pairs: Vec<Pair<'_>> = found
        .pairs
        .iter()
        .map(|pair| Pair {
            a: &names[pair.first],
            b: &names[pair.second],
            value: pair.value,
            low: pair.interval.low,
            high: pair.interval.high,
            p_value: pair.p_value,
        })
        .collect();
    let body = json!({
        "data": data, "method": found.method, "confidence": request.confidence, "observations": found.observations,
        "names": names, "matrix": found.matrix, "pairs": pairs,
        "shrunk": {"shrinkage": shrunk.shrinkage, "correlation": shrunk.correlation},
    });
    #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
    let mean = pairs.iter().map(|pair| pair.value).sum::<f64>() / pairs.len() as f64;
    let mut summary = json!({
        "data": data, "method": found.method, "observations": found.observations, "mean_correlation": mean,
        "shrinkage": shrunk.shrinkage,
    });
    if names.len() <= SHOWN_WHOLE {
        summary["names"] = value(&names);
        summary["matrix"] = rounded(&found.matrix);
    }
    pairs.sort_by(|a, b| b.value.total_cmp(&a.value));
    summary["strongest"] = value(&pairs.iter().take(SHOWN_PAIRS).collect::<Vec<_>>());
    summary["weakest"] =
        value(&pairs.iter().rev().take(SHOWN_PAIRS.min(pairs.len() / 2)).collect::<Vec<_>>());
    Ok(Answer { body, summary })
}

/// The series of an error by its name.
fn named(error: &JobError, names: &[String]) -> JobError {
    let mut renamed = error.clone();
    for (index, name) in names.iter().enumerate().rev() {
        let number = format!("series {index}:");
        if renamed.message.starts_with(&number) {
            renamed.message = renamed.message.replacen(&number, &format!("{name}:"), 1);
        }
    }
    renamed
}

type Named = (Vec<String>, Vec<Vec<f64>>, Value);

/// The daily returns of results over the days that all of them have.
fn of_results(inputs: &Inputs) -> Result<Named, JobError> {
    let all = inputs.results.iter().map(|result| daily(&result.body)).collect::<Result<Vec<_>, _>>()?;
    let first = all.iter().map(|track| track.first_day).max().unwrap_or_default();
    let length = |returns: &[f64]| i64::try_from(returns.len()).unwrap_or(i64::MAX);
    let end = all.iter().map(|track| track.first_day + length(&track.returns)).min().unwrap_or_default();
    let days = usize::try_from(end - first).unwrap_or_default();
    if days < 4 {
        return Err(unfit(format!("the results have {days} days in common, correlations need at least 4")));
    }
    let part = |track: &crate::track::Daily| {
        let skip = usize::try_from(first - track.first_day).unwrap_or_default();
        track.returns[skip..skip + days].to_vec()
    };
    let series = all.iter().map(part).collect();
    let names = inputs.results.iter().enumerate().map(|(number, result)| {
        format!("{}: {}", number + 1, about(result)["backtest"].as_str().unwrap_or_default())
    });
    let data = json!({
        "from": crate::track::date(first * crate::track::DAY_MS), "to": crate::track::date(end * crate::track::DAY_MS),
        "returns": days, "period": "1D",
    });
    Ok((names.collect(), series, data))
}

/// Four digits are more than such a matrix means to a reader.
fn rounded(matrix: &[Vec<f64>]) -> Value {
    let round = |value: &f64| (value * 1e4).round() / 1e4;
    value(&matrix.iter().map(|row| row.iter().map(round).collect::<Vec<_>>()).collect::<Vec<_>>())
}

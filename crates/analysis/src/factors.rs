//! `factor_analysis`: what moves a result.

use std::collections::BTreeMap;

use jobs::JobError;
use risk::{
    Returns,
    factors::{FactorModel, MOST_FACTORS, factor_model, rolling_coefficients},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, refusal, unfit, value},
    candles::Candles,
    inputs::Inputs,
    source::{Source, short},
    track::{Track, date},
};

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FactorRequest {
    /// Returns of factors by name, as many as there are of what is explained; instead of symbols.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub factors: BTreeMap<String, Vec<f64>>,
    /// Periods of the moving window; a quarter of the series (at least what a window needs) by default, none if 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Of the intervals.
    pub confidence: f64,
}

impl Default for FactorRequest {
    fn default() -> Self {
        Self { factors: BTreeMap::new(), window: None, confidence: 0.95 }
    }
}

impl FactorRequest {
    pub(crate) fn check(&self, symbols: bool) -> Result<(), JobError> {
        if symbols != self.factors.is_empty() {
            let message = "give symbols (with exchange) whose daily returns are the factors, or factors ({name: [returns]})";
            return Err(invalid("factors", message));
        }
        if self.factors.len() > MOST_FACTORS {
            return Err(invalid("factors", format!("at most {MOST_FACTORS}")));
        }
        let values: usize = self.factors.values().map(Vec::len).sum();
        if values > crate::source::MOST_RETURNS {
            return Err(invalid("factors", format!("at most {} values in all", crate::source::MOST_RETURNS)));
        }
        if let Some(name) = self.factors.keys().find(|name| name.is_empty() || name.len() > 64) {
            return Err(invalid("factors", format!("the name {:?} must have 1 to 64 bytes", short(name))));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(invalid("confidence", "must be between 0 and 1, both excluded"));
        }
        Ok(())
    }
}

pub(crate) fn compute(
    source: &Source,
    candles: Option<&Candles>,
    request: &FactorRequest,
    inputs: &Inputs,
) -> Result<Answer, JobError> {
    let track = Track::of(source, inputs)?;
    let (names, returns, factors, times) = match candles {
        Some(candles) => by_day(&track, candles, inputs)?,
        None => given(&track, request),
    };
    let model = factor_model(&returns, &factors, request.confidence).map_err(|error| refusal(&error))?;
    let fewest = 20.max(5 * (factors.len() + 1));
    let window = request.window.unwrap_or_else(|| (returns.values().len() / 4).max(fewest));
    let rolling = match window {
        0 => Value::Null,
        window => match rolling_coefficients(&returns, &factors, window) {
            Ok(rows) => json!({"window": window, "ends": times.get(window - 1..), "alpha_and_betas": rows}),
            Err(error) => json!({ "refused": error.to_string() }),
        },
    };
    let shown = shown(&names, &model);
    let body = json!({
        "data": track.data(), "factors": names, "model": model, "rolling": rolling, "verdict": verdict(&names, &model),
        "warning": inputs.warning(),
        "definitions": "least squares with errors by Newey and West; alpha is the return of a period that no factor explains, \
                        alpha_annual the same times the periods of a year",
    });
    let mut summary = json!({"data": track.data(), "model": shown, "verdict": verdict(&names, &model)});
    if let Some(warning) = inputs.warning() {
        summary["warning"] = warning.into();
    }
    Ok(Answer { body, summary })
}

type Explained = (Vec<String>, Returns, Vec<Vec<f64>>, Vec<String>);

fn given(track: &Track, request: &FactorRequest) -> Explained {
    let times = track.start_ms.map_or_else(Vec::new, |start| {
        (1_i64..)
            .take(track.returns.values().len())
            .map(|end| date(start + end * track.period_ms - 1))
            .collect()
    });
    let factors = request.factors.values().cloned().collect();
    (request.factors.keys().cloned().collect(), track.returns.clone(), factors, times)
}

/// What is explained, and the symbols' returns of the same periods.
fn by_day(track: &Track, candles: &Candles, inputs: &Inputs) -> Result<Explained, JobError> {
    let start = track.start_ms.ok_or_else(|| {
        invalid(
            "start_date",
            "say on which day the first of the returns is, so that symbols can be set beside them",
        )
    })?;
    let aligned = candles.aligned(inputs)?;
    let (mut own, mut times) = (Vec::new(), Vec::new());
    let mut factors = vec![Vec::new(); aligned.returns.len()];
    for (row, bar) in aligned.times_ms.iter().enumerate() {
        let since = bar - start;
        if since < 0 || since % track.period_ms != 0 {
            continue;
        }
        let at = usize::try_from(since / track.period_ms).unwrap_or(usize::MAX);
        if let Some(value) = track.returns.values().get(at) {
            own.push(*value);
            times.push(date(*bar));
            for (factor, returns) in factors.iter_mut().zip(&aligned.returns) {
                factor.push(returns[row]);
            }
        }
    }
    if own.len() < 20 {
        return Err(unfit(format!(
            "{} periods are in both the returns and the candles, a regression needs at least 20",
            own.len()
        )));
    }
    let returns = Returns::new(own, track.returns.frequency()).map_err(|error| refusal(&error))?;
    Ok((inputs.names(), returns, factors, times))
}

fn shown(names: &[String], model: &FactorModel) -> Value {
    let betas: serde_json::Map<_, _> = names
        .iter()
        .zip(&model.betas)
        .map(|(name, beta)| {
            let shown = json!({"beta": beta.value, "t": beta.t, "p": beta.p_value, "low": beta.interval.low, "high": beta.interval.high});
            (name.clone(), shown)
        })
        .take(10)
        .collect();
    json!({
        "observations": model.observations, "r_squared": model.r_squared, "adjusted_r_squared": model.adjusted_r_squared,
        "alpha_annual": model.alpha_annual, "alpha_t": model.alpha.t, "alpha_p": model.alpha.p_value, "betas": betas,
        "lags": value(&model.lags),
    })
}

fn verdict(names: &[String], model: &FactorModel) -> String {
    let moved: Vec<_> = names
        .iter()
        .zip(&model.betas)
        .filter(|(_, beta)| beta.p_value < 0.05)
        .map(|(name, beta)| format!("{name} (beta {:.2})", beta.value))
        .take(5)
        .collect();
    let explained = if moved.is_empty() {
        "no factor is significant at 5 %".to_owned()
    } else {
        format!("moved by {}", moved.join(", "))
    };
    let alpha = if model.alpha.p_value < 0.05 {
        format!("what is left is {:.1} % a year, significant at 5 %", 100.0 * model.alpha_annual)
    } else {
        format!("what is left, {:.1} % a year, cannot be told from nothing", 100.0 * model.alpha_annual)
    };
    format!("{explained}; the factors explain {:.0} % of the variance; {alpha}", 100.0 * model.r_squared)
}

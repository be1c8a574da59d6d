//! `regime_detector`: which state a market, or a result, is in.

use jobs::JobError;
use risk::regimes::{RegimeFit, fit_regimes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, refusal, unfit},
    candles::Candles,
    inputs::Inputs,
    source::Source,
    track::Track,
};

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegimeRequest {
    /// 2 or 3.
    pub regimes: usize,
}

impl Default for RegimeRequest {
    fn default() -> Self {
        Self { regimes: 2 }
    }
}

impl RegimeRequest {
    pub(crate) fn check(self) -> Result<(), JobError> {
        if (2..=3).contains(&self.regimes) { Ok(()) } else { Err(invalid("regimes", "must be 2 or 3")) }
    }
}

pub(crate) fn compute(
    (candles, source): (Option<&Candles>, Option<&Source>),
    request: RegimeRequest,
    inputs: &Inputs,
) -> Result<Answer, JobError> {
    let (values, times, per_year, data) = match (candles, source) {
        (Some(candles), _) => {
            let mut aligned = candles.aligned(inputs)?;
            let data = aligned.data(candles, inputs);
            let per_year = candles.periods_per_year();
            (std::mem::take(&mut aligned.returns[0]), aligned.times_ms, per_year, data)
        }
        (None, Some(source)) => {
            let track = Track::of(source, inputs)?;
            let times = track.start_ms.map_or_else(Vec::new, |start| {
                (0..).take(track.returns.values().len()).map(|at: i64| start + at * track.period_ms).collect()
            });
            (track.returns.values().to_vec(), times, track.returns.frequency().get(), track.data())
        }
        (None, None) => return Err(unfit("there is nothing to find regimes in")),
    };
    let fit = fit_regimes(&values, request.regimes).map_err(|error| refusal(&error))?;
    let states = states(&fit, per_year);
    let verdict = verdict(&fit, &states);
    let body = json!({
        "data": data, "fit": fit, "states": states, "verdict": verdict, "times_ms": times, "filtered": fit.filtered,
        "definitions": "a series that switches between normal distributions by a Markov chain; regimes in the order of their \
                        variance, the calm one first; probabilities are filtered: they know what came until then and nothing later, \
                        but the model itself was fitted to the whole series",
    });
    let summary = json!({
        "data": data, "states": states, "now": fit.now, "verdict": verdict,
        "bic": fit.bic, "bic_of_one_regime": fit.bic_of_one_regime,
    });
    Ok(Answer { body, summary })
}

fn states(fit: &RegimeFit, per_year: f64) -> Vec<Value> {
    let count = fit.model.means.len();
    let name = |regime: usize| match (regime, count) {
        (0, _) => "calm",
        (1, 3) => "middle",
        _ => "turbulent",
    };
    (0..count)
        .map(|regime| {
            let share: f64 = fit.filtered.iter().map(|now| now[regime]).sum();
            #[expect(clippy::cast_precision_loss, reason = "20,000 at most")]
            let share = share / fit.filtered.len().max(1) as f64;
            json!({
                "name": name(regime),
                "annual_volatility": (fit.model.variances[regime] * per_year).sqrt(),
                "annual_mean": fit.model.means[regime] * per_year,
                "mean_periods": fit.mean_periods[regime],
                "share_of_time": share,
            })
        })
        .collect()
}

fn verdict(fit: &RegimeFit, states: &[Value]) -> String {
    if fit.bic >= fit.bic_of_one_regime {
        return "one regime describes the series as well: do not trade on these".to_owned();
    }
    let now = fit.now.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    now.map_or_else(String::new, |(regime, probability)| {
        let name = states[regime]["name"].as_str().unwrap_or_default();
        format!("at the end: {name}, with probability {probability:.2}")
    })
}

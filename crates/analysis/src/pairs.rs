//! `pairs_backtest`: whether two symbols are tied.

use jobs::JobError;
use risk::{
    dependence::{CorrelationMethod, correlation_matrix},
    pairs::{EngleGranger, HalfLife, engle_granger_both, half_life, johansen, rolling_z_scores},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    answer::{Answer, invalid, or_refused, refusal, unfit, value},
    inputs::Inputs,
    spec::Candles,
    track::date,
};

/// The longest series that is tested: what the tests take at most.
const MOST_BARS: usize = 20_000;

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairsRequest {
    /// Lagged differences of Johansen's test.
    pub lags: usize,
    /// Bars before each from which its z-score is computed.
    pub window: usize,
    /// Of the half-life's interval.
    pub confidence: f64,
}

impl Default for PairsRequest {
    fn default() -> Self {
        Self { lags: 1, window: 60, confidence: 0.95 }
    }
}

impl PairsRequest {
    pub(crate) fn check(self) -> Result<(), JobError> {
        if self.lags > 50 {
            return Err(invalid("lags", "must be at most 50"));
        }
        if !(10..=5000).contains(&self.window) {
            return Err(invalid("window", "must be from 10 to 5000 bars"));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(invalid("confidence", "must be between 0 and 1, both excluded"));
        }
        Ok(())
    }
}

pub(crate) fn compute(candles: &Candles, request: PairsRequest, inputs: &Inputs) -> Result<Answer, JobError> {
    let aligned = candles.aligned(inputs)?;
    let names = inputs.names();
    let [first, second] = &aligned.closes[..] else { return Err(invalid("symbols", "a pair has two")) };
    if first.len() > MOST_BARS {
        let message = format!("{} bars, at most {MOST_BARS} are tested: use a longer timeframe", first.len());
        return Err(unfit(message));
    }
    let logs = [first, second].map(|closes| closes.iter().map(|close| close.ln()).collect::<Vec<f64>>());
    let [on_second, on_first] = engle_granger_both(&logs[0], &logs[1]).map_err(|error| refusal(&error))?;
    let rank = johansen(&logs, request.lags);
    // The direction that says more is the one to trade, and the weaker one is the one to believe.
    let (chosen, explained) =
        if on_second.statistic <= on_first.statistic { (&on_second, 0) } else { (&on_first, 1) };
    let half = half_life(&chosen.spread, request.confidence).map_err(|error| refusal(&error))?;
    let scores = rolling_z_scores(&chosen.spread, request.window);
    let last = scores.as_ref().ok().and_then(|scores| scores.last().copied().flatten());
    let correlation = correlation_matrix(&aligned.returns, CorrelationMethod::Pearson, 0.95);
    let correlation = correlation.map(|found| found.pairs.first().map(|pair| pair.value));
    let verdict = verdict(&names, (&on_second, &on_first), &half, explained);
    let data = aligned.data(candles, inputs);
    let tests = json!({
        "first_on_second": on_second, "second_on_first": on_first,
        "johansen": or_refused(rank), "half_life": half, "correlation_of_returns": or_refused(correlation),
    });
    let ends: Vec<_> = aligned.bars_ms.iter().map(|time| date(*time)).collect();
    let body = json!({
        "data": data, "symbols": names, "tests": tests, "explained": names[explained], "spread": chosen.spread,
        "z_scores": {"window": request.window, "values": or_refused(scores)}, "days": ends, "verdict": verdict,
        "definitions": "log prices; the spread is the explained symbol's less hedge_ratio times the other's less the intercept; a \
                        z-score takes mean and deviation from the window before it",
    });
    let brief = |test: &EngleGranger| json!({"hedge_ratio": test.hedge_ratio, "statistic": test.statistic, "p_value": test.p_value});
    let summary = json!({
        "data": data, "symbols": names, "first_on_second": brief(&on_second), "second_on_first": brief(&on_first),
        "johansen_cointegrated": tests["johansen"]["cointegrated"], "half_life_bars": half.periods,
        "half_life_interval": [value(&half.low), value(&half.high)], "explained": names[explained], "z_score_now": last,
        "correlation_of_returns": tests["correlation_of_returns"], "verdict": verdict,
    });
    Ok(Answer { body, summary })
}

fn verdict(
    names: &[String],
    (on_second, on_first): (&EngleGranger, &EngleGranger),
    half: &HalfLife,
    explained: usize,
) -> String {
    let weaker = on_second.p_value.max(on_first.p_value);
    let stronger = on_second.p_value.min(on_first.p_value);
    let pair = names.join(" and ");
    if stronger >= 0.05 {
        return format!(
            "no evidence that {pair} are tied (Engle-Granger p = {stronger:.3} at best): do not trade their spread"
        );
    }
    let returns = half.periods.map_or_else(
        || "its half-life is undefined".to_owned(),
        |periods| format!("half of a deviation is gone in {periods:.0} bars"),
    );
    let both =
        if weaker < 0.05 { "in both directions" } else { "in one direction only, which is weak evidence" };
    format!(
        "{pair} are cointegrated {both} (p = {stronger:.4} and {weaker:.4}); {} is the one to hedge, {returns}",
        names[explained]
    )
}

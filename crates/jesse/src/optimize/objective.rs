//! How good a trial is, from the metrics of its backtest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which ratio is to be large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Sharpe ratio.
    #[default]
    Sharpe,
    /// Sortino ratio.
    Sortino,
    /// Calmar ratio.
    Calmar,
    /// Omega ratio.
    Omega,
}

impl Objective {
    /// The metric, and the ratio that counts as 1: the scale that Jesse's own optimisation has (`fitness.py`). -0.5
    /// counts as 0.
    fn metric(self) -> (&'static str, f64) {
        match self {
            Self::Sharpe => ("sharpe_ratio", 5.0),
            Self::Sortino => ("sortino_ratio", 15.0),
            Self::Calmar => ("calmar_ratio", 30.0),
            Self::Omega => ("omega_ratio", 5.0),
        }
    }
}

/// The score of what is no use: too few trades, a negative ratio, no ratio at all.
pub const USELESS: f64 = 0.0001;
/// Fewer trades than this say nothing. (As in Jesse.)
const TRADES_LEAST: f64 = 6.0;

/// The score of a backtest with these metrics: the ratio on its scale, times `log10(trades) / log10(optimal_trades)`
/// capped at 1, so that a few lucky trades do not win. The formula is that of Jesse 3.5.3 (`get_fitness`), so that scores
/// can be compared with its own.
pub fn score(metrics: &Value, objective: Objective, optimal_trades: u32) -> f64 {
    let number = |name: &str| metrics.get(name).and_then(Value::as_f64).filter(|value| value.is_finite());
    let (name, scale) = objective.metric();
    let (Some(trades), Some(ratio)) = (number("total"), number(name)) else { return USELESS };
    if trades < TRADES_LEAST || ratio < 0.0 {
        return USELESS;
    }
    let effect = (trades.log10() / f64::from(optimal_trades).log10()).min(1.0);
    effect * (ratio + 0.5) / (scale + 0.5)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_score_is_the_one_that_jesse_gives() {
        // log10(50) / log10(200) * (1.5 + 0.5) / 5.5
        let metrics = json!({"total": 50, "sharpe_ratio": 1.5});
        let expected = 50_f64.log10() / 200_f64.log10() * 2.0 / 5.5;
        assert!((score(&metrics, Objective::Sharpe, 200) - expected).abs() < 1e-15);
        let many = json!({"total": 900, "calmar_ratio": 30.0});
        assert!(
            (score(&many, Objective::Calmar, 200) - 1.0).abs() < 1e-15,
            "the number of trades counts up to a bound"
        );
    }

    #[test]
    fn what_says_nothing_is_useless() {
        for metrics in [
            json!({}),
            json!({"total": 5, "sharpe_ratio": 9.0}),
            json!({"total": 50, "sharpe_ratio": -0.1}),
            json!({"total": 50, "sharpe_ratio": null}),
        ] {
            assert_eq!(score(&metrics, Objective::Sharpe, 200).to_bits(), USELESS.to_bits(), "{metrics}");
        }
    }
}

//! What a careful reader asks about a result whose figures look good.

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::number::{count, ratio, whole};
use crate::performance::performance;
use crate::sample;
use crate::series::{Returns, Trades};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing unusual.
    Fine,
    /// Something to look at before the figures are believed.
    Warning,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HonestyCheck {
    /// Its name, stable: `few_days_carry_the_profit`, `few_trades_carry_the_profit`, `idle_periods`, `autocorrelation`,
    /// `too_good`, `short_record`, `skewed_against`.
    pub name: &'static str,
    /// What it found.
    pub finding: Finding,
    /// The figure and why it matters, in a sentence.
    pub reason: String,
}

/// An annual Sharpe ratio above which an error in the backtest is likelier than the edge.
const TOO_GOOD: f64 = 5.0;

/// Runs all checks that apply.
pub fn honesty_checks(returns: &Returns, trades: Option<&Trades>) -> Vec<HonestyCheck> {
    let values = returns.values();
    let mut checks = Vec::new();
    let logs: Vec<f64> = values.iter().map(|value| value.ln_1p()).collect();
    let few = whole(0.01 * count(values.len())).max(1);
    checks.extend(concentration("few_days_carry_the_profit", "periods", &logs, few));
    if let Some(trades) = trades {
        let profits: Vec<f64> = trades.as_slice().iter().map(|trade| trade.profit).collect();
        let few = whole(0.05 * count(profits.len())).max(1);
        checks.extend(concentration("few_trades_carry_the_profit", "trades", &profits, few));
    }
    checks.push(idle(values));
    checks.extend(autocorrelation(values));
    checks.extend(shape(returns));
    checks.push(length(returns));
    checks
}

fn check(name: &'static str, warning: bool, reason: String) -> HonestyCheck {
    HonestyCheck { name, finding: if warning { Finding::Warning } else { Finding::Fine }, reason }
}

/// Whether a gain is gone without its best few; nothing to check for a loss.
fn concentration(name: &'static str, unit: &str, gains: &[f64], few: usize) -> Option<HonestyCheck> {
    let total: f64 = gains.iter().sum();
    if total <= 0.0 || gains.len() <= few {
        return None;
    }
    let sorted = sample::sorted(gains);
    let best: f64 = sorted[sorted.len() - few..].iter().sum();
    let reason =
        format!("the best {few} of {} {unit} make {:.0} % of the gain", gains.len(), 100.0 * best / total);
    Some(check(name, best >= total, reason))
}

fn idle(values: &[f64]) -> HonestyCheck {
    let idle = count(values.iter().filter(|value| **value == 0.0).count()) / count(values.len());
    let reason = format!(
        "{:.0} % of the periods have a return of exactly 0; many of them make the effective sample smaller than it looks",
        100.0 * idle
    );
    check("idle_periods", idle > 0.5, reason)
}

/// The test of Ljung and Box (1978) at 10 lags.
fn autocorrelation(values: &[f64]) -> Option<HonestyCheck> {
    const LAGS: usize = 10;
    let variance = sample::autocovariance(values, 0);
    if values.len() <= 2 * LAGS || sample::is_constant(values) {
        return None;
    }
    let n = count(values.len());
    let sum: f64 = (1..=LAGS)
        .map(|lag| (sample::autocovariance(values, lag) / variance).powi(2) / (n - count(lag)))
        .sum();
    let p_value = ChiSquared::new(count(LAGS)).ok()?.sf(n * (n + 2.0) * sum);
    let first = ratio(sample::autocovariance(values, 1), variance)?;
    let reason = format!(
        "autocorrelation of {first:.2} at the first lag, Ljung-Box p = {p_value:.3} at {LAGS}; returns that follow their \
         predecessors make volatility and Sharpe ratio look better than they are"
    );
    Some(check("autocorrelation", p_value < 0.01 && first > 0.0, reason))
}

fn shape(returns: &Returns) -> Vec<HonestyCheck> {
    let figures = performance(returns);
    let mut checks = Vec::new();
    if let Some(sharpe) = figures.sharpe {
        let reason = format!(
            "an annual Sharpe ratio of {sharpe:.2}; above {TOO_GOOD:.0} look for a use of the future, missing fees or fills \
             that no market gives"
        );
        checks.push(check("too_good", sharpe > TOO_GOOD, reason));
    }
    if let (Some(skewness), Some(kurtosis)) = (figures.skewness, figures.kurtosis) {
        let reason = format!(
            "skewness {skewness:.2}, kurtosis {kurtosis:.1} (3 is normal); small gains and rare large losses look safe until \
             the loss comes"
        );
        checks.push(check("skewed_against", skewness < -1.0 && kurtosis > 6.0, reason));
    }
    checks
}

fn length(returns: &Returns) -> HonestyCheck {
    let years = returns.years();
    check(
        "short_record",
        years < 1.0,
        format!("{years:.2} years; less than one does not see every season of a market"),
    )
}

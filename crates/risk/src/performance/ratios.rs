//! The usual figures of performance and their bootstrap intervals.

use schemars::JsonSchema;
use serde::Serialize;

use super::max_drawdown;
use crate::bootstrap::{BootstrapOptions, block_length_for, percentile_interval, replicate};
use crate::error::{RiskError, at_least};
use crate::interval::Interval;
use crate::number::{count, ratio};
use crate::sample;
use crate::series::Returns;

/// Figures of a series of returns. Fractions, not percent; annualised ones with the frequency of the series. `null` where a
/// figure is undefined, for instance every ratio over the volatility of a constant series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Performance {
    /// How many returns.
    pub periods: usize,
    /// How many of them make a year.
    pub periods_per_year: f64,
    /// Compounded: `prod(1 + r) - 1`.
    pub total_return: f64,
    /// Compound annual growth rate: `prod(1 + r)^(1 / years) - 1`. Below one year it extrapolates.
    pub cagr: Option<f64>,
    /// Mean return of a period.
    pub mean: f64,
    /// Standard deviation of a period (divisor n - 1) times the root of the periods per year.
    pub volatility: f64,
    /// Mean over standard deviation, times the root of the periods per year; no rate of interest is subtracted.
    pub sharpe: Option<f64>,
    /// Mean over `sqrt(mean(min(r, 0)^2))` of **all** periods, times the root of the periods per year.
    pub sortino: Option<f64>,
    /// CAGR over the largest drawdown.
    pub calmar: Option<f64>,
    /// Sum of gains over sum of losses, with the threshold 0.
    pub omega: Option<f64>,
    /// Third standardised moment (divisor n).
    pub skewness: Option<f64>,
    /// Fourth standardised moment (divisor n), **raw**: 3 for the normal distribution.
    pub kurtosis: Option<f64>,
    /// Largest loss from a peak as a fraction of the peak, the start counting as a point.
    pub max_drawdown: f64,
    /// The largest return.
    pub best: f64,
    /// The smallest return.
    pub worst: f64,
    /// Fraction of periods with a return above 0.
    pub positive: f64,
}

/// Computes the figures.
pub fn performance(returns: &Returns) -> Performance {
    let values = returns.values();
    let shape = sample::shape(values);
    let figures = figures(values, returns.frequency().get());
    Performance {
        periods: values.len(),
        periods_per_year: returns.frequency().get(),
        // Beyond the largest number only with hundreds of absurd returns; it stays a number then.
        total_return: values.iter().fold(1.0_f64, |wealth, value| (wealth * (1.0 + value)).min(f64::MAX))
            - 1.0,
        cagr: figures.cagr,
        mean: sample::mean(values),
        volatility: figures.volatility,
        sharpe: figures.sharpe,
        sortino: figures.sortino,
        calmar: figures.calmar,
        omega: figures.omega,
        skewness: shape.map(|shape| shape.skewness),
        kurtosis: shape.map(|shape| shape.kurtosis),
        max_drawdown: figures.max_drawdown,
        best: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        worst: values.iter().copied().fold(f64::INFINITY, f64::min),
        positive: count(values.iter().filter(|value| **value > 0.0).count()) / count(values.len()),
    }
}

/// What the bootstrap recomputes for each replicate.
struct Figures {
    cagr: Option<f64>,
    volatility: f64,
    sharpe: Option<f64>,
    sortino: Option<f64>,
    calmar: Option<f64>,
    omega: Option<f64>,
    max_drawdown: f64,
}

fn figures(values: &[f64], periods_per_year: f64) -> Figures {
    let root = periods_per_year.sqrt();
    let log_wealth: f64 = values.iter().map(|value| value.ln_1p()).sum();
    let cagr = crate::number::finite((log_wealth * periods_per_year / count(values.len())).exp_m1());
    let deviation = sample::deviation(values);
    let max_drawdown = max_drawdown(values);
    Figures {
        cagr,
        volatility: deviation * root,
        sharpe: ratio(sample::mean(values) * root, deviation),
        sortino: sortino_per_period(values, 0.0).map(|sortino| sortino * root),
        calmar: cagr.and_then(|cagr| ratio(cagr, max_drawdown)),
        omega: omega(values, 0.0),
        max_drawdown,
    }
}

/// Sortino ratio of a period: `(mean - target) / sqrt(mean(min(r - target, 0)^2))`, the mean over all periods (Sortino and
/// van der Meer 1991). `None` if no return is below the target.
pub fn sortino_per_period(values: &[f64], target: f64) -> Option<f64> {
    let downside: f64 = values.iter().map(|value| (value - target).min(0.0).powi(2)).sum();
    ratio(sample::mean(values) - target, (downside / count(values.len())).sqrt())
}

/// Omega ratio (Keating and Shadwick 2002): `sum(max(r - threshold, 0)) / sum(max(threshold - r, 0))`. `None` without a return
/// below the threshold.
pub fn omega(values: &[f64], threshold: f64) -> Option<f64> {
    let (gains, losses) = values.iter().fold((0.0, 0.0), |(gains, losses), value| {
        let over = value - threshold;
        (gains + over.max(0.0), losses - over.min(0.0))
    });
    ratio(gains, losses)
}

/// Percentile intervals from the stationary bootstrap. A ratio whose denominator vanishes in more than 5 % of the replicates
/// has none (`null`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct PerformanceIntervals {
    /// Mean block length that was used, in periods.
    pub block_length: f64,
    /// How many replicates.
    pub replications: usize,
    /// Of the mean return of a period.
    pub mean: Option<Interval>,
    /// Of [`Performance::cagr`].
    pub cagr: Option<Interval>,
    /// Of [`Performance::volatility`].
    pub volatility: Option<Interval>,
    /// Of [`Performance::sharpe`].
    pub sharpe: Option<Interval>,
    /// Of [`Performance::sortino`].
    pub sortino: Option<Interval>,
    /// Of [`Performance::calmar`].
    pub calmar: Option<Interval>,
    /// Of [`Performance::omega`].
    pub omega: Option<Interval>,
    /// Of the largest drawdown that a period of the same length would have.
    pub max_drawdown: Option<Interval>,
}

/// Resamples the returns in blocks and recomputes every figure.
///
/// Needs 20 returns: from fewer, resampling understates what is not known.
pub fn performance_intervals(
    returns: &Returns,
    options: &BootstrapOptions,
) -> Result<PerformanceIntervals, RiskError> {
    let values = returns.values();
    at_least("returns for intervals", values.len(), 20)?;
    let block_length = block_length_for(values, options.block_length)?;
    let periods_per_year = returns.frequency().get();
    let options = BootstrapOptions { block_length: Some(block_length), ..*options };
    let replicates = replicate(values, &options, |replicate| {
        let Figures { cagr, volatility, sharpe, sortino, calmar, omega, max_drawdown } =
            figures(replicate, periods_per_year);
        let or_nan = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        [
            sample::mean(replicate),
            or_nan(cagr),
            volatility,
            or_nan(sharpe),
            or_nan(sortino),
            or_nan(calmar),
            or_nan(omega),
            max_drawdown,
        ]
    })?;
    let interval =
        |at: usize| percentile_interval(replicates.iter().map(|figures| figures[at]), options.confidence);
    Ok(PerformanceIntervals {
        block_length,
        replications: options.replications,
        mean: interval(0),
        cagr: interval(1),
        volatility: interval(2),
        sharpe: interval(3),
        sortino: interval(4),
        calmar: interval(5),
        omega: interval(6),
        max_drawdown: interval(7),
    })
}

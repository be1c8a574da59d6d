//! One question, several methods: how much is lost over a horizon with a given confidence.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filtered;
use super::methods::{Pair, cornish_fisher, ewma_deviation, gaussian, historical, historical_of_sorted};
use crate::bootstrap::{Blocks, block_length_for, check_size, stream};
use crate::error::{RiskError, at_least, at_most, open_unit};
use crate::number::{ceil_count, count};
use crate::sample;
use crate::series::Returns;

/// How value at risk is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TailMethod {
    /// Order statistic of the observed returns, or of all compounded windows (overlapping) of the horizon.
    Historical,
    /// The normal distribution; over a horizon with the exact mean and variance of a product of independent returns.
    Gaussian,
    /// The normal distribution corrected for skewness and kurtosis. One period only.
    CornishFisher,
    /// The normal distribution about zero with exponentially weighted volatility. One period only.
    Ewma,
    /// Returns in units of their volatility, applied to the volatility of now; over a horizon by simulation. Sound for some
    /// weeks of days: exponential weighting knows no level that volatility returns to, so over hundreds of periods it runs away.
    FilteredHistorical,
    /// Simulated: the horizon is resampled in blocks and compounded.
    MonteCarlo,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TailOptions {
    /// Between 0 and 1, usually 0.95 or 0.99.
    pub confidence: f64,
    /// How many periods ahead, at least 1.
    pub horizon: usize,
    /// Decay of exponential weighting, between 0 and 1.
    pub decay: f64,
    /// Paths of a simulation.
    pub paths: usize,
    /// Mean block length in periods of a Monte Carlo simulation; `null` chooses it from the series.
    pub block_length: Option<f64>,
    /// Same seed, same result.
    pub seed: u64,
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { confidence: 0.95, horizon: 1, decay: 0.94, paths: 10_000, block_length: None, seed: 0 }
    }
}

/// Losses as positive fractions of the wealth at the start of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TailRisk {
    /// The method.
    pub method: TailMethod,
    /// The confidence.
    pub confidence: f64,
    /// Periods ahead.
    pub horizon: usize,
    /// The loss that is exceeded with probability `1 - confidence`. Negative: even then there is a gain.
    pub value_at_risk: f64,
    /// The mean loss in the worst `1 - confidence` of all cases.
    pub expected_shortfall: f64,
    /// How many outcomes the answer is read from: observed ones, windows or paths.
    pub outcomes: usize,
    /// Standard error of the value at risk by the number of paths alone; `null` where nothing was simulated.
    pub simulation_error: Option<f64>,
    /// Mean block length of a Monte Carlo simulation.
    pub block_length: Option<f64>,
}

/// Computes one of the methods.
pub fn tail_risk(
    returns: &Returns,
    method: TailMethod,
    options: &TailOptions,
) -> Result<TailRisk, RiskError> {
    let values = returns.values();
    open_unit("confidence", options.confidence)?;
    at_least("horizon", options.horizon, 1)?;
    at_most("horizon", options.horizon, 10_000)?;
    if matches!(method, TailMethod::Gaussian | TailMethod::CornishFisher) {
        at_least("returns for a parametric value at risk", values.len(), 20)?;
    }
    if matches!(method, TailMethod::FilteredHistorical | TailMethod::MonteCarlo) {
        check_size(options.paths, options.horizon)?;
        at_least("paths", options.paths, ceil_count(10.0 / (1.0 - options.confidence)))?;
    }
    let answer = |(value_at_risk, expected_shortfall): Pair, outcomes: usize| TailRisk {
        method,
        confidence: options.confidence,
        horizon: options.horizon,
        value_at_risk,
        expected_shortfall,
        outcomes,
        simulation_error: None,
        block_length: None,
    };
    match method {
        TailMethod::Historical => {
            let outcomes = compounded_windows(values, options.horizon)?;
            Ok(answer(historical(&outcomes, options.confidence)?, outcomes.len()))
        }
        TailMethod::Gaussian => {
            let (mean, deviation) = compounded_moments(values, options.horizon);
            Ok(answer(gaussian(mean, deviation, options.confidence)?, values.len()))
        }
        TailMethod::CornishFisher => {
            one_period_only(options)?;
            let shape = sample::shape(values).ok_or_else(|| RiskError::Constant {
                what: "the series of returns".to_owned(),
                undefined: "its skewness",
            })?;
            let (mean, deviation) = compounded_moments(values, 1);
            let pair =
                cornish_fisher(mean, deviation, shape.skewness, shape.kurtosis - 3.0, options.confidence)?;
            Ok(answer(pair, values.len()))
        }
        TailMethod::Ewma => {
            one_period_only(options)?;
            let deviation = ewma_deviation(values, options.decay)?;
            Ok(answer(gaussian(0.0, deviation, options.confidence)?, values.len()))
        }
        TailMethod::FilteredHistorical => {
            let (residuals, deviation) = filtered::standardised(values, options.decay)?;
            if options.horizon == 1 {
                let outcomes = filtered::one_period(&residuals, deviation);
                return Ok(answer(historical(&outcomes, options.confidence)?, outcomes.len()));
            }
            let (horizon, paths) = (options.horizon, options.paths);
            let outcomes =
                filtered::simulate(&residuals, deviation, options.decay, horizon, paths, options.seed)?;
            Ok(simulated(
                answer(historical_of_sorted(&outcomes, options.confidence), outcomes.len()),
                &outcomes,
            ))
        }
        TailMethod::MonteCarlo => {
            let block_length = block_length_for(values, options.block_length)?;
            let outcomes = compounded_blocks(values, block_length, options)?;
            let answer = answer(historical_of_sorted(&outcomes, options.confidence), outcomes.len());
            Ok(TailRisk { block_length: Some(block_length), ..simulated(answer, &outcomes) })
        }
    }
}

fn one_period_only(options: &TailOptions) -> Result<(), RiskError> {
    if options.horizon == 1 {
        return Ok(());
    }
    Err(RiskError::Unsupported(
        "this method has no sound value for more than one period: use historical, gaussian, filtered_historical or monte_carlo \
         for a longer horizon",
    ))
}

/// Compounded returns of all windows of `horizon` periods, overlapping.
fn compounded_windows(values: &[f64], horizon: usize) -> Result<Vec<f64>, RiskError> {
    at_least("returns for this horizon", values.len(), horizon + 1)?;
    Ok(values
        .windows(horizon)
        .map(|window| window.iter().fold(1.0, |wealth, value| wealth * (1.0 + value)) - 1.0)
        .collect())
}

/// Mean and standard deviation of the product of `horizon` independent returns, less 1:
/// `(1 + m)^h - 1` and `sqrt(((1 + m)^2 + s^2)^h - (1 + m)^(2 h))`.
fn compounded_moments(values: &[f64], horizon: usize) -> (f64, f64) {
    let (mean, variance) = (sample::mean(values), sample::variance(values));
    if horizon == 1 {
        return (mean, variance.sqrt());
    }
    let h = count(horizon);
    let growth = h * mean.ln_1p();
    let spread = (h * (variance / (1.0 + mean).powi(2)).ln_1p()).exp_m1();
    (growth.exp_m1(), growth.exp() * spread.sqrt())
}

/// Compounded returns of simulated horizons, sorted.
fn compounded_blocks(
    values: &[f64],
    block_length: f64,
    options: &TailOptions,
) -> Result<Vec<f64>, RiskError> {
    let blocks = Blocks::new(values.len(), block_length)?;
    let mut outcomes: Vec<f64> = (0..options.paths)
        .into_par_iter()
        .map(|path| {
            let mut wealth = 1.0;
            blocks.draw(&mut stream(options.seed, path), options.horizon, |position| {
                wealth *= 1.0 + values[position as usize];
            });
            wealth - 1.0
        })
        .collect();
    outcomes.sort_unstable_by(f64::total_cmp);
    Ok(outcomes)
}

/// With the error of the quantile: half the distance between the order statistics one binomial standard deviation to each side.
fn simulated(answer: TailRisk, sorted: &[f64]) -> TailRisk {
    let tail = 1.0 - answer.confidence;
    let step = (tail * answer.confidence / count(sorted.len())).sqrt();
    let spread = sample::quantile(sorted, tail + step) - sample::quantile(sorted, tail - step);
    TailRisk { simulation_error: Some(spread / 2.0), ..answer }
}

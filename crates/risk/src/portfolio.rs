//! Several equity curves as one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{RiskError, all_finite, at_least, at_most};
use crate::number::ratio;
use crate::sample;
use crate::series::{DAY_MS, EquityCurve};

/// What becomes of the weights as the parts gain and lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rebalancing {
    /// Set back to the start every day, without cost.
    Daily,
    /// Never: each part goes on with what it has.
    Never,
}

/// The part of one curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Contribution {
    /// Its weight at the start.
    pub weight: f64,
    /// Standard deviation of its daily returns.
    pub deviation: f64,
    /// Its share of the variance of the daily rebalanced portfolio, `w_i cov(r_i, r) / var(r)`; all sum to 1. `null` if the
    /// portfolio does not vary.
    pub share_of_variance: Option<f64>,
}

/// A combination of curves.
#[derive(Debug, Clone, PartialEq)]
pub struct Portfolio {
    /// Its equity by day (UTC), from 1, over the days that all curves have.
    pub equity: EquityCurve,
    /// The daily returns of each curve over these days.
    pub returns: Vec<Vec<f64>>,
    /// One for each curve.
    pub contributions: Vec<Contribution>,
    /// Weighted sum of the deviations over the deviation of the sum: 1 for curves that move as one, the larger the better they
    /// offset each other. `None` if the portfolio does not vary.
    pub diversification: Option<f64>,
}

/// Combines 1 to 1,000 curves over the days they have in common, at least 2. Weights are at least 0 and sum to 1.
pub fn combine(
    curves: &[EquityCurve],
    weights: &[f64],
    rebalancing: Rebalancing,
) -> Result<Portfolio, RiskError> {
    at_least("curves", curves.len(), 1)?;
    at_most("curves", curves.len(), 1_000)?;
    check_weights(weights, curves.len())?;
    let daily = curves.iter().map(EquityCurve::daily).collect::<Result<Vec<_>, _>>()?;
    let first = daily.iter().map(|curve| curve.times_ms()[0]).max().unwrap_or(0);
    let last = daily.iter().map(|curve| curve.times_ms()[curve.times_ms().len() - 1]).min().unwrap_or(0);
    let days = usize::try_from((last - first).div_euclid(DAY_MS) + 1).unwrap_or(0);
    at_least("days that all curves have in common", days, 2)?;
    let levels: Vec<&[f64]> = daily
        .iter()
        .map(|curve| {
            let skip = curve.times_ms().partition_point(|time| *time < first);
            &curve.values()[skip..skip + days]
        })
        .collect();
    let returns: Vec<Vec<f64>> = levels.iter().map(|levels| crate::series::changes(levels)).collect();
    let mixed: Vec<f64> = (0..days - 1)
        .map(|day| weights.iter().zip(&returns).map(|(weight, part)| weight * part[day]).sum())
        .collect();
    let values: Vec<f64> = match rebalancing {
        Rebalancing::Daily => std::iter::once(1.0)
            .chain(mixed.iter().scan(1.0, |level, change| {
                *level *= 1.0 + change;
                Some(*level)
            }))
            .collect(),
        Rebalancing::Never => (0..days)
            .map(|day| {
                weights.iter().zip(&levels).map(|(weight, level)| weight * level[day] / level[0]).sum()
            })
            .collect(),
    };
    let times = &daily[0].times_ms()[daily[0].times_ms().partition_point(|time| *time < first)..];
    let contributions = contributions(weights, &returns, &mixed);
    let apart: f64 = contributions.iter().map(|part| part.weight * part.deviation).sum();
    Ok(Portfolio {
        equity: EquityCurve::new(times[..days].to_vec(), values)?,
        returns,
        diversification: ratio(apart, sample::deviation(&mixed)),
        contributions,
    })
}

fn check_weights(weights: &[f64], curves: usize) -> Result<(), RiskError> {
    if weights.len() != curves {
        return Err(RiskError::LengthMismatch {
            what: "weights".to_owned(),
            found: weights.len(),
            expected: curves,
        });
    }
    all_finite("weights", weights)?;
    let allowed = "at least 0, with a sum of 1";
    if let Some(&value) = weights.iter().find(|weight| **weight < 0.0) {
        return Err(RiskError::OutOfRange { name: "weight", value, allowed });
    }
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > 1e-6 {
        return Err(RiskError::OutOfRange { name: "sum of the weights", value: sum, allowed });
    }
    Ok(())
}

fn contributions(weights: &[f64], returns: &[Vec<f64>], mixed: &[f64]) -> Vec<Contribution> {
    let mean = sample::mean(mixed);
    let squares: f64 = mixed.iter().map(|value| (value - mean).powi(2)).sum();
    let constant = sample::is_constant(mixed);
    let parts = weights.iter().zip(returns).map(|(&weight, part)| {
        let own = sample::mean(part);
        let product: f64 = part.iter().zip(mixed).map(|(a, b)| (a - own) * (b - mean)).sum();
        let share_of_variance = if constant { None } else { ratio(weight * product, squares) };
        Contribution { weight, deviation: sample::deviation(part), share_of_variance }
    });
    parts.collect()
}

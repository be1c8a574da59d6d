//! Regimes: a series that switches between normal distributions by a Markov chain (Hamilton 1989).
//!
//! Only **filtered** probabilities are given, which know what came until then. Smoothed ones know the future, and a backtest that
//! trades on them earns it. The parameters are estimated from the whole series they are fitted to, so to judge a rule fit them
//! on an early part and [`filter`] the later one.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{RiskError, all_finite, at_least, at_most};
use crate::number::count;
use crate::sample;

/// A switching model. Regimes are in the order of their variance, the calm one first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegimeModel {
    /// Mean of a period in each regime.
    pub means: Vec<f64>,
    /// Variance of a period in each regime.
    pub variances: Vec<f64>,
    /// Row i: the probabilities of the next regime, given regime i now. Each row sums to 1.
    pub transition: Vec<Vec<f64>>,
    /// Probabilities of the first period.
    pub start: Vec<f64>,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RegimeFit {
    /// The model.
    pub model: RegimeModel,
    /// Its log-likelihood.
    pub log_likelihood: f64,
    /// Schwarz's criterion, the smaller the better.
    pub bic: f64,
    /// The same of a single normal distribution.
    pub bic_of_one_regime: f64,
    /// How many periods a regime lasts in the mean, `1 / (1 - p_ii)`; `null` for one that is never left.
    pub mean_periods: Vec<Option<f64>>,
    /// For each period the probability of each regime, given the periods until then.
    #[serde(skip)]
    pub filtered: Vec<Vec<f64>>,
    /// The probabilities of the last period.
    pub now: Vec<f64>,
}

/// Most iterations of one start.
const MOST_ITERATIONS: usize = 2_000;

/// Fits 2 or 3 regimes by expectation maximisation (Baum and Welch) from several starts, and keeps the likeliest. The start
/// probabilities are free; no variance may fall below a millionth of that of the series, below which the likelihood has no maximum.
///
/// Needs 100 values that vary, and takes 20,000 at most. The same values give the same fit: nothing is random.
pub fn fit_regimes(values: &[f64], regimes: usize) -> Result<RegimeFit, RiskError> {
    if !(2..=3).contains(&regimes) {
        return Err(RiskError::OutOfRange { name: "regimes", value: count(regimes), allowed: "2 or 3" });
    }
    at_least("values for regimes", values.len(), 100)?;
    at_most("values for regimes", values.len(), 20_000)?;
    all_finite("values for regimes", values)?;
    if sample::is_constant(values) {
        return Err(RiskError::Constant { what: "the series".to_owned(), undefined: "its regimes" });
    }
    let fits: Vec<_> = STARTS
        .par_iter()
        .filter_map(|&(spread, shift, stay)| maximise(values, start(values, regimes, spread, shift, stay)))
        .collect();
    let best = fits.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (model, log_likelihood) =
        best.ok_or(RiskError::NotConverged { what: "regimes", iterations: MOST_ITERATIONS })?;
    let model = by_variance(&model);
    let filtered = filter(&model, values)?;
    let n = count(values.len());
    let parameters = count(regimes * 2 + regimes * (regimes - 1) + regimes - 1);
    let variance = sample::variance(values) * (n - 1.0) / n;
    let alone = -0.5 * n * ((std::f64::consts::TAU * variance).ln() + 1.0);
    let stay = |regime: usize| model.transition[regime][regime];
    let mean_periods = (0..regimes).map(|regime| crate::number::ratio(1.0, 1.0 - stay(regime))).collect();
    Ok(RegimeFit {
        log_likelihood,
        bic: parameters * n.ln() - 2.0 * log_likelihood,
        bic_of_one_regime: 2.0 * n.ln() - 2.0 * alone,
        mean_periods,
        now: filtered.probabilities.last().cloned().unwrap_or_default(),
        filtered: filtered.probabilities,
        model,
    })
}

/// Where expectation maximisation starts: the factor between the variances of neighbouring regimes, the distance of their means in
/// standard deviations, and the probability to stay.
const STARTS: [(f64, f64, f64); 6] = [
    (4.0, 0.0, 0.95),
    (9.0, 0.0, 0.98),
    (4.0, -0.3, 0.9),
    (4.0, 0.3, 0.9),
    (1.5, 1.0, 0.9),
    (16.0, 0.0, 0.8),
];

fn start(values: &[f64], regimes: usize, spread: f64, shift: f64, stay: f64) -> RegimeModel {
    let (mean, deviation) = (sample::mean(values), sample::deviation(values));
    let position = |regime: usize| count(regime) - count(regimes - 1) / 2.0;
    let row = |regime: usize| -> Vec<f64> {
        (0..regimes)
            .map(|next| if next == regime { stay } else { (1.0 - stay) / count(regimes - 1) })
            .collect()
    };
    RegimeModel {
        means: (0..regimes).map(|regime| mean + shift * deviation * position(regime)).collect(),
        variances: (0..regimes).map(|regime| deviation * deviation * spread.powf(position(regime))).collect(),
        transition: (0..regimes).map(row).collect(),
        start: vec![1.0 / count(regimes); regimes],
    }
}

/// Filtered probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Filtered {
    /// For each period the probability of each regime, given the periods until then.
    pub probabilities: Vec<Vec<f64>>,
    /// The log-likelihood of the values.
    pub log_likelihood: f64,
}

/// Hamilton's filter: applies a model to values, which may be others than those it was fitted to.
pub fn filter(model: &RegimeModel, values: &[f64]) -> Result<Filtered, RiskError> {
    check(model)?;
    at_least("values to filter", values.len(), 1)?;
    all_finite("values to filter", values)?;
    let (probabilities, log_likelihood) = forward(model, values);
    Ok(Filtered { probabilities, log_likelihood })
}

fn check(model: &RegimeModel) -> Result<(), RiskError> {
    let regimes = model.means.len();
    at_least("regimes of the model", regimes, 2)?;
    at_most("regimes of the model", regimes, 10)?;
    for (what, found) in [
        ("variances", model.variances.len()),
        ("rows of the transition", model.transition.len()),
        ("start probabilities", model.start.len()),
    ] {
        if found != regimes {
            return Err(RiskError::LengthMismatch { what: what.to_owned(), found, expected: regimes });
        }
    }
    all_finite("means of the model", &model.means)?;
    crate::series::check_positive("variances of the model", &model.variances)?;
    for row in model.transition.iter().chain([&model.start]) {
        let sum: f64 = row.iter().sum();
        let valid =
            row.len() == regimes && row.iter().all(|p| (0.0..=1.0).contains(p)) && (sum - 1.0).abs() < 1e-6;
        if !valid {
            let allowed = "from 0 to 1, with a sum of 1, one for each regime";
            return Err(RiskError::OutOfRange { name: "probabilities of the model", value: sum, allowed });
        }
    }
    Ok(())
}

/// Filtered probabilities and log-likelihood. Densities are divided by the largest of the period, so that an outlier to all
/// regimes does not make all of them 0.
fn forward(model: &RegimeModel, values: &[f64]) -> (Vec<Vec<f64>>, f64) {
    let regimes = model.means.len();
    let mut predicted = model.start.clone();
    let mut log_likelihood = 0.0;
    let filtered = values
        .iter()
        .map(|value| {
            let logs: Vec<f64> = (0..regimes)
                .map(|regime| {
                    let variance = model.variances[regime];
                    let distance = value - model.means[regime];
                    -0.5 * ((std::f64::consts::TAU * variance).ln() + distance * distance / variance)
                })
                .collect();
            // Only regimes that are possible at all count for the largest.
            let possible = logs.iter().zip(&predicted).filter(|(_, p)| **p > 0.0).map(|(log, _)| *log);
            let largest = possible.fold(f64::NEG_INFINITY, f64::max);
            let joint: Vec<f64> =
                logs.iter().zip(&predicted).map(|(log, p)| p * (log - largest).min(700.0).exp()).collect();
            let total: f64 = joint.iter().sum();
            log_likelihood += largest + total.ln();
            let now: Vec<f64> = joint.iter().map(|p| p / total).collect();
            predicted = (0..regimes)
                .map(|next| (0..regimes).map(|i| now[i] * model.transition[i][next]).sum())
                .collect();
            now
        })
        .collect();
    (filtered, log_likelihood)
}

/// Expectation maximisation until the likelihood rises by less than 1e-10 of itself. `None` if it ends in no number.
fn maximise(values: &[f64], mut model: RegimeModel) -> Option<(RegimeModel, f64)> {
    let floor = sample::variance(values) * 1e-6;
    let mut before = f64::NEG_INFINITY;
    for _ in 0..MOST_ITERATIONS {
        let (filtered, log_likelihood) = forward(&model, values);
        if !log_likelihood.is_finite() {
            return None;
        }
        if log_likelihood - before < 1e-10 * log_likelihood.abs() {
            return Some((model, log_likelihood));
        }
        before = log_likelihood;
        model = improve(&model, values, &filtered, floor);
    }
    let (_, log_likelihood) = forward(&model, values);
    log_likelihood.is_finite().then_some((model, log_likelihood))
}

/// One step: the parameters that are likeliest given the (smoothed) probabilities of the regimes and of their changes.
fn improve(model: &RegimeModel, values: &[f64], filtered: &[Vec<f64>], floor: f64) -> RegimeModel {
    let regimes = model.means.len();
    let n = values.len();
    let mut smoothed = filtered[n - 1].clone();
    let mut changes = vec![vec![0.0; regimes]; regimes];
    let mut occupied = smoothed.clone();
    let mut sums: Vec<f64> = smoothed.iter().map(|p| p * values[n - 1]).collect();
    let mut all = vec![smoothed.clone()];
    for at in (0..n - 1).rev() {
        let now = &filtered[at];
        let predicted: Vec<f64> =
            (0..regimes).map(|next| (0..regimes).map(|i| now[i] * model.transition[i][next]).sum()).collect();
        let mut earlier = vec![0.0; regimes];
        for i in 0..regimes {
            for next in 0..regimes {
                let share = if predicted[next] > 0.0 {
                    now[i] * model.transition[i][next] * smoothed[next] / predicted[next]
                } else {
                    0.0
                };
                changes[i][next] += share;
                earlier[i] += share;
            }
            occupied[i] += earlier[i];
            sums[i] += earlier[i] * values[at];
        }
        smoothed.clone_from(&earlier);
        all.push(earlier);
    }
    all.reverse();
    let means: Vec<f64> = (0..regimes)
        .map(|i| if occupied[i] > 0.0 { sums[i] / occupied[i] } else { model.means[i] })
        .collect();
    let variances = (0..regimes)
        .map(|i| {
            let squares: f64 =
                all.iter().zip(values).map(|(p, value)| p[i] * (value - means[i]).powi(2)).sum();
            if occupied[i] > 0.0 { (squares / occupied[i]).max(floor) } else { model.variances[i] }
        })
        .collect();
    let transition = (0..regimes)
        .map(|i| {
            let total: f64 = changes[i].iter().sum();
            if total > 0.0 {
                changes[i].iter().map(|change| change / total).collect()
            } else {
                model.transition[i].clone()
            }
        })
        .collect();
    let total: f64 = smoothed.iter().sum();
    RegimeModel { means, variances, transition, start: smoothed.iter().map(|p| p / total).collect() }
}

/// Renumbers the regimes by variance.
fn by_variance(model: &RegimeModel) -> RegimeModel {
    let mut order: Vec<usize> = (0..model.means.len()).collect();
    order.sort_by(|&a, &b| model.variances[a].total_cmp(&model.variances[b]));
    let pick = |values: &[f64]| -> Vec<f64> { order.iter().map(|&i| values[i]).collect() };
    RegimeModel {
        means: pick(&model.means),
        variances: pick(&model.variances),
        transition: order.iter().map(|&i| pick(&model.transition[i])).collect(),
        start: pick(&model.start),
    }
}

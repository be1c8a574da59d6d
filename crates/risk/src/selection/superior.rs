//! Whether any of many trials beats a benchmark, all tries taken into account.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::bootstrap::{Blocks, BootstrapOptions, block_length_for, check_size, stream};
use crate::dependence::check_series;
use crate::error::RiskError;
use crate::number::count;
use crate::sample;

/// The p-values of Hansen's test. The null hypothesis is that no trial is better than the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct SuperiorAbility {
    /// Which trial has the largest statistic, from 0.
    pub best: usize,
    /// Mean block length.
    pub block_length: f64,
    /// Liberal: every trial that is worse than the benchmark is left out of the null.
    pub lower: f64,
    /// The one to read: only those are left out that are worse beyond doubt.
    pub consistent: f64,
    /// Conservative: White's reality check (2000).
    pub upper: f64,
}

/// The test of superior predictive ability (Hansen 2005) by the stationary bootstrap. `excess` are the returns of each trial
/// less those of the benchmark in the same period (the returns themselves against doing nothing). With `studentize` each mean is
/// measured in its own error, as Hansen does; without, in units of return.
///
/// Needs 20 periods; trials without variation take part only if `studentize` is off.
pub fn superior_predictive_ability(
    excess: &[Vec<f64>],
    studentize: bool,
    options: &BootstrapOptions,
) -> Result<SuperiorAbility, RiskError> {
    let periods = check_series(excess, 1, 20)?;
    check_size(options.replications, periods.saturating_mul(excess.len()))?;
    let means: Vec<f64> = excess.iter().map(|values| sample::mean(values)).collect();
    let leader = (0..means.len()).max_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
    let block_length = block_length_for(&excess[leader], options.block_length)?;
    let blocks = Blocks::new(periods, block_length)?;
    let errors: Vec<f64> =
        excess.par_iter().map(|values| long_run_error(values, 1.0 / block_length)).collect();
    if studentize && let Some(constant) = errors.iter().position(|error| *error <= 0.0) {
        let what = format!("trial {constant}");
        return Err(RiskError::Constant { what, undefined: "its mean in units of its error" });
    }
    let scale = |trial: usize| if studentize { errors[trial] } else { 1.0 };
    let limit = (2.0 * count(periods).ln().ln()).sqrt();
    // What is taken from the mean of a replicate under each of the three nulls.
    let centres: Vec<[f64; 3]> = means
        .iter()
        .zip(&errors)
        .map(|(&mean, &error)| [mean.max(0.0), if mean >= -error * limit { mean } else { 0.0 }, mean])
        .collect();
    let best = (0..means.len())
        .max_by(|&a, &b| (means[a] / scale(a)).total_cmp(&(means[b] / scale(b))))
        .unwrap_or(0);
    let observed = means[best] / scale(best);
    let exceeded: Vec<[bool; 3]> = (0..options.replications)
        .into_par_iter()
        .map_init(Vec::new, |weights: &mut Vec<f64>, replicate| {
            weights.clear();
            weights.resize(periods, 0.0);
            blocks.draw(&mut stream(options.seed, replicate), periods, |position| {
                weights[position as usize] += 1.0;
            });
            let mut largest = [f64::NEG_INFINITY; 3];
            for (trial, values) in excess.iter().enumerate() {
                let mean = sample::dot(values, weights) / count(periods);
                for (largest, centre) in largest.iter_mut().zip(centres[trial]) {
                    *largest = largest.max((mean - centre) / scale(trial));
                }
            }
            largest.map(|largest| largest > observed)
        })
        .collect();
    let share =
        |null: usize| count(exceeded.iter().filter(|hits| hits[null]).count()) / count(exceeded.len());
    Ok(SuperiorAbility { best, block_length, lower: share(0), consistent: share(1), upper: share(2) })
}

/// The error of the mean under the stationary bootstrap, in closed form (Politis and Romano 1994): the root of
/// `(g_0 + 2 sum_i k_i g_i) / n` with `k_i = (1 - i/n)(1 - q)^i + (i/n)(1 - q)^(n - i)`.
fn long_run_error(values: &[f64], q: f64) -> f64 {
    if sample::is_constant(values) {
        return 0.0;
    }
    let (mean, n) = (sample::mean(values), values.len());
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let covariance =
        |lag: usize| centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>() / count(n);
    let keep = |lag: usize| if lag == 0 { 1.0 } else { (count(lag) * (-q).ln_1p()).exp() };
    let weight = |lag: usize| {
        let share = count(lag) / count(n);
        (1.0 - share) * keep(lag) + share * keep(n - lag)
    };
    // Weights below 1e-12 add nothing, and with them the sum would take the square of the length.
    let lags = (1..n).map(|lag| (lag, weight(lag))).filter(|(_, weight)| *weight > 1e-12);
    let long_run = covariance(0) + lags.map(|(lag, weight)| 2.0 * weight * covariance(lag)).sum::<f64>();
    (long_run.max(0.0) / count(n)).sqrt()
}

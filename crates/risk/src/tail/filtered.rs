//! Filtered historical simulation (Hull and White 1998, Barone-Adesi 1999): what happened, in units of the volatility of its
//! time, applied to the volatility of now.

use rayon::prelude::*;

use super::methods::{SEED, ewma_deviations};
use crate::bootstrap::{Blocks, stream};
use crate::error::{RiskError, at_least};
use crate::sample;

/// Returns in units of the deviation that was forecast for them, and the deviation that is forecast for the next.
///
/// Needs 30 returns more than those that seed the variance.
pub(super) fn standardised(values: &[f64], decay: f64) -> Result<(Vec<f64>, f64), RiskError> {
    at_least("returns for filtered historical simulation", values.len(), 2 * SEED)?;
    let deviations = ewma_deviations(values, decay)?;
    if deviations.iter().any(|deviation| *deviation <= 0.0) {
        return Err(RiskError::Constant {
            what: "a stretch of the returns".to_owned(),
            undefined: "its volatility",
        });
    }
    let residuals = values.iter().zip(&deviations).skip(SEED).map(|(value, deviation)| value / deviation);
    Ok((residuals.collect(), deviations[values.len()]))
}

/// Compounded returns over `horizon` periods: residuals are drawn one by one, and each moves the variance of the next.
pub(super) fn simulate(
    residuals: &[f64],
    deviation: f64,
    decay: f64,
    horizon: usize,
    paths: usize,
    seed: u64,
) -> Result<Vec<f64>, RiskError> {
    let blocks = Blocks::new(residuals.len(), 1.0)?;
    let mut outcomes: Vec<f64> = (0..paths)
        .into_par_iter()
        .map(|path| {
            let (mut wealth, mut variance) = (1.0_f64, deviation * deviation);
            blocks.draw(&mut stream(seed, path), horizon, |position| {
                let value = residuals[position as usize] * variance.sqrt();
                // A loss of more than all is none: the account is empty.
                wealth *= (1.0 + value).max(0.0);
                variance = decay * variance + (1.0 - decay) * value * value;
            });
            wealth - 1.0
        })
        .collect();
    outcomes.sort_unstable_by(f64::total_cmp);
    Ok(outcomes)
}

/// The standardised returns of one period, times the deviation that is forecast for it, sorted.
pub(super) fn one_period(residuals: &[f64], deviation: f64) -> Vec<f64> {
    sample::sorted(&residuals.iter().map(|residual| residual * deviation).collect::<Vec<_>>())
}

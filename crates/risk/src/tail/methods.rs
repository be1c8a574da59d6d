//! The closed forms, for one period.

use crate::error::{RiskError, at_least, open_unit};
use crate::number::{ceil_count, count, normal_pdf, normal_quantile};
use crate::sample;

/// Value at risk and expected shortfall as positive losses: `(var, es)`.
pub(super) type Pair = (f64, f64);

/// Historical: with `k = (1 - confidence) n`, VaR is the `ceil(k)`-th smallest return, an observed one and never an
/// interpolation. Expected shortfall is that of Rockafellar and Uryasev (2002): the mean of the worst k returns, the
/// `ceil(k)`-th with the fraction that is left of it.
///
/// Needs so many returns that at least one lies in the tail: `1 / (1 - confidence)`.
pub fn historical(values: &[f64], confidence: f64) -> Result<(f64, f64), RiskError> {
    open_unit("confidence", confidence)?;
    at_least(
        "returns for historical value at risk",
        values.len(),
        ceil_count(1.0 / (1.0 - confidence)).max(2),
    )?;
    crate::error::all_finite("returns", values)?;
    Ok(historical_of_sorted(&sample::sorted(values), confidence))
}

/// The same of values that are sorted and enough.
pub(super) fn historical_of_sorted(sorted: &[f64], confidence: f64) -> Pair {
    let tail = (1.0 - confidence) * count(sorted.len());
    let index = ceil_count(tail).saturating_sub(1).min(sorted.len() - 1);
    let worse: f64 = sorted[..index].iter().sum();
    let quantile = sorted[index];
    (-quantile, -(worse + (tail - count(index)) * quantile) / tail)
}

/// Gaussian: `-(mean + z sd)` and `-(mean - sd phi(z) / (1 - confidence))` with `z = Phi^-1(1 - confidence)` and the standard
/// deviation of divisor n - 1.
pub fn gaussian(mean: f64, deviation: f64, confidence: f64) -> Result<(f64, f64), RiskError> {
    open_unit("confidence", confidence)?;
    crate::error::all_finite("mean and standard deviation", &[mean, deviation])?;
    if deviation < 0.0 {
        return Err(RiskError::OutOfRange {
            name: "standard deviation",
            value: deviation,
            allowed: "at least 0",
        });
    }
    let tail = 1.0 - confidence;
    let z = normal_quantile(tail);
    Ok((-(mean + z * deviation), -(mean - deviation * normal_pdf(z) / tail)))
}

/// Cornish and Fisher's expansion (Favre and Galeano 2002): Gaussian with
/// `z + (z^2 - 1) S / 6 + (z^3 - 3 z) K / 24 - (2 z^3 - 5 z) S^2 / 36` for z, S the skewness and K the excess kurtosis; the
/// expected shortfall is the integral of it over the tail.
///
/// Refused where the expansion is not monotone for all probabilities from 0.1 % (or the tail that is asked for, if further
/// out) to 99.9 %: its "quantiles" would grow as the probability falls.
pub fn cornish_fisher(
    mean: f64,
    deviation: f64,
    skewness: f64,
    excess_kurtosis: f64,
    confidence: f64,
) -> Result<(f64, f64), RiskError> {
    open_unit("confidence", confidence)?;
    crate::error::all_finite("moments", &[mean, deviation, skewness, excess_kurtosis])?;
    let tail = 1.0 - confidence;
    let z = normal_quantile(tail);
    let reach = z.abs().max(-normal_quantile(0.001));
    if !is_monotone(skewness, excess_kurtosis, reach) {
        return Err(RiskError::NotMonotone { skewness, excess_kurtosis });
    }
    let (cubed, squared) = (z.powi(3), skewness * skewness);
    let expanded = z + (z * z - 1.0) * skewness / 6.0 + (cubed - 3.0 * z) * excess_kurtosis / 24.0
        - (2.0 * cubed - 5.0 * z) * squared / 36.0;
    // The integral of a Hermite polynomial He_n times the density up to z is -He_(n-1)(z) phi(z), and 2 z^3 - 5 z is
    // 2 He_3 + He_1.
    let shortfall = 1.0 + z * skewness / 6.0 + (z * z - 1.0) * excess_kurtosis / 24.0
        - (2.0 * z * z - 1.0) * squared / 36.0;
    Ok((-(mean + deviation * expanded), -(mean - deviation * shortfall * normal_pdf(z) / tail)))
}

/// Whether the derivative of the expansion, `1 + z S / 3 + (z^2 - 1) K / 8 - (6 z^2 - 5) S^2 / 36`, stays above zero for
/// `|z| <= reach`.
fn is_monotone(skewness: f64, excess_kurtosis: f64, reach: f64) -> bool {
    let square = excess_kurtosis / 8.0 - skewness * skewness / 6.0;
    let linear = skewness / 3.0;
    let constant = 1.0 - excess_kurtosis / 8.0 + 5.0 * skewness * skewness / 36.0;
    let slope = |z: f64| constant + z * (linear + z * square);
    let vertex = -linear / (2.0 * square);
    let inside = if vertex.is_finite() { slope(vertex.clamp(-reach, reach)) } else { slope(0.0) };
    slope(-reach) > 0.0 && slope(reach) > 0.0 && inside > 0.0
}

/// How many returns give the first variance of exponential weighting.
pub(super) const SEED: usize = 30;

/// The standard deviation that the next period has by exponential weighting (RiskMetrics): `v = decay v + (1 - decay) r^2`
/// over all returns, about zero, from the variance (divisor n) of the first 30.
///
/// Needs 30 returns, and a decay between 0 and 1 (0.94 for days).
pub fn ewma_deviation(values: &[f64], decay: f64) -> Result<f64, RiskError> {
    Ok(ewma_deviations(values, decay)?[values.len()])
}

/// The deviation that was forecast for each return from those before it, and one more for the next.
pub(super) fn ewma_deviations(values: &[f64], decay: f64) -> Result<Vec<f64>, RiskError> {
    open_unit("decay", decay)?;
    at_least("returns for exponential weighting", values.len(), SEED)?;
    crate::error::all_finite("returns", values)?;
    let seed = &values[..SEED];
    let mut variance = sample::variance(seed) * count(seed.len() - 1) / count(seed.len());
    let mut deviations = Vec::with_capacity(values.len() + 1);
    deviations.push(variance.sqrt());
    for value in values {
        variance = decay * variance + (1.0 - decay) * value * value;
        deviations.push(variance.sqrt());
    }
    Ok(deviations)
}

//! The block length that suits a series.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{RiskError, all_finite, at_least};
use crate::number::{count, whole};
use crate::sample;

/// Fewest values for which an automatic block length is computed.
pub(super) const NEEDED: usize = 20;

/// Optimal mean block lengths, in periods. 0 means that no dependence was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct BlockLength {
    /// For the stationary bootstrap.
    pub stationary: f64,
    /// For the circular block bootstrap.
    pub circular: f64,
    /// The lag up to which autocovariances were weighted.
    pub bandwidth: usize,
}

/// The automatic block length of Politis and White (2004) with the correction of Patton, Politis and White (2009), for the
/// mean of the series: `(2 g^2 / d)^(1/3) n^(1/3)` with `d = 2 lrv^2` (stationary) and `4/3 lrv^2` (circular), at most
/// `ceil(min(3 sqrt(n), n / 3))`. A periodic series reaches that cap.
///
/// Needs 20 values that vary.
pub fn optimal_block_length(values: &[f64]) -> Result<BlockLength, RiskError> {
    at_least("values for a block length", values.len(), NEEDED)?;
    all_finite("values for a block length", values)?;
    if sample::is_constant(values) {
        return Err(RiskError::Constant { what: "the series".to_owned(), undefined: "its autocorrelation" });
    }
    let n = values.len();
    let mean = sample::mean(values);
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let run = whole(count(n).log10()).max(5);
    let longest = (whole(count(n).sqrt().ceil()) + run).min(n - 2);
    let (covariances, correlations) = dependence(&centred, longest);
    let bandwidth = bandwidth(&correlations, run, n).min(longest);

    let (mut g, mut long_run_variance) = (0.0, covariances[0]);
    for (lag, covariance) in covariances.iter().enumerate().take(bandwidth + 1).skip(1) {
        let position = count(lag) / count(bandwidth);
        let weight = if position <= 0.5 { 1.0 } else { 2.0 * (1.0 - position) };
        g += 2.0 * weight * count(lag) * covariance;
        long_run_variance += 2.0 * weight * covariance;
    }
    let cap = (3.0 * count(n).sqrt()).min(count(n) / 3.0).ceil();
    let length = |factor: f64| {
        let length =
            (2.0 * g * g / (factor * long_run_variance * long_run_variance)).cbrt() * count(n).cbrt();
        // An estimated long-run variance of zero asks for blocks without end.
        if length.is_nan() { cap } else { length.min(cap) }
    };
    Ok(BlockLength { stationary: length(2.0), circular: length(4.0 / 3.0), bandwidth })
}

/// Autocovariances and absolute autocorrelations at lags 0 to `longest`. The latter divide by the variance of the values that
/// the lag leaves, one fewer at each end, as the reference implementation does.
fn dependence(centred: &[f64], longest: usize) -> (Vec<f64>, Vec<f64>) {
    let n = centred.len();
    (0..=longest)
        .map(|lag| {
            let product: f64 = centred[lag..].iter().zip(centred).map(|(a, b)| a * b).sum();
            let late: f64 = centred[lag + 1..].iter().map(|x| x * x).sum();
            let early: f64 = centred[..n - lag - 1].iter().map(|x| x * x).sum();
            (product / count(n), product.abs() / (late * early).sqrt())
        })
        .unzip()
}

/// Twice the first lag after which `run` autocorrelations in a row are insignificant; all lags if there is none.
fn bandwidth(correlations: &[f64], run: usize, n: usize) -> usize {
    let critical = 2.0 * (count(n).log10() / count(n)).sqrt();
    let lags = correlations.len() - 1;
    let quiet =
        (run..=lags).find(|&i| correlations[i - run..i].iter().all(|correlation| *correlation < critical));
    quiet.map_or(lags, |i| 2 * (i - run).max(1))
}

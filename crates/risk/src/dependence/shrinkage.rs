//! Covariance that stays invertible with many series and few observations.

use nalgebra::DMatrix;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::check_series;
use crate::error::RiskError;
use crate::number::count;
use crate::sample;

/// A covariance matrix shrunk towards a multiple of the identity.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ShrunkCovariance {
    /// Row by row, of one period, with divisor n.
    pub covariance: Vec<Vec<f64>>,
    /// The correlations it implies.
    pub correlation: Vec<Vec<f64>>,
    /// The weight of the target: 0 leaves the sample as it is, 1 leaves nothing of it.
    pub shrinkage: f64,
}

/// The estimator of Ledoit and Wolf (2004), `(1 - s) S + s m I` with m the mean variance and s the weight that minimises the
/// expected squared error.
///
/// Needs 2 series of 4 values; a constant series is allowed only beside one that varies.
pub fn ledoit_wolf(series: &[Vec<f64>]) -> Result<ShrunkCovariance, RiskError> {
    let rows = check_series(series, 2, 4)?;
    if series.iter().all(|values| sample::is_constant(values)) {
        return Err(RiskError::Constant { what: "every series".to_owned(), undefined: "the covariance" });
    }
    let (n, p) = (count(rows), count(series.len()));
    let centred: Vec<Vec<f64>> = series
        .iter()
        .map(|values| {
            let mean = sample::mean(values);
            values.iter().map(|value| value - mean).collect()
        })
        .collect();
    let upper: Vec<Vec<f64>> = (0..series.len())
        .into_par_iter()
        .map(|i| centred[i..].iter().map(|other| sample::dot(&centred[i], other) / n).collect())
        .collect();
    let sample_covariance =
        DMatrix::from_fn(series.len(), series.len(), |i, j| upper[i.min(j)][i.abs_diff(j)]);
    let mean_variance = sample_covariance.trace() / p;
    let squared = sample_covariance.norm_squared();
    let mut lengths = vec![0.0; rows];
    for values in &centred {
        lengths.iter_mut().zip(values).for_each(|(length, value)| *length += value * value);
    }
    let spread: f64 = lengths.iter().map(|length| length * length).sum();
    let noise = (spread / n - squared) / (p * n);
    let distance = (squared - p * mean_variance * mean_variance) / p;
    let shrinkage = if distance <= 0.0 { 1.0 } else { (noise / distance).clamp(0.0, 1.0) };
    let mut shrunk = sample_covariance * (1.0 - shrinkage);
    for i in 0..series.len() {
        shrunk[(i, i)] += shrinkage * mean_variance;
    }
    let table = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
        (0..series.len()).map(|i| (0..series.len()).map(|j| of(i, j)).collect()).collect()
    };
    let deviation = |i: usize| shrunk[(i, i)].sqrt();
    let correlation = |i: usize, j: usize| {
        let scale = deviation(i) * deviation(j);
        if i == j {
            1.0
        } else if scale > 0.0 {
            shrunk[(i, j)] / scale
        } else {
            0.0
        }
    };
    Ok(ShrunkCovariance {
        covariance: table(&|i, j| shrunk[(i, j)]),
        correlation: table(&correlation),
        shrinkage,
    })
}

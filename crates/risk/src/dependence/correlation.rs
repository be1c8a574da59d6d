//! Correlation matrices.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::check_series;
use crate::error::{RiskError, open_unit};
use crate::interval::Interval;
use crate::number::{count, normal_quantile};
use crate::sample;

/// Which correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrelationMethod {
    /// Of the values.
    Pearson,
    /// Of their ranks, ties with their mean rank.
    Spearman,
}

/// The correlation of two series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Correlation {
    /// Number of the first series, from 0.
    pub first: usize,
    /// Number of the second.
    pub second: usize,
    /// From -1 to 1.
    pub value: f64,
    /// By Fisher's transformation, with the error `1 / sqrt(n - 3)` for values and `sqrt((1 + r^2 / 2) / (n - 3))` for ranks
    /// (Bonett and Wright 2000). It takes the observations of a series to be independent.
    pub interval: Interval,
    /// Two-sided, of no correlation, from Student's t with n - 2 degrees of freedom.
    pub p_value: f64,
}

/// All correlations of several series.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CorrelationMatrix {
    /// Which correlation.
    pub method: CorrelationMethod,
    /// How many values each series has.
    pub observations: usize,
    /// Row by row; 1 on the diagonal.
    pub matrix: Vec<Vec<f64>>,
    /// Each pair once, in the order of the upper triangle.
    pub pairs: Vec<Correlation>,
}

/// Correlates series of the same length, at least 2 of them with at least 4 values that vary. Prices must be turned into
/// returns before: levels that drift are correlated whatever they have to do with each other.
pub fn correlation_matrix(
    series: &[Vec<f64>],
    method: CorrelationMethod,
    confidence: f64,
) -> Result<CorrelationMatrix, RiskError> {
    open_unit("confidence", confidence)?;
    let observations = check_series(series, 2, 4)?;
    let standardised = series
        .par_iter()
        .enumerate()
        .map(|(index, values)| match method {
            CorrelationMethod::Pearson => standardise(index, values),
            CorrelationMethod::Spearman => standardise(index, &sample::ranks(values)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let z = normal_quantile(f64::midpoint(1.0, confidence));
    let students = StudentsT::new(0.0, 1.0, count(observations - 2)).ok();
    let pairs: Vec<Correlation> = (0..series.len())
        .into_par_iter()
        .flat_map_iter(|first| (first + 1..series.len()).map(move |second| (first, second)))
        .map(|(first, second)| {
            let value = sample::dot(&standardised[first], &standardised[second]).clamp(-1.0, 1.0);
            let interval = fisher_interval(value, observations, method, z, confidence);
            let t = value.abs() * (count(observations - 2) / (1.0 - value * value)).sqrt();
            let p_value =
                students.map_or(f64::NAN, |students| if t.is_finite() { 2.0 * students.sf(t) } else { 0.0 });
            Correlation { first, second, value, interval, p_value }
        })
        .collect();
    let mut matrix = vec![vec![1.0; series.len()]; series.len()];
    for pair in &pairs {
        matrix[pair.first][pair.second] = pair.value;
        matrix[pair.second][pair.first] = pair.value;
    }
    Ok(CorrelationMatrix { method, observations, matrix, pairs })
}

/// Centred and of length 1, so that the correlation of two is the sum of their products.
pub(crate) fn standardise(index: usize, values: &[f64]) -> Result<Vec<f64>, RiskError> {
    let mean = sample::mean(values);
    let length = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    // The length is 0 also of values so small that their squares are.
    if sample::is_constant(values) || length <= 0.0 {
        return Err(RiskError::Constant { what: format!("series {index}"), undefined: "its correlation" });
    }
    Ok(values.iter().map(|value| (value - mean) / length).collect())
}

fn fisher_interval(value: f64, n: usize, method: CorrelationMethod, z: f64, confidence: f64) -> Interval {
    let variance = match method {
        CorrelationMethod::Pearson => 1.0 / count(n - 3),
        CorrelationMethod::Spearman => (1.0 + value * value / 2.0) / count(n - 3),
    };
    let (centre, half) = (value.atanh(), z * variance.sqrt());
    Interval { low: (centre - half).tanh(), high: (centre + half).tanh(), confidence }
}

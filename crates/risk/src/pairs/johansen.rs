//! Johansen's test: how many independent combinations of several series return.

use nalgebra::{DMatrix, SymmetricEigen};
use schemars::JsonSchema;
use serde::Serialize;

use super::MOST_OBSERVATIONS;
use crate::dependence::check_series;
use crate::error::{RiskError, at_most};
use crate::linear::least_squares;
use crate::number::count;
use crate::sample;

/// The test that there are at most so many cointegrating combinations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct JohansenRank {
    /// The number under the null hypothesis.
    pub at_most: usize,
    /// The eigenvalue that belongs to one more.
    pub eigenvalue: f64,
    /// Trace statistic.
    pub trace: f64,
    /// Its critical values at 10, 5 and 1 %.
    pub trace_critical: [f64; 3],
    /// Maximum-eigenvalue statistic.
    pub max_eigen: f64,
    /// Its critical values at 10, 5 and 1 %.
    pub max_eigen_critical: [f64; 3],
}

/// The whole test.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Johansen {
    /// For each number of combinations from 0.
    pub ranks: Vec<JohansenRank>,
    /// The combination that returns fastest: what to hold of each series, the first being 1. `null` if the first has no part
    /// in it.
    pub weights: Option<Vec<f64>>,
    /// How many combinations the trace statistic finds at 5 %.
    pub cointegrated: usize,
}

/// Johansen's (1991) test with a constant and `lags` lagged differences, of 2 to 12 series of log prices.
///
/// Needs 50 observations and 10 for each coefficient of an equation.
pub fn johansen(series: &[Vec<f64>], lags: usize) -> Result<Johansen, RiskError> {
    at_most("number of series", series.len(), TRACE.len())?;
    at_most("lags", lags, 100)?;
    let n = check_series(series, 2, 50.max(10 * (series.len() * lags + 1)))?;
    at_most("observations", n, MOST_OBSERVATIONS)?;
    for (index, values) in series.iter().enumerate() {
        if sample::is_constant(values) {
            return Err(RiskError::Constant {
                what: format!("series {index}"),
                undefined: "its cointegration",
            });
        }
    }
    let (changes, levels) = without_short_run(series, lags)?;
    let rows = count(changes.nrows());
    let (skk, sk0, s00) =
        (levels.tr_mul(&levels) / rows, levels.tr_mul(&changes) / rows, changes.tr_mul(&changes) / rows);
    let singular = || RiskError::Singular { what: "the levels of the series" };
    let explained = &sk0 * s00.cholesky().ok_or_else(singular)?.solve(&sk0.transpose());
    // The eigenvalues of skk^-1 explained, of a symmetric matrix that has the same ones.
    let root = skk.cholesky().ok_or_else(singular)?.l();
    let left = root.solve_lower_triangular(&explained).ok_or_else(singular)?;
    let symmetric = root.solve_lower_triangular(&left.transpose()).ok_or_else(singular)?;
    let eigen = SymmetricEigen::new((&symmetric + symmetric.transpose()) / 2.0);
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let eigenvalues: Vec<f64> =
        order.iter().map(|&i| eigen.eigenvalues[i].clamp(0.0, 1.0 - f64::EPSILON)).collect();
    let ranks: Vec<JohansenRank> = (0..series.len())
        .map(|at_most| JohansenRank {
            at_most,
            eigenvalue: eigenvalues[at_most],
            trace: -rows * eigenvalues[at_most..].iter().map(|value| (-value).ln_1p()).sum::<f64>(),
            trace_critical: TRACE[series.len() - at_most - 1],
            max_eigen: -rows * (-eigenvalues[at_most]).ln_1p(),
            max_eigen_critical: MAX_EIGEN[series.len() - at_most - 1],
        })
        .collect();
    let cointegrated = ranks.iter().take_while(|rank| rank.trace > rank.trace_critical[1]).count();
    let vector = root
        .tr_solve_lower_triangular(&eigen.eigenvectors.column(order[0]).into_owned())
        .ok_or_else(singular)?;
    let weights = vector.iter().map(|weight| crate::number::ratio(*weight, vector[0])).collect();
    Ok(Johansen { ranks, weights, cointegrated })
}

/// Differences and lagged levels, both less what lagged differences explain of them, column by column.
fn without_short_run(series: &[Vec<f64>], lags: usize) -> Result<(DMatrix<f64>, DMatrix<f64>), RiskError> {
    let n = series[0].len();
    let rows = n - 1 - lags;
    let change = |values: &[f64], at: usize| values[at + 1] - values[at];
    let mut lagged = Vec::new();
    for lag in 1..=lags {
        lagged.extend(
            series.iter().map(|values| centred((lags..n - 1).map(|at| change(values, at - lag)).collect())),
        );
    }
    let left = |values: Vec<f64>| -> Result<Vec<f64>, RiskError> {
        let values = centred(values);
        if lagged.is_empty() {
            return Ok(values);
        }
        Ok(least_squares("the lagged differences", &values, &lagged)?.residuals)
    };
    let (mut changes, mut levels) = (Vec::new(), Vec::new());
    for values in series {
        changes.extend(left((lags..n - 1).map(|at| change(values, at)).collect())?);
        levels.extend(left(values[1..n - lags].to_vec())?);
    }
    Ok((DMatrix::from_vec(rows, series.len(), changes), DMatrix::from_vec(rows, series.len(), levels)))
}

fn centred(mut values: Vec<f64>) -> Vec<f64> {
    let mean = sample::mean(&values);
    for value in &mut values {
        *value -= mean;
    }
    values
}

/// Critical values at 10, 5 and 1 % of the trace statistic with a constant, for 1 to 12 series less combinations (MacKinnon,
/// Haug and Michelis 1999).
const TRACE: [[f64; 3]; 12] = [
    [2.7055, 3.8415, 6.6349],
    [13.4294, 15.4943, 19.9349],
    [27.0669, 29.7961, 35.4628],
    [44.4929, 47.8545, 54.6815],
    [65.8202, 69.8189, 77.8202],
    [91.109, 95.7542, 104.9637],
    [120.3673, 125.6185, 135.9825],
    [153.6341, 159.529, 171.0905],
    [190.8714, 197.3772, 210.0366],
    [232.103, 239.2468, 253.2526],
    [277.374, 285.1402, 300.2821],
    [326.5354, 334.9795, 351.215],
];

/// The same of the maximum-eigenvalue statistic.
const MAX_EIGEN: [[f64; 3]; 12] = [
    [2.7055, 3.8415, 6.6349],
    [12.2971, 14.2639, 18.52],
    [18.8928, 21.1314, 25.865],
    [25.1236, 27.5858, 32.7172],
    [31.2379, 33.8777, 39.3693],
    [37.2786, 40.0763, 45.8662],
    [43.2947, 46.2299, 52.3069],
    [49.2855, 52.3622, 58.6634],
    [55.2412, 58.4332, 64.996],
    [61.2041, 64.504, 71.2525],
    [67.1307, 70.5392, 77.4877],
    [73.0563, 76.5734, 83.7105],
];

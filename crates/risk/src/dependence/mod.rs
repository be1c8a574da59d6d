//! How series move together: correlations with their intervals, and covariances that can be inverted.

mod correlation;
mod shrinkage;

pub(crate) use correlation::standardise;

pub use correlation::{Correlation, CorrelationMatrix, CorrelationMethod, correlation_matrix};
pub use shrinkage::{ShrunkCovariance, ledoit_wolf};

use crate::error::{RiskError, all_finite, at_least, at_most};

/// Most series of one matrix.
pub const MOST_SERIES: usize = 2_000;

/// Most series of any analysis: those that make no matrix of them.
pub(crate) const MOST_TRIALS: usize = 20_000;

/// Checks series of a matrix: as many as `fewest`, all of the same length of at least `needed`, finite. Returns that length.
pub(crate) fn check_series(series: &[Vec<f64>], fewest: usize, needed: usize) -> Result<usize, RiskError> {
    at_most("number of series", series.len(), MOST_SERIES)?;
    check_lengths(series, fewest, needed)
}

/// The same of up to [`MOST_TRIALS`].
pub(crate) fn check_lengths(series: &[Vec<f64>], fewest: usize, needed: usize) -> Result<usize, RiskError> {
    at_least("number of series", series.len(), fewest)?;
    at_most("number of series", series.len(), MOST_TRIALS)?;
    let length = series[0].len();
    at_least("values of a series", length, needed)?;
    for (index, values) in series.iter().enumerate() {
        if values.len() != length {
            let what = format!("series {index}");
            return Err(RiskError::LengthMismatch { what, found: values.len(), expected: length });
        }
        all_finite("values of a series", values)?;
    }
    Ok(length)
}

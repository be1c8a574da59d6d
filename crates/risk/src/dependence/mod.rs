//! How series move together: correlations with their intervals, and covariances that can be inverted.

mod correlation;
mod shrinkage;

pub(crate) use correlation::standardise;

pub use correlation::{Correlation, CorrelationMatrix, CorrelationMethod, correlation_matrix};
pub use shrinkage::{ShrunkCovariance, ledoit_wolf};

use crate::error::{RiskError, all_finite, at_least, at_most};

/// Most series of one matrix.
pub const MOST_SERIES: usize = 2_000;

/// Checks series that belong together: as many as `fewest`, all of the same length of at least `needed`, finite.
pub(crate) fn check_series(series: &[Vec<f64>], fewest: usize, needed: usize) -> Result<usize, RiskError> {
    at_least("number of series", series.len(), fewest)?;
    at_most("number of series", series.len(), MOST_SERIES)?;
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

//! The augmented Dickey-Fuller statistic without constant, as it is applied to residuals.

use crate::error::RiskError;
use crate::linear::{least_squares, nested_squares};
use crate::number::{ceil_count, count};

/// The statistic and how many lagged differences it took.
pub(super) struct Augmented {
    pub(super) statistic: f64,
    pub(super) lags: usize,
}

/// t of `g` in `dx_t = g x_(t-1) + sum b_i dx_(t-i)`, the number of lags chosen by Akaike's criterion among 0 to
/// `ceil(12 (n / 100)^(1/4))` (Schwert 1989), all judged on the same observations.
pub(super) fn augmented_dickey_fuller(x: &[f64]) -> Result<Augmented, RiskError> {
    const WHAT: &str = "regression of the unit-root test";
    let most = ceil_count(12.0 * (count(x.len()) / 100.0).powf(0.25)).min((x.len() / 2).saturating_sub(1));
    let (y, columns) = design(x, most);
    let n = count(y.len());
    let squares = nested_squares(WHAT, &y, &columns)?;
    let criterion = |lags: usize| n * (squares[lags] / n).ln() + 2.0 * count(lags + 1);
    let lags = (0..=most).min_by(|&a, &b| criterion(a).total_cmp(&criterion(b))).unwrap_or(0);
    let (y, columns) = design(x, lags);
    let fit = least_squares(WHAT, &y, &columns)?;
    Ok(Augmented { statistic: fit.coefficients[0] / fit.plain_error(0), lags })
}

/// Differences, and the level and lagged differences before each.
fn design(x: &[f64], lags: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let differences: Vec<f64> = x.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rows = lags..differences.len();
    let mut columns = vec![rows.clone().map(|row| x[row]).collect::<Vec<_>>()];
    columns.extend((1..=lags).map(|lag| rows.clone().map(|row| differences[row - lag]).collect()));
    (differences[lags..].to_vec(), columns)
}

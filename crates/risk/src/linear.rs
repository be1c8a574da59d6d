//! Least squares, for everything that regresses.

use nalgebra::{DMatrix, DVector};

use crate::error::RiskError;
use crate::number::count;

/// A least-squares fit.
pub(crate) struct LeastSquares {
    pub(crate) coefficients: Vec<f64>,
    pub(crate) residuals: Vec<f64>,
    /// The inverse of X'X.
    pub(crate) inverse: DMatrix<f64>,
}

impl LeastSquares {
    /// Sum of the squared residuals.
    pub(crate) fn squares(&self) -> f64 {
        self.residuals.iter().map(|residual| residual * residual).sum()
    }

    /// Standard error of a coefficient for residuals of equal variance without autocorrelation.
    pub(crate) fn plain_error(&self, coefficient: usize) -> f64 {
        let freedom = count(self.residuals.len() - self.coefficients.len());
        (self.squares() / freedom * self.inverse[(coefficient, coefficient)]).sqrt()
    }
}

/// Least share of a column that must be left when what the columns before it explain is taken out.
const INDEPENDENT: f64 = 1e-10;

/// Fits `y` on columns of the same length by a QR decomposition. Needs more rows than columns.
///
/// Columns are scaled to unit length before, so that prices beside returns cost no digits, and dependent ones are refused.
pub(crate) fn least_squares(
    what: &'static str,
    y: &[f64],
    columns: &[Vec<f64>],
) -> Result<LeastSquares, RiskError> {
    let (rows, width) = (y.len(), columns.len());
    crate::error::at_least(what, rows, width + 1)?;
    let lengths: Vec<f64> =
        columns.iter().map(|column| column.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
    if lengths.iter().any(|length| *length <= 0.0 || !length.is_finite()) {
        return Err(RiskError::Singular { what });
    }
    let design = DMatrix::from_fn(rows, width, |row, column| columns[column][row] / lengths[column]);
    let decomposition = design.qr();
    let triangle = decomposition.r();
    if (0..width).any(|i| triangle[(i, i)].abs() < INDEPENDENT) {
        return Err(RiskError::Singular { what });
    }
    let mut rotated = DVector::from_column_slice(y);
    decomposition.q_tr_mul(&mut rotated);
    let singular = RiskError::Singular { what };
    let scaled =
        triangle.solve_upper_triangular(&rotated.rows(0, width).into_owned()).ok_or(singular.clone())?;
    let half = triangle.solve_upper_triangular(&DMatrix::identity(width, width)).ok_or(singular)?;
    let coefficients: Vec<f64> = (0..width).map(|i| scaled[i] / lengths[i]).collect();
    let mut inverse = &half * half.transpose();
    for ((i, j), value) in (0..width).flat_map(|j| (0..width).map(move |i| (i, j))).zip(inverse.iter_mut()) {
        *value /= lengths[i] * lengths[j];
    }
    let residuals = (0..rows)
        .map(|row| {
            y[row] - coefficients.iter().zip(columns).map(|(beta, column)| beta * column[row]).sum::<f64>()
        })
        .collect();
    Ok(LeastSquares { coefficients, residuals, inverse })
}

/// Sum of squared residuals of `y` on the first 1, 2, ... columns, from one decomposition.
pub(crate) fn nested_squares(
    what: &'static str,
    y: &[f64],
    columns: &[Vec<f64>],
) -> Result<Vec<f64>, RiskError> {
    let (rows, width) = (y.len(), columns.len());
    crate::error::at_least(what, rows, width + 1)?;
    let design = DMatrix::from_fn(rows, width, |row, column| columns[column][row]);
    let mut rotated = DVector::from_column_slice(y);
    design.qr().q_tr_mul(&mut rotated);
    let mut left: f64 = rotated.iter().skip(width).map(|x| x * x).sum();
    let mut squares: Vec<f64> = (0..width)
        .rev()
        .map(|column| {
            let without = left;
            left += rotated[column] * rotated[column];
            without
        })
        .collect();
    squares.reverse();
    Ok(squares)
}

/// A column of ones.
pub(crate) fn ones(rows: usize) -> Vec<f64> {
    vec![1.0; rows]
}

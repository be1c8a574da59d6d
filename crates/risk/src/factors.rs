//! What moves a strategy: regression of its returns on those of factors, with errors that allow for autocorrelation.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::dependence::check_series;
use crate::error::{RiskError, at_least, at_most, open_unit};
use crate::interval::Interval;
use crate::linear::{LeastSquares, least_squares, ones};
use crate::number::count;
use crate::sample;
use crate::series::Returns;

/// Most factors of one regression.
pub const MOST_FACTORS: usize = 50;

/// One coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Coefficient {
    /// Its estimate.
    pub value: f64,
    /// Its standard error by Newey and West (1987).
    pub standard_error: f64,
    /// Estimate over error.
    pub t: f64,
    /// Two-sided, from Student's t.
    pub p_value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// A regression of returns on factors.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FactorModel {
    /// Return of a period that no factor explains.
    pub alpha: Coefficient,
    /// The same times the periods of a year.
    pub alpha_annual: f64,
    /// One for each factor, in their order.
    pub betas: Vec<Coefficient>,
    /// Share of the variance that the factors explain.
    pub r_squared: f64,
    /// The same less what as many factors explain by chance.
    pub adjusted_r_squared: f64,
    /// How many returns.
    pub observations: usize,
    /// Lags of Newey and West.
    pub lags: usize,
}

/// Regresses returns on a constant and 1 to 50 factors (returns of the same periods), with errors that hold under
/// heteroscedasticity and autocorrelation: Bartlett weights `1 - l / (L + 1)`, `L = floor(4 (n / 100)^(2/9))`.
///
/// Needs 20 returns, and 5 for each coefficient.
pub fn factor_model(
    returns: &Returns,
    factors: &[Vec<f64>],
    confidence: f64,
) -> Result<FactorModel, RiskError> {
    open_unit("confidence", confidence)?;
    let (values, columns) = design(returns, factors)?;
    let total = sample::variance(values) * count(values.len() - 1);
    let (fit, coefficients, lags) = regress(values, &columns, confidence)?;
    if total <= 0.0 || fit.squares() <= 1e-20 * total {
        let undefined = "the error of a regression on the factors";
        return Err(RiskError::Constant {
            what: "what the factors leave of the returns".to_owned(),
            undefined,
        });
    }
    let r_squared = 1.0 - fit.squares() / total;
    let (n, alpha) = (values.len(), coefficients[0]);
    Ok(FactorModel {
        alpha,
        alpha_annual: alpha.value * returns.frequency().get(),
        betas: coefficients[1..].to_vec(),
        r_squared,
        adjusted_r_squared: 1.0 - (1.0 - r_squared) * count(n - 1) / count(n - columns.len()),
        observations: n,
        lags,
    })
}

/// The mean return of a period with an error that allows for autocorrelation: the regression on a constant alone.
///
/// Needs 20 returns that vary.
pub fn mean_return(returns: &Returns, confidence: f64) -> Result<Coefficient, RiskError> {
    open_unit("confidence", confidence)?;
    let values = returns.values();
    at_least("returns for the error of their mean", values.len(), 20)?;
    if sample::is_constant(values) {
        return Err(RiskError::Constant {
            what: "the series of returns".to_owned(),
            undefined: "the error of its mean",
        });
    }
    regress(values, &[ones(values.len())], confidence).map(|(_, coefficients, _)| coefficients[0])
}

/// A fit, its coefficients with their errors, and the lags of these.
fn regress(
    values: &[f64],
    columns: &[Vec<f64>],
    confidence: f64,
) -> Result<(LeastSquares, Vec<Coefficient>, usize), RiskError> {
    let fit = least_squares("the factors", values, columns)?;
    let (n, width) = (values.len(), columns.len());
    let lags = sample::newey_west_lags(n);
    let covariance = newey_west(&fit, columns, lags);
    let students = StudentsT::new(0.0, 1.0, count(n - width)).ok().ok_or(RiskError::TooShort {
        what: "returns for a regression",
        found: n,
        needed: width + 1,
    })?;
    let reach = students.inverse_cdf(f64::midpoint(1.0, confidence));
    let coefficient = |at: usize| {
        let (value, standard_error) = (fit.coefficients[at], covariance[(at, at)].max(0.0).sqrt());
        let t = value / standard_error;
        // An error of 0 leaves nothing to compare the estimate with: values so small that their squares are 0, or an exact fit.
        if !t.is_finite() {
            let what = "what is left of the returns".to_owned();
            return Err(RiskError::Constant { what, undefined: "the error of a regression" });
        }
        let interval = Interval {
            low: value - reach * standard_error,
            high: value + reach * standard_error,
            confidence,
        };
        Ok(Coefficient { value, standard_error, t, p_value: 2.0 * students.sf(t.abs()), interval })
    };
    let coefficients = (0..width).map(coefficient).collect::<Result<Vec<_>, RiskError>>()?;
    Ok((fit, coefficients, lags))
}

/// Checked returns, and the columns of the regression: ones, then the factors.
fn design<'a>(returns: &'a Returns, factors: &[Vec<f64>]) -> Result<(&'a [f64], Vec<Vec<f64>>), RiskError> {
    let values = returns.values();
    at_most("factors", factors.len(), MOST_FACTORS)?;
    let length = check_series(factors, 1, 20.max(5 * (factors.len() + 1)))?;
    if length != values.len() {
        return Err(RiskError::LengthMismatch {
            what: "factors".to_owned(),
            found: length,
            expected: values.len(),
        });
    }
    let mut columns = vec![ones(length)];
    columns.extend(factors.iter().cloned());
    Ok((values, columns))
}

/// `(X'X)^-1 S (X'X)^-1` with the weighted autocovariances of the scores in S.
fn newey_west(fit: &LeastSquares, columns: &[Vec<f64>], lags: usize) -> DMatrix<f64> {
    let width = columns.len();
    let scores: Vec<DVector<f64>> = (0..fit.residuals.len())
        .map(|row| DVector::from_fn(width, |column, _| columns[column][row] * fit.residuals[row]))
        .collect();
    let mut middle = DMatrix::zeros(width, width);
    for lag in 0..=lags {
        let weight = 1.0 - count(lag) / count(lags + 1);
        let mut product = DMatrix::zeros(width, width);
        for (late, early) in scores[lag..].iter().zip(&scores) {
            product.ger(1.0, late, early, 1.0);
        }
        middle += if lag == 0 { product } else { (&product + product.transpose()) * weight };
    }
    &fit.inverse * middle * &fit.inverse
}

/// Coefficients over a moving window: for each position of the window the constant and the betas, from the `window` periods
/// that end there.
///
/// The first is for the period `window - 1`. The window needs 5 periods for each coefficient and at least 20.
pub fn rolling_coefficients(
    returns: &Returns,
    factors: &[Vec<f64>],
    window: usize,
) -> Result<Vec<Vec<f64>>, RiskError> {
    let (values, columns) = design(returns, factors)?;
    at_least("window", window, 20.max(5 * columns.len()))?;
    at_least("returns for this window", values.len(), window)?;
    let work =
        (values.len() - window + 1).saturating_mul(window).saturating_mul(columns.len() * columns.len());
    at_most("windows times their size times the square of the coefficients", work, 10_000_000_000)?;
    (0..=values.len() - window)
        .into_par_iter()
        .map(|start| {
            let part: Vec<Vec<f64>> =
                columns.iter().map(|column| column[start..start + window].to_vec()).collect();
            Ok(least_squares("the factors in one of the windows", &values[start..start + window], &part)?
                .coefficients)
        })
        .collect()
}

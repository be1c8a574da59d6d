//! The test of Engle and Granger for two series.

use schemars::JsonSchema;
use serde::Serialize;

use super::MOST_OBSERVATIONS;
use super::augmented::augmented_dickey_fuller;
use crate::dependence::check_series;
use crate::error::{RiskError, at_most};
use crate::linear::{least_squares, ones};
use crate::number::{count, normal_cdf};
use crate::sample;

/// One direction of the test: `y = intercept + hedge_ratio x + spread`, and whether the spread returns.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EngleGranger {
    /// How much of x is held against one y.
    pub hedge_ratio: f64,
    /// The constant of the regression.
    pub intercept: f64,
    /// The augmented Dickey-Fuller statistic of the spread; the smaller, the more it returns.
    pub statistic: f64,
    /// Of no cointegration, from the response surface of MacKinnon (1994).
    pub p_value: f64,
    /// Critical values at 1, 5 and 10 % (MacKinnon 2010), for n - 1 observations.
    pub critical_values: [f64; 3],
    /// Lagged differences, chosen by Akaike's criterion.
    pub lags: usize,
    /// The residuals, one per observation.
    #[serde(skip)]
    pub spread: Vec<f64>,
}

/// Tests `y` on `x`, both log prices. Needs 50 observations of each that vary; series that are a multiple of one another are
/// refused: they are not tied but the same.
pub fn engle_granger(y: &[f64], x: &[f64]) -> Result<EngleGranger, RiskError> {
    let n = check_series(&[y.to_vec(), x.to_vec()], 2, 50)?;
    at_most("observations", n, MOST_OBSERVATIONS)?;
    for (index, series) in [y, x].into_iter().enumerate() {
        if sample::is_constant(series) {
            return Err(RiskError::Constant {
                what: format!("series {index}"),
                undefined: "its cointegration",
            });
        }
    }
    let fit = least_squares("regression of the pair", y, &[x.to_vec(), ones(n)])?;
    let total = sample::variance(y) * count(n - 1);
    // The limit of the reference implementation: beyond it the residuals are rounding errors.
    if fit.squares() <= total * 100.0 * f64::EPSILON.sqrt() {
        return Err(RiskError::Singular { what: "the pair" });
    }
    let test = augmented_dickey_fuller(&fit.residuals)?;
    Ok(EngleGranger {
        hedge_ratio: fit.coefficients[0],
        intercept: fit.coefficients[1],
        statistic: test.statistic,
        p_value: p_value(test.statistic),
        critical_values: CRITICAL.map(|surface| polynomial(&surface, 1.0 / count(n - 1))),
        lags: test.lags,
        spread: fit.residuals,
    })
}

/// Both directions, the first on the second and the second on the first: which series is explained is a choice, and one that
/// shows cointegration in one direction only is weak evidence.
pub fn engle_granger_both(first: &[f64], second: &[f64]) -> Result<[EngleGranger; 2], RiskError> {
    Ok([engle_granger(first, second)?, engle_granger(second, first)?])
}

/// MacKinnon (2010), table 1, two variables with a constant, at 1, 5 and 10 %: coefficients of powers of 1 / n.
const CRITICAL: [[f64; 4]; 3] =
    [[-3.89644, -10.9519, -33.527, 0.0], [-3.33613, -6.1101, -6.823, 0.0], [-3.04445, -4.2412, -2.720, 0.0]];

/// MacKinnon (1994), two variables with a constant: what the statistic is between, and where its surfaces meet.
const LOWEST: f64 = -18.86;
const HIGHEST: f64 = 0.92;
const BETWEEN: f64 = -2.62;
const SMALL: [f64; 3] = [2.92, 1.5012, 3.9796e-2];
const LARGE: [f64; 4] = [2.1945, 6.4695e-1, -2.9198e-1, -4.2377e-2];

fn p_value(statistic: f64) -> f64 {
    if statistic > HIGHEST {
        1.0
    } else if statistic < LOWEST {
        0.0
    } else if statistic <= BETWEEN {
        normal_cdf(polynomial(&SMALL, statistic))
    } else {
        normal_cdf(polynomial(&LARGE, statistic))
    }
}

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

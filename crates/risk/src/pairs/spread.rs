//! How a spread behaves.

use std::f64::consts::LN_2;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{RiskError, all_finite, at_least, open_unit};
use crate::linear::{least_squares, ones};
use crate::number::normal_quantile;
use crate::sample;

/// How fast a spread returns to its mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct HalfLife {
    /// Periods until half of a deviation is gone; `null` if it does not return at all, or overshoots its mean each period.
    pub periods: Option<f64>,
    /// Lower end of its interval; `null` where undefined.
    pub low: Option<f64>,
    /// Upper end; `null` if it may be infinite.
    pub high: Option<f64>,
    /// Confidence of the interval.
    pub confidence: f64,
    /// The level it returns to; `null` without return.
    pub mean: Option<f64>,
    /// b of `dx_t = a + b x_(t-1)`.
    pub pull: f64,
    /// Standard error of b.
    pub pull_error: f64,
}

/// The half-life of a process of Ornstein and Uhlenbeck seen at equal periods: `-ln 2 / ln(1 + b)` with b from the regression
/// `dx_t = a + b x_(t-1)`. Its interval is that of b, `b -+ z` standard errors. A random walk also has a b below 0 in a sample:
/// read it only after a test of cointegration.
///
/// Needs 30 values that vary.
pub fn half_life(spread: &[f64], confidence: f64) -> Result<HalfLife, RiskError> {
    open_unit("confidence", confidence)?;
    at_least("values of the spread", spread.len(), 30)?;
    all_finite("values of the spread", spread)?;
    if sample::is_constant(spread) {
        return Err(RiskError::Constant { what: "the spread".to_owned(), undefined: "its half-life" });
    }
    let changes: Vec<f64> = spread.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let before = spread[..spread.len() - 1].to_vec();
    let fit = least_squares("regression of the half-life", &changes, &[ones(before.len()), before])?;
    let (pull, error) = (fit.coefficients[1], fit.plain_error(1));
    let periods = |b: f64| (b < 0.0 && b > -1.0).then(|| -LN_2 / b.ln_1p());
    let z = normal_quantile(f64::midpoint(1.0, confidence));
    Ok(HalfLife {
        periods: periods(pull),
        low: periods(pull - z * error),
        high: periods(pull + z * error),
        confidence,
        mean: (pull < 0.0).then(|| -fit.coefficients[0] / pull),
        pull,
        pull_error: error,
    })
}

/// Each value less the mean of the `window` values before it, over their standard deviation: known at the time, unlike a
/// z-score with the mean of the whole series. One for each value from index `window` on; `None` after a constant stretch.
pub fn rolling_z_scores(spread: &[f64], window: usize) -> Result<Vec<Option<f64>>, RiskError> {
    at_least("window", window, 2)?;
    at_least("values of the spread", spread.len(), window + 1)?;
    all_finite("values of the spread", spread)?;
    let work = spread.len().saturating_mul(window);
    crate::error::at_most("values times window", work, 10_000_000_000)?;
    Ok((window..spread.len())
        .map(|at| {
            let past = &spread[at - window..at];
            crate::number::ratio(spread[at] - sample::mean(past), sample::deviation(past))
        })
        .collect())
}

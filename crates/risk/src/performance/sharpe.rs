//! The Sharpe ratio with its error, and what is left of it after many tries.
//!
//! All Sharpe ratios here are **per period** unless a name says annual, and kurtosis is **raw** (3 for the normal
//! distribution). Feeding excess kurtosis into these formulas understates the error by up to a third.

use std::f64::consts::E;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{RiskError, at_least, open_unit};
use crate::interval::Interval;
use crate::number::{count, finite, normal_cdf, normal_quantile, ratio};
use crate::sample;
use crate::series::Returns;

/// Euler's constant.
const EULER: f64 = 0.577_215_664_901_532_9;

/// A Sharpe ratio and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct SharpeRatio {
    /// Mean over standard deviation (divisor n - 1) of a period.
    pub per_period: f64,
    /// The same times the root of the periods per year.
    pub annual: f64,
    /// Standard error of the ratio of a period for independent returns of any distribution (Mertens 2002, Lo 2002):
    /// `sqrt((1 - skewness SR + (kurtosis - 1) / 4 SR^2) / (n - 1))`. `null` if that is 0.
    pub standard_error: Option<f64>,
    /// Standard error that allows for autocorrelation (Lo 2002 by the delta method, weights of Newey and West with
    /// `floor(4 (n / 100)^(2/9))` lags).
    pub standard_error_autocorrelated: Option<f64>,
    /// Interval of the annual ratio from the error for independent returns.
    pub annual_interval: Option<Interval>,
    /// Interval of the annual ratio from the error that allows for autocorrelation.
    pub annual_interval_autocorrelated: Option<Interval>,
    /// Probability that the true ratio is above 0.
    pub probabilistic: Option<f64>,
    /// Periods needed to say with 95 % confidence that the true ratio is above 0; `null` if the ratio is not above 0.
    pub minimum_track_record: Option<f64>,
}

/// The Sharpe ratio of a series, with nothing subtracted from the returns, and intervals of a confidence between 0 and 1.
///
/// Needs 4 returns that vary.
pub fn sharpe_ratio(returns: &Returns, confidence: f64) -> Result<SharpeRatio, RiskError> {
    open_unit("confidence", confidence)?;
    let values = returns.values();
    at_least("returns for a Sharpe ratio", values.len(), 4)?;
    let constant =
        || RiskError::Constant { what: "the series of returns".to_owned(), undefined: "the Sharpe ratio" };
    let shape = sample::shape(values).ok_or_else(constant)?;
    let per_period = ratio(sample::mean(values), sample::deviation(values)).ok_or_else(constant)?;
    let root = returns.frequency().get().sqrt();
    let z = normal_quantile(f64::midpoint(1.0, confidence));
    let n = values.len();
    let standard_error =
        radicand(per_period, shape.skewness, shape.kurtosis).map(|radicand| (radicand / count(n - 1)).sqrt());
    let autocorrelated = autocorrelated_error(values, per_period);
    let interval = |error: Option<f64>| {
        error.map(|error| Interval {
            low: (per_period - z * error) * root,
            high: (per_period + z * error) * root,
            confidence,
        })
    };
    Ok(SharpeRatio {
        per_period,
        annual: per_period * root,
        standard_error,
        standard_error_autocorrelated: autocorrelated,
        annual_interval: interval(standard_error),
        annual_interval_autocorrelated: interval(autocorrelated),
        probabilistic: probabilistic_sharpe_ratio(per_period, 0.0, n, shape.skewness, shape.kurtosis)?,
        minimum_track_record: minimum_track_record_length(
            per_period,
            0.0,
            shape.skewness,
            shape.kurtosis,
            0.95,
        )?,
    })
}

/// `1 - skewness SR + (kurtosis - 1) / 4 SR^2`, if above 0. For moments that a distribution can have it is never below; it is
/// 0 for one of two values only, at one ratio, and there the error has no approximation.
fn radicand(sharpe: f64, skewness: f64, kurtosis: f64) -> Option<f64> {
    let radicand = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe;
    (radicand > 0.0).then_some(radicand).and_then(finite)
}

/// The root of the long-run variance of the influence of each return on the ratio, over the root of n.
fn autocorrelated_error(values: &[f64], sharpe: f64) -> Option<f64> {
    let (mean, n) = (sample::mean(values), count(values.len()));
    let deviation = (sample::variance(values) * (n - 1.0) / n).sqrt();
    let influence: Vec<f64> = values
        .iter()
        .map(|value| {
            let z = (value - mean) / deviation;
            z - sharpe / 2.0 * (z * z - 1.0)
        })
        .collect();
    let lags = sample::newey_west_lags(values.len());
    let long_run: f64 = (1..=lags)
        .map(|lag| 2.0 * (1.0 - count(lag) / count(lags + 1)) * sample::autocovariance(&influence, lag))
        .sum::<f64>()
        + sample::autocovariance(&influence, 0);
    finite((long_run / n).sqrt()).filter(|error| *error > 0.0)
}

/// Checks what the formulas share. Raw kurtosis is never below `skewness^2 + 1`.
fn check(sharpe: f64, benchmark: f64, skewness: f64, kurtosis: f64) -> Result<(), RiskError> {
    crate::error::all_finite(
        "Sharpe ratio, benchmark, skewness, kurtosis",
        &[sharpe, benchmark, skewness, kurtosis],
    )?;
    if kurtosis < skewness * skewness + 1.0 - 1e-9 {
        let allowed = "raw (3 for the normal distribution), so at least skewness^2 + 1";
        return Err(RiskError::OutOfRange { name: "kurtosis", value: kurtosis, allowed });
    }
    Ok(())
}

/// Probabilistic Sharpe ratio (Bailey and Lopez de Prado 2012): the probability that the true ratio of a period is above
/// `benchmark`, `Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - skewness SR + (kurtosis - 1) / 4 SR^2))`, kurtosis raw.
///
/// `None` where the root is 0.
pub fn probabilistic_sharpe_ratio(
    sharpe: f64,
    benchmark: f64,
    n: usize,
    skewness: f64,
    kurtosis: f64,
) -> Result<Option<f64>, RiskError> {
    at_least("returns for a probabilistic Sharpe ratio", n, 2)?;
    check(sharpe, benchmark, skewness, kurtosis)?;
    Ok(radicand(sharpe, skewness, kurtosis)
        .map(|radicand| normal_cdf((sharpe - benchmark) * count(n - 1).sqrt() / radicand.sqrt())))
}

/// Minimum track record length (Bailey and Lopez de Prado 2012): the number of returns from which the probabilistic ratio
/// reaches `confidence`, `1 + (1 - skewness SR + (kurtosis - 1) / 4 SR^2) (z / (SR - SR*))^2`.
///
/// `None` if the ratio is not above the benchmark: no length is enough.
pub fn minimum_track_record_length(
    sharpe: f64,
    benchmark: f64,
    skewness: f64,
    kurtosis: f64,
    confidence: f64,
) -> Result<Option<f64>, RiskError> {
    open_unit("confidence", confidence)?;
    check(sharpe, benchmark, skewness, kurtosis)?;
    if sharpe <= benchmark {
        return Ok(None);
    }
    let z = normal_quantile(confidence);
    Ok(radicand(sharpe, skewness, kurtosis)
        .and_then(|radicand| finite(1.0 + radicand * (z / (sharpe - benchmark)).powi(2))))
}

/// The Sharpe ratio that the best of `trials` without any edge is expected to have (Bailey and Lopez de Prado 2014):
/// `sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e)))`, g Euler's constant, V the variance of the ratios between
/// trials. `trials` is the number of **effectively different** ones, which need not be whole; 0 for one trial.
pub fn expected_maximum_sharpe(variance_of_trials: f64, trials: f64) -> Result<f64, RiskError> {
    if !(variance_of_trials >= 0.0 && variance_of_trials.is_finite()) {
        let allowed = "finite and at least 0";
        return Err(RiskError::OutOfRange {
            name: "variance of the trials",
            value: variance_of_trials,
            allowed,
        });
    }
    if !(1.0..=1e15).contains(&trials) {
        return Err(RiskError::OutOfRange {
            name: "number of trials",
            value: trials,
            allowed: "at least 1 and at most 1e15",
        });
    }
    // The expected maximum of one draw is its mean. Close above 1 the approximation by extreme values turns negative.
    if trials <= 1.0 {
        return Ok(0.0);
    }
    let first = normal_quantile(1.0 - 1.0 / trials);
    let second = normal_quantile(1.0 - 1.0 / (trials * E));
    Ok((variance_of_trials.sqrt() * ((1.0 - EULER) * first + EULER * second)).max(0.0))
}

/// Deflated Sharpe ratio (Bailey and Lopez de Prado 2014): the probabilistic ratio against
/// [`expected_maximum_sharpe`]. `sharpe` and `variance_of_trials` are of the same period.
pub fn deflated_sharpe_ratio(
    sharpe: f64,
    n: usize,
    skewness: f64,
    kurtosis: f64,
    variance_of_trials: f64,
    trials: f64,
) -> Result<Option<f64>, RiskError> {
    let benchmark = expected_maximum_sharpe(variance_of_trials, trials)?;
    probabilistic_sharpe_ratio(sharpe, benchmark, n, skewness, kurtosis)
}

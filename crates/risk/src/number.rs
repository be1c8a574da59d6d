//! Conversions between counts and numbers, and the normal distribution, each in one place.

use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// A count as a number. Exact below 2^53, which no series in memory reaches.
#[expect(clippy::cast_precision_loss, reason = "counts of values in memory stay below 2^53")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// Milliseconds as a number. Exact below 2^53, which is the year 287,396.
#[expect(clippy::cast_precision_loss, reason = "dates of candles stay below 2^53 milliseconds")]
pub(crate) fn millis(ms: i64) -> f64 {
    ms as f64
}

/// The whole part of a number as a count; 0 for what is negative or not a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and NaN becomes 0"
)]
pub(crate) fn whole(x: f64) -> usize {
    x as usize
}

/// `ceil(x)`, with a product that rounding pushed just above a whole number counted as that number: `(1 - 0.95) * 20` is
/// 1.0000000000000009 in floating point, and the worst 5 % of 20 is one value, not two.
pub(crate) fn ceil_count(x: f64) -> usize {
    let nearest = x.round();
    whole(if (x - nearest).abs() < 1e-9 { nearest } else { x.ceil() })
}

/// `Some` of what is finite.
pub(crate) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// Numerator over denominator, if that is defined.
pub(crate) fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    if denominator == 0.0 { None } else { finite(numerator / denominator) }
}

/// Phi(x), the distribution function of the standard normal distribution.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// phi(x), its density.
pub(crate) fn normal_pdf(x: f64) -> f64 {
    Normal::standard().pdf(x)
}

/// Phi^-1(p), its quantile function, for 0 < p < 1.
///
/// One Newton step upon the approximation, so that it inverts [`normal_cdf`] to the last digits also far out.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    let x = Normal::standard().inverse_cdf(p);
    let density = normal_pdf(x);
    if density > 1e-300 && x.is_finite() { x - (normal_cdf(x) - p) / density } else { x }
}

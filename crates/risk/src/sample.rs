//! Moments, quantiles and ranks of a sample: the plain definitions that everything else names.

use crate::number::{count, ratio, whole};

/// Arithmetic mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / count(values.len()) }
}

/// Sum of products, in four sums side by side: one alone would wait for each addition.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0_f64; 4];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Sum of squares about the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Variance with divisor n - 1; 0 of fewer than two values, and exactly 0 of a constant series.
pub(crate) fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 || is_constant(values) { 0.0 } else { squares(values) / count(values.len() - 1) }
}

/// Standard deviation with divisor n - 1.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// Whether all values are the same up to what rounding leaves of a constant: such a series has no variance to divide by,
/// though summing it can leave one of 1e-34.
pub(crate) fn is_constant(values: &[f64]) -> bool {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    values.is_empty() || high - low <= 1e-14 * high.abs().max(low.abs())
}

/// Skewness and **raw** kurtosis (3 for the normal distribution), both with divisor n, as `scipy.stats.skew(bias=True)` and
/// `kurtosis(fisher=False, bias=True)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) skewness: f64,
    pub(crate) kurtosis: f64,
}

/// The shape of a sample; `None` if it does not vary.
pub(crate) fn shape(values: &[f64]) -> Option<Shape> {
    if is_constant(values) {
        return None;
    }
    let mean = mean(values);
    let (mut m2, mut m3, mut m4) = (0.0, 0.0, 0.0);
    for value in values {
        let d = value - mean;
        m2 += d * d;
        m3 += d * d * d;
        m4 += d * d * d * d;
    }
    let n = count(values.len());
    (m2, m3, m4) = (m2 / n, m3 / n, m4 / n);
    Some(Shape { skewness: ratio(m3, m2.powf(1.5))?, kurtosis: ratio(m4, m2 * m2)? })
}

/// The values in increasing order.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Quantile of sorted values by linear interpolation (definition 7 of Hyndman and Fan, numpy's default); 0 of nothing.
pub(crate) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = probability.clamp(0.0, 1.0) * count(last);
    let below = whole(position).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (position - count(below)) * (sorted[above] - sorted[below])
}

/// Ranks from 1, the mean rank for equal values.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    // Each with its place: a sort that looks the values up by their places waits for memory.
    let mut order: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        #[expect(clippy::float_cmp, reason = "ties are values that are exactly equal")]
        while end < order.len() && order[end].0 == order[start].0 {
            end += 1;
        }
        let rank = count(start + 1 + end) / 2.0;
        for &(_, place) in &order[start..end] {
            ranks[place] = rank;
        }
        start = end;
    }
    ranks
}

/// Autocovariance at `lag` about the mean, with divisor n.
pub(crate) fn autocovariance(values: &[f64], lag: usize) -> f64 {
    let mean = mean(values);
    let products = values.iter().zip(values.iter().skip(lag)).map(|(a, b)| (a - mean) * (b - mean));
    products.sum::<f64>() / count(values.len().max(1))
}

/// The bandwidth of Newey and West (1994): `floor(4 (n/100)^(2/9))`, less than n.
pub(crate) fn newey_west_lags(n: usize) -> usize {
    whole(4.0 * (count(n) / 100.0).powf(2.0 / 9.0)).min(n.saturating_sub(1))
}

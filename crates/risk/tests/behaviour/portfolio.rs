//! Combinations of curves.

use risk::EquityCurve;
use risk::portfolio::{Rebalancing, combine};

use super::{daily, normal};

const DAY: i64 = 86_400_000;

fn curve(seed: u64, first_day: i64, days: usize) -> EquityCurve {
    daily(normal(seed, days, 0.0, 0.01)).equity(first_day * DAY, DAY, 1_000.0).unwrap()
}

#[test]
fn only_common_days_count_and_shares_sum_to_one() {
    let curves = [curve(1, 100, 200), curve(2, 150, 200)];
    let portfolio = combine(&curves, &[0.3, 0.7], Rebalancing::Daily).unwrap();
    assert_eq!(portfolio.equity.times_ms()[0], 150 * DAY);
    assert_eq!(portfolio.equity.times_ms().last(), Some(&(300 * DAY)));
    let shares: f64 = portfolio.contributions.iter().map(|part| part.share_of_variance.unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-12);
    assert!(portfolio.diversification.unwrap() > 1.0);
    let first = 0.3 * portfolio.returns[0][0] + 0.7 * portfolio.returns[1][0];
    assert!((portfolio.equity.values()[1] - 1.0 - first).abs() < 1e-12);
}

#[test]
fn without_rebalancing_the_parts_add_up() {
    let curves = [curve(1, 0, 50), curve(2, 0, 50)];
    let portfolio = combine(&curves, &[0.5, 0.5], Rebalancing::Never).unwrap();
    let end = 0.5 * curves[0].values()[50] / 1_000.0 + 0.5 * curves[1].values()[50] / 1_000.0;
    assert!((portfolio.equity.values()[50] - end).abs() < 1e-12);
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let curves = [curve(1, 0, 50), curve(2, 100, 50)];
    let says = |curves: &[EquityCurve], weights: &[f64], words: &str| {
        let message = combine(curves, weights, Rebalancing::Daily).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    };
    says(&curves, &[0.5, 0.5], "days that all curves have in common: has 0");
    says(&curves[..1], &[0.5], "sum of 1");
    says(&curves, &[1.5, -0.5], "at least 0");
    says(&curves, &[1.0], "weights: has 1");
    says(&[], &[], "curves: has 0");
}

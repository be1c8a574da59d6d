//! Performance, Sharpe ratios and block lengths.

use risk::bootstrap::optimal_block_length;
use risk::performance::{minimum_track_record_length, performance, probabilistic_sharpe_ratio, sharpe_ratio};

use super::{CLOSED_FORM, Series, numbers, same, same_as, series};

#[test]
fn figures_are_those_of_scipy() {
    for Series { returns, theirs, .. } in series() {
        let ours = performance(&returns);
        let theirs = &theirs["performance"];
        same_as(theirs, "total_return", ours.total_return);
        same_as(theirs, "cagr", ours.cagr.unwrap());
        same_as(theirs, "volatility", ours.volatility);
        same_as(theirs, "sharpe", ours.sharpe.unwrap());
        same_as(theirs, "sortino", ours.sortino.unwrap());
        same_as(theirs, "calmar", ours.calmar.unwrap());
        same_as(theirs, "omega", ours.omega.unwrap());
        same_as(theirs, "skewness", ours.skewness.unwrap());
        same_as(theirs, "kurtosis", ours.kurtosis.unwrap());
        same_as(theirs, "max_drawdown", ours.max_drawdown);
    }
}

#[test]
fn errors_of_the_sharpe_ratio_are_those_of_scipy_and_statsmodels() {
    for Series { returns, theirs, .. } in series() {
        let ours = sharpe_ratio(&returns, 0.95).unwrap();
        let theirs = &theirs["sharpe"];
        same_as(theirs, "per_period", ours.per_period);
        same_as(theirs, "standard_error", ours.standard_error.unwrap());
        same_as(theirs, "standard_error_autocorrelated", ours.standard_error_autocorrelated.unwrap());
        same_as(theirs, "psr", ours.probabilistic.unwrap());
        same_as(theirs, "min_trl", ours.minimum_track_record.unwrap());
        let interval = ours.annual_interval.unwrap();
        let half = 1.959_963_984_540_054 * ours.standard_error.unwrap() * returns.frequency().get().sqrt();
        same("interval", interval.high - interval.low, 2.0 * half, CLOSED_FORM);
    }
}

#[test]
fn block_lengths_are_those_of_arch() {
    for Series { returns, theirs, .. } in series() {
        let ours = optimal_block_length(returns.values()).unwrap();
        let theirs = numbers(&theirs["block"]);
        same("stationary", ours.stationary, theirs[0], CLOSED_FORM);
        same("circular", ours.circular, theirs[1], CLOSED_FORM);
    }
}

#[test]
fn a_track_record_of_the_minimum_length_has_the_confidence_it_was_computed_for() {
    let needed = minimum_track_record_length(0.1, 0.02, -0.5, 6.0, 0.95).unwrap().unwrap();
    // The length is a real number and a series has whole ones.
    let below = probabilistic_sharpe_ratio(0.1, 0.02, whole(needed.floor()), -0.5, 6.0).unwrap().unwrap();
    let above = probabilistic_sharpe_ratio(0.1, 0.02, whole(needed.ceil()), -0.5, 6.0).unwrap().unwrap();
    assert!(below <= 0.95 && above >= 0.95, "{below} {above}");
    assert_eq!(minimum_track_record_length(0.02, 0.02, 0.0, 3.0, 0.95).unwrap(), None);
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number above 0")]
fn whole(x: f64) -> usize {
    x as usize
}

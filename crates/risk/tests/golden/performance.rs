//! Performance, Sharpe ratios and block lengths.

use risk::bootstrap::optimal_block_length;
use risk::performance::{
    deflated_sharpe_ratio, expected_maximum_sharpe, minimum_track_record_length, performance,
    probabilistic_sharpe_ratio, sharpe_ratio,
};
use risk::{PeriodsPerYear, Returns};

use super::{CLOSED_FORM, SERIES, golden, numbers, same, same_as};

#[test]
fn figures_are_those_of_scipy() {
    let golden = golden();
    for name in SERIES {
        let series = &golden["series"][name];
        let returns = Returns::new(numbers(&series["returns"]), PeriodsPerYear::CRYPTO_DAYS).unwrap();
        let ours = performance(&returns);
        let theirs = &series["performance"];
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
    let golden = golden();
    for name in SERIES {
        let series = &golden["series"][name];
        let returns = Returns::new(numbers(&series["returns"]), PeriodsPerYear::CRYPTO_DAYS).unwrap();
        let ours = sharpe_ratio(&returns, 0.95).unwrap();
        let theirs = &series["sharpe"];
        same_as(theirs, "per_period", ours.per_period);
        same_as(theirs, "standard_error", ours.standard_error.unwrap());
        same_as(theirs, "standard_error_autocorrelated", ours.standard_error_autocorrelated.unwrap());
        same_as(theirs, "psr", ours.probabilistic.unwrap());
        same_as(theirs, "min_trl", ours.minimum_track_record.unwrap());
        let interval = ours.annual_interval.unwrap();
        let half = 1.959_963_984_540_054 * ours.standard_error.unwrap() * 365_f64.sqrt();
        same("interval", interval.high - interval.low, 2.0 * half, CLOSED_FORM);
    }
}

#[test]
fn block_lengths_are_those_of_arch() {
    let golden = golden();
    for name in SERIES {
        let series = &golden["series"][name];
        let ours = optimal_block_length(&numbers(&series["returns"])).unwrap();
        let theirs = numbers(&series["block"]);
        same("stationary", ours.stationary, theirs[0], CLOSED_FORM);
        same("circular", ours.circular, theirs[1], CLOSED_FORM);
    }
}

/// The example of Bailey and Lopez de Prado (2014), and what they printed of it.
#[test]
fn the_published_deflated_sharpe_ratio_is_reproduced() {
    let sharpe = 2.5 / 250_f64.sqrt();
    let printed = [(46.0, 0.9505), (88.0, 0.9102), (100.0, 0.9004), (1_000.0, 0.6399), (10_000.0, 0.3389)];
    for (row, (trials, probability)) in golden()["deflated"].as_array().unwrap().iter().zip(printed) {
        let theirs = numbers(row);
        assert!((theirs[0] - trials).abs() < 1e-9);
        same("benchmark", expected_maximum_sharpe(0.5 / 250.0, trials).unwrap(), theirs[1], CLOSED_FORM);
        let ours = deflated_sharpe_ratio(sharpe, 1_250, -3.0, 10.0, 0.5 / 250.0, trials).unwrap().unwrap();
        same("deflated", ours, theirs[2], CLOSED_FORM);
        assert!((ours - probability).abs() < 5e-5, "{trials} trials: {ours}, printed {probability}");
    }
    assert!((expected_maximum_sharpe(0.5 / 250.0, 100.0).unwrap() - 0.1132).abs() < 5e-5);
}

/// Printed to ten digits beside the definition of the series.
#[test]
fn the_published_series_has_the_published_figures() {
    let golden = golden();
    let values = numbers(&golden["series"]["published"]["returns"]);
    let returns = Returns::new(values.clone(), PeriodsPerYear::CRYPTO_DAYS).unwrap();
    let figures = performance(&returns);
    let sharpe = sharpe_ratio(&returns, 0.95).unwrap();
    for (name, ours, printed, digits) in [
        ("mean", figures.mean, 0.000_868_083_0, 1e-10),
        ("skewness", figures.skewness.unwrap(), -0.007_969, 1e-6),
        ("kurtosis", figures.kurtosis.unwrap(), 2.263_719, 1e-6),
        ("sharpe", sharpe.per_period, 0.081_024_72, 1e-8),
        ("standard error", sharpe.standard_error.unwrap(), 0.063_458_55, 5e-7),
        ("psr", sharpe.probabilistic.unwrap(), 0.899_165_94, 1e-8),
        ("track record", sharpe.minimum_track_record.unwrap(), 414.236_8, 1e-4),
        ("drawdown", figures.max_drawdown, 0.062_183_811_1, 1e-10),
        ("block", optimal_block_length(&values).unwrap().stationary, 48.0, 1e-12),
    ] {
        assert!((ours - printed).abs() <= digits, "{name}: {ours}, printed {printed}");
    }
    assert_eq!(optimal_block_length(&values).unwrap().bandwidth, 21);
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

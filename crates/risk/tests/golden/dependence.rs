//! Correlations, shrinkage, factors and regimes.

use risk::dependence::{CorrelationMethod, correlation_matrix, ledoit_wolf};
use risk::factors::{factor_model, mean_return, rolling_coefficients};
use risk::regimes::{RegimeModel, filter, fit_regimes};
use risk::{PeriodsPerYear, Returns};

use super::{CLOSED_FORM, Series, golden, number, numbers, rows, same, same_as, same_numbers, series};

#[test]
fn correlations_are_those_of_scipy() {
    let golden = golden();
    let theirs = &golden["correlation"];
    let assets = rows(&theirs["assets"]);
    for (method, key) in [(CorrelationMethod::Pearson, "pearson"), (CorrelationMethod::Spearman, "spearman")]
    {
        let ours = correlation_matrix(&assets, method, 0.95).unwrap();
        for (ours, theirs) in ours.matrix.iter().zip(theirs[key].as_array().unwrap()) {
            same_numbers(key, ours, theirs, CLOSED_FORM);
        }
    }
    let pearson = correlation_matrix(&assets, CorrelationMethod::Pearson, 0.95).unwrap();
    let interval = pearson.pairs[0].interval;
    same_numbers("interval", &[interval.low, interval.high], &theirs["pearson_interval_01"], CLOSED_FORM);
    // So small that only its order of magnitude says something.
    let p_value = number(&theirs["pearson_p_01"]);
    assert!((pearson.pairs[0].p_value.ln() / p_value.ln() - 1.0).abs() < 1e-9, "{p_value}");
}

#[test]
fn shrinkage_is_that_of_scikit_learn() {
    let golden = golden();
    let theirs = &golden["correlation"];
    let ours = ledoit_wolf(&rows(&theirs["assets"])).unwrap();
    same_as(theirs, "shrinkage", ours.shrinkage);
    for (ours, theirs) in ours.covariance.iter().zip(rows(&theirs["ledoit_wolf"])) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs(), "{ours} here, {theirs} there");
        }
    }
}

#[test]
fn factors_are_those_of_statsmodels() {
    let golden = golden();
    let (y, x) = (numbers(&golden["factors"]["y"]), rows(&golden["factors"]["x"]));
    let theirs = &golden["factors"]["fit"];
    let returns = Returns::new(y, PeriodsPerYear::CRYPTO_DAYS).unwrap();
    let ours = factor_model(&returns, &x, 0.95).unwrap();
    let all: Vec<_> = std::iter::once(ours.alpha).chain(ours.betas).collect();
    let column = |of: fn(&risk::factors::Coefficient) -> f64| all.iter().map(of).collect::<Vec<_>>();
    same_numbers("coefficients", &column(|c| c.value), &theirs["coefficients"], CLOSED_FORM);
    same_numbers("errors", &column(|c| c.standard_error), &theirs["errors"], CLOSED_FORM);
    same_numbers("p-values", &column(|c| c.p_value), &theirs["p_values"], CLOSED_FORM);
    same_as(theirs, "r_squared", ours.r_squared);
    same_as(theirs, "adjusted", ours.adjusted_r_squared);
    let rolling = rolling_coefficients(&returns, &x, 60).unwrap();
    assert_eq!(rolling.len(), 241);
    same_numbers("rolling", &rolling[0], &theirs["rolling_first"], CLOSED_FORM);
    same_numbers("rolling", &rolling[240], &theirs["rolling_last"], CLOSED_FORM);
}

#[test]
fn the_error_of_a_mean_is_that_of_statsmodels() {
    for Series { returns, theirs, .. } in series() {
        let ours = mean_return(&returns, 0.95).unwrap();
        let theirs = numbers(&theirs["newey_west"]);
        same("error", ours.standard_error, theirs[1], CLOSED_FORM);
        same("t", ours.t, theirs[2], CLOSED_FORM);
    }
}

#[test]
fn filtered_regimes_are_those_of_statsmodels() {
    let golden = golden();
    let values = numbers(&golden["regimes"]["returns"]);
    let theirs = &golden["regimes"]["fit"];
    let model = RegimeModel {
        means: numbers(&theirs["means"]),
        variances: numbers(&theirs["variances"]),
        transition: rows(&theirs["transition"]),
        start: numbers(&theirs["start"]),
    };
    let ours = filter(&model, &values).unwrap();
    same_as(theirs, "log_likelihood", ours.log_likelihood);
    same_numbers("last", ours.probabilities.last().unwrap(), &theirs["filtered_last"], CLOSED_FORM);
    same_numbers("100th", &ours.probabilities[100], &theirs["filtered_100"], CLOSED_FORM);
}

/// Ours leaves the start probabilities free and theirs takes them from the transition, so ours is at least as likely and close.
#[test]
fn fitted_regimes_are_at_least_as_likely_as_those_of_statsmodels() {
    let golden = golden();
    let theirs = &golden["regimes"]["fit"];
    let ours = fit_regimes(&numbers(&golden["regimes"]["returns"]), 2).unwrap();
    let likelihood = number(&theirs["log_likelihood"]);
    assert!(ours.log_likelihood >= likelihood - 1e-6, "{} here, {likelihood} there", ours.log_likelihood);
    assert!(ours.log_likelihood <= likelihood + 2.0, "{} here, {likelihood} there", ours.log_likelihood);
    for (ours, theirs) in ours.model.variances.iter().zip(numbers(&theirs["variances"])) {
        same("variance", *ours, theirs, 0.02);
    }
    assert!(ours.bic < ours.bic_of_one_regime);
}

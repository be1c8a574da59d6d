//! Bad input is refused with what was wrong and what is allowed.

use risk::bootstrap::{BootstrapOptions, optimal_block_length};
use risk::dependence::{CorrelationMethod, correlation_matrix, ledoit_wolf};
use risk::factors::factor_model;
use risk::pairs::{engle_granger, half_life, johansen};
use risk::performance::{
    expected_maximum_sharpe, performance, performance_intervals, probabilistic_sharpe_ratio, sharpe_ratio,
};
use risk::regimes::{RegimeModel, filter, fit_regimes};
use risk::selection::{probability_of_overfitting, summarise_trials};
use risk::simulation::{SimulationOptions, simulate};
use risk::tail::{TailMethod, TailOptions, cornish_fisher, historical, tail_risk};
use risk::{EquityCurve, PeriodsPerYear, Returns, RiskError, Side, Trade, Trades};

use super::{daily, normal};

fn says<T: std::fmt::Debug>(result: Result<T, RiskError>, words: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(words), "{message:?} does not say {words:?}");
}

#[test]
fn returns_and_equity() {
    let of = |values: Vec<f64>| Returns::new(values, PeriodsPerYear::CRYPTO_DAYS);
    says(of(vec![0.1]), "returns: has 1, needs at least 2");
    says(of(vec![0.1, f64::NAN]), "returns[1] is NaN: only finite numbers");
    says(of(vec![f64::INFINITY, 0.1]), "returns[0] is inf");
    says(of(vec![0.1, 1e60]), "at most 1e50 in size");
    says(of(vec![0.1, 2e6]), "above -1 and at most 1000000");
    says(of(vec![0.1, -1.0]), "returns[1] is -1: a return is a fraction above -1");
    for bad in [0.0, -365.0, f64::NAN, f64::INFINITY] {
        says(PeriodsPerYear::new(bad), "above 0 and at most");
    }
    says(PeriodsPerYear::of_length(0, 365.0), "period");
    says(EquityCurve::new(vec![0, 1], vec![1.0, 0.0]), "equity[1] is 0: it must be above 0");
    says(EquityCurve::new(vec![0, 0], vec![1.0, 1.0]), "times[1] is not after the one before it");
    says(EquityCurve::new(vec![0], vec![1.0, 1.0]), "has 1 values where the others have 2");
    says(EquityCurve::new(vec![0, i64::MAX], vec![1.0, 1.0]), "not a time");
    says(EquityCurve::new(vec![i64::MIN, 0], vec![1.0, 1.0]), "not a time");
    let ages = EquityCurve::new(vec![0, 253_402_300_799_999], vec![1.0, 2.0]).unwrap();
    says(ages.daily(), "days of equity");
}

#[test]
fn trades() {
    let trade = |opened_ms, closed_ms, profit| Trade { opened_ms, closed_ms, side: Side::Long, profit };
    says(Trades::new(vec![trade(2, 1, 1.0)]), "closing times of trades[0]");
    says(Trades::new(vec![trade(1, 2, f64::NAN)]), "profits of trades[0] is NaN");
    says(Trades::new(vec![trade(1, 2, -100.0)]).unwrap().returns(100.0), "returns of trades[0] is -1");
    says(Trades::new(vec![]).unwrap().returns(0.0), "starting balance");
    assert_eq!(Trades::new(vec![]).unwrap().returns(100.0).unwrap(), Vec::<f64>::new());
}

#[test]
fn constant_series_have_no_ratios() {
    // A sum of such numbers leaves a variance of 1e-34, not of 0.
    let constant = daily(vec![0.001; 300]);
    let figures = performance(&constant);
    assert_eq!((figures.sharpe, figures.skewness, figures.sortino, figures.calmar), (None, None, None, None));
    says(sharpe_ratio(&constant, 0.95), "does not vary");
    says(optimal_block_length(constant.values()), "does not vary");
    says(fit_regimes(constant.values(), 2), "does not vary");
    says(half_life(constant.values(), 0.95), "does not vary");
    says(
        correlation_matrix(&[vec![0.1; 9], normal(1, 9, 0.0, 1.0)], CorrelationMethod::Pearson, 0.9),
        "series 0",
    );
    says(summarise_trials(&[vec![0.1; 30], vec![0.0; 30]]), "every trial");
    says(ledoit_wolf(&[vec![0.1; 9], vec![0.2; 9]]), "does not vary");
    let intervals = performance_intervals(&constant, &BootstrapOptions::default()).unwrap();
    assert_eq!(intervals.sharpe, None);
}

#[test]
fn confidence_and_options_out_of_range() {
    let returns = daily(normal(1, 200, 0.0, 0.01));
    for bad in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
        says(sharpe_ratio(&returns, bad), "between 0 and 1");
        says(historical(returns.values(), bad), "between 0 and 1");
        let options = BootstrapOptions { confidence: bad, ..BootstrapOptions::default() };
        says(performance_intervals(&returns, &options), "between 0 and 1");
        says(
            tail_risk(&returns, TailMethod::Ewma, &TailOptions { decay: bad, ..TailOptions::default() }),
            "between 0 and 1",
        );
    }
    says(historical(&returns.values()[..99], 0.99), "needs at least 100");
    let horizon = |horizon| TailOptions { horizon, ..TailOptions::default() };
    says(
        tail_risk(&returns, TailMethod::CornishFisher, &horizon(10)),
        "no sound value for more than one period",
    );
    says(tail_risk(&returns, TailMethod::Historical, &horizon(0)), "horizon");
    says(tail_risk(&returns, TailMethod::Historical, &horizon(190)), "needs at least");
    says(tail_risk(&returns, TailMethod::MonteCarlo, &TailOptions { paths: 150, ..horizon(5) }), "paths");
    let simulation = |options| simulate(returns.values(), &options);
    let options = SimulationOptions::default();
    says(simulation(SimulationOptions { paths: usize::MAX, ..options.clone() }), "at most 1000000");
    says(simulation(SimulationOptions { steps: Some(usize::MAX), ..options.clone() }), "steps");
    says(simulation(SimulationOptions { block_length: Some(0.5), ..options.clone() }), "block length");
    says(simulation(SimulationOptions { block_length: Some(f64::NAN), ..options.clone() }), "block length");
    says(simulation(SimulationOptions { ruin_loss: 1.5, ..options.clone() }), "ruin");
    says(simulation(SimulationOptions { steps_per_year: Some(0.0), ..options }), "periods per year");
    says(simulate(&[0.01; 19], &SimulationOptions::default()), "needs at least 20");
}

/// Excess kurtosis where raw kurtosis belongs is the slip that the formulas of others have.
#[test]
fn excess_kurtosis_is_refused_where_raw_belongs() {
    says(probabilistic_sharpe_ratio(0.1, 0.0, 100, 0.0, 0.0), "raw (3 for the normal distribution)");
    assert!(probabilistic_sharpe_ratio(0.1, 0.0, 100, 0.0, 3.0).unwrap().is_some());
    // The smallest kurtosis that goes with this skewness, at the ratio where the root is 0.
    assert_eq!(probabilistic_sharpe_ratio(1.0, 0.0, 100, 2.0, 5.0).unwrap(), None);
    says(expected_maximum_sharpe(-1.0, 10.0), "variance of the trials");
    says(expected_maximum_sharpe(1.0, 0.5), "number of trials");
    assert!(expected_maximum_sharpe(1.0, 1.0).unwrap().abs() < 1e-12);
}

#[test]
fn the_expansion_is_refused_outside_of_its_region() {
    assert!(cornish_fisher(0.0, 0.01, -0.3, 1.0, 0.95).is_ok());
    says(cornish_fisher(0.0, 0.01, -3.0, 10.0, 0.95), "not monotone");
    says(cornish_fisher(0.0, 0.01, 0.0, 30.0, 0.95), "not monotone");
}

#[test]
fn dependent_columns_and_lengths() {
    let (a, b) = (normal(1, 100, 0.0, 1.0), normal(2, 100, 0.0, 1.0));
    let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let returns = daily(normal(3, 100, 0.0, 0.01));
    says(factor_model(&returns, &[a.clone(), b.clone(), sum], 0.95), "depend on one another");
    says(factor_model(&returns, &[vec![2.0; 100]], 0.95), "depend on one another");
    says(factor_model(&returns, &[a[..99].to_vec()], 0.95), "has 99 values where the others have 100");
    says(factor_model(&returns, &[], 0.95), "number of series: has 0, needs at least 1");
    says(factor_model(&returns, &[returns.values().to_vec()], 0.95), "does not vary");
    let double: Vec<f64> = a.iter().map(|x| 2.0 * x + 1.0).collect();
    says(engle_granger(&a, &double), "depend on one another");
    says(johansen(&[a.clone(), double], 1), "depend on one another");
    says(engle_granger(&a[..40], &b[..40]), "needs at least 50");
    says(
        correlation_matrix(&[a.clone(), b[..99].to_vec()], CorrelationMethod::Spearman, 0.9),
        "series 1: has 99",
    );
    for blocks in [0, 3, 7, 22, usize::MAX] {
        says(probability_of_overfitting(&[a.clone(), b.clone()], blocks), "an even number from 4 to 20");
    }
    says(probability_of_overfitting(&[a[..20].to_vec(), b[..20].to_vec()], 16), "needs at least 64");
}

#[test]
fn models_of_regimes() {
    let model = RegimeModel {
        means: vec![0.0, 0.0],
        variances: vec![1.0, 0.0],
        transition: vec![vec![0.9, 0.1], vec![0.1, 0.9]],
        start: vec![0.5, 0.5],
    };
    says(filter(&model, &[0.1]), "variances of the model[1] is 0");
    let model = RegimeModel { variances: vec![1.0, 2.0], start: vec![0.9, 0.9], ..model };
    says(filter(&model, &[0.1]), "sum of 1");
    let model = RegimeModel { start: vec![1.0], ..model };
    says(filter(&model, &[0.1]), "start probabilities: has 1");
    says(fit_regimes(&normal(1, 200, 0.0, 1.0), 7), "2 or 3");
    // An outlier to all regimes is no division by zero.
    let model = RegimeModel { start: vec![0.5, 0.5], ..model };
    let far = filter(&model, &[0.1, 1e6, 0.1]).unwrap();
    assert!(far.log_likelihood.is_finite() && far.probabilities.iter().flatten().all(|p| p.is_finite()));
}

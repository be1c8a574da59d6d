//! Simulated tails against closed forms, and that the back-tests see a wrong model.

use risk::simulation::{SimulationOptions, simulate};
use risk::tail::{TailMethod, TailOptions, backtest_forecasts, rolling_forecasts, tail_risk};

use super::{daily, normal};

/// Ten periods of independent normal returns have a known distribution, which all methods must find within their errors.
#[test]
fn methods_agree_over_a_horizon_on_normal_returns() {
    let returns = daily(normal(21, 20_000, 0.0005, 0.01));
    let options =
        TailOptions { horizon: 10, paths: 100_000, block_length: Some(1.0), ..TailOptions::default() };
    let gaussian = tail_risk(&returns, TailMethod::Gaussian, &options).unwrap();
    let simulated = tail_risk(&returns, TailMethod::MonteCarlo, &options).unwrap();
    let error = simulated.simulation_error.unwrap();
    assert!(error > 0.0 && error < 0.001);
    let distance = (gaussian.value_at_risk - simulated.value_at_risk).abs();
    assert!(distance < 4.0 * error + 0.0006, "{gaussian:?} {simulated:?}");
    let historical = tail_risk(&returns, TailMethod::Historical, &options).unwrap();
    assert!(
        (historical.value_at_risk / gaussian.value_at_risk - 1.0).abs() < 0.05,
        "{historical:?} {gaussian:?}"
    );
}

/// Losses of ten periods are those of ten draws, never those of the whole series and never below -100 %.
#[test]
fn a_horizon_compounds() {
    let returns = daily(normal(22, 400, 0.0, 0.05));
    let of = |horizon| {
        let options = TailOptions { horizon, confidence: 0.99, ..TailOptions::default() };
        [TailMethod::MonteCarlo, TailMethod::FilteredHistorical]
            .map(|method| tail_risk(&returns, method, &options).unwrap().value_at_risk)
    };
    for (one, ten) in of(2).into_iter().zip(of(10)) {
        assert!(one < ten && ten < 1.0, "{one} {ten}");
    }
    for loss in of(1_000) {
        assert!((0.9..=1.0).contains(&loss), "{loss}");
    }
}

#[test]
fn filtered_simulation_knows_that_it_is_calm_now() {
    let mut values = normal(23, 300, 0.0, 0.04);
    values.extend(normal(24, 60, 0.0, 0.005));
    let of =
        |method| tail_risk(&daily(values.clone()), method, &TailOptions::default()).unwrap().value_at_risk;
    assert!(of(TailMethod::FilteredHistorical) < of(TailMethod::Historical) / 3.0);
}

#[test]
fn a_back_test_rejects_forecasts_that_are_too_low_and_accepts_fitting_ones() {
    let returns = daily(normal(25, 1_500, 0.0, 0.01));
    let forecasts = rolling_forecasts(&returns, TailMethod::Gaussian, 250, &TailOptions::default()).unwrap();
    assert_eq!(forecasts.len(), 1_250);
    let after = &returns.values()[250..];
    assert!(backtest_forecasts(after, &forecasts, 0.95).unwrap().kupiec.p_value > 0.01);
    let halved: Vec<f64> = forecasts.iter().map(|forecast| forecast / 2.0).collect();
    assert!(backtest_forecasts(after, &halved, 0.95).unwrap().kupiec.p_value < 1e-6);
    // None exceeded: nothing to say on independence, and Kupiec's statistic is -2 n ln(0.95).
    let none = backtest_forecasts(after, &vec![1.0; 1_250], 0.95).unwrap();
    assert_eq!(none.christoffersen, None);
    assert!((none.kupiec.statistic + 2.0 * 1_250.0 * 0.95_f64.ln()).abs() < 1e-9);
}

/// One value only: every figure of every path is known.
#[test]
fn a_simulation_of_constant_growth_is_that_growth() {
    let simulation =
        simulate(&[0.01; 20], &SimulationOptions { steps_per_year: Some(20.0), ..Default::default() })
            .unwrap();
    let wealth = 1.01_f64.powi(20);
    for quantile in &simulation.terminal_wealth.quantiles {
        assert!((quantile.value - wealth).abs() < 1e-12);
    }
    assert!((simulation.cagr.unwrap().quantiles[0].value - (wealth - 1.0)).abs() < 1e-12);
    assert!(simulation.max_drawdown.mean.abs() < 1e-15 && simulation.loss.value.abs() < 1e-15);
    let falling = simulate(&[-0.5; 20], &SimulationOptions { steps: Some(3), ..Default::default() }).unwrap();
    assert!((falling.max_drawdown.mean - 0.875).abs() < 1e-12);
    assert!((falling.longest_under_water.mean - 3.0).abs() < 1e-12);
    assert!((falling.ruin.value - 1.0).abs() < 1e-12 && falling.ruin.interval.low > 0.99);
}

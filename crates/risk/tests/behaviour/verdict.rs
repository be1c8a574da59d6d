//! Verdicts and what leads to them.

use risk::bootstrap::BootstrapOptions;
use risk::performance::{PerformanceIntervals, performance_intervals};
use risk::selection::{probability_of_overfitting, summarise_trials};
use risk::verdict::{Conclusion, Evidence, Finding, Outcome, honesty_checks, verdict};
use risk::{Returns, RiskError};

use super::{daily, normal};

fn intervals(returns: &Returns) -> Option<PerformanceIntervals> {
    performance_intervals(returns, &BootstrapOptions::default()).ok()
}

fn evidence<'a>(returns: &'a Returns, intervals: Option<&'a PerformanceIntervals>) -> Evidence<'a> {
    Evidence { returns, trades: None, trials: None, overfitting: None, intervals }
}

#[test]
fn noise_little_data_and_an_edge_of_unknown_origin() {
    let of = |values: Vec<f64>| {
        let returns = daily(values);
        verdict(&evidence(&returns, intervals(&returns).as_ref())).unwrap()
    };
    assert_eq!(of(normal(1, 30, 0.003, 0.01)).conclusion, Conclusion::TooLittleData);
    let noise = of(normal(3, 1_000, 0.0, 0.01));
    assert_eq!(noise.conclusion, Conclusion::NoEvidence, "{noise:?}");
    assert!(noise.summary.contains("cannot be told from luck"), "{}", noise.summary);
    let alone = of(normal(2, 1_000, 0.002, 0.01));
    assert_eq!(alone.conclusion, Conclusion::Weak, "{alone:?}");
    assert!(alone.summary.contains("not known"), "{}", alone.summary);
    assert!(matches!(verdict(&evidence(&daily(vec![0.0; 100]), None)), Err(RiskError::Constant { .. })));
}

#[test]
fn the_number_of_tries_decides() {
    let mut trials: Vec<Vec<f64>> = (0..300).map(|seed| normal(seed, 800, 0.0, 0.01)).collect();
    let judge = |trials: &[Vec<f64>]| {
        let summary = summarise_trials(trials).unwrap();
        let overfitting = probability_of_overfitting(trials, 8).unwrap();
        let returns = daily(trials[summary.best].clone());
        let intervals = intervals(&returns);
        let evidence = evidence(&returns, intervals.as_ref());
        verdict(&Evidence { trials: Some(&summary), overfitting: Some(&overfitting), ..evidence }).unwrap()
    };
    let noise = judge(&trials);
    assert_eq!(noise.conclusion, Conclusion::NoEvidence, "{noise:?}");
    let rule = noise.rules.iter().find(|rule| rule.name == "best_of_many").unwrap();
    assert_eq!(rule.outcome, Outcome::Failed);
    assert!(
        rule.reason.contains("best of 300 tries") && rule.reason.contains("noise alone"),
        "{}",
        rule.reason
    );
    // By itself the best of noise would have passed.
    let alone = noise.rules.iter().find(|rule| rule.name == "sharpe_above_zero").unwrap();
    assert_eq!(alone.outcome, Outcome::Passed);
    trials[7] = normal(7_000, 800, 0.0025, 0.01);
    assert_eq!(judge(&trials).conclusion, Conclusion::Supported);
}

#[test]
fn checks_see_what_figures_hide() {
    let warns = |values: Vec<f64>, name: &str| {
        let checks = honesty_checks(&daily(values), None);
        checks.iter().find(|check| check.name == name).map(|check| check.finding)
    };
    let mut one_day = normal(5, 300, -0.0002, 0.002);
    one_day[100] = 0.5;
    assert_eq!(warns(one_day, "few_days_carry_the_profit"), Some(Finding::Warning));
    assert_eq!(warns(normal(6, 300, 0.002, 0.01), "few_days_carry_the_profit"), Some(Finding::Fine));
    let mut idle = vec![0.0; 300];
    idle[3] = 0.01;
    assert_eq!(warns(idle, "idle_periods"), Some(Finding::Warning));
    assert_eq!(warns(normal(7, 400, 0.01, 0.01), "too_good"), Some(Finding::Warning));
    let mut crash = vec![0.001; 300];
    crash[200] = -0.2;
    assert_eq!(warns(crash, "skewed_against"), Some(Finding::Warning));
    assert_eq!(warns(normal(8, 100, 0.0, 0.01), "short_record"), Some(Finding::Warning));
    let smoothed: Vec<f64> =
        normal(9, 400, 0.0, 0.01).windows(3).map(|w| w.iter().sum::<f64>() / 3.0).collect();
    assert_eq!(warns(smoothed, "autocorrelation"), Some(Finding::Warning));
}

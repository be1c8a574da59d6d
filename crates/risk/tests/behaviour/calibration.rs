//! Whether error rates are what they say, on seeded draws: these are computations with one outcome, and the bounds are five
//! standard errors of the share away from the claim. Thousands of runs are counted by
//! `bench/calibration.py`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use risk::bootstrap::BootstrapOptions;
use risk::performance::{performance_intervals, sharpe_ratio};
use risk::selection::{probability_of_overfitting, summarise_trials};
use risk::tail::backtest_forecasts;

use super::{daily, normal};

#[test]
fn intervals_of_the_sharpe_ratio_cover_the_true_one() {
    let runs = 400_usize;
    let truth = 0.1;
    let (mut by_formula, mut by_bootstrap) = (0, 0);
    for run in 0..runs {
        let returns = daily(normal(1_000 + run as u64, 500, truth * 0.01, 0.01));
        let annual = truth * 365_f64.sqrt();
        let formula = sharpe_ratio(&returns, 0.95).unwrap().annual_interval.unwrap();
        by_formula += usize::from((formula.low..=formula.high).contains(&annual));
        let options = BootstrapOptions { replications: 400, seed: run as u64, ..BootstrapOptions::default() };
        let sampled = performance_intervals(&returns, &options).unwrap().sharpe.unwrap();
        by_bootstrap += usize::from((sampled.low..=sampled.high).contains(&annual));
    }
    let share = |hits: usize| hits as f64 / runs as f64;
    assert!((0.90..=1.0).contains(&share(by_formula)), "{}", share(by_formula));
    assert!((0.88..=1.0).contains(&share(by_bootstrap)), "{}", share(by_bootstrap));
}

#[test]
fn true_forecasts_are_rejected_as_often_as_the_level_says() {
    let runs = 2_000_usize;
    let exact = 0.01 * 1.644_853_626_951_472_2;
    let (mut kupiec, mut conditional) = (0, 0);
    for run in 0..runs {
        let values = normal(50_000 + run as u64, 1_000, 0.0, 0.01);
        let test = backtest_forecasts(&values, &vec![exact; values.len()], 0.95).unwrap();
        kupiec += usize::from(test.kupiec.p_value < 0.05);
        conditional += usize::from(test.christoffersen.unwrap().conditional_p_value < 0.05);
    }
    let share = |hits: usize| hits as f64 / runs as f64;
    assert!((0.03..=0.07).contains(&share(kupiec)), "{}", share(kupiec));
    assert!((0.03..=0.08).contains(&share(conditional)), "{}", share(conditional));
}

/// The best of 200 tries without an edge looks good by itself and not once the tries are counted.
#[test]
fn the_best_of_noise_is_deflated_and_a_true_edge_is_not() {
    let runs = 60_usize;
    let days = 3 * 365;
    let (mut noise_alone, mut noise, mut edge) = (0, 0, 0);
    for run in 0..runs {
        let mut trials: Vec<Vec<f64>> =
            (0..200).map(|trial| normal((run * 1_000 + trial) as u64, days, 0.0, 0.01)).collect();
        let summary = summarise_trials(&trials).unwrap();
        let alone = sharpe_ratio(&daily(trials[summary.best].clone()), 0.95).unwrap();
        noise_alone += usize::from(alone.probabilistic.unwrap() > 0.95);
        noise += usize::from(summary.deflated.unwrap() > 0.95);
        // An annual ratio of 3.
        trials[0] = normal(900_000 + run as u64, days, 0.01 * 3.0 / 365_f64.sqrt(), 0.01);
        let summary = summarise_trials(&trials[..100]).unwrap();
        edge += usize::from(summary.best == 0 && summary.deflated.unwrap() > 0.95);
    }
    let share = |hits: usize| hits as f64 / runs as f64;
    assert!(share(noise_alone) > 0.95, "{}", share(noise_alone));
    assert!(share(noise) <= 0.1, "{}", share(noise));
    assert!(share(edge) >= 0.8, "{}", share(edge));
}

/// Copies of two trials are not many: the spectrum sees two, and the mean correlation more than that but not all.
#[test]
fn copies_are_no_new_trials() {
    let (a, b) = (normal(1, 500, 0.0, 0.01), normal(2, 500, 0.0, 0.01));
    let trials: Vec<Vec<f64>> = (0..100).map(|i| if i % 2 == 0 { a.clone() } else { b.clone() }).collect();
    let summary = summarise_trials(&trials).unwrap();
    assert!((summary.effective_by_spectrum - 2.0).abs() < 0.1, "{summary:?}");
    assert!(summary.effective > 40.0 && summary.effective < 60.0, "{summary:?}");
    let independent: Vec<Vec<f64>> = (0..600).map(|seed| normal(seed, 400, 0.0, 0.01)).collect();
    let summary = summarise_trials(&independent).unwrap();
    assert!(summary.effective > 590.0 && summary.effective_by_spectrum > 500.0, "{summary:?}");
}

#[test]
fn noise_is_overfitted_and_an_edge_is_not() {
    let runs = 8_usize;
    let of = |edge: f64| {
        let total: f64 = (0..runs)
            .map(|run| {
                let trial =
                    |i: u64| normal(run as u64 * 100 + i, 3 * 365, if i == 3 { edge } else { 0.0 }, 0.01);
                probability_of_overfitting(&(0..50).map(trial).collect::<Vec<_>>(), 16).unwrap().probability
            })
            .sum();
        total / runs as f64
    };
    let (noise, planted) = (of(0.0), of(0.01 * 3.0 / 365_f64.sqrt()));
    assert!((0.3..=0.7).contains(&noise), "{noise}");
    assert!(planted <= 0.1, "{planted}");
}

/// With dependence the block bootstrap knows more than the formula for independent returns.
#[test]
fn dependence_widens_the_interval() {
    let mut rng = ChaCha8Rng::seed_from_u64(77);
    let mut last = 0.0;
    let values: Vec<f64> = (0..2_000)
        .map(|_| {
            let z: f64 = StandardNormal.sample(&mut rng);
            last = 0.5 * last + 0.01 * z;
            last + 0.0005
        })
        .collect();
    let returns = daily(values);
    let sharpe = sharpe_ratio(&returns, 0.95).unwrap();
    assert!(
        sharpe.standard_error_autocorrelated.unwrap() > 1.3 * sharpe.standard_error.unwrap(),
        "{sharpe:?}"
    );
    let formula = sharpe.annual_interval.unwrap();
    let sampled = performance_intervals(&returns, &BootstrapOptions::default()).unwrap().sharpe.unwrap();
    assert!(sampled.high - sampled.low > 1.3 * (formula.high - formula.low), "{sampled:?} {formula:?}");
}

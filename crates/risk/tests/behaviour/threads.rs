//! A seed gives the same digits whatever the number of threads.

use rayon::ThreadPoolBuilder;
use risk::bootstrap::BootstrapOptions;
use risk::performance::performance_intervals;
use risk::selection::{probability_of_overfitting, summarise_trials, superior_predictive_ability};
use risk::simulation::{SimulationOptions, simulate};
use risk::tail::{TailMethod, TailOptions, tail_risk};

use super::{daily, normal};

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let returns = daily(normal(5, 300, 0.0005, 0.01));
    let trials: Vec<Vec<f64>> = (0..30).map(|seed| normal(seed, 128, 0.0, 0.01)).collect();
    let all = || {
        let simulated = TailOptions { horizon: 10, seed: 4, ..TailOptions::default() };
        let options = BootstrapOptions { replications: 501, seed: 3, ..BootstrapOptions::default() };
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            // Not a multiple of the paths that are computed side by side.
            simulate(
                returns.values(),
                &SimulationOptions { paths: 1_003, steps_per_year: Some(365.0), ..Default::default() }
            ),
            performance_intervals(&returns, &options),
            tail_risk(&returns, TailMethod::MonteCarlo, &simulated),
            tail_risk(&returns, TailMethod::FilteredHistorical, &simulated),
            probability_of_overfitting(&trials, 8),
            summarise_trials(&trials),
            superior_predictive_ability(&trials, true, &options),
        )
    };
    let with = |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(7));
    assert!(!one.contains("Err") && !one.contains("NaN"), "{one}");
}

#[test]
fn another_seed_is_another_sample_and_fewer_paths_are_the_first_of_more() {
    let values = normal(5, 100, 0.0, 0.01);
    let of =
        |seed, paths| simulate(&values, &SimulationOptions { seed, paths, ..Default::default() }).unwrap();
    assert_ne!(of(1, 1_000).max_drawdown, of(2, 1_000).max_drawdown);
    assert_eq!(of(1, 1_000), of(1, 1_000));
}

//! What the definitions imply: properties, refusals, the same result for any number of threads, and calibration by simulation.
#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test fails by panicking")]

mod bad_input;
mod calendar;
mod calibration;
mod portfolio;
mod tail;
mod threads;
mod verdict;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use risk::{PeriodsPerYear, Returns};

/// Normal returns from a seed.
fn normal(seed: u64, n: usize, mean: f64, deviation: f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let z: f64 = StandardNormal.sample(&mut rng);
            mean + deviation * z
        })
        .collect()
}

/// Daily returns of crypto.
fn daily(values: Vec<f64>) -> Returns {
    Returns::new(values, PeriodsPerYear::CRYPTO_DAYS).unwrap()
}

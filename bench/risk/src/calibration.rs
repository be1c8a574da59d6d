//! How often intervals and tests err where the truth is known. Runs are counted, never judged: the bars are in `bench/calibration.py`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use risk::bootstrap::BootstrapOptions;
use risk::performance::performance_intervals;
use risk::selection::{RunningTrials, probability_of_overfitting};
use risk::tail::backtest_forecasts;
use risk::{PeriodsPerYear, Returns};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;

/// Normal returns from a numbered stream of a seed.
pub(crate) fn normal(seed: u64, stream: usize, n: usize, mean: f64, deviation: f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    let draw = |_| {
        let z: f64 = StandardNormal.sample(&mut rng);
        mean + deviation * z
    };
    (0..n).map(draw).collect()
}

/// The days of a crypto year.
const DAYS: f64 = 365.0;

/// The mean that gives a Sharpe ratio of a year to days of this deviation.
fn mean_of(annual_sharpe: f64, deviation: f64) -> f64 {
    annual_sharpe / DAYS.sqrt() * deviation
}

/// The bootstrap intervals that the product gives to the mean and the Sharpe ratio, for draws that came with the request.
#[derive(Deserialize)]
pub(crate) struct Intervals {
    draws: Vec<Vec<f64>>,
    replications: usize,
    seed: u64,
}

impl Intervals {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        // One period makes a year, so that the annual ratio is that of a period.
        let frequency = PeriodsPerYear::new(1.0)?;
        let intervals = self.draws.iter().zip(self.seed..).map(|(draws, seed)| {
            let options = BootstrapOptions { replications: self.replications, seed, ..BootstrapOptions::default() };
            let found = performance_intervals(&Returns::new(draws.clone(), frequency)?, &options)?;
            let ends = |interval: Option<risk::interval::Interval>| interval.map(|found| [found.low, found.high]);
            Ok(json!({"block_length": found.block_length, "mean": ends(found.mean), "sharpe": ends(found.sharpe)}))
        });
        Ok(json!({"intervals": intervals.collect::<Result<Vec<_>, risk::RiskError>>()?}))
    }
}

/// How often the tests of value at risk reject forecasts that are true, at 5 %.
#[derive(Deserialize)]
pub(crate) struct Forecasts {
    runs: usize,
    periods: usize,
    confidence: f64,
    /// The confidence at which a normal loss is exceeded as often as the forecasts say: its quantile.
    quantile: f64,
    seed: u64,
}

impl Forecasts {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let forecasts = vec![self.quantile; self.periods];
        let rejected = (0..self.runs).into_par_iter().map(|run| {
            let values = normal(self.seed, run, self.periods, 0.0, 1.0);
            let test = backtest_forecasts(&values, &forecasts, self.confidence)?;
            let christoffersen = test.christoffersen;
            Ok([
                test.kupiec.p_value < 0.05,
                christoffersen.is_some_and(|test| test.independence_exact_p_value < 0.05),
                christoffersen.is_some_and(|test| test.independence_p_value < 0.05),
                christoffersen.is_some_and(|test| test.conditional_p_value < 0.05),
            ])
        });
        let rejected = rejected.collect::<Result<Vec<_>, risk::RiskError>>()?;
        let share = |at: usize| share(rejected.iter().filter(|tests| tests[at]).count(), self.runs);
        let [independence, approximated, conditional] = [share(1), share(2), share(3)];
        Ok(json!({
            "kupiec": share(0), "independence": independence, "independence_approximated": approximated, "conditional": conditional,
        }))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of runs")]
fn share(hits: usize, runs: usize) -> f64 {
    hits as f64 / runs as f64
}

/// How often the best of so many trials has a deflated Sharpe ratio above 0.95, by the sums that the ledger keeps of a campaign. With an
/// `edge` (annual Sharpe ratio) the first trial has it, and counts only if it is the best.
#[derive(Deserialize)]
pub(crate) struct Deflated {
    runs: usize,
    trials: usize,
    days: usize,
    edge: f64,
    seed: u64,
}

impl Deflated {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let convinced = (0..self.runs).into_par_iter().map(|run| {
            let mut running = RunningTrials::default();
            let mut first = None;
            for trial in 0..self.trials {
                let mean = if trial == 0 { mean_of(self.edge, 0.01) } else { 0.0 };
                let sums = running.add(&normal(self.seed, run * self.trials + trial, self.days, mean, 0.01));
                first = first.or(sums);
            }
            let Some(best) = running.best() else { return Ok(None) };
            let deflated = running.deflated(&best, running.effective())?.unwrap_or(0.0);
            let counts = self.edge == 0.0 || first == Some(best);
            Ok(Some((counts && deflated > 0.95, best.sharpe() * DAYS.sqrt())))
        });
        let convinced = convinced.collect::<Result<Vec<_>, risk::RiskError>>()?;
        let hits = convinced.iter().flatten().filter(|(convinced, _)| *convinced).count();
        let best: f64 = convinced.iter().flatten().map(|(_, sharpe)| sharpe).sum();
        Ok(json!({"above": share(hits, self.runs), "mean_best_sharpe": best / share(self.runs, 1)}))
    }
}

/// The mean probability of overfitting among trials without an edge, or with one that has it (annual Sharpe ratio).
#[derive(Deserialize)]
pub(crate) struct Overfitting {
    runs: usize,
    trials: usize,
    days: usize,
    blocks: usize,
    edge: f64,
    seed: u64,
}

impl Overfitting {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let found = (0..self.runs).map(|run| {
            let trials: Vec<Vec<f64>> = (0..self.trials)
                .map(|trial| {
                    let mean = if trial == 0 { mean_of(self.edge, 0.01) } else { 0.0 };
                    normal(self.seed, run * self.trials + trial, self.days, mean, 0.01)
                })
                .collect();
            Ok(probability_of_overfitting(&trials, self.blocks)?.probability)
        });
        let found = found.collect::<Result<Vec<f64>, risk::RiskError>>()?;
        Ok(json!({"mean": found.iter().sum::<f64>() / share(self.runs, 1)}))
    }
}

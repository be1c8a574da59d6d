//! How long things take, in milliseconds.

use std::time::Instant;

use risk::bootstrap::{BootstrapOptions, percentile_interval, replicate};
use risk::dependence::{CorrelationMethod, correlation_matrix, ledoit_wolf};
use risk::simulation::{SimulationOptions, simulate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, calibration::normal};

/// On so many threads; on all processors if 0.
fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(work))
}

/// Milliseconds, and what came of it.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let found = work();
    (start.elapsed().as_secs_f64() * 1e3, found)
}

/// Monte Carlo of returns or trades, with all figures that the product answers.
#[derive(Deserialize)]
pub(crate) struct Simulation {
    returns: Vec<f64>,
    paths: usize,
    block_length: f64,
    seed: u64,
    threads: usize,
}

impl Simulation {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let options = SimulationOptions {
            paths: self.paths,
            steps_per_year: Some(365.0),
            block_length: Some(self.block_length),
            seed: self.seed,
            ..SimulationOptions::default()
        };
        let (ms, found) = on(self.threads, || timed(|| simulate(&self.returns, &options)))?;
        let found = found?;
        let median = found.max_drawdown.quantiles.iter().find(|quantile| quantile.probability >= 0.5);
        Ok(json!({"ms": ms, "median_drawdown": median.map(|quantile| quantile.value)}))
    }
}

/// The stationary bootstrap of mean and Sharpe ratio, with their intervals.
#[derive(Deserialize)]
pub(crate) struct Bootstrap {
    returns: Vec<f64>,
    replications: usize,
    block_length: f64,
    seed: u64,
    threads: usize,
}

impl Bootstrap {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let options = BootstrapOptions {
            replications: self.replications,
            block_length: Some(self.block_length),
            confidence: 0.95,
            seed: self.seed,
        };
        let work = || {
            let found = replicate(&self.returns, &options, mean_and_sharpe)?;
            let interval = |at: usize| {
                percentile_interval(found.iter().map(|figures| figures[at]), options.confidence)
                    .map(|interval| [interval.low, interval.high])
            };
            Ok::<_, risk::RiskError>([interval(0), interval(1)])
        };
        let (ms, found) = on(self.threads, || timed(work))?;
        let [mean, sharpe] = found?;
        Ok(json!({"ms": ms, "mean": mean, "sharpe": sharpe}))
    }
}

/// Of one period; the deviation has the divisor n - 1.
#[expect(clippy::cast_precision_loss, reason = "a series in memory")]
fn mean_and_sharpe(values: &[f64]) -> [f64; 2] {
    let n = values.len() as f64;
    let mean = sum(values, |value| value) / n;
    let squares = sum(values, |value| (value - mean) * (value - mean));
    [mean, mean / (squares / (n - 1.0)).sqrt()]
}

/// In eight sums side by side, as numpy does: one alone would wait for each addition.
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for eight in eights {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += of(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| of(*value)).sum::<f64>()
}

/// All correlations with intervals, and the shrunk covariance, of returns that share a factor.
#[derive(Deserialize)]
pub(crate) struct Correlation {
    series: usize,
    observations: usize,
    method: CorrelationMethod,
    seed: u64,
}

impl Correlation {
    pub(crate) fn answer(&self) -> Result<Value, Error> {
        let common = normal(self.seed, 0, self.observations, 0.0, 0.01);
        let series: Vec<Vec<f64>> = (1..=self.series)
            .map(|number| {
                let mut own = normal(self.seed, number, self.observations, 0.0, 0.01);
                own.iter_mut().zip(&common).for_each(|(value, common)| *value += common);
                own
            })
            .collect();
        let work = || {
            Ok::<_, risk::RiskError>((correlation_matrix(&series, self.method, 0.95)?, ledoit_wolf(&series)?))
        };
        let (ms, found) = timed(work);
        let (matrix, shrunk) = found?;
        Ok(json!({"ms": ms, "first": matrix.matrix[0][1], "shrinkage": shrunk.shrinkage}))
    }
}

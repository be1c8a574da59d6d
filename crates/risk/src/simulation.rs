//! Monte Carlo: what else could have come of the same returns or trades.
//!
//! Returns and trades are drawn **with replacement**, in blocks. To shuffle them would leave the terminal wealth as it is, so
//! that no statement about the total return could follow, and none is made here: there is no p-value.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

use crate::bootstrap::{Blocks, block_length_for, check_size, stream};
use crate::error::{RiskError, at_least, at_most, open_unit};
use crate::interval::Interval;
use crate::number::{count, finite, whole};
use crate::sample;
use crate::series::check_returns;

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SimulationOptions {
    /// How many paths.
    pub paths: usize,
    /// Steps of a path; `null` for as many as there are returns or trades.
    pub steps: Option<usize>,
    /// Steps that make a year, for the annual growth; `null` if there is no such number, as for trades that come when they do.
    pub steps_per_year: Option<f64>,
    /// Mean block length, at least 1 (1 draws each by itself); `null` chooses it from the series.
    pub block_length: Option<f64>,
    /// The loss of the starting wealth that counts as ruin, between 0 and 1.
    pub ruin_loss: f64,
    /// Drawdowns whose probability is wanted, between 0 and 1, at most 100.
    pub drawdown_levels: Vec<f64>,
    /// Confidence of the intervals for what the number of paths leaves open, between 0 and 1.
    pub confidence: f64,
    /// Same seed, same result.
    pub seed: u64,
}

impl Default for SimulationOptions {
    fn default() -> Self {
        Self {
            paths: 10_000,
            steps: None,
            steps_per_year: None,
            block_length: None,
            ruin_loss: 0.5,
            drawdown_levels: vec![0.1, 0.2, 0.3, 0.5],
            confidence: 0.95,
            seed: 0,
        }
    }
}

/// The longest path: its positions are held while it is computed.
const MOST_STEPS_OF_A_PATH: usize = 1_000_000;

/// One quantile and the interval that the number of paths leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct SimulatedQuantile {
    /// The probability, from 0 to 1.
    pub probability: f64,
    /// The value below which that share of the paths lies.
    pub value: f64,
    /// From the order statistics around it.
    pub interval: Interval,
}

/// The distribution of a figure over the paths.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Distribution {
    /// Mean over the paths.
    pub mean: f64,
    /// Standard deviation over the paths.
    pub deviation: f64,
    /// At 1, 5, 25, 50, 75, 95 and 99 %.
    pub quantiles: Vec<SimulatedQuantile>,
}

/// A probability and the interval that the number of paths leaves it (Clopper and Pearson 1934).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Probability {
    /// Share of the paths.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// The probability that the largest drawdown of a path reaches a level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct DrawdownProbability {
    /// The level, as a fraction of the peak.
    pub level: f64,
    /// How likely it is reached.
    pub probability: Probability,
}

/// What the paths came to.
///
/// The intervals say how well more paths would pin the figures down, not how far the past can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Simulation {
    /// How many paths.
    pub paths: usize,
    /// Steps of each.
    pub steps: usize,
    /// Mean block length that was used.
    pub block_length: f64,
    /// Wealth at the end of a path that started with 1.
    pub terminal_wealth: Distribution,
    /// Annual growth; `null` without steps per year.
    pub cagr: Option<Distribution>,
    /// Largest drawdown, as a fraction of the peak.
    pub max_drawdown: Distribution,
    /// The longest time below an earlier peak, in steps.
    pub longest_under_water: Distribution,
    /// That the path ends below where it started.
    pub loss: Probability,
    /// That the wealth falls at any step by the loss that counts as ruin.
    pub ruin: Probability,
    /// For each of the levels asked for.
    pub drawdowns: Vec<DrawdownProbability>,
}

/// What is kept of a path.
#[derive(Debug, Clone, Copy)]
struct Path {
    wealth: f64,
    lowest_wealth: f64,
    max_drawdown: f64,
    longest_under_water: f64,
}

/// Simulates paths of returns or of trades (as fractions of the equity before each, see
/// [`Trades::returns`](crate::Trades::returns)), by the stationary bootstrap.
///
/// Needs 20 values: fewer are a handful of outcomes over and over.
pub fn simulate(values: &[f64], options: &SimulationOptions) -> Result<Simulation, RiskError> {
    at_least("values to simulate from", values.len(), 20)?;
    check_returns("values", values)?;
    open_unit("confidence", options.confidence)?;
    open_unit("loss that counts as ruin", options.ruin_loss)?;
    at_most("drawdown levels", options.drawdown_levels.len(), 100)?;
    for &level in &options.drawdown_levels {
        open_unit("drawdown level", level)?;
    }
    let steps = options.steps.unwrap_or(values.len());
    at_least("steps", steps, 1)?;
    at_most("steps", steps, MOST_STEPS_OF_A_PATH)?;
    check_size(options.paths, steps)?;
    let per_year = options.steps_per_year.map(crate::series::PeriodsPerYear::new).transpose()?;
    let block_length = block_length_for(values, options.block_length)?;
    let blocks = Blocks::new(values.len(), block_length)?;
    let growth: Vec<f64> = values.iter().map(|value| 1.0 + value).collect();
    let groups = (0..options.paths.div_ceil(LANES)).into_par_iter();
    let mut paths: Vec<Path> = groups
        .map_init(Vec::new, |positions, group| {
            positions.resize(steps, [0; LANES]);
            lanes(&blocks, &growth, positions, options.seed, group * LANES)
        })
        .flatten_iter()
        .collect();
    paths.truncate(options.paths);
    Ok(summarise(&paths, steps, block_length, per_year.map(crate::series::PeriodsPerYear::get), options))
}

/// How many paths are computed side by side: each step of a path waits for the one before it, and the processor has time for
/// others meanwhile.
const LANES: usize = 4;

/// Paths of compounded growth from number `first` on, each from its own stream. `positions` has one entry per step.
fn lanes(
    blocks: &Blocks,
    growth: &[f64],
    positions: &mut [[u32; LANES]],
    seed: u64,
    first: usize,
) -> [Path; LANES] {
    for lane in 0..LANES {
        let number = positions.len();
        let mut steps = positions.iter_mut();
        let fill = |position| {
            if let Some(step) = steps.next() {
                step[lane] = position;
            }
        };
        blocks.draw(&mut stream(seed, first + lane), number, fill);
    }
    let (mut wealth, mut lowest_wealth) = ([1.0_f64; LANES], [1.0_f64; LANES]);
    // The level below the peak, multiplied along and never above 1: no division in the loop.
    let (mut level, mut lowest_level) = ([1.0_f64; LANES], [1.0_f64; LANES]);
    let (mut under_water, mut longest_under_water) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    // One instruction each, which `f64::min` is not for its care of NaN; there is none here.
    let smaller = |a: f64, b: f64| if a < b { a } else { b };
    let larger = |a: f64, b: f64| if a > b { a } else { b };
    for step in &*positions {
        for lane in 0..LANES {
            let factor = growth[step[lane] as usize];
            wealth[lane] *= factor;
            lowest_wealth[lane] = smaller(wealth[lane], lowest_wealth[lane]);
            level[lane] = smaller(level[lane] * factor, 1.0);
            lowest_level[lane] = smaller(level[lane], lowest_level[lane]);
            under_water[lane] = if level[lane] < 1.0 { under_water[lane] + 1.0 } else { 0.0 };
            longest_under_water[lane] = larger(under_water[lane], longest_under_water[lane]);
        }
    }
    std::array::from_fn(|lane| Path {
        wealth: wealth[lane],
        lowest_wealth: lowest_wealth[lane],
        max_drawdown: 1.0 - lowest_level[lane],
        longest_under_water: longest_under_water[lane],
    })
}

fn summarise(
    paths: &[Path],
    steps: usize,
    block_length: f64,
    steps_per_year: Option<f64>,
    options: &SimulationOptions,
) -> Simulation {
    let confidence = options.confidence;
    let figure = |of: &dyn Fn(&Path) -> f64| distribution(paths.iter().map(of).collect(), confidence);
    let share = |of: &dyn Fn(&Path) -> bool| {
        probability(paths.iter().filter(|path| of(path)).count(), paths.len(), confidence)
    };
    let drawdowns = options.drawdown_levels.iter().map(|&level| {
        let probability = share(&|path| path.max_drawdown >= level);
        DrawdownProbability { level, probability }
    });
    Simulation {
        paths: paths.len(),
        steps,
        block_length,
        terminal_wealth: figure(&|path| path.wealth),
        cagr: steps_per_year
            .map(|per_year| figure(&|path| (path.wealth.ln() * per_year / count(steps)).exp_m1())),
        max_drawdown: figure(&|path| path.max_drawdown),
        longest_under_water: figure(&|path| path.longest_under_water),
        loss: share(&|path| path.wealth < 1.0),
        ruin: share(&|path| path.lowest_wealth <= 1.0 - options.ruin_loss),
        drawdowns: drawdowns.collect(),
    }
}

/// Summed in the order of the paths, so that the last digit does not depend on threads either. Values beyond the largest
/// number (an annual growth that a few steps extrapolate) count as that number.
fn distribution(mut values: Vec<f64>, confidence: f64) -> Distribution {
    for value in &mut values {
        *value = value.clamp(-f64::MAX, f64::MAX);
    }
    let (mean, deviation) = (sample::mean(&values), sample::deviation(&values));
    values.par_sort_unstable_by(f64::total_cmp);
    let z = crate::number::normal_quantile(f64::midpoint(1.0, confidence));
    let quantiles = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99].map(|probability| {
        let step = z * (probability * (1.0 - probability) / count(values.len())).sqrt();
        let low = sample::quantile(&values, probability - step);
        let high = sample::quantile(&values, probability + step);
        let value = sample::quantile(&values, probability);
        SimulatedQuantile { probability, value, interval: Interval { low, high, confidence } }
    });
    let or_largest = |value: f64| finite(value).unwrap_or(f64::MAX);
    Distribution { mean: or_largest(mean), deviation: or_largest(deviation), quantiles: quantiles.to_vec() }
}

/// A share with its exact binomial interval.
fn probability(hits: usize, of: usize, confidence: f64) -> Probability {
    let tail = f64::midpoint(1.0, -confidence);
    let quantile =
        |a: usize, b: usize, p: f64| Beta::new(count(a), count(b)).ok().map(|beta| beta.inverse_cdf(p));
    let low = if hits == 0 { Some(0.0) } else { quantile(hits, of - hits + 1, tail) };
    let high = if hits == of { Some(1.0) } else { quantile(hits + 1, of - hits, 1.0 - tail) };
    let value = count(hits) / count(of);
    let interval = Interval { low: low.unwrap_or(0.0), high: high.unwrap_or(1.0), confidence };
    Probability { value, interval }
}

/// The share of winners and its exact interval (Clopper and Pearson 1934); `None` without trades.
pub fn win_rate(profits: &[f64], confidence: f64) -> Result<Option<Probability>, RiskError> {
    open_unit("confidence", confidence)?;
    crate::error::all_finite("profits", profits)?;
    let wins = profits.iter().filter(|profit| **profit > 0.0).count();
    Ok((!profits.is_empty()).then(|| probability(wins, profits.len(), confidence)))
}

/// Steps of a path that lasts `years`, for trades that come `per_year` times a year: rounded, at least 1.
pub fn steps_of(years: f64, per_year: f64) -> Result<usize, RiskError> {
    let steps = (years * per_year).round();
    if steps.is_finite() && (0.0..=1e6).contains(&steps) {
        Ok(whole(steps).max(1))
    } else {
        Err(RiskError::OutOfRange { name: "steps", value: steps, allowed: "at most 1000000" })
    }
}

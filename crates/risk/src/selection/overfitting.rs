//! The probability of backtest overfitting.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::dependence::check_series;
use crate::error::{RiskError, at_least};
use crate::number::{count, ratio};
use crate::sample;

/// What combinatorially symmetric cross-validation says of choosing the best trial.
///
/// It judges the choice, not the trials: among many that are equally good the chosen one is often below the median
/// elsewhere, which is no harm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Overfitting {
    /// Into how many blocks the time was cut.
    pub blocks: usize,
    /// How many ways to choose half of them were evaluated.
    pub splits: usize,
    /// Share of the splits where the best of the one half was at or below the median of the other.
    pub probability: f64,
    /// Median of `ln(w / (1 - w))`, w the relative rank in the other half.
    pub median_logit: f64,
    /// Slope of the Sharpe ratio in the other half upon that in the half of the choice; `null` if the latter does not vary.
    pub slope: Option<f64>,
    /// Share of the splits where the chosen one lost money in the other half.
    pub probability_of_loss: f64,
}

/// Sums of one trial over one block.
#[derive(Clone, Copy)]
struct Sums {
    sum: f64,
    squares: f64,
}

/// Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2017) of the returns of trials over
/// the same periods, with the Sharpe ratio as measure. `blocks` is even, from 4 to 20 (16 makes 12,870 splits); periods that
/// do not fill a block are left out at the end. A trial that does not vary counts as a Sharpe ratio of 0.
///
/// Needs 2 trials and 4 periods in each block.
pub fn probability_of_overfitting(trials: &[Vec<f64>], blocks: usize) -> Result<Overfitting, RiskError> {
    if !(4..=20).contains(&blocks) || blocks % 2 == 1 {
        return Err(RiskError::OutOfRange {
            name: "blocks",
            value: count(blocks),
            allowed: "an even number from 4 to 20",
        });
    }
    let periods = check_series(trials, 2, blocks * 4)?;
    let length = periods / blocks;
    let sums: Vec<Vec<Sums>> = (0..blocks)
        .map(|block| trials.iter().map(|trial| sums(&trial[block * length..(block + 1) * length])).collect())
        .collect();
    let splits: Vec<u32> =
        (0..1_u32 << blocks).filter(|chosen| chosen.count_ones() as usize == blocks / 2).collect();
    let outcomes: Vec<[f64; 3]> =
        splits.par_iter().map(|&chosen| evaluate(&sums, chosen, length * blocks / 2)).collect();
    at_least("splits", outcomes.len(), 1)?;
    let share = |hit: &dyn Fn(&[f64; 3]) -> bool| {
        count(outcomes.iter().filter(|o| hit(o)).count()) / count(outcomes.len())
    };
    let logits = sample::sorted(&outcomes.iter().map(|outcome| outcome[0]).collect::<Vec<_>>());
    Ok(Overfitting {
        blocks,
        splits: outcomes.len(),
        probability: share(&|outcome| outcome[0] <= 0.0),
        median_logit: sample::quantile(&logits, 0.5),
        slope: slope(&outcomes),
        probability_of_loss: share(&|outcome| outcome[2] < 0.0),
    })
}

fn sums(values: &[f64]) -> Sums {
    Sums { sum: values.iter().sum(), squares: values.iter().map(|value| value * value).sum() }
}

/// One split: the logit of the rank that the best of the chosen half has in the other, and its Sharpe ratios in both.
fn evaluate(sums: &[Vec<Sums>], chosen: u32, periods: usize) -> [f64; 3] {
    let ratios = |inside: bool| -> Vec<f64> {
        let mut totals = vec![Sums { sum: 0.0, squares: 0.0 }; sums[0].len()];
        let halves = sums.iter().enumerate().filter(|(block, _)| (chosen >> block & 1 == 1) == inside);
        for (_, block) in halves {
            for (total, part) in totals.iter_mut().zip(block) {
                total.sum += part.sum;
                total.squares += part.squares;
            }
        }
        totals.iter().map(|total| sharpe(*total, count(periods))).collect()
    };
    let (inside, outside) = (ratios(true), ratios(false));
    // The first of equals.
    let best =
        (0..inside.len()).max_by(|&a, &b| inside[a].total_cmp(&inside[b]).then(b.cmp(&a))).unwrap_or(0);
    let mine = outside[best];
    let below = count(outside.iter().filter(|other| **other < mine).count());
    #[expect(clippy::float_cmp, reason = "ties are values that are exactly equal")]
    let equal = count(outside.iter().filter(|other| **other == mine).count());
    let rank = (below + f64::midpoint(equal, 1.0)) / count(outside.len() + 1);
    [(rank / (1.0 - rank)).ln(), inside[best], mine]
}

fn sharpe(total: Sums, n: f64) -> f64 {
    let mean = total.sum / n;
    let variance = (total.squares - n * mean * mean) / (n - 1.0);
    if variance > 1e-28 * total.squares { mean / variance.sqrt() } else { 0.0 }
}

fn slope(outcomes: &[[f64; 3]]) -> Option<f64> {
    let n = count(outcomes.len());
    let (x, y) = outcomes.iter().fold((0.0, 0.0), |(x, y), outcome| (x + outcome[1] / n, y + outcome[2] / n));
    let (xy, xx) = outcomes.iter().fold((0.0, 0.0), |(xy, xx), outcome| {
        let distance = outcome[1] - x;
        (xy + distance * (outcome[2] - y), xx + distance * distance)
    });
    ratio(xy, xx)
}

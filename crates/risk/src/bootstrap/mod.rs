//! Resampling that keeps the dependence in time: the stationary bootstrap of Politis and Romano (1994), blocks of geometric
//! length from a series closed to a circle, with the block length of Politis and White (2004).
//!
//! Each replicate draws from its own ChaCha stream of the seed, so a result depends on the seed and never on the number of
//! threads.

mod length;

pub use length::{BlockLength, optimal_block_length};

use rand::distr::{Distribution, Uniform};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{RiskError, at_least, at_most, open_unit};
use crate::interval::Interval;
use crate::number::{count, whole};
use crate::sample;

/// Most steps (replications times their length) of one simulation: a minute of one core or so.
pub const MOST_STEPS: usize = 10_000_000_000;

/// Most replications or paths of one simulation, all of which are kept for their quantiles.
pub const MOST_REPLICATIONS: usize = 1_000_000;

/// How many random words are made at once.
const WORDS: usize = 256;

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BootstrapOptions {
    /// How many replicates.
    pub replications: usize,
    /// Mean block length in periods, at least 1 (1 is the independent bootstrap); `null` chooses it from the series.
    pub block_length: Option<f64>,
    /// Confidence of the intervals, between 0 and 1.
    pub confidence: f64,
    /// Same seed, same result.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self { replications: 2_000, block_length: None, confidence: 0.95, seed: 0 }
    }
}

/// The generator of one replicate.
pub(crate) fn stream(seed: u64, replicate: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(replicate as u64);
    rng
}

/// Refuses what would run for minutes.
pub(crate) fn check_size(replications: usize, steps: usize) -> Result<(), RiskError> {
    at_least("replications", replications, 100)?;
    at_most("replications", replications, MOST_REPLICATIONS)?;
    at_most("replications times steps", replications.saturating_mul(steps), MOST_STEPS)
}

/// Draws positions of a series in blocks.
pub(crate) struct Blocks {
    len: u32,
    start: Uniform<u32>,
    /// `ln(1 - 1 / mean length)`, which turns a uniform number into a geometric length; `None` for blocks of one.
    log_continue: Option<f64>,
}

impl Blocks {
    /// Positions of a series of `len` values, in blocks of `mean_length` on average.
    pub(crate) fn new(len: usize, mean_length: f64) -> Result<Self, RiskError> {
        at_least("values to resample", len, 2)?;
        let len = u32::try_from(len).ok().ok_or(RiskError::TooLarge {
            what: "values to resample",
            found: len,
            allowed: u32::MAX as usize,
        })?;
        if !(1.0..=f64::from(len)).contains(&mean_length) {
            let allowed = "at least 1 and at most the length of the series";
            return Err(RiskError::OutOfRange { name: "block length", value: mean_length, allowed });
        }
        // Cannot fail, since the range holds at least two values.
        let start = Uniform::new(0, len).map_err(|_| RiskError::TooShort {
            what: "values to resample",
            found: 0,
            needed: 2,
        })?;
        let log_continue = (mean_length > 1.0).then(|| (-1.0 / mean_length).ln_1p());
        Ok(Self { len, start, log_continue })
    }

    /// Calls `each` with one position per step.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng, steps: usize, mut each: impl FnMut(u32)) {
        let Some(log_continue) = self.log_continue else { return self.draw_singly(rng, steps, each) };
        let mut left = steps;
        while left > 0 {
            let mut position = self.start.sample(rng);
            let length = (1 + whole((open_uniform(rng).ln() / log_continue).floor())).min(left);
            for _ in 0..length {
                each(position);
                position += 1;
                if position == self.len {
                    position = 0;
                }
            }
            left -= length;
        }
    }

    /// The same positions as `start` gives one after the other, from random words that are made many at a time, which is most of
    /// the work: each is multiplied by the length, and the high half of the product is the position unless the low half shows that
    /// it would come up too often (Lemire 2019).
    #[inline]
    fn draw_singly(&self, rng: &mut ChaCha8Rng, steps: usize, mut each: impl FnMut(u32)) {
        let too_often = self.len.wrapping_neg() % self.len;
        let mut bytes = [0; 4 * WORDS];
        let mut left = steps;
        while left > 0 {
            let drawn = &mut bytes[..4 * left.min(WORDS)];
            rng.fill_bytes(drawn);
            for word in drawn.as_chunks().0 {
                let product = u64::from(u32::from_le_bytes(*word)) * u64::from(self.len);
                #[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
                let (position, rest) = ((product >> 32) as u32, product as u32);
                if rest >= too_often {
                    each(position);
                    left -= 1;
                }
            }
        }
    }

    /// Fills `out` with a replicate of `source`, which has the length of these blocks.
    pub(crate) fn resample(&self, rng: &mut ChaCha8Rng, source: &[f64], out: &mut Vec<f64>, steps: usize) {
        out.clear();
        self.draw(rng, steps, |position| out.push(source[position as usize]));
    }
}

/// Uniform on (0, 1], with 53 bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn open_uniform(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// The block length to use for a series: the one that was asked for, or the optimal one (at least 1).
pub(crate) fn block_length_for(values: &[f64], asked: Option<f64>) -> Result<f64, RiskError> {
    match asked {
        Some(length) => Ok(length),
        None if values.len() < length::NEEDED || sample::is_constant(values) => Ok(1.0),
        None => Ok(optimal_block_length(values)?.stationary.clamp(1.0, count(values.len()))),
    }
}

/// The replicates of several statistics at once: for each replicate what `statistics` gives of the resampled series, in the
/// order of the replicates. `statistics` returns NaN for what is undefined.
pub fn replicate<const K: usize>(
    values: &[f64],
    options: &BootstrapOptions,
    statistics: impl Fn(&[f64]) -> [f64; K] + Sync,
) -> Result<Vec<[f64; K]>, RiskError> {
    crate::error::all_finite("values to resample", values)?;
    open_unit("confidence", options.confidence)?;
    check_size(options.replications, values.len())?;
    let blocks = Blocks::new(values.len(), block_length_for(values, options.block_length)?)?;
    let replicates = (0..options.replications).into_par_iter().map_init(Vec::new, |buffer, replicate| {
        blocks.resample(&mut stream(options.seed, replicate), values, buffer, values.len());
        statistics(buffer)
    });
    Ok(replicates.collect())
}

/// The percentile interval of replicates (Efron 1981): their quantiles at `(1 -+ confidence) / 2`.
///
/// `None` if more than 5 % of them are undefined: the rest would be a selection.
pub fn percentile_interval(replicates: impl Iterator<Item = f64>, confidence: f64) -> Option<Interval> {
    let all: Vec<f64> = replicates.collect();
    let mut defined: Vec<f64> = all.iter().copied().filter(|value| value.is_finite()).collect();
    if defined.is_empty() || count(defined.len()) < 0.95 * count(all.len()) {
        return None;
    }
    defined.sort_unstable_by(f64::total_cmp);
    let tail = f64::midpoint(1.0, -confidence);
    Some(Interval {
        low: sample::quantile(&defined, tail),
        high: sample::quantile(&defined, 1.0 - tail),
        confidence,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn positions_from_many_words_at_once_are_those_from_one_word_each() {
        // Of the last length a quarter of the words is of no use.
        for (len, steps) in [(2, 5), (1_000, 10_000), (3 << 30, 10_000)] {
            let blocks = Blocks::new(len, 1.0).unwrap();
            let (mut many, mut single) = (stream(7, 3), stream(7, 3));
            let mut positions = Vec::new();
            blocks.draw(&mut many, steps, |position| positions.push(position));
            let expected: Vec<u32> = (0..steps).map(|_| blocks.start.sample(&mut single)).collect();
            assert_eq!(positions, expected, "{len}");
            assert_eq!(many.next_u32(), single.next_u32(), "{len}");
        }
    }
}

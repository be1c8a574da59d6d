//! Seeded synthetic 1-minute candles, for demonstrations and tests.
//!
//! The close follows a geometric random walk: each minute multiplies it by `exp(volatility * z)` with `z` close to a standard
//! normal variable. A bar opens at the close before it, its wicks reach out by a third of the volatility, and its volume is
//! close to log-normal. There is no trend, no clustering of volatility and no session pattern: a strategy's profit on such
//! candles says nothing about a market.
//!
//! # What is kept
//! * The same settings give the same bits on every machine. Hence only operations that IEEE 754 rounds exactly are used, and
//!   `ChaCha8` for the random bits. A library's `exp` and `ln` differ in the last bit between C libraries and even between
//!   processors, and through them the usual samplers of the normal distribution: that would change the hash of a chunk.
//! * Fewer minutes give a prefix of the same candles. To extend a series, generate it again with more minutes.
//! * Another `first_ms` gives the same prices at other times, not a continuation.

use std::iter::FusedIterator;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::time::TIME_RANGE;
use super::{Candle, MINUTE_MS};

/// The most minutes that one walk may have: 38 years.
pub const MAX_MINUTES: u32 = 20_000_000;

/// The largest standard deviation of one minute's logarithmic return.
pub const MAX_VOLATILITY: f64 = 0.01;

/// How far the price may stray from its start, as a factor, before a step is turned back.
const MAX_STRAY: f64 = 1e6;

/// What a walk is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WalkSettings {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Time of the first candle in milliseconds, a whole minute.
    pub first_ms: i64,
    /// How many candles.
    pub minutes: u32,
    /// The first candle's open, from 10^-6 to 10^12.
    pub start_price: f64,
    /// Standard deviation of one minute's logarithmic return, from 0 to [`MAX_VOLATILITY`].
    pub volatility: f64,
}

impl Default for WalkSettings {
    /// One day from 2023-01-01 at a price of 100, about as restless as bitcoin (50 % a year).
    fn default() -> Self {
        Self { seed: 0, first_ms: 1_672_531_200_000, minutes: 1440, start_price: 100.0, volatility: 0.0007 }
    }
}

/// Why no walk can be made from the settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SyntheticError {
    /// No minutes, or too many.
    #[error("{0} minutes of synthetic candles asked for; allowed are 1 to {MAX_MINUTES}")]
    Minutes(u32),
    /// The start is not on a whole minute, or the walk leaves the range of sensible years.
    #[error("synthetic candles cannot start at {0} ms: a whole minute after March 1973 is needed")]
    Start(i64),
    /// The price is not in the allowed range.
    #[error("{0} is no start price for synthetic candles; allowed are 0.000001 to 1000000000000")]
    Price(f64),
    /// The volatility is not in the allowed range.
    #[error("{0} is no volatility for synthetic candles; allowed are 0 to {MAX_VOLATILITY} (a minute)")]
    Volatility(f64),
}

/// Makes candles one by one, so that a long walk needs no memory.
pub fn generate(settings: WalkSettings) -> Result<Walk, SyntheticError> {
    let WalkSettings { seed, first_ms, minutes, start_price, volatility } = settings;
    if !(1..=MAX_MINUTES).contains(&minutes) {
        return Err(SyntheticError::Minutes(minutes));
    }
    let latest_start = TIME_RANGE.end - i64::from(minutes) * MINUTE_MS;
    if first_ms % MINUTE_MS != 0 || !(TIME_RANGE.start..latest_start).contains(&first_ms) {
        return Err(SyntheticError::Start(first_ms));
    }
    if !(1e-6..=1e12).contains(&start_price) {
        return Err(SyntheticError::Price(start_price));
    }
    if !(0.0..=MAX_VOLATILITY).contains(&volatility) {
        return Err(SyntheticError::Volatility(volatility));
    }
    // The whole seed by hand: how a generator stretches a short seed is its own affair and may change.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Ok(Walk {
        random: ChaCha8Rng::from_seed(key),
        next_ms: first_ms,
        left: minutes,
        price: start_price,
        floor: start_price / MAX_STRAY,
        ceiling: start_price * MAX_STRAY,
        volatility,
    })
}

/// The candles of a walk, in order; made by [`generate`].
#[derive(Clone, Debug)]
pub struct Walk {
    random: ChaCha8Rng,
    next_ms: i64,
    left: u32,
    price: f64,
    floor: f64,
    ceiling: f64,
    volatility: f64,
}

impl Walk {
    /// Nearly a standard normal variable: the sum of twelve uniform ones, less its mean. Never beyond 6.
    fn normal(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / 4_294_967_296.0;
        let sum: f64 = (0..12).map(|_| f64::from(self.random.next_u32())).sum();
        sum * UNIT - 6.0
    }
}

impl Iterator for Walk {
    type Item = Candle;

    fn next(&mut self) -> Option<Candle> {
        self.left = self.left.checked_sub(1)?;
        let open = self.price;
        let factor = exponential(self.volatility * self.normal());
        let stepped = open * factor;
        let close = if (self.floor..=self.ceiling).contains(&stepped) { stepped } else { open / factor };
        let wick = self.volatility / 3.0;
        let high = open.max(close) * (1.0 + wick * self.normal().abs());
        let low = open.min(close) * (1.0 - wick * self.normal().abs());
        let volume = exponential(1.0 + self.normal());
        #[expect(clippy::cast_precision_loss, reason = "times of candles are whole numbers below 10^14")]
        let time = self.next_ms as f64;
        self.next_ms += MINUTE_MS;
        self.price = close;
        Some([time, open, close, high, low, volume])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Walk {}

impl FusedIterator for Walk {}

/// `e` to the power of `x` for `-8 < x < 8`, to about nine digits, by multiplications and additions alone.
fn exponential(x: f64) -> f64 {
    let part = x / 1024.0;
    let mut power = 1.0 + part * (1.0 + part / 2.0 * (1.0 + part / 3.0 * (1.0 + part / 4.0)));
    for _ in 0..10 {
        power *= power;
    }
    power
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::{encode, split};

    fn walk(settings: WalkSettings) -> Vec<Candle> {
        generate(settings).unwrap().collect()
    }

    #[test]
    fn the_bits_of_a_walk_are_fixed() {
        let bytes = encode(&walk(WalkSettings { seed: 42, ..WalkSettings::default() }));
        let hash = blake3::hash(&bytes).to_hex();
        assert_eq!(hash.as_str(), "357282109a95a3504d41735eaddf6735aa03f654be8eb1d1d1372c34ada81106");
    }

    #[test]
    fn every_candle_is_sound() {
        for (seed, volatility) in [(1, 0.0), (2, 0.0007), (3, MAX_VOLATILITY), (u64::MAX, 1e-300)] {
            let settings = WalkSettings { seed, volatility, minutes: 20_000, ..WalkSettings::default() };
            let candles = walk(settings);
            assert_eq!(candles.len(), 20_000);
            assert!(candles.windows(2).all(|pair| pair[0][2].to_bits() == pair[1][1].to_bits()));
            for [_, open, close, high, low, volume] in &candles {
                assert!(*low > 0.0 && low <= open && low <= close && high >= open && high >= close);
                assert!(high.is_finite() && volume.is_finite() && *volume > 0.0);
            }
            assert_eq!(split(&candles).unwrap().len(), 1);
        }
    }

    #[test]
    fn fewer_minutes_are_a_prefix_and_seeds_differ() {
        let long = walk(WalkSettings { minutes: 5000, ..WalkSettings::default() });
        assert_eq!(walk(WalkSettings { minutes: 100, ..WalkSettings::default() }), long[..100]);
        assert_ne!(
            walk(WalkSettings { seed: 1, ..WalkSettings::default() })[0][2].to_bits(),
            long[0][2].to_bits()
        );
        assert_eq!(generate(WalkSettings::default()).unwrap().len(), 1440);
    }

    #[test]
    fn returns_have_the_asked_for_moments() {
        let settings =
            WalkSettings { seed: 9, minutes: 200_000, volatility: 0.001, ..WalkSettings::default() };
        let returns: Vec<f64> =
            generate(settings).unwrap().map(|[_, open, close, ..]| (close / open).ln()).collect();
        let count = f64::from(settings.minutes);
        let mean = returns.iter().sum::<f64>() / count;
        let deviation = (returns.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Four standard errors.
        assert!(mean.abs() < 4.0 * 0.001 / count.sqrt(), "{mean}");
        assert!((deviation / 0.001 - 1.0).abs() < 4.0 / (2.0 * count).sqrt(), "{deviation}");
    }

    #[test]
    fn the_price_turns_back_at_its_bounds() {
        let mut walk =
            generate(WalkSettings { volatility: MAX_VOLATILITY, ..WalkSettings::default() }).unwrap();
        (walk.floor, walk.ceiling) = (90.0, 110.0);
        assert!(walk.all(|candle| (90.0..=110.0).contains(&candle[2])));
    }

    #[test]
    fn the_exponential_is_close_to_the_real_one() {
        for step in -800..=800_i32 {
            let x = f64::from(step) / 100.0;
            assert!((exponential(x) / x.exp() - 1.0).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn senseless_settings_say_what_is_allowed() {
        let valid = WalkSettings::default();
        for (settings, message) in [
            (WalkSettings { minutes: 0, ..valid }, "allowed are 1 to 20000000"),
            (WalkSettings { minutes: MAX_MINUTES + 1, ..valid }, "allowed are 1 to 20000000"),
            (WalkSettings { first_ms: 1, ..valid }, "a whole minute after March 1973"),
            (WalkSettings { first_ms: i64::MAX / MINUTE_MS * MINUTE_MS, ..valid }, "a whole minute"),
            (WalkSettings { start_price: 0.0, ..valid }, "allowed are 0.000001 to"),
            (WalkSettings { start_price: f64::NAN, ..valid }, "allowed are 0.000001 to"),
            (WalkSettings { volatility: -0.1, ..valid }, "allowed are 0 to 0.01"),
            (WalkSettings { volatility: f64::INFINITY, ..valid }, "allowed are 0 to 0.01"),
        ] {
            let error = generate(settings).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}

//! Small candle series for the tests of this module.

use super::{Candle, MINUTE_MS};

/// 2023-01-01 00:00 UTC.
pub(super) const JANUARY_2023: i64 = 1_672_531_200_000;

/// Candles at these minutes after `first_ms`, with prices that depend on the minute.
pub(super) fn candles_at(first_ms: i64, minutes: &[u32]) -> Vec<Candle> {
    minutes
        .iter()
        .map(|minute| candle(first_ms + i64::from(*minute) * MINUTE_MS, f64::from(*minute) + 100.0))
        .collect()
}

/// So many candles without a gap.
pub(super) fn minutes(first_ms: i64, count: u32) -> Vec<Candle> {
    candles_at(first_ms, &(0..count).collect::<Vec<_>>())
}

/// A consistent candle around a price.
#[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
pub(super) fn candle(ms: i64, price: f64) -> Candle {
    [ms as f64, price, price + 1.0, price + 2.0, price - 1.0, 3.0]
}

//! Drawdowns: how far below its highest point the equity was, and for how long.

use schemars::JsonSchema;
use serde::Serialize;

use crate::number::millis;
use crate::series::{DAY_MS, EquityCurve};

/// One drawdown, from the highest point before it until that level is reached again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Drawdown {
    /// Loss from the peak to the trough, as a fraction of the peak: 0.25 is 25 %.
    pub depth: f64,
    /// When the peak was last held, in milliseconds since 1970 (UTC).
    pub peak_ms: i64,
    /// When the lowest point was reached.
    pub trough_ms: i64,
    /// When the level of the peak was reached again; `null` while it is not.
    pub recovered_ms: Option<i64>,
    /// Days from the peak to the recovery, or to the end of the curve.
    pub days_under_water: f64,
}

/// The deepest drawdowns of a curve, and what holds for all of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DrawdownTable {
    /// The deepest ones, deepest first.
    pub deepest: Vec<Drawdown>,
    /// How many there were.
    pub number: usize,
    /// Loss from the highest point so far at the end of the curve, as a fraction of that point.
    pub current: f64,
    /// The longest time under water, in days.
    pub longest_days: f64,
    /// The time under water as a fraction of all time.
    pub share_under_water: f64,
}

/// Largest loss from a peak, as a fraction of the peak, of compounded returns; the wealth before the first return counts as a
/// point. Each return is above -1.
pub fn max_drawdown(returns: &[f64]) -> f64 {
    // The level below the peak: multiplied along and never above 1, so that no division is needed.
    let mut level = 1.0_f64;
    let mut lowest = 1.0_f64;
    for value in returns {
        level = (level * (1.0 + value)).min(1.0);
        lowest = lowest.min(level);
    }
    1.0 - lowest
}

/// All drawdowns of an equity curve, of which the `most` deepest are listed. Only the points of the curve are seen: what
/// happened between two of them may have been deeper.
pub fn drawdown_table(equity: &EquityCurve, most: usize) -> DrawdownTable {
    let mut all = drawdowns(equity);
    let (times, values) = (equity.times_ms(), equity.values());
    let total_ms = millis(times[times.len() - 1] - times[0]);
    let under_water: f64 = all.iter().map(|drawdown| drawdown.days_under_water).sum();
    let peak = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let number = all.len();
    let longest_days = all.iter().map(|drawdown| drawdown.days_under_water).fold(0.0, f64::max);
    all.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    all.truncate(most);
    DrawdownTable {
        deepest: all,
        number,
        current: 1.0 - values[values.len() - 1] / peak,
        longest_days,
        share_under_water: (under_water * millis(DAY_MS) / total_ms).clamp(0.0, 1.0),
    }
}

/// All drawdowns in the order of time.
fn drawdowns(equity: &EquityCurve) -> Vec<Drawdown> {
    let (times, values) = (equity.times_ms(), equity.values());
    let days = |from: i64, to: i64| millis(to - from) / millis(DAY_MS);
    let mut all = Vec::new();
    let (mut peak, mut peak_ms) = (values[0], times[0]);
    // The lowest point since the peak, while there is one below it.
    let mut trough: Option<(f64, i64)> = None;
    for (&value, &time) in values.iter().zip(times) {
        if value < peak {
            if trough.is_none_or(|(lowest, _)| value < lowest) {
                trough = Some((value, time));
            }
            continue;
        }
        if let Some((lowest, trough_ms)) = trough.take() {
            let (depth, days_under_water) = (1.0 - lowest / peak, days(peak_ms, time));
            all.push(Drawdown { depth, peak_ms, trough_ms, recovered_ms: Some(time), days_under_water });
        }
        (peak, peak_ms) = (value, time);
    }
    if let Some((lowest, trough_ms)) = trough {
        let days_under_water = days(peak_ms, times[times.len() - 1]);
        all.push(Drawdown {
            depth: 1.0 - lowest / peak,
            peak_ms,
            trough_ms,
            recovered_ms: None,
            days_under_water,
        });
    }
    all
}

//! Returns by month, and how much of the time there was a position.

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::RiskError;
use crate::number::{millis, whole};
use crate::series::{EquityCurve, Side, Trades};

/// The returns of one calendar year (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct YearOfReturns {
    /// The year.
    pub year: i16,
    /// January to December, as fractions; `null` for a month that the curve does not reach.
    pub months: [Option<f64>; 12],
    /// The year, compounded.
    pub total: f64,
}

/// Returns by calendar month (UTC). The first and the last month may be parts of one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MonthlyTable {
    /// In the order of time.
    pub years: Vec<YearOfReturns>,
    /// Fraction of the months that gained.
    pub positive_months: f64,
}

/// The table of an equity curve. The return of a month is from the last point before it to its last point.
///
/// Fails for more than 1,000 years.
pub fn monthly_table(equity: &EquityCurve) -> Result<MonthlyTable, RiskError> {
    let mut years: Vec<YearOfReturns> = Vec::new();
    // Equity before the month and the year that are being added up.
    let (mut month_base, mut year_base) = (equity.values()[0], equity.values()[0]);
    let mut last = equity.values()[0];
    let mut current: Option<(i16, usize)> = None;
    for (index, (&time, &value)) in equity.times_ms().iter().zip(equity.values()).enumerate() {
        let (year, month) = year_and_month(time).ok_or(RiskError::NotATime {
            what: "times of the equity",
            index,
            value: time,
        })?;
        if current != Some((year, month)) {
            month_base = last;
        }
        if current.is_none_or(|(before, _)| before != year) {
            year_base = last;
            crate::error::at_most("years of the table", years.len() + 1, 1_000)?;
            years.push(YearOfReturns { year, months: [None; 12], total: 0.0 });
        }
        current = Some((year, month));
        if let Some(row) = years.last_mut() {
            row.months[month] = Some(value / month_base - 1.0);
            row.total = value / year_base - 1.0;
        }
        last = value;
    }
    let months: Vec<f64> = years.iter().flat_map(|row| row.months).flatten().collect();
    let positive = crate::number::count(months.iter().filter(|month| **month > 0.0).count());
    Ok(MonthlyTable { positive_months: positive / crate::number::count(months.len().max(1)), years })
}

/// The year, and the month from 0.
fn year_and_month(time_ms: i64) -> Option<(i16, usize)> {
    let date = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(time_ms).ok()?).date();
    Some((date.year(), usize::try_from(date.month()).ok()?.checked_sub(1)?))
}

/// How much of the time there was a position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Exposure {
    /// Fraction of the time with any trade open.
    pub in_market: f64,
    /// Fraction with a long trade open.
    pub long: f64,
    /// Fraction with a short trade open.
    pub short: f64,
    /// Mean time from opening to closing, in hours; `null` without trades.
    pub mean_holding_hours: Option<f64>,
    /// The median of it.
    pub median_holding_hours: Option<f64>,
    /// The most trades that were open at once.
    pub most_at_once: usize,
}

/// Exposure between two times in milliseconds since 1970; trades beyond them are cut off. Overlapping trades count once.
pub fn exposure(trades: &Trades, from_ms: i64, to_ms: i64) -> Result<Exposure, RiskError> {
    if to_ms <= from_ms {
        return Err(RiskError::NotIncreasing { what: "start and end", index: 1 });
    }
    let spans = |side: Option<Side>| -> Vec<(i64, i64)> {
        let chosen = trades.as_slice().iter().filter(|trade| side.is_none_or(|side| trade.side == side));
        chosen
            .map(|trade| (trade.opened_ms.max(from_ms), trade.closed_ms.min(to_ms)))
            .filter(|(open, close)| close > open)
            .collect()
    };
    let total = millis(to_ms) - millis(from_ms);
    let hours: Vec<f64> = crate::sample::sorted(
        &trades
            .as_slice()
            .iter()
            .map(|trade| millis(trade.closed_ms - trade.opened_ms) / 3_600_000.0)
            .collect::<Vec<_>>(),
    );
    Ok(Exposure {
        in_market: millis(covered(spans(None))) / total,
        long: millis(covered(spans(Some(Side::Long)))) / total,
        short: millis(covered(spans(Some(Side::Short)))) / total,
        mean_holding_hours: (!hours.is_empty()).then(|| crate::sample::mean(&hours)),
        median_holding_hours: (!hours.is_empty()).then(|| crate::sample::quantile(&hours, 0.5)),
        most_at_once: most_at_once(&spans(None)),
    })
}

/// The length of the union of spans.
fn covered(mut spans: Vec<(i64, i64)>) -> i64 {
    spans.sort_unstable();
    let mut reached = i64::MIN;
    spans.into_iter().fold(0, |sum, (open, close)| {
        let fresh = close - open.max(reached).min(close);
        reached = reached.max(close);
        sum + fresh
    })
}

/// The most spans that hold one moment; a span that ends where another starts does not overlap it.
fn most_at_once(spans: &[(i64, i64)]) -> usize {
    let mut events: Vec<(i64, i32)> =
        spans.iter().flat_map(|&(open, close)| [(open, 1), (close, -1)]).collect();
    events.sort_unstable();
    let (mut open, mut most) = (0_i32, 0_i32);
    for (_, change) in events {
        open += change;
        most = most.max(open);
    }
    whole(f64::from(most))
}

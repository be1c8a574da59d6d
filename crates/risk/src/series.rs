//! What is analysed: returns of a stated frequency, equity curves in time, trades. Checked once, here.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{RiskError, SMALLEST_PRICE, all_finite, at_least};
use crate::number::{count, millis};
use crate::sample;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// How many periods of a series make a year. Always stated: 365 for days of crypto, 252 for days of a stock exchange, 8,760
/// for hours of crypto, 12 for months.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
pub struct PeriodsPerYear(f64);

impl PeriodsPerYear {
    /// Calendar days, which is what a market that never closes has.
    pub const CRYPTO_DAYS: Self = Self(365.0);

    /// A number above 0 and at most that of seconds in a year, 31,622,400.
    pub fn new(periods: f64) -> Result<Self, RiskError> {
        if periods > 0.0 && periods <= 31_622_400.0 {
            Ok(Self(periods))
        } else {
            Err(RiskError::OutOfRange {
                name: "periods per year",
                value: periods,
                allowed: "above 0 and at most 31622400",
            })
        }
    }

    /// From the length of a period in milliseconds and the trading days of a year (365 for crypto).
    pub fn of_length(period_ms: i64, days_of_year: f64) -> Result<Self, RiskError> {
        if period_ms <= 0 {
            return Err(RiskError::OutOfRange {
                name: "period",
                value: millis(period_ms),
                allowed: "above 0 milliseconds",
            });
        }
        Self::new(days_of_year * millis(DAY_MS) / millis(period_ms))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Simple returns of equal periods, as fractions (-0.02 is a loss of 2 %), each finite and above -1.
#[derive(Debug, Clone, PartialEq)]
pub struct Returns {
    values: Vec<f64>,
    frequency: PeriodsPerYear,
}

impl Returns {
    /// At least two returns.
    pub fn new(values: Vec<f64>, frequency: PeriodsPerYear) -> Result<Self, RiskError> {
        at_least("returns", values.len(), 2)?;
        check_returns("returns", &values)?;
        Ok(Self { values, frequency })
    }

    /// The fractions.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many a year has.
    pub fn frequency(&self) -> PeriodsPerYear {
        self.frequency
    }

    /// The time they cover, in years.
    pub fn years(&self) -> f64 {
        count(self.values.len()) / self.frequency.get()
    }

    /// Wealth that starts at 1 and compounds: one more value than there are returns.
    pub fn wealth(&self) -> Vec<f64> {
        let mut wealth = Vec::with_capacity(self.values.len() + 1);
        wealth.push(1.0);
        wealth.extend(self.values.iter().scan(1.0, |level, value| {
            *level *= 1.0 + value;
            Some(*level)
        }));
        wealth
    }

    /// As an equity curve whose first point is at `start_ms` and worth `initial`, one point every `period_ms`.
    pub fn equity(&self, start_ms: i64, period_ms: i64, initial: f64) -> Result<EquityCurve, RiskError> {
        let mut time = start_ms;
        let mut times = Vec::with_capacity(self.values.len() + 1);
        for index in 0..=self.values.len() {
            times.push(time);
            time = time.checked_add(period_ms).ok_or(RiskError::NotATime {
                what: "times",
                index,
                value: time,
            })?;
        }
        EquityCurve::new(times, self.wealth().iter().map(|level| level * initial).collect())
    }
}

/// A larger return is a slip in the data: a wrong price, a percent taken for a fraction many times over.
const LARGEST_RETURN: f64 = 1e6;

/// Refuses what is no compoundable return.
pub(crate) fn check_returns(what: &'static str, values: &[f64]) -> Result<(), RiskError> {
    all_finite(what, values)?;
    if let Some(&value) = values.iter().find(|value| **value > LARGEST_RETURN) {
        return Err(RiskError::OutOfRange { name: "return", value, allowed: "above -1 and at most 1000000" });
    }
    match values.iter().position(|value| *value <= -1.0) {
        Some(index) => Err(RiskError::TotalLoss { what, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Refuses prices or equity that are not above zero.
pub(crate) fn check_positive(what: &'static str, values: &[f64]) -> Result<(), RiskError> {
    all_finite(what, values)?;
    match values.iter().position(|value| *value < SMALLEST_PRICE) {
        Some(index) => Err(RiskError::NotPositive { what, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Equity at times that increase. Every value is finite and above 0.
#[derive(Debug, Clone, PartialEq)]
pub struct EquityCurve {
    times_ms: Vec<i64>,
    values: Vec<f64>,
}

/// The latest time a curve may have: the year 9999.
const LAST_TIME_MS: i64 = 253_402_300_799_999;

impl EquityCurve {
    /// At least two points; times in milliseconds since 1970 (UTC).
    pub fn new(times_ms: Vec<i64>, values: Vec<f64>) -> Result<Self, RiskError> {
        at_least("equity", values.len(), 2)?;
        if times_ms.len() != values.len() {
            let what = "times of the equity".to_owned();
            return Err(RiskError::LengthMismatch { what, found: times_ms.len(), expected: values.len() });
        }
        check_positive("equity", &values)?;
        check_times("times", &times_ms)?;
        Ok(Self { times_ms, values })
    }

    /// The times, in milliseconds since 1970 (UTC).
    pub fn times_ms(&self) -> &[i64] {
        &self.times_ms
    }

    /// The equity at these times.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The time from the first point to the last, in years of 365.25 days.
    pub fn years(&self) -> f64 {
        let span = self.times_ms[self.times_ms.len() - 1] - self.times_ms[0];
        millis(span) / (365.25 * millis(DAY_MS))
    }

    /// The last point of each day (UTC), at the start of that day. A day without a point carries the equity of the day before:
    /// the account was worth that much.
    ///
    /// Fails with fewer than two days, and with more than 100,000 (a slip in the times, not a backtest).
    pub fn daily(&self) -> Result<Self, RiskError> {
        let day = |time: i64| time.div_euclid(DAY_MS);
        let (first, last) = (day(self.times_ms[0]), day(self.times_ms[self.times_ms.len() - 1]));
        let days = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        at_least("days of equity", days, 2)?;
        crate::error::at_most("days of equity", days, 100_000)?;
        let mut points = self.times_ms.iter().zip(&self.values).peekable();
        let mut level = self.values[0];
        let (mut times, mut values) = (Vec::with_capacity(days), Vec::with_capacity(days));
        for today in first..=last {
            while let Some((_, value)) = points.next_if(|(time, _)| day(**time) == today) {
                level = *value;
            }
            times.push(today * DAY_MS);
            values.push(level);
        }
        Self::new(times, values)
    }

    /// Returns from day to day (UTC), annualised with `frequency` days (365 for crypto).
    pub fn daily_returns(&self, frequency: PeriodsPerYear) -> Result<Returns, RiskError> {
        let daily = self.daily()?;
        Returns::new(changes(&daily.values), frequency)
    }
}

/// Simple returns from one value to the next.
pub(crate) fn changes(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect()
}

/// Times that increase and that a calendar has.
pub(crate) fn check_times(what: &'static str, times_ms: &[i64]) -> Result<(), RiskError> {
    if let Some(index) = times_ms.iter().position(|time| !(0..=LAST_TIME_MS).contains(time)) {
        return Err(RiskError::NotATime { what, index, value: times_ms[index] });
    }
    match times_ms.windows(2).position(|pair| pair[1] <= pair[0]) {
        Some(index) => Err(RiskError::NotIncreasing { what, index: index + 1 }),
        None => Ok(()),
    }
}

/// Which way a trade bets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Gains when the price rises.
    Long,
    /// Gains when the price falls.
    Short,
}

/// A closed trade.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trade {
    /// When it was opened, in milliseconds since 1970 (UTC).
    pub opened_ms: i64,
    /// When it was closed, not before it was opened.
    pub closed_ms: i64,
    /// Its side.
    pub side: Side,
    /// Net profit, fees included, in units of the equity.
    pub profit: f64,
}

/// The closed trades of one account, in the order of their closing.
#[derive(Debug, Clone, PartialEq)]
pub struct Trades {
    trades: Vec<Trade>,
}

impl Trades {
    /// Sorts by closing time. None at all is allowed: a strategy that never trades is a result, too.
    pub fn new(mut trades: Vec<Trade>) -> Result<Self, RiskError> {
        for (index, trade) in trades.iter().enumerate() {
            if !trade.profit.is_finite() {
                return Err(RiskError::NotFinite { what: "profits of trades", index, value: trade.profit });
            }
            for value in [trade.opened_ms, trade.closed_ms] {
                if !(0..=LAST_TIME_MS).contains(&value) {
                    return Err(RiskError::NotATime { what: "times of trades", index, value });
                }
            }
            if trade.closed_ms < trade.opened_ms {
                return Err(RiskError::NotIncreasing { what: "closing times of trades", index });
            }
        }
        trades.sort_by_key(|trade| (trade.closed_ms, trade.opened_ms));
        Ok(Self { trades })
    }

    /// The trades in the order of their closing.
    pub fn as_slice(&self) -> &[Trade] {
        &self.trades
    }

    /// Each profit as a fraction of the realised equity before it, with `starting_balance` before the first: what
    /// compounds to the final balance. Fails where a trade takes all there is.
    pub fn returns(&self, starting_balance: f64) -> Result<Vec<f64>, RiskError> {
        check_positive("starting balance", &[starting_balance])?;
        let mut balance = starting_balance;
        let mut returns = Vec::with_capacity(self.trades.len());
        for trade in &self.trades {
            returns.push(trade.profit / balance);
            balance += trade.profit;
            check_returns("returns of trades", &returns[returns.len() - 1..])?;
        }
        Ok(returns)
    }

    /// Mean profit; `None` without trades.
    pub fn expectancy(&self) -> Option<f64> {
        let profits: Vec<f64> = self.trades.iter().map(|trade| trade.profit).collect();
        (!profits.is_empty()).then(|| sample::mean(&profits))
    }
}

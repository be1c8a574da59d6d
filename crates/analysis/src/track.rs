//! The returns that most analyses are about, with what is known of them beside.

use jobs::JobError;
use risk::{
    EquityCurve, PeriodsPerYear, Returns, Side, Trade, Trades,
    performance::{MonthlyTable, monthly_table},
    portfolio::{Portfolio, combine},
};
use serde_json::{Value, json};

use crate::{
    answer::{refusal, unfit},
    inputs::{Body, ClosedTrade, Inputs, LoadedResult, Point},
    source::Source,
};

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) returns: Returns,
    /// When the first period begins, in milliseconds; unknown for returns that came without a date.
    pub(crate) start_ms: Option<i64>,
    /// Length of a period in milliseconds.
    pub(crate) period_ms: i64,
    /// Of a single result.
    pub(crate) trades: Option<Trades>,
    /// Of a single result, in the quote asset.
    pub(crate) balance: Option<f64>,
    /// Of several results.
    pub(crate) portfolio: Option<Portfolio>,
    /// What it is, for a reader.
    pub(crate) about: Value,
}

/// Returns by calendar day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Daily {
    /// Days since 1970 of the first.
    pub(crate) first_day: i64,
    pub(crate) returns: Vec<f64>,
}

impl Track {
    /// Reads the track of a source.
    pub(crate) fn of(source: &Source, inputs: &Inputs) -> Result<Self, JobError> {
        let Source::Results { parts, rebalance, days_per_year } = source else {
            let given = source.given(inputs.returns.clone().unwrap_or_default())?;
            let about = json!({ "returns": given.returns.values().len() });
            return Ok(Self {
                returns: given.returns,
                start_ms: given.start_ms,
                period_ms: given.period_ms,
                trades: None,
                balance: None,
                portfolio: None,
                about,
            });
        };
        let frequency = PeriodsPerYear::new(*days_per_year).map_err(|error| refusal(&error))?;
        let [result] = &inputs.results[..] else {
            let weights: Vec<f64> = parts.iter().map(|part| part.weight).collect();
            let curves = inputs.results.iter().map(|result| daily(&result.body)?.marks());
            let curves = curves.collect::<Result<Vec<_>, JobError>>()?;
            let portfolio = combine(&curves, &weights, *rebalance).map_err(|error| refusal(&error))?;
            let values = portfolio.equity.values();
            let returns = values.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect();
            let abouts = inputs.results.iter().zip(&weights).map(|(result, weight)| {
                let mut about = about(result);
                about["weight"] = json!(weight);
                about
            });
            let abouts = abouts.collect::<Vec<_>>();
            return Ok(Self {
                returns: Returns::new(returns, frequency).map_err(|error| refusal(&error))?,
                start_ms: Some(portfolio.equity.times_ms()[0] + DAY_MS),
                period_ms: DAY_MS,
                trades: None,
                balance: None,
                about: json!({ "portfolio": abouts }),
                portfolio: Some(portfolio),
            });
        };
        let daily = daily(&result.body)?;
        Ok(Self {
            start_ms: Some(daily.first_day * DAY_MS),
            returns: Returns::new(daily.returns, frequency).map_err(|error| refusal(&error))?,
            period_ms: DAY_MS,
            trades: Some(trades(&result.body.trades)?),
            balance: Some(result.backtest.balance),
            portfolio: None,
            about: about(result),
        })
    }

    /// As an equity curve in time that starts at the balance, or at 1; `None` if the time is not known.
    pub(crate) fn equity(&self) -> Result<Option<EquityCurve>, JobError> {
        let Some(start) = self.start_ms else { return Ok(None) };
        let scale = self.balance.unwrap_or(1.0);
        let values = self.returns.wealth().iter().map(|level| level * scale).collect();
        marked(start, self.period_ms, values).map(Some)
    }

    /// When the last period ends, in milliseconds.
    pub(crate) fn end_ms(&self) -> Option<i64> {
        let periods = i64::try_from(self.returns.values().len()).ok()?;
        Some(self.start_ms? + periods * self.period_ms)
    }

    /// What every answer says of the data that it is about.
    pub(crate) fn data(&self) -> Value {
        let minutes = self.period_ms / 60_000;
        let period = match minutes {
            minutes if minutes % 1440 == 0 => format!("{}D", minutes / 1440),
            minutes if minutes % 60 == 0 => format!("{}h", minutes / 60),
            minutes => format!("{minutes}m"),
        };
        let mut data = json!({
            "of": self.about,
            "returns": self.returns.values().len(),
            "period": period,
            "periods_per_year": self.returns.frequency().get(),
        });
        if let (Some(start), Some(end)) = (self.start_ms, self.end_ms()) {
            data["from"] = date(start).into();
            data["to"] = date(end).into();
        }
        data
    }
}

/// A curve of the values at `start_ms` and at the end of each period after it. A period's mark is its last millisecond, so
/// that it belongs to the period's own day and month.
fn marked(start_ms: i64, period_ms: i64, values: Vec<f64>) -> Result<EquityCurve, JobError> {
    let mut times = vec![start_ms];
    let mut end = start_ms;
    for _ in values.iter().skip(1) {
        end += period_ms;
        times.push(end - 1);
    }
    EquityCurve::new(times, values).map_err(|error| refusal(&error))
}

/// Returns by calendar month (UTC) of a backtest's equity curve of two points or more: those of its risk report.
pub fn monthly_returns(points: &[Point]) -> Result<MonthlyTable, JobError> {
    let daily = by_day(points)?;
    monthly_table(&marked(daily.first_day * DAY_MS, DAY_MS, daily.levels())?).map_err(|error| refusal(&error))
}

impl Daily {
    /// What 1 becomes: one more value than there are days.
    fn levels(&self) -> Vec<f64> {
        let mut levels = vec![1.0];
        levels.extend(self.returns.iter().scan(1.0, |level, value| {
            *level *= 1.0 + value;
            Some(*level)
        }));
        levels
    }

    /// As marks at the days' beginnings for those who combine curves: the first is of the day before, when nothing was won yet.
    fn marks(&self) -> Result<EquityCurve, JobError> {
        let values = self.levels();
        let days = (self.first_day - 1..).take(values.len());
        EquityCurve::new(days.map(|day| day * DAY_MS).collect(), values).map_err(|error| refusal(&error))
    }
}

/// The returns of a result by calendar day (UTC). A day without a sample has a return of 0: the account was worth that much.
pub(crate) fn daily(body: &Body) -> Result<Daily, JobError> {
    let points = &body.equity_curve;
    if points.len() < 2 {
        let message = if body.trades.is_empty() {
            "the backtest made no trade, so there are no returns to analyse"
        } else {
            "the result has no equity curve to analyse"
        };
        return Err(unfit(message));
    }
    by_day(points)
}

/// The same of the curve alone, which has two points at least.
pub(crate) fn by_day(points: &[Point]) -> Result<Daily, JobError> {
    let times = points.iter().map(|point| point.time.saturating_mul(1000)).collect();
    let curve = EquityCurve::new(times, points.iter().map(|point| point.value).collect())
        .map_err(|error| refusal(&error))?;
    let day = |from: i64, to: i64| (i64::midpoint(from, to) - 1).div_euclid(DAY_MS);
    let times = curve.times_ms();
    let first_day = day(times[0], times[1]);
    let last_day = day(times[times.len() - 2], times[times.len() - 1]);
    let days = usize::try_from(last_day - first_day + 1).unwrap_or_default();
    if days > 100_000 {
        return Err(unfit(format!("the equity curve covers {days} days, at most 100000 are analysed")));
    }
    let mut returns = vec![0.0; days];
    for (times, values) in times.windows(2).zip(curve.values().windows(2)) {
        let at = usize::try_from(day(times[0], times[1]) - first_day).unwrap_or_default();
        if let Some(slot) = returns.get_mut(at) {
            let earlier: f64 = *slot;
            // Two samples whose middle is in one day, as at the end, are one return; a single one stays exact.
            let change = values[1] / values[0] - 1.0;
            *slot = if earlier == 0.0 { change } else { (1.0 + earlier) * (1.0 + change) - 1.0 };
        }
    }
    Ok(Daily { first_day, returns })
}

/// The trades of a result.
pub(crate) fn trades(closed: &[ClosedTrade]) -> Result<Trades, JobError> {
    let trade = |trade: &ClosedTrade| Trade {
        opened_ms: millis(trade.opened_at),
        closed_ms: millis(trade.closed_at),
        side: if trade.side == "short" { Side::Short } else { Side::Long },
        profit: trade.profit,
    };
    Trades::new(closed.iter().map(trade).collect()).map_err(|error| refusal(&error))
}

/// A time that is none stays outside of every calendar.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float turns into the nearest whole number, NaN into -1"
)]
pub(crate) fn millis(time: f64) -> i64 {
    if time.is_finite() { time as i64 } else { -1 }
}

/// What was run, in as few words as tell it apart.
pub(crate) fn about(result: &LoadedResult) -> Value {
    let backtest = &result.backtest;
    let routes: Vec<_> = backtest
        .routes
        .iter()
        .map(|route| format!("{} {} {}", route.strategy, route.symbol, route.timeframe))
        .collect();
    json!({
        "backtest": routes.join(", "),
        "exchange": backtest.exchange,
        "from": backtest.start_date.to_string(),
        "to": backtest.finish_date.to_string(),
    })
}

/// The day (UTC) that a time in milliseconds lies in.
pub(crate) fn date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const DAY: i64 = 86_400;

    fn points(times: &[i64]) -> Vec<Point> {
        let mut value = 100.0;
        times
            .iter()
            .map(|time| {
                value *= 1.01;
                Point { time: *time, value }
            })
            .collect()
    }

    #[test]
    fn a_return_belongs_to_the_day_that_most_of_it_lies_in() {
        // As Jesse samples a month of hours: at the start, an hour into each following day, and in the last minute.
        let times = [0, DAY + 3600, 2 * DAY + 3600, 3 * DAY - 60];
        let daily = by_day(&points(&times)).unwrap();
        assert_eq!((daily.first_day, daily.returns.len()), (0, 3));
        assert!(daily.returns.iter().all(|value| (value - 0.01).abs() < 1e-12), "{daily:?}");
        // Minute by minute, and half days.
        for times in [[0, DAY + 60, 2 * DAY + 60, 3 * DAY - 60], [0, 3 * DAY / 2, 5 * DAY / 2, 3 * DAY - 60]]
        {
            let daily = by_day(&points(&times)).unwrap();
            assert_eq!((daily.first_day, daily.returns.len()), (0, 3), "{times:?}");
        }
    }

    #[test]
    fn samples_of_one_day_are_one_return_and_a_day_without_has_none() {
        let daily = by_day(&points(&[0, 3600, 7200, 2 * DAY])).unwrap();
        assert_eq!(daily.returns.len(), 2);
        assert!((daily.returns[0] - 0.0201).abs() < 1e-12, "{daily:?}");
        let gap = by_day(&points(&[0, DAY, 3 * DAY, 4 * DAY, 5 * DAY])).unwrap();
        assert_eq!(gap.returns.len(), 5);
        assert_eq!(gap.returns.iter().filter(|value| **value == 0.0).count(), 1);
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        assert!(daily(&Body::default()).unwrap_err().message.contains("no trade"));
        let bad = [Point { time: 0, value: 1.0 }, Point { time: DAY, value: -5.0 }];
        assert!(by_day(&bad).unwrap_err().message.contains("above 0"));
        let bad = [Point { time: 0, value: 1.0 }, Point { time: DAY, value: f64::NAN }];
        assert!(by_day(&bad).unwrap_err().message.contains("finite"));
        let bad = [Point { time: DAY, value: 1.0 }, Point { time: 0, value: 1.0 }];
        assert!(by_day(&bad).unwrap_err().message.contains("increase"));
    }
}

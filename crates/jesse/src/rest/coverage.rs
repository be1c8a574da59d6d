//! Whether a server has the candles that a backtest needs. Jesse replays what it finds: where its candles end before
//! finish_date the run ends there too, and is called finished.

use jiff::{Timestamp, civil::Date, tz::Offset};
use jobs::{ErrorCode, JobError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::http::{CallError, Client};
use crate::{candles::MINUTE_MS, spec::BacktestSpec};

/// The candles of one symbol on a server. Days are all that it tells at little cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// As Jesse spells it.
    pub exchange: String,
    /// E.g. BTC-USDT.
    pub symbol: String,
    /// The day of the first candle.
    #[serde(rename = "start_date")]
    pub first: Date,
    /// The day of the last candle.
    #[serde(rename = "end_date")]
    pub last: Date,
}

/// All that a server has. It looks at every row of its table for it.
pub(super) async fn stored(client: &Client) -> Result<Vec<Coverage>, CallError> {
    let answer = client.post("candles/existing", &json!({})).await?;
    serde_json::from_value(answer["data"].clone()).map_err(|error| CallError::Answer(error.into()))
}

/// The candles that a backtest needs, or what is missing of them.
pub(super) fn needed(spec: &BacktestSpec, stored: &[Coverage]) -> Result<Vec<Coverage>, JobError> {
    let mut needed = Vec::new();
    for symbol in spec.symbols() {
        let found = stored.iter().find(|one| one.exchange == spec.exchange && one.symbol == symbol);
        let Some(found) = found else { return Err(nothing_stored(spec, symbol, stored)) };
        if found.first > day(spec.warm_up_start_ms()) || found.last < day(spec.range_ms().1 - MINUTE_MS) {
            return Err(out_of_range(spec, found));
        }
        needed.push(found.clone());
    }
    Ok(needed)
}

fn nothing_stored(spec: &BacktestSpec, symbol: &str, stored: &[Coverage]) -> JobError {
    let names: Vec<_> =
        stored.iter().take(40).map(|one| format!("{} {}", one.exchange, one.symbol)).collect();
    let known =
        if names.is_empty() { "it has none at all".into() } else { format!("it has {}", names.join(", ")) };
    let message =
        format!("Jesse's server has no candles of {} {symbol}; {known}. Import them there", spec.exchange);
    JobError::new(ErrorCode::CandlesMissing, message).with_detail(json!({"stored": names, "engine": "rest"}))
}

fn out_of_range(spec: &BacktestSpec, found: &Coverage) -> JobError {
    let (from, to) = (spec.warm_up_start_ms(), spec.range_ms().1);
    let Coverage { exchange, symbol, first, last } = found;
    let mut message = format!(
        "Jesse's server has candles of {exchange} {symbol} from {first} to {last}; this needs {} to {}",
        day(from),
        day(to - MINUTE_MS)
    );
    if *first > day(from) && *first <= spec.start_date {
        let warm_up = spec.warm_up_candles;
        let why = format!(
            ". The {warm_up} warm_up_candles before start_date count: start later, or lower warm_up_candles"
        );
        message.push_str(&why);
    }
    JobError::new(ErrorCode::CandlesMissing, message).with_detail(json!({
        "needed_from_ms": from, "needed_to_ms": to, "available_from": first, "available_to": last, "engine": "rest",
    }))
}

/// Makes sure that a finished run saw all of its candles. `heard` is what the server said it had found for the run's only
/// symbol. Where that is not known and a symbol's candles begin or end within a day of the range, they are looked at
/// themselves.
pub(super) async fn verify(
    client: &Client,
    spec: &BacktestSpec,
    stored: &[Coverage],
    heard: Option<(i64, i64)>,
) -> Result<Result<(), JobError>, CallError> {
    let (start, finish) = spec.range_ms();
    if spec.symbols().len() == 1
        && let Some((from, to)) = heard
    {
        let whole = from <= start && to >= finish;
        return Ok(if whole { Ok(()) } else { Err(truncated(spec, &spec.routes[0].symbol, from, to)) });
    }
    for found in stored {
        let at_the_end = found.last < spec.finish_date;
        // Missing warm-up is an error of Jesse's own.
        let at_the_start = spec.warm_up_candles == 0 && found.first == spec.start_date;
        if !(at_the_end || at_the_start) {
            continue;
        }
        match bounds(client, found).await? {
            Some((first, last)) if first <= start && last + MINUTE_MS >= finish => {}
            Some((first, last)) => {
                return Ok(Err(truncated(spec, &found.symbol, first.max(start), last + MINUTE_MS)));
            }
            None => return Ok(Err(truncated(spec, &found.symbol, start, start))),
        }
    }
    Ok(Ok(()))
}

fn truncated(spec: &BacktestSpec, symbol: &str, from: i64, to: i64) -> JobError {
    let (start, finish) = spec.range_ms();
    let message = format!(
        "Jesse's server has candles of {} {symbol} from {} to {} only, and would have left out the rest of {} to {} without a \
         word; import what is missing there, or choose a range within",
        spec.exchange,
        minute(from),
        minute(to),
        minute(start),
        minute(finish)
    );
    JobError::new(ErrorCode::CandlesMissing, message).with_detail(json!({
        "needed_from_ms": start, "needed_to_ms": finish, "available_from_ms": from, "available_to_ms": to, "engine": "rest",
    }))
}

/// The first and the last minute of a symbol, from its export: the one route that tells them. It is read as it comes, and
/// nothing of it is kept.
async fn bounds(client: &Client, of: &Coverage) -> Result<Option<(i64, i64)>, CallError> {
    let form = [("exchange", of.exchange.as_str()), ("symbol", of.symbol.as_str())];
    let mut response = client.export("candles/export", &form).await?;
    let mut lines = Lines::default();
    let broken =
        |error: reqwest::Error| CallError::Unreachable(client.name().to_owned(), error.without_url().into());
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        lines.push(&chunk);
    }
    Ok(lines.bounds())
}

/// Finds the first and the last timestamp among the lines of a CSV file that arrives in parts.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    first: Option<i64>,
    last: Option<i64>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        for byte in chunk {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < 32 {
                // The timestamp stands first.
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::str::from_utf8(&self.line).ok();
        // The header is no number.
        let time = line.and_then(|line| line.split(',').next()?.parse().ok());
        self.first = self.first.or(time);
        self.last = time.or(self.last);
        self.line.clear();
    }

    fn bounds(mut self) -> Option<(i64, i64)> {
        self.end_line();
        self.first.zip(self.last)
    }
}

fn day(ms: i64) -> Date {
    Offset::UTC.to_datetime(Timestamp::from_millisecond(ms).unwrap_or_default()).date()
}

fn minute(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::rest::testing::spec;

    fn stored(first: &str, last: &str) -> Vec<Coverage> {
        let one = json!({"exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT", "start_date": first, "end_date": last});
        vec![serde_json::from_value(one).unwrap()]
    }

    #[test]
    fn days_that_are_missing_are_told_before_anything_runs() {
        // 240 hours of warm-up before 1 February.
        assert!(needed(&spec("A"), &stored("2023-01-22", "2023-02-28")).is_ok());
        let late = needed(&spec("A"), &stored("2023-01-23", "2023-02-28")).unwrap_err();
        assert!(late.message.contains("240 warm_up_candles"), "{}", late.message);
        let short = needed(&spec("A"), &stored("2023-01-01", "2023-02-27")).unwrap_err();
        assert!(
            short.message.contains("to 2023-02-27; this needs 2023-01-22 to 2023-02-28"),
            "{}",
            short.message
        );
        let none = needed(&spec("A"), &[]).unwrap_err();
        assert!(none.message.contains("it has none at all"), "{}", none.message);
    }

    #[test]
    fn bounds_are_found_in_whatever_parts_an_export_comes() {
        let text = b"timestamp,open\n60000,1.5\n120000,2\n180000,3.25\n";
        for size in [1, 3, 7, 100] {
            let mut lines = Lines::default();
            text.chunks(size).for_each(|chunk| lines.push(chunk));
            assert_eq!(lines.bounds(), Some((60_000, 180_000)), "{size}");
        }
        assert_eq!(Lines::default().bounds(), None);
    }
}

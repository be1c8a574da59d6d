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
    // Of several symbols it will not be told later either.
    match needed.iter().find(|found| needed.len() > 1 && is_uncertain(spec, found)) {
        Some(found) => Err(uncertain(spec, found)),
        None => Ok(needed),
    }
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

/// Makes sure that a finished run saw all of its candles. `heard` is what the server said it had found, of the one symbol of
/// which it says that. Of others it tells days alone, so they must reach a day further; the route that would tell minutes
/// (`/candles/export`) leaves the server's threads in open transactions, in which what is written later is lost.
pub(super) fn verify(
    spec: &BacktestSpec,
    stored: &[Coverage],
    heard: Option<(i64, i64)>,
) -> Result<(), JobError> {
    let (start, finish) = spec.range_ms();
    if stored.len() == 1
        && let Some((from, to)) = heard
    {
        let whole = from <= start && to >= finish;
        return if whole { Ok(()) } else { Err(truncated(spec, &spec.routes[0].symbol, from, to)) };
    }
    match stored.iter().find(|found| is_uncertain(spec, found)) {
        None => Ok(()),
        // Of a single symbol the server usually tells: another attempt may hear it.
        Some(found) if stored.len() == 1 => Err(uncertain(spec, found).retryable()),
        Some(found) => Err(uncertain(spec, found)),
    }
}

/// Whether some of it may be missing within the first or the last day. Of several symbols this is known before the run.
fn is_uncertain(spec: &BacktestSpec, found: &Coverage) -> bool {
    // Missing warm-up is an error of Jesse's own.
    found.last < spec.finish_date || (spec.warm_up_candles == 0 && found.first == spec.start_date)
}

fn uncertain(spec: &BacktestSpec, found: &Coverage) -> JobError {
    let Coverage { exchange, symbol, first, last } = found;
    let message = format!(
        "Jesse's server has candles of {exchange} {symbol} from {first} to {last}, but does not tell whether those of the first and \
         the last of these days are complete, and would leave out what is missing without a word; choose a range within, or \
         import a day more there"
    );
    let (from, to) = spec.range_ms();
    JobError::new(ErrorCode::CandlesMissing, message).with_detail(json!({
        "needed_from_ms": from, "needed_to_ms": to, "available_from": first, "available_to": last, "engine": "rest",
    }))
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
    fn what_cannot_be_known_to_be_whole_is_refused() {
        let (spec, candles) = (spec("A"), stored("2023-01-01", "2023-02-28"));
        let (start, finish) = spec.range_ms();
        assert!(verify(&spec, &candles, Some((start, finish))).is_ok());
        let short = verify(&spec, &candles, Some((start, finish - 60_000))).unwrap_err();
        assert!(short.message.contains("to 2023-02-28 23:59 only"), "{}", short.message);
        assert!(verify(&spec, &candles, None).unwrap_err().retryable);
        let longer = stored("2023-01-01", "2023-03-01");
        assert!(verify(&spec, &longer, None).is_ok());
        let both = [candles, longer].concat();
        assert!(!verify(&spec, &both, Some((start, finish))).unwrap_err().retryable);
    }
}

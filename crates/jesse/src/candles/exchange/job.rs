//! An import as a job: what may be asked, what is answered, and what its failures are called.
//!
//! An import only adds candles that are not stored; the job never asks for stored ones again, since all tenants share them.

use std::ops::Range;

use jiff::{Timestamp, civil::Date};
use jobs::{CacheKey, ErrorCode, JobError, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ExchangeError, Followed, Wanted};
use crate::{
    candles::{
        Gap, PlanError, Series,
        store::{SeriesView, StoreError},
    },
    catalogue::Catalogue,
    parent::{invalid, key, read},
    spec::{midnight_ms, parse_date, unknown},
};

/// The most days of one import: of what is longer an agent hardly needs all, and it can ask for it in parts.
pub const MOST_DAYS: i64 = 3_660;
/// How many parts of a range without candles a summary names; the result has all.
const NAMED: usize = 10;
/// Changes whenever equal keys would no longer mean the same import.
const KEY_VERSION: u32 = 1;
const DAY_MS: i64 = 86_400_000;

/// As a client writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// As Jesse spells it, e.g. Binance Spot
    pub exchange: String,
    /// E.g. BTC-USDT
    pub symbol: String,
    /// First day, YYYY-MM-DD (UTC)
    pub start_date: String,
    /// Day after the last; default: up to now
    #[serde(default)]
    #[schemars(with = "String")]
    pub finish_date: Option<String>,
}

impl ImportRequest {
    /// Reads one object.
    pub fn parse(fields: Map<String, Value>) -> Result<Self, JobError> {
        read(fields.into())
    }
}

/// One that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSpec {
    /// What is imported.
    #[serde(flatten)]
    pub series: Series,
    /// The first day.
    pub start_date: Date,
    /// The day after the last; up to the present, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_date: Option<Date>,
}

impl ImportSpec {
    /// Checks a request. All that is wrong is said at once. Whether Jesse has a driver for the exchange, and whether the exchange
    /// knows the symbol, only the import itself finds out.
    pub fn check(request: &ImportRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let ImportRequest { exchange, symbol, start_date, finish_date } = request;
        let mut wrong = Vec::new();
        let mut note = |field: &str, why: String| wrong.push((field.to_owned(), why));
        if !catalogue.exchanges.contains_key(exchange) {
            note("exchange", unknown("exchange", exchange, catalogue.exchanges.keys()));
        }
        // Of a name that is in the catalogue only the symbol can be wrong.
        let series = Series::new(exchange, symbol);
        if let (Err(error), true) = (&series, catalogue.exchanges.contains_key(exchange)) {
            note("symbol", error.to_string());
        }
        let start = parse_date(start_date).map_err(|why| note("start_date", why)).ok();
        let finish = finish_date.as_deref().map(parse_date).transpose();
        let finish = finish.map_err(|why| note("finish_date", why)).ok();
        let now_ms = Timestamp::now().as_millisecond();
        if let (Some(start), Some(finish)) = (start, finish) {
            let (from_ms, to_ms) = (midnight_ms(start), finish.map_or(now_ms, midnight_ms));
            if let Some(finish) = finish.filter(|finish| *finish <= start) {
                note(
                    "finish_date",
                    format!("{finish} must be after start_date {start} (it is the day after the last one)"),
                );
            } else if from_ms >= now_ms {
                note("start_date", format!("{start} is in the future"));
            } else if to_ms.min(now_ms) - from_ms > MOST_DAYS * DAY_MS {
                note(
                    "start_date",
                    format!("at most {MOST_DAYS} days can be imported at once; import them in parts"),
                );
            }
        }
        match (series, start, finish) {
            (Ok(series), Some(start_date), Some(finish_date)) if wrong.is_empty() => {
                Ok(Self { series, start_date, finish_date })
            }
            _ => Err(invalid(&wrong)),
        }
    }

    /// By what an import in flight is joined: the same one.
    pub fn cache_key(&self) -> CacheKey {
        key(&(KEY_VERSION, Kind::CandlesImport, self))
    }

    /// What the exchange is asked for.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            from_ms: midnight_ms(self.start_date),
            to_ms: self.finish_date.map(midnight_ms),
            everything: false,
        }
    }
}

/// The arguments of the import that would bring a range (milliseconds, end exclusive), in whole days.
pub fn arguments(series: &Series, range: &Range<i64>) -> Value {
    let day = |ms: i64| {
        let epoch = Date::constant(1970, 1, 1);
        let day = jiff::Span::new().try_days(ms.div_euclid(DAY_MS)).ok();
        day.and_then(|days| epoch.checked_add(days).ok()).map(|date| date.to_string())
    };
    json!({
        "exchange": series.exchange(),
        "symbol": series.symbol(),
        "start_date": day(range.start),
        "finish_date": day(range.end.saturating_add(DAY_MS - 1)),
    })
}

/// What a job answers: its summary, and all of it.
pub fn answer(followed: &Followed) -> (Value, Value) {
    let Followed { manifest, version, rows, months_written, missing } = followed;
    let text =
        |ms: i64| Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string());
    let gap = |gap: &Gap| json!({"from": text(gap.from_ms), "to": text(gap.to_ms), "minutes": gap.minutes()});
    let told = json!({
        "imported": rows,
        "months_written": months_written,
        "series": SeriesView::from(manifest),
        "version": version,
    });
    let with_missing = |most: usize| {
        let mut all = told.clone();
        all["missing"] = missing.iter().take(most).map(gap).collect();
        all
    };
    let mut summary = with_missing(NAMED);
    if let Some(more) = missing.len().checked_sub(NAMED).filter(|more| *more > 0) {
        summary["more_missing"] = more.into();
    }
    (summary, with_missing(usize::MAX))
}

/// What a client is told of a failure. What only concerns whoever runs the worker is for the log.
pub fn failure(error: &ExchangeError) -> JobError {
    use ErrorCode::{CandlesMissing, ExchangeError as AtExchange, Internal, InvalidSpec};

    let kept = "; whole months that came before are stored: submit it again to go on";
    match error {
        ExchangeError::Refused { code, .. } => match code.as_str() {
            "unknown_exchange" => JobError::new(InvalidSpec, format!("exchange: {error}")),
            "unknown_symbol" => JobError::new(InvalidSpec, format!("symbol: {error}")),
            "rate_limited" | "unavailable" => JobError::new(AtExchange, format!("{error}{kept}")).retryable(),
            _ => JobError::new(AtExchange, error.to_string()),
        },
        ExchangeError::Empty { .. } | ExchangeError::Time(_) => JobError::new(InvalidSpec, error.to_string()),
        ExchangeError::Nothing { .. } => JobError::new(CandlesMissing, error.to_string()),
        ExchangeError::Silent { .. } => JobError::new(AtExchange, format!("{error}{kept}")).retryable(),
        ExchangeError::Row { .. } => JobError::new(AtExchange, error.to_string()),
        ExchangeError::Store(StoreError::Plan(PlanError::Manifest(_)) | StoreError::Manifest(_)) => {
            JobError::new(InvalidSpec, error.to_string())
        }
        ExchangeError::Store(_) | ExchangeError::LockLost(_) => {
            JobError::new(Internal, format!("the candles could not be stored{kept}")).retryable()
        }
        ExchangeError::Start(..)
        | ExchangeError::Talk(_)
        | ExchangeError::Ended { .. }
        | ExchangeError::Protocol(_) => {
            let message =
                format!("the process that asks the exchange failed; the worker's log says why{kept}");
            JobError::new(Internal, message).retryable()
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::testing::JANUARY_2023;

    #[test]
    fn a_range_is_asked_for_in_whole_days() {
        let series = Series::new("Binance Spot", "BTC-USDT").unwrap();
        let range = JANUARY_2023 - 60_000..JANUARY_2023 + 2 * DAY_MS + 60_000;
        assert_eq!(
            arguments(&series, &range),
            json!({
                "exchange": "Binance Spot", "symbol": "BTC-USDT", "start_date": "2022-12-31", "finish_date": "2023-01-04",
            })
        );
    }
}

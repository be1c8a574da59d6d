//! The candles of an analysis: which symbols, which bars, and how several are set beside each other.

use jesse::{
    candles::{Series, Source as CandleSource},
    catalogue::timeframe_minutes,
    spec::midnight_ms,
};
use jiff::civil::Date;
use jobs::JobError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    answer::{invalid, read, unfit},
    inputs::Inputs,
    source::{day, short},
};

/// The most bars of all symbols together: some 80 MB.
const MOST_BARS: i64 = 5_000_000;
const MINUTE_MS: i64 = 60_000;

/// A symbol as a client writes it: its name, on the request's exchange, or with an exchange of its own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SymbolRequest {
    Name(String),
    Of { exchange: String, symbol: String },
}

/// As a client writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CandlesRequest {
    exchange: Option<String>,
    symbol: Option<String>,
    symbols: Option<Vec<SymbolRequest>>,
    timeframe: Option<String>,
    start_date: Option<String>,
    #[serde(alias = "end_date")]
    finish_date: Option<String>,
    allow_gaps: Option<bool>,
}

const FIELDS: [&str; 8] =
    ["exchange", "symbol", "symbols", "timeframe", "start_date", "finish_date", "end_date", "allow_gaps"];

/// Which candles, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candles {
    /// In the order in which they were named.
    pub series: Vec<Series>,
    /// Length of a bar.
    pub timeframe: String,
    /// The first day; that of the source, until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_date: Option<Date>,
    /// The day after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_date: Option<Date>,
    /// Leave out bars that one of the symbols does not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_gaps: bool,
}

/// The closes of several symbols at the bars that all of them have, and the changes between bars that follow one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Aligned {
    /// Opens of the bars, in milliseconds.
    pub bars_ms: Vec<i64>,
    /// For each symbol the close of each of these bars.
    pub closes: Vec<Vec<f64>>,
    /// Opens of the bars whose return is known: the bar before is there too.
    pub times_ms: Vec<i64>,
    /// For each symbol the simple return of each of these bars.
    pub returns: Vec<Vec<f64>>,
    /// Bars of the range that one of the symbols does not have.
    pub missing: i64,
}

impl Candles {
    /// Takes the fields of candles out of a request; `None` if it names no symbol. Beside a source they have its range.
    pub(super) fn take(fields: &mut Map<String, Value>, beside: bool) -> Result<Option<Self>, JobError> {
        let mut own = Map::new();
        for name in FIELDS {
            if let Some(value) = fields.remove(name) {
                own.insert(name.to_owned(), value);
            }
        }
        if own.is_empty() {
            return Ok(None);
        }
        Self::check(read(own)?, beside).map(Some)
    }

    fn check(request: CandlesRequest, beside: bool) -> Result<Self, JobError> {
        let CandlesRequest { exchange, symbol, symbols, timeframe, start_date, finish_date, allow_gaps } =
            request;
        let start_date = start_date.map(|text| day("start_date", &text)).transpose()?;
        let finish_date = finish_date.map(|text| day("finish_date", &text)).transpose()?;
        let symbols = match (symbol, symbols) {
            (Some(symbol), None) => vec![SymbolRequest::Name(symbol)],
            (None, Some(symbols)) => symbols,
            _ => {
                return Err(invalid(
                    "symbols",
                    "name the symbols, e.g. [\"BTC-USDT\", \"ETH-USDT\"] (candles_list)",
                ));
            }
        };
        let series = |symbol: SymbolRequest| {
            let (exchange, symbol) = match symbol {
                SymbolRequest::Name(symbol) => (exchange.clone(), symbol),
                SymbolRequest::Of { exchange, symbol } => (Some(exchange), symbol),
            };
            let exchange = exchange
                .ok_or_else(|| invalid("exchange", "say where the symbols are traded (candles_list)"))?;
            Series::new(exchange, symbol).map_err(|error| invalid("symbols", error))
        };
        let series = symbols.into_iter().map(series).collect::<Result<Vec<_>, _>>()?;
        for (index, one) in series.iter().enumerate() {
            if series[..index].contains(one) {
                return Err(invalid("symbols", format!("{one} is named twice")));
            }
        }
        let candles = Self {
            series,
            timeframe: timeframe.unwrap_or_else(|| if beside { "1D" } else { "1h" }.to_owned()),
            start_date,
            finish_date,
            allow_gaps: allow_gaps.unwrap_or(false),
        };
        candles.minutes()?;
        match (start_date, finish_date) {
            (None, None) if beside => Ok(candles),
            (Some(_), _) | (_, Some(_)) if beside => Err(invalid(
                "start_date",
                "the symbols are looked at over the time of what they are set beside",
            )),
            (Some(start), Some(finish)) if start < finish => candles.check_size().map(|()| candles),
            (Some(_), Some(_)) => Err(invalid("finish_date", "must be after start_date")),
            _ => Err(invalid(
                "start_date",
                "give start_date and finish_date, YYYY-MM-DD (the day after the last)",
            )),
        }
    }

    pub(super) fn check_size(&self) -> Result<(), JobError> {
        let (from, to) = self.range_ms()?;
        let bars = (to - from) / (self.minutes()? * MINUTE_MS);
        let all = bars.saturating_mul(i64::try_from(self.series.len()).unwrap_or(i64::MAX));
        if all > MOST_BARS {
            let message = format!(
                "{all} bars in all, at most {MOST_BARS} are read: use a longer one, fewer symbols or days"
            );
            return Err(invalid("timeframe", message));
        }
        Ok(())
    }

    /// Bars of this length.
    pub(super) fn set_period(&mut self, period_ms: i64) -> Result<(), JobError> {
        let minutes = period_ms / MINUTE_MS;
        self.timeframe = match minutes {
            minutes if minutes % 1440 == 0 => format!("{}D", minutes / 1440),
            minutes if minutes % 60 == 0 => format!("{}h", minutes / 60),
            minutes => format!("{minutes}m"),
        };
        self.minutes().map(|_| ())
    }

    /// Minutes of a bar.
    pub fn minutes(&self) -> Result<i64, JobError> {
        let minutes = timeframe_minutes(&self.timeframe).filter(|minutes| 1440 % minutes == 0);
        minutes.ok_or_else(|| {
            let message = format!(
                "{:?} is not one that divides a day, such as 5m, 1h, 4h or 1D",
                short(&self.timeframe)
            );
            invalid("timeframe", message)
        })
    }

    /// The range in milliseconds, end exclusive.
    pub fn range_ms(&self) -> Result<(i64, i64), JobError> {
        match (self.start_date, self.finish_date) {
            (Some(start), Some(finish)) => Ok((midnight_ms(start), midnight_ms(finish))),
            _ => Err(invalid("start_date", "is missing")),
        }
    }

    /// Bars of a year that has 365 days.
    pub(crate) fn periods_per_year(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 1440")]
        let minutes = self.minutes().unwrap_or(1440) as f64;
        365.0 * 1440.0 / minutes
    }

    /// Sets the closes that were fetched beside each other.
    pub(crate) fn aligned(&self, inputs: &Inputs) -> Result<Aligned, JobError> {
        let length = self.minutes()? * MINUTE_MS;
        let (from, to) = self.range_ms()?;
        let symbols = &inputs.candles;
        let Some((first, others)) = symbols.split_first() else {
            return Err(unfit("no candles were fetched"));
        };
        let mut places = vec![0_usize; others.len()];
        let (mut bars_ms, mut closes) = (Vec::new(), vec![Vec::new(); symbols.len()]);
        for &(time, close) in &first.closes {
            let mut row = Vec::with_capacity(symbols.len());
            row.push(close);
            for (place, symbol) in places.iter_mut().zip(others) {
                while symbol.closes.get(*place).is_some_and(|bar| bar.0 < time) {
                    *place += 1;
                }
                row.extend(symbol.closes.get(*place).filter(|bar| bar.0 == time).map(|bar| bar.1));
            }
            if row.len() == symbols.len() {
                bars_ms.push(time);
                closes.iter_mut().zip(row).for_each(|(column, close)| column.push(close));
            }
        }
        let follows: Vec<usize> =
            (1..bars_ms.len()).filter(|&at| bars_ms[at] - bars_ms[at - 1] == length).collect();
        let returns =
            closes.iter().map(|closes| follows.iter().map(|&at| closes[at] / closes[at - 1] - 1.0).collect());
        let found = i64::try_from(bars_ms.len()).unwrap_or(i64::MAX);
        Ok(Aligned {
            returns: returns.collect(),
            times_ms: follows.iter().map(|&at| bars_ms[at]).collect(),
            missing: (to - from) / length - found,
            bars_ms,
            closes,
        })
    }
}

impl Aligned {
    /// What every answer says of the candles that it is about.
    pub(crate) fn data(&self, candles: &Candles, inputs: &Inputs) -> Value {
        let mut data = json!({
            "from": candles.start_date, "to": candles.finish_date, "period": candles.timeframe,
            "returns": self.times_ms.len(),
        });
        if self.missing > 0 {
            data["missing_bars"] = self.missing.into();
        }
        if inputs.candles.iter().any(|symbol| matches!(symbol.source, CandleSource::Synthetic { .. })) {
            data["warning"] = inputs.warning().into();
        }
        data
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::inputs::SymbolCloses;

    fn take(fields: Value, beside: bool) -> Result<Option<Candles>, JobError> {
        let Value::Object(mut fields) = fields else { panic!("an object") };
        Candles::take(&mut fields, beside)
    }

    #[test]
    fn symbols_are_read_in_both_spellings_and_bad_ranges_say_what_is_allowed() {
        let fine = json!({"exchange": "A", "symbols": ["BTC-USDT", {"exchange": "B", "symbol": "BTC-USDT"}],
                          "start_date": "2024-01-01", "end_date": "2024-02-01"});
        let candles = take(fine, false).unwrap().unwrap();
        assert_eq!(
            candles.series.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["A BTC-USDT", "B BTC-USDT"]
        );
        assert_eq!(candles.timeframe, "1h");
        let dates = json!({"start_date": "2024-01-01", "finish_date": "2024-02-01"});
        let with = |more: Value| {
            let mut all = json!({"exchange": "A", "symbols": ["BTC-USDT", "ETH-USDT"]});
            for part in [&dates, &more] {
                all.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            }
            all
        };
        for (wrong, words) in [
            (json!({"exchange": "A"}), "name the symbols"),
            (json!({"symbols": ["BTC-USDT"]}), "where the symbols are traded"),
            (with(json!({"symbols": ["BTC-USDT", "BTC-USDT"]})), "named twice"),
            (with(json!({"symbols": ["btc"]})), "as in BTC-USDT"),
            (with(json!({"timeframe": "7m"})), "divides a day"),
            (with(json!({"timeframe": "1W"})), "divides a day"),
            (with(json!({"finish_date": "2024-01-01"})), "after start_date"),
            (with(json!({"finish_date": null})), "give start_date and finish_date"),
            (with(json!({"start_date": "1990-01-01", "timeframe": "1m"})), "at most 5000000"),
            (with(json!({"start_date": "yesterday"})), "yesterday"),
        ] {
            let error = take(wrong.clone(), false).unwrap_err();
            assert!(error.message.contains(words), "{wrong}: {}", error.message);
        }
        assert!(take(with(json!({})), true).unwrap_err().message.contains("set beside"));
    }

    #[test]
    fn only_bars_that_all_have_are_compared_and_returns_span_no_gap() {
        let hour = 3_600_000;
        let symbol = |name: &str, closes: Vec<(i64, f64)>| SymbolCloses {
            series: Series::new("A", name).unwrap(),
            source: CandleSource::Imported,
            closes,
        };
        let inputs = Inputs {
            candles: vec![
                symbol(
                    "BTC-USDT",
                    (0..6).map(|at| (at * hour, 100.0 + f64::from(i32::try_from(at).unwrap()))).collect(),
                ),
                symbol("ETH-USDT", [0, 1, 3, 4, 5].map(|at| (at * hour, 10.0)).to_vec()),
            ],
            ..Inputs::default()
        };
        let candles = take(
            json!({"exchange": "A", "symbols": ["BTC-USDT", "ETH-USDT"], "start_date": "1970-01-01", "finish_date": "1970-01-02"}),
            false,
        );
        let candles = candles.unwrap().unwrap();
        let aligned = candles.aligned(&inputs).unwrap();
        assert_eq!(aligned.bars_ms, [0, 1, 3, 4, 5].map(|at| at * hour));
        assert_eq!(aligned.times_ms, [1, 4, 5].map(|at| at * hour));
        assert!((aligned.returns[0][1] - (104.0 / 103.0 - 1.0)).abs() < 1e-15);
        assert_eq!((aligned.missing, aligned.returns[1].len()), (19, 3));
        assert_eq!(inputs.names(), ["BTC-USDT", "ETH-USDT"]);
    }
}

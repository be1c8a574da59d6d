//! Why candles cannot be taken from an exchange.

use std::{io, path::PathBuf};

use crate::candles::{ImportError, Month, Series, store::StoreError, time::Minute};

/// Why candles cannot be taken from an exchange. Whole months that came before are stored.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing to ask for.
    #[error("the range from {} to {} is empty (UTC): it must begin before the present minute", Minute(*from_ms), Minute(*to_ms))]
    Empty {
        /// Its start.
        from_ms: i64,
        /// Its end: as asked for, or the present.
        to_ms: i64,
    },
    /// Before 1970, or in some far future.
    #[error("{0} ms since 1970 is no time that candles may have")]
    Time(i64),
    /// No interpreter.
    #[error("{} cannot be started; JESSE_PYTHON (or --python) must name a Python that has Jesse", .0.display())]
    Start(PathBuf, #[source] io::Error),
    /// Talking to the process that asks the exchange failed.
    #[error("the process that asks the exchange cannot be talked to")]
    Talk(#[from] io::Error),
    /// It ended before its work was done.
    #[error("the process that asks the exchange ended by itself ({status}){said}")]
    Ended {
        /// How.
        status: String,
        /// The last it said.
        said: String,
    },
    /// It said nothing for too long.
    #[error("{exchange} gave nothing for {minutes} minutes")]
    Silent {
        /// The exchange.
        exchange: String,
        /// How long that was.
        minutes: u64,
    },
    /// What it said makes no sense.
    #[error("the process that asks the exchange said something that cannot be read: {0}")]
    Protocol(String),
    /// The exchange, or Jesse's driver, says no.
    #[error("{}{message}", Refusal { code, exchange: series.exchange(), series })]
    Refused {
        /// What was asked for.
        series: Series,
        /// `unknown_exchange`, `unknown_symbol`, `rate_limited`, `unavailable`, `bad_answer` or `refused`.
        code: String,
        /// In the exchange's or the driver's words.
        message: String,
    },
    /// A candle that is none.
    #[error("{exchange} gave a candle of {month} that cannot be stored: {why}")]
    Row {
        /// The exchange.
        exchange: String,
        /// Of which month.
        month: Month,
        /// What is wrong with it. Its rows are those of the month that were asked for.
        #[source]
        why: Box<ImportError>,
    },
    /// There are none at all.
    #[error("{} has no candles of {} from {} to {} (UTC)", series.exchange(), series.symbol(), Minute(*from_ms), Minute(*to_ms))]
    Nothing {
        /// What was asked for.
        series: Series,
        /// From when.
        from_ms: i64,
        /// Until when.
        to_ms: i64,
    },
    /// This process was stopped for so long that another may import the same by now.
    #[error("the import of {0} was held up for too long, and another may have begun; try again")]
    LockLost(Series),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Refusal<'a> {
    code: &'a str,
    exchange: &'a str,
    series: &'a Series,
}

impl std::fmt::Display for Refusal<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, exchange, series } = self;
        match *code {
            "unknown_exchange" => Ok(()),
            "unknown_symbol" => write!(formatter, "{exchange} does not know {}: ", series.symbol()),
            "rate_limited" => write!(formatter, "{exchange} is asked too often; try again later: "),
            "unavailable" => write!(formatter, "{exchange} cannot be reached or does not answer: "),
            "bad_answer" => {
                write!(formatter, "{exchange} answers something that Jesse's driver cannot use: ")
            }
            _ => write!(formatter, "{exchange} refuses {}: ", series.symbol()),
        }
    }
}

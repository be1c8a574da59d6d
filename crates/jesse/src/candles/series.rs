//! The name of a candle series: an exchange and a symbol, both checked once, at the door.

use std::fmt;

use serde::{Deserialize, Serialize};

const MAX_EXCHANGE_CHARS: usize = 64;
const MAX_ASSET_CHARS: usize = 20;
const MOST_SHOWN: usize = 80;

/// One symbol on one exchange, for example `Binance Perpetual Futures BTC-USDT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Series {
    exchange: String,
    symbol: String,
}

/// Why a name cannot be that of a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The exchange is empty, too long, or has characters that do not print.
    #[error("exchange {0:?} is not valid: 1 to 64 printable characters, no space at either end")]
    Exchange(String),
    /// The symbol is not of the form `BASE-QUOTE`.
    #[error(
        "symbol {0:?} is not valid: two assets of 1 to 20 capital letters or digits, joined by a hyphen, as in BTC-USDT"
    )]
    Symbol(String),
}

impl Series {
    /// Checks both names: an exchange of 1 to 64 printable characters, a symbol such as `BTC-USDT`.
    pub fn new(exchange: impl Into<String>, symbol: impl Into<String>) -> Result<Self, SeriesError> {
        let (exchange, symbol) = (exchange.into(), symbol.into());
        let printable = !exchange.chars().any(char::is_control);
        let length = exchange.chars().count();
        // Names that differ only in outer blanks would be two series that look like one.
        if !printable || length == 0 || length > MAX_EXCHANGE_CHARS || exchange.trim() != exchange {
            return Err(SeriesError::Exchange(shown(&exchange)));
        }
        match symbol.split_once('-') {
            Some((base, quote)) if is_asset(base) && is_asset(quote) => Ok(Self { exchange, symbol }),
            _ => Err(SeriesError::Symbol(shown(&symbol))),
        }
    }

    /// The exchange's name as Jesse spells it.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The symbol, `BASE-QUOTE`.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }
}

/// As much of a name as an error repeats: clients send what they like.
fn shown(name: &str) -> String {
    name.chars().take(MOST_SHOWN).collect()
}

fn is_asset(text: &str) -> bool {
    (1..=MAX_ASSET_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.exchange, self.symbol)
    }
}

#[derive(Deserialize)]
struct Unchecked {
    exchange: String,
    symbol: String,
}

impl TryFrom<Unchecked> for Series {
    type Error = SeriesError;

    fn try_from(unchecked: Unchecked) -> Result<Self, SeriesError> {
        Self::new(unchecked.exchange, unchecked.symbol)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_valid_name_is_kept_as_written() {
        let series = Series::new("Binance Perpetual Futures", "1000PEPE-USDT").unwrap();
        assert_eq!(series.to_string(), "Binance Perpetual Futures 1000PEPE-USDT");
        let json = serde_json::to_string(&series).unwrap();
        assert_eq!(json, r#"{"exchange":"Binance Perpetual Futures","symbol":"1000PEPE-USDT"}"#);
        assert_eq!(serde_json::from_str::<Series>(&json).unwrap(), series);
    }

    #[test]
    fn bad_names_say_what_is_allowed() {
        for exchange in ["", " Binance", "Binance\n", "Bi\0nance", &"x".repeat(65)] {
            let error = Series::new(exchange, "BTC-USDT").unwrap_err();
            assert!(error.to_string().contains("1 to 64 printable characters"), "{error}");
        }
        let long = format!("BTC-{}", "U".repeat(21));
        for symbol in ["", "BTC", "btc-usdt", "BTC-", "-USDT", "BTC-USDT-X", "BTC/USDT", "BTC-ÜSD", &long] {
            let error = Series::new("Binance", symbol).unwrap_err();
            assert!(error.to_string().contains("as in BTC-USDT"), "{error}");
        }
    }

    #[test]
    fn a_bad_name_does_not_deserialise() {
        let error = serde_json::from_str::<Series>(r#"{"exchange":"Binance","symbol":"btc"}"#).unwrap_err();
        assert!(error.to_string().contains("as in BTC-USDT"), "{error}");
    }
}

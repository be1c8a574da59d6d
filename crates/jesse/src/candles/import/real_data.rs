//! Imports of real market data, where a copy of it lies next to the workspace; otherwise these tests say that they skip.

use std::path::PathBuf;

use super::{ImportError, read_parquet_file};
use crate::candles::{Candle, Chunk, Gap, Manifest, Series, Source, split};

fn import(name: &str) -> Option<Result<Vec<Candle>, ImportError>> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    if path.exists() {
        return Some(read_parquet_file(&path));
    }
    #[expect(clippy::print_stderr, reason = "a test that skips must say so")]
    {
        eprintln!("skipped: {} is not there", path.display());
    }
    None
}

fn manifest(candles: &[Candle]) -> Manifest {
    let chunks = split(candles).unwrap().into_iter().map(|(_, part)| Chunk::new(part).unwrap().0).collect();
    Manifest::new(Series::new("Test", "BTC-USDT").unwrap(), Source::Imported, chunks).unwrap()
}

#[test]
fn minutes_of_perpetuals_have_no_gaps() {
    for (name, rows) in [
        ("BTC-USDT_20250504-20250603", 43_199),
        ("ETH-USDT_20250504-20250615", 60_191),
        ("SOL-USDT_20250504-20250603", 43_200),
        ("XRP-USDT_20250504-20250603", 43_199),
    ] {
        let Some(candles) = import(&format!("candles-1m/{name}.parquet")) else { return };
        let manifest = manifest(&candles.unwrap());
        assert_eq!((manifest.rows(), manifest.gaps().next()), (rows, None), "{name}");
        assert_eq!(manifest.chunks().len(), 2, "{name}");
        assert!(manifest.covering(manifest.first_ms(), manifest.end_ms()).is_ok(), "{name}");
    }
}

#[test]
fn minutes_without_a_trade_are_rows_without_volume() {
    let Some(candles) = import("candles-1m/BTC-USD-bitstamp_20250107-20250203.parquet") else { return };
    let candles = candles.unwrap();
    let manifest = manifest(&candles);
    assert_eq!(manifest.rows(), 38_942);
    assert!(candles.iter().any(|candle| candle[5] == 0.0));
    assert_eq!(manifest.gaps().map(Gap::minutes).sum::<i64>(), 0);
}

#[test]
fn hours_are_refused() {
    for symbol in ["ADA", "BTC", "ETH", "LINK", "SOL", "XRP"] {
        let Some(candles) = import(&format!("candles-1h/{symbol}USDT_1h_2022-2026.parquet")) else { return };
        let error = candles.unwrap_err().to_string();
        let expected = "the rows are mostly 60 minutes apart; 1-minute candles are needed, since larger ones are made from them";
        assert_eq!(error, expected, "{symbol}");
    }
}

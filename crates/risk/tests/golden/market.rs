//! Real prices, where a copy of them lies next to the workspace (or where `MARKET_DATA` says); otherwise what needs them says that it
//! skips.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

const HOUR: i64 = 3_600_000;

/// A file of the copy.
fn file(name: &str) -> Option<File> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let folder = std::env::var_os("MARKET_DATA").map_or_else(beside, PathBuf::from);
    let path = folder.join(name);
    let found = File::open(&path).ok();
    if found.is_none() {
        #[expect(clippy::print_stderr, reason = "a test that skips must say so")]
        {
            eprintln!("skipped: {} is not there", path.display());
        }
    }
    found
}

/// The last close of each day that has one at 23:00, by its time.
pub(super) fn closes(symbol: &str) -> Option<BTreeMap<i64, f64>> {
    let file = file(&format!("candles-1h/{symbol}USDT_1h_2022-2026.parquet"))?;
    let reader = SerializedFileReader::new(file).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        (row.get_long(0).unwrap(), row.get_double(2).unwrap())
    });
    Some(rows.filter(|(time, _)| time % (24 * HOUR) == 23 * HOUR).collect())
}

/// The columns of a table of prices after the first, which has the days, by their names. Days without all prices are left out.
pub(super) fn prices(name: &str) -> Option<Vec<(String, Vec<f64>)>> {
    let mut text = String::new();
    GzDecoder::new(file(&format!("daily/{name}.csv.gz"))?).read_to_string(&mut text).unwrap();
    let mut lines = text.lines();
    let names = lines.next().unwrap().split(',').skip(1);
    let mut columns: Vec<_> = names.map(|name| (name.to_owned(), Vec::new())).collect();
    for line in lines {
        let row: Result<Vec<f64>, _> = line.split(',').skip(1).map(str::parse).collect();
        for ((_, column), price) in columns.iter_mut().zip(row.into_iter().flatten()) {
            column.push(price);
        }
    }
    Some(columns)
}

/// Simple returns.
pub(super) fn changes(levels: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let levels: Vec<f64> = levels.into_iter().collect();
    levels.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect()
}

//! What can be wrong with a candle file. Every text says where, what was found, and what is expected.

use std::io;

use jiff::Timestamp;

use super::timestamp::text;
use crate::candles::MAX_GAPS;

/// The most rows of one file: 38 years of minutes.
pub const MAX_ROWS: usize = 20_000_000;

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be opened or read.
    #[error("the candle file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not well-formed CSV.
    #[error("the file is not well-formed CSV: {0}")]
    Csv(#[from] csv::Error),
    /// It is not a parquet file, is damaged, or uses a feature that is not supported.
    #[error("the file cannot be read as parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// It is a parquet file whose description of itself makes no sense.
    #[error("the file is a damaged parquet file")]
    ParquetDamaged,
    /// A column is missing.
    #[error("the file has no column {column} (accepted names: {accepted}); its columns are: {found}")]
    ColumnMissing {
        /// The column.
        column: &'static str,
        /// Names that would do.
        accepted: String,
        /// Names that are there.
        found: String,
    },
    /// Two columns have the same name.
    #[error("the file has two columns named {0}")]
    ColumnTwice(String),
    /// A parquet column has a type that no candle value has.
    #[error("column {column} has the type {found}; {expected} is needed")]
    ColumnType {
        /// The column's name in the file.
        column: String,
        /// Its type.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A CSV file without a header has another number of columns.
    #[error(
        "the file has no header and {found} columns; without a header it must have exactly timestamp,open,close,high,low,volume"
    )]
    Headerless {
        /// Columns in its first row.
        found: usize,
    },
    /// A value is missing.
    #[error("row {row} has no {column}")]
    ValueMissing {
        /// Row, counted from 1.
        row: usize,
        /// The column.
        column: &'static str,
    },
    /// A value is not a number.
    #[error("row {row} has {found:?} as {column}, which is not a number")]
    NotANumber {
        /// Row, counted from 1.
        row: usize,
        /// The column.
        column: &'static str,
        /// What is there.
        found: String,
    },
    /// A time is not readable as one.
    #[error(
        "row {row} has {found:?} as timestamp; needed are seconds, milliseconds, microseconds or nanoseconds since 1970, or a \
         date such as 2023-01-01T00:00:00Z"
    )]
    NotATime {
        /// Row, counted from 1.
        row: usize,
        /// What is there.
        found: String,
    },
    /// A time is between two minutes.
    #[error("row {row} has {at}, which is not on a whole minute")]
    NotOnMinute {
        /// Row, counted from 1.
        row: usize,
        /// Its time.
        at: Timestamp,
    },
    /// A row is older than the one before it.
    #[error(
        "row {row} has {}, before row {}'s {}: the file must be sorted with the oldest row first",
        text(*at), row - 1, text(*previous)
    )]
    Reversed {
        /// Row, counted from 1.
        row: usize,
        /// Its time.
        at: Timestamp,
        /// The time of the row before it.
        previous: Timestamp,
    },
    /// A row has the time of the one before it.
    #[error("row {row} has {}, the same as row {}: each minute may occur once", text(*at), row - 1)]
    Duplicated {
        /// Row, counted from 1.
        row: usize,
        /// The time.
        at: Timestamp,
    },
    /// A price is zero, negative, infinite or not a number.
    #[error("row {row} has {value} as {column}; a price must be a number above 0")]
    Price {
        /// Row, counted from 1.
        row: usize,
        /// The column.
        column: &'static str,
        /// What is there.
        value: f64,
    },
    /// The highest price is not the highest.
    #[error(
        "row {row} has the high {high} below its open, close or low of {other} (are the columns in the right order?)"
    )]
    HighTooLow {
        /// Row, counted from 1.
        row: usize,
        /// The high.
        high: f64,
        /// The largest of the other prices.
        other: f64,
    },
    /// The lowest price is not the lowest.
    #[error(
        "row {row} has the low {low} above its open or close of {other} (are the columns in the right order?)"
    )]
    LowTooHigh {
        /// Row, counted from 1.
        row: usize,
        /// The low.
        low: f64,
        /// The smallest of the other prices.
        other: f64,
    },
    /// A volume is negative, infinite or not a number.
    #[error("row {row} has {value} as volume; it must be a number, 0 or above")]
    Volume {
        /// Row, counted from 1.
        row: usize,
        /// What is there.
        value: f64,
    },
    /// There are no rows.
    #[error("the file has no candles")]
    Empty,
    /// There are more rows than one import takes.
    #[error("the file has more than {MAX_ROWS} rows: import it in parts")]
    TooManyRows,
    /// The rows are mostly further apart than a minute.
    #[error(
        "the rows are mostly {minutes} minutes apart; 1-minute candles are needed, since larger ones are made from them"
    )]
    NotOneMinute {
        /// The most frequent distance in minutes.
        minutes: i64,
    },
    /// Too many minutes are missing.
    #[error(
        "the file has {gaps} gaps, more than {MAX_GAPS}: its source seems to leave out the minutes without a trade; fill them \
         before the import"
    )]
    TooManyGaps {
        /// How many gaps there are.
        gaps: usize,
    },
}

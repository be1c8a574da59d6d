//! Candles from files: CSV and parquet.
//!
//! Both readers find their columns by name, whatever their order and case, and go through the same checks row by row. The
//! first bad row ends the import with an error that names it; nothing is sorted, dropped, filled or repaired. Rows are counted
//! from 1 and a header is not counted.
//!
//! # What is not guaranteed
//! * The candles are kept in memory, 48 bytes each, at most [`MAX_ROWS`]. A reader bounds the rows, not the bytes: whoever takes
//!   files from strangers bounds those.
//! * A file that is damaged inside its values may still look sound: a price that changed into another consistent one passes.
//! * A time that is a number has its unit told by its magnitude, row by row, unless a parquet file declares the unit.

mod check;
mod columns;
mod csv;
mod error;
mod parquet;
mod timestamp;

pub(super) use check::Checker;
pub use csv::read_csv;
pub use error::{ImportError, MAX_ROWS};
pub use parquet::{read_parquet, read_parquet_file};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod real_data;

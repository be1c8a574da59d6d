//! Market candles: what is stored, how it is addressed, where it comes from.
//!
//! A [`Series`] is one symbol on one exchange. Its 1-minute candles are cut into calendar months (UTC); each month is one
//! immutable [`Chunk`], a `.npy` file named by the BLAKE3 hash of its bytes, which Python maps into memory as it is. A
//! [`Manifest`] lists the chunks of a series and the minutes that are missing. Appending a day therefore writes one new chunk,
//! and whatever was computed from the other months stays valid, since their hashes stay the same.
//!
//! # What is kept
//! * Every row that enters through [`read_csv`], [`read_parquet`] or [`generate`] is a sound 1-minute candle: on a whole minute,
//!   later than the row before it, prices finite, positive and consistent, volume not negative.
//! * The same candles give the same bytes, hence the same hashes, on every machine.
//! * Missing minutes are recorded and refused when asked for ([`Manifest::covering`]); they are never filled, unless a call
//!   asks for it (`allow_gaps`), and then its result says so.
//! * Real and synthetic candles never share a series.
//!
//! # What is not guaranteed
//! * That the bytes behind a hash still exist: [`store`] finds out when it fetches them.
//! * Whether the prices are true is the source's affair; a wrong but consistent candle passes.
//! * Times without an offset are read as UTC, and a time is taken to be the OPEN of its bar, as in Jesse.

mod chunk;
pub mod closes;
pub mod exchange;
mod export;
mod import;
mod manifest;
mod merge;
mod missing;
mod npy;
pub mod postgres;
mod series;
pub mod store;
mod synthetic;
#[cfg(test)]
mod testing;
mod time;

pub use chunk::{Chunk, ChunkError, Gap, split};
pub use export::{CandleWriter, ExportError, ExportFormat};
pub use import::{ImportError, MAX_ROWS, read_csv, read_parquet, read_parquet_file};
pub use manifest::{Covering, MAX_GAPS, Manifest, ManifestError, Source};
pub use merge::{MonthImport, PlanError, merge_month, plan_import};
pub use missing::CandlesMissing;
pub use npy::{NpyError, decode, encode};
pub use series::{Series, SeriesError};
pub use synthetic::{MAX_MINUTES, MAX_VOLATILITY, SyntheticError, Walk, WalkSettings, generate};
pub use time::{Month, MonthError, open_ms};

/// One candle in Jesse's column order: time of the bar's OPEN in milliseconds since 1970 (UTC), open, close, high, low, volume.
pub type Candle = [f64; 6];

/// Milliseconds in one minute, the spacing of all stored candles.
pub const MINUTE_MS: i64 = 60_000;

//! `candles`: imports, exports, makes and lists candles, whether or not `up` runs on the data folder.

mod export;
mod from_exchange;
mod import;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jesse::candles::{
    self, Candle, ExportError, ImportError, Series, SeriesError, Source, SyntheticError, WalkSettings,
    exchange::ExchangeError,
    postgres::PostgresError,
    store::{CandleStore, SeriesView, StoreError},
};

use super::{RoleError, open::Opened, open_blobs};
use crate::{output, settings::StorageSettings};

/// Why candles were not imported or made.
#[derive(Debug, thiserror::Error)]
pub enum CandlesError {
    /// The file cannot be opened.
    #[error("{0} cannot be read")]
    Open(PathBuf, #[source] std::io::Error),
    /// Neither kind of file.
    #[error("{0}: only .csv and .parquet files can be imported")]
    Kind(PathBuf),
    /// The file's content.
    #[error("{0}: {1}")]
    Import(PathBuf, #[source] ImportError),
    /// The name of the series.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// The generator's settings.
    #[error(transparent)]
    Synthetic(#[from] SyntheticError),
    /// The first day.
    #[error("{0:?} is not a date; write YYYY-MM-DD")]
    Date(String),
    /// More minutes than can be counted.
    #[error("--days must be from 1 to 13000")]
    Days,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Jesse's database.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// An exchange.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The database has no candles at all.
    #[error("Postgres has no 1-minute candles{0}")]
    NothingThere(String),
    /// Nothing to export.
    #[error("no candles of {series} are stored{range}; {stored}")]
    NothingStored {
        /// The series.
        series: Series,
        /// Which part of it was asked for.
        range: String,
        /// What there is instead.
        stored: String,
    },
    /// The file to be written.
    #[error("{0}: {1}")]
    Export(PathBuf, #[source] ExportError),
    /// The file cannot be made.
    #[error("{0} cannot be written")]
    Write(PathBuf, #[source] std::io::Error),
    /// A file whose name does not say how it is to be written.
    #[error("{0}: name it .csv or .parquet, or say which with --format")]
    Format(PathBuf),
    /// A parquet file is nothing to look at.
    #[error("parquet is not written to a terminal; name a file, or send the output to one")]
    Terminal,
    /// Standard output.
    #[error("the answer cannot be printed")]
    Print(#[from] std::io::Error),
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum CandlesCommand {
    /// Import 1-minute candles from a .csv or .parquet file, a Jesse's Postgres, or an exchange; stored ones of the same minutes
    /// are replaced
    Import(import::ImportArgs),
    /// Export candles to a .csv or .parquet file, or as .csv to standard output; `import` reads back the same to the last digit
    Export(export::ExportArgs),
    /// Make synthetic candles (a random walk), labelled as such in every result
    Generate {
        /// Which series they make
        #[command(flatten)]
        series: SeriesArgs,
        /// First day
        #[arg(long, default_value = "2023-01-01")]
        start: String,
        /// How many days
        #[arg(long, default_value_t = 365)]
        days: u32,
        /// Same seed, same candles
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// First price
        #[arg(long, default_value_t = 20_000.0)]
        price: f64,
        /// Standard deviation of a minute's return
        #[arg(long, default_value_t = 0.0007)]
        volatility: f64,
        /// Where they are kept
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// List what is stored
    List {
        /// Where it is kept
        #[command(flatten)]
        storage: StorageSettings,
    },
}

/// One symbol on one exchange.
#[derive(Debug, Clone, Args)]
pub struct SeriesArgs {
    /// As Jesse spells it, e.g. "Binance Perpetual Futures"
    #[arg(long)]
    exchange: String,
    /// E.g. BTC-USDT
    #[arg(long)]
    symbol: String,
}

impl SeriesArgs {
    fn checked(self) -> Result<Series, CandlesError> {
        Ok(Series::new(self.exchange, self.symbol)?)
    }
}

fn date_ms(text: &str) -> Result<i64, CandlesError> {
    let date: jiff::civil::Date = text.parse().map_err(|_| CandlesError::Date(text.to_owned()))?;
    Ok(jesse::spec::midnight_ms(date))
}

/// Does it.
pub async fn run(command: CandlesCommand) -> Result<(), RoleError> {
    match command {
        CandlesCommand::Import(args) => import::run(args).await,
        CandlesCommand::Export(args) => export::run(args).await,
        CandlesCommand::Generate { series, start, days, seed, price, volatility, storage } => {
            let series = series.checked()?;
            let first_ms = date_ms(&start)?;
            let minutes = days.checked_mul(1440).filter(|_| days > 0).ok_or(CandlesError::Days)?;
            let settings = WalkSettings { seed, first_ms, minutes, start_price: price, volatility };
            let rows: Vec<Candle> = candles::generate(settings).map_err(CandlesError::from)?.collect();
            store(&storage, &series, Source::Synthetic { seed }, &rows).await
        }
        CandlesCommand::List { storage } => list(&storage).await,
    }
}

async fn store(
    storage: &StorageSettings,
    series: &Series,
    source: Source,
    rows: &[Candle],
) -> Result<(), RoleError> {
    let (store, opened) = open(storage).await?;
    let imported = store.import(series, source, rows).await;
    opened.close().await;
    let imported = imported.map_err(CandlesError::from)?;
    let view = SeriesView::from(&imported.manifest);
    let (given, months) = (rows.len(), imported.months_written);
    let text = format!("{given} candles into {months} months; {}", line(&view));
    Ok(print(&[text])?)
}

async fn list(storage: &StorageSettings) -> Result<(), RoleError> {
    let (store, opened) = open(storage).await?;
    let manifests = store.list().await;
    opened.close().await;
    let mut lines: Vec<_> = manifests
        .map_err(CandlesError::from)?
        .iter()
        .map(|manifest| line(&SeriesView::from(manifest)))
        .collect();
    if lines.is_empty() {
        lines.push("no candles are stored".into());
    }
    Ok(print(&lines)?)
}

fn line(view: &SeriesView) -> String {
    let SeriesView { exchange, symbol, from, to, rows, gaps, synthetic } = view;
    let kind = if *synthetic { ", synthetic" } else { "" };
    format!("{exchange} {symbol}: {rows} candles from {from} to {to}, {gaps} gaps{kind}")
}

fn print(lines: &[String]) -> Result<(), CandlesError> {
    Ok(lines.iter().try_for_each(|line| output::print(&format!("{line}\n")))?)
}

/// The store: through a Redis that runs, be it the private one of an `up`, else through a private one for the moment.
async fn open(storage: &StorageSettings) -> Result<(CandleStore, Opened), RoleError> {
    let opened = Opened::open(storage).await?;
    let blobs = open_blobs(&storage.data, &storage.data.data, &opened.queue).await?;
    Ok((CandleStore::new(opened.queue.redis().clone(), blobs.inputs), opened))
}

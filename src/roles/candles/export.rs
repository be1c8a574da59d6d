//! `candles export`: to files that `candles import` reads back.

use std::{
    fs::{File, Permissions},
    io::{BufWriter, IsTerminal, Write},
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use jesse::candles::{
    Candle, CandleWriter, Chunk, ExportFormat, Series, Source, open_ms,
    store::{CandleStore, SeriesView},
};

use super::{CandlesError, RoleError, SeriesArgs, date_ms, line, open, print};
use crate::settings::StorageSettings;

/// What to export to where.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Ends in .csv or .parquet; standard output, if left out. What is there is replaced, once all is written
    file: Option<PathBuf>,
    /// Which series to export
    #[command(flatten)]
    series: SeriesArgs,
    /// First day, YYYY-MM-DD (UTC); default: the first that is stored
    #[arg(long)]
    start: Option<String>,
    /// Day after the last, YYYY-MM-DD (UTC); default: all that is stored
    #[arg(long)]
    finish: Option<String>,
    /// How to write; default: as the file's name says, csv on standard output
    #[arg(long)]
    format: Option<Format>,
    /// Where they are kept
    #[command(flatten)]
    storage: StorageSettings,
}

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text with a header.
    Csv,
    /// Compressed columns.
    Parquet,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Parquet => Self::Parquet,
        }
    }
}

pub(super) async fn run(args: ExportArgs) -> Result<(), RoleError> {
    let format = format(args.file.as_deref(), args.format)?;
    let series = args.series.checked()?;
    let start = args.start.as_deref().map_or(Ok(i64::MIN), date_ms)?;
    let finish = args.finish.as_deref().map_or(Ok(i64::MAX), date_ms)?;
    let (store, opened) = open(&args.storage).await?;
    let exported = export(&store, &series, start..finish, format, args.file.as_deref()).await;
    opened.close().await;
    Ok(exported?)
}

fn format(file: Option<&Path>, format: Option<Format>) -> Result<ExportFormat, CandlesError> {
    let Some(file) = file else {
        let format = format.unwrap_or(Format::Csv);
        if format == Format::Parquet && std::io::stdout().is_terminal() {
            return Err(CandlesError::Terminal);
        }
        return Ok(format.into());
    };
    let named = file.extension().and_then(|end| Format::from_str(end.to_str()?, true).ok());
    format.or(named).map(ExportFormat::from).ok_or_else(|| CandlesError::Format(file.to_owned()))
}

async fn export(
    store: &CandleStore,
    series: &Series,
    range: Range<i64>,
    format: ExportFormat,
    file: Option<&Path>,
) -> Result<(), CandlesError> {
    let Some(manifest) = store.manifest(series).await? else {
        let stored: Vec<_> = store.list().await?.iter().map(|stored| stored.series().to_string()).collect();
        let stored =
            if stored.is_empty() { "nothing is".into() } else { format!("stored: {}", stored.join(", ")) };
        return Err(CandlesError::NothingStored { series: series.clone(), range: String::new(), stored });
    };
    let chunks = manifest.overlapping(range.start, range.end);
    if !has_candles(store, chunks, &range).await? {
        let stored = format!("stored: {}", line(&SeriesView::from(&manifest)));
        let range = " in this range".into();
        return Err(CandlesError::NothingStored { series: series.clone(), range, stored });
    }
    let rows = if let Some(file) = file {
        to_file(store, chunks, &range, format, file).await?
    } else {
        let stdout = BufWriter::new(std::io::stdout());
        match write(store, chunks, &range, format, (stdout, Path::new("standard output"))).await {
            // Whoever reads has seen enough.
            Err(CandlesError::Export(_, error)) if error.is_broken_pipe() => return Ok(()),
            written => written?.1,
        }
    };
    if let Source::Synthetic { seed } = manifest.source() {
        tracing::warn!(
            "these candles are synthetic; import them with --synthetic {seed}, so that results say so"
        );
    }
    match file {
        Some(file) => print(&[format!("{rows} candles of {series} to {}", file.display())]),
        None => Ok(()),
    }
}

/// Asked before anything is written; of several months the second has some in the range, unless it ends before.
async fn has_candles(
    store: &CandleStore,
    chunks: &[Chunk],
    range: &Range<i64>,
) -> Result<bool, CandlesError> {
    for chunk in chunks {
        if !within(store.read(chunk).await?, range).is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn within(mut candles: Vec<Candle>, range: &Range<i64>) -> Vec<Candle> {
    candles.retain(|candle| range.contains(&open_ms(candle)));
    candles
}

/// Writes beside the file and puts it in its place when it is whole: nobody reads half of it.
async fn to_file(
    store: &CandleStore,
    chunks: &[Chunk],
    range: &Range<i64>,
    format: ExportFormat,
    path: &Path,
) -> Result<usize, CandlesError> {
    let cannot = |error| CandlesError::Write(path.to_owned(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut named = tempfile::Builder::new();
    // As for any new file; what the user's mask forbids stays forbidden.
    let named = named.prefix(".exporting-").permissions(Permissions::from_mode(0o666));
    let (file, unfinished) = named.tempfile_in(folder).map_err(cannot)?.into_parts();
    let (file, rows) = write(store, chunks, range, format, (BufWriter::new(file), path)).await?;
    let file: File = file.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.sync_all().map_err(cannot)?;
    unfinished.persist(path).map_err(|error| cannot(error.error))?;
    Ok(rows)
}

/// Answers the target and how many candles went to it.
async fn write<W: Write + Send>(
    store: &CandleStore,
    chunks: &[Chunk],
    range: &Range<i64>,
    format: ExportFormat,
    (target, path): (W, &Path),
) -> Result<(W, usize), CandlesError> {
    let cannot = |error| CandlesError::Export(path.to_owned(), error);
    let mut writer = CandleWriter::new(format, target).map_err(cannot)?;
    let mut rows = 0;
    for chunk in chunks {
        let candles = within(store.read(chunk).await?, range);
        if !candles.is_empty() {
            writer.write(&candles).map_err(cannot)?;
            rows += candles.len();
        }
    }
    let mut target = writer.finish().map_err(cannot)?;
    target.flush().map_err(|error| cannot(error.into()))?;
    Ok((target, rows))
}

//! `candles import`: from files, from a Jesse's Postgres, and from exchanges.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use clap::Args;
use jesse::candles::{
    self, Candle, Series, Source,
    postgres::{Followed, JessePostgres, Reach, Unseen},
    store::{CandleStore, SeriesView},
};

use super::{
    CandlesError, RoleError,
    from_exchange::{self, FromExchangeArgs},
    line, open, print, store,
};
use crate::settings::StorageSettings;

/// What to import from where.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Columns: timestamp, open, high, low, volume, by name in any order
    #[arg(required_unless_present_any = ["from_postgres", "from_exchange"], conflicts_with_all = ["from_postgres", "from_exchange"])]
    file: Option<PathBuf>,
    /// As Jesse spells it, e.g. "Binance Perpetual Futures"; from Postgres all, if left out
    #[arg(long, required_unless_present_any = ["from_postgres", "from_exchange"], conflicts_with = "from_exchange")]
    exchange: Option<String>,
    /// E.g. BTC-USDT; from Postgres all, if left out
    #[arg(long, required_unless_present = "from_postgres")]
    symbol: Option<String>,
    /// The file has synthetic candles (an export of generated ones): label them as such, with their seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["from_postgres", "from_exchange"])]
    synthetic: Option<u64>,
    /// Follow the database of a Jesse, postgresql://USER@HOST:5432/DATABASE (PGPASSWORD may hold the password): what is
    /// newer, or older, than what is stored
    #[arg(long, value_name = "URL", conflicts_with = "from_exchange")]
    from_postgres: Option<String>,
    /// Read all of Postgres again, or all of the range from the exchange, so that old candles that changed are found
    #[arg(long, conflicts_with = "file")]
    full: bool,
    /// See the struct.
    #[command(flatten)]
    exchange_source: FromExchangeArgs,
    /// Where they are kept
    #[command(flatten)]
    storage: StorageSettings,
}

pub(super) async fn run(args: ImportArgs) -> Result<(), RoleError> {
    if let Some(url) = &args.from_postgres {
        return follow(url, &args).await;
    }
    if let Some(exchange) = &args.exchange_source.from_exchange {
        // The parser of the command line asks for a symbol.
        let series = Series::new(exchange, args.symbol.as_deref().unwrap_or_default());
        let series = series.map_err(CandlesError::from)?;
        return from_exchange::run(&series, &args.exchange_source, args.full, &args.storage).await;
    }
    // The parser of the command line does not let this through.
    let (Some(file), Some(exchange), Some(symbol)) = (args.file, args.exchange, args.symbol) else {
        return Err(RoleError::Setting("FILE, --exchange and --symbol are needed".into()));
    };
    let series = Series::new(exchange, symbol).map_err(CandlesError::from)?;
    let read = file.clone();
    // Reading is work for the processor; nothing else happens in this process meanwhile.
    let rows = tokio::task::spawn_blocking(move || read_file(&read)).await;
    let rows = rows.map_err(|error| CandlesError::Open(file, error.into()))??;
    let source = args.synthetic.map_or(Source::Imported, |seed| Source::Synthetic { seed });
    store(&args.storage, &series, source, &rows).await
}

fn read_file(path: &Path) -> Result<Vec<Candle>, CandlesError> {
    let kind = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
    let imported = match kind.as_deref() {
        Some("csv") => {
            let file = File::open(path).map_err(|error| CandlesError::Open(path.to_owned(), error))?;
            candles::read_csv(BufReader::new(file))
        }
        Some("parquet") => candles::read_parquet_file(path),
        _ => return Err(CandlesError::Kind(path.to_owned())),
    };
    imported.map_err(|error| CandlesError::Import(path.to_owned(), error))
}

async fn follow(url: &str, args: &ImportArgs) -> Result<(), RoleError> {
    let password = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
    let postgres = JessePostgres::connect(url, password.as_deref()).await.map_err(CandlesError::from)?;
    let wanted = wanted(&postgres, args).await?;
    let (store, opened) = open(&args.storage).await?;
    let followed = follow_all(&postgres, &wanted, &store, args.full).await;
    opened.close().await;
    Ok(followed?)
}

/// The series that are asked for, all of whose names are sound.
async fn wanted(postgres: &JessePostgres, args: &ImportArgs) -> Result<Vec<Series>, CandlesError> {
    if let (Some(exchange), Some(symbol)) = (&args.exchange, &args.symbol) {
        return Ok(vec![Series::new(exchange, symbol)?]);
    }
    let is_wanted = |(exchange, symbol): &(String, String)| {
        args.exchange.as_ref().is_none_or(|wanted| wanted == exchange)
            && args.symbol.as_ref().is_none_or(|wanted| wanted == symbol)
    };
    let there = postgres.series().await?;
    let wanted: Vec<_> = there.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        let of = [&args.exchange, &args.symbol].into_iter().flatten().map(|name| format!(" of {name:?}"));
        return Err(CandlesError::NothingThere(of.collect()));
    }
    let series = wanted.into_iter().map(|(exchange, symbol)| Series::new(exchange, symbol));
    Ok(series.collect::<Result<_, _>>()?)
}

/// One after the other; the first that fails ends it, and those before it are stored.
async fn follow_all(
    postgres: &JessePostgres,
    wanted: &[Series],
    store: &CandleStore,
    full: bool,
) -> Result<(), CandlesError> {
    let reach = if full { Reach::Everything } else { Reach::New };
    for series in wanted {
        let Followed { manifest, rows, months_written, unseen } =
            postgres.follow(series, store, reach).await?;
        let view = SeriesView::from(&manifest);
        print(&[format!("{rows} candles into {months_written} months; {}", line(&view))])?;
        if let Some(Unseen { there, here }) = unseen {
            tracing::warn!(
                "{series}: Postgres has {there} candles in the range that was stored before, and {here} are stored; \
                 --full reads them again"
            );
        }
    }
    Ok(())
}

//! `candles import --from-exchange`: through the driver that Jesse has for the exchange.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use jesse::candles::{
    Gap, Series,
    exchange::{self, ExchangeSettings, Followed, Wanted},
    store::{CandleStore, SeriesView},
};
use jobs::Lock;
use workers::ExchangeAccess;

use super::{CandlesError, RoleError, date_ms, line, open, print};
use crate::settings::{ExchangeArgs, StorageSettings, default_python};

/// How many gaps are named one by one.
const NAMED: usize = 20;
/// How often it is seen whether another import of the series has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which exchange, and how it is asked.
#[derive(Debug, Clone, Args)]
pub(super) struct FromExchangeArgs {
    /// Fetch from this exchange, as Jesse spells it, e.g. "Binance Spot": what of the range is not stored yet
    #[arg(long, value_name = "EXCHANGE", requires = "start", requires = "symbol")]
    pub(super) from_exchange: Option<String>,
    /// First day to fetch from the exchange, YYYY-MM-DD (UTC)
    #[arg(long, requires = "from_exchange")]
    start: Option<String>,
    /// Day after the last, YYYY-MM-DD (UTC); default: up to now
    #[arg(long, requires = "from_exchange")]
    finish: Option<String>,
    /// See the struct.
    #[command(flatten)]
    exchange: ExchangeArgs,
    /// Python that has Jesse installed; default: .venv/bin/python if it exists, else python3
    #[arg(long, env = "JESSE_PYTHON")]
    python: Option<PathBuf>,
}

pub(super) async fn run(
    series: &Series,
    args: &FromExchangeArgs,
    everything: bool,
    storage: &StorageSettings,
) -> Result<(), RoleError> {
    let ExchangeAccess { url, attempts } = args.exchange.access().map_err(RoleError::Setting)?;
    let from_ms = date_ms(args.start.as_deref().unwrap_or_default())?;
    let to_ms = args.finish.as_deref().map(date_ms).transpose()?;
    let folder = tempfile::tempdir().map_err(|error| RoleError::Folder(std::env::temp_dir(), error))?;
    workers::write_runner_package(folder.path())
        .map_err(|error| RoleError::Folder(folder.path().to_owned(), error))?;
    let settings = ExchangeSettings {
        python: args.python.clone().unwrap_or_else(default_python),
        package: folder.path().to_owned(),
        url,
        attempts,
    };
    let (store, opened) = open(storage).await?;
    let wanted = Wanted { from_ms, to_ms, everything };
    let followed = async {
        let lock = turn(&store, series).await?;
        let followed = exchange::follow(&lock, &settings, series, wanted, &store, |_| {}).await;
        lock.release().await;
        Ok::<_, CandlesError>(followed?)
    }
    .await;
    opened.close().await;
    Ok(print(&told(&followed?))?)
}

/// Waits until no other import of the series is under way.
async fn turn(store: &CandleStore, series: &Series) -> Result<Lock, CandlesError> {
    let mut waiting = false;
    loop {
        if let Some(lock) = store.lock(series).await? {
            return Ok(lock);
        }
        if !std::mem::replace(&mut waiting, true) {
            tracing::info!("waits for another import of this series");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is stored, and each part of the range that the exchange had no candles for.
fn told(followed: &Followed) -> Vec<String> {
    let Followed { manifest, rows, months_written, missing, .. } = followed;
    let view = SeriesView::from(manifest);
    let mut lines = vec![format!("{rows} candles into {months_written} months; {}", line(&view))];
    lines.extend(missing.iter().take(NAMED).map(Gap::to_string));
    if let Some(more) = missing.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(format!("and {more} more gaps"));
    }
    lines
}

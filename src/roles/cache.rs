//! `cache`: how the stored results are doing, and a way to remove some, whether or not `up` runs on the data folder.

use clap::{Args, Subcommand};

use super::{RoleError, open::Opened};
use crate::{
    errors::ServiceError,
    output,
    service::{CacheView, Invalidate},
    settings::StorageSettings,
};

/// Why the cache could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// What was asked for, or the queue.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Standard output.
    #[error("the answer cannot be printed")]
    Print(#[from] std::io::Error),
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Print how many results are stored, what they take up, and how often they were used (JSON)
    Stats {
        /// Where they are kept
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Remove stored results that have all that is named; prints how many
    Invalidate {
        /// Which
        #[command(flatten)]
        which: Which,
        /// Where they are kept
        #[command(flatten)]
        storage: StorageSettings,
    },
}

/// Which results.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct Which {
    /// The one with this cache key, from a result's provenance
    #[arg(long, conflicts_with_all = ["strategy", "symbol", "exchange", "tenant", "all"])]
    key: Option<String>,
    /// Those of this strategy
    #[arg(long)]
    strategy: Option<String>,
    /// Those that trade or read this symbol
    #[arg(long)]
    symbol: Option<String>,
    /// Those on this exchange
    #[arg(long)]
    exchange: Option<String>,
    /// Those that were computed for this tenant first
    #[arg(long)]
    tenant: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["strategy", "symbol", "exchange", "tenant"])]
    all: bool,
}

/// Does it.
pub async fn run(command: CacheCommand) -> Result<(), RoleError> {
    let (CacheCommand::Stats { storage } | CacheCommand::Invalidate { storage, .. }) = &command;
    let opened = Opened::open(storage).await?;
    let answer = match &command {
        CacheCommand::Stats { .. } => stats(&opened).await,
        CacheCommand::Invalidate { which, .. } => invalidate(&opened, which).await,
    };
    opened.close().await;
    Ok(output::print(&(answer? + "\n")).map_err(CacheError::from)?)
}

async fn stats(opened: &Opened) -> Result<String, CacheError> {
    let stats = opened.queue.cache_stats().await.map_err(ServiceError::from)?;
    let view = serde_json::to_string_pretty(&CacheView::from(stats));
    Ok(view.map_err(|error| ServiceError::internal("an answer cannot be shown", &error))?)
}

async fn invalidate(opened: &Opened, which: &Which) -> Result<String, CacheError> {
    let Which { key, strategy, symbol, exchange, tenant, all } = which.clone();
    let which = Invalidate { key, strategy, symbol, exchange, tenant, all: all.then_some(true) };
    let removed = which.run(&opened.queue).await?.invalidated;
    Ok(format!("{removed} results invalidated"))
}

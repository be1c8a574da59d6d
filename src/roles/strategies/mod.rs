//! `strategies`: lists, reads, validates, writes and deletes strategies, for whoever runs the deployment: it goes to Redis and
//! the blob store by itself, past the server, so `--allow-strategy-write` (what the server's clients may do) does not bind it.
//!
//! Reading needs what workers have published; validating and writing need a worker that runs, as the strategy is imported there.

mod files;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use jesse::{plan::Limits, strategies::draft::DraftRequest};
use jobs::{Events, TenantId};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{RoleError, open::Opened, open_blobs};
use crate::{
    errors::ServiceError,
    output,
    service::{PlannedEngines, Service, Validation},
    settings::{CacheScope, EngineChoice, StorageSettings},
};

/// The most bytes of text that `read` prints.
const MOST_READ: usize = 512 << 10;

/// Why a strategy could not be listed, read, validated, written or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StrategiesError {
    /// What was asked for, or the queue.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A file of the strategy.
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file that is no text.
    #[error("{0} is not UTF-8 text; a strategy is written as text files")]
    NotText(PathBuf),
    /// More than can be written.
    #[error("{0} is too much: a strategy may have {1}")]
    TooMuch(PathBuf, String),
    /// A name that has no place in a project.
    #[error("{0:?} has no name that can be written: name a strategy's folder or its .py file")]
    Name(PathBuf),
    /// Nobody would validate.
    #[error(
        "no worker runs on this data folder, and a strategy is validated by one: start `jesse-jobs up` on it, or name the Redis of \
         your workers with --redis-url"
    )]
    NoWorker,
    /// A file that is larger than is shown, or no text.
    #[error("{file} has {bytes} bytes and is no text, or too much of it, so it is not printed")]
    Omitted {
        /// Its path in the project.
        file: String,
        /// Its size.
        bytes: u64,
    },
    /// What was found is printed.
    #[error("{0} cannot run; the errors are told above")]
    CannotRun(String),
    /// It takes longer than was waited for.
    #[error(
        "{name} is still being validated by job {job}, which goes on: call again, or wait longer with --wait"
    )]
    NotEnded {
        /// The strategy.
        name: String,
        /// The job.
        job: String,
    },
    /// Standard output.
    #[error("the answer cannot be printed")]
    Print(#[from] std::io::Error),
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum StrategiesCommand {
    /// Print all strategies that workers have published or that were written, with their hyperparameters (JSON)
    List {
        /// Where they are kept
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Print a strategy with the text of all that it imports (JSON), or one file of it as it is
    Read {
        /// Its name
        #[arg(value_name = "NAME")]
        strategy: String,
        /// Print only this file, e.g. strategies/NAME/__init__.py
        #[arg(long)]
        file: Option<String>,
        /// Where it is kept
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Have a worker import a strategy and print what it finds (JSON); fails if the strategy cannot run
    Validate {
        /// Which
        #[command(flatten)]
        draft: DraftArgs,
        /// Where the workers are
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Validate a strategy and, if it can run, let backtests on all workers use it; prints what was found (JSON)
    Write {
        /// Which
        #[command(flatten)]
        draft: DraftArgs,
        /// Use it instead of a project's strategy of the same name
        #[arg(long)]
        replace: bool,
        /// Where the workers are
        #[command(flatten)]
        storage: StorageSettings,
    },
    /// Take back a strategy that was written; jobs that were submitted with it go on
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        strategy: String,
        /// Where it is kept
        #[command(flatten)]
        storage: StorageSettings,
    },
}

/// A strategy on the disk.
#[derive(Debug, Clone, Args)]
pub struct DraftArgs {
    /// Folder of the strategy, or its one .py file
    path: PathBuf,
    /// Its name; default: the folder's, or that of the class in the file
    #[arg(long = "as", value_name = "NAME")]
    strategy: Option<String>,
    /// Another file that it imports, as a path in the project, e.g. indicators/bands.py; may be given several times
    #[arg(long = "with", value_name = "FILE")]
    with: Vec<String>,
    /// Folder of the project that --with is relative to
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Seconds to wait for what the worker finds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
}

impl DraftArgs {
    fn read(&self) -> Result<DraftRequest, StrategiesError> {
        files::draft(&self.path, self.strategy.clone(), &self.root, &self.with)
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

/// Does it.
pub async fn run(command: StrategiesCommand) -> Result<(), RoleError> {
    let (StrategiesCommand::List { storage }
    | StrategiesCommand::Read { storage, .. }
    | StrategiesCommand::Validate { storage, .. }
    | StrategiesCommand::Write { storage, .. }
    | StrategiesCommand::Delete { storage, .. }) = &command;
    let opened = Opened::open(storage).await?;
    let outcome = match service(storage, &opened).await {
        Ok((service, _following)) => {
            carry_out(&command, &service, opened.is_private()).await.map_err(RoleError::from)
        }
        Err(error) => Err(error),
    };
    opened.close().await;
    outcome
}

/// What the server has too, and what stops its reader of events when it is dropped.
async fn service(storage: &StorageSettings, opened: &Opened) -> Result<(Service, DropGuard), RoleError> {
    let queue = opened.queue.clone();
    let blobs = open_blobs(&storage.data, &storage.data.data, &queue).await?;
    let stop = CancellationToken::new();
    let events = Events::follow(queue.clone(), stop.clone());
    let engines = PlannedEngines { choice: EngineChoice::Auto, publisher: None, offers: None };
    // No backtest is submitted here, so neither limits nor scope matter.
    let service =
        Service::new(queue, events, blobs, engines, Limits::default(), CacheScope::Deployment, false)
            .with_strategy_writing(true);
    Ok((service, stop.drop_guard()))
}

async fn carry_out(
    command: &StrategiesCommand,
    service: &Service,
    private: bool,
) -> Result<(), StrategiesError> {
    let tenant = TenantId::default_tenant();
    match command {
        StrategiesCommand::List { .. } => print_json(&json!({ "strategies": service.strategies().await? })),
        StrategiesCommand::Read { strategy, file, .. } => read(service, strategy, file.as_deref()).await,
        // Asked of a Redis that runs for this command alone, nobody would ever answer.
        StrategiesCommand::Validate { .. } | StrategiesCommand::Write { .. } if private => {
            Err(StrategiesError::NoWorker)
        }
        StrategiesCommand::Validate { draft, .. } => {
            found(&service.validate(&tenant, draft.read()?, draft.wait()).await?)
        }
        StrategiesCommand::Write { draft, replace, .. } => {
            found(&service.write(&tenant, draft.read()?, *replace, draft.wait()).await?)
        }
        StrategiesCommand::Delete { strategy, .. } => {
            service.delete_strategy(strategy).await?;
            print(&format!("{strategy} is deleted\n"))
        }
    }
}

async fn read(service: &Service, name: &str, file: Option<&str>) -> Result<(), StrategiesError> {
    let source = service.strategy(name, file, MOST_READ).await?;
    let Some(file) = file else { return print_json(&source) };
    match source.files.get(file) {
        Some(text) => print(text),
        None => Err(StrategiesError::Omitted {
            file: file.to_owned(),
            bytes: source.omitted.get(file).copied().unwrap_or_default(),
        }),
    }
}

/// Prints what a worker found; a strategy that cannot run, or about which nothing is known yet, fails the command.
fn found(validation: &Validation) -> Result<(), StrategiesError> {
    let name = validation.name.clone();
    match validation.valid {
        None => Err(StrategiesError::NotEnded { name, job: validation.job_id.clone() }),
        Some(true) => print_json(validation),
        Some(false) => {
            print_json(validation)?;
            Err(StrategiesError::CannotRun(name))
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<(), StrategiesError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| ServiceError::internal("an answer cannot be shown", &error))?;
    print(&(text + "\n"))
}

fn print(text: &str) -> Result<(), StrategiesError> {
    Ok(output::print(text)?)
}

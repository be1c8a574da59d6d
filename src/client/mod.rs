//! The command line for those who submit jobs. All of it goes over HTTP, to the same routes that any other program uses.
//!
//! What a command found goes to standard output, as a table or (`--json`) as the server answered it; what is only of interest
//! while one waits goes to standard error, and only to a terminal. Exit codes: 0; 1 when a job did not succeed or `doctor`
//! found something; 2 for arguments that do not fit; 3 when the server cannot be reached; 4 when it refused.

mod doctor;
mod http;
mod show;
mod submit;
mod watch;

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub use http::ServerArgs;
pub(crate) use http::server_url;

use http::Server;
use submit::{BatchArgs, SubmitArgs};

use crate::output;

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was given does not fit.
    #[error("{0}")]
    Input(String),
    /// Nobody answers.
    #[error("{0} cannot be reached; --url (JESSE_JOBS_URL) names the server")]
    Unreachable(String, #[source] reqwest::Error),
    /// The server says no, and why.
    #[error("{detail} ({code}, {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code, or `unknown`.
        code: String,
        /// Why, for people.
        detail: String,
    },
    /// Standard output or a file.
    #[error("{0} cannot be used")]
    Io(String, #[source] std::io::Error),
}

impl ClientError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io(..) => 1,
            Self::Input(_) => 2,
            Self::Unreachable(..) => 3,
            Self::Refused { .. } => 4,
        }
    }
}

/// What one can ask of a server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Submit a job: from flags, or from a file of JSON or TOML; prints its id
    Submit(Box<SubmitArgs>),
    /// Submit many backtests as one: every combination of some values, or a file of JSON or TOML
    Batch(Box<BatchArgs>),
    /// Follow jobs to their ends
    Watch(Ids),
    /// List jobs, newest first
    Jobs(ListArgs),
    /// Show a job: how it stands, what was asked for, what it found
    Job(Id),
    /// Show what a job found
    Result(ResultArgs),
    /// Stop jobs
    Cancel(Ids),
    /// Run jobs that ended badly once more; prints the ids of the new ones
    Requeue(Ids),
    /// Look for what keeps jobs from being run, and say how to mend it
    Doctor(doctor::DoctorArgs),
}

/// Some jobs.
#[derive(Debug, Clone, Args)]
pub struct Ids {
    /// Jobs or batches
    #[arg(required = true, value_name = "JOB_ID")]
    ids: Vec<String>,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// One job.
#[derive(Debug, Clone, Args)]
pub struct Id {
    /// A job or a batch
    #[arg(value_name = "JOB_ID")]
    id: String,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// Which jobs are listed.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// In one of these states, comma-separated; dead are the dead letters
    #[arg(long)]
    state: Option<String>,
    /// Of one of these kinds, comma-separated
    #[arg(long)]
    kind: Option<String>,
    /// Of this batch
    #[arg(long)]
    batch: Option<String>,
    /// Of this campaign
    #[arg(long)]
    campaign: Option<String>,
    /// With this label, NAME=VALUE; may be given several times
    #[arg(long)]
    label: Vec<String>,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// What of a result is shown.
#[derive(Debug, Clone, Args)]
pub struct ResultArgs {
    /// A job that succeeded
    #[arg(value_name = "JOB_ID")]
    id: String,
    /// This list of the result, as CSV: trades, equity_curve, ...
    #[arg(long, value_name = "FIELD", conflicts_with = "json")]
    csv: Option<String>,
    /// Write it there instead of to standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// The most jobs on one page of a listing.
const LONGEST_PAGE: usize = 100;

/// Does what was asked; answers whether all went well.
pub async fn run(command: ClientCommand) -> Result<bool, ClientError> {
    match command {
        ClientCommand::Submit(args) => submit::submit(*args).await,
        ClientCommand::Batch(args) => submit::batch(*args).await,
        ClientCommand::Watch(Ids { ids, server }) => {
            watch::watch(&Server::new(&server)?, ids, server.json).await
        }
        ClientCommand::Jobs(args) => jobs(args).await,
        ClientCommand::Job(Id { id, server }) => {
            let job = Server::new(&server)?.get(&job_path(&id, "")?).await?;
            print(&if server.json { pretty(&job) } else { show::job(&job) })?;
            Ok(true)
        }
        ClientCommand::Result(args) => result(args).await,
        ClientCommand::Cancel(ids) => each(ids, "cancel").await,
        ClientCommand::Requeue(ids) => each(ids, "requeue").await,
        ClientCommand::Doctor(args) => doctor::run(args).await,
    }
}

/// The path of a job or of something of it. An id comes from the command line: what is none is refused here.
fn job_path(id: &str, of_it: &str) -> Result<String, ClientError> {
    let parsed: jobs::JobId =
        id.parse().map_err(|error: jobs::InvalidId| ClientError::Input(error.to_string()))?;
    Ok(format!("/v1/jobs/{parsed}{of_it}"))
}

async fn jobs(args: ListArgs) -> Result<bool, ClientError> {
    let server = Server::new(&args.server)?;
    let mut query: Vec<(&str, String)> = Vec::new();
    for (name, value) in
        [("state", args.state), ("kind", args.kind), ("batch", args.batch), ("campaign", args.campaign)]
    {
        query.extend(value.map(|value| (name, value)));
    }
    if !args.label.is_empty() {
        query.push(("label", args.label.join(",")));
    }
    let mut found = Vec::new();
    let mut cursor = None;
    while found.len() < args.limit {
        let limit = LONGEST_PAGE.min(args.limit - found.len());
        let mut query = query.clone();
        query.push(("limit", limit.to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let mut page = server.get_with("/v1/jobs", &query).await?;
        if let Some(jobs) = page["jobs"].as_array_mut() {
            found.append(jobs);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    print(&if args.server.json { pretty(&json!(found)) } else { show::jobs(&found) })?;
    Ok(true)
}

async fn result(args: ResultArgs) -> Result<bool, ClientError> {
    let ResultArgs { id, csv, output, server: given } = args;
    let server = Server::new(&given)?;
    let text = if let Some(field) = csv {
        let result = server.get_with(&job_path(&id, "/result")?, &[("fields", field.clone())]).await?;
        show::csv(&result[&field]).map_err(|why| ClientError::Input(format!("--csv {field}: {why}")))?
    } else if given.json {
        pretty(&server.get(&job_path(&id, "/result")?).await?)
    } else {
        let job = server.get(&job_path(&id, "")?).await?;
        if job["state"] != "succeeded" {
            let state = job["state"].as_str().unwrap_or_default();
            let message = format!("the job is {state}; only one that succeeded has a result");
            return Err(ClientError::Refused {
                status: 409,
                code: "result_not_ready".into(),
                detail: message,
            });
        }
        show::summary(&job["summary"])
    };
    match output {
        Some(path) => {
            std::fs::write(&path, text)
                .map_err(|error| ClientError::Io(path.display().to_string(), error))?;
        }
        None => print(text.trim_end())?,
    }
    Ok(true)
}

/// Does the same to several jobs, one after the other. All are tried; the first mistake is told at the end.
async fn each(Ids { ids, server: given }: Ids, what: &str) -> Result<bool, ClientError> {
    let server = Server::new(&given)?;
    let paths = ids.iter().map(|id| job_path(id, &format!("/{what}"))).collect::<Result<Vec<_>, _>>()?;
    let mut failed = None;
    for (id, path) in ids.iter().zip(paths) {
        match server.post(&path, &json!({})).await {
            Ok(job) if given.json => print(&job.to_string())?,
            Ok(job) if what == "requeue" => print(job["job_id"].as_str().unwrap_or_default())?,
            Ok(job) => print(&format!("{id}  {}", job["state"].as_str().unwrap_or_default()))?,
            Err(error @ ClientError::Refused { .. }) => {
                warn(&format!("{id}: {error}"));
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(true), Err)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A line.
fn print(text: &str) -> Result<(), ClientError> {
    output::print(&format!("{text}\n")).map_err(|error| ClientError::Io("standard output".into(), error))
}

/// To standard error.
fn warn(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

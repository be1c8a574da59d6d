//! Measures the queue through its public API and prints one line of JSON. `bench/queues.py` runs it by turns with
//! other queues; every subcommand can also be called by itself, on a Redis that holds nothing else.
//!
//! It does not empty the Redis, neither before nor after.
//!
//! The `chaos` subcommands are what `bench/chaos.py` kills, and what it asks afterwards.

mod api;
mod chaos;
mod enqueue;
mod raw;
mod scripts;
mod work;

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "How fast the queue is. Prints one line of JSON.")]
struct Cli {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Args)]
struct On {
    /// The Redis, as in redis://127.0.0.1:6379
    #[arg(long)]
    redis: String,
    /// How many jobs
    #[arg(long, default_value_t = 10_000)]
    count: usize,
}

#[derive(Subcommand)]
enum Measure {
    /// Jobs accepted in a second
    Enqueue {
        #[command(flatten)]
        on: On,
        /// How they come
        #[arg(long)]
        mode: enqueue::Mode,
    },
    /// Jobs processed in a second, of those that wait already
    Work {
        #[command(flatten)]
        on: On,
        /// How many at once
        #[arg(long, default_value_t = 64)]
        concurrency: u32,
    },
    /// Microseconds from submit in this process to the handler of an idle worker in another
    Pickup(On),
    /// The worker of `pickup`
    #[command(hide = true)]
    PickupWorker(On),
    /// Puts jobs into the queue and leaves them there
    Fill(On),
    /// What Redis can do at best: scripts of two writes in a second
    Raw(On),
    /// Microseconds of Redis for each call
    Scripts {
        /// The Redis; several take turns
        #[arg(long, required = true)]
        redis: Vec<String>,
        /// How many calls of each script
        #[arg(long, default_value_t = 5000)]
        count: usize,
    },
    /// Takes jobs from submit to success and leaves their records
    Finished {
        #[command(flatten)]
        on: On,
        /// Size of each request and plan
        #[arg(long, default_value_t = 400)]
        request_bytes: usize,
        /// Size of each summary
        #[arg(long, default_value_t = 500)]
        summary_bytes: usize,
    },
    /// A worker that may die where it hurts; ends well on SIGTERM
    #[command(hide = true)]
    ChaosWorker(chaos::worker::Options),
    /// Submits jobs of many sorts until each is acknowledged, and writes down which were
    #[command(hide = true)]
    ChaosSubmit(chaos::submit::Options),
    /// Reads every acknowledged job
    #[command(hide = true)]
    ChaosCheck(chaos::check::Options),
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("the queue failed")]
    Queue(#[from] api::QueueError),
    #[error("Redis failed")]
    Redis(#[from] redis::RedisError),
    #[error("the worker failed")]
    Worker(#[from] apalis_core::error::WorkerError),
    #[error("a task failed")]
    Task(#[from] tokio::task::JoinError),
    #[error("the processes could not be run")]
    Io(#[from] std::io::Error),
    #[error("the other process did not do its part in time")]
    NoWorker,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(Cli::parse().measure).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unsaid = writeln!(std::io::stderr(), "queue-bench: {}", jobs::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn measure(what: Measure) -> Result<(), BenchError> {
    let figures = match what {
        Measure::Enqueue { on, mode } => enqueue::enqueue(&on.redis, mode, on.count).await?,
        Measure::Work { on, concurrency } => work::work(&on.redis, on.count, concurrency).await?,
        // Its worker has the figures.
        Measure::Pickup(on) => return work::pickup(&on.redis, on.count).await,
        Measure::PickupWorker(on) => work::pickup_worker(&on.redis, on.count).await?,
        Measure::Fill(on) => enqueue::fill(&on.redis, on.count).await?,
        Measure::Raw(on) => raw::raw(&on.redis, on.count).await?,
        Measure::Scripts { redis, count } => scripts::scripts(&redis, count).await?,
        Measure::Finished { on, request_bytes, summary_bytes } => {
            scripts::finished(&on.redis, on.count, request_bytes, summary_bytes).await?
        }
        Measure::ChaosWorker(options) => return chaos::worker::work(options).await,
        Measure::ChaosSubmit(options) => chaos::submit::submit(options).await?,
        Measure::ChaosCheck(options) => chaos::check::check(&options).await?,
    };
    Ok(writeln!(std::io::stdout(), "{figures}")?)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 jobs")]
fn per_second(count: usize, time: Duration) -> f64 {
    (count as f64 / time.as_secs_f64()).round()
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^52 microseconds")]
fn per_call(microseconds: u64, count: usize) -> f64 {
    microseconds as f64 / count as f64
}

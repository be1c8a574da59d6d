//! A worker as the real one, but for what it computes: it sleeps. It dies at the places where that may cost most, with
//! a probability for each run.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apalis::prelude::{WorkerBuilder, WorkerBuilderExt};
use apalis_core::error::{BoxDynError, WorkerError};
use clap::{Args, ValueEnum};
use jobs::{
    Claim, ErrorCode, Facets, JobError, Outcome, Receipt, Stored, StoredResult, WorkerId,
    backend::{Assignment, Capacity, Handled, LeaseBackend},
    blobs::BlobId,
};
use rand::RngExt;
use serde_json::{json, value::RawValue};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{End, Journal, Task};
use crate::{BenchError, api};

/// How long runs may go on after SIGTERM; longer ones are handed back.
const GRACE: Duration = Duration::from_secs(1);
/// Within this time after an outcome is there, it is being handed in.
const HANDING_IN: Duration = Duration::from_millis(3);

#[derive(Args)]
pub(crate) struct Options {
    /// The Redis, as in redis://127.0.0.1:6379
    #[arg(long)]
    redis: String,
    /// How many runs at once
    #[arg(long, default_value_t = 4)]
    concurrency: u32,
    /// The process aborts there with this probability for each run, as in computed:0.01
    #[arg(long, value_name = "PLACE:PROBABILITY")]
    die: Vec<Death>,
    /// It does not die while this file is there
    #[arg(long)]
    spare: Option<PathBuf>,
    /// Gets a line for each run that was claimed, and one when it was computed
    #[arg(long)]
    journal: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Before anything is computed
    Claimed,
    /// Computed, and not handed in
    Computed,
    /// While the outcome is handed in
    HandingIn,
}

#[derive(Debug, Clone)]
struct Death {
    place: Place,
    probability: f64,
}

impl FromStr for Death {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, probability) = text.split_once(':').ok_or("expected PLACE:PROBABILITY")?;
        let probability = probability.parse().map_err(|_| "the probability is not a number")?;
        if !(0.0..=1.0).contains(&probability) {
            return Err("a probability is from 0 to 1".into());
        }
        Ok(Self { place: Place::from_str(place, false)?, probability })
    }
}

struct Chaos {
    deaths: Vec<Death>,
    spare: Option<PathBuf>,
    journal: Journal,
    /// Once it was asked to end, it must end well.
    asked: CancellationToken,
}

impl Chaos {
    fn dies_at(&self, place: Place) -> bool {
        let probability =
            self.deaths.iter().filter(|death| death.place == place).map(|death| death.probability);
        rand::rng().random_bool(probability.fold(0.0, f64::max))
            && !self.asked.is_cancelled()
            && !self.spare.as_ref().is_some_and(|spare| spare.exists())
    }

    async fn handle(&self, Assignment { claim, mut stop }: Assignment) -> Result<Handled, BoxDynError> {
        let task: Task = serde_json::from_str(&claim.request)?;
        let note = |what: &str| {
            let Claim { run, fence, .. } = &claim;
            self.journal.add(&format!("{what} {run} {fence} {} {}", task.key, api::now_ns()))
        };
        note("claimed")?;
        if task.ends == End::Kills || self.dies_at(Place::Claimed) {
            std::process::abort();
        }
        tokio::select! {
            reason = stop.stopped() => return Ok(Handled::Stopped(reason)),
            () = tokio::time::sleep(Duration::from_millis(task.sleep_ms)) => {}
        }
        note("computed")?;
        if self.dies_at(Place::Computed) {
            std::process::abort();
        }
        if self.dies_at(Place::HandingIn) {
            let after = HANDING_IN.mul_f64(rand::rng().random());
            #[expect(
                clippy::disallowed_methods,
                reason = "in a thread of its own: the runtime's timers are too coarse"
            )]
            std::thread::spawn(move || {
                std::thread::sleep(after);
                std::process::abort();
            });
        }
        Ok(Handled::Finished(outcome(&claim, &task)))
    }
}

fn outcome(claim: &Claim, task: &Task) -> Outcome {
    let error = JobError::new(ErrorCode::EngineCrashed, "it was to fail");
    match task.ends {
        End::Fails => Outcome::Failed(error),
        End::FailsOnce if claim.attempt == 1 => Outcome::Failed(error.retryable()),
        _ => {
            // The fence says later whose outcome was taken; the clock, what this worker believed.
            let clock_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let summary = json!({ "run": claim.run, "fence": claim.fence.to_string(), "clock_s": clock_s });
            let receipt = Receipt {
                blob: BlobId::of(b"nothing"),
                file: None,
                bytes: 0,
                provenance: RawValue::NULL.to_owned(),
            };
            let stored = Stored { bytes: 0, facets: Facets::default() };
            Outcome::Succeeded(StoredResult {
                trial: None,
                id: task.key.clone(),
                summary: summary.to_string(),
                receipt,
                stored: Some(stored),
            })
        }
    }
}

/// Works until SIGTERM.
pub(crate) async fn work(options: Options) -> Result<(), BenchError> {
    let Options { redis, concurrency, die, spare, journal } = options;
    let asked = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let worker = WorkerId::new(format!("chaos-{}-{}", std::process::id(), api::now_ns()));
    let capacity = Capacity { slots: concurrency, memory_mb: 0 };
    let backend = LeaseBackend::new(api::open(&redis)?, worker, capacity);
    let drain = backend.drain_handle();
    let journal = Journal::open(&journal)?;
    let chaos = Arc::new(Chaos { deaths: die, spare, journal, asked: asked.clone() });
    let handler = move |assignment: Assignment| {
        let chaos = chaos.clone();
        async move { chaos.handle(assignment).await }
    };
    let worker = WorkerBuilder::new("chaos")
        .backend(backend)
        .concurrency(concurrency as usize)
        .catch_panic()
        .build(handler);
    let stopped = {
        let asked = asked.clone();
        async move {
            terminate.recv().await;
            asked.cancel();
            Ok::<(), WorkerError>(())
        }
    };
    let drained = async {
        asked.cancelled().await;
        drain.drain(GRACE).await;
        Ok(())
    };
    futures::try_join!(worker.run_until(stopped), drained)?;
    Ok(())
}

//! How fast jobs are processed, and how soon an idle worker starts one. The worker is built as the real one is.

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use apalis::prelude::{WorkerBuilder, WorkerBuilderExt};
use apalis_core::error::{BoxDynError, WorkerError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    BenchError,
    api::{self, Assignment, Bench, Handled, Payload},
    per_second,
};

/// How long outcomes may take to be handed in, and a worker to be there.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a worker until `done`; answers when the last outcome was handed in.
async fn run_worker(
    bench: &Bench,
    concurrency: u32,
    done: CancellationToken,
    handle: impl Fn(&Assignment) + Clone + Send + Sync + 'static,
) -> Result<Instant, BenchError> {
    let backend = bench.backend(concurrency);
    let drain = backend.drain_handle();
    let handler = move |assignment: Assignment| {
        let handle = handle.clone();
        async move {
            handle(&assignment);
            Ok::<Handled, BoxDynError>(api::handled(&assignment))
        }
    };
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(concurrency as usize)
        .catch_panic()
        .build(handler);
    let asked = done.clone();
    let stopped = async move {
        asked.cancelled().await;
        Ok::<(), WorkerError>(())
    };
    let handed_in = async {
        done.cancelled().await;
        drain.drain(PATIENCE).await;
        Ok(Instant::now())
    };
    let ((), last) = futures::try_join!(worker.run_until(stopped), handed_in)?;
    Ok(last)
}

/// Processes `count` jobs that wait already: from the first that was handled to the last whose outcome was taken.
pub(crate) async fn work(url: &str, count: usize, concurrency: u32) -> Result<Value, BenchError> {
    let bench = Bench::open(url)?;
    let done = CancellationToken::new();
    let (first, handled) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let handle = {
        let (done, first) = (done.clone(), first.clone());
        move |_: &Assignment| {
            first.get_or_init(Instant::now);
            if handled.fetch_add(1, Ordering::Relaxed) + 1 == count {
                done.cancel();
            }
        }
    };
    let last = run_worker(&bench, concurrency, done, handle).await?;
    let first = first.get().copied().unwrap_or(last);
    Ok(json!({ "count": count, "per_second": per_second(count, last - first) }))
}

/// The plan of a job whose way is timed; 0 for one that only warms up.
#[derive(Serialize, Deserialize)]
struct Sent {
    sent_us: u64,
}

/// `CLOCK_REALTIME`, which two processes share.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// An idle worker in a process of its own gets `count` jobs with pauses in between. It prints the figures.
pub(crate) async fn pickup(url: &str, count: usize) -> Result<(), BenchError> {
    let mut worker = tokio::process::Command::new(std::env::current_exe()?)
        .args(["pickup-worker", "--redis", url, "--count", &count.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let bench = Bench::open(url)?;
    let payload = |sent_us| {
        let plan = serde_json::to_string(&Sent { sent_us }).unwrap_or_default();
        Payload { request: r#"{"kind":"nothing"}"#.into(), plan }
    };
    let warm = bench.submit(count, payload(0)).await?;
    let begin = Instant::now();
    while !bench.get(warm).await? {
        if begin.elapsed() > PATIENCE {
            return Err(BenchError::NoWorker);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for number in 0..count {
        // The pauses that the scripts of the others make.
        tokio::time::sleep(Duration::from_millis(100 + (number as u64 * 37) % 50)).await;
        bench.submit(number, payload(now_us())).await?;
    }
    match tokio::time::timeout(PATIENCE, worker.wait()).await.map_err(|_| BenchError::NoWorker)?? {
        status if status.success() => Ok(()),
        _ => Err(BenchError::NoWorker),
    }
}

/// The other half of [`pickup`].
pub(crate) async fn pickup_worker(url: &str, count: usize) -> Result<Value, BenchError> {
    let bench = Bench::open(url)?;
    let done = CancellationToken::new();
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let handle = {
        let (done, latencies) = (done.clone(), latencies.clone());
        move |assignment: &Assignment| {
            let now = now_us();
            let sent = serde_json::from_str::<Sent>(api::plan(assignment)).map_or(0, |plan| plan.sent_us);
            if sent == 0 {
                return;
            }
            let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.push(now.saturating_sub(sent));
            if latencies.len() == count {
                done.cancel();
            }
        }
    };
    run_worker(&bench, 1, done, handle).await?;
    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
    latencies.sort_unstable();
    // The same ranks as the scripts of the others take.
    let at = |hundredths: usize| latencies.get(latencies.len() * hundredths / 100).copied();
    Ok(json!({ "count": count, "p50": at(50), "p90": at(90), "p99": at(99), "max": latencies.last() }))
}

//! How fast jobs are accepted.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    BenchError,
    api::{Bench, Payload},
    per_second,
};

const PRODUCERS: usize = 32;
/// How many jobs one call of [`Bench::submit_many`] gets.
const BATCH: usize = 1000;

/// How the jobs come.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// One after the other.
    Seq,
    /// From 32 producers at once.
    Par32,
    /// A thousand at a time.
    Bulk,
}

/// What a small job carries, about 100 bytes each.
pub(crate) fn small() -> Payload {
    let hundred = |name: &str| json!({ name: "x".repeat(88 - name.len()) }).to_string();
    Payload { request: hundred("request"), plan: hundred("plan") }
}

/// Submits `count` small jobs.
pub(crate) async fn enqueue(url: &str, mode: Mode, count: usize) -> Result<Value, BenchError> {
    let bench = Bench::open(url)?;
    bench.connect().await?;
    let begin = Instant::now();
    match mode {
        Mode::Seq => {
            for number in 0..count {
                bench.submit(number, small()).await?;
            }
        }
        Mode::Par32 => from_many(&bench, count, &small()).await?,
        Mode::Bulk => in_batches(&bench, count, &small()).await?,
    }
    Ok(json!({ "count": count, "per_second": per_second(count, begin.elapsed()) }))
}

/// Submits `count` small jobs, each of which stands in the queue by itself.
pub(crate) async fn fill(url: &str, count: usize) -> Result<Value, BenchError> {
    enqueue(url, Mode::Par32, count).await
}

/// Submits `count` jobs one by one, from many producers at once.
pub(crate) async fn from_many(bench: &Bench, count: usize, payload: &Payload) -> Result<(), BenchError> {
    let next = Arc::new(AtomicUsize::new(0));
    let produce = |_| {
        let (bench, next, payload) = (bench.clone(), next.clone(), payload.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                bench.submit(number, payload.clone()).await?;
            }
        })
    };
    let producers: Vec<_> = (0..PRODUCERS).map(produce).collect();
    for producer in producers {
        producer.await?.map_err(BenchError::Queue)?;
    }
    Ok(())
}

/// Submits `count` jobs by the thousand.
async fn in_batches(bench: &Bench, count: usize, payload: &Payload) -> Result<(), BenchError> {
    for first in (0..count).step_by(BATCH) {
        bench.submit_many(Range { start: first, end: count.min(first + BATCH) }, payload).await?;
    }
    Ok(())
}

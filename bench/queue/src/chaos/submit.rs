//! Submits jobs of many sorts, each again and again until Redis has acknowledged it. An idempotency key with each makes
//! that the same job, however often it is sent: so there must be as many jobs in the end as were acknowledged.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use jobs::{
    BatchSubmission, CacheKey, CacheMode, Child, Idempotency, Kind, OnFailure, Priority, Queue, QueueError,
    Submission, Tags, TenantId, Treatment,
};
use rand::RngExt;
use serde_json::{Value, json};

use super::{End, Journal, Task};
use crate::{BenchError, api};

const PRODUCERS: usize = 8;
const TENANTS: [&str; 4] = ["ann", "bob", "cid", "default"];
const PRIORITIES: [Priority; 3] = [Priority::Interactive, Priority::Normal, Priority::Batch];
/// Jobs come in groups of as many, of which every fourth is a batch.
const GROUP: usize = 50;
/// A few take so long that a worker which was stopped for longer than its lease meets the next one at it, and that a
/// worker which is to end hands them back.
const LONG_MS: RangeInclusive<u64> = 3000..=5000;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long Redis may be away.
const PATIENCE: Duration = Duration::from_mins(2);
/// Within this time after it was submitted, a job is cancelled that is to be.
const CANCELLED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Options {
    /// The Redis, as in redis://127.0.0.1:6379
    #[arg(long)]
    redis: String,
    /// How many jobs, children of batches included
    #[arg(long)]
    count: usize,
    /// Seconds that they are spread over
    #[arg(long, default_value_t = 0.0)]
    over: f64,
    /// Gets a line for each acknowledged job: id, tenant and kind
    #[arg(long)]
    ids: PathBuf,
    /// Single urgent jobs that succeed, all of one tenant
    #[arg(long)]
    plain: bool,
    /// They kill their workers
    #[arg(long)]
    poison: bool,
    /// The least that a run takes
    #[arg(long, default_value_t = 20)]
    least_ms: u64,
    /// The most that a run takes
    #[arg(long, default_value_t = 200)]
    most_ms: u64,
}

struct Submitter {
    queue: Queue,
    options: Options,
    ids: Journal,
    /// Makes keys differ from those of any other process.
    origin: u128,
    begin: tokio::time::Instant,
    /// How often Redis was not available.
    again: AtomicUsize,
    cancelled: AtomicUsize,
}

/// Answers what was done.
pub(crate) async fn submit(options: Options) -> Result<Value, BenchError> {
    let (count, next) = (options.count, AtomicUsize::new(0));
    let submitter = Submitter {
        queue: api::open(&options.redis)?,
        ids: Journal::open(&options.ids)?,
        options,
        origin: api::now_ns(),
        begin: tokio::time::Instant::now(),
        again: AtomicUsize::new(0),
        cancelled: AtomicUsize::new(0),
    };
    let produce = async |_| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok::<(), BenchError>(());
            }
            submitter.one(number).await?;
        }
    };
    futures::future::try_join_all((0..PRODUCERS).map(produce)).await?;
    let number = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    Ok(json!({
        "submitted": count, "sent_again": number(&submitter.again), "to_be_cancelled": number(&submitter.cancelled),
        "seconds": submitter.begin.elapsed().as_secs_f64().round(),
    }))
}

impl Submitter {
    /// The job with this number; a whole batch, if one begins with it; nothing within one.
    async fn one(&self, number: usize) -> Result<(), BenchError> {
        let whole_group = number - number % GROUP + GROUP <= self.options.count;
        let batch = !self.options.plain && whole_group && (number / GROUP).is_multiple_of(4);
        if batch && !number.is_multiple_of(GROUP) {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 jobs")]
        let due = self.options.over * number as f64 / self.options.count as f64;
        tokio::time::sleep_until(self.begin + Duration::from_secs_f64(due)).await;
        let (id, tenant, kind) = if batch {
            let batch = self.batch(number..number + GROUP);
            let id = self.until_there(async || Ok(self.queue.submit_batch(&batch).await?.0)).await?;
            self.queue.open_soon(id);
            (id, batch.tenant, Kind::Batch)
        } else {
            let job = self.job(number);
            let id = self.until_there(async || Ok(self.queue.submit(&job).await?.0)).await?;
            (id, job.tenant, job.kind)
        };
        self.ids.add(&format!("{id} {tenant} {}", kind.as_str()))?;
        if self.is_cancelled(number, batch) {
            self.cancelled.fetch_add(1, Ordering::Relaxed);
            let after = CANCELLED_WITHIN.mul_f64(rand::rng().random());
            tokio::time::sleep(after).await;
            self.until_there(async || self.queue.cancel(id, &tenant).await).await?;
        }
        Ok(())
    }

    /// Makes a call again while Redis is not available.
    async fn until_there<T>(&self, call: impl AsyncFn() -> Result<T, QueueError>) -> Result<T, QueueError> {
        let begin = tokio::time::Instant::now();
        loop {
            match call().await {
                Err(QueueError::Unavailable(_)) if begin.elapsed() < PATIENCE => {
                    self.again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    fn job(&self, number: usize) -> Submission {
        let plain = self.options.plain;
        // Every tenth has the key of the one before: sometimes another tenant's, sometimes a stored result by then.
        let of = if !plain && number % 10 == 9 { number - 1 } else { number };
        let task = self.task(of, self.key(of));
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let in_ms = |ms: u128| i64::try_from(now_ms + ms).ok();
        Submission {
            tenant: self.tenant(number),
            kind: Kind::Backtest,
            treatment: self.treatment(number),
            cache_key: CacheKey::new(&task.key),
            request: text(&task),
            plan: "{}".into(),
            start_at_ms: in_ms(3000).filter(|_| !plain && number % 50 == 11),
            deadline_ms: in_ms(2000).filter(|_| !plain && number % 50 == 13),
            idempotency: Some(self.idempotency(number)),
            instead_of: None,
            trial_of: Vec::new(),
        }
    }

    fn batch(&self, numbers: Range<usize>) -> BatchSubmission {
        let first = numbers.start;
        let child = |number: usize| {
            // Some share a run with a sister.
            let of = if number % 10 == 9 { number - 1 } else { number };
            let task = self.task(of, self.key(of));
            Child { cache_key: CacheKey::new(&task.key), request: text(&task), plan: 0, trial_of: Vec::new() }
        };
        BatchSubmission {
            tenant: self.tenant(first / GROUP / 4),
            kind: Kind::Backtest,
            treatment: self.treatment(first / GROUP / 4),
            on_failure: if (first / GROUP).is_multiple_of(8) { OnFailure::Stop } else { OnFailure::Continue },
            request: "{}".into(),
            plans: vec!["{}".into()],
            children: numbers.map(child).collect(),
            idempotency: Some(self.idempotency(first)),
        }
    }

    fn tenant(&self, number: usize) -> TenantId {
        TenantId::new(TENANTS[if self.options.plain { 0 } else { number % TENANTS.len() }])
    }

    fn treatment(&self, number: usize) -> Treatment {
        if self.options.plain {
            // Ahead of all others.
            return Treatment { priority: Priority::Interactive, ..Treatment::default() };
        }
        let labels = BTreeMap::from([("part".to_owned(), (number % 7).to_string())]);
        let tags = Tags::new(Some("chaos".into()), labels).ok().filter(|_| number.is_multiple_of(5));
        let priority = PRIORITIES[number % PRIORITIES.len()];
        // These have the key of the one before: its result is replaced, or its run shared.
        let cache = if number % 50 == 29 { CacheMode::Refresh } else { CacheMode::Use };
        Treatment { priority, cache, tags: tags.unwrap_or_default(), ..Treatment::default() }
    }

    fn task(&self, number: usize, key: String) -> Task {
        let Options { plain, poison, least_ms, most_ms, .. } = self.options;
        // Primes, so that these fall on batches as on other jobs.
        let ends = match (number % 107, number % 37) {
            _ if poison => End::Kills,
            _ if plain => End::Well,
            (22, _) => End::Fails,
            (_, 5) => End::FailsOnce,
            _ => End::Well,
        };
        let range = if !plain && number % 73 == 3 { LONG_MS } else { least_ms..=most_ms.max(least_ms) };
        Task { key, sleep_ms: rand::rng().random_range(range), ends }
    }

    fn key(&self, number: usize) -> String {
        format!("{:032x}{number:032x}", self.origin)
    }

    fn idempotency(&self, number: usize) -> Idempotency {
        Idempotency { key: self.key(number), fingerprint: number.to_string() }
    }

    fn is_cancelled(&self, number: usize, batch: bool) -> bool {
        !self.options.plain && if batch { (number / GROUP) % 20 == 12 } else { number % 50 == 17 }
    }
}

fn text(task: &Task) -> String {
    serde_json::to_string(task).unwrap_or_default()
}

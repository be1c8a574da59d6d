//! What each script costs Redis, and jobs that have been through all of them.

use std::{collections::BTreeMap, time::Instant};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::{
    BenchError,
    api::{Bench, JobId, Payload},
    enqueue, per_call, per_second,
};

/// Calls of one script in a row. Small, so that several servers take turns often and few turns are disturbed.
const TURN: usize = 100;
/// How many runs a worker that only fills the store takes at a time.
const SLOTS: u32 = 100;

/// One Redis, and the microseconds for each call of a script, turn by turn.
struct Server {
    bench: Bench,
    connection: MultiplexedConnection,
    submitted: usize,
    /// What it had spent in scripts when it was last asked.
    before: u64,
    spent: BTreeMap<&'static str, Vec<f64>>,
}

impl Server {
    async fn open(url: &str) -> Result<Self, BenchError> {
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self { bench: Bench::open(url)?, connection, submitted: 0, before: 0, spent: BTreeMap::new() })
    }

    /// Puts what was spent since it was last asked down to `count` calls of `what`; `None` drops it.
    async fn spent_on(&mut self, what: Option<&'static str>, count: usize) -> Result<(), BenchError> {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connection).await?;
        let field = |line: &str| line.split(',').find_map(|field| field.strip_prefix("usec=")?.parse().ok());
        let now =
            info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:").and_then(field)).unwrap_or(0);
        if let Some(what) = what {
            self.spent.entry(what).or_default().push(per_call(now - self.before, count));
        }
        self.before = now;
        Ok(())
    }

    async fn submit(&mut self, count: usize) -> Result<Vec<JobId>, BenchError> {
        let mut jobs = Vec::with_capacity(count);
        for _ in 0..count {
            self.submitted += 1;
            jobs.push(self.bench.submit(self.submitted, enqueue::small()).await?);
        }
        Ok(jobs)
    }

    /// `count` calls of each script. The queue is as long after it as before.
    async fn turn(&mut self, count: usize) -> Result<(), BenchError> {
        self.spent_on(None, count).await?;
        let jobs = self.submit(count).await?;
        self.spent_on(Some("submit"), count).await?;
        for job in &jobs {
            self.bench.get(*job).await?;
        }
        self.spent_on(Some("get"), count).await?;
        let mut claims = Vec::with_capacity(count);
        for _ in 0..count {
            claims.extend(self.bench.claim(1).await?);
        }
        self.spent_on(Some("claim"), count).await?;
        for claim in &claims {
            self.bench.renew(claim).await?;
        }
        self.spent_on(Some("renew"), count).await?;
        for claim in &claims {
            self.bench.progress(claim).await?;
        }
        self.spent_on(Some("progress"), count).await?;
        for claim in &claims {
            self.bench.finish(claim, r#"{"ok":true}"#.into()).await?;
        }
        self.spent_on(Some("finish"), count).await?;
        let jobs = self.submit(count).await?;
        self.spent_on(None, count).await?;
        for job in jobs {
            self.bench.cancel(job).await?;
        }
        self.spent_on(Some("cancel"), count).await
    }
}

/// Calls each script `count` times on each of these servers, by turns. Answers microseconds of Redis for each call, the
/// median of the turns; what belongs to a call (`finish` also settles) is in its figure.
pub(crate) async fn scripts(urls: &[String], count: usize) -> Result<Value, BenchError> {
    let mut servers = Vec::new();
    for url in urls {
        let mut server = Server::open(url).await?;
        // Loads the scripts.
        server.turn(1).await?;
        server.spent.clear();
        servers.push(server);
    }
    for first in (0..count).step_by(TURN) {
        for server in &mut servers {
            server.turn(TURN.min(count - first)).await?;
        }
    }
    let figure = |(name, turns): (&&str, &Vec<f64>)| ((*name).to_owned(), json!(median(turns.clone())));
    let of_server = |server: &Server| server.spent.iter().map(figure).collect::<serde_json::Map<_, _>>();
    Ok(json!({ "count": count, "servers": servers.iter().map(of_server).collect::<Vec<_>>() }))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Takes `count` jobs with a request and a summary of these sizes from submit to success.
pub(crate) async fn finished(
    url: &str,
    count: usize,
    request_bytes: usize,
    summary_bytes: usize,
) -> Result<Value, BenchError> {
    let bench = Bench::open(url)?;
    let text = |bytes: usize| json!({ "text": "x".repeat(bytes.saturating_sub(11)) }).to_string();
    let payload = Payload { request: text(request_bytes), plan: text(request_bytes) };
    let begin = Instant::now();
    enqueue::from_many(&bench, count, &payload).await?;
    loop {
        let claims = bench.claim(SLOTS).await?;
        if claims.is_empty() {
            break;
        }
        let finish = claims.iter().map(|claim| bench.finish(claim, text(summary_bytes)));
        futures::future::try_join_all(finish).await?;
    }
    Ok(json!({ "count": count, "per_second": per_second(count, begin.elapsed()) }))
}

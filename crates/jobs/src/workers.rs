//! Who computes what at the moment, as far as leases and the list of idle workers tell, and how long the next have waited. A worker that has neither a run nor been idle
//! within a minute is not known.

use std::collections::BTreeMap;

use crate::{
    error::QueueError,
    ids::{JobId, RunId, TenantId},
    queue::Queue,
    record::{Kind, Priority, Progress},
    view::RunRecord,
};

/// The most runs, and the most idle workers, that are looked at.
const MOST: isize = 500;

/// A worker and what it computes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Working {
    /// Its name: host, process and a random part.
    pub worker: String,
    /// What it computes.
    pub runs: Vec<RunAtWork>,
    /// When it last said that it has a free slot (milliseconds since 1970); `None` if all are taken.
    pub free_ms: Option<i64>,
}

/// A run in the hands of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAtWork {
    /// The run.
    pub run: RunId,
    /// What it computes.
    pub kind: Kind,
    /// The job that waits for it; `None` if there are several.
    pub job: Option<JobId>,
    /// When it was started (milliseconds since 1970).
    pub started_ms: i64,
    /// How far it is.
    pub progress: Option<Progress>,
}

impl Queue {
    /// Since when what is next in a tenant's turn has waited (milliseconds since 1970); `None` if nothing waits. A run that was handed
    /// back counts from its submission.
    pub async fn waits_since(&self, tenant: &TenantId) -> Result<Option<i64>, QueueError> {
        let keys = self.redis.keys();
        let mut ask = redis::pipe();
        for priority in [Priority::Interactive, Priority::Normal, Priority::Batch] {
            ask.zrange(keys.queued(priority.band(), tenant.as_str()), 0, 0);
        }
        let first: Vec<Vec<String>> = self.redis.pipeline(&ask).await?;
        // `r<run>` and `b<batch>`.
        let made = |entry: &String| entry.get(1..)?.parse::<RunId>().ok()?.made_ms();
        Ok(first.iter().flatten().filter_map(made).min())
    }

    /// The workers of the deployment by name, those of all tenants' runs; of very many not all.
    pub async fn working(&self) -> Result<Vec<Working>, QueueError> {
        let keys = self.redis.keys();
        let mut ask = redis::pipe();
        ask.zrevrange(keys.leases(), 0, MOST - 1).zrevrange_withscores(keys.idle(), 0, MOST - 1);
        let (runs, idle): (Vec<String>, Vec<(String, f64)>) = self.redis.pipeline(&ask).await?;
        let mut found = BTreeMap::<String, Working>::new();
        for (worker, heard) in idle {
            #[expect(clippy::cast_possible_truncation, reason = "Redis's clock in milliseconds")]
            let heard = heard as i64;
            found.entry(worker).or_default().free_ms = Some(heard);
        }
        if !runs.is_empty() {
            let mut ask = redis::cmd("MGET");
            for run in &runs {
                ask.arg(keys.run(run));
            }
            let records: Vec<Option<String>> = self.redis.query(&ask).await?;
            for (run, record) in runs.iter().zip(records) {
                // It may have ended between the two looks.
                if let Some((worker, run)) = record.and_then(|record| at_work(run, &record)) {
                    found.entry(worker).or_default().runs.push(run);
                }
            }
        }
        let named = found.into_iter().map(|(worker, working)| Working { worker, ..working });
        Ok(named.collect())
    }
}

fn at_work(run: &str, record: &str) -> Option<(String, RunAtWork)> {
    let RunRecord { waiter, claim, rare, about, .. } = RunRecord::parse(record)?;
    let (started, worker) = claim?;
    let at_work = RunAtWork {
        run: run.parse().ok()?,
        kind: about.split(' ').nth(1)?.parse().ok()?,
        job: waiter.parse().ok(),
        started_ms: started.parse().ok()?,
        progress: rare.get("progress").and_then(|text| serde_json::from_str(text).ok()),
    };
    Some((worker.to_owned(), at_work))
}

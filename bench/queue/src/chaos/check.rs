//! Reads what became of every job that was acknowledged, through the same door as any client.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jobs::{JobId, JobView, Kind, Queue, QueueError, TenantId};
use serde_json::{Value, json};

use super::Journal;
use crate::{BenchError, api};

const READERS: usize = 16;
/// How many children of a batch are read in one call.
const PAGE: usize = 100;

#[derive(Args)]
pub(crate) struct Options {
    /// The Redis, as in redis://127.0.0.1:6379
    #[arg(long)]
    redis: String,
    /// What `chaos-submit` wrote
    #[arg(long)]
    ids: PathBuf,
    /// Gets a line of JSON for each job
    #[arg(long)]
    details: PathBuf,
}

/// Answers how many jobs there are in each state, and what of it is wrong.
pub(crate) async fn check(options: &Options) -> Result<Value, BenchError> {
    let queue = api::open(&options.redis)?;
    let details = Journal::open(&options.details)?;
    let ids = std::fs::read_to_string(&options.ids)?;
    let found: Vec<Vec<Found>> = stream::iter(ids.lines().filter_map(acknowledged))
        .map(|(id, tenant, batch)| read(&queue, id, tenant, batch))
        .buffer_unordered(READERS)
        .try_collect()
        .await?;
    let (mut jobs, mut batches, mut wrong) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for Found { id, view, batch } in found.into_iter().flatten() {
        let state = view.as_ref().map_or("missing", |view| view.state.as_str());
        *if batch { &mut batches } else { &mut jobs }.entry(state).or_insert(0_usize) += 1;
        match &view {
            Some(view) if !view.state.is_terminal() => wrong.push(format!("{id} is {state}")),
            None => wrong.push(format!("{id} is not there")),
            Some(view) => {
                if let Some(open) = view.counts.map(|counts| counts.open()).filter(|open| *open > 0) {
                    wrong.push(format!("{id} has ended with {open} open children"));
                }
            }
        }
        if let Some(view) = view.filter(|_| !batch) {
            let line = json!({
                "job": id, "state": state, "cached": view.cached, "summary": view.summary,
                "request": view.request, "error": view.error,
            });
            details.add(&line.to_string())?;
        }
    }
    let number = wrong.len();
    wrong.truncate(5);
    Ok(json!({ "jobs": jobs, "batches": batches, "wrong": number, "such_as": wrong }))
}

struct Found {
    id: JobId,
    /// `None` if it is not there.
    view: Option<JobView>,
    batch: bool,
}

fn acknowledged(line: &str) -> Option<(JobId, TenantId, bool)> {
    let mut words = line.split(' ');
    let (id, tenant, kind) = (words.next()?, words.next()?, words.next()?);
    Some((id.parse().ok()?, TenantId::new(tenant), kind == Kind::Batch.as_str()))
}

/// A job, and a batch's children with it.
async fn read(queue: &Queue, id: JobId, tenant: TenantId, batch: bool) -> Result<Vec<Found>, QueueError> {
    let view = match queue.get(id, &tenant).await {
        Err(QueueError::JobNotFound) => None,
        view => Some(view?),
    };
    let total = view.as_ref().and_then(|view| view.counts).map_or(0, |counts| counts.total);
    let mut found = vec![Found { id, view, batch }];
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let mut first = 0;
    while first < total {
        let (_, page) = queue.children(id, &tenant, first, PAGE).await?;
        if page.is_empty() {
            // Fewer records than the batch says it has children.
            found.extend((first..total).map(|_| Found { id, view: None, batch: false }));
            break;
        }
        first += page.len();
        found.extend(page.into_iter().map(|view| Found { id: view.job_id, view: Some(view), batch: false }));
    }
    Ok(found)
}

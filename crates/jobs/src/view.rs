//! What a client reads of a job, made from its record and its run's as `records.lua` describes them.

use std::{collections::HashMap, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{JobError, QueueError},
    ids::{JobId, RunId},
    record::{Details, Kind, Progress},
    state::{JobState, RunState},
    tags::Tags,
};

/// A job as a client sees it.
#[derive(Debug, Clone)]
pub struct JobView {
    /// Its id.
    pub job_id: JobId,
    /// What it computes.
    pub kind: Kind,
    /// Where it stands.
    pub state: JobState,
    /// Whether a stored result answered it.
    pub cached: bool,
    /// When it was accepted (milliseconds since 1970).
    pub created_ms: i64,
    /// When a worker last started its run.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// How far its run is, or what it waits for.
    pub progress: Option<Progress>,
    /// How many runs are ahead of it, while it is queued.
    pub queue_position: Option<u64>,
    /// What was asked for, with defaults filled in.
    pub request: Box<RawValue>,
    /// What it found, once it has succeeded.
    pub summary: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// What its result is stored under.
    pub result: Option<String>,
    /// The run it waits for, until it has ended.
    pub run: Option<RunId>,
    /// How it is treated.
    pub details: Details,
    /// What it is listed under.
    pub tags: Tags,
    /// Where its end is told.
    pub webhook: Option<String>,
    /// The batch that it belongs to.
    pub batch: Option<JobId>,
    /// The batch that its run waits for, or waited for last.
    pub awaits: Option<JobId>,
    /// How the jobs of a batch stand, if it is one.
    pub counts: Option<Counts>,
    /// How its run fared so far.
    pub troubles: Troubles,
    /// The job that runs it once more.
    pub requeued_as: Option<JobId>,
}

/// How a run fared, while it is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Failures of its own.
    pub attempts: u32,
    /// Workers lost that ran it.
    pub stalls: u32,
    /// Graceful stops of workers that ran it.
    pub interruptions: u32,
}

/// How the jobs of a batch stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Ended with a result.
    pub succeeded: u64,
    /// Ended with an error of their own.
    pub failed: u64,
    /// Given up.
    pub dead: u64,
    /// Not started before their deadline.
    pub expired: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Of those that succeeded: answered by a stored result.
    pub cached: u64,
}

impl Counts {
    /// How many have not ended.
    pub fn open(&self) -> u64 {
        let ended = self.succeeded + self.failed + self.dead + self.expired + self.cancelled;
        self.total.saturating_sub(ended)
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, QueueError> {
        Ok(Self {
            total: counter(fields, "total")?,
            succeeded: counter(fields, "succeeded")?,
            failed: counter(fields, "failed")?,
            dead: counter(fields, "dead")?,
            expired: counter(fields, "expired")?,
            cancelled: counter(fields, "cancelled")?,
            cached: counter(fields, "cached")?,
        })
    }
}

type Fields = HashMap<String, String>;

fn parsed<T: FromStr>(text: &str, name: &str) -> Result<T, QueueError> {
    text.parse().map_err(|_| QueueError::Corrupt(format!("{name} is {text:?}")))
}

/// Takes a counter that is not there before it counts.
fn counter<T: FromStr + Default>(fields: &mut Fields, name: &str) -> Result<T, QueueError> {
    fields.remove(name).map_or_else(|| Ok(T::default()), |text| parsed(&text, name))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(format!("{name}: {error}")))
}

/// What the scripts answer for one job: its record, its run's without what that was made of ("" if there is none), its place in
/// the queue, its batch's fields, and whether the batch that it belongs to was stopped.
pub(crate) type Records = (String, String, i64, Fields, u8);

/// The fields that few records have: `<name>=<value>` with the byte 31 between them.
fn rare_fields(line: &str) -> Fields {
    let field = |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    line.split('\u{1f}').filter_map(field).collect()
}

/// The record of a job, as `records.lua` describes it.
struct JobRecord<'a> {
    state: &'a str,
    ended: &'a str,
    found: &'a str,
    error: &'a str,
    rare: Fields,
    details: &'a str,
    request: &'a str,
}

impl<'a> JobRecord<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.splitn(7, '\n');
        let mut line = || lines.next();
        Some(Self {
            state: line()?,
            ended: line()?,
            found: line()?,
            error: line()?,
            rare: rare_fields(line()?),
            details: line()?.split_once(' ')?.1,
            request: line()?,
        })
    }
}

/// The record of a run, as `records.lua` describes it, as far as it is shown.
pub(crate) struct RunRecord<'a> {
    pub(crate) state: &'a str,
    /// The job that waits for it, or `-`.
    pub(crate) waiter: &'a str,
    /// When it was last claimed, and by whom.
    pub(crate) claim: Option<(&'a str, &'a str)>,
    pub(crate) rare: Fields,
    /// `<version> <kind> <slots> <memory>`; "" where what it was made of is left out.
    pub(crate) about: &'a str,
}

impl<'a> RunRecord<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.splitn(5, '\n');
        let (state, claim, rare) = (lines.next()?, lines.next()?, lines.next()?);
        let mut state = state.split(' ');
        // `<fence> <estimate> <started> <place> <time-out> <worker>`
        let claim = claim.splitn(6, ' ').collect::<Vec<_>>();
        let claim =
            if let [_, _, started, _, _, worker] = claim[..] { Some((started, worker)) } else { None };
        let (state, waiter) = (state.next()?, state.nth(1)?);
        Some(Self { state, waiter, claim, rare: rare_fields(rare), about: lines.next().unwrap_or_default() })
    }
}

impl JobView {
    /// Puts a job together from its records.
    pub(crate) fn from_records(
        job_id: JobId,
        (job, run, ahead, mut batch, stopped): Records,
    ) -> Result<Self, QueueError> {
        let corrupt = |name: &str, text: &str| QueueError::Corrupt(format!("{name} is {text:?}"));
        let JobRecord { state: stored, ended, found, error, rare: mut job, details, request } =
            JobRecord::parse(&job).ok_or_else(|| corrupt("a job's record", &job))?;
        // `<state> <place in listings> <run or -> <flags> <time> <tenant>:<kind>`
        let mut words = stored.splitn(6, ' ');
        let (name, run_id) = (words.next().unwrap_or_default(), words.nth(1).filter(|run| *run != "-"));
        let run_id = run_id.map(|text| parsed(text, "run")).transpose()?;
        let created = words.nth(1).unwrap_or_default();
        let stored_state = JobState::parse(name).ok_or_else(|| corrupt("state", name))?;
        let run = RunRecord::parse(&run);
        let run_state = if stopped == 1 {
            Some(RunState::Stopping)
        } else {
            run.as_ref().and_then(|run| RunState::parse(run.state))
        };
        let (claim, mut run) = run.map_or_else(Default::default, |run| (run.claim, run.rare));
        let state = stored_state.of_live(run_state);
        let running = state == JobState::Running;
        let index = words.next().unwrap_or_default();
        let (_, kind) = index.rsplit_once(':').ok_or_else(|| corrupt("state", stored))?;
        let mut ended = ended.split(' ').map(|part| Some(part).filter(|part| !matches!(*part, "" | "-")));
        let (started, finished, result) =
            (ended.next().flatten(), ended.next().flatten(), ended.next().flatten());
        let cached = ended.next().flatten() == Some("c");
        let started = started.or_else(|| claim.filter(|_| running).map(|(started, _)| started));
        let there = |text| Some(text).filter(|text: &&str| !text.is_empty());
        Ok(Self {
            job_id,
            kind: kind.parse()?,
            state,
            cached,
            created_ms: parsed(created, "created")?,
            started_ms: started.map(|text| parsed(text, "started")).transpose()?,
            finished_ms: finished.map(|text| parsed(text, "finished")).transpose()?,
            progress: match run.remove("progress") {
                Some(text) if state != JobState::Queued => Some(json(&text, "progress")?),
                _ => None,
            },
            queue_position: u64::try_from(ahead).ok().filter(|_| state == JobState::Queued),
            request: json(request, "request")?,
            summary: there(found).map(|text| json(text, "found")).transpose()?,
            error: there(error).map(|text| json(text, "error")).transpose()?,
            result: result.map(str::to_owned),
            run: run_id,
            details: json(details, "details")?,
            tags: Tags::from_lines(&job.remove("tags").unwrap_or_default().replace('\u{1e}', "\n")),
            webhook: job.remove("hook"),
            awaits: run.remove("awaits").map(|text| parsed(&text, "awaits")).transpose()?,
            batch: job.remove("batch").map(|text| parsed(&text, "batch")).transpose()?,
            counts: batch.contains_key("total").then(|| Counts::from_fields(&mut batch)).transpose()?,
            requeued_as: job.remove("again").map(|text| parsed(&text, "again")).transpose()?,
            troubles: Troubles {
                attempts: counter(&mut run, "attempt")?,
                stalls: counter(&mut run, "stalls")?,
                interruptions: counter(&mut run, "interruptions")?,
            },
        })
    }
}

//! How a job looks to a client, the same over HTTP and MCP.

use std::collections::BTreeMap;

use analysis::ledger::Figures;
use jobs::{CacheMode, Counts, JobError, JobState, JobView, Kind, Priority, Progress};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// A job as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(crate) struct JobAnswer {
    /// Its id.
    #[schemars(extend("format" = "uuid"))]
    pub job_id: String,
    /// What it computes.
    #[schemars(with = "Kind")]
    pub kind: &'static str,
    /// Where it stands.
    #[schemars(with = "JobState")]
    pub state: &'static str,
    /// Answered by a stored result.
    pub cached: bool,
    /// When it was accepted (UTC).
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When a worker started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,
    /// Runs ahead of it in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u64>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it found: metrics as Jesse names them (percentages in percent, periods in seconds or days)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub summary: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// What was asked for, with defaults filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub spec: Option<Box<RawValue>>,
    /// Of a batch: how many of its jobs are in each state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<BatchCounts>,
    /// The batch of trials that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// The batch it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// The campaign it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignAnswer>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The job that runs it once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_as: Option<String>,
    /// How it is treated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub treatment: Option<Treated>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A campaign by its name, or with what its trials amount to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "CampaignOfJob")]
pub(crate) enum CampaignAnswer {
    /// Its name.
    Name(String),
    /// What its trials amount to.
    Figures(Box<Figures>),
}

/// How the jobs of a batch stand.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchCounts {
    #[serde(flatten)]
    counts: Counts,
    /// Not ended yet.
    open: u64,
}

/// How a job is treated, for programs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Treatment")]
pub(crate) struct Treated {
    /// Which runs go before it.
    priority: Priority,
    /// How it uses the results of others.
    cache: CacheMode,
    /// How long a run of it may take.
    timeout_s: u32,
    /// After how many failures of its own it is given up.
    max_attempts: u32,
    /// Looks at days that are held out of research.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    holdout: bool,
    /// When it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    run_at: Option<String>,
    /// Until when it must have started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    deadline: Option<String>,
    /// Where its end is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    /// Failures of its own so far.
    attempts: u32,
    /// Workers lost that ran it.
    stalls: u32,
    /// Graceful stops of workers that ran it.
    interruptions: u32,
}

impl JobAnswer {
    /// A job with its whole spec.
    pub(crate) fn new(view: JobView) -> Self {
        Self {
            job_id: view.job_id.to_string(),
            kind: view.kind.as_str(),
            state: view.state.as_str(),
            cached: view.cached,
            created_at: time(view.created_ms),
            started_at: view.started_ms.map(time),
            finished_at: view.finished_ms.map(time),
            queue_position: view.queue_position,
            progress: view.progress,
            summary: view.summary,
            error: view.error,
            spec: Some(view.request),
            jobs: view.counts.map(|counts| BatchCounts { open: counts.open(), counts }),
            awaits: view.awaits.map(|batch| batch.to_string()),
            batch_id: view.batch.map(|batch| batch.to_string()),
            campaign: view.tags.campaign().map(|name| CampaignAnswer::Name(name.to_owned())),
            labels: view.tags.labels().clone(),
            requeued_as: view.requeued_as.map(|job| job.to_string()),
            treatment: Some(Treated {
                priority: view.details.priority,
                cache: view.details.cache,
                timeout_s: view.details.timeout_s,
                max_attempts: view.details.max_attempts,
                holdout: view.details.holdout,
                run_at: view.details.start_at_ms.map(time),
                deadline: view.details.deadline_ms.map(time),
                webhook: view.webhook,
                attempts: view.troubles.attempts,
                stalls: view.troubles.stalls,
                interruptions: view.troubles.interruptions,
            }),
            next: None,
        }
    }

    /// The same with what the trials of its campaign amount to.
    pub(crate) fn in_campaign(mut self, figures: Option<Figures>) -> Self {
        if let Some(figures) = figures {
            self.campaign = Some(CampaignAnswer::Figures(Box::new(figures)));
        }
        self
    }

    /// The same in a list, without what was asked for: that is read one by one.
    pub(crate) fn listed(view: JobView) -> Self {
        let is_batch = view.kind == Kind::Batch;
        let mut answer = Self::new(view);
        answer.treatment = None;
        if is_batch {
            answer.spec = None;
        }
        answer
    }

    /// The same for an agent, who knows what it asked for and pays for every token.
    pub(crate) fn brief(view: JobView) -> Self {
        let state = view.state;
        let mut answer = Self::new(view);
        answer.spec = None;
        answer.treatment = None;
        answer.summary = answer.summary.map(|summary| rounded(&summary));
        if !state.is_terminal() {
            answer.next = Some(format!("call job_get with job_id {} and wait_seconds 25", answer.job_id));
        }
        answer
    }
}

/// A time in milliseconds since 1970, as clients read it.
pub(crate) fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

/// Six significant digits are more than any of these figures means.
pub(crate) fn rounded(json: &RawValue) -> Box<RawValue> {
    fn round(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => {
                let rounded = number.as_f64().and_then(|number| format!("{number:.5e}").parse::<f64>().ok());
                if let Some(rounded) = rounded.and_then(serde_json::Number::from_f64) {
                    *number = rounded;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(round),
            Value::Object(fields) => fields.values_mut().for_each(round),
            _ => {}
        }
    }
    let rounded = serde_json::from_str::<Value>(json.get()).ok().and_then(|mut value| {
        round(&mut value);
        RawValue::from_string(value.to_string()).ok()
    });
    rounded.unwrap_or_else(|| json.to_owned())
}

/// The fields of a spec by their paths, short where that is clear: `symbol` for that of the first route, `fast` for a
/// hyperparameter. Empty for what is no JSON.
pub(crate) fn flattened(spec: &RawValue) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    if let Ok(spec) = serde_json::from_str(spec.get()) {
        flatten("", &spec, &mut fields);
    }
    fields
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match path {
        "" | "hyperparameters" | "routes.0" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(&below(name), value, into));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(place, item)| flatten(&below(&place.to_string()), item, into));
        }
        scalar => _ = into.insert(path.to_owned(), scalar.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn numbers_for_agents_have_six_digits() {
        let json = RawValue::from_string(
            r#"{"a":[-4.3395427182624156,0.1,12,"1.23456789"],"b":123456789.9}"#.into(),
        )
        .unwrap();
        assert_eq!(rounded(&json).get(), r#"{"a":[-4.33954,0.1,12,"1.23456789"],"b":123457000.0}"#);
    }
}

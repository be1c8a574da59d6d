//! How a job looks to a client, the same over HTTP and MCP.

use jobs::{JobError, JobView, Progress};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// A job as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JobAnswer {
    /// Ask for it with job_get.
    pub job_id: String,
    /// backtest
    pub kind: &'static str,
    /// queued, scheduled, running, waiting, succeeded, failed, cancelled, dead or expired
    pub state: &'static str,
    /// Answered by a stored result.
    pub cached: bool,
    /// When it was accepted (UTC).
    pub created_at: String,
    /// When a worker started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub finished_at: Option<String>,
    /// Runs ahead of it in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub queue_position: Option<u64>,
    /// fraction (0 to 1), message, eta_s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub progress: Option<Progress>,
    /// What it found: metrics as Jesse names them (percentages in percent, periods in seconds or days)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub summary: Option<Box<RawValue>>,
    /// Why it failed: code, message, detail
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub error: Option<JobError>,
    /// What was asked for, with defaults filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub spec: Option<Box<RawValue>>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub next: Option<String>,
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
            next: None,
        }
    }

    /// The same for an agent, who knows what it asked for and pays for every token.
    pub(crate) fn brief(view: JobView) -> Self {
        let state = view.state;
        let mut answer = Self::new(view);
        answer.spec = None;
        answer.summary = answer.summary.map(|summary| round_numbers(&summary));
        if !state.is_terminal() {
            answer.next = Some(format!("call job_get with job_id {} and wait_seconds 25", answer.job_id));
        }
        answer
    }
}

fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

/// Six significant digits are more than any of these figures means.
fn round_numbers(json: &RawValue) -> Box<RawValue> {
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
        assert_eq!(round_numbers(&json).get(), r#"{"a":[-4.33954,0.1,12,"1.23456789"],"b":123457000.0}"#);
    }
}

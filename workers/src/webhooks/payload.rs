//! What a receiver is sent: `{type, timestamp, data}` as Standard Webhooks has it, small. Who needs more asks for the job.

use analysis::selection::Selection;
use jobs::{JobError, JobView, webhooks::ClaimedDelivery};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

/// The largest payload. What makes it larger is left out, and that is said.
pub(crate) const MOST_BYTES: usize = 16 << 10;
/// The most of an error's message.
const MOST_MESSAGE: usize = 2000;

#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'a str,
    timestamp: String,
    data: Map<String, Value>,
}

/// The payload of a delivery about this job, or about one whose record has expired. The same whenever it is made, as long as
/// the record is there.
pub(crate) fn payload(
    delivery: &ClaimedDelivery,
    job: Option<JobView>,
    selection: Option<Selection>,
) -> String {
    let mut data = Map::new();
    if delivery.event == "webhook.test" {
        data.insert("endpoint".into(), delivery.endpoint.to_string().into());
    } else {
        data.insert("job_id".into(), delivery.message.clone().into());
    }
    let mut summary = None;
    if let Some(view) = job {
        summary = describe(&mut data, view);
    }
    if let Some(selection) = selection {
        data.insert("selection".into(), json!(selection));
    }
    let head = Payload { r#type: &delivery.event, timestamp: time(delivery.at_ms), data };
    with_summary(head, summary)
}

fn describe(data: &mut Map<String, Value>, view: JobView) -> Option<Box<RawValue>> {
    let mut set = |name: &str, value: Value| data.insert(name.into(), value);
    set("kind", view.kind.as_str().into());
    set("state", view.state.as_str().into());
    set("cached", view.cached.into());
    set("created_at", time(view.created_ms).into());
    if let Some(finished) = view.finished_ms {
        set("finished_at", time(finished).into());
    }
    if let Some(error) = view.error {
        let JobError { code, message, retryable, .. } = error;
        let message: String = message.chars().take(MOST_MESSAGE).collect();
        set("error", json!({"code": code, "message": message, "retryable": retryable}));
    }
    if let Some(counts) = view.counts {
        set("jobs", json!(counts));
    }
    if let Some(batch) = view.batch {
        set("batch_id", batch.to_string().into());
    }
    if let Some(campaign) = view.tags.campaign() {
        set("campaign", campaign.into());
    }
    if !view.tags.labels().is_empty() {
        set("labels", json!(view.tags.labels()));
    }
    view.summary
}

/// The summary goes in as it is stored, to the last digit, unless it is too large.
fn with_summary(mut payload: Payload<'_>, summary: Option<Box<RawValue>>) -> String {
    let text = |payload: &Payload<'_>| serde_json::to_string(payload).unwrap_or_default();
    let Some(summary) = summary else { return text(&payload) };
    if let Ok(summary) = serde_json::from_str::<Value>(summary.get()) {
        payload.data.insert("summary".into(), summary);
        let whole = text(&payload);
        if whole.len() <= MOST_BYTES {
            return whole;
        }
        payload.data.remove("summary");
    }
    payload.data.insert("summary_omitted".into(), true.into());
    text(&payload)
}

fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn head() -> Payload<'static> {
        Payload { r#type: "job.succeeded", timestamp: time(1_700_000_000_000), data: Map::new() }
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn a_summary_keeps_its_digits_and_one_that_is_too_large_is_left_out() {
        let small = with_summary(head(), Some(raw(r#"{"metrics":{"sharpe":-4.339542718262416,"total":3}}"#)));
        let expected = r#"{"type":"job.succeeded","timestamp":"2023-11-14T22:13:20.000Z","data":{"summary":{"metrics":{"sharpe":-4.339542718262416,"total":3}}}}"#;
        assert_eq!(small, expected);
        let large = with_summary(head(), Some(raw(&format!("{{\"x\":\"{}\"}}", "x".repeat(MOST_BYTES)))));
        assert!(large.len() < 200 && large.contains(r#""summary_omitted":true"#), "{large}");
        assert!(!with_summary(head(), None).contains("summary"));
    }
}

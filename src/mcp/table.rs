//! Many jobs as one table: the names of the columns once, then a row for each job.

use jobs::JobView;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

/// The figures of a row, and to how many decimals they mean something.
pub(crate) const METRICS: [(&str, i32); 5] =
    [("sharpe_ratio", 2), ("net_profit_percentage", 2), ("max_drawdown", 2), ("total", 0), ("win_rate", 3)];

/// The most characters of one cell.
const LONGEST_CELL: usize = 48;

/// Rows under named columns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    // Some clients do not take a schema that is only `true`.
    #[schemars(extend("items" = serde_json::json!({"type": "array"})))]
    pub(super) rows: Vec<Vec<Value>>,
}

/// The metrics of a job that has some.
pub(crate) fn metrics(summary: Option<&RawValue>) -> Value {
    let summary = summary.and_then(|summary| serde_json::from_str::<Value>(summary.get()).ok());
    summary.map_or(Value::Null, |mut summary| summary["metrics"].take())
}

/// The figures of [`METRICS`], null where there is none.
pub(super) fn figures(metrics: &Value) -> impl Iterator<Item = Value> + '_ {
    METRICS.iter().map(|(name, decimals)| match &metrics[*name] {
        Value::Number(number) if number.is_f64() => {
            let scale = 10_f64.powi(*decimals);
            number.as_f64().map_or(Value::Null, |number| json!((number * scale).round() / scale))
        }
        whole @ Value::Number(_) => whole.clone(),
        _ => Value::Null,
    })
}

/// A value as it is, or the begin of a long text.
pub(super) fn cell(value: &Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > LONGEST_CELL => {
            let begin: String = text.chars().take(LONGEST_CELL).collect();
            format!("{begin}…").into()
        }
        Value::Array(_) | Value::Object(_) => cell(&value.to_string().into()),
        other => other.clone(),
    }
}

/// Jobs of any kind, one a row, in their order.
pub(super) fn of_jobs(jobs: &[JobView]) -> Table {
    let names = ["job_id", "kind", "state", "created_at", "what"];
    let figures_of = METRICS.iter().map(|(name, _)| *name);
    let columns = names.into_iter().chain(figures_of).chain(["error"]).map(str::to_owned).collect();
    let row = |view: &JobView| {
        let created = jiff::Timestamp::from_millisecond(view.created_ms)
            .map_or(Value::Null, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
        let mut row = vec![
            view.job_id.to_string().into(),
            view.kind.as_str().into(),
            view.state.as_str().into(),
            created,
            cell(&what(&view.request).into()),
        ];
        row.extend(figures(&metrics(view.summary.as_deref())));
        row.push(view.error.as_ref().map_or(Value::Null, |error| error.code.as_str().into()));
        row
    };
    Table { columns, rows: jobs.iter().map(row).collect() }
}

/// What a backtest, or the first of what a job consists of, is about.
pub(crate) fn what(request: &RawValue) -> String {
    let Ok(request) = serde_json::from_str::<Value>(request.get()) else { return String::new() };
    let nested = ["train", "backtest"].iter().map(|name| &request[*name]).chain(request["windows"].get(0));
    let spec = nested.clone().chain(nested.map(|part| &part["train"])).find(|part| part["routes"].is_array());
    let spec = spec.unwrap_or(&request);
    let route = &spec["routes"][0];
    let words = [&route["strategy"], &route["symbol"], &route["timeframe"], &spec["start_date"]];
    words.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

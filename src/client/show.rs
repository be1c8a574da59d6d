//! Answers as people read them. What came from elsewhere (a strategy's name, an error, a label) is shown without control
//! characters: a terminal would obey them.

use std::fmt::Write;

use serde_json::Value;

/// Figures that are shown first, and what they are called.
const FIGURES: [(&str, &str, &str); 9] = [
    ("total", "trades", ""),
    ("net_profit_percentage", "net profit", " %"),
    ("annual_return", "annual return", " %"),
    ("sharpe_ratio", "Sharpe ratio", ""),
    ("sortino_ratio", "Sortino ratio", ""),
    ("calmar_ratio", "Calmar ratio", ""),
    ("max_drawdown", "largest drawdown", " %"),
    ("win_rate", "trades won", " %"),
    ("finishing_balance", "balance at the end", ""),
];

/// A table of jobs.
pub(super) fn jobs(jobs: &[Value]) -> String {
    let mut rows = vec![["JOB", "KIND", "STATE", "CREATED", "WHAT", "FOUND"].map(str::to_owned)];
    rows.extend(jobs.iter().map(|job| {
        let field = |name: &str| clean(job[name].as_str().unwrap_or_default());
        let created = field("created_at").chars().take(19).collect();
        [field("job_id"), field("kind"), field("state"), created, what(job), outcome(job)]
    }));
    table(&rows)
}

/// One job: all that matters.
pub(super) fn job(job: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "{name:<20} {value}");
        }
    };
    let field = |name: &str| clean(job[name].as_str().unwrap_or_default());
    line("job", field("job_id"));
    let cached = if job["cached"] == true { ", answered by a stored result" } else { "" };
    line("state", format!("{}{cached}", field("state")));
    line("kind", field("kind"));
    line("what", what(job));
    for (name, title) in [
        ("created_at", "created"),
        ("started_at", "started"),
        ("finished_at", "finished"),
        ("campaign", "campaign"),
        ("batch_id", "batch"),
        ("requeued_as", "requeued as"),
    ] {
        line(title, field(name));
    }
    if let Some(counts) = job["jobs"].as_object() {
        let counts: Vec<_> = counts
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        line("jobs", counts.join(", "));
    }
    line("error", error(job));
    // Of a batch it says no more than the counts.
    if job["summary"].is_object() && job["jobs"].is_null() {
        text.push_str(&summary(&job["summary"]));
    }
    text.trim_end().to_owned()
}

/// What a job found, in few words.
pub(super) fn outcome(job: &Value) -> String {
    let error = error(job);
    if !error.is_empty() {
        return error.chars().take(60).collect();
    }
    let metrics = &job["summary"]["metrics"];
    match (metrics["sharpe_ratio"].as_f64(), metrics["net_profit_percentage"].as_f64()) {
        (Some(sharpe), Some(profit)) => format!("Sharpe {sharpe:.2}, {profit:+.2} %"),
        (None, Some(profit)) => format!("{profit:+.2} %"),
        _ => String::new(),
    }
}

/// A result's summary: the figures of a backtest that matter, or all there is.
pub(super) fn summary(summary: &Value) -> String {
    let mut text = String::new();
    if let Some(metrics) = summary["metrics"].as_object() {
        for (name, title, unit) in FIGURES {
            let _infallible = match metrics.get(name) {
                // Jesse's one share among percentages.
                Some(share) if name == "win_rate" => {
                    writeln!(text, "{title:<20} {:.1}{unit}", share.as_f64().unwrap_or_default() * 100.0)
                }
                Some(Value::Number(number)) => writeln!(text, "{title:<20} {}{unit}", figure(number)),
                _ => Ok(()),
            };
        }
        return text;
    }
    lines(&mut text, "", summary);
    text
}

fn lines(text: &mut String, path: &str, value: &Value) {
    let _infallible = match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                lines(
                    text,
                    &if path.is_empty() { clean(name) } else { format!("{path}.{}", clean(name)) },
                    value,
                );
            }
            Ok(())
        }
        Value::Null => Ok(()),
        Value::Number(number) => writeln!(text, "{path:<40} {}", figure(number)),
        Value::String(said) => writeln!(text, "{path:<40} {}", clean(said)),
        Value::Bool(_) => writeln!(text, "{path:<40} {value}"),
        Value::Array(items) if items.len() > 10 => writeln!(text, "{path:<40} {} values", items.len()),
        Value::Array(_) => writeln!(text, "{path:<40} {}", clean(&value.to_string())),
    };
}

fn figure(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(number) if number.fract() != 0.0 && number.abs() >= 0.01 => format!("{number:.2}"),
        Some(number) if number.fract() != 0.0 => format!("{number:.3e}"),
        _ => number.to_string(),
    }
}

fn error(job: &Value) -> String {
    clean(job["error"]["message"].as_str().unwrap_or_default())
}

/// What a job is about, as far as its spec tells.
fn what(job: &Value) -> String {
    let spec = &job["spec"];
    let part = |source: &Value, name: &str| source[name].as_str().map(clean);
    let route = spec["routes"].get(0).unwrap_or(spec);
    let names = ["strategy", "symbol", "timeframe"].into_iter().filter_map(|name| part(route, name));
    let days = ["start_date", "finish_date"].into_iter().filter_map(|name| part(spec, name));
    // What tells the jobs of a search apart.
    let parameters = spec["hyperparameters"].as_object().into_iter().flatten();
    let parameters = parameters.map(|(name, value)| clean(&format!("{name}={value}")));
    names.chain(days).chain(parameters).collect::<Vec<_>>().join(" ")
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A text that a terminal only shows.
fn clean(text: &str) -> String {
    // Marks that turn the direction of text make it look like what it is not.
    let turns = |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .filter(|letter| !turns(*letter))
        .collect()
}

/// A list of a result as CSV: of objects with a column for each of their fields, of lists with one for each place. Lists and objects
/// inside them (the orders of a trade) have no place in a table and are left out.
pub(super) fn csv(list: &Value) -> Result<String, String> {
    let Some(items) = list.as_array() else { return Err("is no list in this result".into()) };
    let mut out = csv::Writer::from_writer(Vec::new());
    let wrong = |error: csv::Error| error.to_string();
    let mut columns: Vec<&String> = Vec::new();
    for (name, value) in items.iter().filter_map(Value::as_object).flatten() {
        if !value.is_array() && !value.is_object() && !columns.contains(&name) {
            columns.push(name);
        }
    }
    if !columns.is_empty() {
        out.write_record(&columns).map_err(wrong)?;
    }
    for item in items {
        let row: Vec<_> = match item {
            Value::Object(fields) => {
                columns.iter().map(|name| cell(fields.get(*name).unwrap_or(&Value::Null))).collect()
            }
            Value::Array(places) => places.iter().map(cell).collect(),
            single => vec![cell(single)],
        };
        out.write_record(&row).map_err(wrong)?;
    }
    let bytes = out.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A spreadsheet would take these for formulas.
        Value::String(text) if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_strategy_says_does_not_steer_the_terminal() {
        let hostile = json!({"job_id": "1", "state": "failed", "error": {"message": "\u{1b}[2Jgone\u{202e}\n\u{7}"}, "spec": {"strategy": "A\tB"}});
        let shown = job(&hostile);
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{7}', '\t']), "{shown:?}");
        assert!(shown.contains(" [2Jgone"), "{shown:?}");
    }

    #[test]
    fn lists_become_csv() {
        let trades =
            json!([{"id": "a", "pnl": 1.5}, {"id": "=1+1", "fee": null, "note": "x,y", "orders": [1]}]);
        assert_eq!(csv(&trades).unwrap(), "id,pnl,fee,note\na,1.5,,\n'=1+1,,,\"x,y\"\n");
        assert_eq!(csv(&json!([[1, 2.5], [3, 4]])).unwrap(), "1,2.5\n3,4\n");
        assert!(csv(&json!({"a": 1})).unwrap_err().contains("no list"));
    }
}

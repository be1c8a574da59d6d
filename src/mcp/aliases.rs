//! The names that jesse-mcp has for arguments: prompts written for it go on working, and the answer tells what to write
//! instead.

use serde_json::{Map, Value};

/// What jesse-mcp calls an argument, and what it is called here.
const RENAMED: [(&str, &str); 13] = [
    ("end_date", "finish_date"),
    ("starting_balance", "balance"),
    ("param_space", "space"),
    ("n_trials", "trials"),
    ("metric", "objective"),
    ("in_sample_period", "train_days"),
    ("out_sample_period", "test_days"),
    ("simulations", "paths"),
    ("monte_carlo_sims", "paths"),
    ("block_size", "block_length"),
    ("confidence_levels", "confidence"),
    ("time_horizons", "horizons"),
    ("n_regimes", "regimes"),
];

/// What jesse-mcp takes and nothing here needs, and why.
const NEEDLESS: [(&str, &str); 14] = [
    ("concurrent_limit", "workers run as many at once as they have room for"),
    ("n_jobs", "workers run as many at once as they have room for"),
    ("exchange_type", "the exchange's name says it"),
    ("include_trades", "read the resource job://{job_id}/trades"),
    ("include_equity_curve", "read the resource job://{job_id}/equity_curve"),
    ("include_logs", "read the resource job://{job_id}/logs"),
    ("step_forward", "windows move on by test_days"),
    ("include_monte_carlo", "the report has it"),
    ("include_var_analysis", "the report has it"),
    ("include_stress_test", "stress_test is a call of its own"),
    ("include_drawdowns", "the answer has them"),
    ("include_returns", "the answer has them"),
    ("include_trade_analysis", "the answer has it"),
    ("report_format", "read it as Markdown or HTML: GET /v1/jobs/{job_id}/report.md or .html"),
];

/// Gives arguments their names of here. What is given under both names is left: reading it says which field is double.
pub(super) fn correct(arguments: &mut Map<String, Value>, notes: &mut Vec<String>) {
    for (theirs, ours) in RENAMED {
        if arguments.contains_key(ours) {
            continue;
        }
        if let Some(value) = arguments.remove(theirs) {
            let value = match value {
                // They say sharpe_ratio where Jesse says sharpe.
                Value::String(text) if theirs == "metric" => text.trim_end_matches("_ratio").into(),
                other => other,
            };
            arguments.insert(ours.to_owned(), value);
            note(notes, format!("{theirs} is called {ours} here"));
        }
    }
    for (name, why) in NEEDLESS {
        if arguments.remove(name).is_some() {
            note(notes, format!("{name} was ignored: {why}"));
        }
    }
    results(arguments, notes);
}

/// There, results are handed from call to call; here they stay where they are, and a call names the job that found one.
fn results(arguments: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let id = |result: &Value| result.get("job_id").or(Some(result)).filter(|id| id.is_string()).cloned();
    if !arguments.contains_key("job_id")
        && let Some(id) = arguments.get("backtest_result").and_then(id)
    {
        arguments.remove("backtest_result");
        arguments.insert("job_id".to_owned(), id);
        note(notes, "backtest_result is called job_id here: the id is enough".to_owned());
    }
    let ids = arguments.get("backtest_results").and_then(Value::as_array);
    let ids = ids.and_then(|results| results.iter().map(id).collect::<Option<Vec<_>>>());
    if !arguments.contains_key("jobs")
        && let Some(ids) = ids
    {
        arguments.remove("backtest_results");
        let jobs: Vec<_> = ids.into_iter().map(|id| serde_json::json!({ "job_id": id })).collect();
        arguments.insert("jobs".to_owned(), jobs.into());
        note(notes, "backtest_results is called jobs here: [{job_id, weight}]".to_owned());
    }
}

pub(super) fn note(notes: &mut Vec<String>, text: String) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_others_are_corrected_and_told_once() {
        let mut notes = Vec::new();
        for _job in 0..2 {
            let arguments =
                json!({"end_date": "2023-03-01", "starting_balance": 5, "include_logs": true, "fee": 0});
            let Value::Object(mut arguments) = arguments else { unreachable!() };
            correct(&mut arguments, &mut notes);
            assert_eq!(
                Value::Object(arguments),
                json!({"finish_date": "2023-03-01", "balance": 5, "fee": 0})
            );
        }
        assert_eq!(notes.len(), 3, "{notes:?}");
        let Value::Object(mut both) = json!({"end_date": "a", "finish_date": "b"}) else { unreachable!() };
        correct(&mut both, &mut notes);
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn results_that_are_handed_on_name_their_jobs() {
        for (given, expected) in [
            (json!({"backtest_result": {"job_id": "a", "state": "succeeded"}}), json!({"job_id": "a"})),
            (json!({"backtest_result": "a", "time_horizons": [1]}), json!({"job_id": "a", "horizons": [1]})),
            (
                json!({"backtest_results": [{"job_id": "a"}, "b"], "n_regimes": 3}),
                json!({"jobs": [{"job_id": "a"}, {"job_id": "b"}], "regimes": 3}),
            ),
            (json!({"metric": "sharpe_ratio", "n_jobs": 4}), json!({"objective": "sharpe"})),
            // What names no job stays, so that the error names it.
            (json!({"backtest_result": {"equity": []}}), json!({"backtest_result": {"equity": []}})),
        ] {
            let (mut arguments, mut notes) = (given.as_object().cloned().unwrap_or_default(), Vec::new());
            correct(&mut arguments, &mut notes);
            assert_eq!(Value::Object(arguments), expected, "{given}");
        }
    }
}

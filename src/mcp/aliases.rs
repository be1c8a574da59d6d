//! The names that jesse-mcp has for arguments: prompts written for it go on working, and the answer tells what to write
//! instead.

use serde_json::{Map, Value};

/// What jesse-mcp calls an argument, and what it is called here.
const RENAMED: [(&str, &str); 2] = [("end_date", "finish_date"), ("starting_balance", "balance")];

/// What jesse-mcp takes and nothing here needs, and why.
const NEEDLESS: [(&str, &str); 5] = [
    ("concurrent_limit", "workers run as many at once as they have room for"),
    ("exchange_type", "the exchange's name says it"),
    ("include_trades", "read the resource job://{job_id}/trades"),
    ("include_equity_curve", "read the resource job://{job_id}/equity_curve"),
    ("include_logs", "read the resource job://{job_id}/logs"),
];

/// Gives arguments their names of here. What is given under both names is left: reading it says which field is double.
pub(super) fn correct(arguments: &mut Map<String, Value>, notes: &mut Vec<String>) {
    for (theirs, ours) in RENAMED {
        if arguments.contains_key(ours) {
            continue;
        }
        if let Some(value) = arguments.remove(theirs) {
            arguments.insert(ours.to_owned(), value);
            note(notes, format!("{theirs} is called {ours} here"));
        }
    }
    for (name, why) in NEEDLESS {
        if arguments.remove(name).is_some() {
            note(notes, format!("{name} was ignored: {why}"));
        }
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
}

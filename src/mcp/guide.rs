//! Whether what agents are told to call exists.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;

use super::{prompts, resources::GUIDE, tools};
use crate::service::BatchRequest;

/// The calls of the guide's blocks of the kind `tool`, one a line.
fn calls() -> Vec<(String, Value)> {
    let blocks = GUIDE.split("```tool\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let call = |line: &str| {
        let (tool, arguments) = line.split_once(' ').unwrap_or_else(|| panic!("no call: {line}"));
        (tool.to_owned(), serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{line}: {error}")))
    };
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(call).collect()
}

#[test]
fn the_guide_calls_tools_that_exist_with_arguments_that_they_have() {
    let (tools, calls) = (tools::all(true, true), calls());
    assert!(calls.len() > 10, "{}", calls.len());
    for (name, arguments) in calls {
        let tool = tools.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("no tool {name}"));
        let known = tool.input_schema.get("properties").and_then(Value::as_object);
        // Those that name it, and a batch, take backtest's arguments beside their own too.
        let more = name == tools::BACKTEST_BATCH || known.is_some_and(|known| known.contains_key("backtest"));
        let backtest = tools.iter().find(|tool| tool.name == tools::BACKTEST).unwrap();
        for argument in arguments.as_object().unwrap().keys() {
            let known = known.is_some_and(|known| known.contains_key(argument))
                || more && backtest.input_schema["properties"].get(argument).is_some();
            assert!(known, "{name} has no argument {argument}");
        }
        for required in tool.input_schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            assert!(arguments.get(required.as_str().unwrap()).is_some(), "{name} needs {required}");
        }
        if name == tools::BACKTEST_BATCH {
            let BatchRequest { jobs, grid, .. } =
                super::batch::SubmittingBatch::parse(arguments).unwrap().request;
            assert_eq!(grid.is_some(), jobs.is_empty());
        }
    }
}

#[test]
fn the_prompts_name_tools_and_resources_that_exist() {
    let tools = tools::all(true, true);
    for text in prompts::texts() {
        for word in text.split("Call ").skip(1) {
            let name =
                word.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_')).next().unwrap();
            assert!(tools.iter().any(|tool| tool.name == name), "no tool {name:?}: {text}");
        }
    }
}

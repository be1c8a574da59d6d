//! The MCP endpoint, through the official Rust client.

use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, CallToolResult},
    service::{RoleClient, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, month, with};

pub async fn connect(deployment: &Deployment) -> RunningService<RoleClient, ()> {
    ().serve(StreamableHttpClientTransport::from_uri(deployment.url("/mcp"))).await.unwrap()
}

pub async fn call(
    client: &RunningService<RoleClient, ()>,
    tool: &'static str,
    arguments: Value,
) -> CallToolResult {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

/// Calls a tool and holds its answer against the output schema that it promises: strict clients refuse what does not fit.
pub async fn call_checked(
    client: &RunningService<RoleClient, ()>,
    tool: &'static str,
    arguments: Value,
) -> CallToolResult {
    let result = call(client, tool, arguments).await;
    let tools = client.list_all_tools().await.unwrap();
    let tool = tools.iter().find(|found| found.name == tool).unwrap();
    let schema = Value::Object((**tool.output_schema.as_ref().unwrap()).clone());
    fits(structured(&result), &schema, &schema, &tool.name);
    result
}

/// The part of JSON Schema that our schemas use: types, required and known properties, items, references.
fn fits(value: &Value, schema: &Value, root: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root, place);
    }
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    assert!(right_type, "{place} is {value}, not {}", schema["type"]);
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{place} lacks {name}: {value}");
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, value) in fields {
            if schema["additionalProperties"] == true && !properties.contains_key(name) {
                continue;
            }
            let schema =
                properties.get(name).unwrap_or_else(|| panic!("{place} has {name}, which nobody promised"));
            fits(value, schema, root, &format!("{place}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        fits(item, &schema["items"], root, &format!("{place}[]"));
    }
}

pub fn structured(result: &CallToolResult) -> &Value {
    let value = result.structured_content.as_ref().unwrap();
    let text = result.content[0].as_text().unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&text.text).unwrap(), value, "the text says the same");
    value
}

#[tokio::test]
async fn an_agent_finds_what_exists_runs_it_and_reads_the_result() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(
        names,
        [
            "strategy_list",
            "strategy_read",
            "strategy_validate",
            "candles_list",
            "candles_import",
            "backtest",
            "backtest_batch",
            "optimize",
            "walk_forward",
            "monte_carlo",
            "significance_test",
            "risk_report",
            "var_calculation",
            "stress_test",
            "analyze_results",
            "factor_analysis",
            "regime_detector",
            "correlation_matrix",
            "pairs_backtest",
            "job_get",
            "job_list",
            "job_chart",
            "job_series",
            "job_cancel",
            "cache_invalidate",
            "webhooks",
            "health"
        ]
    );

    let strategies = call_checked(&client, "strategy_list", json!({})).await;
    let strategies = structured(&strategies)["strategies"].as_array().unwrap().clone();
    let sma = strategies.iter().find(|strategy| strategy["name"] == "SmaCross").unwrap();
    assert_eq!(sma["doc"], "Crossover of two moving averages.");
    assert_eq!(
        sma["hyperparameters"][0],
        json!({"name": "fast", "type": "int", "min": 5.0, "max": 50.0, "default": 20})
    );
    let broken = strategies.iter().find(|strategy| strategy["name"] == "DoesNotParse").unwrap();
    assert!(broken["error"].as_str().unwrap().contains("__init__.py:6"), "{broken}");
    let candles = call_checked(&client, "candles_list", json!({})).await;
    assert_eq!(structured(&candles)["candles"][0]["exchange"], EXCHANGE);

    let health = call_checked(&client, "health", json!({})).await;
    assert_eq!(
        (&structured(&health)["status"], &structured(&health)["redis"]),
        (&json!("healthy"), &json!("connected"))
    );

    let spec = with(month("SmaCross"), &json!({"balance": 20_000, "wait_seconds": 50}));
    let first = call_checked(&client, "backtest", spec.clone()).await;
    let view = structured(&first);
    assert_eq!(
        (first.is_error, &view["state"], &view["cached"]),
        (Some(false), &json!("succeeded"), &json!(false)),
        "{view}"
    );
    assert!(view["summary"]["metrics"]["sharpe_ratio"].is_number());
    assert!(view.to_string().len() < 2048, "{} bytes", view.to_string().len());
    let again = call(&client, "backtest", spec).await;
    assert_eq!(structured(&again)["cached"], json!(true));
    let read = call(&client, "job_get", json!({"job_id": view["job_id"]})).await;
    assert_eq!(structured(&read)["summary"], view["summary"]);
}

#[tokio::test]
async fn a_long_job_answers_a_handle_that_says_what_to_do_and_can_be_cancelled() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let handle =
        call_checked(&client, "backtest", with(month("LoopsForever"), &json!({"wait_seconds": 0}))).await;
    let view = structured(&handle).clone();
    assert_eq!(handle.is_error, Some(false));
    let next = view["next"].as_str().unwrap();
    assert!(next.contains("job_get") && next.contains(view["job_id"].as_str().unwrap()), "{next}");
    // The same call while it is live is the same job.
    let same = call(&client, "backtest", with(month("LoopsForever"), &json!({"wait_seconds": 0.1}))).await;
    assert_eq!(structured(&same)["job_id"], view["job_id"]);
    let cancelled = call_checked(&client, "job_cancel", json!({"job_id": view["job_id"]})).await;
    assert_eq!(structured(&cancelled)["state"], "cancelled");
}

#[tokio::test]
async fn wrong_arguments_are_errors_that_say_what_is_allowed() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    for (tool, arguments, code, words) in [
        ("backtest", with(month("SmaCros"), &json!({})), "strategy_not_found", "did you mean \"SmaCross\""),
        ("backtest", json!({}), "invalid_spec", "missing field"),
        ("backtest", with(month("SmaCross"), &json!({"wait_seconds": 500})), "invalid_request", "0 to 50"),
        ("backtest", with(month("SmaCross"), &json!({"cache": "maybe"})), "invalid_request", "refresh"),
        (
            "backtest",
            with(month("SmaCross"), &json!({"levrage": 3})),
            "invalid_spec",
            "unknown field `levrage`",
        ),
        ("job_get", json!({"job_id": "latest"}), "invalid_request", "UUID"),
        ("job_get", json!({"job_id": "01981c2e-6f1c-7000-8000-000000000000"}), "job_not_found", "no job"),
        ("job_get", json!({}), "invalid_request", "missing field `job_id`"),
        ("strategy_list", json!({"page": 2}), "invalid_request", "unknown field"),
    ] {
        let result = call(&client, tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}");
        let error = &structured(&result)["error"];
        assert_eq!(error["code"], code, "{tool}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{tool}: {error}");
    }
    assert!(client.call_tool(CallToolRequestParams::new("no_such_tool")).await.is_err());

    let failed =
        call(&client, "backtest", with(month("RaisesWhileRunning"), &json!({"wait_seconds": 50}))).await;
    assert_eq!(failed.is_error, Some(true));
    assert_eq!(structured(&failed)["error"]["code"], "strategy_error");
}

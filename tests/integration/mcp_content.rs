//! What agents get to read: tables of batches and of jobs, within the size that they pay for.

use rmcp::model::{
    ArgumentInfo, CallToolResult, CompleteRequestParams, GetPromptRequestParams, ReadResourceRequestParams,
    Reference, ResourceContents,
};
use rmcp::service::{RoleClient, RunningService};
use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, SYMBOL, month, with},
    mcp::{call, call_checked, connect, structured},
};

/// The structured part, which is what is counted: the text beside it is the same.
fn bytes(result: &CallToolResult) -> usize {
    structured(result).to_string().len()
}

#[tokio::test]
async fn a_batch_of_eight_is_one_call_and_one_small_table() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let arguments = json!({
        "base": {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h",
            "start_date": "2023-02-01", "end_date": "2023-03-01"},
        "grid": {"hyperparameters": {"fast": [8, 9, 10, 11], "slow": [40, 50]}},
        "campaign": "table-of-eight", "wait_seconds": 50,
    });
    let mut batch = call_checked(&client, "backtest_batch", arguments).await;
    assert_eq!(structured(&batch)["notes"], json!(["end_date is called finish_date here"]));
    let id = structured(&batch)["batch_id"].clone();
    for _turn in 0..4 {
        if structured(&batch)["open"] == 0 {
            break;
        }
        batch = call_checked(&client, "job_get", json!({"job_id": id, "wait_seconds": 50})).await;
    }
    let view = structured(&batch);
    assert_eq!((&view["state"], &view["counts"]["succeeded"]), (&json!("succeeded"), &json!(8)), "{view}");
    assert_eq!(
        view["columns"],
        json!([
            "job_id",
            "fast",
            "slow",
            "sharpe_ratio",
            "net_profit_percentage",
            "max_drawdown",
            "total",
            "win_rate"
        ])
    );
    let rows = view["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    let sharpe = |row: &Value| row[3].as_f64().unwrap_or(f64::NEG_INFINITY);
    assert!(rows.windows(2).all(|pair| sharpe(&pair[0]) >= sharpe(&pair[1])), "{view}");
    assert!(bytes(&batch) <= 4096, "{} bytes", bytes(&batch));

    // The figures are those of the job itself, rounded.
    let best = call_checked(&client, "job_get", json!({"job_id": rows[0][0]})).await;
    let exact = structured(&best)["summary"]["metrics"]["net_profit_percentage"].as_f64().unwrap();
    assert!((exact - rows[0][4].as_f64().unwrap()).abs() <= 0.005, "{exact} {}", rows[0]);
    assert!(bytes(&best) <= 2048, "{} bytes", bytes(&best));

    let profit = json!({"job_id": id, "rank_by": "net_profit_percentage"});
    let profit = call_checked(&client, "job_get", profit).await;
    let profits = structured(&profit)["rows"].as_array().unwrap();
    assert!(profits.windows(2).all(|pair| pair[0][4].as_f64() >= pair[1][4].as_f64()), "{profits:?}");

    let page = call_checked(&client, "job_list", json!({"batch_id": id, "limit": 5})).await;
    assert_eq!(structured(&page)["rows"].as_array().unwrap().len(), 5);
    let cursor = structured(&page)["next_cursor"].clone();
    let rest = call_checked(&client, "job_list", json!({"batch_id": id, "cursor": cursor})).await;
    assert_eq!(structured(&rest)["rows"].as_array().unwrap().len(), 3);
    assert_eq!(structured(&rest).get("next_cursor"), None);
}

#[tokio::test]
async fn jobs_are_listed_read_together_and_in_detail() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let mut ids = Vec::new();
    for balance in [31_000, 32_000] {
        let spec = with(
            month("SmaCross"),
            &json!({"starting_balance": balance, "campaign": "listed", "wait_seconds": 0}),
        );
        let job = call_checked(&client, "backtest", spec).await;
        assert_eq!(structured(&job)["notes"], json!(["starting_balance is called balance here"]));
        ids.push(structured(&job)["job_id"].clone());
    }
    let any =
        call_checked(&client, "job_get", json!({"job_ids": ids, "until": "any", "wait_seconds": 50})).await;
    assert_eq!(structured(&any)["rows"].as_array().unwrap().len(), 2);
    let all = call_checked(&client, "job_get", json!({"job_ids": ids, "wait_seconds": 50})).await;
    let columns: Vec<_> = structured(&all)["columns"].as_array().unwrap().clone();
    let place = |name: &str| columns.iter().position(|column| column == name).unwrap();
    for (row, id) in structured(&all)["rows"].as_array().unwrap().iter().zip(&ids) {
        assert_eq!((&row[place("job_id")], &row[place("state")]), (id, &json!("succeeded")), "{row}");
        assert_eq!(row[place("what")], "SmaCross BTC-USDT 1h 2023-02-01");
        assert!(row[place("total")].is_number(), "{row}");
    }
    let listed = call_checked(&client, "job_list", json!({"campaign": "listed", "state": "succeeded"})).await;
    assert_eq!(structured(&listed)["rows"].as_array().unwrap().len(), 2);
    let detail = call_checked(&client, "job_get", json!({"job_id": ids[0], "detail": true})).await;
    assert_eq!(structured(&detail)["spec"]["balance"], 31_000.0);
}

#[tokio::test]
async fn wrong_batches_and_lists_say_what_is_allowed() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    for (tool, arguments, words) in [
        ("backtest_batch", json!({}), "1 to 50000"),
        ("backtest_batch", json!({"jobs": [{"strategy": "SmaCros"}]}), "jobs[0]"),
        ("backtest_batch", json!({"grid": {"symbol": []}}), "needs a list of at least one value"),
        ("backtest_batch", json!({"jobs": [{}], "rank_by": "luck"}), "sharpe_ratio"),
        ("backtest_batch", json!({"jobs": [{}], "grid": {"symbol": ["A"]}}), "give one of the two"),
        ("job_list", json!({"state": "done"}), "succeeded"),
        ("job_list", json!({"limit": 0}), "1 to 100"),
        ("job_list", json!({"cursor": "x"}), "next_cursor"),
        ("job_list", json!({"batch_id": "x", "state": "failed"}), "cursor and limit only"),
        ("job_get", json!({"job_id": "x", "job_ids": ["x"]}), "one of the two"),
        ("job_get", json!({"job_ids": vec!["x"; 51]}), "at most 50"),
    ] {
        let result = call(&client, tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}");
        let message = structured(&result)["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{tool}: {message}");
    }
}

async fn read(client: &RunningService<RoleClient, ()>, uri: &str) -> String {
    let read = client.read_resource(ReadResourceRequestParams::new(uri)).await;
    let read = read.unwrap_or_else(|error| panic!("{uri}: {error}"));
    let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else { panic!("{uri}") };
    text.clone()
}

async fn read_json(client: &RunningService<RoleClient, ()>, uri: &str) -> Value {
    serde_json::from_str(&read(client, uri).await).unwrap()
}

#[tokio::test]
async fn what_an_answer_leaves_out_is_a_resource() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let spec = with(month("SmaCross"), &json!({"balance": 33_000, "wait_seconds": 50}));
    let job = call(&client, "backtest", spec).await;
    let job = structured(&job).clone();
    assert_eq!(job["state"], "succeeded", "{job}");
    let uri = format!("job://{}", job["job_id"].as_str().unwrap());

    assert_eq!(read_json(&client, &uri).await["spec"]["balance"], 33_000.0);
    let result = read_json(&client, &format!("{uri}/result")).await;
    assert!(result["metrics"]["sharpe_ratio"].is_number() && result["provenance"].is_object(), "{result}");
    assert!(result.get("trades").is_none());

    // Every trade is on exactly one page.
    let total = job["summary"]["metrics"]["total"].as_u64().unwrap();
    let (mut trades, mut next) = (Vec::new(), Some(format!("{uri}/trades?limit=3")));
    while let Some(uri) = next {
        let page = read_json(&client, &uri).await;
        assert!(page["total"].as_u64() >= Some(total), "{page}");
        trades.extend(page["trades"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
        assert!(trades.len() < 1000);
    }
    let all = read_json(&client, &format!("{uri}/trades?limit=500")).await;
    assert!(trades.len() > 3 && all["trades"] == json!(trades), "{}", trades.len());
    let curve = read_json(&client, &format!("{uri}/equity_curve?limit=2")).await;
    assert_eq!(curve["equity_curve"].as_array().unwrap().len(), 2);
    assert!(curve["equity_curve"][0]["value"].is_number(), "{curve}");
    assert!(read(&client, &format!("{uri}/chart.svg")).await.starts_with("<svg"));
    read(&client, &format!("{uri}/logs")).await;
    assert!(read(&client, "strategy://SmaCross").await.contains("class SmaCross"));
    assert!(read(&client, "guide://agents").await.starts_with("# Guide for agents"));
    for (wrong, words) in [
        ("job://01981c2e-6f1c-7000-8000-000000000000", "no job"),
        ("job://latest/trades", "UUID"),
        ("strategy://SmaCros", "SmaCross"),
        ("file:///etc/passwd", "no resource"),
        (&format!("{uri}/trades?limit=100000"), "1 to 500"),
    ] {
        let error = client.read_resource(ReadResourceRequestParams::new(wrong)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn names_are_completed_and_workflows_are_prompts() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let templates = client.list_all_resource_templates().await.unwrap();
    assert!(templates.iter().any(|template| template.uri_template == "job://{id}/trades{?cursor,limit}"));
    assert_eq!(client.list_all_resources().await.unwrap()[0].uri, "guide://agents");
    for (reference, argument, begin, whole) in [
        (Reference::for_resource("strategy://{name}"), "name", "smac", "SmaCross"),
        (Reference::for_prompt("test_an_idea"), "strategy", "Sma", "SmaCross"),
        (Reference::for_prompt("test_an_idea"), "symbol", "btc", SYMBOL),
    ] {
        let request = CompleteRequestParams::new(reference, ArgumentInfo::new(argument, begin));
        let found = client.complete(request).await.unwrap().completion.values;
        assert!(found.contains(&whole.to_owned()), "{argument}: {found:?}");
        assert!(found.iter().all(|value| value.to_lowercase().starts_with(&begin.to_lowercase())));
    }
    assert_eq!(client.list_all_prompts().await.unwrap().len(), 3);
    let Value::Object(arguments) = json!({"strategy": "SmaCross", "symbol": SYMBOL}) else { unreachable!() };
    let request = GetPromptRequestParams::new("test_an_idea").with_arguments(arguments);
    let prompt = serde_json::to_string(&client.get_prompt(request).await.unwrap().messages).unwrap();
    assert!(prompt.contains("SmaCross on BTC-USDT"), "{prompt}");
    assert!(client.get_prompt(GetPromptRequestParams::new("test_an_idea")).await.is_err());
}

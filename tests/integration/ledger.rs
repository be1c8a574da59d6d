//! The ledger of trials, on a real Jesse: an agent that tries much is told what luck alone would give.

use rmcp::model::{ReadResourceRequestParams, ResourceContents};
use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, SYMBOL, month, with},
    mcp::{call_checked, connect, structured},
};

const CAMPAIGN: &str = "strategy:SmaCross";

/// Moving averages of which many trade nearly alike.
fn sweep(fast: usize, slow: usize, more: &Value) -> Value {
    let base = json!({
        "strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h",
        "start_date": "2023-01-15", "finish_date": "2023-03-15", "warm_up_candles": 210,
    });
    let fast: Vec<_> = (5..5 + fast).collect();
    let slow: Vec<_> = (0..slow).map(|number| 30 + 5 * number).collect();
    let batch = json!({"base": base, "grid": {"hyperparameters": {"fast": fast, "slow": slow}}});
    with(batch, more)
}

async fn campaign(deployment: &Deployment, name: &str) -> Value {
    let (status, figures) = deployment.get(&format!("/v1/campaigns/{name}")).await;
    assert_eq!(status, 200, "{figures}");
    figures
}

#[tokio::test]
async fn a_campaign_is_told_what_luck_would_give_wherever_it_is_read() {
    let deployment = Deployment::start(&[]);
    let (status, batch) = deployment.post("/v1/batches", &sweep(4, 6, &json!({}))).await;
    assert_eq!(status, 202, "{batch}");
    let id = batch["job_id"].as_str().unwrap();
    let ended = deployment.until(id, |view| view["finished_at"].is_string()).await;
    assert_eq!(ended["jobs"]["succeeded"], 24, "{ended}");

    let figures = campaign(&deployment, CAMPAIGN).await;
    assert_eq!(figures["trials"], 24, "{figures}");
    let effective = figures["effective"].as_f64().unwrap();
    assert!(
        (1.0..24.0).contains(&effective),
        "averages that are nearly the same trade nearly the same: {figures}"
    );
    // The candles are a random walk, so there is none to be found, and these draws are the same every time.
    assert!(figures["advice"].as_str().unwrap().contains("no edge is shown"), "{figures}");
    assert!(figures["noise_best"].as_f64().unwrap() > 0.0, "{figures}");
    assert!((0.0..=1.0).contains(&figures["deflated_sharpe"].as_f64().unwrap()), "{figures}");
    let advice = figures["advice"].as_str().unwrap();
    assert!(advice.starts_with("best of 24 tries") && advice.contains("noise alone would give"), "{advice}");

    // An agent sees the same, with any job of the campaign and in the table of the batch.
    let client = connect(&deployment).await;
    let (_, children) = deployment.get(&format!("/v1/batches/{id}/jobs?limit=1")).await;
    let child = children["jobs"][0]["job_id"].clone();
    for (asked, job) in [("job", &child), ("batch", &json!(id))] {
        let answer = call_checked(&client, "job_get", json!({"job_id": job})).await;
        let shown = &structured(&answer)["campaign"];
        assert_eq!((&shown["name"], &shown["trials"]), (&json!(CAMPAIGN), &json!(24)), "{asked}: {shown}");
        assert!(shown["advice"].as_str().unwrap().contains("noise alone"), "{asked}: {shown}");
    }
    let request = ReadResourceRequestParams::new(format!("campaign://{CAMPAIGN}"));
    let read = client.read_resource(request).await.unwrap();
    let [ResourceContents::TextResourceContents { text, .. }] = &read.contents[..] else {
        panic!("{read:?}")
    };
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), figures);
    let report = call_checked(&client, "risk_report", json!({"job_id": child, "wait_seconds": 50})).await;
    assert_eq!(structured(&report)["campaign"]["trials"], 24, "{report:?}");

    // What fails counts, and what is asked for once more does not.
    let again = deployment
        .backtest(&with(
            sweep(1, 1, &json!({}))["base"].clone(),
            &json!({"hyperparameters": {"fast": 5, "slow": 30}}),
        ))
        .await;
    assert_eq!(again["cached"], true, "{again}");
    assert_eq!(campaign(&deployment, CAMPAIGN).await["trials"], 24);
    let failed = deployment.backtest(&month("RaisesWhileRunning")).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let failed = campaign(&deployment, "strategy:RaisesWhileRunning").await;
    assert_eq!((&failed["trials"], &failed["best_sharpe"]), (&json!(1), &Value::Null), "{failed}");
}

#[tokio::test]
async fn trials_of_a_search_count_in_the_campaign_that_it_names() {
    let deployment = Deployment::start(&[]);
    let search = with(month("SmaCross"), &json!({"trials": 12, "round": 4, "seed": 5, "test_share": 0.4}));
    let job = json!({"kind": "optimize", "spec": search, "campaign": "crossings"});
    let (status, search) = deployment.post("/v1/jobs?wait=120", &job).await;
    assert_eq!((status, &search["state"]), (200, &json!("succeeded")), "{search}");
    let figures = campaign(&deployment, "crossings").await;
    let tried = figures["trials"].as_u64().unwrap();
    assert!((6..=30).contains(&tried), "its trials, and tests of the best: {figures}");
    let client = connect(&deployment).await;
    let answer = call_checked(&client, "job_get", json!({"job_id": search["job_id"]})).await;
    assert_eq!(structured(&answer)["campaign"]["trials"], tried, "{answer:?}");
}

//! The ledger of trials, on a real Jesse: an agent that tries much is told what luck alone would give.

use jobs::private_redis::PrivateRedis;
use rmcp::model::{ReadResourceRequestParams, ResourceContents};
use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, SYMBOL, month, with},
    mcp::{call_checked, connect, structured},
};

const CAMPAIGN: &str = "strategy:SmaCross";

/// Moving averages on candles that a random walk made: there is nothing to find.
fn noise(fast: usize, slow: usize, more: &Value) -> Value {
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

/// As if the time for which jobs and results are kept were over, which is a day at least.
async fn expire(deployment: &Deployment) {
    let client = redis::Client::open(PrivateRedis::url_for(deployment.data.path())).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    for kind in ["job", "result", "batch", "kids"] {
        let pattern = format!("{{jj}}:2:{kind}:*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        assert!(!keys.is_empty(), "no {kind} to expire");
        redis::cmd("DEL").arg(keys).exec_async(&mut redis).await.unwrap();
    }
}

#[tokio::test]
async fn a_campaign_of_noise_shows_no_edge_and_is_counted_after_its_jobs_are_gone() {
    let deployment = Deployment::start(&[]);
    let (status, batch) = deployment.post("/v1/batches", &noise(10, 12, &json!({}))).await;
    assert_eq!(status, 202, "{batch}");
    let id = batch["job_id"].as_str().unwrap();
    let ended = deployment.until(id, |view| view["finished_at"].is_string()).await;
    assert_eq!(ended["jobs"]["succeeded"], 120, "{ended}");

    let figures = campaign(&deployment, CAMPAIGN).await;
    assert_eq!(figures["trials"], 120, "{figures}");
    let effective = figures["effective"].as_f64().unwrap();
    assert!(
        (1.0..120.0).contains(&effective),
        "averages that are nearly the same trade nearly the same: {figures}"
    );
    assert!(figures["deflated_sharpe"].as_f64().unwrap() < 0.95, "{figures}");
    let advice = figures["advice"].as_str().unwrap();
    assert!(advice.starts_with("best of 120 tries") && advice.contains("no edge is shown"), "{advice}");

    // An agent sees the same, with any job of the campaign and in the table of the batch.
    let client = connect(&deployment).await;
    let (_, children) = deployment.get(&format!("/v1/batches/{id}/jobs?limit=1")).await;
    let child = children["jobs"][0]["job_id"].clone();
    for (asked, job) in [("job", &child), ("batch", &json!(id))] {
        let answer = call_checked(&client, "job_get", json!({"job_id": job})).await;
        let shown = &structured(&answer)["campaign"];
        assert_eq!((&shown["name"], &shown["trials"]), (&json!(CAMPAIGN), &json!(120)), "{asked}: {shown}");
        assert!(shown["advice"].as_str().unwrap().contains("noise alone"), "{asked}: {shown}");
    }
    let request = ReadResourceRequestParams::new(format!("campaign://{CAMPAIGN}"));
    let read = client.read_resource(request).await.unwrap();
    let [ResourceContents::TextResourceContents { text, .. }] = &read.contents[..] else {
        panic!("{read:?}")
    };
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), figures);
    let report = call_checked(&client, "risk_report", json!({"job_id": child, "wait_seconds": 50})).await;
    assert_eq!(structured(&report)["campaign"]["trials"], 120, "{report:?}");

    // What fails counts, and what is asked for once more does not.
    let again = deployment
        .backtest(&with(
            noise(1, 1, &json!({}))["base"].clone(),
            &json!({"hyperparameters": {"fast": 5, "slow": 30}}),
        ))
        .await;
    assert_eq!(again["cached"], true, "{again}");
    assert_eq!(campaign(&deployment, CAMPAIGN).await["trials"], 120);
    let failed = deployment.backtest(&month("RaisesWhileRunning")).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let failed = campaign(&deployment, "strategy:RaisesWhileRunning").await;
    assert_eq!((&failed["trials"], &failed["best_sharpe"]), (&json!(1), &Value::Null), "{failed}");

    expire(&deployment).await;
    assert_eq!(deployment.get(&format!("/v1/jobs/{id}")).await.0, 404);
    assert_eq!(campaign(&deployment, CAMPAIGN).await, figures);
    let (_, listed) = deployment.get("/v1/campaigns").await;
    let named =
        |name: &str| listed["campaigns"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
    assert_eq!(named(CAMPAIGN).unwrap()["trials"], 120, "{listed}");
    let (status, problem) = deployment.get("/v1/campaigns/nobody's").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
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

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

/// Traded by lot and without fees, so that nothing but luck tells one seed from another. `make soak` tries a thousand.
#[tokio::test]
async fn sixty_strategies_of_noise_show_no_edge_and_still_count_when_their_jobs_have_expired() {
    // Twenty seconds: jobs and results are gone soon after.
    let deployment = Deployment::start(&["--retention-days", "0.00024"]);
    let base = json!({
        "strategy": "RandomTrades", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "fee": 0,
        "start_date": "2023-01-15", "finish_date": "2023-04-07",
    });
    let grid = json!({"hyperparameters": {"seed": (0..60).collect::<Vec<_>>()}});
    let client = connect(&deployment).await;
    let batch = json!({"base": base, "grid": grid, "campaign": "noise", "wait_seconds": 50});
    let answer = call_checked(&client, "backtest_batch", batch).await;
    let mut answer = structured(&answer).clone();
    let id = answer["batch_id"].clone();
    while answer["open"] != 0 {
        let asked = call_checked(&client, "job_get", json!({"job_id": id, "wait_seconds": 50})).await;
        answer = structured(&asked).clone();
    }
    assert_eq!(
        (&answer["counts"]["succeeded"], &answer["campaign"]["trials"]),
        (&json!(60), &json!(60)),
        "{answer}"
    );
    let figures = answer["campaign"].clone();
    assert!(figures["advice"].as_str().unwrap().contains("no edge is shown"), "{figures}");
    assert!(figures["effective"].as_f64().unwrap() > 40.0, "no two seeds trade alike: {figures}");
    assert!(figures["best_sharpe"].as_f64() > Some(1.0), "the best of sixty looks good: {figures}");

    deployment.until_gone(id.as_str().unwrap()).await;
    let mut kept = campaign(&deployment, "noise").await;
    kept.as_object_mut().unwrap().remove("holdouts");
    assert_eq!(kept, figures, "the ledger outlives jobs and results");
    let listed = deployment.get("/v1/jobs?campaign=noise").await.1;
    assert_eq!(listed["jobs"], json!([]), "{listed}");
}

#[tokio::test]
async fn a_batch_without_a_name_is_told_of_all_the_strategies_that_it_tried() {
    let deployment = Deployment::start(&[]);
    let jobs =
        [("SmaCross", "1h"), ("SmaCross", "4h"), ("RandomTrades", "1h")].map(|(strategy, timeframe)| {
            with(month(strategy), &json!({"timeframe": timeframe, "warm_up_candles": 60}))
        });
    let client = connect(&deployment).await;
    let answer = call_checked(&client, "backtest_batch", json!({"jobs": jobs, "wait_seconds": 50})).await;
    let mut answer = structured(&answer).clone();
    while answer["open"] != 0 {
        let asked = json!({"job_id": answer["batch_id"], "wait_seconds": 50});
        answer = structured(&call_checked(&client, "job_get", asked).await).clone();
    }
    let together = &answer["campaign"];
    assert_eq!(together["trials"], 3, "{answer}");
    assert_eq!(together["name"], "strategy:RandomTrades, strategy:SmaCross", "{answer}");
    assert!(together["advice"].as_str().unwrap().starts_with("best of 3 tries"), "{answer}");
    assert_eq!(campaign(&deployment, CAMPAIGN).await["trials"], 2);
    assert_eq!(campaign(&deployment, "strategy:RandomTrades").await["trials"], 1);
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

    // What another campaign is answered from stored results was looked at there as well.
    let runs = async || {
        let (_, jobs) = deployment.get("/v1/jobs?kind=backtest&limit=100").await;
        let jobs = jobs["jobs"].as_array().unwrap().clone();
        jobs.iter().filter(|job| job["cached"] == false).count()
    };
    let before = runs().await;
    let other = with(job.clone(), &json!({"campaign": "once more"}));
    let (status, again) = deployment.post("/v1/jobs?wait=120", &other).await;
    assert_eq!(
        (status, &again["state"], &again["summary"]),
        (200, &json!("succeeded"), &search["summary"]),
        "{again}"
    );
    let figures = campaign(&deployment, "once more").await;
    assert_eq!(figures["trials"], tried, "{figures}");
    assert_eq!(runs().await, before, "no backtest was computed again");
    let (_, same) = deployment.post("/v1/jobs?wait=120", &job).await;
    assert_eq!(same["cached"], true, "{same}");
}

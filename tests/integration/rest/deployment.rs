//! `up` with a Jesse server behind it, as clients see it.

use serde_json::{Value, json};

use super::server::{JesseServer, add_strategy, deployment, runner_on_the_same_candles, shared};
use crate::harness::{month, with};

async fn semantics(deployment: &crate::harness::Deployment, job: &Value) -> Value {
    let job = job["job_id"].as_str().unwrap();
    deployment.get(&format!("/v1/jobs/{job}/result")).await.1["provenance"]["engine"]["semantics"].clone()
}

#[tokio::test]
async fn a_result_says_what_it_is_and_answers_equal_requests() {
    let Some(deployment) = shared() else { return };
    let spec = with(month("SmaCross"), &json!({"balance": 12_345}));
    let first = deployment.backtest(&spec).await;
    assert_eq!(
        (first["state"].as_str(), first["cached"].as_bool()),
        (Some("succeeded"), Some(false)),
        "{first}"
    );
    assert!(first["summary"]["warning"].as_str().unwrap().contains("Jesse server"), "{first}");
    let second = deployment.backtest(&spec).await;
    assert_eq!(second["cached"], true, "{second}");
    let (status, health) = deployment.get("/health").await;
    assert_eq!((status, health["jesse_api"].as_str()), (200, Some("connected")), "{health}");
}

#[tokio::test]
async fn what_a_server_cannot_do_is_refused_at_submit() {
    let Some(deployment) = shared() else { return };
    for (strategy, changes, code, text) in [
        (
            "SmaCross",
            json!({"hyperparameters": {"fast": 5}}),
            "invalid_spec",
            "hyperparameters: cannot be set on Jesse's server",
        ),
        ("SmaCross", json!({"benchmark": true}), "invalid_spec", "benchmark: "),
        ("SmaCros", json!({}), "strategy_not_found", "did you mean \"SmaCross\""),
        ("SmaCross", json!({"symbol": "XXX-USDT"}), "candles_missing", "has no candles of"),
        ("SmaCross", json!({"finish_date": "2023-06-01"}), "candles_missing", "to 2023-03-01"),
        ("../SmaCross", json!({}), "strategy_not_found", "unknown strategy"),
    ] {
        let body = json!({"kind": "backtest", "spec": with(month(strategy), &changes)});
        let (status, problem) = deployment.post("/v1/jobs", &body).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some(code)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
    }
}

#[tokio::test]
async fn a_job_on_a_server_fails_and_is_cancelled_as_any_other() {
    let Some(deployment) = shared() else { return };
    let failed = deployment.backtest(&month("RaisesWhileRunning")).await;
    assert_eq!(
        (failed["state"].as_str(), failed["error"]["code"].as_str()),
        (Some("failed"), Some("strategy_error")),
        "{failed}"
    );
    let long = json!({"timeframe": "1m", "fast_mode": false, "start_date": "2023-01-10"});
    let body = json!({"kind": "backtest", "spec": with(month("SmaCross"), &long)});
    let (_, job) = deployment.post("/v1/jobs", &body).await;
    let job = job["job_id"].as_str().unwrap();
    deployment.until(job, |view| view["progress"]["fraction"].as_f64().is_some_and(|at| at > 0.0)).await;
    let (status, cancelled) = deployment.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!((status, cancelled["state"].as_str()), (200, Some("cancelled")), "{cancelled}");
}

#[tokio::test]
async fn auto_takes_the_runner_where_it_can_and_the_server_where_only_that_can() {
    let Some(server) = JesseServer::shared() else { return };
    let code = std::fs::read_to_string(server.folder.join("strategies/NoTrades/__init__.py")).unwrap();
    add_strategy(&server.folder, "OnlyThere", &code.replace("NoTrades", "OnlyThere"));
    let arguments = ["--jesse-urls", &server.url, "--jesse-password", &server.password];
    let both = runner_on_the_same_candles(server, &arguments);
    let tuned = both.backtest(&with(month("SmaCross"), &json!({"hyperparameters": {"fast": 5}}))).await;
    assert_eq!(tuned["state"], "succeeded", "{tuned}");
    assert_eq!(semantics(&both, &tuned).await, "runner/1");
    let there = both.backtest(&month("OnlyThere")).await;
    assert_eq!(there["state"], "succeeded", "{there}");
    assert_eq!(semantics(&both, &there).await, "rest/1");
    let refused = both.backtest(&with(month("OnlyThere"), &json!({"hyperparameters": {"fast": 5}}))).await;
    assert_eq!(refused["code"], "invalid_spec", "{refused}");
    // A batch is planned in the same way, each of its jobs for the engine that can run it.
    let jobs = json!([month("NoTrades"), month("OnlyThere")]);
    let (_, batch) = both.post("/v1/batches", &json!({ "jobs": jobs })).await;
    let batch = both.until(batch["job_id"].as_str().unwrap(), |view| view["finished_at"].is_string()).await;
    assert_eq!(batch["state"], "succeeded", "{batch}");
}

#[tokio::test]
async fn with_a_ttl_of_nothing_nothing_is_used_again() {
    let Some(server) = JesseServer::shared() else { return };
    let deployment = deployment(server, &["--jesse-cache-ttl", "0"]);
    for _ in 0..2 {
        let ended = deployment.backtest(&month("NoTrades")).await;
        assert_eq!(
            (ended["state"].as_str(), ended["cached"].as_bool()),
            (Some("succeeded"), Some(false)),
            "{ended}"
        );
    }
}

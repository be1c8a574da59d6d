//! The way of a backtest over HTTP: queue, cache, pinned code, results.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use crate::harness::{Deployment, SYMBOL, month, with};

fn job(spec: &Value) -> Value {
    json!({"kind": "backtest", "spec": spec})
}

#[tokio::test]
async fn a_backtest_is_accepted_at_once_then_succeeds_and_the_second_time_comes_from_the_cache() {
    let deployment = Deployment::shared();
    let spec = with(month("SmaCross"), &json!({"timeframe": "15m"}));
    let response = deployment.client.post(deployment.url("/v1/jobs")).json(&job(&spec)).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(response.headers().contains_key("retry-after"));
    let accepted: Value = response.json().await.unwrap();
    assert_eq!(location, format!("/v1/jobs/{}", accepted["job_id"].as_str().unwrap()));

    let (status, ended) = deployment.get(&format!("{location}?wait=120")).await;
    assert_eq!((status, &ended["state"], &ended["cached"]), (200, &json!("succeeded"), &json!(false)));
    assert_eq!(ended["spec"]["hyperparameters"], json!({"fast": 20, "slow": 50}), "defaults are filled in");
    assert!(ended["summary"]["metrics"]["total"].as_u64().unwrap() > 0);
    assert!(ended["summary"]["warning"].as_str().unwrap().contains("synthetic"));

    // The same in other words: another order, an alias, a default spelled out.
    let same = json!({
        "end_date": "2023-03-01", "start_date": "2023-02-01", "timeframe": "15m", "symbol": SYMBOL, "strategy": "SmaCross",
        "exchange": spec["exchange"], "hyperparameters": {"slow": 50.0}, "starting_balance": 10000,
    });
    let (status, again) = deployment.post("/v1/jobs", &job(&same)).await;
    assert_eq!((status, &again["state"], &again["cached"]), (200, &json!("succeeded"), &json!(true)));
    assert_eq!(again["summary"], ended["summary"]);
    assert_ne!(again["job_id"], ended["job_id"]);

    let (_, other) = deployment.post("/v1/jobs?wait=120", &job(&with(spec, &json!({"fee": 0.001})))).await;
    assert_eq!(other["cached"], json!(false), "another fee is another backtest");
}

#[tokio::test]
async fn the_result_has_everything_and_an_etag_and_can_be_asked_for_in_parts() {
    let deployment = Deployment::shared();
    let ended = deployment.backtest(&month("RsiReversion")).await;
    let path = format!("/v1/jobs/{}/result", ended["job_id"].as_str().unwrap());
    let response = deployment.client.get(deployment.url(&path)).send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    let all: Value = response.json().await.unwrap();
    let names: HashSet<_> = all.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, HashSet::from(["metrics", "trades", "equity_curve", "logs", "provenance"]));
    // The summary is parsed and written again on its way; not a digit may change.
    for (name, value) in ended["summary"]["metrics"].as_object().unwrap() {
        assert_eq!(value.to_string(), all["metrics"][name].to_string(), "{name}");
    }
    assert_eq!(all["metrics"]["total"], json!(all["trades"].as_array().unwrap().len()));
    assert!(all["equity_curve"].as_array().unwrap().len() > 20);
    assert_eq!(all["provenance"]["engine"]["semantics"], "runner/1");
    assert_eq!(all["provenance"]["candles"][0]["source"]["kind"], "synthetic");

    let unchanged =
        deployment.client.get(deployment.url(&path)).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    let (_, part) = deployment.get(&format!("{path}?fields=metrics")).await;
    assert_eq!(part, json!({"metrics": all["metrics"]}));
    let (status, problem) = deployment.get(&format!("{path}?fields=metrics,secrets")).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));

    let chart =
        deployment.client.get(deployment.url(&path.replace("/result", "/chart.svg"))).send().await.unwrap();
    assert_eq!(chart.headers()["content-type"], "image/svg+xml");
    let tag = chart.headers()["etag"].to_str().unwrap().to_owned();
    assert!(chart.text().await.unwrap().contains("Drawdown"));
    let again = deployment.client.get(deployment.url(&path.replace("/result", "/chart.svg")));
    assert_eq!(again.header("if-none-match", tag).send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn a_run_without_trades_and_one_that_prints_have_results_too() {
    let deployment = Deployment::shared();
    let ended = deployment.backtest(&month("NoTrades")).await;
    assert_eq!((&ended["state"], &ended["summary"]["metrics"]["total"]), (&json!("succeeded"), &json!(0)));
    let chart = format!("/v1/jobs/{}/chart.svg", ended["job_id"].as_str().unwrap());
    let (status, problem) = deployment.get(&chart).await;
    assert_eq!((status, &problem["code"]), (409, &json!("result_not_ready")));

    let ended = deployment.backtest(&month("PrintsMuch")).await;
    let (_, result) = deployment.get(&format!("/v1/jobs/{}/result", ended["job_id"].as_str().unwrap())).await;
    assert!(result["logs"]["output"].as_str().unwrap().contains("a line for the log 3"));
}

#[tokio::test]
async fn fifty_equal_calls_at_once_are_one_run_and_all_get_its_result() {
    let deployment = Arc::new(Deployment::start(&[]));
    let body = job(&with(month("Breakout"), &json!({"timeframe": "5m"})));
    let clients = (0..10).map(|_| {
        let (deployment, body) = (deployment.clone(), body.clone());
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            let calls = (0..5).map(|_| async {
                let call = client.post(deployment.url("/v1/jobs?wait=120")).json(&body).send();
                call.await.unwrap().json::<Value>().await.unwrap()
            });
            futures::future::join_all(calls).await
        })
    });
    let answers: Vec<Value> =
        futures::future::join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(answers.len(), 50);
    for answer in &answers {
        assert_eq!(answer["state"], "succeeded", "{answer}");
        assert_eq!(answer["summary"], answers[0]["summary"]);
    }
    let metrics =
        deployment.client.get(deployment.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("jesse_jobs_events_total{event=\"claims\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_job_runs_the_code_that_was_pinned_when_it_was_submitted() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let spec = with(month("SmaCross"), &json!({"timeframe": "2h"}));
    let before = deployment.backtest(&spec).await;
    let blocker = deployment.post("/v1/jobs", &job(&month("LoopsForever"))).await.1;
    let blocker = blocker["job_id"].as_str().unwrap();
    deployment.until(blocker, |view| view["state"] == "running").await;

    let refresh = |spec: &Value| json!({"kind": "backtest", "spec": spec, "cache": "refresh"});
    let pinned = deployment.post("/v1/jobs", &refresh(&spec)).await.1;
    assert_eq!(pinned["state"], "queued");
    deployment.edit("SmaCross", |text| text.replace("self.balance * 0.5", "self.balance * 0.25"));
    // The very next submit sees the edit: no stale answer from the cache.
    let edited = deployment.post("/v1/jobs", &job(&spec)).await.1;
    assert_eq!(edited["state"], "queued");
    deployment.post(&format!("/v1/jobs/{blocker}/cancel"), &json!({})).await;

    let ended = |view: &Value| view["state"] == "succeeded";
    let pinned = deployment.until(pinned["job_id"].as_str().unwrap(), ended).await;
    let edited = deployment.until(edited["job_id"].as_str().unwrap(), ended).await;
    assert_eq!(pinned["summary"]["metrics"], before["summary"]["metrics"]);
    assert_ne!(edited["summary"]["metrics"], before["summary"]["metrics"]);

    // An edit of a helper that the strategy imports is an edit of the strategy; of another file it is not.
    let breakout = deployment.backtest(&month("Breakout")).await;
    std::fs::write(deployment.project.join("unrelated.py"), "x = 1\n").unwrap();
    assert_eq!(deployment.backtest(&month("Breakout")).await["cached"], json!(true));
    let helper = deployment.project.join("indicators/bands.py");
    let text = std::fs::read_to_string(&helper).unwrap().replace("period - 1", "period - 3");
    std::fs::write(helper, text).unwrap();
    let changed = deployment.backtest(&month("Breakout")).await;
    assert_eq!(changed["cached"], json!(false));
    assert_ne!(changed["summary"]["metrics"], breakout["summary"]["metrics"]);
}

#[tokio::test]
async fn candles_after_the_range_leave_the_cache_valid_and_changed_candles_in_it_do_not() {
    let deployment = Deployment::start(&[]);
    let spec = with(month("SmaCross"), &json!({"start_date": "2023-04-01", "finish_date": "2023-04-20"}));
    let first = deployment.backtest(&spec).await;
    assert_eq!(first["state"], "succeeded", "{first}");
    // More days of the same walk, in the same month and after it, while the server runs.
    crate::harness::generate(deployment.data.path(), SYMBOL, crate::harness::DAYS + 5, crate::harness::SEED);
    assert_eq!(deployment.backtest(&spec).await["cached"], json!(true));
}

#[tokio::test]
async fn cancel_of_a_running_job_stops_its_process_and_the_worker_goes_on() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let running = deployment.post("/v1/jobs", &job(&month("LoopsForever"))).await.1;
    let id = running["job_id"].as_str().unwrap();
    deployment.until(id, |view| view["state"] == "running").await;
    let (status, cancelled) = deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    // The only slot is free again although the strategy ignores SIGTERM.
    assert_eq!(deployment.backtest(&month("SmaCross")).await["state"], "succeeded");
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeat_safe() {
    let deployment = Deployment::shared();
    let send = |balance: u32| {
        let body =
            with(job(&with(month("SmaCross"), &json!({"balance": balance}))), &json!({"cache": "off"}));
        deployment
            .client
            .post(deployment.url("/v1/jobs?wait=60"))
            .header("idempotency-key", "once-1")
            .json(&body)
            .send()
    };
    let first: Value = send(777).await.unwrap().json().await.unwrap();
    assert_eq!(first["state"], "succeeded", "{first}");
    let again: Value = send(777).await.unwrap().json().await.unwrap();
    assert_eq!(again["job_id"], first["job_id"]);
    let other = send(778).await.unwrap();
    assert_eq!(other.status(), 422);
    assert_eq!(other.json::<Value>().await.unwrap()["code"], "idempotency_conflict");
}

#[tokio::test]
async fn what_a_run_writes_beside_its_code_reaches_no_other_run() {
    let deployment = Deployment::shared();
    for _ in 0..2 {
        let job = with(job(&month("WritesFiles")), &json!({"cache": "refresh"}));
        let (_, ended) = deployment.post("/v1/jobs?wait=120", &job).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
    }
    assert!(!deployment.project.join("strategies/WritesFiles/notes.txt").exists());
}

#[tokio::test]
async fn progress_is_shown_while_a_long_one_runs() {
    let deployment = Deployment::shared();
    let spec = json!({"start_date": "2023-01-03", "finish_date": "2023-04-30", "timeframe": "1m", "fast_mode": false, "warm_up_candles": 100});
    let (_, accepted) = deployment.post("/v1/jobs", &job(&with(month("Breakout"), &spec))).await;
    let id = accepted["job_id"].as_str().unwrap();
    let seen = deployment
        .until(id, |view| view["progress"]["fraction"].as_f64().is_some_and(|done| done > 0.0))
        .await;
    assert_eq!(seen["state"], "running");
    assert!(seen["progress"]["message"].as_str().unwrap().starts_with("simulated until 2023-"), "{seen}");
    deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
}

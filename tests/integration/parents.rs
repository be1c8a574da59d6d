//! Jobs that are made of other jobs, on a real Jesse.

use std::{collections::HashSet, process::Stdio};

use jobs::private_redis::PrivateRedis;
use serde_json::{Value, json};

use crate::harness::{
    Deployment, LIMIT, Process, SYMBOL, binary, fixtures, free_port, generate_on, month, with,
};

/// A search that takes some seconds.
fn search(changes: &Value) -> Value {
    let spec = with(month("SmaCross"), &json!({"trials": 12, "round": 4, "seed": 5, "test_share": 0.4}));
    with(spec, changes)
}

async fn ended(deployment: &Deployment, kind: &str, spec: &Value) -> Value {
    let (status, view) = deployment.post("/v1/jobs?wait=120", &json!({"kind": kind, "spec": spec})).await;
    assert!(status < 300, "{view}");
    view
}

async fn trials(deployment: &Deployment, job: &Value) -> Value {
    let id = job["job_id"].as_str().unwrap();
    let (status, result) = deployment.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(status, 200, "{result}");
    result
}

#[tokio::test]
async fn a_search_learns_judges_the_best_on_unseen_days_and_is_cached_as_a_whole_and_in_parts() {
    let deployment = Deployment::start(&[]);
    let job = ended(&deployment, "optimize", &search(&json!({}))).await;
    assert_eq!((&job["state"], &job["kind"]), (&json!("succeeded"), &json!("optimize")), "{job}");
    assert_eq!(job["summary"]["trials"], 12);
    assert!(job["summary"]["warning"].as_str().unwrap().contains("12 trials"), "{job}");
    let result = trials(&deployment, &job).await;
    let tried: Vec<_> =
        result["trials"].as_array().unwrap().iter().map(|t| t["hyperparameters"].to_string()).collect();
    assert_eq!(tried.iter().collect::<HashSet<_>>().len(), 12, "nothing is tried twice: {tried:?}");
    let best = &job["summary"]["best"];
    let top =
        result["trials"].as_array().unwrap().iter().filter_map(|t| t["score"].as_f64()).fold(0.0, f64::max);
    assert_eq!(best["score"].as_f64(), Some(top));
    assert!(best["test"]["sharpe_ratio"].is_number(), "{best}");

    // What a trial says is what the same backtest says, and that is known already.
    let backtest = with(
        month("SmaCross"),
        &json!({"finish_date": "2023-02-18", "hyperparameters": best["hyperparameters"]}),
    );
    let alone = deployment.backtest(&backtest).await;
    assert_eq!((&alone["state"], &alone["cached"]), (&json!("succeeded"), &json!(true)), "{alone}");
    assert_eq!(alone["summary"]["metrics"]["sharpe_ratio"], best["train"]["sharpe_ratio"]);
    let again = ended(&deployment, "optimize", &search(&json!({}))).await;
    assert_eq!((&again["cached"], &again["summary"]), (&json!(true), &job["summary"]));

    // Its rounds are batches that can be read; the search itself takes no slot meanwhile.
    let (_, listed) = deployment.get("/v1/jobs?kind=batch").await;
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 4, "three rounds and the test");
    let (_, all) = deployment.get("/v1/jobs?kind=optimize").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_same_seed_finds_the_same_however_many_slots_compute_it() {
    let (one, two) = (Deployment::start(&["--workers", "1"]), Deployment::start(&["--workers", "2"]));
    // More rounds than the random ones it begins with, so that the model speaks too.
    let spec = search(&json!({"trials": 28, "round": 7, "timeframe": "2h", "prune_share": 0.5}));
    let (first, second) = tokio::join!(ended(&one, "optimize", &spec), ended(&two, "optimize", &spec));
    assert_eq!(
        (&first["state"], &second["state"]),
        (&json!("succeeded"), &json!("succeeded")),
        "{first} {second}"
    );
    let (mut first, mut second) = (trials(&one, &first).await, trials(&two, &second).await);
    assert_eq!(first["trials"].as_array().unwrap().len(), 28);
    let pruned = first["trials"].as_array().unwrap().iter().filter(|trial| trial["pruned"] == true).count();
    assert_eq!(pruned, 12, "of each round of seven the better four go on");
    for result in [&mut first, &mut second] {
        result.as_object_mut().unwrap().remove("provenance");
    }
    assert_eq!(first, second);
    let other = ended(&one, "optimize", &with(spec, &json!({"seed": 6}))).await;
    assert_ne!(trials(&one, &other).await["trials"], first["trials"]);
}

#[tokio::test]
async fn cancelling_a_search_cancels_its_trials() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let spec = with(month("LoopsForever"), &json!({"trials": 4}));
    let (status, problem) = deployment.post("/v1/jobs", &json!({"kind": "optimize", "spec": spec})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("no hyperparameters"), "{problem}");

    let spec = search(&json!({"trials": 200, "round": 100, "timeframe": "1m", "fast_mode": false}));
    let (_, job) = deployment.post("/v1/jobs", &json!({"kind": "optimize", "spec": spec})).await;
    let id = job["job_id"].as_str().unwrap();
    let waiting = deployment.until(id, |view| view["state"] == "waiting").await;
    let batch = waiting["awaits"].as_str().unwrap().to_owned();
    assert!(waiting["progress"]["message"].as_str().unwrap().contains("of 200 trials"), "{waiting}");
    let (_, listed) = deployment.get("/v1/jobs?state=waiting&kind=optimize").await;
    assert_eq!(listed["jobs"][0]["job_id"], job["job_id"]);
    let (status, _) = deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    deployment.until(&batch, |view| view["state"] == "cancelled" && view["jobs"]["open"] == 0).await;
}

#[tokio::test]
async fn a_walk_forward_analysis_tests_each_window_on_the_days_after_it() {
    let deployment = Deployment::start(&[]);
    let spec = with(
        month("SmaCross"),
        &json!({"finish_date": "2023-03-01", "train_days": 10, "test_days": 6, "trials": 6, "round": 3, "timeframe": "15m"}),
    );
    let job = ended(&deployment, "walk_forward", &spec).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let result = trials(&deployment, &job).await;
    let windows: Vec<_> =
        result["windows"].as_array().unwrap().iter().map(|w| w["test_start"].as_str().unwrap()).collect();
    assert_eq!(windows, ["2023-02-11", "2023-02-17", "2023-02-23"]);
    let tested = result["windows"].as_array().unwrap().iter().filter(|window| window["test"].is_object());
    let growth = tested.map(|window| 1.0 + window["test"]["net_profit_percentage"].as_f64().unwrap() / 100.0);
    let expected = (growth.product::<f64>() - 1.0) * 100.0;
    let said = job["summary"]["out_of_sample"]["net_profit_percentage"].as_f64().unwrap();
    assert!((said - expected).abs() < 1e-9, "{said} {expected}");
}

#[tokio::test]
async fn what_cannot_be_searched_is_said_before_anything_is_queued() {
    let deployment = Deployment::shared();
    for (kind, changes, words) in [
        ("optimize", json!({"trials": 0}), "trials: must be from 1 to 5000"),
        ("optimize", json!({"method": "magic"}), "tpe"),
        (
            "optimize",
            json!({"space": {"fastt": [1]}}),
            "space.fastt: unknown hyperparameter; known: fast, slow",
        ),
        ("optimize", json!({"space": {"fast": {"max": 500}}}), "space.fast: must be from 5 to 50"),
        ("optimize", json!({"space": {"fast": 5}}), "space"),
        ("optimize", json!({"test_share": 0.99}), "test_share: must be from 0 (no test period) to 0.9"),
        (
            "optimize",
            json!({"test_share": 0.3, "test_start_date": "2023-02-20"}),
            "give either this or test_start_date",
        ),
        (
            "optimize",
            json!({"test_share": null, "test_start_date": "2024-02-20"}),
            "test_start_date: must be a day",
        ),
        ("optimize", json!({"prune_share": 2}), "prune_share: must be from 0.05 to 0.9"),
        ("optimize", json!({"hyperparameters": {"fast": 10, "slow": 40}}), "nothing to search for"),
        ("optimize", json!({"finish_date": "2030-01-01"}), "candles"),
        ("optimize", json!({"train_days": 3}), "unknown field `train_days`"),
        ("walk_forward", json!({"test_share": null, "train_days": 100, "test_days": 10}), "no room"),
        ("walk_forward", json!({"test_share": null, "train_days": 5}), "missing field `test_days`"),
        ("walk_forward", json!({"train_days": 5, "test_days": 5}), "each window has its test period"),
    ] {
        let job = json!({"kind": kind, "spec": search(&changes)});
        let (status, problem) = deployment.post("/v1/jobs", &job).await;
        assert!((400..500).contains(&status), "{changes}: {problem}");
        let said = problem.to_string();
        assert!(said.contains(words), "{changes}: {said}");
    }
}

#[tokio::test]
async fn a_search_survives_the_death_of_a_worker_without_losing_or_repeating_a_trial() {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
    generate_on(data.path(), SYMBOL, 70, 7, &["--redis-url", redis.url()]);
    let role = |role: &str, arguments: &[&str]| {
        let mut command = binary();
        command.arg(role).args(["--redis-url", redis.url(), "--data"]).arg(data.path()).args(arguments);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let port = free_port();
    let server = Process::serving(role("serve", &["--listen", &format!("127.0.0.1:{port}")]), port);
    let project = fixtures().join("project");
    let worker =
        || Process::serving(role("worker", &["--project", project.to_str().unwrap(), "--workers", "1"]), 0);
    let (doomed, survivor) = (worker(), worker());
    let client = reqwest::Client::new();
    let get = async |path: &str| -> Value {
        client.get(format!("{}{path}", server.url)).send().await.unwrap().json().await.unwrap()
    };
    let end = std::time::Instant::now() + LIMIT;
    while client
        .get(format!("{}/health/ready", server.url))
        .send()
        .await
        .map_or(0, |answer| answer.status().as_u16())
        != 200
    {
        assert!(std::time::Instant::now() < end, "the workers are not ready");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let spec = search(&json!({"trials": 40, "round": 8}));
    let job = json!({"kind": "optimize", "spec": spec});
    let job: Value =
        client.post(format!("{}/v1/jobs", server.url)).json(&job).send().await.unwrap().json().await.unwrap();
    let id = job["job_id"].as_str().unwrap();
    loop {
        let view = get(&format!("/v1/jobs/{id}")).await;
        if view["progress"]["fraction"].as_f64().is_some_and(|fraction| fraction > 0.2) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{view}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    doomed.signal("KILL");
    let view = get(&format!("/v1/jobs/{id}?wait=120")).await;
    assert_eq!(view["state"], "succeeded", "{view}");
    let killed = get(&format!("/v1/jobs/{id}/result")).await;
    drop((doomed, survivor));

    // Undisturbed it finds the same.
    let calm = Deployment::start(&[]);
    let undisturbed = ended(&calm, "optimize", &spec).await;
    assert_eq!(trials(&calm, &undisturbed).await["trials"], killed["trials"]);
    assert_eq!(killed["trials"].as_array().unwrap().len(), 40);
    drop(server);
    redis.stop().await;
}

#[tokio::test]
async fn a_monte_carlo_analysis_says_where_the_real_history_lies_among_others() {
    let deployment = Deployment::start(&[]);
    let spec = with(month("SmaCross"), &json!({"scenarios": 12, "seed": 3}));
    let job = ended(&deployment, "monte_carlo", &spec).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!((&job["summary"]["scenarios"], &job["summary"]["failed"]), (&json!(12), &json!(0)), "{job}");
    let profit = &job["summary"]["metrics"]["net_profit_percentage"];
    let original = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(original["cached"], true, "it is one of the backtests: {original}");
    assert_eq!(profit["original"], original["summary"]["metrics"]["net_profit_percentage"]);
    assert!(
        profit["p5"].as_f64() < profit["p50"].as_f64() && profit["p50"].as_f64() < profit["p95"].as_f64(),
        "{profit}"
    );

    // A history by itself is a backtest like any other, the same for the same seed, and says what it is.
    let history = |seed: u32, pipeline: Value| {
        with(month("SmaCross"), &json!({"scenario": {"pipeline": pipeline, "seed": seed}}))
    };
    let blocks = || json!({"type": "moving_block_bootstrap"});
    let known = deployment.backtest(&history(5, blocks())).await;
    assert_eq!((&known["cached"], &known["state"]), (&json!(true), &json!("succeeded")), "{known}");
    assert!(known["summary"]["warning"].is_string(), "{known}");
    let noise = || json!({"type": "gaussian_noise", "close_sigma": 5, "high_sigma": 2, "low_sigma": 2});
    let mut found = Vec::new();
    for cache in ["off", "off"] {
        let job = json!({"kind": "backtest", "cache": cache, "spec": history(9, noise())});
        let (_, view) = deployment.post("/v1/jobs?wait=120", &job).await;
        assert_eq!(view["state"], "succeeded", "{view}");
        found.push(view["summary"]["metrics"].clone());
    }
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0]["net_profit"], original["summary"]["metrics"]["net_profit"]);

    for (changes, words) in [
        (json!({"scenarios": 0}), "scenarios: must be from 1 to 5000"),
        (json!({"pipeline": {"type": "magic"}}), "unknown variant `magic`"),
        (
            json!({"pipeline": {"type": "moving_block_bootstrap", "batch_minutes": 3}}),
            "batch_minutes: must be from 20",
        ),
        (
            json!({"pipeline": {"type": "gaussian_noise", "close_sigma": -1, "high_sigma": 0, "low_sigma": 0}}),
            "close_sigma",
        ),
    ] {
        let job = json!({"kind": "monte_carlo", "spec": with(month("SmaCross"), &changes)});
        let (status, problem) = deployment.post("/v1/jobs", &job).await;
        assert!((400..500).contains(&status) && problem.to_string().contains(words), "{changes}: {problem}");
    }
}

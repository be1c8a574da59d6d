//! Batches, listings, requeueing and the pause over HTTP, on a real Jesse.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, LIMIT, SYMBOL, month, processes_with, with};

fn base() -> Value {
    json!({
        "strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h",
        "start_date": "2023-02-01", "finish_date": "2023-02-15",
    })
}

async fn ended(deployment: &Deployment, batch: &str) -> Value {
    let (status, view) = deployment.get(&format!("/v1/batches/{batch}?wait=120")).await;
    assert_eq!(status, 200, "{view}");
    assert!(view["finished_at"].is_string(), "{view}");
    view
}

#[tokio::test]
async fn a_grid_is_one_call_and_what_is_known_counts_at_once() {
    let deployment = Deployment::start(&[]);
    let known = with(base(), &json!({"hyperparameters": {"fast": 10, "slow": 40}}));
    assert_eq!(deployment.backtest(&known).await["state"], "succeeded");
    let batch = json!({
        "base": base(), "grid": {"hyperparameters": {"fast": [10, 15, 20], "slow": [40, 60]}},
        "campaign": "sma sweep", "labels": {"round": "1"},
    });
    let request = deployment.client.post(deployment.url("/v1/batches")).json(&batch);
    let response = request.header("idempotency-key", "sweep-1").send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let accepted: Value = response.json().await.unwrap();
    let id = accepted["job_id"].as_str().unwrap();
    assert_eq!(
        (location.as_str(), &accepted["kind"]),
        (format!("/v1/batches/{id}").as_str(), &json!("batch"))
    );
    let view = ended(&deployment, id).await;
    assert_eq!(view["state"], "succeeded", "{view}");
    assert_eq!(
        (&view["jobs"]["total"], &view["jobs"]["succeeded"], &view["jobs"]["cached"]),
        (&json!(6), &json!(6), &json!(1))
    );

    // In pages, in their order; each is a job like any other.
    let (_, first) = deployment.get(&format!("/v1/batches/{id}/jobs?limit=4")).await;
    let next = first["next_cursor"].as_str().unwrap();
    let (_, second) = deployment.get(&format!("/v1/jobs?batch={id}&limit=4&cursor={next}")).await;
    let jobs: Vec<_> =
        [&first, &second].iter().flat_map(|page| page["jobs"].as_array().unwrap()).cloned().collect();
    assert_eq!((jobs.len(), &second["next_cursor"]), (6, &Value::Null));
    let pairs: Vec<_> = jobs.iter().map(|job| job["spec"]["hyperparameters"].clone()).collect();
    assert_eq!(pairs[1], json!({"fast": 10, "slow": 60}));
    assert!(jobs.iter().all(|job| job["batch_id"] == id && job["summary"]["metrics"].is_object()));
    let (_, one) = deployment
        .get(&format!("/v1/jobs/{}/result?fields=metrics", jobs[3]["job_id"].as_str().unwrap()))
        .await;
    assert!(one["metrics"]["total"].is_number());
    assert_eq!(jobs.iter().filter(|job| job["cached"] == true).count(), 1);

    // The same key answers the same batch; by campaign and label its jobs are found, with the batch itself.
    let request = deployment.client.post(deployment.url("/v1/batches")).json(&batch);
    let again: Value =
        request.header("idempotency-key", "sweep-1").send().await.unwrap().json().await.unwrap();
    assert_eq!(again["job_id"], accepted["job_id"]);
    let (_, found) =
        deployment.get("/v1/jobs?campaign=sma%20sweep&label=round=1&kind=backtest&limit=100").await;
    assert_eq!(found["jobs"].as_array().unwrap().len(), 6);
    let (_, found) = deployment.get("/v1/jobs?kind=batch").await;
    assert_eq!(found["jobs"][0]["job_id"], accepted["job_id"]);
    let (_, all) = deployment.get("/v1/jobs?limit=3").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 3);
    let (_, rest) =
        deployment.get(&format!("/v1/jobs?limit=100&cursor={}", all["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 5, "eight in all");
    let (status, problem) =
        deployment.get(&format!("/v1/batches/{}", jobs[0]["job_id"].as_str().unwrap())).await;
    assert_eq!((status, &problem["code"]), (404, &json!("job_not_found")), "a job is no batch");
}

#[tokio::test]
async fn a_batch_with_a_mistake_is_refused_as_a_whole_and_every_mistake_is_named() {
    let deployment = Deployment::shared();
    let bad = |batch: Value| async move { deployment_post(batch).await };
    let (status, problem) = bad(json!({
        "base": base(), "jobs": [{}, {"strategy": "SmaCros"}, {"timeframe": "7m"}, {"colour": "red"}, 17],
    }))
    .await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{problem}");
    let errors = problem["errors"].as_array().unwrap();
    let fields: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["jobs[1]", "jobs[2]", "jobs[3]", "jobs[4]"], "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("4 of the batch's jobs cannot run"));
    for (batch, named) in [
        (json!({}), "1 to 50000 jobs"),
        (json!({"jobs": [], "base": base()}), "1 to 50000 jobs"),
        (json!({"jobs": [{}], "grid": {"fee": [0.1]}, "base": base()}), "one of the two"),
        (json!({"grid": {}, "base": base()}), "no field to vary"),
        (json!({"grid": {"symbol": []}, "base": base()}), "symbol: needs a list"),
        (
            json!({"grid": {"fee": vec![0.1; 300], "balance": vec![1; 300]}, "base": base()}),
            "more than 50000",
        ),
        (json!({"grid": {"period": ["2023"]}, "base": base()}), "start_date and finish_date"),
        (json!({"jobs": [{}], "base": base(), "labels": {"a=b": "c"}}), "\"=\""),
        (json!({"jobs": [{}], "base": base(), "on_failure": "panic"}), "on_failure"),
        (json!({"jobs": [{}], "base": 3}), "base"),
    ] {
        let (status, problem) = bad(batch.clone()).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{batch}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{batch}: {problem}");
    }
    for (path, named) in [
        ("/v1/jobs?state=done", "state"),
        ("/v1/jobs?kind=cake", "kind"),
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=1000", "limit"),
        ("/v1/jobs?cursor=here", "cursor"),
        ("/v1/jobs?label=red", "label"),
        ("/v1/jobs?colour=red", "colour"),
        ("/v1/jobs?batch=7", "id"),
        ("/v1/jobs?batch=01981c2e-6f1c-7000-8000-000000000000&state=failed", "batch"),
    ] {
        let (status, problem) = deployment.get(path).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
}

async fn deployment_post(batch: Value) -> (u16, Value) {
    Deployment::shared().post("/v1/batches", &batch).await
}

#[tokio::test]
async fn a_batch_stops_at_its_first_failure_if_asked_to_and_what_failed_can_be_run_again() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let mut jobs = vec![json!({"strategy": "RaisesWhileRunning"})];
    jobs.extend((0..20).map(|n| json!({"balance": 10_000 + n})));
    let batch = json!({"base": base(), "jobs": jobs, "on_failure": "stop", "campaign": "stops"});
    let (status, accepted) = deployment.post("/v1/batches", &batch).await;
    assert_eq!(status, 202, "{accepted}");
    let view = ended(&deployment, accepted["job_id"].as_str().unwrap()).await;
    assert_eq!(
        (&view["state"], &view["error"]["code"]),
        (&json!("failed"), &json!("batch_incomplete")),
        "{view}"
    );
    assert_eq!((&view["jobs"]["failed"], &view["jobs"]["open"]), (&json!(1), &json!(0)));
    assert!(view["jobs"]["cancelled"].as_u64().unwrap() >= 15, "{view}");

    let (_, failed) = deployment.get("/v1/jobs?state=failed&campaign=stops&kind=backtest").await;
    let failed = &failed["jobs"][0];
    let id = failed["job_id"].as_str().unwrap();
    assert_eq!(failed["error"]["code"], "strategy_error");
    // The code is mended; the job asks for the same once more.
    deployment.edit("RaisesWhileRunning", |text| text.replace("== 100", "== -1"));
    let (status, again) = deployment.post(&format!("/v1/jobs/{id}/requeue"), &json!({})).await;
    assert_eq!(status, 200, "{again}");
    let again = again["job_id"].as_str().unwrap();
    let (_, done) = deployment.get(&format!("/v1/jobs/{again}?wait=120")).await;
    assert_eq!((&done["state"], &done["campaign"]), (&json!("succeeded"), &json!("stops")), "{done}");
    let (_, old) = deployment.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!((&old["state"], &old["requeued_as"]), (&json!("failed"), &json!(again)));
    let (_, repeat) = deployment.post(&format!("/v1/jobs/{id}/requeue"), &json!({})).await;
    assert_eq!(repeat["job_id"], again);
    let (status, problem) = deployment.post(&format!("/v1/jobs/{again}/requeue"), &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_requeueable")));

    let many = json!({"state": "cancelled", "campaign": "stops", "limit": 10});
    let (status, requeued) = deployment.post("/v1/jobs/requeue", &many).await;
    assert_eq!((status, requeued["requeued"].as_array().unwrap().len()), (200, 10), "{requeued}");
    for job in requeued["requeued"].as_array().unwrap() {
        let (_, done) =
            deployment.get(&format!("/v1/jobs/{}?wait=120", job["requeued_as"].as_str().unwrap())).await;
        assert_eq!(done["state"], "succeeded");
    }
    let (status, _) = deployment.post("/v1/jobs/requeue", &json!({"state": "succeeded"})).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_cancelled_batch_ends_its_processes_and_leaves_another_job_that_wants_the_same_alone() {
    let deployment = Deployment::start(&["--workers", "2"]);
    let slow = |balance: u32| {
        json!({
            "strategy": "Breakout", "timeframe": "1m", "fast_mode": false, "warm_up_candles": 100, "balance": balance,
            "start_date": "2023-01-03", "finish_date": "2023-04-30",
        })
    };
    let batch = json!({"base": base(), "jobs": [slow(10_001), slow(10_002), slow(10_003), slow(10_004)]});
    let (_, accepted) = deployment.post("/v1/batches", &batch).await;
    let id = accepted["job_id"].as_str().unwrap().to_owned();
    let (_, jobs) = deployment.get(&format!("/v1/batches/{id}/jobs")).await;
    let child = |n: usize| jobs["jobs"][n]["job_id"].as_str().unwrap().to_owned();
    for n in 0..2 {
        deployment.until(&child(n), |view| view["state"] == "running").await;
    }
    // With another time-out it is another call that waits for the same run.
    let same = json!({"kind": "backtest", "timeout_s": 1_000, "spec": with(base(), &slow(10_001))});
    let (_, mine) = deployment.post("/v1/jobs", &same).await;
    let (_, cancelled) = deployment.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["jobs"]["cancelled"]),
        (&json!("cancelled"), &json!(4)),
        "{cancelled}"
    );
    // One of the two processes goes on, for the other job.
    let tasks = deployment.data.path().join("worker/run");
    let end = Instant::now() + LIMIT;
    let running = || {
        std::fs::read_dir(&tasks)
            .unwrap()
            .filter_map(Result::ok)
            .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten())
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("task-"))
            .count()
    };
    while running() > 1 {
        assert!(Instant::now() < end, "{:?}", processes_with(tasks.to_str().unwrap()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, view) = deployment.get(&format!("/v1/jobs/{}", mine["job_id"].as_str().unwrap())).await;
    assert_eq!(view["state"], "running", "{view}");
    let (_, view) =
        deployment.post(&format!("/v1/jobs/{}/cancel", mine["job_id"].as_str().unwrap()), &json!({})).await;
    assert_eq!(view["state"], "cancelled");
}

#[tokio::test]
async fn times_are_kept_and_a_paused_queue_starts_nothing() {
    let deployment = Deployment::start(&[]);
    let job = |options: Value| {
        with(
            json!({"kind": "backtest", "spec": with(month("SmaCross"), &json!({"balance": 4321}))}),
            &options,
        )
    };
    let (status, paused) = deployment.post("/v1/queue/pause", &json!({})).await;
    assert_eq!((status, &paused["paused"]), (200, &json!(true)));
    let (_, waiting) = deployment.post("/v1/jobs", &job(json!({}))).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let (_, hurried) =
        deployment.post("/v1/jobs", &job(json!({"cache": "off", "deadline": soon.to_string()}))).await;
    deployment.until(hurried["job_id"].as_str().unwrap(), |view| view["state"] == "expired").await;
    let (_, queue) = deployment.get("/v1/queue").await;
    assert_eq!((&queue["ready"], &queue["running"]), (&json!(1), &json!(0)), "{queue}");
    deployment.post("/v1/queue/resume", &json!({})).await;
    let id = waiting["job_id"].as_str().unwrap();
    assert_eq!(deployment.until(id, |view| view["finished_at"].is_string()).await["state"], "succeeded");

    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let (_, delayed) =
        deployment.post("/v1/jobs", &job(json!({"cache": "off", "run_at": later.to_string()}))).await;
    assert_eq!(delayed["state"], "scheduled", "{delayed}");
    let (_, done) =
        deployment.get(&format!("/v1/jobs/{}?wait=120", delayed["job_id"].as_str().unwrap())).await;
    assert_eq!(done["state"], "succeeded");
    assert!(done["started_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() >= later);
    for bad in [
        json!({"deadline": "2020-01-01T00:00:00Z"}),
        json!({"run_at": "2126-01-01T00:00:00Z"}),
        json!({"run_at": "tomorrow"}),
        json!({"run_at": "2026-12-01T00:00:00Z", "deadline": "2026-12-01T00:00:00Z"}),
    ] {
        let (status, problem) = deployment.post("/v1/jobs", &job(bad.clone())).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{bad}: {problem}");
    }
}

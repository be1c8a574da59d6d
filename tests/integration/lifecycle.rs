//! `up` from start to end: one per data folder, nothing left behind, nothing lost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Deployment, LIMIT, Process, binary, month, processes_with, with};

async fn assert_no_process_left(data: &str) {
    let end = Instant::now() + LIMIT;
    while !processes_with(data).is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", processes_with(data));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_second_start_on_the_same_folder_says_so_and_a_stop_leaves_nothing_behind() {
    let mut deployment = Deployment::start(&[]);
    let data = deployment.data.path().to_owned();
    let second = binary().args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(
        said.contains("is in use by process") && said.contains(&deployment.process.child.id().to_string()),
        "{said}"
    );

    assert!(deployment.process.stop().await, "it says that all went well");
    assert_no_process_left(data.to_str().unwrap()).await;
}

#[tokio::test]
async fn a_stop_hands_back_what_is_running_and_the_next_start_goes_on_with_it() {
    let mut deployment = Deployment::start(&["--grace", "0"]);
    let job = json!({"kind": "backtest", "spec": month("LoopsForever")});
    let (_, accepted) = deployment.post("/v1/jobs", &job).await;
    let id = accepted["job_id"].as_str().unwrap();
    deployment.until(id, |view| view["state"] == "running").await;
    assert!(deployment.process.stop().await);
    let project = deployment.project.clone();
    deployment.process = Process::up(deployment.data.path(), &["--project", project.to_str().unwrap()]);
    deployment.until(id, |view| view["state"] == "running").await;
    let (_, cancelled) = deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled["state"], "cancelled");
}

#[tokio::test]
async fn after_kill_9_the_data_is_there_and_no_process_is_left() {
    let mut deployment = Deployment::start(&[]);
    let data = deployment.data.path().to_owned();
    let ended = deployment.backtest(&month("SmaCross")).await;
    let (_, running) =
        deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": month("LoopsForever")})).await;
    deployment.until(running["job_id"].as_str().unwrap(), |view| view["state"] == "running").await;
    deployment.process.signal("KILL");
    deployment.process.child.wait().unwrap();
    assert_no_process_left(data.to_str().unwrap()).await;

    let project = deployment.project.clone();
    deployment.process = Process::up(&data, &["--project", project.to_str().unwrap()]);
    let (_, again) = deployment.get(&format!("/v1/jobs/{}", ended["job_id"].as_str().unwrap())).await;
    assert_eq!(again["summary"], ended["summary"]);
    assert_eq!(deployment.backtest(&month("SmaCross")).await["cached"], json!(true));
    // The run's lease ends ten seconds after the death, then it runs again.
    let id = running["job_id"].as_str().unwrap();
    deployment.until(id, |view| view["state"] == "running").await;
    deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
}

#[tokio::test]
async fn a_runner_that_is_killed_is_started_again_and_its_run_is_tried_again() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let slow =
        with(month("Breakout"), &json!({"timeframe": "1m", "fast_mode": false, "warm_up_candles": 100}));
    let (_, accepted) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": slow})).await;
    let id = accepted["job_id"].as_str().unwrap();
    deployment.until(id, |view| view["progress"]["fraction"].as_f64().is_some_and(|done| done > 0.0)).await;
    let runner = deployment.data.path().join("worker/run");
    let killed = std::process::Command::new("pkill").args(["-KILL", "-f"]).arg(&runner).status().unwrap();
    assert!(killed.success());
    let ended = deployment.until(id, |view| view["finished_at"].is_string()).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
}

#[tokio::test]
async fn a_redis_that_lost_its_data_is_told_what_exists_again() {
    let deployment = Deployment::start(&[]);
    let redis = jobs::private_redis::PrivateRedis::url_for(&deployment.data.path().join("redis"));
    let mut redis = redis::Client::open(redis).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
    crate::harness::generate(deployment.data.path(), crate::harness::SYMBOL, 70, 7);
    let end = Instant::now() + LIMIT;
    while deployment.get("/v1/strategies").await.0 != 200 {
        assert!(Instant::now() < end, "the catalogue is not published again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(deployment.backtest(&month("SmaCross")).await["state"], "succeeded");
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_without_keys() {
    let data = tempfile::tempdir().unwrap();
    let output = binary().args(["up", "--listen", "0.0.0.0:0", "--data"]).arg(data.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("can be reached from other machines"));
}

#[tokio::test]
async fn a_python_without_jesse_is_said_at_once() {
    let data = tempfile::tempdir().unwrap();
    let mut command = binary();
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .env("JESSE_PYTHON", "/bin/false");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("/bin/false") && said.contains("JESSE_PYTHON"), "{said}");
    assert_no_process_left(data.path().to_str().unwrap()).await;
}

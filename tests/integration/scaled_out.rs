//! The same parts apart: `serve` and `worker` on one Redis.

use std::process::{Child, Stdio};

use jobs::private_redis::PrivateRedis;
use serde_json::json;

use crate::harness::{Deployment, Process, SEED, SYMBOL, binary, fixtures, free_port, generate_on, month};

fn start(role: &str, url: &str, data: &std::path::Path, arguments: &[&str]) -> Child {
    let mut command = binary();
    command.arg(role).args(["--redis-url", url, "--data"]).arg(data).args(arguments);
    command.stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn two_api_instances_and_a_worker_share_one_redis() {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
    generate_on(data.path(), SYMBOL, 70, SEED, &["--redis-url", redis.url()]);

    let project = fixtures().join("project");
    let ports = [free_port(), free_port()];
    let servers: Vec<_> = ports
        .iter()
        .map(|port| {
            let child = start("serve", redis.url(), data.path(), &["--listen", &format!("127.0.0.1:{port}")]);
            Process::serving(child, *port)
        })
        .collect();
    let client = reqwest::Client::new();
    let health = || client.get(format!("{}/health/ready", servers[0].url)).send();
    // Without a worker nothing is accepted, and that is said.
    let status = loop {
        match health().await {
            Ok(response) => break response.status(),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    assert_eq!(status, 503);
    let own = format!("127.0.0.1:{}", free_port());
    let arguments = ["--project", project.to_str().unwrap(), "--metrics-listen", &own];
    let worker = start("worker", redis.url(), data.path(), &arguments);
    let mut worker = Process::serving(worker, 0);
    while health().await.unwrap().status() != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let job = json!({"kind": "backtest", "spec": month("SmaCross")});
    let submitted = client.post(format!("{}/v1/jobs", servers[0].url)).json(&job).send().await.unwrap();
    let submitted: serde_json::Value = submitted.json().await.unwrap();
    let id = submitted["job_id"].as_str().unwrap();
    let ended = client.get(format!("{}/v1/jobs/{id}?wait=120", servers[1].url)).send().await.unwrap();
    let ended: serde_json::Value = ended.json().await.unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let metrics = client.get(format!("http://{own}/metrics")).send().await.unwrap().text().await.unwrap();
    let runs = r#"jesse_jobs_run_duration_seconds_count{kind="backtest",outcome="succeeded"} 1"#;
    assert!(metrics.contains(runs), "{metrics}");
    let result = client.get(format!("{}/v1/jobs/{id}/result", servers[1].url)).send().await.unwrap();
    assert_eq!(result.status(), 200);
    assert!(worker.stop().await);
    drop(servers);
    redis.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_calls_fail_fast_and_afterwards_all_is_there() {
    let deployment = Deployment::start(&[]);
    let ended = deployment.backtest(&month("SmaCross")).await;
    let stopped = || {
        std::process::Command::new("pkill")
            .args(["-STOP", "-f"])
            .arg(deployment.data.path().join("redis/redis.sock"))
            .status()
    };
    assert!(stopped().unwrap().success());
    let (status, problem) = deployment.get(&format!("/v1/jobs/{}", ended["job_id"].as_str().unwrap())).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    let (status, health) = deployment.get("/health").await;
    assert_eq!((status, &health["redis"]), (503, &json!("disconnected")));
    let go_on = std::process::Command::new("pkill")
        .args(["-CONT", "-f"])
        .arg(deployment.data.path().join("redis/redis.sock"))
        .status();
    assert!(go_on.unwrap().success());
    assert_eq!(deployment.backtest(&month("SmaCross")).await["cached"], json!(true));
}

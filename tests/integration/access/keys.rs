//! Keys on the command line, the operator's own key, and what is logged.

use std::process::Stdio;

use serde_json::json;

use super::deployment::{Client, key, keys};
use crate::harness::{DAYS, Deployment, LIMIT, SEED, SYMBOL, binary, generate, month};

#[tokio::test]
async fn the_operators_key_opens_all_doors_and_stands_in_no_log() {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, DAYS, SEED);
    let file = data.path().join("admin_key");
    let secret = "0123456789abcdef".repeat(4);
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let deployment =
        Deployment::start_on(data, &["--admin-key-file", file.to_str().unwrap(), "--allow-strategy-write"]);
    let admin = Client::new(&deployment, &secret);
    assert_eq!(Client::new(&deployment, "").get("/v1/jobs").await.status, 401);
    assert_eq!(Client::new(&deployment, &"f".repeat(64)).get("/v1/jobs").await.status, 401);
    assert!(!admin.get("/v1/queue").await.body["counters"].is_null());
    assert!(admin.tools().await.contains(&"strategy_write".to_owned()));
    // From this machine metrics are read without a key, unless it is on behalf of somebody else.
    let nobody = Client::new(&deployment, "");
    assert_eq!(nobody.get("/metrics").await.status, 200);
    let forwarded = nobody.http.get(format!("{}/metrics", nobody.url)).header("x-forwarded-for", "1.2.3.4");
    assert_eq!(forwarded.send().await.unwrap().status(), 401);
    assert_eq!(admin.get("/metrics").await.status, 200);

    // What was changed, by whom, is written down: over HTTP, over MCP, on the command line.
    let made = keys(deployment.data.path(), &["create", "--tenant", "acme", "--scopes", "jobs:write"]);
    let acme = Client::new(&deployment, made["key"].as_str().unwrap());
    let pause = acme.post("/v1/queue/pause", &json!({})).await;
    assert_eq!(pause.status, 403);
    let request = acme.http.post(format!("{}/v1/jobs", acme.url)).bearer_auth(&acme.key);
    let request = request.header("x-request-id", "my-request.1");
    let job = json!({"kind": "backtest", "spec": month("SmaCross")});
    let answer = request.json(&job).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "my-request.1");
    let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
    let location = location.unwrap_or_default();
    assert!(location.starts_with("/v1/jobs/"), "{}", answer.text().await.unwrap());
    let id = location.rsplit('/').next().unwrap();
    acme.tool("job_cancel", &json!({"job_id": id})).await;
    admin.post("/v1/queue/resume", &json!({})).await;
    let log = admin.get("/v1/audit?limit=10").await.body;
    let entries = log["entries"].as_array().unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            ["tenant", "key", "action", "target", "outcome"].map(|name| entry[name].as_str().unwrap())
        })
        .collect();
    let acmes = made["id"].as_str().unwrap();
    assert_eq!(found[0], ["default", "admin-key-file", "POST /v1/queue/resume", "", "200"], "{log}");
    assert_eq!(found[1], ["acme", acmes, "tool job_cancel", id, "ok"], "{log}");
    assert_eq!(&found[2][..4], ["acme", acmes, "POST /v1/jobs", location.as_str()], "{log}");
    assert_eq!(entries[2]["request_id"], "my-request.1");
    assert_eq!(found[3], ["acme", "command-line", "keys create", acmes, "ok"], "{log}");
    assert_eq!(found.len(), 4, "reads and refusals change nothing: {log}");
    assert!(!log.to_string().contains(&acme.key));
    let page = admin.get("/v1/audit?limit=1").await.body;
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = admin.get(&format!("/v1/audit?limit=1&cursor={cursor}")).await.body;
    assert_eq!(next["entries"][0], entries[1]);
    assert_eq!(admin.get("/v1/audit?cursor=x").await.status, 400);
}

#[tokio::test]
async fn a_key_is_shown_once_rotated_and_revoked() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    let made = keys(
        data,
        &[
            "create",
            "--tenant",
            "acme",
            "--label",
            "ci",
            "--rate",
            "600/100",
            "--expires-days",
            "30",
            "--weight",
            "2",
        ],
    );
    let secret = made["key"].as_str().unwrap();
    let old = Client::new(&deployment, secret);
    let first = old.get("/v1/jobs").await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(old.get("/v1/jobs").await.header("ratelimit-policy"), r#""calls";q=100;w=10"#);
    let listed = keys(data, &["list"]);
    let shown = &listed["keys"][0];
    assert_eq!(
        (&shown["id"], &shown["label"], &shown["rate"]),
        (&made["id"], &json!("ci"), &json!("600/100"))
    );
    assert!(!shown["expires_at"].is_null() && !shown["used_at"].is_null(), "{shown}");
    assert!(!listed.to_string().contains(secret));
    let id = made["id"].as_str().unwrap();
    let new = keys(data, &["rotate", id, "--overlap-hours", "1"]);
    let new = Client::new(&deployment, new["key"].as_str().unwrap());
    assert_eq!((new.get("/v1/jobs").await.status, old.get("/v1/jobs").await.status), (200, 200));
    keys(data, &["revoke", id]);
    let end = std::time::Instant::now() + LIMIT;
    while old.get("/v1/jobs").await.status != 401 {
        assert!(std::time::Instant::now() < end, "a revoked key is still taken");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(old.get("/v1/jobs").await.code(), "invalid_key");
    assert_eq!(new.get("/v1/jobs").await.status, 200);
    for wrong in [
        &["create", "--scopes", "jobs:*"][..],
        &["create", "--tenant", "a:b"],
        &["create", "--rate", "0"],
        &["create", "--weight", "0"],
        &["create", "--weight", "NaN"],
        &["revoke", "nobody"],
        &["revoke", "0123456789ab"],
    ] {
        let output = binary().arg("keys").args(wrong).arg("--data").arg(data).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !told.is_empty(), "{wrong:?}");
    }
}

#[tokio::test]
async fn other_machines_are_served_only_once_there_are_keys() {
    let data = tempfile::tempdir().unwrap();
    let short = data.path().join("short");
    std::fs::write(&short, "secret").unwrap();
    let refused = |arguments: &[&str]| {
        let mut command = binary();
        command.args(["up", "--listen", "0.0.0.0:0", "--data"]).arg(data.path()).args(arguments);
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = refused(&[]);
    assert!(told.contains("no API keys") && told.contains("keys create"), "{told}");
    for (file, expected) in [(short.to_str().unwrap(), "32"), ("/nonexistent/key", "No such file")] {
        let told = refused(&["--admin-key-file", file]);
        assert!(told.contains("ADMIN_KEY_FILE") && told.contains(expected), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn the_pipe_of_mcp_shows_a_key() {
    let deployment = Deployment::start(&[]);
    let reader = key(deployment.data.path(), "acme", "jobs:read");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    let mut command = binary();
    command.args(["mcp", "--url", &deployment.process.url]).env("JESSE_JOBS_KEY", &reader);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{list}\n").as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["candles_list", "job_get", "job_list", "job_chart", "job_series", "health"]);
}

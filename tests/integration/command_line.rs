//! The command line of those who submit jobs, as a person or a script runs it.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::{
    access,
    harness::{Deployment, EXCHANGE, SYMBOL, binary, free_port, month, python},
};

/// Runs the binary against a deployment. It blocks, so it is done away from the runtime.
async fn run(deployment: &Deployment, arguments: &[&str], input: &str) -> Output {
    let mut command = against(&deployment.url(""), arguments);
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may be gone by then.
        let _gone = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    ran.await.unwrap()
}

fn against(url: &str, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).env("JESSE_JOBS_URL", url).env_remove("REDIS_URL").env_remove("JESSE_PYTHON");
    command
}

fn out(output: &Output) -> String {
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {shown}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const PERIOD: [&str; 4] = ["--start", "2023-02-01", "--finish", "2023-03-01"];

fn with_month(arguments: &[&'static str]) -> Vec<&'static str> {
    let series = ["--exchange", EXCHANGE, "--symbol", SYMBOL];
    arguments.iter().copied().chain(series).chain(PERIOD).collect()
}

#[tokio::test]
async fn a_job_is_submitted_followed_listed_and_its_result_taken_away() {
    let deployment = Deployment::shared();
    let submit = with_month(&[
        "submit",
        "-s",
        "SmaCross",
        "-t",
        "1h",
        "--hp",
        "fast=7",
        "--label",
        "from=cli",
        "--campaign",
        "by hand",
    ]);
    let id = out(&run(&deployment, &submit, "").await);
    let shown = out(&run(&deployment, &["watch", &id], "").await);
    assert!(shown.contains("state                succeeded") && shown.contains("Sharpe ratio"), "{shown}");

    // The same from a pipe, as TOML and as a spec alone; nothing is computed.
    let toml = format!(
        "strategy = \"SmaCross\"\nexchange = \"{EXCHANGE}\"\nsymbol = \"{SYMBOL}\"\ntimeframe = \"1h\"\nstart_date = 2023-02-01\n\
         finish_date = 2023-03-01\n[hyperparameters]\nfast = 7\n"
    );
    let again: Value =
        serde_json::from_str(&out(&run(&deployment, &["submit", "-", "--wait", "--json"], &toml).await))
            .unwrap();
    assert_eq!((&again["state"], &again["cached"]), (&json!("succeeded"), &json!(true)));

    let listed = out(&run(&deployment, &["jobs", "--label", "from=cli", "--limit", "1"], "").await);
    assert!(listed.contains(&id) && listed.lines().count() == 2 && listed.contains("SmaCross"), "{listed}");
    let job: Value =
        serde_json::from_str(&out(&run(&deployment, &["job", &id, "--json"], "").await)).unwrap();
    assert_eq!(job["campaign"], "by hand");

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    out(&run(&deployment, &["result", &id, "--csv", "trades", "--output", path], "").await);
    let rows = csv_rows(path);
    let trades = deployment.get(&format!("/v1/jobs/{id}/result?fields=trades")).await.1["trades"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(rows, trades, "one line for each trade");
    let (code, why) = told(&run(&deployment, &["result", &id, "--csv", "metrics"], "").await);
    assert!(code == Some(2) && why.contains("is no list"), "{code:?} {why}");
}

fn csv_rows(path: &str) -> usize {
    let script = "import csv, sys; print(len(list(csv.DictReader(open(sys.argv[1])))))";
    let counted = Command::new(python()).args(["-c", script, path]).output().unwrap();
    String::from_utf8(counted.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_batch_is_a_grid_on_the_command_line() {
    let deployment = Deployment::shared();
    let batch = with_month(&[
        "batch",
        "-s",
        "SmaCross",
        "--grid",
        "timeframe=30m,1h",
        "--grid",
        "hp.fast=6,8,9",
        "--wait",
        "--json",
    ]);
    let ended: Value = serde_json::from_str(&out(&run(&deployment, &batch, "").await)).unwrap();
    assert_eq!((&ended["kind"], &ended["jobs"]["succeeded"]), (&json!("batch"), &json!(6)));
}

#[tokio::test]
async fn what_does_not_end_well_is_told_by_the_exit_code() {
    let deployment = Deployment::shared();
    let (_, running) = deployment
        .post("/v1/jobs", &json!({"kind": "backtest", "spec": month("LoopsForever"), "cache": "off"}))
        .await;
    let id = running["job_id"].as_str().unwrap();
    let cancelled = out(&run(&deployment, &["cancel", id], "").await);
    assert_eq!(cancelled, format!("{id}  cancelled"));
    let watched = run(&deployment, &["watch", id], "").await;
    assert_eq!(watched.status.code(), Some(1), "it did not succeed");
    let requeued = out(&run(&deployment, &["requeue", id], "").await);
    assert_ne!(requeued, id);
    out(&run(&deployment, &["cancel", &requeued], "").await);

    let (code, why) =
        told(&run(&deployment, &with_month(&["submit", "-s", "SmaCros", "-t", "1h"]), "").await);
    assert!(
        code == Some(4) && why.contains("did you mean \"SmaCross\"") && why.contains("strategy_not_found"),
        "{code:?} {why}"
    );
    let (code, why) = told(&run(&deployment, &["job", "no-id"], "").await);
    assert!(code == Some(2) && why.contains("no-id"), "{code:?} {why}");
    let (code, why) = told(&run(&deployment, &["submit", "-"], "{\"kind\": ").await);
    assert!(code == Some(2) && why.contains("no JSON"), "{code:?} {why}");
    let nobody = against("http://127.0.0.1:9", &["jobs"]).output().unwrap();
    assert!(told(&nobody).0 == Some(3) && told(&nobody).1.contains("cannot be reached"), "{nobody:?}");
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let nobody = against("http://127.0.0.1:9", &["doctor"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("jesse-jobs up"), "{nobody:?}");

    let deployment = Deployment::start(&[]);
    let healthy = out(&run(&deployment, &["doctor", "--python", python().to_str().unwrap()], "").await);
    assert!(!healthy.contains("FAULT") && healthy.contains("Jesse 3."), "{healthy}");

    // Three at once: a paused queue, a Python without Jesse, and a Redis that is not there.
    deployment.post("/v1/queue/pause", &json!({})).await;
    let arguments = ["doctor", "--python", "/bin/false", "--redis-url", "redis://127.0.0.1:9", "--json"];
    let ill = run(&deployment, &arguments, "").await;
    assert_eq!(ill.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&ill.stdout).unwrap();
    let faults: Vec<_> =
        findings.as_array().unwrap().iter().filter(|finding| finding["ok"] == false).collect();
    let names: Vec<_> = faults.iter().map(|fault| fault["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["queue", "REDIS_URL", "Python"], "{findings}");
    assert!(faults.iter().all(|fault| fault["remedy"].as_str().unwrap().len() > 10), "{findings}");
}

/// What the doctor calls a fault.
async fn faults(deployment: &Deployment, arguments: &[&str]) -> Vec<Value> {
    let asked = run(deployment, &[&["doctor", "--json"], arguments].concat(), "").await;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    let findings: Vec<Value> = serde_json::from_slice(&asked.stdout).unwrap();
    findings.into_iter().filter(|finding| finding["ok"] == false).collect()
}

#[tokio::test]
async fn the_doctor_knows_a_key_that_opens_nothing() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("admin-key");
    std::fs::write(&file, "an-operator-s-key-0123456789-0123456789").unwrap();
    let deployment = Deployment::start_on(data, &["--admin-key-file", file.to_str().unwrap()]);
    let of_webhooks = access::deployment::key(deployment.data.path(), "default", "webhooks");
    for (shown, remedy) in [
        (vec![], "jesse-jobs keys create"),
        (vec!["--key", "jj_made_up"], "jesse-jobs keys create"),
        (vec!["--key", of_webhooks.as_str()], "jobs:read"),
    ] {
        let found = faults(&deployment, &shown).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["what"], "key", "{found:?}");
        assert!(found[0]["remedy"].as_str().unwrap().contains(remedy), "{found:?}");
    }
    // With one that holds the next fault is found: it has no candles.
    let found = faults(&deployment, &["--key", "an-operator-s-key-0123456789-0123456789"]).await;
    assert_eq!(found.iter().map(|one| &one["what"]).collect::<Vec<_>>(), ["candles"], "{found:?}");
}

#[tokio::test]
async fn the_doctor_knows_an_empty_deployment_and_a_redis_that_forgets() {
    // A server without a worker, on a Redis that keeps nothing.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let mut redis = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--maxmemory",
            "4mb",
            "--maxmemory-policy",
            "allkeys-lru",
        ])
        .arg("--unixsocket")
        .arg(&socket)
        .current_dir(&folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("redis+unix://{}", socket.display());
    let port = free_port();
    let mut server = binary()
        .args(["serve", "--redis-url", &url, "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let end = std::time::Instant::now() + crate::harness::LIMIT;
    let found = loop {
        let asked = against(&address, &["doctor", "--redis-url", &url, "--json"]).output().unwrap();
        let findings: Value = serde_json::from_slice(&asked.stdout).unwrap();
        let faults: Vec<_> =
            findings.as_array().unwrap().iter().filter(|finding| finding["ok"] == false).cloned().collect();
        if faults.iter().all(|fault| fault["what"] != "server" && fault["what"] != "Redis") {
            assert_eq!(asked.status.code(), Some(1));
            break faults;
        }
        assert!(std::time::Instant::now() < end, "{findings}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    redis.kill().unwrap();
    redis.wait().unwrap();
    let without_redis = against(&address, &["doctor"]).output().unwrap();
    let told = String::from_utf8_lossy(&without_redis.stdout).into_owned();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(told.contains("FAULT Redis") && told.contains("correct REDIS_URL of the server"), "{told}");
    let names: Vec<_> = found.iter().map(|fault| fault["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["engine", "strategies", "candles", "REDIS_URL", "REDIS_URL"], "{found:?}");
    let text = json!(found).to_string();
    assert!(
        text.contains("noeviction") && text.contains("appendonly") && text.contains("jesse-jobs worker"),
        "{text}"
    );
}

#[test]
fn shells_can_complete_it() {
    for shell in ["bash", "zsh", "fish"] {
        let written = binary().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&written.stdout).contains("jesse-jobs"), "{shell}");
    }
}

/// Like `| head`, only sooner: nobody reads from the begin.
fn unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[tokio::test]
async fn whoever_reads_may_stop_reading() {
    let deployment = Deployment::start(&[]);
    deployment.post("/v1/jobs?wait=60", &json!({"kind": "backtest", "spec": month("Breakout")})).await;
    let data = deployment.data.path().to_str().unwrap().to_owned();
    let series = ["--exchange", EXCHANGE, "--symbol", SYMBOL];
    let local = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).args(["--data", &data]);
        command
    };
    let mut completions = binary();
    completions.args(["completions", "zsh"]);
    let mut commands = vec![
        ("completions", completions),
        ("jobs", against(&deployment.url(""), &["jobs", "--json"])),
        ("cache", local(&["cache", "stats"])),
        ("list", local(&["candles", "list"])),
        ("export", local(&[&["candles", "export"], &series[..]].concat())),
        ("strategies", local(&["strategies", "list"])),
    ];
    for (name, command) in &mut commands {
        let (code, said) = told(&unread(command));
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{name}: {said}");
    }
}

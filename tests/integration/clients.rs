//! The clients that others make: the official ones of Python and TypeScript, FastMCP's, and the inspector.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::harness::{Deployment, LIMIT, month, python};

/// Where they are installed; `scripts/setup tests` does it too. What cannot be installed fails the tests that need it.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output =
            Command::new(root.join("scripts/clients")).env("JESSE_PYTHON", python()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/clients failed: {told}");
        root.join("target/clients")
    })
}

pub fn node() -> PathBuf {
    folder().join("node/bin/node")
}

pub fn node_modules() -> PathBuf {
    folder().join("npm/node_modules")
}

/// Runs a client; answers what it printed.
async fn run(mut command: Command) -> Value {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{told}"))
}

/// How a client reaches the server: by HTTP, and through a twin that it spawns.
pub fn ways(deployment: &Deployment) -> [Vec<String>; 2] {
    let http = ["http", &deployment.url("/mcp")].map(str::to_owned).to_vec();
    let binary = env!("CARGO_BIN_EXE_jesse-jobs");
    let stdio = ["stdio", binary, "mcp", "--url", &deployment.process.url].map(str::to_owned).to_vec();
    [http, stdio]
}

fn did_all(seen: &Value, how: &str) {
    let tools = seen["tools"].as_array().unwrap();
    assert!(tools.contains(&json!("backtest")) && tools.contains(&json!("job_get")), "{how}: {seen}");
    assert!(seen["strategies"].as_u64().unwrap() >= 5, "{how}: {seen}");
    assert!(seen["trades"].as_u64().unwrap() > 0, "{how}: {seen}");
    assert_eq!(
        (&seen["followed"], &seen["cancelled"]),
        (&json!("succeeded"), &json!("cancelled")),
        "{how}: {seen}"
    );
}

fn followed_tasks(seen: &Value, how: &str) {
    let tasks = (&seen["task_is_the_job"], &seen["task_followed"], &seen["task_cancelled"]);
    assert_eq!(tasks, (&json!(true), &json!("succeeded"), &json!("cancelled")), "{how}: {seen}");
}

/// A Python client by both ways, each with balances of its own.
async fn python_client(flavour: &str, balance: u32) {
    let deployment = Deployment::shared();
    for (way, balance) in ways(&deployment).iter().zip([balance, balance + 1_000]) {
        let mut command = Command::new(folder().join(flavour).join("bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py"));
        command.arg(flavour).arg(balance.to_string()).args(way);
        let (seen, how) = (run(command).await, format!("{flavour} {}", way[0]));
        did_all(&seen, &how);
        if flavour == "fastmcp" {
            followed_tasks(&seen, &how);
        }
    }
}

#[tokio::test]
async fn the_python_client_of_mcp_1_does_what_agents_do() {
    python_client("mcp1", 41_000).await;
}

#[tokio::test]
async fn the_python_client_of_mcp_2_does_what_agents_do() {
    python_client("mcp2", 44_000).await;
}

#[tokio::test]
async fn fastmcp_does_what_agents_do_and_follows_tasks() {
    python_client("fastmcp", 47_000).await;
}

/// A script of Node by both ways.
async fn node_client(flavour: &str, balance: u32) {
    let deployment = Deployment::shared();
    for (way, balance) in ways(&deployment).iter().zip([balance, balance + 1_000]) {
        let mut command = Command::new(node());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.mjs");
        // Modules are looked for where a script lies; those of one that is read from the input, where Node was started.
        command.current_dir(node_modules().parent().unwrap()).stdin(std::fs::File::open(script).unwrap());
        command.args(["--input-type=module", "-", flavour, &balance.to_string()]).args(way);
        let (seen, how) = (run(command).await, format!("{flavour} {}", way[0]));
        did_all(&seen, &how);
        if flavour == "client" && way[0] == "http" {
            followed_tasks(&seen, &how);
        }
    }
}

#[tokio::test]
async fn the_typescript_sdk_of_version_1_does_what_agents_do() {
    node_client("sdk", 51_000).await;
}

#[tokio::test]
async fn the_typescript_client_of_version_2_does_what_agents_do_and_follows_tasks() {
    node_client("client", 54_000).await;
}

/// The inspector's command line with these arguments.
fn inspector(way: &[String], arguments: &[&str]) -> std::process::Output {
    let script = node_modules().join("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let mut command = Command::new(node());
    command.arg(script).arg("--cli").args(&way[1..]).args(arguments);
    command.output().unwrap()
}

/// What one of its calls printed, and what it warned of.
pub async fn inspected(way: &[String], arguments: &[&str]) -> (Value, String) {
    let (way, told) = (way.to_vec(), format!("{arguments:?}"));
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        inspector(&way, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8_lossy(&output.stdout);
    (serde_json::from_str(&said).unwrap_or_else(|error| panic!("{told}: {error}: {said}{warned}")), warned)
}

#[tokio::test]
async fn the_inspector_finds_nothing_to_warn_of_and_does_what_agents_do() {
    let deployment = Deployment::shared();
    for (way, balance) in ways(&deployment).iter().zip([57_000, 58_000]) {
        for era in ["legacy", "modern"] {
            if era == "modern" && way[0] == "stdio" {
                continue;
            }
            let (listed, warned) =
                inspected(way, &["--method", "tools/list", "--strict", "--protocol-era", era]).await;
            assert!(listed["tools"].as_array().unwrap().len() > 20, "{listed}");
            assert_eq!(warned, "", "{era} {}", way[0]);
        }
        let balance = format!("balance={balance}");
        let month: Vec<String> = month("SmaCross")
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
            .collect();
        let mut call = vec!["--method", "tools/call", "--tool-name", "backtest", "--tool-arg"];
        call.extend(month.iter().map(String::as_str));
        call.push(&balance);
        let (job, _) = inspected(way, &call).await;
        let job = &job["structuredContent"];
        assert_eq!(job["state"], "succeeded", "{job}");
        let uri = format!("job://{}/trades", job["job_id"].as_str().unwrap());
        let (read, _) = inspected(way, &["--method", "resources/read", "--uri", &uri]).await;
        assert!(read["contents"][0]["text"].as_str().unwrap().contains("total"), "{read}");
    }
}

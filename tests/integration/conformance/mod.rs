//! The official conformance suite of MCP against two instances behind a load balancer.
//!
//! The instances serve the product's own handler and endpoint with the suite's fixtures added, over the real job store:
//! they are made here, from the library, so that no build of the product carries fixtures and none is compiled twice.

mod fixtures;
mod worker;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use jesse::plan::Limits;
use jesse_jobs::{
    api::Api,
    callers::Callers,
    mcp::Handler,
    metrics::Metrics,
    service::{PlannedEngines, Service},
    settings::{CacheScope, EngineChoice},
};
use jobs::{
    Events, Queue, Redis, Retention, blobs::Blobs, documents::Documents, private_redis::PrivateRedis,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    balanced::Balancer,
    clients::{node, node_modules},
    harness::fixtures as fixtures_folder,
};
use fixtures::{ANSWERS, Fixtures};

/// An instance on a free port. Each has connections of its own, and nothing but Redis and the folder in common.
async fn instance(redis: &PrivateRedis, folder: &Path, stop: CancellationToken) -> u16 {
    let store = Redis::open(redis.url(), "conformance", 4).unwrap();
    let queue = Queue::new(store.clone(), Retention::default());
    let blobs = Blobs::in_folder(folder).unwrap();
    let events = Events::follow(queue.clone(), stop.clone());
    let engines = PlannedEngines { choice: EngineChoice::Runner, publisher: None, offers: None };
    let limits = Limits { wall_s: 60, cpu_s: 60, memory_mb: 1000 };
    let service = Service::new(queue.clone(), events, blobs, engines, limits, CacheScope::default(), true);
    let answers = Arc::new(Documents::new(store, ANSWERS));
    let metrics = Arc::new(Metrics::new().unwrap());
    let callers = Callers::new(queue.redis(), None, false, None);
    let product = Handler::new(service.clone(), callers.clone(), metrics.clone());
    let api = Api::new(service, callers, metrics, Duration::from_mins(1), Vec::new(), stop);
    let router = api.router_with(Fixtures { product, queue, answers });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// Runs the suite; answers whether its verdict was as expected, and what it said.
fn suite(url: &str, revision: &str, out: &Path) -> (bool, String) {
    let script = node_modules().join("@modelcontextprotocol/conformance/dist/index.js");
    let mut command = Command::new(node());
    command.arg(script).args(["server", "--url", &format!("{url}/mcp"), "--requirements", revision, "-o"]);
    command.arg(out).arg("--expected-failures").arg(expected(revision));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), format!("{}\n{}", String::from_utf8_lossy(&text), failed_checks(out)))
}

/// The checks that failed, which the suite keeps in files.
fn failed_checks(out: &Path) -> String {
    let folders = std::fs::read_dir(out).into_iter().flatten().filter_map(Result::ok);
    let mut failed = Vec::new();
    for folder in folders {
        let text = std::fs::read_to_string(folder.path().join("checks.json")).unwrap_or_default();
        let checks: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let bad =
            checks.iter().filter(|check| matches!(check["status"].as_str(), Some("FAILURE" | "WARNING")));
        failed.extend(bad.map(|check| {
            format!("FAILED {} {}: {}", folder.file_name().display(), check["id"], check["errorMessage"])
        }));
    }
    failed.join("\n")
}

fn expected(revision: &str) -> PathBuf {
    fixtures_folder().join(format!("conformance-{revision}.yml"))
}

async fn conforms(revision: &'static str) {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
    let stop = CancellationToken::new();
    let ports = [
        instance(&redis, data.path(), stop.clone()).await,
        instance(&redis, data.path(), stop.clone()).await,
    ];
    let balancer = Balancer::start(ports).await;
    let store = Redis::open(redis.url(), "conformance", 4).unwrap();
    let queue = Queue::new(store.clone(), Retention::default());
    let working = tokio::spawn(worker::run(queue, Arc::new(Documents::new(store, ANSWERS))));
    let (url, out) = (balancer.url.clone(), data.path().join("out"));
    let running = tokio::task::spawn_blocking(move || suite(&url, revision, &out));
    let (passed, told) = tokio::time::timeout(Duration::from_mins(5), running).await.unwrap().unwrap();
    assert!(passed, "{told}");
    // The verdict does not count extensions.
    for scenario in required(revision) {
        assert!(told.contains(&format!("✓ {scenario}: ")), "{scenario}: {told}");
    }
    working.abort();
    stop.cancel();
    drop(balancer);
    redis.stop().await;
}

/// What must have been run, and so have passed: the lists of expected failures do not name them.
fn required(revision: &str) -> &'static [&'static str] {
    match revision {
        "2026-07-28" => &[
            "server-stateless",
            "http-header-validation",
            "tasks-lifecycle",
            "tasks-capability-negotiation",
            "tasks-wire-fields",
            "tasks-request-state-removal",
            "tasks-mrtr-input",
            "tasks-request-headers",
            "tasks-dispatch-and-envelope",
            "tasks-required-task-error",
            "tasks-mrtr-composition",
        ],
        _ => &["server-initialize", "tools-list", "resources-read-text", "prompts-get-simple"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_conform_to_2026_07_28() {
    conforms("2026-07-28").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_conform_to_2025_11_25() {
    conforms("2025-11-25").await;
}

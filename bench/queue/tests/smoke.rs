//! Every measurement runs, on a small scale: a change of the queue's API or behaviour must not leave the benchmark behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{process::Stdio, time::Duration};

use jobs::private_redis::PrivateRedis;

async fn measured(arguments: &[&str], url: &str) -> serde_json::Value {
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_queue-bench"))
        .args(arguments)
        .args(["--redis", url])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), run).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn every_measurement_runs_and_answers_with_figures() {
    let folder = tempfile::tempdir().unwrap();
    let server = PrivateRedis::start(folder.path()).await.unwrap();
    let url = server.url();
    for mode in ["seq", "par32", "bulk"] {
        let figures = measured(&["enqueue", "--count", "40", "--mode", mode], url).await;
        assert!(figures["per_second"].as_f64().unwrap() > 0.0, "{figures}");
    }
    // What is queued by now, and nothing else.
    let figures = measured(&["work", "--count", "120", "--concurrency", "8"], url).await;
    assert!(figures["per_second"].as_f64().unwrap() > 0.0, "{figures}");
    let figures = measured(&["pickup", "--count", "3"], url).await;
    assert!(figures["p50"].as_u64().unwrap() > 0, "{figures}");
    let figures = measured(&["raw", "--count", "64"], url).await;
    assert!(figures["pipelined"].as_f64().unwrap() > 0.0, "{figures}");
    let figures = measured(&["finished", "--count", "10"], url).await;
    assert!(figures["per_second"].as_f64().unwrap() > 0.0, "{figures}");
    measured(&["fill", "--count", "10"], url).await;
    let figures = measured(&["scripts", "--count", "10"], url).await;
    for script in ["submit", "get", "claim", "renew", "progress", "finish", "cancel"] {
        assert!(figures["servers"][0][script].as_f64().unwrap() > 0.0, "{figures}");
    }
    server.stop().await;
}

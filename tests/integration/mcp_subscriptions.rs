//! `subscriptions/listen`: a client is told of changes of jobs that it named.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, LIMIT, month, with};

/// A stream of messages.
struct Listening {
    response: reqwest::Response,
    read: String,
}

impl Listening {
    /// Listens for these resources.
    async fn to(deployment: &Deployment, uris: &[&str]) -> Self {
        let params = json!({
            "notifications": {"resourceSubscriptions": uris},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "listener", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        });
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": params});
        let request = deployment.client.post(deployment.url("/mcp")).json(&body);
        let request = request.header("Accept", "application/json, text/event-stream");
        let request = request.header("MCP-Protocol-Version", "2026-07-28");
        let response = request.header("Mcp-Method", "subscriptions/listen").send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, read: String::new() }
    }

    /// The next message; `None` at the stream's end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let (line, rest) = (line.trim().to_owned(), rest.to_owned());
                self.read = rest;
                if let Some(data) = line.strip_prefix("data:").map(str::trim).filter(|data| !data.is_empty())
                {
                    return Some(serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await.unwrap().unwrap()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

async fn submitted(deployment: &Deployment, balance: u32) -> String {
    let spec = with(month("LoopsForever"), &json!({"balance": balance}));
    let (_, job) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": spec})).await;
    job["job_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_listener_is_told_of_the_jobs_that_it_named_until_they_have_ended() {
    let deployment = Deployment::shared();
    let job = submitted(&deployment, 33_001).await;
    let uri = format!("job://{job}");
    let unknown = "job://01981c2e-6f1c-7000-8000-000000000000";
    let mut listening = Listening::to(&deployment, &[&uri, unknown, "strategy://SmaCross"]).await;
    let acknowledged = listening.next().await.unwrap();
    let accepted = &acknowledged["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(accepted, &json!([uri, unknown]), "{acknowledged}");
    deployment.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    let (mut updates, mut last) = (0, Value::Null);
    while let Some(message) = listening.next().await {
        if message["method"] == "notifications/resources/updated" {
            assert_eq!(message["params"]["uri"], json!(uri), "{message}");
            updates += 1;
        }
        last = message;
    }
    assert!(updates >= 1);
    // All have ended, so the subscription has.
    assert_eq!((&last["id"], last["result"].is_object()), (&json!(7), true), "{last}");

    // One that has ended before is told of at once.
    let mut late = Listening::to(&deployment, &[&uri]).await;
    late.next().await.unwrap();
    assert_eq!(late.next().await.unwrap()["params"]["uri"], json!(uri));
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_its_subscriptions() {
    let mut deployment = Deployment::start(&["--grace", "1"]);
    let job = submitted(&deployment, 33_002).await;
    let mut listening = Listening::to(&deployment, &[&format!("job://{job}")]).await;
    assert!(listening.next().await.is_some());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(deployment.process.stop().await);
}

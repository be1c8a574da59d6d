//! Traces through HTTP, MCP and workers to a collector; the log file.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{Deployment, binary};

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector of OTLP over HTTP, and what it was sent.
async fn collector() -> (String, Spans) {
    async fn take(State(spans): State<Spans>, body: Bytes) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
    }
    let spans = Spans::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, spans)
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_client_through_the_call_to_the_worker_and_log_lines_into_the_file() {
    let (endpoint, spans) = collector().await;
    let logs = tempfile::tempdir().unwrap();
    let file = logs.path().join("new/jesse-jobs.log");
    let mut deployment = Deployment::start(&[
        "--otlp-endpoint",
        &endpoint,
        "--log-file",
        file.to_str().unwrap(),
        "--log-format",
        "json",
        "--log-level",
        "info",
    ]);
    let analysis = |first: f64| json!({"returns": [first, 0.01, -0.02, 0.03, 0.01, -0.01, 0.02, 0.005, 0.01, -0.003, 0.02, 0.01], "period": "1D"});
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traced = |path: &str, body: &Value| {
        let request = deployment.client.post(deployment.url(path)).json(body);
        request
            .header("traceparent", format!("00-{trace}-{parent}-01"))
            .header("accept", "application/json, text/event-stream")
    };
    let job = traced("/v1/jobs?wait=60", &json!({"kind": "var_calculation", "spec": analysis(0.011)}));
    let job: Value = job.send().await.unwrap().json().await.unwrap();
    assert_eq!(job["state"], "succeeded", "{job}");
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "var_calculation", "arguments": analysis(0.012)}});
    let answer = traced("/mcp", &call).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("succeeded"), "{answer}");
    // What is not sent yet is sent at the end.
    assert!(deployment.process.stop().await);

    let spans = spans.lock().unwrap().clone();
    let told: Vec<_> =
        spans.iter().map(|span| (&span.name, hex(&span.trace_id), hex(&span.parent_span_id))).collect();
    let named = |name: &str| {
        spans.iter().filter(|span| span.name == name && hex(&span.trace_id) == trace).collect::<Vec<_>>()
    };
    let child_of = |span: &Span, name: &str| span.parent_span_id == named(name)[0].span_id;
    assert_eq!(named("POST /v1/jobs").len(), 1, "{told:?}");
    assert_eq!(hex(&named("POST /v1/jobs")[0].parent_span_id), parent);
    assert_eq!((named("POST /mcp").len(), named("tools/call var_calculation").len()), (1, 1), "{told:?}");
    assert!(child_of(named("tools/call var_calculation")[0], "POST /mcp"), "{told:?}");
    let runs = named("run var_calculation");
    assert_eq!(runs.len(), 2, "{told:?}");
    assert!(runs.iter().any(|run| child_of(run, "POST /v1/jobs")), "{told:?}");
    assert!(runs.iter().any(|run| child_of(run, "tools/call var_calculation")), "{told:?}");
    for run in runs {
        let outcome = run.attributes.iter().find(|attribute| attribute.key == "run.outcome");
        assert!(format!("{outcome:?}").contains("succeeded"), "{run:?}");
    }

    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["fields"]["message"] == "starting"), "{text}");
    assert!(lines.iter().all(|line| line["level"].is_string()), "{text}");
}

#[test]
fn a_log_file_or_collector_that_cannot_be_is_refused_at_the_start() {
    for (flag, value, told) in [
        ("--log-file", "/proc/none/log", "LOG_FILE is /proc/none/log, which cannot be written"),
        ("--otlp-endpoint", "collector:4318", "must be as http://collector:4318"),
        ("--log-level", "loud=1=2", "LOG_LEVEL"),
    ] {
        let output = binary().args(["serve", flag, value]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(told), "{flag}: {error}");
    }
}

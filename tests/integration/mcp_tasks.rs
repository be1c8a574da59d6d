//! The tasks extension of MCP over the job records, through the official Rust client and as bare HTTP.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rmcp::{
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ClientCapabilities,
        ClientConfig, CreateTaskResult, DetailedTask, GetTaskParams, Implementation, ProtocolVersion,
        TaskPayload, TaskStatus, UpdateTaskParams,
    },
    service::{ClientLifecycleMode, ClientServiceExt, RoleClient, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

use crate::{
    harness::{Deployment, LIMIT, month, with},
    mcp::structured,
};

type Follower = RunningService<RoleClient, ClientConfig>;

/// A client of the newest version that follows tasks.
async fn connect(deployment: &Deployment) -> Follower {
    let capabilities = ClientCapabilities::builder().enable_tasks().build();
    let config = ClientConfig::new(capabilities, Implementation::new("follower", "1"));
    let transport = StreamableHttpClientTransport::from_uri(deployment.url("/mcp"));
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    config.serve_with_lifecycle(transport, newest).await.unwrap()
}

async fn call(client: &Follower, tool: &'static str, arguments: &Value) -> CallToolResponse {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

async fn created(client: &Follower, arguments: &Value) -> CreateTaskResult {
    match call(client, "backtest", arguments).await {
        CallToolResponse::Task(task) => task,
        other => panic!("no task: {other:?}"),
    }
}

/// Submits a month of this strategy without waiting, under a new balance for as long as the job happens to end before its
/// first look, as it may on a machine that halts the call. Answers the task and its arguments.
async fn outlived(client: &Follower, strategy: &str, balance: u32) -> (CreateTaskResult, Value) {
    for balance in balance..balance + 20 {
        let arguments = with(month(strategy), &json!({"balance": balance, "wait_seconds": 0}));
        if let CallToolResponse::Task(task) = call(client, "backtest", &arguments).await {
            return (task, arguments);
        }
    }
    panic!("no call ends before its job")
}

/// Polls as the server asks for until the task has ended.
async fn ended(client: &Follower, task_id: &str) -> DetailedTask {
    let end = Instant::now() + LIMIT;
    loop {
        let task = client.peer().get_task(GetTaskParams::new(task_id)).await.unwrap().task;
        if task.status().is_terminal() {
            return task;
        }
        assert!(Instant::now() < end, "it does not end: {task:?}");
        tokio::time::sleep(Duration::from_millis(task.task.poll_interval_ms.unwrap())).await;
    }
}

fn result_of(task: DetailedTask) -> CallToolResult {
    match task.payload {
        TaskPayload::Completed { result } => serde_json::from_value(Value::Object(result)).unwrap(),
        other => panic!("no result: {other:?}"),
    }
}

#[tokio::test]
async fn a_task_is_the_job_and_ends_with_what_the_call_would_have_answered() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let (CreateTaskResult { task, .. }, spec) = outlived(&client, "SmaCross", 31_100).await;
    assert!(task.ttl_ms.unwrap() >= 7 * 24 * 3600 * 1000, "{task:?}");
    assert!((250..=5000).contains(&task.poll_interval_ms.unwrap()), "{task:?}");
    assert!(!task.status_message.as_ref().unwrap().is_empty());

    let (status, job) = deployment.get(&format!("/v1/jobs/{}", task.task_id)).await;
    assert_eq!((status, &job["job_id"]), (200, &json!(task.task_id)));
    let done = ended(&client, &task.task_id).await;
    assert_eq!(done.task.task_id, task.task_id);
    assert_eq!(done.task.created_at, task.created_at);
    let result = result_of(done);
    assert_eq!(result.is_error, Some(false));
    let view = structured(&result);
    assert_eq!((&view["job_id"], &view["state"]), (&json!(task.task_id), &json!("succeeded")));
    assert!(view["summary"]["metrics"]["sharpe_ratio"].is_number(), "{view}");

    // A stored result answers at once, task or not.
    let CallToolResponse::Complete(again) = call(&client, "backtest", &spec).await else {
        panic!("the cache answers a task")
    };
    assert_eq!(structured(&again)["cached"], json!(true));
}

#[tokio::test]
async fn a_task_is_cancelled_and_one_whose_job_fails_completes_with_an_error() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let arguments = with(month("LoopsForever"), &json!({"starting_balance": 31_001}));
    let task = created(&client, &arguments).await.task;
    assert_eq!(task.status, TaskStatus::Working);
    let told = task.status_message.unwrap();
    assert!(told.contains("starting_balance is called balance here"), "{told}");
    // Nothing is ever asked of the client; an answer to nothing is taken for what it is.
    client.peer().update_task(UpdateTaskParams::new(&task.task_id, BTreeMap::default())).await.unwrap();
    client.peer().cancel_task(CancelTaskParams::new(&task.task_id)).await.unwrap();
    let done = ended(&client, &task.task_id).await;
    assert_eq!(done.status(), TaskStatus::Cancelled);
    let (_, job) = deployment.get(&format!("/v1/jobs/{}", task.task_id)).await;
    assert_eq!(job["state"], "cancelled");
    // Again is no mistake.
    client.peer().cancel_task(CancelTaskParams::new(&task.task_id)).await.unwrap();

    let (CreateTaskResult { task, .. }, _) = outlived(&client, "RaisesWhileRunning", 31_200).await;
    let result = result_of(ended(&client, &task.task_id).await);
    assert_eq!(result.is_error, Some(true));
    assert_eq!(structured(&result)["error"]["code"], "strategy_error");
}

/// A request as bare HTTP, with or without the header that names the task; answers status and body.
async fn ask(
    deployment: &Deployment,
    method: &str,
    params: Value,
    name: Option<&str>,
    follows: bool,
) -> (u16, Value) {
    let extensions = if follows { json!({"io.modelcontextprotocol/tasks": {}}) } else { json!({}) };
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "bare", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
    });
    let params = with(params, &json!({"_meta": meta}));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut request = deployment.client.post(deployment.url("/mcp")).json(&body);
    request = request.header("Accept", "application/json, text/event-stream");
    request = request.header("MCP-Protocol-Version", "2026-07-28").header("Mcp-Method", method);
    if let Some(name) = name {
        request = request.header("Mcp-Name", name);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_missing_name_is_filled_in_and_a_wrong_one_refused() {
    let deployment = Deployment::shared();
    let spec = with(month("LoopsForever"), &json!({"balance": 31_003}));
    let (_, job) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": spec})).await;
    let id = job["job_id"].as_str().unwrap();
    let get = async |name, follows| ask(&deployment, "tasks/get", json!({"taskId": id}), name, follows).await;
    let (status, answer) = get(None, true).await;
    assert_eq!((status, &answer["result"]["taskId"]), (200, &json!(id)), "{answer}");
    assert_eq!(get(Some(id), true).await.0, 200);
    let (status, answer) = get(Some("another"), true).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32020)), "{answer}");
    let (status, answer) = get(Some(id), false).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32021)), "{answer}");

    // Unknown ids and texts that are none are told alike.
    for (method, unknown) in [
        ("tasks/get", "01981c2e-6f1c-7000-8000-000000000000"),
        ("tasks/update", "latest"),
        ("tasks/cancel", "../../etc"),
    ] {
        let params = json!({"taskId": unknown, "inputResponses": {}});
        let (_, answer) = ask(&deployment, method, params, None, true).await;
        assert_eq!(answer["error"]["code"], json!(-32602), "{method}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("no such task"), "{answer}");
    }
    // A request without any id at all is the client's mistake, not the server's.
    let (status, answer) = ask(&deployment, "tasks/get", json!({}), None, true).await;
    assert!((400..500).contains(&status) && answer["error"].is_object(), "{status}: {answer}");
    let (status, _) = deployment.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn clients_of_earlier_versions_are_not_promised_tasks() {
    let deployment = Deployment::shared();
    let client = crate::mcp::connect(&deployment).await;
    let promised = serde_json::to_value(&client.peer_info().unwrap().capabilities).unwrap();
    assert!(promised["tools"].is_object() && promised.get("extensions").is_none(), "{promised}");
}

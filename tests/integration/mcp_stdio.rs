//! `jesse-jobs mcp`: MCP on standard input and output.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::harness::{Deployment, LIMIT, SYMBOL, binary, fixtures, generate, month, with};

/// The process, as a client that spawned it sees it.
struct Twin {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Value>,
}

impl Twin {
    fn start(arguments: &[&str]) -> Self {
        let mut command = binary();
        command.arg("mcp").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, output) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Whatever is not JSON on this stream is a mistake that breaks clients.
                let message = serde_json::from_str(&line).unwrap_or_else(|_| json!({"not JSON": line}));
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, output }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ask(&mut self, id: u32, method: &str, params: &Value) {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
    }

    fn call(&mut self, id: u32, tool: &str, arguments: &Value) {
        self.ask(id, "tools/call", &json!({"name": tool, "arguments": arguments}));
    }

    fn next(&self) -> Value {
        self.output.recv_timeout(LIMIT).unwrap()
    }

    /// The answer to a request, whatever comes before it.
    fn answer(&self, id: u32) -> Value {
        loop {
            let message = self.next();
            if message["id"] == json!(id) {
                return message;
            }
            assert!(message.get("not JSON").is_none(), "{message}");
        }
    }

    fn initialize(&mut self) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        self.ask(0, "initialize", &params);
        let answer = self.answer(0);
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        answer
    }

    /// Closes its input; answers whether it ended by itself and said that all went well.
    fn close(mut self) -> bool {
        drop(self.input.take());
        // Its output ends when it does.
        let end = Instant::now() + LIMIT;
        loop {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(_late) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().success(),
                Err(RecvTimeoutError::Timeout) => panic!("it outlives its client"),
            }
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn it_speaks_for_a_server() {
    let deployment = Deployment::shared();
    let mut twin = Twin::start(&["--url", &deployment.process.url]);
    assert_eq!(twin.initialize()["result"]["protocolVersion"], "2025-11-25");
    twin.ask(1, "tools/list", &json!({}));
    assert!(!twin.answer(1)["result"]["tools"].as_array().unwrap().is_empty());

    // What cannot be understood is answered, and does no harm to what follows.
    twin.say("{\"jsonrpc\":");
    let answer = twin.next();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32700)));
    twin.say("[]");
    assert_eq!(twin.next()["error"]["code"], json!(-32600));

    // Calls run side by side, and one that is cancelled leaves its job alone.
    let endless = with(month("LoopsForever"), &json!({"balance": 32_000, "wait_seconds": 50}));
    twin.call(2, "backtest", &endless);
    twin.call(3, "backtest", &with(month("LoopsForever"), &json!({"balance": 32_000, "wait_seconds": 0.2})));
    let handle = twin.answer(3);
    let view = &handle["result"]["structuredContent"];
    assert!(["queued", "running"].contains(&view["state"].as_str().unwrap()), "{handle}");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    twin.say(&cancel.to_string());
    twin.call(4, "job_get", &json!({"job_id": view["job_id"]}));
    let state = twin.answer(4)["result"]["structuredContent"]["state"].clone();
    assert!(["queued", "running"].contains(&state.as_str().unwrap()), "{state}");
    twin.call(5, "job_cancel", &json!({"job_id": view["job_id"]}));
    assert_eq!(twin.answer(5)["result"]["structuredContent"]["state"], "cancelled");
    assert!(twin.close());
}

#[test]
fn it_sends_what_the_newest_version_wants_in_headers() {
    let deployment = Deployment::shared();
    let mut twin = Twin::start(&["--url", &format!("{}/mcp", deployment.process.url)]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    twin.ask(1, "server/discover", &json!({"_meta": meta}));
    let answer = twin.answer(1);
    assert!(answer["result"]["capabilities"]["extensions"].is_object(), "{answer}");
    let spec = with(month("LoopsForever"), &json!({"balance": 32_001}));
    twin.ask(2, "tools/call", &json!({"name": "backtest", "arguments": spec, "_meta": meta}));
    let answer = twin.answer(2);
    let task = answer["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    twin.ask(3, "tasks/cancel", &json!({"taskId": task, "_meta": meta}));
    assert!(twin.answer(3)["result"].is_object());
    twin.ask(4, "tasks/get", &json!({"taskId": task, "_meta": meta}));
    assert_eq!(twin.answer(4)["result"]["status"], "cancelled");
    // A name that no header can carry is the same to the server.
    twin.ask(5, "tools/call", &json!({"name": "bäcktest", "arguments": {}, "_meta": meta}));
    assert_eq!(twin.answer(5)["error"]["code"], json!(-32602));
    assert!(twin.close());
}

#[test]
fn a_server_that_is_not_there_is_an_answer() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let mut twin = Twin::start(&["--url", &url]);
    twin.ask(1, "tools/list", &json!({}));
    let answer = twin.answer(1);
    assert!(answer["error"]["message"].as_str().unwrap().contains("cannot be reached"), "{answer}");
    assert!(twin.close());
}

fn embedded(data: &Path) -> Twin {
    let project = fixtures().join("project");
    Twin::start(&["--data", data.to_str().unwrap(), "--project", project.to_str().unwrap(), "--grace", "1"])
}

#[test]
fn without_a_server_it_is_one_and_ends_with_its_client() {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, 70, 7);
    let mut twin = embedded(data.path());
    assert_eq!(twin.initialize()["result"]["serverInfo"]["name"], "jesse-jobs");
    twin.call(1, "backtest", &with(month("SmaCross"), &json!({"wait_seconds": 50})));
    let answer = twin.answer(1);
    assert_eq!(answer["result"]["structuredContent"]["state"], "succeeded", "{answer}");
    assert!(twin.close());
}

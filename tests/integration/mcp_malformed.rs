//! Requests that are wrong in some way, by the hundred: none is the server's fault, and none spoils the next.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Deployment, month};

const REQUESTS: usize = 500;
/// Any other finds other mistakes.
const SEED: u64 = 20_260_728;

/// The same numbers in every run (splitmix64), so that a failure can be looked into.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A value that is seldom what is wanted.
fn odd(numbers: &mut Numbers) -> Value {
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("../../etc/passwd"),
        json!("01981c2e-6f1c-7000-8000-000000000000"),
        json!("\u{0}\u{202e}\u{1f980}"),
        json!("x".repeat(20_000)),
        json!([]),
        json!([[[[[]]]]]),
        json!({}),
        json!({"__proto__": {"a": 1}, "$ref": "#"}),
    ];
    numbers.of(&values).clone()
}

/// Replaces, adds or removes something somewhere within.
fn spoil(value: &mut Value, numbers: &mut Numbers) {
    let into = numbers.below(3) > 0;
    match value {
        Value::Object(fields) if into && !fields.is_empty() => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = numbers.of(&names).clone();
            match numbers.below(6) {
                0 => drop(fields.remove(&name)),
                1 => drop(fields.insert(format!("{name}_"), odd(numbers))),
                _ => spoil(&mut fields[&name], numbers),
            }
        }
        Value::Array(items) if into && !items.is_empty() => {
            let item = numbers.below(items.len());
            spoil(&mut items[item], numbers);
        }
        other => *other = odd(numbers),
    }
}

fn good(numbers: &mut Numbers, id: usize) -> Value {
    let job = json!({"job_id": "01981c2e-6f1c-7000-8000-000000000000", "wait_seconds": 0});
    let calls = [
        ("backtest", month("NoSuchStrategy")),
        ("optimize", json!({"backtest": month("NoSuchStrategy")})),
        ("monte_carlo", json!({"backtest": month("NoSuchStrategy"), "scenarios": 1_000_000})),
        ("strategy_read", json!({"name": "NoSuchStrategy"})),
        ("strategy_list", json!({})),
        ("job_get", job.clone()),
        ("job_cancel", job),
    ];
    let (tool, arguments) = numbers.of(&calls).clone();
    let task = json!({"taskId": "01981c2e-6f1c-7000-8000-000000000000"});
    let (method, params) = match numbers.below(8) {
        0 => ("tasks/get", task),
        1 => ("tasks/cancel", task),
        2 => ("server/discover", json!({})),
        3 => (
            "initialize",
            json!({"protocolVersion": "2025-11-25", "capabilities": {},
                                   "clientInfo": {"name": "n", "version": "1"}}),
        ),
        _ => ("tools/call", json!({"name": tool, "arguments": arguments})),
    };
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "odd", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities":
            {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        "progressToken": id,
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A request with mistakes in its JSON, its text or its headers.
fn malformed(client: &Client, url: &str, numbers: &mut Numbers, id: usize) -> (RequestBuilder, String) {
    let mut message = good(numbers, id);
    let method = message["method"].as_str().unwrap().to_owned();
    for _ in 0..=numbers.below(3) {
        spoil(&mut message, numbers);
    }
    let mut body = message.to_string().into_bytes();
    match numbers.below(8) {
        0 => body.truncate(numbers.below(body.len() + 1)),
        1 if !body.is_empty() => {
            let place = numbers.below(body.len());
            body[place] = u8::try_from(numbers.below(256)).unwrap();
        }
        2 => body = format!("[{message},{message}]").into_bytes(),
        3 => body = b"[".repeat(10_000),
        _ => {}
    }
    let versions = ["2026-07-28", "2025-11-25", "2025-03-26", "1999-01-01", "latest", ""];
    let accepted = ["application/json, text/event-stream", "application/json", "*/*", "text/html", ""];
    let kinds = ["application/json", "application/json; charset=utf-8", "text/plain", ""];
    // Mostly right, so that the mistakes behind them are met as well.
    let usual = numbers.below(4) > 0;
    let mut pick = |all: &[&'static str]| if usual { all[0] } else { *numbers.of(all) };
    let mut request = client
        .post(url)
        .header("MCP-Protocol-Version", pick(&versions))
        .header("Accept", pick(&accepted))
        .header("Content-Type", pick(&kinds));
    let name = message["params"]["name"].as_str().or(message["params"]["taskId"].as_str());
    if numbers.below(8) > 0 {
        request = request.header("Mcp-Method", &method);
    }
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
    if let Some(name) = name.filter(|_| numbers.below(8) > 0) {
        request = request.header("Mcp-Name", name);
    }
    let shown = String::from_utf8_lossy(&body).chars().take(600).collect();
    (request.body(body), shown)
}

#[tokio::test]
async fn no_malformed_request_is_the_servers_fault_or_spoils_the_next() {
    let deployment = Deployment::shared();
    let url = deployment.url("/mcp");
    let mut numbers = Numbers(SEED);
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for id in 0..REQUESTS {
        let (request, shown) = malformed(&deployment.client, &url, &mut numbers, id);
        let response = request.send().await.unwrap_or_else(|error| panic!("{id}: {shown}: {error:?}"));
        let status = response.status().as_u16();
        *statuses.entry(status).or_default() += 1;
        let body = response.text().await.unwrap();
        assert!(status < 500, "{id}: {shown}\nis answered {status}: {body}");
        assert!(!body.contains("-32603"), "{id}: {shown}\nis told as the server's fault: {body}");
        if id % 25 == 0 {
            let client = crate::mcp::connect(&deployment).await;
            assert!(!client.list_all_tools().await.unwrap().is_empty());
        }
    }
    // The mistakes are met at more than one place: some before and some within the protocol.
    assert!(statuses.contains_key(&200) && statuses.contains_key(&400), "{statuses:?}");
    let client = crate::mcp::connect(&deployment).await;
    let listed = crate::mcp::call(&client, "strategy_list", json!({})).await;
    assert_eq!(listed.is_error, Some(false));
}

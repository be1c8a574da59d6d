//! A deployment with keys, and clients that show them.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Deployment, binary, succeed};

/// All scopes but `admin`.
pub const TENANTS: &str = "jobs:read,jobs:write,strategies:read,strategies:write,webhooks,cache";

/// What `keys` prints.
pub fn keys(data: &Path, arguments: &[&str]) -> Value {
    let mut command = binary();
    command.arg("keys").args(arguments).arg("--data").arg(data);
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

/// A key for a tenant.
pub fn key(data: &Path, tenant: &str, scopes: &str) -> String {
    let made = keys(data, &["create", "--tenant", tenant, "--scopes", scopes]);
    made["key"].as_str().unwrap().to_owned()
}

/// Somebody with a key.
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub key: String,
}

/// An answer: status, headers, and the body if it is JSON.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Client {
    pub fn new(deployment: &Deployment, key: &str) -> Self {
        let (http, url) = (deployment.client.clone(), deployment.process.url.clone());
        Self { http, url, key: key.to_owned() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.json().await.unwrap_or(Value::Null) }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    /// A request over MCP, of the version that its parameters name, or else of one that every client speaks.
    pub async fn mcp(&self, method: &str, params: &Value) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut request = self.http.post(format!("{}/mcp", self.url)).json(&message);
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        let newest = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
        if newest.is_some() {
            request = request.header("mcp-method", method);
        }
        let request = request.header("accept", "application/json, text/event-stream");
        let version = newest.unwrap_or("2025-06-18");
        let response = request.header("mcp-protocol-version", version).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.json().await.unwrap_or(Value::Null) }
    }

    /// Calls a tool; answers what it says.
    pub async fn tool(&self, name: &str, arguments: &Value) -> Value {
        let answer = self.mcp("tools/call", &json!({"name": name, "arguments": arguments})).await;
        answer.body["result"]["structuredContent"].clone()
    }

    /// The names of the tools that are listed.
    pub async fn tools(&self) -> Vec<String> {
        let answer = self.mcp("tools/list", &json!({})).await;
        let tools = answer.body["result"]["tools"].as_array().unwrap_or_else(|| panic!("{}", answer.body));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }
}

//! Nobody sees or changes what belongs to another tenant: every operation of the OpenAPI document, every tool that is listed.

use jesse_jobs::api::{Door, Needs, Route, routes};
use serde_json::{Value, json};

use super::deployment::{Answer, Client, TENANTS, key};
use crate::{
    harness::{Deployment, month},
    webhooks::receiver::Receiver,
};

/// What tenant A has.
struct Belongings {
    job: String,
    batch: String,
    webhook: String,
    delivery: String,
}

/// What A's backtests are tries of.
const CAMPAIGN: &str = "strategy:SmaCross";
/// What A names one of them.
const NAMED: &str = "an idea of A";

impl Belongings {
    async fn of(client: &Client, receiver: &Receiver) -> Self {
        let job = json!({"kind": "backtest", "spec": month("SmaCross")});
        let job = client.post("/v1/jobs?wait=120", &job).await;
        assert_eq!((job.status, &job.body["state"]), (200, &json!("succeeded")), "{}", job.body);
        // It holds out days of the symbol, for A alone.
        let named = json!({"kind": "backtest", "spec": month("SmaCross"), "campaign": NAMED});
        let named = client.post("/v1/jobs", &named).await;
        assert!(named.status < 300, "{}", named.body);
        let batch = client.post("/v1/batches", &json!({"jobs": [month("SmaCross")]})).await;
        assert!(batch.status < 300, "{}", batch.body);
        let webhook = client.post("/v1/webhooks", &json!({"url": receiver.url("/hook")})).await;
        assert_eq!(webhook.status, 201, "{}", webhook.body);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let delivery =
            client.post(&format!("/v1/webhooks/{}/test", text(&webhook.body["id"])), &json!({})).await;
        assert_eq!(delivery.status, 200, "{}", delivery.body);
        Self {
            job: text(&job.body["job_id"]),
            batch: text(&batch.body["job_id"]),
            webhook: text(&webhook.body["id"]),
            delivery: text(&delivery.body["delivery_id"]),
        }
    }

    /// A route's path with what belongs to A, unless it names nothing that belongs to anybody.
    fn path(&self, route: &str) -> Option<String> {
        let collection = route.split('/').nth(2).unwrap_or_default();
        let id = match collection {
            _ if !route.contains('{') => return None,
            "jobs" => self.job.as_str(),
            "batches" => &self.batch,
            "webhooks" => &self.webhook,
            // The same name is another campaign for another tenant.
            "campaigns" => CAMPAIGN,
            // All tenants of a deployment share its strategies, and the console's files. Keys are for admins, who see those of all.
            "strategies" | "assets" | "keys" => return None,
            _ => panic!("{route}: say here whose it is"),
        };
        let path = route.replace("{id}", id).replace("{name}", id).replace("{delivery}", &self.delivery);
        assert!(!path.contains('{'), "{route}: say here what stands for its parameters");
        Some(path)
    }

    /// The arguments of a tool that are about what belongs to A; none for a tool that takes no ids.
    fn arguments(&self, tool: &str) -> Vec<Value> {
        let range = json!({"exchange": "Binance Perpetual Futures", "symbols": ["BTC-USDT"]});
        match tool {
            "job_get" => vec![
                json!({"job_id": self.job}),
                json!({"job_id": self.batch}),
                json!({"job_id": self.job, "detail": true}),
            ],
            "job_chart" | "job_series" => vec![json!({"job_id": self.job})],
            "job_cancel" => vec![json!({"job_id": self.job}), json!({"job_id": self.batch})],
            "risk_report" | "var_calculation" | "stress_test" | "analyze_results" => {
                vec![json!({"job_id": self.job})]
            }
            "monte_carlo" => vec![json!({"job_id": self.job, "method": "returns"})],
            "factor_analysis" => {
                vec![json!({"job_id": self.job, "exchange": range["exchange"], "symbols": range["symbols"]})]
            }
            "webhooks" => ["update", "delete", "secret", "rotate", "test", "deliveries"]
                .map(|action| json!({"action": action, "id": self.webhook}))
                .into_iter()
                .chain([json!({"action": "resend", "id": self.webhook, "failed": true})])
                .collect(),
            "strategy_list" | "strategy_read" | "strategy_validate" | "strategy_write" | "candles_list"
            | "candles_import" | "health" | "backtest" | "backtest_batch" | "optimize" | "walk_forward"
            | "significance_test" | "regime_detector" | "correlation_matrix" | "pairs_backtest"
            | "job_list" | "cache_invalidate" => Vec::new(),
            other => panic!("{other}: say here how it names what belongs to somebody"),
        }
    }
}

/// A body that the route takes, so that it looks for what the path names.
fn body(method: &str, path: &str) -> Option<Value> {
    match (method, path.rsplit('/').next()) {
        ("PATCH", _) => Some(json!({"description": "another's"})),
        (_, Some("resend")) => Some(json!({"failed": true})),
        _ => None,
    }
}

#[tokio::test]
async fn what_belongs_to_one_tenant_does_not_exist_for_another() {
    let deployment = Deployment::start(&["--allow-strategy-write", "--webhook-allow", "127.0.0.1"]);
    let client = |tenant: &str| Client::new(&deployment, &key(deployment.data.path(), tenant, TENANTS));
    let (a, b) = (client("a"), client("b"));
    wait_until_closed(&Client::new(&deployment, "")).await;
    let belongings = Belongings::of(&a, &Receiver::healthy().await).await;

    let mut tried = 0;
    for Operation { method, route, .. } in operations(&a).await {
        let Some(path) = belongings.path(&route) else { continue };
        let method = method.as_str();
        let body = body(method, &path);
        let answer = b.call(method, &path, body.as_ref()).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
        tried += 1;
        // It is there for A, as far as looking goes: what changes it comes last.
        if method == "GET" {
            let answer = a.call(method, &path, None).await;
            assert_ne!(answer.status, 404, "{method} {path}: {}", answer.body);
        }
    }
    assert!(tried >= 20, "{tried}");

    let mut refused = 0;
    for tool in b.tools().await {
        for arguments in belongings.arguments(&tool) {
            let error = b.tool(&tool, &arguments).await["error"]["code"].clone();
            let expected = if tool == "webhooks" { "webhook_not_found" } else { "job_not_found" };
            assert_eq!(error, expected, "{tool} {arguments}");
            refused += 1;
        }
    }
    assert!(refused >= 15, "{refused}");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    let task = json!({"taskId": belongings.job, "_meta": meta});
    for (method, params) in [
        ("resources/read", json!({"uri": format!("job://{}", belongings.job)})),
        ("resources/read", json!({"uri": format!("job://{}/trades", belongings.job)})),
        ("resources/read", json!({"uri": format!("job://{}/chart.png", belongings.job)})),
        ("resources/read", json!({"uri": format!("batch://{}", belongings.batch)})),
        ("resources/read", json!({"uri": format!("campaign://{CAMPAIGN}")})),
        ("tasks/get", task.clone()),
        ("tasks/cancel", task),
    ] {
        let answer = b.mcp(method, &params).await;
        let told = answer.body["error"]["message"].as_str().unwrap_or_default();
        let says_so = ["no job", "no such task", "no campaign"].into_iter().any(|words| told.contains(words));
        assert!(says_so, "{method}: {}", answer.body);
        assert!(
            answer.body["result"].is_null() && !answer.body["error"].is_null(),
            "{method}: {}",
            answer.body
        );
    }
    nothing_is_listed_for(&b, &belongings).await;
    let open =
        json!({"exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT", "open_until": "2023-04-20"});
    let opened = b.post("/v1/holdouts", &open).await;
    assert_eq!((opened.status, opened.code()), (404, "not_found"), "{}", opened.body);
    let held_out = a.get("/v1/holdouts").await.body;
    assert_eq!(held_out["holdouts"][0]["from"], "2023-04-07", "{held_out}");

    // All of it is as it was, and A has it.
    let job = a.get(&format!("/v1/jobs/{}", belongings.job)).await;
    assert_eq!(job.body["state"], "succeeded");
    let webhook = a.get(&format!("/v1/webhooks/{}", belongings.webhook)).await;
    assert_eq!((webhook.status, &webhook.body["enabled"]), (200, &json!(true)), "{}", webhook.body);
    assert_ne!(webhook.body["description"], "another's");
    for (tool, expected) in [("job_get", "succeeded"), ("job_cancel", "succeeded")] {
        let answer = a.tool(tool, &json!({"job_id": belongings.job})).await;
        assert_eq!(answer["state"], expected, "{tool}");
    }
}

async fn nothing_is_listed_for(client: &Client, belongings: &Belongings) {
    for path in ["/v1/jobs", "/v1/webhooks", "/v1/campaigns", "/v1/holdouts"] {
        let answer = client.get(path).await;
        let text = answer.body.to_string();
        assert_eq!(answer.status, 200);
        for name in [&belongings.job, &belongings.webhook, CAMPAIGN, NAMED] {
            assert!(!text.contains(name), "{text}");
        }
    }
    let completed = json!({"ref": {"type": "ref/resource", "uri": "job://{id}"}, "argument": {"name": "id", "value": ""}});
    let completed = client.mcp("completion/complete", &completed).await;
    assert_eq!(completed.body["result"]["completion"]["values"], json!([]), "{}", completed.body);
    let listed = client.tool("job_list", &json!({})).await;
    assert!(!listed.to_string().contains(&belongings.job), "{listed}");
    // The results that tenants share are not theirs to remove.
    let shared = client.post("/v1/cache/invalidate", &json!({"all": true})).await;
    assert_eq!((shared.status, shared.code()), (403, "missing_scope"));
    let shared = client.tool("cache_invalidate", &json!({"strategy": "SmaCross"})).await;
    assert_eq!(shared["error"]["code"], "missing_scope");
}

/// What the served document says of an operation.
struct Operation {
    method: String,
    route: String,
    /// The scopes of which a key must have all; nothing if no key is asked for.
    scopes: Option<Vec<String>>,
    /// Whether it can be called without a key too.
    is_open: bool,
    /// A page of the console, which the document does not tell of: it says in words what is wrong.
    is_page: bool,
}

impl Operation {
    fn page(route: &Route) -> Self {
        Self {
            method: route.method.to_string(),
            route: route.path.to_owned(),
            scopes: match route.needs {
                Needs::Nothing => None,
                Needs::Key => Some(Vec::new()),
                Needs::Scope(scope) => Some(vec![scope.name().to_owned()]),
                Needs::LocalOrAdmin => Some(vec![access::Scope::Admin.name().to_owned()]),
            },
            is_open: matches!(route.needs, Needs::Nothing | Needs::LocalOrAdmin),
            is_page: true,
        }
    }
}

async fn operations(client: &Client) -> Vec<Operation> {
    let document = client.get("/openapi.json").await.body;
    let mut all = Vec::new();
    for (route, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let needs = operation["security"].as_array().unwrap();
            let scopes = needs.iter().find_map(|need| need["key"].as_array());
            let text = |scope: &Value| scope.as_str().unwrap().to_owned();
            all.push(Operation {
                method: method.to_uppercase(),
                route: route.clone(),
                scopes: scopes.map(|scopes| scopes.iter().map(text).collect()),
                is_open: needs.is_empty() || needs.contains(&json!({})),
                is_page: false,
            });
        }
    }
    assert!(all.len() >= 45, "{}", all.len());
    let pages = routes();
    all.extend(pages.iter().filter(|route| route.door == Door::Page).map(Operation::page));
    all
}

/// Calls every route, whatever comes of it.
async fn everywhere(client: &Client, check: impl Fn(&Operation, &Answer, &str)) {
    for operation in operations(client).await {
        let id = "01981c2e-6f1c-7000-8000-000000000000";
        let path = operation.route.replace("{id}", id).replace("{delivery}", id).replace("{name}", "Nobodys");
        let answer = client.call(&operation.method, &path, None).await;
        check(&operation, &answer, &format!("{} {path}", operation.method));
    }
}

#[tokio::test]
async fn every_route_asks_for_a_key_and_for_its_scope() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    // Before the first key it serves whoever is on this machine.
    assert_eq!(Client::new(&deployment, "").get("/v1/jobs").await.status, 200);
    let little = Client::new(&deployment, &key(data, "little", "webhooks"));
    let forged = key(data, "little", "webhooks").replace("jj_", "jj_0")[..53].to_owned();
    let unknown = "jj_ 0";
    wait_until_closed(&Client::new(&deployment, "")).await;
    for (shown, code) in [("", "unauthenticated"), (forged.as_str(), "invalid_key"), (unknown, "invalid_key")]
    {
        let client = Client::new(&deployment, shown);
        everywhere(&client, |operation, answer, call| {
            // Where a key makes a difference but is not needed, one that is no good is refused, but for /health.
            let open = operation.is_open && (shown.is_empty() || operation.route != "/metrics");
            assert_eq!(answer.status == 401, !open, "{call}: {}", answer.body);
            // A page says it in words, and with a form to log in.
            assert!(open || operation.is_page || answer.code() == code, "{call}: {}", answer.body);
            assert!(open || answer.header("www-authenticate").starts_with("Bearer realm="), "{call}");
        })
        .await;
        assert_eq!(client.mcp("tools/list", &json!({})).await.status, 401);
        // Whether it works is everybody's business, and no more.
        let health = client.get("/health").await;
        assert_eq!((health.status, &health.body["queue"]), (200, &Value::Null), "{}", health.body);
    }
    everywhere(&little, |operation, answer, call| {
        let lacks = operation.scopes.iter().flatten().find(|scope| *scope != "webhooks");
        assert_eq!(answer.status == 403, lacks.is_some(), "{call}: {}", answer.body);
        if let Some(scope) = lacks {
            if !operation.is_page {
                assert_eq!(answer.code(), "missing_scope", "{call}");
                assert!(answer.body["detail"].as_str().unwrap().contains(scope.as_str()), "{}", answer.body);
            }
            let scope = format!("scope=\"{scope}\"");
            assert!(answer.header("www-authenticate").contains(&scope), "{call}");
        }
    })
    .await;
    assert_eq!(little.tools().await, ["candles_list", "webhooks", "health"]);
    let error = little.tool("backtest", &month("SmaCross")).await["error"].clone();
    assert_eq!(error["code"], "missing_scope", "{error}");
    assert!(error["message"].as_str().unwrap().contains("jobs:write"), "{error}");
    assert!(!little.get("/health").await.body["queue"].is_null());
}

/// A server that had no keys looks for the first one every few seconds.
async fn wait_until_closed(client: &Client) {
    let end = std::time::Instant::now() + crate::harness::LIMIT;
    while client.get("/v1/jobs").await.status != 401 {
        assert!(std::time::Instant::now() < end, "it goes on to serve without a key");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

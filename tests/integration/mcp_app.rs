//! The MCP App: what hosts find of it, and that it draws in a real browser, with the host's side of the protocol played by a
//! page of ours (`tests/clients/host.html`).

use axum::{Json, Router, extract::State, response::Html, routing};
use rmcp::model::{ReadResourceRequestParams, ResourceContents};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, LIGHT, Look},
    clients::{inspected, ways},
    harness::{Deployment, EXCHANGE, SEED, SYMBOL, generate, month, with},
    mcp::{call, connect, structured},
};

/// Days of candles: the view asks for 500 points, one a day.
const LONG: u32 = 620;

#[tokio::test]
async fn hosts_find_the_view_and_models_do_not_see_what_is_for_it_alone() {
    let deployment = Deployment::shared();
    for way in ways(&deployment) {
        for tool in ["backtest", "job_chart"] {
            let arguments = ["--method", "tools/call", "--tool-name", tool, "--app-info"];
            let (info, warned) = inspected(&way, &arguments).await;
            assert_eq!(
                (&info["hasApp"], &info["resourceError"]),
                (&json!(true), &Value::Null),
                "{info}{warned}"
            );
            assert_eq!(info["resourceUri"], "ui://equity", "{info}");
        }
    }
    // Who says that it shows no apps gets none of their tools.
    let names = async |capabilities: Value| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        let request = deployment.client.post(deployment.url("/mcp")).body(list.to_string());
        let request = request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/list");
        let text = request.send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        let hidden = tools.iter().find(|tool| tool["name"] == "job_series");
        hidden.map(|tool| tool["_meta"]["ui"]["visibility"].clone())
    };
    assert_eq!(names(json!({})).await, None);
    let apps =
        json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}});
    assert_eq!(names(apps).await, Some(json!(["app"])));
}

#[tokio::test]
async fn series_are_parts_of_the_curve_and_say_what_is_wrong() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let spec = with(month("SmaCross"), &json!({"balance": 34_000, "benchmark": true, "wait_seconds": 50}));
    let job = call(&client, "backtest", spec).await;
    let id = structured(&job)["job_id"].clone();
    let all = call(&client, "job_series", json!({"job_id": id})).await;
    let all = structured(&all).clone();
    assert_eq!((&all["title"], &all["unit"]), (&json!("SmaCross BTC-USDT 1h"), &json!("USDT")), "{all}");
    let points = |series: &Value, place: usize| series["series"][place]["points"].as_array().unwrap().clone();
    let equity = points(&all, 0);
    assert!(equity.len() > 20 && equity[0][1] == 34_000.0, "{all}");
    assert_eq!(all["series"][1]["benchmark"], true);
    let (from, to) = (equity[5][0].clone(), equity[9][0].clone());
    let part = call(&client, "job_series", json!({"job_id": id, "from": from, "to": to})).await;
    assert_eq!(points(structured(&part), 0), equity[5..10]);
    let few = call(&client, "job_series", json!({"job_id": id, "max_points": 4})).await;
    assert!(points(structured(&few), 0).len() <= 4);

    let failed =
        call(&client, "backtest", with(month("RaisesWhileRunning"), &json!({"wait_seconds": 50}))).await;
    for (tool, arguments, words) in [
        ("job_series", json!({"job_id": id, "max_points": 3}), "4 to 5000"),
        ("job_series", json!({"job_id": id, "from": 2, "to": 1}), "must not be after"),
        ("job_series", json!({"job_id": "x"}), "UUID"),
        ("job_series", json!({"job_id": structured(&failed)["job_id"]}), "only a succeeded one"),
        ("job_chart", json!({"job_id": structured(&failed)["job_id"]}), "only a succeeded one"),
        ("job_chart", json!({"job_id": id, "kind": "pie"}), "monthly"),
        ("job_chart", json!({}), "job_id"),
    ] {
        let result = call(&client, tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}");
        let message = structured(&result)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{tool}: {message}");
    }
}

#[tokio::test]
async fn a_chart_is_a_picture_that_a_model_can_look_at() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let job = call(&client, "backtest", with(month("SmaCross"), &json!({"wait_seconds": 50}))).await;
    let id = structured(&job)["job_id"].as_str().unwrap().to_owned();
    for arguments in [json!({"job_id": id}), json!({"job_id": id, "kind": "monthly"})] {
        let answer = call(&client, "job_chart", arguments.clone()).await;
        assert_eq!((answer.is_error, &answer.structured_content), (Some(false), &None), "{arguments}");
        let image = answer.content[0].as_image().unwrap();
        assert!(image.mime_type == "image/png" && image.data.starts_with("iVBORw0KGgo"), "{arguments}");
        assert!(image.data.len() < 100_000, "{} bytes", image.data.len());
        let words = &answer.content[1].as_text().unwrap().text;
        assert!(words.contains("SmaCross BTC-USDT 1h") && words.contains(&id), "{words}");
    }
    // The same as resource and over HTTP.
    let uri = format!("job://{id}/chart.png?kind=monthly&theme=dark");
    let read = client.read_resource(ReadResourceRequestParams::new(&uri)).await.unwrap();
    let ResourceContents::BlobResourceContents { blob, mime_type, .. } = &read.contents[0] else {
        panic!("{uri}")
    };
    assert!(mime_type.as_deref() == Some("image/png") && blob.starts_with("iVBORw0KGgo"), "{mime_type:?}");
    let at = |query: &str| deployment.client.get(deployment.url(&format!("/v1/jobs/{id}/chart.{query}")));
    for (query, mime, begin) in [
        ("png", "image/png", &b"\x89PNG"[..]),
        ("png?theme=dark&kind=monthly", "image/png", b"\x89PNG"),
        ("svg?theme=dark", "image/svg+xml", b"<svg"),
        ("svg?kind=monthly", "image/svg+xml", b"<svg"),
    ] {
        let answer = at(query).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &mime.parse().unwrap()),
            "{query}"
        );
        let tag = answer.headers()["etag"].clone();
        assert!(answer.bytes().await.unwrap().starts_with(begin), "{query}");
        let again = at(query).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{query}");
        // Each picture is another.
        let other = at("svg").header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(other.status(), 200, "{query}");
    }
    for (query, words) in [("png?theme=blue", "dark"), ("svg?kind=pie", "monthly"), ("svg?size=1", "size")] {
        let answer = at(query).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        let told = answer.text().await.unwrap();
        assert!(told.contains(words), "{query}: {told}");
    }
}

/// What the page asks the test for.
#[derive(Clone)]
struct Host {
    mcp: String,
    client: reqwest::Client,
    view: String,
    /// The call whose answer is shown, and the answer.
    shown: Value,
}

/// Answers a call as the server does.
async fn passed_on(State(host): State<Host>, params: String) -> Json<Value> {
    let params: Value = serde_json::from_str(&params).unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let request = host.client.post(&host.mcp).body(call.to_string());
    let request = request
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    let answer: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let (result, error) = (answer["result"].clone(), answer["error"].clone());
    Json(if error.is_null() { json!({"result": result}) } else { json!({"error": error}) })
}

async fn serve(host: Host) -> String {
    let routes = Router::new()
        .route("/", routing::get(|| async { Html(include_str!("../clients/host.html")) }))
        .route("/view", routing::get(|State(host): State<Host>| async move { host.view }))
        .route("/shown", routing::get(|State(host): State<Host>| async move { Json(host.shown) }))
        .route("/call", routing::post(passed_on))
        .with_state(host);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test]
async fn the_view_draws_what_a_backtest_found_and_gets_finer_points_where_one_looks() {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, LONG, SEED);
    let deployment = Deployment::start_on(data, &[]);
    let client = connect(&deployment).await;
    let input = json!({"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h",
        "start_date": "2023-01-15", "finish_date": "2024-09-01", "benchmark": true, "wait_seconds": 0});
    // A handle: the view follows the job to its end by itself.
    let answer = call(&client, "backtest", input.clone()).await;
    let id = structured(&answer)["job_id"].as_str().unwrap().to_owned();
    let read = client.read_resource(ReadResourceRequestParams::new("ui://equity")).await.unwrap();
    let content = serde_json::to_value(&read.contents[0]).unwrap();
    assert_eq!(content["mimeType"], "text/html;profile=mcp-app", "{content}");
    assert_eq!(content["_meta"]["ui"]["csp"]["connectDomains"], json!([]), "{content}");
    let view = content["text"].as_str().unwrap().to_owned();
    assert!(view.len() < 60_000, "{} bytes", view.len());
    let shown = json!({"input": input, "result": serde_json::to_value(&answer).unwrap()});
    let mcp = deployment.url("/mcp");
    let url = serve(Host { mcp, client: deployment.client.clone(), view, shown }).await;

    let browser = Browser::start(Look { width: 900, ..LIGHT }).await;
    browser.open(&url).await;
    browser.frame(Some(0)).await;
    let points = "const line = document.querySelector('.chart-line'); return line && line.getAttribute('d').split(/[ML]/).length - 1;";
    let drawn = browser.until(points).await;
    browser.frame(None).await;
    let asked = "return heard.filter(({method, params}) => method === 'tools/call' && params.name === 'job_series').map(({params}) => params.arguments);";
    let calls = browser.run(asked).await;
    assert_eq!(calls, json!([{"job_id": id, "max_points": 500}]), "{calls}");
    let all = call(&client, "job_series", json!({"job_id": id})).await;
    let sent = structured(&all)["series"][0]["points"].as_array().unwrap().len();
    // Two of each stretch of time, but for stretches that have one alone.
    assert!((400..=500).contains(&sent) && drawn.as_u64().unwrap() >= 400, "{sent} {drawn}");
    let order = browser
        .run("return heard.map(({method}) => method).filter((method) => method?.startsWith('ui/'));")
        .await;
    assert_eq!(order[0], "ui/initialize");
    assert_eq!(order[1], "ui/notifications/initialized");
    assert!(order.as_array().unwrap().contains(&json!("ui/notifications/size-changed")), "{order}");
    browser.until("return document.getElementById('view').clientHeight > 300;").await;
    assert!(browser.shot("app light").await.starts_with(b"\x89PNG"));

    browser.frame(Some(0)).await;
    let told = browser.run("return document.body.innerText;").await;
    let told = told.as_str().unwrap();
    for words in ["SmaCross BTC-USDT 1h", "Net profit", "Sharpe ratio", "Max drawdown", "Trades"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let closer = "for (let i = 0; i < 3; i++) document.querySelector('.chart-plot').dispatchEvent(new KeyboardEvent('keydown', {key: '+', bubbles: true}));";
    browser.run(closer).await;
    browser.frame(None).await;
    let finer = browser.until(&format!("{} ", asked.replace(".map(", ".slice(1).map("))).await;
    assert!(finer[0]["from"].is_number() && finer[0]["to"].as_f64() > finer[0]["from"].as_f64(), "{finer}");
    let heard = browser
        .until(
            "return heard.find(({method}) => method === 'ui/update-model-context')?.params.content[0].text;",
        )
        .await;
    assert!(heard.as_str().unwrap().contains(&format!("equity of job {id} from 20")), "{heard}");
    browser.shot("app zoomed").await;

    browser.open(&format!("{url}?theme=dark")).await;
    browser.frame(Some(0)).await;
    browser.until(points).await;
    let surface = browser.run("return getComputedStyle(document.body).backgroundColor;").await;
    assert_eq!(surface, "rgb(20, 23, 27)");
    let wrong = browser.run("return document.querySelector('#status').className;").await;
    assert_eq!(wrong, "");
    browser.frame(None).await;
    browser.shot("app dark").await;
}

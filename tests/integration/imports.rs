//! Imports from an exchange as jobs: over HTTP and MCP, with the real driver, against the exchange of [`crate::exchange`].
use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    access::deployment::{Client, key},
    exchange::{DAY, EXCHANGE, Exchange, JANUARY_30, MINUTE},
    harness::{Deployment, with},
    mcp::{call, call_checked, connect, structured},
};

fn import(start: &str, finish: &str) -> Value {
    json!({"exchange": EXCHANGE, "symbol": "BTC-USDT", "start_date": start, "finish_date": finish})
}

fn job(spec: &Value) -> Value {
    json!({"kind": "candles_import", "spec": spec, "max_attempts": 1})
}

/// A backtest that needs candles from the evening of January 29.
fn backtest() -> Value {
    json!({
        "strategy": "Breakout", "exchange": EXCHANGE, "symbol": "BTC-USDT", "timeframe": "15m", "warm_up_candles": 20,
        "start_date": "2024-01-30", "finish_date": "2024-02-02",
    })
}

/// How many processes ask an exchange for this deployment.
fn asking(deployment: &Deployment) -> usize {
    let of_ours = |process: &Path| {
        let has = |file: &str, text: &str| {
            std::fs::read(process.join(file)).is_ok_and(|all| String::from_utf8_lossy(&all).contains(text))
        };
        has("cmdline", "runner.exchange") && has("environ", deployment.data.path().to_str().unwrap())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| of_ours(&entry.path())).count()
}

fn deployment(exchange: &Exchange, arguments: &[&str]) -> Deployment {
    let all = ["--workers", "2", "--exchange-url", &exchange.url, "--exchange-attempts", "2"];
    Deployment::start(&[&all[..], arguments].concat())
}

/// From noon of December 31, with half an hour missing.
fn market() -> Exchange {
    let gap = JANUARY_30 + DAY + 600 * MINUTE..JANUARY_30 + DAY + 630 * MINUTE;
    Exchange::start(&[JANUARY_30 - 30 * DAY + DAY / 2..gap.start, gap.end..JANUARY_30 + 5 * DAY])
}

#[tokio::test]
async fn an_agent_imports_what_its_backtest_lacks_and_runs_it() {
    let exchange = market();
    let deployment = deployment(&exchange, &[]);
    let client = connect(&deployment).await;

    let error = structured(&call(&client, "backtest", backtest()).await)["error"].clone();
    assert_eq!(error["code"], "candles_missing", "{error}");
    assert!(error["message"].as_str().unwrap().contains("candles_import {"), "{error}");
    let wanted = error["detail"]["import"].clone();
    assert_eq!(wanted, import("2024-01-29", "2024-02-02"));

    let mut asked = with(wanted.clone(), &json!({"wait_seconds": 50}));
    let imported = call_checked(&client, "candles_import", asked.clone()).await;
    let view = structured(&imported);
    assert_eq!((&view["kind"], &view["state"]), (&json!("candles_import"), &json!("succeeded")), "{view}");
    let found = &view["summary"];
    assert_eq!((&found["imported"], &found["months_written"]), (&json!(4 * 1440 - 30), &json!(2)), "{found}");
    assert_eq!(found["series"]["from"], "2024-01-29T00:00:00Z");
    assert_eq!(
        (&found["series"]["to"], &found["series"]["gaps"]),
        (&json!("2024-02-02T00:00:00Z"), &json!(1))
    );
    let gap = json!({"from": "2024-01-31T10:00:00Z", "to": "2024-01-31T10:30:00Z", "minutes": 30});
    assert_eq!(found["missing"], json!([gap]));
    let version = found["version"].as_str().unwrap().to_owned();
    assert_eq!(version.len(), 64);

    // The gap is the exchange's; nothing that is stored is asked for again, and nothing has changed.
    exchange.market().asked.clear();
    let again = call_checked(&client, "candles_import", asked.clone()).await;
    let again = structured(&again);
    assert_eq!((&again["state"], &again["cached"]), (&json!("succeeded"), &json!(false)), "{again}");
    assert_eq!((&again["summary"]["imported"], &again["summary"]["version"]), (&json!(0), &json!(version)));
    assert_eq!(exchange.market().asked, [0; 0]);

    let ran =
        call_checked(&client, "backtest", with(backtest(), &json!({"allow_gaps": true, "wait_seconds": 50})))
            .await;
    assert_eq!(structured(&ran)["state"], "succeeded", "{:?}", structured(&ran));

    // More of it, of which the range already stored is no part.
    let longer = with(backtest(), &json!({"allow_gaps": true, "finish_date": "2024-02-03"}));
    let error = structured(&call(&client, "backtest", longer).await)["error"].clone();
    asked["finish_date"] = "2024-02-03".into();
    assert_eq!(error["detail"]["import"], with(wanted, &json!({"finish_date": "2024-02-03"})), "{error}");
    let more = call_checked(&client, "candles_import", asked).await;
    let more = &structured(&more)["summary"];
    assert_eq!(more["imported"], 1440, "{more}");
    assert_ne!(more["version"], json!(version));
}

#[tokio::test]
async fn imports_of_one_series_take_turns_and_can_be_cancelled() {
    let exchange = market();
    let deployment = deployment(&exchange, &[]);
    exchange.market().held_from = Some(JANUARY_30 + DAY);
    let submit = async |spec: Value| {
        deployment.post("/v1/jobs", &job(&spec)).await.1["job_id"].as_str().unwrap().to_owned()
    };

    let first = submit(import("2024-01-29", "2024-02-01")).await;
    let view = deployment.until(&first, |view| view["progress"]["fraction"].as_f64() > Some(0.2)).await;
    assert_eq!(view["progress"]["message"], "candles of 2024-01", "{view}");
    assert!(view["progress"]["eta_s"].as_f64() > Some(0.0), "{view}");
    // The same import is that job; another of the series waits for it.
    assert_eq!(submit(import("2024-01-29", "2024-02-01")).await, first);
    let second = submit(import("2024-01-30", "2024-02-02")).await;
    let waits = |view: &Value| {
        view["state"] == "scheduled"
            && view["progress"]["message"] == "waits for another import of this series"
    };
    deployment.until(&second, waits).await;
    // It keeps none of the two slots from others: a third that has to wait is looked at as well.
    let third = submit(import("2024-01-28", "2024-02-02")).await;
    deployment.until(&third, waits).await;
    deployment.post(&format!("/v1/jobs/{third}/cancel"), &json!({})).await;

    let (status, cancelled) = deployment.post(&format!("/v1/jobs/{first}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")), "{cancelled}");
    // Its process is gone, and the other's turn comes. What came of an unfinished month was not stored.
    deployment.until(&second, |view| view["progress"]["fraction"].as_f64() > Some(0.2)).await;
    assert_eq!(asking(&deployment), 1);
    exchange.market().asked.clear();
    exchange.market().held_from = None;
    let done = deployment.until(&second, |view| view["state"] == "succeeded").await;
    assert_eq!(done["summary"]["imported"], 3 * 1440 - 30, "{done}");

    // Two at once that overlap: no minute is asked for twice.
    exchange.market().asked.clear();
    let (a, b) =
        (submit(import("2024-01-25", "2024-02-03")).await, submit(import("2024-01-20", "2024-02-04")).await);
    for id in [a, b] {
        deployment.until(&id, |view| view["state"] == "succeeded").await;
    }
    let asked = exchange.market().asked.clone();
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{asked:?}");
    let (_, candles) = deployment.get("/v1/candles").await;
    let series = candles["candles"].as_array().unwrap().iter().find(|series| series["exchange"] == EXCHANGE);
    assert_eq!(series.unwrap()["rows"], 15 * 1440 - 30, "{candles}");
}

#[tokio::test]
async fn an_import_that_cannot_be_says_why() {
    let exchange = market();
    let deployment = deployment(&exchange, &[]);
    let day = import("2024-01-30", "2024-01-31");
    // What can be told at once.
    for (change, part) in [
        (json!({"exchange": "Binanse Spot"}), "did you mean \"Binance Spot\"?"),
        (json!({"symbol": "btc"}), "as in BTC-USDT"),
        (json!({"start_date": "yesterday"}), "start_date: \"yesterday\" is not a date"),
        (json!({"finish_date": "2024-01-30"}), "finish_date: 2024-01-30 must be after start_date"),
        (json!({"start_date": "2999-01-01", "finish_date": null}), "start_date: 2999-01-01 is in the future"),
        (json!({"start_date": "2001-01-01", "finish_date": null}), "at most 3660 days"),
        (json!({"full": true}), "unknown field `full`"),
        (json!({"exchange": crate::harness::EXCHANGE}), "holds synthetic candles"),
    ] {
        let (status, problem) = deployment.post("/v1/jobs", &job(&with(day.clone(), &change))).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{change}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{change}: {problem}");
    }
    assert_eq!(exchange.market().asked, [0; 0]);

    // What only Jesse or the exchange knows.
    let failed = async |change: Value| {
        let submitted = deployment.post("/v1/jobs?wait=120", &job(&with(day.clone(), &change))).await.1;
        assert!(["failed", "dead"].contains(&submitted["state"].as_str().unwrap()), "{submitted}");
        submitted["error"].clone()
    };
    let error = failed(json!({"exchange": "Custom Data"})).await;
    assert_eq!(error["code"], "invalid_spec", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("Jesse has no driver for 'Custom Data'; it has: "),
        "{error}"
    );
    let error = failed(json!({"symbol": "NONE-USDT"})).await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("exchange_error"), &json!(false)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("Binance Spot refuses NONE-USDT: "), "{error}");
    let error = failed(json!({"start_date": "2024-03-01", "finish_date": "2024-03-02"})).await;
    assert_eq!(error["code"], "candles_missing", "{error}");
    exchange.market().moods = [(429, "Retry-After: 0\r\n"); 2].into();
    let error = failed(json!({})).await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("exchange_error"), &json!(true)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("is asked too often; try again later"), "{error}");
    assert!(error["message"].as_str().unwrap().contains("submit it again to go on"), "{error}");

    // What passes is tried again by itself, as any job is.
    exchange.market().moods = [(503, ""); 2].into();
    let retried = json!({"kind": "candles_import", "spec": day});
    let done = deployment.post("/v1/jobs?wait=120", &retried).await.1;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert!(exchange.market().moods.is_empty(), "its first attempt came to nothing");
    let (status, problem) = deployment.post("/v1/jobs", &json!({"kind": "candles_import", "spec": []})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{problem}");
}

#[tokio::test]
async fn who_may_import_is_for_the_operator_to_say() {
    let exchange = market();
    let closed = deployment(&exchange, &["--candle-imports", "off"]);
    let spec = import("2024-01-30", "2024-01-31");
    let (status, problem) = closed.post("/v1/jobs", &job(&spec)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("imports_not_allowed")), "{problem}");
    let (_, problem) = closed.post("/v1/jobs", &json!({"kind": "backtest", "spec": backtest()})).await;
    let told = problem.to_string();
    assert!(told.contains("jesse-jobs candles import") && !told.contains("candles_import"), "{told}");
    let tools = connect(&closed).await.list_all_tools().await.unwrap();
    assert!(tools.iter().all(|tool| tool.name != "candles_import"));

    let open = deployment(&exchange, &[]);
    let with_scopes = |scopes: &str| Client::new(&open, &key(open.data.path(), "a", scopes));
    let (some, all) =
        (with_scopes("jobs:read,jobs:write"), with_scopes("jobs:read,jobs:write,candles:write"));
    // A server that had no keys looks for the first one every few seconds.
    while some.get("/v1/strategies").await.status != 403 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = some.post("/v1/jobs", &job(&spec)).await;
    assert_eq!((refused.status, refused.code()), (403, "missing_scope"), "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("candles:write"), "{}", refused.body);
    assert!(!some.tools().await.contains(&"candles_import".to_owned()));
    assert_eq!(some.tool("candles_import", &spec).await["error"]["code"], "missing_scope");
    let done = all.post("/v1/jobs?wait=120", &job(&spec)).await;
    assert_eq!(done.body["state"], "succeeded", "{}", done.body);
    assert!(all.tools().await.contains(&"candles_import".to_owned()));
}

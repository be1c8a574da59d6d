//! Both engines say the same of the same candles.

use serde_json::{Value, json};

use super::server::{ETH, JesseServer, SPOT, runner_on_the_same_candles, shared};
use crate::harness::{Deployment, SYMBOL, month, with};

/// Every figure of every metric and trade, to the last digit. The server keeps candles as numbers of 32 bits, but both engines read
/// the same decimal text of them into 64.
#[tokio::test]
async fn in_metrics_and_trades_to_the_last_digit() {
    let (Some(server), Some(on_server)) = (JesseServer::shared(), shared()) else { return };
    let on_runner = runner_on_the_same_candles(server, &["--engine", "runner"]);
    let two_routes = json!({"strategy": null, "symbol": null, "timeframe": null, "routes": [
        {"strategy": "SmaCross", "symbol": SYMBOL, "timeframe": "1h"},
        {"strategy": "Breakout", "symbol": ETH, "timeframe": "30m"},
    ]});
    let spot = json!({"exchange": SPOT, "timeframe": "15m", "balance": 5000});
    let futures = json!({"leverage": 2, "fee": 0.0006});
    let data_route = json!({"data_routes": [{"symbol": ETH, "timeframe": "4h"}], "fast_mode": false, "warm_up_candles": 50,
        "start_date": "2023-02-10"});
    let short_only = json!({"timeframe": "30m", "leverage": 3, "leverage_mode": "isolated"});
    for (case, strategy, changes) in [
        ("spot", "SpotTrend", spot),
        ("futures", "SmaCross", futures),
        ("two routes", "", two_routes),
        ("data route", "SmaCross", data_route),
        ("short only", "ShortOnly", short_only),
        ("no trades", "NoTrades", json!({"timeframe": "4h", "warm_up_candles": 50})),
    ] {
        let mut spec = with(month(strategy), &changes);
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let (ours, theirs) = tokio::join!(run(&on_runner, &spec), run(&on_server, &spec));
        assert_eq!(ours["metrics"], theirs["metrics"], "{case}");
        assert_eq!(trades(&ours), trades(&theirs), "{case}");
        let none = trades(&ours).is_empty();
        assert_eq!(none, case == "no trades", "{case}");
        same_form(&ours, &theirs);
        realised(&spec, &theirs);
    }
}

async fn run(deployment: &Deployment, spec: &Value) -> Value {
    let ended = deployment.backtest(spec).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    deployment.get(&format!("/v1/jobs/{}/result", ended["job_id"].as_str().unwrap())).await.1
}

/// Without the ids, which are made at random.
fn trades(result: &Value) -> Vec<Value> {
    let mut trades = result["trades"].as_array().unwrap().clone();
    for trade in &mut trades {
        let trade = trade.as_object_mut().unwrap();
        trade.remove("id");
        for order in trade.get_mut("orders").and_then(Value::as_array_mut).into_iter().flatten() {
            let order = order.as_object_mut().unwrap();
            for name in ["id", "trade_id", "session_id"] {
                order.remove(name);
            }
        }
    }
    trades
}

/// The same fields, and one more that says what the curve is.
fn same_form(ours: &Value, theirs: &Value) {
    let names = |result: &Value| result.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut more = names(theirs);
    more.retain(|name| name != "equity_curve_basis");
    assert_eq!(names(ours), more);
    assert_eq!(theirs["equity_curve_basis"], "realised");
    assert_eq!(theirs["provenance"]["pinned"], false);
    assert_eq!(theirs["provenance"]["engine"]["semantics"], "rest/1");
    assert_eq!(theirs["provenance"]["valid_for_s"], 3600);
    assert_ne!(ours["provenance"]["cache_key"], theirs["provenance"]["cache_key"]);
}

/// The curve ends with what all closed trades have made of the balance.
fn realised(spec: &Value, result: &Value) {
    let curve = result["equity_curve"].as_array().unwrap();
    let trades = result["trades"].as_array().unwrap();
    assert_eq!(curve.is_empty(), trades.is_empty());
    if let Some(last) = curve.last() {
        let made: f64 = trades.iter().map(|trade| trade["PNL"].as_f64().unwrap()).sum();
        let balance = spec["balance"].as_f64().unwrap_or(10_000.0);
        assert!((last["value"].as_f64().unwrap() - balance - made).abs() < 1e-6);
    }
}

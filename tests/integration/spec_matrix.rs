//! Every spec that passes our check must be one that Jesse runs as it was meant: a matrix of specs, on the real thing.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, SYMBOL, binary, month, succeed, with};

const SPOT: &str = "Binance Spot";
const SETTLED: &str = "Bybit USDC Perpetual";

fn specs() -> Vec<Value> {
    let days = json!({"finish_date": "2023-02-04", "warm_up_candles": 30});
    let short = |changes: Value| with(with(month("SmaCross"), &days), &changes);
    let on = |exchange: &str, symbol: &str| {
        short(json!({"exchange": exchange, "symbol": symbol, "strategy": "NoTrades"}))
    };
    let mut specs = Vec::new();
    for timeframe in "1m 3m 5m 15m 30m 45m 1h 2h 3h 4h 6h 8h 12h 1D".split(' ') {
        for fast_mode in [true, false] {
            specs.push(short(json!({"timeframe": timeframe, "fast_mode": fast_mode, "warm_up_candles": 20})));
        }
        specs.push(short(json!({"timeframe": timeframe, "warm_up_candles": 0, "benchmark": true})));
        let data = json!([{"symbol": "ETH-USDT", "timeframe": timeframe}]);
        specs.push(short(json!({"data_routes": data, "warm_up_candles": 20})));
        let mut routes = short(json!({"warm_up_candles": 20}));
        for flat in ["strategy", "symbol", "timeframe"] {
            routes.as_object_mut().unwrap().remove(flat);
        }
        let route = |symbol: &str, timeframe: &str, strategy: &str| json!({"symbol": symbol, "timeframe": timeframe, "strategy": strategy});
        routes["routes"] =
            json!([route(SYMBOL, timeframe, "SmaCross"), route("ETH-USDT", "45m", "RsiReversion")]);
        specs.push(routes);
    }
    for leverage in [1, 3, 125] {
        for mode in ["cross", "isolated"] {
            specs.push(short(json!({"leverage": leverage, "leverage_mode": mode})));
        }
    }
    specs.extend([0.0, 1e-12, 0.1].map(|fee| short(json!({"fee": fee}))));
    specs.extend([100.0, 12_345.67, 1e15].map(|balance| short(json!({"balance": balance}))));
    specs.extend([0, 1, 500].map(|candles| short(json!({"warm_up_candles": candles}))));
    // One day, the shortest there is, and with a benchmark, which wants two daily candles of its own.
    for benchmark in [true, false] {
        let one_day = json!({"finish_date": "2023-02-02", "benchmark": benchmark});
        specs.push(short(one_day));
    }
    specs.push(short(json!({"hyperparameters": {"fast": 50, "slow": 30.0}})));
    specs.extend([on(SPOT, SYMBOL), on(SETTLED, "BTC-USDC"), on(SPOT, "BTC-USDC")]);
    specs
}

#[tokio::test]
async fn jesse_runs_what_passes_our_check() {
    let deployment = Deployment::start(&["--workers", "2"]);
    for (exchange, symbol) in
        [(EXCHANGE, "ETH-USDT"), (SPOT, SYMBOL), (SPOT, "BTC-USDC"), (SETTLED, "BTC-USDC"), (SETTLED, SYMBOL)]
    {
        let mut command = binary();
        command.args([
            "candles",
            "generate",
            "--exchange",
            exchange,
            "--symbol",
            symbol,
            "--days",
            "70",
            "--data",
        ]);
        succeed(command.arg(deployment.data.path()));
    }
    let run = async |spec: Value| (deployment.backtest(&spec).await, spec);
    let ended: Vec<_> = futures::stream::iter(specs()).map(run).buffer_unordered(4).collect().await;
    assert!(ended.len() > 80);
    for (ended, spec) in ended {
        assert_eq!(ended["state"], "succeeded", "{spec}: {ended}");
        let metrics = &ended["summary"]["metrics"];
        if metrics["total"] != 0 && spec.get("balance").is_some() {
            assert_eq!(metrics["starting_balance"], spec["balance"], "{spec}: {metrics}");
        }
        let blind = spec["warm_up_candles"].as_u64().is_some_and(|candles| (1..50).contains(&candles));
        if spec["strategy"] == "SmaCross" && blind && spec.get("hyperparameters").is_none() {
            // Its slower average is over 50 candles: what Jesse makes of that is said, since it looks like a result.
            let warning = ended["summary"]["warning"].as_str().unwrap();
            assert!(warning.contains("warm_up_candles"), "{spec}: {ended}");
        }
    }
    // Jesse would take the quote asset for the one that the exchange settles in.
    let wrong = with(month("NoTrades"), &json!({"exchange": SETTLED}));
    let (status, problem) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": wrong})).await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("settles in USDC"), "{problem}");
}

//! What comes out is what Jesse itself says, to the last digit.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use jesse::candles::{self, Candle, WalkSettings};
use serde_json::{Value, json};

use crate::harness::{
    DAYS, Deployment, EXCHANGE, SEED, SYMBOL, binary, fixtures, month, python, succeed, with,
};

/// One direct call of `jesse.research` in a fresh interpreter, with the settings that a backtest's spec names and further
/// fields of the request: `series`, and `significance_test` if that is what is called.
pub fn ask_jesse(spec: &Value, more: &Value, folder: &Path) -> Value {
    let ms = |date: &Value| {
        let date: jiff::civil::Date = date.as_str().unwrap().parse().unwrap();
        jesse::spec::midnight_ms(date)
    };
    let minutes =
        |route: &Value| jesse::catalogue::timeframe_minutes(route["timeframe"].as_str().unwrap()).unwrap();
    let all = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
    let longest = all("routes").iter().chain(&all("data_routes")).map(minutes).max().unwrap();
    let start = ms(&spec["start_date"]);
    let exchange = |mut route: Value| {
        route["exchange"] = spec["exchange"].clone();
        route
    };
    let request = json!({
        "config": {
            "starting_balance": spec["balance"], "fee": spec["fee"], "type": "futures", "exchange": spec["exchange"],
            "futures_leverage": spec["leverage"], "futures_leverage_mode": spec["leverage_mode"],
            "warm_up_candles": spec["warm_up_candles"],
        },
        "routes": all("routes").into_iter().map(exchange).collect::<Vec<_>>(),
        "data_routes": all("data_routes").into_iter().map(exchange).collect::<Vec<_>>(),
        "warmup_start_ms": start - spec["warm_up_candles"].as_i64().unwrap() * longest * 60_000,
        "start_ms": start,
        "finish_ms": ms(&spec["finish_date"]),
        "hyperparameters": spec["hyperparameters"],
        "fast_mode": spec["fast_mode"],
    });
    let file = folder.join("request.json");
    std::fs::write(&file, with(request, more).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/reference.py");
    let mut command = Command::new(python());
    command
        .arg(script)
        .arg(fixtures().join("project"))
        .arg(&file)
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

pub fn write_npy(folder: &Path, name: &str, rows: &[Candle]) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, candles::encode(rows)).unwrap();
    file
}

async fn compare(deployment: &Deployment, spec: &Value, series: &Value) {
    let ended = deployment.backtest(spec).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let (_, ours) = deployment.get(&format!("/v1/jobs/{}/result", ended["job_id"].as_str().unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    let theirs = ask_jesse(&ended["spec"], &json!({ "series": series }), folder.path());
    assert_eq!(ours["metrics"], theirs["metrics"], "{spec}");
    assert_eq!(json!(ours["trades"].as_array().unwrap().len()), theirs["trades"], "{spec}");
}

#[tokio::test]
async fn on_synthetic_candles_for_five_strategies_and_timeframes() {
    let deployment = Deployment::shared();
    let settings =
        WalkSettings { seed: SEED, minutes: DAYS * 1440, start_price: 20_000.0, ..WalkSettings::default() };
    let rows: Vec<Candle> = candles::generate(settings).unwrap().collect();
    let folder = tempfile::tempdir().unwrap();
    let file = write_npy(folder.path(), "rows.npy", &rows);
    let series = json!([{"exchange": EXCHANGE, "symbol": SYMBOL, "file": file}]);
    for (strategy, changes) in [
        ("SmaCross", json!({"timeframe": "1h", "leverage": 2, "fee": 0.0006})),
        ("RsiReversion", json!({"timeframe": "15m", "hyperparameters": {"oversold": 35}})),
        ("Breakout", json!({"timeframe": "5m", "fast_mode": false, "start_date": "2023-02-20"})),
        ("ShortOnly", json!({"timeframe": "30m", "leverage": 3, "leverage_mode": "isolated"})),
        ("NoTrades", json!({"timeframe": "4h", "warm_up_candles": 50})),
    ] {
        compare(&deployment, &with(month(strategy), &changes), &series).await;
    }
}

#[tokio::test]
async fn on_two_week_windows_of_real_candles() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/candles-1m");
    if !data.is_dir() {
        // Not in the project: the files are large.
        eprintln!("skipped: {} is not there", data.display());
        return;
    }
    let deployment = Deployment::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut series = Vec::new();
    for (file, symbol) in
        [("BTC-USDT_20250504-20250603", "BTC-USDT"), ("ETH-USDT_20250504-20250615", "ETH-USDT")]
    {
        let file = data.join(format!("{file}.parquet"));
        let rows = candles::read_parquet_file(&file).unwrap();
        // An exchange of its own: real and synthetic candles never share a series.
        let futures = "Bybit USDT Perpetual";
        let mut import = binary();
        import.args(["candles", "import"]).arg(&file).args([
            "--exchange",
            futures,
            "--symbol",
            symbol,
            "--data",
        ]);
        succeed(import.arg(deployment.data.path()));
        series.push(
            json!({"exchange": futures, "symbol": symbol, "file": write_npy(folder.path(), symbol, &rows)}),
        );
    }
    let window =
        json!({"exchange": "Bybit USDT Perpetual", "start_date": "2025-05-15", "finish_date": "2025-05-29"});
    for (strategy, changes) in [
        ("SmaCross", json!({"timeframe": "15m"})),
        ("RsiReversion", json!({"timeframe": "30m", "symbol": "ETH-USDT"})),
        ("Breakout", json!({"timeframe": "1h"})),
        ("ShortOnly", json!({"timeframe": "5m", "symbol": "ETH-USDT", "leverage": 2})),
        ("SmaCross", json!({"timeframe": "1h", "fast_mode": false})),
    ] {
        let spec = with(with(month(strategy), &window), &changes);
        let of_symbol: Vec<_> = series.iter().filter(|series| series["symbol"] == spec["symbol"]).collect();
        compare(&deployment, &spec, &json!(of_symbol)).await;
    }
    // Two routes and a data route.
    let mut several = with(month("SmaCross"), &window);
    for name in ["strategy", "symbol", "timeframe"] {
        several.as_object_mut().unwrap().remove(name);
    }
    several["routes"] = json!([
        {"strategy": "SmaCross", "symbol": "BTC-USDT", "timeframe": "1h"},
        {"strategy": "Breakout", "symbol": "ETH-USDT", "timeframe": "30m"},
    ]);
    several["data_routes"] = json!([{"symbol": "BTC-USDT", "timeframe": "4h"}]);
    several["warm_up_candles"] = json!(60);
    compare(&deployment, &several, &json!(series)).await;
}

//! A pair that is really traded: two routes of a strategy made for it, on a real Jesse and candles whose tie is known.

use std::{collections::BTreeMap, fmt::Write as _, ops::Range, path::Path};

use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, binary, succeed, with};

const FIRST_MS: i64 = 1_672_531_200_000; // 2023-01-01
const HOUR_MS: i64 = 3_600_000;
pub const DAYS: usize = 40;
const WINDOW: usize = 60;

/// The same nearly normal noise in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut uniform = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }
}

/// Minutes of a price that walks.
pub fn walk(seed: u64) -> Vec<f64> {
    let (mut noise, mut level) = (Noise(seed), 4.6_f64);
    let step = |_| {
        level += 0.0007 * noise.next();
        level.exp()
    };
    (0..DAYS * 1440).map(step).collect()
}

/// Minutes of one that is tied to it: half of what it strays is gone in six hours.
fn tied(to: &[f64], seed: u64) -> Vec<f64> {
    let (mut noise, mut strayed) = (Noise(seed), 0.0);
    let pull = 0.5_f64.powf(1.0 / 360.0);
    let step = |level: &f64| {
        strayed = pull * strayed + 0.0006 * noise.next();
        (0.8 * level.ln() + strayed + 1.0).exp()
    };
    to.iter().map(step).collect()
}

/// Stores closes as candles; the text of a number is what is stored.
fn import(data: &Path, exchange: &str, symbol: &str, closes: &[f64]) {
    import_without(data, exchange, symbol, closes, &(0..0));
}

/// The same without some minutes.
pub fn import_without(data: &Path, exchange: &str, symbol: &str, closes: &[f64], missing: &Range<usize>) {
    let mut text = String::from("timestamp,open,close,high,low,volume\n");
    let mut open = closes[0];
    for (minute, close) in closes.iter().enumerate().filter(|(minute, _)| !missing.contains(minute)) {
        let (high, low) = (open.max(*close), open.min(*close));
        let time = FIRST_MS + i64::try_from(minute).unwrap() * 60_000;
        writeln!(text, "{time},{open},{close},{high},{low},1.5").unwrap();
        open = *close;
    }
    let file = data.join(format!("{symbol}.csv"));
    std::fs::write(&file, text).unwrap();
    let mut command = binary();
    command.args(["candles", "import"]).arg(&file).args(["--exchange", exchange, "--symbol", symbol]);
    succeed(command.arg("--data").arg(data));
}

fn pair(first: &str, second: &str) -> Value {
    json!({"exchange": EXCHANGE, "symbols": [first, second], "timeframe": "1h", "start_date": "2023-01-01", "finish_date": "2023-02-10"})
}

async fn analysed(deployment: &Deployment, spec: &Value) -> Value {
    let asked = json!({"kind": "pairs_backtest", "spec": spec});
    let (_, job) = deployment.post("/v1/jobs?wait=120", &asked).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job
}

/// The trades of the pair's backtest, by when they were opened.
async fn legs(deployment: &Deployment, job: &Value) -> BTreeMap<i64, Vec<Value>> {
    let child = job["summary"]["backtest"]["job_id"].as_str().unwrap();
    let (status, result) = deployment.get(&format!("/v1/jobs/{child}/result?fields=trades")).await;
    assert_eq!(status, 200, "{result}");
    let mut legs: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for trade in result["trades"].as_array().unwrap() {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
        legs.entry(trade["opened_at"].as_f64().unwrap() as i64).or_default().push(trade.clone());
    }
    legs
}

/// The z-score of the hour that ended at this time, of what the test itself has stored.
fn z_score(explained: &[f64], other: &[f64], hedge_ratio: f64, ended_ms: i64) -> f64 {
    let hours = usize::try_from((ended_ms - FIRST_MS) / HOUR_MS).unwrap();
    let close = |prices: &[f64], hour: usize| prices[hour * 60 + 59].ln();
    let spread = |hour: usize| close(explained, hour) - hedge_ratio * close(other, hour);
    let past: Vec<f64> = (hours - 1 - WINDOW..hours - 1).map(spread).collect();
    let count = f64::from(u32::try_from(WINDOW).unwrap());
    let mean = past.iter().sum::<f64>() / count;
    let squares: f64 = past.iter().map(|value| (value - mean).powi(2)).sum();
    (spread(hours - 1) - mean) / (squares / (count - 1.0)).sqrt()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test]
async fn a_tied_pair_is_traded_on_both_legs_beyond_the_threshold_and_never_ahead_of_time() {
    let deployment = Deployment::start(&["--holdout-share", "0"]);
    let data = deployment.data.path();
    let (first, mut second) = (walk(2), Vec::new());
    second.extend(tied(&first, 3));
    import(data, EXCHANGE, "AAA-USDT", &first);
    import(data, EXCHANGE, "BBB-USDT", &second);
    let spec = with(pair("AAA-USDT", "BBB-USDT"), &json!({"window": WINDOW}));
    let job = analysed(&deployment, &spec).await;
    let (formation, traded) = (&job["summary"]["formation"], &job["summary"]["backtest"]);
    assert_eq!(formation["cointegrated"], true, "{job}");
    assert_eq!((&traded["from"], &traded["to"]), (&json!("2023-01-21"), &json!("2023-02-10")), "{job}");
    let sharpe = &traded["sharpe"];
    let interval = ["low", "value", "high"].map(|name| number(&sharpe[name]));
    assert!(interval.is_sorted() && traded["max_drawdown"].is_number(), "{job}");
    assert!(job["summary"]["verdict"].as_str().unwrap().contains("Traded from 2023-01-21"), "{job}");
    assert!(job["summary"].to_string().len() < 3_000, "{job}");

    let before = legs(&deployment, &job).await;
    assert!(before.len() >= 5, "{before:?}");
    assert_eq!(traded["round_trips"], json!(before.len()));
    let ratio = number(&formation["hedge_ratio"]);
    let (explained, closes) = match formation["explained"].as_str().unwrap() {
        "AAA-USDT" => ("AAA-USDT", [&first, &second]),
        _ => ("BBB-USDT", [&second, &first]),
    };
    for (opened, legs) in &before {
        let [a, b] = &legs[..] else { panic!("one leg alone: {legs:?}") };
        let (own, other) = if a["symbol"] == explained { (a, b) } else { (b, a) };
        assert_ne!(own["type"], other["type"], "{legs:?}");
        assert_eq!(own["closed_at"], other["closed_at"], "{legs:?}");
        let value = |leg: &Value| number(&leg["qty"]) * number(&leg["entry_price"]);
        assert!((value(other) / value(own) / ratio - 1.0).abs() < 1e-4, "{ratio}: {legs:?}");
        let z = z_score(closes[0], closes[1], ratio, *opened);
        assert!((2.0..4.0).contains(&z.abs()), "{opened}: {z}");
        assert_eq!(own["type"], if z > 0.0 { "short" } else { "long" }, "{z}: {legs:?}");
    }

    // It is a backtest like any other, a trial of its campaign, and known the second time.
    let child = job["summary"]["backtest"]["job_id"].as_str().unwrap();
    let (_, backtest) = deployment.get(&format!("/v1/jobs/{child}")).await;
    assert_eq!(backtest["kind"], "backtest", "{backtest}");
    let net = number(&backtest["summary"]["metrics"]["net_profit_percentage"]) / 100.0;
    assert!((net - number(&traded["net_profit"])).abs() < 1e-12, "{net} {traded}");
    let (_, campaign) = deployment.get("/v1/campaigns/strategy:PairSpread").await;
    assert_eq!(campaign["trials"], 1, "{campaign}");
    let again = analysed(&deployment, &spec).await;
    assert_eq!((&again["cached"], &again["summary"]), (&json!(true), &job["summary"]));
    let id = job["job_id"].as_str().unwrap();
    let (_, whole) = deployment.get(&format!("/v1/jobs/{id}/result")).await;
    assert!(
        whole["strategy"]["source"].as_str().unwrap().contains("class PairSpread"),
        "{}",
        whole["strategy"]
    );

    // Other candles from a day on change nothing that was done before it.
    let day = 32;
    let changed = i64::try_from(day).unwrap() * 24 * HOUR_MS + FIRST_MS;
    for (minute, price) in second.iter_mut().enumerate().skip(day * 1440) {
        *price *= if minute % 2000 < 1000 { 1.05 } else { 0.97 };
    }
    import(data, EXCHANGE, "BBB-USDT", &second);
    let job = analysed(&deployment, &spec).await;
    assert_eq!(job["cached"], false);
    assert_eq!(job["summary"]["formation"]["hedge_ratio"], formation["hedge_ratio"]);
    let after = legs(&deployment, &job).await;
    let untouched = |all: &BTreeMap<i64, Vec<Value>>| -> Vec<Value> {
        let is_one = |trade: &&Value| number(&trade["closed_at"]) < number(&json!(changed));
        let mut found: Vec<_> = all.values().flatten().filter(is_one).cloned().collect();
        for trade in &mut found {
            trade.as_object_mut().unwrap().remove("id");
        }
        found
    };
    assert!(untouched(&before).len() >= 6, "{before:?}");
    assert_eq!(untouched(&before), untouched(&after));
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_pair_that_is_none_is_traded_all_the_same_and_that_is_said() {
    let deployment = Deployment::start(&["--holdout-share", "0"]);
    let data = deployment.data.path();
    let (first, second) = (walk(2), walk(17));
    import(data, EXCHANGE, "AAA-USDT", &first);
    import(data, EXCHANGE, "BBB-USDT", &second);
    for symbol in ["AAA-USDT", "BBB-USDT"] {
        import(data, "Binance Spot", symbol, if symbol == "AAA-USDT" { &first } else { &second });
    }
    let spec = pair("AAA-USDT", "BBB-USDT");
    let job = analysed(&deployment, &spec).await;
    let verdict = job["summary"]["verdict"].as_str().unwrap();
    assert!(verdict.contains("no evidence") && verdict.contains("had no ground"), "{job}");
    assert_eq!(job["summary"]["formation"]["cointegrated"], false, "{job}");
    assert!(job["summary"]["backtest"]["job_id"].is_string(), "{job}");

    // With thresholds that nothing reaches there is no trade, without the trade only the tests, and where no leg can be
    // short the reason instead.
    let calm = analysed(&deployment, &with(spec.clone(), &json!({"entry_z": 50, "stop_z": 60}))).await;
    assert_eq!(calm["summary"]["backtest"]["trades"], 0, "{calm}");
    assert!(calm["summary"]["verdict"].as_str().unwrap().contains("never entered"), "{calm}");
    let tests = analysed(&deployment, &with(spec.clone(), &json!({"trade": false}))).await;
    assert!(tests["summary"].get("backtest").is_none(), "{tests}");
    let spot = analysed(&deployment, &with(spec.clone(), &json!({"exchange": "Binance Spot"}))).await;
    let why = spot["summary"]["backtest"]["refused"].as_str().unwrap();
    assert!(why.contains("spot market"), "{spot}");
    let both = json!([{"exchange": EXCHANGE, "symbol": "AAA-USDT"}, {"exchange": "Binance Spot", "symbol": "BBB-USDT"}]);
    let apart = analysed(&deployment, &with(spec, &json!({"symbols": both}))).await;
    assert!(apart["summary"]["backtest"]["refused"].as_str().unwrap().contains("one exchange"), "{apart}");
}

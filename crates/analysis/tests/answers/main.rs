//! Whole analyses, from the request as a client writes it to the answer, on series whose answer is known.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod hostile;

use analysis::{
    Answer,
    inputs::{Body, ClosedTrade, Inputs, LoadedResult, Pinned, PinnedResult, Point, Ran, SymbolCloses},
    report,
    spec::Analysis,
};
use jesse::{
    candles::{Series, Source},
    spec::BacktestSpec,
};
use jobs::{ErrorCode, JobError, Kind, blobs::BlobId};
use serde_json::{Value, json};

const HOUR_MS: i64 = 3_600_000;
/// 1 January 2024.
const START_MS: i64 = 1_704_067_200_000;
const JOB: &str = "01981c2e-6f1c-7000-8000-000000000000";

/// The same noise in every run: nearly normal, with a deviation of 1.
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
}

fn check(kind: Kind, spec: Value) -> Result<(Analysis, Inputs), JobError> {
    let Value::Object(fields) = spec else { panic!("an object") };
    let checked = Analysis::check(kind, fields)?;
    let stored = serde_json::to_string(&checked.analysis).unwrap();
    // What a worker reads is what was checked.
    assert_eq!(serde_json::from_str::<Analysis>(&stored).unwrap(), checked.analysis);
    Ok((checked.analysis, Inputs { returns: checked.returns, ..Inputs::default() }))
}

fn of_returns(kind: Kind, returns: &[f64], more: Value) -> Result<Answer, JobError> {
    let mut spec = json!({"returns": returns, "period": "1D", "start_date": "2024-01-01"});
    if let Value::Object(more) = more {
        spec.as_object_mut().unwrap().extend(more);
    }
    let (analysis, inputs) = check(kind, spec)?;
    analysis.compute(&inputs)
}

/// Hourly closes of these levels, from the beginning of 2024.
fn symbol(name: &str, levels: &[f64]) -> SymbolCloses {
    let closes = (0..).map(|at| START_MS + at * HOUR_MS).zip(levels.iter().copied()).collect();
    SymbolCloses { series: Series::new("Binance", name).unwrap(), source: Source::Imported, closes }
}

fn of_symbols(kind: Kind, symbols: Vec<SymbolCloses>) -> Result<Answer, JobError> {
    let names: Vec<_> = symbols.iter().map(|symbol| symbol.series.symbol().to_owned()).collect();
    let spec = json!({"exchange": "Binance", "symbols": names, "start_date": "2024-01-01", "finish_date": "2024-03-01"});
    let (analysis, mut inputs) = check(kind, spec)?;
    inputs.candles = symbols;
    analysis.compute(&inputs)
}

fn walk(steps: &[f64]) -> Vec<f64> {
    let mut level = 4.6_f64;
    steps
        .iter()
        .map(|step| {
            level += 0.01 * step;
            level.exp()
        })
        .collect()
}

#[test]
fn a_report_of_a_steady_winner_is_read_as_json_markdown_and_html() {
    let returns: Vec<f64> = noise(1, 400).iter().map(|z| 0.003 + 0.01 * z).collect();
    let answer = of_returns(Kind::RiskReport, &returns, json!({"seed": 3})).unwrap();
    let total = returns.iter().fold(1.0, |wealth, value| wealth * (1.0 + value)) - 1.0;
    let figure = |name: &str| answer.body["performance"][name].as_f64().unwrap();
    assert!((figure("total_return") / total - 1.0).abs() < 1e-12);
    let sharpe = &answer.summary["sharpe"];
    let [low, value, high] = ["low", "value", "high"].map(|name| sharpe[name].as_f64().unwrap());
    assert!(low < value && value < high, "{sharpe}");
    assert!(answer.summary.to_string().len() < 3_000, "{}", answer.summary);
    let page = report::document(&answer.body, Some(&json!({"advice": "best of <b>412</b> | tries"})));
    let (markdown, html) = (report::markdown(&page), report::html(&page));
    for text in [&markdown, &html] {
        assert!(text.contains(&format!("{:.2} %", 100.0 * total)), "{text}");
        assert!(text.contains("Deepest drawdowns") && text.contains("2024"), "{text}");
        assert!(!text.contains("<b>"), "{text}");
    }
    assert!(html.contains("<polyline"), "{html}");
    let again = of_returns(Kind::RiskReport, &returns, json!({"seed": 3})).unwrap();
    assert_eq!(again, answer);
}

#[test]
fn losses_are_the_order_statistics_of_what_was_given() {
    let returns: Vec<f64> = (0..100).map(|at| f64::from((at * 37) % 100 - 50) / 1000.0).collect();
    let asked = json!({"confidence": [0.95], "methods": ["historical"]});
    let answer = of_returns(Kind::VarCalculation, &returns, asked).unwrap();
    let row = &answer.summary["losses"][0];
    // The worst are -0.050, -0.049, -0.048, -0.047, -0.046: five of a hundred.
    assert!((row["es"].as_f64().unwrap() - 0.048).abs() < 1e-12, "{row}");
    assert!((0.0455..=0.0465).contains(&row["var"].as_f64().unwrap()), "{row}");
}

#[test]
fn a_tied_pair_is_told_from_two_walks() {
    let hours = 60 * 24;
    let first = walk(&noise(2, hours));
    let tied: Vec<f64> =
        first.iter().zip(noise(3, hours)).map(|(level, z)| level * (0.005 * z).exp()).collect();
    let other = walk(&noise(4, hours));
    let pair = |second: &[f64]| {
        of_symbols(Kind::PairsBacktest, vec![symbol("BTC-USDT", &first), symbol("ETH-USDT", second)])
            .unwrap()
            .summary
    };
    let (with, without) = (pair(&tied), pair(&other));
    assert!(with["verdict"].as_str().unwrap().contains("in both directions"), "{with}");
    assert!((with["first_on_second"]["hedge_ratio"].as_f64().unwrap() - 1.0).abs() < 0.05, "{with}");
    assert!(without["verdict"].as_str().unwrap().contains("no evidence"), "{without}");
}

#[test]
fn correlations_are_of_returns_and_name_their_symbols() {
    let steps = noise(5, 1_000);
    let against: Vec<f64> = steps.iter().map(|step| -step).collect();
    let symbols = vec![symbol("BTC-USDT", &walk(&steps)), symbol("ETH-USDT", &walk(&against))];
    let answer = of_symbols(Kind::CorrelationMatrix, symbols).unwrap();
    let weakest = &answer.body["pairs"][0];
    assert_eq!((&weakest["a"], &weakest["b"]), (&json!("BTC-USDT"), &json!("ETH-USDT")));
    assert!(weakest["value"].as_f64().unwrap() < -0.99, "{weakest}");
    let flat = vec![symbol("BTC-USDT", &walk(&steps)), symbol("ETH-USDT", &[5.0; 1_000])];
    let refused = of_symbols(Kind::CorrelationMatrix, flat).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnfitData);
    assert!(refused.message.contains("ETH-USDT"), "{}", refused.message);
}

fn backtest() -> BacktestSpec {
    serde_json::from_value(json!({
        "exchange": "Binance", "routes": [{"strategy": "S", "symbol": "BTC-USDT", "timeframe": "1h"}],
        "start_date": "2024-01-01", "finish_date": "2024-01-31", "balance": 10_000.0, "fee": 0.001, "leverage": 1,
        "leverage_mode": "cross", "warm_up_candles": 0, "fast_mode": true, "benchmark": false,
    }))
    .unwrap()
}

/// A long and a short of 10 at a price of 500, held for a day each, one after the other.
fn result() -> LoadedResult {
    let trade = |side: &str, day: i64, exit_price: f64, profit: f64| {
        let opened = json!(START_MS + 24 * day * HOUR_MS);
        json!({"type": side, "symbol": "BTC-USDT", "strategy_name": "S", "qty": 10.0, "entry_price": 500.0,
               "exit_price": exit_price, "fee": 10.0, "PNL": profit, "opened_at": opened,
               "closed_at": START_MS + 24 * (day + 1) * HOUR_MS})
    };
    let trades = [trade("long", 1, 520.0, 190.0), trade("short", 3, 510.0, -110.0)];
    let trades = trades.map(|trade| serde_json::from_value::<ClosedTrade>(trade).unwrap()).to_vec();
    let point = |day: i64| {
        let value = if day < 2 {
            10_000.0
        } else if day < 4 {
            10_190.0
        } else {
            10_080.0
        };
        Point { time: START_MS / 1000 + day * 86_400, value }
    };
    LoadedResult { backtest: backtest(), body: Body { trades, equity_curve: (0..=30).map(point).collect() } }
}

#[test]
fn stress_is_worked_out_from_the_trades_that_were_made() {
    let (mut analysis, mut inputs) = check(Kind::StressTest, json!({"job_id": JOB})).unwrap();
    let blob = BlobId::of(b"a result");
    let pinned = PinnedResult { result: "r".into(), blob, file: None, backtest: backtest() };
    analysis.resolve(&Pinned { results: vec![pinned], ..Pinned::default() }).unwrap();
    inputs.results.push(result());
    // It rises by 1 an hour, but for the tenth day, in which it falls by half.
    let level = |hour: i32| 500.0 + f64::from(hour) - if hour >= 240 { 370.0 } else { 0.0 };
    inputs.candles.push(symbol("BTC-USDT", &(0..720).map(level).collect::<Vec<_>>()));
    let summary = analysis.compute(&inputs).unwrap().summary;
    let close = |found: &Value, wanted: f64| {
        assert!((found.as_f64().unwrap() - wanted).abs() < 1e-9, "{found} is not {wanted}: {summary}");
    };
    // 5000 of 10000 are held at first, of 10190 later.
    close(&summary["gaps"][1]["loss"], 0.2 * 0.5);
    close(&summary["fees"][0]["profit"], 190.0 - 110.0 - 20.0);
    close(&summary["break_even_fee_multiple"], 100.0 / 20.0);
    close(&summary["spreads"][1]["profit"], 80.0 - 0.001 * 10.0 * (500.0 + 520.0 + 500.0 + 510.0));
    // An hour late: the long at 548 instead of 520, the short at 596 instead of 510.
    close(&summary["halts"][0]["profit"], 80.0 + 10.0 * (548.0 - 520.0) - 10.0 * (596.0 - 510.0));
    let worst = &summary["worst_markets"][0];
    assert_eq!((&worst["days"], &worst["from"]), (&json!(1), &json!("2024-01-11")), "{worst}");
    close(&worst["markets"]["BTC-USDT"]["return"], (500.0 + 263.0 - 370.0) / (500.0 + 239.0) - 1.0);
}

#[test]
fn a_stressed_backtest_is_run_as_it_was_and_with_each_fee_that_a_backtest_takes() {
    let (analysis, mut inputs) =
        check(Kind::StressTest, json!({"job_id": JOB, "fee_multiples": [2.0, 100.0]})).unwrap();
    let costly = BacktestSpec { fee: 0.002, ..backtest() };
    let runs = analysis.backtests(&costly, &inputs).unwrap();
    assert_eq!(runs, [costly.clone(), BacktestSpec { fee: 0.004, ..costly.clone() }]);
    inputs.results.push(LoadedResult { backtest: costly, ..result() });
    let ran = |(backtest, profit): (BacktestSpec, f64)| Ran {
        job_id: JOB.parse().unwrap(),
        backtest,
        summary: Ok(
            json!({"metrics": {"net_profit": profit, "net_profit_percentage": profit / 100.0, "total": 2}}),
        ),
        body: None,
    };
    inputs.ran = runs.into_iter().zip([80.0, 55.0]).map(ran).collect();
    let body = analysis.compute(&inputs).unwrap().body;
    assert_eq!(body["fees"][0]["run_again"]["profit"], 55.0, "{body}");
    assert_eq!(body["fees"][0]["profit"], 60.0, "{body}");
    assert!(body["fees"][1]["run_again"]["refused"].is_string(), "{body}");
    assert!(body["run_again"].get("warning").is_none(), "{body}");
    // Another Jesse may come to something else.
    inputs.ran[0].summary = Ok(json!({"metrics": {"net_profit": 81.0}}));
    let answer = analysis.compute(&inputs).unwrap();
    assert!(answer.summary["run_again"].as_str().unwrap().contains("another Jesse"), "{}", answer.summary);
}

#[test]
fn the_key_is_of_what_is_computed_and_not_of_the_job_that_was_named() {
    let key = |job: &str, result: &str, more: Value| {
        let mut spec = json!({"job_id": job});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (analysis, _) = check(Kind::RiskReport, spec).unwrap();
        let blob = BlobId::of(result.as_bytes());
        let pinned = PinnedResult { result: result.into(), blob, file: None, backtest: backtest() };
        analysis.cache_key(&Pinned { results: vec![pinned], ..Pinned::default() })
    };
    let other = "01981c2e-6f1c-7000-8000-000000000001";
    let first = key(JOB, "r", json!({}));
    assert_eq!(key(other, "r", json!({})), first);
    assert_eq!(key(JOB, "r", json!({"seed": 0})), first);
    for changed in [
        key(JOB, "s", json!({})),
        key(JOB, "r", json!({"seed": 1})),
        key(JOB, "r", json!({"days_per_year": 252})),
    ] {
        assert_ne!(changed, first);
    }
}

#[test]
fn what_means_nothing_is_refused_in_words() {
    let values = noise(6, 200);
    let returns: Vec<f64> = values.iter().map(|z| 0.01 * z).collect();
    for (kind, returns, more, code, words) in [
        (Kind::RiskReport, &[0.0; 50][..], json!({}), ErrorCode::UnfitData, "does not vary"),
        (
            Kind::RiskReport,
            &returns[..],
            json!({"confidence": 0.0}),
            ErrorCode::InvalidSpec,
            "between 0 and 1",
        ),
        (
            Kind::MonteCarlo,
            &returns[..],
            json!({"method": "trades"}),
            ErrorCode::UnfitData,
            "only the result",
        ),
        (
            Kind::MonteCarlo,
            &returns[..],
            json!({"paths": 1_000_000, "steps": 1_000_000}),
            ErrorCode::InvalidSpec,
            "steps in all",
        ),
        (Kind::RegimeDetector, &returns[..10], json!({}), ErrorCode::UnfitData, "at least"),
        (
            Kind::FactorAnalysis,
            &returns[..],
            json!({"factors": {"x": &values[..100]}}),
            ErrorCode::UnfitData,
            "where the others have",
        ),
        (Kind::StressTest, &returns[..], json!({}), ErrorCode::InvalidSpec, "one succeeded backtest"),
    ] {
        let refused = of_returns(kind, returns, more).unwrap_err();
        assert!(refused.code == code && refused.message.contains(words), "{}: {refused:?}", kind.as_str());
    }
}

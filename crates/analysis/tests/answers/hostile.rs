//! Whatever series comes, an analysis answers numbers that mean something or says why it does not: JSON has no NaN and no infinity, they
//! would turn into `null`, so a `null` is allowed only where it stands for "undefined" or "there is none".

use jobs::{ErrorCode, JobError, Kind};
use serde_json::{Value, json};

use super::{noise, of_returns, of_symbols, symbol, walk};

/// Fields that are `null` where a figure is undefined for an accepted series, or where there is nothing of the kind.
const MAY_BE_NULL: [&str; 41] = [
    // Ratios over a volatility, a loss or a drawdown that is 0, and growth beyond the largest number.
    "sharpe",
    "sortino",
    "calmar",
    "omega",
    "skewness",
    "kurtosis",
    "cagr",
    // Errors and tests that their formulas leave undefined.
    "standard_error",
    "standard_error_autocorrelated",
    "annual_interval",
    "annual_interval_autocorrelated",
    "probabilistic",
    "probabilistic_sharpe",
    "minimum_track_record",
    "minimum_track_record_periods",
    "christoffersen",
    "z_score_now",
    "weights",
    "low",
    "high",
    "expectancy",
    "win_rate",
    "median_holding_hours",
    "half_life_bars",
    "periods",
    "half_life_interval",
    "mean_periods",
    "slope",
    // What was not simulated, has not recovered, or is refused as a whole, with the reason where the whole is.
    "simulation_error",
    "block_length",
    "recovered_ms",
    "next_year",
    "johansen_cointegrated",
    "rolling",
    "warning",
    // Of returns without a date, or without trades.
    "drawdowns",
    "months",
    "exposure",
    "trades",
    "portfolio",
    "equity",
];

/// Fields of a summary that repeat what such a field of the body has.
const REPEATED: [&str; 8] = [
    "longest_under_water_days",
    "in_market",
    "var_95",
    "es_95",
    "kupiec_p",
    "exceedances",
    "expected",
    "values",
];

/// Fails at a `null` that stands for nothing.
fn meaningful(what: &str, field: &str, value: &Value) {
    match value {
        Value::Null => {
            assert!(
                MAY_BE_NULL.contains(&field) || REPEATED.contains(&field),
                "{what}: {field} is null, which means nothing"
            );
        }
        Value::Array(all) => all.iter().for_each(|one| meaningful(what, field, one)),
        Value::Object(fields) => fields.iter().for_each(|(name, one)| {
            // `{"sharpe": {"value": ..}}`: what it is stands one level up.
            meaningful(what, if name == "value" { field } else { name }, one);
        }),
        Value::Number(number) => {
            assert!(number.as_f64().is_some_and(f64::is_finite), "{what}: {field} is {number}");
        }
        Value::Bool(_) | Value::String(_) => {}
    }
}

/// An answer that means something, or a refusal in words that blames the request or the data.
fn sound(what: &str, found: &Result<analysis::Answer, JobError>) {
    match found {
        Ok(answer) => {
            meaningful(what, "body", &answer.body);
            meaningful(what, "summary", &answer.summary);
        }
        Err(error) => {
            assert!(
                [ErrorCode::UnfitData, ErrorCode::InvalidSpec].contains(&error.code),
                "{what}: {error:?}"
            );
            assert!(error.message.len() > 15 && error.message.len() < 500, "{what}: {}", error.message);
            assert!(!error.message.contains("NaN"), "{what}: {}", error.message);
        }
    }
}

/// Series of returns that formulas dislike.
fn series() -> Vec<(&'static str, Vec<f64>)> {
    let noise = |count| noise(11, count).into_iter().map(|z| 0.01 * z).collect::<Vec<f64>>();
    let with = |at: usize, value: f64| {
        let mut values = noise(300);
        values[at] = value;
        values
    };
    let one_of = |value: f64, count: usize| {
        let mut values = vec![0.0; count];
        values[count / 2] = value;
        values
    };
    let alternating =
        |a: f64, b: f64| (0..300).map(|at| if at % 2 == 0 { a } else { b }).collect::<Vec<f64>>();
    vec![
        ("none", vec![]),
        ("one", vec![0.01]),
        ("two", vec![0.01, -0.02]),
        ("three", vec![0.01, -0.02, 0.0]),
        ("nineteen", noise(19)),
        ("twenty", noise(20)),
        ("fifty-nine", noise(59)),
        ("constant", vec![0.001; 300]),
        ("zeros", vec![0.0; 300]),
        ("one that is not zero", one_of(0.05, 300)),
        ("one loss", one_of(-0.5, 300)),
        ("gains only", noise(300).into_iter().map(f64::abs).collect()),
        ("losses only", noise(300).into_iter().map(|value| -value.abs()).collect()),
        ("alternating", alternating(0.01, -0.01)),
        ("alternating and gaining", alternating(0.02, -0.01)),
        ("nearly constant", noise(300).into_iter().map(|value| 0.001 + 1e-13 * value).collect()),
        ("tiny", noise(300).into_iter().map(|value| 1e-160 * value).collect()),
        ("subnormal", noise(300).into_iter().map(|value| 1e-310 * value).collect()),
        ("nearly a total loss", with(150, -1.0 + 1e-15)),
        ("a total loss", with(150, -1.0)),
        ("more than all", with(150, -7.0)),
        ("a gain of a million", with(150, 1e6)),
        ("a gain beyond that", with(150, 1e7)),
        ("gains of a million", vec![1e6; 300]),
        ("gains of about a million", noise(300).into_iter().map(|value| 1e6 * (0.9 + value)).collect()),
        ("the largest number", with(150, f64::MAX)),
        ("a crash at the end", with(299, -0.99)),
        ("a trend", (0..300).map(|at| f64::from(at) * 1e-4).collect()),
        ("a step", (0..300).map(|at| if at < 150 { 0.0 } else { 0.01 }).collect()),
        ("long", noise(20_000)),
        ("longer than allowed", noise(20_001)),
        ("not a number", with(3, f64::NAN)),
        ("infinite", with(3, f64::INFINITY)),
    ]
}

#[test]
fn every_analysis_of_returns_is_sound_for_every_series() {
    for (name, values) in series() {
        let factor: Vec<f64> = noise(12, values.len());
        for (kind, more) in [
            (Kind::RiskReport, json!({"replications": 100, "paths": 100})),
            (Kind::VarCalculation, json!({"horizons": [1, 10], "paths": 1_000})),
            (Kind::MonteCarlo, json!({"paths": 200, "steps": 400})),
            (Kind::RegimeDetector, json!({})),
            (Kind::RegimeDetector, json!({"regimes": 3})),
            (Kind::FactorAnalysis, json!({"factors": {"a": factor}})),
            (Kind::FactorAnalysis, json!({"factors": {"itself": values}})),
        ] {
            // Three regimes of the longest series take a minute in a test.
            if values.len() > 5_000 && kind == Kind::RegimeDetector {
                continue;
            }
            sound(&format!("{name}, {} {more:.60}", kind.as_str()), &of_returns(kind, &values, more));
        }
    }
}

/// Without a date there are no months and no drawdowns in time, and all else is as with one.
#[test]
fn returns_without_a_date_are_analysed_too() {
    for (name, values) in series().into_iter().filter(|(_, values)| values.len() == 300) {
        let found = of_returns(
            Kind::RiskReport,
            &values,
            json!({"start_date": null, "replications": 100, "paths": 100}),
        );
        sound(name, &found);
    }
}

/// Symbols whose prices formulas dislike.
fn levels() -> Vec<(&'static str, Vec<f64>)> {
    let steps = noise(13, 1_000);
    let quiet = |value: f64| vec![value; 1_000];
    let jump = (0..1_000).map(|at| if at < 500 { 1.0 } else { 1e12 }).collect();
    vec![
        ("a walk", walk(&steps)),
        ("another", walk(&noise(14, 1_000))),
        ("the first again", walk(&steps)),
        ("its multiple", walk(&steps).into_iter().map(|level| 3.0 * level).collect()),
        ("its inverse", walk(&steps).into_iter().map(|level| 1.0 / level).collect()),
        ("no change", quiet(5.0)),
        ("tiny prices", walk(&noise(15, 1_000)).into_iter().map(|level| 1e-12 * level).collect()),
        ("huge prices", walk(&noise(16, 1_000)).into_iter().map(|level| 1e12 * level).collect()),
        ("a jump", jump),
        ("a line", (0..1_000).map(|at| 100.0 + f64::from(at)).collect()),
        ("short", walk(&steps[..30])),
        ("shorter", walk(&steps[..3])),
        ("one bar", vec![1.0]),
        ("no bar", vec![]),
    ]
}

#[test]
fn every_analysis_of_symbols_is_sound_for_every_pair_of_them() {
    let levels = levels();
    for (first_name, first) in &levels {
        for (second_name, second) in &levels {
            for kind in [Kind::CorrelationMatrix, Kind::PairsBacktest] {
                let symbols = vec![symbol("BTC-USDT", first), symbol("ETH-USDT", second)];
                sound(
                    &format!("{first_name} and {second_name}, {}", kind.as_str()),
                    &of_symbols(kind, symbols),
                );
            }
        }
    }
}

/// A gap in one of two symbols takes its bars and the changes across it out of both; nothing in common is refused.
#[test]
fn symbols_with_gaps_and_without_common_bars_are_sound() {
    let whole = symbol("BTC-USDT", &walk(&noise(17, 1_000)));
    let sparse = |keep: fn(usize) -> bool| {
        let mut symbol = symbol("ETH-USDT", &walk(&noise(18, 1_000)));
        let mut at = 0..;
        symbol.closes.retain(|_| at.next().is_some_and(keep));
        symbol
    };
    for kind in [Kind::CorrelationMatrix, Kind::PairsBacktest] {
        let of = |other| of_symbols(kind, vec![whole.clone(), other]);
        for (name, keep) in [
            ("a day is missing", (|at| !(100..124).contains(&at)) as fn(usize) -> bool),
            ("every other hour", |at| at % 2 == 0),
            ("two hours in a hundred", |at| at % 100 < 2),
        ] {
            sound(name, &of(sparse(keep)));
        }
        let apart = of(sparse(|_| false)).unwrap_err();
        assert_eq!(apart.code, ErrorCode::UnfitData, "{apart:?}");
    }
    let gappy =
        of_symbols(Kind::CorrelationMatrix, vec![whole, sparse(|at| !(100..124).contains(&at))]).unwrap();
    // 24 bars, and the change into the gap and out of it; the range has 440 hours after the last bar.
    assert_eq!(gappy.body["data"]["returns"], json!(1_000 - 24 - 2), "{}", gappy.body["data"]);
    assert_eq!(gappy.body["data"]["missing_bars"], json!(440 + 24), "{}", gappy.body["data"]);
}

//! Every risk tool refuses what means nothing, with what is allowed: at once where the request shows it, else as the error of its job.

use serde_json::{Map, Value, json};

use crate::harness::{Deployment, EXCHANGE, SYMBOL, generate, generate_on, month, with};

/// A kind, what is wrong with its request, and words that the error must have.
type Case = (&'static str, Value, &'static str);

/// Good returns: no two alike.
fn returns(count: u32) -> Vec<f64> {
    (0..count).map(|at| f64::from((at * 37) % 101) / 5_000.0 - 0.0095).collect()
}

fn given(values: impl serde::Serialize) -> Value {
    json!({"returns": values, "period": "1D", "start_date": "2023-02-01"})
}

/// Kinds that take returns, with what else each needs.
fn of_returns() -> [(&'static str, Value); 5] {
    [
        ("risk_report", json!({})),
        ("var_calculation", json!({})),
        ("monte_carlo", json!({})),
        ("regime_detector", json!({})),
        ("factor_analysis", json!({"factors": {"a": returns(100)}})),
    ]
}

/// Series that are none, for all kinds that take one.
fn bad_series() -> Vec<Case> {
    let with_one = |value: f64| {
        let mut values = returns(100);
        values[7] = value;
        given(values)
    };
    let mut holed: Vec<Value> = returns(100).into_iter().map(Value::from).collect();
    // What a NaN of a client becomes.
    holed[7] = Value::Null;
    let mut spelled = holed.clone();
    spelled[7] = json!("NaN");
    let bad = [
        (given([0.0; 0]), "has 0, needs at least 2"),
        (given([0.1]), "has 1, needs at least 2"),
        (given(holed), "invalid type: null"),
        (given(spelled), "invalid type: string"),
        (with_one(-1.0), "returns[7] is -1: a return is a fraction above -1"),
        (with_one(-30.0), "a return is a fraction above -1"),
        (with_one(1e7), "above -1 and at most 1000000"),
        (with_one(1e300), "only finite numbers are allowed, at most 1e50"),
        (given(returns(20_001)), "at most 20000 are allowed"),
        (json!({"returns": returns(100)}), "say how long a period of the returns is"),
        (with(given(returns(100)), &json!({"period": "7x"})), "write e.g. 1m, 15m, 1h, 4h, 1D, 1W"),
        (with(given(returns(100)), &json!({"start_date": "1.2.2023"})), "write YYYY-MM-DD"),
        (with(given(returns(100)), &json!({"days_per_year": 0})), "must be from 1 to 366"),
        (with(given(returns(100)), &json!({"days_per_year": 1000})), "must be from 1 to 366"),
        (with(given(returns(100)), &json!({"job_id": "01981c2e-6f1c-7000-8000-000000000000"})), "give one of job_id"),
        (json!({"job_id": "17"}), "job_id:"),
        (json!({"jobs": []}), "a portfolio has 1 to 100 results"),
    ];
    let kinds = of_returns();
    let case = |(kind, more): &(&'static str, Value)| {
        bad.iter().map(|(spec, words)| (*kind, with(spec.clone(), more), *words)).collect::<Vec<_>>()
    };
    kinds.iter().flat_map(case).collect()
}

/// Weights of a portfolio that are none.
fn bad_weights(job: &str) -> Vec<Case> {
    let jobs = |weights: &[Value]| {
        let parts: Vec<Value> = weights.iter().map(|weight| json!({"job_id": job, "weight": weight})).collect();
        json!({"jobs": parts})
    };
    let kinds = ["risk_report", "var_calculation", "monte_carlo"];
    let case = |kind: &'static str| {
        [
            (kind, jobs(&[json!(0.5), json!(0.6)]), "the weights sum to 1.1, they must sum to 1"),
            (kind, jobs(&[json!(0.5)]), "they must sum to 1"),
            (kind, jobs(&[json!(-0.5), json!(1.5)]), "each must be from 0 to 1"),
            (kind, jobs(&[json!(1.0), Value::Null]), "give each a weight, or none"),
            (kind, jobs(&[json!("half"), json!(0.5)]), "invalid type: string"),
            (kind, jobs(&vec![json!(0.0); 101]), "a portfolio has 1 to 100 results, not 101"),
        ]
    };
    kinds.into_iter().flat_map(case).collect()
}

/// Options outside of what they may be.
fn bad_options(job: &str) -> Vec<Case> {
    let range = json!({"exchange": EXCHANGE, "start_date": "2023-02-01", "finish_date": "2023-03-01"});
    let pair = with(range.clone(), &json!({"symbols": [SYMBOL, "OTHER-USDT"]}));
    let of_result = json!({"job_id": job});
    let mut cases: Vec<Case> = Vec::new();
    let unit = "must be between 0 and 1, both excluded";
    for bad in [0.0, 1.0, -0.5, 95.0] {
        let confidence = json!({"confidence": bad});
        for kind in ["risk_report", "monte_carlo"] {
            cases.push((kind, with(of_result.clone(), &confidence), unit));
        }
        for kind in ["correlation_matrix", "pairs_backtest"] {
            cases.push((kind, with(pair.clone(), &confidence), unit));
        }
        let factors = with(given(returns(100)), &json!({"factors": {"a": returns(100)}}));
        cases.push(("factor_analysis", with(factors, &confidence), unit));
        cases.push(("var_calculation", with(of_result.clone(), &json!({"confidence": [0.95, bad]})), "from 0.5 to below 1"));
        cases.push(("stress_test", with(of_result.clone(), &json!({"gaps": [0.1, bad]})), "fractions between 0 and 1"));
        cases.push(("stress_test", with(of_result.clone(), &json!({"spreads": [bad]})), "fractions between 0 and 1"));
        cases.push(("stress_test", with(of_result.clone(), &json!({"funding_rates": [bad]})), "fractions between 0 and 1"));
        cases.push(("monte_carlo", with(of_result.clone(), &json!({"ruin_loss": bad})), "a fraction between 0 and 1"));
        cases.push(("monte_carlo", with(of_result.clone(), &json!({"drawdown_levels": [bad]})), "fractions between 0 and 1"));
        cases.push(("var_calculation", with(of_result.clone(), &json!({"decay": bad})), "must be between 0 and 1"));
    }
    for (kind, option, words) in [
        ("risk_report", json!({"replications": 99}), "from 100 to 50000"),
        ("risk_report", json!({"replications": 1_000_000_000}), "from 100 to 50000"),
        ("risk_report", json!({"paths": -1}), "invalid value"),
        ("risk_report", json!({"seed": 0.5}), "invalid type"),
        ("var_calculation", json!({"confidence": []}), "1 to 5 numbers"),
        ("var_calculation", json!({"horizons": [0]}), "from 1 to 1000"),
        ("var_calculation", json!({"horizons": [1001]}), "from 1 to 1000"),
        ("var_calculation", json!({"methods": []}), "name 1 to 6, each once"),
        ("var_calculation", json!({"methods": ["ewma", "ewma"]}), "name 1 to 6, each once"),
        ("var_calculation", json!({"methods": ["square_root"]}), "unknown variant"),
        ("var_calculation", json!({"paths": 99}), "from 100 to 200000"),
        ("var_calculation", json!({"paths": 200_000, "horizons": [996, 997, 998, 999, 1000]}), "at most 1000000000 are simulated"),
        ("var_calculation", json!({"block_length": 0.5}), "at least 1"),
        ("monte_carlo", json!({"method": "permutation"}), "unknown variant"),
        ("monte_carlo", json!({"paths": 1_000_001}), "from 100 to 1000000"),
        ("monte_carlo", json!({"steps": 0}), "from 1 to 1000000"),
        ("monte_carlo", json!({"block_length": 0.5}), "at least 1"),
        ("stress_test", json!({"gaps": [0.1; 11]}), "at most 10"),
        ("stress_test", json!({"fee_multiples": [-1]}), "from 0 to 100"),
        ("stress_test", json!({"halt_hours": [0]}), "from 1 to 720"),
        ("stress_test", json!({"halt_hours": [721]}), "from 1 to 720"),
        ("regime_detector", json!({"regimes": 1}), "must be 2 or 3"),
        ("regime_detector", json!({"regimes": 4}), "must be 2 or 3"),
        ("analyze_results", json!({"trades": 101}), "at most 100"),
        ("factor_analysis", json!({}), "give symbols (with exchange)"),
        ("factor_analysis", json!({"factors": {"": returns(10)}}), "must have 1 to 64 bytes"),
    ] {
        cases.push((kind, with(of_result.clone(), &option), words));
    }
    for (kind, option, words) in [
        ("pairs_backtest", json!({"lags": 51}), "at most 50"),
        ("pairs_backtest", json!({"window": 9}), "from 10 to 5000"),
        ("pairs_backtest", json!({"symbols": [SYMBOL]}), "a pair has two"),
        ("pairs_backtest", json!({"symbols": [SYMBOL, "A-B", "C-D"]}), "a pair has two"),
        ("correlation_matrix", json!({"method": "kendall"}), "unknown variant"),
        ("correlation_matrix", json!({"symbols": [SYMBOL]}), "give two or more"),
        ("correlation_matrix", json!({"symbols": [SYMBOL, SYMBOL]}), "is named twice"),
        ("correlation_matrix", json!({"symbols": []}), "give two or more"),
        ("correlation_matrix", json!({"timeframe": "7m"}), "divides a day"),
        ("correlation_matrix", json!({"finish_date": "2023-01-01"}), "after start_date"),
    ] {
        cases.push((kind, with(pair.clone(), &option), words));
    }
    cases
}

/// Good requests for data that have no answer: the job ends with the reason.
fn unfit(none: &str) -> Vec<Case> {
    let range = json!({"exchange": EXCHANGE, "start_date": "2023-02-01", "finish_date": "2023-03-01"});
    let symbols = |names: [&str; 2]| with(range.clone(), &json!({"symbols": names}));
    let factors = |factors: Value| with(given(returns(100)), &json!({"factors": factors}));
    let double: Vec<f64> = returns(100).iter().map(|value| 2.0 * value).collect();
    let squared: Vec<f64> = returns(100).iter().map(|value| value * value).collect();
    let none = json!({"job_id": none});
    vec![
        ("risk_report", given([0.001; 100]), "does not vary"),
        ("risk_report", given(returns(3)), "needs at least 4"),
        ("monte_carlo", given(returns(19)), "has 19, needs at least 20"),
        ("regime_detector", given(returns(10)), "at least"),
        ("regime_detector", given([0.001; 100]), "does not vary"),
        ("factor_analysis", factors(json!({"a": returns(99)})), "has 99 values where the others have 100"),
        ("factor_analysis", factors(json!({"a": [2.0; 100]})), "depend on one another linearly"),
        ("factor_analysis", factors(json!({"a": squared, "b": double, "c": returns(100)})), "depend on one another linearly"),
        ("factor_analysis", factors(json!({"itself": returns(100)})), "does not vary"),
        ("factor_analysis", with(given(returns(19)), &json!({"factors": {"a": returns(19)}})), "at least"),
        ("risk_report", none.clone(), "no trade"),
        ("var_calculation", none.clone(), "no trade"),
        ("monte_carlo", none.clone(), "no trade"),
        ("analyze_results", none, "no trade"),
        ("correlation_matrix", symbols([SYMBOL, "FLAT-USDT"]), "FLAT-USDT: does not vary"),
        ("pairs_backtest", symbols([SYMBOL, "FLAT-USDT"]), "does not vary"),
        ("pairs_backtest", symbols(["ONE-USDT", "TWIN-USDT"]), "depend on one another linearly"),
        (
            "pairs_backtest",
            with(symbols([SYMBOL, "ONE-USDT"]), &json!({"timeframe": "1D"})),
            "has 28, needs at least 50",
        ),
        (
            "correlation_matrix",
            with(symbols([SYMBOL, "ONE-USDT"]), &json!({"timeframe": "1D", "finish_date": "2023-02-03"})),
            "needs at least 4",
        ),
    ]
}

async fn submit(deployment: &Deployment, kind: &str, spec: &Value) -> (u16, Value) {
    deployment.post("/v1/jobs?wait=120", &json!({"kind": kind, "spec": spec})).await
}

#[tokio::test]
async fn every_tool_refuses_what_means_nothing() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    generate_on(data, "FLAT-USDT", 120, 1, &["--volatility", "0"]);
    for (symbol, days) in [("ONE-USDT", 120), ("TWIN-USDT", 120), ("SHORT-USDT", 40)] {
        generate(data, symbol, days, 3);
    }
    let job = deployment.backtest(&month("SmaCross")).await["job_id"].as_str().unwrap().to_owned();
    let none = deployment.backtest(&month("NoTrades")).await["job_id"].as_str().unwrap().to_owned();

    for (kind, spec, words) in bad_series().into_iter().chain(bad_weights(&job)).chain(bad_options(&job)) {
        let (status, problem) = submit(&deployment, kind, &spec).await;
        let shown = format!("{kind} {spec:.200}: {status} {problem}");
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{shown}");
        let message = problem["detail"].as_str().unwrap();
        assert!(message.contains(words), "{words:?} is not in it: {shown}");
        assert!(message.len() < 600, "{shown}");
    }
    for (kind, spec, words) in unfit(&none) {
        let (status, failed) = submit(&deployment, kind, &spec).await;
        let shown = format!("{kind} {spec:.200}: {status} {failed}");
        assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("unfit_data")), "{shown}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(words), "{words:?} is not in it: {shown}");
    }
    // A symbol that ends in the midst of the range is no shorter series: what is missing is named.
    let short = json!({"exchange": EXCHANGE, "symbols": [SYMBOL, "SHORT-USDT"], "start_date": "2023-02-01", "finish_date": "2023-03-01"});
    for kind in ["correlation_matrix", "pairs_backtest"] {
        let (status, problem) = submit(&deployment, kind, &short).await;
        assert_eq!((status, &problem["code"]), (422, &json!("candles_missing")), "{kind}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("SHORT-USDT"), "{kind}: {problem}");
    }
    // Numbers that JSON has not, or that no number is large enough for.
    for text in ["NaN", "Infinity", "-Infinity", "1e999"] {
        let body = format!("{{\"kind\":\"risk_report\",\"spec\":{{\"returns\":[0.1,{text}],\"period\":\"1D\"}}}}");
        let request = deployment.client.post(deployment.url("/v1/jobs")).header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        assert!([400, 422].contains(&response.status().as_u16()), "{text}: {response:?}");
        let problem: Map<String, Value> = response.json().await.unwrap();
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{text}: {problem:?}");
    }
    // And the worker lives on.
    let (_, fine) = submit(&deployment, "risk_report", &json!({"job_id": job})).await;
    assert_eq!(fine["state"], "succeeded", "{fine}");
}

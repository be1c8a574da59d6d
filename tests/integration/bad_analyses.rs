//! Whatever an analysis is asked of gets an answer that means something, or an error that names the field or what the data lack.

use serde_json::{Value, json};

use crate::{
    access::deployment::{Answer, Client, TENANTS, key},
    harness::{Deployment, EXCHANGE, SYMBOL, month, with},
    pairs::{DAYS, import_without, walk},
};

/// What comes of a request.
#[derive(Debug)]
enum Comes {
    /// It is refused: HTTP status, code, and the field that it names.
    Refused(u16, &'static str, &'static str),
    /// It is accepted and fails for good: code, and words of the message.
    Fails(&'static str, &'static str),
    /// It has an answer, if only that the data do not allow one.
    Answered,
}
use Comes::{Answered, Fails, Refused};

type Case = (&'static str, Value, Comes);

/// Of these one may have returns.
const OF_RETURNS: [&str; 5] =
    ["risk_report", "var_calculation", "monte_carlo", "factor_analysis", "regime_detector"];
/// Of these one names one result.
const OF_RESULTS: [&str; 6] =
    ["risk_report", "var_calculation", "monte_carlo", "stress_test", "analyze_results", "regime_detector"];

const FLAT: &str = "FLAT-USDT";
const COPY: &str = "COPY-USDT";
const TWIN: &str = "TWIN-USDT";
const HOLED: &str = "HOLED-USDT";
const SHORT: &str = "SHORT-USDT";

/// Symbols that are no use.
fn import(deployment: &Deployment) {
    let data = deployment.data.path();
    let (walked, none) = (walk(5), 0..0);
    import_without(data, EXCHANGE, FLAT, &vec![100.0; DAYS * 1440], &none);
    import_without(data, EXCHANGE, COPY, &walked, &none);
    import_without(data, EXCHANGE, TWIN, &walked, &none);
    import_without(data, EXCHANGE, HOLED, &walked, &(20_000..20_100));
    import_without(data, EXCHANGE, SHORT, &walked[..5 * 1440], &none);
}

fn ranged(symbols: &[&str]) -> Value {
    json!({"exchange": EXCHANGE, "symbols": symbols, "start_date": "2023-01-05", "finish_date": "2023-02-05"})
}

fn returns() -> Vec<f64> {
    (0..200_u32).map(|at| f64::from(at * 37 % 100) / 5000.0 - 0.01).collect()
}

/// What an analysis is asked of beside what is wrong with it.
fn asked(kind: &str, more: &Value) -> Value {
    let needed = match kind {
        "factor_analysis" => json!({"factors": {"market": returns()}}),
        "monte_carlo" => json!({"method": "returns"}),
        _ => json!({}),
    };
    with(needed, more)
}

fn of_returns() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in OF_RETURNS {
        let mut add = |more: Value, comes: Comes| cases.push((kind, asked(kind, &more), comes));
        let daily = |values: Value| json!({"returns": values, "period": "1D"});
        let refused = |field| Refused(422, "invalid_spec", field);
        add(daily(json!([])), refused("returns"));
        add(daily(json!([0.1])), refused("returns"));
        add(daily(json!([0.1, -1.5, 0.2])), refused("returns"));
        add(daily(json!([0.1, "x"])), refused("returns[1]"));
        add(daily(json!([0.1, null])), refused("returns[1]"));
        add(daily(json!("many")), refused("returns"));
        add(daily(json!({"0": 0.1})), refused("returns"));
        add(daily(json!(vec![0.0; 20_001])), refused("returns"));
        add(json!({"returns": returns()}), refused("period"));
        add(json!({"returns": returns(), "period": "7 days"}), refused("period"));
        add(json!({"returns": returns(), "period": 1}), refused("period"));
        add(json!({"returns": returns(), "period": "1D", "days_per_year": 0}), refused("days_per_year"));
        add(json!({"returns": returns(), "period": "1D", "start_date": "soon"}), refused("start_date"));
        add(json!({"returns": returns(), "period": "1D", "confidense": 0.9}), refused("confidense"));
        for few in [json!([0.1, 0.2]), json!(vec![0.01; 200]), json!(vec![0.0; 200]), json!(vec![-0.99; 200])]
        {
            add(daily(few), Answered);
        }
        add(daily(json!([1e300, 1e308, 0.1, 0.2, 1e300])), Refused(422, "invalid_spec", "returns"));
        add(daily(json!(vec![1e50; 200])), Refused(422, "invalid_spec", "returns"));
        add(daily(json!(vec![1e6; 200])), Answered);
    }
    let flat = json!({"returns": vec![0.0; 100], "period": "1D"});
    cases.push(("risk_report", flat, Fails("unfit_data", "does not vary")));
    cases.push((
        "monte_carlo",
        json!({"returns": [0.1, 0.2], "period": "1D"}),
        Fails("unfit_data", "at least 20"),
    ));
    let lengths = json!({"returns": returns(), "period": "1D", "factors": {"market": [0.1, 0.2]}});
    cases.push(("factor_analysis", lengths, Fails("unfit_data", "")));
    let same = json!({"returns": returns(), "period": "1D", "factors": {"a": returns(), "b": returns()}});
    cases.push(("factor_analysis", same, Fails("unfit_data", "linearly")));
    cases
}

fn of_results(job: &str, report: &str, failed: &str) -> Vec<Case> {
    let unknown = "01981c2e-6f1c-7000-8000-000000000000";
    let mut cases = Vec::new();
    for kind in OF_RESULTS {
        let mut add = |more: Value, comes: Comes| cases.push((kind, asked(kind, &more), comes));
        add(json!({"job_id": unknown}), Refused(404, "job_not_found", ""));
        add(json!({"job_id": report}), Refused(400, "invalid_request", "job_id"));
        add(json!({"job_id": failed}), Refused(409, "result_not_ready", "job_id"));
        add(json!({"job_id": "latest"}), Refused(422, "invalid_spec", "job_id"));
        add(json!({"job_id": 7}), Refused(422, "invalid_spec", "job_id"));
        add(json!({"job_id": job, "jobs": []}), Refused(422, "invalid_spec", "job_id"));
        add(json!({"job_id": job, "nothing": 1}), Refused(422, "invalid_spec", "nothing"));
        add(json!({"jobs": [{"job_id": job, "weight": 2}]}), Refused(422, "invalid_spec", "jobs"));
        add(json!({"jobs": [{"job_id": job, "wait": 1}]}), Refused(422, "invalid_spec", "jobs[0].wait"));
        add(json!({"jobs": [job]}), Refused(422, "invalid_spec", "jobs[0]"));
    }
    let mut set = |kind, field: &'static str, values: Vec<Value>| {
        for value in values {
            let spec = with(asked(kind, &json!({"job_id": job})), &json!({ (field): value }));
            cases.push((kind, spec, Refused(422, "invalid_spec", field)));
        }
    };
    let outside = || vec![json!(0), json!(1), json!(-1), json!(2), json!("high"), json!(null), json!([0.95])];
    for kind in ["risk_report", "monte_carlo", "factor_analysis"] {
        set(kind, "confidence", outside());
    }
    set("var_calculation", "confidence", [0, 1, -1, 2].map(|wrong| json!([wrong])).to_vec());
    set("var_calculation", "confidence", vec![json!([]), json!(0.95), json!("high")]);
    set("var_calculation", "horizons", vec![json!([0]), json!([]), json!(10)]);
    set("risk_report", "paths", vec![json!(1), json!(1e9), json!(-5), json!(1.5)]);
    set("monte_carlo", "paths", vec![json!(1), json!(1_000_001), json!("all")]);
    set("monte_carlo", "ruin_loss", vec![json!(0), json!(1), json!(-1)]);
    set("stress_test", "gaps", vec![json!([0]), json!([1]), json!(vec![0.1; 11]), json!(0.1)]);
    set("stress_test", "fee_multiples", vec![json!([-1]), json!([101]), json!(vec![2; 11])]);
    set("stress_test", "rerun", vec![json!("no"), json!(1)]);
    set("stress_test", "halt_hours", vec![json!([0]), json!([721])]);
    set("regime_detector", "regimes", vec![json!(1), json!(9), json!("two")]);
    set("analyze_results", "trades", vec![json!(101), json!(-1)]);
    cases
}

fn of_symbols() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for kind in ["pairs_backtest", "correlation_matrix"] {
        let mut add = |symbols: [&str; 2], more: Value, comes: Comes| {
            cases.push((kind, with(ranged(&symbols), &more), comes));
        };
        let (fine, refused) = ([SYMBOL, COPY], |field| Refused(422, "invalid_spec", field));
        add([COPY, COPY], json!({}), refused("symbols"));
        add([COPY, "btc"], json!({}), refused("symbols"));
        add([COPY, "NO-USDT"], json!({}), Refused(422, "candles_missing", ""));
        add([COPY, SHORT], json!({}), Refused(422, "candles_missing", ""));
        add([COPY, HOLED], json!({}), Refused(422, "candles_missing", ""));
        add([COPY, HOLED], json!({"allow_gaps": true}), Answered);
        add([COPY, FLAT], json!({}), Fails("unfit_data", ""));
        add(fine, json!({"symbols": [COPY]}), refused("symbols"));
        add(fine, json!({"symbols": [COPY, 7]}), refused("symbols[1]"));
        add(fine, json!({"symbols": COPY}), refused("symbols"));
        add(fine, json!({"exchange": null}), refused("exchange"));
        add(fine, json!({"timeframe": "7m"}), refused("timeframe"));
        add(fine, json!({"timeframe": 60}), refused("timeframe"));
        add(fine, json!({"start_date": "2023-02-30"}), refused("start_date"));
        add(fine, json!({"finish_date": "2023-01-05"}), refused("finish_date"));
        add(fine, json!({"start_date": "2020-01-05"}), Refused(422, "candles_missing", ""));
        for wrong in [json!(0), json!(1), json!(-1), json!(2), json!("high"), json!(null)] {
            add(fine, json!({"confidence": wrong}), refused("confidence"));
        }
        add(fine, json!({"confidense": 0.9}), refused("confidense"));
    }
    let mut pair = |symbols: [&str; 2], more: Value, comes: Comes| {
        cases.push(("pairs_backtest", with(ranged(&symbols), &more), comes));
    };
    pair([COPY, TWIN], json!({}), Fails("unfit_data", ""));
    for (field, wrong) in [
        ("start_date", json!({"finish_date": "2023-01-07"})),
        ("start_date", json!({"timeframe": "1D"})),
        ("start_date", json!({"window": 2000})),
        ("finish_date", json!({"finish_date": "2023-01-06"})),
        ("window", json!({"window": 5})),
        ("lags", json!({"lags": 51})),
        ("lags", json!({"lags": -1})),
        ("entry_z", json!({"entry_z": 0})),
        ("entry_z", json!({"entry_z": "two"})),
        ("exit_z", json!({"exit_z": 2})),
        ("exit_z", json!({"exit_z": -0.1})),
        ("stop_z", json!({"stop_z": 1.9})),
        ("formation_share", json!({"formation_share": 1})),
        ("fee", json!({"fee": 6})),
        ("balance", json!({"balance": 0})),
        ("trade", json!({"trade": "yes"})),
    ] {
        pair([SYMBOL, COPY], wrong, Refused(422, "invalid_spec", field));
    }
    let one = |symbol: &str| with(ranged(&[]), &json!({"symbols": null, "symbol": symbol}));
    cases.push(("regime_detector", one(FLAT), Fails("unfit_data", "")));
    cases.push(("regime_detector", one(HOLED), Refused(422, "candles_missing", "")));
    cases.push(("regime_detector", one("NO-USDT"), Refused(422, "candles_missing", "")));
    cases.push(("regime_detector", ranged(&[COPY, TWIN]), Refused(422, "invalid_spec", "symbol")));
    cases
}

/// The first field that an error names, in its list and in its words.
fn named(problem: &Value) -> String {
    let words = problem["detail"].as_str().unwrap_or_default();
    let words = words.strip_prefix("spec: ").unwrap_or(words);
    let listed = problem["errors"][0]["field"].as_str();
    let said = words.split_once(": ").map_or("", |(field, _)| field);
    listed
        .map_or(said, |listed| if words.starts_with(listed) { listed } else { "listed otherwise than said" })
        .to_owned()
}

/// What is wrong with what comes of a request; nothing if it is as it should be.
async fn wrong(client: &Client, (kind, spec, comes): &Case) -> Option<String> {
    let Answer { status, body, .. } =
        client.post("/v1/jobs?wait=120", &json!({"kind": kind, "spec": spec})).await;
    let error = &body["error"];
    let fails = body["state"] == "failed" && error["retryable"] != true;
    let as_it_should = match comes {
        Refused(should, code, field) => {
            (status, &body["code"]) == (*should, &json!(code)) && (field.is_empty() || named(&body) == *field)
        }
        Fails(code, words) => {
            fails
                && error["code"] == *code
                && error["message"].as_str().is_some_and(|said| said.contains(words))
        }
        Answered => {
            status == 200 && (body["state"] == "succeeded" || (fails && error["code"] == "unfit_data"))
        }
    };
    let text = body.to_string();
    let sound = !["NaN", "inf,", "panicked"].iter().any(|odd| text.contains(odd));
    let asked = spec.to_string().chars().take(160).collect::<String>();
    (!as_it_should || !sound).then(|| format!("{kind} {asked} should be {comes:?} but is {status} {body}"))
}

#[tokio::test]
async fn every_bad_request_for_an_analysis_names_what_is_wrong() {
    let deployment = Deployment::start(&["--holdout-share", "0"]);
    import(&deployment);
    let data = deployment.data.path();
    let (own, other) = (key(data, "a", TENANTS), key(data, "b", TENANTS));
    let (own, other) = (Client::new(&deployment, &own), Client::new(&deployment, &other));
    let submit = async |client: &Client, kind: &str, spec: &Value| {
        let answer = client.post("/v1/jobs?wait=120", &json!({"kind": kind, "spec": spec})).await;
        answer.body["job_id"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
    };
    let job = submit(&own, "backtest", &month("SmaCross")).await;
    let report = submit(&own, "risk_report", &json!({"job_id": job})).await;
    let failed = submit(&own, "backtest", &month("RaisesWhileRunning")).await;
    let theirs = submit(&other, "backtest", &month("SmaCross")).await;
    let mut cases = of_returns();
    cases.extend(of_results(&job, &report, &failed));
    cases.extend(of_symbols());
    for kind in OF_RESULTS {
        cases.push((kind, asked(kind, &json!({"job_id": theirs})), Refused(404, "job_not_found", "")));
        cases.push((kind, json!([]), Refused(422, "invalid_spec", "")));
    }
    let mut all_wrong = Vec::new();
    for case in &cases {
        all_wrong.extend(wrong(&own, case).await);
    }
    assert!(all_wrong.is_empty(), "{} of {}:\n{}", all_wrong.len(), cases.len(), all_wrong.join("\n"));
    // What is no JSON, or a number beyond all numbers.
    for value in ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"] {
        let body =
            format!(r#"{{"kind": "risk_report", "spec": {{"returns": [0.1, {value}], "period": "1D"}}}}"#);
        let request = own.http.post(format!("{}/v1/jobs", own.url)).bearer_auth(&own.key);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert!((400..500).contains(&answer.status().as_u16()), "{value}: {answer:?}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "invalid_request", "{value}: {problem}");
    }
}

//! Risk analyses through the queue, on results of a real Jesse.

use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, SYMBOL, month, with},
    mcp::{call_checked, connect, structured},
};

/// A backtest of a month, which has 28 daily returns and trades.
async fn backtest(deployment: &Deployment) -> String {
    let job = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

async fn analysis(deployment: &Deployment, kind: &str, spec: &Value) -> (u16, Value) {
    deployment.post("/v1/jobs?wait=120", &json!({"kind": kind, "spec": spec})).await
}

#[tokio::test]
async fn every_analysis_answers_and_is_cached_by_what_it_is_computed_from() {
    let deployment = Deployment::shared();
    let job = backtest(&deployment).await;
    let range = json!({"exchange": EXCHANGE, "start_date": "2023-02-01", "finish_date": "2023-03-01"});
    let symbol = with(range, &json!({"symbol": SYMBOL, "timeframe": "1h"}));
    for (kind, spec, key) in [
        ("risk_report", json!({"job_id": job}), "in_words"),
        ("var_calculation", json!({"job_id": job}), "losses"),
        ("monte_carlo", json!({"job_id": job, "method": "returns"}), "terminal_wealth"),
        ("analyze_results", json!({"job_id": job}), "drivers"),
        ("stress_test", json!({"job_id": job}), "gaps"),
        ("factor_analysis", json!({"job_id": job, "exchange": EXCHANGE, "symbols": [SYMBOL]}), "model"),
        ("regime_detector", symbol, "states"),
    ] {
        let (status, first) = analysis(&deployment, kind, &spec).await;
        assert_eq!((status, &first["state"]), (200, &json!("succeeded")), "{kind}: {first}");
        assert!(!first["summary"][key].is_null(), "{kind}: {first}");
        let (_, again) = analysis(&deployment, kind, &spec).await;
        assert_eq!((&again["cached"], &again["summary"]), (&json!(true), &first["summary"]), "{kind}");
    }
}

#[tokio::test]
async fn a_report_has_the_figures_that_jesse_has() {
    let deployment = Deployment::shared();
    let job = deployment.backtest(&month("SmaCross")).await;
    let (_, report) = analysis(&deployment, "risk_report", &json!({"job_id": job["job_id"]})).await;
    let jesse = &job["summary"]["metrics"];
    let near = |ours: &Value, theirs: &Value, scale: f64| {
        let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap() * scale);
        assert!((ours - theirs).abs() < 1e-6 * theirs.abs().max(1e-3), "{ours} {theirs}");
    };
    near(&report["summary"]["total_return"], &jesse["net_profit_percentage"], 0.01);
    near(&report["summary"]["sharpe"]["value"], &jesse["sharpe_ratio"], 1.0);
}

#[tokio::test]
async fn a_report_is_a_page_for_people_too_and_other_jobs_are_none() {
    let deployment = Deployment::shared();
    let job = backtest(&deployment).await;
    let (_, report) = analysis(&deployment, "risk_report", &json!({"job_id": job})).await;
    let page = |id: &Value, form: &str| {
        let path = format!("/v1/jobs/{}/report.{form}", id.as_str().unwrap());
        deployment.client.get(deployment.url(&path))
    };
    let total = 100.0 * report["summary"]["total_return"].as_f64().unwrap();
    for (form, kind, marks) in [
        ("md", "text/markdown; charset=utf-8", ["# Risk report", "| Sharpe ratio |", "## Largest losses"]),
        ("html", "text/html; charset=utf-8", ["<h1>Risk report</h1>", "<td>Sharpe ratio</td>", "<polyline"]),
    ] {
        let read = page(&report["job_id"], form).send().await.unwrap();
        assert_eq!((read.status().as_u16(), read.headers()["content-type"] == kind), (200, true), "{read:?}");
        let tag = read.headers()["etag"].clone();
        let text = read.text().await.unwrap();
        for mark in marks {
            assert!(text.contains(mark), "{mark}: {text}");
        }
        assert!(text.contains(&format!("{total:.2} %")), "{text}");
        assert!(text.contains(report["summary"]["in_words"].as_str().unwrap()), "{text}");
        let again = page(&report["job_id"], form).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status().as_u16(), 304);
        let other = page(&json!(job), form).send().await.unwrap();
        assert_eq!(other.status().as_u16(), 400);
        let problem: Value = other.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("only a risk_report"), "{problem}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_with_what_is_allowed() {
    let deployment = Deployment::shared();
    let job = backtest(&deployment).await;
    let unknown = "01981c2e-6f1c-7000-8000-000000000000";
    let none = deployment.backtest(&month("NoTrades")).await;
    for (kind, spec, code, words) in [
        ("risk_report", json!({}), "invalid_spec", "give one of job_id"),
        ("risk_report", json!({"job_id": unknown}), "job_not_found", "no job"),
        ("risk_report", json!({"job_id": job, "confidence": 1.0}), "invalid_spec", "between 0 and 1"),
        ("risk_report", json!({"job_id": job, "confidense": 0.9}), "invalid_spec", "unknown field"),
        ("var_calculation", json!({"returns": [0.1], "period": "1D"}), "invalid_spec", "at least 2"),
        ("var_calculation", json!({"job_id": job, "confidence": [95]}), "invalid_spec", "from 0.5"),
        ("monte_carlo", json!({"job_id": job, "method": "permutation"}), "invalid_spec", "unknown variant"),
        ("monte_carlo", json!({"method": "trades"}), "invalid_spec", "need a job_id"),
        (
            "pairs_backtest",
            json!({"exchange": EXCHANGE, "symbols": [SYMBOL], "start_date": "2023-02-01", "finish_date": "2023-03-01"}),
            "invalid_spec",
            "a pair has two",
        ),
        (
            "correlation_matrix",
            json!({"exchange": EXCHANGE, "symbols": [SYMBOL, "NO-USDT"], "start_date": "2023-02-01", "finish_date": "2023-03-01"}),
            "candles_missing",
            "NO-USDT",
        ),
    ] {
        let (status, problem) = analysis(&deployment, kind, &spec).await;
        assert!(status >= 400, "{kind} {spec}: {problem}");
        assert_eq!(problem["code"], code, "{kind} {spec}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{kind} {spec}: {problem}");
    }
    let flat = json!({"returns": vec![0.0; 100], "period": "1D"});
    for (kind, spec, words) in [
        ("risk_report", flat, "does not vary"),
        ("risk_report", json!({"job_id": none["job_id"]}), "no trade"),
        ("monte_carlo", json!({"returns": [0.1, 0.2], "period": "1D"}), "needs at least 20"),
    ] {
        let (_, failed) = analysis(&deployment, kind, &spec).await;
        assert_eq!(failed["error"]["code"], "unfit_data", "{kind}: {failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(words), "{kind}: {failed}");
    }
}

#[tokio::test]
async fn a_stressed_backtest_is_run_again_with_each_fee_beside_what_its_trades_say() {
    let deployment = Deployment::shared();
    let costly = |fee: f64| with(month("SmaCross"), &json!({"fee": fee}));
    let job = deployment.backtest(&costly(0.002)).await;
    let asked = json!({"job_id": job["job_id"], "fee_multiples": [0, 2, 100]});
    let (_, stressed) = analysis(&deployment, "stress_test", &asked).await;
    assert_eq!(stressed["state"], "succeeded", "{stressed}");
    let id = stressed["job_id"].as_str().unwrap();
    let (_, result) = deployment.get(&format!("/v1/jobs/{id}/result")).await;
    // As it was, it comes to the same.
    assert_eq!(result["run_again"]["profit"], job["summary"]["metrics"]["net_profit"], "{result}");
    assert!(result["run_again"]["warning"].is_null(), "{result}");
    let fees = result["fees"].as_array().unwrap();
    for (fee, paid) in fees.iter().zip([0.0, 0.004]) {
        let alone = deployment.backtest(&costly(paid)).await;
        assert_eq!(alone["cached"], true, "it is a backtest like any other: {alone}");
        assert_eq!(fee["run_again"]["profit"], alone["summary"]["metrics"]["net_profit"], "{fee}");
        // Sizes follow the balance, so it is not the same trades at another price.
        assert_ne!(fee["run_again"]["profit"], fee["profit"], "{fee}");
    }
    assert!(
        fees[2]["run_again"]["refused"].as_str().unwrap().contains("more than a backtest takes"),
        "{}",
        fees[2]
    );
    let asked = with(asked, &json!({"rerun": false}));
    let (_, estimated) = analysis(&deployment, "stress_test", &asked).await;
    assert_eq!(estimated["summary"]["fees"][0]["profit"], stressed["summary"]["fees"][0]["profit"]);
    assert!(estimated["summary"]["fees"][0]["run_again"].is_null(), "{estimated}");
}

#[tokio::test]
async fn an_agent_reads_a_report_that_fits_its_context() {
    let deployment = Deployment::shared();
    let job = backtest(&deployment).await;
    let client = connect(&deployment).await;
    let report = call_checked(&client, "risk_report", json!({"job_id": job, "wait_seconds": 50})).await;
    let answer = structured(&report);
    assert_eq!(answer["state"], "succeeded", "{answer}");
    assert!(answer.to_string().len() < 3072, "{} bytes", answer.to_string().len());
    let drawn =
        call_checked(&client, "monte_carlo", json!({"job_id": job, "method": "trades", "wait_seconds": 50}))
            .await;
    assert_eq!(structured(&drawn)["kind"], "monte_carlo");
}

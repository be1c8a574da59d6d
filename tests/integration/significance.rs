//! Tests of significance: Jesse's own figures, found again, and refused before anything is queued.

use jesse::candles::{self, Candle, WalkSettings};
use serde_json::{Value, json};

use crate::{
    harness::{DAYS, Deployment, EXCHANGE, SEED, SYMBOL, month, with},
    mcp::{call, call_checked, connect, structured},
    same_as_jesse::{ask_jesse, write_npy},
};

async fn submit(deployment: &Deployment, spec: &Value) -> (u16, Value) {
    deployment.post("/v1/jobs?wait=120", &json!({"kind": "significance_test", "spec": spec})).await
}

#[tokio::test]
async fn a_test_says_what_jesse_says_with_the_same_seed() {
    let deployment = Deployment::shared();
    let settings =
        WalkSettings { seed: SEED, minutes: DAYS * 1440, start_price: 20_000.0, ..WalkSettings::default() };
    let rows: Vec<Candle> = candles::generate(settings).unwrap().collect();
    let folder = tempfile::tempdir().unwrap();
    let file = write_npy(folder.path(), "rows.npy", &rows);
    let series = json!([{"exchange": EXCHANGE, "symbol": SYMBOL, "file": file}]);
    for (strategy, changes) in [
        ("SmaCross", json!({})),
        (
            "SmaCross",
            json!({"hyperparameters": {"fast": 7}, "warm_up_candles": 120, "data_routes": [{"symbol": SYMBOL, "timeframe": "4h"}]}),
        ),
        (
            "RsiReversion",
            json!({"timeframe": "30m", "n_simulations": 150, "seed": 7, "mean_block_length": 3}),
        ),
    ] {
        let spec = with(month(strategy), &changes);
        let (_, job) = submit(&deployment, &spec).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        let checked = &job["spec"];
        let bootstrap = json!({
            "n_simulations": checked["n_simulations"],
            "random_seed": checked["seed"],
            "bootstrap_mean_block_length": checked["mean_block_length"],
        });
        let theirs = ask_jesse(
            &checked["backtest"],
            &json!({"series": series, "significance_test": bootstrap}),
            folder.path(),
        );
        let (_, ours) = deployment.get(&format!("/v1/jobs/{}/result", job["job_id"].as_str().unwrap())).await;
        for (name, theirs) in theirs.as_object().unwrap() {
            assert_eq!(&ours[name], theirs, "{spec}: {name}");
            assert!(name == "simulated_means" || &job["summary"][name] == theirs, "{spec}: {name}");
        }
        let means = ours["simulated_means"].as_array().unwrap();
        assert_eq!(json!(means.len()), checked["n_simulations"]);
        let signals = &job["summary"]["signals"];
        let counted: u64 = ["long", "short", "none"].map(|name| signals[name].as_u64().unwrap()).iter().sum();
        assert_eq!(json!(counted), job["summary"]["n_observations"], "{signals}");
        assert!(signals["long"].as_u64().unwrap() > 0, "{signals}");
        assert_eq!(ours["provenance"]["bootstrap"]["random_seed"], checked["seed"]);
    }
}

#[tokio::test]
async fn a_test_is_found_again_until_what_it_was_computed_from_changes() {
    let deployment = Deployment::start(&[]);
    let spec = with(month("SmaCross"), &json!({"n_simulations": 200}));
    let (_, first) = submit(&deployment, &spec).await;
    assert_eq!((&first["state"], &first["cached"]), (&json!("succeeded"), &json!(false)), "{first}");
    // The same in other words.
    let same =
        with(spec.clone(), &json!({"random_seed": 42, "bootstrap_mean_block_length": 10, "leverage": 1}));
    let (_, again) = submit(&deployment, &same).await;
    assert_eq!((&again["cached"], &again["summary"]), (&json!(true), &first["summary"]), "{again}");
    for changes in [
        json!({"seed": 43}),
        json!({"n_simulations": 201}),
        json!({"mean_block_length": 9}),
        json!({"hyperparameters": {"fast": 21}}),
    ] {
        let (_, other) = submit(&deployment, &with(spec.clone(), &changes)).await;
        assert_eq!(
            (&other["state"], &other["cached"]),
            (&json!("succeeded"), &json!(false)),
            "{changes}: {other}"
        );
        assert_ne!(other["summary"]["compute_s"], first["summary"]["compute_s"], "{changes}");
    }
    // A backtest of the same is another question.
    assert_eq!(deployment.backtest(&month("SmaCross")).await["cached"], false);
    let invalidated = deployment.post("/v1/cache/invalidate", &json!({"strategy": "SmaCross"})).await;
    assert_eq!(invalidated.0, 200, "{invalidated:?}");
    let (_, anew) = submit(&deployment, &spec).await;
    assert_eq!(anew["cached"], false, "{anew}");
    assert_eq!(anew["summary"]["p_value"], first["summary"]["p_value"]);
}

#[tokio::test]
async fn what_a_test_cannot_take_into_account_is_refused_before_it_is_queued() {
    let deployment = Deployment::shared();
    let route = json!({"strategy": "SmaCross", "symbol": SYMBOL, "timeframe": "1h"});
    let two = json!({
        "exchange": EXCHANGE, "start_date": "2023-02-01", "finish_date": "2023-03-01", "routes": [route, route],
    });
    let history = json!({"pipeline": {"type": "moving_block_bootstrap"}, "seed": 1});
    for (spec, code, words) in [
        (json!(7), "invalid_spec", "must be an object"),
        (month("SmaCros"), "strategy_not_found", "did you mean"),
        (
            with(month("SmaCross"), &json!({"n_simulations": 99})),
            "invalid_spec",
            "n_simulations: must be from 100 to 100000",
        ),
        (with(month("SmaCross"), &json!({"n_simulations": 1e9})), "invalid_spec", "u32"),
        (with(month("SmaCross"), &json!({"seed": -1})), "invalid_spec", "u32"),
        (
            with(month("SmaCross"), &json!({"mean_block_length": 0})),
            "invalid_spec",
            "mean_block_length: must be from 1 to 335",
        ),
        (
            with(month("SmaCross"), &json!({"mean_block_length": 336})),
            "invalid_spec",
            "must be from 1 to 335",
        ),
        (
            with(month("SmaCross"), &json!({"timeframe": "1D", "finish_date": "2023-02-03"})),
            "invalid_spec",
            "finish_date: the period has 2 bars of 1D",
        ),
        (
            with(month("SmaCross"), &json!({"benchmark": true})),
            "invalid_spec",
            "benchmark: the test has no trades",
        ),
        (
            with(month("SmaCross"), &json!({"fast_mode": true})),
            "invalid_spec",
            "fast_mode: the test has a simulator",
        ),
        (
            with(month("SmaCross"), &json!({"scenario": history})),
            "invalid_spec",
            "scenario: the test resamples",
        ),
        (
            with(month("SmaCross"), &json!({"simulations": 100})),
            "invalid_spec",
            "unknown field `simulations`",
        ),
        (with(month("SmaCross"), &json!({"finish_date": "2024-03-01"})), "candles_missing", "Binance"),
        (two, "invalid_spec", "routes"),
    ] {
        let (status, problem) = submit(&deployment, &spec).await;
        let told = (status == 422 && problem["code"] == code) || status == 400;
        assert!(told && problem.to_string().contains(words), "{spec}: {status} {problem}");
    }
}

#[tokio::test]
async fn a_strategys_own_mistakes_and_silence_are_told() {
    let deployment = Deployment::shared();
    let (_, failed) = submit(&deployment, &month("RaisesWhileRunning")).await;
    assert_eq!(
        (&failed["state"], &failed["error"]["code"]),
        (&json!("failed"), &json!("strategy_error")),
        "{failed}"
    );
    assert!(failed["error"]["message"].as_str().unwrap().contains("__init__.py:"), "{failed}");
    let (_, silent) = submit(&deployment, &with(month("NoTrades"), &json!({"n_simulations": 100}))).await;
    assert_eq!(silent["state"], "succeeded", "{silent}");
    assert_eq!(
        (&silent["summary"]["p_value"], &silent["summary"]["observed_mean"]),
        (&json!(1.0), &json!(0.0))
    );
    assert!(silent["summary"]["warning"].as_str().unwrap().contains("gave no signal"), "{silent}");
    let few = json!({"timeframe": "1D", "finish_date": "2023-02-15", "mean_block_length": 2, "warm_up_candles": 20});
    let (_, few) = submit(&deployment, &with(month("SmaCross"), &few)).await;
    assert!(few["summary"]["warning"].as_str().unwrap().contains("13 returns are few"), "{few}");
}

#[tokio::test]
async fn an_agent_tests_a_strategy_in_one_call() {
    let deployment = Deployment::shared();
    let client = connect(&deployment).await;
    let spec = with(month("Breakout"), &json!({"random_seed": 5, "wait_seconds": 50}));
    let first = call_checked(&client, "significance_test", spec.clone()).await;
    let view = structured(&first);
    assert_eq!((&view["kind"], &view["state"]), (&json!("significance_test"), &json!("succeeded")), "{view}");
    let p_value = view["summary"]["p_value"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&p_value), "{view}");
    assert!(view.to_string().len() < 2048, "{} bytes", view.to_string().len());
    let again = call(&client, "significance_test", spec.clone()).await;
    assert_eq!(structured(&again)["cached"], json!(true));
    let wrong = call(&client, "significance_test", with(spec, &json!({"n_simulations": 3}))).await;
    assert_eq!(wrong.is_error, Some(true));
    assert_eq!(structured(&wrong)["error"]["code"], "invalid_spec");
}

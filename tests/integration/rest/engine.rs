//! The engine itself: what becomes of a run when the server, or the way to it, is not as it should be.

use std::time::Duration;

use jesse::{
    catalogue::{Exchange, Market},
    plan::Limits,
    rest::{RestEngine, RestRequest, RestResult, Token, session_id},
    runner::TaskError,
    spec::BacktestSpec,
};
use jobs::{ErrorCode, JobError, RunId};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    proxy::Proxy,
    server::{ETH, HALF_A_DAY, JesseServer, settings},
};
use crate::harness::{EXCHANGE, LIMIT, SYMBOL};

fn spec(strategy: &str, changes: &Value) -> BacktestSpec {
    let mut spec = json!({
        "exchange": EXCHANGE, "routes": [{"strategy": strategy, "symbol": SYMBOL, "timeframe": "1h"}],
        "start_date": "2023-02-01", "finish_date": "2023-03-01", "balance": 10_000.0, "fee": 0.0006, "leverage": 1,
        "leverage_mode": "cross", "warm_up_candles": 240, "fast_mode": true, "benchmark": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// Takes long enough to be met while it runs, and comes back to Jesse often.
fn long() -> BacktestSpec {
    let routes = json!([{"strategy": "SmaCross", "symbol": SYMBOL, "timeframe": "1m"}]);
    spec("SmaCross", &json!({"routes": routes, "fast_mode": false, "start_date": "2023-01-10"}))
}

fn exchange() -> Exchange {
    let leverage_modes = vec!["cross".into(), "isolated".into()];
    let market = Market::Futures;
    Exchange {
        market,
        fee: 0.0004,
        leverage_modes,
        simulation_model: None,
        annualization: None,
        settlement_currency: None,
    }
}

async fn run(engine: &RestEngine, spec: &BacktestSpec) -> Result<RestResult, TaskError> {
    run_as(engine, spec, &RunId::generate().to_string(), &CancellationToken::new()).await
}

async fn run_as(
    engine: &RestEngine,
    spec: &BacktestSpec,
    run: &str,
    stop: &CancellationToken,
) -> Result<RestResult, TaskError> {
    let exchange = exchange();
    let request =
        RestRequest { spec, exchange: &exchange, limits: Limits::default(), run, attempt: 1, progress: None };
    engine.run(request, stop).await
}

fn failure(outcome: Result<RestResult, TaskError>) -> JobError {
    match outcome {
        Err(TaskError::Failed { error, .. }) => error,
        other => panic!("it did not fail as a run does: {other:?}"),
    }
}

#[tokio::test]
async fn a_range_that_candles_do_not_fill_is_an_error_and_never_a_shorter_result() {
    let Some(server) = JesseServer::shared() else { return };
    let engine = server.engine();
    // Whole days that are missing are noticed before anything runs.
    let late = failure(run(&engine, &spec("SmaCross", &json!({"finish_date": "2023-04-01"}))).await);
    assert_eq!(late.code, ErrorCode::CandlesMissing, "{late}");
    assert!(late.message.contains("to 2023-03-01"), "{late}");
    let early = failure(run(&engine, &spec("SmaCross", &json!({"start_date": "2023-01-05"}))).await);
    assert!(early.message.contains("warm_up_candles"), "{early}");
    // Half a day is not. Jesse calls both of these finished.
    let route = |symbol: &str| json!({"strategy": "NoTrades", "symbol": symbol, "timeframe": "1h"});
    for (routes, text) in [
        (json!([route(HALF_A_DAY)]), "to 2023-03-01 12:00 only"),
        (
            json!([route(ETH), route(HALF_A_DAY)]),
            "whether those of the first and the last of these days are complete",
        ),
    ] {
        let short = json!({"routes": routes, "finish_date": "2023-03-02"});
        let error = failure(run(&engine, &spec("NoTrades", &short)).await);
        assert_eq!(error.code, ErrorCode::CandlesMissing, "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    // To the last minute that there is.
    run(&engine, &spec("NoTrades", &json!({"finish_date": "2023-03-02"}))).await.unwrap();
}

#[tokio::test]
async fn failures_have_their_true_cause() {
    let Some(server) = JesseServer::shared() else { return };
    let engine = server.engine();
    for (strategy, code, text) in [
        ("Nope", ErrorCode::StrategyNotFound, "\"Nope\" could not be found"),
        ("RaisesAtImport", ErrorCode::StrategyError, "no luck at import"),
        (
            "RaisesWhileRunning",
            ErrorCode::StrategyError,
            "no luck at candle 100 (strategies/RaisesWhileRunning/__init__.py:",
        ),
        ("ExitsProcess", ErrorCode::EngineCrashed, "ended with status 7"),
    ] {
        let error = failure(run(&engine, &spec(strategy, &json!({}))).await);
        assert_eq!((error.code, error.retryable), (code, false), "{error}");
        assert!(error.message.contains(text), "{error}");
        assert!(!error.detail.to_string().contains(server.folder.to_str().unwrap()), "{}", error.detail);
    }
    let routes = json!([{"strategy": "SmaCross", "symbol": SYMBOL, "timeframe": "7m"}]);
    let error = failure(run(&engine, &spec("", &json!({"routes": routes, "warm_up_candles": 10}))).await);
    assert_eq!(error.code, ErrorCode::InvalidSpec, "{error}");
}

#[tokio::test]
async fn without_events_the_polls_are_enough() {
    let Some(server) = JesseServer::shared() else { return };
    let proxy = Proxy::start(&server.url, true, &[]).await;
    let engine = RestEngine::new(settings(&[&proxy.url], &server.password)).unwrap();
    let result = run(&engine, &spec("SmaCross", &json!({}))).await.unwrap();
    assert!(result.value["metrics"]["total"].as_u64().unwrap() > 0);
    let error = failure(run(&engine, &spec("RaisesWhileRunning", &json!({}))).await);
    assert!(error.message.contains("no luck at candle 100"), "{error}");
    // The truncation too is found without what the events say of it.
    let routes = json!([{"strategy": "NoTrades", "symbol": HALF_A_DAY, "timeframe": "1h"}]);
    let short = spec("", &json!({"routes": routes, "finish_date": "2023-03-02"}));
    assert_eq!(failure(run(&engine, &short).await).code, ErrorCode::CandlesMissing);
}

#[tokio::test]
async fn calls_that_fail_for_the_moment_are_repeated() {
    let Some(server) = JesseServer::shared() else { return };
    let answers =
        ["503 Service Unavailable", "429 Too Many Requests\r\nRetry-After: 0", "500 Internal Server Error"];
    let proxy = Proxy::start(&server.url, false, &answers).await;
    let engine = RestEngine::new(settings(&[&proxy.url], &server.password)).unwrap();
    run(&engine, &spec("NoTrades", &json!({}))).await.unwrap();
    assert_eq!((proxy.answers_left(), proxy.started()), (0, 1));
}

#[tokio::test]
async fn runs_are_spread_over_the_servers_that_are_well() {
    let Some(server) = JesseServer::shared() else { return };
    let (first, second) =
        tokio::join!(Proxy::start(&server.url, false, &[]), Proxy::start(&server.url, false, &[]));
    // Nobody listens at the first address.
    let mut settings = settings(&["http://127.0.0.1:1", &first.url, &second.url], &server.password);
    settings.concurrency = 1;
    let engine = RestEngine::new(settings).unwrap();
    let spec = spec("NoTrades", &json!({}));
    let (one, two) = tokio::join!(run(&engine, &spec), run(&engine, &spec));
    for outcome in [one, two] {
        match outcome {
            Ok(_) => {}
            // It met the dead one before that was known to be so: the run is handed back, which costs nothing.
            Err(TaskError::NoEngine(_)) => {
                run(&engine, &spec).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((first.started() + second.started()), 2);
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let Some(server) = JesseServer::shared() else { return };
    let engine = RestEngine::new(settings(&[&server.url], "a wrong secret")).unwrap();
    let error = engine.ready().await.unwrap_err();
    assert!(error.message.contains("JESSE_PASSWORD"), "{error}");
    let said = format!("{error} {engine:?}");
    assert!(!said.contains("a wrong secret"), "{said}");
    let mut settings = settings(&[&server.url], "");
    let token = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    settings.token = Token::new(token);
    assert!(!format!("{settings:?}").contains(token));
    assert!(RestEngine::new(settings).unwrap().ready().await.is_err());
}

/// Runs it until it computes.
async fn computing(
    engine: &RestEngine,
    run: &str,
    stop: &CancellationToken,
) -> Result<RestResult, TaskError> {
    let (exchange, spec) = (exchange(), long());
    let (sender, mut steps) = mpsc::channel(100);
    let progress = Some(&sender);
    let request = RestRequest {
        spec: &spec,
        exchange: &exchange,
        limits: Limits::default(),
        run,
        attempt: 1,
        progress,
    };
    let running = engine.run(request, stop);
    let watching = async {
        while let Some(step) = steps.recv().await {
            if step.fraction > 0.0 {
                stop.cancel();
                break;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = running => outcome,
        never = watching => never,
    }
}

#[tokio::test]
async fn a_stop_is_passed_on_and_nothing_is_left() {
    let Some(server) = JesseServer::shared() else { return };
    let engine = server.engine();
    let run = RunId::generate().to_string();
    let outcome =
        tokio::time::timeout(LIMIT, computing(&engine, &run, &CancellationToken::new())).await.unwrap();
    assert!(matches!(outcome, Err(TaskError::Stopped)), "{outcome:?}");
    let id = session_id(&run, 1, 0).to_string();
    let (_, workers) = server.post("system/active-workers", &json!({})).await;
    assert!(!workers["data"].as_array().unwrap().contains(&json!(id)), "{workers}");
    let open = |session: &Value| session["id"] == json!(id) && session["status"] == "running";
    assert!(!server.sessions().await.iter().any(open));
}

#[tokio::test]
async fn a_successor_cancels_what_its_predecessor_left_and_its_own_session_goes_too() {
    let Some(server) = JesseServer::shared() else { return };
    let run = RunId::generate().to_string();
    let orphan = session_id(&run, 1, 0);
    // As a worker that was killed leaves it.
    let logging: Value = [("order_submission", false)].into_iter().collect();
    let body = json!({
        "id": orphan, "exchange": EXCHANGE, "data_routes": [], "start_date": "2023-01-10", "finish_date": "2023-03-01",
        "routes": [{"exchange": EXCHANGE, "strategy": "SmaCross", "symbol": SYMBOL, "timeframe": "1m"}],
        "config": {"warm_up_candles": 240, "logging": logging,
            "exchanges": {EXCHANGE: {"name": EXCHANGE, "fee": 0.0006, "type": "futures", "balance": 10_000}}},
        "debug_mode": false, "export_csv": false, "export_json": false, "export_chart": false, "fast_mode": false,
        "benchmark": false, "state": {},
    });
    assert_eq!(server.post("backtest", &body).await.0, 202);
    let stop = CancellationToken::new();
    let result = run_as(&server.engine(), &spec("NoTrades", &json!({})), &run, &stop).await.unwrap();
    assert_eq!(result.session, session_id(&run, 1, 1));
    let sessions = server.sessions().await;
    let of = |id: &str| sessions.iter().find(|session| session["id"] == id).cloned();
    assert_eq!(of(&orphan.to_string()).unwrap()["status"], "cancelled");
    assert_eq!(of(&result.session.to_string()), None);
}

/// On a server of its own, which it harms.
#[tokio::test]
async fn a_harmed_server_is_survived() {
    let Some(server) = JesseServer::start() else { return };
    let engine = server.engine();
    // Each of these leaves one of its threads in a failed transaction.
    let mut harmed = 0;
    for _ in 0..10 {
        harmed += usize::from(server.post("backtest/cancel", &json!({"id": "not a UUID"})).await.0 == 500);
    }
    assert!(harmed > 0);
    let result = run(&engine, &spec("SmaCross", &json!({}))).await.unwrap();
    assert!(result.value["metrics"]["total"].as_u64().unwrap() > 0);
    // The process of a run is killed.
    let spec = long();
    let (outcome, ()) = tokio::join!(run(&engine, &spec), kill_a_run(&server));
    let error = failure(outcome);
    assert!(error.retryable && error.message.contains("signal 9"), "{error}");
    // The server goes: nothing can be started, and the run is handed back rather than failed.
    server.stop();
    let outcome = run(&engine, &spec).await;
    assert!(matches!(outcome, Err(TaskError::NoEngine(_))), "{outcome:?}");
}

/// Kills the newest process of the server's project, once it computes.
async fn kill_a_run(server: &JesseServer) {
    let run = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let spawned = String::from_utf8_lossy(&line).contains("spawn_main");
        (cwd == server.folder && spawned).then_some(pid)
    };
    let newest = || std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(run).max();
    let before = newest();
    let end = std::time::Instant::now() + LIMIT;
    let pid = loop {
        if let Some(pid) = newest().filter(|pid| Some(*pid) != before) {
            break pid;
        }
        assert!(std::time::Instant::now() < end, "no run was started");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

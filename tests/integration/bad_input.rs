//! Whatever is sent gets a clear error with its code, and the next job runs.

use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, month, with};

/// What is sent, what comes back: HTTP status, code, and words that the message must have.
type Case = (&'static str, Value, u16, &'static str, &'static [&'static str]);

#[expect(clippy::too_many_lines, reason = "a table")]
fn refused() -> Vec<Case> {
    let vary = |changes: Value| with(month("SmaCross"), &changes);
    let without = |name: &str| {
        let mut spec = month("SmaCross");
        spec.as_object_mut().unwrap().remove(name);
        spec
    };
    vec![
        (
            "unknown strategy",
            vary(json!({"strategy": "SmaCros"})),
            422,
            "strategy_not_found",
            &["did you mean \"SmaCross\""],
        ),
        (
            "strategy that is a path",
            vary(json!({"strategy": "../../etc"})),
            422,
            "strategy_not_found",
            &["known:"],
        ),
        (
            "unknown exchange",
            vary(json!({"exchange": "Binance Perpetual"})),
            422,
            "invalid_spec",
            &["did you mean"],
        ),
        (
            "unknown symbol",
            vary(json!({"symbol": "DOGE-USDT"})),
            422,
            "candles_missing",
            &["stored: Binance Perpetual Futures BTC-USDT"],
        ),
        (
            "malformed symbol",
            vary(json!({"symbol": "btcusdt"})),
            422,
            "invalid_spec",
            &["symbol:", "BTC-USDT"],
        ),
        (
            "reversed dates",
            vary(json!({"finish_date": "2023-01-15"})),
            422,
            "invalid_spec",
            &["finish_date: 2023-01-15 must be after"],
        ),
        (
            "malformed date",
            vary(json!({"start_date": "01.02.2023"})),
            422,
            "invalid_spec",
            &["start_date:", "YYYY-MM-DD"],
        ),
        ("no such day", vary(json!({"start_date": "2023-02-30"})), 422, "invalid_spec", &["2023-02-30"]),
        ("far future", vary(json!({"finish_date": "99999-01-01"})), 422, "invalid_spec", &["finish_date"]),
        (
            "after the candles",
            vary(json!({"finish_date": "2024-01-01"})),
            422,
            "candles_missing",
            &["stored: 2023-01-01 00:00 to 2023-05-01 00:00"],
        ),
        (
            "before the candles",
            vary(json!({"start_date": "2022-12-01"})),
            422,
            "candles_missing",
            &["stored: 2023-01-01"],
        ),
        (
            "warm-up before the candles",
            vary(json!({"start_date": "2023-01-05"})),
            422,
            "candles_missing",
            &["warm_up_candles"],
        ),
        (
            "wrong timeframe",
            vary(json!({"timeframe": "7m"})),
            422,
            "invalid_spec",
            &["unknown timeframe \"7m\"", "15m"],
        ),
        ("negative balance", vary(json!({"balance": -1})), 422, "invalid_spec", &["balance:"]),
        ("fee in percent", vary(json!({"fee": 6})), 422, "invalid_spec", &["fraction"]),
        ("no leverage", vary(json!({"leverage": 0})), 422, "invalid_spec", &["1 to 125"]),
        ("odd leverage mode", vary(json!({"leverage_mode": "both"})), 422, "invalid_spec", &["cross"]),
        (
            "endless warm-up",
            vary(json!({"warm_up_candles": 4_000_000_000_u32})),
            422,
            "invalid_spec",
            &["at most 50000"],
        ),
        (
            "unknown hyperparameter",
            vary(json!({"hyperparameters": {"fats": 3}})),
            422,
            "invalid_spec",
            &["did you mean \"fast\""],
        ),
        (
            "hyperparameter out of range",
            vary(json!({"hyperparameters": {"fast": 1000}})),
            422,
            "invalid_spec",
            &["from 5 to 50"],
        ),
        (
            "hyperparameter of another type",
            vary(json!({"hyperparameters": {"fast": "ten"}})),
            422,
            "invalid_spec",
            &["whole number"],
        ),
        ("unknown field", vary(json!({"levrage": 2})), 422, "invalid_spec", &["unknown field `levrage`"]),
        ("missing field", without("symbol"), 422, "invalid_spec", &["symbol: is missing"]),
        ("missing dates", without("start_date"), 422, "invalid_spec", &["missing field `start_date`"]),
        ("wrong type", vary(json!({"symbol": 5})), 422, "invalid_spec", &["expected a string"]),
        ("routes and strategy", vary(json!({"routes": []})), 422, "invalid_spec", &["either routes"]),
        (
            "no routes",
            json!({"exchange": EXCHANGE, "routes": [], "start_date": "2023-02-01", "finish_date": "2023-03-01"}),
            422,
            "invalid_spec",
            &["1 to 20"],
        ),
        (
            "syntax error",
            month("DoesNotParse"),
            422,
            "strategy_error",
            &["strategies/DoesNotParse/__init__.py:6"],
        ),
        (
            "raises at import",
            month("RaisesAtImport"),
            422,
            "strategy_error",
            &["RuntimeError: no luck at import"],
        ),
        (
            "a huge name",
            vary(json!({"strategy": "x".repeat(100_000)})),
            422,
            "strategy_not_found",
            &["known:"],
        ),
    ]
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_it_is_queued() {
    let deployment = Deployment::shared();
    for (what, spec, status, code, words) in refused() {
        let (got, problem) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": spec})).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{what}: {problem}");
        let message = problem["detail"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{what}: {word:?} is not in {message:?}");
        }
        assert!(message.len() < 2_000, "{what}: {} bytes", message.len());
    }
}

#[tokio::test]
async fn what_fails_while_it_runs_ends_in_its_code_and_the_worker_lives_on() {
    let deployment = Deployment::start(&["--workers", "1", "--job-memory-mb", "300", "--job-timeout", "30"]);
    let cases: [(&str, Value, &str, &str); 4] = [
        ("RaisesWhileRunning", json!({}), "strategy_error", "ValueError: no luck at candle 100"),
        ("LoopsForever", json!({"timeout_s": 2}), "timeout", "2 s"),
        ("EatsMemory", json!({}), "out_of_memory", "memory"),
        ("ExitsProcess", json!({}), "engine_crashed", "status 7"),
    ];
    for (strategy, options, code, words) in cases {
        let job = with(options, &json!({"kind": "backtest", "spec": month(strategy)}));
        let (status, ended) = deployment.post("/v1/jobs?wait=120", &job).await;
        assert_eq!((status, &ended["state"]), (200, &json!("failed")), "{strategy}: {ended}");
        assert_eq!(ended["error"]["code"], json!(code), "{ended}");
        assert!(ended["error"]["message"].as_str().unwrap().contains(words), "{ended}");
        let next =
            deployment.backtest(&with(month("SmaCross"), &json!({"balance": 5_000 + code.len()}))).await;
        assert_eq!(next["state"], "succeeded", "after {strategy}: {next}");
    }
    let job = json!({"kind": "backtest", "spec": month("RaisesWhileRunning")});
    let (_, ended) = deployment.post("/v1/jobs?wait=120", &job).await;
    let traceback = ended["error"]["detail"]["traceback"].as_str().unwrap();
    assert!(
        traceback.contains("strategies/RaisesWhileRunning/__init__.py") && traceback.contains("should_long"),
        "{traceback}"
    );
}

#[tokio::test]
async fn requests_that_are_no_requests_get_a_problem() {
    let deployment = Deployment::shared();
    let url = deployment.url("/v1/jobs");
    let send = |body: &'static str, kind: &'static str| {
        deployment.client.post(&url).header("content-type", kind).body(body).send()
    };
    for (body, kind, status, code) in [
        ("", "application/json", 400, "invalid_request"),
        ("{", "application/json", 400, "invalid_request"),
        ("[]", "application/json", 400, "invalid_request"),
        // Serde takes an array for the fields of a struct, in their order.
        ("[\"backtest\", {}]", "application/json", 400, "invalid_request"),
        ("{\"kind\":\"backtest\",\"spec\":[\"SmaCross\"]}", "application/json", 422, "invalid_spec"),
        ("{\"kind\":\"dance\",\"spec\":{}}", "application/json", 400, "invalid_request"),
        ("{\"kind\":\"backtest\"}", "application/json", 400, "invalid_request"),
        ("{\"kind\":\"backtest\",\"spec\":5}", "application/json", 422, "invalid_spec"),
        ("{\"kind\":\"backtest\",\"spec\":{},\"extra\":1}", "application/json", 400, "invalid_request"),
        ("{}", "text/plain", 415, "unsupported_media_type"),
        ("\u{0}\u{1}", "application/json", 400, "invalid_request"),
    ] {
        let response = send(body, kind).await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code, "{body}: {problem}");
    }
    let deep = format!("{{\"kind\":\"backtest\",\"spec\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let response = deployment
        .client
        .post(&url)
        .header("content-type", "application/json")
        .body(deep)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    let huge = "x".repeat(2 << 20);
    let response = deployment
        .client
        .post(&url)
        .header("content-type", "application/json")
        .body(huge)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413);

    for (path, status, code) in [
        ("/v1/jobs/not-a-uuid", 400, "invalid_request"),
        ("/v1/jobs/01981c2e-6f1c-7000-8000-000000000000", 404, "job_not_found"),
        ("/v1/jobs/01981c2e-6f1c-7000-8000-000000000000/result", 404, "job_not_found"),
        ("/v1/jobs/01981c2e-6f1c-7000-8000-000000000000?wait=-1", 400, "invalid_request"),
        ("/v1/jobs/01981c2e-6f1c-7000-8000-000000000000?wait=soon", 400, "invalid_request"),
        ("/v1/jobs/01981c2e-6f1c-7000-8000-000000000000?colour=red", 400, "invalid_request"),
        ("/v1/nothing", 404, "not_found"),
        ("/v1/queue/pause", 405, "method_not_allowed"),
        ("/.well-known/oauth-protected-resource", 404, "not_found"),
    ] {
        let (got, problem) = deployment.get(path).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{path}: {problem}");
    }
    for path in ["/v1/webhooks", "/v1/webhooks/jobs/resend", "/v1/cache/invalidate", "/v1/jobs/requeue"] {
        let (status, problem) = deployment.post(path, &json!([])).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("expected an object"), "{path}: {problem}");
    }
    let batch = json!({"jobs": [["SmaCross"]]});
    let (status, problem) = deployment.post("/v1/batches", &batch).await;
    assert_eq!((status, &problem["errors"][0]["message"]), (422, &json!("must be an object")), "{problem}");
    for options in [
        json!({"timeout_s": 0}),
        json!({"timeout_s": 1_000_000}),
        json!({"max_attempts": 99}),
        json!({"priority": "urgent"}),
    ] {
        let job = with(json!({"kind": "backtest", "spec": month("SmaCross")}), &options);
        let (status, problem) = deployment.post("/v1/jobs", &job).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{options}");
    }
}

#[tokio::test]
async fn a_page_that_had_its_name_resolve_to_this_server_is_refused() {
    let deployment = Deployment::shared();
    for path in ["/v1/strategies", "/mcp", "/health"] {
        let request = deployment.client.get(deployment.url(path)).header("host", "evil.example");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
    }
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing_where_nobody_is_asked_for_a_key() {
    let deployment = Deployment::start(&["--cors-origins", "https://app.example.com"]);
    let own = deployment.url("");
    let sent = async |path: &str, origin: &str| {
        let request = deployment.client.post(deployment.url(path)).header("origin", origin);
        let response = request.header("content-type", "text/plain").send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].clone())
    };
    let strange =
        ["https://evil.example", "null", "http://localhost", "https://app.example.com.evil.example", ""];
    for path in ["/v1/queue/pause", "/v1/jobs", "/mcp"] {
        for origin in strange {
            assert_eq!(sent(path, origin).await, (403, json!("origin_not_allowed")), "{path} {origin}");
        }
    }
    assert_eq!(deployment.get("/v1/queue").await.1["paused"], false);
    for origin in [own.trim_end_matches('/'), "https://app.example.com"] {
        assert_eq!(sent("/v1/queue/pause", origin).await, (200, Value::Null), "{origin}");
        assert_eq!(sent("/v1/queue/resume", origin).await, (200, Value::Null), "{origin}");
    }
}

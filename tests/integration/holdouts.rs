//! The hold-out vault, on a real Jesse: what is held out is seen by nobody who does not say so, and each look counts.

use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, SEED, SYMBOL, generate, month, with},
    mcp::{call_checked, connect, structured},
};

/// A fifth of the 120 days from 2023-01-01.
const FROM: &str = "2023-04-07";
const SERIES: &str = "Binance Perpetual Futures BTC-USDT";

fn march(finish: &str) -> Value {
    with(month("SmaCross"), &json!({"start_date": "2023-03-01", "finish_date": finish}))
}

fn job(kind: &str, spec: &Value, options: &Value) -> Value {
    with(json!({"kind": kind, "spec": spec}), options)
}

async fn submit(deployment: &Deployment, spec: &Value, options: &Value) -> (u16, Value) {
    deployment.post("/v1/jobs?wait=120", &job("backtest", spec, options)).await
}

async fn holdouts(deployment: &Deployment) -> Vec<Value> {
    let (status, found) = deployment.get("/v1/holdouts").await;
    assert_eq!(status, 200, "{found}");
    found["holdouts"].as_array().unwrap().clone()
}

#[track_caller]
fn refused((status, answer): (u16, Value), what: &str) {
    assert_eq!((status, &answer["code"]), (422, &json!("held_out")), "{what}: {answer}");
    assert_eq!(answer["facts"]["finish_date"], FROM, "{what}: {answer}");
    let text = answer["detail"].as_str().unwrap();
    assert!(text.contains(FROM) && text.contains("holdout: true"), "{what}: {answer}");
}

#[tokio::test]
async fn held_out_days_are_shut_on_every_path_until_somebody_says_that_they_look() {
    let deployment = Deployment::start(&[]);
    // Who names no campaign has no vault.
    let (status, whole) = submit(&deployment, &march("2023-04-20"), &json!({})).await;
    assert_eq!((status, &whole["state"]), (200, &json!("succeeded")), "{whole}");
    assert_eq!(holdouts(&deployment).await, Vec::<Value>::new());

    let (status, first) = submit(&deployment, &march(FROM), &json!({"campaign": "idea"})).await;
    assert_eq!((status, &first["state"]), (200, &json!("succeeded")), "{first}");
    let (_, campaign) = deployment.get("/v1/campaigns/idea").await;
    let held_out = &campaign["holdouts"][0];
    assert_eq!((&held_out["series"], &held_out["from"]), (&json!(SERIES), &json!(FROM)), "{campaign}");
    assert_eq!((&held_out["looks"], &held_out["set"]["share"]), (&json!(0), &json!(0.2)), "{campaign}");
    assert!(held_out["advice"].as_str().unwrap().starts_with("nobody has looked"), "{campaign}");

    let reaching = march("2023-04-08");
    for (what, options) in [
        ("the same campaign", json!({"campaign": "idea"})),
        ("another campaign", json!({"campaign": "another idea"})),
        ("no campaign", json!({})),
        ("without the cache", json!({"campaign": "idea", "cache": "off"})),
        ("what is stored", json!({})),
    ] {
        let spec = if what == "what is stored" { march("2023-04-20") } else { reaching.clone() };
        refused(submit(&deployment, &spec, &options).await, what);
    }
    let strategy = with(reaching.clone(), &json!({"strategy": "RandomTrades"}));
    refused(submit(&deployment, &strategy, &json!({"campaign": "idea"})).await, "another strategy");
    let (status, inside) =
        submit(&deployment, &with(reaching.clone(), &json!({"start_date": "2023-04-07"})), &json!({})).await;
    assert_eq!(status, 422);
    assert!(inside["detail"].as_str().unwrap().contains("all of this range is"), "{inside}");

    // The whole of a search is looked at when it is submitted, and none of its children can go further.
    let walk = with(reaching.clone(), &json!({"train_days": 20, "test_days": 18}));
    let matrix = json!({
        "exchange": EXCHANGE, "symbols": [SYMBOL], "timeframe": "1D", "start_date": "2023-02-01", "finish_date": "2023-04-08",
    });
    for (kind, spec) in [
        ("optimize", &with(reaching.clone(), &json!({"trials": 4}))),
        ("walk_forward", &walk),
        ("monte_carlo", &with(reaching.clone(), &json!({"scenarios": 2}))),
        ("significance_test", &reaching),
        ("regime_detector", &matrix),
    ] {
        let asked = job(kind, spec, &json!({"campaign": "idea"}));
        refused(deployment.post("/v1/jobs", &asked).await, kind);
    }
    let batch = json!({"jobs": [march(FROM), reaching], "campaign": "idea"});
    refused(deployment.post("/v1/batches", &batch).await, "a batch");
    let client = connect(&deployment).await;
    for (tool, arguments) in [
        ("backtest", with(reaching.clone(), &json!({"campaign": "idea"}))),
        ("backtest_batch", batch),
        ("optimize", reaching.clone()),
    ] {
        let answer = client
            .call_tool(
                rmcp::model::CallToolRequestParams::new(tool)
                    .with_arguments(arguments.as_object().unwrap().clone()),
            )
            .await
            .unwrap();
        let error = &structured(&answer)["error"];
        assert_eq!((answer.is_error, &error["code"]), (Some(true), &json!("held_out")), "{tool}: {answer:?}");
        assert_eq!(error["detail"]["finish_date"], FROM, "{tool}: {error}");
    }
    let (_, listed) = deployment.get("/v1/jobs?limit=100").await;
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 2, "nothing that was refused is a job: {listed}");
    assert_eq!(holdouts(&deployment).await[0]["looks"], 0);
}

#[tokio::test]
async fn a_look_is_said_logged_and_counted_against_what_it_finds() {
    let deployment = Deployment::start(&[]);
    submit(&deployment, &month("SmaCross"), &json!({"campaign": "idea"})).await;
    let vault = with(month("SmaCross"), &json!({"start_date": FROM, "finish_date": "2023-05-01"}));
    let look = json!({"campaign": "idea", "holdout": true});
    let (status, job) = submit(&deployment, &vault, &look).await;
    assert_eq!(
        (status, &job["state"], &job["treatment"]["holdout"]),
        (200, &json!("succeeded"), &json!(true)),
        "{job}"
    );

    let client = connect(&deployment).await;
    let shown = call_checked(&client, "job_get", json!({"job_id": job["job_id"]})).await;
    let shown = structured(&shown)["campaign"].clone();
    let held_out = &shown["holdouts"][0];
    assert_eq!((&held_out["looks"], &held_out["effective"]), (&json!(1), &json!(1.0)), "{shown}");
    assert!(held_out["deflated_sharpe"].is_number() && held_out["noise_best"] == 0.0, "{shown}");
    assert!(held_out["advice"].as_str().unwrap().starts_with("best of 1 try"), "{shown}");
    assert_eq!(shown["trials"], 2, "a look is a trial of the campaign too");
    let report =
        call_checked(&client, "risk_report", json!({"job_id": job["job_id"], "wait_seconds": 50})).await;
    assert_eq!(structured(&report)["campaign"]["holdouts"][0], *held_out, "{report:?}");

    // The same again shows nothing new, but is logged; another is another look, and takes from what the first one showed.
    let (_, again) = submit(&deployment, &vault, &look).await;
    assert_eq!(again["cached"], true, "{again}");
    let faster = with(vault.clone(), &json!({"hyperparameters": {"fast": 6, "slow": 31}}));
    let (_, other) = submit(&deployment, &faster, &json!({"campaign": "a new name", "holdout": true})).await;
    let listed = holdouts(&deployment).await;
    let [held_out] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(
        (&held_out["looks"], &held_out["set"]["by_campaign"]),
        (&json!(2), &json!("idea")),
        "{held_out}"
    );
    let log = held_out["log"].as_array().unwrap();
    let logged: Vec<_> = log.iter().map(|look| (&look["job_id"], &look["campaign"], &look["by"])).collect();
    let by = json!("local");
    let (idea, new) = (json!("idea"), json!("a new name"));
    let expected =
        [(&other["job_id"], &new, &by), (&again["job_id"], &idea, &by), (&job["job_id"], &idea, &by)];
    assert_eq!(logged, expected, "{log:?}");
    assert_eq!((&log[0]["kind"], &log[0]["start_date"]), (&json!("backtest"), &json!(FROM)), "{log:?}");
    assert!(log[0]["at"].as_str().unwrap().ends_with('Z'), "{log:?}");
    let (_, fresh) = deployment.get("/v1/campaigns/a%20new%20name").await;
    assert_eq!(fresh["holdouts"][0]["looks"], 2, "a new name does not begin anew: {fresh}");
    assert!(held_out["noise_best"].as_f64() > Some(0.0), "{held_out}");

    // Of a batch each job that reaches so far is a look, of a search each backtest.
    let jobs = [22, 23].map(|fast| with(vault.clone(), &json!({"hyperparameters": {"fast": fast}})));
    let batch = json!({"jobs": [jobs[0], jobs[1], month("SmaCross")], "campaign": "idea", "holdout": true});
    let (status, batch) = deployment.post("/v1/batches", &batch).await;
    assert_eq!(status, 202, "{batch}");
    deployment.until(batch["job_id"].as_str().unwrap(), |view| view["finished_at"].is_string()).await;
    assert_eq!(holdouts(&deployment).await[0]["looks"], 4);
    let search = with(
        month("SmaCross"),
        &json!({"finish_date": "2023-04-20", "test_start_date": FROM, "trials": 6, "round": 3, "best": 2, "optimal_trades": 5}),
    );
    let search = self::job("optimize", &search, &look);
    let (_, search) = deployment.post("/v1/jobs?wait=120", &search).await;
    assert_eq!(search["state"], "succeeded", "{search}");
    let looks = holdouts(&deployment).await[0]["looks"].as_u64().unwrap();
    assert!((5..=6).contains(&looks), "only the tests of the best two look: {looks}");
    let altered = self::job("monte_carlo", &with(vault.clone(), &json!({"scenarios": 2})), &look);
    let (_, altered) = deployment.post("/v1/jobs?wait=120", &altered).await;
    assert_eq!(altered["state"], "succeeded", "{altered}");
    let held_out = holdouts(&deployment).await[0].clone();
    assert_eq!(held_out["looks"], looks + 1, "{held_out}");
    assert_eq!(
        (held_out["log"].as_array().unwrap().len(), &held_out["log"][0]["kind"]),
        (6, &json!("monte_carlo"))
    );
}

#[tokio::test]
async fn the_first_day_is_fixed_by_whichever_job_comes_first_and_moves_with_no_candle() {
    let deployment = Deployment::start(&[]);
    // None of these may slip through while nothing is held out yet.
    let at_once = (0..12).map(|number| {
        let share = if number % 2 == 0 { 0.2 } else { 0.3 };
        let options = json!({"campaign": format!("idea {number}"), "holdout_share": share});
        let deployment = &deployment;
        async move {
            let spec = march("2023-04-30");
            (share, deployment.post("/v1/jobs", &job("backtest", &spec, &options)).await)
        }
    });
    let answers = futures::future::join_all(at_once).await;
    let listed = holdouts(&deployment).await;
    let share = listed[0]["set"]["share"].as_f64().unwrap();
    for (asked, (status, answer)) in answers {
        let expected =
            if (asked - share).abs() < 1e-9 { (422, "held_out") } else { (400, "invalid_request") };
        assert_eq!((status, answer["code"].as_str().unwrap()), expected, "{answer}");
    }
    let from = listed[0]["from"].clone();
    assert_eq!(from, if share < 0.25 { FROM } else { "2023-03-26" });

    generate(deployment.data.path(), SYMBOL, 150, SEED);
    let (_, candles) = deployment.get("/v1/candles").await;
    assert!(candles.to_string().contains("2023-05-31"), "{candles}");
    let (status, answer) = submit(&deployment, &march("2023-05-20"), &json!({"campaign": "idea 0"})).await;
    assert_eq!((status, &answer["facts"]["finish_date"]), (422, &from), "{answer}");
    let (status, answer) = submit(&deployment, &march("2023-03-20"), &json!({"campaign": "idea 0"})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(holdouts(&deployment).await, listed, "more candles change nothing");

    // Somebody sets days free, for good, and never such as are not there yet.
    let open =
        |symbol: &str, until: &str| json!({"exchange": EXCHANGE, "symbol": symbol, "open_until": until});
    for (symbol, until, status, text) in [
        ("ETH-USDT", "2023-05-01", 404, "nothing of Binance Perpetual Futures ETH-USDT is held out"),
        ("eth", "2023-05-01", 400, "as in BTC-USDT"),
        (SYMBOL, "2023-02-30", 400, "open_until"),
        (SYMBOL, from.as_str().unwrap(), 400, "must be after"),
        (SYMBOL, "2023-06-01", 400, "not after 2023-05-31"),
    ] {
        let (found, answer) = deployment.post("/v1/holdouts", &open(symbol, until)).await;
        assert!(found == status && answer["detail"].as_str().unwrap().contains(text), "{until}: {answer}");
    }
    let (status, opened) = deployment.post("/v1/holdouts", &open(SYMBOL, "2023-05-01")).await;
    assert_eq!((status, &opened["holdouts"][0]["from"]), (200, &json!("2023-05-01")), "{opened}");
    let log = &opened["holdouts"][0]["log"][0];
    assert_eq!(
        (&log["open_until"], &log["by"], &log["job_id"]),
        (&json!("2023-05-01"), &json!("local"), &Value::Null)
    );
    let (status, answer) = submit(&deployment, &march("2023-05-01"), &json!({"campaign": "idea 0"})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = submit(&deployment, &march("2023-05-02"), &json!({})).await;
    assert_eq!((status, &answer["facts"]["finish_date"]), (422, &json!("2023-05-01")), "{answer}");
}

#[tokio::test]
async fn what_is_held_out_can_be_set_and_bad_values_say_what_is_allowed() {
    let deployment = Deployment::start(&["--holdout-share", "0"]);
    let (status, answer) = submit(&deployment, &march("2023-04-30"), &json!({"campaign": "idea"})).await;
    assert_eq!(status, 200, "nothing is held out unless a campaign asks for it: {answer}");
    for (options, text) in [
        (json!({"holdout_share": 0.2}), "goes with a campaign"),
        (json!({"holdout_share": 0.7, "campaign": "idea"}), "from 0 (nothing) to 0.5"),
        (json!({"holdout_share": -0.1, "campaign": "idea"}), "from 0 (nothing) to 0.5"),
        (json!({"campaign": "holdout:idea"}), "must not begin with"),
        (json!({"holdout": "yes"}), "boolean"),
        (json!({"by": "somebody else"}), "unknown field"),
    ] {
        let (status, answer) = submit(&deployment, &month("SmaCross"), &options).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(text), "{options}: {answer}");
    }
    assert_eq!(holdouts(&deployment).await, Vec::<Value>::new());
    let half = json!({"campaign": "idea", "holdout_share": 0.5});
    let (status, answer) = submit(&deployment, &month("SmaCross"), &half).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(holdouts(&deployment).await[0]["from"], "2023-03-02");
    let (status, answer) =
        submit(&deployment, &month("SmaCross"), &json!({"campaign": "idea", "holdout_share": 0.25})).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("a share of 0.5"), "{answer}");
}

//! No answer is ever stale: whatever a result depends on makes another key, and nothing else does. And what a receipt
//! says gives the same result again.

use std::{fmt::Write, path::Path, time::Duration};

use jesse::plan::{BacktestPlan, Limits};
use jobs::{
    CacheKey, CacheMode, JobState, Kind, Queue, Redis, Retention, Submission, TenantId, Treatment,
    private_redis::PrivateRedis,
};
use serde_json::{Value, json};

use crate::harness::{
    DAYS, Deployment, EXCHANGE, Process, SEED, SYMBOL, binary, month, python, succeed, with,
};

const OTHER: &str = "ETH-USDT";
const FIRST_MS: i64 = 1_672_531_200_000; // 2023-01-01

/// Candles of so many days; the close of one minute, counted from the first, differs by a cent.
fn import(data: &Path, days: i64, changed: Option<i64>) {
    let mut text = String::from("timestamp,open,close,high,low,volume\n");
    let mut price = 1_000.0_f64;
    for minute in 0..days * 1440 {
        let open = price;
        price += f64::from(u32::try_from(minute * 7919 % 41).unwrap()) * 0.1 - 2.0;
        let close = if changed == Some(minute) { price + 0.01 } else { price };
        let (high, low) = (open.max(close) + 0.5, open.min(close) - 0.5);
        writeln!(text, "{},{open:.2},{close:.2},{high:.2},{low:.2},1.5", FIRST_MS + minute * 60_000).unwrap();
    }
    let file = data.join("candles.csv");
    std::fs::write(&file, text).unwrap();
    let mut command = binary();
    command.args(["candles", "import"]).arg(&file).args([
        "--exchange",
        EXCHANGE,
        "--symbol",
        OTHER,
        "--data",
    ]);
    succeed(command.arg(data));
}

async fn is_hit(deployment: &Deployment, spec: &Value) -> bool {
    let ended = deployment.backtest(spec).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    ended["cached"] == json!(true)
}

#[tokio::test]
async fn every_change_of_what_a_result_depends_on_misses_and_no_other_does() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    import(data, 14, None);
    let spec = json!({
        "strategy": "Breakout", "exchange": EXCHANGE, "symbol": OTHER, "timeframe": "15m",
        "start_date": "2023-01-05", "finish_date": "2023-01-12",
    });
    assert!(!is_hit(&deployment, &spec).await, "nothing is stored yet");
    assert!(is_hit(&deployment, &spec).await);

    // Candles: in the range, in its warm-up of 240 times 15 minutes, after it, a day more.
    let day = 1440;
    for (days, changed, hit, what) in [
        (14, Some(5 * day), false, "a row in the range"),
        (14, None, true, "what it was before"),
        (14, Some(4 * day - 1), false, "the last row of the warm-up"),
        (14, Some(4 * day - 240 * 15), false, "the first row of the warm-up"),
        (14, None, true, "what it was before"),
        (14, Some(11 * day), true, "the first row after the range"),
        (14, Some(11 * day - 1), false, "the last row of the range"),
        (15, None, true, "a new day after the range"),
    ] {
        import(data, days, changed);
        assert_eq!(is_hit(&deployment, &spec).await, hit, "{what}");
    }

    // The spec.
    for change in [
        json!({"fee": 0.0011}),
        json!({"balance": 10_001}),
        json!({"leverage": 2}),
        json!({"warm_up_candles": 241}),
        json!({"fast_mode": false}),
        json!({"benchmark": true}),
        json!({"timeframe": "5m"}),
        json!({"finish_date": "2023-01-11"}),
    ] {
        assert!(!is_hit(&deployment, &with(spec.clone(), &change)).await, "{change}");
    }

    // The code: the strategy's own, a file that it imports, and files that it does not.
    let file = |name: &str| deployment.project.join(name);
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(file(name)).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        std::fs::write(file(name), text.replacen(from, to, 1)).unwrap();
    };
    let (own, helper) = ("strategies/Breakout/__init__.py", "indicators/bands.py");
    for (name, from, to, hit) in [
        (own, "\n", "\n# another comment\n", false),
        (own, "\n# another comment\n", "\n", true),
        (helper, "period - 1", "period - 2", false),
        (helper, "period - 2", "period - 1", true),
        ("strategies/SmaCross/__init__.py", "0.5", "0.6", true),
    ] {
        edit(name, from, to);
        assert_eq!(is_hit(&deployment, &spec).await, hit, "{name}: {from:?} became {to:?}");
    }
    for name in ["notes.txt", "unused.py", "indicators/unused.py"] {
        std::fs::write(file(name), "x = 1\n").unwrap();
        assert!(is_hit(&deployment, &spec).await, "{name} is nothing that it imports");
    }
}

/// An interpreter that says of its Jesse that it has another version.
#[cfg(unix)]
fn other_version(folder: &Path, version: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let code = format!(
        "import sys, types\nmodule = types.ModuleType('jesse.version')\nmodule.__version__ = '{version}'\n\
         sys.modules['jesse.version'] = module\n"
    );
    std::fs::write(folder.join("sitecustomize.py"), code).unwrap();
    let (wrapper, here) = (folder.join("python"), folder.display());
    let script =
        format!("#!/bin/sh\nPYTHONPATH=\"{here}:$PYTHONPATH\" exec '{}' \"$@\"\n", python().display());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    wrapper
}

#[tokio::test]
async fn another_version_of_jesse_misses_and_the_old_one_still_hits() {
    let mut deployment = Deployment::start(&[]);
    assert!(!is_hit(&deployment, &month("SmaCross")).await);
    let folder = tempfile::tempdir().unwrap();
    let other = other_version(folder.path(), "99.1.0");
    let project = deployment.project.to_str().unwrap().to_owned();
    for (interpreter, hits, version) in [(&other, false, true), (&python(), true, false)] {
        assert!(deployment.process.stop().await);
        let arguments = ["--project", &project, "--python", interpreter.to_str().unwrap()];
        deployment.process = Process::up(deployment.data.path(), &arguments);
        let ended = deployment.backtest(&month("SmaCross")).await;
        assert_eq!((&ended["state"], &ended["cached"]), (&json!("succeeded"), &json!(hits)), "{ended}");
        let path = format!("/v1/jobs/{}/result?fields=provenance", ended["job_id"].as_str().unwrap());
        let (_, body) = deployment.get(&path).await;
        assert_eq!(body["provenance"]["engine"]["jesse_version"] == "99.1.0", version, "{body}");
    }
}

#[tokio::test]
async fn an_edit_that_races_with_submits_never_stores_a_result_under_another_key() {
    let deployment = Deployment::start(&["--workers", "2"]);
    let file = deployment.project.join("strategies/SmaCross/__init__.py");
    let text = std::fs::read_to_string(&file).unwrap();
    let variants = [text.clone(), text.replace("self.balance * 0.5", "self.balance * 0.25")];
    assert_ne!(variants[0], variants[1]);
    // As an editor saves it: whole.
    let save = |variant: usize| {
        let aside = deployment.project.join("saving");
        std::fs::write(&aside, &variants[variant]).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    };
    let spec = |fee: f64| with(month("SmaCross"), &json!({"fee": fee, "timeframe": "2h"}));
    let fees = [0.0001, 0.0002, 0.0003, 0.0004];

    // What each variant finds at rest, and the code that it is.
    let (mut expected, mut bundles) = (Vec::new(), Vec::new());
    for variant in 0..2 {
        save(variant);
        let mut found = Vec::new();
        for fee in fees {
            let job = json!({"kind": "backtest", "spec": spec(fee), "cache": "off"});
            let (_, ended) = deployment.post("/v1/jobs?wait=120", &job).await;
            assert_eq!(ended["state"], "succeeded", "{ended}");
            let path = format!("/v1/jobs/{}/result", ended["job_id"].as_str().unwrap());
            let (_, body) = deployment.get(&path).await;
            found.push(body["metrics"].clone());
            bundles.push(body["provenance"]["bundles"].clone());
        }
        expected.push(found);
    }
    assert!(bundles[..4].iter().all(|bundle| *bundle == bundles[0]));
    assert_ne!(bundles[0], bundles[4]);
    assert_ne!(expected[0], expected[1]);

    // Edits and submits without a pause between them.
    let editing = async {
        for round in 0..60 {
            save(round % 2);
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    };
    let submitting = async {
        let mut jobs = Vec::new();
        for round in 0..60 {
            let cache = if round % 3 == 0 { "use" } else { "refresh" };
            let job = json!({"kind": "backtest", "spec": spec(fees[round % 4]), "cache": cache});
            let (_, accepted) = deployment.post("/v1/jobs", &job).await;
            assert!(accepted["job_id"].is_string(), "{accepted}");
            jobs.push((round % 4, accepted["job_id"].as_str().unwrap().to_owned()));
        }
        jobs
    };
    let ((), jobs) = tokio::join!(editing, submitting);
    let mut seen = [0, 0];
    for (fee, job) in jobs {
        let ended = deployment.until(&job, |view| view["finished_at"].is_string()).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let (_, body) = deployment.get(&format!("/v1/jobs/{job}/result")).await;
        let variant = usize::from(body["provenance"]["bundles"] != bundles[0]);
        assert_eq!(body["metrics"], expected[variant][fee], "a result says what code it is of");
        assert_eq!(ended["summary"]["metrics"]["net_profit"], expected[variant][fee]["net_profit"]);
        seen[variant] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "both variants ran: {seen:?}");

    // At rest again: whatever is stored for a variant is what that variant finds.
    for variant in 0..2 {
        save(variant);
        for (fee, expected) in fees.iter().zip(&expected[variant]) {
            let ended = deployment.backtest(&spec(*fee)).await;
            let path = format!("/v1/jobs/{}/result?fields=metrics", ended["job_id"].as_str().unwrap());
            assert_eq!(deployment.get(&path).await.1["metrics"], *expected, "variant {variant}, fee {fee}");
        }
    }
}

/// The plan that a receipt says, and nothing that is not in it.
fn plan_of(receipt: &Value) -> BacktestPlan {
    let part = |name: &str| receipt[name].clone();
    serde_json::from_value(json!({
        "exchange": part("exchange"), "bundles": part("bundles"), "series": part("candles"), "engine": part("engine"),
        "limits": Limits::default(), "shared": false,
    }))
    .unwrap()
}

#[tokio::test]
async fn what_a_receipt_says_gives_the_same_result_to_the_last_byte() {
    let redis_folder = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(redis_folder.path()).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    crate::harness::generate_on(data.path(), SYMBOL, DAYS, SEED, &["--redis-url", redis.url()]);
    let deployment = Deployment::start_on(data, &["--redis-url", redis.url()]);
    let mut jobs = Vec::new();
    for (strategy, change) in [
        ("Breakout", json!({})),
        ("SmaCross", json!({"benchmark": true, "hyperparameters": {"fast": 7}, "leverage": 3})),
        ("RsiReversion", json!({"fast_mode": false, "finish_date": "2023-02-04", "fee": 0.0})),
    ] {
        jobs.push(deployment.backtest(&with(month(strategy), &change)).await);
    }
    // Nothing of this is in the receipts.
    deployment.edit("SmaCross", |text| text.replace("0.5", "0.1"));
    std::fs::remove_file(deployment.project.join("indicators/bands.py")).unwrap();
    crate::harness::generate_on(
        deployment.data.path(),
        SYMBOL,
        DAYS + 5,
        SEED,
        &["--redis-url", redis.url()],
    );

    let queue = Queue::new(Redis::open(redis.url(), "jj", 2).unwrap(), Retention::default());
    for job in jobs {
        assert_eq!(job["state"], "succeeded", "{job}");
        let path = |id: &str| format!("/v1/jobs/{id}/result");
        let body = async |id: &str| {
            deployment.client.get(deployment.url(&path(id))).send().await.unwrap().text().await.unwrap()
        };
        let first = body(job["job_id"].as_str().unwrap()).await;
        let receipt = serde_json::from_str::<Value>(&first).unwrap()["provenance"].clone();
        let again = Submission {
            tenant: TenantId::default_tenant(),
            kind: Kind::Backtest,
            treatment: Treatment { cache: CacheMode::Off, timeout_s: 600, ..Treatment::default() },
            cache_key: CacheKey::new(receipt["cache_key"].as_str().unwrap()),
            request: job["spec"].to_string(),
            plan: serde_json::to_string(&plan_of(&receipt)).unwrap(),
            start_at_ms: None,
            deadline_ms: None,
            idempotency: None,
            instead_of: None,
            trial_of: Vec::new(),
        };
        let (id, _) = queue.submit(&again).await.unwrap();
        let id = id.to_string();
        let ended = deployment.until(&id, |view| view["finished_at"].is_string()).await;
        assert_eq!(
            (&ended["state"], &ended["cached"]),
            (&json!(JobState::Succeeded.as_str()), &json!(false))
        );
        // The whole answer: metrics, trades, curves, logs, and the receipt itself with its key.
        assert_eq!(body(&id).await, first);
        // Of what is beside it only the time that it took may differ.
        let without_time = |view: &Value| with(view["summary"].clone(), &json!({"compute_s": null}));
        assert_eq!(without_time(&ended), without_time(&job));
    }
    drop(deployment);
    redis.stop().await;
}

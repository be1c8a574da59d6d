//! Stored results over HTTP, MCP and the command line: bounded, evicted, invalidated.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, LIMIT, SYMBOL, binary, month, succeed, with};

/// How many bodies of results lie in the data folder.
fn bodies(data: &Path) -> usize {
    fn files(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
        entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
    }
    files(&data.join("blobs/results"))
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !is_so().await {
        assert!(std::time::Instant::now() < end, "it did not come to that: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn result_of(deployment: &Deployment, job: &Value) -> (u16, Value) {
    deployment.get(&format!("/v1/jobs/{}/result", job["job_id"].as_str().unwrap())).await
}

#[tokio::test]
async fn a_result_that_had_to_make_room_is_gone_with_its_body_and_the_job_keeps_its_summary() {
    let deployment = Deployment::start(&["--cache-max-bytes", "1"]);
    let ended = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    until("evicted", async || result_of(&deployment, &ended).await.0 == 410).await;
    assert_eq!(result_of(&deployment, &ended).await.1["code"], "result_evicted");
    until("the body is deleted", async || bodies(deployment.data.path()) == 0).await;
    let (_, job) = deployment.get(&format!("/v1/jobs/{}", ended["job_id"].as_str().unwrap())).await;
    assert_eq!((&job["state"], &job["summary"]), (&ended["state"], &ended["summary"]));
    let (status, cache) = deployment.get("/v1/cache").await;
    let expected = json!({
        "entries": 0, "bytes": 0, "max_bytes": 1, "hits": 0, "misses": 1, "coalesced": 0, "evicted": 1, "invalidated": 0,
        "oldest_use_at": null,
    });
    assert_eq!((status, cache), (200, expected));
    // As the error says, the same call computes it anew.
    assert_eq!(deployment.backtest(&month("SmaCross")).await["cached"], json!(false));
}

#[tokio::test]
async fn results_are_invalidated_over_http_mcp_and_the_command_line() {
    let deployment = Deployment::start(&[]);
    let invalidate = async |which: Value| deployment.post("/v1/cache/invalidate", &which).await;
    let first = deployment.backtest(&month("SmaCross")).await;
    let other = deployment.backtest(&month("RsiReversion")).await;
    assert_eq!((&first["state"], &other["state"]), (&json!("succeeded"), &json!("succeeded")));
    let (_, cache) = deployment.get("/v1/cache").await;
    assert_eq!((&cache["entries"], &cache["misses"]), (&json!(2), &json!(2)));
    assert!(cache["bytes"].as_u64().unwrap() > 2_000 && cache["oldest_use_at"].is_string(), "{cache}");

    let which = json!({"strategy": "SmaCross", "symbol": SYMBOL, "exchange": EXCHANGE, "tenant": "default"});
    assert_eq!(invalidate(which).await, (200, json!({"invalidated": 1})));
    assert_eq!(result_of(&deployment, &first).await.0, 410);
    assert_eq!(result_of(&deployment, &other).await.0, 200);
    assert_eq!(deployment.backtest(&month("RsiReversion")).await["cached"], json!(true));
    let again = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(again["cached"], json!(false));
    let key = result_of(&deployment, &again).await.1["provenance"]["cache_key"].clone();
    assert_eq!(invalidate(json!({"key": key})).await, (200, json!({"invalidated": 1})));
    assert_eq!(invalidate(json!({"key": key})).await, (200, json!({"invalidated": 0})));
    for wrong in [
        json!({}),
        json!({"all": true, "strategy": "SmaCross"}),
        json!({"key": "abc"}),
        json!({"strategy": 5}),
        json!({"strategies": ["SmaCross"]}),
        json!([]),
    ] {
        let (status, problem) = invalidate(wrong.clone()).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{wrong}: {problem}");
    }

    let command = |arguments: &[&str]| {
        let mut command = binary();
        command.arg("cache").args(arguments).arg("--data").arg(deployment.data.path());
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    let printed = command(&["invalidate", "--strategy", "RsiReversion", "--symbol", SYMBOL]);
    assert_eq!(printed, "1 results invalidated\n");
    let stats: Value = serde_json::from_str(&command(&["stats"])).unwrap();
    assert_eq!((&stats["entries"], &stats["invalidated"]), (&json!(0), &json!(3)));
    for wrong in
        [&["invalidate"][..], &["invalidate", "--all", "--symbol", SYMBOL], &["invalidate", "--key", "abc"]]
    {
        let output =
            binary().arg("cache").args(wrong).arg("--data").arg(deployment.data.path()).output().unwrap();
        assert!(!output.status.success(), "{wrong:?}");
    }

    deployment.backtest(&month("SmaCross")).await;
    let client = crate::mcp::connect(&deployment).await;
    let answer = crate::mcp::call_checked(&client, "cache_invalidate", json!({"all": true})).await;
    assert_eq!(answer.structured_content, Some(json!({"invalidated": 1})));
    let answer = crate::mcp::call(&client, "cache_invalidate", json!({})).await.structured_content.unwrap();
    assert_eq!(answer["error"]["code"], "invalid_request");
    until("the bodies are deleted", async || bodies(deployment.data.path()) == 0).await;

    let metrics =
        deployment.client.get(deployment.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        "jesse_jobs_cache{figure=\"entries\"} 0\n",
        "jesse_jobs_cache_total{outcome=\"hit\"} 1\n",
        "jesse_jobs_cache_total{outcome=\"invalidated\"} 4\n",
        "jesse_jobs_cache_total{outcome=\"miss\"} 4\n",
        "jesse_jobs_cache_total{outcome=\"evicted\"} 0\n",
        "jesse_jobs_cache_total{outcome=\"coalesced\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_run_that_an_invalidation_overtakes_is_not_reused_but_whoever_waits_gets_all_of_it() {
    let deployment = Deployment::start(&["--workers", "1"]);
    let spec =
        json!({"finish_date": "2023-03-20", "timeframe": "1m", "fast_mode": false, "warm_up_candles": 100});
    let spec = with(month("Breakout"), &spec);
    let (_, job) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": spec})).await;
    let id = job["job_id"].as_str().unwrap();
    deployment.until(id, |view| view["state"] == "running").await;
    let all = deployment.post("/v1/cache/invalidate", &json!({"all": true})).await;
    assert_eq!(all, (200, json!({"invalidated": 0})));
    let ended = deployment.until(id, |view| view["finished_at"].is_string()).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let (status, body) = result_of(&deployment, &ended).await;
    assert_eq!((status, body["metrics"]["total"].is_u64()), (200, true));
    let (_, again) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": spec})).await;
    assert_eq!(again["cached"], json!(false));
    deployment.post(&format!("/v1/jobs/{}/cancel", again["job_id"].as_str().unwrap()), &json!({})).await;
}

#[tokio::test]
async fn refresh_computes_anew_and_off_leaves_the_cache_alone() {
    let deployment = Deployment::start(&[]);
    let run = async |cache: &str| {
        let job = json!({"kind": "backtest", "spec": month("SmaCross"), "cache": cache});
        deployment.post("/v1/jobs?wait=120", &job).await.1
    };
    let entries = async || deployment.get("/v1/cache").await.1["entries"].as_u64().unwrap();
    let off = run("off").await;
    assert_eq!((&off["state"], &off["cached"]), (&json!("succeeded"), &json!(false)));
    assert_eq!(result_of(&deployment, &off).await.0, 200);
    let first = run("use").await;
    assert_eq!((&first["cached"], entries().await), (&json!(false), 2), "one is for its job alone");
    assert_eq!(run("off").await["cached"], json!(false));
    assert_eq!(run("use").await["cached"], json!(true));
    let refreshed = run("refresh").await;
    assert_eq!((&refreshed["state"], &refreshed["cached"]), (&json!("succeeded"), &json!(false)));
    assert_eq!(
        (refreshed["summary"]["metrics"].clone(), entries().await),
        (first["summary"]["metrics"].clone(), 3)
    );
    // The earlier job has the new body, which says the same.
    assert_eq!(
        result_of(&deployment, &first).await.1["metrics"],
        result_of(&deployment, &refreshed).await.1["metrics"]
    );
    let (status, problem) = deployment
        .post("/v1/jobs", &json!({"kind": "backtest", "spec": month("SmaCross"), "cache": "maybe"}))
        .await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn a_tenant_that_shares_with_nobody_has_its_own_cache() {
    let deployment = Deployment::start(&["--cache-scope", "tenant"]);
    let first = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(first["state"], "succeeded", "{first}");
    assert_eq!(deployment.backtest(&month("SmaCross")).await["cached"], json!(true));
    let key = |body: &Value| body["provenance"]["cache_key"].as_str().unwrap().to_owned();
    let own = key(&result_of(&deployment, &first).await.1);
    // The same in a deployment where all share: what went in is the same, but not the key.
    let shared = Deployment::start(&[]);
    let other = shared.backtest(&month("SmaCross")).await;
    let other = result_of(&shared, &other).await.1;
    assert_ne!(own, key(&other));
    assert_eq!(other["metrics"], result_of(&deployment, &first).await.1["metrics"]);
}

//! How often one may call: exactly, over several instances.

use std::time::Instant;

use jobs::private_redis::PrivateRedis;
use serde_json::json;

use super::deployment::Answer;
use crate::harness::{LIMIT, Process, binary, free_port, succeed};

const CALLS: usize = 1000;
const INSTANCES: usize = 3;

/// API instances on one Redis, and a key with this rate.
async fn instances(redis: &PrivateRedis, data: &std::path::Path, rate: &str) -> (Vec<Process>, String) {
    let of_deployment = |command: &mut std::process::Command| {
        command.args(["--redis-url", redis.url(), "--data"]).arg(data);
    };
    let mut create = binary();
    create.args(["keys", "create", "--rate", rate]);
    of_deployment(&mut create);
    let made: serde_json::Value = serde_json::from_slice(&succeed(&mut create).stdout).unwrap();
    let mut servers = Vec::new();
    for _ in 0..INSTANCES {
        let port = free_port();
        let mut serve = binary();
        serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        of_deployment(&mut serve);
        let server = Process::serving(serve.spawn().unwrap(), port);
        let end = Instant::now() + LIMIT;
        while reqwest::get(format!("{}/health/live", server.url)).await.is_err() {
            assert!(Instant::now() < end, "it does not serve");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        servers.push(server);
    }
    (servers, made["key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn of_a_thousand_calls_over_three_instances_as_many_are_admitted_as_were_promised() {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
    let (servers, key) = instances(&redis, data.path(), "60/10").await;
    let client = reqwest::Client::new();
    let call = async |number: usize| {
        let url = format!("{}/v1/jobs", servers[number % INSTANCES].url);
        let response = client.get(url).bearer_auth(&key).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.json().await.unwrap() }
    };
    let began = Instant::now();
    let mut answers = Vec::new();
    // When the first calls had all been answered, and when the last began to be sent, in seconds.
    let (mut first, mut last) = (0.0, 0.0);
    // In waves, so that there is time for some to be admitted after the burst.
    for wave in 0..10 {
        if wave > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        last = began.elapsed().as_secs_f64();
        let calls = (0..CALLS / 10).map(|number| call(wave + number));
        answers.extend(futures::future::join_all(calls).await);
        if wave == 0 {
            first = began.elapsed().as_secs_f64();
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    let admitted = f64::from(u32::try_from(admitted).unwrap());
    // Time counts from the first call that was counted to the last: on a busy machine all that is known of either is when its wave was
    // sent and had been answered.
    let promised = 10.0 + last - first - 1.0..=10.0 + elapsed + 1.0;
    assert!(promised.contains(&admitted), "{admitted} were admitted: {first}, {last}, {elapsed} s");
    for answer in &answers {
        assert_eq!(answer.header("ratelimit-policy"), r#""calls";q=10;w=10"#);
        if answer.status == 429 {
            assert_eq!((answer.code(), answer.header("retry-after")), ("rate_limited", "1"));
            assert!(
                answer.header("ratelimit").starts_with(r#""calls";r=0;t="#),
                "{}",
                answer.header("ratelimit")
            );
        }
    }
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)));
    // Calls over MCP come out of the same bucket.
    let listing = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    let request = || {
        let request = client.post(format!("{}/mcp", servers[0].url)).bearer_auth(&key).json(&listing);
        request.header("accept", "application/json, text/event-stream")
    };
    let calls = futures::future::join_all((0..20).map(|_| request().send())).await;
    let refused = calls.into_iter().filter(|response| response.as_ref().unwrap().status() == 429).count();
    // What had come in since the last wave, and what came in meanwhile.
    let spent = 20 - u32::try_from(refused).unwrap();
    assert!(f64::from(spent) <= 2.0 + began.elapsed().as_secs_f64() - last, "{refused}");

    // Nobody can count any more: what reads is let through to say that Redis is away, what writes is not.
    redis.stop().await;
    let write = client.post(format!("{}/v1/jobs", servers[0].url)).bearer_auth(&key).json(&json!({}));
    let write = write.send().await.unwrap();
    assert_eq!(write.status(), 503);
    assert!(write.headers().contains_key("retry-after"));
}

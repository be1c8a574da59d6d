//! Two API instances behind a load balancer that gives one request to each in turn.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use jobs::private_redis::PrivateRedis;
use serde_json::{Value, json};

use crate::harness::{
    DAYS, LIMIT, Process, SEED, SYMBOL, binary, fixtures, free_port, generate_on, month, with,
};

/// HAProxy in front of two servers of this machine. It is killed with the test.
pub struct Balancer {
    child: Child,
    pub url: String,
}

/// A port that was free a moment ago.
fn start(ports: [u16; 2], front: u16) -> Child {
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(fixtures().join("haproxy.cfg"));
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    for (name, port) in [("FRONT", front), ("FIRST", ports[0]), ("SECOND", ports[1])] {
        command.env(name, port.to_string());
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("haproxy is missing (scripts/setup tests installs it): {error}"))
}

impl Balancer {
    /// In front of these ports, once both answer through it.
    pub async fn start(ports: [u16; 2]) -> Self {
        jobs::choose_tls();
        for _another_port in 0..5 {
            let front = free_port();
            let mut child = start(ports, front);
            let url = format!("http://127.0.0.1:{front}");
            if Self::serves(&mut child, &url).await {
                return Self { child, url };
            }
        }
        panic!("haproxy finds no port")
    }

    /// Whether it comes to answer; it ends at once if another process took the port meanwhile.
    async fn serves(child: &mut Child, url: &str) -> bool {
        let (client, end) = (reqwest::Client::new(), Instant::now() + LIMIT);
        let mut good = 0;
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            let live = client.get(format!("{url}/health/live")).send().await;
            good = if live.is_ok_and(|answer| answer.status() == 200) { good + 1 } else { 0 };
            if good == 4 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A stateless instance of the real server.
fn serve(redis: &str, data: &Path, port: u16) -> Process {
    let mut command = binary();
    command
        .args(["serve", "--redis-url", redis, "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data);
    Process::serving(command.stderr(Stdio::null()).spawn().unwrap(), port)
}

/// A client of the newest version of MCP, bare so that each request may reach another instance.
#[derive(Clone)]
struct Caller {
    /// Whether it follows tasks; a call of one that does not waits for its job.
    follows: bool,
    client: reqwest::Client,
    url: String,
}

impl Caller {
    /// Asks; answers the status and what was said, if anything.
    async fn ask(&self, method: &str, name: &str, params: Value) -> (u16, Value) {
        let extensions = if self.follows { json!({"io.modelcontextprotocol/tasks": {}}) } else { json!({}) };
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "follower", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
        });
        let params = with(params, &json!({"_meta": meta}));
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = self.client.post(format!("{}/mcp", self.url)).json(&body);
        let request = request.header("Accept", "application/json, text/event-stream");
        let request = request.header("MCP-Protocol-Version", "2026-07-28");
        let request = request.header("Mcp-Method", method).header("Mcp-Name", name);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Submits a backtest that does not end by itself, under a campaign of its own.
    async fn backtest(&self, balance: u32, wait_s: u32) -> (u16, Value) {
        let more = json!({"balance": balance, "wait_seconds": wait_s, "campaign": format!("c{balance}")});
        let arguments = with(month("LoopsForever"), &more);
        let (status, answer) =
            self.ask("tools/call", "backtest", json!({"name": "backtest", "arguments": arguments})).await;
        (status, answer["result"].clone())
    }

    async fn task(&self, id: &str) -> (u16, Value) {
        let (status, answer) = self.ask("tasks/get", id, json!({"taskId": id})).await;
        (status, answer["result"]["status"].clone())
    }
}

#[tokio::test]
async fn behind_a_balancer_any_instance_serves_any_task_and_a_killed_one_is_not_missed() {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
    generate_on(data.path(), SYMBOL, DAYS, SEED, &["--redis-url", redis.url()]);
    let ports = [free_port(), free_port()];
    let [first, second] = ports.map(|port| serve(redis.url(), data.path(), port));
    let balancer = Balancer::start(ports).await;
    let own = format!("127.0.0.1:{}", free_port());
    let mut command = binary();
    command.args(["worker", "--redis-url", redis.url(), "--metrics-listen", &own, "--data"]).arg(data.path());
    command.arg("--project").arg(fixtures().join("project"));
    let mut worker = Process::serving(command.stderr(Stdio::null()).spawn().unwrap(), 0);
    // A connection for each request: HAProxy gives each to the next instance.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let end = Instant::now() + LIMIT;
    while client.get(format!("{}/health/ready", balancer.url)).send().await.unwrap().status() != 200 {
        assert!(Instant::now() < end, "no worker");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let through = |url: &str, follows| Caller { follows, client: client.clone(), url: url.to_owned() };
    let (either, alone) = (through(&balancer.url, true), through(&second.url, true));

    // One instance makes the task, the other knows it, and it is polled and cancelled through both.
    let (status, task) = through(&first.url, true).backtest(61_000, 0).await;
    let id = task["taskId"].as_str().unwrap_or_else(|| panic!("{status}: {task}"));
    assert_eq!(alone.task(id).await, (200, json!("working")));
    for _both in 0..4 {
        assert_eq!(either.task(id).await, (200, json!("working")));
    }
    let (status, _) = alone.ask("tasks/cancel", id, json!({"taskId": id})).await;
    assert_eq!(status, 200);
    until_cancelled(&either, id).await;

    // Killed in the middle of polls and of two calls that wait, one at each instance: no poll fails, one call does.
    let (_, task) = either.backtest(61_001, 0).await;
    let id = task["taskId"].as_str().unwrap().to_owned();
    let waiting = through(&balancer.url, false);
    let funds = [61_002, 61_003];
    let (mut calls, mut of) = (Vec::new(), Vec::new());
    for balance in funds {
        let waiting = waiting.clone();
        calls.push(tokio::spawn(async move { waiting.backtest(balance, 50).await }));
        // Nothing else goes through the balancer meanwhile: the next call is the other instance's.
        of.push(id_of(&alone, balance).await);
    }
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        first.signal("KILL");
    };
    let polls = async {
        let (mut polls, end) = (Vec::new(), Instant::now() + Duration::from_secs(3));
        while Instant::now() < end {
            polls.push(either.task(&id).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        polls
    };
    let (polls, ()) = tokio::join!(polls, kill);
    let lost: Vec<_> = polls.iter().filter(|poll| **poll != (200, json!("working"))).collect();
    assert!(lost.is_empty() && !polls.is_empty(), "{lost:?}");
    let end = Instant::now() + LIMIT;
    let cut_off = loop {
        if let Some(ended) = calls.iter().position(tokio::task::JoinHandle::is_finished) {
            break ended;
        }
        assert!(Instant::now() < end, "no call was cut off");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The other goes on until its job ends.
    either.ask("tasks/cancel", &of[1 - cut_off], json!({"taskId": of[1 - cut_off]})).await;
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap().0);
    }
    assert_eq!((told[cut_off], told[1 - cut_off]), (502, 200));
    // The call that was cut off, again: the same job.
    let (status, again) = waiting.backtest(funds[cut_off], 0).await;
    assert_eq!((status, &again["structuredContent"]["job_id"]), (200, &json!(of[cut_off])), "{again}");
    for id in of.iter().chain([&id]) {
        either.ask("tasks/cancel", id, json!({"taskId": id})).await;
        until_cancelled(&either, id).await;
    }
    assert!(worker.stop().await);
    drop((first, second, balancer));
    redis.stop().await;
}

/// The job that was submitted with this balance, once it is there.
async fn id_of(through: &Caller, balance: u32) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let url = format!("{}/v1/jobs?campaign=c{balance}", through.url);
        let listed: Value = through.client.get(url).send().await.unwrap().json().await.unwrap();
        if let Some(id) = listed["jobs"][0]["job_id"].as_str() {
            return id.to_owned();
        }
        assert!(Instant::now() < end, "it was not submitted: {listed}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_cancelled(through: &Caller, id: &str) {
    let end = Instant::now() + LIMIT;
    while through.task(id).await != (200, json!("cancelled")) {
        assert!(Instant::now() < end, "it is not cancelled");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! An API instance and delivery workers on a Redis of their own, without Jesse: jobs are ended by the tests themselves.

use std::{
    process::{Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use jobs::{
    CacheKey, ErrorCode, Facets, Free, JobError, JobId, Kind, Outcome, Queue, Receipt, Redis, Retention,
    Stored, StoredResult, Submission, TenantId, Treatment, WorkerId, blobs::BlobId,
    private_redis::PrivateRedis,
};
use serde_json::{Value, json, value::RawValue};

use crate::harness::{LIMIT, Process, binary, free_port};

pub struct Light {
    pub redis: Option<PrivateRedis>,
    pub data: tempfile::TempDir,
    pub url: String,
    pub queue: Queue,
    pub api: Process,
    pub workers: Vec<Child>,
    client: reqwest::Client,
}

/// A schedule that a test can wait for.
pub const HURRIED: [&str; 6] = [
    "--webhook-schedule",
    "0.1,0.1,0.2,0.2,0.2,0.2,0.2,0.2",
    "--webhook-timeout",
    "1",
    "--webhook-allow",
    "127.0.0.1",
];

impl Light {
    /// With this many delivery workers.
    pub async fn start(workers: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let redis = PrivateRedis::start(&data.path().join("redis")).await.unwrap();
        let url = redis.url().to_owned();
        let queue = Queue::new(Redis::open(&url, "jj", 2).unwrap(), Retention::default());
        let client = {
            let _tls = binary();
            reqwest::Client::new()
        };
        let api = Self::serve(&url, &data, &client).await;
        let mut light = Self { redis: Some(redis), data, url, queue, api, workers: Vec::new(), client };
        for _ in 0..workers {
            light.add_worker();
        }
        light
    }

    /// Another process may be faster with the port.
    async fn serve(url: &str, data: &tempfile::TempDir, client: &reqwest::Client) -> Process {
        for _ in 0..20 {
            let port = free_port();
            let mut command = binary();
            command.args(["serve", "--redis-url", url, "--webhook-allow", "127.0.0.1", "--listen"]);
            command.arg(format!("127.0.0.1:{port}")).arg("--data").arg(data.path());
            let mut process = Process::serving(command.stderr(Stdio::null()).spawn().unwrap(), port);
            let end = Instant::now() + LIMIT;
            while process.child.try_wait().unwrap().is_none() && Instant::now() < end {
                if client.get(format!("{}/health/live", process.url)).send().await.is_ok() {
                    return process;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!("no port can be had");
    }

    pub fn add_worker(&mut self) {
        let mut command = binary();
        command
            .args(["worker", "--webhooks", "only", "--redis-url", &self.url, "--data"])
            .arg(self.data.path());
        self.workers.push(command.args(HURRIED).stderr(Stdio::null()).spawn().unwrap());
    }

    pub async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.api.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(reqwest::Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(reqwest::Method::POST, path, Some(body)).await
    }

    /// Makes an endpoint; answers its id and its secret.
    pub async fn endpoint(&self, url: &str) -> (String, String) {
        let (status, made) = self.post("/v1/webhooks", &json!({ "url": url })).await;
        assert_eq!(status, 201, "{made}");
        (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    }

    /// Ends jobs of the default tenant, each with a summary, or with an error; their webhook is `hook`.
    pub async fn end_jobs(&self, number: usize, fails: bool, hook: Option<&str>) -> Vec<JobId> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mut jobs = Vec::new();
        for _ in 0..number {
            let submission = submission(MADE.fetch_add(1, Ordering::Relaxed), hook);
            jobs.push(self.queue.submit(&submission).await.unwrap().0);
        }
        let (worker, free) = (WorkerId::new("test"), Free { slots: 100, memory_mb: 0, idle: true });
        let mut left = number;
        while left > 0 {
            let (claims, _) = self.queue.claim(&worker, free).await.unwrap();
            left -= claims.len();
            for claim in claims {
                let outcome = if fails {
                    Outcome::Failed(JobError::new(ErrorCode::StrategyError, "division by zero"))
                } else {
                    success(&claim.run.to_string())
                };
                self.queue.finish(&claim, &outcome).await.unwrap();
            }
        }
        jobs
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _gone = worker.kill();
            let _ended = worker.wait();
        }
    }
}

fn submission(number: usize, hook: Option<&str>) -> Submission {
    Submission {
        tenant: TenantId::default_tenant(),
        kind: Kind::Backtest,
        treatment: Treatment { max_attempts: 1, webhook: hook.map(str::to_owned), ..Treatment::default() },
        cache_key: CacheKey::new(format!("job {number}")),
        request: json!({ "number": number }).to_string(),
        plan: "{}".into(),
        start_at_ms: None,
        deadline_ms: None,
        idempotency: None,
        instead_of: None,
        trial_of: Vec::new(),
    }
}

fn success(id: &str) -> Outcome {
    Outcome::Succeeded(StoredResult {
        trial: None,
        stored: Some(Stored { bytes: 10, facets: Facets::new("Binance", ["BTC-USDT"], ["SmaCross"]) }),
        id: id.into(),
        summary: r#"{"metrics":{"total":3}}"#.into(),
        receipt: Receipt {
            blob: BlobId::of(id.as_bytes()),
            file: None,
            bytes: 10,
            provenance: RawValue::from_string("{}".into()).unwrap(),
        },
    })
}

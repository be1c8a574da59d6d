//! Starts the binary and talks to it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub const EXCHANGE: &str = "Binance Perpetual Futures";
pub const SYMBOL: &str = "BTC-USDT";
/// Days of synthetic candles from 2023-01-01.
pub const DAYS: u32 = 120;
pub const SEED: u64 = 7;
/// Generous: the machine may be busy. What is fast is measured by benchmarks.
pub const LIMIT: Duration = Duration::from_mins(2);

pub fn binary() -> Command {
    // Before any client is made, and none is without a server: clients that are built with TLS want to know which.
    jobs::choose_tls();
    let mut command = Command::new(env!("CARGO_BIN_EXE_jesse-jobs"));
    command.env("JESSE_PYTHON", python()).env_remove("REDIS_URL").env("LOG_LEVEL", "warn");
    command
}

/// The interpreter that has Jesse.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let found = || {
        let local = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let python = std::env::var_os("JESSE_PYTHON").map_or(local, PathBuf::from);
        let has_jesse = Command::new(&python)
            .args(["-c", "import importlib.util as u; assert u.find_spec('jesse')"])
            .status();
        let message = "these tests need a Python with Jesse: `make test` prepares one, or set JESSE_PYTHON";
        assert!(has_jesse.is_ok_and(|status| status.success()), "{}: {message}", python.display());
        python
    };
    PYTHON.get_or_init(found).clone()
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A process of ours that ends with the test, and by asking first.
pub struct Process {
    pub child: Child,
    pub url: String,
}

impl Process {
    /// Starts `up` and waits until it is ready.
    pub fn up(data: &Path, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap_or_else(|| panic!("`up` ended: {:?}", child.wait())).unwrap();
        let url = line.strip_prefix("jesse-jobs is ready: ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, url }
    }

    /// A process that serves on this port.
    pub fn serving(child: Child, port: u16) -> Self {
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Asks it to stop; answers whether it said that all went well.
    pub async fn stop(&mut self) -> bool {
        self.signal("TERM");
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < end, "it does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
            let _ended = self.child.wait();
        }
    }
}

/// A data folder with candles, and `up` on it with the project of the fixtures (a copy, so that it can be edited).
pub struct Deployment {
    pub process: Process,
    pub data: tempfile::TempDir,
    pub project: PathBuf,
    pub client: reqwest::Client,
}

impl Deployment {
    pub fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        generate(data.path(), SYMBOL, DAYS, SEED);
        Self::start_on(data, arguments)
    }

    /// The same in a folder with what is there already.
    pub fn start_on(data: tempfile::TempDir, arguments: &[&str]) -> Self {
        let project = data.path().join("a-project");
        copy(&fixtures().join("project"), &project);
        let mut all = vec!["--project", project.to_str().unwrap()];
        all.extend(arguments);
        let process = Process::up(data.path(), &all);
        // A connection lives on the runtime of the test that opened it: one that was kept for another test would break in
        // the middle of a request when the first test ends.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { process, data, project, client }
    }

    /// One for all tests that leave it as it is. It outlives them; it is stopped when the test process ends, since it
    /// notices that (see `tie_to_this_process`).
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Deployment>> = OnceLock::new();
        let start = || {
            // What one test held out would be refused to all others.
            let deployment = Arc::new(Self::start(&["--grace", "1", "--holdout-share", "0"]));
            tie_to_this_process(deployment.process.child.id(), deployment.data.path());
            deployment
        };
        SHARED.get_or_init(start).clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.process.url)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.client.post(self.url(path)).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Submits a backtest and waits for its end.
    pub async fn backtest(&self, spec: &Value) -> Value {
        self.post("/v1/jobs?wait=120", &json!({"kind": "backtest", "spec": spec})).await.1
    }

    /// Reads a job until it is as wanted.
    pub async fn until(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let (_, view) = self.get(&format!("/v1/jobs/{job}")).await;
            if wanted(&view) {
                return view;
            }
            assert!(Instant::now() < end, "it did not come to that: {view}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads a job until its record has expired.
    pub async fn until_gone(&self, job: &str) {
        let end = Instant::now() + LIMIT;
        while self.get(&format!("/v1/jobs/{job}")).await.0 != 404 {
            assert!(Instant::now() < end, "it does not expire");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn edit(&self, strategy: &str, change: impl Fn(&str) -> String) {
        let file = self.project.join("strategies").join(strategy).join("__init__.py");
        let text = std::fs::read_to_string(&file).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed);
        std::fs::write(file, changed).unwrap();
    }
}

/// A valid backtest of one month, for tests to vary.
pub fn month(strategy: &str) -> Value {
    json!({
        "strategy": strategy, "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h",
        "start_date": "2023-02-01", "finish_date": "2023-03-01",
    })
}

/// The same with some fields replaced.
pub fn with(mut spec: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

pub fn generate(data: &Path, symbol: &str, days: u32, seed: u64) {
    generate_on(data, symbol, days, seed, &[]);
}

pub fn generate_on(data: &Path, symbol: &str, days: u32, seed: u64, arguments: &[&str]) {
    let mut command = binary();
    command.args(["candles", "generate", "--exchange", EXCHANGE, "--symbol", symbol, "--data"]).arg(data);
    succeed(command.args(["--days", &days.to_string(), "--seed", &seed.to_string()]).args(arguments));
}

/// A port that nobody listened on a moment ago: another process may be faster with it.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Statics are not dropped when the test process ends: a shell waits for our end of its standard input to close, then
/// stops the server and removes its data.
pub fn tie_to_this_process(server: u32, data: &Path) {
    let script =
        r#"cat >/dev/null; kill -TERM "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;
    let mut watch = Command::new("sh");
    watch.args(["-c", script, "watch", &server.to_string()]).arg(data).stdin(Stdio::piped());
    let child = watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::mem::forget(child);
}

/// The processes whose command line contains this text.
pub fn processes_with(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let own = std::process::id().to_string();
    processes
        .filter(|entry| entry.file_name().to_string_lossy() != own)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

//! Starts a real Jesse server with a Postgres of its own, and `up` in front of it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use jesse::{
    candles::{self, Candle, WalkSettings},
    rest::{RestEngine, RestSettings, Token, parse_urls},
};
use serde_json::{Value, json};

use crate::harness::{Deployment, EXCHANGE, Process, SYMBOL, binary, copy, fixtures, python, succeed};

pub const SPOT: &str = "Binance Spot";
pub const ETH: &str = "ETH-USDT";
/// Whose candles end at noon of the last day.
pub const HALF_A_DAY: &str = "SOL-USDT";
/// Days of candles from 2023-01-01; the last is 2023-03-01.
pub const DAYS: u32 = 60;

/// A server. It is stopped when this process ends: its standard input closes then.
pub struct JesseServer {
    pub url: String,
    pub password: String,
    /// Its project.
    pub folder: PathBuf,
    child: Mutex<Child>,
}

/// A strategy for spot markets, which the other tests do not have.
const SPOT_TREND: &str = include_str!("spot_trend.py");

/// Puts a strategy into a project.
pub fn add_strategy(project: &Path, name: &str, code: &str) {
    let folder = project.join("strategies").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("__init__.py"), code).unwrap();
}

/// What the server's database is filled with.
fn series() -> Vec<(&'static str, &'static str, u64, u32, f64)> {
    let minutes = DAYS * 1440;
    vec![
        (EXCHANGE, SYMBOL, 1, minutes, 20_000.0),
        (EXCHANGE, ETH, 2, minutes, 1_500.0),
        (SPOT, SYMBOL, 3, minutes, 20_000.0),
        (EXCHANGE, HALF_A_DAY, 4, minutes - 720, 20.0),
    ]
}

impl JesseServer {
    /// A server of its own, for tests that harm it. `None` where there is no Postgres to be had.
    pub fn start() -> Option<Self> {
        let scratch = tempfile::tempdir().unwrap();
        let mut list = Vec::new();
        for (exchange, symbol, seed, minutes, start_price) in series() {
            let settings = WalkSettings { seed, minutes, start_price, ..WalkSettings::default() };
            let rows: Vec<Candle> = candles::generate(settings).unwrap().collect();
            let file = scratch.path().join(format!("{seed}.npy"));
            std::fs::write(&file, candles::encode(&rows)).unwrap();
            list.push(json!({"exchange": exchange, "symbol": symbol, "file": file}));
        }
        let series = scratch.path().join("series.json");
        std::fs::write(&series, json!(list).to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/rest/jesse_server.py");
        let mut command = Command::new(python());
        command.arg(script).arg(fixtures().join("project")).arg(&series);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let line = line.unwrap_or_else(|| panic!("the server did not start: {:?}", child.wait())).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        if let Some(why) = said["skip"].as_str() {
            eprintln!("skipped: {why}");
            return None;
        }
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        let (url, password, folder) = (text("url"), text("password"), text("folder").into());
        let server = Self { url, password, folder, child: Mutex::new(child) };
        add_strategy(&server.folder, "SpotTrend", SPOT_TREND);
        Some(server)
    }

    /// One for all tests that leave it as it is.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<JesseServer>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Stops it and everything that belongs to it.
    pub fn stop(&self) {
        let mut child = self.child.lock().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    /// The engine on this server alone.
    pub fn engine(&self) -> RestEngine {
        RestEngine::new(settings(&[&self.url], &self.password)).unwrap()
    }

    /// A call that the engine would not make.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let client = reqwest::Client::new();
        let token = token(self).await;
        let request = client.post(format!("{}/{path}", self.url)).header("Authorization", token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// How many sessions it has.
    pub async fn sessions(&self) -> Vec<Value> {
        let (status, answer) = self.post("backtest/sessions", &json!({"limit": 500})).await;
        assert_eq!(status, 200, "{answer}");
        answer["sessions"].as_array().unwrap().clone()
    }
}

impl Drop for JesseServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// As the server's own login hands it out; nothing of ours is in it.
async fn token(server: &JesseServer) -> String {
    let login = reqwest::Client::new().post(format!("{}/auth/login", server.url));
    let answer = login.json(&json!({ "password": server.password })).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    answer["auth_token"].as_str().unwrap().to_owned()
}

pub fn settings(urls: &[&str], password: &str) -> RestSettings {
    RestSettings {
        urls: parse_urls(urls.iter().copied()).unwrap(),
        token: Token::of_password(password),
        concurrency: 4,
        cache_ttl: std::time::Duration::from_hours(1),
        max_result_bytes: 64 << 20,
    }
}

/// `up` that computes on this server alone.
pub fn deployment(server: &JesseServer, arguments: &[&str]) -> Deployment {
    let data = tempfile::tempdir().unwrap();
    let project = data.path().join("a-project");
    copy(&fixtures().join("project"), &project);
    let mut all = vec!["--engine", "rest", "--jesse-urls", &server.url, "--jesse-password", &server.password];
    all.extend(["--project", project.to_str().unwrap(), "--grace", "1"]);
    all.extend(arguments);
    let process = Process::up(data.path(), &all);
    Deployment { process, data, project, client: reqwest::Client::new() }
}

/// `up` with the runner, on the very rows that the server has, imported as anybody would.
pub fn runner_on_the_same_candles(server: &JesseServer, arguments: &[&str]) -> Deployment {
    let data = tempfile::tempdir().unwrap();
    let project = data.path().join("a-project");
    copy(&fixtures().join("project"), &project);
    for (number, (exchange, symbol, ..)) in series().into_iter().enumerate() {
        let file = server.folder.join(format!("{number}.csv"));
        let mut import = binary();
        import.args(["candles", "import"]).arg(&file);
        import.args(["--exchange", exchange, "--symbol", symbol, "--data"]).arg(data.path());
        succeed(&mut import);
    }
    add_strategy(&project, "SpotTrend", SPOT_TREND);
    let mut all = vec!["--project", project.to_str().unwrap(), "--grace", "1"];
    all.extend(arguments);
    let process = Process::up(data.path(), &all);
    Deployment { process, data, project, client: reqwest::Client::new() }
}

/// One deployment on the shared server for all tests that leave it as it is.
pub fn shared() -> Option<Arc<Deployment>> {
    static SHARED: OnceLock<Option<Arc<Deployment>>> = OnceLock::new();
    let start = || {
        let deployment = Arc::new(deployment(JesseServer::shared()?, &[]));
        crate::harness::tie_to_this_process(deployment.process.child.id(), deployment.data.path());
        Some(deployment)
    };
    SHARED.get_or_init(start).clone()
}

//! `doctor`: looks for what keeps jobs from being run, and says how to mend it.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{ClientError, http::Server, http::ServerArgs, pretty, print};
use crate::settings::RedisAccessSettings;

/// What is looked at.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Also look at this Redis itself, e.g. redis://127.0.0.1:6379/0
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// See the struct.
    #[command(flatten)]
    access: RedisAccessSettings,
    /// Also look whether this Python has Jesse
    #[arg(long, env = "JESSE_PYTHON")]
    python: Option<PathBuf>,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// Clocks may differ by this much: receivers of webhooks refuse what seems to be from another time.
const CLOCK_S: i64 = 30;
/// How long Python may take to import Jesse.
const IMPORT: Duration = Duration::from_mins(2);

/// What was looked at, what was found, and if that is a fault, its remedy.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    found: String,
    remedy: Option<String>,
}

fn well(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, found: found.into(), remedy: None }
}

fn fault(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what, found: found.into(), remedy: Some(remedy.into()) }
}

/// Prints what was found; answers whether nothing is wrong.
pub(super) async fn run(args: DoctorArgs) -> Result<bool, ClientError> {
    let server = Server::new(&args.server)?;
    let mut findings = server_itself(&server, &args.server.url).await?;
    if let Some(url) = args.redis_url.as_deref().filter(|url| !url.is_empty()) {
        findings.extend(redis_itself(url, &args.access.access()).await);
    }
    if let Some(python) = &args.python {
        findings.push(python_itself(python).await);
    }
    let healthy = findings.iter().all(|finding| finding.remedy.is_none());
    if args.server.json {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({"what": finding.what, "ok": finding.remedy.is_none(), "found": finding.found, "remedy": finding.remedy}))
            .collect();
        print(&pretty(&json!(list)))?;
    } else {
        for Finding { what, found, remedy } in &findings {
            let mark = if remedy.is_none() { "ok   " } else { "FAULT" };
            print(&format!("{mark} {what:<12} {found}"))?;
            if let Some(remedy) = remedy {
                print(&format!("      {:<12} -> {remedy}", ""))?;
            }
        }
    }
    Ok(healthy)
}

async fn server_itself(server: &Server, url: &str) -> Result<Vec<Finding>, ClientError> {
    // Not through the calls that insist: an answer of 503 is an answer here, and says more than a retry would.
    let response = match server.request(Method::GET, "/health", &[]).send().await {
        Ok(response) => response,
        Err(error) => {
            let remedy = "start it: `jesse-jobs up` on one machine, `jesse-jobs serve` beside a Redis; or name another with --url";
            return Ok(vec![fault(
                "server",
                format!("{url} does not answer: {}", jobs::chain(&error)),
                remedy,
            )]);
        }
    };
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let health: Value = response.json().await.unwrap_or_default();
    if health["jesse_api"].as_str().is_none() {
        let remedy = "name the address of jesse-jobs with --url; something else answers there";
        return Ok(vec![fault("server", format!("{url} answers, but not as jesse-jobs does"), remedy)]);
    }
    let mut findings = vec![match health["version"].as_str() {
        Some(version) if version != env!("CARGO_PKG_VERSION") => {
            let found = format!("it is version {version}, this is {}", env!("CARGO_PKG_VERSION"));
            fault("server", found, "use the same release on both sides")
        }
        Some(version) => well("server", format!("{url}, version {version}")),
        // It tells its version to those who may call it.
        None => well("server", url),
    }];
    findings.extend(clock(date.as_deref()));
    if health["redis"] != "connected" {
        let remedy =
            "start Redis, or correct REDIS_URL of the server; it goes on by itself once Redis is back";
        findings.push(fault("Redis", "the server cannot reach it", remedy));
        return Ok(findings);
    }
    findings.push(well("Redis", "the server reaches it"));
    findings.push(match health["jesse_api"].as_str() {
        Some(engine @ ("embedded" | "connected")) => well("engine", engine),
        _ => fault(
            "engine",
            "no worker with Jesse is there",
            "start one: `jesse-jobs worker --project FOLDER` with JESSE_PYTHON naming a Python that has Jesse, on the same REDIS_URL",
        ),
    });
    match inside(server).await {
        Ok(more) => findings.extend(more),
        Err(ClientError::Refused { status: 401, detail, .. }) => {
            let remedy = "show a key that holds: --key (JESSE_JOBS_KEY); whoever runs the server makes one with `jesse-jobs keys create`";
            findings.push(fault("key", detail, remedy));
        }
        Err(ClientError::Refused { status: 403, detail, .. }) => {
            let remedy =
                "show a key that has the scopes jobs:read and strategies:read (--key, JESSE_JOBS_KEY)";
            findings.push(fault("key", detail, remedy));
        }
        Err(error) => return Err(error),
    }
    Ok(findings)
}

/// What only those are told who may call it.
async fn inside(server: &Server) -> Result<Vec<Finding>, ClientError> {
    let mut findings = content(server).await?;
    findings.extend(queue(server).await?);
    Ok(findings)
}

fn clock(date: Option<&str>) -> Option<Finding> {
    let told = jiff::fmt::rfc2822::parse(date?).ok()?.timestamp();
    let apart = (Timestamp::now().as_second() - told.as_second()).abs();
    Some(if apart <= CLOCK_S {
        well("clock", "the server's and this machine's agree")
    } else {
        let remedy = "let both follow a time server (timedatectl set-ntp true)";
        fault("clock", format!("the server's and this machine's are {apart} s apart"), remedy)
    })
}

async fn content(server: &Server) -> Result<Vec<Finding>, ClientError> {
    let strategies =
        server.get("/v1/strategies").await.map(|found| found["strategies"].as_array().map_or(0, Vec::len));
    let candles = server.get("/v1/candles").await?["candles"].as_array().map_or(0, Vec::len);
    Ok(vec![
        match strategies {
            Ok(count) if count > 0 => well("strategies", format!("{count}")),
            Err(error @ ClientError::Refused { status: 401 | 403, .. }) => return Err(error),
            // Without a worker there is no catalogue yet, which is told as an error of its own.
            Ok(_) | Err(ClientError::Refused { .. }) => fault(
                "strategies",
                "there are none",
                "let a worker's --project name a Jesse project that has strategies/, or write one (`jesse-jobs strategies write`)",
            ),
            Err(error) => return Err(error),
        },
        if candles > 0 {
            well("candles", format!("of {candles} symbols"))
        } else {
            fault(
                "candles",
                "there are none",
                "import some: `jesse-jobs candles import --help`, or make some: `jesse-jobs candles generate`",
            )
        },
    ])
}

async fn queue(server: &Server) -> Result<Vec<Finding>, ClientError> {
    let queue = server.get("/v1/queue").await?;
    let count = |name: &str| queue[name].as_u64().unwrap_or_default();
    let (ready, running) = (count("ready"), count("running"));
    let mut findings = vec![if queue["paused"] == true {
        fault("queue", format!("it is paused; {ready} runs wait"), "POST /v1/queue/resume")
    } else if ready > 0 && running == 0 {
        let remedy =
            "look whether the workers run, and whether they are of an older version than what was queued";
        fault("queue", format!("{ready} runs wait and none is running"), remedy)
    } else {
        well("queue", format!("{ready} runs wait, {running} are running"))
    }];
    let dead = server.get_with("/v1/jobs", &[("state", "dead".into()), ("limit", "1".into())]).await?;
    findings.push(if dead["jobs"].as_array().is_none_or(Vec::is_empty) {
        well("dead letters", "none")
    } else {
        let remedy =
            "`jesse-jobs jobs --state dead` lists them, `jesse-jobs requeue JOB_ID` runs one once more";
        fault("dead letters", "there are jobs that were given up", remedy)
    });
    Ok(findings)
}

async fn redis_itself(url: &str, access: &jobs::RedisAccess) -> Vec<Finding> {
    let redis = match jobs::Redis::open_with(url, access, "doctor", 1) {
        Ok(redis) => redis,
        Err(error) => {
            return vec![fault(
                "REDIS_URL",
                jobs::chain(&error),
                "correct it, e.g. redis://127.0.0.1:6379/0",
            )];
        }
    };
    if let Err(error) = redis.ping().await {
        let remedy = "start Redis there, or correct REDIS_URL (user, password, rediss:// for TLS)";
        return vec![fault("REDIS_URL", format!("no Redis answers: {}", jobs::chain(&error)), remedy)];
    }
    let dangers = redis.dangers().await;
    if dangers.is_empty() {
        return vec![well("REDIS_URL", "it keeps what it is given")];
    }
    let told = |danger: String| {
        let (found, remedy) = danger.split_once(": ").unwrap_or((&danger, "see docs/operations.md"));
        fault("REDIS_URL", found, remedy)
    };
    dangers.into_iter().map(told).collect()
}

async fn python_itself(python: &std::path::Path) -> Finding {
    let remedy = "name a Python 3.10 to 3.12 in which `pip install jesse` was done (--python, JESSE_PYTHON)";
    let script = "import importlib.metadata as m, sys; print(sys.version.split()[0], m.version('jesse'))";
    let asked = Command::new(python).args(["-c", script]).kill_on_drop(true).output();
    match tokio::time::timeout(IMPORT, asked).await {
        Ok(Ok(answer)) if answer.status.success() => {
            let text = String::from_utf8_lossy(&answer.stdout);
            let (version, jesse) = text.trim().split_once(' ').unwrap_or_default();
            well("Python", format!("{version}, Jesse {jesse}"))
        }
        Ok(Ok(answer)) => {
            let why = String::from_utf8_lossy(&answer.stderr);
            let why = why.lines().last().unwrap_or("it fails").to_owned();
            fault("Python", format!("{} has no Jesse: {why}", python.display()), remedy)
        }
        Ok(Err(error)) => fault("Python", format!("{} cannot be run: {error}", python.display()), remedy),
        Err(_elapsed) => fault("Python", format!("{} does not answer", python.display()), remedy),
    }
}

//! The runner with the real Jesse: zygotes that are replaced, get stuck or end, and what tasks may not do.
//! Needs a Python with Jesse: JESSE_PYTHON, or .venv at the top of the workspace.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use jesse::{
    catalogue::Hyperparameter,
    pair,
    plan::Limits,
    runner::{Runner, RunnerSettings, Sandbox, TaskError, TaskRequest, TaskResult, Upkeep},
    strategies::bundle,
};
use jobs::{ErrorCode, JobError, blobs::BlobId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_mins(2);
const LIMITS: Limits = Limits { wall_s: 60, cpu_s: 60, memory_mb: 512 };

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A runner with a folder of its own, and strategies whose modules do what a test wants.
struct Fixture {
    runner: Runner,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn start(upkeep: Upkeep, change: impl FnOnce(&mut RunnerSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = workspace().join(".venv/bin/python");
        let mut settings = RunnerSettings {
            python: std::env::var_os("JESSE_PYTHON").map_or(local, PathBuf::from),
            package: workspace().join("workers"),
            folder: folder.path().join("run"),
            max_result_bytes: 1 << 20,
            zygotes: 1,
            sandbox: Sandbox { mode: "off".parse().unwrap(), ..Sandbox::default() },
            stay: 0,
            upkeep,
            starts: None,
        };
        change(&mut settings);
        Self { runner: Runner::start(settings).unwrap(), folder }
    }

    async fn with_limits(&self, code: &str, limits: Limits) -> Result<TaskResult, TaskError> {
        let name = format!("S{}", uuid::Uuid::new_v4().simple());
        let bundle = self.folder.path().join(&name);
        let strategy = bundle.join("strategies").join(&name);
        std::fs::create_dir_all(&strategy).unwrap();
        let class = format!(
            "from jesse.strategies import Strategy\nclass {name}(Strategy):\n    def should_long(self): return False\n    \
             def go_long(self): pass\n"
        );
        std::fs::write(strategy.join("__init__.py"), format!("import os, time\n{code}\n{class}")).unwrap();
        let args = json!({"bundle": bundle, "strategy": name});
        let request = TaskRequest { task: "describe", args, limits, progress: None };
        self.runner.run(request, &CancellationToken::new()).await
    }

    async fn run(&self, code: &str) -> Result<TaskResult, TaskError> {
        self.with_limits(code, LIMITS).await
    }

    /// The error of a run that fails, and what it had printed.
    async fn failure(&self, code: &str, limits: Limits) -> (JobError, String) {
        match self.with_limits(code, limits).await {
            Err(TaskError::Failed { error, output }) => (error, output),
            other => panic!("{other:?}"),
        }
    }

    /// The youngest runner process.
    async fn pid(&self) -> u32 {
        self.runner.ready().await.unwrap().pid
    }

    /// One that ends soon after its start is started again after a pause; meanwhile nothing can be run, and what
    /// was sent to the dying process before its end was noticed fails with it.
    async fn until_runs(&self) {
        let end = Instant::now() + LIMIT;
        while let Err(error) = self.run("").await {
            let expected = match &error {
                TaskError::NoEngine(_) => true,
                TaskError::Failed { error, .. } => error.code == ErrorCode::EngineCrashed && error.retryable,
                _ => false,
            };
            assert!(expected, "{error:?}");
            assert!(Instant::now() < end, "it does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_replaced(&self, old: u32) {
        let end = Instant::now() + LIMIT;
        while self.pid().await == old {
            assert!(Instant::now() < end, "it is not replaced");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn soon() -> Upkeep {
    Upkeep { look_every: Duration::from_millis(200), ..Upkeep::default() }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn after_many_tasks_a_runner_is_replaced_and_what_it_runs_goes_on() {
    let fixture = Fixture::start(Upkeep { most_tasks: 2, ..soon() }, |_| {});
    let first = fixture.pid().await;
    let gate = fixture.folder.path().join("gate");
    let waiting = format!("while not os.path.exists({gate:?}): time.sleep(0.01)");
    let long = fixture.run(&waiting);
    let others = async {
        fixture.run("").await.unwrap();
        fixture.until_replaced(first).await;
        let by_successor = fixture.run("").await.unwrap();
        assert_ne!(by_successor.engine.pid, first);
        assert!(Path::new(&format!("/proc/{first}")).exists(), "the old one still has a task");
        std::fs::write(&gate, "").unwrap();
    };
    let (long, ()) = tokio::join!(long, others);
    assert_eq!(long.unwrap().engine.pid, first);
    let end = Instant::now() + LIMIT;
    while Path::new(&format!("/proc/{first}")).exists() {
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.runner.stop().await;
}

#[tokio::test]
async fn a_runner_that_does_not_answer_is_replaced_and_its_tasks_are_not_blamed() {
    let upkeep = Upkeep { answer_within: Duration::from_secs(3), ..soon() };
    let fixture = Fixture::start(upkeep, |_| {});
    let first = fixture.pid().await;
    let begun = fixture.folder.path().join("begun");
    let code = format!("open({begun:?}, 'w').close()\ntime.sleep(60)");
    let task = fixture.run(&code);
    let stopping = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        signal("-STOP", first);
    };
    let (task, ()) = tokio::join!(task, stopping);
    assert!(matches!(task, Err(TaskError::Interrupted)), "{task:?}");
    assert_ne!(fixture.run("").await.unwrap().engine.pid, first);
}

#[tokio::test]
async fn a_runner_that_ends_takes_its_tasks_along_and_comes_back() {
    let fixture = Fixture::start(soon(), |settings| settings.zygotes = 2);
    let first = fixture.pid().await;
    signal("-KILL", first);
    fixture.until_runs().await;
    let code = "import signal\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)";
    let (error, _) = fixture.failure(code, LIMITS).await;
    assert_eq!((error.code, error.retryable), (ErrorCode::EngineCrashed, true));
    fixture.until_runs().await;
}

#[tokio::test]
async fn other_packages_are_noticed_and_told() {
    let site = tempfile::tempdir().unwrap();
    let install = |version: &str| {
        let folder = site.path().join(format!("example-{version}.dist-info"));
        std::fs::create_dir(&folder).unwrap();
        let text = format!("Metadata-Version: 2.1\nName: example\nVersion: {version}\n");
        std::fs::write(folder.join("METADATA"), text).unwrap();
    };
    install("1.0");
    let package = site.path().join("runner");
    for part in ["", "faster"] {
        std::fs::create_dir(package.join(part)).unwrap();
        for entry in
            std::fs::read_dir(workspace().join("workers/runner").join(part)).unwrap().map(Result::unwrap)
        {
            if entry.path().extension().is_some_and(|end| end == "py") {
                std::fs::copy(entry.path(), package.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let fixture = Fixture::start(soon(), |settings| settings.package = site.path().to_owned());
    let before = fixture.runner.ready().await.unwrap();
    assert_eq!(before.packages["example"], "1.0");
    // The first look at what is installed follows the start.
    tokio::time::sleep(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(site.path().join("example-1.0.dist-info")).unwrap();
    install("1.1");
    fixture.until_replaced(before.pid).await;
    assert_eq!(fixture.run("").await.unwrap().engine.packages["example"], "1.1");
}

#[tokio::test]
async fn each_limit_has_its_error_and_what_was_printed_is_kept() {
    let fixture = Fixture::start(Upkeep::default(), |_| {});
    let print = "print('so far', flush=True)\n";
    let limits = |wall_s, cpu_s, memory_mb| Limits { wall_s, cpu_s, memory_mb };
    let cases = [
        ("time.sleep(60)", limits(2, 60, 512), ErrorCode::Timeout, "stopped after its 2 s"),
        ("while True: pass", limits(60, 1, 512), ErrorCode::Timeout, "used up its processor time"),
        ("bytearray(2**30)", limits(60, 60, 256), ErrorCode::OutOfMemory, "memory limit"),
        (
            "import mmap\nm = mmap.mmap(-1, 2**30)\nfor i in range(0, 2**30, 4096): m[i] = 1\ntime.sleep(60)",
            limits(60, 60, 128),
            ErrorCode::OutOfMemory,
            "memory limit",
        ),
        (
            "while True:\n    if os.fork() == 0: time.sleep(60)",
            LIMITS,
            ErrorCode::StrategyError,
            "more than 64 processes and threads",
        ),
        ("open('x', 'wb').write(bytes(2**27))", LIMITS, ErrorCode::StrategyError, "a file may have 64 MB"),
        ("os._exit(3)", LIMITS, ErrorCode::EngineCrashed, "status 3"),
        ("raise KeyError('no')", LIMITS, ErrorCode::StrategyError, "KeyError: 'no'"),
    ];
    for (code, limits, expected, message) in cases {
        let (error, output) = fixture.failure(&format!("{print}{code}"), limits).await;
        assert_eq!(error.code, expected, "{code}: {error}");
        assert!(error.message.contains(message), "{code}: {error}");
        assert_eq!(output, "so far\n", "{code}");
    }
    let link = "os.remove('output.log')\nos.symlink('/etc/passwd', 'output.log')\n1/0";
    let (_, output) = fixture.failure(link, LIMITS).await;
    assert_eq!(output, "", "a link is not followed");
}

#[tokio::test]
async fn the_strategy_of_a_pair_has_the_hyperparameters_that_requests_are_checked_against() {
    let fixture = Fixture::start(Upkeep::default(), |_| {});
    let packed = pair::packed().unwrap();
    let bundle = fixture.folder.path().join("pair");
    bundle::unpack(&[&packed], &bundle).unwrap();
    let args = json!({"bundle": bundle, "strategy": pair::STRATEGY});
    let request = TaskRequest { task: "describe", args, limits: LIMITS, progress: None };
    let described = fixture.runner.run(request, &CancellationToken::new()).await.unwrap().value;
    let known = pair::strategy(BlobId::of(&packed));
    let hyperparameters: Vec<Hyperparameter> =
        serde_json::from_value(described["hyperparameters"].clone()).unwrap();
    assert_eq!(hyperparameters, known.hyperparameters);
    assert_eq!(described["doc"], json!(known.doc));
}

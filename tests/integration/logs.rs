//! What strategies print, and whether they are shut off.

use serde_json::{Value, json};

use crate::harness::{Deployment, LIMIT, Process, month, with};

async fn logs(deployment: &Deployment, job: &Value) -> (u16, String) {
    let path = format!("/v1/jobs/{}/logs", job["job_id"].as_str().unwrap());
    let response = deployment.client.get(deployment.url(&path)).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Adds a strategy that does this on its first candle.
fn write(deployment: &Deployment, name: &str, act: &str) {
    let folder = deployment.project.join("strategies").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "import os, sys, time\nfrom jesse.strategies import Strategy\n\nclass {name}(Strategy):\n    def before(self):\n        \
         if self.index == 0:\n            {act}\n\n    def should_long(self):\n        return False\n\n    def go_long(self):\n        pass\n"
    );
    std::fs::write(folder.join("__init__.py"), text).unwrap();
}

#[tokio::test]
async fn what_a_strategy_prints_is_its_jobs_log_however_it_ended() {
    let deployment = Deployment::start(&["--grace", "0"]);
    for (name, act, state, printed) in [
        ("Prints", "print('hello'); print('there', file=sys.stderr)", "succeeded", "hello\nthere\n"),
        ("PrintsAndRaises", "print('hello'); raise ValueError('no')", "failed", "hello\n"),
        ("PrintsAndExits", "print('hello'); sys.stdout.flush(); os._exit(1)", "failed", "hello\n"),
        ("IsSilent", "1 / 0", "failed", ""),
    ] {
        write(&deployment, name, act);
        let job = deployment.backtest(&month(name)).await;
        assert_eq!(job["state"], state, "{job}");
        assert_eq!(logs(&deployment, &job).await, (200, printed.to_owned()), "{name}");
    }
    write(&deployment, "PrintsAndSleeps", "print('hello'); sys.stdout.flush(); time.sleep(60)");
    let slow =
        json!({"kind": "backtest", "spec": month("PrintsAndSleeps"), "timeout_s": 2, "max_attempts": 1});
    let (_, job) = deployment.post("/v1/jobs", &slow).await;
    assert_eq!(logs(&deployment, &job).await.0, 409, "it has not ended");
    let job = deployment.post("/v1/jobs?wait=60", &slow).await.1;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("timeout")), "{job}");
    assert_eq!(logs(&deployment, &job).await, (200, "hello\n".to_owned()));
    let nobody = json!({"job_id": "019312ab-0000-7000-8000-000000000000"});
    assert_eq!(logs(&deployment, &nobody).await.0, 404);
}

/// The same figures, whether or not; where the kernel forbids it, that is said.
#[tokio::test]
async fn the_sandbox_is_told_of_and_changes_no_figure() {
    let mut deployment = Deployment::start(&["--grace", "0"]);
    let (_, health) = deployment.get("/health").await;
    let active = health["sandbox"]["active"].as_bool().unwrap();
    assert_eq!(active, health["sandbox"]["reason"].as_str().is_none_or(str::is_empty), "{health}");
    let spec = with(month("SmaCross"), &json!({"benchmark": true}));
    let first = deployment.backtest(&spec).await;
    let (_, inside) = deployment.get(&format!("/v1/jobs/{}/result", first["job_id"].as_str().unwrap())).await;
    assert_eq!(inside["provenance"]["sandbox"], active);
    assert!(deployment.process.stop().await);

    let project = deployment.project.clone();
    deployment.process =
        Process::up(deployment.data.path(), &["--sandbox", "off", "--project", project.to_str().unwrap()]);
    let end = std::time::Instant::now() + LIMIT;
    while deployment.get("/health").await.1["sandbox"]
        != json!({"active": false, "reason": "it is switched off"})
    {
        assert!(std::time::Instant::now() < end, "it is not said");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let job = json!({"kind": "backtest", "spec": spec, "cache": "off"});
    let (_, second) = deployment.post("/v1/jobs?wait=120", &job).await;
    assert_eq!((&second["cached"], &second["state"]), (&json!(false), &json!("succeeded")), "{second}");
    let (_, outside) =
        deployment.get(&format!("/v1/jobs/{}/result", second["job_id"].as_str().unwrap())).await;
    assert_eq!(outside["provenance"]["sandbox"], false);
    for part in ["metrics", "equity_curve", "benchmark_curve"] {
        assert_eq!(inside[part], outside[part], "{part}");
    }
}

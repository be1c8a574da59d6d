//! Strategies on the command line, beside a server that runs and without one.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Deployment, binary, month, with};

/// Runs `strategies` on the data folder: whether it went well, standard output and standard error.
async fn strategies(data: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = binary();
    command.arg("strategies").args(arguments).arg("--data").arg(data);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_strategy_is_validated_written_used_read_and_deleted() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    let run = async |arguments: &[&str]| strategies(data, arguments).await;
    let (_, listed, _) = run(&["list"]).await;
    let (_, over_http) = deployment.get("/v1/strategies").await;
    assert_eq!(parsed(&listed), over_http);

    // A folder with a part of its own, which imports a helper of the project besides.
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("Mine");
    std::fs::create_dir_all(work.path().join("extra")).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let sma = std::fs::read_to_string(deployment.project.join("strategies/SmaCross/__init__.py")).unwrap();
    let mine = sma
        .replace("class SmaCross", "from extra.share import SHARE\nfrom .part import TWICE\n\n\nclass Mine");
    std::fs::write(folder.join("__init__.py"), mine.replace("* 0.5", "* SHARE * TWICE")).unwrap();
    std::fs::write(folder.join("part.py"), "TWICE = 2\n").unwrap();
    std::fs::write(work.path().join("extra/share.py"), "SHARE = 0.25\n").unwrap();
    let (path, root) = (folder.to_str().unwrap(), work.path().to_str().unwrap());

    let (well, found, error) = run(&["validate", path]).await;
    assert!(!well && error.contains("Mine cannot run"), "{error}");
    let found = parsed(&found);
    assert!(found["errors"].to_string().contains("extra"), "{found}");
    let complete = ["--with", "extra/share.py", "--root", root];
    let (well, found, error) = run(&[&["validate", path][..], &complete].concat()).await;
    assert!(well && parsed(&found)["valid"] == json!(true), "{found} {error}");
    let (_, listed, _) = run(&["list"]).await;
    assert!(!listed.contains("\"Mine\""), "validating writes nothing");

    let (well, written, error) = run(&[&["write", path][..], &complete].concat()).await;
    assert!(well && parsed(&written)["written"] == json!(true), "{written} {error}");
    // Half of the balance, as SmaCross takes.
    let theirs = deployment.backtest(&month("SmaCross")).await;
    let ours = deployment.backtest(&month("Mine")).await;
    assert_eq!(ours["state"], "succeeded", "{ours}");
    assert_eq!(ours["summary"]["metrics"], theirs["summary"]["metrics"]);

    let (_, read, _) = run(&["read", "Mine"]).await;
    let (_, over_http) = deployment.get("/v1/strategies/Mine").await;
    assert_eq!(parsed(&read), over_http);
    let (_, part, _) = run(&["read", "Mine", "--file", "strategies/Mine/part.py"]).await;
    assert_eq!(part, "TWICE = 2\n");

    let (well, deleted, _) = run(&["delete", "Mine"]).await;
    assert!(well && deleted == "Mine is deleted\n", "{deleted}");
    let (status, problem) = deployment
        .post("/v1/jobs", &json!({"kind": "backtest", "spec": with(month("Mine"), &json!({"fee": 0.001}))}))
        .await;
    assert_eq!(problem["code"], "strategy_not_found", "{status}: {problem}");
}

#[tokio::test]
async fn what_cannot_be_done_fails_and_says_why() {
    let deployment = Deployment::shared();
    let data = deployment.data.path();
    let work = tempfile::tempdir().unwrap();
    let broken = work.path().join("broken.py");
    std::fs::write(&broken, "from jesse.strategies import Strategy\nclass Broken(Strategy):\n    def f(:\n")
        .unwrap();
    let project = deployment.project.join("strategies/SmaCross");
    let (broken, project) = (broken.to_str().unwrap(), project.to_str().unwrap());
    for (arguments, words) in [
        (&["read", "SmaCros"][..], "did you mean \"SmaCross\""),
        (&["read", "SmaCross", "--file", "../../etc/passwd"], "has no \"../../etc/passwd\""),
        (&["validate", "/nowhere"], "/nowhere cannot be read"),
        (&["validate", broken], "Broken cannot run"),
        (&["validate", broken, "--as", "a b"], "Python identifier"),
        (&["validate", broken, "--wait", "0"], "1..=600"),
        (&["write", project], "replace true"),
        (&["write", broken], "Broken cannot run"),
        (&["delete", "SmaCross"], "only strategies that were written"),
        (&["delete", "Nothing"], "not found"),
    ] {
        let (well, output, error) = strategies(data, arguments).await;
        assert!(!well && error.contains(words), "{arguments:?}: {output} {error}");
    }
    let (_, listed, _) = strategies(data, &["list"]).await;
    assert!(!listed.contains("\"Broken\""), "{listed}");
}

#[tokio::test]
async fn without_a_server_what_was_published_is_listed_and_nothing_waits_for_a_worker() {
    let mut deployment = Deployment::start(&[]);
    let (_, published) = deployment.get("/v1/strategies").await;
    assert!(deployment.process.stop().await);
    let data = deployment.data.path();
    let (well, listed, error) = strategies(data, &["list"]).await;
    assert!(well, "{error}");
    assert_eq!(parsed(&listed), published);
    let folder = deployment.project.join("strategies/SmaCross");
    let (well, _, error) = strategies(data, &["validate", folder.to_str().unwrap()]).await;
    assert!(!well && error.contains("no worker runs on this data folder"), "{error}");
}

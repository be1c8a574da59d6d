//! The programs of `examples/`, as somebody runs them who has a key: they show what the server has.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    access::deployment::Client,
    clients,
    harness::{DAYS, Deployment, LIMIT, SEED, SYMBOL, copy, generate},
};

const KEY: &str = "a-key-for-the-examples-0123456789-0123456789";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A deployment that asks for a key and sends to this machine.
fn deployment() -> Deployment {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, DAYS, SEED);
    let file = data.path().join("admin-key");
    std::fs::write(&file, KEY).unwrap();
    let arguments = ["--admin-key-file", file.to_str().unwrap(), "--webhook-allow", "127.0.0.1"];
    Deployment::start_on(data, &arguments)
}

/// What a program printed, if all went well.
async fn printed(mut command: Command) -> String {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    said.into_owned()
}

fn against(deployment: &Deployment, mut command: Command) -> Command {
    command.env("JESSE_JOBS_URL", &deployment.process.url).env("JESSE_JOBS_KEY", KEY);
    command
}

/// The newest job of a kind.
async fn newest(client: &Client, kind: &str) -> Value {
    let jobs = client.get(&format!("/v1/jobs?kind={kind}&limit=1")).await.body;
    jobs["jobs"][0].clone()
}

/// It followed the backtest, and shows its figures and the report on it.
async fn showed_a_backtest(client: &Client, said: &str) {
    let report = newest(client, "risk_report").await;
    let id = report["spec"]["source"]["results"]["parts"][0]["job_id"]
        .as_str()
        .unwrap_or_else(|| panic!("{report}"));
    let result = client.get(&format!("/v1/jobs/{id}/result?fields=metrics")).await.body;
    let metrics = &result["metrics"];
    for name in ["total", "net_profit_percentage", "sharpe_ratio", "max_drawdown", "win_rate"] {
        let shown = format!("{:.2}", metrics[name].as_f64().unwrap_or_else(|| panic!("{name}: {metrics}")));
        assert!(said.contains(&shown), "{name} {shown}: {said}");
    }
    assert!(said.contains("succeeded\n"), "{said}");
    let page =
        client.http.get(format!("{}/v1/jobs/{}/report.md", client.url, report["job_id"].as_str().unwrap()));
    let page = page.bearer_auth(KEY).send().await.unwrap().text().await.unwrap();
    assert!(page.len() > 500 && said.contains(page.trim()), "{said}");
}

/// It was told of the end, verified that, and shows the best.
async fn showed_a_batch(client: &Client, said: &str) {
    let batch = newest(client, "batch").await;
    let id = batch["job_id"].as_str().unwrap();
    assert!(
        said.contains(&format!("batch {id}: 8 backtests\nbatch.completed, verified: succeeded\n")),
        "{said}"
    );
    let deliveries = client.get("/v1/webhooks/jobs/deliveries").await.body;
    let delivery = &deliveries["deliveries"][0];
    assert_eq!((&delivery["job_id"], &delivery["state"]), (&batch["job_id"], &"delivered".into()));

    let jobs = client.get(&format!("/v1/batches/{id}/jobs")).await.body;
    let mut profits: Vec<_> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| &job["summary"]["metrics"]).collect();
    let sharpe = |metrics: &&Value| metrics["sharpe_ratio"].as_f64().unwrap();
    profits.sort_by(|a, b| sharpe(b).total_cmp(&sharpe(a)));
    let shown = |metrics: &Value| {
        // As far as both show it.
        let profit = format!("{:.4}", metrics["net_profit_percentage"].as_f64().unwrap());
        said.find(&profit[..profit.len() - 3])
    };
    let places: Vec<_> = profits[..5].iter().map(|metrics| shown(metrics)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {said}");
}

fn python(script: &str) -> Command {
    let mut command = Command::new(clients::folder().join("examples-python/bin/python"));
    command.arg(repository().join("examples/python").join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[tokio::test]
async fn the_examples_in_python_do_what_they_say() {
    let deployment = deployment();
    let client = Client::new(&deployment, KEY);
    showed_a_backtest(&client, &printed(against(&deployment, python("backtest.py"))).await).await;
    showed_a_batch(&client, &printed(against(&deployment, python("batch.py"))).await).await;
}

/// A command of npm's in a folder.
fn npm(folder: &Path, script: &str) -> Command {
    let bin = clients::folder().join("node/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.clone()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(bin.join("npm"));
    command.args(["run", "--silent", script]).current_dir(folder).env("PATH", path);
    command
}

/// The TypeScript examples beside the document, with the packages that they need.
fn typescript(room: &Path) -> PathBuf {
    let folder = room.join("examples/typescript");
    copy(&repository().join("examples/typescript/src"), &folder.join("src"));
    for file in ["package.json", "tsconfig.json"] {
        std::fs::copy(repository().join("examples/typescript").join(file), folder.join(file)).unwrap();
    }
    std::fs::create_dir_all(room.join("docs")).unwrap();
    std::fs::copy(repository().join("docs/openapi.json"), room.join("docs/openapi.json")).unwrap();
    let packages = clients::folder().join("examples-typescript/node_modules");
    std::os::unix::fs::symlink(packages, folder.join("node_modules")).unwrap();
    folder
}

#[tokio::test]
async fn the_examples_in_typescript_have_the_types_of_the_document_and_do_what_they_say() {
    let deployment = deployment();
    let client = Client::new(&deployment, KEY);
    let room = tempfile::tempdir().unwrap();
    let folder = typescript(room.path());
    printed(npm(&folder, "build")).await;
    showed_a_backtest(&client, &printed(against(&deployment, npm(&folder, "backtest"))).await).await;
    showed_a_batch(&client, &printed(against(&deployment, npm(&folder, "batch"))).await).await;
}

//! Candles on their way in and out, and what becomes of gaps in them.
use std::{
    fmt::Write,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::harness::{
    DAYS, Deployment, EXCHANGE, Process, SEED, SYMBOL, binary, generate, month, succeed, with,
};

/// `candles` with these arguments and this data folder.
pub fn candles(data: &Path, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.arg("candles").args(arguments).arg("--data").arg(data);
    command
}

/// The same for one series of the usual exchange.
pub fn of(data: &Path, symbol: &str, arguments: &[&str]) -> Command {
    let mut command = candles(data, arguments);
    command.args(["--exchange", EXCHANGE, "--symbol", symbol]);
    command
}

pub fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

pub fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    generate(here.path(), SYMBOL, DAYS, SEED);
    let text = printed(&mut of(here.path(), SYMBOL, &["export"]));
    assert_eq!(text.lines().count(), 1 + DAYS as usize * 1440);
    for name in ["all.csv", "all.parquet"] {
        let file = here.path().join(name);
        let file = file.to_str().unwrap();
        let said = printed(&mut of(here.path(), SYMBOL, &["export", file]));
        assert_eq!(said, format!("{} candles of {EXCHANGE} {SYMBOL} to {file}\n", DAYS * 1440));
        let symbol = if name == "all.csv" { "CSV-USDT" } else { "PARQUET-USDT" };
        succeed(&mut of(there.path(), symbol, &["import", file, "--synthetic", &SEED.to_string()]));
        assert_eq!(printed(&mut of(there.path(), symbol, &["export"])), text);
    }
    // The month of each is the same chunk, whatever it came through.
    let listed = printed(&mut candles(there.path(), &["list"]));
    assert_eq!(listed.matches(", synthetic").count(), 2, "{listed}");
    let chunks = walk(&there.path().join("blobs/inputs"));
    assert_eq!(chunks, walk(&here.path().join("blobs/inputs")));
}

fn walk(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            names.extend(walk(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

#[test]
fn a_part_is_exported_whole_or_not_at_all() {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, 40, SEED);
    let file = data.path().join("part.csv");
    let part = ["export", file.to_str().unwrap(), "--start", "2023-01-31", "--finish", "2023-02-02"];
    std::fs::write(&file, "something else").unwrap();
    succeed(&mut of(data.path(), SYMBOL, &part));
    let text = std::fs::read_to_string(&file).unwrap();
    let times: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(times.len(), 2880);
    assert_eq!((times[0], times[2879]), ("1675123200000", "1675295940000"));

    for (symbol, arguments, part) in [
        (SYMBOL, vec!["export", "--start", "2024-01-01"], "in this range; stored: "),
        (
            SYMBOL,
            vec!["export", "--start", "2023-02-01", "--finish", "2023-01-05"],
            "in this range; stored: ",
        ),
        (SYMBOL, vec!["export", "--start", "yesterday"], "write YYYY-MM-DD"),
        (SYMBOL, vec!["export", "candles.txt"], "name it .csv or .parquet"),
        (SYMBOL, vec!["export", "/nonexistent/candles.csv"], "/nonexistent/candles.csv cannot be written"),
        ("ETH-USDT", vec!["export"], "of Binance Perpetual Futures ETH-USDT are stored; stored: Binance"),
        ("ETH-USDT", vec!["export", file.to_str().unwrap()], "are stored"),
    ] {
        let said = refusal(&mut of(data.path(), symbol, &arguments));
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let left: Vec<_> = walk(data.path()).into_iter().filter(|name| name.contains("exporting")).collect();
    assert_eq!(left, [""; 0]);
}

/// The rows of a CSV export without those between two minutes, and with them as the last close without volume.
fn gapped(text: &str, gaps: &[std::ops::Range<usize>]) -> (String, String) {
    let (mut without, mut filled) = (String::new(), String::new());
    let mut close = "";
    for (index, line) in text.lines().enumerate() {
        // The header is line 0.
        if gaps.iter().any(|gap| gap.contains(&index)) {
            let time = line.split(',').next().unwrap();
            writeln!(filled, "{time},{close},{close},{close},{close},0").unwrap();
        } else {
            close = line.split(',').nth(2).unwrap();
            writeln!(without, "{line}").unwrap();
            writeln!(filled, "{line}").unwrap();
        }
    }
    (without, filled)
}

#[tokio::test]
async fn a_gap_is_refused_unless_the_call_allows_for_it() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    let text = printed(&mut of(data, SYMBOL, &["export"]));
    // In the warm-up before February, over the first of February's midnights, two days, and one minute.
    let day = |day: usize| 1 + day * 1440;
    let gaps =
        [day(28)..day(28) + 100, day(31) - 10..day(31) + 50, day(40)..day(42), day(50) + 7..day(50) + 8];
    let (without, filled) = gapped(&text, &gaps);
    for (symbol, text) in [("GAP-USDT", &without), ("FULL-USDT", &filled)] {
        let file = data.join(format!("{symbol}.csv"));
        std::fs::write(&file, text).unwrap();
        succeed(&mut of(data, symbol, &["import", file.to_str().unwrap()]));
    }
    let spec = |symbol: &str, allow_gaps: bool| {
        let spec = with(month("SmaCross"), &json!({"symbol": symbol, "warm_up_candles": 96}));
        if allow_gaps { with(spec, &json!({"allow_gaps": true})) } else { spec }
    };
    let submit = |spec: Value| json!({"kind": "backtest", "spec": spec});
    let (status, problem) = deployment.post("/v1/jobs", &submit(spec("GAP-USDT", false))).await;
    assert_eq!((status, &problem["code"]), (422, &json!("candles_missing")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("GAP-USDT are missing from 2023-01-29 00:00 to 2023-01-29 01:40 (UTC), 100 minutes")
            && detail.contains("in 3 more gaps")
            && detail.contains("allow_gaps"),
        "{detail}"
    );

    let gappy = deployment.backtest(&spec("GAP-USDT", true)).await;
    assert_eq!(gappy["state"], "succeeded", "{gappy}");
    let warning = "3041 minutes of GAP-USDT in 4 gaps had no candle and repeat the last close";
    assert_eq!(gappy["summary"]["warning"], warning, "{gappy}");
    let whole = deployment.backtest(&spec("FULL-USDT", false)).await;
    assert_eq!(whole["state"], "succeeded", "{whole}");
    let result = async |view: &Value| {
        let id = view["job_id"].as_str().unwrap();
        deployment.get(&format!("/v1/jobs/{id}/result?fields=metrics,equity_curve,provenance")).await.1
    };
    let (gappy, whole) = (result(&gappy).await, result(&whole).await);
    assert_eq!(gappy["metrics"], whole["metrics"]);
    assert_eq!(gappy["equity_curve"], whole["equity_curve"]);
    let filled = &gappy["provenance"]["candles"][0]["filled"];
    assert_eq!((&filled["minutes"], &filled["gaps"]), (&json!(3041), &json!(4)));
    assert!(whole["provenance"]["candles"][0].get("filled").is_none());
    // Where nothing is missing, nothing is said.
    let allowed = deployment.backtest(&spec("FULL-USDT", true)).await;
    assert_eq!(allowed["state"], "succeeded", "{allowed}");
    assert!(allowed["summary"].get("warning").is_none(), "{allowed}");
    // Before the first candle there is nothing to go on.
    let early =
        with(spec("GAP-USDT", true), &json!({"start_date": "2023-01-02", "finish_date": "2023-01-05"}));
    let (status, problem) = deployment.post("/v1/jobs", &submit(early)).await;
    assert_eq!((status, &problem["code"]), (422, &json!("candles_missing")), "{problem}");
}

#[tokio::test]
async fn redis_can_be_all_the_storage_there_is() {
    let data = tempfile::tempdir().unwrap();
    succeed(&mut of(data.path(), SYMBOL, &["generate", "--days", "120", "--blobs", "redis:"]));
    let project = crate::harness::fixtures().join("project");
    let process = Process::up(
        data.path(),
        &["--project", project.to_str().unwrap(), "--blobs", "redis:", "--grace", "1"],
    );
    let deployment = Deployment { process, data, project, client: reqwest::Client::new() };
    let view = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(view["state"], "succeeded", "{view}");
    let id = view["job_id"].as_str().unwrap();
    let (status, result) = deployment.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!((status, result["equity_curve"].is_array()), (200, true));
    assert!(!deployment.data.path().join("blobs").exists());
}

#[test]
fn a_place_for_blobs_that_is_none_is_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    for (place, part) in [
        ("gs://bucket", "write a folder, file:///FOLDER, s3://BUCKET"),
        ("s3://B", "is not the name of a bucket"),
        ("/dev/null/blobs", "/dev/null/blobs"),
    ] {
        let said = refusal(&mut candles(data.path(), &["list", "--blobs", place]));
        assert!(said.contains("--blobs") && said.contains(part), "{place}: {said}");
    }
}

//! Following the Postgres of a real Jesse: a server of the test's own, its table made, filled and read by Jesse.
use std::{
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    candles::{candles, of, printed, refusal},
    harness::{EXCHANGE, LIMIT, free_port, python, succeed},
};

const PASSWORD: &str = "pa:ss w@rd/";
/// The same in a URL.
const ENCODED: &str = "pa%3Ass%20w%40rd%2F";
/// It refuses to run as root; every Linux has this user, without any rights.
const NOBODY: u32 = 65_534;

struct Postgres {
    server: Child,
    port: u16,
    /// With a Jesse project in it.
    folder: tempfile::TempDir,
}

/// The folder with `initdb`: in PATH, or where Debian keeps it.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = debian.chain(std::env::split_paths(&path)).collect();
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_remove("PGPASSWORD").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

impl Postgres {
    /// `None`, and a word on why, where it is not installed.
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: there is no PostgreSQL here (Debian: apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("postgres");
        std::fs::create_dir(&own).unwrap();
        let password = own.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if is_root() {
            for path in [folder.path(), &own, &password] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let data = own.join("data");
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.args(["--username", "jesse", "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8"]);
        succeed(initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data).stderr(Stdio::piped()));
        let port = free_port();
        let mut server = unprivileged(&programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "log_min_messages=fatal"]);
        let server = server.stderr(Stdio::null()).spawn().unwrap();
        let project = folder.path().join("project");
        for part in ["strategies", "storage"] {
            std::fs::create_dir_all(project.join(part)).unwrap();
        }
        let env = format!(
            "POSTGRES_HOST=127.0.0.1\nPOSTGRES_PORT={port}\nPOSTGRES_NAME=postgres\nPOSTGRES_USERNAME=jesse\n\
             POSTGRES_PASSWORD='{PASSWORD}'\nPASSWORD=unused\n"
        );
        std::fs::write(project.join(".env"), env).unwrap();
        Some(Self { server, port, folder })
    }

    fn url(&self, password: &str) -> String {
        format!("postgresql://jesse:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection of the test's own, once the server serves.
    async fn client(&self) -> tokio_postgres::Client {
        let end = Instant::now() + LIMIT;
        loop {
            match tokio_postgres::connect(&self.url(ENCODED), tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has Jesse write candles, and read what there is of a symbol.
    fn jesse(&self, write: &Value, symbol: &str) -> Vec<[f64; 6]> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/jesse_postgres.py");
        let order = json!({"write": write, "read": {"exchange": EXCHANGE, "symbol": symbol}});
        let file = self.folder.path().join("order.json");
        std::fs::write(&file, order.to_string()).unwrap();
        let mut command = Command::new(python());
        command.arg(script).current_dir(self.folder.path().join("project"));
        let output = succeed(command.stdin(std::fs::File::open(file).unwrap()));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What it writes goes with its folder.
        let _gone = self.server.kill();
        let _ended = self.server.wait();
    }
}

fn series(symbol: &str, timeframe: &str) -> Value {
    json!({"exchange": EXCHANGE, "symbol": symbol, "timeframe": timeframe})
}

/// The rows of an export.
fn exported(data: &Path, symbol: &str) -> Vec<[f64; 6]> {
    let text = printed(&mut of(data, symbol, &["export"]));
    let row = |line: &str| {
        let values: Vec<f64> = line.split(',').map(|value| value.parse().unwrap()).collect();
        <[f64; 6]>::try_from(values).unwrap()
    };
    text.lines().skip(1).map(row).collect()
}

fn assert_same(exported: &[[f64; 6]], jesses: &[[f64; 6]]) {
    assert_eq!(exported.len(), jesses.len());
    for (ours, theirs) in exported.iter().zip(jesses) {
        assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits), "{ours:?} {theirs:?}");
    }
}

/// Six days around the end of January, with more digits than Jesse's table keeps.
fn walk(folder: &Path) -> Vec<Vec<f64>> {
    let arguments = ["generate", "--start", "2023-01-29", "--days", "6", "--price", "16541.77"];
    succeed(&mut of(folder, "BTC-USDT", &arguments));
    let text = printed(&mut of(folder, "BTC-USDT", &["export"]));
    text.lines().skip(1).map(|line| line.split(',').map(|value| value.parse().unwrap()).collect()).collect()
}

#[tokio::test]
async fn a_jesse_is_followed() {
    let Some(postgres) = Postgres::start() else { return };
    let client = postgres.client().await;
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = target.path();
    let rows = walk(source.path());
    let days = |from: usize, to: usize| json!(rows[from * 1440..to * 1440]);
    let url = postgres.url(ENCODED);
    let import = |more: &[&str]| candles(data, &[&["import", "--from-postgres", &url], more].concat());
    let symbol = ["--exchange", EXCHANGE, "--symbol", "BTC-USDT"];

    let jesses = postgres.jesse(
        &json!([
            [series("BTC-USDT", "1m"), days(1, 4)],
            [series("BTC-USDT", "1h"), days(0, 1)],
            [series("ETH-USDT", "1m"), days(0, 1)],
            [series("XRP-USDT", "1h"), days(0, 1)],
        ]),
        "BTC-USDT",
    );
    assert_eq!(jesses.len(), 3 * 1440);
    let said = printed(&mut import(&[]));
    assert!(
        said.starts_with("4320 candles into 2 months; Binance Perpetual Futures BTC-USDT: 4320"),
        "{said}"
    );
    assert!(said.contains("\n1440 candles into 1 months; Binance Perpetual Futures ETH-USDT"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    // What Jesse reads, to the last digit, although the table has fewer than the walk.
    assert_same(&exported(data, "BTC-USDT"), &jesses);
    assert!(
        jesses.iter().zip(&rows[1440..]).any(|(read, written)| read[1].to_bits() != written[1].to_bits())
    );

    // Nothing new; then days after what is stored, and before it, in one of the months alone.
    assert!(printed(&mut import(&symbol)).starts_with("0 candles into 0 months; "));
    let jesses = postgres.jesse(&json!([[series("BTC-USDT", "1m"), days(4, 5)]]), "BTC-USDT");
    assert!(printed(&mut import(&symbol)).starts_with("1440 candles into 1 months; "));
    assert_same(&exported(data, "BTC-USDT"), &jesses);
    let jesses = postgres.jesse(&json!([[series("BTC-USDT", "1m"), days(0, 1)]]), "BTC-USDT");
    assert!(printed(&mut import(&symbol)).starts_with("1440 candles into 1 months; "));
    assert_same(&exported(data, "BTC-USDT"), &jesses);

    // A changed old row is found when asked for.
    let changed = client
        .execute(
            "UPDATE candle SET volume = 77.7 WHERE symbol = 'BTC-USDT' AND timeframe = '1m' AND timestamp = 1675000800000",
            &[],
        )
        .await;
    assert_eq!(changed.unwrap(), 1);
    assert!(printed(&mut import(&symbol)).starts_with("0 candles into 0 months; "));
    assert_same(&exported(data, "BTC-USDT"), &jesses);
    let said = printed(&mut import(&[&symbol[..], &["--full"]].concat()));
    assert!(said.starts_with("7200 candles into 1 months; "), "{said}");
    let jesses = postgres.jesse(&json!([]), "BTC-USDT");
    assert_same(&exported(data, "BTC-USDT"), &jesses);

    // A gap, and then a row in it, which a look at the new ones cannot find but a count can.
    let row = "symbol = 'ETH-USDT' AND timestamp = 1674950400000 + 60000 * 700";
    client
        .batch_execute(&format!(
            "CREATE TABLE kept AS SELECT * FROM candle WHERE {row}; DELETE FROM candle WHERE {row}"
        ))
        .await
        .unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let ethereum = ["--symbol", "ETH-USDT"];
    let import_fresh = |more: &[&str]| {
        candles(fresh.path(), &[&["import", "--from-postgres", &url], &ethereum[..], more].concat())
    };
    assert!(
        printed(&mut import_fresh(&[]))
            .contains(": 1439 candles from 2023-01-29T00:00:00Z to 2023-01-30T00:00:00Z, 1 gaps")
    );
    client.batch_execute("INSERT INTO candle SELECT * FROM kept").await.unwrap();
    let output = succeed(&mut import_fresh(&[]));
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("1440 candles in the range") && warned.contains("--full"), "{warned}");
    assert!(printed(&mut import_fresh(&["--full"])).contains(": 1440 candles from "));
}

#[tokio::test]
async fn what_is_wrong_with_a_postgres_is_said() {
    let Some(postgres) = Postgres::start() else { return };
    let client = postgres.client().await;
    let target = tempfile::tempdir().unwrap();
    let import = |url: &str, more: &[&str]| {
        candles(target.path(), &[&["import", "--from-postgres", url], more].concat())
    };
    let url = postgres.url(ENCODED);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, part) in [
        ("mysql://jesse:hush@127.0.0.1/x".to_owned(), "no address of a Postgres"),
        (format!("{url}?sslmode=verify-full"), "sslmode=disable, prefer or require"),
        (postgres.url("hush"), "password authentication failed"),
        (format!("postgresql://jesse:hush@{closed}/postgres"), "refused"),
        (format!("{url}?sslmode=require"), "does not support TLS"),
        (url.replace("/postgres", "/nosuch"), "\"nosuch\" does not exist"),
        (url.clone(), "no table `candle` with Jesse's columns"),
    ] {
        let said = refusal(&mut import(&address, &[]));
        assert!(said.contains(part), "{part}: {said}");
        assert!(!said.contains("hush") && !said.contains(ENCODED) && !said.contains(PASSWORD), "{said}");
    }
    let said = refusal(import(&postgres.url("").replace(":@", "@"), &[]).env("PGPASSWORD", PASSWORD));
    assert!(said.contains("no table `candle`"), "{said}");

    postgres.jesse(&json!([]), "BTC-USDT");
    assert!(refusal(&mut import(&url, &[])).contains("Postgres has no 1-minute candles\n"));
    let two = json!([[1_675_000_800_000_i64, 10, 11, 12, 9, 1], [1_675_000_860_000_i64, 10, 11, 12, 9, 1]]);
    postgres.jesse(&json!([[series("BTC-USDT", "1m"), two]]), "BTC-USDT");
    let bitcoin = ["--exchange", EXCHANGE, "--symbol", "BTC-USDT"];
    let no_ether = ["--exchange", EXCHANGE, "--symbol", "ETH-USDT"];
    for (change, arguments, part) in [
        (
            "SELECT 1",
            &no_ether[..],
            "has no 1-minute candles of Binance Perpetual Futures ETH-USDT; it has: Binance Perpetual Futures BTC-USDT",
        ),
        ("SELECT 1", &["--symbol", "ETH-USDT"], "no 1-minute candles of \"ETH-USDT\""),
        (
            "UPDATE candle SET low = -1 WHERE timestamp = 1675000860000",
            &bitcoin,
            "BTC-USDT in Postgres, 2023-01, counting the rows of that month: row 2 has -1 as low",
        ),
        ("UPDATE candle SET low = 'NaN' WHERE timestamp = 1675000860000", &[], "row 2 has NaN as low"),
        (
            "UPDATE candle SET low = 9, timestamp = 1675000860001 WHERE timestamp = 1675000860000",
            &[],
            "not on a whole minute",
        ),
        (
            "UPDATE candle SET timestamp = 1675000860 WHERE timestamp = 1675000860001",
            &[],
            "no exchange has seen",
        ),
        ("UPDATE candle SET symbol = 'btc/usdt'", &[], "as in BTC-USDT"),
        (
            "UPDATE candle SET symbol = 'BTC-USDT'; UPDATE candle SET timestamp = 1675000860000 WHERE timestamp = 1675000860; ALTER TABLE candle ALTER volume DROP NOT NULL; UPDATE candle SET volume = NULL",
            &[],
            "row 1 has no volume",
        ),
        (
            "UPDATE candle SET volume = 1; ALTER TABLE candle ALTER timestamp TYPE numeric",
            &[],
            "column timestamp of the table `candle` has the type numeric; bigint (milliseconds) is needed",
        ),
    ] {
        client.batch_execute(change).await.unwrap();
        let said = refusal(&mut import(&url, arguments));
        assert!(said.contains(part), "{part}: {said}");
    }
    client.batch_execute("ALTER TABLE candle ALTER timestamp TYPE bigint").await.unwrap();
    // Nothing of all that was stored, and synthetic candles stay what they are.
    assert_eq!(printed(&mut candles(target.path(), &["list"])), "no candles are stored\n");
    succeed(&mut of(target.path(), "BTC-USDT", &["generate", "--days", "1"]));
    assert!(refusal(&mut import(&url, &[])).contains("holds synthetic candles"));
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let data = tempfile::tempdir().unwrap();
    for arguments in [
        &["import"][..],
        &["import", "a.csv"],
        &["import", "a.csv", "--exchange", EXCHANGE],
        &["import", "a.csv", "--from-postgres", "postgresql://x"],
        &["import", "a.csv", "--exchange", EXCHANGE, "--symbol", "BTC-USDT", "--full"],
        &["import", "--from-postgres", "postgresql://x", "--synthetic", "1"],
    ] {
        let said = refusal(&mut candles(data.path(), arguments));
        assert!(said.contains("Usage:"), "{arguments:?}: {said}");
    }
}

//! `submit` and `batch`: a request from flags, from a file, or from both.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{ClientError, http::Server, http::ServerArgs, print, show, warn, watch};

/// A job to submit.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// A file of JSON or TOML, or - for standard input: {"kind", "spec", ...}, or a spec alone. Flags have the last word
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What to compute: backtest (default), optimize, walk_forward, monte_carlo, risk_report, ...
    #[arg(long)]
    kind: Option<String>,
    /// See the struct.
    #[command(flatten)]
    spec: SpecArgs,
    /// See the struct.
    #[command(flatten)]
    options: OptionArgs,
    /// Follow it to its end, and show what it found
    #[arg(long, short)]
    wait: bool,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// Many backtests to submit.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
    /// A file of JSON or TOML, or - for standard input: {"base", "grid" or "jobs", ...}. Flags have the last word
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Values of which every combination is run, NAME=VALUE,VALUE,...; hp.NAME is a hyperparameter
    #[arg(long, value_name = "NAME=VALUES")]
    grid: Vec<String>,
    /// A period to run all in, START..FINISH (days, UTC); may be given several times
    #[arg(long, value_name = "START..FINISH")]
    period: Vec<String>,
    /// When one fails: continue or stop
    #[arg(long)]
    on_failure: Option<String>,
    /// See the struct.
    #[command(flatten)]
    spec: SpecArgs,
    /// See the struct.
    #[command(flatten)]
    options: OptionArgs,
    /// Follow it to its end
    #[arg(long, short)]
    wait: bool,
    /// See the struct.
    #[command(flatten)]
    server: ServerArgs,
}

/// What is computed.
#[derive(Debug, Clone, Args)]
struct SpecArgs {
    /// Name of the strategy
    #[arg(long, short)]
    strategy: Option<String>,
    /// As Jesse spells it, e.g. "Binance Perpetual Futures"
    #[arg(long, short)]
    exchange: Option<String>,
    /// E.g. BTC-USDT
    #[arg(long)]
    symbol: Option<String>,
    /// E.g. 4h
    #[arg(long, short)]
    timeframe: Option<String>,
    /// First day, YYYY-MM-DD (UTC)
    #[arg(long)]
    start: Option<String>,
    /// Day after the last
    #[arg(long)]
    finish: Option<String>,
    /// Any other field of the spec, NAME=VALUE, e.g. balance=5000; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// A hyperparameter, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    hp: Vec<String>,
}

/// How it is treated.
#[derive(Debug, Clone, Args)]
struct OptionArgs {
    /// Name that groups trials of one idea
    #[arg(long)]
    campaign: Option<String>,
    /// Also use days that are held out of research: the look is logged and counted
    #[arg(long)]
    holdout: bool,
    /// Part of the candles that the first job of the campaign holds out, 0 to 0.5
    #[arg(long, requires = "campaign")]
    holdout_share: Option<f64>,
    /// To find it by, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// interactive, normal or batch
    #[arg(long)]
    priority: Option<String>,
    /// use, refresh or off
    #[arg(long)]
    cache: Option<String>,
    /// URL that is told of the end
    #[arg(long)]
    webhook: Option<String>,
    /// Seconds that it may take
    #[arg(long)]
    timeout_s: Option<u32>,
}

type Object = Map<String, Value>;

impl SpecArgs {
    fn over(self, spec: &mut Object) -> Result<(), ClientError> {
        let named = [
            ("strategy", self.strategy),
            ("exchange", self.exchange),
            ("symbol", self.symbol),
            ("timeframe", self.timeframe),
            ("start_date", self.start),
            ("finish_date", self.finish),
        ];
        set_texts(spec, named);
        for pair in &self.set {
            let (name, value) = split("--set", pair)?;
            spec.insert(name.into(), literal(value));
        }
        for pair in &self.hp {
            let (name, value) = split("--hp", pair)?;
            inner(spec, "hyperparameters")?.insert(name.into(), literal(value));
        }
        Ok(())
    }
}

impl OptionArgs {
    fn over(self, request: &mut Object) -> Result<(), ClientError> {
        let named = [
            ("campaign", self.campaign),
            ("priority", self.priority),
            ("cache", self.cache),
            ("webhook", self.webhook),
        ];
        set_texts(request, named);
        if self.holdout {
            request.insert("holdout".into(), true.into());
        }
        if let Some(share) = self.holdout_share {
            request.insert("holdout_share".into(), share.into());
        }
        if let Some(seconds) = self.timeout_s {
            request.insert("timeout_s".into(), seconds.into());
        }
        for pair in &self.label {
            let (name, value) = split("--label", pair)?;
            inner(request, "labels")?.insert(name.into(), value.into());
        }
        Ok(())
    }
}

pub(super) async fn submit(args: SubmitArgs) -> Result<bool, ClientError> {
    let server = Server::new(&args.server)?;
    let given = read(args.file.as_deref())?;
    // A spec alone is what one has at hand.
    let mut request = if given.contains_key("spec") || given.is_empty() {
        given
    } else {
        Object::from_iter([("spec".into(), given.into())])
    };
    set_texts(&mut request, [("kind", args.kind)]);
    request.entry("kind").or_insert_with(|| "backtest".into());
    args.spec.over(inner(&mut request, "spec")?)?;
    args.options.over(&mut request)?;
    let job = server.post_once("/v1/jobs", &request.into()).await?;
    finish(&server, job, args.wait, args.server.json).await
}

pub(super) async fn batch(args: BatchArgs) -> Result<bool, ClientError> {
    let server = Server::new(&args.server)?;
    let mut request = read(args.file.as_deref())?;
    args.spec.over(inner(&mut request, "base")?)?;
    for axis in &args.grid {
        let (name, values) = split("--grid", axis)?;
        let values = values.split(',').map(|value| literal(value.trim())).collect();
        let grid = inner(&mut request, "grid")?;
        match name.strip_prefix("hp.") {
            Some(name) => inner(grid, "hyperparameters")?.insert(name.into(), values),
            None => grid.insert(name.into(), values),
        };
    }
    if !args.period.is_empty() {
        let periods = args.period.iter().map(|text| period(text)).collect::<Result<Value, _>>()?;
        inner(&mut request, "grid")?.insert("period".into(), periods);
    }
    set_texts(&mut request, [("on_failure", args.on_failure)]);
    args.options.over(&mut request)?;
    let job = server.post_once("/v1/batches", &request.into()).await?;
    finish(&server, job, args.wait, args.server.json).await
}

/// Prints the id of what was accepted, or follows it.
async fn finish(server: &Server, job: Value, wait: bool, json: bool) -> Result<bool, ClientError> {
    let id = job["job_id"].as_str().unwrap_or_default().to_owned();
    if wait {
        return watch::watch(server, vec![id], json).await;
    }
    print(&if json { job.to_string() } else { id })?;
    if !json && job["state"] == "succeeded" {
        warn(&format!("{}, answered by a stored result", show::outcome(&job)));
    }
    Ok(true)
}

fn period(text: &str) -> Result<Value, ClientError> {
    let (start, finish) = text
        .split_once("..")
        .ok_or_else(|| ClientError::Input(format!("--period: {text:?} is not START..FINISH")))?;
    Ok(json!({"start_date": start, "finish_date": finish}))
}

fn set_texts<const N: usize>(object: &mut Object, named: [(&str, Option<String>); N]) {
    for (name, value) in named {
        if let Some(value) = value {
            object.insert(name.into(), value.into());
        }
    }
}

/// An object inside an object, made if it is not there.
fn inner<'a>(object: &'a mut Object, name: &str) -> Result<&'a mut Object, ClientError> {
    let found = object.entry(name).or_insert_with(|| Object::new().into());
    found.as_object_mut().ok_or_else(|| ClientError::Input(format!("{name}: must be an object")))
}

fn split<'a>(flag: &str, pair: &'a str) -> Result<(&'a str, &'a str), ClientError> {
    let wrong = || ClientError::Input(format!("{flag}: {pair:?} is not NAME=VALUE"));
    pair.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)
}

/// A value as one types it: JSON where it is some (5, true, [1,2]), a text otherwise.
fn literal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// What a file holds; nothing without one.
fn read(file: Option<&Path>) -> Result<Object, ClientError> {
    let Some(path) = file else { return Ok(Object::new()) };
    let shown = path.display();
    let mut text = String::new();
    let from_input = path == Path::new("-");
    let got = if from_input {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    got.map_err(|error| ClientError::Input(format!("{shown} cannot be read: {error}")))?;
    parse(&text, path.extension().is_some_and(|ending| ending == "toml"))
        .map_err(|why| ClientError::Input(format!("{shown}: {why}")))
}

fn parse(text: &str, is_toml: bool) -> Result<Object, String> {
    if is_toml || !text.trim_start().starts_with('{') {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| format!("neither JSON nor TOML: {error}"))?;
        return Ok(table.into_iter().map(|(name, value)| (name, from_toml(value))).collect());
    }
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

/// A day that is written without quotes is a date for TOML; for us it is a text like any other.
fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(name, value)| (name, from_toml(value))).collect()
        }
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn toml_and_json_are_the_same_request() {
        let toml =
            "strategy = \"SmaCross\"\nstart_date = 2023-02-01\nbalance = 5000\n[hyperparameters]\nfast = 5\n";
        let json = r#" {"strategy": "SmaCross", "start_date": "2023-02-01", "balance": 5000, "hyperparameters": {"fast": 5}}"#;
        assert_eq!(parse(toml, true).unwrap(), parse(json, false).unwrap());
        assert_eq!(parse(toml, false).unwrap(), parse(json, false).unwrap(), "from a pipe");
        assert!(parse("{", false).unwrap_err().contains("no JSON"));
        assert!(parse("= 1", false).unwrap_err().contains("neither JSON nor TOML"));
    }

    #[test]
    fn values_are_read_as_they_are_typed() {
        assert_eq!(literal("5"), json!(5));
        assert_eq!(literal("true"), json!(true));
        assert_eq!(literal("4h"), json!("4h"));
        assert_eq!(split("--hp", "fast=5").unwrap(), ("fast", "5"));
        assert!(split("--hp", "=5").unwrap_err().to_string().contains("NAME=VALUE"));
    }
}

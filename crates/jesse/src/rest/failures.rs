//! What Jesse says of a failed run, as our errors. Its text is `<exception>: <message>`, with a traceback or without.

use jobs::{ErrorCode, JobError};
use serde_json::json;

use super::http::CallError;
use crate::{runner::TaskError, spec::BacktestSpec};

/// How much of a traceback is told, from its end.
const TRACEBACK_SHOWN: usize = 8192;
const MESSAGE_SHOWN: usize = 2048;

/// What the process manager says of a worker that ended without a word.
const WITHOUT_A_WORD: &str = "worker exited (exit code ";

/// The error of a run that failed.
pub(super) fn explain(spec: &BacktestSpec, error: &str, traceback: &str) -> JobError {
    if let Some(error) = ended_without_a_word(error) {
        return error;
    }
    let (name, _) = error.split_once(':').unwrap_or((error, ""));
    let place = place(spec, traceback);
    let code = code(name.trim(), error, place.is_some());
    let place = place.map_or_else(String::new, |place| format!(" ({place})"));
    let message: String = message(error).chars().take(MESSAGE_SHOWN).collect();
    let retryable = is_outage(name);
    let error = JobError::new(code, format!("{message}{place}"))
        .with_detail(json!({"exception": name.trim(), "traceback": shorten(traceback), "engine": "rest"}));
    if retryable { error.retryable() } else { error }
}

fn code(name: &str, error: &str, in_strategy: bool) -> ErrorCode {
    match name {
        "MemoryError" => ErrorCode::OutOfMemory,
        "InvalidRoutes" if error.contains("strategy with the name") => ErrorCode::StrategyNotFound,
        "RouteNotFound" => ErrorCode::InvalidSpec,
        _ if is_outage(name) => ErrorCode::Internal,
        _ if in_strategy => ErrorCode::StrategyError,
        "ErrorDuringImport" | "InvalidStrategy" | "ImportError" | "ModuleNotFoundError" | "SyntaxError" => {
            ErrorCode::StrategyError
        }
        "CandlesNotFound" | "CandleNotFoundInDatabase" | "CandleNotFoundInExchange" => {
            ErrorCode::CandlesMissing
        }
        // As the runner has it: what is checked before the run is the request's fault.
        "InvalidRoutes" | "InvalidConfig" | "InvalidTimeframe" | "InvalidSymbol" | "InvalidDateRange"
        | "SymbolNotFound" | "NotSupportedError" | "ValueError" | "KeyError" | "TypeError" => {
            ErrorCode::InvalidSpec
        }
        _ if error.starts_with("Missing ") && error.contains("candles") => ErrorCode::CandlesMissing,
        _ => ErrorCode::EngineCrashed,
    }
}

/// The database's trouble, which says nothing about the run.
fn is_outage(name: &str) -> bool {
    let name = name.trim().rsplit('.').next().unwrap_or(name);
    matches!(
        name,
        "OperationalError"
            | "InterfaceError"
            | "InternalError"
            | "InFailedSqlTransaction"
            | "CoordinationConnectionError"
    )
}

/// The text without Python's way to write a dictionary, which some of Jesse's exceptions hold.
fn message(error: &str) -> String {
    let inner = error.split_once("{'message': ").and_then(|(_, rest)| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let text = rest.get(1..)?;
        text.find(&format!("{quote}, '")).and_then(|end| text.get(..end))
    });
    inner.unwrap_or(error).trim().to_owned()
}

/// `strategies/Name/__init__.py:8`: where in the strategy's own code it was last.
fn place(spec: &BacktestSpec, traceback: &str) -> Option<String> {
    let of_strategy = |line: &&str| {
        spec.strategies().iter().any(|name| line.contains(&format!("strategies/{name}/")))
            && line.contains("\", line ")
    };
    let line = traceback.lines().rev().find(of_strategy)?;
    let (path, rest) = line.split_once("\", line ")?;
    let start = path.rfind("strategies/")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{}:{number}", path.get(start..)?))
}

/// The end of a traceback, without where on the server's disk things are.
fn shorten(traceback: &str) -> String {
    let lines: Vec<String> = traceback
        .lines()
        .map(|line| match line.split_once("File \"") {
            Some((before, path)) => {
                let cut = ["site-packages/", "strategies/", "lib/python"]
                    .into_iter()
                    .find_map(|part| path.find(part));
                format!("{before}File \"{}", path.get(cut.unwrap_or(0)..).unwrap_or(path))
            }
            None => line.to_owned(),
        })
        .collect();
    let text = lines.join("\n");
    let skipped = text.chars().count().saturating_sub(TRACEBACK_SHOWN);
    text.chars().skip(skipped).collect()
}

/// The generic text stands for whatever ended the process: its exit code is all there is.
fn ended_without_a_word(error: &str) -> Option<JobError> {
    let (_, rest) = error.split_once(WITHOUT_A_WORD)?;
    let status: i32 = rest.split(')').next()?.trim().parse().ok()?;
    let detail = json!({"status": status, "engine": "rest"});
    let crashed =
        |message: String| JobError::new(ErrorCode::EngineCrashed, message).with_detail(detail.clone());
    Some(match status {
        i32::MIN..=-1 => {
            let signal = status.unsigned_abs();
            crashed(format!(
                "the process that ran it on Jesse's server was killed by signal {signal} before it gave a result (often: no \
                 memory left)"
            ))
            .retryable()
        }
        // Jesse's own end after any exception, of which it told the WebSocket alone.
        1 => crashed(
            "Jesse's server ended the run before it began and its reason was not heard; the server's log has it".into(),
        )
        .retryable(),
        _ => crashed(format!(
            "the process that ran it on Jesse's server ended with status {status} before it gave a result: something in the \
             strategy ends the process (os._exit, or a native library)"
        )),
    })
}

/// A call that failed, as the run's error.
pub(super) fn of_call(error: CallError) -> TaskError {
    tracing::warn!(error = jobs::chain(&error), "a call to Jesse's server failed");
    match error {
        CallError::TooLarge(limit) => too_large(limit).into(),
        CallError::Unauthorised(_) => {
            TaskError::NoEngine(JobError::new(ErrorCode::Internal, error.to_string()))
        }
        CallError::Unreachable(..) | CallError::Open(_) => TaskError::NoEngine(
            JobError::new(ErrorCode::Internal, "no Jesse server can be reached").retryable(),
        ),
        CallError::Status { status, message, .. } => {
            let text = format!("Jesse's server answered {status}: {message}");
            let code = if status == 422 { ErrorCode::InvalidSpec } else { ErrorCode::Internal };
            let error = JobError::new(code, text);
            if status >= 500 || status == 429 { error.retryable() } else { error }.into()
        }
        CallError::Answer(_) => {
            JobError::new(ErrorCode::Internal, "Jesse's server answered something unexpected").into()
        }
    }
}

/// The result does not fit.
pub(super) fn too_large(limit: usize) -> JobError {
    let message = format!(
        "the result has more than {} MB; shorten the date range or use a longer timeframe, so that there are fewer trades",
        limit >> 20
    );
    JobError::new(ErrorCode::ResultTooLarge, message).with_detail(json!({ "limit_bytes": limit }))
}

/// The server stopped answering, or the run's process stopped living, in the middle of it.
pub(super) fn lost(why: &str) -> TaskError {
    JobError::new(ErrorCode::EngineCrashed, format!("Jesse's server lost the run: {why}")).retryable().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> BacktestSpec {
        crate::rest::testing::spec("SmaCross")
    }

    #[test]
    fn texts_as_captured_from_jesse() {
        let candles =
            "CandlesNotFound: {'message': 'Missing candles for XXX-USDT on Binance.', 'symbol': 'XXX-USDT'}";
        for (text, traceback, code, message) in [
            (
                "InvalidRoutes: A strategy with the name of \"Nope\" could not be found.",
                "",
                ErrorCode::StrategyNotFound,
                "InvalidRoutes: A strategy with the name of \"Nope\" could not be found.",
            ),
            (candles, "", ErrorCode::CandlesMissing, "Missing candles for XXX-USDT on Binance."),
            (
                "ErrorDuringImport: problem in strategies.SmaCross - RuntimeError: no",
                "",
                ErrorCode::StrategyError,
                "ErrorDuringImport: problem in strategies.SmaCross - RuntimeError: no",
            ),
            (
                "ValueError: no luck",
                "  File \"/srv/secret/strategies/SmaCross/__init__.py\", line 8, in should_long\n    raise",
                ErrorCode::StrategyError,
                "ValueError: no luck (strategies/SmaCross/__init__.py:8)",
            ),
            ("InvalidTimeframe: \"7m\"", "", ErrorCode::InvalidSpec, "InvalidTimeframe: \"7m\""),
        ] {
            let error = explain(&spec(), text, traceback);
            assert_eq!((error.code, error.message.as_str(), error.retryable), (code, message, false));
            assert!(!error.detail.to_string().contains("secret"), "{}", error.detail);
        }
    }

    #[test]
    fn an_end_without_a_word_is_told_by_its_exit_code() {
        let said = |status: i32| {
            let text =
                format!("The backtest worker exited (exit code {status}) without reporting a result. It may");
            explain(&spec(), &text, "")
        };
        assert!(said(-9).message.contains("signal 9") && said(-9).retryable);
        assert!(said(7).message.contains("status 7") && !said(7).retryable);
        assert!(said(1).retryable);
    }

    #[test]
    fn an_outage_of_the_database_is_worth_another_attempt() {
        let error = explain(&spec(), "OperationalError: server closed the connection unexpectedly", "");
        assert!(error.retryable && error.code == ErrorCode::Internal);
    }
}

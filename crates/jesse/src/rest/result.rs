//! A session's result in the form of every engine's: `metrics`, `trades`, `equity_curve`, `logs`.

use bytes::Bytes;
use jobs::{ErrorCode, JobError};
use serde::Serialize;
use serde_json::{Value, json};

use super::failures::too_large;
use crate::{catalogue::Exchange, spec::BacktestSpec};

const DAY_S: i64 = 86_400;
/// Jesse's own default.
const DAYS_A_YEAR: u32 = 365;

/// What the equity curve of this engine is made of. Jesse's server stores none.
pub const REALISED: &str = "realised";

/// As stored. The fields stand in the order of the runner's body.
#[derive(Serialize)]
struct Body<'a> {
    metrics: &'a Value,
    trades: &'a [Value],
    equity_curve: Vec<Point>,
    /// Only in results of this engine: the curve knows closed trades alone.
    equity_curve_basis: &'static str,
    logs: Value,
}

#[derive(Debug, PartialEq, Serialize)]
struct Point {
    /// Seconds since 1970.
    time: i64,
    value: f64,
}

/// The result in short, and its body, from what `/backtest/sessions/{id}` says of a finished session.
pub(super) fn map(
    spec: &BacktestSpec,
    exchange: &Exchange,
    session: &Value,
    limit: usize,
) -> Result<(Value, Bytes), JobError> {
    let unexpected = |what: &str| {
        JobError::new(ErrorCode::Internal, format!("Jesse's server finished the run without {what}"))
            .retryable()
    };
    let trades = session["trades"].as_array().ok_or_else(|| unexpected("trades"))?;
    let none = without_trades(exchange);
    let metrics = match &session["metrics"] {
        // The server stores none without trades; the runner gets these.
        Value::Null if trades.is_empty() => &none,
        metrics if metrics.is_object() => metrics,
        _ => return Err(unexpected("metrics")),
    };
    let equity_curve = realised(spec, trades);
    let points = equity_curve.len();
    let body = Body {
        metrics,
        trades,
        equity_curve,
        equity_curve_basis: REALISED,
        // What a strategy prints goes to the server's own output.
        logs: json!({"output": ""}),
    };
    let body = serde_json::to_vec(&body).map_err(|_| unexpected("a result that can be written"))?;
    if body.len() > limit {
        return Err(too_large(limit));
    }
    let value = json!({
        "metrics": metrics,
        "trades": trades.len(),
        "equity_points": points,
        "compute_s": session["execution_duration"],
    });
    Ok((value, Bytes::from(body)))
}

/// What `jesse.research.backtest` says of a run without trades.
fn without_trades(exchange: &Exchange) -> Value {
    let annualization = exchange.annualization.unwrap_or(DAYS_A_YEAR);
    json!({"total": 0, "win_rate": 0, "net_profit_percentage": 0, "annualization": annualization})
}

/// The balance at the start of every day, from the profits of the trades that were closed by then; as with the runner there is
/// no curve without trades.
fn realised(spec: &BacktestSpec, trades: &[Value]) -> Vec<Point> {
    let closed = |trade: &Value| Some((trade["closed_at"].as_f64()?, trade["PNL"].as_f64()?));
    let mut closed: Vec<(f64, f64)> = trades.iter().filter_map(closed).collect();
    if closed.is_empty() {
        return Vec::new();
    }
    closed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (start_ms, finish_ms) = spec.range_ms();
    let (start, finish) = (start_ms / 1000, finish_ms / 1000);
    let mut closed = closed.into_iter().peekable();
    let mut value = spec.balance;
    let mut points = Vec::new();
    let mut time = start;
    while time <= finish {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any date fit")]
        let moment = (time * 1000) as f64;
        // What is closed at the very end closes the curve.
        while let Some((_, profit)) = closed.next_if(|(at, _)| *at <= moment || time == finish) {
            value += profit;
        }
        points.push(Point { time, value });
        time += DAY_S;
    }
    points
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::rest::testing::{exchange, spec};

    #[test]
    fn the_curve_steps_where_trades_are_closed() {
        let spec = spec("SmaCross");
        let (start, finish) = spec.range_ms();
        // As Jesse writes them, in any order.
        #[expect(clippy::cast_precision_loss, reason = "small enough")]
        let trade = |at: i64, profit: f64| json!({"closed_at": at as f64, "PNL": profit});
        let trades = [trade(finish, 5.0), trade(start + 86_400_000, 10.0), trade(start + 1, -20.0)];
        let curve = realised(&spec, &trades);
        assert_eq!(curve.len(), 29);
        assert_eq!(curve[0], Point { time: start / 1000, value: 10_000.0 });
        assert_eq!((curve[1].value, curve[27].value, curve[28].value), (9_990.0, 9_990.0, 9_995.0));
        assert!(realised(&spec, &[]).is_empty());
    }

    #[test]
    fn a_result_without_metrics_is_none_and_a_large_one_is_refused() {
        let spec = spec("SmaCross");
        assert!(
            map(&spec, &exchange(), &json!({"metrics": null, "trades": [{}]}), 1 << 20)
                .unwrap_err()
                .retryable
        );
        let (idle, _) = map(&spec, &exchange(), &json!({"metrics": null, "trades": []}), 1 << 20).unwrap();
        assert_eq!(idle["metrics"]["total"], 0);
        let session = json!({"metrics": {"total": 0}, "trades": [], "execution_duration": 0.5});
        assert_eq!(map(&spec, &exchange(), &session, 10).unwrap_err().code, ErrorCode::ResultTooLarge);
        let (_, body) = map(&spec, &exchange(), &session, 1 << 20).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["equity_curve_basis"], REALISED);
    }
}

//! `risk_report`: one page of all that matters about a result.

mod chart;
mod document;
mod html;
mod markdown;

pub use document::{Block, Document, document};
pub use html::html;
pub use markdown::markdown;

use jobs::JobError;
use risk::{
    EquityCurve,
    bootstrap::BootstrapOptions,
    performance::{
        drawdown_table, exposure, monthly_table, performance, performance_intervals, sharpe_ratio,
    },
    simulation::{SimulationOptions, simulate, win_rate},
    tail::{TailMethod, TailOptions, tail_risk},
    verdict::{Evidence, verdict},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, or_refused, refusal, value},
    inputs::Inputs,
    simulation::few,
    source::Source,
    track::Track,
};

/// How many drawdowns are listed.
const DRAWDOWNS: usize = 5;
/// How many points of the curve are kept to be drawn.
const DRAWN: usize = 1_000;

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportRequest {
    /// Of the intervals.
    pub confidence: f64,
    /// Replicates of the bootstrap.
    pub replications: usize,
    /// Paths of the simulation.
    pub paths: usize,
    /// Same seed, same result.
    pub seed: u64,
}

impl Default for ReportRequest {
    fn default() -> Self {
        Self { confidence: 0.95, replications: 2_000, paths: 5_000, seed: 0 }
    }
}

impl ReportRequest {
    pub(crate) fn check(&self) -> Result<(), JobError> {
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(invalid("confidence", "must be between 0 and 1, both excluded"));
        }
        if !(100..=50_000).contains(&self.replications) {
            return Err(invalid("replications", "must be from 100 to 50000"));
        }
        if !(100..=50_000).contains(&self.paths) {
            return Err(invalid("paths", "must be from 100 to 50000"));
        }
        Ok(())
    }

    fn bootstrap(&self) -> BootstrapOptions {
        BootstrapOptions {
            replications: self.replications,
            block_length: None,
            confidence: self.confidence,
            seed: self.seed,
        }
    }
}

pub(crate) fn compute(source: &Source, request: &ReportRequest, inputs: &Inputs) -> Result<Answer, JobError> {
    let track = Track::of(source, inputs)?;
    let returns = &track.returns;
    let figures = performance(returns);
    let equity = track.equity()?;
    let intervals = performance_intervals(returns, &request.bootstrap());
    let (trades, known) = (track.trades.as_ref(), intervals.as_ref().ok());
    let evidence = Evidence { returns, trades, trials: None, overfitting: None, intervals: known };
    // Without it nothing could be said: returns that do not vary.
    let verdict = verdict(&evidence).map_err(|error| refusal(&error))?;
    let simulated = SimulationOptions {
        paths: request.paths,
        steps_per_year: Some(returns.frequency().get()),
        confidence: request.confidence,
        seed: request.seed,
        ..SimulationOptions::default()
    };
    let simulation = simulate(returns.values(), &simulated);
    let body = json!({
        "data": track.data(),
        "verdict": verdict,
        "performance": figures,
        "intervals": or_refused(intervals.clone()),
        "sharpe": or_refused(sharpe_ratio(returns, request.confidence)),
        "tail": tail(&track, request),
        "drawdowns": equity.as_ref().map(|equity| drawdown_table(equity, DRAWDOWNS)),
        "months": equity.as_ref().map(|equity| or_refused(monthly_table(equity))),
        "exposure": held(&track, equity.as_ref()),
        "trades": traded(&track, request.confidence),
        "portfolio": portfolio(&track),
        "simulation": or_refused(simulation.clone()),
        "equity": drawn(&track, equity.as_ref()),
        "definitions": "fractions, not percent; losses and drawdowns positive; annual figures with periods_per_year and no rate of \
                        interest; kurtosis raw (3 is normal); intervals from the stationary bootstrap",
    });
    let summary = json!({
        "data": body["data"],
        "verdict": verdict.conclusion,
        "in_words": verdict.summary,
        "failed_rules": failed(&body["verdict"]["rules"]),
        "warnings": warnings(&body["verdict"]["checks"]),
        "total_return": figures.total_return,
        "cagr": with_interval(&body, "cagr"),
        "volatility": figures.volatility,
        "sharpe": with_interval(&body, "sharpe"),
        "sortino": figures.sortino,
        "calmar": figures.calmar,
        "probabilistic_sharpe": body["sharpe"]["probabilistic"],
        "minimum_track_record_periods": body["sharpe"]["minimum_track_record"],
        "max_drawdown": with_interval(&body, "max_drawdown"),
        "longest_under_water_days": body["drawdowns"]["longest_days"],
        "var_95": body["tail"][0]["value_at_risk"],
        "es_95": body["tail"][0]["expected_shortfall"],
        "next_year": simulation.ok().map(|found| json!({
            "max_drawdown": few(&found.max_drawdown), "probability_of_loss": found.loss.value,
        })),
        "trades": body["trades"]["number"],
        "in_market": body["exposure"]["in_market"],
    });
    Ok(Answer { body, summary })
}

fn with_interval(body: &Value, name: &str) -> Value {
    let interval = &body["intervals"][name];
    json!({"value": body["performance"][name], "low": interval["low"], "high": interval["high"]})
}

fn failed(rules: &Value) -> Vec<Value> {
    let rules = rules.as_array().into_iter().flatten();
    rules.filter(|rule| rule["outcome"] == "failed").map(|rule| rule["reason"].clone()).collect()
}

fn warnings(checks: &Value) -> Vec<Value> {
    let checks = checks.as_array().into_iter().flatten();
    checks
        .filter(|check| check["finding"] == "warning")
        .map(|check| check["reason"].clone())
        .take(3)
        .collect()
}

/// The order statistic first, then the methods that see more than it.
fn tail(track: &Track, request: &ReportRequest) -> Vec<Value> {
    let methods = [
        (TailMethod::Historical, 0.95),
        (TailMethod::Historical, 0.99),
        (TailMethod::CornishFisher, 0.99),
        (TailMethod::FilteredHistorical, 0.99),
    ];
    let figure = |(method, confidence): (TailMethod, f64)| {
        let options = TailOptions { confidence, seed: request.seed, ..TailOptions::default() };
        let mut figure = or_refused(tail_risk(&track.returns, method, &options));
        figure["method"] = value(&method);
        figure["confidence"] = confidence.into();
        figure
    };
    methods.into_iter().map(figure).collect()
}

fn held(track: &Track, equity: Option<&EquityCurve>) -> Value {
    let span = equity.and(track.start_ms).zip(track.end_ms());
    match (&track.trades, span) {
        (Some(trades), Some((from, to))) => or_refused(exposure(trades, from, to)),
        _ => Value::Null,
    }
}

fn traded(track: &Track, confidence: f64) -> Value {
    let Some(trades) = &track.trades else { return Value::Null };
    let profits: Vec<f64> = trades.as_slice().iter().map(|trade| trade.profit).collect();
    json!({
        "number": profits.len(),
        "expectancy": trades.expectancy(),
        "win_rate": or_refused(win_rate(&profits, confidence)),
    })
}

fn portfolio(track: &Track) -> Value {
    track.portfolio.as_ref().map_or(Value::Null, |portfolio| {
        json!({"contributions": portfolio.contributions, "diversification": portfolio.diversification})
    })
}

/// `[[seconds, wealth], ...]`, thinned out, from 1.
fn drawn(track: &Track, equity: Option<&EquityCurve>) -> Value {
    let Some(equity) = equity else { return Value::Null };
    let scale = track.balance.unwrap_or(1.0);
    let step = equity.values().len().div_ceil(DRAWN).max(1);
    let points = equity.times_ms().iter().zip(equity.values());
    let last = equity.values().len() - 1;
    let kept = points.enumerate().filter(|(at, _)| at % step == 0 || *at == last);
    value(&kept.map(|(_, (time, level))| json!([time / 1000, level / scale])).collect::<Vec<_>>())
}

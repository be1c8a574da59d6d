//! `var_calculation`: how much can be lost.

use jobs::JobError;
use risk::{
    Returns, RiskError,
    tail::{TailMethod, TailOptions, TailRisk, backtest_forecasts, rolling_forecasts, tail_risk},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, value},
    inputs::Inputs,
    source::Source,
    track::Track,
};

/// How many figures an agent is shown; all are in the result.
const SHOWN: usize = 16;
/// The most steps of all paths of a method: a few seconds.
const MOST_STEPS: usize = 1_000_000_000;

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailRequest {
    /// Confidences between 0 and 1.
    pub confidence: Vec<f64>,
    /// Periods ahead.
    pub horizons: Vec<usize>,
    /// Which methods; all of them by default.
    pub methods: Vec<TailMethod>,
    /// Paths of the simulations.
    pub paths: usize,
    /// Decay of exponential weighting.
    pub decay: f64,
    /// Mean block length of the simulation; chosen from the series by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_length: Option<f64>,
    /// Same seed, same result.
    pub seed: u64,
}

const ALL: [TailMethod; 6] = [
    TailMethod::Historical,
    TailMethod::Gaussian,
    TailMethod::CornishFisher,
    TailMethod::Ewma,
    TailMethod::FilteredHistorical,
    TailMethod::MonteCarlo,
];

impl Default for TailRequest {
    fn default() -> Self {
        Self {
            confidence: vec![0.95, 0.99],
            horizons: vec![1],
            methods: ALL.to_vec(),
            paths: 10_000,
            decay: 0.94,
            block_length: None,
            seed: 0,
        }
    }
}

impl TailRequest {
    pub(crate) fn check(&self) -> Result<(), JobError> {
        let Self { confidence, horizons, methods, paths, decay, block_length, .. } = self;
        if !(1..=5).contains(&confidence.len()) || confidence.iter().any(|c| !(0.5..1.0).contains(c)) {
            return Err(invalid("confidence", "1 to 5 numbers from 0.5 to below 1, usually 0.95 and 0.99"));
        }
        if !(1..=5).contains(&horizons.len()) || horizons.iter().any(|h| !(1..=1000).contains(h)) {
            return Err(invalid("horizons", "1 to 5 whole numbers of periods from 1 to 1000"));
        }
        let twice = methods.iter().enumerate().any(|(at, method)| methods[..at].contains(method));
        if methods.is_empty() || twice {
            return Err(invalid("methods", "name 1 to 6, each once, or leave it out for all"));
        }
        if !(100..=200_000).contains(paths) {
            return Err(invalid("paths", "must be from 100 to 200000"));
        }
        let steps = horizons.iter().sum::<usize>() * confidence.len() * paths;
        if steps > MOST_STEPS {
            let message = format!(
                "{paths} for each confidence and each period of the horizons are {steps} steps, at most {MOST_STEPS} are simulated"
            );
            return Err(invalid("paths", message));
        }
        if !(*decay > 0.0 && *decay < 1.0) {
            return Err(invalid("decay", "must be between 0 and 1"));
        }
        if block_length.is_some_and(|length| !(1.0..=1e6).contains(&length)) {
            return Err(invalid("block_length", "must be at least 1, and at most the number of returns"));
        }
        Ok(())
    }

    fn options(&self, confidence: f64, horizon: usize) -> TailOptions {
        let Self { paths, decay, block_length, seed, .. } = *self;
        TailOptions { confidence, horizon, decay, paths, block_length, seed }
    }
}

/// A method's figure, or why there is none.
#[derive(Serialize)]
struct NoFigure {
    method: TailMethod,
    confidence: f64,
    horizon: usize,
    refused: String,
}

pub(crate) fn compute(source: &Source, request: &TailRequest, inputs: &Inputs) -> Result<Answer, JobError> {
    let track = Track::of(source, inputs)?;
    let figures = figures(&track.returns, request);
    let backtests = backtests(&track.returns, request);
    let body = json!({
        "data": track.data(),
        "figures": figures.iter().map(shown).collect::<Vec<_>>(),
        "backtests": backtests,
        "definitions": DEFINITIONS,
    });
    let rows: Vec<Value> = figures.iter().take(SHOWN).map(row).collect();
    let held: Vec<Value> = backtests.iter().map(brief_backtest).collect();
    let mut summary = json!({"data": track.data(), "losses": rows, "held_in_the_past": held});
    if figures.len() > SHOWN {
        summary["more"] = format!("{} more in the result's figures", figures.len() - SHOWN).into();
    }
    Ok(Answer { body, summary })
}

const DEFINITIONS: &str = "losses are positive fractions of the wealth at the start of the horizon; a horizon is in periods and compounded, \
     never scaled by a root; var is exceeded with probability 1 - confidence, es is the mean loss of the worst 1 - confidence";

type Figure = Result<TailRisk, (TailMethod, f64, usize, RiskError)>;

/// Every combination that was asked for.
fn figures(returns: &Returns, request: &TailRequest) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &horizon in &request.horizons {
        for &confidence in &request.confidence {
            for &method in &request.methods {
                let figure = tail_risk(returns, method, &request.options(confidence, horizon));
                figures.push(figure.map_err(|error| (method, confidence, horizon, error)));
            }
        }
    }
    figures
}

fn shown(figure: &Figure) -> Value {
    match figure {
        Ok(risk) => value(risk),
        Err((method, confidence, horizon, error)) => value(&NoFigure {
            method: *method,
            confidence: *confidence,
            horizon: *horizon,
            refused: error.to_string(),
        }),
    }
}

fn row(figure: &Figure) -> Value {
    match figure {
        Ok(risk) => json!({
            "method": risk.method, "confidence": risk.confidence, "horizon": risk.horizon,
            "var": risk.value_at_risk, "es": risk.expected_shortfall,
        }),
        Err((method, confidence, horizon, error)) => {
            let reason: String = error.to_string().chars().take(90).collect();
            json!({"method": method, "confidence": confidence, "horizon": horizon, "refused": reason})
        }
    }
}

/// Methods in closed form are tested one period ahead on rolling windows, where the series is long enough.
fn backtests(returns: &Returns, request: &TailRequest) -> Vec<Value> {
    let n = returns.values().len();
    let window = (n / 2).clamp(20, 250);
    let testable = [TailMethod::Historical, TailMethod::Gaussian, TailMethod::Ewma];
    let mut tests = Vec::new();
    if n < window + 50 {
        return tests;
    }
    for method in request.methods.iter().filter(|method| testable.contains(method)) {
        for &confidence in &request.confidence {
            let forecasts = rolling_forecasts(returns, *method, window, &request.options(confidence, 1));
            let test = forecasts.and_then(|forecasts| {
                backtest_forecasts(&returns.values()[window..], &forecasts, confidence)
            });
            let mut shown = crate::answer::or_refused(test);
            shown["method"] = value(method);
            shown["confidence"] = confidence.into();
            shown["window"] = window.into();
            tests.push(shown);
        }
    }
    tests
}

fn brief_backtest(test: &Value) -> Value {
    json!({
        "method": test["method"], "confidence": test["confidence"], "exceedances": test["exceedances"],
        "expected": test["expected"], "kupiec_p": test["kupiec"]["p_value"],
    })
}

//! Answers requests, one a line of standard input, with one line of JSON each: how long something of `crates/risk` takes and what it
//! finds (`bench/risk.py` asks other libraries the same by turns), and how often tests and intervals err on simulated data whose truth is
//! known (`bench/calibration.py`).
//!
//! What is simulated comes from numbered streams of one seed, so an answer depends on its request alone.

mod calibration;
mod speed;

use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::Value;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading requests or writing answers: {0}")]
    Io(#[from] std::io::Error),
    #[error("a request that is none: {0}")]
    Request(#[from] serde_json::Error),
    #[error("{0}")]
    Risk(#[from] risk::RiskError),
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// What may be asked.
#[derive(Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Request {
    Simulation(speed::Simulation),
    Bootstrap(speed::Bootstrap),
    Correlation(speed::Correlation),
    Intervals(calibration::Intervals),
    Forecasts(calibration::Forecasts),
    Deflated(calibration::Deflated),
    Overfitting(calibration::Overfitting),
}

impl Request {
    fn answer(&self) -> Result<Value, Error> {
        match self {
            Self::Simulation(simulation) => simulation.answer(),
            Self::Bootstrap(bootstrap) => bootstrap.answer(),
            Self::Correlation(correlation) => correlation.answer(),
            Self::Intervals(intervals) => intervals.answer(),
            Self::Forecasts(forecasts) => forecasts.answer(),
            Self::Deflated(deflated) => deflated.answer(),
            Self::Overfitting(overfitting) => overfitting.answer(),
        }
    }
}

fn main() -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        writeln!(out, "{}", request.answer()?)?;
        out.flush()?;
    }
    Ok(())
}

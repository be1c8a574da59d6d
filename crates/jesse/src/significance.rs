//! Tests of significance: whether a strategy's entry signals foretell the next bar's return better than chance, by Jesse's
//! `rule_significance_test`, a stationary bootstrap (Politis and Romano, 1994).
//!
//! What is tested are the signals alone (`should_long`, `should_short`, always without a position): orders, exits, sizes
//! and fees play no part. The p-value is of one test: the smallest of many strategies' is no evidence by itself.

use jobs::{CacheKey, JobError, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    candles::MINUTE_MS,
    catalogue::{Catalogue, Engine, timeframe_minutes},
    parent::{invalid, key, read, split},
    plan::{BacktestPlan, KEY_VERSION, cache_key},
    spec::{BacktestRequest, BacktestSpec},
};

const SIMULATIONS_LEAST: u32 = 100;
const SIMULATIONS_MOST: u32 = 100_000;
// These three are Jesse's own.
const DEFAULT_SIMULATIONS: u32 = 2_000;
const DEFAULT_SEED: u32 = 42;
const DEFAULT_BLOCK_LENGTH: u32 = 10;

/// How signals are judged, beside the backtest that says whose signals on which candles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// Resamples, 100 to 100000; default 2000
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub n_simulations: Option<u32>,
    /// Default 42
    #[serde(default, alias = "random_seed", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub seed: Option<u32>,
    /// Bars of a block; default 10
    #[serde(default, alias = "bootstrap_mean_block_length", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub mean_block_length: Option<u32>,
}

const FIELDS: [&str; 5] =
    ["n_simulations", "seed", "random_seed", "mean_block_length", "bootstrap_mean_block_length"];

/// As a client writes it: a backtest's fields and those of [`BootstrapRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct SignificanceRequest {
    /// Whose signals, on which candles.
    pub backtest: BacktestRequest,
    /// How they are judged.
    pub bootstrap: BootstrapRequest,
}

impl SignificanceRequest {
    /// Reads one object.
    pub fn parse(fields: Map<String, Value>) -> Result<Self, JobError> {
        let (bootstrap, backtest) = split(fields, &FIELDS);
        Ok(Self { bootstrap: read(bootstrap)?, backtest: read(backtest)? })
    }
}

/// One that can be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignificanceSpec {
    /// Of one route; what only concerns trades is as by default.
    pub backtest: BacktestSpec,
    /// How many resamples.
    pub n_simulations: u32,
    /// Of the resamples.
    pub seed: u32,
    /// In bars.
    pub mean_block_length: u32,
}

impl SignificanceSpec {
    /// Checks a request and fills in what it leaves open. What a test cannot take into account is refused rather than
    /// left aside.
    pub fn check(request: &SignificanceRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let backtest = BacktestSpec::check(&request.backtest, catalogue)?;
        let BootstrapRequest { n_simulations, seed, mean_block_length } = &request.bootstrap;
        let n_simulations = n_simulations.unwrap_or(DEFAULT_SIMULATIONS);
        let mean_block_length = mean_block_length.unwrap_or(DEFAULT_BLOCK_LENGTH);
        let mut wrong = Vec::new();
        let mut refuse = |field: &str, message: String| wrong.push((field.to_owned(), message));
        if !(SIMULATIONS_LEAST..=SIMULATIONS_MOST).contains(&n_simulations) {
            refuse("n_simulations", format!("must be from {SIMULATIONS_LEAST} to {SIMULATIONS_MOST}"));
        }
        if backtest.routes.len() != 1 {
            refuse("routes", format!("must be one, whose signals are tested, not {}", backtest.routes.len()));
        }
        for (field, given, why) in [
            ("scenario", backtest.scenario.is_some(), "the test resamples by itself"),
            ("benchmark", backtest.benchmark, "the test has no trades to compare"),
            ("fast_mode", request.backtest.fast_mode.is_some(), "the test has a simulator of its own"),
        ] {
            if given {
                refuse(field, format!("{why}; leave it out"));
            }
        }
        if let Some((field, message)) = too_short(&backtest, mean_block_length) {
            refuse(field, message);
        }
        if !wrong.is_empty() {
            return Err(invalid(&wrong));
        }
        Ok(Self { backtest, n_simulations, seed: seed.unwrap_or(DEFAULT_SEED), mean_block_length })
    }

    /// The key of the result on the plan's code and candles, when this engine computes it.
    pub fn cache_key(&self, plan: &BacktestPlan, engine: &Engine) -> CacheKey {
        let Self { backtest, n_simulations, seed, mean_block_length } = self;
        let signals = plan.scoped(cache_key(backtest, &plan.bundles, &plan.series, engine));
        key(&(KEY_VERSION, Kind::SignificanceTest, signals, n_simulations, seed, mean_block_length))
    }
}

/// A block that goes around the whole period has its mean by construction, so blocks may have half of it at most.
fn too_short(backtest: &BacktestSpec, mean_block_length: u32) -> Option<(&'static str, String)> {
    let [route] = &backtest.routes[..] else { return None };
    let (start_ms, finish_ms) = backtest.range_ms();
    let timeframe = &route.timeframe;
    let bars = (finish_ms - start_ms) / MINUTE_MS / timeframe_minutes(timeframe)?;
    // The last bar has no next one.
    let longest = (bars - 1) / 2;
    if longest < 1 {
        let message = format!("the period has {bars} bars of {timeframe}, and a test needs three at least");
        return Some(("finish_date", message));
    }
    let message =
        || format!("must be from 1 to {longest}: half of what the {bars} bars of {timeframe} give returns");
    (!(1..=longest).contains(&i64::from(mean_block_length))).then(|| ("mean_block_length", message()))
}

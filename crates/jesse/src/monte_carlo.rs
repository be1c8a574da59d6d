//! Monte Carlo on candles: the same backtest on many altered histories, to see how much of its result hangs on the one that
//! happened. The histories are made by Jesse's candle pipelines; each is an ordinary backtest.

use jobs::{CacheKey, JobError, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    catalogue::Catalogue,
    parent::{ForChildren, invalid, key, read, split},
    plan::{BacktestPlan, KEY_VERSION},
    spec::{BacktestRequest, BacktestSpec, Pipeline, Scenario},
};

const SCENARIOS_MOST: u32 = 5_000;
const DEFAULT_SCENARIOS: u32 = 200;

/// How many histories, beside the backtest that is run on them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenariosRequest {
    /// Altered histories; default 200
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub scenarios: Option<u32>,
    /// Default 0
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub seed: Option<u32>,
    /// {type: "moving_block_bootstrap" (default), batch_minutes} or {type: "gaussian_noise", close_sigma, high_sigma,
    /// low_sigma} (in the quote asset)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub pipeline: Option<Pipeline>,
}

const FIELDS: [&str; 3] = ["scenarios", "seed", "pipeline"];

/// As a client writes it: a backtest's fields and those of [`ScenariosRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct MonteCarloRequest {
    /// What is run.
    pub backtest: BacktestRequest,
    /// On how many histories.
    pub scenarios: ScenariosRequest,
}

impl MonteCarloRequest {
    /// Reads one object.
    pub fn parse(fields: Map<String, Value>) -> Result<Self, JobError> {
        let (scenarios, backtest) = split(fields, &FIELDS);
        Ok(Self { scenarios: read(scenarios)?, backtest: read(backtest)? })
    }
}

/// One that can be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonteCarloSpec {
    /// On the history that happened.
    pub backtest: BacktestSpec,
    /// How many others.
    pub scenarios: u32,
    /// How they are made.
    pub pipeline: Pipeline,
    /// That of the first; the others follow it.
    pub seed: u32,
}

impl MonteCarloSpec {
    /// Checks a request and fills in what it leaves open.
    pub fn check(request: &MonteCarloRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let backtest = BacktestSpec::check(&request.backtest, catalogue)?;
        let ScenariosRequest { scenarios, seed, pipeline } = &request.scenarios;
        let scenarios = scenarios.unwrap_or(DEFAULT_SCENARIOS);
        let mut wrong = Vec::new();
        if !(1..=SCENARIOS_MOST).contains(&scenarios) {
            wrong.push(("scenarios".to_owned(), format!("must be from 1 to {SCENARIOS_MOST}")));
        }
        if backtest.scenario.is_some() {
            wrong.push(("scenario".into(), "is what pipeline and seed say here".into()));
        }
        let pipeline = pipeline.clone().unwrap_or_default();
        if let Err(message) = pipeline.check() {
            wrong.push(("pipeline".into(), message));
        }
        if !wrong.is_empty() {
            return Err(invalid(&wrong));
        }
        Ok(Self { backtest, scenarios, pipeline, seed: seed.unwrap_or_default() })
    }

    /// All backtests: on what happened first, then on the altered histories.
    pub fn backtests(&self) -> impl Iterator<Item = BacktestSpec> {
        let altered = (0..self.scenarios).map(|number| BacktestSpec {
            scenario: Some(Scenario {
                pipeline: self.pipeline.clone(),
                seed: self.seed.wrapping_add(number),
            }),
            ..self.backtest.clone()
        });
        std::iter::once(self.backtest.clone()).chain(altered)
    }
}

/// What a worker needs for the next step, beside the spec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MonteCarloPlan {
    /// Code and candles.
    pub backtest: BacktestPlan,
    /// How the backtests are treated.
    pub children: ForChildren,
}

impl MonteCarloPlan {
    /// The key of the result.
    pub fn cache_key(&self, spec: &MonteCarloSpec) -> CacheKey {
        let scenarios = (spec.scenarios, &spec.pipeline, spec.seed);
        key(&(KEY_VERSION, Kind::MonteCarlo, self.backtest.key_of(&spec.backtest), scenarios))
    }
}

/// What is compared: a name, and whether more of it is better.
const COMPARED: [(&str, bool); 7] = [
    ("net_profit_percentage", true),
    ("annual_return", true),
    ("max_drawdown", true), // negative: less deep is more
    ("sharpe_ratio", true),
    ("calmar_ratio", true),
    ("win_rate", true),
    ("total", true),
];

/// Where the result on what happened lies among those on altered histories: percentiles (by linear interpolation between
/// order statistics, as numpy's default) of each metric, and the share of histories on which it was worse. That share is
/// no p-value: the histories share the real one's drift. `found` are the metrics of all backtests in order, or why there
/// are none.
pub fn result(found: &[Result<Value, String>]) -> Value {
    let (original, altered) =
        found.split_first().map_or((None, found), |(first, rest)| (first.as_ref().ok(), rest));
    let mut metrics = Map::new();
    for (name, more_is_better) in COMPARED {
        let number = |metrics: &Value| metrics[name].as_f64().filter(|value| value.is_finite());
        let mut values: Vec<f64> = altered.iter().filter_map(|found| number(found.as_ref().ok()?)).collect();
        values.sort_by(f64::total_cmp);
        let own = original.and_then(number);
        let worse = own.map(|own| {
            values.iter().filter(|value| if more_is_better { **value < own } else { **value > own }).count()
        });
        #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
        let share = worse.filter(|_| !values.is_empty()).map(|worse| worse as f64 / values.len() as f64);
        metrics.insert(
            name.into(),
            json!({
                "original": own,
                "p5": percentile(&values, 0.05),
                "p25": percentile(&values, 0.25),
                "p50": percentile(&values, 0.5),
                "p75": percentile(&values, 0.75),
                "p95": percentile(&values, 0.95),
                "worse_share": share,
            }),
        );
    }
    let failed = altered.iter().filter(|found| found.is_err()).count();
    json!({ "scenarios": altered.len() - failed, "failed": failed, "metrics": metrics })
}

fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
    let place = last as f64 * share;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the last index")]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (below, above) = (*sorted.get(below)?, *sorted.get(above)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy_and_the_original_has_its_place() {
        let found: Vec<Result<Value, String>> = [5.0, 1.0, 2.0, 3.0, 4.0, 10.0]
            .into_iter()
            .map(|profit| Ok(json!({"net_profit_percentage": profit})))
            .chain([Err("it fell over".to_owned())])
            .collect();
        let result = result(&found);
        let profit = &result["metrics"]["net_profit_percentage"];
        // numpy.percentile([1, 2, 3, 4, 10], [5, 25, 50, 75, 95])
        for (name, expected) in
            [("p5", 1.2), ("p25", 2.0), ("p50", 3.0), ("p75", 4.0), ("p95", 8.8), ("worse_share", 0.8)]
        {
            let said = profit[name].as_f64().unwrap_or(f64::NAN);
            assert!((said - expected).abs() < 1e-12, "{name}: {profit}");
        }
        assert_eq!((&result["scenarios"], &result["failed"]), (&json!(5), &json!(1)));
        assert!(result["metrics"]["win_rate"]["p50"].is_null());
    }
}

//! `monte_carlo` of a result: what else its returns, or its trades, could have come to.

use jobs::JobError;
use risk::simulation::{Distribution, Simulation, SimulationOptions, simulate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, refusal, unfit, value},
    inputs::Inputs,
    source::Source,
    track::Track,
};

/// The most steps of all paths together: a few seconds.
const MOST_STEPS: usize = 2_000_000_000;

/// What is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawn {
    /// Returns, in blocks, so that what follows one another stays together.
    #[default]
    Returns,
    /// Trades of a single result, as fractions of the equity before each.
    Trades,
}

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationRequest {
    /// What is drawn.
    pub method: Drawn,
    /// How many paths.
    pub paths: usize,
    /// Steps of a path; as many as there are returns or trades by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Mean block length; chosen from the series by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_length: Option<f64>,
    /// The loss of the starting wealth that counts as ruin.
    pub ruin_loss: f64,
    /// Drawdowns whose probability is wanted.
    pub drawdown_levels: Vec<f64>,
    /// Of the intervals that the number of paths leaves.
    pub confidence: f64,
    /// Same seed, same result.
    pub seed: u64,
}

impl Default for SimulationRequest {
    fn default() -> Self {
        let SimulationOptions { paths, ruin_loss, drawdown_levels, confidence, seed, .. } =
            SimulationOptions::default();
        Self {
            method: Drawn::Returns,
            paths,
            steps: None,
            block_length: None,
            ruin_loss,
            drawdown_levels,
            confidence,
            seed,
        }
    }
}

impl SimulationRequest {
    pub(crate) fn check(&self) -> Result<(), JobError> {
        let inside = |value: f64| value > 0.0 && value < 1.0;
        if !(100..=1_000_000).contains(&self.paths) {
            return Err(invalid("paths", "must be from 100 to 1000000"));
        }
        if self.steps.is_some_and(|steps| !(1..=1_000_000).contains(&steps)) {
            return Err(invalid("steps", "must be from 1 to 1000000"));
        }
        if !inside(self.ruin_loss) {
            return Err(invalid("ruin_loss", "a fraction between 0 and 1, e.g. 0.5 for half of the wealth"));
        }
        if self.drawdown_levels.len() > 20 || self.drawdown_levels.iter().any(|level| !inside(*level)) {
            return Err(invalid("drawdown_levels", "at most 20 fractions between 0 and 1"));
        }
        if !inside(self.confidence) {
            return Err(invalid("confidence", "must be between 0 and 1, both excluded"));
        }
        if self.block_length.is_some_and(|length| !(1.0..=1e6).contains(&length)) {
            return Err(invalid("block_length", "must be at least 1"));
        }
        Ok(())
    }

    fn options(&self, steps_per_year: Option<f64>) -> SimulationOptions {
        let Self { paths, steps, block_length, ruin_loss, confidence, seed, .. } = *self;
        let drawdown_levels = self.drawdown_levels.clone();
        SimulationOptions {
            paths,
            steps,
            steps_per_year,
            block_length,
            ruin_loss,
            drawdown_levels,
            confidence,
            seed,
        }
    }
}

pub(crate) fn compute(
    source: &Source,
    request: &SimulationRequest,
    inputs: &Inputs,
) -> Result<Answer, JobError> {
    let track = Track::of(source, inputs)?;
    let (values, per_year) = match (request.method, &track.trades, track.balance) {
        (Drawn::Returns, ..) => (track.returns.values().to_vec(), Some(track.returns.frequency().get())),
        (Drawn::Trades, Some(trades), Some(balance)) => {
            (trades.returns(balance).map_err(|error| refusal(&error))?, None)
        }
        (Drawn::Trades, ..) => {
            return Err(unfit(
                "method trades: only the result of a single backtest has trades; use method returns",
            ));
        }
    };
    let steps = request.steps.unwrap_or(values.len());
    if steps.saturating_mul(request.paths) > MOST_STEPS {
        let message =
            format!("{} paths of {steps} steps are more than {MOST_STEPS} steps in all", request.paths);
        return Err(invalid("paths", message));
    }
    let found = simulate(&values, &request.options(per_year)).map_err(|error| refusal(&error))?;
    let body = json!({"data": track.data(), "method": request.method, "drawn_from": values.len(), "simulation": found});
    Ok(Answer { summary: summary(&track, request.method, &found), body })
}

fn summary(track: &Track, method: Drawn, found: &Simulation) -> Value {
    json!({
        "data": track.data(),
        "method": method,
        "paths": found.paths,
        "steps": found.steps,
        "block_length": found.block_length,
        "terminal_wealth": few(&found.terminal_wealth),
        "cagr": found.cagr.as_ref().map(few),
        "max_drawdown": few(&found.max_drawdown),
        "longest_under_water": few(&found.longest_under_water),
        "probability_of_loss": found.loss.value,
        "probability_of_ruin": found.ruin.value,
        "probability_of_drawdown": found.drawdowns.iter()
            .map(|drawdown| (drawdown.level.to_string(), value(&drawdown.probability.value)))
            .collect::<serde_json::Map<_, _>>(),
    })
}

/// At 5, 50 and 95 %.
pub(crate) fn few(distribution: &Distribution) -> Value {
    let at = |probability: f64| {
        let found =
            distribution.quantiles.iter().find(|quantile| (quantile.probability - probability).abs() < 1e-9);
        found.map(|quantile| quantile.value)
    };
    json!({"p5": at(0.05), "p50": at(0.5), "p95": at(0.95)})
}

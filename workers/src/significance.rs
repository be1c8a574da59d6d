//! The handler of significance tests: a task of the runner like a backtest, on the same code and candles.

use jesse::{
    plan::BacktestPlan,
    runner::{TaskError, TaskResult},
    significance::SignificanceSpec,
    strategies::publish,
};
use jobs::{
    Claim, StoredResult,
    backend::{Assignment, Handled},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    attend::unreadable,
    backtest::{Backtests, Found, of_candles},
    on_runner::{Task, provenance},
};

/// With fewer returns Jesse calls a result unreliable.
const FEW_OBSERVATIONS: u64 = 30;

impl Backtests {
    /// Runs one test to its outcome, or until it must stop.
    pub(crate) async fn handle_significance_test(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, stop } = assignment;
        let stopping = CancellationToken::new();
        let compute = self.test_significance(&claim, &stopping);
        self.attendant.attend(&claim, stop, &stopping, compute).await
    }

    async fn test_significance(
        &self,
        claim: &Claim,
        stop: &CancellationToken,
    ) -> Result<StoredResult, TaskError> {
        let spec: SignificanceSpec =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let plan: BacktestPlan =
            serde_json::from_str(&claim.plan).map_err(|error| unreadable(claim, &error))?;
        let bootstrap = json!({
            "n_simulations": spec.n_simulations,
            "random_seed": spec.seed,
            "mean_block_length": spec.mean_block_length,
        });
        let task = Task { name: "significance_test", spec: &spec.backtest, more: bootstrap.clone() };
        let result = self.compute_on_runner(claim, task, &plan, stop).await?;
        // As for a backtest: what was really run has the last word.
        let cache_key = spec.cache_key(&plan, &publish::engine(&result.engine));
        let mut provenance = provenance(&spec.backtest, &plan, &result, &cache_key);
        provenance["bootstrap"] = bootstrap;
        let TaskResult { value, body, .. } = result;
        let summary = summary(value, &plan);
        let found = Found { body: body.unwrap_or_default(), cache_key, provenance, summary };
        self.keep(claim, (&spec.backtest, &plan), found).await
    }
}

/// What the task found, and what a reader must know of it.
fn summary(mut found: Value, plan: &BacktestPlan) -> Value {
    let mut warnings: Vec<_> = of_candles(plan).collect();
    let count = |field: &Value| field.as_u64().unwrap_or_default();
    let observations = count(&found["n_observations"]);
    if observations < FEW_OBSERVATIONS {
        warnings
            .push(format!("{observations} returns are few: below {FEW_OBSERVATIONS} the test is unreliable"));
    }
    let dropped = count(&found["dropped_observations"]);
    if dropped > 0 {
        warnings.push(format!("{dropped} bars gave no return and were left out"));
    }
    if count(&found["signals"]["long"]) + count(&found["signals"]["short"]) == 0 {
        warnings.push("the strategy gave no signal, so nothing was tested".to_owned());
    }
    if found["p_value"] == 0.0 {
        let simulations = count(&found["n_simulations"]);
        warnings
            .push(format!("read the p_value as less than 1/{simulations}: no simulated mean was as high"));
    }
    if !warnings.is_empty() {
        found["warning"] = warnings.join("; ").into();
    }
    found
}

//! Monte Carlo on candles: all histories at once, then the distribution of what was found.

use jesse::{
    monte_carlo::{self, MonteCarloPlan, MonteCarloSpec},
    spec::BacktestSpec,
};
use jobs::{CacheMode, Child, Claim, JobError, Kind, Outcome, TenantId};
use serde_json::json;

use super::{Parents, Round, Step, as_planned, metrics_of, readable, text};

impl Parents {
    /// One step of a Monte Carlo analysis.
    pub(crate) async fn monte_carlo(&self, claim: &Claim) -> Outcome {
        self.step_of_monte_carlo(claim).await.unwrap_or_else(Outcome::Failed)
    }

    async fn step_of_monte_carlo(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let spec: MonteCarloSpec = readable(claim, &claim.request)?;
        let mut step: Step<MonteCarloPlan> = readable(claim, &claim.plan)?;
        let plan = &step.plan;
        let backtests: Vec<_> =
            spec.backtests().map(|backtest| (plan.backtest.key_of(&backtest), backtest)).collect();
        if let Some(batch) = step.batch {
            let tenant = TenantId::new(plan.children.tenant.clone());
            let views = self.children(batch, &tenant, backtests.len()).await?;
            let as_planned = views.iter().zip(&backtests).all(|(view, (key, _))| as_planned(view, key));
            let found = views.into_iter().map(metrics_of).collect::<Result<Vec<_>, _>>()?;
            let body = monte_carlo::result(&found);
            let key = plan.cache_key(&spec);
            let provenance = json!({
                "bundles": plan.backtest.bundles,
                "candles": plan.backtest.series,
                "engine": plan.backtest.engine,
                "cache_key": key,
                "seed": spec.seed,
            });
            let shared = plan.children.cache != CacheMode::Off && as_planned;
            return self
                .store(claim, shared.then(|| key.to_string()), &spec.backtest, &body, &body, &provenance)
                .await;
        }
        let histories = spec.scenarios;
        let child = |(cache_key, backtest): (_, BacktestSpec)| {
            Ok(Child { cache_key, request: text(&backtest)?, plan: 0, trial_of: Vec::new() })
        };
        let round = Round {
            number: 0,
            kind: Kind::Backtest,
            plans: vec![text(&plan.backtest)?],
            children: backtests.into_iter().map(child).collect::<Result<_, JobError>>()?,
            shown: json!({"monte_carlo": {"scenarios": histories}}),
        };
        let limits = plan.backtest.limits;
        let batch = self.submit(claim, &plan.children, round, (limits.wall_s, limits.memory_mb)).await?;
        self.progress(claim, 0.0, format!("{histories} histories are run")).await;
        step.batch = Some(batch);
        Ok(Outcome::Awaits { batch, plan: text(&step)? })
    }
}

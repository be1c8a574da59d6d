//! Walk-forward analysis: all windows are searched at once, then their winners are put together.

use jesse::optimize::{
    spec::OptimizeSpec,
    walk_forward::{self, WalkForwardPlan, WalkForwardSpec},
};
use jobs::{CacheKey, CacheMode, Child, Claim, JobError, Kind, Outcome, TenantId};
use serde_json::json;

use super::{Parents, Round, Step, as_planned, broken, readable, summary_of, text};

impl Parents {
    /// One step of a walk-forward analysis.
    pub(crate) async fn walk_forward(&self, claim: &Claim) -> Outcome {
        self.step_of_walk_forward(claim).await.unwrap_or_else(Outcome::Failed)
    }

    async fn step_of_walk_forward(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let spec: WalkForwardSpec = readable(claim, &claim.request)?;
        let mut step: Step<WalkForwardPlan> = readable(claim, &claim.plan)?;
        let tenant = TenantId::new(step.plan.children.tenant.clone());
        if let (Some(batch), Some(keys)) = (step.batch, &step.plan.submitted) {
            let views = self.children(batch, &tenant, spec.windows.len()).await?;
            let as_planned = views.iter().zip(keys).all(|(view, key)| as_planned(view, key));
            let found = views.into_iter().map(summary_of).collect::<Result<Vec<_>, _>>()?;
            let body = walk_forward::result(&spec, &found);
            let summary = json!({
                "windows": spec.windows.len(),
                "out_of_sample": body["out_of_sample"],
                "efficiency": body["efficiency"],
            });
            let key = step.plan.cache_key(&spec);
            let first = spec.windows.first().ok_or_else(|| broken(claim, "an analysis without windows"))?;
            let provenance = json!({"searches": keys, "cache_key": key});
            let shared = step.plan.children.cache != CacheMode::Off && as_planned;
            return self
                .store(claim, shared.then(|| key.to_string()), &first.train, &body, &summary, &provenance)
                .await;
        }
        let searches = step.plan.windows.iter().zip(&spec.windows);
        let keys: Vec<_> = searches.map(|(plan, spec)| plan.cache_key(spec)).collect();
        let child = |((plan, cache_key), spec): ((usize, &CacheKey), &OptimizeSpec)| {
            Ok(Child { cache_key: cache_key.clone(), request: text(spec)?, plan, trial_of: Vec::new() })
        };
        let children =
            keys.iter().enumerate().zip(&spec.windows).map(child).collect::<Result<Vec<_>, JobError>>()?;
        let plans = step.plan.windows.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let shown = json!({"walk_forward": {"windows": spec.windows.len()}});
        let round = Round { number: 0, kind: Kind::Optimize, plans, children, shown };
        let batch =
            self.submit(claim, &step.plan.children, round, (claim.timeout_s, claim.memory_mb)).await?;
        self.progress(claim, 0.0, format!("{} windows are searched", spec.windows.len())).await;
        step.plan.submitted = Some(keys);
        step.batch = Some(batch);
        Ok(Outcome::Awaits { batch, plan: text(&step)? })
    }
}

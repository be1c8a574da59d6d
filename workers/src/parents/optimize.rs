//! Optimisation: a round of trials at each step.

use jesse::{
    optimize::{
        plan::{Found, OptimizePlan, Period, Stage, Trial},
        spec::OptimizeSpec,
    },
    plan::BacktestPlan,
};
use jobs::{CacheMode, Child, Claim, JobError, JobId, Kind, Outcome, TenantId};
use serde_json::{Value, json};

use super::{Parents, Round, Step, as_planned, broken, metrics_of, readable, text};

impl Parents {
    /// One step of an optimisation.
    pub(crate) async fn optimize(&self, claim: &Claim) -> Outcome {
        self.step_of_optimize(claim).await.unwrap_or_else(Outcome::Failed)
    }

    async fn step_of_optimize(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let spec: OptimizeSpec = readable(claim, &claim.request)?;
        let mut step: Step<OptimizePlan> = readable(claim, &claim.plan)?;
        let tenant = TenantId::new(step.plan.children.tenant.clone());
        let found = match (step.batch, &step.plan.stage) {
            (Some(batch), Some(stage)) => {
                let views = self.children(batch, &tenant, stage.trials.len()).await?;
                let wanted = step.plan.wanted(&spec, stage);
                let shared = step.plan.children.cache != CacheMode::Off;
                let mut both = views.iter().zip(&wanted);
                step.drifted |= shared && !both.all(|(view, wanted)| as_planned(view, &wanted.cache_key));
                let found = |view| Ok(Found { metrics: metrics_of(view)? });
                views.into_iter().map(found).collect::<Result<_, JobError>>()?
            }
            _ => Vec::new(),
        };
        match step.plan.advance(&spec, found) {
            Some(stage) => {
                let batch = self.submit_round(claim, &spec, &step.plan, &stage).await?;
                let (done, fraction) = step.plan.progress(&spec);
                self.progress(claim, fraction, format!("{done} of {} trials", spec.trials)).await;
                step.batch = Some(batch);
                Ok(Outcome::Awaits { batch, plan: text(&step)? })
            }
            None => self.end_of_optimize(claim, &spec, &step).await,
        }
    }

    async fn submit_round(
        &self,
        claim: &Claim,
        spec: &OptimizeSpec,
        plan: &OptimizePlan,
        stage: &Stage,
    ) -> Result<JobId, JobError> {
        let own: &BacktestPlan =
            plan.of(stage.period).ok_or_else(|| broken(claim, "a period without a plan"))?;
        let children = plan.wanted(spec, stage).into_iter().map(|wanted| {
            let trial_of = plan.children.trials_of(&wanted.spec);
            Ok(Child { cache_key: wanted.cache_key, request: text(&wanted.spec)?, plan: 0, trial_of })
        });
        let period = match stage.period {
            Period::TrialRun => "trial_run",
            Period::Train => "train",
            Period::Test => "test",
        };
        let shown = json!({"optimize": {"round": stage.number, "period": period, "trials": stage.trials}});
        let children = children.collect::<Result<Vec<_>, JobError>>()?;
        let memory_mb = own.limits.memory_mb;
        let round =
            Round { number: stage.number, kind: Kind::Backtest, plans: vec![text(own)?], children, shown };
        self.submit(claim, &plan.children, round, (own.limits.wall_s, memory_mb)).await
    }

    async fn end_of_optimize(
        &self,
        claim: &Claim,
        spec: &OptimizeSpec,
        step: &Step<OptimizePlan>,
    ) -> Result<Outcome, JobError> {
        let plan = &step.plan;
        let body = plan.result(spec);
        let count = |which: &dyn Fn(&Trial) -> bool| plan.trials.iter().filter(|trial| which(trial)).count();
        let mut summary = json!({
            "trials": plan.trials.len(),
            "pruned": count(&|trial| trial.pruned),
            "failed": count(&|trial| trial.error.is_some()),
            "best": body["best"].get(0),
        });
        if let Some(best) = summary.get_mut("best").and_then(Value::as_object_mut) {
            best.remove("pruned");
            best.retain(|_, value| !value.is_null());
        }
        summary["warning"] = warning(spec, &summary).into();
        let periods = [Some(&plan.train), plan.test.as_ref(), plan.trial_run.as_ref()];
        let candles: Vec<_> = periods.into_iter().flatten().map(|plan| &plan.series).collect();
        let provenance = json!({
            "bundles": plan.train.bundles,
            "candles": candles,
            "engine": plan.train.engine,
            "cache_key": plan.cache_key(spec),
            "seed": spec.seed,
        });
        let key = (plan.children.cache != CacheMode::Off && !step.drifted)
            .then(|| plan.cache_key(spec).to_string());
        self.store(claim, key, &spec.train, &body, &summary, &provenance).await
    }
}

fn warning(spec: &OptimizeSpec, summary: &Value) -> String {
    if summary["best"].is_null() {
        return "no trial was of use: all had fewer than 6 trades, a negative ratio, or an error".into();
    }
    let trials = &summary["trials"];
    match &spec.test {
        Some(_) => format!(
            "the best of {trials} trials looks good on its training period by selection alone; \"test\" is what counts"
        ),
        None => format!("the best of {trials} trials on the data it was chosen by, without a test period"),
    }
}

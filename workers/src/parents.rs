//! The handlers of jobs that are made of other jobs: each step looks at what its children found, submits the next ones
//! and lets go of its slot until they have ended.

use jesse::{
    optimize::{
        plan::{ForChildren, Found, OptimizePlan, Period, Stage},
        spec::OptimizeSpec,
        walk_forward::{self, WalkForwardPlan, WalkForwardSpec},
    },
    plan::BacktestPlan,
};
use jobs::{
    BatchSubmission, CacheMode, Child, Claim, ErrorCode, Idempotency, JobError, JobId, JobState, JobView,
    Kind, OnFailure, Outcome, Progress, Queue, QueueError, Receipt, StoredResult, Tags, TenantId, Treatment,
    blobs::Blobs, chain,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

/// How many children are read at once.
const PAGE: usize = 200;

/// What a client reads first of a trial; all metrics are in the trial's own job.
const SHOWN_METRICS: [&str; 10] = [
    "total",
    "win_rate",
    "net_profit_percentage",
    "annual_return",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "omega_ratio",
    "max_drawdown",
    "finishing_balance",
];

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Parents {
    pub(crate) queue: Queue,
    pub(crate) blobs: Blobs,
    pub(crate) max_result_bytes: usize,
}

/// A parent's plan, and what it waited for.
#[derive(Serialize, Deserialize)]
struct Step<T> {
    #[serde(flatten)]
    plan: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    /// Whether something was computed by another Jesse than was planned for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    drifted: bool,
}

impl Parents {
    /// One step of an optimisation.
    pub(crate) async fn optimize(&self, claim: &Claim) -> Outcome {
        self.step_of_optimize(claim).await.unwrap_or_else(Outcome::Failed)
    }

    /// One step of a walk-forward analysis.
    pub(crate) async fn walk_forward(&self, claim: &Claim) -> Outcome {
        self.step_of_walk_forward(claim).await.unwrap_or_else(Outcome::Failed)
    }

    async fn step_of_optimize(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let spec: OptimizeSpec = readable(claim, &claim.request)?;
        let mut step: Step<OptimizePlan> = readable(claim, &claim.plan)?;
        let tenant = TenantId::new(step.plan.children.tenant.clone());
        let found = match (step.batch, &step.plan.stage) {
            (Some(batch), Some(stage)) => {
                let views = self.children(batch, &tenant, stage.trials.len()).await?;
                let expected = step.plan.wanted(&spec, stage);
                let same = |(view, wanted): (&JobView, &jesse::optimize::plan::Wanted)| {
                    view.result.as_ref().is_none_or(|result| *result == wanted.cache_key.to_string())
                };
                let shared = step.plan.children.cache != CacheMode::Off;
                step.drifted |= shared && !views.iter().zip(&expected).all(same);
                views.into_iter().map(found).collect::<Result<_, _>>()?
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
        let children = plan
            .wanted(spec, stage)
            .into_iter()
            .map(|wanted| Ok(Child { cache_key: wanted.cache_key, request: text(&wanted.spec)?, plan: 0 }));
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
        let count = |which: &dyn Fn(&jesse::optimize::plan::Trial) -> bool| {
            plan.trials.iter().filter(|trial| which(trial)).count()
        };
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
        self.store(claim, key, &body, &summary, &provenance).await
    }

    async fn step_of_walk_forward(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let spec: WalkForwardSpec = readable(claim, &claim.request)?;
        let mut step: Step<WalkForwardPlan> = readable(claim, &claim.plan)?;
        let tenant = TenantId::new(step.plan.children.tenant.clone());
        if let (Some(batch), Some(keys)) = (step.batch, &step.plan.submitted) {
            let views = self.children(batch, &tenant, spec.windows.len()).await?;
            let same = |(view, key): (&JobView, &jobs::CacheKey)| {
                view.result.as_ref().is_none_or(|result| *result == key.to_string())
            };
            let as_planned = views.iter().zip(keys).all(same);
            let found = views.into_iter().map(summary_of).collect::<Result<Vec<_>, _>>()?;
            let body = walk_forward::result(&spec, &found);
            let summary = json!({
                "windows": spec.windows.len(),
                "out_of_sample": body["out_of_sample"],
                "efficiency": body["efficiency"],
            });
            let key = step.plan.cache_key(&spec);
            let provenance = json!({"searches": keys, "cache_key": key});
            let shared = step.plan.children.cache != CacheMode::Off && as_planned;
            return self.store(claim, shared.then(|| key.to_string()), &body, &summary, &provenance).await;
        }
        let searches = step.plan.windows.iter().zip(&spec.windows);
        let keys: Vec<_> = searches.map(|(plan, spec)| plan.cache_key(spec)).collect();
        let child = |((plan, cache_key), spec): ((usize, &jobs::CacheKey), &OptimizeSpec)| {
            Ok(Child { cache_key: cache_key.clone(), request: text(spec)?, plan })
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

    /// Submits children. The same step, taken again after its worker was lost, finds its batch.
    async fn submit(
        &self,
        claim: &Claim,
        treat: &ForChildren,
        round: Round,
        (timeout_s, memory_mb): (u32, u32),
    ) -> Result<JobId, JobError> {
        let Round { number, kind, plans, children, shown } = round;
        let tags = Tags::new(treat.campaign.clone(), std::collections::BTreeMap::default())
            .map_err(|error| JobError::new(ErrorCode::Internal, error.to_string()))?;
        let mut content = blake3::Hasher::new();
        for child in &children {
            content.update(child.cache_key.to_string().as_bytes());
        }
        let batch = BatchSubmission {
            tenant: TenantId::new(treat.tenant.clone()),
            kind,
            treatment: Treatment {
                priority: treat.priority,
                cache: treat.cache,
                max_attempts: treat.max_attempts,
                timeout_s,
                slots: 1,
                memory_mb,
                tags,
                webhook: None,
            },
            on_failure: OnFailure::Continue,
            request: shown.to_string(),
            plans,
            children,
            // No client can choose such a key.
            idempotency: Some(Idempotency {
                key: format!("\u{1}round/{}/{number}", claim.run),
                fingerprint: content.finalize().to_hex().to_string(),
            }),
        };
        let (id, _) =
            self.queue.submit_batch(&batch).await.map_err(|error| self.unreachable(claim, &error))?;
        self.queue.open_soon(id);
        Ok(id)
    }

    /// All children of a batch, in their order.
    async fn children(
        &self,
        batch: JobId,
        tenant: &TenantId,
        expected: usize,
    ) -> Result<Vec<JobView>, JobError> {
        let mut views = Vec::with_capacity(expected);
        loop {
            let page = self.queue.children(batch, tenant, views.len(), PAGE).await;
            let (total, page) = page.map_err(|error| {
                JobError::new(ErrorCode::Internal, format!("the trials cannot be read: {error}")).retryable()
            })?;
            let last = page.is_empty();
            views.extend(page);
            if last || views.len() >= total {
                break;
            }
        }
        if views.len() == expected {
            return Ok(views);
        }
        let message = format!("{} of {expected} trials are there: the others have expired", views.len());
        Err(JobError::new(ErrorCode::Internal, message))
    }

    async fn progress(&self, claim: &Claim, fraction: f64, message: String) {
        let progress = Progress { fraction, message, eta_s: None };
        if let Err(error) = self.queue.progress(claim.run, claim.fence, &progress).await {
            tracing::debug!(run.id = %claim.run, error = chain(&error), "progress was not recorded");
        }
    }

    /// Stores the body under its key, or for this run alone.
    async fn store(
        &self,
        claim: &Claim,
        key: Option<String>,
        body: &Value,
        summary: &Value,
        provenance: &Value,
    ) -> Result<Outcome, JobError> {
        let body = body.to_string();
        let bytes = body.len();
        if bytes > self.max_result_bytes {
            let message =
                format!("the result has more than {} MB; try fewer trials", self.max_result_bytes >> 20);
            return Err(JobError::new(ErrorCode::ResultTooLarge, message));
        }
        let blob =
            self.blobs.results.put(body.into()).await.map_err(|error| self.unreachable(claim, &error))?;
        let provenance = RawValue::from_string(provenance.to_string())
            .map_err(|error| broken(claim, &format!("the receipt cannot be written: {error}")))?;
        Ok(Outcome::Succeeded(StoredResult {
            id: key.unwrap_or_else(|| claim.run.to_string()),
            summary: summary.to_string(),
            receipt: Receipt { blob, bytes: bytes as u64, provenance },
        }))
    }

    #[expect(clippy::unused_self, reason = "reads as one of the steps")]
    fn unreachable(&self, claim: &Claim, error: &(dyn std::error::Error + 'static)) -> JobError {
        tracing::warn!(run.id = %claim.run, error = chain(error), "a step could not be taken");
        let error = error.downcast_ref::<QueueError>().map_or_else(String::new, |error| format!(": {error}"));
        JobError::new(ErrorCode::Internal, format!("the next step could not be taken{error}")).retryable()
    }
}

/// Children about to be submitted.
struct Round {
    number: u32,
    kind: Kind,
    plans: Vec<String>,
    children: Vec<Child>,
    shown: Value,
}

fn found(view: JobView) -> Result<Found, JobError> {
    let metrics = summary_of(view)?;
    let metrics = metrics.map(|summary| {
        let chosen =
            SHOWN_METRICS.into_iter().filter_map(|name| Some((name, summary["metrics"].get(name)?.clone())));
        chosen.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
    });
    Ok(Found { metrics })
}

/// What a child found, or why it found nothing; an error if it was taken away.
fn summary_of(view: JobView) -> Result<Result<Value, String>, JobError> {
    match (view.state, view.summary, view.error) {
        (JobState::Succeeded, Some(summary), _) => {
            serde_json::from_str(summary.get()).map(Ok).map_err(|error| {
                JobError::new(
                    ErrorCode::Internal,
                    format!("the result of job {} cannot be read: {error}", view.job_id),
                )
            })
        }
        (JobState::Cancelled, ..) => {
            let message = format!("job {}, which is part of this one, was cancelled", view.job_id);
            Err(JobError::new(ErrorCode::BatchIncomplete, message))
        }
        (_, _, Some(error)) => Ok(Err(error.message)),
        (state, ..) => Ok(Err(format!("ended as {} without a result", state.as_str()))),
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

fn readable<T: DeserializeOwned>(claim: &Claim, text: &str) -> Result<T, JobError> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(run.id = %claim.run, %error, "a plan cannot be read");
        JobError::new(ErrorCode::Internal, "this worker cannot read the plan; it is of another version")
            .retryable()
    })
}

fn text(value: &impl Serialize) -> Result<String, JobError> {
    serde_json::to_string(value)
        .map_err(|error| JobError::new(ErrorCode::Internal, format!("a plan cannot be written: {error}")))
}

fn broken(claim: &Claim, what: &str) -> JobError {
    tracing::error!(run.id = %claim.run, what, "a plan is broken");
    JobError::new(ErrorCode::Internal, what)
}

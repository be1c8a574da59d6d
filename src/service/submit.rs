//! Accepting work: one backtest, a batch of them, or an old job again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jesse::{
    grid::Grid,
    plan::{BacktestPlan, Limits, Planned},
    spec::{BacktestRequest, BacktestSpec},
};
use jiff::Timestamp;
use jobs::{
    Accepted, BatchSubmission, CacheMode, Child, ErrorCode, Idempotency, JobId, JobState, JobView, Kind,
    OnFailure, Priority, Submission, Tags, TenantId, Treatment, holdouts::LOOKS,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    Service,
    campaigns::{MOST_TOGETHER, campaign_of},
    engines::Runnable,
    holdouts::{Reach, log_entry, looks_alone},
    wanted::{Checked, Prepared, Wanted},
};
use crate::{
    errors::{Code, ServiceError},
    settings::CacheScope,
};

/// After how many failed attempts a job is given up, unless it says otherwise.
pub(super) const MAX_ATTEMPTS: u32 = 3;
/// The most jobs of one batch.
pub const MOST_CHILDREN: usize = 50_000;
/// How many mistakes of a batch are told at once.
const MISTAKES_TOLD: usize = 20;

/// How a backtest is to be treated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitOptions {
    /// use (default), refresh or off
    #[serde(default)]
    #[schemars(with = "String")]
    pub cache: CacheMode,
    /// interactive, normal or batch
    #[serde(default)]
    #[schemars(with = "String")]
    pub priority: Option<Priority>,
    /// Seconds the run may take
    #[serde(default)]
    #[schemars(with = "u32")]
    pub timeout_s: Option<u32>,
    /// 1 to 10; default 3
    #[serde(default)]
    #[schemars(with = "u32")]
    pub max_attempts: Option<u32>,
    /// Name that groups trials of one idea
    #[serde(default)]
    #[schemars(with = "String")]
    pub campaign: Option<String>,
    /// Held-out days too; counted
    #[serde(default)]
    pub holdout: bool,
    /// Share held out; default 0.2
    #[serde(default)]
    #[schemars(with = "f64")]
    pub holdout_share: Option<f64>,
    /// Name to text, for job_list
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// URL to tell of the end
    #[serde(default)]
    #[schemars(with = "String")]
    pub webhook: Option<String>,
    /// The id of the key that asks, for the log of looks at what is held out. Not a client's to say.
    #[serde(skip)]
    pub by: Option<std::sync::Arc<str>>,
}

/// The jobs of a batch, one by one, or as a grid.
#[derive(Debug)]
pub struct BatchRequest {
    /// The backtests.
    pub jobs: Vec<serde_json::Value>,
    /// Instead of jobs: a list of values for each field, of which every combination is run.
    pub grid: Option<Grid>,
    /// What all have in common.
    pub base: serde_json::Map<String, serde_json::Value>,
    /// What follows when one fails.
    pub on_failure: OnFailure,
}

/// When a job may start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// Not after.
    pub deadline: Option<Timestamp>,
}

impl Window {
    fn check(self) -> Result<Self, ServiceError> {
        let Self { run_at, deadline } = self;
        let invalid = |message: &str| Err(ServiceError::new(Code::InvalidRequest, message));
        if deadline.is_some_and(|deadline| deadline <= run_at.unwrap_or_default().max(Timestamp::now())) {
            return invalid("deadline: must be in the future, and after run_at");
        }
        if run_at.is_some_and(|run_at| run_at > Timestamp::now() + jiff::Span::new().hours(366 * 24)) {
            return invalid("run_at: must be within a year");
        }
        Ok(self)
    }
}

impl Service {
    /// Accepts a job: in milliseconds it is either refused with what is wrong, or durable under its id.
    pub async fn submit(
        &self,
        tenant: &TenantId,
        wanted: &Wanted,
        options: &SubmitOptions,
        window: Window,
        idempotency: Option<Idempotency>,
    ) -> Result<(JobId, Accepted), ServiceError> {
        let runnable = self.runnable().await?;
        let checked = Checked::of(wanted, &runnable)?;
        self.submit_checked(tenant, (checked, &runnable), options, window, idempotency, None).await
    }

    async fn submit_checked(
        &self,
        tenant: &TenantId,
        (checked, runnable): (Checked, &Runnable),
        options: &SubmitOptions,
        window: Window,
        idempotency: Option<Idempotency>,
        instead_of: Option<JobId>,
    ) -> Result<(JobId, Accepted), ServiceError> {
        let Window { run_at, deadline } = window.check()?;
        self.check_webhook(options)?;
        let limits = self.limits(options)?;
        let mut treatment = treatment(options, Priority::Normal, limits)?;
        let prepared = self.prepare(tenant, &checked, runnable, options, (limits, &[])).await?;
        let looks = self.admit(tenant, options, &prepared.reach).await?;
        treatment.looks = log_entry(&looks, &prepared.reach, prepared.kind, options);
        let prepared = if looks.is_empty() {
            prepared
        } else {
            self.prepare(tenant, &checked, runnable, options, (limits, &looks)).await?
        };
        let Prepared { kind, request, plan, cache_key, memory_mb, trial_of, reach: _ } = prepared;
        treatment.memory_mb = memory_mb;
        if kind == Kind::CandlesImport {
            // What an exchange has changes from minute to minute: only an import in flight is joined.
            treatment.cache = CacheMode::Refresh;
        }
        let submission = Submission {
            tenant: tenant.clone(),
            kind,
            treatment,
            request,
            plan,
            cache_key,
            start_at_ms: run_at.map(Timestamp::as_millisecond),
            deadline_ms: deadline.map(Timestamp::as_millisecond),
            idempotency,
            instead_of,
            trial_of,
        };
        Ok(self.inner.queue.submit(&submission).await?)
    }

    /// Accepts a batch, all of it or, if one of its jobs cannot run, nothing.
    pub async fn submit_batch(
        &self,
        tenant: &TenantId,
        request: BatchRequest,
        options: &SubmitOptions,
        idempotency: Option<Idempotency>,
    ) -> Result<(JobId, Accepted), ServiceError> {
        let limits = self.limits(options)?;
        self.check_webhook(options)?;
        let mut treatment = treatment(options, Priority::Batch, limits)?;
        let mut shown = json!({"base": &request.base, "grid": &request.grid, "jobs": request.jobs.len()});
        let on_failure = request.on_failure;
        let runnable = self.runnable().await?;
        let mut readable = Vec::new();
        let mut numbers = Vec::new();
        for request in requests(request)? {
            let request = match request {
                serde_json::Value::Object(_) => {
                    serde_json::from_value::<BacktestRequest>(request).map_err(|error| error.to_string())
                }
                _ => Err("must be an object".to_owned()),
            };
            numbers.push(request.map(|request| readable.push(request)));
        }
        let (mut mistakes, mut campaigns) = (Mistakes::default(), BTreeSet::new());
        let mut reach = Reach::default();
        let (mut plans, mut known, mut children) =
            (Vec::new(), HashMap::new(), Vec::with_capacity(readable.len()));
        let mut planned = self.plan_all(&runnable, &readable, limits).await?.into_iter();
        for (number, read) in numbers.into_iter().enumerate() {
            let outcome = match read {
                Ok(()) => planned.next().map(|planned| planned.map_err(|error| error.message)),
                Err(message) => Some(Err(message)),
            };
            match outcome {
                Some(Ok(planned)) => {
                    let Planned { spec, mut plan, cache_key } = self.scoped(planned, tenant);
                    plan.shared = is_shared(&plan, options.cache);
                    let plan = json_text(&plan)?;
                    let index = *known.entry(plan.clone()).or_insert(plans.len());
                    if index == plans.len() {
                        plans.push(plan);
                    }
                    reach.add(&spec);
                    let trial_of = vec![campaign_of(options.campaign.as_deref(), &spec)];
                    if campaigns.len() < MOST_TOGETHER {
                        campaigns.extend(trial_of.iter().cloned());
                    }
                    children.push(Child { cache_key, request: json_text(&spec)?, plan: index, trial_of });
                }
                Some(Err(message)) => mistakes.note(number, &message),
                None => mistakes.note(number, "was not planned"),
            }
        }
        mistakes.check()?;
        let looks = self.admit(tenant, options, &reach).await.map_err(|mut error| {
            if error.code == Code::HeldOut {
                error.message.insert_str(0, "nothing was accepted: ");
            }
            error
        })?;
        treatment.looks = log_entry(&looks, &reach, Kind::Backtest, options);
        if !looks.is_empty() {
            for child in &mut children {
                let spec: BacktestSpec = serde_json::from_str(&child.request)
                    .map_err(|error| ServiceError::internal("a planned backtest cannot be read", &error))?;
                let seen = looks.iter().filter(|look| look.is_seen_by(&spec)).cloned().collect::<Vec<_>>();
                child.trial_of.extend(looks_alone(&seen));
            }
        }
        if options.campaign.is_none() {
            shown["campaigns"] = json!(campaigns);
        }
        let batch = BatchSubmission {
            tenant: tenant.clone(),
            kind: Kind::Backtest,
            treatment,
            on_failure,
            request: shown.to_string(),
            plans,
            children,
            idempotency,
        };
        let (id, accepted) = self.inner.queue.submit_batch(&batch).await?;
        self.inner.queue.open_soon(id);
        Ok((id, accepted))
    }

    /// Submits what an ended job asked for once more, on the code and candles of today. A repeat answers the same new
    /// job.
    pub async fn requeue(&self, tenant: &TenantId, job: JobId) -> Result<JobId, ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        let refused = |message: String| Err(ServiceError::new(Code::NotRequeueable, message));
        if !view.state.is_terminal() || view.state == JobState::Succeeded {
            let message = format!(
                "the job is {}; only one that ended without a result can be run again",
                view.state.as_str()
            );
            return refused(message);
        }
        if view.kind == Kind::StrategyValidate {
            return refused(
                "a validation is not run again as it was; validate the strategy once more".into(),
            );
        }
        // No client can choose such a key.
        let once = Idempotency { key: format!("\u{1}requeue/{job}"), fingerprint: String::new() };
        let cache = view.details.cache;
        self.submit_as(tenant, view, cache, Some(once), Some(job)).await
    }

    /// Runs an ended job once more: one without a result as [`Service::requeue`] does, one with a result computed anew.
    pub async fn run_again(&self, tenant: &TenantId, job: JobId) -> Result<JobId, ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        if view.state != JobState::Succeeded {
            return self.requeue(tenant, job).await;
        }
        self.submit_as(tenant, view, CacheMode::Refresh, None, None).await
    }

    /// Submits what a job asked for, treated as it was.
    async fn submit_as(
        &self,
        tenant: &TenantId,
        view: JobView,
        cache: CacheMode,
        once: Option<Idempotency>,
        instead_of: Option<JobId>,
    ) -> Result<JobId, ServiceError> {
        let runnable = self.runnable().await?;
        let checked = Checked::of_job(view.kind, view.request.get())?;
        let details = view.details;
        let options = SubmitOptions {
            cache,
            priority: Some(details.priority),
            // A limit may have been lowered since.
            timeout_s: Some(details.timeout_s.min(self.inner.limits.wall_s)),
            max_attempts: Some(details.max_attempts),
            campaign: view.tags.campaign().map(str::to_owned),
            // What it was allowed to see, it sees again.
            holdout: details.holdout,
            holdout_share: None,
            by: None,
            labels: view.tags.labels().clone(),
            webhook: view.webhook,
        };
        let again = (checked, &runnable);
        let window = Window::default();
        Ok(self.submit_checked(tenant, again, &options, window, once, instead_of).await?.0)
    }

    /// With results and runs in flight shared by as many as the deployment wants.
    pub(super) fn scoped(&self, planned: Planned, tenant: &TenantId) -> Planned {
        match self.inner.scope {
            CacheScope::Deployment => planned,
            CacheScope::Tenant => planned.of_tenant(tenant),
        }
    }

    fn limits(&self, options: &SubmitOptions) -> Result<Limits, ServiceError> {
        let most = self.inner.limits;
        let wall_s = options.timeout_s.unwrap_or(most.wall_s);
        if !(1..=most.wall_s).contains(&wall_s) {
            let message = format!("timeout_s: must be from 1 to {}", most.wall_s);
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        if options.max_attempts.is_some_and(|attempts| !(1..=10).contains(&attempts)) {
            return Err(ServiceError::new(Code::InvalidRequest, "max_attempts: must be from 1 to 10"));
        }
        Ok(Limits { wall_s, cpu_s: wall_s, ..most })
    }
}

/// Whether the result may answer others: not that of a server whose results are never to be used again.
pub(super) fn is_shared(plan: &BacktestPlan, cache: CacheMode) -> bool {
    cache != CacheMode::Off && plan.server.as_ref().is_none_or(|server| server.cache_ttl_s > 0)
}

fn treatment(options: &SubmitOptions, priority: Priority, limits: Limits) -> Result<Treatment, ServiceError> {
    let tags = Tags::new(options.campaign.clone(), options.labels.clone())
        .map_err(|error| ServiceError::new(Code::InvalidRequest, error.to_string()))?;
    if tags.campaign().is_some_and(|name| name.starts_with(LOOKS)) {
        let message = format!(
            "campaign: must not begin with {LOOKS:?}, under which looks at held-out days are counted"
        );
        return Err(ServiceError::new(Code::InvalidRequest, message));
    }
    Ok(Treatment {
        priority: options.priority.unwrap_or(priority),
        cache: options.cache,
        max_attempts: options.max_attempts.unwrap_or(MAX_ATTEMPTS),
        timeout_s: limits.wall_s,
        slots: 1,
        memory_mb: limits.memory_mb,
        tags,
        webhook: options.webhook.clone(),
        looks: None,
    })
}

/// The requests of a batch, each an object.
fn requests(batch: BatchRequest) -> Result<Vec<serde_json::Value>, ServiceError> {
    let BatchRequest { jobs, grid, base, .. } = batch;
    let invalid = |message: String| ServiceError::new(Code::InvalidRequest, message);
    let requests = match grid {
        Some(_) if !jobs.is_empty() => return Err(invalid("jobs, grid: give one of the two".into())),
        Some(grid) => grid.expand(&base, MOST_CHILDREN).map_err(|error| invalid(format!("grid: {error}")))?,
        None => jobs
            .into_iter()
            .map(|job| match job {
                serde_json::Value::Object(own) => {
                    let mut all = base.clone();
                    all.extend(own);
                    all.into()
                }
                other => other,
            })
            .collect(),
    };
    if !(1..=MOST_CHILDREN).contains(&requests.len()) {
        return Err(invalid(format!("a batch has 1 to {MOST_CHILDREN} jobs, not {}", requests.len())));
    }
    Ok(requests)
}

/// What is wrong with the jobs of a batch.
#[derive(Default)]
struct Mistakes {
    told: Vec<serde_json::Value>,
    count: usize,
}

impl Mistakes {
    fn note(&mut self, number: usize, message: &str) {
        self.count += 1;
        if self.told.len() < MISTAKES_TOLD {
            self.told.push(json!({"field": format!("jobs[{number}]"), "message": message}));
        }
    }

    fn check(self) -> Result<(), ServiceError> {
        let Some(first) = self.told.first() else { return Ok(()) };
        let (field, message) =
            (first["field"].as_str().unwrap_or_default(), first["message"].as_str().unwrap_or_default());
        let message = format!(
            "{} of the batch's jobs cannot run, so nothing was accepted; {field}: {message}",
            self.count
        );
        let mut error = ServiceError::new(Code::Job(ErrorCode::InvalidSpec), message);
        error.detail = json!({"errors": self.told});
        Err(error)
    }
}

pub(super) fn json_text<T: serde::Serialize>(value: &T) -> Result<String, ServiceError> {
    serde_json::to_string(value).map_err(|error| ServiceError::internal("a plan cannot be written", &error))
}

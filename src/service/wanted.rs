//! What a job may be asked to compute, and what that takes.

use access::Scope;
use analysis::spec::{self, Analysis};
use jesse::{
    candles::{
        Source,
        exchange::job::{ImportRequest, ImportSpec},
        store::StoreError,
    },
    catalogue::Catalogue,
    monte_carlo::{MonteCarloPlan, MonteCarloRequest, MonteCarloSpec},
    optimize::{
        plan::OptimizePlan,
        spec::{OptimizeRequest, OptimizeSpec},
        walk_forward::{WalkForwardPlan, WalkForwardRequest, WalkForwardSpec},
    },
    parent::{ForChildren, Holdout},
    plan::{BacktestPlan, Limits, Planned},
    significance::{SignificanceRequest, SignificanceSpec},
    spec::{BacktestRequest, BacktestSpec},
};
use jobs::{CacheKey, CacheMode, ErrorCode, Kind, Priority, TenantId};
use serde::Serialize;
use serde_json::Value;

use super::{
    Service,
    campaigns::campaign_of,
    engines::Runnable,
    holdouts::{Reach, looks_alone},
    submit::{MAX_ATTEMPTS, SubmitOptions, is_shared, json_text},
};
use crate::errors::{Code, ServiceError};

/// What a client asks a job to compute.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// One backtest.
    Backtest(Box<BacktestRequest>),
    /// A search for hyperparameters.
    Optimize(Box<OptimizeRequest>),
    /// Searches over a sliding window.
    WalkForward(Box<WalkForwardRequest>),
    /// A backtest on altered histories.
    MonteCarlo(Box<MonteCarloRequest>),
    /// A test of a strategy's signals.
    SignificanceTest(Box<SignificanceRequest>),
    /// Candles from an exchange.
    CandlesImport(ImportRequest),
    /// A risk analysis.
    Analysis(Box<spec::Checked>),
}

/// A job as the queue takes it.
pub(super) struct Prepared {
    pub(super) kind: Kind,
    pub(super) request: String,
    pub(super) plan: String,
    pub(super) cache_key: CacheKey,
    /// Megabytes that a run of it takes.
    pub(super) memory_mb: u32,
    /// The campaigns whose trial it is.
    pub(super) trial_of: Vec<String>,
    /// What it reads.
    pub(super) reach: Reach,
}

impl Prepared {
    /// A parent: its own run is a step that only submits other jobs, and these are the trials.
    fn parent(
        kind: Kind,
        spec: &impl Serialize,
        plan: &impl Serialize,
        cache_key: CacheKey,
        reach: Reach,
    ) -> Result<Self, ServiceError> {
        let (request, plan) = (json_text(spec)?, json_text(plan)?);
        Ok(Self { kind, request, plan, cache_key, memory_mb: STEP_MB, trial_of: Vec::new(), reach })
    }
}

/// Who asks, and how what is asked is to be treated.
pub(super) struct Asked<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) runnable: &'a Runnable,
    pub(super) options: &'a SubmitOptions,
    pub(super) limits: Limits,
    /// The held-out days that it may look at.
    pub(super) looks: &'a [Holdout],
}

/// A step of a parent only submits other jobs.
const STEP_MB: u32 = 64;
/// An import is a process with Jesse in it, and a month of candles.
const IMPORT_MB: u32 = 512;

impl Wanted {
    /// Reads the spec of a job of this kind.
    pub fn parse(kind: Kind, spec: Value) -> Result<Self, ServiceError> {
        let invalid = |message: String| ServiceError::new(Code::Job(ErrorCode::InvalidSpec), message);
        let fields = |spec: Value| match spec {
            Value::Object(fields) => Ok(fields),
            _ => Err(invalid("must be an object".into())),
        };
        match kind {
            Kind::Backtest => serde_json::from_value(Value::Object(fields(spec)?))
                .map(|request| Self::Backtest(Box::new(request)))
                .map_err(|error| invalid(error.to_string())),
            Kind::Optimize => Ok(Self::Optimize(Box::new(OptimizeRequest::parse(fields(spec)?)?))),
            Kind::WalkForward => Ok(Self::WalkForward(Box::new(WalkForwardRequest::parse(fields(spec)?)?))),
            Kind::SignificanceTest => {
                Ok(Self::SignificanceTest(Box::new(SignificanceRequest::parse(fields(spec)?)?)))
            }
            Kind::MonteCarlo => {
                let mut fields = fields(spec)?;
                if spec::is_analysis(kind, &fields) {
                    return Ok(Self::Analysis(Box::new(Analysis::check(kind, fields)?)));
                }
                match fields.remove("method") {
                    None => {}
                    Some(method) if method == "candles" => {}
                    Some(_) => {
                        return Err(invalid(
                            "method: returns and trades need a job_id (or jobs, or returns); without one, candles are altered".into(),
                        ));
                    }
                }
                Ok(Self::MonteCarlo(Box::new(MonteCarloRequest::parse(fields)?)))
            }
            Kind::RiskReport
            | Kind::VarCalculation
            | Kind::StressTest
            | Kind::CorrelationMatrix
            | Kind::PairsBacktest
            | Kind::FactorAnalysis
            | Kind::RegimeDetector
            | Kind::AnalyzeResults => Ok(Self::Analysis(Box::new(Analysis::check(kind, fields(spec)?)?))),
            Kind::CandlesImport => Ok(Self::CandlesImport(ImportRequest::parse(fields(spec)?)?)),
            Kind::Batch | Kind::StrategyValidate => {
                Err(invalid(format!("a {} has a call of its own", kind.as_str())))
            }
        }
    }
}

impl Wanted {
    /// The scope that a key needs beside the one for jobs.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::CandlesImport(_) => Some(Scope::CandlesWrite),
            Self::Backtest(_)
            | Self::Optimize(_)
            | Self::WalkForward(_)
            | Self::MonteCarlo(_)
            | Self::SignificanceTest(_)
            | Self::Analysis(_) => None,
        }
    }
}

/// What was checked already.
pub(super) enum Checked {
    /// Checked as it is planned, by the engine that can run it.
    Backtest(Box<BacktestRequest>),
    Optimize(Box<OptimizeSpec>),
    WalkForward(WalkForwardSpec),
    MonteCarlo(Box<MonteCarloSpec>),
    SignificanceTest(Box<SignificanceSpec>),
    CandlesImport(ImportSpec),
    Analysis(Box<spec::Checked>),
}

impl Checked {
    pub(super) fn of(wanted: &Wanted, runnable: &Runnable) -> Result<Self, ServiceError> {
        Ok(match wanted {
            Wanted::Backtest(request) => Self::Backtest(request.clone()),
            Wanted::Optimize(request) => {
                Self::Optimize(Box::new(OptimizeSpec::check(request, runnable.runners()?)?))
            }
            Wanted::WalkForward(request) => {
                Self::WalkForward(WalkForwardSpec::check(request, runnable.runners()?)?)
            }
            Wanted::MonteCarlo(request) => {
                Self::MonteCarlo(Box::new(MonteCarloSpec::check(request, runnable.runners()?)?))
            }
            Wanted::SignificanceTest(request) => {
                Self::SignificanceTest(Box::new(SignificanceSpec::check(request, runnable.runners()?)?))
            }
            Wanted::CandlesImport(request) => {
                Self::CandlesImport(ImportSpec::check(request, runnable.runners()?)?)
            }
            Wanted::Analysis(checked) => Self::Analysis(checked.clone()),
        })
    }

    /// What a job of this kind has as its request.
    pub(super) fn of_job(kind: Kind, request: &str) -> Result<Self, ServiceError> {
        // Those of Monte Carlo on candles have no analysis in them.
        if let Ok(analysis) = serde_json::from_str::<Analysis>(request) {
            return Ok(Self::Analysis(Box::new(spec::Checked { analysis, returns: None })));
        }
        let unreadable =
            |error: serde_json::Error| ServiceError::internal("a stored request cannot be read", &error);
        Ok(match kind {
            Kind::Backtest => Self::Backtest(Box::new(serde_json::from_str(request).map_err(unreadable)?)),
            Kind::Optimize => Self::Optimize(Box::new(serde_json::from_str(request).map_err(unreadable)?)),
            Kind::WalkForward => Self::WalkForward(serde_json::from_str(request).map_err(unreadable)?),
            Kind::MonteCarlo => {
                Self::MonteCarlo(Box::new(serde_json::from_str(request).map_err(unreadable)?))
            }
            Kind::SignificanceTest => {
                Self::SignificanceTest(Box::new(serde_json::from_str(request).map_err(unreadable)?))
            }
            Kind::RiskReport
            | Kind::VarCalculation
            | Kind::StressTest
            | Kind::CorrelationMatrix
            | Kind::PairsBacktest
            | Kind::FactorAnalysis
            | Kind::RegimeDetector
            | Kind::AnalyzeResults => {
                let message = "the analysis was of another version; submit it anew";
                return Err(ServiceError::new(Code::NotRequeueable, message));
            }
            Kind::CandlesImport => {
                let message = "an import goes on where it stopped when it is submitted anew";
                return Err(ServiceError::new(Code::NotRequeueable, message));
            }
            Kind::Batch | Kind::StrategyValidate => {
                let message = "a batch is not run again as a whole; list its jobs and requeue those";
                return Err(ServiceError::new(Code::NotRequeueable, message));
            }
        })
    }
}

impl Service {
    /// Pins code and candles, and works out the key of the result. `looks` are the held-out days that it may look at.
    pub(super) async fn prepare(
        &self,
        tenant: &TenantId,
        checked: &Checked,
        runnable: &Runnable,
        options: &SubmitOptions,
        (limits, looks): (Limits, &[Holdout]),
    ) -> Result<Prepared, ServiceError> {
        let shared = options.cache != CacheMode::Off;
        match checked {
            Checked::Backtest(request) => {
                let planned = self.plan(runnable, request, limits).await?;
                let Planned { spec, mut plan, cache_key } = self.scoped(planned, tenant);
                plan.shared = is_shared(&plan, options.cache);
                let mut trial_of = vec![campaign_of(options.campaign.as_deref(), &spec)];
                trial_of.extend(looks_alone(looks));
                let (request, plan, reach) = (json_text(&spec)?, json_text(&plan)?, Reach::of([&spec]));
                let (kind, memory_mb) = (Kind::Backtest, limits.memory_mb);
                Ok(Prepared { kind, request, plan, cache_key, memory_mb, trial_of, reach })
            }
            Checked::Optimize(spec) => {
                let children = trials_of(tenant, options, spec, looks);
                let plan = self.plan_search(spec, runnable.runners()?, limits, children).await?;
                let cache_key = plan.cache_key(spec);
                Prepared::parent(Kind::Optimize, spec, &plan, cache_key, Reach::of(spec.periods()))
            }
            Checked::WalkForward(spec) => {
                let catalogue = runnable.runners()?;
                let children = match spec.windows.first() {
                    Some(first) => trials_of(tenant, options, first, looks),
                    None => for_children(tenant, options),
                };
                let mut windows = Vec::with_capacity(spec.windows.len());
                for window in &spec.windows {
                    windows.push(self.plan_search(window, catalogue, limits, children.clone()).await?);
                }
                let plan = WalkForwardPlan { windows, children, submitted: None };
                let cache_key = plan.cache_key(spec);
                let reach = Reach::of(spec.windows.iter().flat_map(OptimizeSpec::periods));
                Prepared::parent(Kind::WalkForward, spec, &plan, cache_key, reach)
            }
            Checked::MonteCarlo(spec) => {
                let catalogue = runnable.runners()?;
                let backtest =
                    self.plan_on_runner(tenant, spec.backtest.clone(), catalogue, limits, shared).await?.plan;
                let plan = MonteCarloPlan { backtest, children: for_children(tenant, options) };
                let (cache_key, reach) = (plan.cache_key(spec), Reach::of([&spec.backtest]));
                let prepared = Prepared::parent(Kind::MonteCarlo, spec, &plan, cache_key, reach)?;
                Ok(Prepared { trial_of: looks_alone(looks), ..prepared })
            }
            Checked::SignificanceTest(spec) => {
                let catalogue = runnable.runners()?;
                let planned =
                    self.plan_on_runner(tenant, spec.backtest.clone(), catalogue, limits, shared).await?;
                let cache_key = spec.cache_key(&planned.plan, &planned.plan.engine);
                let (kind, memory_mb) = (Kind::SignificanceTest, limits.memory_mb);
                let (request, plan) = (json_text(spec)?, json_text(&planned.plan)?);
                let (trial_of, reach) = (looks_alone(looks), Reach::of([&spec.backtest]));
                Ok(Prepared { kind, request, plan, cache_key, memory_mb, trial_of, reach })
            }
            Checked::Analysis(checked) => {
                let asked = Asked { tenant, runnable, options, limits, looks };
                self.prepare_analysis((**checked).clone(), &asked, shared).await
            }
            Checked::CandlesImport(spec) => self.prepare_import(spec).await,
        }
    }

    /// What can be told without asking anybody: whether it is allowed, and whether the series takes candles of a market.
    async fn prepare_import(&self, spec: &ImportSpec) -> Result<Prepared, ServiceError> {
        if !self.inner.imports {
            let message = "candles cannot be fetched from exchanges here; whoever runs this server can allow it with --candle-imports \
                           on (JESSE_JOBS_CANDLE_IMPORTS), or import them with `jesse-jobs candles import`";
            return Err(ServiceError::new(Code::ImportsNotAllowed, message));
        }
        self.inner.candles.manifest_for(&spec.series, Source::Imported).await.map_err(
            |error| match error {
                StoreError::Queue(error) => ServiceError::from(error),
                error => ServiceError::new(Code::Job(ErrorCode::InvalidSpec), format!("symbol: {error}")),
            },
        )?;
        Ok(Prepared {
            kind: Kind::CandlesImport,
            request: json_text(spec)?,
            plan: "{}".into(),
            cache_key: spec.cache_key(),
            memory_mb: IMPORT_MB,
            trial_of: Vec::new(),
            reach: Reach::default(),
        })
    }

    async fn plan_on_runner(
        &self,
        tenant: &TenantId,
        spec: BacktestSpec,
        catalogue: &Catalogue,
        limits: Limits,
        shared: bool,
    ) -> Result<Planned, ServiceError> {
        let mut planned = self.scoped(self.inner.planner.plan(spec, catalogue, limits).await?, tenant);
        planned.plan.shared = shared;
        Ok(planned)
    }

    async fn plan_search(
        &self,
        spec: &OptimizeSpec,
        catalogue: &Catalogue,
        limits: Limits,
        children: ForChildren,
    ) -> Result<OptimizePlan, ServiceError> {
        let shared = children.cache != CacheMode::Off;
        let tenant = TenantId::new(children.tenant.clone());
        let plan = async |spec: Option<&BacktestSpec>| -> Result<Option<BacktestPlan>, ServiceError> {
            let Some(spec) = spec else { return Ok(None) };
            Ok(Some(self.plan_on_runner(&tenant, spec.clone(), catalogue, limits, shared).await?.plan))
        };
        let train = self.plan_on_runner(&tenant, spec.train.clone(), catalogue, limits, shared).await?.plan;
        let (test, trial_run) = (plan(spec.test.as_ref()).await?, plan(spec.trial_run.as_ref()).await?);
        Ok(OptimizePlan { train, test, trial_run, children, trials: Vec::new(), stage: None })
    }
}

pub(super) fn for_children(tenant: &TenantId, options: &SubmitOptions) -> ForChildren {
    ForChildren {
        tenant: tenant.to_string(),
        priority: options.priority.unwrap_or(Priority::Normal),
        cache: options.cache,
        max_attempts: options.max_attempts.unwrap_or(MAX_ATTEMPTS),
        campaign: options.campaign.clone(),
        trial_of: None,
        holdouts: Vec::new(),
    }
}

/// The same for children that are trials: each counts in the ledger.
fn trials_of(
    tenant: &TenantId,
    options: &SubmitOptions,
    search: &OptimizeSpec,
    looks: &[Holdout],
) -> ForChildren {
    let trial_of = Some(campaign_of(options.campaign.as_deref(), &search.train));
    ForChildren { trial_of, holdouts: looks.to_vec(), ..for_children(tenant, options) }
}

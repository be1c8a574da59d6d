//! Pinning what a risk analysis is computed from.

use analysis::{
    inputs::{Pinned, PinnedResult, Runs},
    report::{self, Document},
    source::Source,
    spec::{Analysis, Checked},
};
use jesse::{
    catalogue::{Engine, Exchange},
    pair,
    parent::ForChildren,
    plan::{BacktestPlan, PlannedSeries, key_of_tenant},
    spec::BacktestSpec,
};
use jobs::{JobId, JobState, Kind, TenantId, blobs::BlobId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ResultBody, Service,
    campaigns::campaign_of,
    holdouts::{Reach, looks_alone},
    submit::json_text,
    wanted::{Asked, Prepared, for_children},
};
use crate::{
    errors::{Code, ServiceError},
    settings::CacheScope,
};

/// Megabytes that an analysis may take: bodies of results, closes, and what is simulated.
const ANALYSIS_MB: u32 = 512;

/// What of a result's receipt it can be computed from again. A result of Jesse's server has less.
#[derive(Deserialize)]
struct Provenance {
    bundles: Vec<BlobId>,
    candles: Vec<PlannedSeries>,
    engine: Engine,
    exchange: Exchange,
}

/// Why a result cannot be computed again.
const NOT_AGAIN: &str = "the result is not the runner's own, so that its code and candles are not kept: backtest with another fee instead";

impl Service {
    /// Pins results and candles, plans the backtests that it has run, and works out the key of the answer.
    pub(super) async fn prepare_analysis(
        &self,
        checked: Checked,
        asked: &Asked<'_>,
        shared: bool,
    ) -> Result<Prepared, ServiceError> {
        let tenant = asked.tenant;
        let Checked { mut analysis, returns } = checked;
        if returns.is_none() && matches!(analysis.source, Some(Source::Returns { .. })) {
            let message = "the returns that it was computed from are not kept; submit them again";
            return Err(ServiceError::new(Code::NotRequeueable, message));
        }
        let mut pinned = Pinned { returns, shared, ..Pinned::default() };
        let mut again = None;
        for part in analysis.source.as_ref().map(Source::parts).unwrap_or_default() {
            let (result, provenance) = self.pin_result(tenant, part.job_id).await?;
            again = provenance;
            pinned.results.push(result);
        }
        // Candles beside a result are over its time: the result was the look.
        let mut reach = Reach::default();
        if let Some(candles) = &analysis.candles
            && let (Some(start), Some(finish)) = (candles.start_date, candles.finish_date)
        {
            candles.series.iter().for_each(|series| reach.add_series(series.clone(), (start, finish)));
        }
        analysis.resolve(&pinned)?;
        if let Some(candles) = &analysis.candles {
            let range = candles.range_ms()?;
            pinned.candles = self.inner.planner.pin(&candles.series, range, candles.allow_gaps).await?;
        }
        match self.plan_runs(&analysis, &pinned, again, asked).await? {
            Some(Ok(runs)) => pinned.runs = Some(Box::new(runs)),
            Some(Err(why)) => pinned.not_run = Some(why),
            None => {}
        }
        // Where a pair is traded, the backtest is the look.
        let traded = pinned.runs.as_ref().is_some_and(|runs| !runs.children.holdouts.is_empty());
        let trial_of = if traded { Vec::new() } else { looks_alone(asked.looks) };
        let key = analysis.cache_key(&pinned);
        let cache_key = match self.inner.scope {
            CacheScope::Deployment => key,
            CacheScope::Tenant => key_of_tenant(&key, tenant),
        };
        pinned.cache_key = Some(cache_key.to_string());
        let (request, plan) = (json_text(&analysis)?, json_text(&pinned)?);
        Ok(Prepared {
            kind: analysis.kind(),
            request,
            plan,
            cache_key,
            memory_mb: ANALYSIS_MB,
            trial_of,
            reach,
        })
    }

    /// The backtests of an analysis, or why it has none although it would have some.
    async fn plan_runs(
        &self,
        analysis: &Analysis,
        pinned: &Pinned,
        again: Option<Provenance>,
        asked: &Asked<'_>,
    ) -> Result<Option<Result<Runs, String>>, ServiceError> {
        if analysis.trades_a_pair() {
            return self.plan_pair(analysis, asked).await.map(Some);
        }
        let [result] = &pinned.results[..] else { return Ok(None) };
        if !analysis.runs_again() {
            return Ok(None);
        }
        let runs = again.map(|provenance| self.plan_again(&result.backtest, provenance, asked));
        Ok(Some(runs.ok_or_else(|| NOT_AGAIN.to_owned())))
    }

    /// The backtest of a pair, which is a trial of its campaign.
    async fn plan_pair(
        &self,
        analysis: &Analysis,
        asked: &Asked<'_>,
    ) -> Result<Result<Runs, String>, ServiceError> {
        let catalogue = match asked.runnable.runners() {
            Ok(catalogue) => catalogue,
            Err(error) => return Ok(Err(error.message)),
        };
        let packed =
            pair::packed().map_err(|error| ServiceError::internal("a pair cannot be packed", &error))?;
        let bundle = BlobId::of(&packed);
        let catalogue = pair::catalogue(catalogue, bundle);
        let backtest = match analysis.pair_backtest(&catalogue) {
            Ok(backtest) => backtest,
            Err(why) => return Ok(Err(why)),
        };
        // Each time, so that it is young: nothing but this job refers to it.
        self.inner.inputs.put(packed.into()).await.map_err(jobs::QueueError::from)?;
        let planned = self.inner.planner.plan(backtest, &catalogue, asked.limits).await?;
        let campaign = campaign_of(asked.options.campaign.as_deref(), &planned.spec);
        let children = ForChildren {
            trial_of: Some(campaign),
            holdouts: asked.looks.to_vec(),
            ..for_children(asked.tenant, asked.options)
        };
        let planned = self.scoped(planned, asked.tenant);
        let mut plan = planned.plan;
        plan.shared = super::submit::is_shared(&plan, asked.options.cache);
        Ok(Ok(Runs { backtest: planned.spec, plan, children, batch: None }))
    }

    /// A backtest once more, on the code and candles of its result.
    fn plan_again(&self, backtest: &BacktestSpec, from: Provenance, asked: &Asked<'_>) -> Runs {
        let Provenance { bundles, candles, engine, exchange } = from;
        let children = for_children(asked.tenant, asked.options);
        let plan = BacktestPlan {
            exchange,
            bundles,
            series: candles,
            engine,
            limits: asked.limits,
            shared: asked.options.cache != jobs::CacheMode::Off,
            tenant: (self.inner.scope == CacheScope::Tenant).then(|| asked.tenant.clone()),
            server: None,
        };
        Runs { backtest: backtest.clone(), plan, children, batch: None }
    }

    /// The page of a risk report, with the hash of the figures that it shows.
    pub async fn risk_report(
        &self,
        tenant: &TenantId,
        job: JobId,
    ) -> Result<(BlobId, Document), ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        if view.kind != Kind::RiskReport {
            let message = format!("job {job} is a {}; only a risk_report has pages", view.kind.as_str());
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        let ResultBody { blob, fields, .. } = self.result(tenant, job).await?;
        let unreadable = |error| ServiceError::internal("a stored report cannot be read", &error);
        let parsed = fields
            .into_iter()
            .map(|(name, text)| serde_json::from_str::<Value>(text.get()).map(|value| (name, value)));
        let body = parsed.collect::<Result<Map<_, _>, _>>().map_err(unreadable)?;
        Ok((blob, report::document(&Value::Object(body), None)))
    }

    /// The result of a backtest as it is stored now, and what it can be computed from again. Another tenant's job is not told from
    /// one that does not exist.
    async fn pin_result(
        &self,
        tenant: &TenantId,
        job: JobId,
    ) -> Result<(PinnedResult, Option<Provenance>), ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        if view.kind != Kind::Backtest {
            let message = format!("job_id: {job} is a {}; name a backtest", view.kind.as_str());
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        let Some(result) = view.result.filter(|_| view.state == JobState::Succeeded) else {
            let next =
                if view.state.is_terminal() { "" } else { ": wait for it with job_get, then call again" };
            let message =
                format!("job_id: {job} is {}; only a succeeded one has a result{next}", view.state.as_str());
            return Err(ServiceError::new(Code::ResultNotReady, message));
        };
        let receipt = self.inner.queue.receipt(&result).await?.ok_or_else(|| {
            let message =
                format!("the result of job {job} is not stored any more; submit the same backtest again");
            ServiceError::new(Code::ResultEvicted, message)
        })?;
        let backtest = serde_json::from_str(view.request.get())
            .map_err(|error| ServiceError::internal("a stored request cannot be read", &error))?;
        let again = serde_json::from_str(receipt.provenance.get()).ok();
        Ok((PinnedResult { result, blob: receipt.blob, file: receipt.file, backtest }, again))
    }
}

//! Pinning what a risk analysis is computed from.

use analysis::{
    inputs::{Pinned, PinnedResult},
    report::{self, Document},
    source::Source,
    spec::Checked,
};
use jesse::plan::key_of_tenant;
use jobs::{JobId, JobState, Kind, TenantId, blobs::BlobId};
use serde_json::{Map, Value};

use super::{ResultBody, Service, holdouts::Reach, submit::json_text, wanted::Prepared};
use crate::{
    errors::{Code, ServiceError},
    settings::CacheScope,
};

/// Megabytes that an analysis may take: bodies of results, closes, and what is simulated.
const ANALYSIS_MB: u32 = 512;

impl Service {
    /// Pins results and candles, and works out the key of the answer.
    pub(super) async fn prepare_analysis(
        &self,
        tenant: &TenantId,
        checked: Checked,
        shared: bool,
    ) -> Result<Prepared, ServiceError> {
        let Checked { mut analysis, returns } = checked;
        if returns.is_none() && matches!(analysis.source, Some(Source::Returns { .. })) {
            let message = "the returns that it was computed from are not kept; submit them again";
            return Err(ServiceError::new(Code::NotRequeueable, message));
        }
        let mut pinned = Pinned { returns, shared, ..Pinned::default() };
        for part in analysis.source.as_ref().map(Source::parts).unwrap_or_default() {
            pinned.results.push(self.pin_result(tenant, part.job_id).await?);
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
            trial_of: Vec::new(),
            reach,
        })
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

    /// The result of a backtest as it is stored now. Another tenant's job is not told from one that does not exist.
    async fn pin_result(&self, tenant: &TenantId, job: JobId) -> Result<PinnedResult, ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        if view.kind != Kind::Backtest {
            let message = format!("job {job} is a {}; name a backtest", view.kind.as_str());
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        let Some(result) = view.result.filter(|_| view.state == JobState::Succeeded) else {
            let next =
                if view.state.is_terminal() { "" } else { ": wait for it with job_get, then call again" };
            let message =
                format!("job {job} is {}; only a succeeded one has a result{next}", view.state.as_str());
            return Err(ServiceError::new(Code::ResultNotReady, message));
        };
        let receipt = self.inner.queue.receipt(&result).await?.ok_or_else(|| {
            let message =
                format!("the result of job {job} is not stored any more; submit the same backtest again");
            ServiceError::new(Code::ResultEvicted, message)
        })?;
        let backtest = serde_json::from_str(view.request.get())
            .map_err(|error| ServiceError::internal("a stored request cannot be read", &error))?;
        Ok(PinnedResult { result, blob: receipt.blob, file: receipt.file, backtest })
    }
}

//! What both doors, HTTP and MCP, do: validate, submit, wait, read, list, cancel.

mod analysis;
mod cache;
mod campaigns;
mod engines;
mod filter;
mod health;
mod holdouts;
mod strategies;
mod submit;
mod wanted;
mod webhooks;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jesse::{
    candles::store::{CandleStore, SeriesView, manifests},
    plan::{Limits, Planner},
    published::Published,
    rest::Offer,
};
use jobs::{
    Events, Filter, JobId, JobState, JobView, Kind, Page, Queue, TenantId, Watch,
    blobs::{BlobId, BlobStore, Blobs},
    documents::Documents,
    webhooks::Webhooks,
};
use serde_json::value::RawValue;
use workers::webhooks::AddressFilter;

use crate::{
    errors::{Code, ServiceError},
    settings::CacheScope,
};

pub use cache::{CacheView, Invalidate, Invalidated};
pub use campaigns::CampaignView;
pub use engines::PlannedEngines;
pub(crate) use filter::{job_filter, parts};
pub use health::Health;
pub use holdouts::{MOST_HELD_OUT, OpenDays};
pub use strategies::{StrategySource, StrategyView, Validation};
pub use submit::{BatchRequest, MOST_CHILDREN, SubmitOptions, Window};
pub use wanted::Wanted;
pub use webhooks::{DeliveriesView, DeliveryView, ResendRequest, SecretView, WebhookFields, WebhookView};

/// The most jobs on one page of a listing.
pub(crate) const LONGEST_PAGE: usize = 100;

/// A result's body, field by field, as stored.
#[derive(Debug)]
pub struct ResultBody {
    /// Names the content.
    pub blob: BlobId,
    /// What the job was asked for, with all defaults.
    pub request: Box<RawValue>,
    /// `metrics`, `trades`, `equity_curve`, `logs`, `provenance`.
    pub fields: BTreeMap<String, Box<RawValue>>,
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
    /// Whether clients may write strategies.
    writable: bool,
    /// Where webhooks may go, as far as a URL tells.
    receivers: Arc<AddressFilter>,
    /// What part of a series a campaign's first job on it holds out of research, unless it says otherwise.
    holdout_share: f64,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    events: Events,
    inputs: BlobStore,
    results: BlobStore,
    planner: Planner,
    candles: CandleStore,
    published: Published,
    offers: Documents<Offer>,
    engines: PlannedEngines,
    limits: Limits,
    scope: CacheScope,
    /// Whether clients may have candles fetched from exchanges.
    imports: bool,
    webhooks: Webhooks,
    ledgers: campaigns::Ledgers,
}

impl Service {
    /// A service over this queue and these blobs, with who shares results, and whether clients may have candles fetched from
    /// exchanges.
    pub fn new(
        queue: Queue,
        events: Events,
        blobs: Blobs,
        engines: PlannedEngines,
        limits: Limits,
        scope: CacheScope,
        imports: bool,
    ) -> Self {
        let redis = queue.redis();
        let inner = Inner {
            planner: Planner::new(manifests(redis.clone()), imports),
            candles: CandleStore::new(redis.clone(), blobs.inputs.clone()),
            published: Published::new(redis.clone()),
            offers: Documents::new(redis.clone(), jesse::rest::COLLECTION),
            inputs: blobs.inputs,
            webhooks: Webhooks::new(queue.clone()),
            events,
            results: blobs.results,
            queue,
            engines,
            limits,
            scope,
            imports,
            ledgers: campaigns::Ledgers::default(),
        };
        Self { inner: Arc::new(inner), writable: false, receivers: Arc::default(), holdout_share: 0.0 }
    }

    /// The same where clients may, or may not, write strategies. That is running code: off unless whoever runs the server
    /// wants it.
    #[must_use]
    pub fn with_strategy_writing(self, writable: bool) -> Self {
        Self { writable, ..self }
    }

    /// The same where webhooks may go to these addresses. The workers have the last word, when they connect.
    #[must_use]
    pub fn with_receivers(self, receivers: AddressFilter) -> Self {
        Self { receivers: Arc::new(receivers), ..self }
    }

    /// The same where campaigns hold out this part of the candles, from 0 (nothing) to a half, unless they say otherwise.
    #[must_use]
    pub fn with_holdout_share(self, holdout_share: f64) -> Self {
        Self { holdout_share, ..self }
    }

    /// Whether clients may write strategies.
    pub fn strategies_are_writable(&self) -> bool {
        self.writable
    }

    /// Whether clients may have candles fetched from exchanges.
    pub fn candles_are_imported(&self) -> bool {
        self.inner.imports
    }

    /// The queue underneath.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// A job, once it has ended or `wait` is over; `seen` is told what happens on the way.
    pub async fn job(
        &self,
        tenant: &TenantId,
        job: JobId,
        wait: Duration,
        seen: impl FnMut(&JobView),
    ) -> Result<JobView, ServiceError> {
        // Boxed: what waits is moved around a lot by those who race it against something.
        Ok(Box::pin(self.inner.events.wait(job, tenant, wait, seen)).await?)
    }

    /// Follows a job until it has ended.
    pub async fn watch(&self, tenant: &TenantId, job: JobId) -> Result<Watch, ServiceError> {
        Ok(self.inner.events.watch(job, tenant).await?)
    }

    /// Tells whenever something has happened to any job, of whatever tenant.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.events.changes()
    }

    /// Cancels a job; answers how it stands now.
    pub async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<JobView, ServiceError> {
        self.inner.queue.cancel(job, tenant).await?;
        Ok(self.inner.queue.get(job, tenant).await?)
    }

    /// A page of the tenant's jobs, newest first.
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Page, ServiceError> {
        Ok(self.inner.queue.list(tenant, filter, before, most).await?)
    }

    /// A batch, as it stands.
    pub async fn batch(&self, tenant: &TenantId, batch: JobId) -> Result<JobView, ServiceError> {
        let view = self.inner.queue.get(batch, tenant).await?;
        if view.kind != Kind::Batch {
            let message = format!("job {batch} is a {}, not a batch", view.kind.as_str());
            return Err(ServiceError::new(Code::JobNotFound, message));
        }
        Ok(view)
    }

    /// A page of a batch's jobs in their order, and how many of them can be read already.
    pub async fn children(
        &self,
        tenant: &TenantId,
        batch: JobId,
        first: usize,
        most: usize,
    ) -> Result<(usize, Vec<JobView>), ServiceError> {
        Ok(self.inner.queue.children(batch, tenant, first, most).await?)
    }

    /// Everything that a job found.
    pub async fn result(&self, tenant: &TenantId, job: JobId) -> Result<ResultBody, ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        let Some(result) = view.result.filter(|_| view.state == JobState::Succeeded) else {
            let message = format!("the job is {}; only a succeeded one has a result", view.state.as_str());
            return Err(ServiceError::new(Code::ResultNotReady, message));
        };
        let evicted = || {
            let message =
                "the result is not stored any more; submit the same backtest again to compute it anew";
            ServiceError::new(Code::ResultEvicted, message)
        };
        let receipt = self.inner.queue.receipt(&result).await?.ok_or_else(evicted)?;
        let body = self
            .inner
            .results
            .get_as(receipt.file.as_deref().unwrap_or(receipt.blob.as_str()), &receipt.blob)
            .await
            .map_err(jobs::QueueError::from)?
            .ok_or_else(evicted)?;
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&body)
            .map_err(|error| ServiceError::internal("a stored result cannot be read", &error))?;
        fields.insert("provenance".into(), receipt.provenance);
        Ok(ResultBody { blob: receipt.blob, request: view.request, fields })
    }

    /// What a job that has ended has printed, as text: all of it, or its begin and its end.
    pub async fn logs(&self, tenant: &TenantId, job: JobId) -> Result<String, ServiceError> {
        let view = self.inner.queue.get(job, tenant).await?;
        if view.kind == Kind::Batch {
            let message =
                format!("job {job} is a batch, which prints nothing; ask for the logs of one of its jobs");
            return Err(ServiceError::new(Code::JobNotFound, message));
        }
        if view.state == JobState::Succeeded {
            let body = self.result(tenant, job).await?.fields;
            let logs = body.get("logs").map_or("{\"output\":\"\"}", |logs| logs.get());
            let logs: jesse::logs::Logs = serde_json::from_str(logs)
                .map_err(|error| ServiceError::internal("a stored result cannot be read", &error))?;
            return Ok(logs.output);
        }
        let Some(error) = view.error.filter(|_| view.state.is_terminal()) else {
            let state = view.state.as_str();
            let message = format!("the job is {state}; logs are kept of jobs that succeeded or failed");
            return Err(ServiceError::new(Code::ResultNotReady, message));
        };
        let Some(blob) = jesse::logs::referred(&error) else {
            return Ok(String::new());
        };
        let text = self.inner.results.get(&blob).await.map_err(jobs::QueueError::from)?;
        let evicted = || ServiceError::new(Code::ResultEvicted, "the job's logs are not stored any more");
        Ok(String::from_utf8_lossy(&text.ok_or_else(evicted)?).into_owned())
    }

    /// All candles that are stored.
    pub async fn candles(&self) -> Result<Vec<SeriesView>, ServiceError> {
        let found = self.inner.candles.list().await.map_err(holdouts::unread)?;
        Ok(found.iter().map(SeriesView::from).collect())
    }
}

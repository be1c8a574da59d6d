//! What both doors, HTTP and MCP, do: validate, submit, wait, read, list, cancel.

mod submit;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jesse::{
    candles::store::{CandleStore, SeriesView, manifests},
    catalogue::{self, Catalogue, Hyperparameter},
    plan::{Limits, Planner},
    strategies::publish::Publisher,
};
use jobs::{
    Events, Filter, JobId, JobState, JobView, Kind, Page, Queue, TenantId,
    blobs::{BlobId, BlobStore, Blobs},
    documents::{Document, Documents},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::errors::{Code, ServiceError};

pub use submit::{BatchRequest, MOST_CHILDREN, SubmitOptions, Window};

/// The most jobs on one page of a listing.
pub(crate) const LONGEST_PAGE: usize = 100;

/// A strategy as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StrategyView {
    /// Its name.
    pub name: String,
    /// The first line of its documentation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// What may be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hyperparameters: Vec<Hyperparameter>,
    /// Why it cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}

/// A result's body, field by field, as stored.
#[derive(Debug)]
pub struct ResultBody {
    /// Names the content.
    pub blob: BlobId,
    /// `metrics`, `trades`, `equity_curve`, `logs`, `provenance`.
    pub fields: BTreeMap<String, Box<RawValue>>,
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    events: Events,
    results: BlobStore,
    planner: Planner,
    candles: CandleStore,
    catalogue: Documents<Catalogue>,
    publisher: Option<Arc<Publisher>>,
    limits: Limits,
}

impl Service {
    /// A service over this queue and these blobs. `publisher` is there when the worker is in the same process: then an edited strategy is
    /// noticed by the very next submit.
    pub fn new(
        queue: Queue,
        events: Events,
        blobs: Blobs,
        publisher: Option<Arc<Publisher>>,
        limits: Limits,
    ) -> Self {
        let redis = queue.redis();
        let inner = Inner {
            planner: Planner::new(manifests(redis.clone())),
            candles: CandleStore::new(redis.clone(), blobs.inputs),
            catalogue: Documents::new(redis.clone(), catalogue::COLLECTION),
            events,
            results: blobs.results,
            queue,
            publisher,
            limits,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The queue underneath.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// What a worker has said that it can run, if one ever has.
    pub async fn published(&self) -> Result<Option<Arc<Document<Catalogue>>>, ServiceError> {
        Ok(self.inner.catalogue.get(catalogue::DOCUMENT).await?)
    }

    /// What exists. With the worker in this process what is on its disk right now, else what was last published.
    pub async fn catalogue(&self) -> Result<Arc<Document<Catalogue>>, ServiceError> {
        if let Some(publisher) = &self.inner.publisher
            && let Err(error) = publisher.refresh().await
        {
            // What was published before stays valid; the worker logs why it cannot be refreshed.
            tracing::debug!(error = jobs::chain(&error), "the catalogue was not refreshed");
        }
        let found = self.inner.catalogue.get(catalogue::DOCUMENT).await?;
        found.ok_or_else(|| {
            let message = "no worker has said yet what it can run: it is starting, or none is running; try again in a moment";
            ServiceError::new(Code::EngineStarting, message)
        })
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
            .get(&receipt.blob)
            .await
            .map_err(jobs::QueueError::from)?
            .ok_or_else(evicted)?;
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&body)
            .map_err(|error| ServiceError::internal("a stored result cannot be read", &error))?;
        fields.insert("provenance".into(), receipt.provenance);
        Ok(ResultBody { blob: receipt.blob, fields })
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

    /// All strategies, by name.
    pub async fn strategies(&self) -> Result<Vec<StrategyView>, ServiceError> {
        let catalogue = self.catalogue().await?;
        let view = |(name, strategy): (&String, &catalogue::Strategy)| StrategyView {
            name: name.clone(),
            doc: strategy.doc.clone(),
            hyperparameters: strategy.hyperparameters.clone(),
            error: strategy.error.as_ref().map(|error| error.message.clone()),
        };
        Ok(catalogue.value.strategies.iter().map(view).collect())
    }

    /// All candles that are stored.
    pub async fn candles(&self) -> Result<Vec<SeriesView>, ServiceError> {
        let found = self.inner.candles.list().await;
        let found = found.map_err(|error| match error {
            jesse::candles::store::StoreError::Queue(error) => error.into(),
            error => ServiceError::internal("the candles cannot be listed", &error),
        })?;
        Ok(found.iter().map(SeriesView::from).collect())
    }
}

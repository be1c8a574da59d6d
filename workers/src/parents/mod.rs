//! The handlers of jobs that are made of other jobs: each step looks at what its children found, submits the next ones
//! and lets go of its slot until they have ended.

mod monte_carlo;
mod optimize;
mod walk_forward;

use jesse::{parent::ForChildren, plan::facets, spec::BacktestSpec};
use jobs::{
    BatchSubmission, CacheKey, Child, Claim, ErrorCode, Idempotency, JobError, JobId, JobState, JobView,
    Kind, OnFailure, Outcome, Progress, Queue, QueueError, Receipt, Stored, StoredResult, Tags, TenantId,
    Treatment, blobs::Blobs, chain,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

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
#[derive(Debug, Clone)]
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
    /// Submits children. The same step, taken again after its worker was lost, finds its batch.
    pub(crate) async fn submit(
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
                looks: None,
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
    pub(crate) async fn children(
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

    pub(crate) async fn progress(&self, claim: &Claim, fraction: f64, message: String) {
        let progress = Progress { fraction, message, eta_s: None };
        if let Err(error) = self.queue.progress(claim.run, claim.fence, &progress).await {
            tracing::debug!(run.id = %claim.run, error = chain(&error), "progress was not recorded");
        }
    }

    /// Stores the body under its key, or for this run alone. Invalidations find it by what `backtest` is made of.
    async fn store(
        &self,
        claim: &Claim,
        key: Option<String>,
        backtest: &BacktestSpec,
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
        // A name that nobody else has: the body can be deleted whoever else found the same.
        let file = claim.fence.to_string();
        let put = self.blobs.results.put_as(&file, body.into()).await;
        let (blob, stored_bytes) = put.map_err(|error| self.unreachable(claim, &error))?;
        let provenance = RawValue::from_string(provenance.to_string())
            .map_err(|error| broken(claim, &format!("the receipt cannot be written: {error}")))?;
        Ok(Outcome::Succeeded(StoredResult {
            trial: None,
            id: key.unwrap_or_else(|| claim.run.to_string()),
            summary: summary.to_string(),
            receipt: Receipt { blob, file: Some(file), bytes: bytes as u64, provenance },
            stored: Some(Stored { bytes: stored_bytes, facets: facets(backtest) }),
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
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) plans: Vec<String>,
    pub(crate) children: Vec<Child>,
    pub(crate) shown: Value,
}

/// The chosen metrics of a backtest, or why there are none.
fn metrics_of(view: JobView) -> Result<Result<Value, String>, JobError> {
    let found = summary_of(view)?;
    Ok(found.map(|summary| {
        let chosen =
            SHOWN_METRICS.into_iter().filter_map(|name| Some((name, summary["metrics"].get(name)?.clone())));
        chosen.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
    }))
}

/// Whether a result is stored under the key that was planned: what ran may have been another Jesse than was planned for.
pub(crate) fn as_planned(view: &JobView, key: &CacheKey) -> bool {
    view.result.as_ref().is_none_or(|result| *result == key.to_string())
}

/// What a child found, or why it found nothing; an error if it was taken away.
pub(crate) fn summary_of(view: JobView) -> Result<Result<Value, String>, JobError> {
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

fn readable<T: DeserializeOwned>(claim: &Claim, text: &str) -> Result<T, JobError> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(run.id = %claim.run, %error, "a plan cannot be read");
        JobError::new(ErrorCode::Internal, "this worker cannot read the plan; it is of another version")
            .retryable()
    })
}

pub(crate) fn text(value: &impl Serialize) -> Result<String, JobError> {
    serde_json::to_string(value)
        .map_err(|error| JobError::new(ErrorCode::Internal, format!("a plan cannot be written: {error}")))
}

fn broken(claim: &Claim, what: &str) -> JobError {
    tracing::error!(run.id = %claim.run, what, "a plan is broken");
    JobError::new(ErrorCode::Internal, what)
}

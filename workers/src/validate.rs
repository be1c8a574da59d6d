//! The handler of validations: whether a strategy can run, and if not, what is wrong where. A strategy that can run is packed
//! as the bundle that backtests of it would use.

use std::{collections::BTreeMap, sync::Arc};

use jesse::{
    runner::{Runner, TaskError, TaskRequest},
    strategies::{
        bundle,
        draft::{Report, ValidationPlan, ValidationSpec},
        publish,
    },
};
use jobs::{
    Claim, ErrorCode, Facets, JobError, Receipt, Stored, StoredResult,
    backend::{Assignment, Handled},
    blobs::{BlobError, Blobs},
};
use serde_json::{json, value::RawValue};
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{Attendant, unavailable, unreadable},
    backtest::no_runner,
    code::Code,
};

/// How many mistakes the job's record holds; all are in the result.
const SUMMARIZED: usize = 5;

/// Validates strategies.
#[derive(Debug)]
pub(crate) struct Validations {
    pub(crate) blobs: Blobs,
    /// Not there when all is computed on Jesse's server.
    pub(crate) runner: Option<Arc<Runner>>,
    pub(crate) code: Code,
    pub(crate) attendant: Arc<Attendant>,
}

impl Validations {
    /// Runs one validation to its outcome, or until it must stop.
    pub(crate) async fn handle(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, stop } = assignment;
        let stopping = CancellationToken::new();
        let compute = self.compute(&claim, &stopping);
        self.attendant.attend(&claim, stop, &stopping, compute).await
    }

    async fn compute(&self, claim: &Claim, stop: &CancellationToken) -> Result<StoredResult, TaskError> {
        let runner = self.runner.as_ref().ok_or_else(no_runner)?;
        let spec: ValidationSpec =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let plan: ValidationPlan =
            serde_json::from_str(&claim.plan).map_err(|error| unreadable(claim, &error))?;
        let draft = std::slice::from_ref(&spec.draft);
        let code = self.code.get(draft).await.map_err(|error| unavailable(claim, "draft", &error))?;
        let request = TaskRequest {
            task: "validate",
            args: json!({"bundle": code.path(), "strategy": spec.strategy, "import": spec.import}),
            limits: plan.limits,
            progress: None,
        };
        let found = runner.run(request, stop).await?;
        let mut report: Report = serde_json::from_value(found.value).map_err(|error| {
            tracing::error!(run.id = %claim.run, %error, "a report of the runner cannot be read");
            JobError::new(ErrorCode::StrategyError, format!("the strategy cannot be described: {error}"))
        })?;
        if report.valid {
            let packed = self.pack(&spec, &report).await;
            let id = packed.map_err(|error| unavailable(claim, "blob store", &error))?;
            report.bundle = Some(id);
        }
        let body = serde_json::to_vec(&report).map_err(|error| unreadable(claim, &error))?;
        let bytes = body.len() as u64;
        let file = claim.fence.to_string();
        let stored = self.blobs.results.put_as(&file, body.into()).await;
        let (blob, stored_bytes) = stored.map_err(|error| unavailable(claim, "blob store", &error))?;
        let engine = publish::engine(&found.engine);
        let provenance = json!({"draft": spec.draft, "engine": engine}).to_string();
        let provenance = RawValue::from_string(provenance).map_err(|error| unreadable(claim, &error))?;
        Ok(StoredResult {
            trial: None,
            id: spec.cache_key(&engine).to_string(),
            summary: summary(&report).to_string(),
            receipt: Receipt { blob, file: Some(file), bytes, provenance },
            stored: Some(Stored {
                bytes: stored_bytes,
                facets: Facets::new("", [], [spec.strategy.as_str()]),
            }),
        })
    }

    /// Stores the files that make up the strategy.
    async fn pack(&self, spec: &ValidationSpec, report: &Report) -> Result<jobs::blobs::BlobId, BlobError> {
        let draft = self.blobs.inputs.get(&spec.draft).await?;
        let files = draft.map_or_else(|| Ok(BTreeMap::new()), |draft| bundle::files(&draft))?;
        let packed = bundle::pack(&files, report.files.iter(), &report.requires)?;
        self.blobs.inputs.put(packed.into()).await
    }
}

fn summary(report: &Report) -> serde_json::Value {
    let mut summary = json!({
        "valid": report.valid,
        "errors": &report.errors[..report.errors.len().min(SUMMARIZED)],
    });
    if let Some(bundle) = &report.bundle {
        summary["bundle"] = bundle.as_str().into();
    }
    summary
}

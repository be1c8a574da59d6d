//! A worker for the jobs of the fixtures, on the queue that all workers take their jobs from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    Claim, ErrorCode, Free, JobError, Outcome, Queue, QueueError, Receipt, StoredResult, WorkerId,
    blobs::BlobId, documents::Documents,
};
use serde_json::{json, value::RawValue};

use super::fixtures::{Answers, Work};

const PAUSE: Duration = Duration::from_millis(50);

/// Runs jobs, any number at once, until it is aborted.
pub async fn run(queue: Queue, answers: Arc<Documents<Answers>>) {
    let worker = WorkerId::new("conformance".to_owned());
    loop {
        let (claims, _) =
            queue.claim(&worker, Free { slots: 8, memory_mb: 100_000, idle: true }).await.unwrap();
        for claim in claims {
            let (queue, answers) = (queue.clone(), answers.clone());
            // What is still at work when the test ends loses its Redis.
            tokio::spawn(async move { finish(&queue, &answers, &claim).await });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Computes a run, hands its outcome in, and settles the jobs that wait for it.
async fn finish(queue: &Queue, answers: &Documents<Answers>, claim: &Claim) -> Result<(), QueueError> {
    let work: Work = serde_json::from_str(&claim.request).unwrap();
    let seconds = work.arguments["seconds"].as_f64().unwrap_or(1.0);
    let (begin, took) = (Instant::now(), Duration::from_secs_f64(seconds));
    let outcome = loop {
        if !queue.renew(&[(claim.run, claim.fence)]).await?.is_empty() {
            break Outcome::Cancelled;
        }
        let answered = answers.get(&work.name).await?.map_or(0, |answers| answers.value.len());
        if begin.elapsed() >= took && answered == work.questions().len() {
            break ended(&work, claim);
        }
        tokio::time::sleep(PAUSE).await;
    };
    queue.finish(claim, &outcome).await?;
    queue.settle(claim.run).await
}

fn ended(work: &Work, claim: &Claim) -> Outcome {
    if matches!(work.tool.as_str(), "failing_job" | "protocol_error_job") {
        return Outcome::Failed(JobError::new(ErrorCode::StrategyError, "as it was asked to"));
    }
    let receipt =
        Receipt { blob: BlobId::of(b"{}"), file: None, bytes: 2, provenance: RawValue::NULL.to_owned() };
    let summary = json!({"done": work.tool, "arguments": work.arguments}).to_string();
    Outcome::Succeeded(StoredResult {
        id: claim.run.to_string(),
        summary,
        receipt,
        stored: None,
        trial: None,
    })
}

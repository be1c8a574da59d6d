//! The handler of risk analyses: fetches what was pinned, computes on a thread of its own, and stores the answer.

use std::sync::Arc;

use analysis::{
    Answer,
    inputs::{Inputs, LoadedResult, Pinned, PinnedResult, SymbolCloses},
    spec::Analysis,
};
use jesse::{
    candles::{
        closes::{Close, CloseFiles},
        store::StoreError,
    },
    plan::PlannedSeries,
    runner::TaskError,
};
use jobs::{
    Claim, ErrorCode, JobError, StoredResult,
    backend::{Assignment, Handled},
    blobs::Blobs,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{Attendant, unavailable, unreadable},
    stored::{self, New},
};

/// Computes analyses.
#[derive(Debug)]
pub(crate) struct Analyses {
    pub(crate) blobs: Blobs,
    pub(crate) closes: CloseFiles,
    pub(crate) attendant: Arc<Attendant>,
    pub(crate) max_result_bytes: usize,
}

/// Whether the request of a claim is that of an analysis: those of `monte_carlo` may be a search through altered candles.
pub(crate) fn is_analysis(claim: &Claim) -> bool {
    serde_json::from_str::<Analysis>(&claim.request).is_ok()
}

impl Analyses {
    /// Runs one analysis to its outcome, or until it must stop.
    pub(crate) async fn handle(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, stop } = assignment;
        let stopping = CancellationToken::new();
        let compute = async {
            match stopping.run_until_cancelled(self.compute(&claim)).await {
                Some(computed) => computed.map_err(TaskError::from),
                // A thread that computes cannot be stopped; it ends in seconds, and nobody reads what it found.
                None => Err(TaskError::Stopped),
            }
        };
        self.attendant.attend(&claim, stop, &stopping, compute).await
    }

    async fn compute(&self, claim: &Claim) -> Result<StoredResult, JobError> {
        let analysis: Analysis =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let pinned: Pinned = serde_json::from_str(&claim.plan).map_err(|error| unreadable(claim, &error))?;
        let inputs = self.fetch(claim, &analysis, &pinned).await?;
        let asked = analysis.clone();
        let computed = tokio::task::spawn_blocking(move || asked.compute(&inputs)).await;
        let answer = computed.map_err(|error| {
            tracing::error!(run.id = %claim.run, %error, "an analysis panicked");
            JobError::new(ErrorCode::Internal, "the analysis ended without an answer; it was logged")
        })??;
        self.store(claim, &analysis, &pinned, answer).await
    }

    async fn fetch(&self, claim: &Claim, analysis: &Analysis, pinned: &Pinned) -> Result<Inputs, JobError> {
        let mut inputs = Inputs { returns: pinned.returns.clone(), ..Inputs::default() };
        for result in &pinned.results {
            inputs.results.push(self.result(claim, result).await?);
        }
        if let Some(candles) = &analysis.candles {
            let (minutes, range) = (candles.minutes()?, candles.range_ms()?);
            for planned in &pinned.candles {
                let closes = self.closes(planned, minutes, range).await;
                let closes = closes.map_err(|error| unavailable(claim, "candles", &error))?;
                inputs.candles.push(SymbolCloses {
                    series: planned.series.clone(),
                    source: planned.source,
                    closes,
                });
            }
        }
        Ok(inputs)
    }

    async fn result(&self, claim: &Claim, pinned: &PinnedResult) -> Result<LoadedResult, JobError> {
        let name = pinned.file.as_deref().unwrap_or(pinned.blob.as_str());
        let body = self.blobs.results.get_as(name, &pinned.blob).await;
        let body = body.map_err(|error| unavailable(claim, "result", &error))?.ok_or_else(|| {
            let message = "a result that this is computed from was removed to make room after this was submitted; \
                           submit the backtest again, then the analysis of the new job";
            JobError::new(ErrorCode::InputGone, message)
        })?;
        let body = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("a stored result is not one of a backtest: {error}");
            JobError::new(ErrorCode::UnfitData, message)
        })?;
        Ok(LoadedResult { backtest: pinned.backtest.clone(), body })
    }

    /// The closes in a range (milliseconds, end exclusive).
    async fn closes(
        &self,
        planned: &PlannedSeries,
        minutes: i64,
        (from, to): (i64, i64),
    ) -> Result<Vec<Close>, StoreError> {
        let mut closes = Vec::new();
        for chunk in &planned.chunks {
            let month = self.closes.get(chunk, minutes).await?;
            closes.extend(month.into_iter().filter(|(time, _)| (from..to).contains(time)));
        }
        Ok(closes)
    }

    async fn store(
        &self,
        claim: &Claim,
        analysis: &Analysis,
        pinned: &Pinned,
        answer: Answer,
    ) -> Result<StoredResult, JobError> {
        let body = answer.body.to_string();
        if body.len() > self.max_result_bytes {
            let message =
                format!("the answer has more than {} MB; ask for less at once", self.max_result_bytes >> 20);
            return Err(JobError::new(ErrorCode::ResultTooLarge, message));
        }
        let results: Vec<_> = pinned.results.iter().map(|result| (&result.result, &result.blob)).collect();
        let provenance = json!({
            "results": results,
            "candles": pinned.candles,
            "cache_key": pinned.cache_key,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let new = New {
            body: body.into(),
            summary: answer.summary,
            provenance,
            key: pinned.cache_key.clone().filter(|_| pinned.shared),
            facets: analysis.facets(pinned),
            trial: None,
        };
        stored::store(&self.blobs.results, claim, new).await
    }
}

//! The handler of risk analyses: fetches what was pinned, computes on a thread of its own, and stores the answer. An analysis that
//! has backtests run submits them in a first step, lets go of its slot, and answers in a second.

use std::sync::Arc;

use analysis::{
    Answer,
    inputs::{Body, Inputs, LoadedResult, Pinned, PinnedResult, Ran, Runs, SymbolCloses},
    spec::Analysis,
};
use jesse::{
    candles::{
        closes::{Close, CloseFiles},
        store::StoreError,
    },
    plan::PlannedSeries,
    runner::TaskError,
    spec::BacktestSpec,
};
use jobs::{
    Child, Claim, ErrorCode, JobError, JobId, JobView, Kind, Outcome, StoredResult, TenantId,
    backend::{Assignment, Handled},
    blobs::{BlobId, Blobs},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{Attendant, unavailable, unreadable},
    parents::{Parents, Round, as_planned, summary_of, text},
    stored::{self, New},
};

/// Computes analyses.
#[derive(Debug)]
pub(crate) struct Analyses {
    pub(crate) blobs: Blobs,
    pub(crate) closes: CloseFiles,
    pub(crate) parents: Parents,
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
        Box::pin(self.attendant.attend(&claim, stop, &stopping, compute)).await
    }

    async fn compute(&self, claim: &Claim) -> Result<Outcome, JobError> {
        let analysis: Analysis =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let mut pinned: Pinned =
            serde_json::from_str(&claim.plan).map_err(|error| unreadable(claim, &error))?;
        let mut inputs = Arc::new(self.fetch(claim, &analysis, &pinned).await?);
        if let Some(runs) = &mut pinned.runs {
            let (asked, of, known) = (analysis.clone(), runs.backtest.clone(), inputs.clone());
            let backtests = on_a_thread(claim, move || asked.backtests(&of, &known)).await?;
            match runs.batch {
                None if backtests.is_empty() => {}
                None => {
                    let batch = self.run(claim, runs, &backtests).await?;
                    runs.batch = Some(batch);
                    return Ok(Outcome::Awaits { batch, plan: text(&pinned)? });
                }
                Some(batch) => {
                    let (ran, drifted) =
                        self.ran(claim, (runs, batch), backtests, analysis.reads_bodies()).await?;
                    Arc::make_mut(&mut inputs).ran = ran;
                    pinned.shared &= !drifted;
                }
            }
        }
        let asked = analysis.clone();
        let answer = on_a_thread(claim, move || asked.compute(&inputs)).await?;
        Ok(self.store(claim, &analysis, &pinned, answer).await?.into())
    }

    /// Submits the backtests that an analysis needs.
    async fn run(&self, claim: &Claim, runs: &Runs, backtests: &[BacktestSpec]) -> Result<JobId, JobError> {
        let Runs { plan, children, .. } = runs;
        let child = |spec: &BacktestSpec| {
            let trial_of = children.trials_of(spec);
            Ok(Child { cache_key: plan.key_of(spec), request: text(spec)?, plan: 0, trial_of })
        };
        let round = Round {
            number: 0,
            kind: Kind::Backtest,
            plans: vec![text(plan)?],
            children: backtests.iter().map(child).collect::<Result<_, JobError>>()?,
            shown: json!({ claim.kind.as_str(): {"backtests": backtests.len()} }),
        };
        let limits = (plan.limits.wall_s, plan.limits.memory_mb);
        let batch = self.parents.submit(claim, children, round, limits).await?;
        self.parents.progress(claim, 0.1, "its backtests are run".to_owned()).await;
        Ok(batch)
    }

    /// What they came to, and whether one was computed by another Jesse than was planned for.
    async fn ran(
        &self,
        claim: &Claim,
        (runs, batch): (&Runs, JobId),
        backtests: Vec<BacktestSpec>,
        with_bodies: bool,
    ) -> Result<(Vec<Ran>, bool), JobError> {
        let tenant = TenantId::new(runs.children.tenant.clone());
        let views = self.parents.children(batch, &tenant, backtests.len()).await?;
        let mut drifted = false;
        let mut all = Vec::with_capacity(views.len());
        for (view, backtest) in views.into_iter().zip(backtests) {
            drifted |= !as_planned(&view, &runs.plan.key_of(&backtest));
            let body = if with_bodies { self.body_of(claim, &view).await? } else { None };
            let job_id = view.job_id;
            all.push(Ran { job_id, backtest, summary: summary_of(view)?, body });
        }
        Ok((all, drifted))
    }

    /// The body of a result that was found a moment ago.
    async fn body_of(&self, claim: &Claim, view: &JobView) -> Result<Option<Body>, JobError> {
        let Some(result) = &view.result else { return Ok(None) };
        let receipt = self.parents.queue.receipt(result).await;
        let receipt = receipt.map_err(|error| unavailable(claim, "result", &error))?.ok_or_else(gone)?;
        self.body(claim, receipt.file.as_deref(), &receipt.blob).await.map(Some)
    }

    async fn fetch(&self, claim: &Claim, analysis: &Analysis, pinned: &Pinned) -> Result<Inputs, JobError> {
        let (returns, not_run) = (pinned.returns.clone(), pinned.not_run.clone());
        let mut inputs = Inputs { returns, not_run, ..Inputs::default() };
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
        let body = self.body(claim, pinned.file.as_deref(), &pinned.blob).await?;
        Ok(LoadedResult { backtest: pinned.backtest.clone(), body })
    }

    async fn body(&self, claim: &Claim, file: Option<&str>, blob: &BlobId) -> Result<Body, JobError> {
        let body = self.blobs.results.get_as(file.unwrap_or(blob.as_str()), blob).await;
        let body = body.map_err(|error| unavailable(claim, "result", &error))?.ok_or_else(gone)?;
        serde_json::from_slice(&body).map_err(|error| {
            let message = format!("a stored result is not one of a backtest: {error}");
            JobError::new(ErrorCode::UnfitData, message)
        })
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
        let mut provenance = json!({
            "results": results,
            "candles": pinned.candles,
            "cache_key": pinned.cache_key,
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(runs) = &pinned.runs {
            provenance["bundles"] = json!(runs.plan.bundles);
            provenance["engine"] = json!(runs.plan.engine);
        }
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

/// Computes where nothing else waits for it.
async fn on_a_thread<T: Send + 'static>(
    claim: &Claim,
    compute: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(compute).await.map_err(|error| {
        tracing::error!(run.id = %claim.run, %error, "an analysis panicked");
        JobError::new(ErrorCode::Internal, "the analysis ended without an answer; it was logged")
    })?
}

fn gone() -> JobError {
    let message = "a result that this is computed from was removed to make room after this was submitted; submit the backtest again, \
                   then the analysis of the new job";
    JobError::new(ErrorCode::InputGone, message)
}

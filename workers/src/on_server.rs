//! Backtests that are computed on Jesse's own server, by a plan that says so.

use jesse::{
    plan::{BacktestPlan, ServerPlan},
    rest::{self, RestEngine, RestRequest, RestResult},
    runner::TaskError,
    spec::BacktestSpec,
};
use jobs::{Claim, ErrorCode, JobError, StoredResult};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    attend::record_progress,
    backtest::{Backtests, Found, summary},
};

/// What every result of this engine says of itself.
const CAVEAT: &str = "computed by a Jesse server: only the strategy's main file is known, not its helper files and not the candles' \
                      versions; the equity curve knows closed trades only";

impl Backtests {
    /// Has the server compute it, and stores what it says.
    pub(crate) async fn compute_on_server(
        &self,
        claim: &Claim,
        (spec, plan, server): (&BacktestSpec, &BacktestPlan, &ServerPlan),
        stop: &CancellationToken,
    ) -> Result<StoredResult, TaskError> {
        let engine: &RestEngine = self.rest.as_deref().ok_or_else(|| {
            let message = "this worker has no Jesse server to run it on (JESSE_HOST or JESSE_URLS)";
            TaskError::NoEngine(JobError::new(ErrorCode::Internal, message).retryable())
        })?;
        let (sender, receiver) = mpsc::channel(4);
        let run = claim.run.to_string();
        let request = RestRequest {
            spec,
            exchange: &plan.exchange,
            limits: plan.limits,
            run: &run,
            attempt: claim.attempt,
            progress: Some(&sender),
        };
        let result = tokio::select! {
            result = engine.run(request, stop) => result?,
            never = record_progress(&self.queue, claim, receiver) => match never {},
        };
        self.store_from_server(claim, (spec, plan, server), result).await
    }

    async fn store_from_server(
        &self,
        claim: &Claim,
        (spec, plan, server): (&BacktestSpec, &BacktestPlan, &ServerPlan),
        result: RestResult,
    ) -> Result<StoredResult, TaskError> {
        let RestResult { value, body, bundles, candles, session } = result;
        // What was really run has the last word, as far as the server tells.
        let bundles = bundles.unwrap_or_else(|| plan.bundles.clone());
        let server = ServerPlan { candles, ..server.clone() };
        let cache_key = plan.scoped(rest::cache_key(spec, &bundles, &server, &plan.engine));
        let provenance = json!({
            "bundles": bundles,
            "candles": server.candles,
            "engine": plan.engine,
            "cache_key": cache_key,
            "session": session,
            "pinned": false,
            "valid_for_s": server.cache_ttl_s,
            "equity_curve_basis": rest::REALISED,
            "note": CAVEAT,
        });
        let mut summary = summary(spec, plan, &value);
        let warning = match summary["warning"].as_str() {
            Some(warning) => format!("{warning}; {CAVEAT}"),
            None => CAVEAT.to_owned(),
        };
        summary["warning"] = warning.into();
        self.keep(claim, (spec, plan), Found { body, cache_key, provenance, summary }).await
    }
}

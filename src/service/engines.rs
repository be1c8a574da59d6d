//! Which engine a backtest is planned for, and what can be run at all.
//!
//! Workers publish two documents: the catalogue of the runner, and the offer of Jesse's servers. Where both are used, the runner
//! is asked first: it is faster, and all that goes into its results is pinned. The servers get what only they have.

use std::sync::Arc;

use jesse::{
    catalogue::Catalogue,
    plan::{Limits, PlanError, Planned},
    rest::{self, Offer, OfferPublisher},
    spec::{BacktestRequest, BacktestSpec},
    strategies::publish::Publisher,
};
use jobs::{ErrorCode, JobError, documents::Document};

use super::Service;
use crate::{
    errors::{Code, ServiceError},
    settings::EngineChoice,
};

/// The engines that backtests are planned for. The publishers are there when the worker is in the same process: then an edited strategy is
/// noticed by the very next submit.
#[derive(Debug, Clone)]
pub struct PlannedEngines {
    /// Which of them.
    pub choice: EngineChoice,
    /// The runner's.
    pub publisher: Option<Arc<Publisher>>,
    /// The servers'.
    pub offers: Option<Arc<OfferPublisher>>,
}

/// What can be run, by engine. At least one of them is there.
pub(super) struct Runnable {
    choice: EngineChoice,
    /// By the runner.
    pub(super) catalogue: Option<Arc<Catalogue>>,
    /// By the servers.
    pub(super) offer: Option<Arc<Document<Offer>>>,
}

impl Runnable {
    /// What the runner can run, for what no server can be asked for.
    pub(super) fn runners(&self) -> Result<&Arc<Catalogue>, ServiceError> {
        self.catalogue.as_ref().ok_or_else(|| without_runner(self.choice))
    }
}

impl Service {
    /// Which engines backtests are planned for.
    pub fn plans_for(&self) -> EngineChoice {
        self.inner.engines.choice
    }

    /// Whether some engine has said what it can run.
    pub async fn has_engine(&self) -> Result<bool, ServiceError> {
        Ok(self.offer().await?.is_some() || self.published().await?.is_some())
    }

    /// Refuses when nothing can be run yet.
    pub async fn check_runnable(&self) -> Result<(), ServiceError> {
        self.runnable().await.map(|_| ())
    }

    /// What workers have said that their runner can run, if one ever has and the runner is planned for.
    pub async fn published(&self) -> Result<Option<Arc<Catalogue>>, ServiceError> {
        match self.inner.engines.choice {
            EngineChoice::Rest => Ok(None),
            EngineChoice::Runner | EngineChoice::Auto => Ok(self.inner.published.catalogue().await?),
        }
    }

    /// What the runner can run. With the worker in this process what is on its disk right now, else what was last published.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>, ServiceError> {
        self.refreshed().await?.ok_or_else(|| without_runner(self.inner.engines.choice))
    }

    /// Plans a backtest for the engine that can run it.
    pub(super) async fn plan(
        &self,
        Runnable { catalogue, offer, .. }: &Runnable,
        request: &BacktestRequest,
        limits: Limits,
    ) -> Result<Planned, ServiceError> {
        let Some(catalogue) = catalogue else { return Ok(on_server(offer.as_deref(), request, limits)?) };
        let planned = match BacktestSpec::check(request, catalogue) {
            Ok(spec) => self.inner.planner.plan(spec, catalogue, limits).await,
            Err(error) => Err(error.into()),
        };
        match planned {
            Err(PlanError::Job(error)) => Ok(elsewhere(error, offer.as_deref(), request, limits)?),
            planned => Ok(planned?),
        }
    }

    /// Plans many; answers one outcome for each.
    pub(super) async fn plan_all(
        &self,
        Runnable { catalogue, offer, .. }: &Runnable,
        requests: &[BacktestRequest],
        limits: Limits,
    ) -> Result<Vec<Result<Planned, JobError>>, ServiceError> {
        let offer = offer.as_deref();
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut specs = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            match catalogue.as_ref().map(|catalogue| BacktestSpec::check(request, catalogue)) {
                Some(Ok(spec)) => {
                    specs.push(spec);
                    outcomes.push(None);
                }
                Some(Err(error)) => outcomes.push(Some(elsewhere(error, offer, request, limits))),
                None => outcomes.push(Some(on_server(offer, request, limits))),
            }
            // Thousands take a moment, in which other calls want to be served too.
            if number % 200 == 199 {
                tokio::task::yield_now().await;
            }
        }
        let planned = match &catalogue {
            Some(catalogue) => self.inner.planner.plan_all(specs, catalogue, limits).await?,
            None => Vec::new(),
        };
        let mut planned = planned.into_iter();
        let mut all = Vec::with_capacity(requests.len());
        for (outcome, request) in outcomes.into_iter().zip(requests) {
            all.push(match (outcome, &mut planned) {
                (Some(outcome), _) => outcome,
                (None, planned) => match planned.next() {
                    Some(Err(error)) => elsewhere(error, offer, request, limits),
                    Some(planned) => planned,
                    None => Err(JobError::new(ErrorCode::Internal, "a backtest was not planned")),
                },
            });
        }
        Ok(all)
    }

    /// What can be run. With the worker in this process what is so right now, else what was last published.
    pub(super) async fn runnable(&self) -> Result<Runnable, ServiceError> {
        let catalogue = self.refreshed().await?;
        let offer = self.offer().await?;
        if catalogue.is_none() && offer.is_none() {
            let message = "no worker has said yet what it can run: it is starting, or none is running, or no Jesse server answers; \
                           try again in a moment";
            return Err(ServiceError::new(Code::EngineStarting, message));
        }
        Ok(Runnable { choice: self.inner.engines.choice, catalogue, offer })
    }

    async fn refreshed(&self) -> Result<Option<Arc<Catalogue>>, ServiceError> {
        let PlannedEngines { choice, publisher, .. } = &self.inner.engines;
        if *choice == EngineChoice::Rest {
            return Ok(None);
        }
        if let Some(publisher) = publisher
            && let Err(error) = publisher.refresh().await
        {
            // What was published before stays valid; the worker logs why it cannot be refreshed.
            tracing::debug!(error = jobs::chain(&error), "the catalogue was not refreshed");
        }
        self.published().await
    }

    /// What Jesse's servers can run, if they are used and some worker has reached one lately.
    pub(super) async fn offer(&self) -> Result<Option<Arc<Document<Offer>>>, ServiceError> {
        if self.inner.engines.choice == EngineChoice::Runner {
            return Ok(None);
        }
        let offer = self.inner.offers.get(rest::DOCUMENT).await?;
        Ok(offer.filter(|offer| offer.value.is_valid()))
    }
}

fn without_runner(choice: EngineChoice) -> ServiceError {
    match choice {
        EngineChoice::Rest => {
            let message = "this needs the engine runner, and this deployment computes on Jesse's servers alone (--engine rest): they can \
                           be asked for backtests only";
            ServiceError::new(Code::InvalidRequest, message)
        }
        EngineChoice::Runner | EngineChoice::Auto => {
            let message = "no worker has said yet what its runner can run: it is starting, or none is running; try again in a moment";
            ServiceError::new(Code::EngineStarting, message)
        }
    }
}

fn on_server(
    offer: Option<&Document<Offer>>,
    request: &BacktestRequest,
    limits: Limits,
) -> Result<Planned, JobError> {
    match offer {
        Some(offer) => offer.value.plan(request, limits),
        None => Err(JobError::new(ErrorCode::Internal, "no engine can run this").retryable()),
    }
}

/// What the runner does not have, a server may. If it cannot run it either, the error is that of the engine that has the strategy.
fn elsewhere(
    error: JobError,
    offer: Option<&Document<Offer>>,
    request: &BacktestRequest,
    limits: Limits,
) -> Result<Planned, JobError> {
    let (ErrorCode::StrategyNotFound | ErrorCode::CandlesMissing, Some(_)) = (error.code, offer) else {
        return Err(error);
    };
    on_server(offer, request, limits).map_err(|other| {
        let only_there =
            error.code == ErrorCode::StrategyNotFound && other.code != ErrorCode::StrategyNotFound;
        if only_there { other } else { error }
    })
}

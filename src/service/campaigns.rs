//! Campaigns: what was tried for one idea, and what that leaves of the best of it. Figures are worked out when they are read; each
//! process keeps the sums of the campaigns that were read last, so that only what is new is read from Redis.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use analysis::{
    ledger::{Figures, Ledger, Sums},
    selection::{self, Selection},
};
use jesse::{
    pair,
    spec::{BacktestSpec, Route},
};
use jobs::{
    JobId, JobState, JobView, Kind, TenantId,
    holdouts::LOOKS,
    ledger::{Campaign, Trial},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::Service;
use crate::errors::{Code, ServiceError};

/// Of how many campaigns a process keeps the sums.
const KEPT: usize = 64;
/// The longest name that is made of strategies, in characters.
const LONGEST_NAME: usize = 200;

/// The sums of campaigns, by tenant and name.
#[derive(Debug, Default)]
pub(super) struct Ledgers(Mutex<HashMap<(String, String), Shared>>);

type Shared = Arc<tokio::sync::Mutex<Ledger>>;

impl Ledgers {
    fn of(&self, tenant: &TenantId, campaign: &str) -> Shared {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.to_string(), campaign.to_owned());
        if kept.len() >= KEPT && !kept.contains_key(&key) {
            let any = kept.keys().next().cloned();
            any.and_then(|any| kept.remove(&any));
        }
        kept.entry(key).or_default().clone()
    }
}

/// A campaign in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Campaign")]
pub struct CampaignView {
    /// Its name.
    pub name: String,
    /// How many different backtests it has asked for.
    pub trials: u64,
    /// When the last of them was asked for (UTC).
    #[schemars(extend("format" = "date-time"))]
    pub last_trial_at: String,
}

impl From<Campaign> for CampaignView {
    fn from(campaign: Campaign) -> Self {
        let Campaign { name, last_ms, trials } = campaign;
        Self { name, trials, last_trial_at: crate::views::time(last_ms) }
    }
}

/// The campaign that a backtest belongs to: the one that is named, or that of its strategies.
pub(super) fn campaign_of(named: Option<&str>, spec: &BacktestSpec) -> String {
    named.map_or_else(|| family(&spec.routes), str::to_owned)
}

fn family(routes: &[Route]) -> String {
    let names: BTreeSet<_> = routes.iter().map(|route| route.strategy.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join("+");
    format!("strategy:{names}").chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect()
}

/// The most campaigns that the figures of a batch are made of.
pub(super) const MOST_TOGETHER: usize = 20;

/// The campaigns in whose ledgers a job's trials count, if it has any: several where a batch without a name tries several
/// strategies.
fn campaigns_of_job(view: &JobView) -> Vec<String> {
    let places: &[&str] = match view.kind {
        Kind::Backtest => &["/routes"],
        Kind::Optimize => &["/train/routes"],
        Kind::WalkForward => &["/windows/0/train/routes"],
        Kind::Batch => &["/campaigns"],
        Kind::PairsBacktest if has_traded(view) => &[],
        _ => return Vec::new(),
    };
    if let Some(named) = view.tags.campaign() {
        return vec![named.to_owned()];
    }
    if view.kind == Kind::PairsBacktest {
        return vec![format!("strategy:{}", pair::STRATEGY)];
    }
    let Ok(request) = serde_json::from_str::<Value>(view.request.get()) else { return Vec::new() };
    let Some(found) = places.iter().find_map(|place| request.pointer(place)) else { return Vec::new() };
    if view.kind == Kind::Batch {
        return Vec::deserialize(found).unwrap_or_default();
    }
    Vec::<Route>::deserialize(found).map_or_else(|_| Vec::new(), |routes| vec![family(&routes)])
}

/// Whether a pair has a backtest.
fn has_traded(view: &JobView) -> bool {
    let summary = view.summary.as_ref().and_then(|summary| serde_json::from_str::<Value>(summary.get()).ok());
    summary.is_some_and(|summary| summary["backtest"]["job_id"].is_string())
}

impl Service {
    /// A tenant's campaigns, the one with the latest trial first; at most 100.
    pub async fn campaigns(&self, tenant: &TenantId) -> Result<Vec<CampaignView>, ServiceError> {
        Ok(self.inner.queue.campaigns(tenant).await?.into_iter().map(CampaignView::from).collect())
    }

    /// What a campaign's trials amount to.
    pub async fn campaign(&self, tenant: &TenantId, name: &str) -> Result<Figures, ServiceError> {
        let mut figures = self.figures(tenant, &[name.to_owned()], None).await?;
        figures.holdouts = self.holdouts_of_campaign(tenant, name).await?;
        if figures.trials == 0 && figures.holdouts.is_empty() {
            let message =
                "no campaign of this name has tried anything; GET /v1/campaigns lists those that have";
            return Err(ServiceError::new(Code::NotFound, message));
        }
        Ok(figures)
    }

    /// What the trials of a job's campaign leave of what it found; `None` for a job that is not about trials, or that has not
    /// ended.
    pub async fn campaign_of_job(
        &self,
        tenant: &TenantId,
        view: &JobView,
    ) -> Result<Option<Figures>, ServiceError> {
        if !view.state.is_terminal() {
            return Ok(None);
        }
        if view.kind == Kind::RiskReport {
            return self.campaign_of_report(tenant, view).await;
        }
        let names = campaigns_of_job(view);
        if names.is_empty() {
            return Ok(None);
        }
        let result = view.result.as_ref().filter(|_| view.kind == Kind::Backtest);
        let result = result.filter(|_| view.state == JobState::Succeeded);
        let result = result.map(String::as_str);
        let mut figures = self.figures(tenant, &names, result).await?;
        figures.holdouts = self.holdouts_of_job(tenant, view, result).await?;
        Ok(Some(figures))
    }

    /// What choosing the best job of an ended batch of backtests is worth.
    pub async fn selection(
        &self,
        tenant: &TenantId,
        batch: &JobView,
    ) -> Result<Option<Selection>, ServiceError> {
        Ok(selection::of_batch(&self.inner.queue, tenant, batch).await?)
    }

    /// A report is about a backtest, whose record may have expired.
    async fn campaign_of_report(
        &self,
        tenant: &TenantId,
        report: &JobView,
    ) -> Result<Option<Figures>, ServiceError> {
        let request: Value = serde_json::from_str(report.request.get()).unwrap_or_default();
        let parts = request.pointer("/source/results/parts").and_then(Value::as_array);
        let [part] = parts.map(Vec::as_slice).unwrap_or_default() else { return Ok(None) };
        let Some(job) = part["job_id"].as_str().and_then(|job| job.parse::<JobId>().ok()) else {
            return Ok(None);
        };
        let view = match self.inner.queue.get(job, tenant).await {
            Ok(view) => view,
            Err(jobs::QueueError::JobNotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut figures = self.figures(tenant, &campaigns_of_job(&view), view.result.as_deref()).await?;
        figures.holdouts = self.holdouts_of_job(tenant, &view, view.result.as_deref()).await?;
        Ok(Some(figures))
    }

    /// What the trials of these campaigns together leave of a result, or of the best of them.
    pub(super) async fn figures(
        &self,
        tenant: &TenantId,
        campaigns: &[String],
        result: Option<&str>,
    ) -> Result<Figures, ServiceError> {
        let queue = &self.inner.queue;
        let about = match result {
            Some(result) => queue.trials(&[result.to_owned()]).await?.into_iter().next().flatten(),
            None => None,
        };
        if let [only] = campaigns
            && let Some(series) = only.strip_prefix(LOOKS)
        {
            return self.figures_of_looks(tenant, only, series, (about, result.is_some())).await;
        }
        let about = about.as_ref().or(result.map(|_| &NOTHING));
        if let [only] = campaigns {
            let ledger = self.up_to_date(tenant, only, None).await?;
            return Ok(ledger.sums().figures(only, about));
        }
        let mut together = Sums::default();
        for campaign in campaigns.iter().take(MOST_TOGETHER) {
            together.merge(self.up_to_date(tenant, campaign, None).await?.sums());
        }
        Ok(together.figures(&campaigns.join(", "), about))
    }

    /// The same of looks at what is held out, of whose returns only those of the held-out days count.
    async fn figures_of_looks(
        &self,
        tenant: &TenantId,
        campaign: &str,
        series: &str,
        (about, is_asked): (Option<Trial>, bool),
    ) -> Result<Figures, ServiceError> {
        let bound = self.inner.queue.bound_by(tenant, None, &[series.to_owned()]).await?;
        let first_day = bound.held_out.into_iter().flatten().next().map(|held_out| held_out.first_day);
        let about =
            about.map(|trial| first_day.map_or_else(|| trial.clone(), |day| trial.clone().since(day)));
        let ledger = self.up_to_date(tenant, campaign, first_day).await?;
        Ok(ledger.sums().figures(campaign, about.as_ref().or(is_asked.then_some(&NOTHING))))
    }

    /// The ledger of a campaign, with all that has been tried until now; of the days from this one on, if one is given.
    async fn up_to_date(
        &self,
        tenant: &TenantId,
        campaign: &str,
        first_day: Option<i64>,
    ) -> Result<OwnedMutexGuard<Ledger>, ServiceError> {
        let queue = &self.inner.queue;
        let kept_as = first_day.map_or_else(|| campaign.to_owned(), |day| format!("{campaign}\n{day}"));
        let mut ledger = self.inner.ledgers.of(tenant, &kept_as).lock_owned().await;
        let since = ledger.since_ms();
        if !ledger.meet(queue.tried(tenant, campaign, since).await?) {
            *ledger = Ledger::default();
            // What was added meanwhile is met the next time.
            let _fits = ledger.meet(queue.tried(tenant, campaign, 0).await?);
        }
        let open = ledger.open();
        for (name, trial) in open.iter().zip(queue.trials(&open).await?) {
            if let Some(trial) = trial {
                ledger.found(name, &first_day.map_or_else(|| trial.clone(), |day| trial.clone().since(day)));
            }
        }
        Ok(ledger)
    }
}

/// Of a result that the ledger knows nothing of, nothing is said.
static NOTHING: Trial = Trial { first_day: 0, returns: Vec::new() };

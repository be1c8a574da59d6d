//! The hold-out vault: the last part of a series' candles is kept from research, so that days are left on which what was chosen can
//! be judged. [`Service::admit`] is the one place that decides what a job may look at; all that submits passes it.
//!
//! A series is held out of a tenant's research from the first job on that names a campaign, and from then on for all of the tenant's
//! jobs, with this name, another or none: a hold-out that a new name opens is none. The first day is fixed then. Candles that come
//! later are held out too; none are set free by themselves, only by [`Service::open_days`].

use std::collections::BTreeMap;

use access::Caller;
use analysis::ledger::{HoldoutFigures, LookView};
use jesse::{
    candles::{Series, store::StoreError},
    parent::Holdout,
    spec::{BacktestSpec, midnight_ms},
};
use jiff::{Timestamp, ToSpan as _, civil::Date};
use jobs::{
    JobView, Kind, Looks, TenantId,
    holdouts::{Bound, HeldOut, looks_of},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Service, SubmitOptions};
use crate::{
    errors::{Code, ServiceError},
    views::time,
};

/// The most of a series' candles that may be held out.
pub const MOST_HELD_OUT: f64 = 0.5;
const DAY_MS: i64 = 86_400_000;

/// Held-out days that are to be free for research.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenDays {
    /// As Jesse spells it.
    pub exchange: String,
    /// E.g. BTC-USDT.
    pub symbol: String,
    /// The first day that is held out from now on.
    #[schemars(with = "String", extend("format" = "date"))]
    pub open_until: Date,
}

/// What a job, or all jobs of a batch together, read: of each series the days from the first to the one after the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach(BTreeMap<Series, (Date, Date)>);

impl Reach {
    /// What backtests read, apart from their warm-up.
    pub(super) fn of<'a>(backtests: impl IntoIterator<Item = &'a BacktestSpec>) -> Self {
        let mut reach = Self::default();
        backtests.into_iter().for_each(|backtest| reach.add(backtest));
        reach
    }

    pub(super) fn add(&mut self, backtest: &BacktestSpec) {
        for symbol in backtest.symbols() {
            // What is no series is refused where it is planned.
            if let Ok(series) = Series::new(&backtest.exchange, symbol) {
                self.add_series(series, (backtest.start_date, backtest.finish_date));
            }
        }
    }

    pub(super) fn add_series(&mut self, series: Series, (start, finish): (Date, Date)) {
        let days = self.0.entry(series).or_insert((start, finish));
        *days = (days.0.min(start), days.1.max(finish));
    }
}

/// The campaigns of looks in whose ledgers a job counts that is no trial of an idea.
pub(super) fn looks_alone(looks: &[Holdout]) -> Vec<String> {
    looks.iter().map(|look| looks_of(&look.series.to_string())).collect()
}

/// What the log says of a job that looks; `None` of one that does not.
pub(super) fn log_entry(
    looks: &[Holdout],
    reach: &Reach,
    kind: Kind,
    options: &SubmitOptions,
) -> Option<Looks> {
    let days = reach.0.values().copied().reduce(|all, own| (all.0.min(own.0), all.1.max(own.1)))?;
    let about = json!({
        "by": options.by, "campaign": options.campaign, "kind": kind.as_str(), "start_date": days.0, "finish_date": days.1,
    });
    let series = looks.iter().map(|look| look.series.to_string()).collect();
    (!looks.is_empty()).then(|| Looks { series, about: about.to_string() })
}

fn invalid(message: String) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}

/// A day by its number since 1970.
fn day(number: i64) -> Date {
    Date::constant(1970, 1, 1).checked_add(number.days()).unwrap_or(Date::MAX)
}

pub(super) fn unread(error: StoreError) -> ServiceError {
    match error {
        StoreError::Queue(error) => error.into(),
        error => ServiceError::internal("the candles cannot be listed", &error),
    }
}

impl Service {
    /// Decides whether a job may read what it reaches. Answers the held-out days that it looks at, which is an explicit act: a job
    /// that does not say `holdout` is refused with the last day that it may have.
    ///
    /// The first job of a campaign on a series also fixes what is held out of it.
    pub(super) async fn admit(
        &self,
        tenant: &TenantId,
        options: &SubmitOptions,
        reach: &Reach,
    ) -> Result<Vec<Holdout>, ServiceError> {
        let share = self.share(options)?;
        let names: Vec<_> = reach.0.keys().map(Series::to_string).collect();
        let campaign = options.campaign.as_deref();
        let Bound { mut held_out, known } = self.inner.queue.bound_by(tenant, campaign, &names).await?;
        if let Some(campaign) = campaign {
            let mut wanted = Vec::new();
            for (at, (series, held_out)) in reach.0.keys().zip(&held_out).enumerate() {
                match held_out {
                    Some(_) if known.get(at) != Some(&true) => wanted.push((at, None)),
                    None if share > 0.0 => {
                        let proposed = self.proposed(series, share, campaign).await?;
                        wanted.extend(proposed.map(|proposed| (at, Some(proposed))));
                    }
                    _ => {}
                }
            }
            if !wanted.is_empty() {
                let places: Vec<_> = wanted.iter().map(|(at, _)| *at).collect();
                let wanted: Vec<_> = wanted.into_iter().map(|(at, held)| (names[at].clone(), held)).collect();
                let found = self.inner.queue.hold_out(tenant, campaign, &wanted).await?;
                places.into_iter().zip(found).for_each(|(at, found)| held_out[at] = found);
            }
        }
        let held_out =
            reach.0.iter().zip(&held_out).filter_map(|(read, found)| Some((read, found.as_ref()?)));
        let held_out: Vec<_> = held_out.collect();
        if let Some(share) = options.holdout_share
            && let Some(((series, _), held_out)) =
                held_out.iter().find(|(_, held_out)| (held_out.share - share).abs() > 1e-9)
        {
            return Err(invalid(format!(
                "holdout_share: {series} is held out from {} on since {}, a share of {}; that is set once, by the first campaign on \
                 it: leave holdout_share out",
                day(held_out.first_day),
                time(held_out.since_ms),
                held_out.share,
            )));
        }
        let seen = held_out.into_iter().filter(|((_, (_, finish)), held)| *finish > day(held.first_day));
        let seen: Vec<_> = seen.map(|((series, days), held)| (series, *days, day(held.first_day))).collect();
        if !seen.is_empty() && !options.holdout {
            return Err(refusal(&seen));
        }
        let look = |(series, _, first_day): (&Series, _, _)| Holdout { series: series.clone(), first_day };
        Ok(seen.into_iter().map(look).collect())
    }

    /// What part of a series the first job on it holds out: as it says, or as is set where it names a campaign.
    fn share(&self, options: &SubmitOptions) -> Result<f64, ServiceError> {
        let Some(share) = options.holdout_share else { return Ok(self.holdout_share) };
        if options.campaign.is_none() {
            return Err(invalid("holdout_share: goes with a campaign, for whose first job it is".into()));
        }
        if !(0.0..=MOST_HELD_OUT).contains(&share) {
            return Err(invalid(format!("holdout_share: must be from 0 (nothing) to {MOST_HELD_OUT}")));
        }
        Ok(share)
    }

    /// How a series is held out by this share of the days that are stored now; `None` if they are too few to be parted.
    async fn proposed(
        &self,
        series: &Series,
        share: f64,
        campaign: &str,
    ) -> Result<Option<HeldOut>, ServiceError> {
        let Some((first_ms, end_ms)) = self.stored_range(series).await? else { return Ok(None) };
        // Whole days only.
        let (first, end) = ((first_ms + DAY_MS - 1).div_euclid(DAY_MS), end_ms.div_euclid(DAY_MS));
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "some thousands of days"
        )]
        let days = ((end - first) as f64 * share).round() as i64;
        let since_ms = Timestamp::now().as_millisecond();
        let held_out = HeldOut { first_day: end - days, share, since_ms, campaign: campaign.to_owned() };
        Ok(Some(held_out).filter(|_| days > 0 && days < end - first))
    }

    /// From when to when a series has candles (milliseconds), here or on Jesse's servers.
    async fn stored_range(&self, series: &Series) -> Result<Option<(i64, i64)>, ServiceError> {
        let stored = self.inner.candles.manifest(series).await.map_err(unread)?;
        if let Some(stored) = stored {
            return Ok(Some((stored.first_ms(), stored.end_ms())));
        }
        let Some(offer) = self.offer().await? else { return Ok(None) };
        let same =
            |one: &&jesse::rest::Coverage| one.exchange == series.exchange() && one.symbol == series.symbol();
        let found = offer.value.candles.iter().find(same);
        Ok(found.map(|found| (midnight_ms(found.first), midnight_ms(found.last) + DAY_MS)))
    }

    /// Sets the days before one free for research, which cannot be undone. Refused if they are free already or not stored yet: what
    /// comes later would open by itself.
    pub async fn open_days(
        &self,
        caller: &Caller,
        open: &OpenDays,
    ) -> Result<Vec<HoldoutFigures>, ServiceError> {
        let series = Series::new(&open.exchange, &open.symbol).map_err(|error| invalid(error.to_string()))?;
        let (tenant, name) = (&caller.tenant, series.to_string());
        let bound = self.inner.queue.bound_by(tenant, None, std::slice::from_ref(&name)).await?;
        let Some(held_out) = bound.held_out.into_iter().flatten().next() else {
            let message =
                format!("nothing of {series} is held out of your research; GET /v1/holdouts lists what is");
            return Err(ServiceError::new(Code::NotFound, message));
        };
        let until = midnight_ms(open.open_until).div_euclid(DAY_MS);
        let end = self
            .stored_range(&series)
            .await?
            .map_or(held_out.first_day, |(_, end_ms)| end_ms.div_euclid(DAY_MS));
        if until <= held_out.first_day || until > end {
            let first_day = day(held_out.first_day);
            let allowed = if end > held_out.first_day {
                format!(
                    "after {first_day}, from which day on {series} is held out, and not after {}, where its candles end",
                    day(end)
                )
            } else {
                format!("after {first_day}, and {series} has no candles after that day")
            };
            return Err(invalid(format!("open_until: must be {allowed}")));
        }
        let from_now = HeldOut { first_day: until, ..held_out.clone() };
        let about = json!({"by": caller.key, "open_until": open.open_until}).to_string();
        if !self.inner.queue.open_days(tenant, &name, held_out.first_day, &from_now, &about).await? {
            return Err(ServiceError::new(
                Code::Unavailable,
                "somebody else has just moved the same day; look at GET /v1/holdouts",
            ));
        }
        self.figures_of_holdouts(tenant, vec![(name, from_now)], None, true).await
    }

    /// All that is held out of a tenant's research, and what looks at it have come to.
    pub async fn holdouts(&self, tenant: &TenantId) -> Result<Vec<HoldoutFigures>, ServiceError> {
        let held_out = self.inner.queue.all_held_out(tenant).await?;
        self.figures_of_holdouts(tenant, held_out, None, true).await
    }

    /// What is held out of a campaign.
    pub(super) async fn holdouts_of_campaign(
        &self,
        tenant: &TenantId,
        campaign: &str,
    ) -> Result<Vec<HoldoutFigures>, ServiceError> {
        let held_out = self.inner.queue.held_out_of(tenant, campaign).await?;
        self.figures_of_holdouts(tenant, held_out, None, true).await
    }

    /// What the held-out days that a job has looked at say of it, given all that were seen before.
    pub(super) async fn holdouts_of_job(
        &self,
        tenant: &TenantId,
        view: &JobView,
        result: Option<&str>,
    ) -> Result<Vec<HoldoutFigures>, ServiceError> {
        if !view.details.holdout {
            return Ok(Vec::new());
        }
        let backtest = serde_json::from_str::<BacktestSpec>(view.request.get()).ok();
        let held_out = match (backtest.filter(|_| view.kind == Kind::Backtest), view.tags.campaign()) {
            (Some(backtest), _) => {
                let reach = Reach::of([&backtest]);
                let names: Vec<_> = reach.0.keys().map(Series::to_string).collect();
                let Bound { held_out, .. } = self.inner.queue.bound_by(tenant, None, &names).await?;
                let found = names.into_iter().zip(held_out);
                let found = found.filter_map(|(name, found)| Some((name, found?)));
                found.filter(|(_, held)| backtest.finish_date > day(held.first_day)).collect()
            }
            (None, Some(campaign)) => self.inner.queue.held_out_of(tenant, campaign).await?,
            (None, None) => Vec::new(),
        };
        self.figures_of_holdouts(tenant, held_out, result, false).await
    }

    async fn figures_of_holdouts(
        &self,
        tenant: &TenantId,
        held_out: Vec<(String, HeldOut)>,
        result: Option<&str>,
        with_log: bool,
    ) -> Result<Vec<HoldoutFigures>, ServiceError> {
        let mut all = Vec::with_capacity(held_out.len());
        for (series, HeldOut { first_day, share, since_ms, campaign }) in held_out {
            let figures = self.figures(tenant, &[looks_of(&series)], result).await?;
            let looks = if with_log { self.inner.queue.looks(tenant, &series).await? } else { Vec::new() };
            let view = |look: jobs::holdouts::Look| LookView {
                at: time(look.at_ms),
                job_id: Some(look.job).filter(|job| job != "-"),
                about: serde_json::from_str(&look.about).unwrap_or(Value::Null),
            };
            let log = looks.into_iter().map(view).collect();
            let set =
                with_log.then(|| json!({"share": share, "since": time(since_ms), "by_campaign": campaign}));
            all.push(HoldoutFigures::new(series, day(first_day), figures, set, log));
        }
        Ok(all)
    }
}

/// Says what is held out of what a job would read, and which day it may end on.
fn refusal(seen: &[(&Series, (Date, Date), Date)]) -> ServiceError {
    let finish = seen.iter().map(|(_, _, first_day)| *first_day).min().unwrap_or(Date::MIN);
    let series: Vec<_> =
        seen.iter().map(|(series, _, first)| format!("{series} from {first} on")).take(5).collect();
    let more = if seen.len() > series.len() { " and others" } else { "" };
    let wholly = seen.iter().any(|(_, (start, _), _)| *start >= finish);
    let allowed = if wholly {
        format!("all of this range is; end at {finish} at the latest and begin before")
    } else {
        format!("finish_date (the day after the last) may be {finish} at the latest")
    };
    let message = format!(
        "{}{more} is held out of research, so that days are left to judge what you choose on: {allowed}. Once you have chosen, say \
         holdout: true to look at these days too; each look is logged and counted against what it finds",
        series.join(", "),
    );
    let held_out: Vec<_> = seen
        .iter()
        .map(|(series, _, first)| {
            json!({"exchange": series.exchange(), "symbol": series.symbol(), "from": first})
        })
        .collect();
    let mut error = ServiceError::new(Code::HeldOut, message);
    error.detail = json!({"finish_date": finish, "held_out": held_out});
    error
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn a_refusal_says_what_is_held_out_and_what_is_allowed() {
        let (bitcoin, ether) =
            (Series::new("Binance", "BTC-USDT").unwrap(), Series::new("Binance", "ETH-USDT").unwrap());
        let days = (date("2023-01-01"), date("2023-05-01"));
        let error = refusal(&[(&bitcoin, days, date("2023-04-07")), (&ether, days, date("2023-03-01"))]);
        assert_eq!(error.detail["finish_date"], "2023-03-01");
        assert_eq!(error.detail["held_out"][0]["from"], "2023-04-07");
        for part in ["Binance BTC-USDT from 2023-04-07 on", "may be 2023-03-01", "holdout: true"] {
            assert!(error.message.contains(part), "{error}");
        }
        let inside = refusal(&[(&bitcoin, (date("2023-04-10"), date("2023-05-01")), date("2023-04-07"))]);
        assert!(inside.message.contains("all of this range is"), "{inside}");
    }

    #[test]
    fn a_reach_has_the_longest_range_of_each_series() {
        let series = Series::new("Binance", "BTC-USDT").unwrap();
        let mut reach = Reach::default();
        reach.add_series(series.clone(), (date("2023-02-01"), date("2023-03-01")));
        reach.add_series(series.clone(), (date("2023-01-01"), date("2023-02-01")));
        assert_eq!(reach.0[&series], (date("2023-01-01"), date("2023-03-01")));
        assert_eq!((day(0), day(19_454)), (date("1970-01-01"), date("2023-04-07")));
    }
}

//! What is held out of a tenant's research: the days of a series from one day on, and who has looked at them.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `:vault:<tenant>` | hash | for each series from which day on it is held out (JSON) |
//! | `:campaign:<tenant>:<campaign>` | hash | `on:<series>` for each series that the campaign was bound by |
//! | `:looks:<tenant>:<series>` | list | the jobs that looked, the last first: time, job and what is known of it |
//!
//! The day is set once, by whichever call comes first, and belongs to the tenant and the series: neither another campaign nor more
//! candles move it, only [`Queue::open_days`], which is logged too. Nothing here refuses a job; whoever submits asks first. A look is logged by the script that accepts the job, and
//! its backtests count as trials of [`looks_of`], so that what many looks leave of the best is worked out as for any campaign.
//!
//! Not guaranteed: that what a job saw before its series was held out is known. All is kept for as long as the ledger
//! ([`crate::Retention::trials`]) after the tenant's last trial.

use serde::{Deserialize, Serialize};

use crate::{
    error::QueueError,
    ids::TenantId,
    queue::{Queue, json},
};

/// How many looks at one series are read at once.
const LOOKS_READ: isize = 100;

/// What the campaigns of looks begin with; no client may name one so.
pub const LOOKS: &str = "holdout:";

/// The campaign in whose ledger looks at a series count.
pub fn looks_of(series: &str) -> String {
    format!("{LOOKS}{series}")
}

/// From when on a series is held out of a tenant's research.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The first day, in days since 1970. All later ones are held out too, also those that are not stored yet.
    pub first_day: i64,
    /// The part of the candles that this was when it was set.
    pub share: f64,
    /// When it was set, in milliseconds since 1970.
    pub since_ms: i64,
    /// The campaign that it was set for.
    pub campaign: String,
}

/// What a campaign is bound by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bound {
    /// For each series that was asked for, from when on it is held out, if it is.
    pub held_out: Vec<Option<HeldOut>>,
    /// Whether the campaign is known to be bound by each.
    pub known: Vec<bool>,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The job that looked; `-` where days were set free.
    pub job: String,
    /// What was known of it (JSON).
    pub about: String,
}

impl Look {
    fn parse(line: &str) -> Option<Self> {
        let (at, rest) = line.split_once(' ')?;
        let (job, about) = rest.split_once(' ')?;
        Some(Self { at_ms: at.parse().ok()?, job: job.to_owned(), about: about.to_owned() })
    }
}

impl Queue {
    /// From when on these series are held out, and whether the campaign, if there is one, is known to be bound by them.
    pub async fn bound_by(
        &self,
        tenant: &TenantId,
        campaign: Option<&str>,
        series: &[String],
    ) -> Result<Bound, QueueError> {
        if series.is_empty() {
            return Ok(Bound::default());
        }
        let keys = self.redis.keys();
        let mut ask = redis::pipe();
        ask.cmd("HMGET").arg(keys.vault(tenant.as_str())).arg(series);
        if let Some(campaign) = campaign {
            let fields: Vec<_> = series.iter().map(|series| format!("on:{series}")).collect();
            ask.cmd("HMGET").arg(keys.campaign(tenant.as_str(), campaign)).arg(fields);
        }
        let found: Vec<Vec<Option<String>>> = self.redis.pipeline(&ask).await?;
        let mut found = found.into_iter();
        let held_out = found.next().unwrap_or_default().into_iter().map(parse).collect::<Result<_, _>>()?;
        let known = found.next().unwrap_or_default().iter().map(Option::is_some).collect();
        Ok(Bound { held_out, known })
    }

    /// Holds series out, those that are not yet, and notes that the campaign is bound by them. Answers how each is held out now:
    /// whichever call comes first is right.
    pub async fn hold_out(
        &self,
        tenant: &TenantId,
        campaign: &str,
        wanted: &[(String, Option<HeldOut>)],
    ) -> Result<Vec<Option<HeldOut>>, QueueError> {
        let mut call = self.call(&self.scripts.hold_out);
        call.arg(tenant.as_str()).arg(campaign);
        for (series, proposed) in wanted {
            let proposed = proposed.as_ref().map(json).transpose()?;
            call.arg(series).arg(proposed.unwrap_or_default());
        }
        let found: Vec<String> = self.ask(&call).await?;
        found.into_iter().map(|text| parse(Some(text).filter(|text| !text.is_empty()))).collect()
    }

    /// Sets days free: a series that is held out from `known` on is held out as `from_now` says, and the log has what is said `about`
    /// it. False if it is not held out from that day on, or not any more.
    pub async fn open_days(
        &self,
        tenant: &TenantId,
        series: &str,
        known: i64,
        from_now: &HeldOut,
        about: &str,
    ) -> Result<bool, QueueError> {
        let mut call = self.call(&self.scripts.open_days);
        call.arg(tenant.as_str()).arg(series).arg(known).arg(json(from_now)?).arg(about);
        Ok(self.redis.invoke::<u8>(&call).await? == 1)
    }

    /// The series that a campaign is bound by and that are held out, in the order of their names.
    pub async fn held_out_of(
        &self,
        tenant: &TenantId,
        campaign: &str,
    ) -> Result<Vec<(String, HeldOut)>, QueueError> {
        let mut ask = redis::cmd("HKEYS");
        ask.arg(self.redis.keys().campaign(tenant.as_str(), campaign));
        let fields: Vec<String> = self.redis.query(&ask).await?;
        let named = fields.into_iter().filter_map(|field| field.strip_prefix("on:").map(str::to_owned));
        let mut series: Vec<String> = named.collect();
        series.sort_unstable();
        let Bound { held_out, .. } = self.bound_by(tenant, None, &series).await?;
        Ok(series.into_iter().zip(held_out).filter_map(|(name, found)| Some((name, found?))).collect())
    }

    /// All that is held out of a tenant's research, in the order of the series' names.
    pub async fn all_held_out(&self, tenant: &TenantId) -> Result<Vec<(String, HeldOut)>, QueueError> {
        let mut ask = redis::cmd("HGETALL");
        ask.arg(self.redis.keys().vault(tenant.as_str()));
        let found: std::collections::BTreeMap<String, String> = self.redis.query(&ask).await?;
        let read = |(name, text)| Ok(parse(Some(text))?.map(|found| (name, found)));
        found.into_iter().filter_map(|pair| read(pair).transpose()).collect()
    }

    /// The last looks at a series, the last one first; at most 100.
    pub async fn looks(&self, tenant: &TenantId, series: &str) -> Result<Vec<Look>, QueueError> {
        let mut ask = redis::cmd("LRANGE");
        ask.arg(self.redis.keys().looks(tenant.as_str(), series)).arg(0).arg(LOOKS_READ - 1);
        let lines: Vec<String> = self.redis.query(&ask).await?;
        Ok(lines.iter().filter_map(|line| Look::parse(line)).collect())
    }
}

fn parse(text: Option<String>) -> Result<Option<HeldOut>, QueueError> {
    let corrupt = |error: serde_json::Error| QueueError::Corrupt(format!("what is held out: {error}"));
    text.map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()
}

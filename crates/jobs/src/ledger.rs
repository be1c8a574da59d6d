//! The ledger of trials: what each campaign of a tenant has tried, and what came of it day by day.
//!
//! A campaign's trials are cache keys: the same backtest asked for twice is one trial. They are written by the script that accepts
//! the job, so that none is missed, whatever becomes of it, and what was found is written by the script that takes the outcome
//! (`trials.lua`, `finish.lua`). Both outlive jobs and results ([`crate::Retention::trials`]) and are bounded: 20,000 trials of a
//! campaign are known one by one, those before are counted; of a trial up to [`MOST_DAYS`] days are kept, 6 bytes each.
//!
//! Not guaranteed: that a trial has returns. One that failed, has not ended, made no trade or was stored before there was a ledger
//! counts without any.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    error::QueueError,
    ids::{JobId, TenantId},
    queue::Queue,
};

/// The most days of one trial, about 27 years; of a longer one the first are left out.
pub const MOST_DAYS: usize = 10_000;

/// How many trials are read at once: a year of each is 2 KB.
const READ_AT_ONCE: usize = 500;

/// What a backtest earned, day by day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// Days since 1970 of the first return.
    pub first_day: i64,
    /// Simple returns by calendar day (UTC), to the seven digits of 32 bits. Empty if it made no trade.
    pub returns: Vec<f64>,
}

/// A trial and the names under which it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRecord {
    /// The cache key that was asked for, and that of what was really run.
    pub names: Vec<String>,
    /// What it earned.
    pub trial: Trial,
}

impl TrialRecord {
    pub(crate) fn to_text(&self) -> String {
        format!("{}\n{}", self.names.join(" "), self.trial.to_text())
    }
}

impl Trial {
    /// Without the days before this one.
    #[must_use]
    pub fn since(mut self, day: i64) -> Self {
        let before = usize::try_from(day - self.first_day).unwrap_or(0).min(self.returns.len());
        self.returns.drain(..before);
        self.first_day = self.first_day.max(day);
        self
    }

    /// `1 <first day>\n<base64 of 32-bit floats, least byte first>`; 1 is the version.
    fn to_text(&self) -> String {
        let left_out = self.returns.len().saturating_sub(MOST_DAYS);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a return")]
        let bytes: Vec<u8> =
            self.returns[left_out..].iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        let first_day = self.first_day + i64::try_from(left_out).unwrap_or(0);
        format!("1 {first_day}\n{}", STANDARD.encode(bytes))
    }

    /// `None` for what a later version wrote.
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once('\n')?;
        let first_day = head.strip_prefix("1 ")?.parse().ok()?;
        let bytes = STANDARD.decode(body).ok()?;
        let (values, _) = bytes.as_chunks::<4>();
        Some(Self {
            first_day,
            returns: values.iter().map(|value| f32::from_le_bytes(*value).into()).collect(),
        })
    }
}

/// What a campaign has tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// How many different backtests, whatever became of them.
    pub total: u64,
    /// Those that are known one by one.
    pub known: u64,
    /// Of these the ones asked for since the given time: cache key, and when it was first asked for (milliseconds).
    pub since: Vec<(String, i64)>,
}

/// A campaign of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its name.
    pub name: String,
    /// When its last trial was asked for, in milliseconds since 1970.
    pub last_ms: i64,
    /// How many different backtests it has asked for.
    pub trials: u64,
}

impl Queue {
    /// The trials of a campaign; those asked for since a time (milliseconds) by name. An unknown campaign has none.
    pub async fn tried(&self, tenant: &TenantId, campaign: &str, since_ms: i64) -> Result<Tried, QueueError> {
        let keys = self.redis.keys();
        let set = keys.tried(tenant.as_str(), campaign);
        let mut ask = redis::pipe();
        ask.cmd("ZCARD").arg(&set);
        ask.cmd("HGET").arg(keys.campaign(tenant.as_str(), campaign)).arg("beyond");
        ask.cmd("ZRANGEBYSCORE").arg(&set).arg(since_ms).arg("+inf").arg("WITHSCORES");
        let (known, beyond, since): (u64, Option<u64>, Vec<(String, f64)>) =
            self.redis.pipeline(&ask).await?;
        #[expect(clippy::cast_possible_truncation, reason = "Redis's clock in milliseconds")]
        let since = since.into_iter().map(|(name, time)| (name, time as i64)).collect();
        Ok(Tried { total: known + beyond.unwrap_or(0), known, since })
    }

    /// What is known of these results, in their order.
    pub async fn trials(&self, results: &[String]) -> Result<Vec<Option<Trial>>, QueueError> {
        let mut found = Vec::with_capacity(results.len());
        for part in results.chunks(READ_AT_ONCE) {
            let mut ask = redis::cmd("MGET");
            ask.arg(part.iter().map(|name| self.redis.keys().trial(name)).collect::<Vec<_>>());
            let texts: Vec<Option<String>> = self.redis.query(&ask).await?;
            found.extend(texts.into_iter().map(|text| text.as_deref().and_then(Trial::parse)));
        }
        Ok(found)
    }

    /// What was kept of choosing among the jobs of a batch (JSON).
    pub async fn selection(&self, batch: JobId) -> Result<Option<String>, QueueError> {
        let mut ask = redis::cmd("GET");
        ask.arg(self.redis.keys().selection(&batch.to_string()));
        self.redis.query(&ask).await
    }

    /// Keeps it for as long as an ended job.
    pub async fn keep_selection(&self, batch: JobId, found: &str) -> Result<(), QueueError> {
        let mut keep = redis::cmd("SET");
        keep.arg(self.redis.keys().selection(&batch.to_string())).arg(found);
        keep.arg("EX").arg(self.retention().jobs.as_secs().max(1));
        self.redis.query(&keep).await
    }

    /// A tenant's campaigns, the one with the latest trial first; at most 100.
    pub async fn campaigns(&self, tenant: &TenantId) -> Result<Vec<Campaign>, QueueError> {
        let keys = self.redis.keys();
        let mut ask = redis::cmd("ZREVRANGE");
        ask.arg(keys.campaigns(tenant.as_str())).arg(0).arg(99).arg("WITHSCORES");
        let named: Vec<(String, f64)> = self.redis.query(&ask).await?;
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = redis::pipe();
        for (name, _) in &named {
            ask.cmd("ZCARD").arg(keys.tried(tenant.as_str(), name));
            ask.cmd("HGET").arg(keys.campaign(tenant.as_str(), name)).arg("beyond");
        }
        let counts: Vec<Option<u64>> = self.redis.pipeline(&ask).await?;
        let (pairs, _) = counts.as_chunks::<2>();
        #[expect(clippy::cast_possible_truncation, reason = "Redis's clock in milliseconds")]
        let campaign = |((name, time), [known, beyond]): ((String, f64), &[Option<u64>; 2])| Campaign {
            name,
            last_ms: time as i64,
            trials: known.unwrap_or(0) + beyond.unwrap_or(0),
        };
        Ok(named.into_iter().zip(pairs).map(campaign).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_survives_redis_to_seven_digits_and_a_long_one_loses_its_first_days() {
        let trial = Trial { first_day: 19_000, returns: vec![0.012_345_678, -0.5, 0.0] };
        let read = Trial::parse(&trial.to_text()).unwrap_or_default();
        assert_eq!((read.first_day, read.returns.len()), (19_000, 3));
        assert!(
            read.returns.iter().zip(&trial.returns).all(|(a, b)| (a - b).abs() <= 1e-7 * b.abs()),
            "{read:?}"
        );
        let long = Trial { first_day: 10, returns: vec![0.0; MOST_DAYS + 5] };
        let read = Trial::parse(&long.to_text()).unwrap_or_default();
        assert_eq!((read.first_day, read.returns.len()), (15, MOST_DAYS));
        let days = |since: i64| {
            let cut = read.clone().since(since);
            (cut.first_day, cut.returns.len())
        };
        assert_eq!(days(3), (15, MOST_DAYS), "begins later");
        assert_eq!(days(20), (20, MOST_DAYS - 5));
        assert_eq!(days(90_000), (90_000, 0), "ended before");
        assert_eq!(Trial::parse("2 later"), None);
        assert_eq!(Trial::parse("1 x\n"), None);
        assert_eq!(Trial::parse(&Trial::default().to_text()), Some(Trial::default()));
    }
}

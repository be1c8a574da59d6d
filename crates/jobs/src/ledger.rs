//! The ledger of trials: what each campaign of a tenant has tried, and what came of it day by day.
//!
//! A campaign's trials are cache keys: the same backtest asked for twice is one trial. They are written by the script that accepts
//! the job, so that none is missed, whatever becomes of it, and what was found is written by the script that takes the outcome
//! (`trials.lua`, `finish.lua`). Both outlive jobs and results ([`crate::Retention::trials`]) and are bounded: 20,000 trials of a
//! campaign are known one by one, those before are counted; of a trial up to [`MOST_DAYS`] days are kept, 6 bytes each.
//!
//! Not guaranteed: that a trial has returns. One that failed, has not ended, made no trade or was stored before there was a ledger
//! counts without any.

use crate::{
    error::QueueError,
    ids::{JobId, TenantId},
    queue::Queue,
};

pub use crate::trial::{MOST_DAYS, Trial, TrialRecord};

/// How many trials are read at once: a year of each is 2 KB.
const READ_AT_ONCE: usize = 500;

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

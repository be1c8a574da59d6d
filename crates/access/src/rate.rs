//! How often a caller may call: the generic cell rate algorithm (GCRA), a token bucket whose whole state is one time.
//!
//! All instances of a deployment share the bucket in Redis, and go by Redis's clock, so the limit holds for all of them
//! together, exactly.

use std::{fmt, str::FromStr, sync::LazyLock, time::Duration};

use jobs::{QueueError, Redis};
use redis::Script;
use serde::{Deserialize, Serialize};

const MOST_PER_MINUTE: u32 = 1_000_000;
const LARGEST_BURST: u32 = 100_000;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate.lua")));

/// So many calls a minute in the long run, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Calls a minute.
    pub per_minute: u32,
    /// Calls at once.
    pub burst: u32,
}

/// A text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rate: expected calls a minute (1 to {MOST_PER_MINUTE}), or calls a minute and calls at once (1 to \
     {LARGEST_BURST}), e.g. 60 or 60/10"
)]
pub struct InvalidRate(String);

impl Rate {
    /// A rate within the bounds; nothing if it is outside.
    pub fn new(per_minute: u32, burst: u32) -> Option<Self> {
        let fits = (1..=MOST_PER_MINUTE).contains(&per_minute) && (1..=LARGEST_BURST).contains(&burst);
        fits.then_some(Self { per_minute, burst })
    }

    /// The time that one call costs.
    fn cost_us(self) -> u64 {
        60_000_000 / u64::from(self.per_minute.max(1))
    }

    /// How long the bucket takes to fill.
    pub fn window(self) -> Duration {
        Duration::from_micros(self.cost_us() * u64::from(self.burst))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_minute, self.burst)
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    /// `60/10`, or `60`, which allows a sixth of it at once.
    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let invalid = || InvalidRate(text.chars().take(40).collect());
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| invalid());
        let (per_minute, burst) = match text.split_once('/') {
            Some((per_minute, burst)) => (number(per_minute)?, number(burst)?),
            None => (number(text)?, (number(text)? / 6).clamp(1, LARGEST_BURST)),
        };
        Self::new(per_minute, burst).ok_or_else(invalid)
    }
}

/// Whether a call may be made, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may.
    pub admitted: bool,
    /// Calls that may be made at once now.
    pub remaining: u32,
    /// In how long the bucket is full.
    pub reset: Duration,
    /// In how long a call is admitted; nothing if one is now.
    pub retry_after: Duration,
}

/// Counts calls.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    redis: Redis,
    prefix: String,
}

impl RateLimiter {
    /// Counts those of the deployment that this Redis serves.
    pub fn new(redis: Redis) -> Self {
        let prefix = format!("{}:access:rate:", redis.tag());
        Self { redis, prefix }
    }

    /// Takes one call out of the bucket of `who`.
    pub async fn take(&self, who: &str, rate: Rate) -> Result<Verdict, QueueError> {
        let mut call = TAKE.prepare_invoke();
        call.key(format!("{}{who}", self.prefix)).arg(rate.cost_us()).arg(rate.burst);
        let (admitted, remaining, reset, retry_after): (u8, u32, u64, u64) = self.redis.invoke(&call).await?;
        Ok(Verdict {
            admitted: admitted == 1,
            remaining,
            reset: Duration::from_micros(reset),
            retry_after: Duration::from_micros(retry_after),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        assert_eq!("60/10".parse(), Ok(Rate { per_minute: 60, burst: 10 }));
        assert_eq!("60".parse(), Ok(Rate { per_minute: 60, burst: 10 }));
        assert_eq!("1".parse(), Ok(Rate { per_minute: 1, burst: 1 }));
        let rate: Rate = "1000000/100000".parse().unwrap();
        assert_eq!(rate.to_string().parse(), Ok(rate));
        for wrong in ["", "0", "60/0", "-1", "1000001", "60/100001", "60/10/1", "a", &"9".repeat(1000)] {
            let error = wrong.parse::<Rate>().unwrap_err().to_string();
            assert!(error.len() < 300 && error.contains("60/10"), "{error}");
        }
    }

    #[test]
    fn a_window_is_what_the_burst_takes_to_come_back() {
        assert_eq!(Rate { per_minute: 60, burst: 10 }.window(), Duration::from_secs(10));
    }
}

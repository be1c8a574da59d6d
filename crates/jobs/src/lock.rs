//! Locks across processes: whoever holds one is alone with what it names, for as long as it keeps it.
//!
//! A lock is a key with the holder's token that expires by itself ([`LEASE`] after it was last renewed), so a holder that was
//! killed blocks nobody for long.
//!
//! # What is not guaranteed
//! * That two never believe to hold a lock at the same moment: a holder that was stopped for longer than the lease finds out
//!   only when it goes on. What must not go wrong even then is for a compare-and-set to guard.
//! * Any order among those who wait.

use std::time::{Duration, Instant};

use crate::{
    error::{QueueError, chain},
    redis::Redis,
    rules::{LEASE, milliseconds},
    scripts::LOCK,
};

/// How often a lock is renewed: several times within a lease.
const RENEW_EVERY: Duration = Duration::from_millis(2500);

/// A lock that is held. Dropping it leaves it to expire; [`Lock::release`] ends it at once.
#[derive(Debug)]
pub struct Lock {
    redis: Redis,
    key: String,
    token: String,
}

impl Lock {
    /// Takes the lock of this name, unless somebody holds it.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn try_take(redis: &Redis, name: &str) -> Result<Option<Self>, QueueError> {
        let lock = Self {
            redis: redis.clone(),
            key: redis.keys().lock(name),
            token: uuid::Uuid::new_v4().simple().to_string(),
        };
        let mut take = redis::cmd("SET");
        take.arg(&lock.key).arg(&lock.token).arg("NX").arg("PX").arg(milliseconds(LEASE));
        Ok(redis.query::<Option<String>>(&take).await?.map(|_| lock))
    }

    /// Renews the lock for as long as this is polled; ends when it is lost.
    pub async fn keep(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.expire_in(LEASE).await {
                Ok(true) => renewed = Instant::now(),
                // Redis may be back before the lease is over.
                Err(_) if renewed.elapsed() < LEASE => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Lets others have it: at once, or when it expires if Redis is away.
    pub async fn release(self) {
        if let Err(error) = self.expire_in(Duration::ZERO).await {
            tracing::debug!(error = chain(&error), "a lock was left to expire");
        }
    }

    /// Answers whether it was still held.
    async fn expire_in(&self, lease: Duration) -> Result<bool, QueueError> {
        let mut call = LOCK.prepare_invoke();
        call.key(&self.key).arg(&self.token).arg(milliseconds(lease));
        self.redis.invoke(&call).await
    }
}

//! Keeps the offer up to date: asks the servers what they can run, again and again.

use std::{sync::Arc, time::Duration};

use jobs::{QueueError, Redis, chain, documents::Documents};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    RestEngine,
    http::CallError,
    offer::{self, COLLECTION, DOCUMENT, Offer},
};

/// How often the servers are asked.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon again where nobody answered.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// An offer that has not changed is repeated when it is so old.
const REPEAT_MS: u64 = 60_000;

/// Why the offer was not published.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// No server answered.
    #[error("no Jesse server could be asked what it can run")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Redis.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// See the module's documentation.
pub struct OfferPublisher {
    engine: Arc<RestEngine>,
    offers: Documents<Offer>,
    /// One at a time.
    publishing: Mutex<()>,
}

impl std::fmt::Debug for OfferPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfferPublisher").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl OfferPublisher {
    /// A publisher of what these servers offer.
    pub fn new(engine: Arc<RestEngine>, redis: Redis) -> Self {
        Self { engine, offers: Documents::new(redis, COLLECTION), publishing: Mutex::default() }
    }

    /// Asks the first server that answers, and publishes what it says if that is new.
    pub async fn refresh(&self) -> Result<(), OfferError> {
        let _alone = self.publishing.lock().await;
        let offer = self.ask().await.map_err(|error| OfferError::Server(error.into()))?;
        loop {
            let stored = self.offers.get(DOCUMENT).await?;
            let fresh = |stored: &Offer| {
                stored.says_the_same(&offer) && offer.made_ms.saturating_sub(stored.made_ms) < REPEAT_MS
            };
            if stored.as_ref().is_some_and(|stored| fresh(&stored.value)) {
                return Ok(());
            }
            let expected = stored.as_ref().map(|stored| stored.hash.as_str());
            if self.offers.replace(DOCUMENT, expected, &offer).await? {
                tracing::debug!(
                    strategies = offer.catalogue.strategies.len(),
                    "what Jesse's servers offer is published"
                );
                return Ok(());
            }
        }
    }

    async fn ask(&self) -> Result<Offer, CallError> {
        let ttl = self.engine.settings.cache_ttl.as_secs();
        let mut last = CallError::Open("any address".into());
        for server in &self.engine.servers {
            match offer::ask(&server.client, ttl).await {
                Ok(offer) => return Ok(offer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks again and again, until `stop`. A failure is logged when it is a new one.
    pub async fn watch(&self, stop: &CancellationToken) {
        let mut last_failure = None;
        while !stop.is_cancelled() {
            let refreshed = stop.run_until_cancelled(self.refresh()).await;
            let failure = refreshed.and_then(Result::err).map(|error| chain(&error));
            if let Some(error) = failure.as_ref().filter(|failure| last_failure.as_ref() != Some(*failure)) {
                tracing::warn!(error, "what Jesse's servers offer is not known");
            }
            let pause = if failure.is_some() { LOOK_AGAIN } else { LOOK_EVERY };
            last_failure = failure;
            let _stopped = tokio::time::timeout(pause, stop.cancelled()).await;
        }
    }
}

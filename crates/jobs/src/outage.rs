//! Logging what goes on and on once: when it begins and when it is over.

use std::time::Instant;

use crate::error::chain;

/// One thing that may be out of order for a while.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    since: Option<Instant>,
}

impl Outage {
    /// `what` completes a log line, as in "leases cannot be renewed".
    pub fn new(what: &'static str) -> Self {
        Self { what, since: None }
    }

    /// It failed (again).
    pub fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!(error = chain(error), "{}; tried again until it is over", self.what);
        } else {
            tracing::debug!(error = chain(error), "still: {}", self.what);
        }
    }

    /// It worked.
    pub fn over(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(duration_s = since.elapsed().as_secs(), "no longer: {}", self.what);
        }
    }
}

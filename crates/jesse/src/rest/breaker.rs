//! The circuit breaker of one server: after several failures in a row it is left alone for a while, then tried with
//! one call; if that fails, it is left alone for longer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row after which a server is left alone.
const TOLERATED: u32 = 5;
/// For how long, at first and at most.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Not used before then.
    closed_until: Option<Instant>,
    pauses: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server may be called now. The first caller after a pause is the one who tries it: the others are
    /// told to wait for another pause.
    pub(super) fn admit(&self) -> bool {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.closed_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.closed_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Whether the server is left alone just now, without trying it.
    pub(super) fn is_open(&self) -> bool {
        self.lock().closed_until.is_some_and(|until| Instant::now() < until)
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// It did not. Answers whether this made it be left alone.
    pub(super) fn failed(&self) -> bool {
        self.failed_at(Instant::now())
    }

    fn failed_at(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.failures += 1;
        if state.failures < TOLERATED {
            return false;
        }
        let pause = PAUSE.saturating_mul(1 << state.pauses.min(16)).min(PAUSE_MAX);
        state.pauses += 1;
        state.closed_until = Some(now + pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_server_is_left_alone_for_longer_and_longer_until_it_answers() {
        let breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 1..TOLERATED {
            assert!(breaker.admit_at(now) && !breaker.failed_at(now));
        }
        assert!(breaker.failed_at(now));
        assert!(!breaker.admit_at(now) && breaker.is_open());
        now += PAUSE;
        assert!(breaker.admit_at(now), "it is tried after the pause");
        assert!(!breaker.admit_at(now), "by one caller");
        assert!(breaker.failed_at(now));
        now += PAUSE;
        assert!(!breaker.admit_at(now), "the second pause is longer");
        now += PAUSE;
        assert!(breaker.admit_at(now));
        breaker.succeeded();
        assert!(breaker.admit_at(now) && breaker.admit_at(now));
    }
}

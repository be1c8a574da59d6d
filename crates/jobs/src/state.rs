//! The two state machines. `JobState` is what a client sees; `RunState` is what the queue moves.
//!
//! A job that is not settled yet has the state of the run it waits for ([`JobState::of_live`]), so that claiming a run
//! that a thousand jobs wait for writes one record. Redis scripts change a job's state through one function,
//! `transition` in `scripts/jobs.lua`, whose list of allowed changes is generated from [`JobState::can_become`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its run stands in the queue.
    Queued,
    /// Its run waits for its time: delayed, or to be tried again.
    Scheduled,
    /// A worker computes its run.
    Running,
    /// A parent whose children are not finished.
    Waiting,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error of its own.
    Failed,
    /// Ended because a client asked for it.
    Cancelled,
    /// Given up: attempts or stalls are used up.
    Dead,
    /// Its deadline passed before it could start.
    Expired,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Scheduled,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
        Self::Expired,
    ];

    /// The state's name in Redis, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
            Self::Expired => "expired",
        }
    }

    /// The state with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the job has ended; it never changes again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Scheduled | Self::Running | Self::Waiting => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead | Self::Expired => true,
        }
    }

    /// Whether a stored job may go from this state to `next`. Live states are derived from the run and are stored as
    /// `queued` or `waiting`, so that what is stored changes once: when the job is settled.
    pub fn can_become(self, next: Self) -> bool {
        matches!(self, Self::Queued | Self::Waiting) && next.is_terminal()
    }

    /// The state to show for a job that is stored as `self` and waits for a run in state `run`.
    #[must_use]
    pub fn of_live(self, run: Option<RunState>) -> Self {
        match (self, run) {
            (Self::Queued, Some(RunState::Scheduled)) => Self::Scheduled,
            // A finished run whose jobs are about to be settled is still running to them.
            (Self::Queued, Some(RunState::Running | RunState::Finished)) => Self::Running,
            (Self::Queued, Some(RunState::Stopping)) => Self::Cancelled,
            (Self::Queued, Some(RunState::Waiting)) => Self::Waiting,
            (stored, _) => stored,
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// In the queue.
    Queued,
    /// Waiting to be tried again at a set time.
    Scheduled,
    /// Claimed under a lease.
    Running,
    /// Waiting for a batch of its own; no worker holds it.
    Waiting,
    /// Over; its outcome is fixed.
    Finished,
    /// Its batch was stopped, and it is about to be cancelled.
    Stopping,
}

impl RunState {
    /// The state with this name in Redis.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "queued" => Some(Self::Queued),
            "scheduled" => Some(Self::Scheduled),
            "running" => Some(Self::Running),
            "waiting" => Some(Self::Waiting),
            "finished" => Some(Self::Finished),
            _ => None,
        }
    }
}

/// The allowed changes as a text to look one up in: ` queued>succeeded queued>failed ... `.
pub(crate) fn transitions_as_text() -> String {
    let pairs = JobState::ALL.into_iter().flat_map(|from| JobState::ALL.map(|to| (from, to)));
    let allowed = pairs.filter(|(from, to)| from.can_become(*to));
    let words: Vec<_> = allowed.map(|(from, to)| format!("{}>{}", from.as_str(), to.as_str())).collect();
    format!(" {} ", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_round_trip() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
        assert_eq!(JobState::parse("done"), None);
    }

    #[test]
    fn what_has_ended_never_changes() {
        for from in JobState::ALL.into_iter().filter(|state| state.is_terminal()) {
            assert!(JobState::ALL.into_iter().all(|to| !from.can_become(to)), "{from:?}");
        }
    }

    #[test]
    fn a_live_job_shows_the_state_of_its_run() {
        assert_eq!(JobState::Queued.of_live(Some(RunState::Running)), JobState::Running);
        assert_eq!(JobState::Queued.of_live(Some(RunState::Scheduled)), JobState::Scheduled);
        assert_eq!(JobState::Queued.of_live(None), JobState::Queued);
        assert_eq!(JobState::Cancelled.of_live(Some(RunState::Running)), JobState::Cancelled);
    }
}

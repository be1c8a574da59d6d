//! What receivers are told of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happened. Its name is the `type` of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// A job has its result.
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    /// A job ended with an error of its own.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// A job was cancelled.
    #[serde(rename = "job.cancelled")]
    JobCancelled,
    /// A job was given up.
    #[serde(rename = "job.dead")]
    JobDead,
    /// A job could not start before its deadline.
    #[serde(rename = "job.expired")]
    JobExpired,
    /// All jobs of a batch have ended, however they did.
    #[serde(rename = "batch.completed")]
    BatchCompleted,
    /// Nothing: somebody tries an endpoint out.
    #[serde(rename = "webhook.test")]
    Test,
}

impl EventType {
    /// Those that an endpoint can ask for: all but the test, which comes when it is asked for.
    pub const ALL: [Self; 6] = [
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCancelled,
        Self::JobDead,
        Self::JobExpired,
        Self::BatchCompleted,
    ];

    /// The event's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCancelled => "job.cancelled",
            Self::JobDead => "job.dead",
            Self::JobExpired => "job.expired",
            Self::BatchCompleted => "batch.completed",
            Self::Test => "webhook.test",
        }
    }

    /// The event of this name, the test included.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Test]).find(|event| event.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for event in EventType::ALL.into_iter().chain([EventType::Test]) {
            assert_eq!(EventType::parse(event.as_str()), Some(event));
            assert_eq!(serde_json::to_value(event).ok(), Some(event.as_str().into()));
        }
        assert_eq!(EventType::parse("job.started"), None);
    }
}

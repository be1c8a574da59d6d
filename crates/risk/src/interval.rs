//! A figure with how well it is known.

use schemars::JsonSchema;
use serde::Serialize;

/// Where the true value lies with a stated confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Probability that such an interval covers the true value, between 0 and 1.
    pub confidence: f64,
}

/// An estimate and its interval. Each is `null` where it is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// The value for the data as they are.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
}

//! Figures that the scripts and the code around them share.

use std::time::Duration;

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(10);
/// A run whose worker was lost this often is given up: it may be what kills them.
pub(crate) const STALLS_TOLERATED: u32 = 3;

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! A worker to kill, somebody who keeps submitting whatever happens, and somebody who looks afterwards what became of
//! it all. `bench/chaos.py` runs them, and does the killing.

pub(crate) mod check;
pub(crate) mod submit;
pub(crate) mod worker;

use std::{fs::File, io::Write, path::Path};

use serde::{Deserialize, Serialize};

/// What a run is to do. It is the request of its job, since children of a batch share their plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    /// The cache key, which is what its result is stored under.
    key: String,
    /// How long it computes.
    sleep_ms: u64,
    /// How it ends.
    ends: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    /// With a result.
    Well,
    /// The first attempt fails, the second does not.
    FailsOnce,
    /// With an error for good.
    Fails,
    /// It kills every worker that runs it.
    Kills,
}

/// A file to which whole lines are added: what was added before the process was killed is there.
#[derive(Debug)]
struct Journal(File);

impl Journal {
    fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(path)?))
    }

    fn add(&self, line: &str) -> std::io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

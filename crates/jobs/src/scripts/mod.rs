//! All Redis keys and every script that touches them: nothing else in the project names a key of the queue.
//!
//! | key (after the prefix `{name}`) | type | holds |
//! |---|---|---|
//! | `:job:<id>` | hash | a job record: state, tenant, request, then its outcome; expires after it has ended |
//! | `:run:<id>` | hash | a run record: state, plan, fence, counters, progress; expires an hour after it has ended |
//! | `:waiters:<run>` | set | the jobs that wait for the run |
//! | `:flight:<cache key>` | string | the run in flight for this key |
//! | `:call:<tenant>:<hash>` | string | the live job of an identical call |
//! | `:idem:<tenant>:<key>` | hash | the job that an idempotency key was first used for, and what was sent; a day |
//! | `:stops:<worker>` | list | runs that the worker should stop, so that it renews its leases at once; a minute |
//! | `:result:<cache key or run>` | hash | summary and receipt of a result; the body is in the blob store |
//! | `:ready` | sorted set | runs in the queue, by priority and order of arrival |
//! | `:leases` | sorted set | runs being computed, by the end of their lease |
//! | `:delayed` | sorted set | runs that wait for their time |
//! | `:settling` | sorted set | finished runs whose jobs are not all settled |
//! | `:wake` | list | a token for each new entry of `ready`, for blocked workers; at most 64 |
//! | `:events` | stream | what happened, about the last 20,000 entries |
//! | `:stats` | hash | counters |
//! | `:seq` | string | the order of arrival |
//! | `:doc:<collection>/<name>`, `:docs:<collection>` | hash, set | documents beside the queue: hash and body; the names of a collection |
//!
//! Scripts run atomically, take Redis's clock, and touch a bounded number of elements each.

use std::sync::LazyLock;

use redis::Script;

/// The names of the keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    ready: String,
}

impl Keys {
    /// Keys under the hash tag `{name}`, so that all of a deployment's keys live on one node of a Redis Cluster.
    pub(crate) fn new(name: &str) -> Self {
        Self { prefix: format!("{{{name}}}"), ready: format!("{{{name}}}:ready") }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn ready(&self) -> &str {
        &self.ready
    }

    pub(crate) fn wake(&self) -> String {
        format!("{}:wake", self.prefix)
    }

    pub(crate) fn stops(&self, worker: &str) -> String {
        format!("{}:stops:{worker}", self.prefix)
    }

    pub(crate) fn events(&self) -> String {
        format!("{}:events", self.prefix)
    }

    pub(crate) fn stats(&self) -> String {
        format!("{}:stats", self.prefix)
    }

    pub(crate) fn leases(&self) -> String {
        format!("{}:leases", self.prefix)
    }

    pub(crate) fn delayed(&self) -> String {
        format!("{}:delayed", self.prefix)
    }

    pub(crate) fn result(&self, id: &str) -> String {
        format!("{}:result:{id}", self.prefix)
    }

    /// A key for a document that is kept beside the queue (see [`crate::documents`]).
    pub(crate) fn document(&self, collection: &str, name: &str) -> String {
        format!("{}:doc:{collection}/{name}", self.prefix)
    }

    /// The set of the names of all documents of this collection.
    pub(crate) fn collection(&self, collection: &str) -> String {
        format!("{}:docs:{collection}", self.prefix)
    }
}

macro_rules! scripts {
    ($($name:ident),+) => {
        /// The scripts, each with the common part in front.
        #[derive(Debug)]
        pub(crate) struct Scripts { $(pub(crate) $name: Script),+ }

        pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
            let allowed = crate::state::transitions_as_lua();
            let load = |body: &str| {
                Script::new(&format!("local ALLOWED = {allowed}\n{}\n{body}", include_str!("common.lua")))
            };
            Scripts { $($name: load(include_str!(concat!(stringify!($name), ".lua")))),+ }
        });
    };
}

scripts!(submit, claim, renew, progress, finish, settle, cancel, release, reap, read, document);

//! All Redis keys and every script that touches them: nothing else in the project names a key of the queue.
//!
//! | key (after the prefix `{name}:3`) | type | holds |
//! |---|---|---|
//! | `:job:<id>` | string | a job: its state (with its place in listings, its run, tenant and kind), how it ended, and what was asked for, in lines (`records.lua` says which); expires after it has ended |
//! | `:run:<id>` | string | a run: its state (with place and the job that waits), last claim (with fence and worker), counters, progress, what it needs and is wanted for, and its plan, in lines; deleted when all its jobs are settled |
//! | `:request:<job>`, `:plan:<run>` | string | what was asked for, and what is to be computed, if it is too long for the record |
//! | `:waiters:<run>` | set | the jobs that wait for the run, if there are several |
//! | `:calls:<run>` | hash | which of them made which call: `<tenant>/<hash of the call>` and the job |
//! | `:done:<hour>` | hash | fences whose outcome was accepted in this hour, for workers that did not hear so; two hours |
//! | `:flight:<cache key>` | string | the run in flight for this key; with the cache off that of one tenant's call |
//! | `:result:<cache key or run>` | string | version, time, size, name of the body in the blob store and facets of a result; receipt; summary: a line each |
//! | `:cached` | sorted set | all results, by their last use and size (`results.lua` says how) |
//! | `:cache` | hash | bytes that all results take up, the most they may, and when expired ones were last looked for |
//! | `:purging` | hash | invalidations being carried out: time, place in `cached`, results removed |
//! | `:purges` | sorted set | the last invalidations by their time, for runs that began before them |
//! | `:garbage` | set | names of bodies that belong to no result any more, until they are deleted |
//! | `:idem:<tenant>:<key>` | hash | the job that an idempotency key was first used for, and what was sent; a day |
//! | `:q:<priority>:<tenant>` | sorted set | what a tenant has queued: `r<run>` and `b<batch>`, in the order of arrival |
//! | `:ring:<priority>` | sorted set | the tenants that have something queued, by virtual time |
//! | `:tenant:<tenant>` | hash | weight, caps, open and running jobs, virtual times outside the rings |
//! | `:sched` | hash | virtual times of priorities and rings, average run times, number of runs ready |
//! | `:leases`, `:delayed`, `:deadlines` | sorted set | runs being computed by the end of their lease; runs by the time they wait for; jobs by deadline |
//! | `:alone` | sorted set | runs that were lost twice and wait for an idle worker; `:alone:by` is the worker that makes room |
//! | `:newer` | sorted set | runs that an older worker left to those who know their version |
//! | `:settling` | sorted set | finished runs whose jobs are not all settled |
//! | `:batch:<id>` | hash | counters and settings of a batch, beside its job record, and the run that waits for it (`parent`) |
//! | `:items:<batch>`, `:pend:<batch>`, `:kids:<batch>` | list | children that have no record yet; that wait for their turn; ids of all that have a record |
//! | `:open`, `:pins:<batch>` | sorted set, set | batches that have not ended by their time; results that the children of one used, which are not evicted |
//! | `:plans:<batch>` | hash | what a batch's children share of their plans |
//! | `:opening`, `:closing` | sorted set | batches whose children are given records; whose children are cancelled |
//! | `:list:<tenant>:<kind>:<state>`, `:list:<tenant>:<tag>` | sorted set | jobs in the order of their arrival |
//! | `:lists` | sorted set | `t<tenant>` and `l<tenant>:<tag>` for all that have listings, by when those were last swept |
//! | `:idle` | sorted set | workers with a free slot, by when they were last heard of |
//! | `:inbox:<worker>` | list | `work` and `stop`, for the worker that blocks on it; a minute |
//! | `:paused` | string | there while nothing may be claimed |
//! | `:beat`, `:calm` | string | when a reconciler last ran; there while leases are left alone after a gap |
//! | `:events` | stream | what happened, about the last 10,000 entries of one or more jobs or runs each |
//! | `:outbox` | stream | ends of jobs that somebody is to be told of, until [`crate::webhooks`] has made deliveries of them; at most about 500,000 |
//! | `:listeners` | set | tenants that have an endpoint which is told of their jobs |
//! | `:hooks:<tenant>` | set | ids of a tenant's endpoints |
//! | `:hook:<endpoint>` | hash | an endpoint: tenant, URL, events, secrets, whether it is enabled; `jobs/<tenant>` stands for the URLs that single jobs name |
//! | `:delivery:<id>` | hash | one event for one receiver: where it stands, and its last attempts; expires |
//! | `:log:<endpoint>`, `:undelivered:<endpoint>` | sorted set | its deliveries by their time; those that were given up |
//! | `:due:<lane>`, `:flying:<lane>` | sorted set | deliveries to one receiver by when they are due; those being attempted, by the end of their lease |
//! | `:lane:<lane>` | hash | how a receiver is doing: failures in a row, since when, until when it wants to be left alone |
//! | `:lanes` | sorted set | receivers by when something is to be done for them |
//! | `:tried:<tenant>:<campaign>` | sorted set | cache keys of the last 20,000 trials of a campaign, by when they were first asked for |
//! | `:campaign:<tenant>:<campaign>` | hash | how many came before those (`beyond`); `on:<series>` for each series that is held out of it |
//! | `:campaigns:<tenant>` | sorted set | campaigns by their last trial, at most 1,000 |
//! | `:trial:<result>` | string | the daily returns of a backtest and their moments ([`crate::ledger`]) |
//! | `:vault:<tenant>` | hash | for each series from which day on it is held out of research ([`crate::holdouts`]) |
//! | `:looks:<tenant>:<series>` | list | the last 1,000 jobs that looked at what is held out |
//! | `:selection:<batch>` | string | what choosing the best job of an ended batch is worth, once somebody has asked (JSON) |
//! | `:stats` | hash | counters |
//! | `:seq` | string | the order of arrival |
//! | `{name}:doc:<collection>/<name>`, `{name}:docs:<collection>` | hash, set | documents beside the queue: hash and body; the names of a collection |
//! | `{name}:blob:<part>/<id>`, `{name}:blobs:<part>` | string, sorted set | with `redis:` as the blob store: a blob, compressed; the ids of a part by when they were last stored |
//! | `{name}:lock:<name>` | string | the token of whoever holds a lock ([`crate::Lock`]); expires unless it is renewed |
//! | `{name}:unused:inputs`, `{name}:unused:turn` | sorted set, string | candles and code that nothing refers to, by when that was first seen; there while somebody has looked within the hour |
//!
//! Scripts run atomically, take Redis's clock, and touch a bounded number of elements each. Records carry the version
//! that wrote them: scripts of two versions live side by side in Redis (they are found by their hash), an older worker
//! leaves newer runs to newer workers, and a newer one reads older records.

use std::sync::LazyLock;

use redis::Script;

mod assembly;

pub(crate) use assembly::assemble;
use assembly::load;

/// The version of the records that this code writes and understands.
pub(crate) const VERSION: u32 = 4;

/// The layout of the keys of jobs and runs. Another number, other keys: only for a change that two versions side by side
/// could not live with. Documents do not depend on it.
const LAYOUT: u32 = 3;

/// The names of the keys that Rust touches by itself.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    name: String,
    prefix: String,
    sched: String,
}

impl Keys {
    /// Keys under the hash tag `{name}`, so that all of a deployment's keys live on one node of a Redis Cluster.
    pub(crate) fn new(name: &str) -> Self {
        let prefix = format!("{{{name}}}:{LAYOUT}");
        Self { name: format!("{{{name}}}"), sched: format!("{prefix}:sched"), prefix }
    }

    /// What the names of the queue's keys begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the names of documents begin with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key that scripts declare.
    pub(crate) fn sched(&self) -> &str {
        &self.sched
    }

    pub(crate) fn inbox(&self, worker: &str) -> String {
        format!("{}:inbox:{worker}", self.prefix)
    }

    pub(crate) fn items(&self, batch: &str) -> String {
        format!("{}:items:{batch}", self.prefix)
    }

    pub(crate) fn plans(&self, batch: &str) -> String {
        format!("{}:plans:{batch}", self.prefix)
    }

    pub(crate) fn events(&self) -> String {
        format!("{}:events", self.prefix)
    }

    pub(crate) fn outbox(&self) -> String {
        format!("{}:outbox", self.prefix)
    }

    /// The ids of a tenant's endpoints.
    pub(crate) fn hooks(&self, tenant: &str) -> String {
        format!("{}:hooks:{tenant}", self.prefix)
    }

    pub(crate) fn hook(&self, endpoint: &str) -> String {
        format!("{}:hook:{endpoint}", self.prefix)
    }

    pub(crate) fn delivery(&self, id: &str) -> String {
        format!("{}:delivery:{id}", self.prefix)
    }

    /// An endpoint's deliveries by their time; `undelivered` has those that were given up.
    pub(crate) fn log(&self, endpoint: &str, undelivered: bool) -> String {
        format!("{}:{}:{endpoint}", self.prefix, if undelivered { "undelivered" } else { "log" })
    }

    pub(crate) fn lane(&self, lane: &str) -> String {
        format!("{}:lane:{lane}", self.prefix)
    }

    /// The deliveries of a receiver that wait; `flying` has those being attempted.
    pub(crate) fn due(&self, lane: &str, flying: bool) -> String {
        format!("{}:{}:{lane}", self.prefix, if flying { "flying" } else { "due" })
    }

    pub(crate) fn lanes(&self) -> String {
        format!("{}:lanes", self.prefix)
    }

    /// The trials of a campaign.
    pub(crate) fn tried(&self, tenant: &str, campaign: &str) -> String {
        format!("{}:tried:{tenant}:{campaign}", self.prefix)
    }

    /// What is known of a campaign beside its trials.
    pub(crate) fn campaign(&self, tenant: &str, campaign: &str) -> String {
        format!("{}:campaign:{tenant}:{campaign}", self.prefix)
    }

    /// What choosing the best job of a batch is worth.
    pub(crate) fn selection(&self, batch: &str) -> String {
        format!("{}:selection:{batch}", self.prefix)
    }

    /// A tenant's campaigns.
    pub(crate) fn campaigns(&self, tenant: &str) -> String {
        format!("{}:campaigns:{tenant}", self.prefix)
    }

    /// What is held out of a tenant's research.
    pub(crate) fn vault(&self, tenant: &str) -> String {
        format!("{}:vault:{tenant}", self.prefix)
    }

    /// The log of looks at a series that is held out.
    pub(crate) fn looks(&self, tenant: &str, series: &str) -> String {
        format!("{}:looks:{tenant}:{series}", self.prefix)
    }

    /// The returns of one result.
    pub(crate) fn trial(&self, result: &str) -> String {
        format!("{}:trial:{result}", self.prefix)
    }

    /// Where in a trace a run was queued.
    pub(crate) fn trace(&self, run: &str) -> String {
        format!("{}:trace:{run}", self.prefix)
    }

    pub(crate) fn stats(&self) -> String {
        format!("{}:stats", self.prefix)
    }

    pub(crate) fn paused(&self) -> String {
        format!("{}:paused", self.prefix)
    }

    pub(crate) fn queued(&self, band: u8, tenant: &str) -> String {
        format!("{}:q:{band}:{tenant}", self.prefix)
    }

    pub(crate) fn idle(&self) -> String {
        format!("{}:idle", self.prefix)
    }

    pub(crate) fn run(&self, run: &str) -> String {
        format!("{}:run:{run}", self.prefix)
    }

    pub(crate) fn leases(&self) -> String {
        format!("{}:leases", self.prefix)
    }

    pub(crate) fn delayed(&self) -> String {
        format!("{}:delayed", self.prefix)
    }

    pub(crate) fn cached(&self) -> String {
        format!("{}:cached", self.prefix)
    }

    pub(crate) fn cache(&self) -> String {
        format!("{}:cache", self.prefix)
    }

    pub(crate) fn garbage(&self) -> String {
        format!("{}:garbage", self.prefix)
    }

    pub(crate) fn result(&self, id: &str) -> String {
        format!("{}:result:{id}", self.prefix)
    }

    /// A key for a document that is kept beside the queue (see [`crate::documents`]).
    pub(crate) fn document(&self, collection: &str, name: &str) -> String {
        format!("{}:doc:{collection}/{name}", self.name)
    }

    /// The set of the names of all documents of this collection.
    pub(crate) fn collection(&self, collection: &str) -> String {
        format!("{}:docs:{collection}", self.name)
    }

    /// A blob that is kept in Redis (see [`crate::blobs`]).
    pub(crate) fn blob(&self, part: &str, id: &str) -> String {
        format!("{}:blob:{part}/{id}", self.name)
    }

    /// The ids of all blobs of this part, by when they were last stored.
    pub(crate) fn blobs(&self, part: &str) -> String {
        format!("{}:blobs:{part}", self.name)
    }

    /// Who holds the lock of this name.
    pub(crate) fn lock(&self, name: &str) -> String {
        format!("{}:lock:{name}", self.name)
    }

    /// Inputs that nothing refers to, by when that was first seen (see [`crate::collect_unused`]).
    pub(crate) fn unused_inputs(&self) -> String {
        format!("{}:unused:inputs", self.name)
    }

    /// There while somebody has looked for unused inputs a short while ago.
    pub(crate) fn unused_turn(&self) -> String {
        format!("{}:unused:turn", self.name)
    }
}

macro_rules! scripts {
    ($($name:ident: [$($part:ident)*] $(seldom [$($seldom:ident)*])?;)+) => {
        /// The scripts, each with the shared parts that it uses in front.
        #[derive(Debug)]
        pub(crate) struct Scripts { $(pub(crate) $name: Script),+ }

        impl Scripts {
            /// The scripts that write records of this version.
            pub(crate) fn new(version: u32) -> Self {
                Self {
                    $($name: load(
                        version,
                        &[$(stringify!($part)),*],
                        &[$($(stringify!($seldom)),*)?],
                        include_str!(concat!(stringify!($name), ".lua")),
                    )),+
                }
            }
        }
    };
}

scripts! {
    submit: [ring] seldom [records places jobs results trials join accepted];
    commit: [records jobs trials];
    open: [ring records places charges jobs results trials batches];
    close: [ring records places charges jobs batches runs];
    claim: [ring records charges] seldom [places jobs results batches join yielded];
    renew: [records] seldom [ring places charges jobs batches runs];
    progress: [records];
    finish: [ring records places charges jobs results batches runs];
    settle: [ring records places charges jobs batches runs];
    release: [ring records places charges jobs batches runs];
    recover: [records];
    cancel: [ring records places charges jobs batches runs];
    reap: [ring records places charges jobs batches runs];
    sweep: [];
    oldest: [records];
    backlog: [];
    read: [records jobs view];
    list: [records jobs view];
    children: [records jobs view];
    tenant: [ring charges];
    pause: [];
    evict: [results];
    invalidate: [records results];
    purge: [results];
    hold_out: [];
    open_days: [trials];
}

/// The script of [`crate::documents`], which has nothing to do with jobs.
pub(crate) static DOCUMENT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("document.lua")));

/// The scripts of [`crate::blobs`], for blobs that are kept in Redis.
pub(crate) static BLOB_PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("blob_put.lua")));
pub(crate) static BLOB_REMOVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("blob_remove.lua")));
pub(crate) static BLOB_EXPIRE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("blob_expire.lua")));
pub(crate) static BLOBS_EXPIRE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("blobs_expire.lua")));

/// The script of [`crate::Lock`].
pub(crate) static LOCK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lock.lua")));

/// The script of [`crate::collect_unused`] that notes what is not used.
pub(crate) static INPUTS_SEEN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("inputs_seen.lua")));

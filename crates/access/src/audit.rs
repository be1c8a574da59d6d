//! Who changed what: a stream that keeps about the last [`KEPT`] entries.

use jobs::{QueueError, Redis};
use redis::streams::StreamRangeReply;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;

/// About how many entries are kept.
const KEPT: u32 = 100_000;
/// Most bytes of one field.
const LONGEST_FIELD: usize = 300;

/// One call that changed something, or tried to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it ended, in milliseconds since 1970; set by Redis.
    pub at_ms: i64,
    /// The tenant.
    pub tenant: String,
    /// The id of the key; `local`, `admin-key-file` or `command-line` for those that have none.
    pub key: String,
    /// What was done: method and route, tool, or command.
    pub action: String,
    /// The id of what it was done to or made, if the call tells.
    pub target: String,
    /// An HTTP status, an error code, or `ok`.
    pub outcome: String,
    /// The id of the request, as in its answer and in the log.
    pub request_id: String,
}

impl AuditEntry {
    /// An entry about a call of this caller.
    pub fn of(caller: &Caller, action: impl Into<String>) -> Self {
        Self {
            tenant: caller.tenant.to_string(),
            key: caller.key.to_string(),
            action: action.into(),
            ..Self::default()
        }
    }
}

/// A page of the log, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Audit {
    redis: Redis,
    stream: String,
}

impl Audit {
    /// That of the deployment that this Redis serves.
    pub fn new(redis: Redis) -> Self {
        let stream = format!("{}:access:audit", redis.tag());
        Self { redis, stream }
    }

    /// Writes an entry. What was done is done: if it cannot be written, the log of the process says so.
    pub async fn write(&self, entry: &AuditEntry) {
        let AuditEntry { at_ms: _, tenant, key, action, target, outcome, request_id } = entry;
        let mut add = redis::cmd("XADD");
        add.arg(&self.stream).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
        let fields = [
            ("tenant", tenant),
            ("key", key),
            ("action", action),
            ("target", target),
            ("outcome", outcome),
            ("request_id", request_id),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            add.arg(name).arg(bounded(value));
        }
        if let Err(error) = self.redis.query::<String>(&add).await {
            tracing::warn!(
                tenant.id = tenant,
                key.id = key,
                action,
                target,
                outcome,
                request.id = request_id,
                error = jobs::chain(&error),
                "a change is not in the audit log"
            );
        }
    }

    /// A page of at most `most` entries, newest first, beginning after the one that an earlier page named (`cursor`; nothing else
    /// may be passed, see [`is_cursor`](Self::is_cursor)).
    pub async fn page(&self, cursor: Option<&str>, most: usize) -> Result<AuditPage, QueueError> {
        let mut read = redis::cmd("XREVRANGE");
        let newest = cursor.map_or_else(|| "+".to_owned(), |cursor| format!("({cursor}"));
        read.arg(&self.stream).arg(newest).arg("-").arg("COUNT").arg(most);
        let reply: StreamRangeReply = self.redis.query(&read).await?;
        let next_cursor = reply.ids.last().filter(|_| reply.ids.len() == most).map(|last| last.id.clone());
        let entries = reply.ids.iter().map(|entry| {
            let field = |name: &str| entry.get::<String>(name).unwrap_or_default();
            AuditEntry {
                at_ms: entry.id.split('-').next().and_then(|at| at.parse().ok()).unwrap_or_default(),
                tenant: field("tenant"),
                key: field("key"),
                action: field("action"),
                target: field("target"),
                outcome: field("outcome"),
                request_id: field("request_id"),
            }
        });
        Ok(AuditPage { entries: entries.collect(), next_cursor })
    }

    /// Whether the text has the form of a cursor.
    pub fn is_cursor(text: &str) -> bool {
        text.split_once('-').is_some_and(|(at, place)| {
            [at, place].iter().all(|part| part.parse::<u64>().is_ok() && !part.starts_with('+'))
        })
    }
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_FIELD)]
}

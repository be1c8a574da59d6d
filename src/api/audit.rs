//! `/v1/audit`: who changed what.

use access::{Audit, AuditEntry};
use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, Problem, listing::page_limit, problem::InQuery};
use crate::{
    errors::{Code, ServiceError},
    views,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// `next_cursor` of the page before
    cursor: Option<String>,
    /// How many entries; default 50
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

/// Part of the log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditPage")]
pub(super) struct Entries {
    /// Newest first.
    entries: Vec<Entry>,
    /// Where the next page begins; null at the end.
    next_cursor: Option<String>,
}

/// One call that changed something, or tried to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
struct Entry {
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// Whose it was.
    tenant: String,
    /// The id of the key; `local`, `admin-key-file` or `command-line` for those that have none.
    key: String,
    /// Method and route, tool, or command.
    action: String,
    /// What it was done to or made, if the call tells.
    target: String,
    /// An HTTP status, an error code, or `ok`.
    outcome: String,
    /// As in its answer and in the log.
    request_id: String,
}

/// A page of the log, newest first.
pub(super) async fn list(
    State(api): State<Api>,
    InQuery(Page { cursor, limit }): InQuery<Page>,
) -> Result<Json<Entries>, Problem> {
    let limit = page_limit(limit, 50)?;
    if cursor.as_deref().is_some_and(|cursor| !Audit::is_cursor(cursor)) {
        return Err(ServiceError::new(Code::InvalidRequest, "cursor: take it from `next_cursor`").into());
    }
    let page = api.callers.audit().page(cursor.as_deref(), limit).await?;
    let entries = page.entries.into_iter().map(Entry::from).collect();
    Ok(Json(Entries { entries, next_cursor: page.next_cursor }))
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at_ms, tenant, key, action, target, outcome, request_id } = entry;
        Self { at: views::time(at_ms), tenant, key, action, target, outcome, request_id }
    }
}

//! `/v1/audit`: who changed what.

use access::{Audit, AuditEntry};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem, listing::page_limit, problem::InQuery};
use crate::{
    errors::{Code, ServiceError},
    views,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// A page of the log, newest first.
pub(super) async fn list(
    State(api): State<Api>,
    InQuery(Page { cursor, limit }): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let limit = page_limit(limit, 50)?;
    if cursor.as_deref().is_some_and(|cursor| !Audit::is_cursor(cursor)) {
        return Err(ServiceError::new(Code::InvalidRequest, "cursor: take it from `next_cursor`").into());
    }
    let page = api.callers.audit().page(cursor.as_deref(), limit).await?;
    let entries: Vec<_> = page.entries.iter().map(shown).collect();
    Ok(Json(json!({ "entries": entries, "next_cursor": page.next_cursor })))
}

fn shown(entry: &AuditEntry) -> Value {
    let AuditEntry { at_ms, tenant, key, action, target, outcome, request_id } = entry;
    json!({
        "at": views::time(*at_ms),
        "tenant": tenant,
        "key": key,
        "action": action,
        "target": target,
        "outcome": outcome,
        "request_id": request_id,
    })
}

//! What the audit log is told of calls over MCP.

use access::{AuditEntry, Caller};
use axum::http::request::Parts;
use rmcp::{RoleServer, model::CallToolResponse, service::RequestContext};
use serde_json::Value;

use crate::{
    callers::{Callers, RequestId},
    errors::Code,
};

/// Notes a call that changed something, or was refused with this code.
pub(super) async fn note(
    callers: &Callers,
    context: &RequestContext<RoleServer>,
    action: &str,
    target: String,
    refused: Option<Code>,
) {
    let Some(parts) = context.extensions.get::<Parts>() else { return };
    let Some(caller) = parts.extensions.get::<Caller>() else { return };
    let mut entry = AuditEntry::of(caller, action);
    entry.target = target;
    entry.outcome = refused.map_or_else(|| "ok".to_owned(), name_of);
    entry.request_id = parts.extensions.get().map(|RequestId(id)| id.to_string()).unwrap_or_default();
    callers.note(&entry).await;
}

/// A code's name in JSON.
pub(super) fn name_of(code: Code) -> String {
    let name = serde_json::to_value(code).ok();
    name.as_ref().and_then(Value::as_str).unwrap_or("internal").to_owned()
}

/// What the arguments of a call say it is about.
pub(super) fn named(arguments: &Value) -> String {
    let named = ["job_id", "id", "name"].iter().find_map(|field| arguments[*field].as_str());
    named.unwrap_or_default().to_owned()
}

/// The id of what a call made.
pub(super) fn made(answer: &CallToolResponse) -> Option<String> {
    match answer {
        CallToolResponse::Complete(result) => {
            let fields = result.structured_content.as_ref()?;
            ["job_id", "id"].iter().find_map(|field| fields[*field].as_str()).map(str::to_owned)
        }
        CallToolResponse::Task(task) => Some(task.task.task_id.clone()),
        _ => None,
    }
}

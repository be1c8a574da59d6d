//! What a key must allow for each tool. A tool that is not named here needs `admin`, and a test says so.

use access::{Caller, Scope};
use axum::http::request::Parts;
use rmcp::{ErrorData, RoleServer, service::RequestContext};
use tracing::Span;
use workers::traces::TARGET;

use super::{risk, tools, webhooks};
use crate::telemetry::RequestSpan;

/// The scope that a tool needs, if it needs more than a key.
pub(super) fn scope_of(tool: &str) -> Option<Scope> {
    if risk::kind(tool).is_some() {
        return Some(Scope::JobsWrite);
    }
    match tool {
        tools::CANDLES_LIST | tools::HEALTH => None,
        tools::JOB_GET | tools::JOB_LIST | tools::JOB_CHART | tools::JOB_SERIES => Some(Scope::JobsRead),
        tools::BACKTEST
        | tools::BACKTEST_BATCH
        | tools::OPTIMIZE
        | tools::MONTE_CARLO
        | tools::WALK_FORWARD
        | tools::SIGNIFICANCE_TEST
        | tools::JOB_CANCEL => Some(Scope::JobsWrite),
        tools::STRATEGY_LIST | tools::STRATEGY_READ => Some(Scope::StrategiesRead),
        tools::CANDLES_IMPORT => Some(Scope::CandlesWrite),
        // To look whether code runs is to run it.
        tools::STRATEGY_VALIDATE | tools::STRATEGY_WRITE => Some(Scope::StrategiesWrite),
        tools::CACHE_INVALIDATE => Some(Scope::Cache),
        webhooks::NAME => Some(Scope::Webhooks),
        _ => Some(Scope::Admin),
    }
}

/// Whether the caller may call a tool.
pub(super) fn may(caller: &Caller, tool: &str) -> bool {
    scope_of(tool).is_none_or(|scope| caller.may(scope))
}

/// Whether a call of a tool belongs in the audit log.
pub(super) fn changes(tool: &str) -> bool {
    !matches!(scope_of(tool), None | Some(Scope::JobsRead | Scope::StrategiesRead))
}

/// Who makes this request, as the guard before the endpoint found.
pub(super) fn caller(context: &RequestContext<RoleServer>) -> Result<&Caller, ErrorData> {
    let found = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get());
    found.ok_or_else(|| {
        tracing::error!("a request over MCP has passed no guard");
        ErrorData::internal_error("something is wrong on our side; it was logged", None)
    })
}

/// The span of a tool's call, in the trace of the request that it came with.
pub(super) fn tool_span(context: &RequestContext<RoleServer>, tool: &str) -> Span {
    let request = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get());
    let request = request.and_then(|RequestSpan(span)| span.id());
    tracing::info_span!(target: TARGET, parent: request, "tool", otel.name = format!("tools/call {tool}"), mcp.tool = tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_needs() {
        for tool in tools::all(true, true) {
            assert_ne!(scope_of(&tool.name), Some(Scope::Admin), "{} is not in the table", tool.name);
        }
        assert_eq!(scope_of("a_tool_that_was_forgotten"), Some(Scope::Admin));
    }
}

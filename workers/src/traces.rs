//! Traces (OpenTelemetry): spans that hang together across processes by the W3C's `traceparent`.
//!
//! Whoever serves a call notes its place in the trace beside the run that it queued, and the worker goes on there. What is not
//! traced costs nothing: without an exporter nobody asks for these spans, and nothing is noted.

use std::collections::HashMap;

use jobs::{Claim, Queue};
use opentelemetry::{global, trace::TraceContextExt};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of spans that are for traces, and not for the log.
pub const TARGET: &str = "traces";
const HEADER: &str = "traceparent";

/// The place in the trace of what is going on, for another process; nothing if it is not traced.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
    carrier.remove(HEADER)
}

/// Makes a span a child of the one that another process told of. What is no `traceparent` is ignored, as the W3C wants it.
pub fn continue_from(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
    // Fails where nothing is traced.
    let _traced = span.set_parent(context);
}

/// The span of a run, in the trace of the call that queued it.
pub(crate) async fn of_run(queue: &Queue, claim: &Claim) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "run",
        otel.name = format!("run {}", claim.kind.as_str()),
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        job.kind = claim.kind.as_str(),
        run.id = %claim.run,
        run.attempt = claim.attempt,
        run.outcome = tracing::field::Empty,
    );
    if !span.is_disabled()
        && let Some(traceparent) = queue.trace_of(claim.run).await
    {
        continue_from(&span, &traceparent);
    }
    span
}

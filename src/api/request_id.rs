//! The id of a request: what the client sent as `x-request-id`, if that is fit for a log, else a new one. It stands in the answer, in
//! every problem, in the audit log, and in what is logged meanwhile.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
};
use futures::TryFutureExt;
use tower::service_fn;
use tracing::Instrument;

use super::layers::Serves;
use crate::callers::RequestId;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST: usize = 128;

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The id of the request that this task serves.
pub(super) fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Gives every request an id.
pub(super) fn identify(mut served: impl Serves) -> impl Serves {
    service_fn(move |mut request: Request| {
        let id = id_of(&request);
        request.extensions_mut().insert(RequestId(id.clone()));
        let span = tracing::info_span!("request", request.id = %id);
        let answer = CURRENT.sync_scope(id.clone(), || span.in_scope(|| served.call(request)));
        CURRENT.scope(id.clone(), answer.instrument(span)).map_ok(move |mut response| {
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(HEADER, id);
            }
            response
        })
    })
}

fn id_of(request: &Request) -> Arc<str> {
    let sent = request.headers().get(&HEADER).and_then(|sent| sent.to_str().ok()).filter(|sent| is_fit(sent));
    sent.map_or_else(|| ::jobs::JobId::generate().to_string().into(), Into::into)
}

/// Nothing that would make two lines, or another field, of a line in a log.
fn is_fit(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_spoil_a_log_are_not_taken() {
        for fine in ["a", "01981c2e-6f1c-7000-8000-000000000000", "Root=1-67891233-abcdef", "x/y:z+."] {
            assert!(is_fit(fine), "{fine}");
        }
        for wrong in ["", "a b", "a\"b", "a\nb", "{}", "é", &"x".repeat(129)] {
            assert!(!is_fit(wrong), "{wrong}");
        }
    }
}

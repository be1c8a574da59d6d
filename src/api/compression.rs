//! Answers in gzip or zstd for clients that take it: what is long enough to be worth it, and no stream of events, which has to arrive
//! as it happens.

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use tower_http::compression::{
    CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};

/// From how many bytes on. Less fits into one packet as it is.
const LEAST: u64 = 1024;

/// The same router with answers that may be compressed.
pub(super) fn compress<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let worth_it = SizeAbove::new(LEAST).and(NotForContentType::SSE);
    router
        .layer(middleware::from_fn(note_status))
        .layer(CompressionLayer::new().compress_when(worth_it))
        .layer(middleware::from_fn(settle))
}

/// The status before compression.
#[derive(Clone, Copy)]
struct Answered(StatusCode);

async fn note_status(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    response.extensions_mut().insert(Answered(status));
    response
}

/// Puts right what the compression does not know: that a client takes none of its forms does not make a refusal of a call that was
/// carried out, and a tag that names bytes (a strong one) does not name them in another form.
async fn settle(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(Answered(status)) = response.extensions_mut().remove() {
        *response.status_mut() = status;
    }
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok())
        && !tag.starts_with("W/")
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        headers.insert(header::ETAG, weak);
    }
    response
}

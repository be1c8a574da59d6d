//! Answers in gzip or zstd for clients that take it: what is long enough to be worth it, and no stream of events, which has to arrive
//! as it happens.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use tower::{Layer, ServiceExt};
use tower_http::compression::{
    CompressionBody, CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};

use super::layers::Serves;

/// From how many bytes on. Less fits into one packet as it is.
const LEAST: u64 = 1024;

/// The same with answers that may be compressed.
pub(super) fn compress(served: impl Serves) -> impl Serves {
    let worth_it = SizeAbove::new(LEAST).and(NotForContentType::SSE);
    CompressionLayer::new()
        .compress_when(worth_it)
        .layer(served.map_response(note_status))
        .map_response(|response: Response<CompressionBody<Body>>| settle(response).map(Body::new))
}

/// The status before compression.
#[derive(Clone, Copy)]
struct Answered(StatusCode);

fn note_status(mut response: Response) -> Response {
    let status = response.status();
    response.extensions_mut().insert(Answered(status));
    response
}

/// Puts right what the compression does not know: that a client takes none of its forms does not make a refusal of a call that was
/// carried out, and a tag that names bytes (a strong one) does not name them in another form.
fn settle<B>(mut response: Response<B>) -> Response<B> {
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

//! What holds for every call, whatever its route: layers around it, each a function that makes a service of one.
//!
//! They are put together before they are boxed, and are done with the request before they wait. Of a layer made by
//! `axum::middleware::from_fn` every call that waits keeps more than a kilobyte, and thousands of calls wait.

use std::{convert::Infallible, time::Instant};

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt, StreamExt, TryFutureExt,
    future::{self, Either},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanic;
use tracing::{Instrument, Span};

use super::{Api, BATCHES, MAX_BATCH_BODY, MAX_BODY, Problem, compression, cors, request_id};
use crate::{
    errors::{Code, ServiceError},
    telemetry::{RequestSpan, request_span},
};

/// How much of a body that is too large is read, to no purpose but that its sender gets the answer.
const HEARD_OUT: usize = 64 << 20;

/// What can serve a call.
pub(super) trait Serves:
    Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Serves for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A route with all of it.
pub(super) fn around(route: impl Serves, api: Api) -> impl Serves {
    let route = observe(hear_out(DefaultBodyLimit::max(MAX_BODY).layer(route)), api.clone());
    let route = cors::allow(&api.origins).layer(compression::compress(route));
    request_id::identify(catch_panics(check_host(route, api)))
}

fn check_host(mut served: impl Serves, api: Api) -> impl Serves {
    service_fn(move |request: Request| {
        let named = request.headers().get(header::HOST);
        let host = named.and_then(host_of).map(str::to_ascii_lowercase);
        if host.is_some_and(|host| api.allowed_hosts.contains(&host)) {
            return Either::Left(served.call(request));
        }
        let message = "this server answers for localhost only; name other hosts in JESSE_JOBS_ALLOWED_HOSTS";
        Either::Right(future::ok(Problem(ServiceError::new(Code::HostNotAllowed, message)).into_response()))
    })
}

/// The host part of a `Host` header, without the port.
fn host_of(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    match text.strip_prefix('[') {
        Some(rest) => rest.find(']').map(|end| &text[..end + 2]),
        None => Some(text.split(':').next().unwrap_or(text)),
    }
}

/// Refuses a body that is announced as too large, after it was sent: a sender whose connection is cut in the middle often
/// never sees why, and the next request on that connection fails too.
fn hear_out(mut served: impl Serves) -> impl Serves {
    service_fn(move |request: Request| {
        let most = if request.uri().path() == BATCHES { MAX_BATCH_BODY } else { MAX_BODY };
        if announced(request.headers()).is_none_or(|length| length <= most) {
            return Either::Left(served.call(request));
        }
        Either::Right(too_large(request.into_body(), most).map(Ok).boxed())
    })
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn too_large(body: Body, most: usize) -> Response {
    let mut body = body.into_data_stream();
    let mut heard = 0;
    while heard <= HEARD_OUT
        && let Some(Ok(part)) = body.next().await
    {
        heard += part.len();
    }
    let message = format!("the body is larger than {} MB", most >> 20);
    Problem(ServiceError::new(Code::PayloadTooLarge, message)).into_response()
}

fn catch_panics(served: impl Serves) -> impl Serves {
    CatchPanic::custom(served, panicked).map_response(|response| response.map(Body::new))
}

fn panicked(_cause: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    Problem(ServiceError::new(Code::Internal, "something is wrong on our side; it was logged"))
        .into_response()
}

/// Counts and logs calls, each in a span of its own.
fn observe(mut served: impl Serves, api: Api) -> impl Serves {
    service_fn(move |mut request: Request| {
        let call = Observed::begin(&request, api.clone());
        let span = call.span.clone();
        request.extensions_mut().insert(RequestSpan(span.clone()));
        let answer = span.in_scope(|| served.call(request)).instrument(span.clone());
        answer.map_ok(|response| {
            call.end(response.status());
            response
        })
    })
}

/// A call that is being served.
struct Observed {
    api: Api,
    started: Instant,
    /// As written, so that ids do not make a metric each.
    route: Option<MatchedPath>,
    method: Method,
    span: Span,
}

impl Observed {
    fn begin(request: &Request, api: Api) -> Self {
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = request.method().clone();
        let span = request_span(&method, name(route.as_ref()), request.headers());
        Self { api, started: Instant::now(), route, method, span }
    }

    fn end(self, status: StatusCode) {
        let Self { api, started, route, method, span } = self;
        let (route, time) = (name(route.as_ref()), started.elapsed());
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        api.metrics.http(route, method.as_str(), status.as_u16(), time);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(http.route = route, http.method = %method, "a request failed");
        }
        tracing::debug!(http.route = route, http.method = %method, http.status = status.as_u16(), duration_ms = time.as_secs_f64() * 1e3, "served");
    }
}

fn name(route: Option<&MatchedPath>) -> &str {
    route.map_or("none", MatchedPath::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_without_their_port() {
        let host = |text: &'static str| host_of(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(host("localhost:8100").as_deref(), Some("localhost"));
        assert_eq!(host("127.0.0.1").as_deref(), Some("127.0.0.1"));
        assert_eq!(host("[::1]:8100").as_deref(), Some("[::1]"));
        assert_eq!(host("[::1").as_deref(), None);
        assert_eq!(host("evil.example:80").as_deref(), Some("evil.example"));
    }
}

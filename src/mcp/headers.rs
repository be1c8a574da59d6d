//! What some clients leave out of their requests, although nothing is lost without it.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

/// The largest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

#[derive(Deserialize)]
struct OfTask {
    params: Params,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    task_id: String,
}

/// Fills in the header `Mcp-Name` of requests about tasks: it says nothing that the body does not say, proxies that route
/// by it have let the request through, and fastmcp-tasks does not send it. One that is sent must be right.
pub(super) async fn name_task(request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !lacks_name(request.headers()) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MB, or was cut off")
            .into_response();
    };
    let task = serde_json::from_slice::<OfTask>(&body).ok();
    let name = task.and_then(|task| HeaderValue::from_str(&task.params.task_id).ok());
    if let Some(name) = name {
        parts.headers.insert(NAME, name);
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn lacks_name(headers: &HeaderMap) -> bool {
    let about_task = headers.get(METHOD).is_some_and(|method| method.as_bytes().starts_with(b"tasks/"));
    about_task && !headers.contains_key(NAME)
}

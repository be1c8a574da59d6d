//! Errors as problem details (RFC 9457), and extractors whose rejections are problems too.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Json, Path, Query, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::request_id;
use crate::errors::{Code, ServiceError};

/// An error as a response.
#[derive(Debug)]
pub struct Problem(pub ServiceError);

impl<E: Into<ServiceError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let ServiceError { code, message, detail } = self.0;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "type": "about:blank",
            "title": code.title(),
            "status": status.as_u16(),
            "code": code,
            "detail": message,
        });
        if let Some(id) = request_id::current() {
            body["request_id"] = json!(&*id);
        }
        if let Some(errors) = detail.get("errors") {
            body["errors"] = errors.clone();
        } else if !detail.is_null() {
            body["facts"] = detail;
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if let Some(after) = code.retry_after() {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        response
    }
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let rejected = |rejection: JsonRejection| {
            let code = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
                StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
                _ => Code::InvalidRequest,
            };
            Problem(ServiceError::new(code, bounded(&rejection.body_text())))
        };
        Json::from_request(request, state).await.map(|Json(body)| Self(body)).map_err(rejected)
    }
}

/// Parts of the path.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let rejected = |rejection: PathRejection| {
            Problem(ServiceError::new(Code::InvalidRequest, bounded(&rejection.body_text())))
        };
        Path::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(rejected)
    }
}

/// The query.
pub(crate) struct InQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let rejected = |rejection: QueryRejection| {
            Problem(ServiceError::new(Code::InvalidRequest, bounded(&rejection.body_text())))
        };
        Query::from_request_parts(parts, state).await.map(|Query(value)| Self(value)).map_err(rejected)
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(500).collect()
}

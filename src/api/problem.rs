//! Errors as problem details (RFC 9457), and extractors whose rejections are problems too.

use std::{fmt, marker::PhantomData};

use axum::{
    extract::{
        FromRequest, FromRequestParts, Json, Path, Query, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::request_id;
use crate::errors::{Code, ServiceError};

pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call failed (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemDetails {
    /// `code` says what kind of problem it is
    #[serde(rename = "type")]
    of_type: &'static str,
    /// The same text for every problem with this code
    title: &'static str,
    /// The HTTP status
    status: u16,
    /// What went wrong: stable, for programs
    code: Code,
    /// What happened, and what to do
    detail: String,
    /// Names the call, as the header X-Request-Id
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// What is wrong with each field, or each place in a strategy
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, Value>>>")]
    errors: Option<Vec<Value>>,
    /// Facts for programs; which, depends on the code
    #[serde(skip_serializing_if = "Value::is_null")]
    facts: Value,
}

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
        let errors = detail.get("errors").and_then(Value::as_array).cloned();
        let details = ProblemDetails {
            of_type: "about:blank",
            title: code.title(),
            status: status.as_u16(),
            code,
            detail: message,
            request_id: request_id::current().map(|id| id.to_string()),
            facts: if errors.is_some() { Value::Null } else { detail },
            errors,
        };
        let mut response = (status, Json(details)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(PROBLEM_JSON));
        if let Some(after) = code.retry_after() {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        response
    }
}

/// A JSON body: an object.
pub(super) struct Body<T>(pub(super) T);

/// An object, and not the array of its fields' values, which serde would take for a struct too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

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
        Json::from_request(request, state).await.map(|Json(Object(body))| Self(body)).map_err(rejected)
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

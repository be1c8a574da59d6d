//! Answers that are more than JSON: with a status of their own, with headers, or not sent again to those who have them. Each tells the
//! OpenAPI document what it is.

use std::{convert::Infallible, marker::PhantomData};

use ::jobs::{Idempotency, JobState};
use axum::{
    Json,
    body::Bytes,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    Problem,
    guard::bearer,
    openapi::{Answer, JSON, Operation, OperationInput, OperationOutput, Schemas, TEXT},
};
use crate::{
    errors::{Code, ServiceError},
    views::JobAnswer,
};

/// Sets a header, if the text can be one.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// It was done, and there is nothing to say.
pub(super) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl OperationOutput for NoContent {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.answers(204, Answer::empty("It is done"));
    }
}

/// What was made, and where it is.
pub(super) struct Created<T> {
    pub(super) location: String,
    pub(super) made: T,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.made)).into_response();
        set(response.headers_mut(), header::LOCATION, &self.location);
        response
    }
}

/// What belongs to an endpoint is found by the id that its making answers.
impl<T: JsonSchema> OperationOutput for Created<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let made = Answer::json::<T>("It was made", schemas).with_headers(&["Location"]);
        operation.answers(201, made.linked("id", &["getWebhook", "changeWebhook", "listDeliveries"]));
    }
}

/// It was accepted, and goes on.
pub(super) struct Started<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Started<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> OperationOutput for Started<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(202, Answer::json::<T>("It was accepted, and goes on", schemas));
    }
}

/// A job: 202 with where to look and when, or 200 when it has ended already.
pub(super) struct Accepted {
    pub(super) location: String,
    pub(super) job: JobAnswer,
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let ended = JobState::parse(self.job.state).is_some_and(JobState::is_terminal);
        let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = (status, Json(self.job)).into_response();
        let headers = response.headers_mut();
        set(headers, header::LOCATION, &self.location);
        if !ended {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl OperationOutput for Accepted {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        const JOB: [&str; 3] = ["getJob", "getJobResult", "cancelJob"];
        let ended = Answer::json::<JobAnswer>(
            "It has ended already: a stored result answered, or it was waited for",
            schemas,
        );
        operation.answers(200, ended.with_headers(&["Location"]).linked("job_id", &JOB));
        let open =
            Answer::json::<JobAnswer>("It was accepted: look again after `Retry-After` seconds", schemas);
        operation.answers(202, open.with_headers(&["Location", "Retry-After"]).linked("job_id", &JOB));
    }
}

/// A body that has a media type.
pub(super) trait Representation: IntoResponse {
    fn answer(schemas: &mut Schemas) -> Answer;
}

impl<T: JsonSchema + Serialize> Representation for Json<T> {
    fn answer(schemas: &mut Schemas) -> Answer {
        Answer::json::<T>("As asked for", schemas)
    }
}

/// JSON that was written already.
pub(crate) struct JsonText<T> {
    text: Bytes,
    of: PhantomData<T>,
}

impl<T: Serialize> JsonText<T> {
    pub(super) fn new(value: &T) -> Result<Self, ServiceError> {
        let text = serde_json::to_vec(value)
            .map_err(|error| ServiceError::internal("an answer cannot be written", &error))?;
        Ok(Self { text: text.into(), of: PhantomData })
    }

    /// Names what it says.
    pub(super) fn tag(&self) -> String {
        format!("\"{}\"", &blake3::hash(&self.text).to_hex()[..32])
    }
}

impl<T> Clone for JsonText<T> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), of: PhantomData }
    }
}

impl<T> IntoResponse for JsonText<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, JSON)], self.text).into_response()
    }
}

impl<T: JsonSchema + Serialize> Representation for JsonText<T> {
    fn answer(schemas: &mut Schemas) -> Answer {
        Json::<T>::answer(schemas)
    }
}

/// A text in a form that is known by its media type, of which a browser is to make nothing else.
macro_rules! texts {
    ($($(#[$about:meta])* $name:ident = $media_type:expr;)+) => {
        $(
            $(#[$about])*
            pub(super) struct $name(pub(super) String);

            impl IntoResponse for $name {
                fn into_response(self) -> Response {
                    let headers = [(header::CONTENT_TYPE, $media_type), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
                    (headers, self.0).into_response()
                }
            }

            impl Representation for $name {
                fn answer(_: &mut Schemas) -> Answer {
                    Answer::text("As asked for", $media_type)
                }
            }

            impl OperationOutput for $name {
                fn describe(operation: &mut Operation, schemas: &mut Schemas) {
                    operation.answers(200, Self::answer(schemas));
                }
            }
        )+
    };
}

texts! {
    /// Plain text.
    Text = TEXT;
    /// Markdown.
    Markdown = "text/markdown; charset=utf-8";
    /// An image.
    Svg = "image/svg+xml";
}

/// A picture made of pixels.
pub(super) struct Png(pub(super) Vec<u8>);

impl IntoResponse for Png {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, PNG)], self.0).into_response()
    }
}

impl Representation for Png {
    fn answer(_: &mut Schemas) -> Answer {
        // What is no text has no schema (OpenAPI 3.1, 4.8.14.2).
        Answer::of("As asked for", PNG, &json!({}))
    }
}

const PNG: &str = "image/png";

/// What a client has already.
pub(crate) struct IfNoneMatch(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let named = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        Ok(Self(named.map(str::to_owned)))
    }
}

impl OperationInput for IfNoneMatch {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        let about = "The `ETag` of what you have: 304 if that is what would be answered";
        operation.takes_header("If-None-Match", about, &json!({"type": "string"}));
    }
}

impl IfNoneMatch {
    /// What the tag names, unless the client has it: then it is not even made. Proxies that compress an answer make its tag a
    /// weak one, which names the same here (RFC 9110, 13.1.2).
    pub(super) fn unless<B>(
        &self,
        tag: &str,
        body: impl FnOnce() -> Result<B, Problem>,
    ) -> Result<Tagged<B>, Problem> {
        Ok(Tagged { tag: tag.to_owned(), body: if self.names(tag) { None } else { Some(body()?) } })
    }

    /// The same of what takes its time to make.
    pub(super) async fn unless_made<B>(
        &self,
        tag: &str,
        body: impl Future<Output = Result<B, Problem>>,
    ) -> Result<Tagged<B>, Problem> {
        Ok(Tagged { tag: tag.to_owned(), body: if self.names(tag) { None } else { Some(body.await?) } })
    }

    fn names(&self, tag: &str) -> bool {
        let names_it = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
        self.0.as_ref().is_some_and(|known| known.split(',').any(|known| names_it(known.trim())))
    }
}

/// A body under a tag; none if the client has it.
pub(crate) struct Tagged<B> {
    tag: String,
    body: Option<B>,
}

impl<B: IntoResponse> IntoResponse for Tagged<B> {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => body.into_response(),
            None => StatusCode::NOT_MODIFIED.into_response(),
        };
        set(response.headers_mut(), header::ETAG, &self.tag);
        set(response.headers_mut(), header::CACHE_CONTROL, "private, no-cache");
        response
    }
}

impl<B: Representation> OperationOutput for Tagged<B> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(200, B::answer(schemas).with_headers(&["ETag"]));
        operation.answers(304, Answer::empty("It is what you have").with_headers(&["ETag"]));
    }
}

/// Names a part of an immutable blob.
pub(super) fn etag(blob: &str, part: &str) -> String {
    format!("\"{}\"", &blake3::hash(format!("{blob} {part}").as_bytes()).to_hex()[..32])
}

/// The header `Idempotency-Key`: a text of the client's choice, as it is or as a quoted string.
pub(super) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(key) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = key.to_str().map(|key| key.trim().trim_matches('"')).unwrap_or_default();
        if key.is_empty() || key.len() > 255 {
            let message = "Idempotency-Key: must have 1 to 255 visible ASCII characters";
            return Err(ServiceError::new(Code::InvalidRequest, message).into());
        }
        Ok(Self(Some(key.to_owned())))
    }
}

impl OperationInput for IdempotencyKey {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.fails(&[Code::InvalidRequest, Code::IdempotencyConflict]);
        let about =
            "Names the call: a repeat with the same body answers the same job, one with another body 422";
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
        operation.takes_header("Idempotency-Key", about, &schema);
    }
}

impl IdempotencyKey {
    /// The key of a call that asks for this.
    pub(super) fn of(self, new: &impl std::fmt::Debug) -> Option<Idempotency> {
        let fingerprint = blake3::hash(format!("{new:?}").as_bytes()).to_hex()[..32].to_owned();
        self.0.map(|key| Idempotency { key, fingerprint })
    }
}

/// The key that a call shows to a route that needs none.
pub(super) struct Bearer(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(bearer(&parts.headers).map(str::to_owned)))
    }
}

impl OperationInput for Bearer {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.tells_more_with_key();
    }
}

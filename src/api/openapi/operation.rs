//! What a route takes and answers, told by the types of its handler: what is not in a signature is not in the document, and a handler
//! whose types say nothing does not compile as a route.

use std::{collections::BTreeMap, future::Future};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::{
    api::{
        Api, Problem,
        guard::{By, Tenant},
        problem::{Body, InPath, InQuery},
    },
    errors::Code,
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// An operation as its handler tells of it.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    /// Parameters in the query and in headers.
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    /// Answers that are no errors, by status.
    pub(super) answers: BTreeMap<u16, Answer>,
    pub(super) codes: Vec<Code>,
    /// Whether a key changes what a route answers that needs none.
    pub(super) more_with_key: bool,
}

impl Operation {
    /// Names errors that its calls may get.
    pub(crate) fn fails(&mut self, codes: &[Code]) {
        for code in codes {
            if !self.codes.contains(code) {
                self.codes.push(*code);
            }
        }
    }

    /// Adds a header that clients may send.
    pub(crate) fn takes_header(&mut self, name: &str, description: &str, schema: &Value) {
        self.parameters
            .push(json!({"name": name, "in": "header", "description": description, "schema": schema}));
    }

    /// Says that a key makes a difference where none is needed.
    pub(crate) fn tells_more_with_key(&mut self) {
        self.more_with_key = true;
    }

    /// Adds an answer.
    pub(crate) fn answers(&mut self, status: u16, answer: Answer) {
        self.answers.insert(status, answer);
    }
}

/// An answer that is no error.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    description: &'static str,
    content: Map<String, Value>,
    headers: Vec<&'static str>,
    links: Map<String, Value>,
}

impl Answer {
    /// One without a body.
    pub(crate) fn empty(description: &'static str) -> Self {
        Self { description, ..Self::default() }
    }

    /// One with a JSON body.
    pub(crate) fn json<T: JsonSchema>(description: &'static str, schemas: &mut Schemas) -> Self {
        Self::of(description, JSON, &schemas.answered::<T>())
    }

    /// One with a text.
    pub(crate) fn text(description: &'static str, media_type: &str) -> Self {
        Self::of(description, media_type, &json!({"type": "string"}))
    }

    /// One with a body of this type.
    pub(crate) fn of(description: &'static str, media_type: &str, schema: &Value) -> Self {
        let mut answer = Self::empty(description);
        answer.content.insert(media_type.to_owned(), json!({ "schema": schema }));
        answer
    }

    /// The same with headers, by their names in `components/headers`.
    pub(crate) fn with_headers(mut self, headers: &[&'static str]) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The same with operations that take what this field of the body says as their `id`.
    pub(crate) fn linked(mut self, field: &str, operations: &[&str]) -> Self {
        for id in operations {
            let link = json!({"operationId": id, "parameters": {"id": format!("$response.body#/{field}")}});
            self.links.insert((*id).to_owned(), link);
        }
        self
    }

    pub(super) fn document(self, more: &[&'static str]) -> Value {
        let Self { description, content, headers, links } = self;
        let mut answer =
            json!({"description": description, "headers": header_refs(headers.iter().chain(more))});
        if !content.is_empty() {
            answer["content"] = content.into();
        }
        if !links.is_empty() {
            answer["links"] = links.into();
        }
        answer
    }
}

/// Headers by reference.
pub(super) fn header_refs<'a>(names: impl Iterator<Item = &'a &'static str>) -> Value {
    let refs =
        names.map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(refs.collect())
}

/// What a handler takes.
pub(crate) trait OperationInput {
    /// Tells of it.
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

/// What a handler answers.
pub(crate) trait OperationOutput {
    /// Tells of it.
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

/// A handler whose types tell what it takes and answers. `T` is that of axum's `Handler`.
pub(crate) trait OperationHandler<T> {
    /// Tells of it.
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

impl<F, Fut, Output> OperationHandler<((),)> for F
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Output>,
    Output: OperationOutput,
{
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Output::describe(operation, schemas);
    }
}

macro_rules! of_arguments {
    ($($input:ident)+) => {
        impl<F, Fut, Output, M, $($input),+> OperationHandler<(M, $($input,)+)> for F
        where
            F: FnOnce($($input),+) -> Fut,
            Fut: Future<Output = Output>,
            Output: OperationOutput,
            $($input: OperationInput,)+
        {
            fn describe(operation: &mut Operation, schemas: &mut Schemas) {
                $($input::describe(operation, schemas);)+
                Output::describe(operation, schemas);
            }
        }
    };
}

of_arguments! { A }
of_arguments! { A B }
of_arguments! { A B C }
of_arguments! { A B C D }
of_arguments! { A B C D E }

/// What the server itself gives to a handler.
macro_rules! not_of_the_client {
    ($($input:ty)+) => {
        $(impl OperationInput for $input {
            fn describe(_: &mut Operation, _: &mut Schemas) {}
        })+
    };
}

not_of_the_client! { State<Api> Tenant By }

/// The document's paths say which parameters they have, and what they are.
impl<T> OperationInput for InPath<T> {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.fails(&[Code::InvalidRequest]);
    }
}

impl<T: JsonSchema> OperationInput for InQuery<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.fails(&[Code::InvalidRequest]);
        operation.parameters.extend(schemas.parameters::<T>());
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.fails(&[Code::InvalidRequest, Code::UnsupportedMediaType]);
        let content = json!({ JSON: {"schema": schemas.requested::<T>()} });
        operation.body = Some(json!({"required": true, "content": content}));
    }
}

impl<T: OperationOutput> OperationOutput for Result<T, Problem> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
    }
}

impl<T: JsonSchema> OperationOutput for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(200, Answer::json::<T>("As asked for", schemas));
    }
}

impl OperationOutput for &'static str {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.answers(200, Answer::text("It is so", TEXT));
    }
}

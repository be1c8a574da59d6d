//! The OpenAPI document: what the table of routes says, what the types of the handlers say, and the schemas that those types derive.
//! Nothing of it is written twice, so it cannot be out of date. `docs/openapi.json` is a copy that a test holds against it.

mod operation;
mod schemas;
mod specs;

use std::sync::OnceLock;

use axum::extract::State;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

pub(crate) use operation::{
    Answer, JSON, Operation, OperationHandler, OperationInput, OperationOutput, TEXT,
};
pub(crate) use schemas::Schemas;
pub(crate) use specs::one_of_each_kind;
pub(crate) use specs::spec_of_any_kind;

use super::{
    Api, Needs, Problem,
    answers::{IfNoneMatch, JsonText, Tagged},
    problem::{PROBLEM_JSON, ProblemDetails},
    routes::{Route, routes},
};
use crate::errors::{Code, ServiceError};

/// Where it is served.
pub(super) const PATH: &str = "/openapi.json";

const ABOUT: &str = "Backtests and risk analyses of Jesse as durable jobs.\n\n\
    Submit a job (`POST /v1/jobs`), then follow it: ask again with `?wait=` seconds, read `/v1/jobs/{id}/events`, or have a webhook told. \
    An equal job is answered by the stored result. MCP is served under `/mcp`.\n\n\
    Errors are problem details (RFC 9457) whose `code` is stable. Every answer has the header `X-Request-Id`: what the call sent under \
    that name, or a new one. Lists are read page by page: give `next_cursor` as `cursor` until it is null.";

const ABOUT_KEYS: &str = "An API key (`jj_...`) that `jesse-jobs keys create` has made, or the operator's own. What it must allow is said with \
    each operation. A deployment that has no keys yet serves whoever is on its own machine, without one; its document says so.";

/// What all routes may answer: the request is for another host or too large, or the server is broken.
const OF_ALL: [Code; 3] = [Code::HostNotAllowed, Code::PayloadTooLarge, Code::Internal];
/// And those behind a guard.
const OF_GUARDED: [Code; 4] = [Code::Unauthenticated, Code::InvalidKey, Code::RateLimited, Code::Unavailable];

/// The document. An error says what about the routes or their types does not fit into one.
fn document() -> Result<Value, String> {
    let (mut schemas, mut errors, mut paths) = (Schemas::new(), Map::new(), Map::new());
    for route in routes().into_iter().filter(|route| route.docs.is_some()) {
        let path = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_ascii_lowercase();
        path[method] = operation(&route, &mut schemas, &mut errors);
    }
    schemas.answered::<ProblemDetails>();
    let mut tags: Vec<_> =
        routes().iter().filter_map(|route| route.docs.as_ref().map(|_| tag(route.path))).collect();
    tags.dedup();
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "jesse-jobs",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this document is from"}],
        "tags": tags.iter().map(|(name, about)| json!({"name": name, "description": about})).collect::<Vec<_>>(),
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.components()?,
            "responses": errors,
            "headers": headers(),
            "parameters": {"RequestId": request_id()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": ABOUT_KEYS}},
        },
    }))
}

fn operation(route: &Route, schemas: &mut Schemas, errors: &mut Map<String, Value>) -> Value {
    let mut operation = Operation::default();
    (route.describe)(&mut operation, schemas);
    operation.fails(&OF_ALL);
    let guarded = route.needs != Needs::Nothing;
    if guarded {
        operation.fails(&OF_GUARDED);
    }
    if guarded && !route.method.is_safe() {
        operation.fails(&[Code::OriginNotAllowed]);
    }
    if matches!(route.needs, Needs::Scope(_) | Needs::LocalOrAdmin) {
        operation.fails(&[Code::MissingScope]);
    }
    let docs = route.docs.clone().unwrap_or_default();
    operation.fails(docs.codes);
    let Operation { parameters, body, answers, codes, more_with_key } = operation;

    let mut all = path_parameters(route.path);
    all.extend(parameters);
    all.push(json!({"$ref": "#/components/parameters/RequestId"}));
    let limits: &[&str] = if guarded { &["RateLimit", "RateLimit-Policy"] } else { &[] };
    let more = [&["X-Request-Id"], limits].concat();
    let mut responses: Map<_, _> =
        answers.into_iter().map(|(status, answer)| (status.to_string(), answer.document(&more))).collect();
    for (status, codes) in by_status(&codes) {
        // An answer that has this status without being a problem says so itself.
        if !responses.contains_key(&status) {
            responses.insert(status, problem(&codes, errors));
        }
    }
    let mut told = json!({
        "operationId": docs.id,
        "summary": docs.summary,
        "tags": [tag(route.path).0],
        "parameters": all,
        "responses": responses,
        "security": security(route.needs, more_with_key),
    });
    if !docs.about.is_empty() {
        told["description"] = docs.about.into();
    }
    if let Some(mut body) = body {
        if let Some(examples) = docs.examples {
            body["content"][JSON]["examples"] = examples();
        }
        told["requestBody"] = body;
    }
    told
}

fn by_status(codes: &[Code]) -> Vec<(String, Vec<Code>)> {
    let mut all: Vec<(String, Vec<Code>)> = Vec::new();
    for code in Code::all().filter(|code| codes.contains(code)) {
        let status = code.status().to_string();
        match all.iter_mut().find(|(known, _)| *known == status) {
            Some((_, codes)) => codes.push(code),
            None => all.push((status, vec![code])),
        }
    }
    all
}

/// A reference to the response that stands for these errors, all of one status.
fn problem(codes: &[Code], known: &mut Map<String, Value>) -> Value {
    let names: Vec<_> = codes.iter().map(|code| json!(code)).collect();
    let said: Vec<_> = codes
        .iter()
        .zip(&names)
        .map(|(code, name)| {
            format!("* `{}`: {}. {}", name.as_str().unwrap_or_default(), code.title(), code.advice())
        })
        .collect();
    let mut headers = vec!["X-Request-Id"];
    if codes.iter().any(|code| code.retry_after().is_some() || *code == Code::RateLimited) {
        headers.push("Retry-After");
    }
    if codes.iter().any(|code| [401, 403].contains(&code.status())) {
        headers.push("WWW-Authenticate");
    }
    if codes.contains(&Code::RateLimited) {
        headers.extend(["RateLimit", "RateLimit-Policy"]);
    }
    let schema = json!({
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {"code": {"enum": names}, "status": {"const": codes.first().map(|code| code.status())}},
    });
    let response = json!({
        "description": said.join("\n"),
        "headers": operation::header_refs(headers.iter()),
        "content": {PROBLEM_JSON: {"schema": schema}},
    });
    // What few operations have in common needs no name.
    if codes.len() > 3 {
        return response;
    }
    let name = names.iter().filter_map(Value::as_str).map(pascal).collect::<Vec<_>>().join("Or");
    let reference = json!({"$ref": format!("#/components/responses/{name}")});
    known.insert(name, response);
    reference
}

fn pascal(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(word).collect()
}

fn security(needs: Needs, more_with_key: bool) -> Value {
    match needs {
        Needs::Nothing if more_with_key => json!([{}, {"key": []}]),
        Needs::Nothing => json!([]),
        Needs::Key => json!([{"key": []}]),
        Needs::Scope(scope) => json!([{"key": [scope.name()]}]),
        Needs::LocalOrAdmin => json!([{}, {"key": [access::Scope::Admin.name()]}]),
    }
}

/// The group of a route, by its path.
fn tag(path: &str) -> (&'static str, &'static str) {
    match path.strip_prefix("/v1/").and_then(|path| path.split('/').next()) {
        Some("jobs") => ("Jobs", "What is computed, and what was found"),
        Some("batches") => ("Batches", "Many backtests in one call"),
        Some("campaigns" | "holdouts") => {
            ("Campaigns", "What was tried for one idea, and what that leaves of the best of it")
        }
        Some("strategies") => ("Strategies", "What can be run"),
        Some("candles") => ("Candles", "On what it can be run"),
        Some("webhooks") => ("Webhooks", "Who is told of the ends of jobs"),
        Some("cache") => ("Cache", "Stored results"),
        Some("queue" | "audit") => ("Operation", "For those who run the server"),
        _ => ("Server", "Whether it works, and what it offers"),
    }
}

/// What a path names.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str| {
        let collection = path.split('/').nth(2).unwrap_or_default();
        let (about, schema) = match (collection, name) {
            ("jobs" | "batches", "id") => ("A `job_id`", json!({"type": "string", "format": "uuid"})),
            ("webhooks", "id") => (
                "The `id` of a webhook; `jobs` stands for the URLs that single jobs name",
                json!({"type": "string", "pattern": "^(ep_[0-9a-f]{32}|jobs)$"}),
            ),
            ("webhooks", "delivery") => {
                ("A `delivery_id`", json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}))
            }
            _ => ("Its name", json!({"type": "string", "minLength": 1})),
        };
        json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
    };
    names.map(parameter).collect()
}

fn request_id() -> Value {
    json!({
        "name": "X-Request-Id",
        "in": "header",
        "description": "Names the call, in its answer and in the log; what is not fit for a log is replaced",
        "schema": {"type": "string"},
    })
}

fn headers() -> Value {
    let header = |about: &str, schema: Value, required: bool| json!({"description": about, "schema": schema, "required": required});
    let text = || json!({"type": "string"});
    json!({
        "ETag": header("Names what was answered: send it as `If-None-Match`", text(), true),
        "Location": header("Where what was made is", json!({"type": "string", "format": "uri-reference"}), true),
        "RateLimit": header("What is left: `\"calls\";r=` calls, and `t=` seconds until all are back; where calls are counted", text(), false),
        "RateLimit-Policy": header("What is allowed: `\"calls\";q=` calls in `w=` seconds; where calls are counted", text(), false),
        "Retry-After": header("In how many seconds to try again, where that helps", json!({"type": "integer", "minimum": 0}), false),
        "WWW-Authenticate": header("What a key would have to be or allow (RFC 6750), where that is the reason", text(), false),
        "X-Request-Id": header("Names the call, as in the log", text(), true),
    })
}

/// The document of a deployment that has no keys: whoever may ask for it may call without one.
fn without_keys(mut document: Value) -> Value {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in paths.filter_map(Value::as_object_mut).flat_map(|operations| operations.values_mut()) {
        if let Some(Value::Array(needs)) = operation.get_mut("security")
            && !needs.is_empty()
            && !needs.contains(&json!({}))
        {
            needs.insert(0, json!({}));
        }
    }
    document
}

/// `GET /openapi.json`.
pub(super) async fn get(
    State(api): State<Api>,
    known: IfNoneMatch,
) -> Result<Tagged<JsonText<Anything>>, Problem> {
    type Text = OnceLock<Option<(String, JsonText<Anything>)>>;
    static CLOSED: Text = OnceLock::new();
    static OPEN: Text = OnceLock::new();
    let needs_key = api.callers.needs_key().await;
    let written = || {
        let document =
            document().inspect_err(|why| tracing::error!(why, "there is no OpenAPI document")).ok()?;
        let document = if needs_key { document } else { without_keys(document) };
        let text = JsonText::new(&Anything(document)).ok()?;
        Some((text.tag(), text))
    };
    let text = if needs_key { &CLOSED } else { &OPEN };
    let (tag, text) = text
        .get_or_init(written)
        .as_ref()
        .ok_or_else(|| ServiceError::new(Code::Internal, "something is wrong on our side; it was logged"))?;
    known.unless(tag, || Ok(text.clone()))
}

/// An object that is described elsewhere: by the OpenAPI specification.
#[derive(Debug, serde::Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("type" = "object"))]
pub(crate) struct Anything(Value);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::HashSet;

    use axum::http::Method;

    use super::*;
    use crate::api::Door;

    #[test]
    fn the_document_is_up_to_date() {
        let mut text = serde_json::to_string_pretty(&document().unwrap()).unwrap();
        text.push('\n');
        crate::reference::assert_up_to_date("docs/openapi.json", &text);
    }

    #[test]
    fn every_route_is_told_of_and_every_operation_has_its_name() {
        let document = document().unwrap();
        let mut ids = HashSet::new();
        for route in routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            let told = &document["paths"][route.path][&method];
            // What is for people in a browser is no operation.
            let for_people = route.door == Door::Page
                || ["/docs", "/console/assets/"].iter().any(|start| route.path.starts_with(start));
            assert_eq!(told.is_null(), for_people, "{method} {}", route.path);
            if let Some(id) = told["operationId"].as_str() {
                assert!(ids.insert(id.to_owned()), "{id} is the name of two operations");
                assert!(!told["summary"].as_str().unwrap().is_empty(), "{id}");
                assert!(
                    route.method != Method::POST || told["responses"].as_object().unwrap().len() > 5,
                    "{id}"
                );
            }
        }
        assert!(ids.len() > 40, "{}", ids.len());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document().unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}

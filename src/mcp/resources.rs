//! Resources: what an answer leaves out, to be read by its URI.
//!
//! `job://{id}` and its parts, `batch://{id}`, `strategy://{name}`, and the guide for agents. Long lists come in pages, so
//! that no read fills a context: the end of each page names the URI of the next.

use access::{Caller, Scope};
use analysis::ledger::Figures;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jobs::{JobId, TenantId};
use rmcp::{
    ErrorData,
    model::{
        ArgumentInfo, CompleteResult, CompletionInfo, ListResourceTemplatesResult, ListResourcesResult,
        ReadResourceResult, Reference, Resource, ResourceContents, ResourceTemplate,
    },
};
use serde_json::{Value, json, value::RawValue};

use super::{MOST_SOURCE, app, arguments, batch, lookup};
use crate::{
    callers::require,
    charts::{self, Kind, Look, Theme},
    errors::{Code, ServiceError},
    service::Service,
};

/// The guide for agents, which is also a page of the documentation.
pub(super) const GUIDE: &str = include_str!("../../docs/agents.md");
const GUIDE_URI: &str = "guide://agents";
const ERRORS: &str = include_str!("../../docs/errors.md");
const ERRORS_URI: &str = "guide://errors";

const JSON: &str = "application/json";
pub(super) const PNG: &str = "image/png";
const SVG: &str = "image/svg+xml";
/// The default and the longest length of a page of trades or of points.
const PAGE: (usize, usize) = (50, 500);

/// URI template, name, MIME type, description.
const TEMPLATES: [(&str, &str, &str, &str); 10] = [
    ("job://{id}", "job", JSON, "A job with all that it was asked for"),
    ("job://{id}/result", "job_result", JSON, "All metrics, and what the result was computed from"),
    ("job://{id}/trades{?cursor,limit}", "job_trades", JSON, "Closed trades, 50 a page (limit up to 500)"),
    (
        "job://{id}/equity_curve{?cursor,limit}",
        "job_equity_curve",
        JSON,
        "Time (seconds, UTC) and balance, in pages",
    ),
    ("job://{id}/logs", "job_logs", "text/plain", "What the strategy logged and printed"),
    (
        "job://{id}/chart.png{?kind,theme}",
        "job_chart",
        PNG,
        "Equity with the drawdown below it, or (kind=monthly) returns by month; theme=dark for dark surroundings",
    ),
    ("job://{id}/chart.svg{?kind,theme}", "job_chart_svg", SVG, "The same as SVG"),
    ("batch://{id}", "batch", JSON, "The table of a batch"),
    ("campaign://{name}", "campaign", JSON, "How many trials an idea took, and what luck alone would give"),
    ("strategy://{name}", "strategy", JSON, "The source of a strategy and of all that it imports"),
];

/// The resources that are always there.
pub(super) fn list() -> ListResourcesResult {
    let guide = Resource::new(GUIDE_URI, "agents")
        .with_title("Guide for agents")
        .with_description("How to run, follow and read jobs, with examples")
        .with_mime_type("text/markdown")
        .with_size(GUIDE.len() as u64);
    let errors = Resource::new(ERRORS_URI, "errors")
        .with_title("Error codes")
        .with_description("What each code means and what to do about it")
        .with_mime_type("text/markdown")
        .with_size(ERRORS.len() as u64);
    ListResourcesResult::with_all_items(vec![guide, errors, app::resource()])
}

/// The URIs of all others.
pub(super) fn templates() -> ListResourceTemplatesResult {
    let template = |(uri, name, mime, description): (&str, &str, &str, &str)| {
        ResourceTemplate::new(uri, name).with_description(description).with_mime_type(mime)
    };
    ListResourceTemplatesResult::with_all_items(TEMPLATES.into_iter().map(template).collect())
}

/// What a URI names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Guide,
    Errors,
    Job(JobId),
    Result(JobId),
    Page(JobId, &'static str, Page),
    Logs(JobId),
    Chart(JobId, &'static str, Look),
    Batch(JobId),
    Campaign(String),
    Strategy(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    first: usize,
    most: usize,
}

impl Named {
    /// What a key must allow.
    fn needs(&self) -> Option<Scope> {
        match self {
            Self::Guide | Self::Errors => None,
            Self::Strategy(_) => Some(Scope::StrategiesRead),
            Self::Job(_)
            | Self::Result(_)
            | Self::Page(..)
            | Self::Logs(_)
            | Self::Chart(..)
            | Self::Batch(_)
            | Self::Campaign(_) => Some(Scope::JobsRead),
        }
    }

    fn parse(uri: &str) -> Result<Self, ServiceError> {
        if uri == GUIDE_URI {
            return Ok(Self::Guide);
        }
        if uri == ERRORS_URI {
            return Ok(Self::Errors);
        }
        let unknown = || {
            let shown: String = uri.chars().take(120).collect();
            let known: Vec<_> = TEMPLATES.iter().map(|template| template.0).collect();
            let message = format!(
                "no resource {shown:?}; there are {GUIDE_URI}, {ERRORS_URI}, {}, {}",
                app::URI,
                known.join(", ")
            );
            ServiceError::new(Code::NotFound, message)
        };
        let (scheme, rest) = uri.split_once("://").ok_or_else(unknown)?;
        if scheme == "campaign" && !rest.is_empty() {
            // A name may have any character, as it is or percent-encoded.
            return Ok(Self::Campaign(rest.to_owned()));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (name, part) = path.split_once('/').unwrap_or((path, ""));
        let named = match (scheme, part) {
            ("job", "") => Self::Job(arguments::job_id(name)?),
            ("job", "result") => Self::Result(arguments::job_id(name)?),
            ("job", "trades") => return Ok(Self::Page(arguments::job_id(name)?, "trades", page(query)?)),
            ("job", "equity_curve") => {
                return Ok(Self::Page(arguments::job_id(name)?, "equity_curve", page(query)?));
            }
            ("job", "logs") => Self::Logs(arguments::job_id(name)?),
            ("job", "chart.svg") => return Ok(Self::Chart(arguments::job_id(name)?, SVG, look(query)?)),
            ("job", "chart.png") => return Ok(Self::Chart(arguments::job_id(name)?, PNG, look(query)?)),
            ("batch", "") => Self::Batch(arguments::job_id(name)?),
            ("strategy", "") if !name.is_empty() => Self::Strategy(name.to_owned()),
            _ => return Err(unknown()),
        };
        if query.is_empty() { Ok(named) } else { Err(unknown()) }
    }
}

fn page(query: &str) -> Result<Page, ServiceError> {
    let invalid = |message: String| ServiceError::new(Code::InvalidRequest, message);
    let mut page = Page { first: 0, most: PAGE.0 };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = value.parse::<u32>().map(|number| number as usize);
        match (name, number) {
            ("cursor", Ok(first)) => page.first = first,
            ("limit", Ok(most)) if (1..=PAGE.1).contains(&most) => page.most = most,
            ("cursor", _) => return Err(invalid("cursor: take it from `next`".into())),
            ("limit", _) => return Err(invalid(format!("limit: must be from 1 to {}", PAGE.1))),
            _ => return Err(invalid("a page is asked for with cursor and limit".into())),
        }
    }
    Ok(page)
}

fn look(query: &str) -> Result<Look, ServiceError> {
    let mut look = Look::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair {
            "kind=equity" => look.kind = Kind::Equity,
            "kind=monthly" => look.kind = Kind::Monthly,
            "theme=light" => look.theme = Theme::Light,
            "theme=dark" => look.theme = Theme::Dark,
            _ => {
                let message = "a chart is asked for with kind (equity or monthly) and theme (light or dark)";
                return Err(ServiceError::new(Code::InvalidRequest, message));
            }
        }
    }
    Ok(look)
}

/// Reads a resource.
pub(super) async fn read(
    service: &Service,
    caller: &Caller,
    uri: &str,
) -> Result<ReadResourceResult, ErrorData> {
    if uri == app::URI {
        return Ok(ReadResourceResult::new(vec![app::contents()]));
    }
    let (mime, content) = contents(service, caller, uri).await.map_err(|error| told_of(uri, &error))?;
    let content = match content {
        Content::Text(text) => ResourceContents::text(text, uri),
        Content::Bytes(bytes) => ResourceContents::blob(BASE64.encode(bytes), uri),
    };
    Ok(ReadResourceResult::new(vec![content.with_mime_type(mime)]))
}

/// What a resource holds.
enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

async fn contents(
    service: &Service,
    caller: &Caller,
    uri: &str,
) -> Result<(&'static str, Content), ServiceError> {
    let (now, tenant) = (std::time::Duration::ZERO, &caller.tenant);
    let named = Named::parse(uri)?;
    if let Some(scope) = named.needs() {
        require(caller, scope)?;
    }
    Ok(match named {
        Named::Guide => ("text/markdown", GUIDE.to_owned().into()),
        Named::Errors => ("text/markdown", ERRORS.to_owned().into()),
        Named::Job(job) => {
            let view = service.job(tenant, job, now, |_| {}).await?;
            (JSON, text(&lookup::detailed(view))?.into())
        }
        Named::Result(job) => {
            let mut fields = service.result(tenant, job).await?.fields;
            // They have resources of their own, which come in pages.
            for long in ["trades", "equity_curve", "benchmark_curve", "logs"] {
                fields.remove(long);
            }
            (JSON, text(&fields)?.into())
        }
        Named::Page(job, field, page) => (JSON, page_of(service, tenant, job, field, page).await?.into()),
        Named::Logs(job) => ("text/plain", service.logs(tenant, job).await?.into()),
        Named::Chart(job, mime, look) => {
            let result = service.result(tenant, job).await?;
            let drawn = if mime == PNG {
                Content::Bytes(charts::png(result, look).await?)
            } else {
                charts::svg(&result, look)?.into()
            };
            (mime, drawn)
        }
        Named::Batch(batch) => {
            let view = service.batch(tenant, batch).await?;
            (JSON, text(&batch::answer(service, tenant, &view, batch::RankBy::default()).await?)?.into())
        }
        Named::Campaign(name) => (JSON, text(&campaign(service, tenant, &name).await?)?.into()),
        Named::Strategy(name) => (JSON, text(&service.strategy(&name, None, MOST_SOURCE).await?)?.into()),
    })
}

/// A campaign by the name as it stands in the URI, or decoded.
async fn campaign(service: &Service, tenant: &TenantId, name: &str) -> Result<Figures, ServiceError> {
    match service.campaign(tenant, name).await {
        Err(error) if error.code == Code::NotFound && name.contains('%') => {
            service.campaign(tenant, &decoded(name)).await
        }
        found => found,
    }
}

/// Without percent-encoding; what is none stays as it is.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, others @ ..] = rest {
        let pair = others.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A page of a list that a result has.
async fn page_of(
    service: &Service,
    tenant: &TenantId,
    job: JobId,
    field: &str,
    Page { first, most }: Page,
) -> Result<String, ServiceError> {
    let fields = service.result(tenant, job).await?.fields;
    let list = fields.get(field).ok_or_else(|| {
        let known: Vec<_> = fields.keys().map(String::as_str).collect();
        let message = format!("the result has no {field}; it has {}", known.join(", "));
        ServiceError::new(Code::NotFound, message)
    })?;
    let list: Option<Vec<Box<RawValue>>> = serde_json::from_str(list.get())
        .map_err(|error| ServiceError::internal("a stored result cannot be read", &error))?;
    let list = list.unwrap_or_default();
    let items: Vec<_> = list.iter().skip(first).take(most).collect();
    let next = first.saturating_add(most);
    let next = (next < list.len()).then(|| format!("job://{job}/{field}?cursor={next}&limit={most}"));
    text(&json!({"total": list.len(), "first": first, field: items, "next": next}))
}

fn text(value: &impl serde::Serialize) -> Result<String, ServiceError> {
    serde_json::to_string(value).map_err(|error| ServiceError::internal("a resource cannot be shown", &error))
}

/// What a client is told of a resource; it is to know which, since it may have asked for several.
fn told_of(uri: &str, error: &ServiceError) -> ErrorData {
    let mut told = protocol_error(error);
    if let Some(Value::Object(data)) = &mut told.data {
        data.insert("uri".to_owned(), uri.into());
    }
    told
}

/// What a client of resources is told.
fn protocol_error(error: &ServiceError) -> ErrorData {
    let status = error.code.status();
    let message = error.message.clone();
    let data = Some(json!({ "error": error }));
    match status {
        404 | 409 | 410 => ErrorData::resource_not_found(message, data),
        500.. => ErrorData::internal_error(message, data),
        _ => ErrorData::invalid_params(message, data),
    }
}

/// Completes names of strategies, symbols and campaigns, ids of the newest jobs, and what charts there are.
pub(super) async fn complete(
    service: &Service,
    caller: &Caller,
    reference: &Reference,
    argument: &ArgumentInfo,
) -> Result<CompleteResult, ErrorData> {
    let of =
        |scheme: &str| matches!(reference, Reference::Resource(resource) if resource.uri.starts_with(scheme));
    let known = match argument.name.as_str() {
        name if name == "strategy" || (name == "name" && of("strategy:")) => {
            if caller.may(Scope::StrategiesRead) { strategies(service).await } else { Ok(Vec::new()) }
        }
        "symbol" => symbols(service).await,
        "kind" => Ok(["equity", "monthly"].map(str::to_owned).into()),
        "theme" => Ok(["light", "dark"].map(str::to_owned).into()),
        "name" if of("campaign:") && caller.may(Scope::JobsRead) => campaigns(service, &caller.tenant).await,
        "id" | "job_id" if caller.may(Scope::JobsRead) => newest(service, &caller.tenant).await,
        _ => Ok(Vec::new()),
    };
    let begin = argument.value.to_lowercase();
    let mut found = known.map_err(|error| protocol_error(&error))?;
    found.retain(|value| value.to_lowercase().starts_with(&begin));
    let total = u32::try_from(found.len()).ok();
    let has_more = found.len() > CompletionInfo::MAX_VALUES;
    found.truncate(CompletionInfo::MAX_VALUES);
    let info = CompletionInfo::with_pagination(found, total, has_more);
    info.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None::<Value>))
}

async fn strategies(service: &Service) -> Result<Vec<String>, ServiceError> {
    Ok(service.strategies().await?.into_iter().map(|strategy| strategy.name).collect())
}

async fn symbols(service: &Service) -> Result<Vec<String>, ServiceError> {
    let mut symbols: Vec<_> = service.candles().await?.into_iter().map(|series| series.symbol).collect();
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}

async fn campaigns(service: &Service, tenant: &TenantId) -> Result<Vec<String>, ServiceError> {
    Ok(service.campaigns(tenant).await?.into_iter().map(|campaign| campaign.name).collect())
}

async fn newest(service: &Service, tenant: &TenantId) -> Result<Vec<String>, ServiceError> {
    let page = service.list(tenant, &jobs::Filter::default(), None, PAGE.0).await?;
    Ok(page.jobs.iter().map(|job| job.job_id.to_string()).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const ID: &str = "01981c2e-6f1c-7000-8000-000000000000";

    #[test]
    fn names_are_decoded_where_they_are_encoded() {
        for (given, expected) in
            [("mean%20reversion", "mean reversion"), ("50% up", "50% up"), ("%", "%"), ("%c3%a4%zz", "ä%zz")]
        {
            assert_eq!(decoded(given), expected);
        }
    }

    #[test]
    fn uris_name_what_the_templates_say_and_nothing_else() {
        let id: JobId = ID.parse().unwrap();
        let page = Page { first: 100, most: 20 };
        for (uri, named) in [
            ("guide://agents".to_owned(), Named::Guide),
            ("guide://errors".to_owned(), Named::Errors),
            (format!("job://{ID}"), Named::Job(id)),
            (format!("job://{ID}/trades?cursor=100&limit=20"), Named::Page(id, "trades", page)),
            (format!("job://{ID}/chart.svg"), Named::Chart(id, SVG, Look::default())),
            (
                format!("job://{ID}/chart.png?theme=dark&kind=monthly"),
                Named::Chart(id, PNG, Look { kind: Kind::Monthly, theme: Theme::Dark }),
            ),
            (format!("batch://{ID}"), Named::Batch(id)),
            ("strategy://SmaCross".to_owned(), Named::Strategy("SmaCross".into())),
            ("campaign://strategy:A?b".to_owned(), Named::Campaign("strategy:A?b".into())),
        ] {
            assert_eq!(Named::parse(&uri).unwrap(), named, "{uri}");
        }
        for (uri, words) in [
            ("", "no resource"),
            ("job:", "no resource"),
            ("job://", "UUID"),
            ("job://x", "UUID"),
            ("file:///etc/passwd", "job://{id}"),
            ("strategy://", "no resource"),
            ("strategy://a/../b", "no resource"),
            (&format!("job://{ID}/chart.svg?limit=1"), "equity or monthly"),
            (&format!("job://{ID}/chart.png?theme=blue"), "light or dark"),
            (&format!("job://{ID}/logs?limit=1"), "no resource"),
            (&format!("job://{ID}/trades?limit=501"), "1 to 500"),
            (&format!("job://{ID}/trades?cursor=-1"), "cursor"),
            (&format!("job://{ID}/trades?page=1"), "cursor and limit"),
        ] {
            let error = Named::parse(uri).unwrap_err();
            assert!(error.message.contains(words), "{uri}: {error}");
        }
    }
}

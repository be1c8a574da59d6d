//! A risk report as a page for people, made anew from its stored figures whenever it is read.

use analysis::report;
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{
    Api, Problem,
    guard::Tenant,
    jobs::{etag, parse_id, unless_unchanged},
    problem::InPath,
};

/// The page holds no script and loads nothing, and a browser is told to keep to that.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// As Markdown.
pub(super) async fn markdown(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (blob, page) = api.service.risk_report(&tenant, parse_id(&id)?).await?;
    Ok(unless_unchanged(&headers, &tag(blob.as_str(), "markdown"), || {
        let kind = "text/markdown; charset=utf-8";
        ([(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], report::markdown(&page))
            .into_response()
    }))
}

/// As HTML.
pub(super) async fn html(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (blob, page) = api.service.risk_report(&tenant, parse_id(&id)?).await?;
    Ok(unless_unchanged(&headers, &tag(blob.as_str(), "html"), || {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        ];
        (headers, report::html(&page)).into_response()
    }))
}

/// Another version may make another page of the same figures.
fn tag(blob: &str, form: &str) -> String {
    etag(blob, &format!("report {form} {}", env!("CARGO_PKG_VERSION")))
}

//! A risk report as a page for people, made anew from its stored figures whenever it is read.

use analysis::report;
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    Api, Problem,
    answers::{IfNoneMatch, Markdown, Representation, Tagged, etag},
    guard::Tenant,
    jobs::parse_id,
    openapi::{Answer, Schemas},
    problem::InPath,
};

const HTML: &str = "text/html; charset=utf-8";
/// The page holds no script and loads nothing, and a browser is told to keep to that.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// As Markdown.
pub(super) async fn markdown(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    known: IfNoneMatch,
) -> Result<Tagged<Markdown>, Problem> {
    let (blob, page) = api.service.risk_report(&tenant, parse_id(&id)?).await?;
    known.unless(&tag(blob.as_str(), "markdown"), || Ok(Markdown(report::markdown(&page))))
}

/// A page that can do nothing.
pub(super) struct Page(String);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HTML),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        ];
        (headers, self.0).into_response()
    }
}

impl Representation for Page {
    fn answer(_: &mut Schemas) -> Answer {
        Answer::text("As asked for", HTML)
    }
}

/// As HTML.
pub(super) async fn html(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    known: IfNoneMatch,
) -> Result<Tagged<Page>, Problem> {
    let (blob, page) = api.service.risk_report(&tenant, parse_id(&id)?).await?;
    known.unless(&tag(blob.as_str(), "html"), || Ok(Page(report::html(&page))))
}

/// Another version may make another page of the same figures.
fn tag(blob: &str, form: &str) -> String {
    etag(blob, &format!("report {form} {}", env!("CARGO_PKG_VERSION")))
}

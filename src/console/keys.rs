//! The keys of the deployment: who has which, and taking one back. Keys are made by `jesse-jobs keys create`, which shows them to whoever runs
//! the server and to no browser.

use access::{AccessError, KeyId, KeyView};
use axum::{
    extract::State,
    response::{Html, Response},
};
use maud::{Markup, html};

use super::{
    layout::{Failed, Page, Section, Viewer, go_to, heading, nothing, table},
    show,
};
use crate::{
    api::{Api, InPath, Problem},
    errors::{Code, ServiceError},
};

/// The page.
pub(crate) async fn page(State(api): State<Api>, viewer: Viewer) -> Result<Html<String>, Failed> {
    let keys = api.callers.keys().list().await.map_err(told)?;
    let content = html! {
        p.lead { code { "jesse-jobs keys create --tenant NAME --scopes jobs:read,jobs:write" } " makes one and shows it once." }
        @if keys.is_empty() { (nothing("There are no keys: whoever reaches the server on this machine may do everything.")) }
        @else { (rows(&viewer, &keys)) }
    };
    let top = heading(html! { "Keys" }, html! {});
    Ok(Page { title: "Keys", section: Section::Keys, top, live: None, content, draws: false }.show(&viewer))
}

fn rows(viewer: &Viewer, keys: &[KeyView]) -> Markup {
    let now = show::now_ms();
    table(
        "Keys",
        html! {
            thead { tr { th { "Key" } th { "Tenant" } th { "For" } th { "May" } th { "Rate" } th { "Made" } th.number { "Last used" } th { "Until" } th { "Take back" } } }
            tbody {
                @for KeyView { id, terms, expires_ms, used_ms } in keys {
                    tr {
                        td.mono { (id) }
                        td { (show::text(terms.tenant.as_str(), show::SHORT)) }
                        td { (show::text(&terms.label, show::SHORT)) }
                        td.wrap { @for scope in terms.scopes.iter() { span.tag { (scope) } " " } }
                        td { @if let Some(rate) = terms.rate { (rate) " a minute" } @else { span.muted { "default" } } }
                        td { (show::time(terms.created_ms)) }
                        td.number { @if let Some(used) = used_ms { (show::duration(now - used)) " ago" } @else { span.muted { "never" } } }
                        td {
                            @match expires_ms {
                                Some(at) if *at <= now => span.bad { "expired" },
                                Some(at) => (show::time(*at)),
                                None => span.muted { "no end" },
                            }
                        }
                        td { (viewer.button(&format!("/console/keys/{id}/revoke"), "Revoke", "danger small")) }
                    }
                }
            }
        },
    )
}

/// Takes one back.
pub(crate) async fn revoke(
    State(api): State<Api>,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    api.callers.keys().revoke(&id).await.map_err(told)?;
    Ok(go_to("/console/keys"))
}

fn not_found() -> ServiceError {
    ServiceError::new(Code::NotFound, "there is no key with this id")
}

fn told(error: AccessError) -> ServiceError {
    match error {
        AccessError::NotFound(_) => not_found(),
        AccessError::Queue(error) => error.into(),
        error => ServiceError::internal("the keys cannot be read", &error),
    }
}

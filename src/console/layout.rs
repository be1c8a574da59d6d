//! What all pages have in common.
#![expect(clippy::needless_pass_by_value, reason = "markup is made to be put into other markup")]

use access::{Caller, Scope};
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{assets::ASSETS, login, show, visitor::Visitor};
use crate::{
    api::{By, Problem},
    errors::{Code, ServiceError},
};

/// Where in the navigation a page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Jobs,
    Campaigns,
    Compare,
    Dead,
    Webhooks,
    Cache,
    Keys,
    None,
}

/// The sections, and what it takes to see them.
const SECTIONS: [(Section, &str, &str, Scope); 8] = [
    (Section::Overview, "/", "Overview", Scope::JobsRead),
    (Section::Jobs, "/console/jobs", "Jobs", Scope::JobsRead),
    (Section::Campaigns, "/console/campaigns", "Campaigns", Scope::JobsRead),
    (Section::Compare, "/console/compare", "Compare", Scope::JobsRead),
    (Section::Dead, "/console/dead", "Dead letters", Scope::JobsRead),
    (Section::Webhooks, "/console/webhooks", "Webhooks", Scope::Webhooks),
    (Section::Cache, "/console/cache", "Cache", Scope::Cache),
    (Section::Keys, "/console/keys", "Keys", Scope::Admin),
];

/// Who looks at a page, for handlers.
pub(crate) struct Viewer {
    pub(super) caller: Caller,
    pub(super) visitor: Visitor,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        let By(caller) = By::from_request_parts(parts, state).await?;
        Ok(Self { caller, visitor: Visitor::from_request_parts(parts, state).await? })
    }
}

impl Viewer {
    /// A form that does something when its button is pressed.
    pub(super) fn button(&self, action: &str, label: &str, kind: &str) -> Markup {
        self.form(action, html! { button class={ "button " (kind) } type="submit" { (label) } })
    }

    /// A form, with what shows that a page of ours sent it.
    pub(super) fn form(&self, action: &str, fields: Markup) -> Markup {
        form(&self.visitor, action, fields)
    }

    pub(super) fn may(&self, scope: Scope) -> bool {
        self.caller.may(scope)
    }
}

pub(super) fn form(visitor: &Visitor, action: &str, fields: Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            input type="hidden" name="token" value=(visitor.form_token());
            (fields)
        }
    }
}

/// A page.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) section: Section,
    /// What stands above all else.
    pub(super) top: Markup,
    /// What of it changes: where that is sent from, and how it is now.
    pub(super) live: Option<(&'a str, Markup)>,
    /// What does not change.
    pub(super) content: Markup,
    /// Whether there is something to draw.
    pub(super) draws: bool,
}

impl Page<'_> {
    pub(super) fn show(self, viewer: &Viewer) -> Html<String> {
        let Self { title, section, top, live, content, draws } = self;
        let waits = live.is_some();
        let main = html! {
            (top)
            @if let Some((source, now)) = live {
                div id="live" data-live=(source) { (now) }
            }
            (content)
        };
        whole(title, section, Some(viewer), main, draws, waits)
    }
}

fn whole(
    title: &str,
    section: Section,
    viewer: Option<&Viewer>,
    main: Markup,
    draws: bool,
    waits: bool,
) -> Html<String> {
    // Who is nobody yet sees where things are, and is asked for a key there.
    let shown = SECTIONS.into_iter().filter(|(.., scope)| viewer.is_none_or(|viewer| viewer.may(*scope)));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · jesse-jobs" }
                link rel="icon" href=(ASSETS.icon.path) type="image/svg+xml";
                link rel="stylesheet" href=(ASSETS.style.path);
                @if draws { script src=(ASSETS.chart.path) defer {} }
                script src=(ASSETS.script.path) defer {}
                // Without scripts what changes is seen by loading the page again.
                @if waits { noscript { meta http-equiv="refresh" content="10"; } }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { img src=(ASSETS.icon.path) alt="" width="20" height="20"; "jesse-jobs" }
                    nav aria-label="Main" {
                        @for (which, path, name, _) in shown {
                            a href=(path) aria-current=[(which == section).then_some("page")] { (name) }
                        }
                    }
                    @if let Some(viewer) = viewer { (who(viewer)) }
                }
                main id="main" tabindex="-1" { (main) }
                footer {
                    "jesse-jobs " (env!("CARGO_PKG_VERSION")) " · times are UTC"
                    @if waits { span id="link" role="status" {} }
                }
            }
        }
    };
    Html(page.into_string())
}

/// A page for those who are nobody yet.
pub(super) fn bare(title: &str, main: Markup) -> Html<String> {
    whole(title, Section::None, None, main, false, false)
}

fn who(viewer: &Viewer) -> Markup {
    let Viewer { caller, visitor } = viewer;
    html! {
        div.who {
            span title={ "key " (caller.key) } { (show::text(caller.tenant.as_str(), 24)) }
            @if caller.with_key {
                (form(visitor, "/console/logout", html! { button.plain type="submit" { "Log out" } }))
            }
        }
    }
}

/// A title with what can be done.
pub(super) fn heading(title: Markup, actions: Markup) -> Markup {
    html! { div.heading { h1 { (title) } div.actions { (actions) } } }
}

/// A part of a page under a title.
pub(super) fn card(title: &str, content: Markup) -> Markup {
    html! { section.card { h2 { (title) } (content) } }
}

/// A figure with its name.
pub(super) fn tile(name: &str, figure: Markup, note: Markup) -> Markup {
    html! { div.tile { dt { (name) } dd { (figure) } dd.note { (note) } } }
}

/// A table that may be wider than the screen: then it is scrolled by itself, with keys too.
pub(super) fn table(label: &str, content: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { table { (content) } } }
}

/// What stands where there is nothing.
pub(super) fn nothing(words: &str) -> Markup {
    html! { p.nothing { (words) } }
}

/// JSON for a script to read: it can hold nothing that ends the element.
pub(super) fn data(id: &str, json: &serde_json::Value) -> Markup {
    let json = json.to_string().replace('<', "\\u003c");
    html! { script type="application/json" id=(id) { (PreEscaped(json)) } }
}

/// What somebody is told who is refused: those who show no key, and have no session (any more), a form to log in with.
pub(crate) fn refused(error: ServiceError, visitor: &Visitor, path: &str, with_key: bool) -> Response {
    let asks = matches!(error.code, Code::Unauthenticated | Code::InvalidKey);
    if asks && !with_key {
        // A form, or what a script asked for, is no page to come back to.
        let next = if path.contains("/live") { "/" } else { path };
        return login::asked(visitor, next, None, StatusCode::UNAUTHORIZED);
    }
    failed(&error)
}

fn failed(error: &ServiceError) -> Response {
    let ServiceError { code, message, detail } = error;
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let missing = detail.get("errors").and_then(serde_json::Value::as_array);
    let main = html! {
        section.card.narrow {
            h1 { (code.title()) }
            p { (show::text(message, show::LONG)) }
            @if let Some(missing) = missing {
                ul { @for error in missing { li { (show::value(error)) } } }
            }
            p.muted { (code.advice()) }
            p { a href="/" { "Overview" } }
        }
    };
    let page = whole(code.title(), Section::None, None, main, false, false);
    let mut response = (status, page).into_response();
    if let Some(after) = code.retry_after() {
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, after.as_secs().into());
    }
    response
}

/// Why a page cannot be shown, as a page.
pub(crate) struct Failed(ServiceError);

impl<E: Into<ServiceError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem.0)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        failed(&self.0)
    }
}

/// Where the browser goes after a form.
pub(super) fn go_to(path: &str) -> Response {
    axum::response::Redirect::to(path).into_response()
}

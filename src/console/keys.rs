//! The keys of the deployment: who has which, making one, giving another for it, and taking it back.
//!
//! A key is shown once, on the page that answers the form: it is stored as a hash, and no page can show it again. An administrator gives
//! no more than it has: a key that may not submit jobs makes none that may.

use std::collections::BTreeSet;

use access::{AccessError, ApiKey, KeyId, KeyTerms, KeyView, Rate, Scope, Scopes, parse_label, parse_tenant};
use axum::{
    Form,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use maud::{Markup, html};

use super::{
    forms::{Field, Filled, Wrong, unreadable},
    layout::{Failed, Page, Section, Viewer, card, go_to, heading, nothing, table},
    show,
};
use crate::{
    api::{Api, InPath, Problem},
    callers::require,
    errors::{Code, ServiceError},
};

const DAY_MS: i64 = 86_400_000;
/// How long a key goes on that was given another for.
const OVERLAP_MS: i64 = DAY_MS;
/// What most keys are for.
const USUAL: [Scope; 5] =
    [Scope::JobsRead, Scope::JobsWrite, Scope::StrategiesRead, Scope::Webhooks, Scope::Cache];

/// A key to be made, as it is filled in.
#[derive(Debug, Default)]
struct Draft {
    tenant: String,
    label: String,
    scopes: BTreeSet<String>,
    rate: String,
    days: String,
    wrong: Wrong,
}

impl Draft {
    /// As the form is at first.
    fn usual(viewer: &Viewer) -> Self {
        let scopes = USUAL.into_iter().filter(|scope| viewer.may(*scope)).map(|scope| scope.to_string());
        Self { tenant: viewer.caller.tenant.to_string(), scopes: scopes.collect(), ..Self::default() }
    }

    fn of(fields: Vec<(String, String)>) -> Self {
        let mut draft = Self::default();
        for (name, value) in fields {
            let value = value.trim().to_owned();
            match name.as_str() {
                "tenant" => draft.tenant = value,
                "label" => draft.label = value,
                "rate" => draft.rate = value,
                "days" => draft.days = value,
                "scope" => drop(draft.scopes.insert(value)),
                _ => {}
            }
        }
        draft
    }

    /// The terms, and when they end, unless something is wrong with them.
    fn check(&mut self, viewer: &Viewer) -> Option<(KeyTerms, Option<i64>)> {
        let wrong = &mut self.wrong;
        let tenant = wrong.take("tenant", parse_tenant(&self.tenant));
        let label = wrong.take("label", parse_label(&self.label));
        let rate = optional(&self.rate).map(|text| wrong.take("rate", text.parse::<Rate>()));
        let days = optional(&self.days).map(|text| wrong.take("days", parse_days(text)));
        let scopes: Result<Vec<Scope>, _> = self.scopes.iter().map(|name| name.parse::<Scope>()).collect();
        let scopes: Scopes = wrong.take("scopes", scopes)?.into_iter().collect();
        if scopes.is_empty() {
            wrong.add("scopes", "choose at least one: a key without any can do nothing");
        }
        for scope in scopes.iter().filter(|scope| !viewer.may(*scope)) {
            wrong.add("scopes", format!("your own key has not got {scope}, so it cannot give it"));
        }
        if !wrong.is_empty() {
            return None;
        }
        let (created_ms, tenant, label) = (show::now_ms(), tenant?, label?);
        let expires_ms = days.flatten().map(|days| created_ms + i64::from(days) * DAY_MS);
        Some((KeyTerms { label, tenant, scopes, rate: rate.flatten(), created_ms }, expires_ms))
    }
}

fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn parse_days(text: &str) -> Result<u16, &'static str> {
    let days = text.parse().ok().filter(|days| (1..=3650).contains(days));
    days.ok_or("must be a number of days from 1 to 3650, or nothing for a key without an end")
}

/// The page.
pub(crate) async fn page(State(api): State<Api>, viewer: Viewer) -> Result<Html<String>, Failed> {
    let draft = Draft::usual(&viewer);
    shown(&api, &viewer, &draft, None).await
}

/// The page with the form as it is filled in, and a key that was just made.
async fn shown(
    api: &Api,
    viewer: &Viewer,
    draft: &Draft,
    made: Option<&ApiKey>,
) -> Result<Html<String>, Failed> {
    let keys = api.callers.keys().list().await.map_err(told)?;
    let content = html! {
        @if let Some(made) = made { (only_once(viewer, made)) }
        @if keys.is_empty() { (nothing("There are no keys: whoever reaches the server on this machine may do everything.")) }
        @else { (rows(viewer, &keys)) }
        (card("A new key", html! {
            (draft.wrong.summary())
            @if keys.is_empty() {
                p.notice { "From the first key on every call needs one, and this page too: give the first the scope " code { "admin" } " if you want to go on here." }
            }
            (viewer.form("/console/keys", fields(viewer, draft)))
        }))
    };
    let top = heading(html! { "Keys" }, html! {});
    Ok(Page { title: "Keys", section: Section::Keys, top, live: None, content, draws: false }.show(viewer))
}

fn only_once(viewer: &Viewer, made: &ApiKey) -> Markup {
    html! {
        section.card.made role="status" {
            h2 { "The key " code { (made.id()) } ", shown this once" }
            p { code.secret { (made.reveal()) } }
            p.muted { "Copy it now: only its hash is kept. Programs send it as " code { "Authorization: Bearer jj_..." } "." }
            @if !viewer.caller.with_key { p { "From now on every call needs a key, and this page too: log in with one that has the scope " code { "admin" } "." } }
        }
    }
}

fn fields(viewer: &Viewer, draft: &Draft) -> Markup {
    let Draft { tenant, label, scopes, rate, days, wrong } = draft;
    let field =
        |name, label, value, hint| Field { name, label, value, hint, wrong: wrong.of(name), required: false };
    let own = Scope::ALL.into_iter().filter(|scope| viewer.may(*scope));
    html! {
        div.form {
            (Field { required: true, ..field("tenant", "Tenant", tenant, "Whose jobs, webhooks and campaigns it sees.") }.line("text"))
            (field("label", "What it is for", label, "In your words.").line("text"))
            (field("rate", "Calls a minute", rate, "E.g. 60, or 60/10 for at most 10 at once. As the deployment's setting says if left empty.").line("text"))
            (field("days", "Days that it is good for", days, "For ever if left empty.").line("text"))
            fieldset.field.whole aria-describedby=[wrong.of("scopes").map(|_| "scopes-wrong")] {
                legend { "What it may do" }
                @for scope in own {
                    label.check {
                        input type="checkbox" name="scope" value=(scope) checked[scopes.contains(scope.name())];
                        span { code { (scope) } " " span.muted { (about(scope)) } }
                    }
                }
                @if let Some(wrong) = wrong.of("scopes") { p.wrong #scopes-wrong { (show::text(wrong, show::LONG)) } }
            }
        }
        button.button.main type="submit" { "Make a key" }
    }
}

fn about(scope: Scope) -> &'static str {
    match scope {
        Scope::JobsRead => "see jobs and results",
        Scope::JobsWrite => "submit and cancel jobs",
        Scope::StrategiesRead => "see strategies and their code",
        Scope::StrategiesWrite => "write strategies, which is to run code",
        Scope::CandlesWrite => "import candles, which all share",
        Scope::Webhooks => "manage webhooks",
        Scope::Cache => "invalidate own results",
        Scope::Admin => "keys, audit log, pausing the queue: what concerns all",
    }
}

fn rows(viewer: &Viewer, keys: &[KeyView]) -> Markup {
    let now = show::now_ms();
    table(
        "Keys",
        html! {
            thead { tr { th { "Key" } th { "Tenant" } th { "For" } th { "May" } th { "Rate" } th { "Made" } th.number { "Last used" } th { "Until" } th { "Change" } } }
            tbody {
                @for KeyView { id, terms, expires_ms, used_ms } in keys {
                    tr id=(id) {
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
                        td {
                            div.actions {
                                @if may_give(viewer, terms) && expires_ms.is_none_or(|at| at > now) {
                                    (viewer.button(&format!("/console/keys/{id}/rotate"), "Rotate", "small"))
                                }
                                (viewer.button(&format!("/console/keys/{id}/revoke"), "Revoke", "danger small"))
                            }
                        }
                    }
                }
            }
        },
    )
}

fn may_give(viewer: &Viewer, terms: &KeyTerms) -> bool {
    terms.scopes.iter().all(|scope| viewer.may(scope))
}

/// Makes one, and shows it.
pub(crate) async fn create(
    State(api): State<Api>,
    viewer: Viewer,
    sent: Filled<Vec<(String, String)>>,
) -> Result<Response, Failed> {
    let Form(sent) = sent.map_err(unreadable)?;
    let mut draft = Draft::of(sent);
    let Some((terms, expires_ms)) = draft.check(&viewer) else {
        let page = shown(&api, &viewer, &draft, None).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    let made = api.callers.keys().create(&terms, expires_ms).await.map_err(told)?;
    let page = shown(&api, &viewer, &Draft::usual(&viewer), Some(&made)).await?;
    let mut response = (StatusCode::CREATED, page).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/console/keys#{}", made.id())) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Makes another for the same terms, which lasts as long as the old one did, and shows it. The old one goes on for a day.
pub(crate) async fn rotate(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    let keys = api.callers.keys();
    let all = keys.list().await.map_err(told)?;
    let old = all.into_iter().find(|key| key.id == id.as_str()).ok_or_else(not_found)?;
    for scope in old.terms.scopes.iter() {
        require(&viewer.caller, scope)?;
    }
    let now = show::now_ms();
    let expires_ms = old.expires_ms.map(|at| now + (at - old.terms.created_ms));
    let (made, _) = keys.rotate(&id, expires_ms, now + OVERLAP_MS).await.map_err(told)?;
    Ok(shown(&api, &viewer, &Draft::usual(&viewer), Some(&made)).await?.into_response())
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
        AccessError::Full => ServiceError::new(Code::InvalidRequest, error.to_string()),
        AccessError::Queue(error) => error.into(),
        error @ AccessError::Randomness(_) => ServiceError::internal("no key can be made", &error),
    }
}

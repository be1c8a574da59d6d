//! Webhooks: how their receivers are doing, what was sent to them, and sending it again.

use std::time::Duration;

use axum::{
    Form,
    extract::State,
    response::{Html, Response},
};
use jobs::webhooks::DeliveryState;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    forms::{Filled, unreadable},
    layout::{Failed, Page, Section, Viewer, card, go_to, heading, nothing, table, tile},
    show,
};
use crate::{
    api::{Api, InPath, InQuery, Problem},
    service::{DeliveryView, ResendRequest, WebhookFields, WebhookView},
};

const PER_PAGE: usize = 25;
/// How long a test is waited for: an attempt may take 15 s.
const TEST_WAIT: Duration = Duration::from_secs(20);

/// Which page of the deliveries, and what became of the last form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Query {
    state: Option<String>,
    cursor: Option<String>,
    resent: Option<u64>,
    /// Whether to show its secret.
    secret: Option<u8>,
}

/// What to send again.
#[derive(Debug, Deserialize)]
pub(crate) struct Again {
    /// Of all that were given up, if it names none.
    delivery: Option<String>,
}

/// A new receiver.
#[derive(Debug, Deserialize)]
pub(crate) struct New {
    url: String,
    #[serde(default)]
    description: String,
}

/// All of them.
pub(crate) async fn list(State(api): State<Api>, viewer: Viewer) -> Result<Html<String>, Failed> {
    let webhooks = api.service.webhooks(&viewer.caller.tenant).await?;
    let content = html! {
        p.lead { "Receivers that are told when jobs end." }
        @if webhooks.is_empty() { (nothing("There are none yet.")) } @else { (rows(&webhooks)) }
        (card("Another one", viewer.form("/console/webhooks", html! {
            div.filter.wide {
                label { span { "URL" } input type="url" name="url" required maxlength="2000" placeholder="https://"; }
                label { span { "What it is for" } input type="text" name="description" maxlength="200"; }
                button.button type="submit" { "Add" }
            }
        })))
    };
    let top = heading(html! { "Webhooks" }, html! {});
    Ok(Page { title: "Webhooks", section: Section::Webhooks, top, live: None, content, draws: false }
        .show(&viewer))
}

fn rows(webhooks: &[WebhookView]) -> Markup {
    table(
        "Webhooks",
        html! {
            thead { tr { th { "URL" } th { "State" } th { "For" } th.number { "Pending" } th.number { "Given up" } th.number { "Failures in a row" } } }
            tbody {
                @for webhook in webhooks {
                    tr {
                        td { a href={ "/console/webhooks/" (show::encoded(&webhook.id)) } { (show::text(&webhook.url, show::SHORT)) } }
                        td { (standing(webhook)) }
                        td { (show::text(&webhook.description, show::SHORT)) }
                        td.number { (show::count(webhook.pending)) }
                        td.number { (show::count(webhook.undelivered)) }
                        td.number { (show::count(webhook.failures)) }
                    }
                }
            }
        },
    )
}

fn standing(webhook: &WebhookView) -> Markup {
    match (webhook.enabled, webhook.failures) {
        (false, _) => badge("over", "–", "disabled"),
        (true, 0) => badge("good", "✓", "on time"),
        (true, _) => badge("bad", "✕", "failing"),
    }
}

fn badge(kind: &str, sign: &str, word: &str) -> Markup {
    html! { span class={ "state " (kind) } { span aria-hidden="true" { (sign) } " " (word) } }
}

/// One with what was sent to it.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Html<String>, Failed> {
    let (InPath(id), InQuery(Query { state, cursor, resent, secret })) = (id?, query?);
    let tenant = &viewer.caller.tenant;
    let webhook = api.service.webhook(tenant, &id).await?;
    let state = state.filter(|state| !state.is_empty());
    let secret = match secret {
        Some(_) => Some(api.service.webhook_secret(tenant, &id).await?),
        None => None,
    };
    let found = api.service.deliveries(tenant, &id, state.as_deref(), cursor.as_deref(), PER_PAGE).await?;
    let path = format!("/console/webhooks/{}", show::encoded(&webhook.id));
    let actions = html! {
        @if secret.is_none() { a.button href={ (path) "?secret=1" } { "Show the secret" } }
        (viewer.button(&format!("{path}/test"), "Send a test", ""))
        @if webhook.undelivered > 0 {
            (viewer.button(&format!("{path}/resend"), &format!("Resend {} given up", show::count(webhook.undelivered)), ""))
        }
    };
    let chosen = state.as_deref().unwrap_or_default();
    let content = html! {
        @if let Some(resent) = resent { p.notice role="status" { (show::count(resent)) " sent again." } }
        @if let Some(secret) = &secret { p.notice { "Deliveries are signed with " code { (secret.secret) } } }
        dl.tiles {
            (tile("State", standing(&webhook), webhook.disabled_because.as_ref().map_or_else(|| html! { @if let Some(since) = &webhook.failing_since { "since " (show::time_of(since)) } }, |why| show::text(why, 200))))
            (tile("Pending", html! { (show::count(webhook.pending)) }, html! {}))
            (tile("Given up", html! { (show::count(webhook.undelivered)) }, html! {}))
            (tile("Failures in a row", html! { (show::count(webhook.failures)) }, html! {}))
        }
        form.filter method="get" action=(path) {
            label {
                span { "Deliveries" }
                select name="state" {
                    @for (value, name) in [("", "all"), ("pending", "pending"), ("delivered", "delivered"), ("failed", "given up")] {
                        option value=(value) selected[value == chosen] { (name) }
                    }
                }
            }
            button.button type="submit" { "Show" }
        }
        @if found.deliveries.is_empty() { (nothing("None like that.")) } @else { (deliveries(&viewer, &path, &found.deliveries)) }
        nav.pages aria-label="Pages" {
            @if cursor.is_some() { a href=(path) { "Newest" } }
            @if let Some(next) = &found.next_cursor {
                a rel="next" href={ (path) "?state=" (show::encoded(chosen)) "&cursor=" (show::encoded(next)) } { "Older" }
            }
        }
    };
    let top = html! {
        nav.crumbs aria-label="Path" { a href="/console/webhooks" { "Webhooks" } }
        (heading(show::text(&webhook.url, 200), actions))
        p.id.mono { (webhook.id) }
    };
    Ok(Page { title: "Webhook", section: Section::Webhooks, top, live: None, content, draws: false }
        .show(&viewer))
}

fn deliveries(viewer: &Viewer, path: &str, deliveries: &[DeliveryView]) -> Markup {
    table(
        "Deliveries",
        html! {
            thead { tr { th { "When" } th { "Event" } th { "Job" } th { "State" } th.number { "Attempts" } th { "Last answer" } th { "Again" } } }
            tbody {
                @for delivery in deliveries {
                    @let last = delivery.attempts.last();
                    tr {
                        td { (show::time_of(&delivery.at)) }
                        td { (delivery.event) }
                        td { @if let Some(job) = delivery.job_id.as_ref().and_then(|job| job.parse().ok()) { (show::job_link(job)) } }
                        td {
                            @match delivery.state {
                                DeliveryState::Pending => (badge("waits", "○", "pending")),
                                DeliveryState::Delivered => (badge("good", "✓", "delivered")),
                                DeliveryState::Failed => (badge("bad", "✕", "given up")),
                            }
                        }
                        td.number { (delivery.attempts.len()) }
                        td {
                            @if let Some(last) = last {
                                @if let Some(status) = last.status { (status) " " }
                                @if let Some(error) = &last.error { span.bad { (show::text(error, show::SHORT)) } }
                                " " span.muted { (show::count(last.took_ms)) " ms" }
                            }
                        }
                        td {
                            @if delivery.state != DeliveryState::Pending {
                                (viewer.form(&format!("{path}/resend"), html! {
                                    input type="hidden" name="delivery" value=(delivery.delivery_id);
                                    button.button.small type="submit" { "Resend" }
                                }))
                            }
                        }
                    }
                }
            }
        },
    )
}

/// Adds one.
pub(crate) async fn create(
    State(api): State<Api>,
    viewer: Viewer,
    sent: Filled<New>,
) -> Result<Response, Failed> {
    let Form(New { url, description }) = sent.map_err(unreadable)?;
    let description = Some(description).filter(|text| !text.trim().is_empty());
    let fields = WebhookFields { url: Some(url.trim().to_owned()), description, ..WebhookFields::default() };
    let created = api.service.create_webhook(&viewer.caller.tenant, fields).await?;
    Ok(go_to(&format!("/console/webhooks/{}", show::encoded(&created.id))))
}

/// Sends it a test, and waits for its answer.
pub(crate) async fn test(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let wait = TEST_WAIT.min(api.longest_wait);
    api.service.test_webhook(&viewer.caller.tenant, &id, wait).await?;
    Ok(go_to(&format!("/console/webhooks/{}", show::encoded(&id))))
}

/// Sends one delivery again, or all that were given up.
pub(crate) async fn resend(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
    sent: Filled<Again>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    // Whatever is sent for another's, it is not there.
    api.service.webhook(&viewer.caller.tenant, &id).await?;
    let Form(Again { delivery }) = sent.map_err(unreadable)?;
    let failed = delivery.is_none().then_some(true);
    let which = ResendRequest { delivery, failed, ..ResendRequest::default() };
    let resent = api.service.resend(&viewer.caller.tenant, &id, &which).await?;
    Ok(go_to(&format!("/console/webhooks/{}?resent={resent}", show::encoded(&id))))
}

//! The cache of results, and removing some of them.

use access::Scope;
use axum::{
    Form,
    extract::State,
    response::{Html, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    forms::{Filled, unreadable},
    layout::{Failed, Page, Section, Viewer, card, go_to, heading, tile},
    show,
};
use crate::{
    api::{Api, InQuery, Problem},
    service::{CacheView, Invalidate},
};

/// What became of the last form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Query {
    removed: Option<u64>,
}

/// Which results to remove: those that fit all that is filled in.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    strategy: String,
    #[serde(default)]
    symbol: String,
    #[serde(default)]
    exchange: String,
}

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Html<String>, Failed> {
    let InQuery(Query { removed }) = query?;
    let cache = api.service.cache().await?;
    let text = |name: &str, label: &str| html! { label { span { (label) } input type="text" name=(name) maxlength="200"; } };
    let content = html! {
        @if let Some(removed) = removed { p.notice role="status" { (show::count(removed)) " results are not used any more." } }
        (figures(&cache))
        @if viewer.may(Scope::Cache) {
            (card("Invalidate results", viewer.form("/console/cache/invalidate", html! {
                p.muted { "Results that fit all that is filled in answer no job from now on. An edited strategy or new candles need none of this: "
                    "they have other results by themselves." }
                div.filter {
                    (text("strategy", "Strategy")) (text("symbol", "Symbol")) (text("exchange", "Exchange"))
                    button.button.danger type="submit" { "Invalidate" }
                }
            })))
        }
    };
    let top = heading(html! { "Cache" }, html! {});
    Ok(Page { title: "Cache", section: Section::Cache, top, live: None, content, draws: false }.show(&viewer))
}

#[expect(clippy::cast_precision_loss, reason = "a fraction of counts")]
fn figures(cache: &CacheView) -> Markup {
    let CacheView { entries, bytes, max_bytes, hits, misses, coalesced, evicted, invalidated, oldest_use_at } =
        cache;
    let full = max_bytes.filter(|most| *most > 0).map(|most| *bytes as f64 / most as f64);
    html! {
        dl.tiles {
            (tile("Stored", html! { (show::count(*entries)) }, html! {
                @if let Some(oldest) = oldest_use_at { "the least used since " (show::time_of(oldest)) }
            }))
            (tile("Taken up", html! { (show::bytes(*bytes)) }, html! {
                @if let (Some(full), Some(most)) = (full, max_bytes) { (show::bar(full, "taken up")) " of " (show::bytes(*most)) }
            }))
            (tile("Hits", html! { (show::count(*hits)) }, html! { "answered by a stored result" }))
            (tile("Joined", html! { (show::count(*coalesced)) }, html! { "a run in flight" }))
            (tile("Misses", html! { (show::count(*misses)) }, html! { "computed" }))
            (tile("Evicted", html! { (show::count(*evicted)) }, html! { "to make room" }))
            (tile("Invalidated", html! { (show::count(*invalidated)) }, html! {}))
        }
    }
}

/// Removes some.
pub(crate) async fn invalidate(
    State(api): State<Api>,
    viewer: Viewer,
    sent: Filled<Which>,
) -> Result<Response, Failed> {
    let Form(Which { strategy, symbol, exchange }) = sent.map_err(unreadable)?;
    let given = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let (strategy, symbol, exchange) = (given(strategy), given(symbol), given(exchange));
    let which = Invalidate { strategy, symbol, exchange, ..Invalidate::default() };
    let removed = api.service.invalidate(&viewer.caller, which).await?.invalidated;
    Ok(go_to(&format!("/console/cache?removed={removed}")))
}

//! Campaigns: what was tried for one idea, and what that leaves of the best of it.

use analysis::ledger::Figures;
use axum::{extract::State, response::Html};
use jobs::{Filter, Tags};
use maud::{Markup, html};

use super::{
    jobs::rows,
    layout::{Failed, Page, Section, Viewer, card, heading, nothing, table, tile},
    show,
};
use crate::{
    api::{Api, InPath, Problem},
    service::job_filter,
};

/// How many jobs of a campaign are shown.
const SHOWN: usize = 25;

/// Those with the latest trials first.
pub(crate) async fn list(State(api): State<Api>, viewer: Viewer) -> Result<Html<String>, Failed> {
    let campaigns = api.service.campaigns(&viewer.caller.tenant).await?;
    let content = html! {
        p.lead { "What was tried for one idea. The more is tried, the better the best of it looks by luck alone." }
        @if campaigns.is_empty() {
            (nothing("Nothing has been tried yet. Every backtest counts as a trial of its campaign, or of its strategy."))
        } @else {
            (table("Campaigns", html! {
                thead { tr { th { "Campaign" } th.number { "Trials" } th { "Last trial" } } }
                tbody {
                    @for campaign in &campaigns {
                        tr {
                            td { a href={ "/console/campaigns/" (show::encoded(&campaign.name)) } { (show::text(&campaign.name, show::SHORT)) } }
                            td.number { (show::count(campaign.trials)) }
                            td { (show::time_of(&campaign.last_trial_at)) }
                        }
                    }
                }
            }))
        }
    };
    let top = heading(html! { "Campaigns" }, html! {});
    Ok(Page { title: "Campaigns", section: Section::Campaigns, top, live: None, content, draws: false }
        .show(&viewer))
}

/// One of them.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    name: Result<InPath<String>, Problem>,
) -> Result<Html<String>, Failed> {
    let InPath(name) = name?;
    let tenant = &viewer.caller.tenant;
    let found = api.service.campaign(tenant, &name).await?;
    // Only those that name their campaign are listed under it; those of a strategy are not.
    let filter = job_filter(None, None, Some(name.clone()), std::collections::BTreeMap::new())
        .unwrap_or_else(|_| Filter::default());
    let named = filter.tags != Tags::default();
    let jobs = if named { api.service.list(tenant, &filter, None, SHOWN).await?.jobs } else { Vec::new() };
    let title = show::plain(&name, show::SHORT);
    let content = html! {
        (figures(&found))
        @if !jobs.is_empty() {
            (card("Its latest jobs", html! {
                (rows("Jobs of the campaign", jobs.iter(), show::now_ms(), false))
                p.more { a href={ "/console/jobs?campaign=" (show::encoded(&name)) } { "All of them" } }
            }))
        }
    };
    let top = html! {
        nav.crumbs aria-label="Path" { a href="/console/campaigns" { "Campaigns" } }
        (heading(show::text(&name, show::SHORT), html! {}))
    };
    Ok(Page { title: &title, section: Section::Campaigns, top, live: None, content, draws: false }
        .show(&viewer))
}

/// What the trials amount to.
pub(super) fn figures(figures: &Figures) -> Markup {
    let Figures {
        name,
        trials,
        with_returns,
        effective,
        best_sharpe,
        noise_best,
        deflated_sharpe,
        advice,
        holdouts,
    } = figures;
    let number = |value: &Option<f64>, decimals: usize| {
        let shown = value.map_or_else(|| "–".to_owned(), |value| show::number(value, decimals));
        html! { (shown) }
    };
    card(
        "What the tries leave of it",
        html! {
            p.message { (show::text(advice, show::LONG)) }
            dl.tiles {
                (tile("Trials", html! { (show::count(*trials)) }, html! { (show::count(*with_returns)) " with returns" }))
                (tile("Effective trials", html! { (show::number(*effective, 1)) }, html! { "independent ones they amount to" }))
                (tile("Best Sharpe ratio", number(best_sharpe, 2), html! { "a year" }))
                (tile("Noise would give", number(noise_best, 2), html! { "the best of as many without an edge" }))
                (tile("Deflated Sharpe ratio", number(deflated_sharpe, 3), html! { "probability that the true one is above 0" }))
            }
            @for holdout in holdouts {
                p { (show::text(&holdout.series, show::SHORT)) " is held out from " (holdout.from) " on: " (show::text(&holdout.advice, show::LONG)) }
            }
            p.more { a href={ "/console/campaigns/" (show::encoded(name)) } { (show::text(name, show::SHORT)) } }
        },
    )
}

//! One job: how it stands and how it came to that, what it found, what it was asked, what it printed.

use std::collections::BTreeMap;

use access::Scope;
use axum::{
    extract::State,
    response::{Html, Response},
};
use jobs::{JobError, JobState, JobView, Kind, TenantId};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    jobs::{percent, sign},
    layout::{Failed, Page, Section, Viewer, card, data, go_to, heading, nothing, table, tile},
    live, overview, returns, show, submit,
};
use crate::{
    api::{Api, InPath, InQuery, Problem, parse_id},
    errors::{Code, ServiceError},
    mcp::table as figures,
    service::ResultBody,
    views::flattened,
};

const TRADES_PER_PAGE: usize = 25;
/// The most points of a curve that a page carries.
const MOST_POINTS: usize = 5_000;
/// The most bytes of a log that a page carries; the rest is a link away.
const LOG_SHOWN: usize = 20_000;

/// The figures of a backtest that matter first: name, label, decimals, unit.
pub(super) const FIRST: [(&str, &str, usize, &str); 8] = [
    ("net_profit_percentage", "Net profit", 2, "%"),
    ("sharpe_ratio", "Sharpe ratio", 2, ""),
    ("max_drawdown", "Largest drawdown", 2, "%"),
    ("annual_return", "A year", 2, "%"),
    ("calmar_ratio", "Calmar ratio", 2, ""),
    ("sortino_ratio", "Sortino ratio", 2, ""),
    ("total", "Trades", 0, ""),
    ("finishing_balance", "Balance at the end", 2, ""),
];

/// Which page of the trades.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Query {
    trades: Option<usize>,
}

#[derive(Deserialize)]
struct Point {
    time: i64,
    value: f64,
}

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Result<Html<String>, Response>, Failed> {
    let (InPath(id), InQuery(query)) = (id?, query?);
    let tenant = &viewer.caller.tenant;
    let view = read(&api, tenant, &id).await?;
    if view.kind == Kind::Batch {
        return Ok(Err(go_to(&format!("/console/batches/{}", view.job_id))));
    }
    let ended = view.state.is_terminal();
    let body = if view.state == JobState::Succeeded {
        Some(api.service.result(tenant, view.job_id).await)
    } else {
        None
    };
    let log = if ended { api.service.logs(tenant, view.job_id).await.ok() } else { None };
    let campaign = if ended { api.service.campaign_of_job(tenant, &view).await? } else { None };
    let content = html! {
        @if let Some(error) = &view.error { (failure(error)) }
        @match &body {
            Some(Ok(body)) => (found(&view, body, query.trades.unwrap_or_default())),
            Some(Err(error)) => (card("Result", html! { p.notice { (show::text(&error.message, show::LONG)) } (first(&view)) })),
            None => {},
        }
        @if let Some(campaign) = &campaign { (super::campaigns::figures(campaign)) }
        div.columns {
            (card("Asked for", fields(&view.request)))
            (card("How it is treated", treatment(&view)))
        }
        @if let Some(log) = log.filter(|log| !log.trim().is_empty()) { (printed(&view, &log)) }
        @if let Some(Ok(body)) = &body { @if let Some(receipt) = body.fields.get("provenance") {
            (card("Provenance", html! { details { summary { "What it was computed from and with" } (fields(receipt)) } }))
        } }
    };
    let title = format!("{} {}", view.kind.as_str(), end_of(&view));
    let source = format!("/console/jobs/{}/live", view.job_id);
    let now = standing(&view);
    let page = Page {
        title: &title,
        section: Section::Jobs,
        top: top(&viewer, &view),
        // What has ended changes no more.
        live: Some((&*source, now)).filter(|_| !ended),
        content: html! { @if ended { (standing(&view)) } (content) },
        draws: matches!(&body, Some(Ok(body)) if body.fields.contains_key("equity_curve")),
    };
    Ok(Ok(page.show(&viewer)))
}

/// What of it changes.
pub(crate) async fn live(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let (shared, tenant) = (api.clone(), viewer.caller.tenant);
    let make = move || {
        let (api, tenant, id) = (shared.clone(), tenant.clone(), id.clone());
        async move {
            let view = read(&api, &tenant, &id).await?;
            Ok(live::Now { html: standing(&view), is_last: view.state.is_terminal() })
        }
    };
    Ok(live::follow(api, make).await?)
}

/// Cancels it.
pub(crate) async fn cancel(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let view = api.service.cancel(&viewer.caller.tenant, parse_id(&id)?).await?;
    Ok(go_to(&format!("/console/jobs/{}", view.job_id)))
}

/// Runs it once more.
pub(crate) async fn again(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let again = api.service.run_again(&viewer.caller.tenant, parse_id(&id)?).await?;
    Ok(go_to(&format!("/console/jobs/{again}")))
}

pub(super) async fn read(api: &Api, tenant: &TenantId, id: &str) -> Result<JobView, ServiceError> {
    api.service.job(tenant, parse_id(id)?, std::time::Duration::ZERO, |_| {}).await
}

/// What it is about, or at least of what kind.
fn title(view: &JobView) -> Markup {
    let kind = view.kind.as_str().replace('_', " ");
    if figures::what(&view.request).is_empty() {
        return html! { span.first { (kind) } };
    }
    html! { (show::about(view)) span.kind { (kind) } }
}

fn end_of(view: &JobView) -> String {
    let id = view.job_id.to_string();
    id.rsplit('-').next().unwrap_or_default().to_owned()
}

fn top(viewer: &Viewer, view: &JobView) -> Markup {
    let path = format!("/console/jobs/{}", view.job_id);
    let actions = html! {
        @if view.kind == Kind::RiskReport && view.state == JobState::Succeeded {
            a.button href={ (path) "/report" } { "Read the report" }
        }
        @if viewer.may(Scope::JobsWrite) {
            @if submit::takes(view) { a.button href={ "/console/submit?like=" (view.job_id) } { "Change and submit" } }
            @if !view.state.is_terminal() {
                (viewer.button(&format!("{path}/cancel"), "Cancel", "danger"))
            } @else if view.kind != Kind::StrategyValidate {
                (viewer.button(&format!("{path}/again"), if view.state == JobState::Succeeded { "Run again" } else { "Requeue" }, ""))
            }
        }
    };
    html! {
        nav.crumbs aria-label="Path" {
            a href="/console/jobs" { "Jobs" }
            @if let Some(batch) = view.batch { a href={ "/console/batches/" (batch) } { "Batch" } }
        }
        (heading(title(view), actions))
        p.id.mono { (view.job_id) }
    }
}

/// How it stands, and how it came to that.
fn standing(view: &JobView) -> Markup {
    let now = show::now_ms();
    let took = view.started_ms.map(|started| view.finished_ms.unwrap_or(now) - started);
    let running = view.state == JobState::Running;
    let waited = view.started_ms.or(view.finished_ms).unwrap_or(now) - view.created_ms;
    html! {
        div.standing data-ended=(view.state.is_terminal()) {
            div.stand {
                (show::state(view.state))
                @if view.cached { span.tag { "answered by a stored result" } }
                @if let Some(progress) = view.progress.as_ref().filter(|_| !view.state.is_terminal()) {
                    (show::bar(progress.fraction, "done"))
                    span.number { (show::number(progress.fraction * 100.0, 0)) "%" }
                    @let left = overview::left(view);
                    @if !left.is_empty() { span { (left) " left" } }
                    @if !progress.message.is_empty() { span.muted { (show::text(&progress.message, show::SHORT)) } }
                }
                @if let Some(ahead) = view.queue_position { span { (show::count(ahead)) " ahead in the queue" } }
                @if let Some(batch) = view.awaits.filter(|_| !view.state.is_terminal()) {
                    a href={ "/console/batches/" (batch) } { "the batch that it waits for" }
                }
            }
            ol.timeline {
                li { (show::time(view.created_ms)) span { "accepted" } }
                @if let Some(at) = view.details.start_at_ms { li { (show::time(at)) span { "not to be started before" } } }
                @if let Some(at) = view.details.deadline_ms { li { (show::time(at)) span { "not to be started after" } } }
                @if let Some(at) = view.started_ms {
                    li { (show::time(at)) span { "started after " (show::duration(waited)) } }
                } @else if !view.state.is_terminal() { li { span.muted { "waits for " (show::duration(waited)) } } }
                (troubles(view))
                @if let Some(at) = view.finished_ms {
                    li { (show::time(at)) span { (view.state.as_str()) @if let Some(took) = took { " after " (show::duration(took)) } } }
                } @else if running { @if let Some(took) = took { li { span.muted { "runs for " (show::duration(took)) } } } }
                @if let Some(again) = view.requeued_as { li { span { "runs again as " (show::job_link(again)) } } }
            }
        }
    }
}

fn troubles(view: &JobView) -> Markup {
    let of = view.troubles;
    let told =
        [(of.attempts, "failed attempt"), (of.stalls, "lost worker"), (of.interruptions, "interruption")];
    html! {
        @for (number, what) in told.into_iter().filter(|(number, _)| *number > 0) {
            li { span.bad { (number) " " (what) @if number > 1 { "s" } } }
        }
    }
}

fn failure(error: &JobError) -> Markup {
    let title = format!("Why it ended: {}", error.code.as_str());
    card(
        &title,
        html! {
            p.message { (show::text(&error.message, show::LONG)) }
            @if !error.detail.is_null() {
                details open { summary { "Details" } pre tabindex="0" { (show::text(&pretty(&error.detail), LOG_SHOWN)) } }
            }
            p.muted { (Code::Job(error.code).advice()) }
        },
    )
}

fn pretty(value: &Value) -> String {
    // A traceback reads as it was written.
    if let Some(text) = value.get("traceback").and_then(Value::as_str) {
        return text.to_owned();
    }
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// What it found.
fn found(view: &JobView, body: &ResultBody, first_trade: usize) -> Markup {
    let points = body.fields.get("equity_curve").map(|curve| points_of(curve));
    let trades: Option<Vec<Value>> =
        body.fields.get("trades").and_then(|trades| serde_json::from_str(trades.get()).ok());
    html! {
        (first(view))
        @match &points {
            Some(points) if points.len() > 1 => {
                (card("Equity", chart(view, points, body)))
                (card("Returns by month, %", returns::by_month(points)))
            },
            Some(_) => (card("Equity", nothing("The strategy made no trade, so there is no curve."))),
            None => (others(body)),
        }
        @if let Some(trades) = trades.filter(|trades| !trades.is_empty()) { (of_trades(view, &trades, first_trade)) }
        @if let Some(metrics) = body.fields.get("metrics") {
            (card("Metrics", html! { details { summary { "All of them, as Jesse names them" } (fields(metrics)) } }))
        }
    }
}

/// The figures that matter first, if it is a backtest.
fn first(view: &JobView) -> Markup {
    let metrics = figures::metrics(view.summary.as_deref());
    let shown = FIRST.iter().filter(|(name, ..)| !metrics[*name].is_null());
    html! {
        @if metrics.is_object() {
            dl.tiles {
                @for (name, label, decimals, unit) in shown {
                    @let value = metrics[*name].as_f64();
                    @let class = if matches!(*name, "net_profit_percentage" | "annual_return") { sign(value) } else { "" };
                    (tile(label, html! { span class=(class) { (show::figure(&metrics[*name], *decimals)) (unit) } }, html! {
                        @if *name == "total" { (percent(metrics["win_rate"].as_f64().map(|rate| rate * 100.0))) " won" }
                    }))
                }
            }
        }
    }
}

/// Results of other kinds: field by field, as far as they are short.
fn others(body: &ResultBody) -> Markup {
    let shown = body
        .fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "logs" | "provenance" | "metrics" | "trades"));
    card(
        "Found",
        html! {
            @for (name, value) in shown {
                details open[value.get().len() < 2_000] { summary { (show::text(name, show::SHORT)) } (fields(value)) }
            }
        },
    )
}

/// Points as (milliseconds since 1970, value).
pub(super) fn points_of(curve: &RawValue) -> Vec<(i64, f64)> {
    let points: Option<Vec<Point>> = serde_json::from_str(curve.get()).ok().flatten();
    points
        .unwrap_or_default()
        .into_iter()
        .map(|Point { time, value }| (time.saturating_mul(1000), value))
        .collect()
}

/// As the chart takes them, with six digits behind what matters; of very many every so many.
pub(super) fn for_chart(points: &[(i64, f64)], scale: f64) -> Value {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(place, _)| place % every == 0 || *place == last);
    kept.map(|(_, (time, value))| json!([time, (value * scale * 1e4).round() / 1e4])).collect()
}

fn chart(view: &JobView, points: &[(i64, f64)], body: &ResultBody) -> Markup {
    let mut series = vec![json!({"name": "Equity", "points": for_chart(points, 1.0)})];
    let benchmarks = body.fields.get("benchmark_curve");
    let benchmarks: Option<BTreeMap<String, Box<RawValue>>> =
        benchmarks.and_then(|curves| serde_json::from_str(curves.get()).ok());
    for (symbol, curve) in benchmarks.unwrap_or_default() {
        let curve = points_of(&curve);
        // From the same money, so that the two can be compared.
        let scale = curve.first().filter(|first| first.1 > 0.0).map_or(1.0, |first| points[0].1 / first.1);
        let name = format!("Holding {}", show::plain(&symbol, 40));
        series.push(json!({"name": name, "points": for_chart(&curve, scale), "benchmark": true}));
    }
    let drawn = json!({"title": "Equity", "digits": 2, "series": series});
    html! {
        div data-chart="equity" {
            img.drawn src={ "/console/jobs/" (view.job_id) "/chart.svg" } alt="The equity curve with the drawdown below it" width="960" height="540" loading="lazy";
        }
        (data("equity", &drawn))
        p.hint.js { "Drag to zoom, double-click for all. With the keyboard: arrows read, + and − zoom, Escape shows all." }
    }
}

fn of_trades(view: &JobView, trades: &[Value], first: usize) -> Markup {
    let first = first.min(trades.len().saturating_sub(1)) / TRADES_PER_PAGE * TRADES_PER_PAGE;
    let end = (first + TRADES_PER_PAGE).min(trades.len());
    let time = |value: &Value| {
        let milliseconds = value.as_f64().filter(|time| time.is_finite());
        #[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest number there is")]
        let milliseconds = milliseconds.map(|time| time as i64);
        html! { @if let Some(time) = milliseconds { (show::time(time)) } @else { "–" } }
    };
    let page = |first: usize| format!("/console/jobs/{}?trades={first}#trades", view.job_id);
    html! {
        section.card #trades {
            h2 { "Trades" span.count { (show::count(first as u64 + 1)) "–" (show::count(end as u64)) " of " (show::count(trades.len() as u64)) } }
            (table("Trades", html! {
                thead {
                    tr {
                        th { "Opened" } th { "Closed" } th { "Side" } th { "Symbol" } th.number { "Quantity" }
                        th.number { "In" } th.number { "Out" } th.number { "Profit" } th.number { "%" }
                    }
                }
                tbody {
                    @for trade in &trades[first..end] {
                        @let profit = trade["PNL"].as_f64();
                        tr {
                            td { (time(&trade["opened_at"])) }
                            td { (time(&trade["closed_at"])) }
                            td { (show::value(&trade["type"])) }
                            td { (show::value(&trade["symbol"])) }
                            td.number { (show::figure(&trade["qty"], 4)) }
                            td.number { (show::figure(&trade["entry_price"], 2)) }
                            td.number { (show::figure(&trade["exit_price"], 2)) }
                            td class={ "number " (sign(profit)) } { (show::figure(&trade["PNL"], 2)) }
                            td class={ "number " (sign(profit)) } { (show::figure(&trade["PNL_percentage"], 2)) }
                        }
                    }
                }
            }))
            nav.pages aria-label="Pages of trades" {
                @if first > 0 { a rel="prev" href=(page(first.saturating_sub(TRADES_PER_PAGE))) { "Earlier" } }
                @if end < trades.len() { a rel="next" href=(page(end)) { "Later" } }
            }
        }
    }
}

/// A JSON object by the names of its fields.
pub(super) fn fields(json: &RawValue) -> Markup {
    let flat = flattened(json);
    // A list of a million numbers is no table.
    let left_out = flat.len().saturating_sub(300);
    html! {
        dl.fields {
            @for (name, value) in flat.iter().take(300) {
                div { dt { (show::text(name, show::SHORT)) } dd { (show::value(value)) } }
            }
        }
        @if left_out > 0 { p.muted { (show::count(left_out as u64)) " more fields are not shown." } }
    }
}

fn treatment(view: &JobView) -> Markup {
    let details = &view.details;
    html! {
        dl.fields {
            div { dt { "priority" } dd { (word(&details.priority)) } }
            div { dt { "cache" } dd { (word(&details.cache)) } }
            div { dt { "time-out" } dd { (show::duration(i64::from(details.timeout_s) * 1000)) } }
            div { dt { "attempts at most" } dd { (details.max_attempts) } }
            @if let Some(campaign) = view.tags.campaign() {
                div { dt { "campaign" } dd { a href={ "/console/campaigns/" (show::encoded(campaign)) } { (show::text(campaign, show::SHORT)) } } }
            }
            @for (name, value) in view.tags.labels() {
                div { dt { "label " (show::text(name, show::SHORT)) } dd { (show::text(value, show::SHORT)) } }
            }
            @if let Some(webhook) = &view.webhook { div { dt { "webhook" } dd { (show::text(webhook, 200)) } } }
        }
    }
}

/// A value of an enum as clients write it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn printed(view: &JobView, log: &str) -> Markup {
    let shown = show::plain(log, LOG_SHOWN);
    card(
        "Log",
        html! {
            pre.log tabindex="0" role="region" aria-label="Log" { bdi { (shown) } }
            p.more { a href={ "/console/jobs/" (view.job_id) "/log" } { "As plain text" } " (" (show::bytes(log.len() as u64)) ")" }
        },
    )
}

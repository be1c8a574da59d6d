//! A batch: how its jobs stand, all of them in one table, a map over two of what they differ in, and what choosing the best is worth.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use access::Scope;
use analysis::selection::Selection;
use axum::{
    extract::State,
    response::{Html, Response},
};
use jobs::{JobId, JobState, JobView, TenantId};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{
    campaigns, heat,
    job::fields,
    jobs::{percent, sign},
    layout::{Failed, Page, Section, Viewer, card, go_to, heading, nothing, table, tile},
    live, show,
};
use crate::{
    api::{Api, InPath, InQuery, Problem, parse_id},
    errors::ServiceError,
    mcp::{
        batch::{MOST_RANKED, MOST_VARIED},
        table as figures,
    },
    service::LONGEST_PAGE,
    views::flattened,
};

const ROWS: usize = 100;
/// The most values of a parameter that a map has room for.
const MOST_CELLS: usize = 24;

/// What a job is compared by: name, label, decimals. A drawdown is negative, so the highest is the best of all of them.
const FIGURES: [(&str, &str, usize); 5] = [
    ("sharpe_ratio", "Sharpe", 2),
    ("net_profit_percentage", "Profit, %", 2),
    ("max_drawdown", "Drawdown, %", 2),
    ("total", "Trades", 0),
    ("win_rate", "Won", 3),
];

/// How the table is sorted, what the map shows, and which page of the table.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Query {
    sort: Option<String>,
    /// `up`: the lowest first.
    order: Option<String>,
    x: Option<String>,
    y: Option<String>,
    figure: Option<String>,
    from: Option<usize>,
}

/// A job of the batch, with what it was asked and what it found.
struct Row {
    job: JobId,
    state: JobState,
    asked: BTreeMap<String, Value>,
    metrics: Value,
}

impl Row {
    fn new(view: &JobView) -> Self {
        Self {
            job: view.job_id,
            state: view.state,
            asked: flattened(&view.request),
            metrics: figures::metrics(view.summary.as_deref()),
        }
    }

    fn value(&self, column: &str) -> Value {
        match FIGURES.iter().find(|(name, ..)| *name == column) {
            Some(_) => self.metrics[column].clone(),
            None => self.asked.get(column).cloned().unwrap_or_default(),
        }
    }
}

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Html<String>, Failed> {
    let (InPath(id), InQuery(query)) = (id?, query?);
    let tenant = &viewer.caller.tenant;
    let batch = api.service.batch(tenant, parse_id(&id)?).await?;
    let ended = batch.state.is_terminal();
    let rows = read_rows(&api, tenant, &batch).await?;
    let selection = api.service.selection(tenant, &batch).await?;
    let campaign = api.service.campaign_of_job(tenant, &batch).await?;
    let varied = varied(&rows);
    let path = format!("/console/batches/{}", batch.job_id);
    let total = total(&batch);
    let content = html! {
        @if ended { (standing(&batch)) }
        @if total > MOST_RANKED { (only_some(&batch, rows.len(), total)) }
        (extremes(&rows))
        @if let Some(selection) = &selection { (chosen(selection)) }
        @if let Some(campaign) = &campaign { (campaigns::figures(campaign)) }
        @if varied.len() > 1 { (map(&path, &rows, &varied, &query)) }
        (all(&path, rows, total, &varied, &query))
        (card("Asked for", fields(&batch.request)))
    };
    let source = format!("{path}/live");
    let title = format!("Batch {}", batch.job_id);
    let actions = html! {
        @if viewer.may(Scope::JobsWrite) && !ended { (viewer.button(&format!("{path}/cancel"), "Cancel", "danger")) }
    };
    let top = html! {
        nav.crumbs aria-label="Path" { a href="/console/jobs?kind=batch" { "Batches" } }
        (heading(html! { "Batch of " (show::about(&batch)) }, actions))
        p.id.mono { (batch.job_id) }
    };
    let live = Some((&*source, standing(&batch))).filter(|_| !ended);
    Ok(Page { title: &title, section: Section::Jobs, top, live, content, draws: false }.show(&viewer))
}

/// What of it changes.
pub(crate) async fn live(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let batch = parse_id(&id)?;
    let (shared, tenant) = (api.clone(), viewer.caller.tenant);
    let make = move || {
        let (api, tenant) = (shared.clone(), tenant.clone());
        async move {
            let view = api.service.batch(&tenant, batch).await?;
            Ok(live::Now { html: standing(&view), is_last: view.state.is_terminal() })
        }
    };
    Ok(live::follow(api, make).await?)
}

/// Cancels it with all its jobs.
pub(crate) async fn cancel(
    State(api): State<Api>,
    viewer: Viewer,
    id: Result<InPath<String>, Problem>,
) -> Result<Response, Failed> {
    let InPath(id) = id?;
    let tenant = &viewer.caller.tenant;
    let batch = api.service.batch(tenant, parse_id(&id)?).await?.job_id;
    api.service.cancel(tenant, batch).await?;
    Ok(go_to(&format!("/console/batches/{batch}")))
}

/// How many jobs it has.
fn total(batch: &JobView) -> usize {
    batch.counts.map_or(0, |counts| usize::try_from(counts.total).unwrap_or(usize::MAX))
}

/// As many as a page can sort while somebody waits for it.
async fn read_rows(api: &Api, tenant: &TenantId, batch: &JobView) -> Result<Vec<Row>, ServiceError> {
    let mut rows = Vec::new();
    while rows.len() < total(batch).min(MOST_RANKED) {
        let (_, page) = api.service.children(tenant, batch.job_id, rows.len(), LONGEST_PAGE).await?;
        if page.is_empty() {
            break;
        }
        rows.extend(page.iter().map(Row::new));
    }
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "a fraction of counts")]
fn standing(batch: &JobView) -> Markup {
    let counts = batch.counts.unwrap_or_default();
    let ended = counts.total - counts.open();
    let told = [
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.dead, "dead"),
        (counts.expired, "expired"),
        (counts.cancelled, "cancelled"),
        (counts.cached, "of them from the cache"),
    ];
    let fraction = if counts.total == 0 { 0.0 } else { ended as f64 / counts.total as f64 };
    html! {
        div.standing data-ended=(batch.state.is_terminal()) {
            div.stand {
                (show::state(batch.state))
                (show::bar(fraction, "ended"))
                span.number { (show::count(ended)) " of " (show::count(counts.total)) " ended" }
                @for (number, what) in told.into_iter().filter(|(number, _)| *number > 0) {
                    span.muted { (show::count(number)) " " (what) }
                }
            }
            ol.timeline {
                li { (show::time(batch.created_ms)) span { "accepted" } }
                @if let Some(at) = batch.finished_ms {
                    li { (show::time(at)) span { (batch.state.as_str()) " after " (show::duration(at - batch.created_ms)) } }
                }
            }
        }
    }
}

/// That best and worst, map and table are of a part of it.
fn only_some(batch: &JobView, shown: usize, total: usize) -> Markup {
    html! {
        p.notice {
            "What follows is of the first " (show::count(shown as u64)) " of its " (show::count(total as u64)) " jobs. All of them, page by page: "
            code { "GET /v1/batches/" (batch.job_id) "/jobs" } "."
        }
    }
}

/// The best and the worst by their Sharpe ratio.
fn extremes(rows: &[Row]) -> Markup {
    let rank = |row: &&Row| row.metrics["sharpe_ratio"].as_f64();
    let mut ranked: Vec<_> = rows.iter().filter(|row| rank(row).is_some()).collect();
    ranked.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).unwrap_or(Ordering::Equal));
    let shown = |name: &str, row: &Row| {
        let profit = row.metrics["net_profit_percentage"].as_f64();
        tile(
            name,
            html! { "Sharpe " (show::figure(&row.metrics["sharpe_ratio"], 2)) },
            html! {
                span class=(sign(profit)) { (percent(profit)) } " · " (show::job_link(row.job))
            },
        )
    };
    html! {
        @if let (Some(best), Some(worst)) = (ranked.first(), ranked.last()) {
            @let middle = ranked[ranked.len() / 2];
            dl.tiles { (shown("Best", best)) (shown("In the middle", middle)) (shown("Worst", worst)) }
        }
    }
}

/// What choosing the best is worth.
fn chosen(selection: &Selection) -> Markup {
    let Selection { compared, days, overfitting, superior_p, note } = selection;
    let share = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| show::number(value, 3));
    card(
        "What choosing the best is worth",
        html! {
            dl.tiles {
                (tile("Probability of overfitting", html! { (share(overfitting)) }, html! {
                    "how often the best of one half of the time was below the middle in the other"
                }))
                (tile("p of superior ability", html! { (share(superior_p)) }, html! { "small if some job beats doing nothing by more than luck" }))
                (tile("Compared", html! { (show::count(*compared as u64)) }, html! { "jobs over " (show::count(*days as u64)) " days" }))
            }
            @if let Some(note) = note { p.muted { (show::text(note, show::LONG)) } }
        },
    )
}

/// What the jobs differ in.
fn varied(rows: &[Row]) -> Vec<String> {
    let Some(first) = rows.first() else { return Vec::new() };
    let names: BTreeSet<_> = rows.iter().flat_map(|row| row.asked.keys()).collect();
    let differs = |name: &&&String| rows.iter().any(|row| row.asked.get(**name) != first.asked.get(**name));
    names.iter().filter(differs).take(MOST_VARIED).map(|name| (*name).clone()).collect()
}

/// Numbers by their size, then everything else by its text; what is not there comes last.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => (a.is_null(), a.to_string()).cmp(&(b.is_null(), b.to_string())),
    }
}

/// A figure over two of what the jobs differ in: the mean where several jobs are in one cell.
fn map(path: &str, rows: &[Row], varied: &[String], query: &Query) -> Markup {
    let named = |asked: &Option<String>, place: usize| {
        let known = asked.as_ref().filter(|name| varied.contains(name));
        known.unwrap_or(&varied[place.min(varied.len() - 1)]).clone()
    };
    let (x, y) = (named(&query.x, 0), named(&query.y, 1));
    let figure =
        FIGURES.iter().find(|(name, ..)| Some(*name) == query.figure.as_deref()).unwrap_or(&FIGURES[0]);
    let (name, label, decimals) = *figure;
    let values = |axis: &str| {
        let mut values: Vec<_> = rows.iter().map(|row| row.value(axis)).collect();
        values.sort_by(compare);
        values.dedup();
        values
    };
    let (across, down) = (values(&x), values(&y));
    let mut sums = BTreeMap::<(usize, usize), (f64, u32)>::new();
    for row in rows {
        let place = |all: &[Value], axis: &str| all.iter().position(|value| *value == row.value(axis));
        let (Some(column), Some(line), Some(value)) =
            (place(&across, &x), place(&down, &y), row.metrics[name].as_f64())
        else {
            continue;
        };
        let (sum, number) = sums.entry((line, column)).or_default();
        *sum += value;
        *number += 1;
    }
    let means: BTreeMap<_, _> =
        sums.into_iter().map(|(cell, (sum, number))| (cell, (sum / f64::from(number), number))).collect();
    let least = means.values().map(|(mean, _)| *mean).fold(f64::INFINITY, f64::min);
    let highest = means.values().map(|(mean, _)| *mean).fold(f64::NEG_INFINITY, f64::max);
    card(
        "Map",
        html! {
            form.filter method="get" action=(path) {
                (choice("x", "Across", &x, varied.iter().map(|name| (name.as_str(), name.as_str()))))
                (choice("y", "Down", &y, varied.iter().map(|name| (name.as_str(), name.as_str()))))
                (choice("figure", "Figure", name, FIGURES.iter().map(|(name, label, _)| (*name, *label))))
                button.button type="submit" { "Show" }
            }
            @if across.len() > MOST_CELLS || down.len() > MOST_CELLS {
                (nothing("Too many different values for a map; choose others."))
            } @else if means.is_empty() {
                (nothing("No job of the batch has this figure yet."))
            } @else {
                (table("Map", html! {
                    thead {
                        tr {
                            th scope="col" { (show::text(&y, 40)) " ↓ " (show::text(&x, 40)) " →" }
                            @for value in &across { th.number scope="col" { (show::value(value)) } }
                        }
                    }
                    tbody {
                        @for (line, value) in down.iter().enumerate() {
                            tr {
                                th scope="row" { (show::value(value)) }
                                @for column in 0..across.len() {
                                    @match means.get(&(line, column)) {
                                        Some((mean, number)) => td class={ "number " (heat::between(*mean, least, highest)) } title=[(*number > 1).then(|| format!("mean of {number}"))] {
                                            (show::number(*mean, decimals))
                                        },
                                        None => td {},
                                    }
                                }
                            }
                        }
                    }
                }))
                p.muted { (label) ": from " (show::number(least, decimals)) " to " (show::number(highest, decimals)) }
            }
        },
    )
}

fn choice<'a>(
    name: &str,
    label: &str,
    chosen: &str,
    all: impl Iterator<Item = (&'a str, &'a str)>,
) -> Markup {
    html! {
        label {
            span { (label) }
            select name=(name) {
                @for (value, shown) in all { option value=(value) selected[value == chosen] { (show::plain(shown, 40)) } }
            }
        }
    }
}

/// All jobs that were read, sorted as asked for.
fn all(path: &str, mut rows: Vec<Row>, total: usize, varied: &[String], query: &Query) -> Markup {
    let columns: Vec<_> = varied.iter().map(String::as_str).chain(FIGURES.map(|(name, ..)| name)).collect();
    let sort = query.sort.as_deref().filter(|name| columns.contains(name)).unwrap_or(FIGURES[0].0);
    let up = query.order.as_deref() == Some("up");
    rows.sort_by(|a, b| {
        let (a, b) = (a.value(sort), b.value(sort));
        // What has no figure comes last in both orders.
        match (a.is_null(), b.is_null()) {
            (false, false) if up => compare(&a, &b),
            (false, false) => compare(&b, &a),
            (a, b) => a.cmp(&b),
        }
    });
    let first = query.from.unwrap_or_default().min(rows.len().saturating_sub(1)) / ROWS * ROWS;
    let end = (first + ROWS).min(rows.len());
    let address = |sort: &str, up: bool, from: usize| {
        let order = if up { "up" } else { "down" };
        format!("{path}?sort={}&order={order}&from={from}#jobs", show::encoded(sort))
    };
    let head = |name: &str, label: Markup, is_number: bool| {
        let sorted = (sort == name).then_some(if up { "ascending" } else { "descending" });
        html! {
            th scope="col" class=(if is_number { "number" } else { "" }) aria-sort=[sorted] {
                a.sort href=(address(name, sort == name && !up, 0)) {
                    (label) @if sort == name { span aria-hidden="true" { (if up { " ▲" } else { " ▼" }) } }
                }
            }
        }
    };
    html! {
        section.card #jobs {
            h2 { "Jobs" @if !rows.is_empty() { span.count {
                (first + 1) "–" (end) " of " @if total > rows.len() { "the first " }
                (show::count(rows.len() as u64)) @if total > rows.len() { " of " (show::count(total as u64)) }
            } } }
            @if rows.is_empty() { (nothing("They are being given their records.")) } @else {
                form.pick method="get" action="/console/compare" {
                (table("Jobs of the batch", html! {
                    thead {
                        tr {
                            td {}
                            th scope="col" { "Job" }
                            th scope="col" { "State" }
                            @for name in varied { (head(name, show::text(name, 40), false)) }
                            @for (name, label, _) in FIGURES { (head(name, html! { (label) }, true)) }
                        }
                    }
                    tbody {
                        @for row in &rows[first..end] {
                            tr {
                                td { input type="checkbox" name="job" value=(row.job) aria-label="Mark to compare"; }
                                td { (show::job_link(row.job)) }
                                td { (show::state(row.state)) }
                                @for name in varied { td { (show::value(&row.value(name))) } }
                                @for (name, _, decimals) in FIGURES { td.number { (show::figure(&row.metrics[name], decimals)) } }
                            }
                        }
                    }
                }))
                button.button type="submit" { "Compare what is marked" }
                }
                nav.pages aria-label="Pages of jobs" {
                    @if first > 0 { a rel="prev" href=(address(sort, up, first.saturating_sub(ROWS))) { "Earlier" } }
                    @if end < rows.len() { a rel="next" href=(address(sort, up, end)) { "Later" } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(fast: u32, slow: u32, sharpe: Option<f64>) -> Row {
        let asked = BTreeMap::from([("fast".to_owned(), json!(fast)), ("slow".to_owned(), json!(slow))]);
        Row {
            job: JobId::generate(),
            state: JobState::Succeeded,
            asked,
            metrics: json!({"sharpe_ratio": sharpe}),
        }
    }

    #[test]
    fn what_has_no_figure_comes_last_whatever_the_order() {
        let rows = || vec![row(1, 1, None), row(2, 1, Some(1.0)), row(3, 1, Some(2.0))];
        for (order, expected) in [("down", ["3", "2", "1"]), ("up", ["2", "3", "1"])] {
            let query = Query { order: Some(order.into()), ..Query::default() };
            let html = all("/", rows(), 3, &["fast".to_owned()], &query).into_string();
            let at = |number: &str| html.find(&format!("<td>{number}</td>"));
            assert!(expected.iter().all(|number| at(number).is_some()), "{html}");
            assert!(expected.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{order}: {html}");
        }
    }

    #[test]
    fn a_map_has_the_mean_of_what_falls_together() {
        let rows = [row(1, 10, Some(1.0)), row(1, 10, Some(2.0)), row(2, 10, Some(-1.0)), row(2, 20, None)];
        let html = map("/", &rows, &["fast".to_owned(), "slow".to_owned()], &Query::default()).into_string();
        assert!(html.contains(r#"title="mean of 2">1.50</td>"#), "{html}");
        assert!(html.contains("−1.00</td>"), "{html}");
        assert_eq!(varied(&rows), ["fast", "slow"]);
    }
}

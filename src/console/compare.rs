//! Two to five jobs side by side: their curves from a common start, and what they differ in.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Html};
use jobs::{JobId, JobView};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    job::{FIRST, for_chart, points_of},
    layout::{Failed, Page, Section, Viewer, card, data, heading, nothing, table},
    show,
};
use crate::{
    api::{Api, InQuery, Problem, parse_id},
    errors::{Code, ServiceError},
    mcp::table as figures,
    views::flattened,
};

const MOST: usize = 5;

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Vec<(String, String)>>, Problem>,
) -> Result<Html<String>, Failed> {
    let InQuery(fields) = query?;
    let mut ids = Vec::<JobId>::new();
    // Several fields, or one with commas.
    for id in fields.iter().filter(|(name, _)| name == "job").flat_map(|(_, ids)| ids.split([',', ' '])) {
        if !id.is_empty() {
            let id = parse_id(id)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    if ids.len() > MOST {
        let message = format!("job: two to {MOST} jobs can be compared, not {}", ids.len());
        return Err(ServiceError::new(Code::InvalidRequest, message).into());
    }
    let tenant = &viewer.caller.tenant;
    let (mut views, mut series) = (Vec::new(), Vec::new());
    for id in ids {
        let view = api.service.job(tenant, id, std::time::Duration::ZERO, |_| {}).await?;
        if let Ok(body) = api.service.result(tenant, id).await
            && let Some(curve) = body.fields.get("equity_curve")
        {
            let points = points_of(curve);
            if let Some((_, first)) = points.first().filter(|first| points.len() > 1 && first.1 > 0.0) {
                let grown: Vec<_> =
                    points.iter().map(|(time, value)| (*time, value / first * 100.0)).collect();
                series.push(json!({"name": name(&view), "points": for_chart(&grown, 1.0)}));
            }
        }
        views.push(view);
    }
    let draws = !series.is_empty();
    let content = html! {
        @if views.len() < 2 { (nothing("Mark two to five jobs in a list of jobs, or name them here.")) }
        (asked(&views))
        @if draws {
            (card("Growth of 100", html! {
                div data-chart="growth" { (nothing("The curves are drawn by a script.")) }
                (data("growth", &json!({"title": "Growth of 100", "digits": 2, "series": series})))
            }))
        }
        @if !views.is_empty() { (metrics(&views)) (differences(&views)) }
    };
    let top = heading(html! { "Compare" }, html! {});
    Ok(Page { title: "Compare", section: Section::Compare, top, live: None, content, draws }.show(&viewer))
}

fn asked(views: &[JobView]) -> Markup {
    let ids = views.iter().map(|view| view.job_id.to_string()).collect::<Vec<_>>().join(", ");
    html! {
        form.filter.wide method="get" action="/console/compare" {
            label { span { "Job ids, separated by commas" } input type="text" name="job" value=(ids) maxlength="300"; }
            button.button type="submit" { "Compare" }
        }
    }
}

/// What it is called here: what it is about, and the end of its id.
fn name(view: &JobView) -> String {
    let id = view.job_id.to_string();
    format!("{} {}", show::plain(&figures::what(&view.request), 40), &id[id.len() - 4..])
}

fn head(views: &[JobView]) -> Markup {
    html! {
        thead { tr { td {} @for view in views { th.number scope="col" { (show::job_link(view.job_id)) br; (show::state(view.state)) } } } }
    }
}

fn metrics(views: &[JobView]) -> Markup {
    let all: Vec<_> = views.iter().map(|view| figures::metrics(view.summary.as_deref())).collect();
    card(
        "Figures",
        table(
            "Figures",
            html! {
                (head(views))
                tbody {
                    @for (name, label, decimals, unit) in FIRST {
                        // Of all of these more is better: a drawdown is negative.
                        @let best = all.iter().filter_map(|metrics| metrics[name].as_f64()).fold(f64::NEG_INFINITY, f64::max);
                        tr {
                            th scope="row" { (label) }
                            @for metrics in &all {
                                @let is_best = all.len() > 1 && name != "total" && metrics[name].as_f64() == Some(best);
                                td.number {
                                    @if is_best { strong title="the best of them" { (show::figure(&metrics[name], decimals)) (unit) } }
                                    @else { (show::figure(&metrics[name], decimals)) @if !metrics[name].is_null() { (unit) } }
                                }
                            }
                        }
                    }
                }
            },
        ),
    )
}

fn differences(views: &[JobView]) -> Markup {
    let asked: Vec<_> = views.iter().map(|view| flattened(&view.request)).collect();
    let names: BTreeSet<_> = asked.iter().flat_map(BTreeMap::keys).collect();
    let differ = |name: &&&String| asked.iter().any(|one| one.get(**name) != asked[0].get(**name));
    let differ: Vec<_> = names.iter().filter(differ).take(100).collect();
    card(
        "What they differ in",
        html! {
            @if differ.is_empty() { (nothing("Nothing: they asked for the same.")) } @else {
                (table("What they differ in", html! {
                    (head(views))
                    tbody {
                        @for name in differ {
                            tr {
                                th scope="row" { (show::text(name, show::SHORT)) }
                                @for one in &asked { td.number { (show::value(one.get(*name).unwrap_or(&Value::Null))) } }
                            }
                        }
                    }
                }))
            }
        },
    )
}

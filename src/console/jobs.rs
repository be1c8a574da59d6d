//! The list of jobs: filtered by state, kind, campaign and label, a page at a time.

use std::collections::BTreeMap;

use access::Scope;
use axum::{
    extract::State,
    response::{Html, Response},
};
use jobs::{Filter, JobState, JobView, Kind, TenantId};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    layout::{Failed, Page, Section, Viewer, go_to, heading, nothing, table},
    live, show,
};
use crate::{
    api::{Api, InQuery, Problem},
    errors::{Code, ServiceError},
    mcp::table as figures,
    service::job_filter,
};

const PER_PAGE: usize = 50;

/// Which jobs, and which page of them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Query {
    state: Option<String>,
    kind: Option<String>,
    campaign: Option<String>,
    label: Option<String>,
    cursor: Option<String>,
    /// The id of a job, or what it ends with.
    id: Option<String>,
}

/// What was filled in: browsers send empty fields too.
fn given(field: Option<&String>) -> Option<&str> {
    field.map(|text| text.trim()).filter(|text| !text.is_empty())
}

impl Query {
    fn filter(&self) -> Result<Filter, ServiceError> {
        let invalid = |message: &str| ServiceError::new(Code::InvalidRequest, message);
        let labels = match given(self.label.as_ref()) {
            Some(label) => {
                let (name, value) =
                    label.split_once('=').ok_or_else(|| invalid("label: must be name=value"))?;
                BTreeMap::from([(name.to_owned(), value.to_owned())])
            }
            None => BTreeMap::new(),
        };
        let campaign = given(self.campaign.as_ref()).map(str::to_owned);
        job_filter(given(self.state.as_ref()), given(self.kind.as_ref()), campaign, labels)
    }

    fn before(&self) -> Result<Option<u64>, ServiceError> {
        let read = |text: &str| {
            let message = "cursor: take it from the link to the next page";
            text.parse().map_err(|_| ServiceError::new(Code::InvalidRequest, message))
        };
        given(self.cursor.as_ref()).map(read).transpose()
    }

    /// The same as the end of an address, with another cursor.
    fn address(&self, cursor: Option<&str>) -> String {
        let fields = [
            ("state", given(self.state.as_ref())),
            ("kind", given(self.kind.as_ref())),
            ("campaign", given(self.campaign.as_ref())),
            ("label", given(self.label.as_ref())),
            ("cursor", cursor),
        ];
        let pairs =
            fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", show::encoded(value?))));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Result<Html<String>, Response>, Failed> {
    let InQuery(query) = query?;
    if let Some(id) = given(query.id.as_ref()) {
        let job = crate::api::parse_id(id)?;
        return Ok(Err(go_to(&format!("/console/jobs/{job}"))));
    }
    let now = make(&api, &viewer.caller.tenant, &query).await?;
    let source = format!("/console/jobs/live?{}", query.address(given(query.cursor.as_ref())));
    let new = html! { @if viewer.may(Scope::JobsWrite) { a.button.main href="/console/submit" { "New backtest" } } };
    let page = Page {
        title: "Jobs",
        section: Section::Jobs,
        top: html! { (heading(html! { "Jobs" }, new)) (fields(&query)) },
        live: Some((&source, now)),
        content: html! {},
        draws: false,
    };
    Ok(Ok(page.show(&viewer)))
}

/// What of it changes.
pub(crate) async fn live(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Response, Failed> {
    let InQuery(query) = query?;
    let (shared, tenant) = (api.clone(), viewer.caller.tenant);
    let make = move || {
        let (api, tenant, query) = (shared.clone(), tenant.clone(), query.clone());
        async move { Ok(live::Now { html: make(&api, &tenant, &query).await?, is_last: false }) }
    };
    Ok(live::follow(api, make).await?)
}

async fn make(api: &Api, tenant: &TenantId, query: &Query) -> Result<Markup, ServiceError> {
    let page = api.service.list(tenant, &query.filter()?, query.before()?, PER_PAGE).await?;
    let next = page.next.map(|next| query.address(Some(&next.to_string())));
    let is_later = given(query.cursor.as_ref()).is_some();
    Ok(html! {
        @if page.jobs.is_empty() {
            (nothing(if page.next.is_some() {
                "None among those that were looked at; there are more on the next page."
            } else { "No jobs like that." }))
        } @else {
            form.pick method="get" action="/console/compare" {
                (rows("Jobs", page.jobs.iter(), show::now_ms(), true))
                button.button type="submit" { "Compare what is marked" }
            }
        }
        nav.pages aria-label="Pages" {
            @if is_later { a href={ "/console/jobs?" (query.address(None)) } { "Newest" } }
            @if let Some(next) = next { a rel="next" href={ "/console/jobs?" (next) } { "Older" } }
        }
    })
}

fn fields(query: &Query) -> Markup {
    let text = |name: &str, label: &str, value: Option<&str>, hint: &str| {
        html! {
            label { span { (label) } input type="text" name=(name) value=[value] placeholder=(hint) maxlength="300"; }
        }
    };
    let choice = |name: &str, label: &str, value: Option<&str>, names: Vec<&str>| {
        html! {
            label {
                span { (label) }
                select name=(name) {
                    option value="" { "any" }
                    @for name in names { option value=(name) selected[value == Some(name)] { (name) } }
                }
            }
        }
    };
    html! {
        form.filter method="get" action="/console/jobs" role="search" {
            (choice("state", "State", given(query.state.as_ref()), JobState::ALL.iter().map(|state| state.as_str()).collect()))
            (choice("kind", "Kind", given(query.kind.as_ref()), Kind::ALL.iter().map(|kind| kind.as_str()).collect()))
            (text("campaign", "Campaign", given(query.campaign.as_ref()), ""))
            (text("label", "Label", given(query.label.as_ref()), "name=value"))
            (text("id", "Job id", None, ""))
            button.button type="submit" { "Show" }
            a.button.plain href="/console/jobs" { "Clear" }
        }
    }
}

/// Jobs, one a row.
pub(super) fn rows<'a>(
    label: &str,
    jobs: impl Iterator<Item = &'a JobView>,
    now: i64,
    to_mark: bool,
) -> Markup {
    table(
        label,
        html! {
            thead {
                tr {
                    @if to_mark { td {} }
                    th { "Job" } th { "State" } th { "What" } th.less { "Kind" }
                    th.number { "Sharpe" } th.number { "Profit" } th.number { "Drawdown" } th.number { "Trades" }
                    th.number.less { "Took" } th.number { "Age" }
                }
            }
            tbody { @for job in jobs { (row(job, now, to_mark)) } }
        },
    )
}

fn row(job: &JobView, now: i64, to_mark: bool) -> Markup {
    let metrics = figures::metrics(job.summary.as_deref());
    let profit = metrics["net_profit_percentage"].as_f64();
    let took = job.started_ms.zip(job.finished_ms).map(|(started, finished)| finished - started);
    html! {
        tr data-key=(job.job_id) {
            @if to_mark { td { input type="checkbox" name="job" value=(job.job_id) aria-label="Mark to compare"; } }
            td { (show::job_link(job.job_id)) }
            td {
                (show::state(job.state))
                @if job.cached { " " span.tag title="answered by a stored result" { "cached" } }
                @if let Some(progress) = job.progress.as_ref().filter(|_| job.state == JobState::Running) {
                    " " (show::bar(progress.fraction, "done"))
                }
            }
            td {
                (show::about(job))
                @if let Some(error) = &job.error { " " span.bad { (error.code.as_str()) } }
            }
            td.less { (job.kind.as_str()) }
            td.number { (show::figure(&metrics["sharpe_ratio"], 2)) }
            td class={ "number " (sign(profit)) } { (percent(profit)) }
            td.number { (percent(metrics["max_drawdown"].as_f64())) }
            td.number { (show::figure(&metrics["total"], 0)) }
            td.number.less { (took.map_or_else(|| "–".to_owned(), show::duration)) }
            td.number { (show::duration(now - job.created_ms)) }
        }
    }
}

/// A percentage, or a dash.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{}%", show::number(value, 2)))
}

/// The class of a figure that is good above zero.
pub(super) fn sign(value: Option<f64>) -> &'static str {
    match value {
        Some(value) if value > 0.0 => "gain",
        Some(value) if value < 0.0 => "loss",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn empty_fields_of_a_form_filter_nothing() {
        let query = Query { state: Some(String::new()), label: Some(" ".into()), ..Query::default() };
        let filter = query.filter().unwrap();
        assert!(filter.states.is_empty() && filter.kinds.is_empty());
        assert_eq!(query.address(None), "");
        let query = Query { state: Some("dead".into()), label: Some("a=b c".into()), ..Query::default() };
        assert_eq!(query.address(Some("5")), "state=dead&label=a%3Db%20c&cursor=5");
        assert!(Query { state: Some("done".into()), ..Query::default() }.filter().is_err());
        assert!(Query { label: Some("no pair".into()), ..Query::default() }.filter().is_err());
    }
}

//! What ended badly, and running it once more: one by one, or a page of it.

use access::Scope;
use axum::{
    Form,
    extract::State,
    response::{Html, Response},
};
use jobs::{Filter, JobId, JobState, JobView};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    forms::{Filled, unreadable},
    layout::{Failed, Page, Section, Viewer, go_to, heading, nothing, table},
    show,
};
use crate::{
    api::{Api, InQuery, Problem},
    errors::Code,
    service::LONGEST_PAGE,
};

const PER_PAGE: usize = 50;
const BADLY: [JobState; 3] = [JobState::Dead, JobState::Failed, JobState::Expired];

/// Which page, and what became of the last form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Query {
    cursor: Option<u64>,
    again: Option<u32>,
    refused: Option<u32>,
}

/// The page.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Html<String>, Failed> {
    let InQuery(Query { cursor, again, refused }) = query?;
    let filter = Filter { states: BADLY.to_vec(), ..Filter::default() };
    let found = api.service.list(&viewer.caller.tenant, &filter, cursor, PER_PAGE).await?;
    let open: Vec<_> = found.jobs.iter().filter(|job| job.requeued_as.is_none()).collect();
    let may = viewer.may(Scope::JobsWrite);
    let all = html! {
        @if may && open.len() > 1 {
            (viewer.form("/console/dead/requeue", html! {
                @for job in &open { input type="hidden" name="job" value=(job.job_id); }
                button.button type="submit" { "Requeue these " (open.len()) }
            }))
        }
    };
    let content = html! {
        @if let Some(again) = again {
            p.notice role="status" {
                (again) " requeued" @if let Some(refused) = refused.filter(|refused| *refused > 0) { ", " (refused) " refused" } "."
            }
        }
        p.lead { "Dead jobs were given up: their attempts are used up, or the workers that ran them were lost. Failed ones ended with an "
            "error of their own, expired ones could not start in time. Requeued, each becomes a new job." }
        @if found.jobs.is_empty() { (nothing("Nothing has ended badly.")) } @else { (rows(&viewer, may, &found.jobs)) }
        nav.pages aria-label="Pages" {
            @if cursor.is_some() { a href="/console/dead" { "Newest" } }
            @if let Some(next) = found.next { a rel="next" href={ "/console/dead?cursor=" (next) } { "Older" } }
        }
    };
    let top = heading(html! { "Dead letters" }, all);
    Ok(Page { title: "Dead letters", section: Section::Dead, top, live: None, content, draws: false }
        .show(&viewer))
}

fn rows(viewer: &Viewer, may: bool, jobs: &[JobView]) -> Markup {
    let now = show::now_ms();
    table(
        "Jobs that ended badly",
        html! {
            thead { tr { th { "Job" } th { "State" } th { "What" } th { "Why" } th.number { "Ended" } th { "Again" } } }
            tbody {
                @for job in jobs {
                    tr {
                        td { (show::job_link(job.job_id)) }
                        td { (show::state(job.state)) }
                        td { (show::about(job)) }
                        td {
                            @if let Some(error) = &job.error {
                                span.bad { (error.code.as_str()) } " " span title=(show::plain(&error.message, 500)) { (show::text(&error.message, show::SHORT)) }
                            }
                        }
                        td.number { @if let Some(at) = job.finished_ms { (show::duration(now - at)) " ago" } }
                        td {
                            @if let Some(again) = job.requeued_as { "as " (show::job_link(again)) }
                            @else if may { (viewer.button(&format!("/console/jobs/{}/again", job.job_id), "Requeue", "small")) }
                        }
                    }
                }
            }
        },
    )
}

/// Runs several once more.
pub(crate) async fn requeue(
    State(api): State<Api>,
    viewer: Viewer,
    sent: Filled<Vec<(String, String)>>,
) -> Result<Response, Failed> {
    let Form(fields) = sent.map_err(unreadable)?;
    let jobs = fields.iter().filter(|(name, _)| name == "job").map(|(_, id)| crate::api::parse_id(id));
    let jobs = jobs.take(LONGEST_PAGE).collect::<Result<Vec<JobId>, _>>()?;
    let (mut again, mut refused) = (0, 0);
    for job in jobs {
        match api.service.requeue(&viewer.caller.tenant, job).await {
            Ok(_) => again += 1,
            // What holds for all would fail for each.
            Err(error)
                if matches!(error.code, Code::Unavailable | Code::QueueFull | Code::EngineStarting) =>
            {
                return Err(error.into());
            }
            Err(_) => refused += 1,
        }
    }
    Ok(go_to(&format!("/console/dead?again={again}&refused={refused}")))
}

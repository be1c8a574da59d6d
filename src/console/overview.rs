//! The first page: how the deployment is doing, what runs, what has ended lately.

use access::Scope;
use axum::{
    extract::State,
    response::{Html, Response},
};
use jobs::{
    Filter, JobState, JobView, Working,
    webhooks::{WebhookBacklog, Webhooks},
};
use maud::{Markup, html};

use super::{
    layout::{Failed, Page, Section, Viewer, card, go_to, heading, nothing, table, tile},
    live, show,
};
use crate::{api::Api, errors::ServiceError, service::CacheView};

/// How many jobs of each sort are shown.
const SHOWN: usize = 12;
/// From how many of those that ended last the throughput is worked out.
const COUNTED: usize = 60;

const ENDED: [JobState; 5] =
    [JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Dead, JobState::Expired];

/// What an admin sees of all tenants together.
struct Deployment {
    working: Vec<Working>,
    backlog: WebhookBacklog,
}

/// The page.
pub(crate) async fn page(State(api): State<Api>, viewer: Viewer) -> Result<Html<String>, Failed> {
    let now = make(&api, &viewer.caller).await?;
    let depth = api.service.queue().depth().await?;
    let actions = html! {
        @if viewer.may(Scope::Admin) {
            @if depth.paused {
                (viewer.button("/console/queue/resume", "Resume the queue", "main"))
            } @else {
                (viewer.button("/console/queue/pause", "Pause the queue", ""))
            }
        }
    };
    let page = Page {
        title: "Overview",
        section: Section::Overview,
        top: heading(html! { "Overview" }, actions),
        live: Some(("/console/live", now)),
        content: html! {},
        draws: false,
    };
    Ok(page.show(&viewer))
}

/// What of it changes.
pub(crate) async fn live(State(api): State<Api>, viewer: Viewer) -> Result<Response, Failed> {
    let caller = viewer.caller;
    let shared = api.clone();
    let make = move || {
        let (api, caller) = (shared.clone(), caller.clone());
        async move { Ok(live::Now { html: make(&api, &caller).await?, is_last: false }) }
    };
    Ok(live::follow(api, make).await?)
}

/// Nothing is started any more.
pub(crate) async fn pause(State(api): State<Api>) -> Result<Response, Failed> {
    api.service.queue().pause(true).await?;
    Ok(go_to("/"))
}

/// It goes on.
pub(crate) async fn resume(State(api): State<Api>) -> Result<Response, Failed> {
    api.service.queue().pause(false).await?;
    Ok(go_to("/"))
}

async fn make(api: &Api, caller: &access::Caller) -> Result<Markup, ServiceError> {
    let (service, queue) = (&api.service, api.service.queue());
    let tenant = &caller.tenant;
    let filter = |states: &[JobState]| Filter { states: states.to_vec(), ..Filter::default() };
    let (active, ended) = (filter(&[JobState::Running]), filter(&ENDED));
    let (depth, waits_since, running, ended) = tokio::try_join!(
        queue.depth(),
        queue.waits_since(tenant),
        queue.list(tenant, &active, None, SHOWN),
        queue.list(tenant, &ended, None, COUNTED),
    )?;
    let cache = if caller.may(Scope::Cache) { Some(service.cache().await?) } else { None };
    let deployment = if caller.may(Scope::Admin) {
        let webhooks = Webhooks::new(queue.clone());
        let (working, backlog) = tokio::try_join!(queue.working(), webhooks.backlog())?;
        Some(Deployment { working, backlog })
    } else {
        None
    };
    let now = show::now_ms();
    let (rate, over) = throughput(&ended.jobs, now);
    Ok(html! {
        @if depth.paused {
            p.notice role="status" { "The queue is paused: nothing is started. What runs goes on, and jobs are accepted." }
        }
        dl.tiles {
            (tile("Waiting", html! { (show::count(depth.ready)) }, waits_since.map_or_else(|| html! { "none of yours" }, |since| html! { "yours for " (show::duration(now - since)) })))
            (tile("Running", html! { (show::count(depth.running)) }, html! { (show::count(depth.delayed)) " wait for their time" }))
            (tile("Throughput", html! { (rate) }, html! { (over) }))
            @if let Some(cache) = &cache { (tile_of_cache(cache)) }
            @if let Some(Deployment { working, backlog }) = &deployment {
                (tile("Workers", html! { (show::count(working.len() as u64)) }, html! {
                    (show::count(working.iter().filter(|worker| worker.free_ms.is_some()).count() as u64)) " with a free slot"
                }))
                (tile("Webhooks", html! {
                    @if backlog.overdue.as_secs() == 0 { "on time" } @else { (show::duration(milliseconds(backlog))) " late" }
                }, html! { (show::count(backlog.receivers)) " receivers, " (show::count(backlog.outbox)) " not handed over" }))
            }
        }
        div.columns {
            (card("Running now", html! {
                @if running.jobs.is_empty() { (nothing("Nothing of yours runs.")) } @else { (of_running(&running.jobs, now)) }
            }))
            @if let Some(Deployment { working, .. }) = &deployment { (card("Workers", workers(working, now))) }
        }
        (card("Ended lately", html! {
            @if ended.jobs.is_empty() {
                (nothing("Nothing has ended yet. Submit a backtest with POST /v1/jobs, the tool backtest, or jesse-jobs submit."))
            } @else { (of_ended(ended.jobs.iter().take(SHOWN), now)) }
            p.more { a href="/console/jobs" { "All jobs" } }
        }))
    })
}

fn milliseconds(backlog: &WebhookBacklog) -> i64 {
    backlog.overdue.as_millis().try_into().unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage of counts")]
fn tile_of_cache(cache: &CacheView) -> Markup {
    let asked = cache.hits + cache.misses + cache.coalesced;
    let hits = if asked == 0 {
        "–".to_owned()
    } else {
        format!("{}%", show::number(100.0 * (cache.hits + cache.coalesced) as f64 / asked as f64, 0))
    };
    let stored = format!("{} results, {}", show::count(cache.entries), show::bytes(cache.bytes));
    tile("Answered by the cache", html! { (hits) }, html! { (stored) })
}

/// Jobs a minute, and over which time: the last ten minutes, or less if that is too many to count.
#[expect(clippy::cast_precision_loss, reason = "a handful of jobs over some minutes")]
fn throughput(ended: &[JobView], now: i64) -> (String, String) {
    let window = 600_000;
    let times: Vec<_> =
        ended.iter().filter_map(|job| job.finished_ms).filter(|at| now - at < window).collect();
    let span = match times.iter().min() {
        Some(first) if times.len() == COUNTED => (now - first).max(1),
        _ => window,
    };
    let rate = times.len() as f64 * 60_000.0 / span as f64;
    (format!("{}/min", show::number(rate, 1)), format!("yours, over {}", show::duration(span)))
}

fn of_running(jobs: &[JobView], now: i64) -> Markup {
    table(
        "Jobs that run",
        html! {
            thead { tr { th { "Job" } th { "What" } th.number { "For" } th { "Progress" } th.number { "Left" } } }
            tbody {
                @for job in jobs {
                    tr data-key=(job.job_id) {
                        td { (show::job_link(job.job_id)) }
                        td { (show::about(job)) }
                        td.number { (job.started_ms.map_or_else(String::new, |at| show::duration(now - at))) }
                        td { (show::bar(job.progress.as_ref().map_or(0.0, |progress| progress.fraction), "done")) }
                        td.number { (left(job)) }
                    }
                }
            }
        },
    )
}

/// How long a job will take yet, once that can be told.
#[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest number there is")]
pub(super) fn left(job: &JobView) -> String {
    let eta = job.progress.as_ref().and_then(|progress| progress.eta_s).filter(|eta| eta.is_finite());
    eta.map_or_else(String::new, |eta| show::duration((eta * 1e3) as i64))
}

fn workers(working: &[Working], now: i64) -> Markup {
    if working.is_empty() {
        return html! { p.notice.bad role="status" { "No worker is there: nothing will run. Start one with jesse-jobs worker." } };
    }
    table(
        "Workers",
        html! {
            thead { tr { th { "Worker" } th { "Runs" } th.number { "For" } th { "Progress" } } }
            tbody {
                @for worker in working {
                    @if worker.runs.is_empty() {
                        tr { td { (show::text(&worker.worker, 60)) } td colspan="3" { span.muted { "idle" } } }
                    }
                    @for (place, run) in worker.runs.iter().enumerate() {
                        tr {
                            td { @if place == 0 { (show::text(&worker.worker, 60)) } }
                            td { (run.kind.as_str()) }
                            td.number { (show::duration(now - run.started_ms)) }
                            td { (show::bar(run.progress.as_ref().map_or(0.0, |progress| progress.fraction), "done")) }
                        }
                    }
                }
            }
        },
    )
}

fn of_ended<'a>(jobs: impl Iterator<Item = &'a JobView>, now: i64) -> Markup {
    super::jobs::rows("Jobs that ended last", jobs, now, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ended_is_no_throughput() {
        assert_eq!(throughput(&[], 0).0, "0.0/min");
    }
}

//! `/v1/jobs/{id}/events`: a job as server-sent events.
//!
//! Each event is the whole job as it stands, named by a hash of it. So whoever lost its connection (or finds another instance after it)
//! has missed nothing but states that are over: it sends the name of what it saw last, and hears of whatever differs from that.

use std::{convert::Infallible, time::Duration};

use ::jobs::{JobState, Watch};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::{Api, Problem, guard::Tenant, jobs::parse_id, problem::InPath};
use crate::{errors::ServiceError, views::JobAnswer};

/// How often something is sent where nothing happens, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After what time a client should connect again.
const RECONNECT: Duration = Duration::from_secs(1);

pub(super) async fn follow(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut watch = api.service.watch(&tenant, parse_id(&id)?).await?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let first = Told::of(watch.next().await.map_err(ServiceError::from)?)?;
    if first.ended && first.id == seen {
        // What tells a browser not to come again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let following = Following { watch, seen: seen.to_owned(), next: Some(first), stop: api.stop.clone() };
    let mut response =
        Sse::new(following.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx otherwise holds events back until it has a buffer of them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A job as it is told.
struct Told {
    id: String,
    json: String,
    ended: bool,
}

impl Told {
    fn of(view: ::jobs::JobView) -> Result<Self, ServiceError> {
        let ended = JobState::is_terminal(view.state);
        let json = serde_json::to_string(&JobAnswer::new(view))
            .map_err(|error| ServiceError::internal("a job cannot be written", &error))?;
        let id = blake3::hash(json.as_bytes()).to_hex()[..16].to_owned();
        Ok(Self { id, json, ended })
    }
}

/// One connection.
struct Following {
    watch: Watch,
    /// What the client has.
    seen: String,
    /// What has been read and not been told yet.
    next: Option<Told>,
    stop: CancellationToken,
}

impl Following {
    /// Ends with the job, with the server, or with a Redis that is away: in the last two cases the client comes again.
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::stream::unfold(Some(self), |following| async {
            let mut following = following?;
            let told = following.changed().await?;
            let name = if told.ended { "end" } else { "job" };
            let event = Event::default().event(name).id(&*told.id).retry(RECONNECT).data(told.json);
            following.seen = told.id;
            Some((Ok(event), (!told.ended).then_some(following)))
        })
    }

    async fn changed(&mut self) -> Option<Told> {
        loop {
            let told = match self.next.take() {
                Some(told) => told,
                None => Told::of(self.stop.run_until_cancelled(self.watch.next()).await?.ok()?).ok()?,
            };
            if told.id != self.seen {
                return Some(told);
            }
        }
    }
}

//! `/v1/jobs/{id}/events`: a job as server-sent events.
//!
//! Each event is the whole job as it stands, named by a hash of it. So whoever lost its connection (or finds another instance after it)
//! has missed nothing but states that are over: it sends the name of what it saw last, and hears of whatever differs from that.

use std::{convert::Infallible, time::Duration};

use ::jobs::{JobState, Watch};
use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response, sse::Event},
};
use futures::Stream;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Api, Problem,
    guard::Tenant,
    jobs::parse_id,
    openapi::{Answer, Operation, OperationInput, OperationOutput, Schemas},
    problem::InPath,
};
use crate::{errors::ServiceError, sse, views::JobAnswer};

/// After what time a client should connect again.
const RECONNECT: Duration = Duration::from_secs(1);

pub(super) async fn follow(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    LastEventId(seen): LastEventId,
) -> Result<Followed, Problem> {
    let mut watch = api.service.watch(&tenant, parse_id(&id)?).await?;
    let first = Told::of(watch.next().await.map_err(ServiceError::from)?)?;
    if first.ended && first.id == seen {
        // What tells a browser not to come again.
        return Ok(Followed::All);
    }
    Ok(Followed::On(Box::new(Following { watch, seen, next: Some(first), stop: api.stop.clone() })))
}

/// What the client heard of last.
pub(super) struct LastEventId(String);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let seen = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        Ok(Self(seen.unwrap_or_default().to_owned()))
    }
}

impl OperationInput for LastEventId {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        let about = "The `id` of the last event that you have: you are told of whatever differs from it";
        operation.takes_header("Last-Event-ID", about, &json!({"type": "string"}));
    }
}

/// The job as it goes on, or nothing for those who have seen its end.
pub(super) enum Followed {
    All,
    On(Box<Following>),
}

impl IntoResponse for Followed {
    fn into_response(self) -> Response {
        let Self::On(following) = self else { return StatusCode::NO_CONTENT.into_response() };
        sse::sending(following.events())
    }
}

impl OperationOutput for Followed {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        let events = "Server-sent events: each `job`, and at last `end`, has the whole job as its data";
        operation.answers(200, Answer::text(events, "text/event-stream"));
        operation.answers(204, Answer::empty("You have seen its end: do not come again"));
    }
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
pub(super) struct Following {
    watch: Watch,
    /// What the client has.
    seen: String,
    /// What has been read and not been told yet.
    next: Option<Told>,
    stop: CancellationToken,
}

impl Following {
    /// Ends with the job, with the server, or with a Redis that is away: in the last two cases the client comes again.
    fn events(self: Box<Self>) -> impl Stream<Item = Result<Event, Infallible>> {
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

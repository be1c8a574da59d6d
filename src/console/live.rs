//! What of a page changes, sent to it when it does: server-sent events, each the whole of it as HTML.
//!
//! Whatever happens in the deployment is a reason to make it anew, at most twice a second for each page; what is the same as before is not
//! sent. A page that lost its connection comes again and gets it as it stands, so nothing can be missed.

use std::{convert::Infallible, time::Duration};

use axum::response::{Response, sse::Event};
use maud::Markup;
use tokio::time::Instant;

use crate::{api::Api, errors::ServiceError, sse};

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is made anew though nothing was announced: ages grow, and batches count without a word.
const RECHECK: Duration = Duration::from_secs(2);
/// After this long the browser has to come again, so that a session that is over ends here too.
const LONGEST: Duration = Duration::from_mins(2);
const RECONNECT: Duration = Duration::from_millis(500);

/// What of a page changes, as it is now.
pub(super) struct Now {
    pub(super) html: Markup,
    /// Whether it changes no more.
    pub(super) is_last: bool,
}

/// Sends what `make` makes whenever that has changed, until it is the last. The first is made before anything is sent, so that an error is an answer.
pub(super) async fn follow<M, F>(api: Api, make: M) -> Result<Response, ServiceError>
where
    M: Fn() -> F + Send + 'static,
    F: Future<Output = Result<Now, ServiceError>> + Send,
{
    let changes = api.service.changes();
    let first = make().await?;
    let following =
        Following { api, make, changes, sent: None, next: Some(first), end: Instant::now() + LONGEST };
    let events = futures::stream::unfold(Some(following), |following| async {
        let mut following = following?;
        let (html, is_last) = following.changed().await?;
        let event = Event::default().retry(RECONNECT).data(html);
        Some((Ok::<_, Infallible>(event), (!is_last).then_some(following)))
    });
    Ok(sse::sending(events))
}

struct Following<M> {
    api: Api,
    make: M,
    changes: tokio::sync::watch::Receiver<u64>,
    sent: Option<blake3::Hash>,
    next: Option<Now>,
    end: Instant,
}

impl<M, F> Following<M>
where
    M: Fn() -> F,
    F: Future<Output = Result<Now, ServiceError>>,
{
    /// Ends with its time, with the server, or with a Redis that is away.
    async fn changed(&mut self) -> Option<(String, bool)> {
        loop {
            let made = if let Some(first) = self.next.take() {
                first
            } else {
                let stop = self.api.stop.clone();
                stop.run_until_cancelled(self.something()).await?;
                if Instant::now() > self.end {
                    return None;
                }
                (self.make)().await.ok()?
            };
            // It would end a line of the event.
            let html = made.html.into_string().replace('\r', "&#13;");
            let hash = blake3::hash(html.as_bytes());
            if self.sent.replace(hash) != Some(hash) {
                return Some((html, made.is_last));
            }
        }
    }

    async fn something(&mut self) {
        let earliest = Instant::now() + PAUSE;
        let _elapsed = tokio::time::timeout(RECHECK, self.changes.changed()).await;
        tokio::time::sleep_until(earliest).await;
    }
}

//! `subscriptions/listen` of 2026-07-28: a client is told when a job that it named has changed, by whichever instance it
//! asks, since all follow the same events. What it is told is the job's address, which it then reads.

use futures::{StreamExt, stream::FuturesUnordered};
use jobs::{JobId, TenantId};
use rmcp::{
    ErrorData,
    model::SubscriptionFilter,
    service::{SubscriptionContext, SubscriptionSink},
};

use crate::{errors::ServiceError, service::Service, views::JobAnswer};

/// How many jobs one subscription may be about. A batch is one.
const MOST_JOBS: usize = 64;

/// What of a subscription is listened for: jobs and batches by their addresses, the first [`MOST_JOBS`]. The client is told
/// which.
pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = SubscriptionFilter::new();
    let named = requested.resource_subscriptions.iter().flatten();
    let known: Vec<_> = named.filter(|uri| job(uri).is_some()).take(MOST_JOBS).cloned().collect();
    accepted.resource_subscriptions = (!known.is_empty()).then_some(known);
    accepted
}

fn job(uri: &str) -> Option<JobId> {
    let id = uri.strip_prefix("job://").or_else(|| uri.strip_prefix("batch://"))?;
    id.parse().ok()
}

/// Tells of the jobs until all have ended, or the client is gone.
pub(super) async fn listen(
    service: &Service,
    tenant: &TenantId,
    context: SubscriptionContext,
) -> Result<(), ErrorData> {
    let uris: Vec<_> = context.accepted().resource_subscriptions.clone().unwrap_or_default();
    let sink = context.sink();
    let mut followed: FuturesUnordered<_> =
        uris.iter().map(|uri| follow(service, tenant, uri, sink)).collect();
    let all = async {
        while let Some(ended) = followed.next().await {
            if let Err(error) = ended {
                // One that is unknown, or another tenant's: clients learn no more than that it does not change.
                tracing::debug!(error = %error.message, "a subscription to a job ended");
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = context.cancelled() => {}
    }
    Ok(())
}

/// Tells of one job: of each change, and at once if it has ended already, as that would be missed.
async fn follow(
    service: &Service,
    tenant: &TenantId,
    uri: &str,
    sink: &SubscriptionSink,
) -> Result<(), ServiceError> {
    let Some(job) = job(uri) else { return Ok(()) };
    let mut watch = service.watch(tenant, job).await?;
    let mut last = None;
    loop {
        let view = watch.next().await?;
        let ended = view.state.is_terminal();
        let shown = serde_json::to_string(&JobAnswer::brief(view))
            .map_err(|error| ServiceError::internal("a job cannot be written", &error))?;
        let changed = last.replace(shown.clone()).is_some_and(|last| last != shown);
        if (changed || ended) && sink.notify_resource_updated(uri).await.is_err() {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_batches_are_listened_for_and_nothing_else() {
        let id = "01981c2e-6f1c-7000-8000-000000000000";
        let known = [format!("job://{id}"), format!("batch://{id}")];
        let others =
            [format!("job://{id}/trades"), "job://latest".into(), "strategy://Sma".into(), String::new()];
        let mut requested = SubscriptionFilter::new();
        requested.tools_list_changed = Some(true);
        requested.resource_subscriptions = Some([&known[..], &others[..]].concat());
        let listened = accepted(&requested);
        assert_eq!(listened.resource_subscriptions, Some(known.to_vec()));
        assert_eq!(listened.tools_list_changed, None);

        requested.resource_subscriptions = Some(vec![format!("job://{id}"); 2 * MOST_JOBS]);
        let listened = accepted(&requested);
        assert_eq!(listened.resource_subscriptions.map(|uris| uris.len()), Some(MOST_JOBS));
    }
}

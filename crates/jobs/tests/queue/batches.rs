//! Many jobs under one id.
use std::collections::{BTreeMap, HashSet};

use jobs::{
    Accepted, BatchSubmission, Counts, ErrorCode, Idempotency, JobState, Kind, OnFailure, Outcome, Priority,
    QueueError, Tags, TenantId,
};

use crate::support::{Bench, failure, key_of, success};

fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// The events of a job's end.
async fn ends(bench: &Bench, job: jobs::JobId) -> usize {
    let events: redis::streams::StreamRangeReply =
        bench.command(&["XRANGE", &bench.key("events"), "-", "+"]).await;
    let job = job.to_string();
    let of_job = events.ids.iter().filter(|event| {
        event.get::<String>("job").is_some_and(|ids| ids.split(' ').filter(|id| *id == job).count() == 1)
    });
    of_job
        .filter(|event| {
            JobState::parse(&event.get::<String>("state").unwrap()).is_some_and(JobState::is_terminal)
        })
        .count()
}

#[tokio::test]
async fn a_batch_is_one_entry_that_yields_its_children_and_ends_once() {
    let bench = Bench::new().await;
    bench.submit("k-3").await;
    let claim = bench.claim().await;
    bench.finish(&claim, &success("k-3")).await;

    let batch = bench.submit_batch(&bench.batch(keys("k", 250))).await;
    let view = bench.view(batch).await;
    assert_eq!((view.kind, view.state), (Kind::Batch, JobState::Waiting));
    let counts = view.counts.unwrap();
    assert_eq!(
        counts,
        Counts { total: 250, succeeded: 1, cached: 1, ..Counts::default() },
        "the cache answered one at once"
    );
    let entries: u64 = bench.command(&["ZCARD", &bench.key("q:1:default")]).await;
    assert_eq!(entries, 1);
    assert_eq!(bench.queue.depth().await.unwrap().ready, 249);
    let (total, page) = bench.queue.children(batch, &bench.tenant, 2, 3).await.unwrap();
    assert_eq!(total, 250);
    let states: Vec<_> = page.iter().map(|child| (child.request.get().to_owned(), child.state)).collect();
    let expected = |n: u32, state| (format!(r#"{{"of":"k-{n}"}}"#), state);
    assert_eq!(
        states,
        [expected(2, JobState::Queued), expected(3, JobState::Succeeded), expected(4, JobState::Queued)]
    );
    assert!(page.iter().all(|child| child.batch == Some(batch)));

    let mut seen = HashSet::new();
    while let Some(claim) = bench.claims(1).await.pop() {
        assert_eq!(claim.plan, r#"{"plan":"shared"}"#);
        assert!(seen.insert(key_of(&claim)));
        bench.finish(&claim, &success(&key_of(&claim))).await;
    }
    assert_eq!(seen.len(), 249);
    let view = bench.view(batch).await;
    assert_eq!((view.state, view.counts.unwrap().succeeded), (JobState::Succeeded, 250));
    assert_eq!(ends(&bench, batch).await, 1);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn children_join_runs_in_flight_and_equal_children_are_computed_once() {
    let bench = Bench::new().await;
    let (theirs, _) = bench.submit_from("other", "k-0").await;
    let running = bench.claim().await;
    let mut wanted = keys("k", 3);
    wanted.extend(keys("k", 3));
    let batch = bench.submit_batch(&bench.batch(wanted)).await;
    let claims = bench.claims(10).await;
    assert_eq!(claims.len(), 2, "one is in flight, three are repeats");
    for claim in claims.iter().chain([&running]) {
        bench.finish(claim, &success(&key_of(claim))).await;
    }
    assert_eq!(bench.view(batch).await.counts.unwrap().succeeded, 6);
    assert_eq!(bench.queue.get(theirs, &TenantId::new("other")).await.unwrap().state, JobState::Succeeded);
    assert_eq!(bench.counter("claims").await, 3);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_large_batch_does_not_delay_what_its_own_tenant_or_another_submits_later() {
    let bench = Bench::new().await;
    bench.submit_batch(&bench.batch(keys("batch", 1_000))).await;
    bench.claim().await;
    bench.submit("own").await;
    bench.submit_from("other", "theirs").await;
    let next: HashSet<_> = bench.claims(3).await.iter().map(key_of).collect();
    assert!(next.contains("own") && next.contains("theirs"), "{next:?}");
}

#[tokio::test]
async fn a_cancelled_batch_stops_at_once_and_others_who_wait_for_its_runs_are_not_hurt() {
    let bench = Bench::new().await;
    let low = |batch: BatchSubmission| {
        let mut batch = batch;
        batch.treatment.priority = Priority::Batch;
        batch
    };
    let batch = bench.submit_batch(&low(bench.batch(keys("k", 300)))).await;
    let claims = bench.claims(2).await;
    let (theirs, accepted) = bench.submit_from("other", &key_of(&claims[0])).await;
    assert_eq!(accepted, Accepted::Joined);
    bench.queue.cancel(batch, &bench.tenant).await.unwrap();

    let view = bench.view(batch).await;
    assert_eq!((view.state, view.counts.unwrap().cancelled), (JobState::Cancelled, 300));
    let (_, children) = bench.queue.children(batch, &bench.tenant, 0, 300).await.unwrap();
    assert!(children.len() == 300 && children.iter().all(|child| child.state == JobState::Cancelled));
    bench.nothing_to_claim().await;
    let held: Vec<_> = claims.iter().map(|claim| (claim.run, claim.fence)).collect();
    assert_eq!(bench.queue.renew(&held).await.unwrap(), [(claims[1].run, jobs::Stop::Cancelled)]);
    bench.finish(&claims[0], &success(&key_of(&claims[0]))).await;
    bench.finish(&claims[1], &Outcome::Cancelled).await;
    assert_eq!(bench.queue.get(theirs, &TenantId::new("other")).await.unwrap().state, JobState::Succeeded);
    assert_eq!(ends(&bench, batch).await, 1);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn between_a_cancel_and_its_chunks_nothing_starts_and_children_show_as_cancelled() {
    let bench = Bench::new().await;
    let batch = bench.submit_batch(&bench.batch(keys("k", 5_000))).await;
    let last = bench.queue.children(batch, &bench.tenant, 4_999, 1).await.unwrap().1.remove(0);
    // Whoever cancels dies after the first script, in the midst of the chunks.
    let (queue, tenant) = (bench.queue.clone(), bench.tenant.clone());
    let cancelling = tokio::spawn(async move { queue.cancel(batch, &tenant).await });
    while bench.command::<u64>(&["ZCARD", &bench.key("closing")]).await == 0 {}
    cancelling.abort();
    let _aborted = cancelling.await;
    assert!(bench.view(batch).await.counts.unwrap().open() > 0, "it was too late to die");
    assert_eq!(bench.state(last.job_id).await, JobState::Cancelled);
    bench.nothing_to_claim().await;
    bench.reap().await;
    assert_eq!(bench.state(batch).await, JobState::Cancelled);
    assert_eq!(ends(&bench, batch).await, 1);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_batch_nobody_opened_is_opened_by_the_reconciler_and_one_that_was_not_committed_is_not_there() {
    let bench = Bench::new().await;
    let (batch, _) = bench.queue.submit_batch(&bench.batch(keys("k", 120))).await.unwrap();
    assert_eq!(bench.state(batch).await, JobState::Waiting);
    bench.nothing_to_claim().await;
    bench.reap().await;
    assert_eq!(bench.claims(200).await.len(), 120);
    let keys: Vec<String> = bench.command(&["KEYS", &bench.key("items:*")]).await;
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn failures_end_a_batch_as_failed_and_stop_the_rest_if_asked_to() {
    let bench = Bench::new().await;
    let goes_on = bench.submit_batch(&bench.batch(keys("a", 3))).await;
    let claims = bench.claims(3).await;
    bench.finish(&claims[0], &Outcome::Failed(failure())).await;
    bench.finish(&claims[1], &success("x")).await;
    bench.finish(&claims[2], &success("y")).await;
    let view = bench.view(goes_on).await;
    assert_eq!(view.state, JobState::Failed);
    let error = view.error.unwrap();
    assert_eq!(error.code, ErrorCode::BatchIncomplete);
    assert!(error.message.starts_with("1 of 3 jobs"), "{}", error.message);
    assert_eq!(view.counts.unwrap(), Counts { total: 3, succeeded: 2, failed: 1, ..Counts::default() });

    let mut stops = bench.batch(keys("b", 300));
    stops.on_failure = OnFailure::Stop;
    let stops = bench.submit_batch(&stops).await;
    let claims = bench.claims(2).await;
    bench.finish(&claims[0], &Outcome::Failed(failure())).await;
    bench.nothing_to_claim().await;
    bench.reap().await;
    let view = bench.view(stops).await;
    assert_eq!(view.state, JobState::Failed);
    assert_eq!(view.counts.unwrap(), Counts { total: 300, failed: 1, cancelled: 299, ..Counts::default() });
    bench.finish(&claims[1], &Outcome::Cancelled).await;
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_batch_carries_its_tags_to_its_children_and_its_idempotency_key_answers_the_first() {
    let bench = Bench::new().await;
    let mut batch = bench.batch(keys("k", 5));
    batch.treatment.tags = Tags::new(Some("spring".into()), BTreeMap::new()).unwrap();
    batch.treatment.webhook = Some("https://example.com/hook".into());
    batch.idempotency = Some(Idempotency { key: "once".into(), fingerprint: "x".into() });
    let id = bench.submit_batch(&batch).await;
    assert_eq!(bench.queue.submit_batch(&batch).await.unwrap(), (id, Accepted::Repeated));
    let other = Idempotency { key: "once".into(), fingerprint: "y".into() };
    let refused =
        bench.queue.submit_batch(&BatchSubmission { idempotency: Some(other), ..batch.clone() }).await;
    assert!(matches!(refused, Err(QueueError::IdempotencyConflict(_))));
    let (_, children) = bench.queue.children(id, &bench.tenant, 0, 10).await.unwrap();
    assert!(children.iter().all(|child| child.tags.campaign() == Some("spring")));
    for claim in bench.claims(5).await {
        bench.finish(&claim, &success(&key_of(&claim))).await;
    }
    // The children have no webhook of their own: one entry, written with the end of the batch.
    let outbox: redis::streams::StreamRangeReply =
        bench.command(&["XRANGE", &bench.key("outbox"), "-", "+"]).await;
    assert_eq!(outbox.ids.len(), 1);
    assert_eq!(outbox.ids[0].get::<String>("event").unwrap(), "batch.completed");
    assert_eq!(outbox.ids[0].get::<String>("job").unwrap(), id.to_string());
    let stranger = bench.queue.children(id, &TenantId::new("stranger"), 0, 10).await;
    assert!(matches!(stranger, Err(QueueError::JobNotFound)));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_claim_that_finds_only_what_is_computed_already_leaves_all_as_it_should_be() {
    let bench = Bench::new().await;
    let batch = bench.submit_batch(&bench.batch(["k", "k"].map(str::to_owned))).await;
    // The second child is looked at by a claim that starts nothing: it joins the run of the first.
    let claim = bench.claim().await;
    bench.nothing_to_claim().await;
    bench.finish(&claim, &success("k")).await;
    let view = bench.view(batch).await;
    assert_eq!((view.state, view.counts.unwrap().succeeded), (JobState::Succeeded, 2));
    bench.assert_nothing_left().await;
}

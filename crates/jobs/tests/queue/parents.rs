//! Runs that wait for batches of their own.
use jobs::{Claim, Finish, JobId, JobState, Outcome};

use crate::support::{Bench, failure, key_of, success};

async fn awaits(bench: &Bench, parent: &Claim, batch: JobId) -> Finish {
    let outcome = Outcome::Awaits { batch, plan: r#"{"step":2}"#.into() };
    bench.queue.finish(parent, &outcome).await.unwrap()
}

/// A parent that waits for a batch of these, and the batch.
async fn waiting(bench: &Bench, keys: &[&str]) -> (JobId, JobId) {
    let parent = bench.submit("parent").await;
    let claim = bench.claim().await;
    let batch = bench.submit_batch(&bench.batch(keys.iter().map(|key| (*key).to_owned()))).await;
    assert_eq!(awaits(bench, &claim, batch).await, Finish::Accepted);
    (parent, batch)
}

#[tokio::test]
async fn a_run_gives_its_slot_back_while_its_batch_is_computed_and_goes_on_with_its_next_plan() {
    let bench = Bench::new().await;
    let (parent, batch) = waiting(&bench, &["a", "b"]).await;
    let view = bench.view(parent).await;
    assert_eq!((view.state, view.awaits), (JobState::Waiting, Some(batch)));
    assert_eq!(bench.queue.depth().await.unwrap().running, 0, "it holds no lease");
    let by_later = bench.submit("later").await;

    let children = bench.claims(2).await;
    let names: Vec<_> = children.iter().map(key_of).collect();
    assert!(names.contains(&"a".into()) && names.contains(&"later".into()), "{names:?}");
    for claim in &children {
        bench.finish(claim, &success(&key_of(claim))).await;
    }
    assert_eq!(bench.state(by_later).await, JobState::Succeeded);
    assert_eq!(bench.state(parent).await, JobState::Waiting);
    bench.submit("after").await;
    let last = bench.claims(2).await;
    for claim in &last {
        bench.finish(claim, &success(&key_of(claim))).await;
    }
    // It is next, before what was submitted while it waited.
    bench.submit("much later").await;
    let again = bench.claim().await;
    assert_eq!((again.plan.as_str(), key_of(&again).as_str()), (r#"{"step":2}"#, "parent"));
    assert_eq!((again.attempt, bench.state(parent).await), (1, JobState::Running));
    bench.finish(&again, &success("parent")).await;
    assert_eq!(bench.state(parent).await, JobState::Succeeded);
    let rest = bench.claim().await;
    bench.finish(&rest, &success("much later")).await;
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_batch_that_has_ended_before_it_is_awaited_is_not_waited_for() {
    let bench = Bench::new().await;
    let parent = bench.submit("parent").await;
    let claim = bench.claim().await;
    let batch = bench.submit_batch(&bench.batch(["a".to_owned()])).await;
    let child = bench.claim().await;
    bench.finish(&child, &Outcome::Failed(failure())).await;
    assert_eq!(bench.state(batch).await, JobState::Failed);
    assert_eq!(awaits(&bench, &claim, batch).await, Finish::Accepted);
    assert_eq!(bench.state(parent).await, JobState::Queued);
    // The answer got lost and is given again.
    assert_eq!(awaits(&bench, &claim, batch).await, Finish::Accepted);
    let again = bench.claim().await;
    bench.finish(&again, &success("parent")).await;
    assert_eq!(bench.state(parent).await, JobState::Succeeded);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn cancelling_a_parent_cancels_its_children_unless_another_waits_for_it() {
    let bench = Bench::new().await;
    let (parent, batch) = waiting(&bench, &["a", "b", "c"]).await;
    let (other, _) = bench.submit_from("other", "parent").await;
    bench.queue.cancel(parent, &bench.tenant).await.unwrap();
    assert_eq!(bench.state(batch).await, JobState::Waiting, "the other tenant still wants it");
    let theirs = jobs::TenantId::new("other");
    assert_eq!(bench.queue.cancel(other, &theirs).await.unwrap(), JobState::Waiting);
    bench.reap().await;
    assert_eq!(bench.state(batch).await, JobState::Cancelled);
    bench.nothing_to_claim().await;
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_parent_that_is_cancelled_while_it_submits_its_batch_leaves_none_behind() {
    let bench = Bench::new().await;
    let parent = bench.submit("parent").await;
    let claim = bench.claim().await;
    bench.queue.cancel(parent, &bench.tenant).await.unwrap();
    let batch = bench.submit_batch(&bench.batch(["a".to_owned(), "b".to_owned()])).await;
    assert_eq!(awaits(&bench, &claim, batch).await, Finish::Accepted);
    bench.reap().await;
    assert_eq!(bench.state(batch).await, JobState::Cancelled);
    assert_eq!(bench.state(parent).await, JobState::Cancelled);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_parent_whose_worker_is_lost_is_tried_again_and_its_deadline_does_not_strike_while_it_waits() {
    let bench = Bench::new().await;
    let mut submission = bench.submission("parent");
    submission.deadline_ms = Some(bench.now_ms().await + 1_500);
    let parent = bench.queue.submit(&submission).await.unwrap().0;
    bench.claim().await;
    bench.end_all_leases().await;
    bench.reap().await;
    let claim = bench.claim().await;
    let batch = bench.submit_batch(&bench.batch(["a".to_owned()])).await;
    awaits(&bench, &claim, batch).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_800)).await;
    bench.reap().await;
    assert_eq!(bench.state(parent).await, JobState::Waiting);
    let child = bench.claim().await;
    bench.finish(&child, &success("a")).await;
    bench.reap().await;
    let again = bench.claim().await;
    assert_eq!(key_of(&again), "parent");
    bench.finish(&again, &success("parent")).await;
    assert_eq!(bench.state(parent).await, JobState::Succeeded);
    assert_eq!(bench.counter("stalls").await, 1);
    bench.assert_nothing_left().await;
}

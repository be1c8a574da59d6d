//! Workers and clients of two versions side by side.
use jobs::{Free, JobState, Queue, Retention};

use crate::support::{Bench, key_of, success};

#[tokio::test]
async fn an_older_worker_leaves_newer_runs_to_a_newer_one_and_nothing_is_lost_or_run_twice() {
    let bench = Bench::new().await;
    let newer = Queue::of_version(bench.redis_again(), Retention::default(), 99);
    let mut jobs = Vec::new();
    for n in 0..20 {
        // The next version's clients are there already.
        let queue = if n % 2 == 0 { &bench.queue } else { &newer };
        jobs.push(queue.submit(&bench.submission(&format!("k{n}"))).await.unwrap().0);
    }
    let batch = newer.submit_batch(&bench.batch((0..4).map(|n| format!("b{n}")))).await.unwrap().0;
    newer.open(batch).await.unwrap();

    let free = Free { slots: 30, memory_mb: 0, idle: true };
    let mut by_old = Vec::new();
    for _ in 0..20 {
        by_old.extend(bench.queue.claim(&bench.worker, free).await.unwrap().0);
    }
    assert_eq!(by_old.len(), 10);
    let by_new = newer.claim(&bench.worker, free).await.unwrap().0;
    assert_eq!(by_new.len(), 14, "the newer worker finds what the older one left, and the batch");
    // Either finishes what the other's scripts wrote; either reads it.
    for (claim, finisher) in
        by_old.iter().map(|claim| (claim, &newer)).chain(by_new.iter().map(|claim| (claim, &bench.queue)))
    {
        finisher.finish(claim, &success(&key_of(claim))).await.unwrap();
    }
    for job in jobs {
        assert_eq!(bench.state(job).await, JobState::Succeeded);
        assert_eq!(newer.get(job, &bench.tenant).await.unwrap().state, JobState::Succeeded);
    }
    assert_eq!(bench.state(batch).await, JobState::Succeeded);
    assert_eq!(bench.counter("claims").await, 24);
    // An older worker takes what an older client wrote even if a newer worker handed it back.
    bench.submit("again").await;
    let claim = newer.claim(&bench.worker, free).await.unwrap().0.remove(0);
    newer.release(&claim).await.unwrap();
    let claim = bench.claim().await;
    bench.finish(&claim, &success("again")).await;
    bench.assert_nothing_left().await;
}

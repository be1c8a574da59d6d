//! Who is next: tenants, weights, priorities, caps, room on a worker.
use std::{collections::HashMap, time::Duration};

use jobs::{Fence, Free, JobState, Priority, QueueError, Share, Submission, TenantId, WorkerId};

use crate::support::{Bench, key_of, success};

/// Claims one run after the other, each of which takes a little, and counts whose they were.
async fn shares(bench: &Bench, runs: usize, whose: impl Fn(&str) -> String) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..runs {
        let claim = bench.claim().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        *shares.entry(whose(&key_of(&claim))).or_default() += 1;
        bench.finish(&claim, &success(&key_of(&claim))).await;
    }
    shares
}

fn tenant_of(key: &str) -> String {
    key.split('-').next().unwrap().to_owned()
}

#[tokio::test]
async fn one_job_of_another_tenant_is_next_however_much_is_queued() {
    let bench = Bench::new().await;
    for n in 0..10_000 {
        bench.submit_from("a", &format!("a-{n}")).await;
    }
    // One slot; a's first run is running when b comes.
    let running = bench.claim().await;
    assert_eq!(tenant_of(&key_of(&running)), "a");
    bench.submit_from("b", "b-0").await;
    bench.finish(&running, &success("a-0")).await;
    assert_eq!(key_of(&bench.claim().await), "b-0", "after the one that was running");
    // The same when a has been served for a while, and when b comes back after a pause: idle time earns no credit.
    shares(&bench, 50, tenant_of).await;
    bench.submit_from("b", "b-1").await;
    bench.submit_from("b", "b-2").await;
    let next = shares(&bench, 4, tenant_of).await;
    assert_eq!((next["a"], next["b"]), (2, 2));
}

#[tokio::test]
async fn weights_one_to_three_give_shares_of_one_to_three() {
    let bench = Bench::new().await;
    let heavy = Share { weight: 3.0, ..Share::default() };
    bench.queue.set_share(&TenantId::new("heavy"), heavy).await.unwrap();
    for n in 0..300 {
        bench.submit_from("light", &format!("light-{n}")).await;
        bench.submit_from("heavy", &format!("heavy-{n}")).await;
    }
    let shares = shares(&bench, 200, tenant_of).await;
    assert!((135..=165).contains(&shares["heavy"]), "{shares:?}");
}

#[tokio::test]
async fn shares_are_of_run_time_not_of_runs() {
    let bench = Bench::new().await;
    for n in 0..100 {
        bench.submit_from("slow", &format!("slow-{n}")).await;
        bench.submit_from("fast", &format!("fast-{n}")).await;
    }
    let mut used: HashMap<String, Duration> = HashMap::new();
    let mut runs: HashMap<String, usize> = HashMap::new();
    for _ in 0..60 {
        let claim = bench.claim().await;
        let tenant = tenant_of(&key_of(&claim));
        let takes = Duration::from_millis(if tenant == "slow" { 40 } else { 10 });
        tokio::time::sleep(takes).await;
        bench.finish(&claim, &success(&key_of(&claim))).await;
        *used.entry(tenant.clone()).or_default() += takes;
        *runs.entry(tenant).or_default() += 1;
    }
    assert!(runs["fast"] > 2 * runs["slow"], "{runs:?}");
    let ratio = used["slow"].as_secs_f64() / used["fast"].as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{used:?}");
}

#[tokio::test]
async fn low_priority_progresses_under_constant_high_priority_load() {
    let bench = Bench::new().await;
    for n in 0..30 {
        let low = bench.with(&format!("batch-{n}"), |treatment| treatment.priority = Priority::Batch);
        bench.queue.submit(&low).await.unwrap();
        let normal = bench.with(&format!("normal-{n}"), |treatment| treatment.priority = Priority::Normal);
        bench.queue.submit(&normal).await.unwrap();
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for n in 0..210 {
        // There is always an interactive one waiting.
        let urgent = bench.with(&format!("now-{n}"), |treatment| treatment.priority = Priority::Interactive);
        bench.queue.submit(&urgent).await.unwrap();
        for (priority, count) in shares(&bench, 1, tenant_of).await {
            *counts.entry(priority).or_default() += count;
        }
    }
    assert!((7..=14).contains(&counts["batch"]), "about 1 in 21: {counts:?}");
    assert!(counts["now"] > 3 * counts["normal"] && counts["normal"] > 2 * counts["batch"], "{counts:?}");
}

#[tokio::test]
async fn a_tenant_at_its_running_cap_waits_and_the_others_do_not() {
    let bench = Bench::new().await;
    let capped = Share { max_running: Some(2), ..Share::default() };
    bench.queue.set_share(&TenantId::new("a"), capped).await.unwrap();
    for n in 0..5 {
        bench.submit_from("a", &format!("a-{n}")).await;
    }
    bench.submit_from("b", "b-0").await;
    let claims = bench.claims(10).await;
    let of_a: Vec<_> = claims.iter().filter(|claim| tenant_of(&key_of(claim)) == "a").collect();
    assert_eq!((claims.len(), of_a.len()), (3, 2));
    bench.nothing_to_claim().await;
    bench.finish(of_a[0], &success("x")).await;
    assert_eq!(bench.claims(10).await.len(), 1, "one has ended, one may start");
    bench.queue.set_share(&TenantId::new("a"), Share::default()).await.unwrap();
    assert_eq!(bench.claims(10).await.len(), 2, "without the cap all may");
}

#[tokio::test]
async fn a_tenant_with_too_many_open_jobs_is_told_so_and_cache_hits_are_not_refused() {
    let bench = Bench::new().await;
    bench.submit("known").await;
    let claim = bench.claim().await;
    bench.finish(&claim, &success("known")).await;
    let share = Share { max_open: Some(3), ..Share::default() };
    bench.queue.set_share(&bench.tenant, share).await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..3 {
        jobs.push(bench.submit(&format!("k{n}")).await);
    }
    assert!(matches!(bench.queue.submit(&bench.submission("k3")).await, Err(QueueError::Full)));
    let batch = bench.batch(["x".to_owned()]);
    assert!(matches!(bench.queue.submit_batch(&batch).await, Err(QueueError::Full)));
    assert_eq!(bench.queue.submit(&bench.submission("known")).await.unwrap().1, jobs::Accepted::Cached);
    assert_eq!(bench.submit_from("other", "k3").await.1, jobs::Accepted::Queued);
    bench.queue.cancel(jobs[0], &bench.tenant).await.unwrap();
    bench.queue.submit(&bench.submission("k3")).await.unwrap();
    let few = bench.queue.clone().with_max_open(0);
    let refused = few.submit(&Submission { tenant: TenantId::new("third"), ..bench.submission("k9") }).await;
    assert!(matches!(refused, Err(QueueError::Full)), "the deployment's cap");
}

#[tokio::test]
async fn a_run_needs_room_and_what_needs_more_than_a_worker_has_runs_when_it_is_idle() {
    let bench = Bench::new().await;
    let needs = |key: &str, slots, memory_mb| {
        bench.with(key, |treatment| (treatment.slots, treatment.memory_mb) = (slots, memory_mb))
    };
    bench.queue.submit(&needs("wide", 3, 100)).await.unwrap();
    bench.queue.submit(&needs("small", 1, 100)).await.unwrap();
    bench.queue.submit(&needs("huge", 9, 9_000)).await.unwrap();
    let keys = async |free| bench.claims_with(free).await.iter().map(key_of).collect::<Vec<_>>();
    let free = Free { slots: 2, memory_mb: 1_000, idle: false };
    assert!(keys(free).await.is_empty(), "the next one does not fit, and nothing overtakes it");
    assert_eq!(keys(Free { slots: 4, ..free }).await, ["wide", "small"]);
    assert!(keys(Free { slots: 8, ..free }).await.is_empty());
    assert_eq!(keys(Free { slots: 2, memory_mb: 10, idle: true }).await, ["huge"], "alone");
}

#[tokio::test]
async fn a_claim_takes_no_more_runs_than_it_has_fences_for_and_another_worker_takes_the_rest() {
    let bench = Bench::new().await;
    bench.queue.submit(&bench.with("wide", |treatment| treatment.slots = 3)).await.unwrap();
    for key in ["a", "b"] {
        bench.submit(key).await;
    }
    let idle = bench.now_ms().await.to_string();
    let _added: u64 = bench.command(&["ZADD", &bench.key("idle"), &idle, "w2"]).await;
    let free = Free { slots: 8, memory_mb: 0, idle: false };
    let fences = [Fence::generate(), Fence::generate()];
    let (claims, more) = bench.queue.claim_under(&fences, &bench.worker, free).await.unwrap();
    assert_eq!(claims.iter().map(key_of).collect::<Vec<_>>(), ["wide", "a"], "a wide one takes one fence");
    assert_eq!(claims.iter().map(|claim| claim.fence).collect::<Vec<_>>(), fences);
    assert!(!more);
    assert_eq!(bench.command::<Vec<String>>(&["LRANGE", &bench.key("inbox:w2"), "0", "-1"]).await, ["work"]);
    let (claims, _) = bench.queue.claim_under(&fences, &WorkerId::new("w2"), free).await.unwrap();
    assert_eq!(claims.iter().map(key_of).collect::<Vec<_>>(), ["b"]);
    bench.nothing_to_claim().await;
}

#[tokio::test]
async fn a_paused_queue_accepts_and_finishes_but_starts_nothing() {
    let bench = Bench::new().await;
    let running = bench.submit("a").await;
    let claim = bench.claim().await;
    bench.queue.pause(true).await.unwrap();
    let waiting = bench.submit("b").await;
    bench.nothing_to_claim().await;
    assert!(bench.queue.depth().await.unwrap().paused);
    bench.finish(&claim, &success("a")).await;
    assert_eq!(
        (bench.state(running).await, bench.state(waiting).await),
        (JobState::Succeeded, JobState::Queued)
    );
    bench.queue.pause(false).await.unwrap();
    assert_eq!(key_of(&bench.claim().await), "b");
}

#[tokio::test]
async fn what_waits_is_told_by_priority_and_tenant() {
    let bench = Bench::new().await;
    assert!(bench.queue.backlog().await.unwrap().is_empty());
    for n in 0..3 {
        bench.submit_from("a", &format!("a-{n}")).await;
    }
    let urgent = bench.with("urgent", |treatment| treatment.priority = Priority::Interactive);
    bench.queue.submit(&Submission { tenant: TenantId::new("b"), ..urgent }).await.unwrap();
    // A batch counts by its children, and as old as it is itself.
    let mut batch = bench.batch((0..40).map(|n| format!("c-{n}")));
    batch.tenant = TenantId::new("c");
    bench.submit_batch(&batch).await;
    let told = bench.queue.backlog().await.unwrap();
    let waiting = |priority, tenant: &str| {
        let found = told.iter().find(|row| row.priority == priority && row.tenant.as_str() == tenant);
        found.unwrap_or_else(|| panic!("{tenant}: {told:?}")).waiting
    };
    assert_eq!(waiting(Priority::Interactive, "b"), 1);
    assert_eq!((waiting(Priority::Normal, "a"), waiting(Priority::Normal, "c")), (3, 40));
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|row| row.oldest < Duration::from_mins(10)), "{told:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let later = bench.queue.backlog().await.unwrap();
    assert!(later.iter().all(|row| row.oldest >= Duration::from_millis(40)), "{later:?}");
    while !bench.claims(10).await.is_empty() {}
    assert!(bench.queue.backlog().await.unwrap().is_empty());
}

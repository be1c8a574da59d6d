//! Leases: how they are lost, handed back and taken up again, and what that counts as.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use apalis_core::{backend::Backend, worker::context::WorkerContext};
use jobs::{
    ErrorCode, Fence, Finish, Free, JobState, Progress, Queue, Redis, Retention, Stop, TenantId, Troubles,
    WorkerId,
    backend::{Capacity, LeaseBackend},
    private_redis::PrivateRedis,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};

use crate::support::{Bench, key_of, submission, success};

#[tokio::test]
async fn a_lost_lease_puts_the_run_back_and_the_late_result_is_refused_and_counted() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let late = bench.claim().await;
    assert!(bench.reap().await.lost.is_empty(), "a live lease is left alone");
    bench.end_all_leases().await;
    let reaped = bench.reap().await;
    assert_eq!(reaped.lost, [(late.run, "stalled".to_owned(), "w1".to_owned())]);
    assert_eq!(bench.state(job).await, JobState::Queued);

    let claim = bench.claim().await;
    assert_eq!((claim.run, claim.attempt), (late.run, 1), "a stall is not a failed attempt");
    assert_eq!(bench.queue.finish(&late, &success("wrong")).await.unwrap(), Finish::Refused);
    assert_eq!(bench.queue.renew(&[(late.run, late.fence)]).await.unwrap(), [(late.run, Stop::Lost)]);
    let nothing = Progress { fraction: 0.1, message: String::new(), eta_s: None };
    assert!(!bench.queue.progress(late.run, late.fence, &nothing).await.unwrap());
    assert_eq!(bench.queue.finish(&claim, &success("a")).await.unwrap(), Finish::Accepted);
    assert_eq!((bench.counter("late_results").await, bench.counter("stalls").await), (1, 1));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn three_stalls_are_the_end() {
    let bench = Bench::new().await;
    let job = bench.submit("poison").await;
    for _ in 0..3 {
        bench.claim().await;
        bench.end_all_leases().await;
        bench.reap().await;
    }
    bench.nothing_to_claim().await;
    let view = bench.queue.get(job, &bench.tenant).await.unwrap();
    assert_eq!((view.state, view.error.unwrap().code), (JobState::Dead, ErrorCode::WorkerLost));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_run_that_is_handed_back_is_next_and_costs_no_attempt() {
    let bench = Bench::new().await;
    bench.submit("a").await;
    bench.submit("b").await;
    let claim = bench.claim().await;
    bench.queue.release(&claim).await.unwrap();
    let again = bench.claim().await;
    assert_eq!((again.run, again.attempt), (claim.run, 1));
    assert_ne!(again.fence, claim.fence);
    assert_eq!((bench.counter("interruptions").await, bench.counter("stalls").await), (1, 0));
}

#[tokio::test]
async fn a_run_that_is_put_off_costs_nothing_says_what_it_waits_for_and_is_next_at_its_time() {
    let bench = Bench::new().await;
    let [first, second] = [bench.submit("a").await, bench.submit("b").await];
    let claim = bench.claim().await;
    let waits_for = Progress { fraction: 0.0, message: "waits for b".into(), eta_s: None };
    bench.queue.put_off(&claim, Duration::from_mins(1), &waits_for).await.unwrap();
    let view = bench.view(first).await;
    assert_eq!(
        (view.state, view.progress, view.troubles),
        (JobState::Scheduled, Some(waits_for.clone()), Troubles::default())
    );
    assert_eq!(bench.queue.finish(&claim, &success("late")).await.unwrap(), Finish::Refused);
    let other = bench.claim().await;
    assert_eq!(Some(other.run), bench.view(second).await.run);
    bench.finish(&other, &success("b")).await;
    bench.reap().await;
    bench.nothing_to_claim().await;

    let third = bench.submit("c").await;
    let _added: u64 = bench.command(&["ZADD", &bench.key("delayed"), "1", &claim.run.to_string()]).await;
    bench.reap().await;
    let again = bench.claim().await;
    assert_eq!((again.run, again.attempt), (claim.run, 1));
    assert_eq!((bench.counter("interruptions").await, bench.counter("stalls").await), (0, 0));

    // It can be cancelled while it waits, and one that is cancelled is not put off.
    let before_ms = bench.now_ms().await;
    bench.queue.put_off(&again, Duration::from_mins(1), &waits_for).await.unwrap();
    let due_ms: i64 = bench.command(&["ZSCORE", &bench.key("delayed"), &again.run.to_string()]).await;
    assert!(due_ms >= before_ms + 120_000, "the second time for twice as long");
    bench.queue.cancel(first, &bench.tenant).await.unwrap();
    let last = bench.claim().await;
    bench.queue.cancel(third, &bench.tenant).await.unwrap();
    bench.queue.put_off(&last, Duration::from_mins(1), &waits_for).await.unwrap();
    for job in [first, third] {
        assert_eq!(bench.state(job).await, JobState::Cancelled);
    }
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_claim_took_whose_answer_was_lost_is_handed_back_and_nothing_else() {
    let bench = Bench::new().await;
    let other = bench.submit("other").await;
    bench.claim().await;
    let lost = bench.submit("lost").await;
    let (fences, free) =
        ([Fence::generate(), Fence::generate()], Free { slots: 2, memory_mb: 0, idle: true });
    let sent = Instant::now();
    let (claims, _) = bench.queue.claim_under(&fences, &bench.worker, free).await.unwrap();
    assert_eq!(claims.len(), 1);
    for expected in [1, 0] {
        let found = bench.queue.recover(&fences, sent.elapsed(), Duration::ZERO).await.unwrap();
        assert_eq!(found, expected);
    }
    assert_eq!((bench.state(lost).await, bench.state(other).await), (JobState::Queued, JobState::Running));
    assert_eq!((bench.counter("interruptions").await, bench.counter("stalls").await), (1, 0));
    let again = bench.claim().await;
    assert_eq!((again.run, again.attempt), (claims[0].run, 1));
}

/// A way to the Redis at this socket on which the first answer that has these words never arrives: its connection breaks.
async fn relay(socket: String, words: &'static [u8]) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lost = Arc::new(AtomicBool::new(false));
    let has_lost = lost.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (lost, mut server) = (has_lost.clone(), UnixStream::connect(&socket).await.unwrap());
            tokio::spawn(async move {
                let (mut client, mut buffer) = (client, vec![0; 1 << 16]);
                let (mut hears, mut tells) = client.split();
                let (mut answers, mut asks) = server.split();
                let back = async {
                    loop {
                        let read = answers.read(&mut buffer).await.unwrap_or(0);
                        let is_it = buffer[..read].windows(words.len()).any(|part| part == words);
                        if read == 0 || (is_it && !lost.swap(true, Ordering::SeqCst)) {
                            return;
                        }
                        if tells.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = back => {}
                    _ = tokio::io::copy(&mut hears, &mut asks) => {}
                }
            });
        }
    });
    (address, lost)
}

#[tokio::test]
async fn a_worker_hands_back_what_it_was_given_in_an_answer_that_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(folder.path()).await.unwrap();
    let direct = Redis::open(redis.url(), "jobs", 2).unwrap();
    let socket = redis.url().trim_start_matches("redis+unix://").to_owned();
    let (address, lost) = relay(socket, br#"{"plan":"#).await;
    let relayed = Redis::open(&format!("redis://{address}"), "jobs", 2).unwrap();

    let queue = Queue::new(direct, Retention::default());
    let (job, _) = queue.submit(&submission("a")).await.unwrap();
    let capacity = Capacity { slots: 1, memory_mb: 0 };
    let mut backend =
        LeaseBackend::new(Queue::new(relayed, Retention::default()), WorkerId::new("w1"), capacity);
    let context = WorkerContext::new("w1");
    let task = std::future::poll_fn(|cx| backend.poll_next(cx, &context)).await.unwrap().unwrap();
    assert!(lost.load(Ordering::SeqCst));
    assert_eq!(task.args.claim.attempt, 1);
    queue.finish(&task.args.claim, &success("a")).await.unwrap();
    let counters = queue.counters().await.unwrap();
    let counted = ["claims", "interruptions", "stalls"].map(|name| counters.get(name).copied().unwrap_or(0));
    assert_eq!(counted, [2, 1, 0]);
    assert_eq!(queue.get(job, &TenantId::default_tenant()).await.unwrap().state, JobState::Succeeded);
}

#[tokio::test]
async fn a_run_that_was_lost_twice_is_tried_alone_and_its_worker_makes_room() {
    let bench = Bench::new().await;
    let job = bench.submit("poison").await;
    for _ in 0..2 {
        assert!(!bench.claim().await.alone);
        bench.end_all_leases().await;
        bench.reap().await;
    }
    assert_eq!(bench.view(job).await.troubles.stalls, 2);
    bench.submit("other").await;
    let busy = Free { slots: 1, memory_mb: 0, idle: false };
    let second = WorkerId::new("w2");
    assert!(bench.claims_with(busy).await.is_empty(), "the first that comes makes room for it");
    let others = bench.queue.claim(&second, busy).await.unwrap().0;
    assert_eq!(others.iter().map(key_of).collect::<Vec<_>>(), ["other"], "the others go on");
    let claims = bench.claims(5).await;
    assert_eq!(
        claims.iter().map(|claim| (key_of(claim), claim.alone)).collect::<Vec<_>>(),
        [("poison".to_owned(), true)]
    );
    bench.finish(&claims[0], &success("poison")).await;
    bench.finish(&others[0], &success("other")).await;
    assert_eq!(bench.state(job).await, JobState::Succeeded);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn after_a_gap_nobody_reaps_for_one_lease() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let claim = bench.claim().await;
    bench.reap().await;
    bench.end_all_leases().await;
    // Nobody was heard for longer than reconcilers are apart.
    let long_ago = (bench.now_ms().await - 3_100).to_string();
    let _set: String = bench.command(&["SET", &bench.key("beat"), &long_ago]).await;
    assert!(bench.queue.reap().await.unwrap().lost.is_empty());
    assert!(bench.queue.reap().await.unwrap().lost.is_empty());
    assert!(bench.queue.renew(&[(claim.run, claim.fence)]).await.unwrap().is_empty());
    bench.finish(&claim, &success("a")).await;
    assert_eq!(
        (bench.state(job).await, bench.counter("stalls").await, bench.counter("gaps").await),
        (JobState::Succeeded, 0, 1)
    );
    let calm: i64 = bench.command(&["PTTL", &bench.key("calm")]).await;
    assert!((1..=10_000).contains(&calm), "{calm}");
}

#[tokio::test]
async fn a_worker_that_was_only_late_keeps_its_run_until_another_takes_it() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let claim = bench.claim().await;
    bench.end_all_leases().await;
    bench.reap().await;
    assert_eq!(bench.state(job).await, JobState::Queued);
    assert!(bench.queue.renew(&[(claim.run, claim.fence)]).await.unwrap().is_empty(), "held again");
    assert_eq!(bench.state(job).await, JobState::Running);
    bench.nothing_to_claim().await;
    bench.end_all_leases().await;
    bench.reap().await;
    // Twice lost: it waits for an idle worker. Its result is as good as any.
    bench.finish(&claim, &success("a")).await;
    assert_eq!((bench.state(job).await, bench.counter("late_results").await), (JobState::Succeeded, 0));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_draining_worker_is_still_given_is_handed_back_though_it_waits_for_other_runs() {
    let bench = Bench::alone().await;
    let capacity = Capacity { slots: 2, memory_mb: 0 };
    let mut backend = LeaseBackend::new(bench.queue.clone(), bench.worker.clone(), capacity);
    let (context, drain) = (WorkerContext::new("w1"), backend.drain_handle());
    let running = bench.submit("a").await;
    let held = std::future::poll_fn(|cx| backend.poll_next(cx, &context)).await.unwrap().unwrap();
    let nothing = async |backend: &mut LeaseBackend| {
        let asked = std::future::poll_fn(|cx| backend.poll_next(cx, &context));
        tokio::time::timeout(Duration::from_millis(300), asked).await.is_err()
    };
    assert!(nothing(&mut backend).await, "there is no other yet");
    let late = bench.submit("b").await;
    let _paused: String = bench.command(&["CLIENT", "PAUSE", "1000", "ALL"]).await;
    assert!(nothing(&mut backend).await, "the claim for the other slot is on its way");
    // Nobody asks what came of it.
    let draining = tokio::spawn(drain.drain(Duration::from_mins(1)));
    let (claims, other) = (async || bench.claims(1).await, Instant::now());
    let mut taken = claims().await;
    while taken.is_empty() {
        assert!(other.elapsed() < Duration::from_secs(8), "sooner than its lease ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
        taken = claims().await;
    }
    assert_eq!((taken.len(), key_of(&taken[0]).as_str()), (1, "b"));
    assert_eq!((bench.counter("interruptions").await, bench.counter("stalls").await), (1, 0));
    assert_eq!((bench.state(running).await, bench.state(late).await), (JobState::Running, JobState::Running));
    assert!(!draining.is_finished(), "it waits for what it computes");
    bench.finish(&held.args.claim, &success("a")).await;
}

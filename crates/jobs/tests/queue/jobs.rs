//! The way of a job: submit, claim, finish, cancel, retry; and the runs that jobs share.
use std::{collections::HashMap, time::Duration};

use jobs::{
    Accepted, CacheMode, ErrorCode, Events, Fence, Finish, Idempotency, JobError, JobId, JobState, Outcome,
    Priority, Progress, QueueError, Stop, Submission, TenantId, blobs::BlobId, private_redis::PrivateRedis,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, failure, key_of, success};

#[tokio::test]
async fn a_job_goes_from_submit_to_result_and_the_second_call_is_a_cache_hit() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let view = bench.queue.get(job, &bench.tenant).await.unwrap();
    assert_eq!((view.state, view.queue_position, view.cached), (JobState::Queued, Some(0), false));
    assert_eq!(view.request.get(), r#"{"of":"a"}"#);

    let claim = bench.claim().await;
    assert_eq!((claim.attempt, claim.plan.as_str()), (1, r#"{"plan":"a"}"#));
    assert_eq!(bench.state(job).await, JobState::Running);
    let progress = Progress { fraction: 0.5, message: "half".into(), eta_s: Some(1.0) };
    assert!(bench.queue.progress(claim.run, claim.fence, &progress).await.unwrap());
    assert_eq!(bench.queue.get(job, &bench.tenant).await.unwrap().progress, Some(progress));

    assert_eq!(bench.queue.finish(&claim, &success("a")).await.unwrap(), Finish::Accepted);
    // Handed in again because the answer was lost: accepted, and not counted as late.
    assert_eq!(bench.queue.finish(&claim, &success("a")).await.unwrap(), Finish::Accepted);
    assert_eq!(bench.counter("late_results").await, 0);
    let view = bench.queue.get(job, &bench.tenant).await.unwrap();
    assert_eq!((view.state, view.result.as_deref()), (JobState::Succeeded, Some("a")));
    assert_eq!(view.summary.unwrap().get(), r#"{"total":3}"#);
    assert!(view.started_ms.unwrap() <= view.finished_ms.unwrap());
    assert_eq!(bench.queue.receipt("a").await.unwrap().unwrap().blob, BlobId::of(b"a"));

    let (again, accepted) = bench.queue.submit(&bench.submission("a")).await.unwrap();
    let view = bench.queue.get(again, &bench.tenant).await.unwrap();
    assert_ne!(again, job);
    assert_eq!((accepted, view.state, view.cached), (Accepted::Cached, JobState::Succeeded, true));
    bench.nothing_to_claim().await;
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn equal_keys_in_flight_are_one_run_and_cancelling_one_job_leaves_the_others() {
    let bench = Bench::new().await;
    let mine = bench.submit("a").await;
    assert_eq!(bench.submit_from("default", "a").await, (mine, Accepted::Repeated));
    let (theirs, accepted) = bench.submit_from("other", "a").await;
    assert_eq!(accepted, Accepted::Joined);
    // With other limits it is another call, but the same run.
    let longer = Submission { plan: r#"{"plan":"a","limits":2}"#.into(), ..bench.submission("a") };
    let (patient, accepted) = bench.queue.submit(&longer).await.unwrap();
    assert_eq!(accepted, Accepted::Joined);
    // However many wait, each call has its own job.
    assert_eq!(bench.submit_from("default", "a").await, (mine, Accepted::Repeated));
    assert_eq!(bench.submit_from("other", "a").await, (theirs, Accepted::Repeated));
    assert_eq!(bench.queue.submit(&longer).await.unwrap(), (patient, Accepted::Repeated));

    let claim = bench.claim().await;
    bench.nothing_to_claim().await;
    assert_eq!(bench.queue.cancel(mine, &bench.tenant).await.unwrap(), JobState::Running);
    assert_eq!(bench.state(mine).await, JobState::Cancelled);
    assert_eq!(bench.queue.renew(&[(claim.run, claim.fence)]).await.unwrap(), []);
    bench.queue.finish(&claim, &success("a")).await.unwrap();
    assert_eq!(bench.state(mine).await, JobState::Cancelled);
    let view = bench.queue.get(theirs, &TenantId::new("other")).await.unwrap();
    assert_eq!(view.state, JobState::Succeeded);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn an_idempotency_key_answers_its_first_job_and_refuses_another_call() {
    let bench = Bench::new().await;
    let with_key = |key: &str, fingerprint: &str| Submission {
        idempotency: Some(Idempotency { key: key.into(), fingerprint: fingerprint.into() }),
        ..bench.with("a", |treatment| treatment.cache = CacheMode::Off)
    };
    let (first, accepted) = bench.queue.submit(&with_key("k", "x")).await.unwrap();
    assert_eq!(accepted, Accepted::Queued);
    assert_eq!(bench.queue.submit(&with_key("k", "x")).await.unwrap(), (first, Accepted::Repeated));
    assert!(matches!(
        bench.queue.submit(&with_key("k", "y")).await,
        Err(QueueError::IdempotencyConflict(job)) if job == first.to_string()
    ));
    // Also when the job has ended, and without the cache; but not for another tenant.
    bench.queue.cancel(first, &bench.tenant).await.unwrap();
    assert_eq!(bench.queue.submit(&with_key("k", "x")).await.unwrap(), (first, Accepted::Repeated));
    let other = Submission { tenant: TenantId::new("other"), ..with_key("k", "x") };
    assert_eq!(bench.queue.submit(&other).await.unwrap().1, Accepted::Queued);
    assert_eq!(bench.counter("submitted").await, 2);
}

#[tokio::test]
async fn a_tenant_does_not_see_or_cancel_another_tenants_job() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let stranger = TenantId::new("stranger");
    assert!(matches!(bench.queue.get(job, &stranger).await, Err(QueueError::JobNotFound)));
    assert!(matches!(bench.queue.cancel(job, &stranger).await, Err(QueueError::JobNotFound)));
    assert!(matches!(bench.queue.get(JobId::generate(), &bench.tenant).await, Err(QueueError::JobNotFound)));
    assert_eq!(bench.state(job).await, JobState::Queued);
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_a_running_one_through_the_next_renewal() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    assert_eq!(bench.queue.cancel(job, &bench.tenant).await.unwrap(), JobState::Queued);
    assert_eq!(bench.state(job).await, JobState::Cancelled);
    assert_eq!(bench.queue.cancel(job, &bench.tenant).await.unwrap(), JobState::Cancelled);
    bench.nothing_to_claim().await;

    let job = bench.submit("a").await;
    let claim = bench.claim().await;
    bench.queue.cancel(job, &bench.tenant).await.unwrap();
    // Who asks now must not join a run that is being stopped.
    let next = bench.submit("a").await;
    assert_eq!(bench.queue.renew(&[(claim.run, claim.fence)]).await.unwrap(), [(claim.run, Stop::Cancelled)]);
    assert_eq!(bench.queue.finish(&claim, &Outcome::Cancelled).await.unwrap(), Finish::Accepted);
    assert_eq!((bench.state(job).await, bench.state(next).await), (JobState::Cancelled, JobState::Queued));
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &success("a")).await.unwrap();
    assert_eq!(bench.state(next).await, JobState::Succeeded);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_permanent_failure_ends_the_job_and_a_retryable_one_is_tried_again_up_to_the_limit() {
    let bench = Bench::new().await;
    let job = bench.submit("permanent").await;
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &Outcome::Failed(failure())).await.unwrap();
    let view = bench.queue.get(job, &bench.tenant).await.unwrap();
    assert_eq!((view.state, view.error), (JobState::Failed, Some(failure())));

    let job = bench.submit("retryable").await;
    for attempt in 1..=3 {
        let claim = bench.claim().await;
        assert_eq!(claim.attempt, attempt);
        let finish = bench.queue.finish(&claim, &Outcome::Failed(failure().retryable())).await.unwrap();
        assert_eq!(finish, if attempt < 3 { Finish::Retry } else { Finish::Accepted });
        if attempt < 3 {
            assert_eq!(bench.state(job).await, JobState::Scheduled);
            let _added: u64 =
                bench.command(&["ZADD", &bench.key("delayed"), "1", &claim.run.to_string()]).await;
            bench.reap().await;
        }
    }
    assert_eq!(bench.state(job).await, JobState::Dead);
    // A failure is not cached: the next call runs again.
    bench.submit("retryable").await;
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &success("retryable")).await.unwrap();
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn the_more_urgent_goes_first_and_within_a_priority_the_older() {
    let bench = Bench::new().await;
    let order = [
        ("batch", Priority::Batch),
        ("n1", Priority::Normal),
        ("now", Priority::Interactive),
        ("n2", Priority::Normal),
    ];
    for (key, priority) in order {
        bench.queue.submit(&bench.with(key, |treatment| treatment.priority = priority)).await.unwrap();
    }
    // Somebody who waits joins the batch job's run: it becomes urgent.
    let urgent = Submission {
        tenant: TenantId::new("other"),
        ..bench.with("batch", |treatment| treatment.priority = Priority::Interactive)
    };
    assert_eq!(bench.queue.submit(&urgent).await.unwrap().1, Accepted::Joined);
    let order: Vec<_> = bench.claims(10).await.iter().map(key_of).collect();
    let place = |key: &str| order.iter().position(|claimed| claimed == key).unwrap();
    assert_eq!(place("now"), 0);
    assert!(place("batch") < place("n2") && place("n1") < place("n2"), "{order:?}");
}

#[tokio::test]
async fn refresh_computes_again_and_off_shares_nothing() {
    let bench = Bench::new().await;
    let refresh = bench.with("a", |treatment| treatment.cache = CacheMode::Refresh);
    let off = bench.with("a", |treatment| treatment.cache = CacheMode::Off);
    bench.submit("a").await;
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &success("a")).await.unwrap();

    assert_eq!(bench.queue.submit(&refresh).await.unwrap().1, Accepted::Queued);
    let (private, accepted) = bench.queue.submit(&off).await.unwrap();
    assert_eq!(accepted, Accepted::Queued);
    let other = Submission { tenant: TenantId::new("other"), ..off.clone() };
    assert_eq!(bench.queue.submit(&other).await.unwrap().1, Accepted::Queued, "not even with the same call");
    let claims = bench.claims(10).await;
    assert_eq!(claims.len(), 3);
    let run = bench.view(private).await.run.unwrap();
    let claim = claims.iter().find(|claim| claim.run == run).unwrap();
    bench.finish(claim, &success("own")).await;
    assert_eq!(bench.queue.get(private, &bench.tenant).await.unwrap().result.as_deref(), Some("own"));
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_accepted_once() {
    let bench = Bench::alone().await;
    // Every connection is cut while calls go on: each call is made again under the same id.
    let cut = async {
        for _ in 0..50 {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
            kill.exec_async(&mut bench.redis().await).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let submit = async {
        let mut accepted = Vec::new();
        for n in 0..400 {
            if let Ok((job, _)) = bench.queue.submit(&bench.submission(&n.to_string())).await {
                accepted.push(job);
            }
        }
        accepted
    };
    let ((), accepted) = tokio::join!(cut, submit);
    assert!(!accepted.is_empty());
    // The last cut may be noticed only now.
    while bench.queue.redis().ping().await.is_err() {}
    for job in &accepted {
        assert_eq!(bench.state(*job).await, JobState::Queued);
    }
    let submitted = usize::try_from(bench.counter("submitted").await).unwrap();
    assert!((accepted.len()..=400).contains(&submitted), "{submitted} accepted {}", accepted.len());
}

#[tokio::test]
async fn ten_thousand_waiters_of_one_run_are_settled_in_chunks_and_many_leases_end_at_once() {
    let bench = Bench::new().await;
    let mut waiting = HashMap::new();
    for n in 0..10_000 {
        let tenant = format!("tenant-{n}");
        waiting.insert(tenant.clone(), bench.submit_from(&tenant, "shared").await.0);
    }
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &success("shared")).await.unwrap();
    for (tenant, job) in waiting {
        assert_eq!(bench.queue.get(job, &TenantId::new(tenant)).await.unwrap().state, JobState::Succeeded);
    }
    assert_eq!(bench.counter("coalesced").await, 9_999);

    for n in 0..9_000 {
        bench.submit(&format!("own-{n}")).await;
    }
    let claims = bench.claims(9_000).await;
    assert_eq!(claims.len(), 9_000);
    let held: Vec<_> = claims.iter().map(|claim| (claim.run, claim.fence)).collect();
    assert!(bench.queue.renew(&held).await.unwrap().is_empty());
    let stolen: Vec<_> = claims.iter().map(|claim| (claim.run, Fence::generate())).collect();
    assert_eq!(bench.queue.renew(&stolen).await.unwrap().len(), 9_000);
    bench.end_all_leases().await;
    assert_eq!(bench.reap().await.lost.len(), 9_000);
    assert_eq!(bench.queue.depth().await.unwrap().ready, 9_000);
}

#[tokio::test]
async fn waiting_ends_with_the_job_or_with_the_limit_and_reports_what_happens() {
    let bench = Bench::new().await;
    let stop = CancellationToken::new();
    let events = Events::follow(bench.queue.clone(), stop.clone());
    let job = bench.submit("a").await;
    let waited = events.wait(job, &bench.tenant, Duration::from_millis(50), |_| {}).await.unwrap();
    assert_eq!(waited.state, JobState::Queued);

    let mut seen = Vec::new();
    let wait = events.wait(job, &bench.tenant, Duration::from_mins(1), |view| seen.push(view.state));
    let work = async {
        let claim = bench.claim().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.queue.finish(&claim, &success("a")).await.unwrap();
    };
    let (waited, ()) = tokio::join!(wait, work);
    assert_eq!(waited.unwrap().state, JobState::Succeeded);
    assert!(seen.contains(&JobState::Running), "{seen:?}");
    stop.cancel();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_restart_of_redis() {
    let mut bench = Bench::alone().await;
    let job = bench.submit("a").await;
    bench.server.stop().await;
    assert!(matches!(bench.queue.get(job, &bench.tenant).await, Err(QueueError::Unavailable(_))));
    bench.server.start().await;
    assert_eq!(bench.state(job).await, JobState::Queued);
}

#[tokio::test]
async fn the_private_redis_says_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("appendonlydir")).unwrap();
    std::fs::write(folder.path().join("appendonlydir/appendonly.aof.manifest"), "not a manifest").unwrap();
    match PrivateRedis::start(folder.path()).await {
        Err(error) => assert!(error.to_string().contains("manifest"), "{error}"),
        Ok(_) => panic!("it started on a damaged file"),
    }
}

#[tokio::test]
async fn a_delayed_job_starts_at_its_time_unless_somebody_wants_it_now() {
    let bench = Bench::new().await;
    let in_a_second = Some(bench.now_ms().await + 1_000);
    let later = Submission { start_at_ms: in_a_second, ..bench.submission("a") };
    let (job, _) = bench.queue.submit(&later).await.unwrap();
    assert_eq!(bench.state(job).await, JobState::Scheduled);
    bench.reap().await;
    bench.nothing_to_claim().await;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    bench.reap().await;
    let claim = bench.claim().await;
    bench.finish(&claim, &success("a")).await;
    assert_eq!(bench.state(job).await, JobState::Succeeded);

    let tomorrow = Some(bench.now_ms().await + 86_400_000);
    let (delayed, _) =
        bench.queue.submit(&Submission { start_at_ms: tomorrow, ..bench.submission("b") }).await.unwrap();
    let (now, accepted) = bench.submit_from("other", "b").await;
    assert_eq!((accepted, bench.state(delayed).await), (Accepted::Joined, JobState::Queued));
    let claim = bench.claim().await;
    bench.finish(&claim, &success("b")).await;
    assert_eq!(bench.queue.get(now, &TenantId::new("other")).await.unwrap().state, JobState::Succeeded);

    let (delayed, _) =
        bench.queue.submit(&Submission { start_at_ms: tomorrow, ..bench.submission("c") }).await.unwrap();
    assert_eq!(bench.queue.cancel(delayed, &bench.tenant).await.unwrap(), JobState::Scheduled);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_job_that_does_not_start_before_its_deadline_expires_and_one_that_has_started_goes_on() {
    let bench = Bench::new().await;
    let soon = Some(bench.now_ms().await + 500);
    let hurried = |key: &str| Submission { deadline_ms: soon, ..bench.submission(key) };
    let (started, _) = bench.queue.submit(&hurried("started")).await.unwrap();
    let claim = bench.claim().await;
    let (late, _) = bench.queue.submit(&hurried("late")).await.unwrap();
    let (shared, _) = bench.queue.submit(&hurried("shared")).await.unwrap();
    let (patient, _) = bench.submit_from("other", "shared").await;
    tokio::time::sleep(Duration::from_millis(550)).await;
    bench.reap().await;
    assert_eq!(bench.state(late).await, JobState::Expired);
    assert_eq!(bench.state(shared).await, JobState::Expired);
    assert_eq!(bench.state(started).await, JobState::Running);
    bench.finish(&claim, &success("started")).await;
    let claim = bench.claim().await;
    bench.finish(&claim, &success("shared")).await;
    assert_eq!(bench.queue.get(patient, &TenantId::new("other")).await.unwrap().state, JobState::Succeeded);
    bench.nothing_to_claim().await;
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn jobs_that_share_a_run_get_the_longest_time_and_the_most_attempts() {
    let bench = Bench::new().await;
    let with = |tenant: &str, timeout_s, max_attempts, plan: &str| {
        let mut submission = bench
            .with("a", |treatment| (treatment.timeout_s, treatment.max_attempts) = (timeout_s, max_attempts));
        (submission.tenant, submission.plan) = (TenantId::new(tenant), plan.into());
        submission
    };
    let (short, _) = bench.queue.submit(&with("short", 1, 1, "1 s")).await.unwrap();
    let first = bench.claim().await;
    let (long, accepted) = bench.queue.submit(&with("long", 60, 2, "60 s")).await.unwrap();
    assert_eq!((accepted, first.plan.as_str()), (Accepted::Joined, "1 s"));
    let timed_out = || Outcome::Failed(JobError::new(ErrorCode::Timeout, "too slow"));
    // The run had the short job's second; now it gets the long one's minute, at no attempt's cost.
    assert_eq!(bench.queue.finish(&first, &timed_out()).await.unwrap(), Finish::Retry);
    let second = bench.claim().await;
    assert_eq!((second.plan.as_str(), second.attempt), ("60 s", 1));
    bench.queue.finish(&second, &Outcome::Failed(failure().retryable())).await.unwrap();
    let _due: u64 = bench.command(&["ZADD", &bench.key("delayed"), "1", &second.run.to_string()]).await;
    bench.reap().await;
    let third = bench.claim().await;
    assert_eq!(third.attempt, 2);
    assert_eq!(bench.queue.finish(&third, &timed_out()).await.unwrap(), Finish::Accepted);
    for (job, tenant) in [(short, "short"), (long, "long")] {
        let view = bench.queue.get(job, &TenantId::new(tenant)).await.unwrap();
        assert_eq!((view.state, view.error.unwrap().code), (JobState::Failed, ErrorCode::Timeout));
    }
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_long_stands_apart_from_the_records_and_goes_with_them() {
    let bench = Bench::new().await;
    let long = |what: &str| format!("{{\"of\":\"{what}\",\"filling\":\"{}\"}}", "x".repeat(100_000));
    let of = |tenant: &str, key: &str, plan: String, timeout_s| {
        let mut submission = bench.with(key, |treatment| treatment.timeout_s = timeout_s);
        (submission.tenant, submission.request, submission.plan) = (TenantId::new(tenant), long(key), plan);
        submission
    };
    let submit = async |submission: Submission| bench.queue.submit(&submission).await.unwrap();
    let apart = async |kind: &str| -> usize {
        bench.command::<Vec<String>>(&["KEYS", &bench.key(&format!("{kind}:*"))]).await.len()
    };

    // Handed back, joined by one with another plan, computed in two steps with a short plan in between.
    let (first, _) = submit(of("a", "k", long("plan of a"), 10)).await;
    let claim = bench.claim().await;
    assert_eq!((claim.plan.as_str(), claim.request.as_str()), (&*long("plan of a"), &*long("k")));
    bench.queue.release(&claim).await.unwrap();
    let (second, accepted) = submit(of("b", "k", long("plan of b"), 20)).await;
    assert_eq!((accepted, apart("plan").await, apart("request").await), (Accepted::Joined, 1, 2));
    let claim = bench.claim().await;
    assert_eq!((claim.plan.as_str(), claim.request.as_str()), (&*long("plan of b"), &*long("k")));
    let batch = bench.submit_batch(&bench.batch(["child".to_owned()])).await;
    bench.queue.finish(&claim, &Outcome::Awaits { batch, plan: "short".into() }).await.unwrap();
    let child = bench.claim().await;
    bench.finish(&child, &success("child")).await;
    let claim = bench.claim().await;
    assert_eq!((claim.plan.as_str(), claim.request.as_str()), ("short", &*long("k")));
    bench.finish(&claim, &success("k")).await;
    for (job, tenant) in [(first, "a"), (second, "b")] {
        let view = bench.queue.get(job, &TenantId::new(tenant)).await.unwrap();
        assert_eq!((view.state, view.request.get()), (JobState::Succeeded, &*long("k")));
        let left_s: i64 = bench.command(&["TTL", &bench.key(&format!("request:{job}"))]).await;
        assert!(left_s > 0, "the request of a job that has ended is kept for ever");
    }

    // Cancelled while it waits, and as a child.
    let (job, _) = submit(of("a", "cancelled", long("plan"), 10)).await;
    bench.queue.cancel(job, &TenantId::new("a")).await.unwrap();
    let mut children = bench.batch(["long-child".to_owned()]);
    children.children[0].request = long("long-child");
    children.request = long("grid");
    let batch = bench.submit_batch(&children).await;
    assert_eq!(bench.view(batch).await.request.get(), long("grid"));
    let child = bench.claim().await;
    assert_eq!((child.plan.as_str(), child.request.as_str()), (r#"{"plan":"shared"}"#, &*long("long-child")));
    assert_eq!(apart("plan").await, 1);
    bench.finish(&child, &success("long-child")).await;
    assert_eq!((apart("plan").await, bench.state(batch).await), (0, JobState::Succeeded));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_summary_with_line_breaks_is_the_same_json() {
    let bench = Bench::new().await;
    let job = bench.submit("k").await;
    let Outcome::Succeeded(mut result) = success("k") else { unreachable!() };
    result.summary = "{\n  \"total\": 3,\r\n  \"text\": \"a\\nb\"\n}".into();
    bench.finish(&bench.claim().await, &Outcome::Succeeded(result)).await;
    let expected = serde_json::json!({ "total": 3, "text": "a\nb" });
    for job in [job, bench.queue.submit(&bench.submission("k")).await.unwrap().0] {
        let summary = bench.view(job).await.summary.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(summary.get()).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_run_is_claimed_once_though_it_stands_under_every_tenant_that_waits_and_goes_on_without_the_first()
{
    let bench = Bench::new().await;
    let (first, _) = bench.submit_from("a", "k").await;
    for n in 0..30 {
        assert_eq!(bench.submit_from(&format!("b{n}"), "k").await.1, Accepted::Joined);
    }
    bench.queue.cancel(first, &TenantId::new("a")).await.unwrap();
    let claim = bench.claim().await;
    bench.nothing_to_claim().await;
    bench.end_all_leases().await;
    bench.reap().await;
    let again = bench.claim().await;
    assert_eq!(again.run, claim.run);
    bench.nothing_to_claim().await;
    bench.finish(&again, &success("k")).await;
    for n in 0..30 {
        let found = bench
            .queue
            .list(&TenantId::new(format!("b{n}")), &jobs::Filter::default(), None, 5)
            .await
            .unwrap();
        assert_eq!(found.jobs[0].state, JobState::Succeeded);
    }
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn the_end_of_a_job_with_a_webhook_and_its_outbox_entry_are_one() {
    let bench = Bench::new().await;
    let hooked = bench.with("a", |treatment| treatment.webhook = Some("hook".into()));
    let (job, _) = bench.queue.submit(&hooked).await.unwrap();
    bench.submit("b").await;
    for claim in bench.claims(2).await {
        bench.finish(&claim, &success(&key_of(&claim))).await;
    }
    // Answered by the cache, it fires too.
    let (cached, _) = bench.queue.submit(&hooked).await.unwrap();
    let outbox: redis::streams::StreamRangeReply =
        bench.command(&["XRANGE", &bench.key("outbox"), "-", "+"]).await;
    let entries: Vec<_> = outbox
        .ids
        .iter()
        .map(|entry| (entry.get::<String>("job").unwrap(), entry.get::<String>("event").unwrap()))
        .collect();
    let expected = |job: JobId| (job.to_string(), "job.succeeded".to_owned());
    assert_eq!(entries, [expected(job), expected(cached)]);
}

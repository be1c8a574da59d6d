//! The scripts on a real Redis.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod connections;
mod support;

use std::{collections::HashMap, time::Duration};

use jobs::{
    Accepted, CacheKey, CacheMode, Claim, ErrorCode, Events, Fence, Finish, Idempotency, JobError, JobId,
    JobState, Kind, Outcome, Priority, Progress, Queue, QueueError, Receipt, Redis, Retention, Stop,
    StoredResult, Submission, TenantId, WorkerId, blobs::BlobId, private_redis::PrivateRedis,
};
use serde_json::value::RawValue;
use support::TestRedis;
use tokio_util::sync::CancellationToken;

struct Bench {
    queue: Queue,
    worker: WorkerId,
    tenant: TenantId,
    server: TestRedis,
}

impl Bench {
    async fn new() -> Self {
        Self::on(TestRedis::shared().await)
    }

    fn on(server: TestRedis) -> Self {
        let redis = Redis::open(server.url(), server.name(), 8).unwrap();
        let queue = Queue::new(redis, Retention::default());
        Self { queue, worker: WorkerId::new("w1"), tenant: TenantId::default_tenant(), server }
    }

    fn submission(&self, key: &str) -> Submission {
        Submission {
            tenant: self.tenant.clone(),
            kind: Kind::Backtest,
            priority: Priority::Normal,
            cache: CacheMode::Use,
            cache_key: CacheKey::new(key),
            request: format!(r#"{{"of":"{key}"}}"#),
            plan: format!(r#"{{"plan":"{key}"}}"#),
            max_attempts: 3,
            idempotency: None,
        }
    }

    async fn submit(&self, key: &str) -> JobId {
        let (job, accepted) = self.queue.submit(&self.submission(key)).await.unwrap();
        assert_eq!(accepted, Accepted::Queued);
        job
    }

    /// The same call by somebody else.
    async fn submit_from(&self, tenant: &str, key: &str) -> (JobId, Accepted) {
        let submission = Submission { tenant: TenantId::new(tenant), ..self.submission(key) };
        self.queue.submit(&submission).await.unwrap()
    }

    async fn claim(&self) -> Claim {
        self.queue.claim(&self.worker, 1).await.unwrap().pop().unwrap()
    }

    async fn nothing_to_claim(&self) {
        assert!(self.queue.claim(&self.worker, 1).await.unwrap().is_empty());
    }

    async fn state(&self, job: JobId) -> JobState {
        self.queue.get(job, &self.tenant).await.unwrap().state
    }

    async fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.server.raw().await
    }

    /// Makes every lease look as if it had ended, which would take ten seconds of waiting.
    async fn end_all_leases(&self) {
        let mut redis = self.redis().await;
        let leases = self.server.key("leases");
        let held: Vec<String> =
            redis::cmd("ZRANGE").arg(&leases).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
        for run in held {
            redis::cmd("ZADD").arg(&leases).arg(1).arg(run).exec_async(&mut redis).await.unwrap();
        }
    }

    async fn counter(&self, name: &str) -> u64 {
        self.queue.counters().await.unwrap().get(name).copied().unwrap_or(0)
    }

    /// Nothing that was needed for the way of a job may be left when all jobs have ended.
    async fn assert_nothing_left(&self) {
        let mut keys = self.server.keys().await;
        let kept = ["job:", "run:", "result:", "stops:", "events", "stats", "seq", "wake"];
        keys.retain(|key| !kept.iter().any(|kept| key.starts_with(kept)));
        assert!(keys.is_empty(), "left in Redis: {keys:?}");
    }
}

fn success(id: &str) -> Outcome {
    Outcome::Succeeded(StoredResult {
        id: id.into(),
        summary: r#"{"total":3}"#.into(),
        receipt: Receipt {
            blob: BlobId::of(id.as_bytes()),
            bytes: 12,
            provenance: RawValue::from_string("{}".into()).unwrap(),
        },
    })
}

fn failure() -> JobError {
    JobError::new(ErrorCode::EngineCrashed, "it fell over")
}

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
    assert_eq!(bench.queue.submit(&longer).await.unwrap().1, Accepted::Joined);

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
        cache: CacheMode::Off,
        ..bench.submission("a")
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
async fn a_lost_lease_puts_the_run_back_and_the_late_result_is_refused_and_counted() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let late = bench.claim().await;
    assert!(bench.queue.reap().await.unwrap().lost.is_empty(), "a live lease is left alone");
    bench.end_all_leases().await;
    let reaped = bench.queue.reap().await.unwrap();
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
        bench.queue.reap().await.unwrap();
    }
    bench.nothing_to_claim().await;
    let view = bench.queue.get(job, &bench.tenant).await.unwrap();
    assert_eq!((view.state, view.error.unwrap().code), (JobState::Dead, ErrorCode::WorkerLost));
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
            let mut redis = bench.redis().await;
            redis::cmd("ZADD")
                .arg(bench.server.key("delayed"))
                .arg(1)
                .arg(claim.run.to_string())
                .exec_async(&mut redis)
                .await
                .unwrap();
            bench.queue.reap().await.unwrap();
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
async fn the_more_urgent_goes_first_and_within_a_priority_the_older() {
    let bench = Bench::new().await;
    let order = [
        ("batch", Priority::Batch),
        ("n1", Priority::Normal),
        ("now", Priority::Interactive),
        ("n2", Priority::Normal),
    ];
    for (key, priority) in order {
        bench.queue.submit(&Submission { priority, ..bench.submission(key) }).await.unwrap();
    }
    // Somebody who waits joins the batch job's run: it becomes urgent.
    let urgent = Submission {
        tenant: TenantId::new("other"),
        priority: Priority::Interactive,
        ..bench.submission("batch")
    };
    assert_eq!(bench.queue.submit(&urgent).await.unwrap().1, Accepted::Joined);
    let claims = bench.queue.claim(&bench.worker, 10).await.unwrap();
    let plans: Vec<_> = claims.iter().map(|claim| claim.plan.as_str()).collect();
    let expected = ["batch", "now", "n1", "n2"].map(|key| format!(r#"{{"plan":"{key}"}}"#));
    assert_eq!(plans, expected);
}

#[tokio::test]
async fn refresh_computes_again_and_off_shares_nothing() {
    let bench = Bench::new().await;
    let refresh = Submission { cache: CacheMode::Refresh, ..bench.submission("a") };
    let off = Submission { cache: CacheMode::Off, ..bench.submission("a") };
    bench.submit("a").await;
    let claim = bench.claim().await;
    bench.queue.finish(&claim, &success("a")).await.unwrap();

    assert_eq!(bench.queue.submit(&refresh).await.unwrap().1, Accepted::Queued);
    let (private, accepted) = bench.queue.submit(&off).await.unwrap();
    assert_eq!(accepted, Accepted::Queued);
    let other = Submission { tenant: TenantId::new("other"), ..off.clone() };
    assert_eq!(bench.queue.submit(&other).await.unwrap().1, Accepted::Queued, "not even with the same call");
    let claims = bench.queue.claim(&bench.worker, 10).await.unwrap();
    assert_eq!(claims.len(), 3);
    bench.queue.finish(&claims[1], &success("own")).await.unwrap();
    assert_eq!(bench.queue.get(private, &bench.tenant).await.unwrap().result.as_deref(), Some("own"));
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_accepted_once() {
    let bench = Bench::on(TestRedis::own().await);
    let mut redis = bench.redis().await;
    // Every connection of the pool is cut while calls go on: each call is made again under the same id.
    let cut = async {
        for _ in 0..50 {
            let _killed: i64 = redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg("normal")
                .query_async(&mut redis)
                .await
                .unwrap_or(0);
            redis = bench.redis().await;
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
    let claims = bench.queue.claim(&bench.worker, 9_000).await.unwrap();
    assert_eq!(claims.len(), 9_000);
    let held: Vec<_> = claims.iter().map(|claim| (claim.run, claim.fence)).collect();
    assert!(bench.queue.renew(&held).await.unwrap().is_empty());
    let stolen: Vec<_> = claims.iter().map(|claim| (claim.run, Fence::generate())).collect();
    assert_eq!(bench.queue.renew(&stolen).await.unwrap().len(), 9_000);
    bench.end_all_leases().await;
    let mut rounds = 0;
    while !bench.queue.reap().await.unwrap().lost.is_empty() {
        rounds += 1;
    }
    assert_eq!(rounds, 90, "a bounded number in each round");
    assert_eq!(bench.queue.depth().await.unwrap().ready, 9_000);
}

#[tokio::test]
async fn the_reconciler_settles_what_a_worker_left_behind_after_its_finish() {
    let bench = Bench::new().await;
    let job = bench.submit("a").await;
    let claim = bench.claim().await;
    // A worker that dies between `finish` and `settle`: only the first script runs.
    let mut redis = bench.redis().await;
    let finish = redis::Script::new(&format!(
        "local ALLOWED = {{}}\n{}\n{}",
        include_str!("../src/scripts/common.lua"),
        include_str!("../src/scripts/finish.lua")
    ));
    let answer: String = finish
        .key(bench.server.key("ready"))
        .arg(format!("{{{}}}", bench.server.name()))
        .arg(claim.run.to_string())
        .arg(claim.fence.to_string())
        .arg("succeeded")
        .arg("a")
        .arg("{}")
        .arg("{}")
        .arg(60)
        .invoke_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(answer, "accepted");
    assert_eq!(bench.state(job).await, JobState::Running);
    assert_eq!(bench.queue.reap().await.unwrap().unsettled, [claim.run]);
    assert_eq!(bench.state(job).await, JobState::Succeeded);
    bench.assert_nothing_left().await;
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
    let mut bench = Bench::on(TestRedis::own().await);
    let job = bench.submit("a").await;
    bench.server.stop().await;
    assert!(matches!(bench.queue.get(job, &bench.tenant).await, Err(QueueError::Unavailable(_))));
    bench.server.start().await;
    assert_eq!(bench.queue.get(job, &bench.tenant).await.unwrap().state, JobState::Queued);
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

//! Webhooks on a real Redis: who gets what, leases, the schedule, and that receivers are out of each other's way.

use std::{collections::BTreeSet, time::Duration};

use jobs::{
    JobId, Kind, Outcome, TenantId,
    webhooks::{
        Attempt, AttemptOutcome, ClaimedDelivery, DeliveryState, DisablePolicy, Endpoint, EndpointChange,
        EndpointId, EventType, NewEndpoint, Resend, WebhookError, Webhooks,
    },
};

use crate::support::{Bench, failure, success};

const LEASE: Duration = Duration::from_secs(30);
const POLICY: DisablePolicy = DisablePolicy { failing_for: Duration::from_hours(120), failures: 3 };
const RETRY: AttemptOutcome = AttemptOutcome::Retry { after: Duration::from_hours(1), hold: Duration::ZERO };

impl Bench {
    fn webhooks(&self) -> Webhooks {
        Webhooks::new(self.queue.clone())
    }

    async fn endpoint(&self, new: NewEndpoint) -> Endpoint {
        self.webhooks().create(&self.tenant, &new).await.unwrap().0
    }

    /// A job that has succeeded, or with an error that has failed.
    async fn ended(&self, key: &str, fails: bool) -> JobId {
        let mut submission = self.submission(key);
        submission.treatment.max_attempts = 1;
        let (job, _) = self.queue.submit(&submission).await.unwrap();
        let claim = self.claim().await;
        let outcome = if fails { Outcome::Failed(failure()) } else { success(key) };
        self.finish(&claim, &outcome).await;
        job
    }

    async fn take(&self, most: u32) -> Vec<ClaimedDelivery> {
        self.webhooks().claim(most, LEASE).await.unwrap().deliveries
    }

    async fn handed_over(&self, most: u32) -> Vec<ClaimedDelivery> {
        self.webhooks().hand_over().await.unwrap();
        self.take(most).await
    }

    async fn report(&self, delivery: &ClaimedDelivery, outcome: AttemptOutcome) -> Option<bool> {
        self.webhooks().attempted(delivery, outcome, &attempt(), POLICY).await.unwrap()
    }

    /// Makes the times in a sorted set look as if they were long past.
    async fn let_pass(&self, set: &str) {
        let members: Vec<String> = self.command(&["ZRANGE", &self.key(set), "0", "-1"]).await;
        for member in members {
            let _added: i64 = self.command(&["ZADD", &self.key(set), "1", &member]).await;
        }
    }
}

fn attempt() -> Attempt {
    Attempt { at_ms: 1, took_ms: 2, status: Some(500), error: None, response: "no".into() }
}

fn to(url: &str) -> NewEndpoint {
    NewEndpoint { url: url.into(), ..NewEndpoint::default() }
}

#[tokio::test]
async fn every_receiver_that_wants_an_event_gets_it_and_no_other() {
    let bench = Bench::new().await;
    let webhooks = bench.webhooks();
    let all = bench.endpoint(to("https://all.example")).await;
    let failures = NewEndpoint { events: vec![EventType::JobFailed], ..to("https://failures.example") };
    let failures = bench.endpoint(failures).await;
    let off = bench.endpoint(to("https://off.example")).await;
    let disabled = EndpointChange { enabled: Some(false), ..EndpointChange::default() };
    webhooks.change(&bench.tenant, &off.id, &disabled).await.unwrap();
    webhooks.create(&TenantId::new("other"), &to("https://other.example")).await.unwrap();

    let good = bench.ended("good", false).await;
    let bad = bench.ended("bad", true).await;
    let mut hooked = bench.submission("hooked");
    hooked.treatment.webhook = Some("https://job.example/x?y=1".into());
    let (hooked, _) = bench.queue.submit(&hooked).await.unwrap();
    bench.queue.cancel(hooked, &bench.tenant).await.unwrap();
    let mut validation = bench.submission("v");
    validation.kind = Kind::StrategyValidate;
    let (validation, _) = bench.queue.submit(&validation).await.unwrap();
    bench.queue.cancel(validation, &bench.tenant).await.unwrap();

    let claimed = bench.handed_over(100).await;
    let seen = |delivery: &ClaimedDelivery| {
        (
            delivery.endpoint.to_string(),
            delivery.url.clone(),
            delivery.event.clone(),
            delivery.message.clone(),
        )
    };
    let found: BTreeSet<_> = claimed.iter().map(seen).collect();
    let expected = |id: &EndpointId, url: &str, event: &str, job: JobId| {
        (id.to_string(), url.to_owned(), event.to_owned(), job.to_string())
    };
    let of_jobs = EndpointId::of_jobs(&bench.tenant);
    let expected = BTreeSet::from([
        expected(&all.id, "https://all.example", "job.succeeded", good),
        expected(&all.id, "https://all.example", "job.failed", bad),
        expected(&failures.id, "https://failures.example", "job.failed", bad),
        expected(&all.id, "https://all.example", "job.cancelled", hooked),
        expected(&of_jobs, "https://job.example/x?y=1", "job.cancelled", hooked),
    ]);
    assert_eq!(found, expected);
    assert_eq!(claimed.len(), 5);
    // Nothing is there twice, and nothing is left in the outbox.
    assert!(bench.handed_over(100).await.is_empty());
    let left: i64 = bench.command(&["XLEN", &bench.key("outbox")]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_jobs_of_a_batch_are_told_of_only_where_that_is_wanted() {
    let bench = Bench::new().await;
    let end = bench.endpoint(to("https://end.example")).await;
    let each = bench.endpoint(NewEndpoint { batch_jobs: true, ..to("https://each.example") }).await;
    let mut batch = bench.batch(["a", "b", "c"].map(str::to_owned));
    batch.treatment.webhook = Some("https://batch.example".into());
    let id = bench.submit_batch(&batch).await;
    for claim in bench.claims(3).await {
        bench.finish(&claim, &success(&crate::support::key_of(&claim))).await;
    }
    let claimed = bench.handed_over(100).await;
    let of = |endpoint: &EndpointId| {
        let events = claimed.iter().filter(|delivery| delivery.endpoint == *endpoint);
        let mut events: Vec<_> = events.map(|delivery| delivery.event.as_str()).collect();
        events.sort_unstable();
        events
    };
    assert_eq!(of(&end.id), ["batch.completed"]);
    assert_eq!(of(&each.id), ["batch.completed", "job.succeeded", "job.succeeded", "job.succeeded"]);
    assert_eq!(of(&EndpointId::of_jobs(&bench.tenant)), ["batch.completed"]);
    assert!(
        claimed.iter().filter(|one| one.event == "batch.completed").all(|one| one.message == id.to_string())
    );
}

#[tokio::test]
async fn a_delivery_whose_worker_dies_is_another_s_when_the_lease_ends_and_the_late_report_is_refused() {
    let bench = Bench::new().await;
    let endpoint = bench.endpoint(to("https://a.example")).await;
    bench.ended("a", false).await;
    let [first] = &bench.handed_over(10).await[..] else { panic!("one delivery") };
    assert!(bench.take(10).await.is_empty(), "it is held");
    bench.let_pass(&format!("flying:{}", endpoint.id)).await;
    bench.let_pass("lanes").await;
    let [second] = &bench.take(10).await[..] else { panic!("one delivery") };
    assert_eq!(second.id, first.id);
    assert_eq!(bench.report(first, AttemptOutcome::Delivered).await, None);
    assert_eq!(bench.report(second, AttemptOutcome::Delivered).await, Some(false));
    assert_eq!(bench.report(second, AttemptOutcome::Delivered).await, None, "it has ended");
    let found = bench.webhooks().delivery(&bench.tenant, &endpoint.id, &second.id).await.unwrap();
    assert_eq!((found.state, found.attempts), (DeliveryState::Delivered, vec![attempt()]));
    assert_eq!(bench.counter("webhooks_lost").await, 1);
    assert_eq!(bench.counter("webhooks_delivered").await, 1);
    // One whose lease has ended, but that nobody took yet, may still say so.
    bench.ended("b", false).await;
    let [third] = &bench.handed_over(10).await[..] else { panic!("one delivery") };
    bench.let_pass(&format!("flying:{}", endpoint.id)).await;
    assert_eq!(bench.report(third, AttemptOutcome::Delivered).await, Some(false));
    bench.let_pass("lanes").await;
    assert!(bench.take(10).await.is_empty());
}

#[tokio::test]
async fn ten_thousand_events_of_a_dead_receiver_neither_delay_nor_evict_another_s() {
    let bench = Bench::new().await;
    let dead = bench.endpoint(to("https://dead.example")).await;
    let (webhooks, outbox) = (bench.webhooks(), bench.key("outbox"));
    let mut fill = redis::pipe();
    for number in 0..10_000 {
        let fields = ["event", "job.succeeded", "hook", "", "at", "1", "tenant", "default", "batch", ""];
        fill.cmd("XADD").arg(&outbox).arg("*").arg("job").arg(format!("job-{number}")).arg(&fields).ignore();
    }
    let () = fill.query_async(&mut bench.redis().await).await.unwrap();
    assert_eq!(webhooks.hand_over().await.unwrap(), 10_000);
    let pending = async |id: &EndpointId| webhooks.endpoint(&bench.tenant, id).await.unwrap().health.pending;
    assert_eq!(pending(&dead.id).await, 10_000);

    // As many at once as a lane is wide; after failures one at a time.
    let taken = bench.take(100).await;
    assert_eq!(taken.len(), 10);
    for delivery in &taken {
        bench.report(delivery, RETRY).await;
    }
    let one = bench.take(100).await;
    assert_eq!(one.len(), 1);

    let other = TenantId::new("other");
    let (alive, _) = webhooks.create(&other, &to("https://alive.example")).await.unwrap();
    let (job, _) = bench.submit_from("other", "k").await;
    bench.queue.cancel(job, &other).await.unwrap();
    webhooks.hand_over().await.unwrap();
    let next = bench.take(1).await;
    assert_eq!(next.len(), 1, "the dead one's turn is over");
    assert_eq!(next[0].endpoint, alive.id);
    // And with only one slot they take turns.
    bench.report(&next[0], AttemptOutcome::Delivered).await;
    bench.report(&one[0], RETRY).await;
    for key in ["x", "y"] {
        let (job, _) = bench.submit_from("other", key).await;
        bench.queue.cancel(job, &other).await.unwrap();
    }
    webhooks.hand_over().await.unwrap();
    let mut turns = Vec::new();
    for _ in 0..4 {
        let taken = bench.take(1).await;
        turns.push(taken[0].endpoint == alive.id);
        bench
            .report(&taken[0], if taken[0].endpoint == alive.id { AttemptOutcome::Delivered } else { RETRY })
            .await;
    }
    assert_eq!(turns.iter().filter(|alive| **alive).count(), 2, "{turns:?}");
    assert_eq!(pending(&dead.id).await, 10_000);
}

#[tokio::test]
async fn what_fails_is_tried_again_then_given_up_and_can_be_sent_again() {
    let bench = Bench::new().await;
    let webhooks = bench.webhooks();
    let endpoint = bench.endpoint(to("https://a.example")).await;
    let mut jobs = Vec::new();
    for key in ["a", "b", "c"] {
        jobs.push(bench.ended(key, false).await);
    }
    let claimed = bench.handed_over(10).await;
    let held = AttemptOutcome::Retry { after: Duration::ZERO, hold: Duration::from_mins(10) };
    assert_eq!(bench.report(&claimed[0], held).await, Some(false));
    assert!(bench.take(10).await.is_empty(), "the receiver wants to be left alone");
    for delivery in &claimed[1..] {
        bench.report(delivery, AttemptOutcome::Failed).await;
    }
    let health = webhooks.endpoint(&bench.tenant, &endpoint.id).await.unwrap().health;
    assert_eq!((health.pending, health.undelivered, health.failures), (1, 2, 3));
    assert!(health.failing_since_ms.is_some());

    let page = async |state, first, most| {
        webhooks.deliveries(&bench.tenant, &endpoint.id, state, first, most).await.unwrap()
    };
    let all = page(None, 0, 2).await;
    let rest = page(None, all.next.unwrap(), 2).await;
    let messages: Vec<_> =
        all.deliveries.iter().chain(&rest.deliveries).map(|found| found.message.clone()).collect();
    assert_eq!(BTreeSet::from_iter(messages), jobs.iter().map(ToString::to_string).collect());
    assert!(rest.next.is_none());
    let pending = page(Some(DeliveryState::Pending), 0, 10).await.deliveries;
    assert!(pending.len() == 1 && pending[0].due_ms.is_some(), "{pending:?}");
    assert_eq!(page(Some(DeliveryState::Failed), 0, 10).await.deliveries.len(), 2);

    // One, then all that were given up; both have the same message as before.
    let resend = async |which| webhooks.resend(&bench.tenant, &endpoint.id, &which).await;
    assert_eq!(resend(Resend::One(claimed[1].id.clone())).await.unwrap(), 1);
    let failed = Resend::Range { since_ms: 0, until_ms: i64::MAX, failed_only: true };
    assert_eq!(resend(failed.clone()).await.unwrap(), 1);
    assert_eq!(resend(failed).await.unwrap(), 0, "nothing is given up any more");
    let mut again = Vec::new();
    for _ in 0..3 {
        let taken = bench.take(10).await;
        for delivery in &taken {
            bench.report(delivery, AttemptOutcome::Delivered).await;
        }
        again.extend(taken);
    }
    assert_eq!(again.len(), 3, "those two, and the one that was held");
    assert!(again.iter().filter(|delivery| delivery.tries == 0).count() >= 2, "their schedules begin again");
    assert_eq!(
        again.iter().map(|one| one.message.clone()).collect::<BTreeSet<_>>(),
        jobs.iter().map(ToString::to_string).collect()
    );
    // A range takes also what was delivered.
    let range = Resend::Range { since_ms: 0, until_ms: i64::MAX, failed_only: false };
    assert_eq!(resend(range).await.unwrap(), 3);
    assert_eq!(bench.take(10).await.len(), 3);
    let none = Resend::Range { since_ms: 0, until_ms: 1, failed_only: false };
    assert_eq!(resend(none).await.unwrap(), 0);
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_fails_for_days_is_disabled_until_it_is_enabled_again() {
    let bench = Bench::new().await;
    let webhooks = bench.webhooks();
    let endpoint = bench.endpoint(to("https://a.example")).await;
    let now = async || webhooks.endpoint(&bench.tenant, &endpoint.id).await.unwrap();
    for key in ["a", "b"] {
        bench.ended(key, false).await;
    }
    let claimed = bench.handed_over(1).await;
    assert_eq!(bench.report(&claimed[0], AttemptOutcome::Gone).await, Some(true));
    let gone = now().await;
    assert_eq!((gone.enabled, gone.disabled_why.as_deref()), (false, Some("gone")));
    assert!(bench.take(10).await.is_empty(), "what waited goes on waiting");
    let heard: i64 = bench.command(&["SCARD", &bench.key("listeners")]).await;
    assert_eq!(heard, 0);
    bench.ended("c", false).await;
    assert!(bench.handed_over(10).await.is_empty(), "nothing is made for it");

    let enable = EndpointChange { enabled: Some(true), ..EndpointChange::default() };
    assert!(webhooks.change(&bench.tenant, &endpoint.id, &enable).await.unwrap().enabled);
    let claimed = bench.handed_over(10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(now().await.disabled_why, None);

    // Often enough, but not for long enough; then for long enough.
    bench.report(&claimed[0], RETRY).await;
    for number in 0..3 {
        bench.ended(&format!("d{number}"), false).await;
    }
    let mut reports = Vec::new();
    for _ in 0..3 {
        let taken = bench.handed_over(1).await;
        reports.push(bench.report(&taken[0], RETRY).await);
        if reports.len() == 2 {
            let _set: i64 =
                bench.command(&["HSET", &bench.key(&format!("lane:{}", endpoint.id)), "since", "1"]).await;
        }
    }
    assert_eq!(reports, [Some(false), Some(false), Some(true)]);
    assert_eq!(now().await.disabled_why.as_deref(), Some("failing"));
    assert_eq!(bench.counter("webhooks_disabled").await, 2);
}

#[tokio::test]
async fn secrets_rotate_with_an_overlap_and_urls_of_jobs_have_one_of_their_own() {
    let bench = Bench::new().await;
    let webhooks = bench.webhooks();
    let (endpoint, first) = webhooks.create(&bench.tenant, &to("https://a.example")).await.unwrap();
    let hour = Duration::from_hours(1);
    let second = webhooks.rotate(&bench.tenant, &endpoint.id, hour).await.unwrap();
    let third = webhooks.rotate(&bench.tenant, &endpoint.id, hour).await.unwrap();
    bench.ended("a", false).await;
    let claimed = bench.handed_over(1).await;
    assert_eq!(claimed[0].secrets, [third.clone(), second, first]);
    let fourth = webhooks.rotate(&bench.tenant, &endpoint.id, Duration::ZERO).await.unwrap();
    let (now, old) = webhooks.secrets(&bench.tenant, &endpoint.id).await.unwrap();
    assert_eq!(now, fourth);
    assert!(old.iter().all(|(secret, _)| *secret != third), "it ended at once");
    assert_eq!(old.len(), 2);

    // Never asked for: it is made when the first message goes out, and stays.
    let mut hooked = bench.submission("hooked");
    hooked.treatment.webhook = Some("https://job.example".into());
    let (job, _) = bench.queue.submit(&hooked).await.unwrap();
    bench.queue.cancel(job, &bench.tenant).await.unwrap();
    let of_jobs = EndpointId::of_jobs(&bench.tenant);
    let claimed = bench.handed_over(10).await;
    let one = claimed.iter().find(|delivery| delivery.endpoint == of_jobs).unwrap();
    assert_eq!(webhooks.secrets(&bench.tenant, &of_jobs).await.unwrap().0, one.secrets[0]);
    assert_eq!(bench.view(job).await.webhook.as_deref(), Some("https://job.example"));
    let rotated = webhooks.rotate(&bench.tenant, &of_jobs, hour).await.unwrap();
    assert_eq!(webhooks.secrets(&bench.tenant, &of_jobs).await.unwrap().0, rotated);
}

#[tokio::test]
async fn another_tenant_s_endpoints_and_deliveries_are_as_if_they_were_not_there() {
    let bench = Bench::new().await;
    let (webhooks, stranger) = (bench.webhooks(), TenantId::new("stranger"));
    let endpoint = bench.endpoint(to("https://a.example")).await;
    bench.ended("a", false).await;
    let delivery = bench.handed_over(1).await[0].id.clone();
    let id = &endpoint.id;
    let missing = |answer: Result<(), WebhookError>| {
        assert!(matches!(answer, Err(WebhookError::NotFound | WebhookError::NoDelivery)), "{answer:?}");
    };
    missing(webhooks.endpoint(&stranger, id).await.map(drop));
    missing(webhooks.secrets(&stranger, id).await.map(drop));
    missing(webhooks.rotate(&stranger, id, LEASE).await.map(drop));
    missing(webhooks.change(&stranger, id, &EndpointChange::default()).await.map(drop));
    missing(webhooks.delete(&stranger, id).await);
    missing(webhooks.test(&stranger, id).await.map(drop));
    missing(webhooks.delivery(&stranger, id, &delivery).await.map(drop));
    missing(webhooks.deliveries(&stranger, id, None, 0, 10).await.map(drop));
    missing(webhooks.resend(&stranger, id, &Resend::One(delivery.clone())).await.map(drop));
    assert!(webhooks.endpoints(&stranger).await.unwrap().is_empty());
    // Nor does one endpoint's delivery belong to another of the same tenant.
    let other = bench.endpoint(to("https://b.example")).await;
    missing(webhooks.delivery(&bench.tenant, &other.id, &delivery).await.map(drop));
    missing(webhooks.resend(&bench.tenant, &other.id, &Resend::One(delivery)).await.map(drop));

    // What was in the hands of a worker when the endpoint was deleted ends there.
    webhooks.delete(&bench.tenant, id).await.unwrap();
    missing(webhooks.endpoint(&bench.tenant, id).await.map(drop));
    assert_eq!(webhooks.endpoints(&bench.tenant).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_test_is_a_delivery_that_counts_for_nothing_else_and_endpoints_have_a_bound() {
    let bench = Bench::new().await;
    let webhooks = bench.webhooks();
    let endpoint = bench.endpoint(to("https://a.example")).await;
    let id = webhooks.test(&bench.tenant, &endpoint.id).await.unwrap();
    let claimed = bench.handed_over(10).await;
    assert_eq!((claimed.len(), claimed[0].event.as_str(), &claimed[0].id), (1, "webhook.test", &id));
    bench.report(&claimed[0], AttemptOutcome::Gone).await;
    let now = webhooks.endpoint(&bench.tenant, &endpoint.id).await.unwrap();
    assert!(now.enabled && now.health == jobs::webhooks::Health::default(), "{now:?}");
    let found = webhooks.delivery(&bench.tenant, &endpoint.id, &id).await.unwrap();
    assert_eq!(found.state, DeliveryState::Failed);

    for number in 1..jobs::webhooks::MOST_ENDPOINTS {
        bench.endpoint(to(&format!("https://{number}.example"))).await;
    }
    let full = webhooks.create(&bench.tenant, &to("https://one-too-many.example")).await;
    assert!(matches!(full, Err(WebhookError::Full)), "{full:?}");
}

#[tokio::test]
async fn handing_over_at_the_same_time_makes_each_delivery_once_and_records_expire() {
    let bench = Bench::new().await;
    let endpoint = bench.endpoint(to("https://a.example")).await;
    for number in 0..120 {
        let (job, _) = bench.submit_from("default", &format!("k{number}")).await;
        bench.queue.cancel(job, &bench.tenant).await.unwrap();
    }
    let workers: Vec<_> = (0..4)
        .map(|_| Webhooks::new(jobs::Queue::new(bench.redis_again(), bench.queue.retention())))
        .collect();
    let handed = futures::future::try_join_all(workers.iter().map(Webhooks::hand_over)).await.unwrap();
    assert_eq!(handed.iter().sum::<u64>(), 120);
    let health = bench.webhooks().endpoint(&bench.tenant, &endpoint.id).await.unwrap().health;
    assert_eq!(health.pending, 120);
    let keys = bench.server.keys().await;
    let bounded = ["delivery:", "log:", "due:"];
    for key in keys.iter().filter(|key| bounded.iter().any(|kind| key.starts_with(kind))) {
        let left: i64 = bench.command(&["PTTL", &bench.key(key)]).await;
        assert!(left > 0, "{key} stays for ever");
    }
    // What is older than deliveries are kept leaves the log, with what is left of it elsewhere.
    bench.let_pass(&format!("log:{}", endpoint.id)).await;
    for number in 0..2 {
        let (job, _) = bench.submit_from("default", &format!("late{number}")).await;
        bench.queue.cancel(job, &bench.tenant).await.unwrap();
        bench.webhooks().hand_over().await.unwrap();
    }
    let left: i64 = bench.command(&["ZCARD", &bench.key(&format!("log:{}", endpoint.id))]).await;
    assert_eq!(left, 2);
    let health = bench.webhooks().endpoint(&bench.tenant, &endpoint.id).await.unwrap().health;
    assert_eq!(health.pending, 2);
}

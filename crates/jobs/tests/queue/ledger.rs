//! The ledger of trials: nothing that a campaign asks for goes uncounted, and what was found outlives jobs and results.
use std::time::{Duration, Instant};

use jobs::{
    Accepted, JobState, Outcome, Queue, Retention, TenantId,
    ledger::{Trial, TrialRecord},
};

use crate::support::{Bench, failure, key_of, success};

const CAMPAIGN: &str = "strategy:Sma";

fn found(key: &str) -> Outcome {
    let Outcome::Succeeded(mut result) = success(key) else { unreachable!("it succeeds") };
    let trial = Trial { first_day: 19_000, returns: vec![0.5, -0.25] };
    result.trial = Some(Box::new(TrialRecord { names: vec![key.into(), format!("{key}-as-run")], trial }));
    Outcome::Succeeded(result)
}

async fn names(bench: &Bench, campaign: &str) -> Vec<String> {
    let tried = bench.queue.tried(&bench.tenant, campaign, 0).await.unwrap();
    assert_eq!(tried.known, tried.since.len() as u64);
    assert_eq!(tried.total, tried.known);
    let mut names: Vec<_> = tried.since.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_computed_cached_joined_and_failed_counts_and_the_same_twice_counts_once() {
    let bench = Bench::new().await;
    let submit = async |key: &str, campaign: &str| {
        let mut submission = bench.submission(key);
        submission.trial_of = vec![campaign.into()];
        bench.queue.submit(&submission).await.unwrap().1
    };
    assert_eq!(submit("a", CAMPAIGN).await, Accepted::Queued);
    assert_eq!(submit("a", CAMPAIGN).await, Accepted::Repeated);
    let claim = bench.claim().await;
    // Somebody else's run of the same is joined, and counts for the one who joins.
    assert_eq!(bench.submit_from("other", "b").await.1, Accepted::Queued);
    let mut joining = bench.with("b", |treatment| treatment.timeout_s += 1);
    joining.trial_of = vec![CAMPAIGN.into()];
    assert_eq!(bench.queue.submit(&joining).await.unwrap().1, Accepted::Joined);
    bench.finish(&claim, &found("a")).await;
    assert_eq!(submit("a", "another campaign").await, Accepted::Cached);
    assert_eq!(submit("c", CAMPAIGN).await, Accepted::Queued);
    let claims = bench.claims(10).await;
    assert_eq!(claims.len(), 2);
    for claim in &claims {
        let outcome = if key_of(claim) == "c" { Outcome::Failed(failure()) } else { found("b") };
        bench.finish(claim, &outcome).await;
    }
    // No trial of anybody's idea.
    bench.submit("d").await;

    assert_eq!(names(&bench, CAMPAIGN).await, ["a", "b", "c"]);
    assert_eq!(names(&bench, "another campaign").await, ["a"]);
    assert_eq!(names(&bench, "nobody's").await, Vec::<String>::new());
    let theirs = bench.queue.tried(&TenantId::new("other"), CAMPAIGN, 0).await.unwrap();
    assert_eq!((theirs.total, theirs.since.len()), (0, 0), "a ledger is its tenant's own");
    let asked: Vec<String> = ["a", "b", "c", "a-as-run"].map(str::to_owned).into();
    let trials = bench.queue.trials(&asked).await.unwrap();
    let expected = Trial { first_day: 19_000, returns: vec![0.5, -0.25] };
    assert_eq!(trials, [Some(expected.clone()), Some(expected.clone()), None, Some(expected)]);
    let campaigns = bench.queue.campaigns(&bench.tenant).await.unwrap();
    let listed: Vec<_> = campaigns.iter().map(|campaign| (campaign.name.as_str(), campaign.trials)).collect();
    assert_eq!(listed, [(CAMPAIGN, 3), ("another campaign", 1)]);
}

#[tokio::test]
async fn children_of_a_batch_count_each_in_its_campaign_also_those_that_are_cancelled() {
    let bench = Bench::new().await;
    let mut batch = bench.batch((0..250).map(|number| format!("k-{number}")));
    for (number, child) in batch.children.iter_mut().enumerate() {
        child.trial_of = vec![if number % 2 == 0 { "even numbers" } else { "odd numbers" }.into()];
    }
    let id = bench.submit_batch(&batch).await;
    bench.queue.cancel(id, &bench.tenant).await.unwrap();
    assert_eq!(bench.state(id).await, JobState::Cancelled);
    for campaign in ["even numbers", "odd numbers"] {
        assert_eq!(names(&bench, campaign).await.len(), 125, "{campaign}");
    }
}

#[tokio::test]
async fn the_first_of_too_many_trials_are_counted_and_known_no_more() {
    let bench = Bench::new().await;
    // As if they had been asked for: a batch of that many takes a while.
    let set = bench.key(&format!("tried:{}:{CAMPAIGN}", bench.tenant.as_str()));
    for first in (0..20_000).step_by(5_000) {
        let mut words = vec!["ZADD".to_owned(), set.clone()];
        for number in first..first + 5_000 {
            words.extend([number.to_string(), format!("old-{number}")]);
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let _added: u64 = bench.command(&words).await;
    }
    for key in ["x", "y", "z"] {
        let mut submission = bench.submission(key);
        submission.trial_of = vec![CAMPAIGN.into()];
        bench.queue.submit(&submission).await.unwrap();
    }
    let tried = bench.queue.tried(&bench.tenant, CAMPAIGN, 1_000_000).await.unwrap();
    assert_eq!((tried.total, tried.known, tried.since.len()), (20_003, 20_000, 3));
    for key in [set, bench.key(&format!("campaign:{}:{CAMPAIGN}", bench.tenant.as_str()))] {
        let left: i64 = bench.command(&["TTL", &key]).await;
        assert!(left > 300 * 86_400, "{key} expires, and not soon: {left}");
    }
}

#[tokio::test]
async fn the_ledger_outlives_jobs_and_results() {
    let bench = Bench::new().await;
    let second = Duration::from_secs(1);
    let short = Retention { jobs: second, results: second, trials: 3600 * second };
    let queue = Queue::new(bench.redis_again(), short);
    let mut jobs = Vec::new();
    for key in ["a", "b"] {
        let mut submission = bench.submission(key);
        submission.trial_of = vec![CAMPAIGN.into()];
        jobs.push(queue.submit(&submission).await.unwrap().0);
    }
    for claim in bench.claims(2).await {
        assert_eq!(queue.finish(&claim, &found(&key_of(&claim))).await.unwrap(), jobs::Finish::Accepted);
    }
    let end = Instant::now() + Duration::from_secs(30);
    for job in jobs {
        while queue.get(job, &bench.tenant).await.is_ok() {
            assert!(Instant::now() < end, "the record of {job} does not expire");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(names(&bench, CAMPAIGN).await, ["a", "b"]);
    let trials = queue.trials(&["a".to_owned(), "b".to_owned()]).await.unwrap();
    assert!(
        trials.iter().all(|trial| trial.as_ref().is_some_and(|trial| trial.returns.len() == 2)),
        "{trials:?}"
    );
}

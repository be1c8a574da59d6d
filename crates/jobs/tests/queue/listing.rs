//! Listings: by state, kind, batch, campaign and label, newest first, page by page.
use std::{collections::BTreeMap, time::Duration};

use jobs::{Filter, JobId, JobState, Kind, Outcome, Queue, Retention, Tags, TenantId};

use crate::support::{Bench, failure, success};

async fn all(bench: &Bench, filter: &Filter, page: usize) -> Vec<JobId> {
    let (mut jobs, mut before) = (Vec::new(), None);
    loop {
        let found = bench.queue.list(&bench.tenant, filter, before, page).await.unwrap();
        assert!(found.jobs.len() <= page);
        jobs.extend(found.jobs.iter().map(|job| job.job_id));
        match found.next {
            Some(next) => before = Some(next),
            None => return jobs,
        }
    }
}

fn in_state(state: JobState) -> Filter {
    Filter { states: vec![state], ..Filter::default() }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_by_state_and_page_by_page() {
    let bench = Bench::new().await;
    let mut jobs = Vec::new();
    for n in 0..30 {
        jobs.push(bench.submit(&format!("k{n}")).await);
    }
    bench.submit_from("other", "theirs").await;
    let newest_first: Vec<_> = jobs.iter().rev().copied().collect();
    for page in [1, 7, 30, 100] {
        assert_eq!(all(&bench, &Filter::default(), page).await, newest_first, "pages of {page}");
    }
    let of_default = |claim: &jobs::Claim| !claim.request.contains("theirs");
    let claims: Vec<_> = bench.claims(5).await.into_iter().filter(of_default).collect();
    bench.finish(&claims[0], &success("x")).await;
    bench.finish(&claims[1], &Outcome::Failed(failure())).await;
    bench.queue.finish(&claims[2], &Outcome::Failed(failure().retryable())).await.unwrap();
    bench.queue.cancel(jobs[29], &bench.tenant).await.unwrap();
    assert_eq!(all(&bench, &in_state(JobState::Succeeded), 10).await, [jobs[0]]);
    assert_eq!(all(&bench, &in_state(JobState::Failed), 10).await, [jobs[1]]);
    assert_eq!(all(&bench, &in_state(JobState::Scheduled), 10).await, [jobs[2]]);
    assert_eq!(all(&bench, &in_state(JobState::Cancelled), 10).await, [jobs[29]]);
    assert_eq!(all(&bench, &in_state(JobState::Running), 10).await, [jobs[3]]);
    assert_eq!(all(&bench, &in_state(JobState::Queued), 4).await, newest_first[1..26]);
    assert_eq!(all(&bench, &Filter::default(), 8).await, newest_first);
    let batches = Filter { kinds: vec![Kind::Batch], ..Filter::default() };
    assert!(all(&bench, &batches, 8).await.is_empty());
}

#[tokio::test]
async fn jobs_are_listed_by_campaign_and_labels() {
    let bench = Bench::new().await;
    let tags = |campaign: &str, color: &str| {
        Tags::new(Some(campaign.into()), [("color".to_owned(), color.to_owned())].into()).unwrap()
    };
    let mut jobs = Vec::new();
    for (n, (campaign, color)) in
        [("one", "red"), ("one", "blue"), ("two", "red"), ("one", "red")].iter().enumerate()
    {
        let submission = bench.with(&n.to_string(), |treatment| treatment.tags = tags(campaign, color));
        jobs.push(bench.queue.submit(&submission).await.unwrap().0);
    }
    let one = Filter { tags: Tags::new(Some("one".into()), BTreeMap::new()).unwrap(), ..Filter::default() };
    assert_eq!(all(&bench, &one, 2).await, [jobs[3], jobs[1], jobs[0]]);
    let one_red = Filter { tags: tags("one", "red"), ..Filter::default() };
    assert_eq!(all(&bench, &one_red, 2).await, [jobs[3], jobs[0]]);
    let red = Filter {
        tags: Tags::new(None, [("color".to_owned(), "red".to_owned())].into()).unwrap(),
        ..Filter::default()
    };
    assert_eq!(all(&bench, &red, 9).await, [jobs[3], jobs[2], jobs[0]]);
    bench.queue.cancel(jobs[3], &bench.tenant).await.unwrap();
    let cancelled = Filter { states: vec![JobState::Cancelled], ..one };
    assert_eq!(all(&bench, &cancelled, 9).await, [jobs[3]]);
    let stranger = bench.queue.list(&TenantId::new("stranger"), &one_red, None, 9).await.unwrap();
    assert!(stranger.jobs.is_empty() && stranger.next.is_none());
}

#[tokio::test]
async fn what_has_expired_is_taken_out_of_the_listings() {
    let bench = Bench::new().await;
    let short = Retention {
        jobs: Duration::from_secs(1),
        results: Duration::from_secs(1),
        trials: Duration::from_mins(1),
    };
    let redis = bench.redis_again();
    let queue = Queue::new(redis, short);
    let mut jobs = Vec::new();
    for n in 0..150 {
        jobs.push(queue.submit(&bench.submission(&n.to_string())).await.unwrap().0);
    }
    for job in &jobs[..149] {
        queue.cancel(*job, &bench.tenant).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    // A sweep is due after a tenth of the time that jobs are kept.
    queue.sweep().await.unwrap();
    let left: u64 = bench.command(&["ZCARD", &bench.key("list:default:backtest:cancelled")]).await;
    assert_eq!(left, 0);
    let queued: u64 = bench.command(&["ZCARD", &bench.key("list:default:backtest:queued")]).await;
    assert_eq!(queued, 1, "one has not ended");
    assert_eq!(all(&bench, &Filter::default(), 10).await, [jobs[149]]);
}

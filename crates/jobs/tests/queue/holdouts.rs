//! What is held out of research is set once, and a look is logged by the script that accepts it.

use jobs::{
    Accepted, Looks, TenantId,
    holdouts::{HeldOut, looks_of},
};

use crate::support::{Bench, success};

const SERIES: &str = "Binance BTC-USDT";

fn from(first_day: i64) -> HeldOut {
    HeldOut { first_day, share: 0.2, since_ms: 5, campaign: "idea".into() }
}

#[tokio::test]
async fn the_first_call_decides_for_a_tenant_and_a_series() {
    let bench = Bench::new().await;
    let (queue, tenant) = (&bench.queue, &bench.tenant);
    let names = [SERIES.to_owned(), "Binance ETH-USDT".to_owned()];
    let nothing = queue.bound_by(tenant, Some("idea"), &names).await.unwrap();
    assert_eq!((nothing.held_out, nothing.known), (vec![None, None], vec![false, false]));
    assert!(queue.bound_by(tenant, None, &[]).await.unwrap().held_out.is_empty());

    let wanted = |first_day| [(SERIES.to_owned(), Some(from(first_day))), (names[1].clone(), None)];
    let tasks = (0..20).map(|number| {
        let (queue, tenant, wanted) = (queue.clone(), tenant.clone(), wanted(19_000 + number));
        tokio::spawn(
            async move { queue.hold_out(&tenant, &format!("idea {number}"), &wanted).await.unwrap() },
        )
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer[0].is_some() && answer[1].is_none()));
    let kept = answers[0][0].clone().unwrap();
    let bound = queue.bound_by(tenant, Some("idea 3"), &names).await.unwrap();
    assert_eq!((bound.held_out, bound.known), (vec![Some(kept.clone()), None], vec![true, false]));
    assert_eq!(queue.held_out_of(tenant, "idea 3").await.unwrap(), [(SERIES.to_owned(), kept.clone())]);
    assert!(queue.held_out_of(tenant, "never heard of").await.unwrap().is_empty());
    assert_eq!(queue.all_held_out(tenant).await.unwrap(), [(SERIES.to_owned(), kept.clone())]);
    let moved = HeldOut { first_day: 19_500, ..kept.clone() };
    let stale = queue.open_days(tenant, SERIES, 18_000, &moved, "{}").await.unwrap();
    assert!(!stale, "somebody else has moved it");
    assert!(queue.open_days(tenant, SERIES, kept.first_day, &moved, r#"{"by":"me"}"#).await.unwrap());
    assert_eq!(queue.all_held_out(tenant).await.unwrap(), [(SERIES.to_owned(), moved)]);
    let log = queue.looks(tenant, SERIES).await.unwrap();
    assert_eq!((log.len(), log[0].job.as_str(), log[0].about.as_str()), (1, "-", r#"{"by":"me"}"#));
    let other = TenantId::new("other");
    assert!(queue.all_held_out(&other).await.unwrap().is_empty());

    // A batch may trade as many symbols as it has jobs.
    let many: Vec<_> = (0..9_000).map(|number| (format!("Binance A{number}-USDT"), Some(from(7)))).collect();
    assert_eq!(queue.hold_out(&other, "many", &many).await.unwrap().len(), 9_000);
    let names: Vec<_> = many.into_iter().map(|(name, _)| name).collect();
    let bound = queue.bound_by(&other, Some("many"), &names).await.unwrap();
    assert!(
        bound.held_out.iter().all(|found| *found == Some(from(7))) && bound.known.iter().all(|known| *known)
    );
}

#[tokio::test]
async fn a_look_is_logged_with_its_job_and_its_backtest_counts_in_both_ledgers() {
    let bench = Bench::new().await;
    let (queue, tenant) = (&bench.queue, &bench.tenant);
    let looks = |about: &str| Some(Looks { series: vec![SERIES.into()], about: about.into() });
    let mut submission = bench.with("a", |treatment| treatment.looks = looks(r#"{"by":"me"}"#));
    submission.trial_of = vec!["idea".into(), looks_of(SERIES)];
    let (job, accepted) = queue.submit(&submission).await.unwrap();
    assert_eq!(accepted, Accepted::Queued);
    assert_eq!(queue.submit(&submission).await.unwrap(), (job, Accepted::Repeated));
    assert!(queue.get(job, tenant).await.unwrap().details.holdout);

    let mut batch = bench.batch(["b".to_owned(), "c".to_owned()]);
    batch.treatment.looks = looks("{}");
    batch.children[1].trial_of = vec!["idea".into(), looks_of(SERIES)];
    let batch = bench.submit_batch(&batch).await;
    let log = queue.looks(tenant, SERIES).await.unwrap();
    let logged: Vec<_> = log.iter().map(|look| (look.job.clone(), look.about.as_str())).collect();
    assert_eq!(logged, [(batch.to_string(), "{}"), (job.to_string(), r#"{"by":"me"}"#)]);
    assert!(log[1].at_ms > 1_700_000_000_000, "{log:?}");
    for campaign in ["idea", &looks_of(SERIES)] {
        assert_eq!(queue.tried(tenant, campaign, 0).await.unwrap().total, 2, "{campaign}");
    }

    // All of it is kept for as long as the ledger, and no longer.
    queue.hold_out(tenant, "idea", &[(SERIES.to_owned(), Some(from(19_000)))]).await.unwrap();
    for key in ["vault:", "looks:", "campaign:"] {
        let keys: Vec<String> = bench.command(&["KEYS", &bench.key(&format!("{key}*"))]).await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        let left: i64 = bench.command(&["TTL", &keys[0]]).await;
        assert!(left > 364 * 86_400, "{}: {left}", keys[0]);
    }
    for _ in 0..3 {
        let claim = bench.claim().await;
        let key = crate::support::key_of(&claim);
        bench.finish(&claim, &success(&key)).await;
    }
    bench.assert_nothing_left().await;
}

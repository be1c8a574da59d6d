//! The cache of results: bounded, evicted least recently used first, invalidated, and never stale.
use jobs::{
    Accepted, CacheKey, CacheMode, CacheStats, Claim, Facets, Finish, JobId, JobState, Outcome, Queue,
    QueueError, Retention, Selector, TenantId, blobs::Blobs, collect_garbage,
};

use crate::support::{Bench, key_of, success, success_about};

/// Computes a result under this key; answers its job.
async fn compute(bench: &Bench, key: &str, outcome: &Outcome) -> JobId {
    let job = bench.submit(key).await;
    let claim = bench.claim().await;
    bench.finish(&claim, outcome).await;
    job
}

async fn is_stored(bench: &Bench, key: &str) -> bool {
    bench.queue.receipt(key).await.unwrap().is_some()
}

async fn stats(bench: &Bench) -> CacheStats {
    bench.queue.cache_stats().await.unwrap()
}

async fn garbage(bench: &Bench) -> Vec<String> {
    bench.command(&["SMEMBERS", &bench.key("garbage")]).await
}

/// What begins in the very millisecond of an invalidation counts as begun before.
async fn next_millisecond(bench: &Bench) {
    let now = bench.now_ms().await;
    while bench.now_ms().await == now {}
}

fn named(claim: &Claim) -> String {
    claim.fence.to_string()
}

fn about(strategy: &str, symbols: &[&str], exchange: &str) -> Facets {
    Facets::new(exchange, symbols.iter().copied(), [strategy])
}

fn of_strategy(name: &str) -> Selector {
    Selector { strategy: Some(name.into()), ..Selector::default() }
}

/// As if these results had last been used in this order, a second each, long ago.
async fn age(bench: &Bench, keys: &[&str]) {
    for (second, key) in keys.iter().enumerate() {
        let score: f64 = bench.command(&["ZSCORE", &bench.key("cached"), key]).await;
        let units = score % 2_097_152.0;
        let aged = (1_000.0 + f64::from(u32::try_from(second).unwrap())) * 2_097_152.0 + units;
        let _moved: u64 = bench.command(&["ZADD", &bench.key("cached"), &format!("{aged:.0}"), key]).await;
    }
}

#[tokio::test]
async fn the_least_recently_used_results_go_first_and_a_hit_is_a_use() {
    let bench = Bench::new().await;
    let keys = ["k0", "k1", "k2", "k3", "k4"];
    for key in keys {
        compute(&bench, key, &success(key)).await;
    }
    age(&bench, &keys).await;
    let all = stats(&bench).await;
    assert_eq!((all.entries, all.misses, all.hits, all.oldest_use_s), (5, 5, 0, Some(1_000)));
    let each = all.bytes / 5;
    assert!((1_000..2_000).contains(&each), "body and record: {each}");
    assert_eq!(bench.queue.evict(all.bytes).await.unwrap().results, 0, "as large as allowed");

    assert_eq!(bench.submit_from("other", "k0").await.1, Accepted::Cached);
    assert_eq!(bench.queue.evict(all.bytes - 1).await.unwrap().results, 1);
    assert!(is_stored(&bench, "k0").await, "it was just used");
    assert!(!is_stored(&bench, "k1").await);
    assert_eq!(bench.queue.evict(each * 2).await.unwrap().results, 2);
    let left = stats(&bench).await;
    assert_eq!((left.entries, left.bytes, left.evicted, left.hits), (2, each * 2, 3, 1));
    assert_eq!(left.max_bytes, Some(each * 2));
    assert!(is_stored(&bench, "k0").await && is_stored(&bench, "k4").await);
    assert_eq!(garbage(&bench).await.len(), 3);
    // What was evicted is computed anew; the jobs keep their summaries.
    let again = bench.submit("k1").await;
    bench.finish(&bench.claim().await, &success("k1")).await;
    assert_eq!(bench.state(again).await, JobState::Succeeded);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn thousands_of_results_are_evicted_in_chunks_and_the_sum_of_their_sizes_stays_right() {
    let bench = Bench::new().await;
    for _ in 0..9 {
        let batch = bench.batch((0..1_000).map(|_| uuid()));
        bench.submit_batch(&batch).await;
        loop {
            let claims = bench.claims(100).await;
            if claims.is_empty() {
                break;
            }
            let finish = claims.iter().map(|claim| async {
                let outcome = success(&key_of(claim));
                bench.queue.finish(claim, &outcome).await.unwrap()
            });
            futures::future::join_all(finish).await;
        }
    }
    let all = stats(&bench).await;
    assert_eq!(all.entries, 9_000);
    let each = all.bytes / 9_000;
    // A round takes a bounded number; the next goes on.
    assert_eq!(bench.queue.evict(0).await.unwrap().results, 5_000);
    assert_eq!(stats(&bench).await.bytes, each * 4_000);
    bench.queue.evict(0).await.unwrap();
    let left = stats(&bench).await;
    assert_eq!((left.entries, left.bytes, left.evicted), (0, 0, 9_000));
    bench.assert_nothing_left().await;
}

fn uuid() -> String {
    jobs::RunId::generate().to_string()
}

#[tokio::test]
async fn what_an_open_batch_used_stays_until_the_batch_has_ended() {
    let bench = Bench::new().await;
    compute(&bench, "before", &success("before")).await;
    compute(&bench, "unused", &success("unused")).await;
    let batch = bench.submit_batch(&bench.batch(["before", "new", "last"].map(str::to_owned))).await;
    bench.finish(&bench.claim().await, &success("new")).await;
    bench.queue.evict(0).await.unwrap();
    let stored = [is_stored(&bench, "before").await, is_stored(&bench, "new").await];
    assert_eq!((stored, is_stored(&bench, "unused").await), ([true, true], false));

    bench.finish(&bench.claim().await, &success("last")).await;
    assert_eq!(bench.state(batch).await, JobState::Succeeded);
    bench.queue.evict(0).await.unwrap();
    assert_eq!(
        stats(&bench).await,
        CacheStats { entries: 0, bytes: 0, oldest_use_s: None, ..stats(&bench).await }
    );
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_result_that_replaces_another_takes_its_place_and_its_body_goes() {
    let bench = Bench::new().await;
    bench.submit("a").await;
    let first = bench.claim().await;
    bench.finish(&first, &success_about("a", 5_000, Facets::default())).await;
    let large = stats(&bench).await.bytes;
    let refresh = bench.with("a", |treatment| treatment.cache = CacheMode::Refresh);
    assert_eq!(bench.queue.submit(&refresh).await.unwrap().1, Accepted::Queued);
    bench.finish(&bench.claim().await, &success_about("a", 1_000, Facets::default())).await;
    let small = stats(&bench).await;
    assert_eq!((small.entries, small.misses), (1, 1), "a refresh is no miss");
    assert!(small.bytes + 3_500 < large, "{} and {large}", small.bytes);
    assert_eq!(garbage(&bench).await, [named(&first)]);
}

#[tokio::test]
async fn bodies_are_deleted_also_if_one_who_began_to_died_and_nothing_else_is() {
    let bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let store = Blobs::in_folder(folder.path()).unwrap().results;
    let mut bodies = Vec::new();
    for key in ["a", "b"] {
        bench.submit(key).await;
        let claim = bench.claim().await;
        // The same bytes twice, each in a file of its own.
        let (blob, _) = store.put_as(&named(&claim), bytes::Bytes::from_static(b"body")).await.unwrap();
        bench.finish(&claim, &success(key)).await;
        bodies.push((named(&claim), blob));
    }
    bench.queue.invalidate_key(&CacheKey::new("a")).await.unwrap();
    // Somebody deleted the file and died before it was struck out; and a name that nobody of us wrote.
    store.delete(&bodies[0].0).await.unwrap();
    let _added: u64 = bench.command(&["SADD", &bench.key("garbage"), "../../etc/passwd"]).await;
    assert_eq!(collect_garbage(&bench.queue, &store).await.unwrap(), 2);
    assert!(garbage(&bench).await.is_empty());
    assert!(store.get_as(&bodies[0].0, &bodies[0].1).await.unwrap().is_none());
    assert!(store.get_as(&bodies[1].0, &bodies[1].1).await.unwrap().is_some());
}

#[tokio::test]
async fn the_body_of_a_refused_result_is_garbage_and_that_of_an_accepted_one_is_not() {
    let bench = Bench::new().await;
    bench.submit("a").await;
    let late = bench.claim().await;
    bench.end_all_leases().await;
    bench.reap().await;
    let claim = bench.claim().await;
    bench.finish(&claim, &success("a")).await;
    assert_eq!(bench.queue.finish(&late, &success("a")).await.unwrap(), Finish::Refused);
    // The answer was lost, so the worker says it again.
    bench.finish(&claim, &success("a")).await;
    assert_eq!(garbage(&bench).await, [named(&late)]);
    assert_eq!(stats(&bench).await.entries, 1);
}

#[tokio::test]
async fn an_invalidation_means_those_that_have_all_that_is_named() {
    let bench = Bench::new().await;
    let results = [
        ("k0", about("Sma", &["BTC-USDT"], "Binance")),
        ("k1", about("Sma", &["ETH-USDT", "BTC-USDT"], "Binance")),
        ("k2", about("Sma", &["BTC-USDT"], "Bybit")),
        ("k3", about("Smart", &["BTC-USDT"], "Binance")),
        ("k4", about("Rsi", &["ETH-USDT"], "Bybit")),
    ];
    let selector = |strategy: Option<&str>,
                    symbol: Option<&str>,
                    exchange: Option<&str>,
                    tenant: Option<&str>| Selector {
        strategy: strategy.map(str::to_owned),
        symbol: symbol.map(str::to_owned),
        exchange: exchange.map(str::to_owned),
        tenant: tenant.map(TenantId::new),
    };
    for (selector, meant) in [
        (selector(Some("Sma"), None, None, None), &["k0", "k1", "k2"][..]),
        (selector(Some("Sma"), Some("ETH-USDT"), None, None), &["k1"]),
        (selector(None, None, Some("Bybit"), None), &["k2", "k4"]),
        (selector(None, Some("BTC-USDT"), Some("Binance"), None), &["k0", "k1", "k3"]),
        (selector(None, None, None, Some("default")), &["k0", "k1", "k2", "k3", "k4"]),
        (selector(None, None, None, Some("nobody")), &[]),
        (selector(Some("sma"), None, None, None), &[]),
        (Selector::default(), &["k0", "k1", "k2", "k3", "k4"]),
    ] {
        for (key, facets) in &results {
            if !is_stored(&bench, key).await {
                compute(&bench, key, &success_about(key, 100, facets.clone())).await;
            }
        }
        let before = stats(&bench).await;
        assert_eq!(before.entries, 5);
        assert_eq!(bench.queue.invalidate(&selector).await.unwrap(), meant.len() as u64, "{selector:?}");
        for (key, _) in &results {
            assert_eq!(is_stored(&bench, key).await, !meant.contains(key), "{key} after {selector:?}");
        }
        let after = stats(&bench).await;
        assert_eq!(after.entries, 5 - meant.len() as u64);
        assert_eq!(after.invalidated, before.invalidated + meant.len() as u64);
        assert_eq!(after.bytes, before.bytes / 5 * after.entries, "{selector:?}");
        next_millisecond(&bench).await;
    }
    assert_eq!(bench.queue.invalidate_key(&CacheKey::new("k0")).await.unwrap(), 0);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn thousands_of_results_are_invalidated_in_chunks() {
    let bench = Bench::new().await;
    let batch = bench.batch((0..8_500).map(|n| format!("k{n}")));
    bench.submit_batch(&batch).await;
    loop {
        let claims = bench.claims(200).await;
        if claims.is_empty() {
            break;
        }
        let finish = claims.iter().map(|claim| async {
            let key = key_of(claim);
            let strategy = if key.ends_with('7') { "Seven" } else { "Other" };
            let outcome = success_about(&key, 100, about(strategy, &["BTC-USDT"], "Binance"));
            bench.queue.finish(claim, &outcome).await.unwrap()
        });
        futures::future::join_all(finish).await;
    }
    assert_eq!(bench.queue.invalidate(&of_strategy("Seven")).await.unwrap(), 850);
    assert_eq!(stats(&bench).await.entries, 7_650);
    assert_eq!(bench.queue.invalidate(&Selector::default()).await.unwrap(), 7_650);
    let left = stats(&bench).await;
    assert_eq!((left.entries, left.bytes, left.invalidated), (0, 0, 8_500));
}

/// Takes the first step of an invalidation and no other, as one who dies then.
async fn begin(bench: &Bench, selector: &str) {
    let now = bench.now_ms().await.to_string();
    let _new: u64 = bench.command(&["HSET", &bench.key("purging"), selector, &format!("{now} 0 0")]).await;
    let _new: u64 = bench.command(&["ZADD", &bench.key("purges"), &now, selector]).await;
}

#[tokio::test]
async fn an_invalidation_holds_from_its_first_step_and_is_brought_to_its_end_by_others() {
    let bench = Bench::new().await;
    compute(&bench, "a", &success("a")).await;
    compute(&bench, "b", &success_about("b", 1, about("Other", &["BTC-USDT"], "Binance"))).await;
    begin(&bench, "strategy=Sma").await;
    assert!(is_stored(&bench, "a").await, "not removed yet");
    assert_eq!(bench.submit_from("x", "a").await.1, Accepted::Queued, "but it answers nobody");
    assert_eq!(bench.submit_from("x", "b").await.1, Accepted::Cached);
    let batch = bench.submit_batch(&bench.batch(["b".to_owned()])).await;
    assert_eq!(bench.state(batch).await, JobState::Succeeded);
    // The reconciler of some worker.
    bench.queue.evict(u64::MAX >> 12).await.unwrap();
    assert!(!is_stored(&bench, "a").await && is_stored(&bench, "b").await);
    assert_eq!(stats(&bench).await.invalidated, 1);
    next_millisecond(&bench).await;
    // What is computed after it is as good as any.
    bench.finish(&bench.claim().await, &success("a")).await;
    assert_eq!(bench.submit_from("y", "a").await.1, Accepted::Cached);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_run_in_flight_serves_those_who_wait_for_it_and_nobody_after_the_invalidation() {
    for by_key in [true, false] {
        let bench = Bench::new().await;
        let first = bench.submit("a").await;
        let running = bench.claim().await;
        let (second, accepted) = bench.submit_from("b", "a").await;
        assert_eq!(accepted, Accepted::Joined);
        let invalidated = if by_key {
            bench.queue.invalidate_key(&CacheKey::new("a")).await
        } else {
            bench.queue.invalidate(&of_strategy("Sma")).await
        };
        assert_eq!(invalidated.unwrap(), 0, "nothing is stored yet");
        next_millisecond(&bench).await;
        // Who asks now, be it the same call, gets a run of its own.
        let (third, accepted) = bench.submit_from("c", "a").await;
        assert_eq!(accepted, Accepted::Queued);
        assert_eq!(bench.queue.submit(&bench.submission("a")).await.unwrap().1, Accepted::Joined);

        bench.finish(&running, &success("a")).await;
        assert_eq!(bench.state(first).await, JobState::Succeeded);
        let second = bench.queue.get(second, &TenantId::new("b")).await.unwrap();
        assert_eq!(second.state, JobState::Succeeded);
        assert!(is_stored(&bench, &second.result.unwrap()).await, "its body can be read");
        assert!(!is_stored(&bench, "a").await, "it answers nobody else");
        // The later run kept its flight.
        assert_eq!(bench.submit_from("d", "a").await.1, Accepted::Joined);
        let third_run = bench.claim().await;
        bench.nothing_to_claim().await;
        bench.finish(&third_run, &success("a")).await;
        assert_eq!(bench.queue.get(third, &TenantId::new("c")).await.unwrap().state, JobState::Succeeded);
        assert_eq!(bench.submit_from("e", "a").await.1, Accepted::Cached);
        bench.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn a_run_that_only_waits_or_that_another_invalidation_does_not_mean_is_left_alone() {
    let bench = Bench::new().await;
    bench.submit("queued").await;
    bench.queue.invalidate(&Selector::default()).await.unwrap();
    bench.queue.invalidate_key(&CacheKey::new("queued")).await.unwrap();
    assert_eq!(bench.submit_from("b", "queued").await.1, Accepted::Joined, "it has not begun");
    next_millisecond(&bench).await;
    let running = bench.claim().await;
    bench.queue.invalidate(&of_strategy("Another")).await.unwrap();
    bench.finish(&running, &success("queued")).await;
    assert!(is_stored(&bench, "queued").await);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn of_many_invalidations_the_oldest_are_remembered_as_one_of_everything() {
    let bench = Bench::new().await;
    bench.submit("a").await;
    let running = bench.claim().await;
    for n in 0..250 {
        bench.queue.invalidate(&of_strategy(&format!("S{n}"))).await.unwrap();
    }
    let remembered: u64 = bench.command(&["ZCARD", &bench.key("purges")]).await;
    assert_eq!(remembered, 100);
    bench.finish(&running, &success("a")).await;
    assert!(!is_stored(&bench, "a").await, "what began before one that is forgotten is not trusted");
    next_millisecond(&bench).await;
    compute(&bench, "b", &success("b")).await;
    assert!(is_stored(&bench, "b").await);
}

#[tokio::test]
async fn too_many_invalidations_at_once_are_refused() {
    let bench = Bench::new().await;
    for n in 0..100 {
        begin(&bench, &format!("strategy=S{n}")).await;
    }
    assert!(matches!(bench.queue.invalidate(&of_strategy("x")).await, Err(QueueError::Invalidating)));
    // The reconciler carries them out, and there is room again.
    bench.queue.evict(u64::MAX >> 12).await.unwrap();
    assert_eq!(bench.queue.invalidate(&of_strategy("x")).await.unwrap(), 0);
}

#[tokio::test]
async fn what_has_expired_is_taken_out_of_the_index_and_of_the_sum() {
    let bench = Bench::new().await;
    let second = std::time::Duration::from_secs(1);
    let short = Queue::new(
        bench.redis_again(),
        Retention { jobs: second * 60, results: second, trials: second * 60 },
    );
    for n in 0..5 {
        bench.submit(&format!("k{n}")).await;
        let claim = bench.claim().await;
        let queue = if n < 3 { &short } else { &bench.queue };
        queue.finish(&claim, &success(&key_of(&claim))).await.unwrap();
    }
    short.evict(u64::MAX >> 12).await.unwrap();
    let all = stats(&bench).await;
    while is_stored(&bench, "k2").await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The index is walked again after a tenth of the time that results are kept.
    short.evict(u64::MAX >> 12).await.unwrap();
    let left = stats(&bench).await;
    assert_eq!((left.entries, left.bytes), (2, all.bytes / 5 * 2));
    assert_eq!((left.evicted, left.invalidated), (0, 0));
}

#[tokio::test]
async fn every_way_of_asking_is_counted() {
    let bench = Bench::new().await;
    compute(&bench, "a", &success("a")).await;
    bench.submit_from("x", "a").await;
    let off = bench.with("a", |treatment| treatment.cache = CacheMode::Off);
    assert_eq!(bench.queue.submit(&off).await.unwrap().1, Accepted::Queued);
    bench.submit("b").await;
    bench.submit_from("x", "b").await;
    // One of a batch is there, one is in flight, one is new.
    bench.submit_batch(&bench.batch(["a", "b", "c"].map(str::to_owned))).await;
    assert_eq!(bench.claims(10).await.len(), 3);
    let counted = stats(&bench).await;
    assert_eq!((counted.hits, counted.misses, counted.coalesced), (2, 3, 2));
}

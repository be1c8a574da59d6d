//! Locks: one holder at a time, and no longer than it says that it is there.
use jobs::{LEASE, Lock};

use crate::support::Bench;

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_released_or_lost() {
    let bench = Bench::new().await;
    let redis = bench.queue.redis();
    let take = async || Lock::try_take(redis, "candles/one").await.unwrap();
    let first = take().await.unwrap();
    assert!(take().await.is_none());
    assert!(
        Lock::try_take(redis, "candles/another").await.unwrap().is_some(),
        "each name is a lock of its own"
    );
    first.release().await;

    // One that was lost meanwhile is another's, which its first holder neither keeps nor releases.
    let lost = take().await.unwrap();
    let key = format!("{{{}}}:lock:candles/one", bench.server.name());
    let left: u64 = bench.command(&["PTTL", &key]).await;
    assert!(left > 0 && u128::from(left) <= LEASE.as_millis(), "{left}");
    let removed: u64 = bench.command(&["DEL", &key]).await;
    assert_eq!(removed, 1);
    let second = take().await.unwrap();
    lost.keep().await;
    lost.release().await;
    assert!(take().await.is_none());
    second.release().await;
    assert!(take().await.is_some());
}

#[tokio::test]
async fn a_lock_that_is_kept_outlives_its_lease() {
    let bench = Bench::new().await;
    let lock = Lock::try_take(bench.queue.redis(), "kept").await.unwrap().unwrap();
    let key = format!("{{{}}}:lock:kept", bench.server.name());
    let shortened: u64 = bench.command(&["PEXPIRE", &key, "4000"]).await;
    assert_eq!(shortened, 1);
    let renewed = async {
        // Four seconds are over before it has more than that again.
        while bench.command::<u64>(&["PTTL", &key]).await <= 4000 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = lock.keep() => panic!("it was lost"),
        () = renewed => {}
    }
}

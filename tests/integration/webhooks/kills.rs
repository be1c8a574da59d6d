//! Delivery workers that are killed, and a Redis that is restarted: every event arrives at least once. `bench/webhooks.py` does it
//! with ten thousand.

use std::{collections::BTreeSet, time::Duration};

use jobs::private_redis::PrivateRedis;

use super::{
    deployment::Light,
    receiver::{Receiver, Reply},
};

const JOBS: usize = 200;

#[tokio::test]
async fn every_event_arrives_though_workers_are_killed_and_redis_is_restarted() {
    // One in four attempts fails, another one in a hundred is never answered.
    let receiver = Receiver::start(|got, before| {
        let number = got.id.bytes().map(usize::from).sum::<usize>() + before * 7;
        match number {
            number if number % 100 == 1 => Reply::Never,
            number if number % 4 == 0 => Reply::Status(500),
            _ => Reply::Status(200),
        }
    })
    .await;
    let mut light = Light::start(2).await;
    let (_, secret) = light.endpoint(&receiver.url("/")).await;
    let mut jobs = light.end_jobs(JOBS / 2, false, None).await;
    receiver.until("some have come", |received| received.len() > 10).await;
    light.workers[0].kill().unwrap();
    light.add_worker();
    jobs.extend(light.end_jobs(JOBS / 4, true, None).await);
    light.redis.take().unwrap().stop().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    light.redis = Some(PrivateRedis::start(&light.data.path().join("redis")).await.unwrap());
    light.workers[1].kill().unwrap();
    jobs.extend(light.end_jobs(JOBS / 4, false, None).await);
    let expected: BTreeSet<_> = jobs.iter().map(|job| format!("msg_{job}")).collect();
    assert_eq!(expected.len(), JOBS);
    let got_all = receiver
        .until("all have come", |received| {
            received.iter().map(|got| got.id.clone()).collect::<BTreeSet<_>>() == expected
        })
        .await;
    assert!(got_all.iter().all(|got| got.is_signed_with(&secret)));
}

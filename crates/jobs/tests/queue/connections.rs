//! The connections to a real Redis: shared, and made anew when they break.

use std::collections::HashSet;

use futures::future::join_all;
use jobs::{Accepted, JobId, Queue, QueueError, Redis, Retention};

use crate::{server::TestRedis, support::submission};

struct Bench {
    redis: Redis,
    server: TestRedis,
}

impl Bench {
    async fn new(connections: usize) -> Self {
        let server = TestRedis::own().await;
        Self { redis: Redis::open(server.url(), server.name(), connections).unwrap(), server }
    }

    async fn raw(&self) -> redis::aio::MultiplexedConnection {
        self.server.raw().await
    }

    /// How many connections there are besides the one that asks.
    async fn connections(&self) -> usize {
        let mut ask = redis::cmd("CLIENT");
        ask.arg("LIST").arg("TYPE").arg("normal");
        let list: String = ask.query_async(&mut self.raw().await).await.unwrap();
        list.lines().count() - 1
    }

    /// How often Redis was asked this.
    async fn asked(&self, command: &str) -> usize {
        let mut ask = redis::cmd("INFO");
        let info: String = ask.arg("commandstats").query_async(&mut self.raw().await).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    async fn cut_all(&self) {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        kill.exec_async(&mut self.raw().await).await.unwrap();
    }

    async fn submit(&self, n: usize) -> Result<(JobId, Accepted), QueueError> {
        Queue::new(self.redis.clone(), Retention::default()).submit(&submission(&n.to_string())).await
    }
}

#[tokio::test]
async fn many_calls_share_few_connections() {
    let bench = Bench::new(2).await;
    let pings = bench.asked("ping").await;
    for answer in join_all((0..200).map(|_| bench.redis.ping())).await {
        answer.unwrap();
    }
    assert_eq!(bench.asked("exists").await, 200);
    assert!(bench.asked("ping").await - pings < 10, "a new connection may be tried out, not each call");
    assert!(bench.connections().await <= 2);
    // None of the scripts is loaded yet: each call finds that out for itself.
    let submitted = join_all((0..32).map(|n| bench.submit(n))).await;
    let submitted = submitted.into_iter().map(Result::unwrap);
    let queued = submitted.filter(|(_, accepted)| *accepted == Accepted::Queued);
    assert_eq!(queued.map(|(job, _)| job).collect::<HashSet<_>>().len(), 32);
    assert!(bench.connections().await <= 2);
}

#[tokio::test]
async fn calls_one_after_another_take_the_same_connection_and_calls_at_once_take_others() {
    let bench = Bench::new(4).await;
    for _ in 0..20 {
        bench.redis.ping().await.unwrap();
    }
    // One connection to a cluster leads to all its nodes.
    let most = if bench.server.url().contains(',') { 1 } else { 4 };
    assert_eq!(bench.connections().await, 1);
    for answer in join_all((0..20).map(|_| bench.redis.ping())).await {
        answer.unwrap();
    }
    assert_eq!(bench.connections().await, most);
}

#[tokio::test]
async fn a_broken_connection_costs_one_call_at_most() {
    let bench = Bench::new(2).await;
    for round in 0..3 {
        join_all((0..20).map(|_| bench.redis.ping())).await;
        bench.cut_all().await;
        let mut failed = 0;
        for _ in 0..20 {
            if let Err(error) = bench.redis.ping().await {
                assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
                failed += 1;
            }
        }
        assert!(failed <= 1, "{failed} calls failed in round {round}");
        assert!(bench.connections().await <= 2);
    }
}

#[tokio::test]
async fn a_connection_that_died_while_nobody_used_it_costs_nothing() {
    let bench = Bench::new(1).await;
    bench.redis.ping().await.unwrap();
    bench.cut_all().await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    bench.redis.ping().await.unwrap();
}

#[tokio::test]
async fn scripts_are_loaded_again_when_redis_has_lost_them() {
    let bench = Bench::new(2).await;
    bench.submit(0).await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut bench.raw().await).await.unwrap();
    bench.submit(1).await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_counts_as_away_and_all_is_well_when_it_goes_on() {
    let bench = Bench::new(1).await;
    bench.redis.ping().await.unwrap();
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(5500).arg("ALL");
    pause.exec_async(&mut bench.raw().await).await.unwrap();
    let started = std::time::Instant::now();
    let answers = join_all((0..10).map(|_| bench.redis.ping())).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(QueueError::Unavailable(_)))), "{answers:?}");
    assert!(started.elapsed().as_secs_f32() < 7.5, "they do not wait for one another");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    bench.redis.ping().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_may_lose_jobs_is_told_from_one_that_does_not() {
    let bench = Bench::new(1).await;
    let set = async |name: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value).exec_async(&mut bench.raw().await).await.unwrap();
    };
    for (name, value) in [("appendonly", "yes"), ("maxmemory-policy", "noeviction")] {
        set(name, value).await;
    }
    assert!(bench.redis.dangers().await.is_empty());
    set("maxmemory-policy", "allkeys-lru").await;
    set("appendonly", "no").await;
    set("save", "").await;
    let dangers = bench.redis.dangers().await.join("; ");
    assert!(dangers.contains("evict") && dangers.contains("nothing on disk"), "{dangers}");
    set("save", "60 1000").await;
    assert!(bench.redis.dangers().await.join("; ").contains("snapshots only"));
    // With snapshots it would not end without writing one, into a folder that is gone by then.
    set("save", "").await;
}

#[tokio::test]
async fn who_observes_is_told_of_every_call_and_whether_it_was_answered() {
    let mut bench = Bench::new(1).await;
    let (sender, calls) = std::sync::mpsc::channel();
    bench.redis.observe(move |call| sender.send((call.what, call.answered)).unwrap());
    bench.redis.ping().await.unwrap();
    bench.submit(0).await.unwrap();
    Queue::new(bench.redis.clone(), Retention::default()).depth().await.unwrap();
    assert_eq!(
        calls.try_iter().collect::<Vec<_>>(),
        [("command", true), ("script", true), ("pipeline", true)]
    );
    bench.server.stop().await;
    assert!(bench.redis.ping().await.is_err());
    assert!(calls.try_iter().any(|call| call == ("command", false)));
}

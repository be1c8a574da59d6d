//! What Redis can do at best: a script of two writes, nothing else.

use std::time::Instant;

use redis::{Script, aio::MultiplexedConnection};
use serde_json::{Value, json};

use crate::{BenchError, per_second};

const CONNECTIONS: usize = 32;
const PIPELINE: usize = 1000;
const TWO_WRITES: &str = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])";
const KEYS: [&str; 2] = ["{bench}:raw:text", "{bench}:raw:number"];

fn call(hash: &str) -> redis::Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(hash).arg(KEYS.len()).arg(&KEYS).arg("x");
    call
}

/// `count` calls from 32 connections that wait for each answer, then as many in pipelines of a thousand.
pub(crate) async fn raw(url: &str, count: usize) -> Result<Value, BenchError> {
    let client = redis::Client::open(url)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    let hash = Script::new(TWO_WRITES).load_async(&mut connections[0]).await?;

    let begin = Instant::now();
    let each = count / CONNECTIONS;
    let ask = |mut connection: MultiplexedConnection| {
        let hash = hash.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                call(&hash).exec_async(&mut connection).await?;
            }
            Ok::<(), redis::RedisError>(())
        })
    };
    let asking: Vec<_> = connections.iter().cloned().map(ask).collect();
    for task in asking {
        task.await??;
    }
    let waiting = per_second(each * CONNECTIONS, begin.elapsed());

    let begin = Instant::now();
    let turns = count.div_ceil(PIPELINE);
    for _ in 0..turns {
        let mut pipeline = redis::pipe();
        for _ in 0..PIPELINE {
            pipeline.add_command(call(&hash)).ignore();
        }
        pipeline.exec_async(&mut connections[0]).await?;
    }
    let pipelined = per_second(turns * PIPELINE, begin.elapsed());
    Ok(json!({ "count": count, "connections_32": waiting, "pipelined": pipelined }))
}

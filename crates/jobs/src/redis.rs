//! The connection to Redis: a pool for short commands, and connections of their own for commands that block.

use std::time::Duration;

use deadpool_redis::{Manager, Pool, PoolError, Runtime, Timeouts};
use redis::{
    AsyncConnectionConfig, Client, RedisError, Script, ScriptInvocation, aio::MultiplexedConnection,
};

use crate::{error::QueueError, scripts::Keys};

pub(crate) use deadpool_redis::Connection;

/// How long one command may take before Redis counts as away: long enough for a loaded machine, short enough for a
/// caller who waits.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a blocking command may ask Redis to wait.
pub(crate) const LONGEST_BLOCK: Duration = Duration::from_secs(1);

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redis {
    pool: Pool,
    client: Client,
    keys: Keys,
}

impl Redis {
    /// Prepares connections; none is made yet. `url` as in `redis://host:6379/0` or `redis+unix:///path/to.sock`;
    /// `name` keeps deployments apart that share a Redis.
    pub fn open(url: &str, name: &str, pool_size: usize) -> Result<Self, QueueError> {
        let client = Client::open(url)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let pool = Pool::builder(Manager::new_with_config(url, config)?)
            .max_size(pool_size)
            .timeouts(Timeouts {
                wait: Some(RESPONSE_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(RESPONSE_TIMEOUT),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| QueueError::Unavailable(Box::new(error)))?;
        Ok(Self { pool, client, keys: Keys::new(name) })
    }

    /// A connection for commands that answer at once.
    pub(crate) async fn connection(&self) -> Result<Connection, PoolError> {
        self.pool.get().await
    }

    /// A connection for commands that block.
    pub(crate) async fn blocking_connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // A connection that died without a word is noticed too.
            .set_response_timeout(Some(LONGEST_BLOCK + RESPONSE_TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A call of a script, with the key and the first argument that all scripts take.
    pub(crate) fn script<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.keys.ready()).arg(self.keys.prefix());
        call
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection().await?).await?)
    }
}

//! The kinds of server that there are, how they are named, and how connections to them are made.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use deadpool_redis::{Manager, Pool, PoolError, Runtime, Timeouts};
use futures::FutureExt;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisError, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::{CONNECT_TIMEOUT, LONGEST_BLOCK, RESPONSE_TIMEOUT};
use crate::error::QueueError;

const CLUSTER_SLOTS: u16 = 16384;
/// Where sentinels listen unless something else is said.
const SENTINEL_PORT: u16 = 26379;

/// How Redis is reached, beside its URL.
#[derive(Debug, Clone, Default)]
pub struct RedisAccess {
    /// Certificates (PEM) of those who may vouch for the server, instead of those that the system knows.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate (PEM, with those between it and the authority), if the server asks for one.
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Who logs in to sentinels.
    pub sentinel_username: Option<String>,
    /// Their password.
    pub sentinel_password: Option<String>,
}

impl RedisAccess {
    /// What the files hold; nothing, if none is named.
    fn certificates(&self) -> Result<Option<TlsCertificates>, QueueError> {
        // Whoever has to do with certificates has to do with TLS.
        crate::choose_tls();
        let client_tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            (None, None) => None,
            _ => {
                let message =
                    "a certificate needs its key and a key its certificate: name both files, or none";
                return Err(QueueError::Setting(message.into()));
            }
        };
        let root_cert = self.ca_file.as_deref().map(read).transpose()?;
        // With an empty file nobody could be trusted, and the library would not say so.
        if root_cert.as_ref().is_some_and(|text| !String::from_utf8_lossy(text).contains("BEGIN CERTIFICATE"))
        {
            let file = self.ca_file.as_deref().unwrap_or(Path::new(""));
            return Err(QueueError::Setting(format!("{} holds no certificate (PEM)", file.display())));
        }
        Ok((client_tls.is_some() || root_cert.is_some()).then_some(TlsCertificates { client_tls, root_cert }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, QueueError> {
    std::fs::read(file)
        .map_err(|error| QueueError::Setting(format!("{} cannot be read: {error}", file.display())))
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Short,
    Blocking,
}

impl Use {
    fn response_timeout(self) -> Duration {
        match self {
            Self::Short => RESPONSE_TIMEOUT,
            // A connection that died without a word is noticed too.
            Self::Blocking => LONGEST_BLOCK + RESPONSE_TIMEOUT,
        }
    }
}

/// Those who know which server is the primary.
pub(super) struct Sentinels(tokio::sync::Mutex<SentinelClient>);

impl std::fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sentinels").finish_non_exhaustive()
    }
}

/// Makes connections.
#[derive(Debug)]
pub(super) enum Server {
    Alone(Pool),
    /// The pool for sentinels knows no time limits, and no certificates. The lock is held while they are asked.
    Sentinel(Box<Sentinels>),
    /// The pool for clusters knows no time limits, and sends again what got no answer.
    Cluster {
        short: Box<ClusterClient>,
        blocking: Box<ClusterClient>,
        route: SingleNodeRoutingInfo,
    },
}

impl Server {
    /// One server, or the primary that sentinels name.
    pub(super) fn single(url: &str, access: &RedisAccess, pool_size: usize) -> Result<Self, QueueError> {
        if let Some((scheme, rest)) = split_sentinel(url) {
            return Self::sentinel(scheme, rest, access);
        }
        let server = connection_info(url)?;
        let server = match access.certificates()? {
            None => server,
            Some(certificates) if is_tls(&server) => {
                let client =
                    Client::build_with_tls(server, certificates).map_err(|error| unusable(&error))?;
                client.get_connection_info().clone()
            }
            Some(_) => return Err(certificates_without_tls()),
        };
        let pool = Pool::builder(
            Manager::new_with_config(server, connection_config(Use::Short))
                .map_err(|error| unusable(&error))?,
        )
        .max_size(pool_size.max(1))
        .timeouts(Timeouts {
            wait: Some(RESPONSE_TIMEOUT),
            create: Some(CONNECT_TIMEOUT),
            recycle: Some(RESPONSE_TIMEOUT),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| QueueError::Unavailable(Box::new(error)))?;
        Ok(Self::Alone(pool))
    }

    /// `rest` is `[user:password@]host[:port],.../service[/database]`; user and password are those of Redis.
    fn sentinel(scheme: &str, rest: &str, access: &RedisAccess) -> Result<Self, QueueError> {
        let incomplete = || {
            let message = "expected redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE/DATABASE";
            QueueError::Setting(message.into())
        };
        let (before, path) = rest.split_once('/').ok_or_else(incomplete)?;
        let (login, hosts) = before.rsplit_once('@').map_or(("", before), |(login, hosts)| (login, hosts));
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() || hosts.is_empty() {
            return Err(incomplete());
        }
        let at = if login.is_empty() { "" } else { "@" };
        // As the URL of a server of its own: that says who logs in, and how a host is written.
        let server = |host: &str| connection_info(&format!("{scheme}://{login}{at}{host}/{database}"));
        let sentinels = hosts.split(',').map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            server(&if has_port { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") })
        });
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        let redis = sentinels.first().ok_or_else(incomplete)?.clone();
        let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
        let builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master);
        let mut builder = builder.map_err(|error| unusable(&error))?;
        builder = builder.set_client_to_redis_db(redis.redis_settings().db());
        if let Some(user) = redis.redis_settings().username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.redis_settings().password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &access.sentinel_username {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &access.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        let certificates = access.certificates()?;
        if is_tls(&redis) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(certificates) = certificates {
                builder = builder.set_client_to_redis_certificates(certificates.clone());
                builder = builder.set_client_to_sentinel_certificates(certificates);
            }
        } else if certificates.is_some() {
            return Err(certificates_without_tls());
        }
        let client = builder.build().map_err(|error| unusable(&error))?;
        Ok(Self::Sentinel(Box::new(Sentinels(tokio::sync::Mutex::new(client)))))
    }

    pub(super) fn cluster(nodes: &[&str], access: &RedisAccess, name: &str) -> Result<Self, QueueError> {
        // Redis's own rule: what stands between the first `{` of a key and the `}` after it.
        let tag = name.split('}').next().filter(|tag| !tag.is_empty());
        let Some(tag) = tag else {
            let why = "a deployment on a Redis Cluster needs a name that does not start with }";
            return Err(QueueError::Setting(why.into()));
        };
        let servers = nodes.iter().map(|node| connection_info(node)).collect::<Result<Vec<_>, _>>()?;
        let certificates = access.certificates()?;
        if certificates.is_some() && !servers.iter().all(is_tls) {
            return Err(certificates_without_tls());
        }
        let client = |for_what: Use| {
            let mut builder = ClusterClientBuilder::new(servers.iter().cloned())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(for_what.response_timeout())
                // They would also send again what got no answer.
                .retries(0);
            if let Some(certificates) = &certificates {
                builder = builder.certs(certificates.clone());
            }
            builder.build().map(Box::new).map_err(|error| unusable(&error))
        };
        let route = SingleNodeRoutingInfo::SpecificNode(Route::new(cluster_slot(tag), SlotAddr::Master));
        Ok(Self::Cluster { short: client(Use::Short)?, blocking: client(Use::Blocking)?, route })
    }

    pub(super) async fn connect(&self, for_what: Use) -> RedisResult<Connection> {
        match (self, for_what) {
            (Self::Alone(pool), _) => {
                let connection = pool.get().await.map_err(|error| match error {
                    PoolError::Backend(error) => error,
                    other => io::Error::other(other).into(),
                })?;
                // For good: the pool would lend it to one call at a time, and ask Redis before each.
                let mut connection = deadpool_redis::Connection::take(connection);
                connection.set_response_timeout(for_what.response_timeout());
                Ok(Connection::Alone(connection))
            }
            (Self::Sentinel(sentinels), _) => {
                // Each may take its time, one after the other.
                let found = async { sentinels.0.lock().await.async_get_client().await };
                let primary =
                    tokio::time::timeout(RESPONSE_TIMEOUT, found).await.map_err(io::Error::from)??;
                let config = connection_config(for_what);
                Ok(Connection::Alone(primary.get_multiplexed_async_connection_with_config(&config).await?))
            }
            (Self::Cluster { short: client, route, .. }, Use::Short)
            | (Self::Cluster { blocking: client, route, .. }, Use::Blocking) => {
                // Longer than for one server: each node may take its time, one after the other.
                let connection = tokio::time::timeout(RESPONSE_TIMEOUT, client.get_async_connection())
                    .await
                    .map_err(io::Error::from)??;
                Ok(Connection::Cluster(connection, route.clone()))
            }
        }
    }
}

/// Carries many commands at once when it is cloned.
#[derive(Clone)]
pub(super) enum Connection {
    Alone(MultiplexedConnection),
    Cluster(ClusterConnection, SingleNodeRoutingInfo),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Alone(connection) => connection.req_packed_command(command),
            Self::Cluster(connection, route) => {
                connection.route_command(command.clone(), RoutingInfo::SingleNode(route.clone())).boxed()
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Alone(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection, route) => {
                connection.route_pipeline(pipeline.clone(), offset, count, route.clone()).boxed()
            }
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Alone(connection) => connection.get_db(),
            Self::Cluster(connection, _) => connection.get_db(),
        }
    }
}

/// Splits at commas that a URL follows: a path or a password may have commas too.
pub(super) fn split_urls(urls: &str) -> Vec<&str> {
    let is_url =
        |text: &str| ["redis://", "rediss://"].iter().any(|scheme| text.trim_start().starts_with(scheme));
    let commas = urls.match_indices(',').map(|(at, _)| at).filter(|at| is_url(&urls[at + 1..]));
    let mut start = 0;
    let mut found = Vec::new();
    for end in commas.chain([urls.len()]) {
        found.push(urls[start..end].trim());
        start = end + 1;
    }
    found
}

/// The scheme of the servers behind a URL of sentinels, and what follows its own.
fn split_sentinel(url: &str) -> Option<(&'static str, &str)> {
    let plain = url.strip_prefix("redis+sentinel://").map(|rest| ("redis", rest));
    plain.or_else(|| url.strip_prefix("rediss+sentinel://").map(|rest| ("rediss", rest)))
}

fn connection_info(url: &str) -> Result<ConnectionInfo, QueueError> {
    url.into_connection_info().map_err(|error| unusable(&error))
}

fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

fn connection_config(for_what: Use) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(for_what.response_timeout()))
}

fn unusable(error: &RedisError) -> QueueError {
    QueueError::Setting(error.to_string())
}

fn certificates_without_tls() -> QueueError {
    QueueError::Setting(
        "certificates are for TLS: the URL has to begin with rediss:// or rediss+sentinel://".into(),
    )
}

/// The slot of a hash tag: CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn cluster_slot(tag: &str) -> u16 {
    let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    let crc = tag.bytes().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| shift(crc)));
    crc % CLUSTER_SLOTS
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::Redis;

    #[test]
    fn urls_are_split_where_a_url_follows() {
        for (given, expected) in [
            ("redis://one:1/0", vec!["redis://one:1/0"]),
            ("redis://:a,b@one:1", vec!["redis://:a,b@one:1"]),
            ("redis+unix:///data, old/redis.sock", vec!["redis+unix:///data, old/redis.sock"]),
            (
                "redis://one:1,redis://two:2, redis://:p@three:3",
                vec!["redis://one:1", "redis://two:2", "redis://:p@three:3"],
            ),
        ] {
            assert_eq!(split_urls(given), expected);
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(cluster_slot("123456789"), 0x31C3);
        assert_eq!(cluster_slot("foo"), 12182);
    }

    #[test]
    fn a_cluster_needs_a_hash_tag() {
        let nodes = "redis://127.0.0.1:1,redis://127.0.0.1:2";
        assert!(matches!(Redis::open(nodes, "}", 1), Err(QueueError::Setting(_))));
        assert!(Redis::open(nodes, "a}b", 1).is_ok());
    }

    fn refusal(url: &str, access: &RedisAccess) -> String {
        match Redis::open_with(url, access, "jj", 1) {
            Err(QueueError::Setting(why)) => why,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let none = RedisAccess::default();
        for (url, told) in [
            ("127.0.0.1:6379", "URL"),
            ("http://127.0.0.1", "URL"),
            ("redis+sentinel://127.0.0.1:26379", "/SERVICE"),
            ("redis+sentinel:///jobs", "HOST"),
            ("redis+sentinel://127.0.0.1/jobs/one", "database"),
        ] {
            let why = refusal(url, &none);
            assert!(why.contains(told), "{url}: {why}");
        }
        for url in [
            "redis+sentinel://user:p%40ss@one,two:26380/jobs/3",
            "rediss+sentinel://[::1]:26379/jobs",
            "rediss://127.0.0.1:6380/1",
        ] {
            assert!(Redis::open(url, "jj", 1).is_ok(), "{url}");
        }
    }

    #[test]
    fn certificates_have_to_fit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.pem");
        std::fs::write(&file, "nothing").unwrap();
        let ca = |file: &Path| RedisAccess { ca_file: Some(file.into()), ..RedisAccess::default() };
        let url = "rediss://127.0.0.1";
        assert!(refusal(url, &ca(&file)).contains("holds no certificate"));
        assert!(refusal(url, &ca(&folder.path().join("none"))).contains("cannot be read"));
        let half = RedisAccess { key_file: Some(file.clone()), ..RedisAccess::default() };
        assert!(refusal(url, &half).contains("name both files"));
        let both = RedisAccess {
            certificate_file: Some(file.clone()),
            key_file: Some(file),
            ..RedisAccess::default()
        };
        assert!(!refusal(url, &both).is_empty());
    }
}

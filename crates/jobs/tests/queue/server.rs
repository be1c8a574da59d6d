//! The Redis that a test runs on. `JOBS_TEST_REDIS` says which kind:
//!
//! * not set: the redis-server (or valkey-server) in PATH, one server for each test;
//! * `cluster`: a Redis Cluster of three such servers, shared by the tests of a process; the names of their queues
//!   differ, so that their keys spread over the nodes, and no test may touch what is not its own;
//! * a path: this redis-server, one for each test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::private_redis::PrivateRedis;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_mins(3);
const NODES: u16 = 3;
const SLOTS: u16 = 16384;

/// A Redis, and a name for one test's queue in it.
pub(crate) struct TestRedis {
    name: String,
    server: Server,
}

enum Server {
    Alone { running: Option<Box<PrivateRedis>>, url: String, folder: tempfile::TempDir },
    Cluster(Arc<Cluster>),
}

/// The value of JOBS_TEST_REDIS, if it has one.
fn kind() -> Option<String> {
    std::env::var("JOBS_TEST_REDIS").ok().filter(|kind| !kind.is_empty())
}

async fn start_alone(folder: &Path) -> PrivateRedis {
    match kind() {
        Some(program) => PrivateRedis::start_with(Path::new(&program), folder).await.unwrap(),
        None => PrivateRedis::start(folder).await.unwrap(),
    }
}

impl TestRedis {
    /// A Redis that other tests may use at the same time.
    pub(crate) async fn shared() -> Self {
        static CLUSTER: OnceCell<Arc<Cluster>> = OnceCell::const_new();
        if kind().as_deref() != Some("cluster") {
            return Self::own().await;
        }
        let cluster = CLUSTER.get_or_init(async || Arc::new(Cluster::start().await)).await;
        Self::with(Server::Cluster(cluster.clone()))
    }

    /// A Redis for one test alone, which may stop it and cut its connections.
    pub(crate) async fn own() -> Self {
        if kind().as_deref() == Some("cluster") {
            return Self::with(Server::Cluster(Arc::new(Cluster::start().await)));
        }
        let folder = tempfile::tempdir().unwrap();
        let running = start_alone(folder.path()).await;
        let url = running.url().to_owned();
        Self::with(Server::Alone { running: Some(Box::new(running)), url, folder })
    }

    fn with(server: Server) -> Self {
        static TESTS: AtomicUsize = AtomicUsize::new(0);
        Self { name: format!("test-{}", TESTS.fetch_add(1, Ordering::Relaxed)), server }
    }

    /// What `Redis::open` takes.
    pub(crate) fn url(&self) -> &str {
        match &self.server {
            Server::Alone { url, .. } => url,
            Server::Cluster(cluster) => &cluster.url,
        }
    }

    /// A name for the queue that no other test has.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A key of this test's queue, as in `key("sched")`.
    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{{{}}}:3:{rest}", self.name)
    }

    /// All keys of this test's queue, without what they all begin with.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let prefix = self.key("");
        let mut list = redis::cmd("KEYS");
        let keys: Vec<String> =
            list.arg(format!("{prefix}*")).query_async(&mut self.raw().await).await.unwrap();
        keys.iter().map(|key| key.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    /// A connection of the test's own to the server that has the keys of its queue.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        match &self.server {
            Server::Alone { url, .. } => connect(url).await.unwrap(),
            Server::Cluster(cluster) => cluster.node_of(&self.key("sched")).await,
        }
    }

    /// Stops what [`TestRedis::own`] started; `start` starts it again, with its data.
    pub(crate) async fn stop(&mut self) {
        match &mut self.server {
            Server::Alone { running, .. } => running.take().unwrap().stop().await,
            Server::Cluster(cluster) => cluster.stop().await,
        }
    }

    /// Starts again what was stopped.
    pub(crate) async fn start(&mut self) {
        match &mut self.server {
            Server::Alone { running, folder, .. } => {
                *running = Some(Box::new(start_alone(folder.path()).await));
            }
            Server::Cluster(cluster) => {
                for node in &cluster.nodes {
                    assert!(node.start().await, "a node does not start again");
                }
                cluster.wait_until_ok().await;
            }
        }
    }
}

pub(crate) async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    redis::Client::open(url)?.get_multiplexed_async_connection().await
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A Redis Cluster without replicas. It ends when it is dropped or the test process ends, however that ends.
struct Cluster {
    url: String,
    nodes: Vec<Node>,
    _watch: Watch,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let watch = Watch::over(&folder);
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Node::start_somewhere(&folder).await);
        }
        for (index, node) in (0..NODES).zip(&nodes) {
            let mut redis = node.connect().await.unwrap();
            let mut epoch = redis::cmd("CLUSTER");
            epoch.arg("SET-CONFIG-EPOCH").arg(index + 1).exec_async(&mut redis).await.unwrap();
            let mut add = redis::cmd("CLUSTER");
            add.arg("ADDSLOTS");
            for slot in (0..SLOTS).filter(|slot| slot * NODES / SLOTS == index) {
                add.arg(slot);
            }
            add.exec_async(&mut redis).await.unwrap();
            for other in &nodes[..usize::from(index)] {
                let mut meet = redis::cmd("CLUSTER");
                meet.arg("MEET").arg("127.0.0.1").arg(other.port).exec_async(&mut redis).await.unwrap();
            }
        }
        let url = nodes.iter().map(Node::url).collect::<Vec<_>>().join(",");
        let cluster = Self { url, nodes, _watch: watch };
        cluster.wait_until_ok().await;
        cluster
    }

    async fn wait_until_ok(&self) {
        for node in &self.nodes {
            until("the cluster is up", async || {
                let mut ask = redis::cmd("CLUSTER");
                ask.arg("INFO");
                let Ok(mut redis) = node.connect().await else { return false };
                let info: String = ask.query_async(&mut redis).await.unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_size:{NODES}"))
            })
            .await;
        }
    }

    async fn node_of(&self, key: &str) -> MultiplexedConnection {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("KEYSLOT").arg(key);
        let slot: u16 = ask.query_async(&mut self.nodes[0].connect().await.unwrap()).await.unwrap();
        self.nodes[usize::from(slot * NODES / SLOTS)].connect().await.unwrap()
    }

    async fn stop(&self) {
        for node in &self.nodes {
            if let Ok(mut redis) = node.connect().await {
                let _closed: redis::RedisResult<()> = redis::cmd("SHUTDOWN").exec_async(&mut redis).await;
            }
            until("a node has ended", async || !node.pid_file().exists()).await;
        }
    }
}

struct Node {
    folder: PathBuf,
    port: u16,
}

impl Node {
    /// Below the ports that the system gives out for outgoing connections, with room for the ports of the cluster's
    /// own protocol, which are 10,000 higher.
    async fn start_somewhere(folder: &Path) -> Self {
        for _ in 0..50 {
            let port = 10_000 + uuid::Uuid::new_v4().as_fields().1 % 12_000;
            let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            let node = Self { folder: folder.join(port.to_string()), port };
            if !node.folder.exists() && is_free(port) && is_free(port + 10_000) {
                std::fs::create_dir(&node.folder).unwrap();
                if node.start().await {
                    return node;
                }
            }
        }
        panic!("no port can be had");
    }

    /// Answers whether it started.
    async fn start(&self) -> bool {
        let settings = [
            ("port", self.port.to_string()),
            ("bind", "127.0.0.1".into()),
            ("cluster-enabled", "yes".into()),
            ("dir", self.folder.display().to_string()),
            ("pidfile", self.pid_file().display().to_string()),
            ("logfile", "redis.log".into()),
            ("appendonly", "yes".into()),
            ("save", String::new()),
            ("daemonize", "yes".into()),
        ];
        let start = |program: &str| {
            let mut command = Command::new(program);
            for (name, value) in &settings {
                command.arg(format!("--{name}")).arg(value);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
        };
        start("redis-server").or_else(|_| start("valkey-server")).unwrap();
        // It goes into the background before it listens, and ends there if it cannot.
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if self.is_ours().await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Another process may have been faster with the port.
    async fn is_ours(&self) -> bool {
        let Ok(mut redis) = self.connect().await else { return false };
        let mut ask = redis::cmd("CONFIG");
        let dir = ask.arg("GET").arg("dir").query_async::<(String, String)>(&mut redis).await;
        dir.is_ok_and(|(_, dir)| Path::new(&dir) == self.folder.canonicalize().unwrap())
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        connect(&self.url()).await
    }
}

/// Ends the nodes in a folder and removes it, as soon as nobody holds this any more. A static is not dropped when the
/// process ends, and a killed process drops nothing: a shell waits for our end of its standard input to close.
struct Watch(#[expect(dead_code, reason = "it is held for its standard input")] Child);

impl Watch {
    fn over(folder: &Path) -> Self {
        const SCRIPT: &str = r#"
            cd "$1" && cat >/dev/null
            for file in */pid; do [ -e "$file" ] && kill -TERM "$(cat "$file")"; done
            for wait in $(seq 100); do ls */pid >/dev/null 2>&1 || break; sleep 0.1; done
            cd / && rm -rf "$1""#;
        use std::os::unix::process::CommandExt;
        let mut watch = Command::new("sh");
        // In a process group of its own: a Ctrl-C in the terminal ends us, and this has work to do then.
        watch.args(["-c", SCRIPT, "watch"]).arg(folder).stdin(Stdio::piped()).process_group(0);
        Self(watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

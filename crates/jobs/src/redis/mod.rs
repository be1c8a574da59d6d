//! The connections to Redis: a few that all short commands share, each carrying many at once, and connections of
//! their own for commands that block.
//!
//! A shared connection that breaks is forgotten, and the next call makes another. One that was idle, or whose neighbour
//! broke, is tried out before it is used. A call is sent again only where Redis said that it was not carried out (a
//! cluster that is being rearranged), never when its answer was lost: what became of it then is for its caller to find
//! out.
//!
//! With sentinels, each connection that is made leads to whoever is the primary by then. A primary that has become a replica
//! refuses to write, or cuts its connections, which has the same effect as any broken one.
//!
//! On a cluster everything goes to the node that has the slot of the deployment's keys, also what names no key: a
//! script is loaded where it is called, whatever the state of the other nodes. Not promised: that a deployment goes on
//! while its slot is moved to another node, since scripts derive keys that Redis does not know of.

mod server;

use std::{
    io,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Script, ScriptInvocation,
    ServerErrorKind,
};
use tokio::time::Instant;

pub use self::server::RedisAccess;
use self::server::{Connection, Server, Use, split_urls};
use crate::{error::QueueError, scripts::Keys};

/// How long one command may take before Redis counts as away: long enough for a loaded machine, short enough for a
/// caller who waits.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a blocking command may ask Redis to wait.
pub(crate) const LONGEST_BLOCK: Duration = Duration::from_secs(1);
/// A connection that was not used for this long may have died without a word.
const IDLE: Duration = Duration::from_secs(1);
/// How soon a call is made again that a cluster refused because it is being rearranged.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redis {
    shared: Arc<SharedConnections>,
    keys: Keys,
}

impl Redis {
    /// Prepares connections; none is made yet. `url` as in `redis://user:password@host:6379/0`, `rediss://` for TLS,
    /// `redis+unix:///path/to.sock`, or `redis+sentinel://user:password@sentinel:26379,sentinel:26379/service/0` (or
    /// `rediss+sentinel://`) for the primary that sentinels name; several of the first two, separated by commas, are nodes of one
    /// Redis Cluster. `name` keeps deployments apart that share a Redis. `pool_size` connections are shared by short commands;
    /// of a cluster one, which leads to all nodes.
    pub fn open(url: &str, name: &str, pool_size: usize) -> Result<Self, QueueError> {
        Self::open_with(url, &RedisAccess::default(), name, pool_size)
    }

    /// The same with certificates and what else a URL does not say. Their files are read now.
    pub fn open_with(
        url: &str,
        access: &RedisAccess,
        name: &str,
        pool_size: usize,
    ) -> Result<Self, QueueError> {
        let urls = split_urls(url);
        let (server, connections) = match urls.as_slice() {
            [url] => (Server::single(url, access, pool_size)?, pool_size),
            nodes => (Server::cluster(nodes, access, name)?, 1),
        };
        let places = std::iter::repeat_with(Place::default).take(connections.max(1)).collect();
        let shared =
            SharedConnections { server, places, next: AtomicUsize::new(0), observer: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared), keys: Keys::new(name) })
    }

    /// Has every call that is made from now on told to this when it is over; once for these connections, later ones are not asked.
    /// Commands that block are not told of.
    pub fn observe(&self, observer: impl Fn(&RedisCall) + Send + Sync + 'static) {
        let _there_is_one = self.shared.observer.set(Observer(Box::new(observer)));
    }

    /// A call of a script, with the key and the first argument that all scripts take.
    pub(crate) fn script<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.keys.sched()).arg(self.keys.prefix());
        call
    }

    /// Calls a script, and loads it first where Redis does not know it (any more).
    pub async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, QueueError> {
        self.shared.send(Request::Script(call)).await
    }

    /// Runs a command that answers at once.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, QueueError> {
        self.shared.send(Request::Command(command)).await
    }

    /// Runs commands that answer at once, in one round trip. They should only read: it is no transaction, and a
    /// cluster may refuse some of them, after which all are sent again.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, QueueError> {
        self.shared.send(Request::Pipeline(pipeline)).await
    }

    /// A connection for commands that block.
    pub(crate) async fn blocking(&self) -> Result<Blocking, QueueError> {
        self.shared.server.connect(Use::Blocking).await.map(Blocking).map_err(unavailable)
    }

    /// What the names of all keys of the deployment begin with: its hash tag, so that one node of a cluster has them all.
    pub fn tag(&self) -> &str {
        self.keys.name()
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What in Redis's settings puts jobs at risk, in words for an operator. Nothing, where Redis does not let us ask.
    pub async fn dangers(&self) -> Vec<String> {
        let setting = async |name: &str| {
            let mut ask = redis::cmd("CONFIG");
            ask.arg("GET").arg(name);
            let pair = self.query::<Vec<String>>(&ask).await.ok()?;
            pair.into_iter().nth(1)
        };
        let mut dangers = Vec::new();
        if setting("maxmemory-policy").await.is_some_and(|policy| policy != "noeviction") {
            dangers.push("it may evict keys when its memory is full, and jobs with them: set maxmemory-policy to noeviction".to_owned());
        }
        let appends = setting("appendonly").await;
        if appends.is_some_and(|appends| appends == "no") {
            let snapshots = setting("save").await.is_some_and(|save| !save.is_empty());
            let danger = if snapshots {
                "it writes snapshots only, so a crash loses the jobs since the last: set appendonly to yes"
            } else {
                "it keeps nothing on disk, so a restart loses all jobs: set appendonly to yes"
            };
            dangers.push(danger.to_owned());
        }
        let info: String = self.query(&redis::cmd("INFO")).await.unwrap_or_default();
        let told = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).unwrap_or_default()
        };
        let version = told("redis_version");
        let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
        if let (Some(major), Some(minor)) = (parts.next(), parts.next())
            && (major, minor) < OLDEST
        {
            dangers.push(format!("it is version {version}, too old to work: 6.2 or newer is needed"));
        }
        let bytes = |name: &str| told(name).parse::<u64>().unwrap_or_default();
        let (used, most) = (bytes("used_memory"), bytes("maxmemory"));
        if most > 0 && used > most / 10 * 9 {
            dangers.push(format!(
                "its memory is nearly full ({used} of {most} bytes), and then it takes no more jobs: raise maxmemory, or keep \
                 records for a shorter time"
            ));
        }
        dangers
    }

    /// Whether Redis answers (of a cluster, the node that has the deployment's keys).
    pub async fn ping(&self) -> Result<(), QueueError> {
        // Unlike PING, it names a key: no other node of a cluster may answer in this one's place.
        let mut ask = redis::cmd("EXISTS");
        ask.arg(self.keys.sched());
        self.query::<i64>(&ask).await.map(|_| ())
    }
}

/// The oldest Redis whose commands are enough.
const OLDEST: (u32, u32) = (6, 2);

/// A connection of its own, for commands that block. After an error it should be dropped and made anew.
pub(crate) struct Blocking(Connection);

impl Blocking {
    /// Runs a command that may block for up to [`LONGEST_BLOCK`].
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, QueueError> {
        Ok(command.query_async(&mut self.0).await?)
    }
}

/// A call of Redis that is over.
#[derive(Debug, Clone, Copy)]
pub struct RedisCall {
    /// What was sent: `script`, `command` or `pipeline`.
    pub what: &'static str,
    /// How long it took, waiting for a connection included.
    pub took: Duration,
    /// Whether Redis answered, be it with an error.
    pub answered: bool,
}

impl RedisCall {
    /// What can be sent.
    pub const KINDS: [&str; 3] = ["script", "command", "pipeline"];
}

struct Observer(Box<dyn Fn(&RedisCall) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// What can be sent.
#[derive(Clone, Copy)]
enum Request<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Request<'_> {
    fn as_str(self) -> &'static str {
        match self {
            Self::Script(_) => "script",
            Self::Command(_) => "command",
            Self::Pipeline(_) => "pipeline",
        }
    }

    async fn send<T: FromRedisValue>(self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Script(call) => call.invoke_async(connection).await,
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }
}

#[derive(Debug)]
struct SharedConnections {
    server: Server,
    places: Vec<Place>,
    /// Counts calls that found all connections busy, so that they take turns.
    next: AtomicUsize,
    observer: OnceLock<Observer>,
}

impl SharedConnections {
    async fn send<T: FromRedisValue>(self: &Arc<Self>, request: Request<'_>) -> Result<T, QueueError> {
        let begun = Instant::now();
        let answer = self.send_until_taken(request).await;
        if let Some(Observer(observer)) = self.observer.get() {
            let answered = !matches!(answer, Err(QueueError::Unavailable(_)));
            observer(&RedisCall { what: request.as_str(), took: begun.elapsed(), answered });
        }
        answer
    }

    async fn send_until_taken<T: FromRedisValue>(
        self: &Arc<Self>,
        request: Request<'_>,
    ) -> Result<T, QueueError> {
        let end = Instant::now() + RESPONSE_TIMEOUT;
        loop {
            let place = self.choose();
            let attempt = place.take_up(self);
            let mut connection = match attempt.clone().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.broke(&place, &attempt);
                    return Err(unavailable(error));
                }
            };
            let error = match request.send(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is_broken(&error) {
                self.broke(&place, &attempt);
            }
            drop(place);
            if !was_refused(&error) || Instant::now() > end {
                return Err(error.into());
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    /// The first connection that carries no call, so that few calls meet one that has been idle; the next in turn when all do.
    fn choose(&self) -> Chosen<'_> {
        let one =
            |place: &&Place| place.calls.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Chosen(self.places.iter().find(one).unwrap_or_else(|| {
            let place = &self.places[self.next.fetch_add(1, Ordering::Relaxed) % self.places.len()];
            place.calls.fetch_add(1, Ordering::Relaxed);
            place
        }))
    }

    fn broke(&self, place: &Place, attempt: &Attempt) {
        if place.forget(attempt) {
            self.doubt_all();
        }
    }

    /// What broke one has often broken all: whoever tries again must not run into the next.
    fn doubt_all(&self) {
        for place in &self.places {
            place.lock().doubtful = true;
        }
    }
}

/// A connection, or the attempt to make it: all who come meanwhile wait for the same one, and none of them waits for
/// longer than that one takes.
type Attempt = Shared<BoxFuture<'static, RedisResult<Connection>>>;

/// Where a shared connection is kept.
#[derive(Debug, Default)]
struct Place {
    kept: Mutex<Kept>,
    /// How many calls it carries.
    calls: AtomicUsize,
}

/// A connection for the time of one call.
struct Chosen<'a>(&'a Place);

impl Deref for Chosen<'_> {
    type Target = Place;

    fn deref(&self) -> &Place {
        self.0
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Kept {
    attempt: Option<Attempt>,
    used: Instant,
    /// To be tried out before it is used again.
    doubtful: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self { attempt: None, used: Instant::now(), doubtful: false }
    }
}

impl Place {
    fn take_up(&self, shared: &Arc<SharedConnections>) -> Attempt {
        let mut kept = self.lock();
        let idle = std::mem::replace(&mut kept.used, Instant::now()).elapsed() > IDLE;
        let doubtful = std::mem::take(&mut kept.doubtful) || idle;
        let attempt = match kept.attempt.take() {
            Some(attempt) if !doubtful => attempt,
            earlier => begin(shared.clone(), earlier.and_then(|earlier| earlier.peek()?.clone().ok())),
        };
        kept.attempt.insert(attempt).clone()
    }

    /// Makes room for another, and answers true, unless somebody else did already.
    fn forget(&self, broken: &Attempt) -> bool {
        self.lock().attempt.take_if(|attempt| attempt.ptr_eq(broken)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries out the connection that there was, if any, and makes one if it does not answer. In a task of its own, so that
/// it comes to an end also when the one who asked is gone.
fn begin(shared: Arc<SharedConnections>, earlier: Option<Connection>) -> Attempt {
    let task = tokio::spawn(async move {
        if let Some(mut connection) = earlier {
            let ping = redis::cmd("PING");
            let answer = tokio::time::timeout(CONNECT_TIMEOUT, ping.exec_async(&mut connection)).await;
            if matches!(answer, Ok(Ok(()))) {
                return Ok(connection);
            }
            shared.doubt_all();
        }
        shared.server.connect(Use::Short).await
    });
    task.map(|ended| ended.unwrap_or_else(|error| Err(io::Error::other(error).into()))).boxed().shared()
}

/// Whether no further command should be sent over the connection on which this happened.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        // A replica since a moment ago; the address may lead to its successor by now.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Whether a cluster did not carry out the command, and may after a moment. (The client learns from these answers where
/// the slot is now.)
fn was_refused(error: &RedisError) -> bool {
    error.is_cluster_error() || error.kind() == ErrorKind::ClusterConnectionNotFound
}

/// There is no connection, so whatever the reason, the call was not made.
fn unavailable(error: RedisError) -> QueueError {
    QueueError::Unavailable(Box::new(error))
}

//! A Redis of one's own: a redis-server (or valkey-server) child for one data folder, reached over a Unix socket that
//! only this user can open. It keeps an append-only file there, synced every second: a crash of any process loses
//! nothing, a power failure at most the last second.
//!
//! The child ends with its parent, however the parent ends: a shell in between waits for the parent's end of a pipe
//! to close. (`PR_SET_PDEATHSIG` would need unsafe code and exists on Linux only.)

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

/// Runs the command given as arguments until it ends by itself or standard input closes.
const UNTIL_PARENT_ENDS: &str = r#"
exec 3<&0
"$@" <&- 3<&- & server=$!
(cat <&3 >/dev/null; kill -TERM $server) & watch=$!
wait $server; status=$?
kill $watch 2>/dev/null
exit $status
"#;

/// A Unix socket's path may have about 108 bytes.
const LONGEST_SOCKET_PATH: usize = 100;
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Why there is no private Redis.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Neither server is installed.
    #[error(
        "neither redis-server nor valkey-server was found; install one (Debian: apt-get install redis-server), or set REDIS_URL to a Redis that runs already"
    )]
    NotInstalled,
    /// The server could not be started, or the folder could not be prepared.
    #[error("the private Redis could not be started in {0}")]
    Io(PathBuf, #[source] std::io::Error),
    /// The server ended right away, or did not answer.
    #[error("the private Redis in {folder} did not start ({why}); its log says: {log}")]
    Failed {
        /// The data folder.
        folder: PathBuf,
        /// What was seen.
        why: String,
        /// The last lines of the server's log.
        log: String,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct PrivateRedis {
    child: Child,
    url: String,
}

impl PrivateRedis {
    /// The URL under which the private Redis of this data folder is reached while it runs.
    pub fn url_for(folder: &Path) -> String {
        format!("redis+unix://{}", socket_for(folder).display())
    }

    /// The URL of this server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server and waits until it has read its data. The caller sees to it that nobody else uses the folder;
    /// a server left over from a parent that was killed is waited for first.
    pub async fn start(folder: &Path) -> Result<Self, StartError> {
        let program = find_server().ok_or(StartError::NotInstalled)?;
        Self::start_with(&program, folder).await
    }

    /// The same with this redis-server rather than the one in PATH.
    pub async fn start_with(program: &Path, folder: &Path) -> Result<Self, StartError> {
        let io = |error| StartError::Io(folder.to_owned(), error);
        let socket = socket_for(folder);
        for needed in [Some(folder), socket.parent()].into_iter().flatten() {
            std::fs::create_dir_all(needed).map_err(io)?;
        }
        wait_for_predecessor(folder).await?;

        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(UNTIL_PARENT_ENDS).arg("private-redis").arg(program);
        for (name, value) in settings(folder, &socket) {
            command.arg(format!("--{name}")).arg(value);
        }
        // In a process group of its own: a Ctrl-C in the terminal is for us, and we stop it when we are done with it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(io)?;

        let url = Self::url_for(folder);
        let end = Instant::now() + START_LIMIT;
        loop {
            let why = match (child.try_wait().map_err(io)?, answers(&url).await) {
                (None, true) => return Ok(Self { child, url }),
                (None, false) if Instant::now() < end => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                (None, false) => "it did not answer".to_owned(),
                (Some(status), _) => status.to_string(),
            };
            return Err(StartError::Failed { folder: folder.to_owned(), why, log: end_of_log(folder) });
        }
    }

    /// Stops the server after it has written everything down.
    pub async fn stop(mut self) {
        drop(self.child.stdin.take());
        if tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            tracing::warn!("the private Redis takes long to stop; it goes on stopping by itself");
        }
    }

    /// Ends when the server ends without having been asked to.
    pub async fn ended(&mut self) -> std::io::Result<std::process::ExitStatus> {
        // Unlike `Child::wait`, which closes standard input and so would stop the server.
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn settings(folder: &Path, socket: &Path) -> [(&'static str, String); 10] {
    let path = |path: &Path| path.display().to_string();
    [
        ("port", "0".into()),
        ("unixsocket", path(socket)),
        ("unixsocketperm", "700".into()),
        ("dir", path(folder)),
        ("logfile", path(&folder.join("redis.log"))),
        ("loglevel", "warning".into()),
        ("appendonly", "yes".into()),
        ("appendfsync", "everysec".into()),
        ("save", String::new()),
        ("maxmemory-policy", "noeviction".into()),
    ]
}

fn socket_for(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let here = folder.join("redis.sock");
    if here.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return here;
    }
    let hash = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    let short = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
    short.join(format!("jesse-jobs-{}", &hash[..16])).join("redis.sock")
}

fn find_server() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    let candidates = ["redis-server", "valkey-server"].into_iter();
    candidates
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

async fn answers(url: &str) -> bool {
    let Ok(client) = redis::Client::open(url) else { return false };
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").exec_async(&mut connection).await
    };
    ping.await.is_ok()
}

/// Asks a server to write everything down and end. It answers only when it refuses.
async fn shut_down(url: &str) {
    let Ok(client) = redis::Client::open(url) else { return };
    if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
        let _closed: redis::RedisResult<()> = redis::cmd("SHUTDOWN").exec_async(&mut connection).await;
    }
}

async fn wait_for_predecessor(folder: &Path) -> Result<(), StartError> {
    let socket = socket_for(folder);
    let end = Instant::now() + STOP_LIMIT;
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        // Its parent was killed, so it ends by itself, unless the shell in between was killed as well.
        tracing::info!("waiting for the private Redis of an earlier process to end");
        shut_down(&PrivateRedis::url_for(folder)).await;
    }
    while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        if Instant::now() > end {
            let why = "an older one still runs on this folder and does not end".into();
            return Err(StartError::Failed { folder: folder.to_owned(), why, log: end_of_log(folder) });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn end_of_log(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("redis.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(3).collect();
    if lines.is_empty() {
        "(nothing)".into()
    } else {
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

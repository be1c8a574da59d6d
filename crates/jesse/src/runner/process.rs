//! One zygote's process, from its start to its end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::UnixListener,
    process::{Child, Command},
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    RunnerSettings,
    connection::{self, Opened},
    protocol::Ready,
    tasks::Tasks,
};

/// Importing Jesse takes seconds; on a machine that is busy or cold, many of them.
const START_LIMIT: Duration = Duration::from_mins(3);
/// How long it may take to end when it is hung up on.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How much of what the zygote prints is kept for an error message.
const LAST_LINES: usize = 12;

/// A zygote that serves, or did.
#[derive(Debug)]
pub(super) struct Zygote {
    number: u64,
    ready: Arc<Ready>,
    tasks: Arc<Tasks>,
    folder: PathBuf,
    since: Instant,
    /// What it said last: how often it has answered, and how large it was.
    pongs: watch::Receiver<Pong>,
    ended: CancellationToken,
    stop: CancellationToken,
    max_body: usize,
    _process: AbortOnDropHandle<()>,
}

/// An answer of a zygote.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pong {
    pub(super) count: u64,
    pub(super) resident_kb: u64,
}

impl Zygote {
    /// Starts one in a folder of its own; ends when it serves, or with why it does not.
    pub(super) async fn start(
        settings: &RunnerSettings,
        number: u64,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let prefix = format!("z{number}-");
        let folder = tempfile::Builder::new().prefix(&prefix).rand_bytes(4).tempdir_in(&settings.folder);
        let folder = folder.map_err(|error| format!("no folder for the runner: {error}"))?;
        let socket = folder.path().join("s");
        let listener =
            UnixListener::bind(&socket).map_err(|error| format!("no socket for the runner: {error}"))?;
        let (tasks, stop, ended) = (Tasks::new(), stop.child_token(), CancellationToken::new());
        let (pong, pongs) = watch::channel(Pong::default());
        let (serving, mut served) = watch::channel(None);
        let process = Process {
            child: spawn(settings, &socket)?,
            listener,
            tasks: tasks.clone(),
            stop: stop.clone(),
            kill: CancellationToken::new(),
            max_body: settings.max_result_bytes,
            pong: Arc::new(pong),
        };
        let (path, over, python) = (folder.path().to_owned(), ended.clone(), settings.python.clone());
        let process = tokio::spawn(async move {
            let outcome = process.run(&serving, &python).await;
            over.cancel();
            if let Err(why) = outcome {
                serving.send_replace(Some(Err(why)));
            }
            drop::<(TempDir, _)>((folder, serving));
        });
        let process = AbortOnDropHandle::new(process);
        let answer = served.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        let ready = answer.unwrap_or_else(|| Err("the runner was stopped".to_owned()))?;
        Ok(Arc::new(Self {
            number,
            ready,
            tasks,
            folder: path,
            since: Instant::now(),
            pongs,
            ended,
            stop,
            max_body: settings.max_result_bytes,
            _process: process,
        }))
    }

    /// The higher, the later it was started.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn ready(&self) -> &Arc<Ready> {
        &self.ready
    }

    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Where scratch folders belong.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The largest body that a result may have.
    pub(super) fn max_body(&self) -> usize {
        self.max_body
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.tasks.is_connected()
    }

    /// Ends when it has ended; answers how long it served.
    pub(super) async fn ended(&self) -> Duration {
        self.ended.cancelled().await;
        self.since.elapsed()
    }

    /// Asks it whether it is there; its answer, if it comes in time.
    pub(super) async fn ping(&self, within: Duration) -> Option<Pong> {
        let mut pongs = self.pongs.clone();
        let before = pongs.borrow_and_update().count;
        self.tasks.to_zygote(&json!({"type": "ping"})).ok()?;
        let answered = tokio::time::timeout(within, pongs.wait_for(|pong| pong.count > before)).await;
        answered.ok()?.ok().map(|pong| *pong)
    }

    /// Lets it end with its last task.
    pub(super) async fn retire(&self) {
        let idle = async {
            while !self.tasks.close_if_idle() {
                self.tasks.idle().await;
            }
        };
        tokio::select! {
            () = idle => self.stop.cancel(),
            () = self.ended.cancelled() => {}
        }
        self.ended.cancelled().await;
    }
}

fn spawn(settings: &RunnerSettings, socket: &Path) -> Result<Child, String> {
    let sandbox = &settings.sandbox;
    let mut command = Command::new(&settings.python);
    command.args(["-m", "runner", "--sandbox", sandbox.mode.as_str()]);
    for (flag, folders) in [("--readable", &sandbox.readable), ("--staging", &sandbox.staging)] {
        for folder in folders {
            command.arg(flag).arg(folder);
        }
    }
    command.arg("--stay").arg(settings.stay.to_string());
    command
        .arg(socket)
        .env("PYTHONPATH", &settings.package)
        // A Ctrl-C in the terminal is for us alone.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", settings.python.display()))
}

/// What it takes to keep one going.
struct Process {
    child: Child,
    listener: UnixListener,
    tasks: Arc<Tasks>,
    stop: CancellationToken,
    kill: CancellationToken,
    max_body: usize,
    pong: Arc<watch::Sender<Pong>>,
}

type Serving = watch::Sender<Option<Result<Arc<Ready>, String>>>;

impl Process {
    /// Runs from start to end. An error is why it never served.
    async fn run(mut self, serving: &Serving, python: &Path) -> Result<(), String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = self.child.stderr.take();
        let _printing =
            stderr.map(|stderr| AbortOnDropHandle::new(tokio::spawn(keep_last(stderr, lines.clone()))));
        let mut talk: Option<AbortOnDropHandle<()>> = None;
        let too_slow = tokio::time::sleep(START_LIMIT);
        tokio::pin!(too_slow);
        let outcome = loop {
            tokio::select! {
                status = self.child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
                    break match talk {
                        Some(_) => Ok(()),
                        None => Err(format!("{} -m runner ended with {status}: {lines}", python.display())),
                    };
                }
                () = &mut too_slow, if talk.is_none() => {
                    break Err(format!("{} did not import Jesse in {START_LIMIT:?}", python.display()));
                }
                () = self.stop.cancelled() => {
                    // It ends when it is hung up on, and takes along what its tasks have started.
                    self.tasks.take_down();
                    drop(talk);
                    let _killed_if_not = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await;
                    break Ok(());
                }
                () = self.kill.cancelled() => break Ok(()),
                accepted = self.listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    if talk.is_some() {
                        let (tasks, max_body) = (self.tasks.clone(), self.max_body);
                        tokio::spawn(async move {
                            if let Ok(Opened::Task { id, reader }) = connection::open(stream).await {
                                connection::listen_to_task(id, reader, max_body, &tasks).await;
                            }
                        });
                    } else if let Ok(Opened::Zygote { ready, reader, writer }) = connection::open(stream).await {
                        tracing::info!(jesse.version = ready.jesse_version, sandbox = ready.sandbox.active, "a runner serves");
                        let (frames, receiver) = mpsc::unbounded_channel();
                        self.tasks.connected(frames, self.kill.clone());
                        serving.send_replace(Some(Ok(Arc::from(ready))));
                        let (tasks, kill, pong) = (self.tasks.clone(), self.kill.clone(), self.pong.clone());
                        talk = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                            let writing = AbortOnDropHandle::new(tokio::spawn(connection::write_to_zygote(writer, receiver)));
                            if let Err(error) = connection::listen_to_zygote(reader, &tasks, &pong).await {
                                tracing::error!(%error, "the runner process cannot be understood; it is killed");
                            }
                            drop(writing);
                            kill.cancel();
                        })));
                    }
                }
            }
        };
        self.take_down().await;
        outcome
    }

    /// Kills it if it is still there, and waits until it is not: its tasks count as gone from here on.
    async fn take_down(&mut self) {
        let _has_ended = self.child.kill().await;
        self.tasks.zygote_lost();
    }
}

/// Keeps the last lines of what is printed.
async fn keep_last(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(mut line)) = reader.next_line().await {
        line.truncate(line.floor_char_boundary(500));
        tracing::debug!(line, "the runner printed");
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

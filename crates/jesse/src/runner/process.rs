//! The zygote's process: started, listened to, and started again when it ends.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::UnixListener,
    process::Command,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    RunnerSettings,
    connection::{self, Opened},
    protocol::Ready,
    tasks::{Tasks, Zygote},
};

/// Importing Jesse takes seconds; on a machine that is busy or cold, many of them.
const START_LIMIT: Duration = Duration::from_mins(3);
/// How long it may take to end when it is hung up on.
const STOP_LIMIT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A zygote that served this long starts anew without a pause.
const SERVED_WELL: Duration = Duration::from_secs(10);
/// How much of what the zygote prints is kept for an error message.
const LAST_LINES: usize = 12;

/// Where the zygote stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    Starting,
    Serving(Arc<Ready>),
    Failed(String),
}

/// Keeps a zygote running until `stop`.
pub(super) async fn supervise(
    settings: RunnerSettings,
    socket: PathBuf,
    listener: UnixListener,
    tasks: Arc<Tasks>,
    state: watch::Sender<State>,
    stop: CancellationToken,
) {
    let mut pause = PAUSE;
    let mut last_failure = None;
    loop {
        let served = serve(&settings, &socket, &listener, &tasks, &state, &stop).await;
        tasks.zygote_lost();
        if stop.is_cancelled() {
            return;
        }
        match served {
            Ok(time) if time > SERVED_WELL => {
                tracing::warn!("the runner process ended and is started again");
                state.send_replace(State::Starting);
                pause = PAUSE;
                continue;
            }
            Ok(_) => {
                state.send_replace(State::Failed("the runner process ends soon after it has started".into()))
            }
            Err(why) => {
                if last_failure.as_ref() != Some(&why) {
                    tracing::error!(why, "the runner cannot be started; it is tried again until it can");
                }
                last_failure = Some(why.clone());
                state.send_replace(State::Failed(why))
            }
        };
        let _stopped = tokio::time::timeout(pause, stop.cancelled()).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        state.send_replace(State::Starting);
    }
}

/// Runs one zygote from start to end; answers how long it served.
async fn serve(
    settings: &RunnerSettings,
    socket: &PathBuf,
    listener: &UnixListener,
    tasks: &Arc<Tasks>,
    state: &watch::Sender<State>,
    stop: &CancellationToken,
) -> Result<Duration, String> {
    let mut child = Command::new(&settings.python)
        .args(["-m", "runner"])
        .arg(socket)
        .env("PYTHONPATH", &settings.package)
        // A Ctrl-C in the terminal is for us alone.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", settings.python.display()))?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let _printing = child
        .stderr
        .take()
        .map(|stderr| AbortOnDropHandle::new(tokio::spawn(keep_last(stderr, lines.clone()))));
    let last_lines = || lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");

    let mut zygote: Option<(Instant, AbortOnDropHandle<()>)> = None;
    let kill = CancellationToken::new();
    let too_slow = tokio::time::sleep(START_LIMIT);
    tokio::pin!(too_slow);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                return match zygote {
                    Some((since, _)) => Ok(since.elapsed()),
                    None => Err(format!("{} -m runner ended with {status}: {}", settings.python.display(), last_lines())),
                };
            }
            () = &mut too_slow, if zygote.is_none() => {
                return Err(format!("{} did not import Jesse in {START_LIMIT:?}", settings.python.display()));
            }
            () = stop.cancelled() => {
                // It ends when it is hung up on, and takes along what its tasks have started.
                tasks.zygote_lost();
                drop(zygote);
                let _killed_if_not = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
                return Ok(Duration::ZERO);
            }
            () = kill.cancelled() => return Ok(zygote.map_or(Duration::ZERO, |(since, _)| since.elapsed())),
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if zygote.is_some() {
                    let tasks = tasks.clone();
                    tokio::spawn(async move {
                        if let Ok(Opened::Task { id, reader }) = connection::open(stream).await {
                            connection::listen_to_task(id, reader, &tasks).await;
                        }
                    });
                } else if let Ok(Opened::Zygote { ready, reader, writer }) = connection::open(stream).await {
                    tracing::info!(jesse.version = ready.jesse_version, pid = ready.pid, "the runner serves");
                    let (frames, receiver) = mpsc::unbounded_channel();
                    tasks.connected(Zygote { frames, kill: kill.clone() });
                    state.send_replace(State::Serving(Arc::from(ready)));
                    let (tasks, kill) = (tasks.clone(), kill.clone());
                    let talk = async move {
                        let writing = AbortOnDropHandle::new(tokio::spawn(connection::write_to_zygote(writer, receiver)));
                        if let Err(error) = connection::listen_to_zygote(reader, &tasks).await {
                            tracing::error!(%error, "the runner process cannot be understood; it is killed");
                        }
                        drop(writing);
                        kill.cancel();
                    };
                    zygote = Some((Instant::now(), AbortOnDropHandle::new(tokio::spawn(talk))));
                }
            }
        }
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

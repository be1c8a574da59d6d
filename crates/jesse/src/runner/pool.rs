//! The zygotes side by side: started, looked after, replaced.
//!
//! Each seat has a task of its own that keeps one zygote serving. All that others see is the board: for each seat the zygote
//! that serves there, or why none does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{ErrorCode, JobError};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{RunnerSettings, SandboxMode, Start, installed, process::Zygote, protocol::Ready};

const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A zygote that served this long starts anew without a pause.
const SERVED_WELL: Duration = Duration::from_secs(10);

/// Who sits on a seat.
#[derive(Debug, Clone)]
enum Seat {
    Starting,
    Serving(Arc<Zygote>),
    Failed(String),
}

type Board = watch::Sender<Vec<Seat>>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pool {
    board: watch::Receiver<Vec<Seat>>,
    stop: CancellationToken,
    keepers: Vec<AbortOnDropHandle<()>>,
}

impl Pool {
    pub(super) fn start(settings: RunnerSettings) -> std::io::Result<Self> {
        std::fs::create_dir_all(&settings.folder)?;
        // What is not there when a zygote starts cannot be seen from inside its sandbox.
        for folder in settings.sandbox.readable.iter().chain(&settings.sandbox.staging) {
            std::fs::create_dir_all(folder)?;
        }
        let seats = settings.zygotes.max(1);
        let board = Arc::new(Board::new(vec![Seat::Starting; seats]));
        let (settings, numbers, stop) =
            (Arc::new(settings), Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let keep = |seat| {
            let keeper = Keeper {
                seat,
                settings: settings.clone(),
                numbers: numbers.clone(),
                board: board.clone(),
                stop: stop.clone(),
            };
            AbortOnDropHandle::new(tokio::spawn(keeper.keep()))
        };
        let keepers = (0..seats).map(keep).collect();
        Ok(Self { board: board.subscribe(), stop, keepers })
    }

    /// Stops all zygotes and everything that their tasks have started.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        while !self.keepers.iter().all(AbortOnDropHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Of the zygotes that serve the one that was started last: its Jesse is the newest.
    pub(super) async fn youngest(&self) -> Result<Arc<Zygote>, JobError> {
        self.choose(|zygotes| zygotes.into_iter().max_by_key(|zygote| zygote.number())).await
    }

    /// The one that has the fewest tasks.
    pub(super) async fn least_loaded(&self) -> Result<Arc<Zygote>, JobError> {
        self.choose(|zygotes| zygotes.into_iter().min_by_key(|zygote| zygote.tasks().running())).await
    }

    /// Waits until one serves, as long as there is hope.
    async fn choose(
        &self,
        choice: impl Fn(Vec<&Arc<Zygote>>) -> Option<&Arc<Zygote>>,
    ) -> Result<Arc<Zygote>, JobError> {
        let stopped = || JobError::new(ErrorCode::Internal, "the runner has stopped").retryable();
        if self.stop.is_cancelled() {
            return Err(stopped());
        }
        let mut board = self.board.clone();
        let seats = board.wait_for(|seats| {
            let serves = seats.iter().any(|seat| matches!(seat, Seat::Serving(_)));
            serves || seats.iter().all(|seat| matches!(seat, Seat::Failed(_)))
        });
        let seats = seats.await.map_err(|_| stopped())?;
        let serving = seats.iter().filter_map(|seat| match seat {
            Seat::Serving(zygote) => Some(zygote),
            Seat::Starting | Seat::Failed(_) => None,
        });
        if let Some(chosen) = choice(serving.collect()) {
            return Ok(chosen.clone());
        }
        let why = seats.iter().find_map(|seat| match seat {
            Seat::Failed(why) => Some(why.clone()),
            Seat::Starting | Seat::Serving(_) => None,
        });
        Err(why.map_or_else(stopped, |why| JobError::new(ErrorCode::Internal, why).retryable()))
    }
}

/// Why a zygote that serves gives way to another.
#[derive(Debug)]
enum Change {
    /// It has ended, after having served this long.
    Ended(Duration),
    /// It did not answer in time, and was killed.
    Silent,
    /// It is to be replaced, for this reason.
    Due(&'static str),
}

/// Keeps a zygote on one seat.
struct Keeper {
    seat: usize,
    settings: Arc<RunnerSettings>,
    numbers: Arc<AtomicU64>,
    board: Arc<Board>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self) {
        let (mut pause, mut last_failure) = (PAUSE, None);
        while !self.stop.is_cancelled() {
            let why = match self.start().await {
                Ok(zygote) => {
                    if self.serve(zygote).await {
                        pause = PAUSE;
                        self.show(Seat::Starting);
                        continue;
                    }
                    "the runner process ends soon after it has started".to_owned()
                }
                Err(why) => why,
            };
            if self.stop.is_cancelled() {
                return;
            }
            if last_failure.as_ref() != Some(&why) {
                tracing::error!(why, "a runner cannot be started; it is tried again until it can");
            }
            last_failure = Some(why.clone());
            self.show(Seat::Failed(why));
            let _stopped = tokio::time::timeout(pause, self.stop.cancelled()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.show(Seat::Starting);
        }
    }

    fn show(&self, state: Seat) {
        self.board.send_modify(|seats| seats[self.seat] = state);
    }

    async fn start(&self) -> Result<Arc<Zygote>, String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let outcome = Zygote::start(&self.settings, number, &self.stop).await;
        if let Some(starts) = &self.settings.starts
            && !self.stop.is_cancelled()
        {
            // Nobody has to listen.
            let _heard = starts.send(Start { took: begun.elapsed(), serves: outcome.is_ok() });
        }
        outcome
    }

    /// Serves with this zygote and its successors, until one of them is gone before there is a successor. Answers whether that
    /// one had served for a while.
    async fn serve(&self, mut zygote: Arc<Zygote>) -> bool {
        let sandbox = &zygote.ready().sandbox;
        if self.settings.sandbox.mode == SandboxMode::Auto && !sandbox.active {
            tracing::warn!(
                reason = sandbox.reason,
                "strategies run without a sandbox, with this user's rights: the kernel does not allow one"
            );
        }
        loop {
            self.show(Seat::Serving(zygote.clone()));
            let installed = self.installed(zygote.ready()).await;
            let reason = match self.watch(&zygote, installed).await {
                Change::Ended(served) => {
                    if !self.stop.is_cancelled() {
                        tracing::warn!("a runner process ended and is started again");
                    }
                    return served > SERVED_WELL;
                }
                Change::Silent => {
                    tracing::error!(
                        "a runner process does not answer; it is killed, and its runs are handed back"
                    );
                    zygote.ended().await;
                    return true;
                }
                Change::Due(reason) => reason,
            };
            tracing::info!(reason, "a runner process is replaced");
            match self.start().await {
                Ok(successor) => {
                    let old = std::mem::replace(&mut zygote, successor);
                    // Not awaited: its tasks may take hours. It is stopped together with the others.
                    tokio::spawn(async move { old.retire().await });
                }
                Err(why) => {
                    if !self.stop.is_cancelled() {
                        tracing::error!(why, "no successor can be started; the old one goes on");
                    }
                    let _stopped = tokio::time::timeout(LONGEST_PAUSE, self.stop.cancelled()).await;
                }
            }
        }
    }

    /// Looks after a zygote until something about it has to change.
    async fn watch(&self, zygote: &Zygote, installed: blake3::Hash) -> Change {
        let upkeep = &self.settings.upkeep;
        let (mut first_kb, mut seen) = (None, installed);
        loop {
            tokio::select! {
                served = zygote.ended() => return Change::Ended(served),
                () = tokio::time::sleep(upkeep.look_every) => {}
            }
            let Some(pong) = zygote.ping(upkeep.answer_within).await else {
                if zygote.has_ended() {
                    continue;
                }
                zygote.tasks().kill_zygote();
                return Change::Silent;
            };
            let first_kb = *first_kb.get_or_insert(pong.resident_kb);
            if pong.resident_kb.saturating_sub(first_kb) > upkeep.most_growth_mb * 1024 {
                return Change::Due("it has grown");
            }
            if zygote.tasks().started() >= upkeep.most_tasks {
                return Change::Due("it has started many tasks");
            }
            let now = self.installed(zygote.ready()).await;
            // Twice the same: not in the middle of an installation.
            if now != installed && now == seen {
                return Change::Due("other packages are installed");
            }
            seen = now;
        }
    }

    async fn installed(&self, ready: &Arc<Ready>) -> blake3::Hash {
        let ready = ready.clone();
        let look = move || installed::fingerprint(&ready.package_folders, &ready.jesse_folder);
        // It cannot be cancelled, and does not panic.
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| blake3::hash(b""))
    }
}

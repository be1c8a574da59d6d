//! The Python process in which Jesse's driver asks the exchange.

use std::{
    collections::VecDeque,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::{ExchangeError, ExchangeSettings};
use crate::candles::Series;

/// Longer than all attempts at one page take, with the pauses that the exchange may ask for.
const SILENCE: Duration = Duration::from_mins(30);
/// A page has some thousand rows of a hundred bytes.
const LONGEST_LINE: u64 = 16 << 20;
/// How many of the last lines on standard error go into an error.
const KEPT_LINES: usize = 8;
const LONGEST_KEPT: usize = 500;

/// Time in milliseconds, open, close, high, low, volume.
pub(super) type Row = (i64, f64, f64, f64, f64, f64);

/// What the process says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    /// A page of a range.
    Page { range: usize, candles: Vec<Row> },
    /// A range is complete.
    Done { range: usize, done: bool },
    /// All ranges are.
    End { end: bool },
    /// It cannot go on.
    Error { error: String, message: String },
}

/// One process, from its start until all is read. It ends when this is dropped.
pub(super) struct Asking {
    series: Series,
    child: Child,
    lines: BufReader<ChildStdout>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    _listening: Option<AbortOnDropHandle<()>>,
}

impl Asking {
    pub(super) async fn start(
        settings: &ExchangeSettings,
        series: &Series,
        ranges: &[(i64, i64)],
    ) -> Result<Self, ExchangeError> {
        let ExchangeSettings { python, package, url, attempts } = settings;
        let mut child = Command::new(python)
            .args(["-m", "runner.exchange"])
            .env("PYTHONPATH", package)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ExchangeError::Start(python.clone(), error))?;
        let last_words = Arc::default();
        let listening = child.stderr.take().map(|stderr| {
            let kept = Arc::clone(&last_words);
            AbortOnDropHandle::new(tokio::spawn(keep_last(BufReader::new(stderr), kept)))
        });
        let request = json!({
            "exchange": series.exchange(),
            "symbol": series.symbol(),
            "ranges": ranges,
            "attempts": attempts,
            "url": url,
        });
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended already is heard of below, with its last words.
            let _ended = stdin.write_all(format!("{request}\n").as_bytes()).await;
        }
        let stdout = child.stdout.take().ok_or_else(|| ExchangeError::Protocol("nothing".into()))?;
        let lines = BufReader::new(stdout);
        Ok(Self { series: series.clone(), child, lines, last_words, _listening: listening })
    }

    /// The next that it says; an error is said as one.
    pub(super) async fn next(&mut self) -> Result<Said, ExchangeError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.lines).take(LONGEST_LINE);
        let reading = bounded.read_until(b'\n', &mut line);
        let read = tokio::time::timeout(SILENCE, reading).await.map_err(|_| ExchangeError::Silent {
            exchange: self.series.exchange().to_owned(),
            minutes: SILENCE.as_secs() / 60,
        })?;
        if read? == 0 {
            return Err(self.ended().await);
        }
        let said =
            serde_json::from_slice(&line).map_err(|error| ExchangeError::Protocol(error.to_string()))?;
        match said {
            Said::Error { error, message } => {
                Err(ExchangeError::Refused { series: self.series.clone(), code: error, message })
            }
            said => Ok(said),
        }
    }

    async fn ended(&mut self) -> ExchangeError {
        let status = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        let status = match status {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its output is closed".into(),
        };
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let said: String = words.iter().flat_map(|line| ["\n", line]).collect();
        ExchangeError::Ended { status, said }
    }
}

async fn keep_last(mut stderr: impl AsyncBufRead + Unpin, kept: Arc<Mutex<VecDeque<String>>>) {
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line: String = String::from_utf8_lossy(&line).trim_end().chars().take(LONGEST_KEPT).collect();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

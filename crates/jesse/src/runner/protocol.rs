//! Frames on the runner's sockets: a 4-byte big-endian length, then that many bytes, the first of which is `J` (JSON) or `B`
//! (a body). The other side is `workers/runner/protocol.py`.

use std::{collections::BTreeMap, io, path::PathBuf};

use bytes::Bytes;
use jobs::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::catalogue::Exchange;

/// The longest frame that either side sends.
pub(super) const MAX_FRAME: u32 = 256 << 20;

/// One frame.
#[derive(Debug)]
pub(super) enum Frame {
    Json(Value),
    Body(Bytes),
}

/// Reads a frame; `None` at the end of the stream. One of more than `longest` bytes is the error `FileTooLarge`.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), longest: u32) -> io::Result<Option<Frame>> {
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(invalid(format!("a frame of {length} bytes")));
    }
    if length > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("a frame of {length} bytes")));
    }
    let kind = stream.read_u8().await?;
    // Grows with what arrives, so that a length alone takes no memory.
    let mut payload = Vec::new();
    let expected = u64::from(length - 1);
    let got = stream.take(expected).read_to_end(&mut payload).await?;
    if got as u64 != expected {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match kind {
        b'J' => Ok(Some(Frame::Json(serde_json::from_slice(&payload)?))),
        b'B' => Ok(Some(Frame::Body(payload.into()))),
        other => Err(invalid(format!("a frame of kind {other}"))),
    }
}

/// The bytes of a JSON frame.
pub(super) fn encode(message: &Value) -> Vec<u8> {
    let payload = message.to_string();
    let length = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(payload.len() + 5);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(b'J');
    frame.extend_from_slice(payload.as_bytes());
    frame
}

/// Whether tasks are shut off from the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// They are.
    pub active: bool,
    /// Why they are not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What the zygote says when it serves.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Its process id, as it sees it: inside the sandbox it is the first process.
    pub pid: u32,
    /// The version of the package `jesse`.
    pub jesse_version: String,
    /// The name and version of the engine: `runner/1`.
    pub engine: String,
    /// Python's version.
    pub python: String,
    /// All installed packages with their versions.
    pub packages: BTreeMap<String, String>,
    /// The processor.
    pub cpu: Value,
    /// What Jesse can backtest on.
    pub exchanges: BTreeMap<String, Exchange>,
    /// All timeframes that Jesse knows.
    pub timeframes: Vec<String>,
    /// Whether its tasks are shut off from the machine.
    pub sandbox: SandboxState,
    /// Functions of Jesse that faster equivalents stand in for, which give the same to the last bit.
    #[serde(default)]
    pub faster: Vec<String>,
    /// Where packages are installed.
    pub package_folders: Vec<PathBuf>,
    /// The folder of the package `jesse`.
    pub jesse_folder: PathBuf,
}

/// How a task's process ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) status: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) cause: Option<String>,
    #[serde(default)]
    pub(super) max_rss_kb: u64,
    #[serde(default)]
    pub(super) cpu_s: f64,
}

/// What the zygote says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromZygote {
    Ready(Box<Ready>),
    Exited {
        id: String,
        #[serde(flatten)]
        exit: Exit,
    },
    Refused {
        id: String,
        message: String,
    },
    Pong {
        resident_kb: u64,
    },
}

/// What a task says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromTask {
    Hello {
        id: String,
    },
    Progress {
        fraction: f64,
        message: String,
    },
    Result {
        value: Value,
        #[serde(default)]
        body: bool,
    },
    Error {
        code: String,
        message: String,
        #[serde(default)]
        detail: Value,
    },
}

impl FromTask {
    /// Progress with the time left, from the time since `started`.
    pub(super) fn progress(fraction: f64, message: String, started: std::time::Instant) -> Progress {
        let fraction = fraction.clamp(0.0, 1.0);
        let spent = started.elapsed().as_secs_f64();
        let eta_s = (fraction > 0.01).then(|| (spent * (1.0 - fraction) / fraction * 10.0).round() / 10.0);
        Progress { fraction: (fraction * 1000.0).round() / 1000.0, message, eta_s }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn what_is_encoded_is_read_and_anything_else_is_an_error() {
        let message = serde_json::json!({"type": "kill", "id": "ä"});
        let mut two = encode(&message);
        two.extend_from_slice(&[0, 0, 0, 3, b'B', 1, 2]);
        let mut stream = two.as_slice();
        assert!(
            matches!(read(&mut stream, MAX_FRAME).await.unwrap(), Some(Frame::Json(read)) if read == message)
        );
        assert!(
            matches!(read(&mut stream, MAX_FRAME).await.unwrap(), Some(Frame::Body(body)) if body == [1, 2][..])
        );
        assert!(read(&mut stream, MAX_FRAME).await.unwrap().is_none());
        for wrong in [
            &[0, 0, 0, 0][..],
            &[255, 255, 255, 255, b'J'],
            &[0, 0, 0, 2, b'X', 1],
            &[0, 0, 0, 9, b'J', b'{'],
        ] {
            let mut stream = wrong;
            assert!(read(&mut stream, MAX_FRAME).await.is_err(), "{wrong:?}");
        }
    }
}

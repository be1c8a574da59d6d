//! One connection: the zygote's, or a task's. The first frame says which.

use std::time::Instant;

use jobs::{ErrorCode, JobError};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
};

use super::{
    process::Pong,
    protocol::{self, Frame, FromTask, FromZygote, MAX_FRAME, Ready},
    tasks::{TaskEvent, Tasks},
};

/// A connection whose first frame has been read.
pub(super) enum Opened {
    Zygote { ready: Box<Ready>, reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf },
    Task { id: String, reader: BufReader<OwnedReadHalf> },
}

/// Reads the first frame.
pub(super) async fn open(stream: UnixStream) -> std::io::Result<Opened> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some(Frame::Json(first)) = protocol::read(&mut reader, MAX_FRAME).await? else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    if first["type"] == "ready" {
        if let FromZygote::Ready(ready) = serde_json::from_value(first)? {
            return Ok(Opened::Zygote { ready, reader, writer });
        }
    } else if let FromTask::Hello { id } = serde_json::from_value(first)? {
        return Ok(Opened::Task { id, reader });
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "the first frame is neither `ready` nor `hello`",
    ))
}

/// Writes frames to the zygote until there are no more or it is gone.
pub(super) async fn write_to_zygote(
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(frame) = frames.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Passes on what the zygote says until it is gone.
pub(super) async fn listen_to_zygote(
    mut reader: BufReader<OwnedReadHalf>,
    tasks: &Tasks,
    pong: &watch::Sender<Pong>,
) -> std::io::Result<()> {
    while let Some(frame) = protocol::read(&mut reader, MAX_FRAME).await? {
        let Frame::Json(message) = frame else { continue };
        match serde_json::from_value(message)? {
            FromZygote::Exited { id, exit } => tasks.tell(&id, TaskEvent::Exited(exit)),
            FromZygote::Refused { id, message } => tasks.tell(&id, TaskEvent::Refused(message)),
            FromZygote::Pong { resident_kb } => {
                pong.send_modify(|pong| *pong = Pong { count: pong.count + 1, resident_kb });
                true
            }
            FromZygote::Ready(_) => false,
        };
    }
    Ok(())
}

/// Passes on what a task says until it hangs up. What is not a frame counts as hanging up; one that is longer than a result
/// may be is not read.
pub(super) async fn listen_to_task(
    id: String,
    mut reader: BufReader<OwnedReadHalf>,
    max_body: usize,
    tasks: &Tasks,
) {
    // What comes beside the body is small.
    let longest = u32::try_from(max_body).unwrap_or(MAX_FRAME).saturating_add(1 << 20).min(MAX_FRAME);
    let started = Instant::now();
    let mut awaited = None;
    loop {
        let frame = match protocol::read(&mut reader, longest).await {
            Ok(Some(frame)) => frame,
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                tasks.tell(&id, TaskEvent::TooLarge);
                return;
            }
            Ok(None) | Err(_) => break,
        };
        let event = match (frame, awaited.take()) {
            (Frame::Body(body), Some(value)) => TaskEvent::Result { value, body: Some(body) },
            (Frame::Body(_), None) => break,
            (Frame::Json(message), _) => match serde_json::from_value(message) {
                Ok(FromTask::Progress { fraction, message }) => {
                    TaskEvent::Progress(FromTask::progress(fraction, message, started))
                }
                Ok(FromTask::Result { value, body: true }) => {
                    awaited = Some(value);
                    continue;
                }
                Ok(FromTask::Result { value, body: false }) => TaskEvent::Result { value, body: None },
                Ok(FromTask::Error { code, message, detail }) => {
                    let code = ErrorCode::parse(&code).unwrap_or(ErrorCode::Internal);
                    TaskEvent::Failed(JobError::new(code, message).with_detail(detail))
                }
                Ok(FromTask::Hello { .. }) => continue,
                Err(_) => break,
            },
        };
        if !tasks.tell(&id, event) {
            return;
        }
    }
    tasks.tell(&id, TaskEvent::Hung);
}

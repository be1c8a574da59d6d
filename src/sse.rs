//! Server-sent events: sending and reading them.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::Stream;

/// How often something is sent where nothing happens, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An answer that sends these events, each as soon as it is there.
pub(crate) fn sending(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx otherwise holds events back until it has a buffer of them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The largest event that is read.
const MOST_BYTES: usize = 32 << 20;

/// Puts server-sent events together from the pieces in which they arrive.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    data: String,
}

impl EventReader {
    /// The data of the events that this piece completes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<String>, String> {
        let mut complete = Vec::new();
        for &byte in piece {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                complete.extend(self.end_line(line.strip_suffix(b"\r").unwrap_or(&line)));
            } else {
                self.line.push(byte);
            }
        }
        if self.line.len() + self.data.len() > MOST_BYTES {
            return Err(format!("an event is larger than {} MB", MOST_BYTES >> 20));
        }
        Ok(complete)
    }

    fn end_line(&mut self, line: &[u8]) -> Option<String> {
        if line.is_empty() {
            return Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty());
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(data.strip_prefix(b" ").unwrap_or(data)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn events_are_put_together_from_any_pieces() {
        let text = ": alive\n\nid: 0\r\ndata: {\"a\":1}\r\n\r\ndata: {\ndata:}\n\ndata: half";
        for size in 1..text.len() {
            let mut reader = EventReader::default();
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| reader.feed(piece).unwrap()).collect();
            assert_eq!(events, ["{\"a\":1}", "{\n}"], "in pieces of {size}");
        }
    }
}

//! `mcp`: MCP on standard input and output. With a URL it speaks for that server; without one it starts everything on
//! this machine, as `up` does, and ends it when the client is gone.

use std::{
    io::{self, BufRead, Read, Write},
    thread,
    time::Duration,
};

use clap::Args;
use reqwest::Url;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    RoleError,
    up::{self, UpSettings},
};
use crate::{client::server_url, mcp::stdio::Proxy};

/// The longest message that a client may send, in bytes; the endpoint takes no larger one.
const LONGEST_LINE: u64 = 1 << 20;
/// How long a client may take to read what was written last.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The settings of `mcp`.
#[derive(Debug, Clone, Args)]
pub struct McpSettings {
    /// Server to speak for, e.g. http://127.0.0.1:8100; without it everything is started on this machine, as `up` does,
    /// on a free port unless --listen names one
    #[arg(long, env = "JESSE_JOBS_URL")]
    pub url: Option<String>,

    /// API key to show to the server
    #[arg(long, env = "JESSE_JOBS_KEY", hide_env_values = true)]
    pub key: Option<String>,

    /// See the struct.
    #[command(flatten)]
    pub up: UpSettings,
}

/// Runs until the client closes its end, or `stop`.
pub async fn run(settings: McpSettings, stop: CancellationToken) -> Result<(), RoleError> {
    let McpSettings { url, key, mut up } = settings;
    if let Some(url) = url.filter(|url| !url.is_empty()) {
        return speak(endpoint(&url)?, key, stop).await;
    }
    if up.api.listen.is_none() {
        // Clients come through the pipe; the usual port may be another server's.
        up.api.listen = Some((std::net::Ipv4Addr::LOCALHOST, 0).into());
    }
    let (ready, address) = oneshot::channel();
    let serving = async {
        let served = Box::pin(up::run_telling(up, stop.clone(), move |address| {
            let _gone = ready.send(address);
        }))
        .await;
        // Without a server there is nothing to speak for.
        stop.cancel();
        served
    };
    let speaking = async {
        // Not told: it could not start, and says why itself.
        let Ok(address) = address.await else { return Ok(()) };
        let spoken = speak(endpoint(&format!("http://{address}"))?, key, stop.clone()).await;
        stop.cancel();
        spoken
    };
    let (served, spoken) = tokio::join!(serving, speaking);
    served.and(spoken)
}

/// The endpoint of a server that is named with or without the endpoint's path.
fn endpoint(server: &str) -> Result<Url, RoleError> {
    let mut url = server_url(server).map_err(RoleError::Setting)?;
    let path = url.path().trim_end_matches('/');
    let path = if path.ends_with("/mcp") { path.to_owned() } else { format!("{path}/mcp") };
    url.set_path(&path);
    Ok(url)
}

async fn speak(endpoint: Url, key: Option<String>, stop: CancellationToken) -> Result<(), RoleError> {
    let (out, lines) = mpsc::channel(64);
    let written = write_lines(lines);
    let proxy = Proxy::new(endpoint, key, out).map_err(|error| {
        RoleError::Setting(format!("no HTTP client can be made: {}", jobs::chain(&error)))
    })?;
    let mut read = read_lines();
    while let Some(Some(line)) = stop.run_until_cancelled(read.recv()).await {
        if stop.run_until_cancelled(proxy.take(&line)).await.is_none() {
            break;
        }
    }
    proxy.finish().await;
    drop(proxy);
    // A client that has stopped reading does not keep the process.
    let _gone = tokio::time::timeout(LAST_LINES, written).await;
    Ok(())
}

/// Lines of standard input. A thread of its own, since a read cannot be taken back: the process ends without it.
fn read_lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = read_line(&mut input) {
            if !line.trim_ascii().is_empty() && sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next line; of one that is too long only the begin, which is then no JSON and is refused.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let longest = line.len() as u64 == LONGEST_LINE;
    if longest && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// Writes lines to standard output; the receiver is told once all are written or nobody reads any more.
fn write_lines(mut lines: mpsc::Receiver<String>) -> oneshot::Receiver<()> {
    let (done, written) = oneshot::channel();
    thread::spawn(move || {
        let mut output = io::stdout();
        while let Some(line) = lines.blocking_recv() {
            if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                break;
            }
        }
        let _gone = done.send(());
    });
    written
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_server_is_named_with_or_without_the_endpoint() {
        let told =
            |server: &str| endpoint(server).map(|url| url.to_string()).map_err(|error| error.to_string());
        for server in ["http://h:1", "http://h:1/", "http://h:1/mcp", "http://h:1/mcp/"] {
            assert_eq!(told(server), Ok("http://h:1/mcp".into()));
        }
        assert_eq!(told("https://h/jobs"), Ok("https://h/jobs/mcp".into()));
        assert!(told("localhost:8100").unwrap_err().contains("neither http nor https"));
        assert!(told("8100").unwrap_err().contains("expected e.g."));
    }

    #[test]
    fn a_line_that_is_too_long_does_not_spoil_the_next() {
        let long = "x".repeat(3 << 20);
        let text = format!("{{}}\n{long}\n[]\n");
        let mut input = text.as_bytes();
        assert_eq!(read_line(&mut input).unwrap().unwrap(), b"{}\n");
        assert_eq!(read_line(&mut input).unwrap().unwrap().len() as u64, LONGEST_LINE);
        assert_eq!(read_line(&mut input).unwrap().unwrap(), b"[]\n");
        assert_eq!(read_line(&mut input).unwrap(), None);
    }
}

//! A relay in front of the real server, which can be told to misbehave.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// See the module's documentation.
pub struct Proxy {
    pub url: String,
    told: Arc<Told>,
    relaying: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    /// Refuses WebSockets.
    no_events: bool,
    /// Answers the next calls with this instead.
    answers: Mutex<Vec<&'static str>>,
    /// How many backtests were started through it.
    started: AtomicUsize,
}

impl Proxy {
    pub async fn start(target: &str, no_events: bool, answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Told { no_events, answers: Mutex::new(answers.to_vec()), ..Told::default() });
        let (target, shared) = (target.trim_start_matches("http://").to_owned(), told.clone());
        let relaying = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target.clone(), shared.clone()));
            }
        });
        Self { url, told, relaying }
    }

    pub fn started(&self) -> usize {
        self.told.started.load(Ordering::Relaxed)
    }

    /// How many of the answers are left.
    pub fn answers_left(&self) -> usize {
        self.told.answers.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

/// One request for each connection, so that each can be looked at.
async fn relay(mut client: TcpStream, target: String, told: Arc<Told>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    if head.starts_with("GET /ws") {
        if told.no_events {
            return Ok(());
        }
    } else {
        let next = told.answers.lock().unwrap().pop();
        if let Some(answer) = next {
            client.write_all(format!("HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            return client.shutdown().await;
        }
        // Without it the next request would come through the same connection unseen.
        let end = request.windows(2).position(|end| end == b"\r\n").unwrap() + 2;
        request.splice(end..end, *b"Connection: close\r\n");
    }
    if head.starts_with("POST /backtest HTTP") {
        told.started.fetch_add(1, Ordering::Relaxed);
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&request).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

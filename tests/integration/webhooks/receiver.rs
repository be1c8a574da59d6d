//! A receiver on this machine that remembers what it got and answers as a test wants.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri},
};
use jobs::webhooks::Secret;
use serde_json::Value;

use crate::harness::LIMIT;

/// What came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub id: String,
    pub sent_at: i64,
    pub signatures: String,
    pub body: Bytes,
}

impl Received {
    pub fn payload(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn event(&self) -> String {
        self.payload()["type"].as_str().unwrap().to_owned()
    }

    pub fn is_signed_with(&self, secret: &str) -> bool {
        let secret: Secret = secret.parse().unwrap();
        secret.verifies(&self.id, self.sent_at, &self.body, &self.signatures)
    }
}

/// How to answer.
pub enum Reply {
    Status(u16),
    /// With a header.
    With(u16, &'static str, String),
    /// The connection is cut after a while.
    Never,
    /// 200, and a body that does not end.
    Endless,
}

type Behaviour = dyn Fn(&Received, usize) -> Reply + Send + Sync;

#[derive(Clone)]
struct Shared {
    received: Arc<Mutex<Vec<Received>>>,
    behaviour: Arc<Behaviour>,
}

pub struct Receiver {
    shared: Shared,
    pub address: std::net::SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// `behaviour` is told what came, and how often this message came to this path before.
    pub async fn start(behaviour: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { received: Arc::default(), behaviour: Arc::new(behaviour) };
        let router = Router::new().fallback(take).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, address, serving }
    }

    pub async fn healthy() -> Self {
        Self::start(|_, _| Reply::Status(204)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// What came, once it is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let end = Instant::now() + LIMIT;
        loop {
            let received = self.received();
            if wanted(&received) {
                return received;
            }
            assert!(Instant::now() < end, "in vain: {what}; {} came", received.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often each message came.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for received in self.received() {
            *counts.entry(received.id).or_default() += 1;
        }
        counts
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let received = Received {
        path: uri.path().to_owned(),
        id: header("webhook-id"),
        sent_at: header("webhook-timestamp").parse().unwrap_or_default(),
        signatures: header("webhook-signature"),
        body,
    };
    let before = {
        let mut all = shared.received.lock().unwrap();
        let before =
            all.iter().filter(|other| other.id == received.id && other.path == received.path).count();
        all.push(received.clone());
        before
    };
    let response = Response::builder();
    let response = match (shared.behaviour)(&received, before) {
        Reply::Status(status) => response.status(status).body(Body::from("thanks")),
        Reply::With(status, name, value) => response.status(status).header(name, value).body(Body::empty()),
        Reply::Never => {
            tokio::time::sleep(Duration::from_mins(2)).await;
            response.status(StatusCode::OK).body(Body::empty())
        }
        Reply::Endless => {
            let parts =
                futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8192])));
            response.status(StatusCode::OK).body(Body::from_stream(parts))
        }
    };
    response.unwrap()
}

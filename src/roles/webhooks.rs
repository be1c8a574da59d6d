//! `webhooks listen`: a small receiver for development, and what the roles that deliver have in common.

use std::{
    io::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use clap::{Args, Subcommand};
use jobs::{
    Queue,
    webhooks::{InvalidSecret, Secret, Webhooks},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use workers::webhooks::{Sender, SystemNames, WebhookMetrics, WebhookWorker};

use super::{RoleError, serve::listen_on};
use crate::{
    metrics::Metrics,
    settings::{Delivers, WebhookArgs},
};

/// How far the time of a message may be off.
const TOLERANCE: Duration = Duration::from_mins(5);
/// How many deliveries wait to be printed.
const PRINTED_LATER: usize = 64;

/// A delivery worker, if these settings want one.
pub(super) fn delivery_worker(
    queue: &Queue,
    args: &WebhookArgs,
    metrics: &Metrics,
) -> Result<Option<Arc<WebhookWorker>>, RoleError> {
    if args.webhooks == Delivers::Off {
        return Ok(None);
    }
    let settings = args.webhook_settings().map_err(RoleError::Setting)?;
    let sender = Sender::new(args.receivers.filter(), Arc::new(SystemNames), settings.timeout)?;
    let webhooks = Webhooks::new(queue.clone()).with_width(args.webhook_concurrency);
    let metrics = WebhookMetrics::new(metrics.registry())?;
    Ok(Some(WebhookWorker::new(webhooks, sender, settings, metrics)))
}

/// Delivers until `stop`, if there is a worker for it.
pub(super) async fn deliver(worker: Option<Arc<WebhookWorker>>, stop: &CancellationToken) {
    if let Some(worker) = worker {
        Box::pin(worker.run(stop.clone())).await;
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum WebhooksCommand {
    /// Receive webhooks on this machine, verify them, and print one line of JSON for each
    Listen(ListenSettings),
}

/// The settings of `webhooks listen`.
#[derive(Debug, Clone, Args)]
pub struct ListenSettings {
    /// Address and port to receive on; port 0 takes a free one
    #[arg(long, env = "WEBHOOK_LISTEN", default_value = "127.0.0.1:8200")]
    pub listen: SocketAddr,

    /// The endpoint's secret (whsec_...), or several, separated by commas; without it nothing is verified
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, value_delimiter = ',')]
    pub secret: Vec<String>,

    /// Status to answer with, to see what the sender makes of it
    #[arg(long, default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
}

/// Does it, until `stop`.
pub async fn run(command: WebhooksCommand, stop: CancellationToken) -> Result<(), RoleError> {
    let WebhooksCommand::Listen(settings) = command;
    let secrets = settings.secret.iter().filter(|secret| !secret.is_empty());
    let secrets = secrets.map(|secret| secret.parse()).collect::<Result<Vec<Secret>, _>>();
    let secrets = secrets
        .map_err(|error: InvalidSecret| RoleError::Setting(format!("--secret (WEBHOOK_SECRET): {error}")))?;
    let status = StatusCode::from_u16(settings.status)
        .map_err(|_| RoleError::Setting("--status: must be from 200 to 599".into()))?;
    let listener = listen_on(settings.listen).await?;
    let address = listener.local_addr().map_err(RoleError::Serve)?;
    // For scripts that wait for it.
    print(&format!("listening on http://{address}"))?;
    receive(listener, secrets, status, stop).await
}

async fn receive(
    listener: TcpListener,
    secrets: Vec<Secret>,
    status: StatusCode,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let (sender, mut lines) = mpsc::channel::<String>(PRINTED_LATER);
    let receiver = Receiver { secrets: secrets.into(), status, received: sender };
    let router = Router::new().fallback(take).with_state(receiver);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let printing = async {
        while let Some(line) = lines.recv().await {
            if let Err(error) = print(&line) {
                // Nobody reads any more.
                stop.cancel();
                return Err(error);
            }
        }
        Ok(())
    };
    let (served, printed) = tokio::join!(serving, printing);
    served.map_err(RoleError::Serve)?;
    printed
}

fn print(line: &str) -> Result<(), RoleError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(RoleError::Print)
}

#[derive(Debug, Clone)]
struct Receiver {
    secrets: Arc<[Secret]>,
    status: StatusCode,
    received: mpsc::Sender<String>,
}

/// A delivery as it is printed.
#[derive(Serialize)]
struct Received<'a> {
    webhook_id: &'a str,
    /// null without a secret to verify with.
    verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let problem =
        if receiver.secrets.is_empty() { None } else { Some(verify(&receiver.secrets, header, &body)) };
    let line = Received {
        webhook_id: header("webhook-id"),
        verified: problem.map(|problem| problem.is_none()),
        problem: problem.flatten(),
        payload: serde_json::from_slice(&body).ok(),
    };
    let line = serde_json::to_string(&line).unwrap_or_default();
    // Whoever is printed for later is not acknowledged yet.
    if receiver.received.send(line).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    match problem.flatten() {
        Some(_) => StatusCode::UNAUTHORIZED,
        None => receiver.status,
    }
}

/// What is wrong with a message; nothing, if it is signed with one of the secrets and recent.
fn verify<'a>(
    secrets: &[Secret],
    header: impl Fn(&'static str) -> &'a str,
    body: &[u8],
) -> Option<&'static str> {
    let (id, signatures) = (header("webhook-id"), header("webhook-signature"));
    if id.is_empty() || signatures.is_empty() {
        return Some("the headers webhook-id and webhook-signature are missing");
    }
    let Ok(seconds) = header("webhook-timestamp").parse::<i64>() else {
        return Some("the header webhook-timestamp is no time");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now.abs_diff(u64::try_from(seconds).unwrap_or_default()) > TOLERANCE.as_secs() {
        return Some("it was sent more than five minutes ago, or is to be sent in the future");
    }
    let signed = secrets.iter().any(|secret| secret.verifies(id, seconds, body, signatures));
    (!signed).then_some("no signature is that of the secret")
}

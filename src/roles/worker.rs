//! `worker`: computes jobs and delivers webhooks. Any number of them stand side by side.

use std::net::SocketAddr;

use clap::Args;
use jobs::Queue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workers::{RunMetrics, Worker};

use super::{RoleError, data, open_blobs, open_shared_queue, webhooks};
use crate::{
    api,
    metrics::Metrics,
    settings::{Delivers, EngineSettings, ImportSettings, StorageSettings, WebhookArgs, WorkerArgs},
};

/// The settings of `worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerSettings {
    /// See the struct.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// See the struct.
    #[command(flatten)]
    pub webhooks: WebhookArgs,
    /// See the struct.
    #[command(flatten)]
    pub engine: EngineSettings,
    /// See the struct.
    #[command(flatten)]
    pub imports: ImportSettings,
    /// See the struct.
    #[command(flatten)]
    pub storage: StorageSettings,
    /// Address and port to serve /metrics and /health/live on, to everybody who reaches it; without it nothing is listened on
    #[arg(long, env = "JESSE_JOBS_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}

/// Works until `stop`, then drains.
pub async fn run(settings: WorkerSettings, stop: CancellationToken) -> Result<(), RoleError> {
    let queue = open_shared_queue(&settings.storage).await?;
    let metrics = Metrics::new()?;
    metrics.measure(queue.redis());
    let deliveries = webhooks::delivery_worker(&queue, &settings.webhooks, &metrics)?;
    let computing = match settings.webhooks.webhooks {
        Delivers::Only => None,
        Delivers::On | Delivers::Off => Some(computing(&settings, &queue, &metrics).await?),
    };
    let listener = match settings.metrics_listen {
        // Whoever collects metrics is mostly on another machine, and they name no tenant: any address will do.
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|error| RoleError::Listen(address, error))?)
        }
        None => None,
    };
    let done = CancellationToken::new();
    let working = async {
        let outcome = if let Some(worker) = &computing {
            worker.run(stop.clone()).await
        } else {
            stop.cancelled().await;
            Ok(())
        };
        // One part without the other is of no use.
        stop.cancel();
        outcome
    };
    let busy = async {
        let (outcome, ()) = tokio::join!(working, webhooks::deliver(deliveries, &stop));
        // A worker that drains still tells how it goes.
        done.cancel();
        outcome
    };
    let (outcome, ()) = tokio::join!(busy, serve(listener, metrics, queue.clone(), done.clone()));
    outcome?;
    Ok(())
}

async fn serve(listener: Option<TcpListener>, metrics: Metrics, queue: Queue, done: CancellationToken) {
    if let Some(listener) = listener {
        api::serve_metrics(listener, metrics, queue, done).await;
    }
}

async fn computing(settings: &WorkerSettings, queue: &Queue, metrics: &Metrics) -> Result<Worker, RoleError> {
    let data = &settings.storage.data.data;
    let blobs = open_blobs(&settings.storage.data, data, queue).await?;
    let here = std::env::current_dir().ok().filter(|here| here.join("strategies").is_dir());
    let project = settings.worker.project.clone().or(here);
    if project.is_none() {
        tracing::info!(
            "no project, so no strategies are published; other workers' jobs are computed all the same"
        );
    }
    let folder =
        std::path::absolute(data::worker(data)).map_err(|error| RoleError::Folder(data.clone(), error))?;
    let runs = RunMetrics::new(metrics.registry())?;
    let worker_settings =
        settings.worker.worker_settings(folder, project, settings.engine.engine, settings.imports);
    let worker_settings = worker_settings.map_err(RoleError::Setting)?;
    Ok(Worker::start(worker_settings, queue.clone(), blobs, runs)?)
}

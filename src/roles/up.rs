//! `up`: everything in one process, for one machine: a private Redis (unless REDIS_URL names one), a worker, the API.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use jobs::private_redis::PrivateRedis;
use tokio_util::sync::CancellationToken;
use workers::{RunMetrics, Worker};

use super::{
    DataFolder, RoleError, data, open_blobs, open_queue,
    serve::{self, listen},
    warn_of_dangers, webhooks,
};
use crate::{
    api,
    metrics::Metrics,
    service::PlannedEngines,
    settings::{
        ApiSettings, Delivers, EngineChoice, EngineSettings, ImportSettings, LimitSettings, StorageSettings,
        WebhookArgs, WorkerArgs,
    },
};

/// The settings of `up`.
#[derive(Debug, Clone, Args)]
pub struct UpSettings {
    /// See the struct.
    #[command(flatten)]
    pub api: ApiSettings,
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
    /// See the struct.
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// Runs until `stop`; then stops the API, drains the worker, and stops the private Redis last.
pub async fn run(settings: UpSettings, stop: CancellationToken) -> Result<(), RoleError> {
    // For scripts that wait for it; everything else goes to the log.
    let tell = |address| {
        let mut stdout = std::io::stdout().lock();
        let _closed = writeln!(stdout, "jesse-jobs is ready: http://{address}").and_then(|()| stdout.flush());
    };
    run_telling(settings, stop, tell).await
}

/// The same, telling once something can be run, and where.
pub(super) async fn run_telling(
    settings: UpSettings,
    stop: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), RoleError> {
    if settings.webhooks.webhooks == Delivers::Only {
        let message =
            "--webhooks only is for `worker`; `up` delivers webhooks beside everything else, or not at all";
        return Err(RoleError::Setting(message.into()));
    }
    let listener = listen(&settings.api).await?;
    let data = DataFolder::lock(&settings.storage.data.data)?;
    if let Some(url) = settings.storage.redis.url() {
        warn_of_dangers(&open_queue(url, &settings.storage)?).await;
        return Box::pin(run_on(url, &settings, &data, (listener, ready), stop)).await;
    }
    let mut redis = PrivateRedis::start(&data.redis()).await?;
    let url = redis.url().to_owned();
    // Redis is stopped after the parts that use it.
    let parts = CancellationToken::new();
    let mut running = Box::pin(run_on(&url, &settings, &data, (listener, ready), parts.clone()));
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = stop.cancelled() => {
            parts.cancel();
            running.await
        }
        ended = redis.ended() => {
            parts.cancel();
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(RoleError::RedisEnded(how))
        }
    };
    redis.stop().await;
    outcome
}

async fn run_on(
    url: &str,
    settings: &UpSettings,
    data: &DataFolder,
    (listener, ready): (tokio::net::TcpListener, impl FnOnce(SocketAddr)),
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let queue = open_queue(url, &settings.storage)?;
    queue.redis().ping().await?;
    let callers = serve::callers(&queue, &settings.api, &listener).await?;
    let blobs = open_blobs(&settings.storage.data, data.path(), &queue).await?;
    let project = project(settings, data)?;
    tracing::info!(project = %project.display(), data = %data.path().display(), "starting");
    let engine = settings.engine.engine;
    let worker_settings =
        settings.worker.worker_settings(data::worker(data.path()), Some(project), engine, settings.imports);
    let worker_settings = worker_settings.map_err(RoleError::Setting)?;
    let metrics = Metrics::new()?;
    metrics.measure(queue.redis());
    let runs = RunMetrics::new(metrics.registry())?;
    let deliveries = webhooks::delivery_worker(&queue, &settings.webhooks, &metrics)?;
    let worker = Worker::start(worker_settings, queue.clone(), blobs.clone(), runs)?;
    let address = listener.local_addr().map_err(RoleError::Serve)?;
    let limits = (&settings.api, &settings.limits, &settings.webhooks.receivers, settings.imports);
    let engines = PlannedEngines { choice: engine, publisher: worker.publisher(), offers: worker.offers() };
    let api = serve::api((queue, callers), blobs, engines, limits, metrics, stop.clone())?;

    let starting = async {
        match stop.run_until_cancelled(worker.ready()).await {
            None => return Ok(()),
            // Later it may end and be started again; that it cannot be started at all is a mistake to be mended.
            Some(Err(error)) => {
                stop.cancel();
                return Err(if engine == EngineChoice::Rest {
                    RoleError::JesseServer(error)
                } else {
                    RoleError::Jesse(error)
                });
            }
            Some(Ok(())) => {}
        }
        let first_catalogue = async {
            // The worker logs why it takes longer.
            while !first_catalogue(&worker).await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if stop.run_until_cancelled(first_catalogue).await.is_some() {
            ready(address);
        }
        Ok(())
    };
    let serving = async {
        api::run(api, listener).await;
        // One part without the others is of no use.
        stop.cancel();
    };
    let working = async {
        let outcome = worker.run(stop.clone()).await.map_err(RoleError::from);
        stop.cancel();
        outcome
    };
    let delivering = webhooks::deliver(deliveries, &stop);
    let (started, (), worker_outcome, ()) = tokio::join!(starting, serving, working, delivering);
    started.and(worker_outcome)
}

/// Whether something can be run: with several engines, by one of them.
async fn first_catalogue(worker: &Worker) -> bool {
    let (publisher, offers) = (worker.publisher(), worker.offers());
    let mut told = publisher.is_none() && offers.is_none();
    if let Some(publisher) = publisher {
        told |= publisher.refresh().await.is_ok();
    }
    if let Some(offers) = offers {
        told |= offers.refresh().await.is_ok();
    }
    told
}

/// The project named, or the one in the current folder, or an empty one to be filled.
fn project(settings: &UpSettings, data: &DataFolder) -> Result<PathBuf, RoleError> {
    if let Some(project) = &settings.worker.project {
        if !project.join("strategies").is_dir() {
            let message =
                format!("{} is not a Jesse project: it has no folder \"strategies\"", project.display());
            return Err(RoleError::Setting(message));
        }
        return std::path::absolute(project).map_err(|error| RoleError::Folder(project.clone(), error));
    }
    if let Some(here) = std::env::current_dir().ok().filter(|here| here.join("strategies").is_dir()) {
        return Ok(here);
    }
    let own = data.project();
    std::fs::create_dir_all(own.join("strategies")).map_err(|error| RoleError::Folder(own.clone(), error))?;
    tracing::info!(project = %own.display(), "no project was named; put strategies into its folder \"strategies\"");
    Ok(own)
}

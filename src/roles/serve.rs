//! `serve`: an API instance. Stateless: any number of them stand side by side.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use jesse::plan::Limits;
use jobs::{Events, Queue, blobs::Blobs};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{RoleError, open_blobs, open_shared_queue};
use crate::{
    api::{self, Api, Origin, check_address, is_local},
    callers::Callers,
    metrics::Metrics,
    service::{PlannedEngines, Service},
    settings::{
        ApiSettings, EngineSettings, ImportSettings, LimitSettings, ReceiverSettings, StorageSettings,
    },
};

/// The settings of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeSettings {
    /// See the struct.
    #[command(flatten)]
    pub api: ApiSettings,
    /// See the struct.
    #[command(flatten)]
    pub storage: StorageSettings,
    /// See the struct.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// See the struct.
    #[command(flatten)]
    pub engine: EngineSettings,
    /// See the struct.
    #[command(flatten)]
    pub imports: ImportSettings,
    /// See the struct.
    #[command(flatten)]
    pub receivers: ReceiverSettings,
}

/// Listens where the settings say. Whether others may be served there is for [`callers`] to say, before anybody is.
pub(super) async fn listen(settings: &ApiSettings) -> Result<TcpListener, RoleError> {
    let address = settings.address();
    TcpListener::bind(address).await.map_err(|error| RoleError::Listen(address, error))
}

/// Who may call. Refuses addresses that others can reach, as long as nobody has a key.
pub(super) async fn callers(
    queue: &Queue,
    settings: &ApiSettings,
    listener: &TcpListener,
) -> Result<Callers, RoleError> {
    let address = listener.local_addr().map_err(RoleError::Serve)?;
    let admin = settings.access.admin_key().map_err(RoleError::Setting)?;
    let tokens = settings.access.tokens().map_err(RoleError::Setting)?;
    let local = is_local(address);
    if !local
        && admin.is_none()
        && tokens.is_none()
        && !access::KeyStore::new(queue.redis().clone()).is_closed().await?
    {
        return Err(RoleError::Setting(format!(
            "{address} can be reached from other machines, and there are no API keys yet to tell callers apart; make one with \
             `jesse-jobs keys create`, name a file with --admin-key-file, or listen on 127.0.0.1"
        )));
    }
    if local && admin.is_none() && tokens.is_none() && settings.cors_origins.iter().any(Origin::is_any) {
        return Err(RoleError::Setting(
            "CORS_ORIGINS=* (--cors-origins) lets every web page that somebody opens on this machine call this server, where nobody \
             is asked for a key; name the origins, or a file with --admin-key-file"
                .into(),
        ));
    }
    Ok(Callers::new(queue.redis(), admin, !local, settings.access.rate()).with_tokens(tokens))
}

/// Listens on an address that only this machine can reach.
pub(super) async fn listen_on(address: SocketAddr) -> Result<TcpListener, RoleError> {
    check_address(address).map_err(RoleError::Setting)?;
    TcpListener::bind(address).await.map_err(|error| RoleError::Listen(address, error))
}

/// An API over this queue.
pub(super) fn api(
    (queue, callers): (Queue, Callers),
    blobs: Blobs,
    engines: PlannedEngines,
    (api, limits, receivers, imports): (&ApiSettings, &LimitSettings, &ReceiverSettings, ImportSettings),
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<Api, RoleError> {
    let (scope, holdout_share) = (limits.cache_scope, limits.holdout_share);
    let queue = queue.with_max_open(limits.max_open).with_traces(workers::traces::traceparent);
    let events = Events::follow(queue.clone(), stop.clone());
    let limits =
        Limits { wall_s: limits.job_timeout, cpu_s: limits.job_timeout, memory_mb: limits.job_memory_mb };
    let service = Service::new(queue, events, blobs, engines, limits, scope, imports.allowed())
        .with_strategy_writing(api.allow_strategy_write)
        .with_receivers(receivers.filter())
        .with_holdout_share(holdout_share);
    let longest_wait = Duration::from_secs(api.request_timeout);
    let resource = api.access.resource().map_err(RoleError::Setting)?;
    let served = Api::new(service, callers, Arc::new(metrics), longest_wait, api.allowed_hosts.clone(), stop);
    Ok(served.with_origins(api.cors_origins.clone()).with_resource(resource))
}

/// Serves until `stop`.
pub async fn run(settings: ServeSettings, stop: CancellationToken) -> Result<(), RoleError> {
    let queue = open_shared_queue(&settings.storage).await?;
    let data = &settings.storage.data;
    let blobs = open_blobs(data, &data.data, &queue).await?;
    let listener = listen(&settings.api).await?;
    let callers = callers(&queue, &settings.api, &listener).await?;
    let address = listener.local_addr().map_err(RoleError::Serve)?;
    tracing::info!(%address, "serving HTTP and MCP");
    let engines = PlannedEngines { choice: settings.engine.engine, publisher: None, offers: None };
    let parts = (&settings.api, &settings.limits, &settings.receivers, settings.imports);
    let metrics = Metrics::new()?;
    metrics.measure(queue.redis());
    let api = api((queue, callers), blobs, engines, parts, metrics, stop)?;
    api::run(api, listener).await;
    Ok(())
}

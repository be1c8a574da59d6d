//! `worker`: computes jobs. Any number of them stand side by side.

use clap::Args;
use tokio_util::sync::CancellationToken;
use workers::Worker;

use super::{RoleError, data, open_shared_queue};
use crate::settings::{StorageSettings, WorkerArgs};

/// The settings of `worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerSettings {
    /// See the struct.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// See the struct.
    #[command(flatten)]
    pub storage: StorageSettings,
}

/// Works until `stop`, then drains.
pub async fn run(settings: WorkerSettings, stop: CancellationToken) -> Result<(), RoleError> {
    let queue = open_shared_queue(&settings.storage)?;
    let data = &settings.storage.data.data;
    let blobs = data::blobs(data)?;
    let here = std::env::current_dir().ok().filter(|here| here.join("strategies").is_dir());
    let project = settings.worker.project.clone().or(here);
    if project.is_none() {
        tracing::info!(
            "no project, so no strategies are published; other workers' jobs are computed all the same"
        );
    }
    let folder =
        std::path::absolute(data::worker(data)).map_err(|error| RoleError::Folder(data.clone(), error))?;
    let worker = Worker::start(settings.worker.worker_settings(folder, project), queue, blobs)?;
    Ok(worker.run(stop).await?)
}

//! The queue for a command that is soon over: through a Redis that runs, be it the private one of an `up`, else through
//! a private one for the moment.

use jobs::{Queue, private_redis::PrivateRedis};

use super::{DataFolder, LockError, RoleError, data, open_queue};
use crate::settings::StorageSettings;

/// See the module's documentation.
pub(super) struct Opened {
    pub(super) queue: Queue,
    private: Option<(PrivateRedis, DataFolder)>,
}

impl Opened {
    pub(super) async fn open(storage: &StorageSettings) -> Result<Self, RoleError> {
        let folder = &storage.data.data;
        let (url, private) = match storage.redis.url() {
            Some(url) => (url.to_owned(), None),
            None => match DataFolder::lock(folder) {
                Ok(data) => {
                    let redis = PrivateRedis::start(&data.redis()).await?;
                    (redis.url().to_owned(), Some((redis, data)))
                }
                Err(LockError::InUse { .. }) => (PrivateRedis::url_for(&data::redis(folder)), None),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Self { queue: open_queue(&url, storage)?, private })
    }

    /// Whether the Redis runs for this command alone, so that nobody else is there.
    pub(super) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    pub(super) async fn close(self) {
        if let Some((redis, _data)) = self.private {
            redis.stop().await;
        }
    }
}

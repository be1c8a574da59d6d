//! Blobs in an object store that speaks S3: Amazon's, MinIO, Garage, Ceph, R2.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
};

use super::LocationError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request with its body: the largest result over a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// What is worth a moment's patience here; for more, the run is tried again by the queue.
const RETRIES: usize = 3;
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// A bucket. `variables` are those of the environment; of them the `AWS_*` ones count that `object_store` knows, among
/// them `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; without
/// keys the machine's role is asked for some. Nothing is connected to yet.
pub(super) fn open(
    bucket: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, LocationError> {
    crate::choose_tls();
    // First, so that what the variables say of them counts.
    let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
    let mut builder = AmazonS3Builder::new().with_client_options(client);
    for (name, value) in variables {
        // A variable that is empty, as in many files of settings, says nothing.
        if !name.starts_with("AWS_") || value.is_empty() {
            continue;
        }
        let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
        if key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://") {
            // Whoever writes http:// means it.
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_LIMIT })
        .build()
        .map_err(|error| LocationError::S3(crate::error::chain(&error)))?;
    Ok(Arc::new(store))
}

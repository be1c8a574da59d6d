//! Candles from the Postgres of a Jesse installation, its table `candle` (of Jesse 3.5): copied once, then followed.
//!
//! Jesse keeps prices as `real`. They are read as Jesse itself reads them, through the server's decimal text: 16541.77 stays
//! 16541.77 and does not become 16541.76953125. One month is in memory at a time, and all months of a series are read from
//! one snapshot of the database, in a transaction that writes nothing.
//!
//! # What is not guaranteed
//! * An old row that changed, or that was added among old ones, is seen by [`Reach::Everything`] only.
//! * Rows that were deleted there stay here.

mod error;
mod follow;
mod rows;

use std::{future::IntoFuture, net::IpAddr, sync::Arc, time::Duration};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::{
    Client, Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

pub use error::PostgresError;
pub use follow::{Followed, Reach, Unseen};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// All series, found by leaps through the index rather than by reading the table.
const SERIES: &str = "WITH RECURSIVE series AS (
  (SELECT exchange, symbol FROM candle ORDER BY exchange, symbol LIMIT 1)
  UNION ALL
  SELECT next.exchange, next.symbol FROM series, LATERAL (
    SELECT exchange, symbol FROM candle WHERE (exchange, symbol) > (series.exchange, series.symbol)
    ORDER BY exchange, symbol LIMIT 1) AS next
) SELECT exchange, symbol FROM series WHERE EXISTS (
  SELECT FROM candle WHERE candle.exchange = series.exchange AND candle.symbol = series.symbol AND timeframe = '1m')";

/// A connection to a database that has Jesse's table.
#[derive(Debug)]
pub struct JessePostgres {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

impl JessePostgres {
    /// Connects to `postgresql://user@host:5432/database`. The password may be in the URL or be given apart. With TLS the
    /// server's certificate is checked against the system's; without a word on it, TLS is tried with other machines only.
    pub async fn connect(url: &str, password: Option<&str>) -> Result<Self, PostgresError> {
        let mut config: Config = url.parse().map_err(PostgresError::Url)?;
        if let (None, Some(password)) = (config.get_password(), password) {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_ssl_mode() == SslMode::Prefer && config.get_hosts().iter().all(is_here) {
            config.ssl_mode(SslMode::Disable);
        }
        config.application_name("jesse-jobs");
        let connecting = config.connect(MakeRustlsConnect::new(tls()?)).await;
        let (client, connection) = connecting.map_err(PostgresError::Connect)?;
        let connection = tokio::spawn(async move {
            // Whoever asks something hears of it; what is left for the log is why.
            if let Err(error) = connection.into_future().await {
                tracing::debug!(error = jobs::chain(&error), "the connection to Postgres ended");
            }
        });
        Ok(Self { client, _connection: AbortOnDropHandle::new(connection) })
    }

    /// Exchange and symbol of all series that have 1-minute candles, sorted, as Jesse spells them.
    pub async fn series(&self) -> Result<Vec<(String, String)>, PostgresError> {
        let rows = self.client.query(SERIES, &[]).await.map_err(PostgresError::from_query)?;
        let names = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let series: Result<Vec<_>, _> = rows.iter().map(names).collect();
        series.map_err(PostgresError::from_query)
    }
}

/// Whether what is said to this host stays on this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
    }
}

fn tls() -> Result<rustls::ClientConfig, PostgresError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(PostgresError::Tls)?;
    Ok(config.with_no_client_auth())
}

//! Why candles cannot be taken from Postgres.

use tokio_postgres::error::SqlState;

use crate::candles::{ImportError, Month, Series, SeriesError, store::StoreError, time::Minute};

/// Why candles cannot be taken from Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Not an address. It is not repeated: there may be a password in it.
    #[error(
        "this is no address of a Postgres; write postgresql://USER@HOST:5432/DATABASE, with sslmode=disable, prefer or require if needed"
    )]
    Url(#[source] tokio_postgres::Error),
    /// It cannot be reached, or does not let us in.
    #[error(
        "Postgres cannot be connected to; check host, port, user and password (which PGPASSWORD may hold), and with \
         sslmode=require that this system trusts the server's certificate"
    )]
    Connect(#[source] tokio_postgres::Error),
    /// The system's certificates cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// Another database than Jesse's.
    #[error(
        "the database has no table `candle` with Jesse's columns (timestamp, open, close, high, low, volume, exchange, \
         symbol, timeframe); another schema than public is named with ?options=-c%20search_path%3DSCHEMA"
    )]
    NotJesses(#[source] tokio_postgres::Error),
    /// A query failed.
    #[error("Postgres failed")]
    Query(#[source] tokio_postgres::Error),
    /// Times of another type than Jesse's.
    #[error("the column timestamp of the table `candle` has the type {0}; bigint (milliseconds) is needed")]
    TimeType(String),
    /// No such series.
    #[error("Postgres has no 1-minute candles of {series}; it has: {known}")]
    NoSeries {
        /// The series.
        series: Series,
        /// What there is, or that there is nothing.
        known: String,
    },
    /// A name that no series here may have.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// A time that no candle can have.
    #[error("Postgres has a candle of {series} at {}, which no exchange has seen", Minute(*at_ms))]
    Time {
        /// The series.
        series: Series,
        /// The time in milliseconds.
        at_ms: i64,
    },
    /// A row that is no candle.
    #[error("{series} in Postgres, {month}, counting the rows of that month: {why}")]
    Row {
        /// The series.
        series: Series,
        /// The month.
        month: Month,
        /// What is wrong with which row.
        why: Box<ImportError>,
    },
    /// The candles cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PostgresError {
    pub(super) fn from_query(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => Self::NotJesses(error),
            _ => Self::Query(error),
        }
    }
}

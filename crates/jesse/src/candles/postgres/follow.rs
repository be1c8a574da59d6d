//! Bringing a series up to what Postgres has.

use super::{JessePostgres, PostgresError};
use crate::candles::{
    MINUTE_MS, Manifest, Month, Series, Source,
    store::{CandleStore, Imported},
};

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What is before the first stored candle and after the last: the usual way, in the time that the new rows take.
    New,
    /// Every row, so that old ones that changed, and gaps that were filled, are found.
    Everything,
}

/// What became of a series.
#[derive(Debug)]
pub struct Followed {
    /// The series as it is now.
    pub manifest: Manifest,
    /// How many rows were read.
    pub rows: usize,
    /// How many months were written, because they changed.
    pub months_written: usize,
    /// There are more or fewer rows than are stored, where nothing new was looked for.
    pub unseen: Option<Unseen>,
}

/// How many candles there are in the range that was stored before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unseen {
    /// In Postgres.
    pub there: u64,
    /// Here.
    pub here: u64,
}

impl JessePostgres {
    /// Stores the candles of a series month by month. What was stored when an error came up stays stored, and is not read
    /// again next time.
    pub async fn follow(
        &self,
        series: &Series,
        store: &CandleStore,
        reach: Reach,
    ) -> Result<Followed, PostgresError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        self.client.batch_execute(begin).await.map_err(PostgresError::from_query)?;
        let followed = self.follow_in_snapshot(series, store, reach).await;
        self.client.batch_execute("ROLLBACK").await.map_err(PostgresError::from_query)?;
        followed
    }

    async fn follow_in_snapshot(
        &self,
        series: &Series,
        store: &CandleStore,
        reach: Reach,
    ) -> Result<Followed, PostgresError> {
        let Some((first, last)) = self.ends(series).await? else {
            return Err(self.no_series(series).await?);
        };
        let stored = store.manifest_for(series, Source::Imported).await?;
        let all = first..last + MINUTE_MS;
        let (ranges, unseen) = match (&stored, reach) {
            (Some(stored), Reach::New) => {
                let known = stored.first_ms()..stored.end_ms();
                let (there, here) = (self.count(series, &known).await?, stored.rows());
                let unseen = (there != here).then_some(Unseen { there, here });
                (vec![all.start..known.start.min(all.end), known.end.max(all.start)..all.end], unseen)
            }
            _ => (vec![all], None),
        };
        let mut followed = None;
        let (mut rows, mut months_written) = (0, 0);
        for range in ranges {
            let months = Month::parts_of(&range)
                .map_err(|at_ms| PostgresError::Time { series: series.clone(), at_ms })?;
            for (month, _) in months {
                let candles = self.candles(series, month, &range).await?;
                if candles.is_empty() {
                    continue;
                }
                rows += candles.len();
                let Imported { manifest, months_written: written } =
                    store.import(series, Source::Imported, &candles).await?;
                months_written += written;
                followed = Some(manifest);
            }
        }
        match followed.or(stored) {
            Some(manifest) => Ok(Followed { manifest, rows, months_written, unseen }),
            None => Err(self.no_series(series).await?),
        }
    }

    async fn no_series(&self, series: &Series) -> Result<PostgresError, PostgresError> {
        let known = self.series().await?;
        let known: Vec<_> =
            known.iter().take(40).map(|(exchange, symbol)| format!("{exchange} {symbol}")).collect();
        let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
        Ok(PostgresError::NoSeries { series: series.clone(), known })
    }
}

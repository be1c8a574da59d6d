//! Reading rows of Jesse's table.

use std::{ops::Range, pin::pin};

use futures::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::{Column, types::Type};

use super::{JessePostgres, PostgresError};
use crate::candles::{Candle, Month, Series, import::Checker, import::ImportError};

/// The numbers through the text that Jesse's driver gets of them: of a `real` that lies between two decimals, the server says
/// which one it means.
const CANDLES: &str = "SELECT timestamp, open::text::float8, close::text::float8, high::text::float8,
  low::text::float8, volume::text::float8 FROM candle
  WHERE exchange = $1 AND symbol = $2 AND timeframe = '1m' AND timestamp >= $3 AND timestamp < $4 ORDER BY timestamp";
const COUNT: &str = "SELECT count(*) FROM candle
  WHERE exchange = $1 AND symbol = $2 AND timeframe = '1m' AND timestamp >= $3 AND timestamp < $4";
const ENDS: &str = "SELECT min(timestamp), max(timestamp) FROM candle WHERE exchange = $1 AND symbol = $2 AND timeframe = '1m'";

const NUMBERS: [&str; 5] = ["open", "close", "high", "low", "volume"];

impl JessePostgres {
    /// Times of the first and the last candle in milliseconds.
    pub(super) async fn ends(&self, series: &Series) -> Result<Option<(i64, i64)>, PostgresError> {
        let row = self.client.query_one(ENDS, &[&series.exchange(), &series.symbol()]).await;
        let row = row.map_err(PostgresError::from_query)?;
        check_time_type(&row.columns()[0])?;
        let ends = row.try_get(0).and_then(|first| Ok((first, row.try_get(1)?)));
        let (first, last): (Option<i64>, Option<i64>) = ends.map_err(PostgresError::from_query)?;
        Ok(first.zip(last))
    }

    /// How many candles there are in a range (milliseconds, end exclusive).
    pub(super) async fn count(&self, series: &Series, range: &Range<i64>) -> Result<u64, PostgresError> {
        let row = self
            .client
            .query_one(COUNT, &[&series.exchange(), &series.symbol(), &range.start, &range.end])
            .await
            .map_err(PostgresError::from_query)?;
        let count: i64 = row.try_get(0).map_err(PostgresError::from_query)?;
        Ok(count.unsigned_abs())
    }

    /// The candles of a month that are in a range (milliseconds, end exclusive), checked as those of a file are.
    pub(super) async fn candles(
        &self,
        series: &Series,
        month: Month,
        range: &Range<i64>,
    ) -> Result<Vec<Candle>, PostgresError> {
        let (from, to) = (range.start.max(month.start_ms()), range.end.min(month.end_ms()));
        let statement = self.client.prepare(CANDLES).await.map_err(PostgresError::from_query)?;
        statement.columns().first().map_or(Ok(()), check_time_type)?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&series.exchange(), &series.symbol(), &from, &to];
        let rows = self.client.query_raw(&statement, parameters).await.map_err(PostgresError::from_query)?;
        let mut rows = pin!(rows);
        let mut checker = Checker::default();
        let refused = |why| PostgresError::Row { series: series.clone(), month, why: Box::new(why) };
        while let Some(row) = rows.try_next().await.map_err(PostgresError::from_query)? {
            let number = checker.next_row();
            let missing = |column| refused(ImportError::ValueMissing { row: number, column });
            let at_ms: Option<i64> = row.try_get(0).map_err(PostgresError::from_query)?;
            let at_ms = at_ms.ok_or_else(|| missing("timestamp"))?;
            let at = Timestamp::from_millisecond(at_ms)
                .map_err(|_| PostgresError::Time { series: series.clone(), at_ms })?;
            let mut values = [0.0; 5];
            for (index, value) in values.iter_mut().enumerate() {
                let read: Option<f64> = row.try_get(index + 1).map_err(PostgresError::from_query)?;
                *value = read.ok_or_else(|| missing(NUMBERS[index]))?;
            }
            checker.push(at, values).map_err(refused)?;
        }
        Ok(checker.into_candles())
    }
}

fn check_time_type(column: &Column) -> Result<(), PostgresError> {
    if *column.type_() == Type::INT8 {
        return Ok(());
    }
    Err(PostgresError::TimeType(column.type_().name().to_owned()))
}

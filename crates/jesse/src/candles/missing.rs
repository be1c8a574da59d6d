//! The answer to a range whose candles are not all there: what is missing, and what exists instead.

use super::chunk::Gap;
use super::series::Series;
use super::time::Minute;

/// Why a range cannot be served. All times are milliseconds, ends exclusive; the texts show them in UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandlesMissing {
    /// The range has no minute in it.
    #[error("the range from {} to {} of {series} is empty (UTC)", Minute(*from_ms), Minute(*to_ms))]
    EmptyRange {
        /// The series.
        series: Series,
        /// Start of the range.
        from_ms: i64,
        /// End of the range.
        to_ms: i64,
    },
    /// The range starts before the first candle or ends after the last one.
    #[error(
        "no candles for {series} from {} to {}; stored: {} to {} (UTC)",
        Minute(*missing_from), Minute(*missing_to), Minute(*available_from), Minute(*available_to)
    )]
    OutOfRange {
        /// The series.
        series: Series,
        /// Start of the first part of the range that is not stored.
        missing_from: i64,
        /// End of that part.
        missing_to: i64,
        /// Time of the first stored candle.
        available_from: i64,
        /// Time just after the last stored candle.
        available_to: i64,
    },
    /// Minutes inside the range are missing.
    #[error(
        "candles for {series} are missing from {} to {} (UTC), {}{}",
        Minute(gap.from_ms), Minute(gap.to_ms), Count(gap.minutes()), More(*more)
    )]
    Gap {
        /// The series.
        series: Series,
        /// The first gap that touches the range.
        gap: Gap,
        /// How many more gaps touch the range.
        more: usize,
    },
}

struct Count(i64);

impl std::fmt::Display for Count {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} minute{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

struct More(usize);

impl std::fmt::Display for More {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => formatter.write_str(", and in 1 more gap of the range"),
            more => write!(formatter, ", and in {more} more gaps of the range"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::testing::{JANUARY_2023, candles_at, minutes};
    use crate::candles::{Chunk, MINUTE_MS, Manifest, Source, split};

    const DAY_MS: i64 = 1440 * MINUTE_MS;

    fn message(candles: &[super::super::Candle], from_ms: i64, to_ms: i64) -> String {
        let chunks =
            split(candles).unwrap().into_iter().map(|(_, part)| Chunk::new(part).unwrap().0).collect();
        let series = Series::new("Binance", "BTC-USDT").unwrap();
        let manifest = Manifest::new(series, Source::Imported, chunks).unwrap();
        manifest.covering(from_ms, to_ms).unwrap_err().to_string()
    }

    #[test]
    fn out_of_range_names_the_missing_part_and_what_is_stored() {
        let candles = minutes(JANUARY_2023, 59 * 1440);
        let end = JANUARY_2023 + 59 * DAY_MS;
        let stored = "stored: 2023-01-01 00:00 to 2023-03-01 00:00 (UTC)";
        for (from, to, missing) in [
            (JANUARY_2023 - 31 * DAY_MS, end, "2022-12-01 00:00 to 2023-01-01 00:00"),
            (JANUARY_2023 - 31 * DAY_MS, JANUARY_2023 - 30 * DAY_MS, "2022-12-01 00:00 to 2022-12-02 00:00"),
            (JANUARY_2023, end + MINUTE_MS, "2023-03-01 00:00 to 2023-03-01 00:01"),
            (end + DAY_MS, end + 2 * DAY_MS, "2023-03-02 00:00 to 2023-03-03 00:00"),
        ] {
            assert_eq!(
                message(&candles, from, to),
                format!("no candles for Binance BTC-USDT from {missing}; {stored}")
            );
        }
    }

    #[test]
    fn the_first_gap_is_named_and_the_others_counted() {
        let candles = candles_at(JANUARY_2023, &[0, 1, 3, 5, 9]);
        let at = |minute: i64| JANUARY_2023 + minute * MINUTE_MS;
        assert_eq!(
            message(&candles, at(0), at(4)),
            "candles for Binance BTC-USDT are missing from 2023-01-01 00:02 to 2023-01-01 00:03 (UTC), 1 minute"
        );
        assert!(message(&candles, at(0), at(5)).ends_with("1 minute, and in 1 more gap of the range"));
        assert!(message(&candles, at(0), at(10)).ends_with("1 minute, and in 2 more gaps of the range"));
        // A range that only reaches into a gap, from either side.
        assert!(message(&candles, at(5), at(7)).ends_with("to 2023-01-01 00:09 (UTC), 3 minutes"));
        assert!(message(&candles, at(8), at(10)).ends_with("to 2023-01-01 00:09 (UTC), 3 minutes"));
    }

    #[test]
    fn an_empty_range_is_said_to_be_empty() {
        let message = message(&minutes(JANUARY_2023, 2), JANUARY_2023, JANUARY_2023);
        assert_eq!(
            message,
            "the range from 2023-01-01 00:00 to 2023-01-01 00:00 of Binance BTC-USDT is empty (UTC)"
        );
    }
}

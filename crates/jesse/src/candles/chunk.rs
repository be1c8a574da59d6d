//! One calendar month of candles and what a manifest says of it.
//!
//! A [`Chunk`] is enough to know which minutes of its month exist: its gaps are recorded in it, so that a series is judged
//! without opening any chunk but those that change.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::npy::{NpyError, decode, encode};
use super::time::{Minute, Month, open_ms, whole_minute};
use super::{Candle, MINUTE_MS};

const DAY_MS: i64 = 1440 * MINUTE_MS;

/// Minutes that have no candle: `from_ms` is the first of them, `to_ms` the first minute that has one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Inclusive start in milliseconds.
    pub from_ms: i64,
    /// Exclusive end in milliseconds.
    pub to_ms: i64,
}

impl Gap {
    /// How many minutes are missing.
    pub fn minutes(self) -> i64 {
        (self.to_ms - self.from_ms) / MINUTE_MS
    }

    /// The gap between two candles, or `None` when they are neighbours.
    pub(super) fn between(before_ms: i64, after_ms: i64) -> Option<Self> {
        let from_ms = before_ms + MINUTE_MS;
        (from_ms < after_ms).then_some(Self { from_ms, to_ms: after_ms })
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.minutes();
        let unit = if minutes == 1 { "minute" } else { "minutes" };
        write!(
            formatter,
            "missing: {} to {} (UTC), {minutes} {unit}",
            Minute(self.from_ms),
            Minute(self.to_ms)
        )
    }
}

/// One month of candles, stored under the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The month that all its candles lie in.
    pub month: Month,
    /// BLAKE3 of the bytes that [`encode`] makes of the candles, in hexadecimal.
    pub hash: String,
    /// Time of the first candle in milliseconds.
    pub first_ms: i64,
    /// Time of the last candle in milliseconds.
    pub last_ms: i64,
    /// How many candles it has.
    pub rows: u32,
    /// Minutes missing between its first and its last candle, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// A hash of the candles of each day (UTC), from the day of the first to the day of the last candle: what depends on
    /// some days of a month stays valid when others are added.
    pub days: Vec<String>,
}

/// Why candles cannot be stored as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// There are no candles.
    #[error("there are no candles")]
    Empty,
    /// A time is not on a whole minute, or in no sensible year.
    #[error("row {row} is not on a whole minute")]
    NotOnMinute {
        /// Row, counted from 1.
        row: usize,
    },
    /// A time is not later than the one before it.
    #[error("row {row} is not later than the row before it")]
    NotAscending {
        /// Row, counted from 1.
        row: usize,
    },
    /// The candles of one chunk lie in two months.
    #[error("row {row} ({}) is not in {month}, the month of the first row", Minute(*at_ms))]
    OtherMonth {
        /// Row, counted from 1.
        row: usize,
        /// Its time in milliseconds.
        at_ms: i64,
        /// Month of the first row.
        month: Month,
    },
    /// The bytes are no candle file.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// The bytes are a candle file, but not the one that is meant.
    #[error("the bytes have the hash {found}, not {expected}")]
    OtherBytes {
        /// Hash in the manifest.
        expected: String,
        /// Hash of the bytes.
        found: String,
    },
}

impl Chunk {
    /// Describes one month of candles and encodes it: the chunk, and the bytes to store under its hash.
    pub fn new(candles: &[Candle]) -> Result<(Self, Vec<u8>), ChunkError> {
        let (month, first_ms, last_ms) = check_month(candles)?;
        let gaps = candles
            .windows(2)
            .filter_map(|pair| Gap::between(open_ms(&pair[0]), open_ms(&pair[1])))
            .collect();
        let bytes = encode(candles);
        let hash = hash_of(&bytes);
        // A month has at most 44,640 minutes and each occurs once, so the number of rows always fits.
        let rows = u32::try_from(candles.len()).unwrap_or(u32::MAX);
        let days = hash_days(candles, first_ms, last_ms);
        Ok((Self { month, hash, first_ms, last_ms, rows, gaps, days }, bytes))
    }

    /// The candles in the bytes that were stored under this chunk's hash; other or damaged bytes are an error.
    pub fn read(&self, bytes: &[u8]) -> Result<Vec<Candle>, ChunkError> {
        let found = hash_of(bytes);
        if found != self.hash {
            return Err(ChunkError::OtherBytes { expected: self.hash.clone(), found });
        }
        Ok(decode(bytes)?)
    }

    /// The hashes of the days that a range (end exclusive) touches, oldest first.
    pub fn days_between(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = &str> {
        let first_day = self.first_ms.div_euclid(DAY_MS);
        let touched = move |day: i64| (day + 1) * DAY_MS > from_ms && day * DAY_MS < to_ms;
        let days = (first_day..).zip(&self.days);
        days.filter(move |(day, _)| touched(*day)).map(|(_, hash)| hash.as_str())
    }

    /// The time just after the last candle.
    pub fn end_ms(&self) -> i64 {
        self.last_ms + MINUTE_MS
    }

    /// Whether the fields agree with each other, asked of what came from outside.
    pub(super) fn is_consistent(&self) -> bool {
        let on_minute = |ms: i64| ms % MINUTE_MS == 0 && Month::containing(ms) == Some(self.month);
        if !on_minute(self.first_ms) || !on_minute(self.last_ms) || self.last_ms < self.first_ms {
            return false;
        }
        let mut present_ms = self.first_ms;
        for gap in &self.gaps {
            if !on_minute(gap.from_ms)
                || !on_minute(gap.to_ms)
                || gap.from_ms <= present_ms
                || gap.to_ms <= gap.from_ms
            {
                return false;
            }
            present_ms = gap.to_ms;
        }
        let missing: i64 = self.gaps.iter().map(|gap| gap.minutes()).sum();
        let rows = (self.end_ms() - self.first_ms) / MINUTE_MS - missing;
        let days = self.last_ms.div_euclid(DAY_MS) - self.first_ms.div_euclid(DAY_MS) + 1;
        present_ms <= self.last_ms
            && i64::try_from(self.days.len()) == Ok(days)
            && i64::from(self.rows) == rows
            && self.hash.len() == 64
            && self.hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// Hashes of 128 bits: enough against chance, and a decade of days stays a document of some 120 KB.
fn hash_days(candles: &[Candle], first_ms: i64, last_ms: i64) -> Vec<String> {
    let day_of = |ms: i64| ms.div_euclid(DAY_MS);
    let mut rest = candles;
    let mut days = Vec::new();
    for day in day_of(first_ms)..=day_of(last_ms) {
        let (inside, after) = rest.split_at(rest.partition_point(|candle| day_of(open_ms(candle)) <= day));
        days.push(blake3::hash(&encode(inside)).to_hex()[..32].to_owned());
        rest = after;
    }
    days
}

/// Cuts ascending candles into calendar months, oldest first.
pub fn split(candles: &[Candle]) -> Result<Vec<(Month, &[Candle])>, ChunkError> {
    check_ascending(candles)?;
    let mut months = Vec::new();
    let mut rest = candles;
    while let Some(month) = rest.first().and_then(|candle| Month::containing(open_ms(candle))) {
        let (inside, after) = rest.split_at(rest.partition_point(|candle| open_ms(candle) < month.end_ms()));
        months.push((month, inside));
        rest = after;
    }
    Ok(months)
}

/// The month of the candles and the times of the first and the last one.
fn check_month(candles: &[Candle]) -> Result<(Month, i64, i64), ChunkError> {
    check_ascending(candles)?;
    let (Some(first), Some(last)) = (candles.first(), candles.last()) else { return Err(ChunkError::Empty) };
    let month = Month::containing(open_ms(first)).ok_or(ChunkError::NotOnMinute { row: 1 })?;
    if open_ms(last) >= month.end_ms() {
        let row = candles.partition_point(|candle| open_ms(candle) < month.end_ms());
        let at_ms = candles.get(row).map_or(month.end_ms(), open_ms);
        return Err(ChunkError::OtherMonth { row: row + 1, at_ms, month });
    }
    Ok((month, open_ms(first), open_ms(last)))
}

fn check_ascending(candles: &[Candle]) -> Result<(), ChunkError> {
    let mut previous = i64::MIN;
    for (index, candle) in candles.iter().enumerate() {
        let row = index + 1;
        let ms = whole_minute(candle).ok_or(ChunkError::NotOnMinute { row })?;
        if ms <= previous {
            return Err(ChunkError::NotAscending { row });
        }
        previous = ms;
    }
    Ok(())
}

fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::testing::{JANUARY_2023, candles_at, minutes};

    #[test]
    fn a_chunk_describes_its_candles() {
        let candles = candles_at(JANUARY_2023, &[0, 1, 2, 5, 6, 10]);
        let (chunk, bytes) = Chunk::new(&candles).unwrap();
        let gap =
            |from, to| Gap { from_ms: JANUARY_2023 + from * MINUTE_MS, to_ms: JANUARY_2023 + to * MINUTE_MS };
        assert_eq!(chunk.gaps, [gap(3, 5), gap(7, 10)]);
        assert_eq!(chunk.gaps[1].minutes(), 3);
        assert_eq!(
            (chunk.rows, chunk.first_ms, chunk.end_ms()),
            (6, JANUARY_2023, JANUARY_2023 + 11 * MINUTE_MS)
        );
        assert_eq!(chunk.hash, blake3::hash(&bytes).to_hex().as_str());
        assert_eq!(chunk.read(&bytes).unwrap(), candles);
        assert!(chunk.is_consistent());
    }

    #[test]
    fn other_bytes_are_refused() {
        let (chunk, mut bytes) = Chunk::new(&minutes(JANUARY_2023, 10)).unwrap();
        bytes[200] ^= 1;
        assert!(matches!(chunk.read(&bytes), Err(ChunkError::OtherBytes { .. })));
    }

    #[test]
    fn json_leaves_empty_gaps_out() {
        let (chunk, _) = Chunk::new(&minutes(JANUARY_2023, 2)).unwrap();
        let json = serde_json::to_string(&chunk).unwrap();
        assert!(json.starts_with(r#"{"month":"2023-01","hash":""#), "{json}");
        assert!(!json.contains("gaps"), "{json}");
        assert_eq!(serde_json::from_str::<Chunk>(&json).unwrap(), chunk);
    }

    #[test]
    fn splitting_cuts_at_the_month_and_loses_nothing() {
        // From the last minute of January 2024 over the leap day into March.
        let first_ms = "2024-02".parse::<Month>().unwrap().start_ms() - MINUTE_MS;
        let candles = minutes(first_ms, 1 + 29 * 1440 + 1);
        let months = split(&candles).unwrap();
        let sizes: Vec<_> = months.iter().map(|(month, part)| (month.to_string(), part.len())).collect();
        assert_eq!(
            sizes,
            [("2024-01".to_owned(), 1), ("2024-02".to_owned(), 29 * 1440), ("2024-03".to_owned(), 1)]
        );
        assert_eq!(months.iter().flat_map(|(_, part)| part.iter().copied()).collect::<Vec<_>>(), candles);
        for (month, part) in months {
            assert_eq!(Chunk::new(part).unwrap().0.month, month);
        }
        assert_eq!(split(&[]).unwrap(), []);
    }

    #[test]
    fn what_is_not_one_ascending_month_is_refused() {
        assert_eq!(Chunk::new(&[]), Err(ChunkError::Empty));
        let two_months = minutes(Month::containing(JANUARY_2023).unwrap().end_ms() - MINUTE_MS, 2);
        let error = Chunk::new(&two_months).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 2 (2023-02-01 00:00) is not in 2023-01, the month of the first row"
        );
        assert_eq!(split(&candles_at(JANUARY_2023, &[0, 1, 1])), Err(ChunkError::NotAscending { row: 3 }));
        assert_eq!(split(&candles_at(JANUARY_2023, &[1, 0])), Err(ChunkError::NotAscending { row: 2 }));
        assert_eq!(split(&candles_at(JANUARY_2023 + 1, &[0])), Err(ChunkError::NotOnMinute { row: 1 }));
        assert_eq!(split(&[[f64::NAN; 6]]), Err(ChunkError::NotOnMinute { row: 1 }));
    }

    #[test]
    fn inconsistent_descriptions_are_noticed() {
        let (chunk, _) = Chunk::new(&candles_at(JANUARY_2023, &[0, 1, 5, 6])).unwrap();
        let broken: [fn(&mut Chunk); 9] = [
            |chunk| chunk.rows += 1,
            |chunk| chunk.first_ms += 1,
            |chunk| chunk.first_ms += 7 * MINUTE_MS,
            |chunk| chunk.last_ms += 31 * 1440 * MINUTE_MS,
            |chunk| chunk.hash = "x".repeat(64),
            |chunk| chunk.hash.truncate(63),
            |chunk| chunk.gaps[0].from_ms = chunk.first_ms,
            |chunk| chunk.gaps[0].to_ms = i64::MAX,
            |chunk| chunk.gaps.clear(),
        ];
        for (index, change) in broken.iter().enumerate() {
            let mut changed = chunk.clone();
            change(&mut changed);
            assert!(!changed.is_consistent(), "{index}");
        }
    }
}

//! The list of a series' chunks: which minutes exist, and where they came from.
//!
//! A manifest cannot be made or read in a bad state: its chunks are sorted, one a month, consistent with themselves, at least
//! one of them, and the gaps bounded in number. Gaps inside of a month are kept with its chunk, gaps between months follow from
//! the chunks' ends, so that a new version of one month needs no look into the others.
//!
//! Its JSON is canonical: fields in one order, no floats, no maps, no optional spelling. So the hash of the document that it is stored as
//! changes with every candle, and with nothing else.

use serde::{Deserialize, Serialize};

use super::MINUTE_MS;
use super::chunk::{Chunk, Gap};
use super::missing::CandlesMissing;
use super::series::{Series, SeriesError};
use super::time::Month;

/// The most gaps that one series may have, so that a manifest stays small. Real 1-minute data has a few dozen; a source with
/// more has no candle for minutes without a trade, and needs them filled before it is imported.
pub const MAX_GAPS: usize = 10_000;

const VERSION: u32 = 1;

/// Where the candles of a series came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// Real candles.
    Imported,
    /// Made by [`generate`](super::generate) with this seed.
    Synthetic {
        /// The generator's seed.
        seed: u64,
    },
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Imported => formatter.write_str("imported candles"),
            Self::Synthetic { seed } => write!(formatter, "synthetic candles of seed {seed}"),
        }
    }
}

/// The chunks of one series, sorted by month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    v: u32,
    #[serde(flatten)]
    series: Series,
    source: Source,
    chunks: Vec<Chunk>,
    /// What follows from the fields above, worked out once.
    #[serde(skip)]
    derived: Derived,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Derived {
    first_ms: i64,
    end_ms: i64,
    rows: u64,
}

/// What a range rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covering<'a> {
    /// The months, oldest first.
    pub chunks: &'a [Chunk],
    /// The gaps that touch the range, ascending; they may begin before it and end after it.
    pub gaps: Vec<Gap>,
    /// Where the candles begin that count, in milliseconds: before the range's start if that is inside a gap.
    pub from_ms: i64,
}

/// Why a manifest cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It would list no chunk.
    #[error("{0} has no candles")]
    Empty(Series),
    /// It was written by a later version of this program.
    #[error("the candle manifest has version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// The name of the series is not valid.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// Two chunks have the same month, or they are out of order.
    #[error("{series} lists the month {month} out of order or twice")]
    Order {
        /// The series.
        series: Series,
        /// The month at fault.
        month: Month,
    },
    /// The fields of a chunk contradict each other.
    #[error("{series} describes the month {month} in a way that contradicts itself")]
    Inconsistent {
        /// The series.
        series: Series,
        /// The month at fault.
        month: Month,
    },
    /// There are more gaps than a manifest may record.
    #[error(
        "{series} would have {gaps} gaps, more than {MAX_GAPS}: its source seems to leave out the minutes without a trade; \
         fill them before the import"
    )]
    TooManyGaps {
        /// The series.
        series: Series,
        /// How many gaps there are.
        gaps: usize,
    },
    /// Candles of another source were to be added.
    #[error(
        "{series} holds {stored} and cannot take {offered} as well: use another exchange name, or another data folder"
    )]
    SourceDiffers {
        /// The series.
        series: Series,
        /// What it holds.
        stored: Source,
        /// What was to be added.
        offered: Source,
    },
}

impl Manifest {
    /// A manifest of these chunks, which must be sorted by month.
    pub fn new(series: Series, source: Source, chunks: Vec<Chunk>) -> Result<Self, ManifestError> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Err(ManifestError::Empty(series));
        };
        let (first_ms, end_ms) = (first.first_ms, last.end_ms());
        if let Some(pair) = chunks.windows(2).find(|pair| pair[0].month >= pair[1].month) {
            return Err(ManifestError::Order { series, month: pair[1].month });
        }
        if let Some(chunk) = chunks.iter().find(|chunk| !chunk.is_consistent()) {
            return Err(ManifestError::Inconsistent { series, month: chunk.month });
        }
        let rows = chunks.iter().map(|chunk| u64::from(chunk.rows)).sum();
        let derived = Derived { first_ms, end_ms, rows };
        let manifest = Self { v: VERSION, series, source, chunks, derived };
        let gaps = manifest.gaps().count();
        if gaps > MAX_GAPS {
            return Err(ManifestError::TooManyGaps { series: manifest.series, gaps });
        }
        Ok(manifest)
    }

    /// The manifest after some months were written anew: their chunks replace those of the same month or join in, all others
    /// stay. Any order will do; of two chunks of one month the later one counts.
    pub fn replacing(&self, written: Vec<Chunk>) -> Result<Self, ManifestError> {
        let mut months: std::collections::BTreeMap<Month, Chunk> =
            self.chunks.iter().map(|chunk| (chunk.month, chunk.clone())).collect();
        months.extend(written.into_iter().map(|chunk| (chunk.month, chunk)));
        Self::new(self.series.clone(), self.source, months.into_values().collect())
    }

    /// Refuses candles of a source other than the one that the series holds.
    pub(super) fn accept(&self, offered: Source) -> Result<(), ManifestError> {
        if self.source == offered {
            return Ok(());
        }
        Err(ManifestError::SourceDiffers { series: self.series.clone(), stored: self.source, offered })
    }

    /// The series that it describes.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Where the candles came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// All chunks, oldest first; never empty.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunk of a month.
    pub fn chunk(&self, month: Month) -> Option<&Chunk> {
        let index = self.chunks.binary_search_by_key(&month, |chunk| chunk.month).ok()?;
        self.chunks.get(index)
    }

    /// Time of the first candle in milliseconds.
    pub fn first_ms(&self) -> i64 {
        self.derived.first_ms
    }

    /// The time just after the last candle in milliseconds.
    pub fn end_ms(&self) -> i64 {
        self.derived.end_ms
    }

    /// How many candles the series has.
    pub fn rows(&self) -> u64 {
        self.derived.rows
    }

    /// The minutes missing between the first and the last candle, ascending.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            let before = index.checked_sub(1).and_then(|index| self.chunks.get(index));
            let between = before.and_then(|before| Gap::between(before.last_ms, chunk.first_ms));
            between.into_iter().chain(chunk.gaps.iter().copied())
        })
    }

    /// The chunks that hold every minute from `from_ms` up to, and without, `to_ms`; an error that says what exists if a
    /// minute is missing.
    pub fn covering(&self, from_ms: i64, to_ms: i64) -> Result<&[Chunk], CandlesMissing> {
        let covering = self.covering_despite_gaps(from_ms, to_ms)?;
        match covering.gaps.first() {
            Some(gap) => {
                let (series, more) = (self.series.clone(), covering.gaps.len() - 1);
                Err(CandlesMissing::Gap { series, gap: *gap, more })
            }
            None => Ok(covering.chunks),
        }
    }

    /// The same for those who know what to do about minutes that are missing inside the range. Its ends are as strict:
    /// before the first candle and after the last there is nothing to go on.
    pub fn covering_despite_gaps(&self, from_ms: i64, to_ms: i64) -> Result<Covering<'_>, CandlesMissing> {
        let series = || self.series.clone();
        if from_ms >= to_ms {
            return Err(CandlesMissing::EmptyRange { series: series(), from_ms, to_ms });
        }
        let (available_from, available_to) = (self.first_ms(), self.end_ms());
        if from_ms < available_from || to_ms > available_to {
            let (missing_from, missing_to) = if from_ms < available_from {
                (from_ms, to_ms.min(available_from))
            } else {
                (from_ms.max(available_to), to_ms)
            };
            return Err(CandlesMissing::OutOfRange {
                series: series(),
                missing_from,
                missing_to,
                available_from,
                available_to,
            });
        }
        let gaps: Vec<_> = self.gaps().filter(|gap| gap.from_ms < to_ms && gap.to_ms > from_ms).collect();
        // A range that begins inside a gap goes on from the candle before it.
        let from_ms = match gaps.first() {
            Some(gap) if gap.from_ms <= from_ms => gap.from_ms - MINUTE_MS,
            _ => from_ms,
        };
        let start = self.chunks.partition_point(|chunk| chunk.end_ms() <= from_ms);
        let end = self.chunks.partition_point(|chunk| chunk.first_ms < to_ms);
        Ok(Covering { chunks: &self.chunks[start..end], gaps, from_ms })
    }

    /// The chunks that have a candle in this range, which may reach beyond what is stored.
    pub fn overlapping(&self, from_ms: i64, to_ms: i64) -> &[Chunk] {
        let start = self.chunks.partition_point(|chunk| chunk.end_ms() <= from_ms);
        let end = self.chunks.partition_point(|chunk| chunk.first_ms < to_ms);
        self.chunks.get(start..end).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Unchecked {
    v: u32,
    exchange: String,
    symbol: String,
    source: Source,
    chunks: Vec<Chunk>,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = ManifestError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ManifestError> {
        if unchecked.v != VERSION {
            return Err(ManifestError::Version(unchecked.v));
        }
        Self::new(Series::new(unchecked.exchange, unchecked.symbol)?, unchecked.source, unchecked.chunks)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::split;
    use crate::candles::testing::{JANUARY_2023, candles_at, minutes};

    const DAY_MS: i64 = 1440 * MINUTE_MS;

    fn series() -> Series {
        Series::new("Binance", "BTC-USDT").unwrap()
    }

    fn chunks(candles: &[super::super::Candle]) -> Vec<Chunk> {
        split(candles).unwrap().into_iter().map(|(_, part)| Chunk::new(part).unwrap().0).collect()
    }

    fn manifest(candles: &[super::super::Candle]) -> Manifest {
        Manifest::new(series(), Source::Imported, chunks(candles)).unwrap()
    }

    #[test]
    fn it_survives_json_in_its_one_spelling() {
        let manifest = manifest(&minutes(JANUARY_2023, 40 * 1440));
        let json = serde_json::to_string(&manifest).unwrap();
        let start = r#"{"v":1,"exchange":"Binance","symbol":"BTC-USDT","source":{"kind":"imported"},"chunks":[{"month":"#;
        assert!(json.starts_with(start), "{json}");
        let read: Manifest = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        assert_eq!(read, manifest);
        assert_eq!((manifest.first_ms(), manifest.end_ms()), (JANUARY_2023, JANUARY_2023 + 40 * DAY_MS));
        assert_eq!((manifest.rows(), manifest.gaps().count()), (40 * 1440, 0));
    }

    #[test]
    fn a_bad_manifest_is_not_read() {
        let json = serde_json::to_string(&manifest(&minutes(JANUARY_2023, 40 * 1440))).unwrap();
        for (from, to, message) in [
            ("\"v\":1", "\"v\":2", "version 2; this program reads version 1"),
            ("BTC-USDT", "btc", "as in BTC-USDT"),
            ("2023-02", "2023-01", "the month 2023-01 out of order or twice"),
            ("\"rows\":44640", "\"rows\":7", "the month 2023-01 in a way that contradicts itself"),
        ] {
            let error = serde_json::from_str::<Manifest>(&json.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        let error = Manifest::new(series(), Source::Imported, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "Binance BTC-USDT has no candles");
    }

    #[test]
    fn gaps_within_and_between_months_are_listed_in_order() {
        let january = candles_at(JANUARY_2023, &[0, 1, 5]);
        let march = candles_at(JANUARY_2023 + 59 * DAY_MS, &[10, 12]);
        let manifest = manifest(&[january, march].concat());
        let gaps: Vec<_> = manifest.gaps().map(Gap::minutes).collect();
        assert_eq!(gaps, [3, 59 * 1440 + 10 - 6, 1]);
    }

    #[test]
    fn covering_gives_the_fewest_chunks() {
        let manifest = manifest(&minutes(JANUARY_2023, 90 * 1440));
        let (january, february, march) =
            (JANUARY_2023, JANUARY_2023 + 31 * DAY_MS, JANUARY_2023 + 59 * DAY_MS);
        for (from, to, chunks) in [
            (january, january + MINUTE_MS, 0..1),
            (january, february, 0..1),
            (january, february + MINUTE_MS, 0..2),
            (february - MINUTE_MS, february + MINUTE_MS, 0..2),
            (february, march, 1..2),
            (january, manifest.end_ms(), 0..3),
        ] {
            assert_eq!(manifest.covering(from, to).unwrap(), &manifest.chunks()[chunks]);
        }
    }

    #[test]
    fn a_range_with_gaps_rests_on_the_candle_before_them() {
        let january = candles_at(JANUARY_2023, &[0, 1, 5, 6]);
        let march = candles_at(JANUARY_2023 + 59 * DAY_MS, &[10, 12]);
        let manifest = manifest(&[january, march].concat());
        let at = |minute: i64| JANUARY_2023 + minute * MINUTE_MS;
        let covering = |from: i64, to: i64| {
            let covering = manifest.covering_despite_gaps(from, to).unwrap();
            (covering.chunks.len(), covering.gaps.len(), (covering.from_ms - JANUARY_2023) / MINUTE_MS)
        };
        assert_eq!(covering(at(0), at(2)), (1, 0, 0));
        assert_eq!(covering(at(0), at(6)), (1, 1, 0));
        assert_eq!(covering(at(2), at(6)), (1, 1, 1));
        assert_eq!(covering(at(4), at(5)), (1, 1, 1));
        // From the middle of the gap between the months, and from the start of one of them.
        assert_eq!(covering(at(30 * 1440), at(59 * 1440 + 13)), (2, 2, 6));
        assert_eq!(covering(at(59 * 1440), at(59 * 1440 + 11)), (2, 1, 6));
        assert!(manifest.covering_despite_gaps(at(-1), at(2)).is_err());
        assert!(manifest.covering_despite_gaps(at(0), at(59 * 1440 + 14)).is_err());
        assert_eq!(manifest.overlapping(at(-10), at(2)).len(), 1);
        assert_eq!(manifest.overlapping(at(7), at(59 * 1440)).len(), 0);
        assert_eq!(manifest.overlapping(i64::MIN, i64::MAX).len(), 2);
        assert_eq!(manifest.overlapping(at(5), at(5)).len(), 1);
        assert_eq!(manifest.overlapping(at(60 * 1440), at(0)).len(), 0);
    }

    #[test]
    fn more_gaps_than_the_limit_are_refused() {
        let every_other =
            |count: u32| candles_at(JANUARY_2023, &(0..count).map(|index| index * 2).collect::<Vec<_>>());
        assert!(Manifest::new(series(), Source::Imported, chunks(&every_other(10_001))).is_ok());
        let error = Manifest::new(series(), Source::Imported, chunks(&every_other(10_002))).unwrap_err();
        assert!(error.to_string().contains("10001 gaps, more than 10000"), "{error}");
    }
}

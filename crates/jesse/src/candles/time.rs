//! Times of candles: calendar months in UTC, and the range of times that this module accepts.
//!
//! The range (March 1973 to the year 5138) is the one in which a time's magnitude tells its unit: 10^11 milliseconds is 10^8
//! seconds, and so on. Nothing traded on a Jesse exchange lies outside of it, and inside of it no calendar arithmetic overflows.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::civil::{Date, date};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::{Candle, MINUTE_MS};

/// The accepted times in milliseconds.
pub(super) const TIME_RANGE: Range<i64> = 100_000_000_000..100_000_000_000_000;

const EPOCH: Date = date(1970, 1, 1);

/// A calendar month in UTC, written `2023-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Month(Date);

/// The text is not a month.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a month such as 2023-01, between 1973-03 and 5138-11")]
pub struct MonthError(String);

impl Month {
    /// The month that holds this time, or `None` outside the range of times that candles may have.
    pub fn containing(ms: i64) -> Option<Self> {
        if !TIME_RANGE.contains(&ms) {
            return None;
        }
        let timestamp = Timestamp::from_millisecond(ms).ok()?;
        Some(Self(Offset::UTC.to_datetime(timestamp).date().first_of_month()))
    }

    /// The months that a range of times touches, oldest first, each with its part of the range; none for an empty one. The
    /// error is the first time that no candle may have.
    pub(super) fn parts_of(range: &Range<i64>) -> Result<Vec<(Self, Range<i64>)>, i64> {
        let mut parts = Vec::new();
        let mut at_ms = range.start;
        while at_ms < range.end {
            let month = Self::containing(at_ms).ok_or(at_ms)?;
            let end_ms = month.end_ms().min(range.end);
            parts.push((month, at_ms..end_ms));
            at_ms = end_ms;
        }
        Ok(parts)
    }

    /// The month's first millisecond.
    pub fn start_ms(self) -> i64 {
        millis_of(self.0)
    }

    /// The first millisecond of the month after it.
    pub fn end_ms(self) -> i64 {
        millis_of(self.0.saturating_add(1.month()))
    }
}

/// Midnight of a date. Whole days, so that leap seconds and time zones have no say.
fn millis_of(date: Date) -> i64 {
    date.duration_since(EPOCH).as_secs() * 1000
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        format!("{text}-01")
            .parse::<Date>()
            .ok()
            .map(Self)
            .filter(|month| month.start_ms() < TIME_RANGE.end && month.end_ms() > TIME_RANGE.start)
            // One spelling only: the date parser takes others as well.
            .filter(|month| month.to_string() == text)
            .ok_or_else(|| MonthError(text.to_owned()))
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, MonthError> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// The time at which a candle opens, in milliseconds.
///
/// Exact for every candle of this module; a fraction is cut off, and what is not a number is 0.
#[expect(clippy::cast_possible_truncation, reason = "times of candles are whole numbers below 10^14")]
pub fn open_ms(candle: &Candle) -> i64 {
    candle[0] as i64
}

/// The time of a candle if it is an accepted one and on a whole minute.
pub(super) fn whole_minute(candle: &Candle) -> Option<i64> {
    let ms = open_ms(candle);
    (candle[0].fract() == 0.0 && TIME_RANGE.contains(&ms) && ms % MINUTE_MS == 0).then_some(ms)
}

/// A time as people read it: `2023-01-01 00:00`, in UTC.
pub(super) struct Minute(pub(super) i64);

impl fmt::Display for Minute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(formatter, "{}", timestamp.strftime("%Y-%m-%d %H:%M")),
            Err(_) => write!(formatter, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const JANUARY_2023: i64 = 1_672_531_200_000;

    #[test]
    fn months_have_their_bounds() {
        let january = Month::containing(JANUARY_2023).unwrap();
        assert_eq!(january.to_string(), "2023-01");
        assert_eq!(january.start_ms(), JANUARY_2023);
        assert_eq!(Month::containing(january.end_ms() - 1), Some(january));
        let february = Month::containing(january.end_ms()).unwrap();
        assert_eq!(february.to_string(), "2023-02");
        assert_eq!(february.end_ms() - february.start_ms(), 28 * 24 * 60 * MINUTE_MS);
        assert!(january < february);
    }

    #[test]
    fn every_month_follows_the_one_before() {
        let mut month: Month = "1973-03".parse().unwrap();
        let last: Month = "2400-01".parse().unwrap();
        while month < last {
            assert_eq!(month.to_string().parse(), Ok(month));
            let next = Month::containing(month.end_ms()).unwrap();
            assert_eq!(next.start_ms(), month.end_ms());
            month = next;
        }
    }

    #[test]
    fn only_one_spelling_is_a_month() {
        for text in [
            "",
            "2023",
            "2023-1",
            "2023-13",
            "2023-00",
            "202301",
            "2023-01-01",
            "1970-01",
            "9999-12",
            "+2023-01",
        ] {
            let error = text.parse::<Month>().unwrap_err();
            assert!(error.to_string().contains("such as 2023-01"), "{error}");
        }
        let month: Month = serde_json::from_str("\"2023-01\"").unwrap();
        assert_eq!(serde_json::to_string(&month).unwrap(), "\"2023-01\"");
        assert!(serde_json::from_str::<Month>("\"2023-1\"").is_err());
    }

    #[test]
    fn times_outside_the_range_have_no_month() {
        for ms in [i64::MIN, -1, 0, TIME_RANGE.start - 1, TIME_RANGE.end, i64::MAX] {
            assert_eq!(Month::containing(ms), None);
        }
        assert_eq!(Month::containing(TIME_RANGE.start).unwrap().to_string(), "1973-03");
        assert_eq!(Month::containing(TIME_RANGE.end - 1).unwrap().to_string(), "5138-11");
        assert!("5138-11".parse::<Month>().is_ok() && "5138-12".parse::<Month>().is_err());
    }

    #[test]
    fn a_whole_minute_is_recognised() {
        let at = |time: f64| whole_minute(&[time, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(at(1_672_531_200_000.0), Some(JANUARY_2023));
        for time in [f64::NAN, f64::INFINITY, -60_000.0, 0.0, 1_672_531_200_000.5, 1_672_531_200_001.0, 1e300]
        {
            assert_eq!(at(time), None, "{time}");
        }
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(Minute(JANUARY_2023 + 5 * MINUTE_MS).to_string(), "2023-01-01 00:05");
        assert_eq!(Minute(i64::MAX).to_string(), format!("{} ms", i64::MAX));
    }
}

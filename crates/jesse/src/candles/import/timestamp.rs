//! Times as files spell them: numbers of four units, or text.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::candles::time::{Minute, TIME_RANGE};

/// The unit of a number that stands for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    fn nanoseconds(self) -> i64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1000,
            Self::Nanoseconds => 1,
        }
    }

    /// The only unit in which a number of this magnitude is an accepted time: the range of accepted times spans three powers of
    /// ten, so that the ranges of the four units meet but do not overlap.
    fn of(magnitude: f64) -> Option<Self> {
        match magnitude {
            1e8..1e11 => Some(Self::Seconds),
            1e11..1e14 => Some(Self::Milliseconds),
            1e14..1e17 => Some(Self::Microseconds),
            1e17..1e20 => Some(Self::Nanoseconds),
            _ => None,
        }
    }
}

/// The time that a whole number stands for; without a unit its magnitude tells.
pub(super) fn from_integer(value: i64, unit: Option<Unit>) -> Option<Timestamp> {
    #[expect(clippy::cast_precision_loss, reason = "only the magnitude counts")]
    let unit = unit.or_else(|| Unit::of(value as f64))?;
    accepted(i128::from(value) * i128::from(unit.nanoseconds()))
}

/// The time that a float stands for. Whole minutes are exact in all units: in nanoseconds they are multiples of 2^11, which a
/// float can hold up to 2^64.
pub(super) fn from_float(value: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_precision_loss, reason = "powers of ten up to 10^9 are exact")]
    let scale = Unit::of(value)?.nanoseconds() as f64;
    #[expect(clippy::cast_possible_truncation, reason = "both factors are bounded by the unit's range")]
    let nanoseconds = (value * scale) as i128;
    accepted(nanoseconds)
}

/// The time that a text stands for: a number, or a date and time. One without an offset is UTC.
pub(super) fn from_text(text: &str) -> Option<Timestamp> {
    if let Ok(value) = text.parse() {
        return from_integer(value, None);
    }
    if let Ok(value) = text.parse() {
        return from_float(value);
    }
    let time = text.parse::<Timestamp>().ok().or_else(|| from_local_text(text))?;
    accepted(time.as_nanosecond())
}

/// A date and time without an offset. The parser would skip over the name of a time zone, and that would be another time.
fn from_local_text(text: &str) -> Option<Timestamp> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.T ".contains(&byte)) {
        return None;
    }
    let local: DateTime = text.parse().ok()?;
    Offset::UTC.to_timestamp(local).ok()
}

fn accepted(nanoseconds: i128) -> Option<Timestamp> {
    let timestamp = Timestamp::from_nanosecond(nanoseconds).ok()?;
    TIME_RANGE.contains(&timestamp.as_millisecond()).then_some(timestamp)
}

/// A time on a whole minute as people read it.
pub(super) fn text(timestamp: Timestamp) -> impl std::fmt::Display {
    Minute(timestamp.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JANUARY_2023: i64 = 1_672_531_200;

    #[test]
    fn all_units_and_spellings_give_the_same_time() {
        let expected = Timestamp::from_second(JANUARY_2023).ok();
        for zeros in [0, 3, 6, 9] {
            let value = JANUARY_2023 * 10_i64.pow(zeros);
            assert_eq!(from_integer(value, None), expected);
            #[expect(clippy::cast_precision_loss, reason = "that is what is tested")]
            let float = value as f64;
            assert_eq!(from_float(float), expected);
            assert_eq!(from_text(&value.to_string()), expected);
            assert_eq!(from_text(&format!("{float:e}")), expected);
        }
        for text in [
            "2023-01-01T00:00:00Z",
            "2023-01-01T00:00Z",
            "2023-01-01 00:00:00+00:00",
            "2023-01-01T02:00:00.000+02:00",
            "2023-01-01 00:00:00",
            "2023-01-01T00:00",
            "2023-01-01",
        ] {
            assert_eq!(from_text(text), expected, "{text}");
        }
    }

    #[test]
    fn a_declared_unit_is_believed() {
        assert_eq!(from_integer(JANUARY_2023, Some(Unit::Seconds)), from_integer(JANUARY_2023, None));
        assert_eq!(from_integer(JANUARY_2023, Some(Unit::Milliseconds)), None);
        assert_eq!(from_integer(i64::MAX, Some(Unit::Seconds)), None);
        assert_eq!(
            from_integer(i64::MAX, Some(Unit::Nanoseconds)).map(Timestamp::as_second),
            Some(9_223_372_036)
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in [0, -1, 17, 99_999_999, i64::MIN] {
            assert_eq!(from_integer(value, None), None, "{value}");
        }
        for value in [0.0, -1.0, 1e30, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(from_float(value), None, "{value}");
        }
        for text in [
            "",
            "now",
            "2023",
            "2023-13-01",
            "01/02/2023",
            "2023-01-01T00:00[Europe/Paris]",
            "nan",
            "1970-01-01",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    #[test]
    fn fractions_of_a_minute_are_not_lost() {
        for text in
            ["1672531200.5", "1672531200000000001", "1672531200000.25", "2023-01-01T00:00:00.000000001Z"]
        {
            let time = from_text(text).map(|time| time.as_nanosecond() % 60_000_000_000);
            assert!(time.is_some_and(|rest| rest > 0), "{text}");
        }
    }
}

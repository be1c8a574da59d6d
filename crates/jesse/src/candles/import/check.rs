//! The checks that every imported row goes through.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::columns::NAMES;
use super::error::{ImportError, MAX_ROWS};
use crate::candles::{Candle, MAX_GAPS, MINUTE_MS};

/// Takes rows one by one, keeps the good ones and fails at the first bad one.
#[derive(Default)]
pub(in crate::candles) struct Checker {
    candles: Vec<Candle>,
    previous: Option<Timestamp>,
    /// How often rows are so many minutes apart, other than one.
    wide_steps: BTreeMap<i64, usize>,
}

impl Checker {
    /// The number of the row that comes next, counted from 1.
    pub(in crate::candles) fn next_row(&self) -> usize {
        self.candles.len() + 1
    }

    /// Takes open, close, high, low and volume of the next row.
    pub(in crate::candles) fn push(&mut self, at: Timestamp, values: [f64; 5]) -> Result<(), ImportError> {
        let row = self.next_row();
        if row > MAX_ROWS {
            return Err(ImportError::TooManyRows);
        }
        self.check_time(row, at)?;
        let [open, close, high, low, volume] = values;
        check_values(row, values)?;
        #[expect(clippy::cast_precision_loss, reason = "times of candles are whole numbers below 10^14")]
        let time = at.as_millisecond() as f64;
        // Adding zero turns a negative zero into a positive one: equal candles must have equal bytes.
        self.candles.push([time, open, close, high, low, volume + 0.0]);
        Ok(())
    }

    fn check_time(&mut self, row: usize, at: Timestamp) -> Result<(), ImportError> {
        if at.as_nanosecond() % (i128::from(MINUTE_MS) * 1_000_000) != 0 {
            return Err(ImportError::NotOnMinute { row, at });
        }
        if let Some(previous) = self.previous.replace(at) {
            match (at.as_millisecond() - previous.as_millisecond()) / MINUTE_MS {
                1 => {}
                0 => return Err(ImportError::Duplicated { row, at }),
                ..0 => return Err(ImportError::Reversed { row, at, previous }),
                minutes => *self.wide_steps.entry(minutes).or_default() += 1,
            }
        }
        Ok(())
    }

    /// The candles, once all rows are in.
    pub(in crate::candles) fn finish(self) -> Result<Vec<Candle>, ImportError> {
        let steps = self.candles.len().checked_sub(1).ok_or(ImportError::Empty)?;
        let gaps: usize = self.wide_steps.values().sum();
        let usual = self.wide_steps.iter().max_by_key(|(_, count)| **count);
        // Hourly candles are as sound as minutes with 59 of 60 missing; the most frequent step tells which is meant.
        if let Some((minutes, count)) = usual
            && *count > steps - gaps
        {
            return Err(ImportError::NotOneMinute { minutes: *minutes });
        }
        if gaps > MAX_GAPS {
            return Err(ImportError::TooManyGaps { gaps });
        }
        Ok(self.candles)
    }

    /// The rows of a source that says itself that they are minutes, and of which this may be a small part or nothing.
    pub(in crate::candles) fn into_candles(self) -> Vec<Candle> {
        self.candles
    }
}

fn check_values(row: usize, values: [f64; 5]) -> Result<(), ImportError> {
    let [open, close, high, low, volume] = values;
    for (value, column) in [open, close, high, low].into_iter().zip(&NAMES[1..]) {
        if !value.is_finite() || value <= 0.0 {
            return Err(ImportError::Price { row, column, value });
        }
    }
    let other = open.max(close).max(low);
    if high < other {
        return Err(ImportError::HighTooLow { row, high, other });
    }
    let other = open.min(close);
    if low > other {
        return Err(ImportError::LowTooHigh { row, low, other });
    }
    if !volume.is_finite() || volume < 0.0 {
        return Err(ImportError::Volume { row, value: volume });
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const GOOD: [f64; 5] = [10.0, 11.0, 12.0, 9.0, 0.0];

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_672_531_200 + minutes * 60).unwrap()
    }

    fn import(minutes: impl IntoIterator<Item = i64>) -> Result<Vec<Candle>, ImportError> {
        let mut checker = Checker::default();
        for at in minutes {
            checker.push(minute(at), GOOD)?;
        }
        checker.finish()
    }

    fn refusal(values: [f64; 5]) -> String {
        Checker::default().push(minute(0), values).unwrap_err().to_string()
    }

    #[test]
    fn times_must_ascend() {
        assert_eq!(
            import((0..17).map(|index| index + 10).chain([5])).unwrap_err().to_string(),
            "row 18 has 2023-01-01 00:05, before row 17's 2023-01-01 00:26: the file must be sorted with the oldest row first"
        );
        assert_eq!(
            import([0, 1, 1]).unwrap_err().to_string(),
            "row 3 has 2023-01-01 00:01, the same as row 2: each minute may occur once"
        );
        let error = Checker::default()
            .push(Timestamp::from_millisecond(1_672_531_200_500).unwrap(), GOOD)
            .unwrap_err();
        assert_eq!(error.to_string(), "row 1 has 2023-01-01T00:00:00.5Z, which is not on a whole minute");
    }

    #[test]
    fn prices_and_volume_must_make_sense() {
        assert_eq!(
            refusal([0.0, 11.0, 12.0, 9.0, 1.0]),
            "row 1 has 0 as open; a price must be a number above 0"
        );
        assert!(refusal([10.0, f64::NAN, 12.0, 9.0, 1.0]).contains("NaN as close"));
        assert!(refusal([10.0, 11.0, f64::INFINITY, 9.0, 1.0]).contains("inf as high"));
        assert!(refusal([10.0, 11.0, 12.0, -9.0, 1.0]).contains("-9 as low"));
        assert!(
            refusal([10.0, 11.0, 10.5, 9.0, 1.0])
                .starts_with("row 1 has the high 10.5 below its open, close or low of 11")
        );
        assert!(
            refusal([10.0, 11.0, 12.0, 10.5, 1.0])
                .starts_with("row 1 has the low 10.5 above its open or close of 10")
        );
        assert!(refusal([10.0, 11.0, 12.0, 9.0, -1.0]).contains("-1 as volume"));
        assert!(refusal([10.0, 11.0, 12.0, 9.0, f64::NAN]).contains("NaN as volume"));
    }

    #[test]
    fn a_negative_zero_volume_becomes_zero() {
        let mut checker = Checker::default();
        checker.push(minute(0), [10.0, 11.0, 12.0, 9.0, -0.0]).unwrap();
        assert_eq!(checker.finish().unwrap()[0][5].to_bits(), 0);
    }

    #[test]
    fn gaps_pass_and_other_timeframes_do_not() {
        assert_eq!(import([0, 1, 2, 60, 61, 90, 91]).unwrap().len(), 7);
        assert_eq!(import([7]).unwrap().len(), 1);
        let hourly = import((0..100).filter(|hour| *hour != 50).map(|hour| hour * 60)).unwrap_err();
        assert!(
            hourly
                .to_string()
                .starts_with("the rows are mostly 60 minutes apart; 1-minute candles are needed")
        );
        assert!(matches!(import([0, 5, 6, 11, 16]), Err(ImportError::NotOneMinute { minutes: 5 })));
        assert!(matches!(import([]), Err(ImportError::Empty)));
    }

    #[test]
    fn more_gaps_than_a_manifest_holds_are_refused() {
        // Two minutes there, one missing.
        let gappy = |gaps: i64| import((0..=gaps).flat_map(|index| [index * 3, index * 3 + 1]));
        assert!(gappy(10_000).is_ok());
        assert!(matches!(gappy(10_001), Err(ImportError::TooManyGaps { gaps: 10_001 })));
    }
}

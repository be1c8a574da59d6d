//! What a backtest earned, day by day, as the ledger keeps it.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The most days of one trial, about 27 years; of a longer one the first are left out.
pub const MOST_DAYS: usize = 10_000;

/// What a backtest earned, day by day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// Days since 1970 of the first return.
    pub first_day: i64,
    /// Simple returns by calendar day (UTC), to the seven digits of 32 bits. Empty if it made no trade.
    pub returns: Vec<f64>,
}

/// A trial and the names under which it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRecord {
    /// The cache key that was asked for, and that of what was really run.
    pub names: Vec<String>,
    /// What it earned.
    pub trial: Trial,
}

impl TrialRecord {
    pub(crate) fn to_text(&self) -> String {
        format!("{}\n{}", self.names.join(" "), self.trial.to_text())
    }
}

impl Trial {
    /// Without the days before this one.
    #[must_use]
    pub fn since(mut self, day: i64) -> Self {
        let before = usize::try_from(day - self.first_day).unwrap_or(0).min(self.returns.len());
        self.returns.drain(..before);
        self.first_day = self.first_day.max(day);
        self
    }

    /// `1 <first day>\n<base64 of 32-bit floats, least byte first>`; 1 is the version.
    fn to_text(&self) -> String {
        let left_out = self.returns.len().saturating_sub(MOST_DAYS);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a return")]
        let bytes: Vec<u8> =
            self.returns[left_out..].iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        let first_day = self.first_day + i64::try_from(left_out).unwrap_or(0);
        format!("1 {first_day}\n{}", STANDARD.encode(bytes))
    }

    /// `None` for what a later version wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once('\n')?;
        let first_day = head.strip_prefix("1 ")?.parse().ok()?;
        let bytes = STANDARD.decode(body).ok()?;
        let (values, _) = bytes.as_chunks::<4>();
        Some(Self {
            first_day,
            returns: values.iter().map(|value| f32::from_le_bytes(*value).into()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_survives_redis_to_seven_digits_and_a_long_one_loses_its_first_days() {
        let trial = Trial { first_day: 19_000, returns: vec![0.012_345_678, -0.5, 0.0] };
        let read = Trial::parse(&trial.to_text()).unwrap_or_default();
        assert_eq!((read.first_day, read.returns.len()), (19_000, 3));
        assert!(
            read.returns.iter().zip(&trial.returns).all(|(a, b)| (a - b).abs() <= 1e-7 * b.abs()),
            "{read:?}"
        );
        let long = Trial { first_day: 10, returns: vec![0.0; MOST_DAYS + 5] };
        let read = Trial::parse(&long.to_text()).unwrap_or_default();
        assert_eq!((read.first_day, read.returns.len()), (15, MOST_DAYS));
        let days = |since: i64| {
            let cut = read.clone().since(since);
            (cut.first_day, cut.returns.len())
        };
        assert_eq!(days(3), (15, MOST_DAYS), "begins later");
        assert_eq!(days(20), (20, MOST_DAYS - 5));
        assert_eq!(days(90_000), (90_000, 0), "ended before");
        assert_eq!(Trial::parse("2 later"), None);
        assert_eq!(Trial::parse("1 x\n"), None);
        assert_eq!(Trial::parse(&Trial::default().to_text()), Some(Trial::default()));
    }
}

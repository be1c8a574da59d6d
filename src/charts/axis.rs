//! Where axes have their ticks, and how those are called.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// 1970 began on a Thursday; weeks begin on Mondays.
const MONDAY: i64 = 4 * DAY;

/// Ticks of an axis of time, in seconds since 1970, and the form of their labels.
pub(super) struct Ticks {
    pub(super) at: Vec<i64>,
    form: &'static str,
}

impl Ticks {
    /// At most `most` ticks from `first` to `last` on round times: hours, days, Mondays, months or years.
    pub(super) fn new(first: i64, last: i64, most: usize) -> Self {
        let none = Self { at: Vec::new(), form: "" };
        let Some((from, to)) = date(first).zip(date(last)) else { return none };
        let enough = |at: &Vec<i64>| at.len() <= most;
        for (step, form) in [
            (HOUR, "%m-%d %H:%M"),
            (3 * HOUR, "%m-%d %H:%M"),
            (6 * HOUR, "%m-%d %H:%M"),
            (12 * HOUR, "%m-%d %H:%M"),
            (DAY, "%Y-%m-%d"),
            (2 * DAY, "%Y-%m-%d"),
            (7 * DAY, "%Y-%m-%d"),
            (14 * DAY, "%Y-%m-%d"),
        ] {
            // Not to make what is too much anyway.
            if usize::try_from((last - first) / step).is_ok_and(|ticks| ticks <= most) {
                let offset = if step >= 7 * DAY { MONDAY } else { 0 };
                let begin = (first - offset).div_euclid(step) * step + offset;
                let at: Vec<_> = (0..)
                    .map(|number| begin + number * step)
                    .skip_while(|at| *at < first)
                    .take_while(|at| *at <= last)
                    .collect();
                if enough(&at) {
                    return Self { at, form };
                }
            }
        }
        let month = |date: Date| i32::from(date.year()) * 12 + i32::from(date.month()) - 1;
        for months in [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000, 12_000] {
            let begin = month(from).div_euclid(months);
            let ticks = (begin..=month(to).div_euclid(months)).filter_map(|number| at_month(number * months));
            let at: Vec<_> = ticks.filter(|at| (first..=last).contains(at)).collect();
            if enough(&at) {
                return Self { at, form: if months < 12 { "%Y-%m" } else { "%Y" } };
            }
        }
        none
    }

    /// How a time is called on this axis.
    pub(super) fn label(&self, at: i64) -> String {
        Timestamp::from_second(at).map_or_else(|_| String::new(), |time| time.strftime(self.form).to_string())
    }
}

/// The day (UTC) of a time, if it is one.
fn date(at: i64) -> Option<Date> {
    Timestamp::from_second(at).ok().map(|time| TimeZone::UTC.to_datetime(time).date())
}

/// The day (UTC) of a time, as text.
pub(super) fn day(at: i64) -> String {
    date(at).map_or_else(String::new, |date| date.to_string())
}

/// When a month begins, counted from January of the year 0.
fn at_month(number: i32) -> Option<i64> {
    let year = i16::try_from(number.div_euclid(12)).ok()?;
    let month = i8::try_from(number.rem_euclid(12) + 1).ok()?;
    let first = Date::new(year, month, 1).ok()?;
    TimeZone::UTC.to_timestamp(first.into()).ok().map(Timestamp::as_second)
}

/// Round values from `low` to `high`: 1, 2, 2.5 or 5 times a power of ten apart, about `wanted` of them.
pub(super) fn values(low: f64, high: f64, wanted: f64) -> Vec<f64> {
    let rough = (high - low) / wanted;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let mut ticks = Vec::new();
    let mut number = (low / step).ceil();
    // Steps that are too small for the values to tell apart would never get to the end.
    while number * step <= high && ticks.len() < 20 {
        ticks.push(if number == 0.0 { 0.0 } else { number * step });
        number += 1.0;
    }
    ticks
}

/// The decimals that ticks are written with in full.
pub(super) fn decimals(ticks: &[f64]) -> usize {
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let full = |decimals: &usize| {
        let scaled = i32::try_from(*decimals).map_or(step, |decimals| step * 10_f64.powi(decimals));
        scaled >= 0.999 && (scaled - scaled.round()).abs() < 1e-3 * scaled
    };
    (0..8).find(full).unwrap_or(8)
}

/// A number with so many decimals and a comma before every three digits; of very large ones the power of ten.
pub(super) fn number(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e12 {
        return format!("{value:.2e}");
    }
    let digits = format!("{:.decimals$}", value.abs());
    let (whole, part) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = String::new();
    // A value that is rounded to nothing has no sign.
    if value < 0.0 && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        text.push('\u{2212}');
    }
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + part
}

/// A number with its sign, also where that is plus.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    if value > 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        format!("+{text}")
    } else {
        text
    }
}

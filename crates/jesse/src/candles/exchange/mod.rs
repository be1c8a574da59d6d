//! Candles from an exchange, through the driver that Jesse has for it, in a Python process of its own and without Jesse's
//! database.
//!
//! What is stored is not asked for again: only what is before the first stored candle and after the last. The months before
//! come in from the newest to the oldest and those after from the oldest to the newest, each stored whole, so that an import
//! that was stopped leaves no hole and goes on where it was. One process at a time does that for a series: whose turn it is holds its lock.
//!
//! # What is not guaranteed
//! * A candle that the exchange corrects later, or a gap that it fills, is seen when [`Wanted::everything`] is asked for only.
//! * The last minute or two are left for the next time: a candle that is not complete must not be stored, and the clocks of
//!   the exchange and of this machine may differ a little.

mod child;
mod error;
pub mod job;

use std::{ops::Range, path::PathBuf, time::Instant};

use jiff::Timestamp;
use jobs::{Lock, Progress};

pub use error::ExchangeError;

use self::child::{Asking, Said};
use super::{
    Candle, MINUTE_MS, Manifest, Month, Series, Source,
    chunk::Gap,
    import::Checker,
    store::{CandleStore, Imported},
};

/// How the exchange is asked.
#[derive(Debug, Clone)]
pub struct ExchangeSettings {
    /// The Python interpreter that has Jesse.
    pub python: PathBuf,
    /// The folder that holds the Python package `runner`.
    pub package: PathBuf,
    /// Scheme and host (and the first part of the path) to be used in place of the exchange's, as of a relay.
    pub url: Option<String>,
    /// How often a request is tried that the exchange refuses for its rate, or that it cannot answer.
    pub attempts: u32,
}

/// What is wanted of a series.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// From this minute (milliseconds since 1970).
    pub from_ms: i64,
    /// Until this one, exclusive, and never beyond the last that is complete; all there is, if left out.
    pub to_ms: Option<i64>,
    /// Whether what is stored is asked for again.
    pub everything: bool,
}

/// What became of a series.
#[derive(Debug)]
pub struct Followed {
    /// The series as it is now.
    pub manifest: Manifest,
    /// The hash of that.
    pub version: String,
    /// How many candles came.
    pub rows: usize,
    /// How many months were written, because they changed.
    pub months_written: usize,
    /// What is not there of the range that was wanted, ends included, oldest first.
    pub missing: Vec<Gap>,
}

/// Brings a series up to what the exchange has, and tells how far it is.
///
/// # Errors
/// When the exchange, its driver or the store fails, or when `lock`, which is the series' ([`CandleStore::lock`]), is lost.
pub async fn follow(
    lock: &Lock,
    settings: &ExchangeSettings,
    series: &Series,
    wanted: Wanted,
    store: &CandleStore,
    told: impl FnMut(Progress),
) -> Result<Followed, ExchangeError> {
    tokio::select! {
        followed = bring(settings, series, wanted, store, told) => followed,
        () = lock.keep() => Err(ExchangeError::LockLost(series.clone())),
    }
}

fn progress(fraction: f64, message: String, eta_s: Option<f64>) -> Progress {
    Progress { fraction, message, eta_s }
}

/// How far an import is, by the minutes of its range.
struct Course<Told> {
    told: Told,
    started: Instant,
    /// Minutes of all months, and of those that are done.
    total: i64,
    done: i64,
}

impl<Told: FnMut(Progress)> Course<Told> {
    fn new(told: Told, months: &[(Month, Range<i64>)]) -> Self {
        let total = months.iter().map(|(_, part)| part.end - part.start).sum::<i64>() / MINUTE_MS;
        Self { told, started: Instant::now(), total, done: 0 }
    }

    /// So many minutes of this month have come, after those that are done.
    fn at(&mut self, month: Month, minutes: i64) {
        #[expect(clippy::cast_precision_loss, reason = "minutes of some years")]
        let fraction = ((self.done + minutes) as f64 / self.total.max(1) as f64).clamp(0.0, 1.0);
        let eta = (fraction > 0.0).then(|| self.started.elapsed().as_secs_f64() * (1.0 / fraction - 1.0));
        (self.told)(progress(fraction, format!("candles of {month}"), eta));
    }
}

async fn bring(
    settings: &ExchangeSettings,
    series: &Series,
    wanted: Wanted,
    store: &CandleStore,
    told: impl FnMut(Progress),
) -> Result<Followed, ExchangeError> {
    let complete_ms = (Timestamp::now().as_millisecond() / MINUTE_MS - 1) * MINUTE_MS;
    let range = wanted.from_ms..wanted.to_ms.map_or(complete_ms, |to_ms| to_ms.min(complete_ms));
    if range.is_empty() {
        return Err(ExchangeError::Empty { from_ms: range.start, to_ms: range.end });
    }
    let stored = store.manifest_for(series, Source::Imported).await?;
    let known = stored.as_ref().map(|stored| stored.first_ms()..stored.end_ms());
    let months = wanted_months(&range, known, wanted.everything)?;
    let (mut rows, mut months_written) = (0, 0);
    if !months.is_empty() {
        let ranges: Vec<_> = months.iter().map(|(_, part)| (part.start, part.end)).collect();
        let mut asking = Asking::start(settings, series, &ranges).await?;
        let mut course = Course::new(told, &months);
        for (index, (month, part)) in months.iter().enumerate() {
            let candles = month_of(&mut asking, series, (*month, part), index, &mut course).await?;
            course.done += (part.end - part.start) / MINUTE_MS;
            course.at(*month, 0);
            if candles.is_empty() {
                continue;
            }
            rows += candles.len();
            let Imported { months_written: written, .. } =
                store.import(series, Source::Imported, &candles).await?;
            months_written += written;
            tracing::info!(candles = candles.len(), "{month} of {series} is stored");
        }
        match asking.next().await? {
            Said::End { end: true } => {}
            other => return Err(ExchangeError::Protocol(format!("{other:?} in place of the end"))),
        }
    }
    let nothing =
        || ExchangeError::Nothing { series: series.clone(), from_ms: range.start, to_ms: range.end };
    let stored = store.versioned(series).await?.ok_or_else(nothing)?;
    let missing = missing(&stored.value, &range);
    Ok(Followed {
        manifest: stored.value.clone(),
        version: stored.hash.clone(),
        rows,
        months_written,
        missing,
    })
}

/// The months, or parts of them, to be asked for. What is stored must stay in one piece, whenever this is stopped; that is
/// why those before it come newest first, and why what lies between it and the range is asked for too.
fn wanted_months(
    range: &Range<i64>,
    stored: Option<Range<i64>>,
    everything: bool,
) -> Result<Vec<(Month, Range<i64>)>, ExchangeError> {
    let Some(stored) = stored else { return by_month(range.clone()) };
    let mut months = by_month(range.start..stored.start)?;
    months.reverse();
    let next = if everything { range.start.clamp(stored.start, stored.end) } else { stored.end };
    months.extend(by_month(next..range.end)?);
    Ok(months)
}

fn by_month(range: Range<i64>) -> Result<Vec<(Month, Range<i64>)>, ExchangeError> {
    Month::parts_of(&range).map_err(ExchangeError::Time)
}

/// All candles of the range with this index, checked as those of a file are.
async fn month_of(
    asking: &mut Asking,
    series: &Series,
    (month, part): (Month, &Range<i64>),
    index: usize,
    course: &mut Course<impl FnMut(Progress)>,
) -> Result<Vec<Candle>, ExchangeError> {
    let mut checker = Checker::default();
    let mut came = part.start;
    let refused =
        |why| ExchangeError::Row { exchange: series.exchange().to_owned(), month, why: Box::new(why) };
    loop {
        match asking.next().await? {
            Said::Page { range, candles } if range == index => {
                for (at_ms, open, close, high, low, volume) in candles {
                    let at = Timestamp::from_millisecond(at_ms).map_err(|_| ExchangeError::Time(at_ms))?;
                    if Month::containing(at_ms) != Some(month) {
                        return Err(ExchangeError::Protocol(format!("{at} among the candles of {month}")));
                    }
                    checker.push(at, [open, close, high, low, volume]).map_err(refused)?;
                    came = at_ms;
                }
                course.at(month, (came - part.start) / MINUTE_MS);
            }
            Said::Done { range, done: true } if range == index => return Ok(checker.into_candles()),
            other => return Err(ExchangeError::Protocol(format!("{other:?} among the candles of {month}"))),
        }
    }
}

/// What a manifest does not have of a range.
fn missing(manifest: &Manifest, range: &Range<i64>) -> Vec<Gap> {
    let before = Gap { from_ms: i64::MIN, to_ms: manifest.first_ms() };
    let after = Gap { from_ms: manifest.end_ms(), to_ms: i64::MAX };
    std::iter::once(before)
        .chain(manifest.gaps())
        .chain([after])
        .map(|gap| Gap { from_ms: gap.from_ms.max(range.start), to_ms: gap.to_ms.min(range.end) })
        .filter(|gap| gap.from_ms < gap.to_ms)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const DAY_MS: i64 = 1440 * MINUTE_MS;
    /// Midnight of 2023-01-01.
    const JANUARY: i64 = crate::candles::testing::JANUARY_2023;

    fn asked(range: Range<i64>, stored: Option<Range<i64>>, everything: bool) -> Vec<(String, i64, i64)> {
        let months = wanted_months(&range, stored, everything).unwrap();
        let days = |ms: i64| (ms - JANUARY) / DAY_MS;
        months.iter().map(|(month, part)| (month.to_string(), days(part.start), days(part.end))).collect()
    }

    #[test]
    fn what_is_stored_stays_in_one_piece_whenever_an_import_is_stopped() {
        let day = |day: i64| JANUARY + day * DAY_MS;
        let month = |name: &str, from, to| (name.to_owned(), from, to);
        // A new series: oldest first.
        assert_eq!(
            asked(day(10)..day(40), None, false),
            [month("2023-01", 10, 31), month("2023-02", 31, 40)]
        );
        // Before: newest first; after: oldest first; nothing of what is there.
        assert_eq!(
            asked(day(10)..day(100), Some(day(60)..day(70)), false),
            [
                month("2023-03", 59, 60),
                month("2023-02", 31, 59),
                month("2023-01", 10, 31),
                month("2023-03", 70, 90),
                month("2023-04", 90, 100)
            ]
        );
        assert_eq!(asked(day(61)..day(65), Some(day(60)..day(70)), false), []);
        // A range apart from what is there brings along what is between them.
        assert_eq!(asked(day(80)..day(85), Some(day(60)..day(70)), false), [month("2023-03", 70, 85)]);
        // All again: the same, and what is there.
        assert_eq!(
            asked(day(58)..day(85), Some(day(60)..day(70)), true),
            [month("2023-03", 59, 60), month("2023-02", 58, 59), month("2023-03", 60, 85)]
        );
        assert_eq!(asked(day(58)..day(59), Some(day(60)..day(70)), true).len(), 2);
        assert_eq!(asked(day(80)..day(85), Some(day(60)..day(70)), true), [month("2023-03", 70, 85)]);
        assert!(wanted_months(&(i64::MIN..0), None, false).is_err());
    }
}

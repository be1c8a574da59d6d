//! Adding candles to a series that exists: which months change, and what they hold afterwards.
//!
//! The way of an import is [`plan_import`], then for each month of the plan [`merge_month`] of the stored candles (if the plan
//! names a stored chunk) and the new ones, [`Chunk::new`] of the outcome, and at last [`Manifest::new`] or
//! [`Manifest::replacing`]. Months that are not in the plan are neither read nor written and keep their hash; an import that
//! brings nothing new changes no hash at all.

use std::cmp::Ordering;

use super::Candle;
use super::chunk::{Chunk, ChunkError, split};
use super::manifest::{Manifest, ManifestError, Source};
use super::time::{Month, open_ms};

/// What an import does to one month.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonthImport<'a> {
    /// The month.
    pub month: Month,
    /// The new candles in it.
    pub new: &'a [Candle],
    /// The chunk to merge them into, if the month has one already.
    pub stored: Option<&'a Chunk>,
}

/// Why an import is refused before anything is written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The series holds candles of another source.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The new candles are not sound.
    #[error(transparent)]
    Candles(#[from] ChunkError),
}

/// The months that new candles touch, oldest first; without a manifest the series is new.
///
/// Candles of another source than the stored ones are refused: real and synthetic prices in one series, or two synthetic walks
/// with different seeds, would look like one market.
pub fn plan_import<'a>(
    manifest: Option<&'a Manifest>,
    source: Source,
    new: &'a [Candle],
) -> Result<Vec<MonthImport<'a>>, PlanError> {
    if let Some(manifest) = manifest {
        manifest.accept(source)?;
    }
    let months = split(new)?;
    if months.is_empty() {
        return Err(ChunkError::Empty.into());
    }
    let stored = |month| manifest.and_then(|manifest| manifest.chunk(month));
    Ok(months.into_iter().map(|(month, new)| MonthImport { month, new, stored: stored(month) }).collect())
}

/// Both series in one, ascending; at a time that both have, the new candle counts. Each must be ascending by itself.
pub fn merge_month(old: &[Candle], new: &[Candle]) -> Vec<Candle> {
    let mut merged = Vec::with_capacity(old.len().max(new.len()));
    let (mut old, mut new) = (old, new);
    while let (Some((old_first, old_rest)), Some((new_first, new_rest))) =
        (old.split_first(), new.split_first())
    {
        let order = open_ms(old_first).cmp(&open_ms(new_first));
        merged.push(if order == Ordering::Less { *old_first } else { *new_first });
        if order != Ordering::Greater {
            old = old_rest;
        }
        if order != Ordering::Less {
            new = new_rest;
        }
    }
    // One of the two is used up; the other goes on alone.
    merged.extend_from_slice(old);
    merged.extend_from_slice(new);
    merged
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::candles::testing::{JANUARY_2023, candle, candles_at, minutes};
    use crate::candles::{MINUTE_MS, Series, WalkSettings, generate};

    const DAY_MS: i64 = 1440 * MINUTE_MS;
    const SYNTHETIC: Source = Source::Synthetic { seed: 7 };

    /// A store in memory, written the way a real one is meant to use the plan.
    #[derive(Default)]
    struct Store {
        blobs: HashMap<String, Vec<u8>>,
        manifest: Option<Manifest>,
        reads: usize,
    }

    impl Store {
        fn import(&mut self, source: Source, new: &[Candle]) -> Result<(), PlanError> {
            let mut written = Vec::new();
            for month in plan_import(self.manifest.as_ref(), source, new)? {
                let old = match month.stored {
                    Some(chunk) => chunk.read(&self.blobs[&chunk.hash])?,
                    None => Vec::new(),
                };
                self.reads += usize::from(month.stored.is_some());
                let (chunk, bytes) = Chunk::new(&merge_month(&old, month.new))?;
                self.blobs.insert(chunk.hash.clone(), bytes);
                written.push(chunk);
            }
            self.manifest = Some(match &self.manifest {
                Some(manifest) => manifest.replacing(written)?,
                None => Manifest::new(Series::new("Binance", "BTC-USDT").unwrap(), source, written)?,
            });
            Ok(())
        }

        fn manifest(&self) -> &Manifest {
            self.manifest.as_ref().unwrap()
        }

        fn candles(&self) -> Vec<Candle> {
            self.manifest()
                .chunks()
                .iter()
                .flat_map(|chunk| chunk.read(&self.blobs[&chunk.hash]).unwrap())
                .collect()
        }
    }

    #[test]
    fn appending_a_day_changes_one_chunk() {
        let mut store = Store::default();
        let candles = minutes(JANUARY_2023, 41 * 1440);
        store.import(Source::Imported, &candles[..40 * 1440]).unwrap();
        let before = store.manifest().clone();
        store.import(Source::Imported, &candles[40 * 1440..]).unwrap();
        let after = store.manifest();
        assert_eq!(after.chunks()[0], before.chunks()[0]);
        assert_ne!(after.chunks()[1].hash, before.chunks()[1].hash);
        assert_ne!(after, &before);
        assert_eq!((store.reads, after.end_ms()), (1, JANUARY_2023 + 41 * DAY_MS));
        assert_eq!(store.candles(), candles);
    }

    #[test]
    fn importing_the_same_again_changes_no_hash() {
        let mut store = Store::default();
        let candles = minutes(JANUARY_2023, 40 * 1440);
        store.import(Source::Imported, &candles).unwrap();
        let before = store.manifest().clone();
        store.import(Source::Imported, &candles[1440..2880]).unwrap();
        assert_eq!(store.manifest(), &before);
    }

    #[test]
    fn filling_a_gap_removes_it() {
        let mut store = Store::default();
        store.import(Source::Imported, &candles_at(JANUARY_2023, &[0, 1, 4, 5])).unwrap();
        assert_eq!(store.manifest().gaps().count(), 1);
        store.import(Source::Imported, &candles_at(JANUARY_2023, &[2, 3])).unwrap();
        assert_eq!(store.manifest().gaps().count(), 0);
        assert_eq!(store.candles(), minutes(JANUARY_2023, 6));
    }

    #[test]
    fn other_sources_are_refused() {
        let candles = minutes(JANUARY_2023, 10);
        for (stored, offered) in [
            (Source::Imported, SYNTHETIC),
            (SYNTHETIC, Source::Imported),
            (SYNTHETIC, Source::Synthetic { seed: 8 }),
        ] {
            let mut store = Store::default();
            store.import(stored, &candles).unwrap();
            let error = store.import(offered, &candles).unwrap_err();
            assert!(matches!(error, PlanError::Manifest(ManifestError::SourceDiffers { .. })));
            let expected = format!("Binance BTC-USDT holds {stored} and cannot take {offered} as well");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn nothing_is_no_import() {
        let error = plan_import(None, Source::Imported, &[]).unwrap_err();
        assert_eq!(error.to_string(), "there are no candles");
    }

    #[test]
    fn new_rows_win_and_order_is_kept() {
        let at = |minute: i64, price| candle(JANUARY_2023 + minute * MINUTE_MS, price);
        let old = [at(0, 10.0), at(1, 10.0), at(5, 10.0)];
        let new = [at(1, 20.0), at(3, 20.0)];
        assert_eq!(merge_month(&old, &new), [at(0, 10.0), at(1, 20.0), at(3, 20.0), at(5, 10.0)]);
        assert_eq!(merge_month(&old, &[]), old);
        assert_eq!(merge_month(&[], &new), new);
    }

    #[test]
    fn any_order_of_imports_gives_what_a_map_gives() {
        let settings =
            WalkSettings { seed: 1, first_ms: JANUARY_2023, minutes: 50 * 1440, ..WalkSettings::default() };
        let candles: Vec<_> = generate(settings).unwrap().collect();
        let mut store = Store::default();
        let mut map = BTreeMap::new();
        // Overlapping windows in a fixed scattered order; each import scales the prices, so that a stale row would show.
        for round in 0_u32..25 {
            let start = (round as usize * 31_337) % (48 * 1440);
            let factor = f64::from(round + 1);
            let part: Vec<Candle> = candles[start..start + 1500]
                .iter()
                .map(|row| {
                    [row[0], row[1] * factor, row[2] * factor, row[3] * factor, row[4] * factor, row[5]]
                })
                .collect();
            store.import(Source::Imported, &part).unwrap();
            map.extend(part.into_iter().map(|row| (open_ms(&row), row)));
        }
        assert_eq!(store.candles(), map.into_values().collect::<Vec<_>>());
        let missing: i64 = store.manifest().gaps().map(super::super::Gap::minutes).sum();
        let span = (store.manifest().end_ms() - store.manifest().first_ms()) / MINUTE_MS;
        assert_eq!(u64::try_from(span - missing).unwrap(), store.manifest().rows());
    }
}

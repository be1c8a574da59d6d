//! Closing prices of bars, for what is computed from candles alone.
//!
//! A month of minutes is 2 MB, its hourly closes are 12 KB. So a worker keeps the closes of each chunk that it has read once, under the
//! chunk's hash and the length of the bars, beside the chunks themselves: a hundred symbols over a year are read in
//! milliseconds from then on, and new candles are other chunks.

use std::sync::Arc;

use jobs::blobs::{BlobId, BlobStore};

use super::{Candle, MINUTE_MS, npy, open_ms, store::StoreError};
use crate::disk_cache::DiskCache;

/// The folder of closes in a worker's cache.
pub const FOLDER: &str = "closes";

/// One bar that has a candle: the time of its open in milliseconds, and its last close.
pub type Close = (i64, f64);

/// The closes of all bars of so many minutes that have a candle. Bars begin at multiples of their length since 1970.
pub fn closes(candles: &[Candle], minutes: i64) -> Vec<Close> {
    let length = minutes * MINUTE_MS;
    let mut bars: Vec<Close> = Vec::new();
    for candle in candles {
        let open = open_ms(candle).div_euclid(length) * length;
        match bars.last_mut() {
            Some(last) if last.0 == open => last.1 = candle[2],
            _ => bars.push((open, candle[2])),
        }
    }
    bars
}

/// The closes that a worker has read.
#[derive(Debug, Clone)]
pub struct CloseFiles {
    cache: Arc<DiskCache>,
    blobs: BlobStore,
}

impl CloseFiles {
    /// Closes in this cache, made of chunks in this blob store.
    pub fn new(cache: Arc<DiskCache>, blobs: BlobStore) -> Self {
        Self { cache, blobs }
    }

    /// The closes of one chunk. `minutes` divides a day, so that no bar lies in two chunks.
    pub async fn get(&self, chunk: &BlobId, minutes: i64) -> Result<Vec<Close>, StoreError> {
        let name = format!("{chunk}-{minutes}");
        if let Some(known) = self.known(name.clone()).await? {
            return Ok(known);
        }
        let bytes = self.blobs.get(chunk).await?.ok_or_else(|| StoreError::ChunkLost(chunk.clone()))?;
        let cache = self.cache.clone();
        let made = tokio::task::spawn_blocking(move || {
            let candles = npy::decode(&bytes).map_err(super::ChunkError::from)?;
            let closes = closes(&candles, minutes);
            let packed = pack(&closes);
            let io = |error| StoreError::Io(name.clone().into(), error);
            cache.add(FOLDER, &name, |path| std::fs::write(path, &packed)).map_err(io)?;
            Ok::<_, StoreError>(closes)
        });
        made.await.map_err(jobs::blobs::BlobError::from)?
    }

    async fn known(&self, name: String) -> Result<Option<Vec<Close>>, StoreError> {
        let cache = self.cache.clone();
        let read = tokio::task::spawn_blocking(move || {
            let found = cache.find(FOLDER, &name)?;
            found.map(|file| std::fs::read(file.path()).map(|bytes| unpack(&bytes))).transpose()
        });
        let io = |error| StoreError::Io(FOLDER.into(), error);
        read.await.map_err(jobs::blobs::BlobError::from)?.map_err(io)
    }
}

fn pack(closes: &[Close]) -> Vec<u8> {
    closes.iter().flat_map(|(time, close)| [time.to_le_bytes(), close.to_le_bytes()]).flatten().collect()
}

fn unpack(bytes: &[u8]) -> Vec<Close> {
    let (pairs, _) = bytes.as_chunks::<16>();
    let close = |pair: &[u8; 16]| {
        let (mut time, mut close) = ([0; 8], [0; 8]);
        time.copy_from_slice(&pair[..8]);
        close.copy_from_slice(&pair[8..]);
        (i64::from_le_bytes(time), f64::from_le_bytes(close))
    };
    pairs.iter().map(close).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_closes_with_its_last_candle_and_survives_the_disk() {
        let minute = |at: i32, close: f64| {
            let time = f64::from(at) * 60_000.0;
            [time, 1.0, close, 9.0, 0.5, 1.0]
        };
        let candles = [minute(58, 1.0), minute(59, 2.0), minute(60, 3.0), minute(185, 4.0)];
        let bars = closes(&candles, 60);
        assert_eq!(bars, [(0, 2.0), (3_600_000, 3.0), (3 * 3_600_000, 4.0)]);
        assert_eq!(unpack(&pack(&bars)), bars);
        assert!(closes(&[], 60).is_empty());
    }
}

//! Candles to files that the importer reads back to the last bit: CSV and parquet, month by month.

use std::{io::Write, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{DoubleType, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use super::{Candle, open_ms};

/// Required, so that there is no way to write a missing value.
const SCHEMA: &str = "message candles {
  required int64 timestamp (TIMESTAMP(MILLIS, true));
  required double open; required double close; required double high; required double low; required double volume;
}";
const HEADER: [&str; 6] = ["timestamp", "open", "close", "high", "low", "volume"];

/// The forms of a file of candles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Text with a header; numbers with as many digits as they need to be the same when read.
    Csv,
    /// 64-bit floats, compressed with zstd; one row group a month.
    Parquet,
}

/// Why candles cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// As text.
    #[error("the candles cannot be written")]
    Csv(#[from] csv::Error),
    /// As parquet.
    #[error("the candles cannot be written")]
    Parquet(#[from] ParquetError),
    /// What was kept back to be written at the end.
    #[error("the candles cannot be written")]
    Io(#[from] std::io::Error),
}

impl ExportError {
    /// Whether whoever was to read the candles is gone.
    pub fn is_broken_pipe(&self) -> bool {
        let is = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        match self {
            Self::Csv(error) => matches!(error.kind(), csv::ErrorKind::Io(error) if is(error)),
            Self::Io(error) => is(error),
            Self::Parquet(_) => false,
        }
    }
}

/// Writes candles in the order in which they come. Nothing is whole before [`CandleWriter::finish`].
pub struct CandleWriter<W: Write + Send>(Form<W>);

enum Form<W: Write + Send> {
    Csv(csv::Writer<W>),
    Parquet(SerializedFileWriter<W>),
}

impl<W: Write + Send> CandleWriter<W> {
    /// Begins a file.
    pub fn new(format: ExportFormat, target: W) -> Result<Self, ExportError> {
        Ok(Self(match format {
            ExportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(target);
                writer.write_record(HEADER)?;
                Form::Csv(writer)
            }
            ExportFormat::Parquet => {
                let schema = Arc::new(parse_message_type(SCHEMA)?);
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                Form::Parquet(SerializedFileWriter::new(target, schema, Arc::new(properties))?)
            }
        }))
    }

    /// Writes some candles, such as those of a month.
    pub fn write(&mut self, candles: &[Candle]) -> Result<(), ExportError> {
        match &mut self.0 {
            Form::Csv(writer) => write_text(writer, candles),
            Form::Parquet(writer) => write_group(writer, candles),
        }
    }

    /// Ends the file and hands the target back.
    pub fn finish(self) -> Result<W, ExportError> {
        match self.0 {
            Form::Csv(writer) => writer.into_inner().map_err(|error| error.into_error().into()),
            Form::Parquet(writer) => Ok(writer.into_inner()?),
        }
    }
}

fn write_text<W: Write>(writer: &mut csv::Writer<W>, candles: &[Candle]) -> Result<(), ExportError> {
    for candle in candles {
        writer.write_field(open_ms(candle).to_string())?;
        for value in &candle[1..] {
            writer.write_field(value.to_string())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    candles: &[Candle],
) -> Result<(), ExportError> {
    let mut group = writer.next_row_group()?;
    let mut index = 0;
    while let Some(mut column) = group.next_column()? {
        if index == 0 {
            let times: Vec<_> = candles.iter().map(open_ms).collect();
            column.typed::<Int64Type>().write_batch(&times, None, None)?;
        } else {
            let values: Vec<_> = candles.iter().map(|candle| candle[index]).collect();
            column.typed::<DoubleType>().write_batch(&values, None, None)?;
        }
        column.close()?;
        index += 1;
    }
    group.close()?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::{WalkSettings, generate, read_csv, read_parquet, split};

    /// Forty days of a walk, and values that few digits do not hold.
    fn candles() -> Vec<Candle> {
        let settings = WalkSettings { seed: 3, minutes: 40 * 1440, ..WalkSettings::default() };
        let mut candles: Vec<_> = generate(settings).unwrap().collect();
        for (candle, price) in candles.iter_mut().zip([1e-9, 0.1 + 0.2, 1e21 / 3.0, f64::MIN_POSITIVE, 1e300])
        {
            candle[1..5].fill(price);
            candle[5] = price / 7.0;
        }
        candles
    }

    fn written(format: ExportFormat, candles: &[Candle]) -> Vec<u8> {
        let mut writer = CandleWriter::new(format, Vec::new()).unwrap();
        for (_, month) in split(candles).unwrap() {
            writer.write(month).unwrap();
        }
        writer.finish().unwrap()
    }

    fn bits(candles: &[Candle]) -> Vec<[u64; 6]> {
        candles.iter().map(|candle| candle.map(f64::to_bits)).collect()
    }

    #[test]
    fn what_is_exported_is_imported_to_the_last_bit() {
        let candles = candles();
        let text = written(ExportFormat::Csv, &candles);
        assert_eq!(bits(&read_csv(text.as_slice()).unwrap()), bits(&candles));
        let file = written(ExportFormat::Parquet, &candles);
        assert_eq!(bits(&read_parquet(file.into()).unwrap()), bits(&candles));
    }

    #[test]
    fn a_target_that_is_full_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for format in [ExportFormat::Csv, ExportFormat::Parquet] {
            let outcome = CandleWriter::new(format, Full).and_then(|mut writer| {
                writer.write(&candles())?;
                writer.finish().map(|_| ())
            });
            let error = outcome.unwrap_err();
            assert_eq!(error.to_string(), "the candles cannot be written");
        }
    }
}

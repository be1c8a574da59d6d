//! Candles from parquet, one batch of rows at a time.

use std::fs::File;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::Path;

use ::parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
use bytes::Bytes;
use jiff::Timestamp;

use super::check::Checker;
use super::columns::{self, Columns, NAMES};
use super::error::{ImportError, MAX_ROWS};
use super::timestamp::{Unit, from_float, from_integer};
use crate::candles::Candle;

const BATCH_ROWS: usize = 8192;

/// Reads 1-minute candles from the bytes of a parquet file, oldest first; columns may have any order, others are ignored.
pub fn read_parquet(bytes: Bytes) -> Result<Vec<Candle>, ImportError> {
    guarded(bytes)
}

/// Like [`read_parquet`], from a file that is not loaded as a whole.
pub fn read_parquet_file(path: &Path) -> Result<Vec<Candle>, ImportError> {
    guarded(File::open(path)?)
}

/// Reads in a way that no file can panic its caller: the parquet crate asserts some of what it finds in a file, such as that
/// offsets are not negative. Nothing outlives the panic but the error.
fn guarded(source: impl ChunkReader + UnwindSafe + 'static) -> Result<Vec<Candle>, ImportError> {
    catch_unwind(|| read(source)).unwrap_or(Err(ImportError::ParquetDamaged))
}

fn read(source: impl ChunkReader + 'static) -> Result<Vec<Candle>, ImportError> {
    let reader = SerializedFileReader::new(source)?;
    let metadata = reader.metadata().file_metadata();
    if usize::try_from(metadata.num_rows()).is_ok_and(|rows| rows > MAX_ROWS) {
        return Err(ImportError::TooManyRows);
    }
    let descriptions = metadata.schema_descr().columns();
    let names: Vec<_> = descriptions.iter().map(|column| column.path().string()).collect();
    let columns = columns::find(&names)?;
    let time = &descriptions[columns[0]];
    let unit = check_time_type(time)?;
    for index in &columns[1..] {
        check_number_type(&descriptions[*index])?;
    }
    let mut checker = Checker::default();
    for group in 0..reader.num_row_groups() {
        read_group(&reader, group, columns, unit, &mut checker)?;
    }
    checker.finish()
}

fn read_group(
    reader: &dyn FileReader,
    group: usize,
    columns: Columns,
    unit: Option<Unit>,
    checker: &mut Checker,
) -> Result<(), ImportError> {
    let group = reader.get_row_group(group)?;
    let mut readers =
        columns.iter().map(|index| group.get_column_reader(*index)).collect::<Result<Vec<_>, _>>()?;
    loop {
        let first_row = checker.next_row();
        let mut batches = Vec::with_capacity(NAMES.len());
        for (column, name) in readers.iter_mut().zip(NAMES) {
            batches.push(Batch::read(column, first_row, name)?);
        }
        let rows = batches[0].len();
        if batches.iter().any(|batch| batch.len() != rows) {
            return Err(ParquetError::General("columns of one row group differ in length".to_owned()).into());
        }
        if rows == 0 {
            return Ok(());
        }
        for index in 0..rows {
            let not_a_time =
                || ImportError::NotATime { row: checker.next_row(), found: batches[0].text(index) };
            let at = batches[0].time(index, unit).ok_or_else(not_a_time)?;
            checker.push(at, std::array::from_fn(|column| batches[column + 1].number(index)))?;
        }
    }
}

/// Some rows of one column.
enum Batch {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
}

impl Batch {
    fn read(column: &mut ColumnReader, first_row: usize, name: &'static str) -> Result<Self, ImportError> {
        match column {
            ColumnReader::Int32ColumnReader(reader) => Ok(Self::Int32(read_values(reader, first_row, name)?)),
            ColumnReader::Int64ColumnReader(reader) => Ok(Self::Int64(read_values(reader, first_row, name)?)),
            ColumnReader::FloatColumnReader(reader) => Ok(Self::Float(read_values(reader, first_row, name)?)),
            ColumnReader::DoubleColumnReader(reader) => {
                Ok(Self::Double(read_values(reader, first_row, name)?))
            }
            // The types were checked against the schema before; a row group that has another one contradicts it.
            _ => Err(ParquetError::General(format!("column {name} is not of the type that the schema says"))
                .into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a price or volume beyond 2^53 has no such digits that matter"
    )]
    fn number(&self, index: usize) -> f64 {
        match self {
            Self::Int32(values) => f64::from(values[index]),
            Self::Int64(values) => values[index] as f64,
            Self::Float(values) => f64::from(values[index]),
            Self::Double(values) => values[index],
        }
    }

    fn time(&self, index: usize, unit: Option<Unit>) -> Option<Timestamp> {
        match self {
            Self::Int32(values) => from_integer(values[index].into(), unit),
            Self::Int64(values) => from_integer(values[index], unit),
            Self::Float(values) => from_float(values[index].into()),
            Self::Double(values) => from_float(values[index]),
        }
    }

    fn text(&self, index: usize) -> String {
        match self {
            Self::Int32(values) => values[index].to_string(),
            Self::Int64(values) => values[index].to_string(),
            Self::Float(values) => values[index].to_string(),
            Self::Double(values) => values[index].to_string(),
        }
    }
}

fn read_values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    first_row: usize,
    column: &'static str,
) -> Result<Vec<T::T>, ImportError> {
    let (mut levels, mut values) = (Vec::new(), Vec::with_capacity(BATCH_ROWS));
    let (rows, present, _) = reader.read_records(BATCH_ROWS, Some(&mut levels), None, &mut values)?;
    if present < rows {
        // A definition level of 0 marks a null in a column that is not nested.
        let before = levels.iter().take_while(|level| **level > 0).count();
        return Err(ImportError::ValueMissing { row: first_row + before, column });
    }
    Ok(values)
}

/// The unit that the file declares for its time column, if it declares one.
fn check_time_type(column: &ColumnDescriptor) -> Result<Option<Unit>, ImportError> {
    let refusal = || type_error(column, "a timestamp, a signed whole number or a 64-bit float");
    if column.max_rep_level() > 0 {
        return Err(refusal());
    }
    if let Some(LogicalType::Timestamp(timestamp)) = column.logical_type_ref() {
        return Ok(Some(match timestamp.unit {
            TimeUnit::MILLIS => Unit::Milliseconds,
            TimeUnit::MICROS => Unit::Microseconds,
            TimeUnit::NANOS => Unit::Nanoseconds,
        }));
    }
    match (column.physical_type(), column.converted_type()) {
        (PhysicalType::INT64, ConvertedType::TIMESTAMP_MILLIS) => Ok(Some(Unit::Milliseconds)),
        (PhysicalType::INT64, ConvertedType::TIMESTAMP_MICROS) => Ok(Some(Unit::Microseconds)),
        // A 32-bit float is no choice: it knows today's time to two minutes at best.
        (PhysicalType::INT32 | PhysicalType::INT64 | PhysicalType::DOUBLE, _) if is_plain_number(column) => {
            Ok(None)
        }
        _ => Err(refusal()),
    }
}

fn check_number_type(column: &ColumnDescriptor) -> Result<(), ImportError> {
    let number = matches!(
        column.physical_type(),
        PhysicalType::INT32 | PhysicalType::INT64 | PhysicalType::FLOAT | PhysicalType::DOUBLE
    );
    if number && is_plain_number(column) && column.max_rep_level() == 0 {
        return Ok(());
    }
    Err(type_error(column, "a signed whole number or a float"))
}

/// Whether the stored numbers are the values themselves: a decimal or a date keeps something else in an integer.
fn is_plain_number(column: &ColumnDescriptor) -> bool {
    let signed = [ConvertedType::INT_8, ConvertedType::INT_16, ConvertedType::INT_32, ConvertedType::INT_64];
    match column.logical_type_ref() {
        Some(LogicalType::Integer(integer)) => integer.is_signed,
        Some(_) => false,
        None => column.converted_type() == ConvertedType::NONE || signed.contains(&column.converted_type()),
    }
}

fn type_error(column: &ColumnDescriptor, expected: &'static str) -> ImportError {
    let found = match (column.logical_type_ref(), column.converted_type()) {
        (Some(logical), _) => format!("{} as {logical:?}", column.physical_type()),
        (None, ConvertedType::NONE) => column.physical_type().to_string(),
        (None, converted) => format!("{} as {converted}", column.physical_type()),
    };
    ImportError::ColumnType { column: column.path().string(), found, expected }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use ::parquet::column::writer::ColumnWriter;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::candles::testing::minutes;
    use crate::candles::{WalkSettings, generate, open_ms};

    const PLAIN: &str = "required int64 timestamp_ms; required double open; required double close; required double high; \
                         required double low; required double volume;";

    /// The candles as a parquet file of this schema, whose first column is the time in units of `per_ms` to a millisecond and
    /// whose row at `null` lacks all optional values.
    fn file(schema: &str, candles: &[Candle], per_ms: f64, group_rows: usize, null: Option<usize>) -> Bytes {
        let schema = Arc::new(parse_message_type(&format!("message schema {{ {schema} }}")).unwrap());
        let fields = schema.get_fields().to_vec();
        let names: Vec<_> = fields.iter().map(|field| field.name().to_owned()).collect();
        let order = columns::find(&names).unwrap_or([0, 1, 2, 3, 4, 5]);
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::default())).unwrap();
        for (index, rows) in candles.chunks(group_rows).enumerate() {
            let mut group = writer.next_row_group().unwrap();
            let mut position = 0;
            while let Some(mut column) = group.next_column().unwrap() {
                let value = order.iter().position(|place| *place == position).unwrap();
                let scale = if value == 0 { per_ms } else { 1.0 };
                let is_null =
                    |row: usize| fields[position].is_optional() && null == Some(index * group_rows + row);
                let levels: Vec<_> = (0..rows.len()).map(|row| i16::from(!is_null(row))).collect();
                let values = rows.iter().zip(&levels).filter(|(_, level)| **level > 0);
                let values: Vec<_> = values.map(|(candle, _)| candle[value] * scale).collect();
                write(column.untyped(), &values, &levels);
                column.close().unwrap();
                position += 1;
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes.into()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the tests write small whole numbers into integer columns"
    )]
    fn write(column: &mut ColumnWriter<'_>, values: &[f64], levels: &[i16]) {
        let levels = Some(levels);
        match column {
            ColumnWriter::Int32ColumnWriter(writer) => writer
                .write_batch(&values.iter().map(|value| *value as i32).collect::<Vec<_>>(), levels, None)
                .unwrap(),
            ColumnWriter::Int64ColumnWriter(writer) => writer
                .write_batch(&values.iter().map(|value| *value as i64).collect::<Vec<_>>(), levels, None)
                .unwrap(),
            ColumnWriter::FloatColumnWriter(writer) => writer
                .write_batch(&values.iter().map(|value| *value as f32).collect::<Vec<_>>(), levels, None)
                .unwrap(),
            ColumnWriter::DoubleColumnWriter(writer) => writer.write_batch(values, levels, None).unwrap(),
            _ => unreachable!("no test writes such a column"),
        };
    }

    #[test]
    fn row_groups_and_batches_are_joined() {
        let settings = WalkSettings { minutes: 20_000, ..WalkSettings::default() };
        let candles: Vec<_> = generate(settings).unwrap().collect();
        assert_eq!(read_parquet(file(PLAIN, &candles, 1.0, 20_000, None)).unwrap(), candles);
        let bytes = file(PLAIN, &candles, 1.0, 9999, None);
        assert_eq!(read_parquet(bytes.clone()).unwrap(), candles);
        let on_disk = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(on_disk.path(), &bytes).unwrap();
        assert_eq!(read_parquet_file(on_disk.path()).unwrap(), candles);
        assert!(matches!(read_parquet_file(Path::new("/no/such/file")), Err(ImportError::Io(_))));
    }

    #[test]
    fn all_column_types_and_orders_are_read() {
        let candles = minutes(1_672_531_200_000, 100);
        for (time, per_ms) in [
            ("required int32 Time", 1e-3),
            ("required int64 time", 1e-3),
            ("required double date", 1.0),
            ("optional int64 open_time (TIMESTAMP(MILLIS,true))", 1.0),
            ("required int64 open_time (TIMESTAMP_MICROS)", 1e3),
            ("required int64 open_time (TIMESTAMP(NANOS,false))", 1e6),
        ] {
            let schema = format!(
                "required int32 volume; optional float low; {time}; required int64 high (INTEGER(64,true)); \
                 required double OPEN; required float Close;"
            );
            assert_eq!(read_parquet(file(&schema, &candles, per_ms, 30, None)).unwrap(), candles, "{time}");
        }
    }

    #[test]
    fn nulls_are_named_by_row() {
        let schema = PLAIN.replace("required double high", "optional double high");
        let bytes = file(&schema, &minutes(1_672_531_200_000, 100), 1.0, 40, Some(57));
        assert_eq!(read_parquet(bytes).unwrap_err().to_string(), "row 58 has no high");
    }

    #[test]
    fn unsuitable_types_are_refused() {
        for (from, to, message) in [
            (
                "int64 timestamp_ms",
                "float timestamp_ms",
                "column timestamp_ms has the type FLOAT; a timestamp, a signed",
            ),
            ("int64 timestamp_ms", "int32 timestamp_ms (DATE)", "has the type INT32 as Date; a timestamp"),
            ("double open", "int64 open (DECIMAL(18,2))", "column open has the type INT64 as Decimal"),
            ("double low", "int64 low (INTEGER(64,false))", "column low has the type INT64 as Integer"),
            ("double low", "int64 lowest", "the file has no column low (accepted names: low)"),
        ] {
            let error =
                read_parquet(file(&PLAIN.replace(from, to), &minutes(0, 1), 1.0, 1, None)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        let error = read_parquet(file(PLAIN, &minutes(0, 1), 1.0, 1, None)).unwrap_err();
        assert!(error.to_string().starts_with("row 1 has \"0\" as timestamp; needed are"), "{error}");
    }

    #[test]
    fn damaged_files_are_errors() {
        let bytes = file(PLAIN, &minutes(1_672_531_200_000, 100), 1.0, 40, None);
        assert!(matches!(read_parquet(Bytes::new()), Err(ImportError::Parquet(_))));
        assert!(matches!(
            read_parquet(Bytes::from_static(b"timestamp,open\n1,2\n")),
            Err(ImportError::Parquet(_))
        ));
        for end in (0..bytes.len()).step_by(7) {
            assert!(read_parquet(bytes.slice(..end)).is_err(), "{end}");
        }
        assert!(matches!(read_parquet(file(PLAIN, &[], 1.0, 1, None)), Err(ImportError::Empty)));
    }

    #[test]
    fn no_changed_byte_panics() {
        let bytes = file(PLAIN, &minutes(1_672_531_200_000, 60), 1.0, 40, None);
        let mut asserted = 0;
        for position in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[position] ^= 0xFF;
            // Some changes hit a price and go unnoticed; what counts is that each call returns.
            asserted += usize::from(matches!(read_parquet(changed.into()), Err(ImportError::ParquetDamaged)));
        }
        assert!(asserted > 0, "the parquet crate no longer panics: the guard can go");
    }

    #[test]
    fn times_are_the_open_of_the_bar() {
        let candles = read_parquet(file(PLAIN, &minutes(1_672_531_200_000, 2), 1.0, 2, None)).unwrap();
        assert_eq!(open_ms(&candles[1]), 1_672_531_260_000);
    }
}

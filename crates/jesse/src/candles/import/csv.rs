//! Candles from CSV, with or without a header.

use std::io::Read;

use ::csv::{ReaderBuilder, StringRecord, Trim};

use super::check::Checker;
use super::columns::{self, Columns, NAMES};
use super::error::ImportError;
use super::timestamp::from_text;
use crate::candles::Candle;

/// Reads 1-minute candles from comma-separated text, oldest first.
///
/// With a header the columns may have any order and more of them are ignored. Without one they must be the six of Jesse, in
/// Jesse's order, which is not the usual one: timestamp, open, CLOSE, high, low, volume.
pub fn read_csv(reader: impl Read) -> Result<Vec<Candle>, ImportError> {
    let mut reader = ReaderBuilder::new().has_headers(false).trim(Trim::All).from_reader(reader);
    let mut record = StringRecord::new();
    if !reader.read_record(&mut record)? {
        return Err(ImportError::Empty);
    }
    let mut checker = Checker::default();
    let columns = if is_candle(&record) {
        if record.len() != NAMES.len() {
            return Err(ImportError::Headerless { found: record.len() });
        }
        let columns = [0, 1, 2, 3, 4, 5];
        push(&mut checker, &record, columns)?;
        columns
    } else {
        columns::find(&record.iter().map(str::to_owned).collect::<Vec<_>>())?
    };
    while reader.read_record(&mut record)? {
        push(&mut checker, &record, columns)?;
    }
    checker.finish()
}

/// Whether a first row holds values rather than names.
fn is_candle(record: &StringRecord) -> bool {
    record.get(0).is_some_and(|field| from_text(field).is_some() || field.parse::<f64>().is_ok())
}

fn push(checker: &mut Checker, record: &StringRecord, columns: Columns) -> Result<(), ImportError> {
    let row = checker.next_row();
    let field = |index: usize| match record.get(columns[index]) {
        None | Some("") => Err(ImportError::ValueMissing { row, column: NAMES[index] }),
        Some(field) => Ok(field),
    };
    let time = field(0)?;
    let at = from_text(time).ok_or_else(|| ImportError::NotATime { row, found: excerpt(time) })?;
    let mut values = [0.0; 5];
    for (index, value) in (1..).zip(&mut values) {
        let text = field(index)?;
        let not_a_number = |_| ImportError::NotANumber { row, column: NAMES[index], found: excerpt(text) };
        *value = text.parse().map_err(not_a_number)?;
    }
    checker.push(at, values)
}

/// The start of a field: enough to find it, too little to flood a log.
fn excerpt(field: &str) -> String {
    field.chars().take(40).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::candles::testing::JANUARY_2023;
    use crate::candles::{WalkSettings, generate};

    const HEADER: &str = "timestamp,open,close,high,low,volume\n";

    fn read(text: &str) -> Result<Vec<Candle>, ImportError> {
        read_csv(text.as_bytes())
    }

    fn refusal(rows: &str) -> String {
        read(&format!("{HEADER}{rows}")).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read_with_or_without_a_header() {
        let candles: Vec<_> =
            generate(WalkSettings { seed: 5, ..WalkSettings::default() }).unwrap().collect();
        let line = |[time, open, close, high, low, volume]: &Candle| {
            format!("{time},{open},{close},{high},{low},{volume}\n")
        };
        let rows: String = candles.iter().map(line).collect();
        assert_eq!(read(&rows).unwrap(), candles);
        assert_eq!(read(&format!("{HEADER}{rows}")).unwrap(), candles);
        assert_eq!(read(&format!("\u{feff}{HEADER}{rows}")).unwrap(), candles);
        assert_eq!(read(&format!("{HEADER}{rows}").replace('\n', "\r\n")).unwrap(), candles);
    }

    #[test]
    fn columns_go_by_their_names() {
        let text = "Symbol,Date,Volume,Low,High,Close,Open\nBTC,2023-01-01 00:00:00, 5 ,9,12,11,10\n";
        #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
        let time = JANUARY_2023 as f64;
        assert_eq!(read(text).unwrap(), [[time, 10.0, 11.0, 12.0, 9.0, 5.0]]);
    }

    #[test]
    fn empty_files_have_no_candles() {
        assert!(matches!(read(""), Err(ImportError::Empty)));
        assert!(matches!(read(HEADER), Err(ImportError::Empty)));
    }

    #[test]
    fn bad_fields_are_named() {
        assert_eq!(refusal("1672531200,1,,1,1,1"), "row 1 has no close");
        assert_eq!(refusal("1672531200,1,1,1,x,1"), "row 1 has \"x\" as low, which is not a number");
        assert!(refusal("17,1,1,1,1,1").starts_with("row 1 has \"17\" as timestamp; needed are seconds"));
        assert!(refusal("1672531200,1,1,1,1,1\n1672531260,1,nan,1,1,1").contains("row 2 has NaN as close"));
        assert!(refusal("1672531200,1,1").contains("not well-formed CSV"));
        assert!(read_csv(&b"PAR1\xff\xfe"[..]).unwrap_err().to_string().contains("not well-formed CSV"));
    }

    #[test]
    fn without_a_header_there_are_exactly_six_columns() {
        let error = read("1672531200000,1,2,1,2,5,1672531259999").unwrap_err();
        assert!(error.to_string().starts_with("the file has no header and 7 columns"), "{error}");
        assert!(read("17,1,1,1,1,1").unwrap_err().to_string().starts_with("row 1 has \"17\" as timestamp"));
        // The usual order of others (open, high, low, close) does not pass for Jesse's.
        assert!(matches!(read("1672531200,10,12,9,11,1"), Err(ImportError::HighTooLow { row: 1, .. })));
    }
}

//! Which column of a file holds which value of a candle.

use super::error::ImportError;

/// The values of a candle in its order.
pub(super) const NAMES: [&str; 6] = ["timestamp", "open", "close", "high", "low", "volume"];

/// Names under which files keep the time of a bar's open, best first: of a number and a date for people, the number counts.
const TIME_ALIASES: [&str; 8] =
    ["timestamp", "timestamp_ms", "open_time", "opentime", "unix", "time", "datetime", "date"];

/// For each value of a candle the position of its column.
pub(super) type Columns = [usize; 6];

/// Finds the six columns among the names of a file.
pub(super) fn find(names: &[String]) -> Result<Columns, ImportError> {
    let normal: Vec<_> = names.iter().map(|name| normalise(name)).collect();
    let mut columns = [0; 6];
    for (column, name) in columns.iter_mut().zip(NAMES) {
        *column = position(&normal, name)?.ok_or_else(|| ImportError::ColumnMissing {
            column: name,
            accepted: aliases(name).join(", "),
            found: names.join(", "),
        })?;
    }
    Ok(columns)
}

fn position(names: &[String], column: &'static str) -> Result<Option<usize>, ImportError> {
    for alias in aliases(column) {
        let mut matching = names.iter().enumerate().filter(|(_, name)| *name == alias);
        if let Some((index, _)) = matching.next() {
            return if matching.next().is_none() {
                Ok(Some(index))
            } else {
                Err(ImportError::ColumnTwice((*alias).to_owned()))
            };
        }
    }
    Ok(None)
}

fn aliases(column: &'static str) -> Vec<&'static str> {
    if column == NAMES[0] { TIME_ALIASES.to_vec() } else { vec![column] }
}

fn normalise(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn find_in(names: &str) -> Result<Columns, ImportError> {
        find(&names.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_found_in_any_order_and_case() {
        assert_eq!(find_in("timestamp,open,close,high,low,volume").unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(find_in("Open Time,Open,High,Low,Close,Volume,Close Time").unwrap(), [0, 1, 4, 2, 3, 5]);
        assert_eq!(find_in("symbol, VOLUME ,low,high,close,open,Timestamp_MS").unwrap(), [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn a_number_is_preferred_to_a_date_for_people() {
        assert_eq!(find_in("date,unix,open,close,high,low,volume").unwrap()[0], 1);
        assert_eq!(find_in("date,open,close,high,low,volume").unwrap()[0], 0);
    }

    #[test]
    fn what_is_missing_or_doubled_is_named() {
        assert_eq!(
            find_in("time,open,high,low,volume").unwrap_err().to_string(),
            "the file has no column close (accepted names: close); its columns are: time, open, high, low, volume"
        );
        let error = find_in("a,open,high,low,close,volume").unwrap_err().to_string();
        assert!(
            error.contains("no column timestamp (accepted names: timestamp, timestamp_ms, open_time"),
            "{error}"
        );
        let error = find_in("time,open,Open,high,low,close,volume").unwrap_err().to_string();
        assert_eq!(error, "the file has two columns named open");
    }
}

//! Candles as a `.npy` file, the format that numpy maps into memory without a copy.
//!
//! Exactly one form is written and read: version 1.0, little-endian 64-bit floats, C order, shape (rows, 6), 128 bytes of header.
//! It is byte for byte what `numpy.save` writes for such an array, so equal candles have equal bytes and equal hashes.
//! [`decode`] looks at the form only; what the numbers mean is checked where a [`Chunk`](super::Chunk) is made of them.

use super::Candle;

const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
/// Magic, two bytes of length and the description, padded so that the data starts at a multiple of 64.
const HEADER_BYTES: usize = 128;
const ROW_BYTES: usize = size_of::<Candle>();
const BEFORE_ROWS: &str = "{'descr': '<f8', 'fortran_order': False, 'shape': (";
const AFTER_ROWS: &str = ", 6), }";

/// Why bytes are not candles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// Not a `.npy` file of version 1.0 at all.
    #[error("not a .npy file of version 1.0")]
    NotNpy,
    /// A `.npy` file of another element type, order, shape or header.
    #[error("not a candle file: its .npy header is not that of a C-ordered '<f8' array of shape (rows, 6)")]
    Header,
    /// The file ends early or goes on after its last row.
    #[error("the .npy header announces {rows} rows, {expected} bytes of data, but {found} bytes follow it")]
    Length {
        /// Rows according to the header.
        rows: usize,
        /// Bytes of data that so many rows have.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
}

/// Writes candles as a `.npy` file.
pub fn encode(candles: &[Candle]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + candles.len() * ROW_BYTES);
    bytes.extend_from_slice(&header(candles.len()));
    bytes.extend(candles.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Reads what [`encode`] wrote; any other file is an error.
pub fn decode(bytes: &[u8]) -> Result<Vec<Candle>, NpyError> {
    if !bytes.starts_with(MAGIC) {
        return Err(NpyError::NotNpy);
    }
    let (head, data) = bytes.split_at_checked(HEADER_BYTES).ok_or(NpyError::Header)?;
    let rows = announced_rows(head).ok_or(NpyError::Header)?;
    let expected = rows.checked_mul(ROW_BYTES).ok_or(NpyError::Header)?;
    if data.len() != expected {
        return Err(NpyError::Length { rows, expected, found: data.len() });
    }
    let (values, _) = data.as_chunks::<8>();
    let (rows, _) = values.as_chunks::<6>();
    Ok(rows.iter().map(|row| row.map(f64::from_le_bytes)).collect())
}

/// The number of rows in a header, if it is the very header that [`encode`] writes for so many.
fn announced_rows(head: &[u8]) -> Option<usize> {
    let description = str::from_utf8(head.get(MAGIC.len() + 2..)?).ok()?;
    let (rows, _) = description.strip_prefix(BEFORE_ROWS)?.split_once(AFTER_ROWS)?;
    let rows = rows.parse().ok()?;
    (header(rows) == head).then_some(rows)
}

/// The header for so many rows. The longest number of rows leaves room to spare in the 128 bytes.
fn header(rows: usize) -> [u8; HEADER_BYTES] {
    let description = format!("{BEFORE_ROWS}{rows}{AFTER_ROWS}");
    let start = MAGIC.len() + 2;
    let mut header = [b' '; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    // 118 bytes of description, little-endian.
    header[MAGIC.len()..start].copy_from_slice(&[118, 0]);
    header[start..start + description.len()].copy_from_slice(description.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn candles(rows: usize) -> Vec<Candle> {
        (0..rows)
            .map(|row| std::array::from_fn(|column| f64::from_bits((row * 6 + column) as u64 * 0x1357_9BDF)))
            .collect()
    }

    #[test]
    fn the_header_is_numpys() {
        let bytes = encode(&candles(3));
        assert_eq!(bytes.len(), 128 + 3 * 48);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let description = str::from_utf8(&bytes[10..128]).unwrap();
        assert_eq!(description.trim_end(), "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 6), }");
        assert!(description.ends_with(" \n"));
        assert_eq!(header(usize::MAX).len() % 64, 0);
    }

    #[test]
    fn every_length_survives_the_round_trip() {
        for rows in [0, 1, 2, 9, 10, 99, 100, 1440, 44_640] {
            let candles = candles(rows);
            assert_eq!(decode(&encode(&candles)).unwrap(), candles, "{rows}");
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = encode(&candles(2));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode(&longer), Err(NpyError::Length { rows: 2, expected: 96, found: 97 }));
    }

    #[test]
    fn every_changed_byte_of_the_header_is_an_error() {
        let bytes = encode(&candles(2));
        for position in 0..128 {
            for flip in [1, 0x20, 0xFF] {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(decode(&changed).is_err(), "{position}");
            }
        }
    }

    #[test]
    fn foreign_files_are_named_as_such() {
        assert_eq!(decode(b"PAR1..."), Err(NpyError::NotNpy));
        assert_eq!(decode(b""), Err(NpyError::NotNpy));
        assert_eq!(decode(b"\x93NUMPY\x02\x00"), Err(NpyError::NotNpy));
        let swap = |from: &str, to: &str| {
            let bytes = encode(&candles(2));
            let description = str::from_utf8(&bytes[10..128]).unwrap().replacen(from, to, 1);
            [&bytes[..10], description.as_bytes(), &bytes[128..]].concat()
        };
        for (from, to) in [("<f8", ">f8"), ("False", "True "), ("(2, 6)", "(2, 5)"), ("(2, 6)", "(+2,6)")] {
            assert_eq!(decode(&swap(from, to)), Err(NpyError::Header), "{to}");
        }
        let huge = swap("(2, 6), }                    ", &format!("({}, 6), }} ", usize::MAX));
        assert!(decode(&huge).is_err());
    }
}

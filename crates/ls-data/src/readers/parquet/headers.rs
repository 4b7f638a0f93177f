//! A Parquet file whose page headers are looked at before the parquet crate reads them.
//!
//! A header says how large its page is once it is decompressed, and the parquet crate makes room
//! for that before it looks at the page: two gigabytes for a file of a few hundred bytes. So a page
//! that claims more than [`MOST_BYTES`] is refused.

use std::io::{self, Read};

use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes that a page may have. Writers make pages of one megabyte.
const MOST_BYTES: i64 = 256 << 20;

/// Structures within structures that are followed: a header has three.
const DEEPEST: usize = 8;

/// The file; of what the parquet crate reads in it, page headers alone are read as a stream.
pub(super) struct CheckedHeaders<R>(pub(super) R);

impl<R: ChunkReader> Length for CheckedHeaders<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for CheckedHeaders<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let claimed = uncompressed_page_size(&mut self.0.get_read(start)?);
        if claimed > MOST_BYTES {
            return Err(ParquetError::General(format!(
                "a page of {claimed} bytes, and at most {MOST_BYTES} are read"
            )));
        }
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The highest number in the second field of a structure in Thrift's compact protocol: in a page
/// header the size of the page, decompressed. What is no such structure is the parquet crate's to
/// refuse.
fn uncompressed_page_size(header: &mut impl Read) -> i64 {
    let mut claimed = 0;
    // Ends with an error where the header does.
    let _ = fields(header, 0, &mut |field, number| {
        if field == 2 {
            claimed = claimed.max(number);
        }
    });
    claimed
}

/// Goes through the fields of a structure, and tells the numbers among them.
fn fields(from: &mut impl Read, depth: usize, tell: &mut dyn FnMut(i64, i64)) -> io::Result<()> {
    let mut field = 0i64;
    loop {
        let start = byte(from)?;
        if start == 0 {
            return Ok(());
        }
        field = match start >> 4 {
            0 => signed(from)?,
            step => field.wrapping_add(i64::from(step)),
        };
        match start & 0x0f {
            // Whether it is true is said by the type.
            1 | 2 => {}
            4..=6 => tell(field, signed(from)?),
            kind => skip(from, kind, depth)?,
        }
    }
}

/// Goes behind a value.
fn skip(from: &mut impl Read, kind: u8, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match kind {
        1..=3 => byte(from).map(|_| ()),
        4..=6 => signed(from).map(|_| ()),
        7 => skip_bytes(from, 8),
        8 => {
            let length = unsigned(from)?;
            skip_bytes(from, length)
        }
        9 | 10 => {
            let start = byte(from)?;
            let count = match start >> 4 {
                15 => unsigned(from)?,
                count => u64::from(count),
            };
            (0..count).try_for_each(|_| skip(from, start & 0x0f, depth + 1))
        }
        12 => fields(from, depth + 1, &mut |_, _| ()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn skip_bytes(from: &mut impl Read, count: u64) -> io::Result<()> {
    match io::copy(&mut from.by_ref().take(count), &mut io::sink())? {
        copied if copied == count => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn byte(from: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Seven bits a byte, the lowest first.
fn unsigned(from: &mut impl Read) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = byte(from)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Zigzag: 0, -1, 1, -2, ...
fn signed(from: &mut impl Read) -> io::Result<i64> {
    let value = unsigned(from)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(mut header: &[u8]) -> i64 {
        uncompressed_page_size(&mut header)
    }

    #[test]
    fn the_size_is_found_wherever_it_stands() {
        // Type 0, size 300 (zigzag 600: d8 04), compressed size 5, end.
        assert_eq!(claimed(&[0x15, 0, 0x15, 0xd8, 4, 0x15, 10, 0]), 300);
        // Fields by their full number, the size last, behind a structure with a string, a list of
        // two numbers and a boolean.
        let header = [
            0x05, 2, 0, // field 1: type 0
            0x4c, 0x18, 2, 9, 9, 0x19, 0x25, 2, 4, 0x11, 0, // field 5
            0x05, 4, 0xd8, 4, 0, // field 2
        ];
        assert_eq!(claimed(&header), 300);
        // Said twice, the larger counts.
        assert_eq!(claimed(&[0x25, 0xd8, 4, 0x05, 4, 2, 0]), 300);
        assert_eq!(claimed(&[]), 0);
        assert_eq!(claimed(&[0x25, 0xff, 0xff]), 0);
        // A structure in itself without end, and a list that claims more than there is.
        assert_eq!(claimed(&[0x1c; 1000]), 0);
        assert_eq!(
            claimed(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            0
        );
    }

    #[test]
    fn a_page_that_claims_gigabytes_is_refused_before_it_is_read() {
        let file = bytes::Bytes::from_static(&[0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0]);
        let error = CheckedHeaders(file).get_read(0).err().unwrap().to_string();
        assert!(error.contains("a page of 2147483647 bytes"), "{error}");
    }
}

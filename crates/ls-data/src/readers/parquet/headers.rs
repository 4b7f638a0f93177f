//! A Parquet file whose headers are looked at before the parquet crate reads them.
//!
//! The header of a page says how large the page is once it is decompressed, and the parquet crate
//! makes room for that before it looks at the page: two gigabytes for a file of a few hundred
//! bytes. So a page that claims more than [`MOST_BYTES`] is refused. The footer's schema says how
//! many fields each group has, and they are taken for sizes as well, and followed as deep as they
//! go: so no group may have more than there are, nor stand deeper than [`DEEPEST_GROUP`].

use std::io::{self, Read};

use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes that a page may have. Writers make pages of one megabyte.
const MOST_BYTES: i64 = 256 << 20;

/// Groups within groups of a schema. A list of plain values has three.
const DEEPEST_GROUP: usize = 64;

/// Structures within structures that are followed: a header has three.
const DEEPEST: usize = 8;

/// The file; of what the parquet crate reads in it, page headers alone are read as a stream.
pub(super) struct CheckedHeaders<R>(R);

impl<R: ChunkReader> CheckedHeaders<R> {
    /// The file, once its schema is seen to.
    pub(super) fn new(file: R) -> Result<Self> {
        match check_schema(&file)? {
            Some(fault) => Err(ParquetError::General(fault)),
            None => Ok(Self(file)),
        }
    }
}

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
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(ParquetError::General(format!(
                "{length} bytes at {start} of a file of {} bytes",
                self.len()
            )));
        }
        self.0.get_bytes(start, length)
    }
}

/// What is wrong with the groups of the schema. What is no footer is the parquet crate's to refuse.
fn check_schema(file: &impl ChunkReader) -> Result<Option<String>> {
    let Some(end) = file.len().checked_sub(8) else {
        return Ok(None);
    };
    let size = *file.get_bytes(end, 4)?.first_chunk().unwrap_or(&[0; 4]);
    let Some(start) = end.checked_sub(u32::from_le_bytes(size).into()) else {
        return Ok(None);
    };
    let mut fault = None;
    // Ends with an error where the footer does.
    let _ = schema(&mut file.get_read(start)?.take(end - start), &mut fault);
    Ok(fault)
}

/// Goes through the footer, whose second field is the list of the schema's elements.
fn schema(from: &mut impl Read, fault: &mut Option<String>) -> io::Result<()> {
    let mut field = 0;
    while let Some(kind) = next_field(from, &mut field)? {
        match kind {
            1 | 2 => {}
            9 if field == 2 => {
                let mut children = Vec::new();
                for _ in 0..list(from)?.0 {
                    let mut count = 0;
                    fields(from, 1, &mut |field, number| {
                        if field == 5 {
                            count = number;
                        }
                    })?;
                    children.push(count);
                }
                *fault = fault.take().or_else(|| groups(&children));
            }
            kind => skip(from, kind, 0)?,
        }
    }
    Ok(())
}

/// What is wrong with elements that have so many children each: their groups, one within the other,
/// are known by the children that are still to come.
fn groups(children: &[i64]) -> Option<String> {
    let mut open: Vec<i64> = Vec::new();
    for (at, count) in children.iter().enumerate() {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if *count > (children.len() - at - 1) as i64 {
            return Some(format!(
                "a group of {count} fields, and {} are left",
                children.len() - at - 1
            ));
        }
        open.push(*count);
        while open.last().is_some_and(|left| *left <= 0) {
            open.pop();
        }
        if open.len() > DEEPEST_GROUP {
            return Some(format!(
                "groups within groups, and at most {DEEPEST_GROUP} are followed"
            ));
        }
    }
    None
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
    let mut field = 0;
    while let Some(kind) = next_field(from, &mut field)? {
        match kind {
            // Whether it is true is said by the type.
            1 | 2 => {}
            4..=6 => tell(field, signed(from)?),
            kind => skip(from, kind, depth)?,
        }
    }
    Ok(())
}

/// The type of the next field, whose number is a step from the last one's or stands behind it;
/// nothing at the end of the structure.
fn next_field(from: &mut impl Read, field: &mut i64) -> io::Result<Option<u8>> {
    let start = byte(from)?;
    if start == 0 {
        return Ok(None);
    }
    *field = match start >> 4 {
        0 => signed(from)?,
        step => field.wrapping_add(i64::from(step)),
    };
    Ok(Some(start & 0x0f))
}

/// The length of a list and the type of its elements.
fn list(from: &mut impl Read) -> io::Result<(u64, u8)> {
    let start = byte(from)?;
    let count = match start >> 4 {
        15 => unsigned(from)?,
        count => u64::from(count),
    };
    Ok((count, start & 0x0f))
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
            let (count, kind) = list(from)?;
            (0..count).try_for_each(|_| skip(from, kind, depth + 1))
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
        let error = CheckedHeaders(file).get_read(0).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("a page of 2147483647 bytes"), "{error}");
    }

    #[test]
    fn groups_that_a_schema_cannot_have_are_refused() {
        assert_eq!(groups(&[]), None);
        assert_eq!(groups(&[2, 0, 1, 1, 0]), None);
        assert_eq!(groups(&[0, 0]), None);
        assert!(
            groups(&[2, 0])
                .unwrap()
                .contains("2 fields, and 1 are left")
        );
        let deep = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert_eq!(groups(&deep(DEEPEST_GROUP)), None);
        assert!(groups(&deep(DEEPEST_GROUP + 1)).is_some());
        // Side by side they are not deep.
        let wide = [vec![1000], [1, 0].repeat(1000)].concat();
        assert_eq!(groups(&wide), None);

        // Version 1; a schema of two elements, of which the first has 2^31 - 1 children.
        let footer = [
            &[0x15, 2, 0x19, 0x2c][..],
            &[0x48, 1, b'm', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0],
            &[0x15, 2, 0x38, 1, b'x', 0],
            &[0],
        ]
        .concat();
        let length = (footer.len() as u32).to_le_bytes();
        let file = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
        let error = CheckedHeaders::new(bytes::Bytes::from(file)).err().unwrap();
        let error = error.to_string();
        assert!(
            error.contains("2147483647 fields, and 1 are left"),
            "{error}"
        );
        for bytes in [
            &b""[..],
            b"PAR1",
            b"\xff\xff\xff\xffPAR1",
            b"\x01\0\0\0\0PAR1",
        ] {
            let file = bytes::Bytes::copy_from_slice(bytes);
            assert!(CheckedHeaders::new(file).is_ok());
        }
    }
}

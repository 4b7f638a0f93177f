//! The pages of a Parquet column, with the counts in them seen to before anything is allocated by
//! them.
//!
//! A page says how many values it has, and two encodings of strings say it once more in front of
//! the lengths of the strings. The parquet crate takes these numbers for sizes, and a program whose
//! allocation fails ends without an error. So there are stated limits to the values of a
//! dictionary, of a page of lengths and of the lists of a batch; a dictionary has at most as many
//! as it has bytes, and a page as many lengths as values. A page of plain values needs none: of its
//! values a batch is taken at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

/// Lengths that one page may have: writers make pages of some twenty thousand rows.
const MOST_LENGTHS: u32 = 1 << 24;

/// Values that a dictionary may have: writers give one up that is larger than a megabyte, and each
/// value takes four bytes of it at least.
const MOST_IN_DICTIONARY: u32 = 1 << 22;

/// Values in the pages that are opened for one batch of lists. A list goes on from page to page,
/// and is whole in memory.
const MOST_IN_LISTS: u64 = 1 << 22;

/// A reader of a column, whose lists have a limit in each batch.
pub(super) struct BoundedReader {
    reader: ColumnReader,
    /// Values in the pages of the batch so far.
    opened: Arc<AtomicU64>,
}

impl BoundedReader {
    pub(super) fn new(column: ColumnDescPtr, pages: Box<dyn PageReader>) -> Self {
        let levels = [column.max_rep_level(), column.max_def_level()];
        let opened = Arc::new(AtomicU64::new(0));
        let checked = CheckedPages {
            pages,
            levels,
            opened: opened.clone(),
        };
        Self {
            reader: get_column_reader(column, Box::new(checked)),
            opened,
        }
    }

    /// The reader, for a batch.
    pub(super) fn next_batch(&mut self) -> &mut ColumnReader {
        self.opened.store(0, Ordering::Relaxed);
        &mut self.reader
    }
}

struct CheckedPages {
    pages: Box<dyn PageReader>,
    /// The highest repetition and definition level of the column.
    levels: [i16; 2],
    opened: Arc<AtomicU64>,
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            check(page, self.levels)?;
            let count = u64::from(page.num_values());
            let opened = self.opened.fetch_add(count, Ordering::Relaxed) + count;
            if page.is_data_page() && self.levels[0] > 0 && opened > MOST_IN_LISTS {
                return fault(format!(
                    "a batch of lists with {opened} values, and at most {MOST_IN_LISTS} are read"
                ));
            }
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

fn check(page: &Page, levels: [i16; 2]) -> Result<()> {
    let count = page.num_values();
    let bytes = page.buffer();
    if let Page::DictionaryPage { .. } = page {
        if count > MOST_IN_DICTIONARY || count as usize > bytes.len() {
            return fault(format!(
                "a dictionary of {} bytes with {count} values, and at most {MOST_IN_DICTIONARY} \
                 are read",
                bytes.len()
            ));
        }
        return Ok(());
    }
    let prefixed = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => false,
        Encoding::DELTA_BYTE_ARRAY => true,
        _ => return Ok(()),
    };
    if count > MOST_LENGTHS {
        return fault(format!(
            "a page of {count} lengths, and at most {MOST_LENGTHS} are read"
        ));
    }
    // Whatever cannot be followed here is an error of the parquet crate's, before it allocates.
    let Some(mut lengths) = values(page, levels).map(Bytes) else {
        return Ok(());
    };
    if prefixed && lengths.skip_packed(count)?.is_none() {
        return Ok(());
    }
    lengths.skip_packed(count).map(|_| ())
}

fn fault<T>(found: String) -> Result<T> {
    Err(ParquetError::General(found))
}

/// What stands behind the levels of a data page.
fn values(page: &Page, levels: [i16; 2]) -> Option<&[u8]> {
    let bytes: &[u8] = page.buffer();
    match page {
        Page::DictionaryPage { .. } => None,
        Page::DataPageV2 {
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            bytes.get((*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?..)
        }
        Page::DataPage {
            num_values,
            def_level_encoding,
            rep_level_encoding,
            ..
        } => {
            let encodings = [rep_level_encoding, def_level_encoding];
            let present = levels
                .into_iter()
                .zip(encodings)
                .filter(|(most, _)| *most > 0);
            let mut bytes = bytes;
            for (most, encoding) in present {
                let length = if *encoding == Encoding::RLE {
                    4usize.checked_add(u32::from_le_bytes(*bytes.first_chunk()?) as usize)?
                } else {
                    // One after the other, each in as many bits as the highest needs.
                    let bits = 16 - most.leading_zeros() as usize;
                    (*num_values as usize * bits).div_ceil(8)
                };
                bytes = bytes.get(length..)?;
            }
            Some(bytes)
        }
    }
}

/// What is left of a page.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// Goes behind numbers in `DELTA_BINARY_PACKED`: a count, the first number, and blocks of
    /// differences. Nothing where the bytes end before; an error where there are more than `most`.
    fn skip_packed(&mut self, most: u32) -> Result<Option<()>> {
        let Some((block, parts, count)) = self.packed_header() else {
            return Ok(None);
        };
        if count > u64::from(most) {
            return fault(format!(
                "lengths of {count} strings in a page of {most} values"
            ));
        }
        Ok(self.skip_blocks(block, parts, count))
    }

    fn packed_header(&mut self) -> Option<(u64, u64, u64)> {
        let header = (self.number()?, self.number()?, self.number()?);
        self.number()?;
        Some(header)
    }

    fn skip_blocks(&mut self, block: u64, parts: u64, count: u64) -> Option<()> {
        let each = block.checked_div(parts)?;
        let mut left = count.saturating_sub(1);
        while left > 0 {
            self.number()?;
            let widths = self.take(parts)?;
            for width in widths {
                // Behind the last difference there are widths, and no parts.
                if left > 0 {
                    self.take(each.checked_mul(u64::from(*width))? / 8)?;
                }
                left = left.saturating_sub(each);
            }
            if each == 0 {
                return None;
            }
        }
        Some(())
    }

    /// A number of seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// `count` lengths of zero: a block of 128 in four parts, whose differences take no bits.
    fn lengths(count: u64) -> Vec<u8> {
        let mut bytes = [number(128), number(4), number(count), number(0)].concat();
        for _ in 0..count.saturating_sub(1).div_ceil(128).min(4) {
            bytes.extend([number(0), vec![0; 4]].concat());
        }
        bytes
    }

    fn page(encoding: Encoding, count: u32, bytes: Vec<u8>) -> Page {
        Page::DataPage {
            buf: bytes.into(),
            num_values: count,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn found(page: &Page, levels: [i16; 2]) -> Option<String> {
        check(page, levels).err().map(|error| error.to_string())
    }

    #[test]
    fn counts_that_a_page_cannot_have_are_errors() {
        let dictionary = |bytes, count| Page::DictionaryPage {
            buf: vec![0; bytes].into(),
            num_values: count,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        assert_eq!(found(&dictionary(8, 8), [0, 0]), None);
        let error = found(&dictionary(8, 9), [0, 0]).unwrap();
        assert!(error.contains("of 8 bytes with 9 values"), "{error}");
        let most = 1 << 22;
        assert_eq!(found(&dictionary(5 << 22, most), [0, 0]), None);
        assert!(found(&dictionary(5 << 22, most + 1), [0, 0]).is_some());
        // fastparquet puts a row group of fifty million rows into a page.
        assert_eq!(
            found(&page(Encoding::PLAIN, 50_000_000, vec![]), [0, 0]),
            None
        );
        let error = found(&page(Encoding::DELTA_BYTE_ARRAY, 1 << 25, vec![]), [0, 0]);
        assert!(error.unwrap().contains("33554432 lengths"));
    }

    #[test]
    fn so_are_more_lengths_than_values() {
        use Encoding::{DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY};
        for count in [0, 1, 2, 129, 130, 400] {
            let one = lengths(count);
            let two = [lengths(count), lengths(count)].concat();
            let most = count as u32;
            assert_eq!(
                found(&page(DELTA_LENGTH_BYTE_ARRAY, most, one), [0, 0]),
                None
            );
            assert_eq!(found(&page(DELTA_BYTE_ARRAY, most, two), [0, 0]), None);
        }
        // The count of the second list is found behind the blocks of the first.
        for first in [1, 2, 33, 129, 400] {
            let bytes = [lengths(first), lengths(1 << 40)].concat();
            let error = found(&page(DELTA_BYTE_ARRAY, 400, bytes), [0, 0]).unwrap();
            assert!(
                error.contains("lengths of 1099511627776 strings"),
                "{error}"
            );
        }
        let error = found(&page(DELTA_LENGTH_BYTE_ARRAY, 7, lengths(8)), [0, 0]).unwrap();
        assert!(error.contains("8 strings in a page of 7 values"), "{error}");
        // Behind levels: their length in four bytes, then they.
        let levels = [3u32.to_le_bytes().to_vec(), vec![9; 3]].concat();
        let bytes = [levels.clone(), levels, lengths(1 << 40)].concat();
        let error = found(&page(DELTA_LENGTH_BYTE_ARRAY, 7, bytes), [1, 3]);
        assert!(error.unwrap().contains("1099511627776"));
    }
}

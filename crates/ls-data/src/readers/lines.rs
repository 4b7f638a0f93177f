//! Numbered lines of UTF-8 text, one at a time: what the readers without quoting share.

use std::io::BufRead;
use std::path::Path;

use super::skip_bom;
use crate::error::{DataError, Result};

/// Lines without their ends (`\n` or `\r\n`) and without a byte order mark.
pub(super) struct Lines<'a, R> {
    reader: R,
    path: &'a Path,
    number: usize,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) fn new(reader: R, path: &'a Path) -> Self {
        Self {
            reader,
            path,
            number: 0,
            buffer: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// The next line and its number from 1. It borrows the buffer: memory is bounded by the
    /// longest line.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &str)>> {
        if self.number == 0 {
            skip_bom(&mut self.reader, self.path)?;
        }
        self.buffer.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| DataError::Read {
                path: self.path.to_path_buf(),
                source,
            })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        Ok(Some((
            self.number,
            utf8(&self.buffer, self.path, self.number)?,
        )))
    }
}

/// The bytes as text, or an error at the first bad byte.
pub(super) fn utf8<'b>(bytes: &'b [u8], path: &Path, line: usize) -> Result<&'b str> {
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let before = &bytes[..at];
        let newlines = before.iter().filter(|b| **b == b'\n').count();
        let line_start = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |i| i + 1);
        DataError::NotUtf8 {
            path: path.to_path_buf(),
            line: line + newlines,
            column: at - line_start + 1,
            byte: bytes[at],
        }
    })
}

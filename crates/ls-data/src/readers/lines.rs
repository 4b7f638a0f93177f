//! Numbered lines of UTF-8 text, one at a time: what the readers without quoting share.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::row::{Labels, MAX_ROW, Place};
use super::source::{Source, reading, utf8};
use crate::error::{DataError, Result};
use crate::example::SequenceExample;

/// Lines without their ends (`\n` or `\r\n`). Memory is bounded by the longest line, and that by
/// [`MAX_ROW`].
pub(super) struct Lines<'a> {
    reader: Source<'a>,
    path: PathBuf,
    number: usize,
    buffer: Vec<u8>,
}

/// A line with its place; it borrows the buffer.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) place: Place<'a>,
    pub(super) text: &'a str,
    /// Bytes that stand before it in its first line; only in a list of JSON objects there are any.
    pub(super) before: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(reader: Source<'a>, path: &Path) -> Self {
        Self {
            reader,
            path: path.to_path_buf(),
            number: 0,
            buffer: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next line. After a line that is not UTF-8 the one behind it can be read.
    pub(super) fn next(&mut self) -> Option<Result<Line<'_>>> {
        let read = self.fill();
        let place = Place {
            path: &self.path,
            line: self.number,
        };
        match read {
            Ok(true) => {
                let text = utf8(&self.buffer, place.path, place.line);
                Some(text.map(|text| Line {
                    place,
                    text,
                    before: 0,
                }))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Calls `each` on line after line until it returns a value, and returns that.
    pub(super) fn find_map<T>(
        &mut self,
        mut each: impl FnMut(Line<'_>) -> Result<Option<T>>,
    ) -> Option<Result<T>> {
        loop {
            if let Some(found) = self.next()?.and_then(&mut each).transpose() {
                return Some(found);
            }
        }
    }

    /// Calls `each` on the next line that is not blank.
    pub(super) fn map_row<T>(
        &mut self,
        mut each: impl FnMut(Line<'_>) -> Result<T>,
    ) -> Option<Result<T>> {
        self.find_map(|line| {
            if line.text.trim().is_empty() {
                Ok(None)
            } else {
                each(line).map(Some)
            }
        })
    }

    /// Skips the lines up to and including the first one that is an `end`. Faults in them are not
    /// reported.
    pub(super) fn skip_until(&mut self, end: impl Fn(&str) -> bool) {
        while let Some(line) = self.next() {
            match line {
                Ok(line) if end(line.text) => return,
                Err(error) if !error.is_row() => return,
                _ => {}
            }
        }
    }

    /// Reads a line into the buffer; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.clear();
        let read = self
            .reader
            .by_ref()
            .take(MAX_ROW as u64)
            .read_until(b'\n', &mut self.buffer)
            .map_err(reading(&self.path))?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if read == MAX_ROW {
            return Err(DataError::RowTooLong {
                path: self.path.clone(),
                line: self.number,
                limit: MAX_ROW,
            });
        }
        Ok(true)
    }
}

/// Rows of a file whose lines are examples each. Blank lines are passed over.
pub(super) struct LineRows<'a> {
    pub(super) lines: Lines<'a>,
    pub(super) labels: Labels,
    pub(super) labelled: bool,
    /// Reads a line of this format.
    pub(super) row: fn(Line<'_>, &Labels, bool) -> Result<SequenceExample>,
}

impl Iterator for LineRows<'_> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lines
            .map_row(|line| (self.row)(line, &self.labels, self.labelled))
    }
}

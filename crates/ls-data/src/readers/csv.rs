//! Tables: CSV (quoted as RFC 4180 says) and TSV (never quoted) to sequence examples.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ls_files::nearest;

use super::columns::{ColumnRef, SequenceColumns, TextRule};
use super::delimiter::{Delimiter, Parted, Wanted, parted};
use super::lines::Lines;
use super::row::{Labels, MAX_ROW, Place};
use super::source::{Source, reading, utf8};
use crate::error::{DataError, Result};
use crate::example::SequenceExample;

/// Rows of a CSV file. Memory is bounded by the longest row, and that by [`MAX_ROW`].
pub(super) struct CsvRows<'a> {
    parser: csv::Reader<Tee<'a>>,
    record: csv::ByteRecord,
    path: PathBuf,
    table: Table,
    /// Line on which the next row begins, blank lines before it not counted.
    line: usize,
}

impl<'a> CsvRows<'a> {
    /// Rows with this delimiter, or with the one that their beginning shows.
    pub(super) fn new(
        reader: Source<'a>,
        path: &Path,
        delimiter: Option<Delimiter>,
        table: Table,
    ) -> Result<Self> {
        let Parted {
            delimiter,
            source,
            line,
        } = parted(reader, path, delimiter, &table.wanted())?;
        let tee = Tee {
            reader: source,
            pending: Vec::new(),
            begin: 0,
            ended: false,
        };
        Ok(Self {
            parser: csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .delimiter(delimiter.byte())
                .from_reader(tee),
            record: csv::ByteRecord::new(),
            path: path.to_path_buf(),
            table,
            line,
        })
    }

    /// The next row as an example; `None` inside for the header.
    fn row(&mut self) -> Option<Result<Option<SequenceExample>>> {
        let read = match self.parser.read_byte_record(&mut self.record) {
            Ok(more) => more,
            Err(error) => return Some(Err(self.read_error(error))),
        };
        let end = self.parser.position().byte();
        let tee = self.parser.get_mut();
        let bytes = tee.take_until(end);
        let blank = bytes
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        let place = Place {
            path: &self.path,
            line: self.line + newlines(&bytes[..blank]),
        };
        self.line += newlines(&bytes);
        if !read {
            return None;
        }
        // A row over several lines that only the end of the file ends, with an odd number of
        // quotes, is a stray quote that swallowed them.
        let row = &bytes[blank..];
        let quotes = row.iter().filter(|b| **b == b'"').count();
        if tee.ended && tee.pending.is_empty() && newlines(row) > 1 && quotes % 2 == 1 {
            return Some(Err(DataError::UnclosedQuote {
                path: place.path.to_path_buf(),
                line: place.line,
            }));
        }
        let fields: Result<Vec<&str>> = self
            .record
            .iter()
            .map(|f| utf8(f, place.path, place.line))
            .collect();
        match fields {
            Ok(fields) => Some(self.table.row(place, &fields)),
            Err(error) => {
                self.table.unreadable();
                Some(Err(error))
            }
        }
    }

    fn read_error(&self, error: csv::Error) -> DataError {
        let source = match error.into_kind() {
            csv::ErrorKind::Io(source) => source,
            // The parser is given bytes and any number of fields; nothing but reading can fail.
            other => io::Error::other(format!("{other:?}")),
        };
        match source.get_ref() {
            Some(inner) if inner.is::<TooLong>() => DataError::RowTooLong {
                path: self.path.clone(),
                line: self.line,
                limit: MAX_ROW,
            },
            _ => reading(&self.path)(source),
        }
    }
}

impl Iterator for CsvRows<'_> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.table.lost {
                return None;
            }
            match self.row()? {
                Ok(None) => {}
                Ok(Some(example)) => return Some(Ok(example)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Keeps the bytes that the parser has read but not yet returned as rows: the line of a row is
/// counted from them, since the parser's own count is one short after `\r\n` and after blank lines.
struct Tee<'a> {
    reader: Source<'a>,
    pending: Vec<u8>,
    /// Position in the file of the first pending byte.
    begin: u64,
    /// Whether the parser has seen the end.
    ended: bool,
}

impl Tee<'_> {
    /// The pending bytes before the position `end`.
    fn take_until(&mut self, end: u64) -> Vec<u8> {
        let count = end.saturating_sub(self.begin) as usize;
        let taken: Vec<u8> = self
            .pending
            .drain(..count.min(self.pending.len()))
            .collect();
        self.begin += taken.len() as u64;
        taken
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.pending.len() >= MAX_ROW {
            return Err(io::Error::other(TooLong));
        }
        let read = self.reader.read(buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        self.ended |= read == 0;
        Ok(read)
    }
}

/// What [`Tee`] says of a row past [`MAX_ROW`].
#[derive(Debug, thiserror::Error)]
#[error("row too long")]
struct TooLong;

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// Rows of a TSV file: a row is a line, a field is what stands between tabs. Blank lines are
/// passed over.
pub(super) struct TsvRows<'a> {
    lines: Lines<'a>,
    table: Table,
}

impl<'a> TsvRows<'a> {
    pub(super) fn new(lines: Lines<'a>, table: Table) -> Self {
        Self { lines, table }
    }
}

impl Iterator for TsvRows<'_> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.table.lost {
            return None;
        }
        let row = self.lines.find_map(|line| {
            if line.text.is_empty() {
                Ok(None)
            } else {
                let fields: Vec<&str> = line.text.split('\t').collect();
                self.table.row(line.place, &fields)
            }
        });
        if let Some(Err(DataError::NotUtf8 { .. })) = row {
            self.table.unreadable();
        }
        row
    }
}

/// Rows to examples; the first row fixes the width and, with the header, where the columns are.
pub(super) struct Table {
    header: bool,
    columns: SequenceColumns,
    rule: TextRule,
    labels: Labels,
    layout: Option<Layout>,
    /// Whether the header could not be read and the columns are asked for by their names: nothing
    /// that is said of the rows behind it would be true.
    lost: bool,
}

struct Layout {
    width: usize,
    text: Vec<usize>,
    text_pair: Option<usize>,
    label: Option<usize>,
}

impl Table {
    pub(super) fn new(header: bool, columns: SequenceColumns, labels: Labels) -> Self {
        Self {
            header,
            rule: columns.text_rule(),
            columns,
            labels,
            layout: None,
            lost: false,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        let others = [&self.columns.text_pair, &self.columns.label];
        let columns = self.columns.texts().chain(others.into_iter().flatten());
        Wanted {
            header: self.header,
            columns: columns.collect(),
        }
    }

    /// Says that a row could not be read: if it was the header, the next row is none.
    fn unreadable(&mut self) {
        if self.layout.is_none() {
            let wanted = self.wanted();
            let mut columns = wanted.columns.iter();
            let named = columns.any(|column| matches!(column, ColumnRef::Name(_)));
            self.lost = self.header && named;
            self.header = false;
        }
    }

    /// The example in these fields, or nothing if they are the header.
    fn row(&mut self, place: Place<'_>, fields: &[&str]) -> Result<Option<SequenceExample>> {
        let layout = match &self.layout {
            Some(layout) => layout,
            None => {
                let layout = self.layout(place, fields)?;
                let layout = self.layout.insert(layout);
                if self.header {
                    return Ok(None);
                }
                layout
            }
        };
        if fields.len() != layout.width {
            return Err(DataError::FieldCount {
                path: place.path.to_path_buf(),
                line: place.line,
                found: fields.len(),
                expected: layout.width,
            });
        }
        let text = |columns: &[usize]| {
            let parts = columns.iter().map(|index| fields[*index].to_string());
            self.rule.text(parts, place)
        };
        let label = |index: usize| self.labels.written(fields[index], place);
        Ok(Some(SequenceExample {
            text: text(&layout.text)?,
            text_pair: layout.text_pair.map(|index| text(&[index])).transpose()?,
            label: layout.label.map(label).transpose()?,
            line: place.line,
            extra: None,
        }))
    }

    fn layout(&self, place: Place<'_>, first: &[&str]) -> Result<Layout> {
        let find = |column: &ColumnRef| self.find(column, place, first);
        Ok(Layout {
            width: first.len(),
            text: self.columns.texts().map(find).collect::<Result<_>>()?,
            text_pair: self.columns.text_pair.as_ref().map(find).transpose()?,
            label: self.columns.label.as_ref().map(find).transpose()?,
        })
    }

    fn find(&self, column: &ColumnRef, place: Place<'_>, first: &[&str]) -> Result<usize> {
        let path = place.path.to_path_buf();
        match column {
            ColumnRef::Index(index) if *index < first.len() => Ok(*index),
            ColumnRef::Index(index) => Err(DataError::ColumnIndex {
                path,
                line: place.line,
                index: *index,
                found: first.len(),
            }),
            ColumnRef::Name(name) if !self.header => Err(DataError::NoHeader {
                path,
                column: name.clone(),
            }),
            ColumnRef::Name(name) => {
                let header = first.iter().map(|field| field.trim());
                let mut found = header.clone().enumerate().filter(|(_, f)| f == name);
                match (found.next(), found.next()) {
                    (Some((index, _)), None) => Ok(index),
                    (Some((first, _)), Some((second, _))) => Err(DataError::ColumnTwice {
                        path,
                        line: place.line,
                        column: name.clone(),
                        first,
                        second,
                    }),
                    (None, _) => Err(DataError::UnknownColumn {
                        path,
                        column: name.clone(),
                        available: header.clone().map(str::to_string).collect(),
                        nearest: nearest(name, header),
                    }),
                }
            }
        }
    }
}

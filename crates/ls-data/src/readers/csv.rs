//! Tables: CSV (quoted as RFC 4180 says) and TSV (never quoted) to sequence examples.

use std::io::BufRead;
use std::path::Path;

use super::lines::{Lines, utf8};
use super::{ColumnRef, SequenceColumns, required, resolve_label, skip_bom};
use crate::error::{DataError, Result, nearest};
use crate::example::SequenceExample;

/// Reads CSV. The file is held in memory: the line of a row is counted from the bytes before it,
/// since the parser's own count is one short after `\r\n` and after blank lines.
pub(super) fn read_csv(
    mut reader: impl BufRead,
    path: &Path,
    header: bool,
    columns: &SequenceColumns,
    names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let read_error = |source| DataError::Read {
        path: path.to_path_buf(),
        source,
    };
    skip_bom(&mut reader, path)?;
    let mut data = Vec::new();
    reader.read_to_end(&mut data).map_err(read_error)?;

    let mut table = Table::new(path, header, columns, names);
    let mut parser = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(data.as_slice());
    let mut record = csv::ByteRecord::new();
    let (mut line, mut counted) = (1, 0);
    loop {
        let begin = parser.position().byte() as usize;
        let more = parser
            .read_byte_record(&mut record)
            .map_err(|e| read_error(e.into()))?;
        if !more {
            return Ok(table.examples);
        }
        let end = parser.position().byte() as usize;
        let blank = data[begin..end]
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        line += newlines(&data[counted..begin + blank]);
        counted = begin + blank;

        // A row that runs to the end of the file over several lines, with an odd number of quotes,
        // is a stray quote that swallowed them.
        let row = &data[counted..end];
        let quotes = row.iter().filter(|b| **b == b'"').count();
        if end == data.len() && newlines(row) > 1 && quotes % 2 == 1 {
            return Err(DataError::UnclosedQuote {
                path: path.to_path_buf(),
                line,
            });
        }
        let fields = record
            .iter()
            .map(|f| utf8(f, path, line))
            .collect::<Result<Vec<_>>>()?;
        table.row(line, &fields)?;
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// Reads TSV: a row is a line, a field is what stands between tabs. Blank lines are passed over.
pub(super) fn read_tsv(
    mut lines: Lines<'_, impl BufRead>,
    header: bool,
    columns: &SequenceColumns,
    names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let mut table = Table::new(lines.path(), header, columns, names);
    while let Some((line, text)) = lines.next()? {
        if !text.is_empty() {
            table.row(line, &text.split('\t').collect::<Vec<_>>())?;
        }
    }
    Ok(table.examples)
}

/// Rows to examples; the first row fixes the width and, with the header, where the columns are.
struct Table<'a> {
    path: &'a Path,
    header: bool,
    columns: &'a SequenceColumns,
    names: Option<&'a [String]>,
    layout: Option<Layout>,
    examples: Vec<SequenceExample>,
}

struct Layout {
    width: usize,
    text: usize,
    text_pair: Option<usize>,
    label: Option<usize>,
}

impl<'a> Table<'a> {
    fn new(
        path: &'a Path,
        header: bool,
        columns: &'a SequenceColumns,
        names: Option<&'a [String]>,
    ) -> Self {
        Self {
            path,
            header,
            columns,
            names,
            layout: None,
            examples: Vec::new(),
        }
    }

    fn row(&mut self, line: usize, fields: &[&str]) -> Result<()> {
        let layout = match &self.layout {
            Some(layout) => layout,
            None => {
                let layout = self.layout(line, fields)?;
                let layout = self.layout.insert(layout);
                if self.header {
                    return Ok(());
                }
                layout
            }
        };
        if fields.len() != layout.width {
            return Err(DataError::FieldCount {
                path: self.path.to_path_buf(),
                line,
                found: fields.len(),
                expected: layout.width,
            });
        }
        let text = |index: usize| required(fields[index], "text", self.path, line);
        let example = SequenceExample {
            text: text(layout.text)?.to_string(),
            text_pair: layout.text_pair.map(text).transpose()?.map(str::to_string),
            label: layout
                .label
                .map(|index| resolve_label(fields[index], self.names, self.path, line))
                .transpose()?,
            line,
            extra: None,
        };
        self.examples.push(example);
        Ok(())
    }

    fn layout(&self, line: usize, first: &[&str]) -> Result<Layout> {
        let find = |column: &ColumnRef| self.find(column, line, first);
        Ok(Layout {
            width: first.len(),
            text: find(&self.columns.text)?,
            text_pair: self.columns.text_pair.as_ref().map(find).transpose()?,
            label: self.columns.label.as_ref().map(find).transpose()?,
        })
    }

    fn find(&self, column: &ColumnRef, line: usize, first: &[&str]) -> Result<usize> {
        let path = self.path.to_path_buf();
        match column {
            ColumnRef::Index(index) if *index < first.len() => Ok(*index),
            ColumnRef::Index(index) => Err(DataError::ColumnIndex {
                path,
                line,
                index: *index,
                found: first.len(),
            }),
            ColumnRef::Name(name) if !self.header => Err(DataError::NoHeader {
                path,
                column: name.clone(),
            }),
            ColumnRef::Name(name) => {
                let header = first.iter().map(|field| field.trim());
                header
                    .clone()
                    .position(|field| field == name)
                    .ok_or_else(|| DataError::UnknownColumn {
                        path,
                        column: name.clone(),
                        available: header.clone().map(str::to_string).collect(),
                        nearest: nearest(name, header),
                    })
            }
        }
    }
}

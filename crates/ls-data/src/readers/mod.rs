//! Files to examples: formats, columns, and one entry point per kind of example.
//!
//! Every reader takes a path or any [`Read`] with a name for messages, so that standard input works
//! like a file. Rows are streamed: memory is bounded by the longest of them, whatever the size of
//! the file. A bad row is an error that says `path:line`, what was found and what was expected, and
//! reading goes on behind it; no reader drops or repairs a row in silence.

mod bad_rows;
mod beginning;
mod columns;
mod conll;
mod conll2012;
mod conll_layout;
mod csv;
mod delimiter;
mod encoding;
mod fasttext;
mod json_form;
mod json_list;
mod json_value;
mod jsonl;
mod label_json;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod position;
mod row;
mod sniff;
mod source;
mod span_rules;
mod spans;
mod stream;
mod trees;
mod turned_down;
pub(crate) mod usual_names;

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::example::{SequenceExample, TokenExample};
use json_list::Objects;
use lines::Lines;
use source::Source;

pub use bad_rows::{BadRows, RowSieve, SkippedRows, for_each_row};
pub(crate) use beginning::begins_as_json;
pub use beginning::{Stream, sniff_stream};
pub use columns::{Column, ColumnRef, FileFormat, Holds, SequenceColumns, TokenColumns};
pub use delimiter::Delimiter;
pub use encoding::TextEncoding;
pub use label_json::read_label_json;
pub use position::Position;
pub use sniff::{SniffOptions, Sniffed, sniff};
pub(crate) use source::source;
pub use span_rules::{BadSpans, Offsets};
pub use spans::SpanRepairs;
pub use stream::{ReadSpec, SequenceReader, TokenReader};
pub use turned_down::TurnedDown;

/// Reads labelled or plain texts from a file into memory; [`ReadSpec::read_sequence`] streams them.
///
/// `header` says whether the first row of a CSV or TSV file names its columns; without one,
/// columns are indices. `label_names` takes precedence over `columns.label_map`: an integer label
/// becomes the name at that position, a label that is a name stays, anything else is an error.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`](crate::DataError); a file without
/// examples is one. Several bad rows are one [`DataError::BadRows`](crate::DataError::BadRows).
pub fn read_sequence(
    path: &Path,
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let spec = sequence_spec(format, header, columns, label_names);
    collect(spec.read_sequence(path)?, path)
}

/// As [`read_sequence`], from any reader; `name` stands for the path in messages.
///
/// # Errors
/// As [`read_sequence`].
pub fn read_sequence_from(
    reader: impl Read + Send,
    name: &Path,
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let spec = sequence_spec(format, header, columns, label_names);
    collect(
        stream::sequence_rows(&spec, source(reader, None), name, &TurnedDown::default())?,
        name,
    )
}

/// Reads plain text, one example per line, without labels.
///
/// # Errors
/// A blank line (it would be an input without an output), bytes that are not UTF-8, no lines.
pub fn read_lines_from(reader: impl Read + Send, name: &Path) -> Result<Vec<SequenceExample>> {
    collect(line_rows(source(reader, None), name, false), name)
}

/// As [`read_lines_from`], one at a time, and in any encoding; a blank line is an example with a
/// blank text.
pub fn line_reader(
    reader: impl Read + Send + 'static,
    name: &Path,
    encoding: Option<TextEncoding>,
) -> impl Iterator<Item = Result<SequenceExample>> + Send + 'static {
    line_rows(source(reader, encoding), name, true)
}

fn line_rows<'a>(
    reader: Source<'a>,
    name: &Path,
    blank: bool,
) -> impl Iterator<Item = Result<SequenceExample>> + Send + use<'a> {
    let mut lines = Lines::new(reader, name);
    std::iter::from_fn(move || {
        lines.find_map(|line| {
            if !blank {
                line.place.required(line.text, "text")?;
            }
            Ok(Some(SequenceExample {
                text: line.text.to_string(),
                text_pair: None,
                label: None,
                line: line.place.line,
                extra: None,
            }))
        })
    })
}

/// Reads tagged or plain word lists from a file into memory; [`ReadSpec::read_tokens`] streams
/// them.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`](crate::DataError); a file without
/// examples is one. Several bad rows are one [`DataError::BadRows`](crate::DataError::BadRows).
pub fn read_tokens(
    path: &Path,
    format: FileFormat,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    collect(token_spec(format, columns).read_tokens(path)?, path)
}

/// As [`read_tokens`], from any reader; `name` stands for the path in messages.
///
/// # Errors
/// As [`read_tokens`].
pub fn read_tokens_from(
    reader: impl Read + Send,
    name: &Path,
    format: FileFormat,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    let spec = token_spec(format, columns);
    let (repairs, turned_down) = Default::default();
    let rows = stream::token_rows(&spec, source(reader, None), name, &repairs, &turned_down)?;
    collect(rows, name)
}

/// The columns of the first word of a CoNLL file; `None` where there is no word, or a fault that
/// reading it tells.
pub(crate) fn conll_width(bytes: &[u8], name: &Path) -> Option<usize> {
    let first = beginning::first_word(source(bytes, None), name);
    first.ok().map(|(width, _)| width)
}

/// The objects of a JSON file, each with its line.
pub(crate) fn read_objects(bytes: &[u8], name: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    // Keys that objects with answers have, and no object around a list of them.
    const ANSWERS: [&str; 6] = ["text", "tokens", "tags", "ner_tags", "label", "gold"];
    let is_answer = |key: &str, _| ANSWERS.contains(&key);
    let mut objects = Objects::new(source(bytes, None), name, &is_answer)?;
    let mut all = Vec::new();
    while let Some(row) = objects.map_row(|line| Ok((line.place.line, line.object()?))) {
        all.push(row?);
    }
    Ok(all)
}

fn sequence_spec(
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> ReadSpec {
    ReadSpec {
        header,
        sequence: columns.clone(),
        label_names: label_names.map(<[String]>::to_vec),
        ..ReadSpec::new(format)
    }
}

fn token_spec(format: FileFormat, columns: &TokenColumns) -> ReadSpec {
    ReadSpec {
        tokens: columns.clone(),
        ..ReadSpec::new(format)
    }
}

fn collect<T>(rows: impl Iterator<Item = Result<T>>, path: &Path) -> Result<Vec<T>> {
    let mut examples = Vec::new();
    for_each_row(rows, path, BadRows::default(), |example| -> Result<()> {
        examples.push(example);
        Ok(())
    })?;
    Ok(examples)
}

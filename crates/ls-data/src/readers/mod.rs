//! Files to examples: formats, columns, and one entry point per kind of example.
//!
//! Every reader takes a path or any [`Read`] with a name for messages, so that standard input
//! works like a file. A bad row is an error that says `path:line`, what was found and what was
//! expected; no reader drops or repairs a row in silence.

mod conll;
mod csv;
mod jsonl;
mod lines;

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::labels::unknown_label;
use lines::Lines;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Comma-separated, quoted as RFC 4180 says: fields in `"` may hold commas, line ends and `""`.
    Csv,
    /// Tab-separated without quoting: a `"` is a plain character, as in the files of GLUE and of
    /// the Stanford Sentiment Treebank.
    Tsv,
    /// One JSON object per line.
    Jsonl,
    /// One word per line with columns, a blank line after each sentence.
    Conll,
}

impl FileFormat {
    /// The format that the extension stands for.
    ///
    /// # Errors
    /// Another extension, or none.
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Jsonl),
            Some("conll" | "iob" | "bio" | "txt") => Ok(Self::Conll),
            _ => Err(DataError::UnknownFormat {
                path: path.to_path_buf(),
            }),
        }
    }

    /// The name used in configs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Conll => "conll",
        }
    }
}

/// A column: by the name in the header (or the JSON key), or by its index from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ColumnRef {
    /// Position, from 0.
    Index(usize),
    /// Name in the header, or JSON key.
    Name(String),
}

impl From<&str> for ColumnRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_string())
    }
}

impl From<usize> for ColumnRef {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where a sequence example's parts stand. The default is `text` and `label`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceColumns {
    /// The text, or the first of a pair.
    pub text: ColumnRef,
    /// The second text of a pair.
    pub text_pair: Option<ColumnRef>,
    /// The label; `None` reads examples without labels and needs no such column.
    pub label: Option<ColumnRef>,
    /// Names of integer labels: `i` becomes the `i`-th name. `None` leaves labels as they are.
    pub label_map: Option<Vec<String>>,
}

impl Default for SequenceColumns {
    fn default() -> Self {
        Self {
            text: "text".into(),
            text_pair: None,
            label: Some("label".into()),
            label_map: None,
        }
    }
}

/// Where a token example's parts stand. The default is the first and the last column of a CoNLL
/// file, and `tokens` with `tags` or `ner_tags` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenColumns {
    /// Column of the word in a CoNLL file, from 0.
    pub token: usize,
    /// Column of the tag in a CoNLL file, from 0; `None` is the last one.
    pub tag: Option<usize>,
    /// JSON key of the words.
    pub tokens_key: String,
    /// JSON key of the tags; `None` is `tags`, or else `ner_tags`.
    pub tags_key: Option<String>,
    /// Whether tags are read; without, a file needs none.
    pub tagged: bool,
    /// Names of integer tags: `i` becomes the `i`-th name.
    pub label_names: Option<Vec<String>>,
}

impl Default for TokenColumns {
    fn default() -> Self {
        Self {
            token: 0,
            tag: None,
            tokens_key: "tokens".to_string(),
            tags_key: None,
            tagged: true,
            label_names: None,
        }
    }
}

/// Reads labelled or plain texts from a file.
///
/// `header` says whether the first row of a CSV or TSV file names its columns; without one,
/// columns are indices. `label_names` takes precedence over `columns.label_map`: an integer label
/// becomes the name at that position, a label that is a name stays, anything else is an error.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`]; a file without examples is one.
pub fn read_sequence(
    path: &Path,
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    read_sequence_from(open(path)?, path, format, header, columns, label_names)
}

/// As [`read_sequence`], from any reader; `name` stands for the path in messages.
///
/// # Errors
/// As [`read_sequence`].
pub fn read_sequence_from(
    reader: impl Read,
    name: &Path,
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let names = label_names.or(columns.label_map.as_deref());
    let reader = BufReader::new(reader);
    let examples = match format {
        FileFormat::Csv => csv::read_csv(reader, name, header, columns, names),
        FileFormat::Tsv => csv::read_tsv(Lines::new(reader, name), header, columns, names),
        FileFormat::Jsonl => jsonl::read_sequence(Lines::new(reader, name), columns, names),
        FileFormat::Conll => Err(DataError::UnsupportedFormat {
            path: name.to_path_buf(),
            format: format.name(),
            expected: "texts with labels",
        }),
    }?;
    not_empty(examples, name)
}

/// Reads plain text, one example per line, without labels.
///
/// # Errors
/// A blank line (it would be an input without an output), bytes that are not UTF-8, no lines.
pub fn read_lines_from(reader: impl Read, name: &Path) -> Result<Vec<SequenceExample>> {
    let mut lines = Lines::new(BufReader::new(reader), name);
    let mut examples = Vec::new();
    while let Some((line, text)) = lines.next()? {
        examples.push(SequenceExample {
            text: required(text, "text", name, line)?.to_string(),
            text_pair: None,
            label: None,
            line,
            extra: None,
        });
    }
    not_empty(examples, name)
}

/// Reads tagged or plain word lists from a file.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`]; a file without examples is one.
pub fn read_tokens(
    path: &Path,
    format: FileFormat,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    read_tokens_from(open(path)?, path, format, columns)
}

/// As [`read_tokens`], from any reader; `name` stands for the path in messages.
///
/// # Errors
/// As [`read_tokens`].
pub fn read_tokens_from(
    reader: impl Read,
    name: &Path,
    format: FileFormat,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    let lines = Lines::new(BufReader::new(reader), name);
    let examples = match format {
        FileFormat::Conll => conll::read(lines, columns),
        FileFormat::Jsonl => jsonl::read_tokens(lines, columns),
        FileFormat::Csv | FileFormat::Tsv => Err(DataError::UnsupportedFormat {
            path: name.to_path_buf(),
            format: format.name(),
            expected: "words with tags",
        }),
    }?;
    not_empty(examples, name)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => DataError::NotFound {
            path: path.to_path_buf(),
        },
        _ => DataError::Read {
            path: path.to_path_buf(),
            source,
        },
    })
}

fn not_empty<T>(examples: Vec<T>, path: &Path) -> Result<Vec<T>> {
    if examples.is_empty() {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(examples)
}

/// The value, unless it is empty or white space.
fn required<'a>(value: &'a str, what: &'static str, path: &Path, line: usize) -> Result<&'a str> {
    if value.trim().is_empty() {
        return Err(DataError::EmptyField {
            path: path.to_path_buf(),
            line,
            what,
        });
    }
    Ok(value)
}

/// The name that a label in a file stands for. A label that is itself a name wins over its value
/// as an integer: where classes are named `1` to `4`, the label `1` is the class `1`.
fn resolve_label(
    label: &str,
    names: Option<&[String]>,
    path: &Path,
    line: usize,
) -> Result<String> {
    let label = required(label, "label", path, line)?.trim();
    let Some(names) = names else {
        return Ok(label.to_string());
    };
    if names.iter().any(|name| name == label) {
        return Ok(label.to_string());
    }
    let Ok(index) = label.parse::<i64>() else {
        return Err(unknown_label(label, names, path, line));
    };
    usize::try_from(index)
        .ok()
        .and_then(|i| names.get(i))
        .cloned()
        .ok_or_else(|| DataError::LabelIndex {
            path: path.to_path_buf(),
            line,
            index,
            count: names.len(),
        })
}

/// serde_json's message without the place, which the error carries in fields of its own.
pub(crate) fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_string(),
        None => message,
    }
}

/// Removes a byte order mark at the start of a reader.
fn skip_bom(reader: &mut impl BufRead, path: &Path) -> Result<()> {
    let start = reader.fill_buf().map_err(|source| DataError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

//! Files to examples: formats, columns, and one entry point per kind of example.
//!
//! Every reader takes a path or any [`Read`] with a name for messages, so that standard input
//! works like a file. Rows are streamed: memory is bounded by the longest of them, whatever the size
//! of the file. A bad row is an error that says `path:line`, what was found and what was expected,
//! and reading goes on behind it; no reader drops or repairs a row in silence.

mod bad_rows;
mod conll;
mod conll2012;
mod csv;
mod fasttext;
mod jsonl;
mod label_json;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod stream;
mod trees;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ls_files::FileError;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, unknown_label};
use crate::example::{SequenceExample, TokenExample};
use lines::Lines;

pub use bad_rows::{BadRows, SkippedRows, for_each_row};
pub use label_json::read_label_json;
pub use stream::{ReadSpec, SequenceReader, TokenReader};

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
    /// The columns of CoNLL 2012 (`*_gold_conll`): the word is column 3, names are in brackets in
    /// column 10 and become IOB2 tags.
    Conll2012,
    /// A table with columns by type, as on the Hugging Face Hub. Needs the feature `parquet`.
    Parquet,
    /// Lines of fastText: `__label__` with the label, then the text.
    FastText,
    /// Trees of the Stanford Sentiment Treebank, one a line; the label is that of the root.
    Trees,
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
            Some("parquet") => Ok(Self::Parquet),
            Some("ft") => Ok(Self::FastText),
            Some(other) if other.ends_with("gold_conll") => Ok(Self::Conll2012),
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
            Self::Conll2012 => "conll2012",
            Self::Parquet => "parquet",
            Self::FastText => "fasttext",
            Self::Trees => "trees",
        }
    }

    /// The format of this name, as in configs.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Csv,
        Self::Tsv,
        Self::Jsonl,
        Self::Conll,
        Self::Conll2012,
        Self::Parquet,
        Self::FastText,
        Self::Trees,
    ];
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
    /// Columns whose text is put behind that of `text`, in this order: a description behind its
    /// title. They may be empty.
    pub append: Vec<ColumnRef>,
    /// What stands between texts that are put together.
    pub separator: String,
    /// Whether backslashes in texts become spaces. The original files of AG News have a backslash
    /// where their source had a line break; the texts on the Hub have it still, so it stays unless
    /// this is asked for.
    pub backslash_is_space: bool,
    /// The second text of a pair.
    pub text_pair: Option<ColumnRef>,
    /// The label; `None` reads examples without labels and needs no such column.
    pub label: Option<ColumnRef>,
    /// Names of integer labels: `i` becomes the `i`-th name. `None` leaves labels as they are.
    pub label_map: Option<Vec<String>>,
    /// The integer of the first name: 1 where classes count from 1.
    pub first_label: i64,
    /// Whether examples of JSON files keep their whole object, so that predictions can be written
    /// with its other fields. Without, only the wanted keys are parsed, which is faster.
    pub keep_extra: bool,
}

impl Default for SequenceColumns {
    fn default() -> Self {
        Self {
            text: "text".into(),
            append: Vec::new(),
            separator: " ".to_string(),
            backslash_is_space: false,
            text_pair: None,
            label: Some("label".into()),
            label_map: None,
            first_label: 0,
            keep_extra: true,
        }
    }
}

impl SequenceColumns {
    /// The columns of the text, in their order.
    fn texts(&self) -> impl Iterator<Item = &ColumnRef> {
        std::iter::once(&self.text).chain(&self.append)
    }

    fn text_rule(&self) -> TextRule {
        TextRule {
            separator: self.separator.clone(),
            backslash_is_space: self.backslash_is_space,
        }
    }
}

/// How the texts of one or more columns become one.
struct TextRule {
    separator: String,
    backslash_is_space: bool,
}

impl TextRule {
    fn text(&self, parts: impl IntoIterator<Item = String>, place: Place<'_>) -> Result<String> {
        let mut parts = parts.into_iter();
        let mut text = parts.next().unwrap_or_default();
        for part in parts {
            text.push_str(&self.separator);
            text.push_str(&part);
        }
        if self.backslash_is_space && text.contains('\\') {
            text = text.replace('\\', " ");
        }
        place.required(&text, "text")?;
        Ok(text)
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
    /// As [`SequenceColumns::keep_extra`].
    pub keep_extra: bool,
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
            keep_extra: true,
        }
    }
}

/// Where tags are looked for if no key is given: the first that is there.
const DEFAULT_TAGS: [&str; 2] = ["tags", "ner_tags"];

impl TokenColumns {
    /// Words and tags at these places: a number is a column of CoNLL files, a name a key of JSON or a column of Parquet.
    pub fn at(tokens: Option<&ColumnRef>, tags: Option<&ColumnRef>) -> Self {
        let mut columns = Self::default();
        match tokens {
            Some(ColumnRef::Index(column)) => columns.token = *column,
            Some(ColumnRef::Name(key)) => columns.tokens_key = key.clone(),
            None => {}
        }
        match tags {
            Some(ColumnRef::Index(column)) => columns.tag = Some(*column),
            Some(ColumnRef::Name(key)) => columns.tags_key = Some(key.clone()),
            None => {}
        }
        columns
    }

    /// The key of the tags in an object or table whose keys `has` knows.
    fn tags_key_among(&self, has: impl Fn(&str) -> bool) -> &str {
        match &self.tags_key {
            Some(key) => key,
            None => DEFAULT_TAGS
                .into_iter()
                .find(|key| has(key))
                .unwrap_or(DEFAULT_TAGS[0]),
        }
    }
}

/// Reads labelled or plain texts from a file into memory; [`ReadSpec::read_sequence`] streams them.
///
/// `header` says whether the first row of a CSV or TSV file names its columns; without one,
/// columns are indices. `label_names` takes precedence over `columns.label_map`: an integer label
/// becomes the name at that position, a label that is a name stays, anything else is an error.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`]; a file without examples is one.
/// Several bad rows are one [`DataError::BadRows`].
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
    reader: impl Read,
    name: &Path,
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    label_names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let spec = sequence_spec(format, header, columns, label_names);
    collect(stream::sequence_rows(&spec, reader, name)?, name)
}

/// Reads plain text, one example per line, without labels.
///
/// # Errors
/// A blank line (it would be an input without an output), bytes that are not UTF-8, no lines.
pub fn read_lines_from(reader: impl Read, name: &Path) -> Result<Vec<SequenceExample>> {
    collect(line_rows(reader, name), name)
}

/// As [`read_lines_from`], one at a time.
pub fn line_reader(
    reader: impl Read + Send + 'static,
    name: &Path,
) -> impl Iterator<Item = Result<SequenceExample>> + Send + 'static {
    line_rows(reader, name)
}

fn line_rows<R: Read>(
    reader: R,
    name: &Path,
) -> impl Iterator<Item = Result<SequenceExample>> + use<R> {
    let mut lines = Lines::new(BufReader::new(reader), name);
    std::iter::from_fn(move || {
        lines.find_map(|line| {
            Ok(Some(SequenceExample {
                text: line.place.required(line.text, "text")?.to_string(),
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
/// Each way a file can be wrong is a variant of [`DataError`]; a file without examples is one.
/// Several bad rows are one [`DataError::BadRows`].
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
    reader: impl Read,
    name: &Path,
    format: FileFormat,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    let spec = token_spec(format, columns);
    collect(stream::token_rows(&spec, reader, name)?, name)
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

fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).map_err(FileError::reading(path))?)
}

/// Longest row, in bytes. What is longer is no text with a label but a file without line ends, or
/// one whose quotes do not match; without a limit it would be read into memory whole.
const MAX_ROW: usize = 16 << 20;

/// What some editors put before the text of a file. It may come in several reads, and more than once
/// where files were joined.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where a row stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    /// From 1.
    line: usize,
}

impl Place<'_> {
    /// The value, unless it is empty or white space.
    fn required<'v>(self, value: &'v str, what: &'static str) -> Result<&'v str> {
        match value.trim().is_empty() {
            true => Err(self.empty(what)),
            false => Ok(value),
        }
    }

    fn empty(self, what: &'static str) -> DataError {
        DataError::EmptyField {
            path: self.path.to_path_buf(),
            line: self.line,
            what,
        }
    }

    fn same_length(self, tokens: &[String], tags: Option<&[String]>) -> Result<()> {
        match tags {
            Some(tags) if tags.len() != tokens.len() => Err(DataError::TokenTagCount {
                path: self.path.to_path_buf(),
                line: self.line,
                tokens: tokens.len(),
                tags: tags.len(),
            }),
            _ => Ok(()),
        }
    }
}

/// What the labels in a file stand for.
struct Labels {
    names: Option<Vec<String>>,
    /// The integer of the first name.
    first: i64,
}

impl Labels {
    /// Whether integers have names.
    fn named(&self) -> bool {
        self.names.is_some()
    }

    /// The name that a label stands for. A label that is itself a name wins over its value as an
    /// integer: where classes are named `1` to `4`, the label `1` is the class `1`.
    fn resolve(&self, label: &str, place: Place<'_>) -> Result<String> {
        let label = place.required(label, "label")?.trim();
        let Some(names) = &self.names else {
            return Ok(label.to_string());
        };
        if names.iter().any(|name| name == label) {
            return Ok(label.to_string());
        }
        let Ok(index) = label.parse::<i64>() else {
            return Err(unknown_label(label, names, place.path, place.line));
        };
        index
            .checked_sub(self.first)
            .and_then(|i| names.get(usize::try_from(i).ok()?))
            .cloned()
            .ok_or_else(|| DataError::LabelIndex {
                path: place.path.to_path_buf(),
                line: place.line,
                index,
                first: self.first,
                count: names.len(),
            })
    }

    /// The name that an integer stands for; `key` is where it stands.
    fn resolve_integer(&self, index: i64, key: &str, place: Place<'_>) -> Result<String> {
        match self.named() {
            true => self.resolve(&index.to_string(), place),
            false => Err(DataError::NamesNeeded {
                path: place.path.to_path_buf(),
                line: place.line,
                key: key.to_string(),
            }),
        }
    }

    /// A label that is a name already, whatever it looks like.
    #[cfg(feature = "parquet")]
    fn resolve_name(&self, name: &str, place: Place<'_>) -> Result<String> {
        let name = place.required(name, "label")?;
        match &self.names {
            Some(names) if !names.iter().any(|known| known == name) => {
                Err(unknown_label(name, names, place.path, place.line))
            }
            _ => Ok(name.to_string()),
        }
    }
}

//! Files and readers to streams of examples.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::columns::{FileFormat, SequenceColumns, TokenColumns};
use super::delimiter::Delimiter;
use super::encoding::TextEncoding;
use super::lines::{LineRows, Lines};
use super::position::Position;
use super::row::Labels;
use super::source::{Source, open, source};
use super::spans::SpanRepairs;
use super::turned_down::TurnedDown;
use super::{conll, conll2012, csv, fasttext, jsonl, label_json, trees};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::scheme::TagScheme;
use crate::text_label::LabelKind;

/// Everything that is needed to read a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadSpec {
    /// How the file is written.
    pub format: FileFormat,
    /// Whether the first row of a CSV or TSV file names its columns.
    pub header: bool,
    /// What parts the fields of a CSV file; `None` finds it from the first rows.
    pub delimiter: Option<Delimiter>,
    /// How the text is encoded; `None` is UTF-8, or UTF-16 behind its byte order mark.
    pub encoding: Option<TextEncoding>,
    /// Where the parts of a sequence example stand.
    pub sequence: SequenceColumns,
    /// Where the parts of a token example stand.
    pub tokens: TokenColumns,
    /// Names of integer labels or tags. They take precedence over those of the columns.
    pub label_names: Option<Vec<String>>,
    /// Scheme of the tags in the file, if it is known. Tags are not converted.
    pub scheme: Option<TagScheme>,
}

impl ReadSpec {
    /// A file with a header, if its format has one, and the default columns.
    pub fn new(format: FileFormat) -> Self {
        Self {
            format,
            header: true,
            delimiter: None,
            encoding: None,
            sequence: SequenceColumns::default(),
            tokens: TokenColumns::default(),
            label_names: None,
            scheme: None,
        }
    }

    /// Opens a file of texts.
    ///
    /// # Errors
    /// A file that cannot be opened, a format that holds no texts, columns that it cannot have.
    pub fn read_sequence(&self, path: &Path) -> Result<SequenceReader> {
        if self.format == FileFormat::Parquet {
            let (rows, position) = parquet_sequence(self, path)?;
            return Ok(SequenceReader {
                rows,
                turned_down: TurnedDown::default(),
                position,
            });
        }
        self.read_sequence_from(open(path)?, path)
    }

    /// As [`ReadSpec::read_sequence`], from any reader; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`ReadSpec::read_sequence`].
    pub fn read_sequence_from(
        &self,
        reader: impl Read + Send + 'static,
        name: &Path,
    ) -> Result<SequenceReader> {
        let (turned_down, position): (TurnedDown, Position) = Default::default();
        let source = source(position.of(reader), self.encoding);
        let rows = sequence_rows(self, source, name, &turned_down)?;
        Ok(SequenceReader {
            rows,
            turned_down,
            position,
        })
    }

    /// Opens a file of word lists. Integer tags of a JSON file without names take those of a
    /// `label.json` beside it, see [`read_label_json`](super::read_label_json).
    ///
    /// # Errors
    /// A file that cannot be opened, a format that holds no word lists.
    pub fn read_tokens(&self, path: &Path) -> Result<TokenReader> {
        match self.format {
            FileFormat::Parquet => {
                let (rows, position) = parquet_tokens(self, path)?;
                Ok(TokenReader {
                    rows,
                    repairs: SpanRepairs::default(),
                    turned_down: TurnedDown::default(),
                    position,
                })
            }
            FileFormat::Jsonl if !self.token_labels().named() => {
                let spec = Self {
                    label_names: label_json::beside(path)?,
                    ..self.clone()
                };
                spec.read_tokens_from(open(path)?, path)
            }
            _ => self.read_tokens_from(open(path)?, path),
        }
    }

    /// As [`ReadSpec::read_tokens`], from any reader; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`ReadSpec::read_tokens`].
    pub fn read_tokens_from(
        &self,
        reader: impl Read + Send + 'static,
        name: &Path,
    ) -> Result<TokenReader> {
        let (repairs, turned_down) = Default::default();
        let position = Position::default();
        let source = source(position.of(reader), self.encoding);
        let rows = token_rows(self, source, name, &repairs, &turned_down)?;
        Ok(TokenReader {
            rows,
            repairs,
            turned_down,
            position,
        })
    }

    fn sequence_labels(&self) -> Labels {
        let names = self
            .label_names
            .as_ref()
            .or(self.sequence.label_map.as_ref());
        Labels {
            kind: self.sequence.label_kind,
            delimiter: self.sequence.label_delimiter.clone(),
            names: names.cloned(),
            first: self.sequence.first_label,
        }
    }

    fn token_labels(&self) -> Labels {
        let names = self
            .label_names
            .as_ref()
            .or(self.tokens.label_names.as_ref());
        Labels {
            kind: LabelKind::Class,
            delimiter: None,
            names: names.cloned(),
            first: 0,
        }
    }

    fn unsupported(&self, path: &Path, expected: &'static str) -> DataError {
        DataError::UnsupportedFormat {
            path: path.to_path_buf(),
            format: self.format.name(),
            expected,
        }
    }
}

type Rows<'a, T> = Box<dyn Iterator<Item = Result<T>> + Send + 'a>;

/// Texts, one after the other.
///
/// A row that cannot be used is an error for which [`DataError::is_row`] holds, and the next row
/// comes behind it; any other error is the last item.
pub struct SequenceReader {
    rows: Rows<'static, SequenceExample>,
    turned_down: TurnedDown,
    position: Position,
}

impl SequenceReader {
    /// How much of the file is read.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// How many rows are passed over while they are read, because their annotator turned them down.
    pub fn turned_down(&self) -> TurnedDown {
        self.turned_down.clone()
    }
}

impl Iterator for SequenceReader {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Word lists, one after the other; errors as in [`SequenceReader`].
pub struct TokenReader {
    rows: Rows<'static, TokenExample>,
    repairs: SpanRepairs,
    turned_down: TurnedDown,
    position: Position,
}

impl TokenReader {
    /// As [`SequenceReader::position`].
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// As [`SequenceReader::turned_down`].
    pub fn turned_down(&self) -> TurnedDown {
        self.turned_down.clone()
    }

    /// What is done to spans while the rows are read.
    pub fn repairs(&self) -> SpanRepairs {
        self.repairs.clone()
    }
}

impl Iterator for TokenReader {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Rows that end behind an error of the whole file.
struct UntilBroken<I> {
    rows: I,
    broken: bool,
}

fn until_broken<I>(rows: I) -> UntilBroken<I> {
    UntilBroken {
        rows,
        broken: false,
    }
}

impl<T, I: Iterator<Item = Result<T>>> Iterator for UntilBroken<I> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let row = self.rows.next();
        self.broken = match &row {
            Some(Err(error)) => !error.is_row(),
            Some(Ok(_)) => false,
            None => true,
        };
        row
    }
}

/// The texts of a reader, which may be borrowed.
pub(super) fn sequence_rows<'a>(
    spec: &ReadSpec,
    reader: Source<'a>,
    name: &Path,
    turned_down: &TurnedDown,
) -> Result<Rows<'a, SequenceExample>> {
    let columns = &spec.sequence;
    let labels = spec.sequence_labels();
    let table = |labels| csv::Table::new(spec.header, columns.clone(), labels);
    let lines = |reader| Lines::new(reader, name);
    let rows: Rows<'a, SequenceExample> = match spec.format {
        FileFormat::Csv => Box::new(csv::CsvRows::new(
            reader,
            name,
            spec.delimiter,
            table(labels),
        )?),
        FileFormat::Tsv => Box::new(csv::TsvRows::new(lines(reader), table(labels))),
        FileFormat::Jsonl => {
            let turned_down = turned_down.clone();
            Box::new(jsonl::SequenceRows::new(
                reader,
                name,
                columns,
                labels,
                turned_down,
            )?)
        }
        FileFormat::FastText | FileFormat::Trees => Box::new(LineRows {
            lines: lines(reader),
            labels,
            labelled: columns.label.is_some(),
            row: match spec.format {
                FileFormat::FastText => fasttext::row,
                _ => trees::row,
            },
        }),
        FileFormat::Parquet => return Err(parquet_stream(name)),
        FileFormat::Conll | FileFormat::Conll2012 => {
            return Err(spec.unsupported(name, "texts with labels"));
        }
    };
    Ok(Box::new(until_broken(rows)))
}

/// The word lists of a reader, which may be borrowed.
pub(super) fn token_rows<'a>(
    spec: &ReadSpec,
    reader: Source<'a>,
    name: &Path,
    repairs: &SpanRepairs,
    turned_down: &TurnedDown,
) -> Result<Rows<'a, TokenExample>> {
    let columns = spec.tokens.clone();
    let labels = spec.token_labels();
    let rows: Rows<'a, TokenExample> = match spec.format {
        FileFormat::Conll => Box::new(conll::Sentences::new(reader, name, &columns, labels)?),
        FileFormat::Conll2012 => {
            let lines = Lines::new(reader, name);
            Box::new(conll2012::Sentences::new(lines, columns, labels))
        }
        FileFormat::Jsonl => {
            let seen = (repairs.clone(), turned_down.clone());
            Box::new(jsonl::TokenRows::new(reader, name, columns, labels, seen)?)
        }
        FileFormat::Parquet => return Err(parquet_stream(name)),
        FileFormat::Csv | FileFormat::Tsv | FileFormat::FastText | FileFormat::Trees => {
            return Err(spec.unsupported(name, "words with tags"));
        }
    };
    Ok(Box::new(until_broken(rows)))
}

/// What is said of Parquet from a stream: its index stands at its end.
fn parquet_stream(name: &Path) -> DataError {
    let path = name.to_path_buf();
    if cfg!(feature = "parquet") {
        DataError::ParquetStream { path }
    } else {
        DataError::NoParquet { path }
    }
}

/// Rows of a file, and how far it is read.
type Placed<T> = (Rows<'static, T>, Position);

#[cfg(feature = "parquet")]
fn parquet_sequence(spec: &ReadSpec, path: &Path) -> Result<Placed<SequenceExample>> {
    use super::parquet::SequenceRows;
    let labels = spec.sequence_labels();
    let rows = SequenceRows::open(open(path)?, path, &spec.sequence, labels)?;
    let position = rows.position();
    Ok((Box::new(until_broken(rows)), position))
}

#[cfg(feature = "parquet")]
fn parquet_tokens(spec: &ReadSpec, path: &Path) -> Result<Placed<TokenExample>> {
    use super::parquet::TokenRows;
    let labels = spec.token_labels();
    let rows = TokenRows::open(open(path)?, path, &spec.tokens, labels)?;
    let position = rows.position();
    Ok((Box::new(until_broken(rows)), position))
}

#[cfg(not(feature = "parquet"))]
fn parquet_sequence(_: &ReadSpec, path: &Path) -> Result<Placed<SequenceExample>> {
    Err(parquet_stream(path))
}

#[cfg(not(feature = "parquet"))]
fn parquet_tokens(_: &ReadSpec, path: &Path) -> Result<Placed<TokenExample>> {
    Err(parquet_stream(path))
}

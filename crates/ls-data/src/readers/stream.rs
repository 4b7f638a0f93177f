//! Files and readers to streams of examples.

use std::io::{BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{FileFormat, Labels, SequenceColumns, TokenColumns, conll, csv, jsonl, open};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::scheme::TagScheme;

/// Everything that is needed to read a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadSpec {
    /// How the file is written.
    pub format: FileFormat,
    /// Whether the first row of a CSV or TSV file names its columns.
    pub header: bool,
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
        let rows = Box::new(sequence_rows(self, reader, name)?);
        Ok(SequenceReader { rows })
    }

    /// Opens a file of word lists.
    ///
    /// # Errors
    /// A file that cannot be opened, a format that holds no word lists.
    pub fn read_tokens(&self, path: &Path) -> Result<TokenReader> {
        self.read_tokens_from(open(path)?, path)
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
        let rows = Box::new(token_rows(self, reader, name)?);
        Ok(TokenReader { rows })
    }

    fn labels(&self, of_columns: &Option<Vec<String>>) -> Labels {
        Labels {
            names: self.label_names.clone().or_else(|| of_columns.clone()),
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

/// Texts, one after the other.
///
/// A row that cannot be used is an error for which [`DataError::is_row`] holds, and the next row
/// comes behind it; any other error is the last item.
pub struct SequenceReader {
    rows: Box<dyn Iterator<Item = Result<SequenceExample>> + Send>,
}

impl Iterator for SequenceReader {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Word lists, one after the other; errors as in [`SequenceReader`].
pub struct TokenReader {
    rows: Box<dyn Iterator<Item = Result<TokenExample>> + Send>,
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

enum SequenceRows<R> {
    Csv(csv::CsvRows<R>),
    Tsv(csv::TsvRows<R>),
    Jsonl(jsonl::SequenceRows<R>),
}

impl<R: std::io::BufRead> Iterator for SequenceRows<R> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Tsv(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
        }
    }
}

/// The texts of a reader, which may be borrowed and need not be sendable.
pub(super) fn sequence_rows<R: Read>(
    spec: &ReadSpec,
    reader: R,
    name: &Path,
) -> Result<impl Iterator<Item = Result<SequenceExample>> + use<R>> {
    let reader = BufReader::new(reader);
    let labels = spec.labels(&spec.sequence.label_map);
    let table = |labels| csv::Table::new(spec.header, spec.sequence.clone(), labels);
    let rows = match spec.format {
        FileFormat::Csv => SequenceRows::Csv(csv::CsvRows::new(reader, name, table(labels))?),
        FileFormat::Tsv => {
            SequenceRows::Tsv(csv::TsvRows::new(Lines::new(reader, name), table(labels)))
        }
        FileFormat::Jsonl => {
            let lines = Lines::new(reader, name);
            SequenceRows::Jsonl(jsonl::SequenceRows::new(lines, &spec.sequence, labels)?)
        }
        FileFormat::Conll => return Err(spec.unsupported(name, "texts with labels")),
    };
    Ok(until_broken(rows))
}

enum TokenRows<R> {
    Conll(conll::Sentences<R>),
    Jsonl(jsonl::TokenRows<R>),
}

impl<R: std::io::BufRead> Iterator for TokenRows<R> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Conll(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
        }
    }
}

/// The word lists of a reader, which may be borrowed and need not be sendable.
pub(super) fn token_rows<R: Read>(
    spec: &ReadSpec,
    reader: R,
    name: &Path,
) -> Result<impl Iterator<Item = Result<TokenExample>> + use<R>> {
    let lines = Lines::new(BufReader::new(reader), name);
    let columns = spec.tokens.clone();
    let labels = spec.labels(&columns.label_names);
    let rows = match spec.format {
        FileFormat::Conll => TokenRows::Conll(conll::Sentences::new(lines, columns, labels)),
        FileFormat::Jsonl => TokenRows::Jsonl(jsonl::TokenRows::new(lines, columns, labels)),
        FileFormat::Csv | FileFormat::Tsv => {
            return Err(spec.unsupported(name, "words with tags"));
        }
    };
    Ok(until_broken(rows))
}

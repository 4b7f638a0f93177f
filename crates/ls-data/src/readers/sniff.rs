//! What a file holds as far as its beginning shows: its format, and its columns or keys.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::beginning::first_word;
use super::columns::{Column, ColumnRef, FileFormat, Holds, TokenColumns};
use super::delimiter::{Delimiter, Parted, Wanted, parted, trimmed};
use super::encoding::TextEncoding;
use super::json_list::{Kind, Objects};
use super::lines::Lines;
use super::row::MAX_ROW;
use super::source::{Source, open, reading, source};
use super::spans;
use super::usual_names::{PAIRS, TEXT, TOKENS, same};
use crate::error::{DataError, Result};
use crate::task::TaskKind;

/// Rows that are looked at.
const ROWS: usize = 100;
/// What the first line of a fastText file begins with.
const FASTTEXT: &str = "__label__";

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Sniffed {
    /// Its format.
    pub format: FileFormat,
    /// Its columns or keys, in the order in which they come; none where the format has no choice.
    pub columns: Vec<Column>,
    /// What parts the fields of a CSV file, said or found.
    pub delimiter: Option<Delimiter>,
}

impl Sniffed {
    /// The columns, for messages.
    pub fn names(&self) -> Vec<String> {
        self.columns
            .iter()
            .map(|column| column.at.to_string())
            .collect()
    }
}

/// What is known of a file beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SniffOptions<'a> {
    /// Its format; without, that of its ending.
    pub format: Option<FileFormat>,
    /// Whether the first row of a table names its columns; without, they are numbers.
    pub header: bool,
    /// What parts the fields of a CSV file.
    pub delimiter: Option<Delimiter>,
    /// Columns that it must have, which show what parts the fields of a CSV file.
    pub columns: &'a [ColumnRef],
    /// How it is encoded.
    pub encoding: Option<TextEncoding>,
    /// What is labelled.
    pub task: Option<TaskKind>,
}

impl Default for SniffOptions<'_> {
    fn default() -> Self {
        Self {
            format: None,
            header: true,
            delimiter: None,
            columns: &[],
            encoding: None,
            task: None,
        }
    }
}

/// Reads the beginning of a file. The format is that of the file's ending unless it is given; a
/// `.txt` may be fastText or trees, and a `.tsv` of sentences that blank lines part is CoNLL.
///
/// # Errors
/// The file cannot be read, its ending is unknown, or its beginning is not of its format.
pub fn sniff(path: &Path, options: &SniffOptions<'_>) -> Result<Sniffed> {
    let SniffOptions { header, task, .. } = *options;
    let file = Beginning {
        path,
        encoding: options.encoding,
    };
    let format = match options.format {
        Some(format) => format,
        None => match FileFormat::from_path(path)? {
            FileFormat::Conll => file.text_format()?,
            FileFormat::Tsv if task != Some(TaskKind::Sequence) => file.table_of_words(task)?,
            format => format,
        },
    };
    let one = |at: ColumnRef| Column {
        at,
        holds: Holds::One,
    };
    let mut delimiter = None;
    let columns = match format {
        FileFormat::Csv | FileFormat::Tsv => {
            let (first, rest) = if format == FileFormat::Tsv {
                file.first_rows_of_tsv()?
            } else {
                let wanted = Wanted {
                    header,
                    columns: options.columns.iter().collect(),
                };
                let (parts, rows) = file.first_rows(options.delimiter, &wanted)?;
                delimiter = Some(parts);
                rows
            };
            let values = rest.iter().chain((!header).then_some(&first));
            let column = |(at, name): (usize, &String)| Column {
                at: if header {
                    ColumnRef::Name(name.clone())
                } else {
                    ColumnRef::Index(at)
                },
                holds: held(values.clone().filter_map(|row| row.get(at))),
            };
            first.iter().enumerate().map(column).collect()
        }
        FileFormat::Jsonl => file.keys()?,
        FileFormat::Conll => {
            let width = file.width()?;
            (0..width).map(|at| one(ColumnRef::Index(at))).collect()
        }
        FileFormat::Parquet => parquet_columns(path)?,
        FileFormat::Conll2012 | FileFormat::FastText | FileFormat::Trees => Vec::new(),
    };
    Ok(Sniffed {
        format,
        columns,
        delimiter,
    })
}

/// The fields of the first row of a table, and those of some rows behind it.
type FirstRows = (Vec<String>, Vec<Vec<String>>);

/// A file of which the beginning is read.
struct Beginning<'a> {
    path: &'a Path,
    encoding: Option<TextEncoding>,
}

impl Beginning<'_> {
    fn source(&self) -> Result<Source<'static>> {
        Ok(source(open(self.path)?, self.encoding))
    }

    fn lines(&self) -> Result<Lines<'static>> {
        Ok(Lines::new(self.source()?, self.path))
    }

    /// The first lines.
    fn first_lines(&self) -> Result<Vec<String>> {
        let mut lines = self.lines()?;
        let mut first = Vec::new();
        while first.len() < ROWS {
            match lines.next() {
                Some(line) => first.push(line?.text.to_string()),
                None => break,
            }
        }
        Ok(first)
    }

    fn empty(&self) -> DataError {
        DataError::Empty {
            path: self.path.to_path_buf(),
        }
    }

    /// What a file of text is that no ending tells.
    fn text_format(&self) -> Result<FileFormat> {
        let lines = self.first_lines()?;
        let first = lines.iter().find(|line| !line.trim().is_empty());
        let first = first.ok_or_else(|| self.empty())?.trim_start();
        let is_tree = first
            .strip_prefix('(')
            .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        Ok(if first.starts_with(FASTTEXT) {
            FileFormat::FastText
        } else if is_tree {
            FileFormat::Trees
        } else {
            FileFormat::Conll
        })
    }

    /// A `.tsv` of words, one a line: if words are to be tagged, or if blank lines stand between
    /// its rows.
    fn table_of_words(&self, task: Option<TaskKind>) -> Result<FileFormat> {
        let lines = self.first_lines()?;
        let last = lines.iter().rposition(|line| !line.trim().is_empty());
        let inside = &lines[..last.unwrap_or_default()];
        let parted = inside.iter().any(|line| line.trim().is_empty());
        Ok(if parted || task == Some(TaskKind::Token) {
            FileFormat::Conll
        } else {
            FileFormat::Tsv
        })
    }

    /// The fields of the first row of a TSV file, and those of the rows behind it.
    fn first_rows_of_tsv(&self) -> Result<FirstRows> {
        let fields = |text: &str| -> Vec<String> {
            let fields = text.split('\t');
            fields.map(|field| field.trim().to_string()).collect()
        };
        let mut lines = self.lines()?;
        let first = lines.map_row(|line| Ok(fields(line.text)));
        let first = first.ok_or_else(|| self.empty())??;
        let mut rest = Vec::new();
        // One that cannot be read is told of by whoever reads them all.
        while rest.len() < ROWS
            && let Some(Ok(line)) = lines.next()
        {
            rest.push(fields(line.text));
        }
        Ok((first, rest))
    }

    /// What parts the fields of a CSV file, those of its first row, and those of the rows behind
    /// it.
    fn first_rows(
        &self,
        given: Option<Delimiter>,
        wanted: &Wanted<'_>,
    ) -> Result<(Delimiter, FirstRows)> {
        let Parted {
            delimiter, source, ..
        } = parted(self.source()?, self.path, given, wanted)?;
        let mut rows = delimiter.rows(source.take(MAX_ROW as u64));
        let first = rows.next().ok_or_else(|| self.empty())?;
        let first = trimmed(&first.map_err(reading(self.path))?);
        let rest = rows.take(ROWS).map_while(|row| Some(trimmed(&row.ok()?)));
        Ok((delimiter, (first, rest.collect())))
    }

    /// The keys of the first objects, and what stands under each where it is not null.
    fn keys(&self) -> Result<Vec<Column>> {
        let of_example = |key: &str, kind: Kind| {
            let usual = TEXT.iter().chain(PAIRS.iter().flatten()).chain(&TOKENS);
            match kind {
                Kind::Objects => false,
                Kind::Object => key == spans::DATA,
                Kind::List | Kind::Scalar => usual.into_iter().any(|usual| same(key, usual)),
            }
        };
        let mut objects = Objects::new(self.source()?, self.path, &of_example)?;
        let pairs = TokenColumns::default();
        let mut found: Vec<(String, Option<Holds>)> = Vec::new();
        let mut empty = HashSet::new();
        for _ in 0..ROWS {
            let Some(row) = objects.map_row(|line| spans::object(line, &pairs)) else {
                break;
            };
            let row: Map<String, Value> = row?;
            for (key, value) in row {
                let holds = holds(&value);
                if value.as_array().is_some_and(Vec::is_empty) {
                    empty.insert(key.clone());
                }
                match found.iter_mut().find(|(name, _)| *name == key) {
                    // Numbers of which only a later one is a fraction.
                    Some((_, Some(known))) if holds == Some(Holds::Number) => {
                        *known = Holds::Number;
                    }
                    Some((_, known)) => *known = known.or(holds),
                    None => found.push((key, holds)),
                }
            }
        }
        if found.is_empty() {
            return Err(self.empty());
        }
        let column = |(name, holds): (String, Option<Holds>)| {
            // Lists that are all empty are of texts without spans.
            let spans = spans::SPANS.contains(&name.as_str()) || name == spans::ANNOTATIONS;
            let of_empty = if spans && empty.contains(&name) {
                Holds::Spans
            } else {
                Holds::Other
            };
            Column {
                at: ColumnRef::Name(name),
                holds: holds.unwrap_or(of_empty),
            }
        };
        Ok(found.into_iter().map(column).collect())
    }

    /// Columns of the first word of a CoNLL file; none where the words are numbered.
    fn width(&self) -> Result<usize> {
        let (width, numbered) = first_word(self.source()?, self.path)?;
        Ok(if numbered { 0 } else { width })
    }
}

/// What the fields of a column are: texts, or numbers of which one is a fraction. What is blank
/// says nothing.
fn held<'a>(fields: impl Iterator<Item = &'a String>) -> Holds {
    let mut is_fraction = false;
    for field in fields.filter(|field| !field.is_empty()) {
        match field.parse::<f64>() {
            Ok(number) if number.is_finite() => is_fraction |= number.fract() != 0.0,
            _ => return Holds::One,
        }
    }
    if is_fraction {
        Holds::Number
    } else {
        Holds::One
    }
}

/// What a value is, if it shows.
fn holds(value: &Value) -> Option<Holds> {
    match value {
        Value::Null => None,
        Value::String(_) => Some(Holds::One),
        Value::Number(number) if number.is_i64() => Some(Holds::One),
        Value::Number(number) if number.is_f64() => Some(Holds::Number),
        Value::Array(list) => match list.first() {
            None => None,
            Some(Value::String(_)) => Some(Holds::List),
            Some(Value::Number(number)) if number.is_i64() => Some(Holds::List),
            Some(Value::Object(_) | Value::Array(_)) => Some(Holds::Spans),
            Some(_) => Some(Holds::Other),
        },
        _ => Some(Holds::Other),
    }
}

#[cfg(feature = "parquet")]
fn parquet_columns(path: &Path) -> Result<Vec<Column>> {
    super::parquet::columns(open(path)?, path)
}

#[cfg(not(feature = "parquet"))]
fn parquet_columns(path: &Path) -> Result<Vec<Column>> {
    Err(DataError::NoParquet {
        path: path.to_path_buf(),
    })
}

//! What a file holds as far as its beginning shows: its format, and its columns or keys.

use std::io::{BufRead, Read};
use std::path::Path;

use ls_files::utf8;
use serde_json::{Map, Value};

use super::columns::{Column, ColumnRef, FileFormat, Holds};
use super::lines::Lines;
use super::source::{Source, open, source};
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

/// Reads the beginning of a file. The format is that of the file's ending unless it is given; a
/// `.txt` may be fastText or trees, and a `.tsv` of sentences that blank lines part is CoNLL.
/// Without a header the columns are numbers.
///
/// # Errors
/// The file cannot be read, its ending is unknown, or its beginning is not of its format.
pub fn sniff(
    path: &Path,
    format: Option<FileFormat>,
    header: bool,
    task: Option<TaskKind>,
) -> Result<Sniffed> {
    let format = match format {
        Some(format) => format,
        None => match FileFormat::from_path(path)? {
            FileFormat::Conll => text_format(path)?,
            FileFormat::Tsv if task != Some(TaskKind::Sequence) => table_of_words(path, task)?,
            format => format,
        },
    };
    let one = |at: ColumnRef| Column {
        at,
        holds: Holds::One,
    };
    let columns = match format {
        FileFormat::Csv | FileFormat::Tsv => {
            let fields = first_row(path, format)?.into_iter();
            if header {
                fields.map(|name| one(ColumnRef::Name(name))).collect()
            } else {
                (0..fields.len())
                    .map(|at| one(ColumnRef::Index(at)))
                    .collect()
            }
        }
        FileFormat::Jsonl => keys(path)?,
        FileFormat::Conll => {
            let width = width(path)?;
            (0..width).map(|at| one(ColumnRef::Index(at))).collect()
        }
        FileFormat::Parquet => parquet_columns(path)?,
        FileFormat::Conll2012 | FileFormat::FastText | FileFormat::Trees => Vec::new(),
    };
    Ok(Sniffed { format, columns })
}

fn lines(path: &Path) -> Result<Lines<'static>> {
    Ok(Lines::new(source(open(path)?), path))
}

/// The first lines of a file.
fn beginning(path: &Path) -> Result<Vec<String>> {
    let mut lines = lines(path)?;
    let mut first = Vec::new();
    while first.len() < ROWS {
        match lines.next() {
            Some(line) => first.push(line?.text.to_string()),
            None => break,
        }
    }
    Ok(first)
}

fn empty(path: &Path) -> DataError {
    DataError::Empty {
        path: path.to_path_buf(),
    }
}

/// What a file of text is that no ending tells.
fn text_format(path: &Path) -> Result<FileFormat> {
    let lines = beginning(path)?;
    let first = lines.iter().find(|line| !line.trim().is_empty());
    let first = first.ok_or_else(|| empty(path))?.trim_start();
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

/// A `.tsv` of words, one a line: if words are to be tagged, or if blank lines stand between its
/// rows.
fn table_of_words(path: &Path, task: Option<TaskKind>) -> Result<FileFormat> {
    let lines = beginning(path)?;
    let last = lines.iter().rposition(|line| !line.trim().is_empty());
    let inside = &lines[..last.unwrap_or_default()];
    let parted = inside.iter().any(|line| line.trim().is_empty());
    Ok(if parted || task == Some(TaskKind::Token) {
        FileFormat::Conll
    } else {
        FileFormat::Tsv
    })
}

/// The fields of the first row of a table.
fn first_row(path: &Path, format: FileFormat) -> Result<Vec<String>> {
    if format == FileFormat::Tsv {
        let mut lines = lines(path)?;
        let row = lines.map_row(|line| Ok(line.text.split('\t').map(str::to_string).collect()));
        return trimmed(row.ok_or_else(|| empty(path))??);
    }
    let mut reader: Source<'_> = source(open(path)?.take(1 << 20));
    let mark = reader
        .fill_buf()
        .map(|start| start.starts_with(b"\xef\xbb\xbf"));
    if mark.map_err(ls_files::FileError::reading(path))? {
        reader.consume(3);
    }
    let mut parser = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(reader);
    let mut record = csv::ByteRecord::new();
    let read = parser.read_byte_record(&mut record);
    let read = read.map_err(|error| ls_files::FileError::reading(path)(error.into()))?;
    if !read {
        return Err(empty(path));
    }
    let fields = record
        .iter()
        .map(|field| Ok(utf8(field, path, 1)?.to_string()));
    trimmed(fields.collect::<Result<_>>()?)
}

fn trimmed(fields: Vec<String>) -> Result<Vec<String>> {
    Ok(fields
        .iter()
        .map(|field| field.trim().to_string())
        .collect())
}

/// The keys of the first objects, and what stands under each where it is not null.
fn keys(path: &Path) -> Result<Vec<Column>> {
    let mut lines = lines(path)?;
    let mut found: Vec<(String, Option<Holds>)> = Vec::new();
    for _ in 0..ROWS {
        let row = lines.map_row(|line| {
            let object = serde_json::from_str::<Map<String, Value>>(line.text);
            let at = line.place;
            Ok(object.map_err(|error| ls_files::FileError::json(at.path, at.line, &error))?)
        });
        let Some(row) = row else { break };
        for (key, value) in row? {
            let holds = match &value {
                Value::Null => None,
                Value::String(_) => Some(Holds::One),
                Value::Number(number) if number.is_i64() => Some(Holds::One),
                Value::Array(list) => match list.first() {
                    None => None,
                    Some(Value::String(_)) => Some(Holds::List),
                    Some(Value::Number(number)) if number.is_i64() => Some(Holds::List),
                    Some(_) => Some(Holds::Other),
                },
                _ => Some(Holds::Other),
            };
            match found.iter_mut().find(|(name, _)| *name == key) {
                Some((_, known)) => *known = known.or(holds),
                None => found.push((key, holds)),
            }
        }
    }
    if found.is_empty() {
        return Err(empty(path));
    }
    let column = |(name, holds): (String, Option<Holds>)| Column {
        at: ColumnRef::Name(name),
        holds: holds.unwrap_or(Holds::Other),
    };
    Ok(found.into_iter().map(column).collect())
}

/// Columns of the first word of a CoNLL file.
fn width(path: &Path) -> Result<usize> {
    let lines = beginning(path)?;
    let word = |line: &&String| !line.trim().is_empty() && !line.starts_with("-DOCSTART-");
    let first = lines.iter().find(word).ok_or_else(|| empty(path))?;
    Ok(if first.contains('\t') {
        first.split('\t').count()
    } else {
        first.split_ascii_whitespace().count()
    })
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

//! Parquet tables to sequence and token examples, with the label names that Hugging Face's
//! `datasets` writes into them.
//!
//! Columns are read batch by batch, so that memory is bounded by a page of each, and by stated
//! limits of what a page, a batch and a row may hold (`headers.rs`, `pages.rs`). The line of an
//! example is the number of its row, from 1.

mod headers;
mod pages;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use ls_files::{nearest, shown};
use parquet::basic::{Repetition, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use self::headers::CheckedHeaders;
use self::pages::BoundedReader;
use super::columns::{Column, ColumnRef, Holds, SequenceColumns, TextRule, TokenColumns};
use super::position::Position;
use super::row::{Labels, Place};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::text_label::{LabelKind, TextLabel};

/// Rows that are read at once.
const BATCH: usize = 1024;

/// Bytes of text that a row may have.
const MOST_IN_ROW: usize = 256 << 20;

/// What a table holds in one place.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Text(Text),
    Integer(i64),
    Fraction(f64),
    List(Vec<Cell>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// Text as the file's page has it. It is counted and not copied: any number of rows may refer to
/// one long value.
#[derive(Debug, Clone, PartialEq)]
struct Text(ByteArray);

impl Text {
    /// Nothing if it is not UTF-8.
    fn new(bytes: ByteArray) -> Option<Self> {
        bytes.as_utf8().is_ok().then_some(Self(bytes))
    }

    fn as_str(&self) -> &str {
        self.0.as_utf8().unwrap_or_default()
    }
}

impl Cell {
    /// Bytes of text in it.
    fn text_len(&self) -> usize {
        match self {
            Self::Text(text) => text.0.len(),
            Self::List(cells) => cells.iter().map(Self::text_len).sum(),
            _ => 0,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Fraction(_) => "a fraction",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }
}

/// The columns of a file, with what they hold.
pub(super) fn columns(file: impl ChunkReader + 'static, path: &Path) -> Result<Vec<Column>> {
    let table = Table::open(file, path)?;
    let schema = table.file.metadata().file_metadata().schema_descr();
    let readable = |root: usize| {
        let leaves = (0..schema.num_columns()).map(|leaf| (leaf, schema.column(leaf)));
        let mut leaves = leaves.filter(|(leaf, _)| schema.get_column_root_idx(*leaf) == root);
        leaves.all(|(_, leaf)| {
            matches!(
                leaf.physical_type(),
                PhysicalType::BYTE_ARRAY | PhysicalType::INT32 | PhysicalType::INT64
            )
        })
    };
    let column = |(root, field): (usize, &std::sync::Arc<Type>)| Column {
        at: ColumnRef::Name(field.name().to_string()),
        holds: match Levels::of(field).filter(|_| readable(root)) {
            Some(levels) if levels.element.is_some() => Holds::List,
            Some(_) => Holds::One,
            None if is_fraction(field) => Holds::Number,
            None => Holds::Other,
        },
    };
    Ok(table.root().iter().enumerate().map(column).collect())
}

/// Whether a column holds floating-point numbers.
fn is_fraction(field: &Type) -> bool {
    field.is_primitive()
        && matches!(
            field.get_physical_type(),
            PhysicalType::FLOAT | PhysicalType::DOUBLE
        )
}

/// Texts of a Parquet file.
pub(super) struct SequenceRows {
    table: Table,
    text: Vec<usize>,
    text_pair: Option<usize>,
    label: Option<usize>,
    rule: TextRule,
    labels: Labels,
}

impl SequenceRows {
    pub(super) fn open(
        file: impl ChunkReader + 'static,
        path: &Path,
        columns: &SequenceColumns,
        labels: Labels,
    ) -> Result<Self> {
        let mut table = Table::open(file, path)?;
        let text = columns
            .texts()
            .map(|column| table.want(column))
            .collect::<Result<_>>()?;
        let text_pair = columns
            .text_pair
            .as_ref()
            .map(|c| table.want(c))
            .transpose()?;
        let label = columns.label.as_ref().map(|c| table.want(c)).transpose()?;
        Ok(Self {
            table,
            text,
            text_pair,
            label,
            rule: columns.text_rule(),
            labels,
        })
    }

    /// How far the file is read.
    pub(super) fn position(&self) -> Position {
        self.table.position.clone()
    }

    fn row(&self, row: usize, mut cells: Vec<Cell>) -> Result<SequenceExample> {
        let place = self.table.place(row);
        // Where a blank text may be, one that is missing is told apart for the answer.
        let mut missing = Map::new();
        if self.rule.blank() {
            let parts = [
                ("text", self.text.first()),
                ("text_pair", self.text_pair.as_ref()),
            ];
            for (name, at) in parts {
                if at.is_some_and(|at| matches!(cells[*at], Cell::Null)) {
                    missing.insert(name.to_string(), Value::Null);
                }
            }
        }
        let mut text = |at: usize| match std::mem::replace(&mut cells[at], Cell::Null) {
            Cell::Text(text) => Ok(text.as_str().to_string()),
            Cell::Null if self.rule.blank() => Ok(String::new()),
            other => Err(self.table.wrong_type(at, row, &other, "a string")),
        };
        let parts = self
            .text
            .iter()
            .map(|at| text(*at))
            .collect::<Result<Vec<_>>>()?;
        let text_pair = match self.text_pair {
            Some(at) => Some(self.rule.text([text(at)?], place)?),
            None => None,
        };
        let label = |at: usize| self.table.text_label(at, row, &cells[at], &self.labels);
        Ok(SequenceExample {
            text: self.rule.text(parts, place)?,
            text_pair,
            label: self.label.map(label).transpose()?,
            line: row,
            extra: (!missing.is_empty()).then_some(missing),
        })
    }
}

impl Iterator for SequenceRows {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.table.next()? {
            Ok((row, cells)) => Some(self.row(row, cells)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Word lists of a Parquet file.
pub(super) struct TokenRows {
    table: Table,
    tokens: usize,
    tags: Option<usize>,
    labels: Labels,
    blank: bool,
}

impl TokenRows {
    pub(super) fn open(
        file: impl ChunkReader + 'static,
        path: &Path,
        columns: &TokenColumns,
        labels: Labels,
    ) -> Result<Self> {
        let mut table = Table::open(file, path)?;
        let tokens = table.want(&columns.tokens_key.as_str().into())?;
        let tags = if columns.tagged {
            let key = columns.tags_key_among(|key| table.has(key));
            Some(table.want(&key.into())?)
        } else {
            None
        };
        Ok(Self {
            table,
            tokens,
            tags,
            labels,
            blank: columns.blank,
        })
    }

    /// How far the file is read.
    pub(super) fn position(&self) -> Position {
        self.table.position.clone()
    }

    fn row(&self, row: usize, mut cells: Vec<Cell>) -> Result<TokenExample> {
        let place = self.table.place(row);
        let mut list = |at: usize| match std::mem::replace(&mut cells[at], Cell::Null) {
            Cell::List(list) => Ok(list),
            other => Err(self.table.wrong_type(at, row, &other, "a list")),
        };
        let tokens = list(self.tokens)?;
        if tokens.is_empty() && !self.blank {
            return Err(place.empty("tokens"));
        }
        let tags = self.tags.map(&mut list).transpose()?;
        let tokens = tokens.into_iter().enumerate().map(|(i, cell)| match cell {
            Cell::Text(token) => Ok(token.as_str().to_string()),
            other => Err(self
                .table
                .wrong_element(self.tokens, i, row, &other, "a string")),
        });
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        let tags = match (self.tags, tags) {
            (Some(at), Some(tags)) => {
                let tag = |(i, cell)| self.table.label(at, row, cell, Some(i), &self.labels);
                Some(
                    tags.iter()
                        .enumerate()
                        .map(tag)
                        .collect::<Result<Vec<_>>>()?,
                )
            }
            _ => None,
        };
        place.same_length(&tokens, tags.as_deref())?;
        Ok(TokenExample {
            tokens,
            tags,
            line: row,
            extra: None,
        })
    }
}

impl Iterator for TokenRows {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.table.next()? {
            Ok((row, cells)) => Some(self.row(row, cells)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Rows of the wanted columns.
struct Table {
    path: PathBuf,
    file: Box<dyn FileReader>,
    /// The `features` of the file's Hugging Face metadata.
    features: Option<Value>,
    wanted: Vec<Wanted>,
    next_group: usize,
    row: usize,
    /// Rows and bytes of the file.
    size: (u64, u64),
    position: Position,
}

/// A column that is read.
struct Wanted {
    name: String,
    /// Its leaf among the file's columns.
    leaf: usize,
    levels: Levels,
    /// What integers in it mean.
    names: Option<Vec<String>>,
    reader: Option<BoundedReader>,
    cells: VecDeque<Cell>,
}

impl Table {
    fn open(file: impl ChunkReader + 'static, path: &Path) -> Result<Self> {
        let bytes = file.len();
        let file = guarded(path, || {
            SerializedFileReader::new(CheckedHeaders::new(file)?)
        })?;
        let rows = file.metadata().file_metadata().num_rows();
        let metadata = file.metadata().file_metadata().key_value_metadata();
        let features = metadata
            .into_iter()
            .flatten()
            .find(|entry| entry.key == "huggingface")
            .and_then(|entry| entry.value.as_deref())
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .and_then(|mut value| Some(value.get_mut("info")?.get_mut("features")?.take()));
        Ok(Self {
            path: path.to_path_buf(),
            file: Box::new(file),
            features,
            wanted: Vec::new(),
            next_group: 0,
            row: 0,
            size: (u64::try_from(rows).unwrap_or(0), bytes),
            position: Position::default(),
        })
    }

    fn root(&self) -> &[std::sync::Arc<Type>] {
        self.file.metadata().file_metadata().schema().get_fields()
    }

    fn has(&self, name: &str) -> bool {
        self.root().iter().any(|field| field.name() == name)
    }

    /// Adds a column to those that are read; its place in the cells of a row.
    fn want(&mut self, column: &ColumnRef) -> Result<usize> {
        let fields = self.root();
        let root = match column {
            ColumnRef::Index(index) if *index < fields.len() => *index,
            ColumnRef::Index(index) => {
                return Err(DataError::ColumnIndex {
                    path: self.path.clone(),
                    line: 1,
                    index: *index,
                    found: fields.len(),
                });
            }
            ColumnRef::Name(name) => {
                let position = fields.iter().position(|field| field.name() == name);
                position.ok_or_else(|| DataError::UnknownColumn {
                    path: self.path.clone(),
                    column: name.clone(),
                    available: fields.iter().map(|f| f.name().to_string()).collect(),
                    nearest: nearest(name, fields.iter().map(|f| f.name())),
                })?
            }
        };
        let name = fields[root].name().to_string();
        let schema = self.file.metadata().file_metadata().schema_descr();
        let mut leaves =
            (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root);
        let (Some(leaf), None, Some(levels)) =
            (leaves.next(), leaves.next(), Levels::of(&fields[root]))
        else {
            return Err(DataError::ColumnShape {
                path: self.path.clone(),
                column: name,
            });
        };
        let names = self
            .features
            .as_ref()
            .and_then(|f| class_names(f.get(&name)?));
        self.wanted.push(Wanted {
            name,
            leaf,
            levels,
            names,
            reader: None,
            cells: VecDeque::new(),
        });
        Ok(self.wanted.len() - 1)
    }

    /// The next row's number and its cells.
    fn next(&mut self) -> Option<Result<(usize, Vec<Cell>)>> {
        while self.wanted.iter().any(|column| column.cells.is_empty()) {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.row += 1;
        let (rows, bytes) = self.size;
        self.position.at(self.row as u64, rows, bytes);
        let cells = self.wanted.iter_mut().filter_map(|c| c.cells.pop_front());
        let cells: Vec<Cell> = cells.collect();
        match cells.iter().map(Cell::text_len).sum::<usize>() {
            0..=MOST_IN_ROW => Some(Ok((self.row, cells))),
            length => Some(Err(DataError::Parquet {
                path: self.path.clone(),
                message: format!(
                    "row {} has {length} bytes of text, and at most {MOST_IN_ROW} are read",
                    self.row
                ),
            })),
        }
    }

    /// Reads a batch of each column, from the next row group if this one is used up; `false` at
    /// the end.
    fn fill(&mut self) -> Result<bool> {
        let uneven = |path: &Path| DataError::Parquet {
            path: path.to_path_buf(),
            message: "its columns differ in length".to_string(),
        };
        if self.wanted.iter().all(|column| column.reader.is_none()) {
            if self.next_group >= self.file.num_row_groups() {
                return Ok(false);
            }
            let group = guarded(&self.path, || self.file.get_row_group(self.next_group))?;
            let schema = self.file.metadata().file_metadata().schema_descr();
            for column in &mut self.wanted {
                let pages = guarded(&self.path, || group.get_column_page_reader(column.leaf))?;
                column.reader = Some(BoundedReader::new(schema.column(column.leaf), pages));
            }
            self.next_group += 1;
        }
        for column in &mut self.wanted {
            let Some(reader) = &mut column.reader else {
                return Err(uneven(&self.path));
            };
            let cells = guarded(&self.path, || {
                read_batch(reader.next_batch(), column.levels)
            })?;
            if cells.is_empty() {
                column.reader = None;
            }
            column.cells.extend(cells);
        }
        let count = self.wanted.first().map_or(0, |column| column.cells.len());
        if self.wanted.iter().all(|column| column.cells.len() == count) {
            Ok(true)
        } else {
            Err(uneven(&self.path))
        }
    }

    fn place(&self, row: usize) -> Place<'_> {
        Place {
            path: &self.path,
            line: row,
        }
    }

    fn wrong_type(&self, at: usize, row: usize, cell: &Cell, expected: &'static str) -> DataError {
        let key = self.wanted[at].name.clone();
        self.wrong(key, row, cell, expected)
    }

    fn wrong_element(
        &self,
        at: usize,
        element: usize,
        row: usize,
        cell: &Cell,
        expected: &'static str,
    ) -> DataError {
        let key = format!("{}[{element}]", self.wanted[at].name);
        self.wrong(key, row, cell, expected)
    }

    fn wrong(&self, key: String, row: usize, cell: &Cell, expected: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.clone(),
            line: row,
            key,
            found: cell.type_name(),
            expected,
        }
    }

    /// The label of a text.
    fn text_label(&self, at: usize, row: usize, cell: &Cell, labels: &Labels) -> Result<TextLabel> {
        let place = self.place(row);
        match (labels.kind, cell) {
            (LabelKind::Class, cell) => {
                let name = self.label(at, row, cell, None, labels)?;
                Ok(TextLabel::Class(name))
            }
            (LabelKind::Classes, Cell::List(list)) => {
                let name = |(i, cell)| self.label(at, row, cell, Some(i), labels);
                let names = list.iter().enumerate().map(name);
                place.each_once(names.collect::<Result<_>>()?)
            }
            (LabelKind::Number, Cell::Integer(number)) => {
                labels.number(*number as f64, &number.to_string(), place)
            }
            (LabelKind::Number, Cell::Fraction(number)) => {
                labels.number(*number, &number.to_string(), place)
            }
            (_, Cell::Text(text)) => labels.written(text.as_str(), place),
            (LabelKind::Classes, other) => Err(self.wrong_type(at, row, other, "a list of labels")),
            (LabelKind::Number, other) => Err(self.wrong_type(at, row, other, "a number")),
        }
    }

    /// The label in a cell, or in an element of a list. What the file says of its integers comes
    /// before any other names: mirrors of one data set number its labels differently.
    fn label(
        &self,
        at: usize,
        row: usize,
        cell: &Cell,
        element: Option<usize>,
        labels: &Labels,
    ) -> Result<String> {
        let place = self.place(row);
        let column = &self.wanted[at];
        match (cell, &column.names) {
            (Cell::Text(label), _) => labels.resolve(label.as_str(), place),
            (Cell::Integer(index), Some(names)) => {
                let name = usize::try_from(*index).ok().and_then(|i| names.get(i));
                let name = name.ok_or_else(|| DataError::LabelIndex {
                    path: self.path.clone(),
                    line: row,
                    index: *index,
                    first: 0,
                    count: names.len(),
                })?;
                labels.resolve_name(name, place)
            }
            (Cell::Integer(index), None) => labels.resolve_integer(*index, &column.name, place),
            (other, _) => {
                let expected = "a string or an integer";
                Err(match element {
                    Some(element) => self.wrong_element(at, element, row, other, expected),
                    None => self.wrong_type(at, row, other, expected),
                })
            }
        }
    }
}

/// The names of a `ClassLabel`, or of one in a list: `datasets` has written lists as a JSON list,
/// as `Sequence` and as `List`.
fn class_names(feature: &Value) -> Option<Vec<String>> {
    let feature = match feature {
        Value::Array(list) => list.first()?,
        feature => feature,
    };
    if let Some(inner) = feature.get("feature") {
        return class_names(inner);
    }
    let names = feature.get("names")?.as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_string))
        .collect()
}

/// Runs a step of the parquet crate. On damaged files some of its decoders panic, where a caller is
/// owed an error.
fn guarded<T>(path: &Path, step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let message = match ls_files::guarded(step) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    Err(DataError::Parquet {
        path: path.to_path_buf(),
        message: shown(message),
    })
}

/// How deep a column's values stand: Parquet writes with each how much of the way down to it is
/// there, and not the empty places themselves.
#[derive(Clone, Copy)]
struct Levels {
    /// Definition level of a value that is not null.
    value: i16,
    /// For a list, the definition level from which on there is an element.
    element: Option<i16>,
}

impl Levels {
    /// The levels of a plain column or of a list of plain values; nothing for any other.
    fn of(mut field: &Type) -> Option<Self> {
        let mut levels = Self {
            value: 0,
            element: None,
        };
        loop {
            match field.get_basic_info().repetition() {
                Repetition::REQUIRED => {}
                Repetition::OPTIONAL => levels.value += 1,
                Repetition::REPEATED if levels.element.is_some() => return None,
                Repetition::REPEATED => {
                    levels.value += 1;
                    levels.element = Some(levels.value);
                }
            }
            if field.is_primitive() {
                return Some(levels);
            }
            // Of the groups only the two around a list's elements are known.
            match field.get_fields() {
                [inner] if inner.get_basic_info().repetition() == Repetition::REPEATED => {
                    field = inner;
                }
                [inner] if levels.element.is_some() && inner.is_primitive() => field = inner,
                _ => return None,
            }
        }
    }
}

/// The next rows of a column; none at its end.
fn read_batch(reader: &mut ColumnReader, levels: Levels) -> Result<Vec<Cell>, ParquetError> {
    macro_rules! read {
        ($reader:expr, $cell:expr) => {{
            let (mut defined, mut repeated, mut values) = (vec![], vec![], vec![]);
            let lists = levels.element.is_some();
            $reader.read_records(
                BATCH,
                (levels.value > 0).then_some(&mut defined),
                lists.then_some(&mut repeated),
                &mut values,
            )?;
            assemble(values.into_iter().map($cell), &defined, &repeated, levels)
        }};
    }
    Ok(match reader {
        ColumnReader::ByteArrayColumnReader(reader) => read!(reader, text),
        ColumnReader::Int32ColumnReader(reader) => read!(reader, |i| Cell::Integer(i64::from(i))),
        ColumnReader::Int64ColumnReader(reader) => read!(reader, Cell::Integer),
        ColumnReader::BoolColumnReader(reader) => read!(reader, |_| Cell::Other("a boolean")),
        ColumnReader::FloatColumnReader(reader) => {
            read!(reader, |value| Cell::Fraction(f64::from(value)))
        }
        ColumnReader::DoubleColumnReader(reader) => read!(reader, Cell::Fraction),
        ColumnReader::Int96ColumnReader(reader) => read!(reader, |_| Cell::Other("a time")),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            read!(reader, |_| Cell::Other("bytes of fixed length"))
        }
    })
}

fn text(bytes: ByteArray) -> Cell {
    Text::new(bytes).map_or(Cell::Other("bytes that are not UTF-8"), Cell::Text)
}

/// Puts values to the places that their levels say. A list that is null is an empty one.
fn assemble(
    mut values: impl Iterator<Item = Cell>,
    defined: &[i16],
    repeated: &[i16],
    levels: Levels,
) -> Vec<Cell> {
    let mut value = |level: i16| {
        if level == levels.value {
            values.next().unwrap_or(Cell::Null)
        } else {
            Cell::Null
        }
    };
    let Some(element) = levels.element else {
        return match levels.value {
            0 => values.collect(),
            _ => defined.iter().map(|level| value(*level)).collect(),
        };
    };
    let mut lists: Vec<Vec<Cell>> = Vec::new();
    for (level, repetition) in defined.iter().zip(repeated) {
        if *repetition == 0 {
            lists.push(Vec::new());
        }
        if *level >= element
            && let Some(list) = lists.last_mut()
        {
            list.push(value(*level));
        }
    }
    lists.into_iter().map(Cell::List).collect()
}

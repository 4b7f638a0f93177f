//! JSON lines to sequence and token examples; each example keeps its whole object.

use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::lines::Lines;
use super::{ColumnRef, SequenceColumns, TokenColumns, json_message, required, resolve_label};
use crate::error::{DataError, Result, nearest};
use crate::example::{SequenceExample, TokenExample};

/// One JSON object with its place.
struct Row<'a> {
    path: &'a Path,
    line: usize,
    object: Map<String, Value>,
}

/// Calls `each` with every object; blank lines are passed over.
fn rows<'a, R: BufRead>(
    mut lines: Lines<'a, R>,
    mut each: impl FnMut(Row<'a>) -> Result<()>,
) -> Result<()> {
    let path = lines.path();
    while let Some((line, text)) = lines.next()? {
        if text.trim().is_empty() {
            continue;
        }
        let object = serde_json::from_str(text).map_err(|e| DataError::Json {
            path: path.to_path_buf(),
            line,
            column: e.column(),
            message: json_message(&e),
        })?;
        each(Row { path, line, object })?;
    }
    Ok(())
}

pub(super) fn read_sequence(
    lines: Lines<'_, impl BufRead>,
    columns: &SequenceColumns,
    names: Option<&[String]>,
) -> Result<Vec<SequenceExample>> {
    let path = lines.path();
    let text = key(&columns.text, path)?;
    let text_pair = columns
        .text_pair
        .as_ref()
        .map(|c| key(c, path))
        .transpose()?;
    let label = columns.label.as_ref().map(|c| key(c, path)).transpose()?;
    let mut examples = Vec::new();
    rows(lines, |row| {
        let example = SequenceExample {
            text: row.text(text)?,
            text_pair: text_pair.map(|key| row.text(key)).transpose()?,
            label: label.map(|key| row.label(key, names)).transpose()?,
            line: row.line,
            extra: Some(row.object),
        };
        examples.push(example);
        Ok(())
    })?;
    Ok(examples)
}

pub(super) fn read_tokens(
    lines: Lines<'_, impl BufRead>,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    let mut examples = Vec::new();
    rows(lines, |row| {
        let tokens = row.tokens(&columns.tokens_key)?;
        let tags = columns.tagged.then(|| row.tags(columns)).transpose()?;
        if let Some(tags) = tags.as_ref().filter(|tags| tags.len() != tokens.len()) {
            return Err(DataError::TokenTagCount {
                path: row.path.to_path_buf(),
                line: row.line,
                tokens: tokens.len(),
                tags: tags.len(),
            });
        }
        examples.push(TokenExample {
            tokens,
            tags,
            line: row.line,
            extra: Some(row.object),
        });
        Ok(())
    })?;
    Ok(examples)
}

fn key<'c>(column: &'c ColumnRef, path: &Path) -> Result<&'c str> {
    match column {
        ColumnRef::Name(name) => Ok(name),
        ColumnRef::Index(index) => Err(DataError::IndexInJson {
            path: path.to_path_buf(),
            index: *index,
        }),
    }
}

impl Row<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        self.object.get(key).ok_or_else(|| DataError::MissingKey {
            path: self.path.to_path_buf(),
            line: self.line,
            key: key.to_string(),
            available: self.object.keys().cloned().collect(),
            nearest: nearest(key, self.object.keys().map(String::as_str)),
        })
    }

    fn wrong_type(&self, key: String, found: &Value, expected: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.to_path_buf(),
            line: self.line,
            key,
            found: type_name(found),
            expected,
        }
    }

    fn text(&self, key: &str) -> Result<String> {
        match self.get(key)? {
            Value::String(text) => Ok(required(text, "text", self.path, self.line)?.to_string()),
            other => Err(self.wrong_type(key.to_string(), other, "a string")),
        }
    }

    fn label(&self, key: &str, names: Option<&[String]>) -> Result<String> {
        let label = match self.get(key)? {
            Value::String(label) => label.clone(),
            Value::Number(number) if number.is_i64() => number.to_string(),
            other => {
                return Err(self.wrong_type(key.to_string(), other, "a string or an integer"));
            }
        };
        resolve_label(&label, names, self.path, self.line)
    }

    fn list(&self, key: &str) -> Result<&Vec<Value>> {
        let value = self.get(key)?;
        value
            .as_array()
            .ok_or_else(|| self.wrong_type(key.to_string(), value, "a list"))
    }

    fn tokens(&self, key: &str) -> Result<Vec<String>> {
        let list = self.list(key)?;
        if list.is_empty() {
            return Err(DataError::EmptyField {
                path: self.path.to_path_buf(),
                line: self.line,
                what: "tokens",
            });
        }
        let token = |(i, value): (usize, &Value)| match value {
            // An empty word is kept: it gets no sub-word and no label, and stays in the output.
            Value::String(token) => Ok(token.clone()),
            other => Err(self.wrong_type(format!("{key}[{i}]"), other, "a string")),
        };
        list.iter().enumerate().map(token).collect()
    }

    fn tags(&self, columns: &TokenColumns) -> Result<Vec<String>> {
        let key = match &columns.tags_key {
            Some(key) => key.as_str(),
            None if !self.object.contains_key("tags") && self.object.contains_key("ner_tags") => {
                "ner_tags"
            }
            None => "tags",
        };
        let names = columns.label_names.as_deref();
        let tag = |(i, value): (usize, &Value)| match value {
            Value::String(tag) => resolve_label(tag, names, self.path, self.line),
            Value::Number(number) if number.is_i64() => match names {
                Some(_) => resolve_label(&number.to_string(), names, self.path, self.line),
                None => Err(DataError::NamesNeeded {
                    path: self.path.to_path_buf(),
                    line: self.line,
                    key: key.to_string(),
                }),
            },
            other => Err(self.wrong_type(format!("{key}[{i}]"), other, "a string or an integer")),
        };
        self.list(key)?.iter().enumerate().map(tag).collect()
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

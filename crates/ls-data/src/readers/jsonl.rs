//! JSON lines to sequence and token examples.
//!
//! Either an example keeps its whole object, or only the wanted keys are parsed and all else is
//! passed over without a copy of it.

use std::fmt;
use std::io::BufRead;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::lines::{Line, Lines};
use super::{ColumnRef, Labels, Place, SequenceColumns, TokenColumns, json_message};
use crate::error::{DataError, Result, nearest};
use crate::example::{SequenceExample, TokenExample};

/// Texts of a JSONL file.
pub(super) struct SequenceRows<R> {
    lines: Lines<R>,
    keys: SequenceKeys,
    labels: Labels,
    keep_extra: bool,
}

struct SequenceKeys {
    text: String,
    text_pair: Option<String>,
    label: Option<String>,
}

impl<R: BufRead> SequenceRows<R> {
    pub(super) fn new(lines: Lines<R>, columns: &SequenceColumns, labels: Labels) -> Result<Self> {
        let path = lines.path();
        let name = |column: &Option<ColumnRef>| column.as_ref().map(|c| key(c, path)).transpose();
        let keys = SequenceKeys {
            text: key(&columns.text, path)?,
            text_pair: name(&columns.text_pair)?,
            label: name(&columns.label)?,
        };
        Ok(Self {
            lines,
            keys,
            labels,
            keep_extra: columns.keep_extra,
        })
    }
}

impl<R: BufRead> Iterator for SequenceRows<R> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lines
            .find_map(|line| match line.text.trim().is_empty() {
                true => Ok(None),
                false => sequence_row(line, &self.keys, &self.labels, self.keep_extra).map(Some),
            })
    }
}

fn sequence_row(
    line: Line<'_>,
    keys: &SequenceKeys,
    labels: &Labels,
    keep_extra: bool,
) -> Result<SequenceExample> {
    let wanted = [
        Some(&keys.text),
        keys.text_pair.as_ref(),
        keys.label.as_ref(),
    ];
    let is_wanted = |key: &str| wanted.iter().flatten().any(|wanted| *wanted == key);
    let mut row = Row::parse(line, keep_extra, &is_wanted)?;
    Ok(SequenceExample {
        text: row.text(&keys.text)?,
        text_pair: keys
            .text_pair
            .as_ref()
            .map(|key| row.text(key))
            .transpose()?,
        label: keys
            .label
            .as_ref()
            .map(|key| row.label(key, labels))
            .transpose()?,
        line: line.place.line,
        extra: keep_extra.then_some(row.object),
    })
}

/// Word lists of a JSONL file.
pub(super) struct TokenRows<R> {
    lines: Lines<R>,
    columns: TokenColumns,
    labels: Labels,
}

impl<R: BufRead> TokenRows<R> {
    pub(super) fn new(lines: Lines<R>, columns: TokenColumns, labels: Labels) -> Self {
        Self {
            lines,
            columns,
            labels,
        }
    }
}

impl<R: BufRead> Iterator for TokenRows<R> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lines
            .find_map(|line| match line.text.trim().is_empty() {
                true => Ok(None),
                false => token_row(line, &self.columns, &self.labels).map(Some),
            })
    }
}

fn token_row(line: Line<'_>, columns: &TokenColumns, labels: &Labels) -> Result<TokenExample> {
    let place = line.place;
    let is_wanted = |key: &str| {
        key == columns.tokens_key
            || columns.tagged
                && match &columns.tags_key {
                    Some(tags_key) => key == tags_key,
                    None => DEFAULT_TAGS.contains(&key),
                }
    };
    let mut row = Row::parse(line, columns.keep_extra, &is_wanted)?;
    let tags_key = match &columns.tags_key {
        Some(key) => key,
        None => DEFAULT_TAGS
            .into_iter()
            .find(|key| row.object.contains_key(*key))
            .unwrap_or(DEFAULT_TAGS[0]),
    };
    let tokens = row.tokens(&columns.tokens_key)?;
    let tags = match columns.tagged {
        true => Some(row.tags(tags_key, labels)?),
        false => None,
    };
    if let Some(tags) = tags.as_ref().filter(|tags| tags.len() != tokens.len()) {
        return Err(DataError::TokenTagCount {
            path: place.path.to_path_buf(),
            line: place.line,
            tokens: tokens.len(),
            tags: tags.len(),
        });
    }
    Ok(TokenExample {
        tokens,
        tags,
        line: place.line,
        extra: columns.keep_extra.then_some(row.object),
    })
}

/// Where tags are looked for if no key is given: the first that is there.
const DEFAULT_TAGS: [&str; 2] = ["tags", "ner_tags"];

fn key(column: &ColumnRef, path: &Path) -> Result<String> {
    match column {
        ColumnRef::Name(name) => Ok(name.clone()),
        ColumnRef::Index(index) => Err(DataError::IndexInJson {
            path: path.to_path_buf(),
            index: *index,
        }),
    }
}

/// One JSON object with its place.
struct Row<'a> {
    line: Line<'a>,
    object: Map<String, Value>,
    /// Whether the object is whole and stays so.
    whole: bool,
}

impl<'a> Row<'a> {
    fn parse(line: Line<'a>, whole: bool, wanted: &dyn Fn(&str) -> bool) -> Result<Self> {
        let object = match whole {
            true => serde_json::from_str(line.text),
            false => wanted_keys(line.text, wanted),
        };
        let object = object.map_err(|e| DataError::Json {
            path: line.place.path.to_path_buf(),
            line: line.place.line,
            column: e.column(),
            message: json_message(&e),
        })?;
        Ok(Self {
            line,
            object,
            whole,
        })
    }

    /// The value of a key: a copy of it if the object stays whole.
    fn value(&mut self, key: &str) -> Result<Value> {
        let value = match self.whole {
            true => self.object.get(key).cloned(),
            false => self.object.remove(key),
        };
        if let Some(value) = value {
            return Ok(value);
        }
        if !self.whole {
            // The key may have been asked for twice; if it is not there at all, the error names
            // the keys that are.
            *self = Self::parse(self.line, true, &|_| true)?;
            return self.value(key);
        }
        Err(DataError::MissingKey {
            path: self.line.place.path.to_path_buf(),
            line: self.line.place.line,
            key: key.to_string(),
            available: self.object.keys().cloned().collect(),
            nearest: nearest(key, self.object.keys().map(String::as_str)),
        })
    }

    fn place(&self) -> Place<'a> {
        self.line.place
    }

    fn wrong_type(&self, key: String, found: &Value, expected: &'static str) -> DataError {
        DataError::WrongType {
            path: self.place().path.to_path_buf(),
            line: self.place().line,
            key,
            found: type_name(found),
            expected,
        }
    }

    fn text(&mut self, key: &str) -> Result<String> {
        match self.value(key)? {
            Value::String(text) => {
                self.place().required(&text, "text")?;
                Ok(text)
            }
            other => Err(self.wrong_type(key.to_string(), &other, "a string")),
        }
    }

    fn label(&mut self, key: &str, labels: &Labels) -> Result<String> {
        let label = match self.value(key)? {
            Value::String(label) => label,
            Value::Number(number) if number.is_i64() => number.to_string(),
            other => {
                return Err(self.wrong_type(key.to_string(), &other, "a string or an integer"));
            }
        };
        labels.resolve(&label, self.place())
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>> {
        match self.value(key)? {
            Value::Array(list) => Ok(list),
            other => Err(self.wrong_type(key.to_string(), &other, "a list")),
        }
    }

    fn tokens(&mut self, key: &str) -> Result<Vec<String>> {
        let list = self.list(key)?;
        if list.is_empty() {
            return Err(DataError::EmptyField {
                path: self.place().path.to_path_buf(),
                line: self.place().line,
                what: "tokens",
            });
        }
        let token = |(i, value): (usize, Value)| match value {
            // An empty word is kept: it gets no sub-word and no label, and stays in the output.
            Value::String(token) => Ok(token),
            other => Err(self.wrong_type(format!("{key}[{i}]"), &other, "a string")),
        };
        list.into_iter().enumerate().map(token).collect()
    }

    fn tags(&mut self, key: &str, labels: &Labels) -> Result<Vec<String>> {
        let list = self.list(key)?;
        let place = self.place();
        let tag = |(i, value): (usize, Value)| match value {
            Value::String(tag) => labels.resolve(&tag, place),
            Value::Number(number) if number.is_i64() => match labels.named() {
                true => labels.resolve(&number.to_string(), place),
                false => Err(DataError::NamesNeeded {
                    path: place.path.to_path_buf(),
                    line: place.line,
                    key: key.to_string(),
                }),
            },
            other => Err(self.wrong_type(format!("{key}[{i}]"), &other, "a string or an integer")),
        };
        list.into_iter().enumerate().map(tag).collect()
    }
}

/// The object of a line with only the keys that are wanted.
fn wanted_keys(
    text: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> serde_json::Result<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let object = deserializer.deserialize_map(WantedKeys(wanted))?;
    deserializer.end()?;
    Ok(object)
}

struct WantedKeys<'w>(&'w dyn Fn(&str) -> bool);

impl<'de> Visitor<'de> for WantedKeys<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key_seed(WantedKey(self.0))? {
            match key {
                Some(key) => drop(object.insert(key, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(object)
    }
}

/// A key, copied only if it is wanted.
struct WantedKey<'w>(&'w dyn Fn(&str) -> bool);

impl<'de> DeserializeSeed<'de> for WantedKey<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for WantedKey<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0)(key).then(|| key.to_string()))
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

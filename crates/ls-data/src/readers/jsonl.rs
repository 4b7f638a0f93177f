//! JSON objects to sequence and token examples.
//!
//! Either an example keeps its whole object, or only the wanted keys are parsed and all else is
//! passed over without a copy of it. An integer label without names takes the name that stands
//! under its key with `_text` behind, if there is one: SetFit's files have `label` and
//! `label_text`.

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::columns::{ColumnRef, DEFAULT_TAGS, SequenceColumns, TextRule, TokenColumns};
use super::json_list::{Kind, Objects};
use super::json_value::{missing_key, wrong_type};
use super::lines::Line;
use super::row::{Labels, Place};
use super::source::Source;
use super::spans::{self, SpanRepairs};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};

/// Texts of a JSON file.
pub(super) struct SequenceRows<'a> {
    objects: Objects<'a>,
    keys: SequenceKeys,
    rule: TextRule,
    labels: Labels,
    keep_extra: bool,
}

struct SequenceKeys {
    text: Vec<String>,
    text_pair: Option<String>,
    label: Option<String>,
    label_text: Option<String>,
}

impl<'a> SequenceRows<'a> {
    pub(super) fn new(
        source: Source<'a>,
        path: &Path,
        columns: &SequenceColumns,
        labels: Labels,
    ) -> Result<Self> {
        let name = |column: &Option<ColumnRef>| column.as_ref().map(|c| key(c, path)).transpose();
        let text = columns.texts().map(|c| key(c, path));
        let text = text.collect::<Result<Vec<_>>>()?;
        let text_pair = name(&columns.text_pair)?;
        let label = name(&columns.label)?;
        let keys = SequenceKeys {
            text,
            text_pair,
            label_text: if labels.named() {
                None
            } else {
                label.as_ref().map(|key| format!("{key}_text"))
            },
            label,
        };
        let objects = Objects::new(source, path, &|key, _| keys.text.iter().any(|k| k == key))?;
        Ok(Self {
            objects,
            keys,
            rule: columns.text_rule(),
            labels,
            keep_extra: columns.keep_extra,
        })
    }
}

impl Iterator for SequenceRows<'_> {
    type Item = Result<SequenceExample>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self {
            objects,
            keys,
            rule,
            labels,
            keep_extra,
        } = self;
        objects.map_row(|line| sequence_row(line, keys, rule, labels, *keep_extra))
    }
}

fn sequence_row(
    line: Line<'_>,
    keys: &SequenceKeys,
    rule: &TextRule,
    labels: &Labels,
    keep_extra: bool,
) -> Result<SequenceExample> {
    let wanted = |key: &str| {
        let others = [&keys.text_pair, &keys.label, &keys.label_text];
        let others = others.into_iter().flatten();
        keys.text.iter().chain(others).any(|wanted| wanted == key)
    };
    let mut row = Row::parse(line, keep_extra, &wanted)?;
    let parts = keys.text.iter().map(|key| row.text(key));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let text_pair = keys
        .text_pair
        .as_ref()
        .map(|key| row.text(key))
        .transpose()?;
    let label = keys.label.as_ref();
    Ok(SequenceExample {
        text: rule.text(parts, line.place)?,
        text_pair: text_pair
            .map(|text| rule.text([text], line.place))
            .transpose()?,
        label: label
            .map(|key| row.label(key, keys.label_text.as_deref(), labels))
            .transpose()?,
        line: line.place.line,
        extra: keep_extra.then_some(row.object),
    })
}

/// Word lists of a JSON file: lists of words with their tags, or texts with spans. The first object
/// tells which.
pub(super) struct TokenRows<'a> {
    objects: Objects<'a>,
    columns: TokenColumns,
    labels: Labels,
    /// Whether the objects are texts, once one was seen.
    texts: Option<bool>,
    repairs: SpanRepairs,
}

impl<'a> TokenRows<'a> {
    pub(super) fn new(
        source: Source<'a>,
        path: &Path,
        columns: TokenColumns,
        labels: Labels,
        repairs: SpanRepairs,
    ) -> Result<Self> {
        let is_example = |key: &str, kind| {
            let data = key == spans::DATA && kind == Kind::Object;
            key == columns.tokens_key || key == columns.text_key || data
        };
        Ok(Self {
            objects: Objects::new(source, path, &is_example)?,
            columns,
            labels,
            texts: None,
            repairs,
        })
    }
}

impl Iterator for TokenRows<'_> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self {
            objects,
            columns,
            labels,
            texts,
            repairs,
        } = self;
        objects.map_row(|line| {
            let is_text = match *texts {
                Some(texts) => texts,
                None => {
                    let object = spans::object(line, columns)?;
                    *texts.insert(spans::is_text(&object, columns))
                }
            };
            if is_text {
                text_row(line, columns, labels, repairs)
            } else {
                token_row(line, columns, labels)
            }
        })
    }
}

/// A text with spans. Its text is kept even where the rest of the object is not: it is what the
/// places of predictions count in.
fn text_row(
    line: Line<'_>,
    columns: &TokenColumns,
    labels: &Labels,
    repairs: &SpanRepairs,
) -> Result<TokenExample> {
    let mut object = spans::object(line, columns)?;
    let row = spans::row(&object, line.place, columns, labels, repairs)?;
    if !columns.keep_extra {
        object.clear();
    }
    object.insert("text".to_string(), Value::String(row.text));
    Ok(TokenExample {
        tokens: row.tokens,
        tags: row.tags,
        line: line.place.line,
        extra: Some(object),
    })
}

fn token_row(line: Line<'_>, columns: &TokenColumns, labels: &Labels) -> Result<TokenExample> {
    let place = line.place;
    let is_wanted = |key: &str| {
        let is_tags = match &columns.tags_key {
            Some(tags_key) => key == tags_key,
            None => DEFAULT_TAGS.contains(&key),
        };
        let beside = key == columns.text_key || spans::SPANS.contains(&key);
        key == columns.tokens_key || (columns.tagged && (is_tags || beside))
    };
    let mut row = Row::parse(line, columns.keep_extra, &is_wanted)?;
    let tags_key = columns.tags_key_among(|key| row.object.contains_key(key));
    let tokens = row.tokens(&columns.tokens_key)?;
    let tags = if columns.tagged {
        Some(row.tags(tags_key, labels)?)
    } else {
        None
    };
    place.same_length(&tokens, tags.as_deref())?;
    if let Some(tags) = &tags {
        spans::check_agreement(&row.object, &tokens, tags, place, columns)?;
    }
    Ok(TokenExample {
        tokens,
        tags,
        line: place.line,
        extra: columns.keep_extra.then_some(row.object),
    })
}

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
        let object = if whole {
            line.object()?
        } else {
            wanted_keys(line.text, wanted).map_err(|error| line.malformed(&error))?
        };
        Ok(Self {
            line,
            object,
            whole,
        })
    }

    /// The value of a key: a copy of it if the object stays whole.
    fn value(&mut self, key: &str) -> Result<Value> {
        let value = if self.whole {
            self.object.get(key).cloned()
        } else {
            self.object.remove(key)
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
        Err(missing_key(self.place(), key, &self.object))
    }

    fn place(&self) -> Place<'a> {
        self.line.place
    }

    fn wrong_type(&self, key: String, found: &Value, expected: &'static str) -> DataError {
        wrong_type(self.place(), key, found, expected)
    }

    fn text(&mut self, key: &str) -> Result<String> {
        match self.value(key)? {
            Value::String(text) => Ok(text),
            other => Err(self.wrong_type(key.to_string(), &other, "a string")),
        }
    }

    fn label(&mut self, key: &str, text: Option<&str>, labels: &Labels) -> Result<String> {
        let label = match self.value(key)? {
            Value::String(label) => label,
            Value::Number(number) if number.is_i64() => {
                match text.and_then(|key| self.object.get(key)) {
                    Some(Value::String(text)) => text.clone(),
                    _ => number.to_string(),
                }
            }
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
            return Err(self.place().empty("tokens"));
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
            Value::Number(number) => match number.as_i64() {
                Some(index) => labels.resolve_integer(index, key, place),
                None => Err(self.wrong_type(
                    format!("{key}[{i}]"),
                    &Value::Number(number),
                    "a string or an integer",
                )),
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

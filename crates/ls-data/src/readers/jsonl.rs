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
use super::turned_down::{self, TurnedDown};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::text_label::{LabelKind, TextLabel};

/// Texts of a JSON file.
pub(super) struct SequenceRows<'a> {
    objects: Objects<'a>,
    keys: SequenceKeys,
    rule: TextRule,
    labels: Labels,
    keep_extra: bool,
    turned_down: TurnedDown,
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
        turned_down: TurnedDown,
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
            turned_down,
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
            turned_down,
        } = self;
        loop {
            let row = |line: Line<'_>| sequence_row(line, keys, rule, labels, *keep_extra);
            match objects.map_row(row)?.transpose() {
                None => turned_down.add(),
                row => return row,
            }
        }
    }
}

impl SequenceKeys {
    /// Those of its parts.
    fn parts(&self) -> impl Iterator<Item = &String> {
        let others = [&self.text_pair, &self.label, &self.label_text];
        self.text.iter().chain(others.into_iter().flatten())
    }

    /// Whether the answer of an annotator stands beside the parts.
    fn may_be_turned_down(&self) -> bool {
        self.label.is_some() && !self.parts().any(|key| key == turned_down::ANSWER)
    }
}

/// Reads the object of a text; nothing if it was turned down.
fn sequence_row(
    line: Line<'_>,
    keys: &SequenceKeys,
    rule: &TextRule,
    labels: &Labels,
    keep_extra: bool,
) -> Result<Option<SequenceExample>> {
    let answered = keys.may_be_turned_down();
    let wanted = |key: &str| {
        let answer = answered && key == turned_down::ANSWER;
        answer || keys.parts().any(|wanted| wanted == key)
    };
    let mut row = Row::parse(line, keep_extra, &wanted)?;
    if answered && turned_down::by_answer(&row.object) {
        return Ok(None);
    }
    let blank = rule.blank();
    let parts = keys.text.iter().map(|key| row.text(key, blank));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let text_pair = keys
        .text_pair
        .as_ref()
        .map(|key| row.text(key, blank))
        .transpose()?;
    let text = rule.text(parts, line.place)?;
    let text_pair = text_pair
        .map(|text| rule.text([text], line.place))
        .transpose()?;
    if blank {
        let first = keys.text.first().filter(|_| text.trim().is_empty());
        mark_missing(&mut row.object, [first, keys.text_pair.as_ref()]);
    }
    let label = keys.label.as_ref();
    Ok(Some(SequenceExample {
        text,
        text_pair,
        label: label
            .map(|key| row.label(key, keys.label_text.as_deref(), labels))
            .transpose()?,
        line: line.place.line,
        extra: keep_extra.then_some(row.object),
    }))
}

/// Puts `null` where the answer looks for a text and its pair, if there is none under their keys.
/// What else stands there is set aside as the answer does with it.
fn mark_missing(object: &mut Map<String, Value>, keys: [Option<&String>; 2]) {
    let missing = keys.map(|key| key.filter(|key| object.get(*key) == Some(&Value::Null)));
    for (name, key) in ["text", "text_pair"].into_iter().zip(missing) {
        if key.is_none() {
            continue;
        }
        if let Some(other) = object.insert(name.to_string(), Value::Null)
            && other != Value::Null
        {
            object.entry(format!("input_{name}")).or_insert(other);
        }
    }
}

/// Word lists of a JSON file: lists of words with their tags, or texts with spans. The first object
/// tells which; where no tags are read, each object does.
pub(super) struct TokenRows<'a> {
    objects: Objects<'a>,
    columns: TokenColumns,
    labels: Labels,
    /// Whether the objects are texts, once one was seen.
    texts: Option<bool>,
    repairs: SpanRepairs,
    turned_down: TurnedDown,
}

impl<'a> TokenRows<'a> {
    pub(super) fn new(
        source: Source<'a>,
        path: &Path,
        columns: TokenColumns,
        labels: Labels,
        (repairs, turned_down): (SpanRepairs, TurnedDown),
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
            turned_down,
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
            turned_down,
        } = self;
        loop {
            let row = |line: Line<'_>| {
                let is_text = match *texts {
                    Some(texts) if columns.tagged => texts,
                    first => {
                        let object = spans::object(line, columns)?;
                        let is_text = spans::is_text(&object, columns);
                        // What is neither is told by what the first one was.
                        let neither = !is_text && !object.contains_key(&columns.tokens_key);
                        texts.get_or_insert(is_text);
                        first.filter(|_| neither).unwrap_or(is_text)
                    }
                };
                if is_text {
                    text_row(line, columns, labels, repairs)
                } else {
                    token_row(line, columns, labels)
                }
            };
            match objects.map_row(row)?.transpose() {
                None => turned_down.add(),
                row => return row,
            }
        }
    }
}

/// A text with spans; nothing if it was turned down. Its text is kept even where the rest of the
/// object is not: it is what the places of predictions count in.
fn text_row(
    line: Line<'_>,
    columns: &TokenColumns,
    labels: &Labels,
    repairs: &SpanRepairs,
) -> Result<Option<TokenExample>> {
    let mut object = spans::object(line, columns)?;
    if columns.tagged && turned_down::spans(&object, columns) {
        return Ok(None);
    }
    let row = spans::row(&object, line.place, columns, labels, repairs)?;
    if !columns.keep_extra {
        object.clear();
    }
    object.insert(
        "text".to_string(),
        row.text.map_or(Value::Null, Value::String),
    );
    Ok(Some(TokenExample {
        tokens: row.tokens,
        tags: row.tags,
        line: line.place.line,
        extra: Some(object),
    }))
}

/// A list of words; nothing if it was turned down.
fn token_row(
    line: Line<'_>,
    columns: &TokenColumns,
    labels: &Labels,
) -> Result<Option<TokenExample>> {
    let place = line.place;
    let is_wanted = |key: &str| {
        let is_tags = match &columns.tags_key {
            Some(tags_key) => key == tags_key,
            None => DEFAULT_TAGS.contains(&key),
        };
        let beside =
            key == columns.text_key || spans::SPANS.contains(&key) || key == turned_down::ANSWER;
        key == columns.tokens_key || (columns.tagged && (is_tags || beside))
    };
    let mut row = Row::parse(line, columns.keep_extra, &is_wanted)?;
    let tags_key = columns.tags_key_among(|key| row.object.contains_key(key));
    if columns.tagged && turned_down::by_answer(&row.object) {
        return Ok(None);
    }
    let tokens = row.tokens(&columns.tokens_key, columns.blank)?;
    let tags = if columns.tagged {
        Some(row.tags(tags_key, labels)?)
    } else {
        None
    };
    place.same_length(&tokens, tags.as_deref())?;
    if let Some(tags) = &tags {
        spans::check_agreement(&row.object, &tokens, tags, place, columns)?;
    }
    Ok(Some(TokenExample {
        tokens,
        tags,
        line: place.line,
        extra: columns.keep_extra.then_some(row.object),
    }))
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

    /// The text of a key. Where a blank one may be, `null` is one: so pandas writes what is
    /// missing.
    fn text(&mut self, key: &str, blank: bool) -> Result<String> {
        match self.value(key)? {
            Value::String(text) => Ok(text),
            Value::Null if blank => Ok(String::new()),
            other => Err(self.wrong_type(key.to_string(), &other, "a string")),
        }
    }

    fn label(&mut self, key: &str, text: Option<&str>, labels: &Labels) -> Result<TextLabel> {
        let place = self.place();
        match (labels.kind, self.value(key)?) {
            (LabelKind::Class, Value::String(label)) => labels.written(&label, place),
            (LabelKind::Class, Value::Number(number)) if number.is_i64() => {
                match text.and_then(|key| self.object.get(key)) {
                    Some(Value::String(text)) => labels.written(text, place),
                    _ => labels.written(&number.to_string(), place),
                }
            }
            (LabelKind::Class, other) => {
                Err(self.wrong_type(key.to_string(), &other, "a string or an integer"))
            }
            (LabelKind::Classes, Value::Array(list)) => {
                let name = |(i, value): (usize, Value)| match value {
                    Value::String(name) => Ok(name),
                    Value::Number(number) if number.is_i64() => Ok(number.to_string()),
                    other => {
                        let expected = "a string or an integer";
                        Err(self.wrong_type(format!("{key}[{i}]"), &other, expected))
                    }
                };
                let names = list.into_iter().enumerate().map(name);
                labels.classes(&names.collect::<Result<Vec<_>>>()?, place)
            }
            (LabelKind::Classes, Value::String(label)) if labels.delimiter.is_some() => {
                labels.written(&label, place)
            }
            (LabelKind::Classes, other) => {
                Err(self.wrong_type(key.to_string(), &other, "a list of labels"))
            }
            (LabelKind::Number, Value::Number(number)) => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                labels.number(value, &number.to_string(), place)
            }
            (LabelKind::Number, Value::String(number)) => labels.written(&number, place),
            (LabelKind::Number, other) => Err(self.wrong_type(key.to_string(), &other, "a number")),
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>> {
        match self.value(key)? {
            Value::Array(list) => Ok(list),
            other => Err(self.wrong_type(key.to_string(), &other, "a list")),
        }
    }

    fn tokens(&mut self, key: &str, blank: bool) -> Result<Vec<String>> {
        let list = match self.object.get(key) {
            Some(Value::Null) if blank => Vec::new(),
            _ => self.list(key)?,
        };
        if list.is_empty() && !blank {
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

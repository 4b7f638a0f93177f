//! A row of any format: its place in the file, its limits, and the names of its labels.

use std::collections::BTreeSet;
use std::path::Path;

use ls_files::shown;
use serde_json::Value;

use crate::error::{DataError, Result, unknown_label};
use crate::text_label::{LabelKind, TextLabel};

/// Longest row, in bytes: some 700,000 words. What is longer is no text with a label but a file
/// without line ends, or one whose quotes do not match. As tokens, or as values of JSON, a row
/// takes up to a hundred times its size of memory.
pub(super) const MAX_ROW: usize = 4 << 20;

/// Where a row stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    /// From 1.
    pub(super) line: usize,
}

impl Place<'_> {
    /// The value, unless it is empty or white space.
    pub(super) fn required<'v>(self, value: &'v str, what: &'static str) -> Result<&'v str> {
        if value.trim().is_empty() {
            Err(self.empty(what))
        } else {
            Ok(value)
        }
    }

    pub(super) fn empty(self, what: &'static str) -> DataError {
        DataError::EmptyField {
            path: self.path.to_path_buf(),
            line: self.line,
            what,
        }
    }

    /// The classes of a text, of which none may stand there twice.
    pub(super) fn each_once(self, names: Vec<String>) -> Result<TextLabel> {
        let mut seen = BTreeSet::new();
        match names.iter().find(|name| !seen.insert(*name)) {
            None => Ok(TextLabel::Classes(names)),
            Some(label) => Err(DataError::LabelTwice {
                path: self.path.to_path_buf(),
                line: self.line,
                label: label.clone(),
            }),
        }
    }

    pub(super) fn same_length(self, tokens: &[String], tags: Option<&[String]>) -> Result<()> {
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

/// What the labels in a file are, and what they stand for.
pub(super) struct Labels {
    /// What the label of a text is.
    pub(super) kind: LabelKind,
    /// What parts the classes of a text where they stand in one string; a JSON list without.
    pub(super) delimiter: Option<String>,
    pub(super) names: Option<Vec<String>>,
    /// The integer of the first name.
    pub(super) first: i64,
}

impl Labels {
    /// Whether integers have names.
    pub(super) fn named(&self) -> bool {
        self.names.is_some()
    }

    /// The label of a text as a string says it.
    pub(super) fn written(&self, label: &str, place: Place<'_>) -> Result<TextLabel> {
        match self.kind {
            LabelKind::Class => Ok(TextLabel::Class(self.resolve(label, place)?)),
            LabelKind::Classes => self.classes(&self.parts(label, place)?, place),
            LabelKind::Number => {
                let number = label.trim().parse().unwrap_or(f64::NAN);
                self.number(number, label, place)
            }
        }
    }

    /// The names of several classes in one string.
    fn parts(&self, label: &str, place: Place<'_>) -> Result<Vec<String>> {
        if let Some(delimiter) = &self.delimiter {
            let none = label.trim().is_empty();
            let parts = label.split(delimiter.as_str()).filter(|_| !none);
            return Ok(parts.map(str::to_string).collect());
        }
        let name = |value: Value| match value {
            Value::String(name) => Some(name),
            Value::Number(number) if number.is_i64() => Some(number.to_string()),
            _ => None,
        };
        let list = serde_json::from_str::<Vec<Value>>(label).ok();
        let names = list.and_then(|list| list.into_iter().map(name).collect());
        names.ok_or_else(|| DataError::LabelList {
            path: place.path.to_path_buf(),
            line: place.line,
            found: shown(label),
        })
    }

    /// Several classes by what stands for each, or none.
    pub(super) fn classes(&self, labels: &[String], place: Place<'_>) -> Result<TextLabel> {
        let names = labels.iter().map(|label| self.resolve(label, place));
        place.each_once(names.collect::<Result<_>>()?)
    }

    /// A number, which is `written` so.
    pub(super) fn number(&self, number: f64, written: &str, place: Place<'_>) -> Result<TextLabel> {
        let number = number as f32;
        if number.is_finite() {
            return Ok(TextLabel::Number(number));
        }
        Err(DataError::NotANumber {
            path: place.path.to_path_buf(),
            line: place.line,
            found: shown(written),
        })
    }

    /// The name that a label stands for. A label that is itself a name wins over its value as an
    /// integer: where classes are named `1` to `4`, the label `1` is the class `1`.
    pub(super) fn resolve(&self, label: &str, place: Place<'_>) -> Result<String> {
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
    pub(super) fn resolve_integer(
        &self,
        index: i64,
        key: &str,
        place: Place<'_>,
    ) -> Result<String> {
        if self.named() {
            self.resolve(&index.to_string(), place)
        } else {
            Err(DataError::NamesNeeded {
                path: place.path.to_path_buf(),
                line: place.line,
                key: key.to_string(),
            })
        }
    }

    /// A label that is a name already, whatever it looks like.
    #[cfg(feature = "parquet")]
    pub(super) fn resolve_name(&self, name: &str, place: Place<'_>) -> Result<String> {
        let name = place.required(name, "label")?;
        match &self.names {
            Some(names) if !names.iter().any(|known| known == name) => {
                Err(unknown_label(name, names, place.path, place.line))
            }
            _ => Ok(name.to_string()),
        }
    }
}

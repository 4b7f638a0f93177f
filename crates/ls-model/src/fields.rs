//! Typed access to the fields of `config.json`, with errors that name file and field.

use std::path::Path;

use serde_json::{Map, Value};

use ls_files::{Bounds, shown};

use crate::bounds::{LEAST_OF_ROPE, MOST_OF_ROPE};
use crate::error::{ModelError, Result};

/// A JSON object of the file.
pub(crate) struct Fields<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// What stands before a field's name in messages: empty, or the object's own name and a dot.
    pub within: &'a str,
    /// The object.
    pub map: &'a Map<String, Value>,
}

impl Fields<'_> {
    pub(crate) fn error(&self, field: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Config {
            path: self.path.to_path_buf(),
            field: format!("{}{field}", self.within),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(&self, field: &str, value: &str, supported: &str) -> ModelError {
        ModelError::Unsupported {
            path: self.path.to_path_buf(),
            field: format!("{}{field}", self.within),
            value: shown(value),
            supported: supported.into(),
        }
    }

    /// The value of a field; `None` if it is absent or null.
    fn get<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(
                    field,
                    format!("expected {expected}, found {}", shown(value)),
                )),
            },
        }
    }

    pub(crate) fn string(&self, field: &str) -> Result<Option<String>> {
        self.get(field, "a string", |value| value.as_str().map(String::from))
    }

    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>> {
        self.get(field, "a number", Value::as_f64)
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>> {
        self.get(field, "true or false", Value::as_bool)
    }

    /// An integer within its bounds.
    pub(crate) fn size(&self, field: &str, bounds: Bounds) -> Result<Option<usize>> {
        let expected = format!("an integer from {bounds}");
        self.get(field, &expected, |value| {
            let value = value.as_u64().filter(|n| bounds.hold(*n))?;
            usize::try_from(value).ok()
        })
    }

    /// A number from 0 on, and under 1 or at most 1.
    pub(crate) fn fraction(&self, field: &str, with_one: bool) -> Result<Option<f64>> {
        let expected = if with_one {
            "a number from 0 to 1"
        } else {
            "a number from 0 on and under 1"
        };
        self.get(field, expected, |value| {
            let value = value.as_f64()?;
            let within = (0.0..1.0).contains(&value) || (with_one && value == 1.0);
            within.then_some(value)
        })
    }

    /// What something is multiplied by, or is not to pass.
    pub(crate) fn factor(&self, field: &str) -> Result<Option<f64>> {
        self.get(field, "a number from 1e-6 to 1e6", |value| {
            value.as_f64().filter(|value| (1e-6..=1e6).contains(value))
        })
    }

    /// A list; each of its entries is read by `entry`.
    pub(crate) fn list<T>(
        &self,
        field: &str,
        expected: &str,
        entry: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        self.get(field, expected, |value| {
            value.as_array()?.iter().map(&entry).collect()
        })
    }

    /// Older conversions write a negative id for "none".
    pub(crate) fn token_id(&self, field: &str) -> Result<Option<u32>> {
        let id = self.get(field, "a token id", |value| {
            value.as_i64().filter(|id| *id <= u32::MAX.into())
        })?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    pub(crate) fn required_size(&self, field: &str, bounds: Bounds) -> Result<usize> {
        self.size(field, bounds)?
            .ok_or_else(|| self.error(field, "is missing"))
    }

    /// A number of the rotary embedding: over 0, and not past all use.
    pub(crate) fn of_rope(&self, field: &str) -> Result<Option<f64>> {
        let number = self.number(field)?;
        number
            .map(|value| self.within_rope(field, value))
            .transpose()
    }

    fn within_rope(&self, field: &str, value: f64) -> Result<f64> {
        let reason = match value {
            ..=0.0 => format!("{value} is not positive"),
            ..LEAST_OF_ROPE => format!("expected at least {LEAST_OF_ROPE:e}, found {value:e}"),
            ..=MOST_OF_ROPE => return Ok(value),
            _ => format!("expected at most {MOST_OF_ROPE:e}, found {value:e}"),
        };
        Err(self.error(field, reason))
    }

    /// So many numbers of the rotary embedding, one for each pair of channels that turns.
    pub(crate) fn list_of_rope(&self, field: &str, pairs: usize) -> Result<Vec<f64>> {
        let expected = format!("a list of {pairs} numbers");
        let list = self.get(field, &expected, |value| {
            let numbers = value.as_array()?.iter();
            numbers.map(Value::as_f64).collect::<Option<Vec<f64>>>()
        })?;
        let list = list.ok_or_else(|| self.error(field, "is missing"))?;
        if list.len() != pairs {
            let reason = format!(
                "expected {pairs} numbers, one for each pair of channels that turns, found {}",
                list.len()
            );
            return Err(self.error(field, reason));
        }
        let numbers = list.into_iter().enumerate();
        numbers
            .map(|(at, value)| self.within_rope(&format!("{field}[{at}]"), value))
            .collect()
    }

    pub(crate) fn required_of_rope(&self, field: &str) -> Result<f64> {
        self.of_rope(field)?
            .ok_or_else(|| self.error(field, "is missing"))
    }
}

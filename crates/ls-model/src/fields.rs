//! Typed access to the fields of `config.json`, with errors that name file and field.

use std::path::Path;

use serde_json::{Map, Value};

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
            value: value.into(),
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
                None => Err(self.error(field, format!("expected {expected}, found {value}"))),
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

    pub(crate) fn size(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a positive integer", |value| {
            value.as_u64().filter(|n| *n > 0).map(|n| n as usize)
        })
    }

    pub(crate) fn size_or_zero(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a non-negative integer", |value| {
            value.as_u64().map(|n| n as usize)
        })
    }

    /// Older conversions write a negative id for "none".
    pub(crate) fn token_id(&self, field: &str) -> Result<Option<u32>> {
        let id = self.get(field, "a token id", |value| {
            value.as_i64().filter(|id| *id <= u32::MAX.into())
        })?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    pub(crate) fn required_size(&self, field: &str) -> Result<usize> {
        self.size(field)?
            .ok_or_else(|| self.error(field, "is missing"))
    }

    pub(crate) fn required_positive(&self, field: &str) -> Result<f64> {
        match self.number(field)? {
            Some(value) if value > 0.0 => Ok(value),
            Some(value) => Err(self.error(field, format!("{value} is not positive"))),
            None => Err(self.error(field, "is missing")),
        }
    }
}

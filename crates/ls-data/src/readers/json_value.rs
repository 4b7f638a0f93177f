//! A JSON object of a file, and what is said of one that is malformed, or of a value that is
//! missing or of another type than is needed.

use ls_files::{FileError, nearest};
use serde_json::{Map, Value};

use super::lines::Line;
use super::row::Place;
use crate::error::{DataError, Result};

impl Line<'_> {
    /// The object that is written here.
    pub(super) fn object(&self) -> Result<Map<String, Value>> {
        serde_json::from_str(self.text).map_err(|error| self.malformed(&error))
    }

    /// The error of an object that cannot be read.
    pub(super) fn malformed(&self, error: &serde_json::Error) -> DataError {
        let mut fault = FileError::json(self.place.path, self.place.line, error);
        if let FileError::Malformed { column, .. } = &mut fault
            && error.line() <= 1
        {
            *column += self.before;
        }
        fault.into()
    }
}

/// The error of a value of another type than is needed.
pub(super) fn wrong_type(
    place: Place<'_>,
    key: String,
    found: &Value,
    expected: &'static str,
) -> DataError {
    DataError::WrongType {
        path: place.path.to_path_buf(),
        line: place.line,
        key,
        found: type_name(found),
        expected,
    }
}

/// The error of a key that an object does not have.
pub(super) fn missing_key(place: Place<'_>, key: &str, object: &Map<String, Value>) -> DataError {
    DataError::MissingKey {
        path: place.path.to_path_buf(),
        line: place.line,
        key: key.to_string(),
        available: object.keys().cloned().collect(),
        nearest: nearest(key, object.keys().map(String::as_str)),
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

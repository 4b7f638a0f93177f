//! Reads and writes JSON and TOML; errors hold the place of a fault.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{FileError, Result};
use crate::read::{MAX_TEXT_BYTES, place, read, read_text, read_up_to};
use crate::{shown, write_atomic};

/// Reads a JSON file.
///
/// # Errors
///
/// As [`read_text`]; [`FileError::Malformed`].
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    parse_json(&read_up_to(path, MAX_TEXT_BYTES)?, path)
}

/// Reads a JSON file that this project wrote, which may be larger than what others wrote is taken
/// to be: the report of a run has a confusion matrix, the record of a sweep every configuration.
///
/// # Errors
///
/// As [`read`]; [`FileError::Malformed`].
pub fn read_own_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    parse_json(&read(path)?, path)
}

/// Reads a TOML file.
///
/// # Errors
///
/// As [`read_text`]; [`FileError::Malformed`].
pub fn read_toml<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    parse_toml(&read_text(path)?, path)
}

/// Parses JSON that is the content of `path`.
///
/// # Errors
///
/// [`FileError::Malformed`], also for bytes that are not UTF-8.
pub fn parse_json<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| FileError::json(path, 1, &error))
}

/// Parses TOML that is the content of `path`.
///
/// # Errors
///
/// [`FileError::Malformed`].
pub fn parse_toml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let (line, column) = place(&text.as_bytes()[..at]);
        FileError::Malformed {
            path: path.to_path_buf(),
            line,
            column,
            format: "TOML",
            message: shown(error.message().trim().replace('\n', " ")),
        }
    })
}

/// Writes a value as indented JSON with a line end; the file is there whole or not at all.
///
/// # Errors
///
/// [`FileError::Write`], also for a value that JSON cannot hold.
pub fn write_json(path: impl AsRef<Path>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    let path = path.as_ref();
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| FileError::writing(path)(error.into()))?;
    write_atomic(path, text + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Numbers = BTreeMap<String, u32>;

    #[test]
    fn faults_in_json_come_with_their_place() {
        let check = |text: &[u8], expected: &str| {
            let error = parse_json::<Numbers>(text, Path::new("a.json")).unwrap_err();
            assert_eq!(error.to_string(), format!("a.json:{expected}"));
        };
        check(b"", "1:1: malformed JSON: EOF while parsing a value");
        check(b"{\n \"a\": x}", "2:7: malformed JSON: expected value");
        check(
            b"{\"a\": \"b\"}",
            "1:9: malformed JSON: invalid type: string \"b\", expected u32",
        );
        check(
            b"{\"\xff\": 1}",
            "1:3: malformed JSON: invalid unicode code point",
        );
    }

    #[test]
    fn faults_in_toml_come_with_their_place_in_one_line() {
        let check = |text: &str, expected: &str| {
            let error = parse_toml::<Numbers>(text, Path::new("a.toml")).unwrap_err();
            let message = error.to_string();
            assert!(
                message.starts_with(&format!("a.toml:{expected}")) && !message.contains('\n'),
                "{message}"
            );
        };
        check("a = 1\nb = [\n", "2:6: malformed TOML: unclosed array");
        check("a = 1\na = 2\n", "2:1: malformed TOML: duplicate key");
        check(
            "a = \"b\"\n",
            "1:5: malformed TOML: invalid type: string \"b\", expected u32",
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let value = Numbers::from([("a".into(), 1)]);
        write_json(&path, &value).unwrap();
        assert_eq!(read_text(&path).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(read_json::<Numbers>(&path).unwrap(), value);
        std::fs::write(&path, "a = 1").unwrap();
        assert_eq!(read_toml::<Numbers>(&path).unwrap(), value);
        // JSON's keys are texts.
        let odd = BTreeMap::from([(vec![1], 1)]);
        assert!(matches!(
            write_json(&path, &odd),
            Err(FileError::Write { .. })
        ));
    }
}

//! `label.json`, which says what the integers in the files beside it mean.

use std::path::Path;

use ls_files::FileError;
use serde_json::Value;

use crate::error::{DataError, Result};

/// Reads names and their integers, as in the repositories of tner: `{"O": 0, "B-PER": 1}`, or a
/// list of names. The names come in the order of their integers.
///
/// # Errors
/// A file that cannot be read, or that is anything else: integers must be those from 0 on, each
/// once.
pub fn read_label_json(path: &Path) -> Result<Vec<String>> {
    let value: Value = ls_files::read_json(path)?;
    let names = match value {
        Value::Array(names) => names
            .into_iter()
            .map(|name| Some(name.as_str()?.to_string()))
            .collect::<Option<Vec<_>>>(),
        Value::Object(ids) => in_order(ids),
        _ => None,
    };
    let names = names.filter(|names| !names.is_empty());
    names.ok_or_else(|| DataError::LabelJson {
        path: path.to_path_buf(),
    })
}

fn in_order(ids: serde_json::Map<String, Value>) -> Option<Vec<String>> {
    let mut names = vec![None; ids.len()];
    for (name, id) in ids {
        let place = names.get_mut(usize::try_from(id.as_u64()?).ok()?)?;
        if place.replace(name).is_some() {
            return None;
        }
    }
    names.into_iter().collect()
}

/// The names in the `label.json` beside a file, if there is one of names. It was not asked for:
/// where it is needed and of no use, the error is that of integers without names.
///
/// # Errors
/// A file that the system does not let be read: what it says is not known.
pub(super) fn beside(path: &Path) -> Result<Option<Vec<String>>> {
    match read_label_json(&path.with_file_name("label.json")) {
        Err(error @ DataError::File(FileError::Read { .. })) => Err(error),
        names => Ok(names.ok()),
    }
}

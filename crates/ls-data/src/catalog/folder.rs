//! What is said of a folder where a file is needed: what it holds, and what to write instead.

use std::path::Path;

use ls_files::FileError;

use super::spec::{DatasetSpec, SplitName};
use crate::error::DataError;
use crate::readers::FileFormat;

/// The error of a folder that was named in the place of a file; `known` are the data sets that it
/// may hold.
pub(super) fn fault(path: &Path, known: &[DatasetSpec]) -> DataError {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return FileError::reading(path)(error).into(),
    };
    let mut held: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            Some(if is_folder { format!("{name}/") } else { name })
        })
        .collect();
    held.sort();
    let readable = |name: &&String| FileFormat::from_path(Path::new(name)).is_ok();
    let mut files = held.iter().filter(readable);
    let train = files.clone().find(|name| name.contains("train"));
    let example = train.or_else(|| files.next());
    let datasets = known.iter().filter(|spec| {
        let located = spec.locate(path, spec.languages.first().map(String::as_str));
        located.is_ok_and(|located| located.split(SplitName::Train).is_some())
    });
    DataError::IsFolder {
        path: path.to_path_buf(),
        example: example.map(|name| path.join(name)),
        datasets: datasets.map(|spec| spec.name.clone()).collect(),
        held,
    }
}

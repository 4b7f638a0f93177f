//! Which files of a repository are needed.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{HubError, Result};

/// The weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of the files that the weights are spread over; it wins over [`SINGLE`], as in the loader.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// What a model is of no use without.
pub(crate) const CONFIG: &str = "config.json";
/// A tokenizer is any of these.
pub(crate) const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "vocab.json"];
/// Files of a data set that can be read.
const DATA: [&str; 8] = [
    ".parquet", ".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".conll", ".txt",
];

/// Which files of a repository are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// What a model is trained from: `config.json`, the tokenizer, and the weights as safetensors at the top of the
    /// repository (not `original/`, not `consolidated*`, not pickles).
    Weights,
    /// These, by their path in the repository.
    Named(Vec<String>),
    /// Whatever a data set holds as parquet, JSON, CSV, TSV, CoNLL columns or plain text.
    Data,
}

/// Whether [`Files::Data`] takes a file.
pub(crate) fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    !name.starts_with('.')
        && !["dataset_infos.json", "license.txt", "requirements.txt"].contains(&name.as_str())
        && DATA.iter().any(|end| name.ends_with(end))
}

/// The files that an index spreads the weights over, in order of their names.
///
/// # Errors
/// No JSON object with an object `weight_map` of file names.
pub(crate) fn shards(path: &Path, index: &[u8]) -> Result<Vec<String>> {
    let bad = |message: String| HubError::BadFile {
        path: path.into(),
        message,
    };
    let json: serde_json::Value =
        serde_json::from_slice(index).map_err(|error| bad(error.to_string()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| bad("no object weight_map".into()))?;
    let mut shards = BTreeSet::new();
    for (name, shard) in map {
        let is_name = |shard: &&str| !shard.is_empty() && !shard.contains(['/', '\\']);
        let Some(shard) = shard.as_str().filter(is_name) else {
            return Err(bad(format!(
                "weight_map: {name}: expected a file name, found {shard}"
            )));
        };
        shards.insert(shard.to_string());
    }
    if shards.is_empty() {
        return Err(bad("weight_map is empty".into()));
    }
    Ok(shards.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_files_are_told_by_their_ends() {
        for path in [
            "train.jsonl",
            "data/a.PARQUET",
            "a/b/eng.train.txt",
            "x.conll",
        ] {
            assert!(is_data(path), "{path}");
        }
        for path in [
            "README.md",
            ".gitattributes",
            "data/.a.json",
            "dataset_infos.json",
            "s.py",
            "LICENSE.txt",
        ] {
            assert!(!is_data(path), "{path}");
        }
    }

    #[test]
    fn an_index_names_its_shards_once_and_in_order() {
        let index = br#"{"metadata":{},"weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-1.safetensors"}}"#;
        let names = shards(Path::new("i.json"), index).unwrap();
        assert_eq!(names, ["m-1.safetensors", "m-2.safetensors"]);
    }

    #[test]
    fn a_bad_index_says_what_is_wrong() {
        let check = |index: &str, expected: &str| {
            let error = shards(Path::new("i.json"), index.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("i.json: ") && error.contains(expected),
                "{error}"
            );
        };
        check("{", "EOF");
        check("[]", "no object weight_map");
        check(r#"{"weight_map":{}}"#, "weight_map is empty");
        check(
            r#"{"weight_map":{"a":"../../x"}}"#,
            "weight_map: a: expected a file name, found \"../../x\"",
        );
        check(r#"{"weight_map":{"a":1}}"#, "found 1");
    }
}

//! The index of weights that are spread over several files: `model.safetensors.index.json`, or
//! `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::error::{FileError, Result};
use crate::{read_json, shown};

/// Which of several files, the shards, holds which tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// File names of the shards, sorted.
    pub shards: Vec<String>,
    /// Name of a tensor -> its shard, as a position in [`ShardIndex::shards`].
    pub place: BTreeMap<String, usize>,
}

impl ShardIndex {
    /// Reads an index. The shards themselves are not looked at.
    ///
    /// # Errors
    ///
    /// As [`read_json`]; [`FileError::Unusable`] if there is no `weight_map`, if it is empty, or if
    /// it holds anything but names of files beside the index.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let unusable = |reason: String| FileError::Unusable {
            path: path.to_path_buf(),
            what: "index of weight files",
            reason,
        };
        let json: Value = read_json(path)?;
        let map = json.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| unusable("no object weight_map".into()))?;
        let mut of_tensors = Vec::with_capacity(map.len());
        for (tensor, shard) in map {
            let is_name = |shard: &&str| !shard.is_empty() && !shard.contains(['/', '\\']);
            let name = shard.as_str().filter(is_name).ok_or_else(|| {
                unusable(format!(
                    "weight_map: {}: expected a file name, found {}",
                    shown(tensor),
                    shown(shard)
                ))
            })?;
            of_tensors.push((tensor, name));
        }
        if of_tensors.is_empty() {
            return Err(unusable("weight_map is empty".into()));
        }
        let shards: BTreeSet<&str> = of_tensors.iter().map(|(_, shard)| *shard).collect();
        let shards: Vec<String> = shards.into_iter().map(String::from).collect();
        let at = |name: &str| shards.partition_point(|shard| shard.as_str() < name);
        let place = of_tensors
            .into_iter()
            .map(|(tensor, shard)| (tensor.clone(), at(shard)))
            .collect();
        Ok(Self { shards, place })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(index: &str) -> Result<ShardIndex> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.json");
        std::fs::write(&path, index).unwrap();
        ShardIndex::read(&path)
    }

    #[test]
    fn an_index_names_its_shards_once_and_in_order() {
        let index = read(
            r#"{"metadata":{},"weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-1.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(index.shards, ["m-1.safetensors", "m-2.safetensors"]);
        let place = ["a", "b", "c"].map(|tensor| index.place[tensor]);
        assert_eq!(place, [0, 1, 0]);
    }

    #[test]
    fn a_bad_index_says_what_is_wrong() {
        let check = |index: &str, expected: &str| {
            let error = read(index).unwrap_err().to_string();
            assert!(
                error.contains("i.json:") && error.contains(expected),
                "{error}"
            );
        };
        check("{", "malformed JSON: EOF");
        check("[]", "no object weight_map");
        check(r#"{"weight_map":{}}"#, "weight_map is empty");
        check(
            r#"{"weight_map":{"a":"../../x"}}"#,
            "weight_map: a: expected a file name, found \"../../x\"",
        );
        check(r#"{"weight_map":{"a":1}}"#, "found 1");
    }
}

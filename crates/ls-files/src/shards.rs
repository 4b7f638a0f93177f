//! Weights that are spread over several files, and their index: `model.safetensors.index.json`, or
//! `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{FileError, Result};
use crate::{HostTensor, read_json, shown, write_json, write_tensors};

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

/// Writes weights into a folder as transformers does: `model.safetensors`, or, where they are of
/// more than `most` bytes, shards of at most so many with their index. A larger tensor has a shard
/// of its own. Memory holds one shard at a time.
///
/// `sizes` has the name and the bytes of every tensor, in the order in which they fill the shards;
/// `read` gives the tensors of one.
///
/// # Errors
///
/// As [`write_tensors`] and [`write_json`], and whatever `read` says.
pub fn write_shards<E: From<FileError>>(
    dir: &Path,
    sizes: &[(String, usize)],
    most: usize,
    mut read: impl FnMut(&[&str]) -> std::result::Result<BTreeMap<String, HostTensor>, E>,
) -> std::result::Result<(), E> {
    let mut shards: Vec<Vec<&str>> = Vec::new();
    let mut filled = 0usize;
    for (name, bytes) in sizes {
        filled = filled.saturating_add(*bytes);
        if filled > most || shards.is_empty() {
            shards.push(Vec::new());
            filled = *bytes;
        }
        if let Some(shard) = shards.last_mut() {
            shard.push(name);
        }
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (at, names) in shards.iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
        };
        let tensors = read(names)?;
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_tensors(dir.join(&file), tensors)?;
        weight_map.extend(names.iter().map(|name| (*name, file.clone())));
    }
    if count > 1 {
        let total_size: usize = sizes.iter().map(|(_, bytes)| bytes).sum();
        let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        write_json(dir.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_what_fits_and_the_index_finds_it() {
        let sizes = [("b", 8), ("a", 8), ("wide", 40), ("c", 4)];
        let sizes = sizes.map(|(name, bytes)| (name.to_owned(), bytes));
        let read = |names: &[&str]| {
            let tensor = |name: &str| {
                let (_, bytes) = sizes.iter().find(|(other, _)| other == name).unwrap();
                HostTensor::from_f32([bytes / 4], &vec![name.len() as f32; bytes / 4])
            };
            let tensors = names.iter().map(|name| (name.to_string(), tensor(name)));
            Ok::<_, FileError>(tensors.collect())
        };
        let files = |dir: &Path| {
            let entries = std::fs::read_dir(dir).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        let dir = tempfile::tempdir().unwrap();
        write_shards(dir.path(), &sizes, 16, read).unwrap();
        let index = ShardIndex::read(dir.path().join("model.safetensors.index.json")).unwrap();
        let expected = ["1", "2", "3"].map(|at| format!("model-0000{at}-of-00003.safetensors"));
        assert_eq!(index.shards, expected);
        let place = ["b", "a", "wide", "c"].map(|tensor| index.place[tensor]);
        assert_eq!(place, [0, 0, 1, 2]);
        assert_eq!(files(dir.path()).len(), 4);
        let file = crate::TensorFile::open(dir.path().join(&expected[1])).unwrap();
        assert_eq!(file.read("wide").unwrap().to_f32().unwrap(), [4.0; 10]);

        let dir = tempfile::tempdir().unwrap();
        for most in [60, usize::MAX] {
            write_shards(dir.path(), &sizes, most, read).unwrap();
            assert!(files(dir.path()).into_iter().eq(["model.safetensors"]));
        }
    }

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

//! Weights that are spread over several files, and their index: `model.safetensors.index.json`, or
//! `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{FileError, Result};
use crate::{TensorHead, read_json, shown, write_json, write_tensors_in_parts};

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
/// of its own.
///
/// `tensors` are in the order in which they fill the shards. They are made one after the other:
/// `values` writes the bytes of the one at a place of `tensors`, in as many parts as it likes, so
/// that memory holds what one of them takes.
///
/// # Errors
///
/// As [`write_tensors_in_parts`] and [`write_json`], and whatever `values` says.
pub fn write_shards<E: From<FileError>>(
    dir: &Path,
    tensors: &[TensorHead<'_>],
    most: usize,
    mut values: impl FnMut(usize, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut shards: Vec<Range<usize>> = Vec::new();
    let mut filled = 0usize;
    for (at, tensor) in tensors.iter().enumerate() {
        filled = filled.saturating_add(tensor.bytes());
        match shards.last_mut() {
            Some(shard) if filled <= most => shard.end = at + 1,
            _ => {
                shards.push(at..at + 1);
                filled = tensor.bytes();
            }
        }
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (number, places) in (1..).zip(shards) {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        let (first, shard) = (places.start, &tensors[places]);
        write_tensors_in_parts(dir.join(&file), shard.to_vec(), |at, out| {
            values(first + at, out)
        })?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name, file.clone())));
    }
    if count > 1 {
        let total_size: usize = tensors.iter().map(TensorHead::bytes).sum();
        let sizes = tensors.iter().map(|of| of.shape.iter().product::<usize>());
        let metadata = json!({
            "total_parameters": sizes.sum::<usize>(),
            "total_size": total_size,
        });
        let index = json!({ "metadata": metadata, "weight_map": weight_map });
        write_json(dir.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn shards_hold_what_fits_and_the_index_finds_it() {
        let sizes = [("b", [2]), ("a", [2]), ("wide", [10]), ("c", [1])];
        let tensors = sizes.each_ref().map(|(name, shape)| TensorHead {
            name,
            dtype: Dtype::F32,
            shape,
        });
        let values = |at: usize, out: &mut dyn Write| {
            let TensorHead { name, shape, .. } = tensors[at];
            for _ in 0..shape[0] {
                let value = name.len() as f32;
                out.write_all(&value.to_le_bytes()).unwrap();
            }
            Ok::<_, FileError>(())
        };
        let files = |dir: &Path| {
            let entries = std::fs::read_dir(dir).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        let dir = tempfile::tempdir().unwrap();
        write_shards(dir.path(), &tensors, 16, values).unwrap();
        let index = ShardIndex::read(dir.path().join("model.safetensors.index.json")).unwrap();
        let expected = ["1", "2", "3"].map(|at| format!("model-0000{at}-of-00003.safetensors"));
        assert_eq!(index.shards, expected);
        let place = ["b", "a", "wide", "c"].map(|tensor| index.place[tensor]);
        assert_eq!(place, [0, 0, 1, 2]);
        assert_eq!(files(dir.path()).len(), 4);
        let json: Value = read_json(dir.path().join("model.safetensors.index.json")).unwrap();
        assert_eq!(
            json["metadata"],
            json!({"total_parameters": 15, "total_size": 60})
        );
        let file = crate::TensorFile::open(dir.path().join(&expected[1])).unwrap();
        assert_eq!(file.read("wide").unwrap().to_f32().unwrap(), [4.0; 10]);

        let dir = tempfile::tempdir().unwrap();
        for most in [60, usize::MAX] {
            write_shards(dir.path(), &tensors, most, values).unwrap();
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

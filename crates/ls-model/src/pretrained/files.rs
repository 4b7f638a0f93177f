//! The weight files of a Hugging Face folder: which tensor is in which file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_lora::{Dtype, TensorFile};

use crate::error::{ModelError, Result};

/// The opened files; only their headers are read.
#[derive(Debug, Default)]
pub(super) struct WeightFiles {
    files: Vec<TensorFile>,
    /// Tensor name -> file.
    place: BTreeMap<String, usize>,
    /// The weight file or the index, for messages.
    pub listing: PathBuf,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or every shard of `model.safetensors.index.json`.
    ///
    /// # Errors
    ///
    /// If there is neither, a shard is absent, or a file is truncated or corrupt.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let index = dir.join("model.safetensors.index.json");
        if index.exists() {
            return Self::open_shards(dir, index);
        }
        let single = dir.join("model.safetensors");
        if !single.exists() {
            let pytorch = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
            let reason = if pytorch.iter().any(|name| dir.join(name).exists()) {
                "weights are in pytorch_model.bin: convert them to safetensors (load and save_pretrained in transformers)"
            } else {
                "no model.safetensors and no model.safetensors.index.json"
            };
            return Err(ModelError::NotACheckpoint {
                path: dir.into(),
                reason: reason.into(),
            });
        }
        let file = TensorFile::open(&single)?;
        Ok(Self {
            place: file.names().map(|name| (name.to_string(), 0)).collect(),
            files: vec![file],
            listing: single,
        })
    }

    fn open_shards(dir: &Path, index: PathBuf) -> Result<Self> {
        let invalid = |reason: String| ModelError::Json {
            path: index.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&index).map_err(|source| ModelError::Io {
            path: index.clone(),
            source,
        })?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let map = json.get("weight_map").and_then(|map| map.as_object());
        let map = map.ok_or_else(|| invalid("no object weight_map".into()))?;
        let mut shards: Vec<&str> = Vec::new();
        let mut place = BTreeMap::new();
        for (name, shard) in map {
            let Some(shard) = shard.as_str().filter(|shard| !shard.contains(['/', '\\'])) else {
                let reason = format!("weight_map: {name}: expected a file name, found {shard}");
                return Err(invalid(reason));
            };
            let known = shards.iter().position(|known| *known == shard);
            let at = known.unwrap_or_else(|| {
                shards.push(shard);
                shards.len() - 1
            });
            place.insert(name.clone(), at);
        }
        let mut files = Vec::with_capacity(shards.len());
        for (at, shard) in shards.into_iter().enumerate() {
            let path = dir.join(shard);
            if !path.exists() {
                return Err(ModelError::ShardMissing {
                    shard: shard.into(),
                    tensors: place.values().filter(|&&file| file == at).count(),
                    index,
                });
            }
            files.push(TensorFile::open(&path)?);
        }
        Ok(Self {
            files,
            place,
            listing: index,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// The file that holds a tensor.
    pub(super) fn file_of(&self, name: &str) -> Option<&TensorFile> {
        self.place.get(name).map(|&at| &self.files[at])
    }

    /// The shape of a tensor, if there is one of this name.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        let (_, shape) = self.file_of(name)?.get(name)?;
        Some(shape)
    }

    /// Checks that a tensor is there, has this shape and holds floats.
    pub(super) fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let Some(file) = self.file_of(name) else {
            return Err(ModelError::TensorMissing {
                path: self.listing.clone(),
                name: name.into(),
                nearest: self.nearest(name),
            });
        };
        let path = file.path().into();
        let Some((dtype, shape)) = file.get(name) else {
            return Err(ModelError::TensorMissing {
                path,
                name: name.into(),
                nearest: None,
            });
        };
        if shape != expected {
            return Err(ModelError::TensorShape {
                path,
                name: name.into(),
                expected: expected.to_vec(),
                found: shape.to_vec(),
            });
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(ModelError::TensorDtype {
                path,
                name: name.into(),
                found: format!("{dtype:?}"),
            });
        }
        Ok(())
    }

    /// The name that shares the longest end with `name`: a wrong prefix is the usual mistake.
    fn nearest(&self, name: &str) -> Option<String> {
        let common = |other: &str| {
            let pairs = name.chars().rev().zip(other.chars().rev());
            pairs.take_while(|(a, b)| a == b).count()
        };
        self.names()
            .max_by_key(|other| common(other))
            .filter(|other| common(other) > name.len() / 2)
            .map(str::to_string)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Checkpoint;
    use crate::precision::ComputeType;
    use crate::tiny::{HIDDEN, Tiny, logits_of};

    fn open_error(tiny: &Tiny) -> ModelError {
        Checkpoint::open(tiny.write().path()).unwrap_err()
    }

    #[test]
    fn a_missing_tensor_is_named_with_the_most_similar_one() {
        let mut tiny = Tiny::new();
        tiny.tensors.remove("model.layers.1.mlp.up_proj.weight");
        match open_error(&tiny) {
            ModelError::TensorMissing {
                path,
                name,
                nearest,
            } => {
                assert!(path.ends_with("model.safetensors"));
                assert_eq!(name, "model.layers.1.mlp.up_proj.weight");
                let nearest = nearest.unwrap();
                assert!(nearest.ends_with(".mlp.up_proj.weight"), "{nearest}");
            }
            other => panic!("{other}"),
        }
        let tiny = Tiny::new().renamed(|name| name.replace("model.", "decoder."));
        let error = open_error(&tiny).to_string();
        assert!(
            error.contains("tensor model.embed_tokens.weight is missing"),
            "{error}"
        );
        assert!(
            error.contains("(similar: decoder.embed_tokens.weight)"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_shape_is_told_with_both_shapes() {
        for (name, expected, found) in [
            (
                "model.layers.2.self_attn.k_proj.weight",
                vec![8, HIDDEN],
                vec![HIDDEN, 8],
            ),
            ("model.norm.weight", vec![HIDDEN], vec![HIDDEN, 1]),
        ] {
            let mut tiny = Tiny::new();
            tiny.put(name, &found);
            match open_error(&tiny) {
                ModelError::TensorShape {
                    name: named,
                    expected: e,
                    found: f,
                    ..
                } => assert_eq!((named.as_str(), e, f), (name, expected, found)),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn whole_numbers_are_no_weights() {
        let mut tiny = Tiny::new();
        let norm = tiny.tensors.get_mut("model.norm.weight").unwrap();
        norm.dtype = Dtype::I32;
        let error = open_error(&tiny).to_string();
        assert!(
            error.contains("model.norm.weight has element type I32"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_weights_says_what_is_missing() {
        let tiny = Tiny::new();
        let dir = tiny.write();
        let path = dir.path().join("model.safetensors");
        std::fs::remove_file(&path).unwrap();
        let error = |dir: &Path| Checkpoint::open(dir).unwrap_err().to_string();
        assert!(error(dir.path()).contains("no model.safetensors"));
        std::fs::write(dir.path().join("pytorch_model.bin"), b"").unwrap();
        assert!(error(dir.path()).contains("convert them to safetensors"));
        assert!(error(&dir.path().join("absent")).contains("no such folder"));
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        assert!(error(dir.path()).contains("no config.json"));
    }

    #[test]
    fn a_truncated_file_is_refused_with_both_sizes() {
        let dir = Tiny::new().write();
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        match Checkpoint::open(dir.path()).unwrap_err() {
            ModelError::Lora(ls_lora::LoraError::TruncatedFile {
                expected, found, ..
            }) => {
                assert_eq!(expected, bytes.len() as u64);
                assert_eq!(found, bytes.len() as u64 - 5);
            }
            other => panic!("{other}"),
        }
        std::fs::write(&path, b"").unwrap();
        assert!(Checkpoint::open(dir.path()).is_err());
    }

    /// The tiny model in two shards: the first layer, and the rest.
    fn sharded(tiny: &Tiny) -> (tempfile::TempDir, Value) {
        let dir = tiny.write();
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let first = |name: &str| name.contains("layers.0.");
        let [one, two] = ["model-1.safetensors", "model-2.safetensors"];
        tiny.write_tensors(&dir.path().join(one), first);
        tiny.write_tensors(&dir.path().join(two), |name| !first(name));
        let place = tiny.tensors.keys().map(|name| {
            let shard = if first(name) { one } else { two };
            (name.clone(), json!(shard))
        });
        let index = json!({"weight_map": place.collect::<serde_json::Map<_, _>>()});
        write_index(dir.path(), &index);
        (dir, index)
    }

    fn write_index(dir: &Path, index: &Value) {
        let path = dir.join("model.safetensors.index.json");
        std::fs::write(path, index.to_string()).unwrap();
    }

    #[test]
    fn shards_load_as_one_file_does() {
        let tiny = Tiny::with_head();
        let (dir, _) = sharded(&tiny);
        let expected = logits_of(tiny.write().path(), ComputeType::F32);
        assert_eq!(logits_of(dir.path(), ComputeType::F32), expected);
    }

    #[test]
    fn an_index_that_does_not_fit_its_shards_is_an_error() {
        let (dir, index) = sharded(&Tiny::new());
        let error = || Checkpoint::open(dir.path()).unwrap_err().to_string();

        // A tensor that the named shard does not hold.
        let mut wrong = index.clone();
        wrong["weight_map"]["model.norm.weight"] = json!("model-1.safetensors");
        write_index(dir.path(), &wrong);
        let found = error();
        assert!(
            found.contains("model-1.safetensors") && found.contains("model.norm.weight"),
            "{found}"
        );

        wrong["weight_map"]["model.norm.weight"] = json!("../model-2.safetensors");
        write_index(dir.path(), &wrong);
        assert!(error().contains("expected a file name"), "{}", error());

        write_index(dir.path(), &json!({"metadata": {}}));
        assert!(error().contains("no object weight_map"), "{}", error());

        write_index(dir.path(), &index);
        std::fs::remove_file(dir.path().join("model-1.safetensors")).unwrap();
        match Checkpoint::open(dir.path()).unwrap_err() {
            ModelError::ShardMissing {
                index,
                shard,
                tensors,
            } => {
                assert!(index.ends_with("model.safetensors.index.json"));
                assert_eq!((shard.as_str(), tensors), ("model-1.safetensors", 9));
            }
            other => panic!("{other}"),
        }
    }
}

//! The weight files of a Hugging Face folder: which tensor is in which file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_files::{Dtype, FileError, ShardIndex, TensorFile, exists};

use crate::error::{ModelError, Result};

type Open = fn(&Path) -> ls_files::Result<TensorFile>;

/// A form in which a folder holds weights.
#[derive(Clone, Copy)]
struct Form {
    /// The name of a single file.
    single: &'static str,
    /// That of the list of several.
    index: &'static str,
    open: Open,
}

/// Every form, the one that is preferred first.
const FORMS: [Form; 2] = [
    Form {
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        open: |path| TensorFile::open(path),
    },
    Form {
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        open: |path| TensorFile::open_pickled(path),
    },
];

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
    /// Opens the weights of a folder in the first form that is there: safetensors before what
    /// `torch.save` wrote, and a single one before several with an index, as in transformers:
    /// saving a smaller model over a larger one leaves the index behind.
    ///
    /// # Errors
    ///
    /// If there are none, a shard is absent, or a file is truncated or corrupt.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        for form in &FORMS {
            let single = dir.join(form.single);
            if exists(&single)? {
                let file = (form.open)(&single)?;
                return Ok(Self {
                    place: file.names().map(|name| (name.to_string(), 0)).collect(),
                    files: vec![file],
                    listing: single,
                });
            }
            let index = dir.join(form.index);
            if exists(&index)? {
                return Self::open_shards(dir, index, form.open);
            }
        }
        let [one, other] = FORMS.map(|form| format!("{} or {}", form.single, form.index));
        Err(ModelError::NotACheckpoint {
            path: dir.into(),
            reason: format!("no {one}, and no {other}"),
        })
    }

    fn open_shards(dir: &Path, index: PathBuf, open: Open) -> Result<Self> {
        let ShardIndex { shards, place } = ShardIndex::read(&index)?;
        let mut files = Vec::with_capacity(shards.len());
        for (at, shard) in shards.into_iter().enumerate() {
            let path = dir.join(&shard);
            if !exists(&path)? {
                return Err(FileError::ShardMissing {
                    path: index,
                    shard,
                    tensors: place.values().filter(|&&file| file == at).count(),
                }
                .into());
            }
            files.push(open(&path)?);
        }
        Ok(Self {
            files,
            place,
            listing: index,
        })
    }

    /// The files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(TensorFile::path)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Every tensor and the file that holds it.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &TensorFile)> {
        let place = self.place.iter();
        let tensors = place.map(|(name, at)| (name.as_str(), &self.files[*at]));
        // An index may name more than there is; what a model needs was checked.
        tensors.filter(|(name, file)| file.get(name).is_some())
    }

    /// How many layers the files hold tensors of: one past the highest number in a name.
    pub(super) fn layers(&self, prefix: &str) -> usize {
        let start = format!("{prefix}layers.");
        let number = |name: &str| {
            let (number, _) = name.strip_prefix(&start)?.split_once('.')?;
            number.parse::<usize>().ok()
        };
        let highest = self.names().filter_map(number).max();
        highest.map_or(0, |highest| highest.saturating_add(1))
    }

    /// The file that holds a tensor.
    pub(super) fn file_of(&self, name: &str) -> Result<&TensorFile> {
        let missing = || FileError::tensor_missing(&self.listing, name, self.names());
        Ok(&self.files[*self.place.get(name).ok_or_else(missing)?])
    }

    /// The element type and the shape of a tensor.
    pub(super) fn get(&self, name: &str) -> Result<(Dtype, &[usize])> {
        let file = self.file_of(name)?;
        let missing = || FileError::tensor_missing(file.path(), name, file.names());
        Ok(file.get(name).ok_or_else(missing)?)
    }

    /// The shape of a tensor, if there is one of this name.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).ok().map(|(_, shape)| shape)
    }

    /// Checks that a tensor is there, has this shape and holds floats.
    pub(super) fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let (dtype, shape) = self.get(name)?;
        let path = || self.file_of(name).map(|file| file.path().to_path_buf());
        if shape != expected {
            return Err(FileError::TensorShape {
                path: path()?,
                name: name.into(),
                found: shape.to_vec(),
                expected: expected.to_vec(),
            }
            .into());
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(FileError::TensorDtype {
                path: path()?,
                name: name.into(),
                found: dtype,
                expected: "F32, F16 or BF16",
            }
            .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ls_files::Hashed;
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
            ModelError::File(FileError::TensorMissing {
                path,
                name,
                nearest,
            }) => {
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
            error.contains("did you mean `decoder.embed_tokens.weight`?"),
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
                ModelError::File(FileError::TensorShape {
                    name: named,
                    expected: e,
                    found: f,
                    ..
                }) => assert_eq!((named.as_str(), e, f), (name, expected, found)),
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
        let empty = error(dir.path());
        assert!(
            empty.contains("pytorch_model.bin: not a usable PyTorch file"),
            "{empty}"
        );
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
            ModelError::File(FileError::Truncated {
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
    fn a_fingerprint_is_that_of_the_weights_wherever_they_lie() {
        let tiny = Tiny::with_head();
        let of = |dir: &Path, hashed| Checkpoint::open(dir).unwrap().fingerprint(hashed).unwrap();
        for hashed in [None, Some(Hashed::Sample), Some(Hashed::Whole)] {
            let one = of(tiny.write().path(), hashed);
            assert_eq!(one, of(sharded(&tiny).0.path(), hashed));
            let mut other = tiny.renamed(str::to_string);
            other.put("model.norm.weight", &[HIDDEN]);
            let norm = other.tensors.get_mut("model.norm.weight").unwrap();
            norm.bytes[3] ^= 1;
            assert_ne!(one, of(other.write().path(), hashed));
        }
    }

    /// A file that cannot be looked at is not one that is missing.
    #[cfg(unix)]
    #[test]
    fn what_cannot_be_looked_at_is_said_to_be_so() {
        for name in [
            "config.json",
            "model.safetensors",
            "model.safetensors.index.json",
        ] {
            let dir = Tiny::new().write();
            let path = dir.path().join(name);
            let single = dir.path().join("model.safetensors");
            let instead = if name == "config.json" {
                &path
            } else {
                &single
            };
            std::fs::remove_file(instead).unwrap();
            std::os::unix::fs::symlink(name, &path).unwrap();
            let error = Checkpoint::open(dir.path()).unwrap_err();
            match error {
                ModelError::File(FileError::Read { path: found, .. }) => assert_eq!(found, path),
                other => panic!("{name}: {other}"),
            }
        }
    }

    #[test]
    fn a_single_file_wins_over_an_index_that_was_left_behind() {
        let tiny = Tiny::new();
        let (dir, _) = sharded(&tiny);
        std::fs::remove_file(dir.path().join("model-1.safetensors")).unwrap();
        assert!(Checkpoint::open(dir.path()).is_err());
        tiny.write_tensors(&dir.path().join("model.safetensors"), |_| true);
        Checkpoint::open(dir.path()).unwrap();
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
            ModelError::File(FileError::ShardMissing {
                path,
                shard,
                tensors,
            }) => {
                assert!(path.ends_with("model.safetensors.index.json"));
                assert_eq!((shard.as_str(), tensors), ("model-1.safetensors", 9));
            }
            other => panic!("{other}"),
        }
    }
}

//! Writes the weights of a classifier that was trained in full, as transformers does.

use std::path::Path;

use ls_files::{Dtype, FileError, TensorHead, write_shards};

use super::Checkpoint;
use crate::error::Result;
use crate::heads::LlamaClassifier;
use crate::trained::Trained;

/// Bytes of a shard, unless one tensor has more.
pub(crate) const SHARD: usize = 5_000_000_000;

impl Checkpoint {
    /// Writes the weights of a classifier on this checkpoint's decoder into a folder: what is
    /// `trained` in f32 and as the model has it, the rest as the checkpoint's files have it. One
    /// file, or shards of 5 GB with their index.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or those of the checkpoint can no longer be read.
    pub fn save_weights(
        &self,
        model: &LlamaClassifier,
        trained: &Trained,
        dir: &Path,
    ) -> Result<()> {
        self.save_in_shards(model, trained, dir, SHARD)
    }

    fn save_in_shards(
        &self,
        model: &LlamaClassifier,
        trained: &Trained,
        dir: &Path,
        most: usize,
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, shape) in self.config.tensors() {
            let dtype = if trained.holds(&name) {
                Dtype::F32
            } else {
                self.files.get(&format!("{}{name}", self.prefix))?.0
            };
            tensors.push((format!("model.{name}"), dtype, shape));
        }
        let head = ls_lora::parameters(model, &|name| name.starts_with("score."));
        tensors.extend(
            head.into_iter()
                .map(|(name, tensor)| (name, tensor.dtype, tensor.shape)),
        );
        let heads: Vec<TensorHead<'_>> = tensors
            .iter()
            .map(|(name, dtype, shape)| TensorHead {
                name,
                dtype: *dtype,
                shape,
            })
            .collect();
        write_shards(dir, &heads, most, |at, out| {
            let name = &tensors[at].0;
            let tensor = if trained.holds(name) {
                let mut found = ls_lora::parameters(model, &|other| other == name);
                let missing = || FileError::tensor_missing(dir, name, std::iter::empty());
                found.remove(name).ok_or_else(missing)?
            } else {
                let stripped = name.strip_prefix("model.").unwrap_or(name);
                let in_file = &format!("{}{stripped}", self.prefix);
                self.files.file_of(in_file)?.read(in_file)?
            };
            let written = out.write_all(&tensor.bytes);
            Ok(written.map_err(FileError::writing(dir))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ls_lora::{Quantization, host_values};
    use serde_json::json;

    use super::*;
    use crate::heads::Task;
    use crate::input::ModelInput;
    use crate::precision::{ComputeType, Precision};
    use crate::tiny::{FAMILIES, HIDDEN, LABELS, Tiny, assert_close};

    const TASK: Task = Task::Token { dropout: 0.0 };

    /// A classifier on the decoder of a folder, as training begins one.
    fn begun(checkpoint: &Checkpoint, precision: Precision) -> LlamaClassifier {
        let device = Device::flex();
        let backbone = checkpoint
            .load_model(
                &checkpoint.config.attention(),
                precision,
                &device,
                |_, _| (),
            )
            .unwrap();
        LlamaClassifier::new(backbone, &checkpoint.config, TASK, LABELS, 3, &device)
    }

    fn logits(model: &LlamaClassifier, checkpoint: &Checkpoint) -> Vec<f32> {
        let rows = [vec![1u32, 5, 12, 7], vec![3]];
        let input = ModelInput::new(&rows, &checkpoint.config, &Device::flex()).unwrap();
        host_values(model.forward(&input))
    }

    /// Every family, with a window where it has one, and Gemma 3 without the causal mask.
    fn families() -> Vec<(String, Tiny)> {
        let of = |family: &str| {
            let mut tiny = Tiny::of(family);
            tiny.config["sliding_window"] = json!(3);
            tiny.config["embedding_multiplier"] = json!(1.7);
            (family.to_owned(), tiny)
        };
        let mut both = of("gemma3_text").1;
        both.config["use_bidirectional_attention"] = json!(true);
        let all = FAMILIES.into_iter().map(of);
        all.chain([("gemma3-both".to_owned(), both)]).collect()
    }

    #[test]
    fn what_is_saved_loads_as_the_model_that_it_was_whatever_held_it() {
        for (family, tiny) in families() {
            loads_as_it_was(&family, &tiny);
        }
    }

    fn loads_as_it_was(family: &str, tiny: &Tiny) {
        let bare = tiny.renamed(|name| name.trim_start_matches("model.").to_string());
        for (tiny, compute, quantization, trained) in [
            (tiny, ComputeType::F32, None, "all"),
            (&bare, ComputeType::F32, None, "1"),
            (tiny, ComputeType::Bf16, None, "1-2"),
            (tiny, ComputeType::F32, Some(Quantization::Nf4), "0,2"),
            (&bare, ComputeType::Bf16, Some(Quantization::Int8), "2"),
        ] {
            let dir = tiny.write();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            let trained: Trained = trained.parse().unwrap();
            let precision = Precision {
                compute,
                quantization,
                in_f32: trained.clone(),
            };
            let model = begun(&checkpoint, precision.clone());
            // One file, and as many as there are tensors.
            for most in [usize::MAX, 1] {
                let saved = tempfile::tempdir().unwrap();
                std::fs::copy(
                    dir.path().join("config.json"),
                    saved.path().join("config.json"),
                )
                .unwrap();
                checkpoint
                    .save_in_shards(&model, &trained, saved.path(), most)
                    .unwrap();
                let count = std::fs::read_dir(saved.path()).unwrap().count();
                let tensors = tiny.tensors.len() + 2;
                assert_eq!(count, if most == 1 { 2 + tensors } else { 2 });
                let reopened = Checkpoint::open(saved.path()).unwrap();
                assert!(reopened.surplus().is_empty());
                let loaded = reopened
                    .load_classifier(
                        &reopened.config.attention(),
                        TASK,
                        precision.clone(),
                        &Device::flex(),
                    )
                    .unwrap();
                let case = format!("{family} {compute:?} {quantization:?} {trained} {most}");
                assert_eq!(
                    logits(&loaded, &reopened),
                    logits(&model, &checkpoint),
                    "{case}"
                );
            }
        }
    }

    /// transformers reads the whole in f32, and the values that a frozen bf16 has are f32's too.
    #[test]
    fn what_trained_over_bf16_reads_in_f32_as_it_was() {
        for (family, mut tiny) in families() {
            for tensor in tiny.tensors.values_mut() {
                *tensor = tensor.to_dtype(Dtype::BF16).unwrap();
            }
            let dir = tiny.write();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            let trained: Trained = "1-2".parse().unwrap();
            let precision = Precision {
                in_f32: trained.clone(),
                ..ComputeType::Bf16.into()
            };
            let model = begun(&checkpoint, precision);
            let saved = tempfile::tempdir().unwrap();
            let config = "config.json";
            std::fs::copy(dir.path().join(config), saved.path().join(config)).unwrap();
            checkpoint
                .save_weights(&model, &trained, saved.path())
                .unwrap();
            let reopened = Checkpoint::open(saved.path()).unwrap();
            let attention = reopened.config.attention();
            let loaded = reopened
                .load_classifier(&attention, TASK, ComputeType::F32, &Device::flex())
                .unwrap();
            let [found, expected] =
                [(&loaded, &reopened), (&model, &checkpoint)].map(|(of, at)| logits(of, at));
            let largest = expected
                .iter()
                .fold(0f32, |most, value| most.max(value.abs()));
            assert!(largest > 0.01, "{family}");
            assert_close(&found, &expected, 1e-5);
        }
    }

    #[test]
    fn what_is_frozen_keeps_the_type_and_the_bytes_of_its_file() {
        let mut tiny = Tiny::new();
        for tensor in tiny.tensors.values_mut() {
            *tensor = tensor.to_dtype(Dtype::F16).unwrap();
        }
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let trained: Trained = "2".parse().unwrap();
        let precision = Precision {
            in_f32: trained.clone(),
            ..ComputeType::Bf16.into()
        };
        let model = begun(&checkpoint, precision);
        let saved = tempfile::tempdir().unwrap();
        checkpoint
            .save_weights(&model, &trained, saved.path())
            .unwrap();
        let file = ls_files::TensorFile::open(saved.path().join("model.safetensors")).unwrap();
        for (name, tensor) in &tiny.tensors {
            let found = file.read(name).unwrap();
            if name.starts_with("model.layers.2.") {
                assert_eq!(found.dtype, Dtype::F32, "{name}");
                // Not through bf16.
                assert_eq!(found.to_f32().unwrap(), tensor.to_f32().unwrap(), "{name}");
            } else {
                assert_eq!(found, *tensor, "{name}");
            }
        }
        let head = file.read("score.weight").unwrap();
        assert_eq!((head.dtype, head.shape), (Dtype::F32, vec![LABELS, HIDDEN]));
        assert!(file.get("score.bias").is_some());
    }
}

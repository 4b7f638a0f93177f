//! Writes a classifier as one model: adapters merged, packed weights unpacked, all in one type.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{DType, Tensor};
use ls_files::{Dtype, FileError, HostTensor, NotFinite, TensorHead, write_shards};
use ls_lora::{LayerKind, LoraError, LoraLayer, LoraModule, MergeDrift, MergeReport, host_values};

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::heads::LlamaClassifier;
use crate::pretrained::SHARD;

impl LlamaClassifier {
    /// Writes every weight into a folder as transformers reads it: `model.safetensors`, or shards
    /// of 5 GB with their index. The weights are those that the model computes with, whatever holds
    /// them: merged with its active adapters and unpacked, in f32, and cast once.
    ///
    /// One tensor is computed at a time, so that beside the model memory holds a few times the
    /// largest. `config` is that of the decoder, with the vocabulary that it has now. `progress`
    /// receives the number of written tensors and the number of all, and may stop there. The report
    /// says what casting took of what the adapters change.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or a value is NaN or infinite, or becomes so in `dtype`;
    /// [`ModelError::Stopped`] if `progress` breaks off.
    pub fn export(
        &self,
        config: &LlamaConfig,
        dtype: Dtype,
        dir: &Path,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<MergeReport> {
        self.export_in_shards(config, dtype, dir, SHARD, progress)
    }

    fn export_in_shards(
        &self,
        config: &LlamaConfig,
        dtype: Dtype,
        dir: &Path,
        most: usize,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<MergeReport> {
        let decoder = config.tensors().into_iter();
        let mut tensors: Vec<(String, Vec<usize>)> = decoder
            .map(|(name, shape)| (format!("model.{name}"), shape))
            .collect();
        let head = ls_lora::parameters(self, &|name| name.starts_with("score."));
        tensors.extend(head.into_iter().map(|(name, tensor)| (name, tensor.shape)));
        let heads: Vec<TensorHead<'_>> = tensors
            .iter()
            .map(|(name, shape)| TensorHead { name, dtype, shape })
            .collect();
        let layers: BTreeMap<String, &dyn LoraLayer> = self
            .layers()
            .into_iter()
            .map(|(module, layer)| (format!("{module}.weight"), layer))
            .collect();
        let mut report = MergeReport::default();
        let mut written = 0;
        write_shards(dir, &heads, most, |at, out| {
            let (name, shape) = &tensors[at];
            let layer = layers.get(name.as_str()).copied();
            let exact = match layer {
                Some(layer) => self.in_files(layer, layer.merged(), config, dtype),
                None => {
                    let mut found = ls_lora::parameters(self, &|other| other == name);
                    let missing = || FileError::tensor_missing(dir, name, std::iter::empty());
                    let tensor = found.remove(name).ok_or_else(missing)?;
                    tensor.to_f32().map_err(LoraError::NotAFloat)?
                }
            };
            let stored = HostTensor::from_f32(shape.clone(), &exact);
            let stored = stored.to_dtype(dtype).map_err(LoraError::NotAFloat)?;
            let not_finite = stored.not_finite(dtype).map_err(LoraError::NotAFloat)?;
            if let Some(found) = not_finite {
                return Err(FileError::TensorNotFinite {
                    path: "model.safetensors".into(),
                    name: name.clone(),
                    shape: shape.clone(),
                    found: NotFinite {
                        value: f64::from(exact[found.first]),
                        ..found
                    },
                    into: dtype,
                }
                .into());
            }
            out.write_all(&stored.bytes)
                .map_err(FileError::writing(dir))?;
            if let Some(layer) = layer.filter(|layer| is_adapted(*layer)) {
                let module = name.trim_end_matches(".weight").to_owned();
                let base = self.in_files(layer, layer.weight(), config, dtype);
                let drift = drift(module, base, &exact, &stored);
                report.layers.push(drift.map_err(LoraError::NotAFloat)?);
            }
            written += 1;
            match progress(written, tensors.len()) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(ModelError::Stopped),
            }
        })?;
        Ok(report)
    }

    /// The values of a layer's weight in the order of files, where a linear layer's are transposed.
    ///
    /// The rows of an embedding are rounded to the type of its table as they are looked up. Over a
    /// bf16 table Gemma's multiplier is rounded too, here as in transformers, which does not round
    /// it in a wider type: there the table makes up for it.
    fn in_files(
        &self,
        layer: &dyn LoraLayer,
        weight: Tensor<2>,
        config: &LlamaConfig,
        dtype: Dtype,
    ) -> Vec<f32> {
        host_values(match layer.kind() {
            LayerKind::Linear => weight.transpose(),
            LayerKind::Embedding => {
                let held = self.model.embed_tokens.base_layer.weight.val().dtype();
                let rounded = match held {
                    DType::BF16 => weight.cast(held).cast(DType::F32),
                    _ => weight,
                };
                match self.model.embedding_multiplier / config.embedding_multiplier {
                    factor if dtype != Dtype::BF16 && factor != 1.0 => rounded.mul_scalar(factor),
                    _ => rounded,
                }
            }
        })
    }
}

/// Whether merging changes the weight.
fn is_adapted(layer: &dyn LoraLayer) -> bool {
    !layer.is_merged() && layer.adapters().iter().any(|adapter| adapter.active)
}

/// What casting took of what the adapters of a module change, which had the values `base`.
fn drift(
    module: String,
    base: Vec<f32>,
    exact: &[f32],
    stored: &HostTensor,
) -> std::result::Result<MergeDrift, ls_files::NotAFloat> {
    let mut found = MergeDrift {
        module,
        max_abs: 0.0,
        relative: 0.0,
    };
    if stored.dtype == Dtype::F32 {
        return Ok(found);
    }
    let (mut lost, mut change) = (0.0, 0.0);
    let merged = exact.iter().copied().zip(stored.to_f32()?);
    for (base, (exact, stored)) in base.into_iter().zip(merged) {
        let [base, exact, stored] = [base, exact, stored].map(f64::from);
        found.max_abs = found.max_abs.max((stored - exact).abs());
        lost += (stored - exact).powi(2);
        change += (exact - base).powi(2);
    }
    if lost > 0.0 {
        found.relative = (lost / change).sqrt();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Device;
    use ls_files::ShardIndex;
    use ls_lora::{LoraConfig, Quantization, TargetModules, add_adapter};

    use super::*;
    use crate::heads::{ADAPTER, Pooling, Task};
    use crate::input::ModelInput;
    use crate::precision::{ComputeType, Precision};
    use crate::tiny::{FAMILIES, LABELS, Normal, Tiny, assert_close};
    use crate::trained::Trained;
    use crate::{AttentionMode, Checkpoint};

    const TASK: Task = Task::Sequence(Pooling::Mean);

    /// A classifier with an adapter whose B is not zero, on weights that are held so.
    fn adapted(checkpoint: &Checkpoint, precision: Precision, dora: bool) -> LlamaClassifier {
        let device = Device::flex();
        let mode = AttentionMode::Causal;
        let backbone = checkpoint.load_model(&mode, precision, &device, |_, _| ());
        let config = &checkpoint.config;
        let mut model = LlamaClassifier::new(backbone.unwrap(), config, TASK, LABELS, 3, &device);
        let attention = if config.fused_projections {
            "qkv_proj"
        } else {
            "q_proj"
        };
        let targets = TargetModules::list([attention, "down_proj", "embed_tokens"]);
        let mut lora = LoraConfig::new(2, 6.0)
            .with_target_modules(targets)
            .with_task_type(TASK.task_type());
        lora.use_dora = dora;
        add_adapter(&mut model, ADAPTER, &lora, 7, &device).unwrap();
        let mut normal = Normal::new(5);
        for (_, layer) in model.layers_mut() {
            for adapter in layer.adapters_mut() {
                for factor in [&mut adapter.lora_a, &mut adapter.lora_b] {
                    let shape = factor.val().dims();
                    *factor = Param::from_tensor(normal.next(shape, 0.3, &device));
                }
            }
        }
        model
    }

    fn logits(model: &LlamaClassifier, config: &LlamaConfig) -> Vec<f32> {
        let rows = [vec![1u32, 5, 12, 7], vec![3]];
        let input = ModelInput::new(&rows, config, &Device::flex()).unwrap();
        host_values(model.forward(&input))
    }

    /// Exports a model and loads what was written, in f32.
    fn reloaded(model: &LlamaClassifier, at: &Checkpoint, dtype: Dtype, most: usize) -> Vec<f32> {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::to_string(&at.config.raw).unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let mut told = (0, 0);
        let tell = |done, all| {
            told = (done, all);
            ControlFlow::Continue(())
        };
        let report = model.export_in_shards(&at.config, dtype, dir.path(), most, tell);
        let report = report.unwrap();
        assert!(told.0 == told.1 && told.0 > 10, "{told:?}");
        let adapted = model.layers().into_iter();
        let adapted = adapted.filter(|(_, layer)| !layer.adapters().is_empty());
        assert_eq!(report.layers.len(), adapted.count());
        let rounds = report.worst().is_some_and(|of| of.relative > 1e-5);
        assert_eq!(rounds, dtype != Dtype::F32, "{report}");
        let index = dir.path().join("model.safetensors.index.json");
        if most == 1 {
            let index = ShardIndex::read(&index).unwrap();
            assert_eq!(index.shards.len(), told.1);
        } else {
            assert!(!index.exists());
        }
        let again = Checkpoint::open(dir.path()).unwrap();
        assert!(again.surplus().is_empty());
        let mode = AttentionMode::Causal;
        let loaded = again.load_classifier(&mode, TASK, ComputeType::F32, &Device::flex());
        logits(&loaded.unwrap(), &again.config)
    }

    #[test]
    fn every_family_is_written_as_it_computes_whatever_holds_its_weights() {
        for family in FAMILIES {
            let mut tiny = Tiny::of(family);
            tiny.config["embedding_multiplier"] = serde_json::json!(1.7);
            let dir = tiny.write();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            for (compute, quantization, dora) in [
                (ComputeType::F32, None, false),
                (ComputeType::Bf16, None, true),
                (ComputeType::F32, Some(Quantization::Nf4), false),
                (ComputeType::Bf16, Some(Quantization::Int8), true),
            ] {
                let precision = Precision {
                    compute,
                    quantization,
                    in_f32: Trained::Head,
                };
                let model = adapted(&checkpoint, precision, dora);
                let expected = logits(&model, &checkpoint.config);
                let case = format!("{family} {compute:?} {quantization:?}");
                let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
                assert!(largest > 0.01, "{case}: {largest}");
                for (dtype, most, tolerance) in [
                    // Products of merged weights are rounded differently.
                    (Dtype::F32, usize::MAX, 1e-4),
                    (Dtype::F32, 1, 1e-4),
                    // Weights of 11 bits.
                    (Dtype::F16, usize::MAX, 2e-2),
                ] {
                    let found = reloaded(&model, &checkpoint, dtype, most);
                    println!("{case} as {dtype:?}: {found:?}");
                    assert_close(&found, &expected, tolerance);
                }
            }
        }
    }

    #[test]
    fn a_value_past_the_range_of_the_type_is_named() {
        let mut tiny = Tiny::new();
        let norm = tiny.tensors.get_mut("model.norm.weight").unwrap();
        let mut values = norm.to_f32().unwrap();
        values[2] = 1e6;
        *norm = HostTensor::from_f32(norm.shape.clone(), &values);
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let model = adapted(&checkpoint, ComputeType::F32.into(), false);
        let out = tempfile::tempdir().unwrap();
        let goes_on = |_, _| ControlFlow::Continue(());
        let export = |dtype| model.export(&checkpoint.config, dtype, out.path(), goes_on);
        let error = export(Dtype::F16).unwrap_err().to_string();
        assert!(error.contains("tensor model.norm.weight: 1 of"), "{error}");
        assert!(
            error.contains("in F16, the first 1000000 at [2]"),
            "{error}"
        );
        export(Dtype::BF16).unwrap();
        let third = |done, _| match done {
            3.. => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let stopped = model.export(&checkpoint.config, Dtype::F32, out.path(), third);
        assert!(matches!(stopped, Err(ModelError::Stopped)));
    }
}

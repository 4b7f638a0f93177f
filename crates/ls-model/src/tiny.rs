//! A tiny checkpoint for this crate's tests: grouped heads, a head width of its own, odd sizes,
//! made-up weights.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use ls_lora::HostTensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, ModelInput, Pooling, Task,
};

/// Families that differ in what a block is made of.
pub(crate) const FAMILIES: [&str; 8] = [
    "llama",
    "phi3",
    "qwen3",
    "olmo2",
    "granite",
    "smollm3",
    "gemma2",
    "gemma3_text",
];
pub(crate) const LAYERS: usize = 3;
pub(crate) const HIDDEN: usize = 10;
pub(crate) const VOCABULARY: usize = 13;
pub(crate) const LABELS: usize = 3;
const HEAD_DIM: usize = 4;
const HEADS: usize = 4;
const KEY_VALUE_HEADS: usize = 2;
const INTERMEDIATE: usize = 11;

/// A checkpoint in memory.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, HostTensor>,
}

impl Tiny {
    /// A language model's: no head for classes.
    pub(crate) fn new() -> Self {
        Self::of("llama")
    }

    /// The same of another family.
    pub(crate) fn of(family: &str) -> Self {
        let config = json!({
            "model_type": family, "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KEY_VALUE_HEADS,
            "head_dim": HEAD_DIM, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
        });
        let mut tiny = Self {
            config,
            tensors: BTreeMap::new(),
        };
        for (name, shape) in tiny.config().tensors() {
            tiny.put(&format!("model.{name}"), &shape);
        }
        tiny
    }

    /// A sequence classifier's.
    pub(crate) fn with_head() -> Self {
        Self::new().and_head()
    }

    /// With a sequence classifier's head.
    pub(crate) fn and_head(mut self) -> Self {
        self.put("score.weight", &[LABELS, HIDDEN]);
        self
    }

    /// Adds a tensor; norms are around 1, all else around 0.
    pub(crate) fn put(&mut self, name: &str, shape: &[usize]) {
        let centre = if name.contains("norm") { 1.0 } else { 0.0 };
        let phase: u32 = name.bytes().map(u32::from).sum();
        let values: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|i| centre + 0.5 * (i as f32 * 2.3 + phase as f32).sin())
            .collect();
        let tensor = HostTensor::from_f32(shape, &values);
        self.tensors.insert(name.to_string(), tensor);
    }

    /// The same tensors under other names.
    pub(crate) fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        let tensors = self.tensors.iter();
        Self {
            config: self.config.clone(),
            tensors: tensors
                .map(|(name, tensor)| (rename(name), tensor.clone()))
                .collect(),
        }
    }

    pub(crate) fn write_tensors(&self, path: &Path, keep: impl Fn(&str) -> bool) {
        let tensors = self.tensors.iter().filter(|(name, _)| keep(name));
        ls_files::write_tensors(path, tensors.map(|(name, tensor)| (name.as_str(), tensor)))
            .unwrap();
    }

    /// Writes the folder, with one weight file.
    pub(crate) fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), self.config.to_string()).unwrap();
        self.write_tensors(&dir.path().join("model.safetensors"), |_| true);
        dir
    }

    pub(crate) fn config(&self) -> LlamaConfig {
        LlamaConfig::from_json(&self.config.to_string(), Path::new("config.json")).unwrap()
    }

    /// Loads it with its head in f32.
    pub(crate) fn classifier(
        &self,
        attention: &str,
        task: Task,
        device: &Device,
    ) -> LlamaClassifier {
        let dir = self.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint
            .load_classifier(&mode(attention), task, ComputeType::F32, device)
            .unwrap()
    }
}

pub(crate) fn mode(text: &str) -> AttentionMode {
    text.parse().unwrap()
}

/// The logits of two rows of different lengths, in f32 and causal, pooled at the last token.
pub(crate) fn logits_of(dir: &Path, compute: ComputeType) -> Vec<f32> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let device = Device::flex();
    let task = Task::Sequence(Pooling::Last);
    let model = checkpoint
        .load_classifier(&AttentionMode::Causal, task, compute, &device)
        .unwrap();
    let rows = [vec![1u32, 5, 12, 7], vec![3, 2]];
    let input = ModelInput::new(&rows, &checkpoint.config, &device).unwrap();
    ls_lora::host_values(model.forward(&input))
}

/// Values around 0, f32. A device's own generator would give others in each run: tests of one
/// program draw from it at once.
pub(crate) struct Normal(ChaCha8Rng);

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn next(&mut self, shape: [usize; 2], deviation: f64, device: &Device) -> Tensor<2> {
        let values = Distribution::Normal(0.0, deviation);
        let data = TensorData::random::<f32, _, _>(shape, values, &mut self.0);
        Tensor::from_data(data, (device, DType::F32))
    }
}

#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} is not {expected}"
        );
    }
}

//! What the benchmarks share: random checkpoints and models of a chosen shape, batches for them,
//! operations, and ways to time.
//!
//! `docs/measured.md` has the numbers and the commands that made them.

#![forbid(unsafe_code)]

pub mod device;
pub mod device_memory;
pub mod flops;
pub mod gpu_table;
#[cfg(feature = "cube")]
pub mod launches;
pub mod operations;
pub mod profile;
pub mod timing;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Distribution, Tensor};
use clap::ValueEnum;
use ls_files::write_tensors;
use ls_lora::{
    HostTensor, LoraConfig, LoraModule, Quantization, TargetModules, add_adapter, host_values,
};
use ls_model::{
    ADAPTER, AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, LlamaModel,
    ModelInput, Pooling, Task,
};
use ls_train::config::TrainSettings;
use ls_train::environment::peak_memory;
use ls_train::loss::cross_entropy_sum;
use ls_train::optim::AdamW;
use serde_json::{Value, json};

/// Element type of the frozen weights, as the command lines have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// Brain floats.
    Bf16,
}

impl From<Dtype> for ComputeType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

/// Shape of a decoder, in the names of `config.json`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Entries of the embedding table.
    pub vocab_size: usize,
}

/// 15.2M parameters: the shape of the stories15M checkpoint of llama2.c.
pub const LLAMA_15M: Shape = Shape {
    hidden_size: 288,
    intermediate_size: 768,
    num_hidden_layers: 6,
    num_attention_heads: 6,
    num_key_value_heads: 6,
    vocab_size: 32_000,
};

/// 134.5M parameters: the shape of SmolLM-135M, without its language-modelling head.
pub const LLAMA_135M: Shape = Shape {
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    vocab_size: 49_152,
};

/// 1.03 billion parameters: the shape of TinyLlama, without its language-modelling head.
pub const LLAMA_1_1B: Shape = Shape {
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 22,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    vocab_size: 32_000,
};

/// 6.6 billion parameters: the shape of LLaMA-2-7B, without its language-modelling head.
pub const LLAMA_7B: Shape = Shape {
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    vocab_size: 32_000,
};

impl Shape {
    /// The shape as a configuration.
    ///
    /// # Errors
    ///
    /// If the shape is none of a decoder.
    pub fn config(self) -> Result<LlamaConfig> {
        let text = self.to_json().to_string();
        LlamaConfig::from_json(&text, Path::new("config.json")).context("read the shape")
    }

    /// The shape as a `config.json`.
    pub fn to_json(self) -> Value {
        json!({
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
        })
    }
}

/// Writes a checkpoint of `shape` with random weights into `dir` and opens it.
///
/// The weights are N(0, 0.02) from `device`'s generator, the norms one: a fresh LLaMA, as
/// transformers makes it.
///
/// # Errors
///
/// If the folder cannot be written, or what was written does not open.
pub fn random_checkpoint(dir: &Path, shape: Shape, device: &Device) -> Result<Checkpoint> {
    let config = dir.join("config.json");
    std::fs::write(&config, shape.to_json().to_string())
        .with_context(|| format!("write {}", config.display()))?;
    let tensors: Vec<(String, HostTensor)> = shape
        .config()?
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let len = shape.iter().product();
            let values = if name.ends_with("norm.weight") {
                vec![1.0; len]
            } else {
                host_values(Tensor::<1>::random(
                    [len],
                    Distribution::Normal(0.0, 0.02),
                    device,
                ))
            };
            let name = format!("model.{name}");
            (name, HostTensor::from_f32(shape, &values))
        })
        .collect();
    let weights = dir.join("model.safetensors");
    write_tensors(
        &weights,
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)),
    )
    .with_context(|| format!("write {}", weights.display()))?;
    Checkpoint::open(dir).context("open the random checkpoint")
}

/// A batch with rows of these lengths, its ids spread over the vocabulary.
///
/// # Errors
///
/// If a length is zero.
pub fn batch(lengths: &[usize], config: &LlamaConfig, device: &Device) -> Result<ModelInput> {
    let rows: Vec<Vec<u32>> = lengths
        .iter()
        .enumerate()
        .map(|(row, &length)| {
            // A prime stride, so that neighbouring tokens differ and rows do not repeat each other.
            (0..length)
                .map(|at| ((row * 1009 + at * 7919 + 3) % config.vocab_size) as u32)
                .collect()
        })
        .collect();
    ModelInput::new(&rows, config, device).context("make a batch")
}

/// Of adapter and head.
const SEED: u64 = 7;

/// The adapter and the head that [`random_classifier`] puts on a decoder.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Rank of the adapter on q and v.
    pub rank: usize,
    /// Share of the adapter's inputs that is dropped.
    pub dropout: f64,
    /// How the frozen weights are packed after they are drawn.
    pub quantization: Option<Quantization>,
    /// What the head classifies.
    pub task: Task,
    /// Classes of the head.
    pub num_labels: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            rank: 12,
            dropout: 0.0,
            quantization: None,
            task: Task::Sequence(Pooling::Last),
            num_labels: 2,
        }
    }
}

/// Makes a classifier with an adapter on q and v on the device: what `benches/vs_peft/make.py`
/// writes to files.
///
/// B is random too, so that A has a gradient from the first step on. Adapter and head train when
/// `device` is an autodiff device.
///
/// # Errors
///
/// If the attention mode or the adapter does not fit the shape.
pub fn random_classifier(
    config: &LlamaConfig,
    attention: &AttentionMode,
    dtype: Dtype,
    tuning: Tuning,
    device: &Device,
) -> Result<LlamaClassifier> {
    let model = LlamaModel::random(config, attention, dtype.into(), device)?;
    let Tuning {
        rank,
        dropout,
        quantization,
        task,
        num_labels,
    } = tuning;
    let mut classifier = LlamaClassifier::new(model, config, task, num_labels, SEED, device);
    let lora = LoraConfig::new(rank, 32.0)
        .with_target_modules(TargetModules::list(["q_proj", "v_proj"]))
        .with_lora_dropout(dropout)
        .with_task_type(task.task_type());
    add_adapter(&mut classifier, ADAPTER, &lora, SEED, device)?;
    for (_, layer) in classifier.layers_mut() {
        if let Some(format) = quantization {
            layer.quantize(format)?;
        }
        for adapter in layer.adapters_mut() {
            let shape = adapter.lora_b.val().dims();
            let values = Distribution::Normal(0.0, 0.02);
            adapter.lora_b =
                Param::from_tensor(Tensor::random(shape, values, (device, DType::F32)));
        }
    }
    Ok(classifier)
}

/// The batches that are timed.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Rows of the batch.
    pub rows: usize,
    /// Tokens of a row, or the most of them.
    pub length: usize,
    /// Whether rows have other lengths in every batch. Of a task for sequences only.
    pub ragged: bool,
    /// Iterations before the timed ones.
    pub warmup: usize,
    /// Timed iterations.
    pub iterations: usize,
    /// Whether each block is computed again in the backward pass.
    pub gradient_checkpointing: bool,
}

/// The measurements of a run.
#[derive(Debug, Default)]
pub struct Record {
    /// Seconds of the first iteration of all, in which kernels are chosen and compiled.
    pub first_seconds: Option<f64>,
    /// Seconds of each timed iteration.
    pub seconds: Vec<f64>,
    /// Loss of every iteration.
    pub losses: Vec<f64>,
    /// Norm of the gradients of the first step.
    pub grad_norm: Option<f64>,
}

impl Timing {
    /// The batch of an iteration, made from lists of ids as a training loop makes it.
    ///
    /// # Errors
    ///
    /// If a row is empty.
    pub fn batch(&self, at: usize, config: &LlamaConfig, device: &Device) -> Result<ModelInput> {
        batch(&self.lengths(at), config, device)
    }

    /// Ragged rows are a quarter of the length or longer, the first as long as can be in every
    /// fourth batch.
    fn lengths(&self, at: usize) -> Vec<usize> {
        let of = |row: usize| {
            let least = self.length.div_ceil(4);
            if !self.ragged || (row == 0 && at.is_multiple_of(4)) {
                return self.length;
            }
            // A prime stride spreads them.
            least + (at * 7919 + row * 1009) % (self.length - least + 1)
        };
        (0..self.rows).map(of).collect()
    }

    /// Labels of all rows, or of all tokens: the classes by turns.
    pub fn labels(&self, model: &LlamaClassifier) -> Vec<i64> {
        let count = match model.task {
            Task::Sequence(_) => self.rows,
            Task::Token { .. } => self.rows * self.length,
        };
        let classes = model.num_labels();
        (0..count).map(|at| (at % classes) as i64).collect()
    }

    /// Runs training steps (forward, cross-entropy, backward, AdamW, wait for the device) and
    /// returns the trained model too.
    ///
    /// # Errors
    ///
    /// If a batch cannot be made or the device fails.
    pub fn train(
        &self,
        mut model: LlamaClassifier,
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<(Record, LlamaClassifier)> {
        let labels = self.labels(&model);
        let mut optimizer = optimizer(&model);
        let mut record = Record::default();
        for at in 0..self.warmup + self.iterations {
            let started = Instant::now();
            let input = self.batch(at, config, device)?;
            let (loss, gradients) = if self.gradient_checkpointing {
                model.backward_checkpointed(&input, |logits| mean_loss(logits, &labels))
            } else {
                let loss = mean_loss(model.forward(&input), &labels);
                let gradients = GradientsParams::from_grads(loss.backward(), &model);
                (loss, gradients)
            };
            let gradient = optimizer.gradient(&model, gradients);
            let (stepped, norm) = optimizer.step(model, gradient, LEARNING_RATE);
            model = stepped;
            if at == 0 {
                // Only here, where the time does not count when there is a warm-up.
                record.grad_norm = Some(f64::from(norm.into_scalar::<f32>()));
            }
            device.sync().context("wait for the device")?;
            let value = f64::from(loss.into_scalar::<f32>());
            self.push(&mut record, at, started, value);
        }
        Ok((record, model))
    }

    /// Runs forward passes.
    ///
    /// # Errors
    ///
    /// If a batch cannot be made.
    pub fn infer(
        &self,
        model: &LlamaClassifier,
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<Record> {
        let labels = self.labels(model);
        let mut record = Record::default();
        for at in 0..self.warmup + self.iterations {
            let started = Instant::now();
            let input = self.batch(at, config, device)?;
            let loss = mean_loss(model.forward(&input), &labels);
            let value = f64::from(loss.into_scalar::<f32>());
            self.push(&mut record, at, started, value);
        }
        Ok(record)
    }

    fn push(&self, record: &mut Record, at: usize, started: Instant, loss: f64) {
        let seconds = started.elapsed().as_secs_f64();
        record.first_seconds.get_or_insert(seconds);
        if at >= self.warmup {
            record.seconds.push(seconds);
        }
        record.losses.push(loss);
    }
}

/// The learning rate that ours and `vs_peft` share.
pub const LEARNING_RATE: f64 = 1e-4;

/// The optimizer that ours and `vs_peft` share.
pub fn optimizer(model: &LlamaClassifier) -> AdamW {
    let settings = TrainSettings {
        learning_rate: LEARNING_RATE,
        weight_decay: 0.0,
        max_grad_norm: 0.0,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        ..TrainSettings::default()
    };
    AdamW::new(model, &settings)
}

/// The mean cross-entropy.
pub fn mean_loss(logits: Tensor<2>, labels: &[i64]) -> Tensor<1> {
    cross_entropy_sum(logits, labels).div_scalar(labels.len() as f64)
}

/// The highest resident memory of this process so far, in MiB.
pub fn peak_rss_mib() -> Option<f64> {
    peak_memory().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// A choice by the name that the command line has for it.
pub fn name(choice: impl ValueEnum) -> Option<String> {
    let value = choice.to_possible_value()?;
    Some(value.get_name().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_checkpoint_opens_and_has_the_shapes_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let shape = Shape {
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 40,
        };
        let checkpoint = random_checkpoint(dir.path(), shape, &device).unwrap();
        let block = 16 * 16 * 2 + 16 * 8 * 2 + 16 * 24 * 3 + 16 * 2;
        assert_eq!(checkpoint.num_parameters(), 40 * 16 + 2 * block + 16);
        assert!(checkpoint.surplus().is_empty());
        let input = batch(&[3, 1], &checkpoint.config, &device).unwrap();
        assert_eq!((input.batch_size(), input.tokens()), (2, 4));
    }

    #[test]
    fn ragged_rows_differ_between_batches_and_are_no_longer_than_said() {
        let timing = Timing {
            rows: 4,
            length: 10,
            ragged: true,
            warmup: 0,
            iterations: 0,
            gradient_checkpointing: false,
        };
        let batches: Vec<Vec<usize>> = (0..8).map(|at| timing.lengths(at)).collect();
        let all = batches.concat();
        assert!(
            all.iter().all(|length| (3..=10).contains(length)),
            "{all:?}"
        );
        assert_eq!(batches[0][0], 10);
        assert!(batches.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}

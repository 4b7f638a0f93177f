//! What the benchmarks share: random checkpoints of a chosen shape, and batches for them.
//!
//! The numbers stand in `benches/README.md`, with the commands that made them.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Distribution, Tensor};
use ls_lora::{HostTensor, host_values, write_tensors};
use ls_model::{Checkpoint, LlamaConfig, ModelInput};
use serde_json::{Value, json};

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

impl Shape {
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
            "max_position_embeddings": 1024,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
        })
    }

    /// Every tensor of the decoder: its name, its shape as a file has it, and whether it is a norm.
    fn tensors(self) -> Vec<(String, Vec<usize>, bool)> {
        let (hidden, mlp) = (self.hidden_size, self.intermediate_size);
        let keys = hidden / self.num_attention_heads * self.num_key_value_heads;
        let embeddings = vec![self.vocab_size, hidden];
        let mut tensors = vec![("model.embed_tokens.weight".to_string(), embeddings, false)];
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in [
                ("self_attn.q_proj", [hidden, hidden]),
                ("self_attn.k_proj", [keys, hidden]),
                ("self_attn.v_proj", [keys, hidden]),
                ("self_attn.o_proj", [hidden, hidden]),
                ("mlp.gate_proj", [mlp, hidden]),
                ("mlp.up_proj", [mlp, hidden]),
                ("mlp.down_proj", [hidden, mlp]),
            ] {
                let name = format!("model.layers.{layer}.{name}.weight");
                tensors.push((name, shape.to_vec(), false));
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                let name = format!("model.layers.{layer}.{name}.weight");
                tensors.push((name, vec![hidden], true));
            }
        }
        tensors.push(("model.norm.weight".to_string(), vec![hidden], true));
        tensors
    }
}

/// Writes a checkpoint of `shape` with random weights into `dir` and opens it.
///
/// The weights are N(0, 0.02) from `device`'s generator, the norms one: a fresh LLaMA, as transformers makes it.
///
/// # Errors
///
/// If the folder cannot be written, or what was written does not open.
pub fn random_checkpoint(dir: &Path, shape: Shape, device: &Device) -> Result<Checkpoint> {
    let config = dir.join("config.json");
    std::fs::write(&config, shape.to_json().to_string())
        .with_context(|| format!("write {}", config.display()))?;
    let tensors: Vec<(String, HostTensor)> = shape
        .tensors()
        .into_iter()
        .map(|(name, shape, is_norm)| {
            let len = shape.iter().product();
            let values = if is_norm {
                vec![1.0; len]
            } else {
                host_values(Tensor::<1>::random(
                    [len],
                    Distribution::Normal(0.0, 0.02),
                    device,
                ))
            };
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
}

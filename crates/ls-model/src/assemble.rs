//! Builds a decoder from its weights, whether they are read from files or drawn.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::Tensor;
use ls_lora::{LoraEmbedding, LoraLinear};

use crate::config::{LlamaConfig, Projection};
use crate::error::Result;
use crate::llama::{Attention, DecoderLayer, LlamaModel, Mlp, RmsNorm};
use crate::mask::AttentionMode;
use crate::precision::ComputeType;

/// A source of a decoder's weights. It is asked in the order of the forward pass.
pub(crate) trait Weights {
    /// Element type of the activations, except on the CPU.
    fn compute(&self) -> ComputeType;
    /// The embedding table, `[vocab_size, hidden_size]`.
    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>>;
    /// A projection of a block by its full name.
    fn linear(&mut self, name: &str, projection: Projection) -> Result<LoraLinear>;
    /// The scale of a norm.
    fn norm(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>>;
}

/// Builds a frozen decoder.
///
/// # Errors
///
/// If the mode does not fit the model's layers, or the source fails.
pub(crate) fn assemble(
    config: &LlamaConfig,
    attention: &AttentionMode,
    weights: &mut dyn Weights,
) -> Result<LlamaModel> {
    let visibility = LlamaModel::visibility(config, attention)?;
    let embed_tokens = weights.embedding([config.vocab_size, config.hidden_size])?;
    let norm = |weights: &mut dyn Weights, name: &str| -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: weights.norm(name, config.hidden_size)?,
            eps: config.rms_norm_eps,
        })
    };
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let mut linear = |projection: Projection| {
            weights.linear(&format!("layers.{layer}.{}", projection.name), projection)
        };
        let [q, k, v, o, gate, up, down] = config.projections();
        let self_attn = Attention {
            q_proj: linear(q)?,
            k_proj: linear(k)?,
            v_proj: linear(v)?,
            o_proj: linear(o)?,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        let mlp = Mlp {
            gate_proj: linear(gate)?,
            up_proj: linear(up)?,
            down_proj: linear(down)?,
        };
        layers.push(DecoderLayer {
            self_attn,
            mlp,
            input_layernorm: norm(weights, &format!("layers.{layer}.input_layernorm"))?,
            post_attention_layernorm: norm(
                weights,
                &format!("layers.{layer}.post_attention_layernorm"),
            )?,
        });
    }
    let norm = norm(weights, "norm")?;
    let model = LlamaModel {
        embed_tokens: LoraEmbedding::new(Embedding {
            weight: embed_tokens,
        }),
        layers,
        norm,
        rope: config.rope.clone(),
        visibility,
        compute: weights.compute(),
    };
    Ok(model.no_grad())
}

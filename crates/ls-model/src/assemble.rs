//! Builds a decoder from its weights, whether they are read from files or drawn.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::{DType, Tensor};
use half::bf16;
use ls_lora::{LoraEmbedding, LoraLinear};

use crate::attention::AttentionKind;
use crate::config::{LlamaConfig, Projection, Projections};
use crate::error::Result;
use crate::llama::{
    Attention, DecoderLayer, FeedForward, FusedAttention, FusedMlp, LlamaModel, Mlp, RmsNorm,
    SelfAttention,
};
use crate::mask::AttentionMode;
use crate::precision::Precision;

/// A source of a decoder's weights. It is asked in the order of the forward pass.
pub(crate) trait Weights {
    /// How they are stored.
    fn precision(&self) -> &Precision;
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
    let table = weights.embedding([config.vocab_size, config.hidden_size])?;
    // Where something trains in full, the model is saved to be read in f32, which rounds nothing.
    let rounds = config.rounds_embedding_multiplier && weights.precision().in_f32.is_head();
    let embedding_multiplier = match table.val().dtype() {
        DType::BF16 if rounds => bf16::from_f64(config.embedding_multiplier).to_f64(),
        _ => config.embedding_multiplier,
    };
    let norm = |weights: &mut dyn Weights, name: &str, width: usize| -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: weights.norm(name, width)?,
            eps: config.rms_norm_eps,
            scale: config.norm_scale,
        })
    };
    let widths: BTreeMap<&str, usize> = config.block_norms().into_iter().collect();
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for (layer, (visibility, rope)) in visibility.into_iter().zip(&config.rope).enumerate() {
        let linear = |weights: &mut dyn Weights, projection: Projection| {
            weights.linear(&format!("layers.{layer}.{}", projection.name), projection)
        };
        let norm_of = |weights: &mut dyn Weights, name: &str| match widths.get(name) {
            Some(&width) => norm(weights, &format!("layers.{layer}.{name}"), width).map(Some),
            None => Ok(None),
        };
        let kind = AttentionKind {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            multiplier: config.attention_multiplier,
            soft_cap: config.attn_logit_softcapping,
            visibility,
            rope: rope.clone(),
        };
        let activation = config.hidden_act;
        let (self_attn, mlp) = match config.projections() {
            Projections::Split([q, k, v, o, gate, up, down]) => (
                SelfAttention::Split(Attention {
                    q_proj: linear(weights, q)?,
                    k_proj: linear(weights, k)?,
                    v_proj: linear(weights, v)?,
                    o_proj: linear(weights, o)?,
                    q_norm: norm_of(weights, "self_attn.q_norm")?,
                    k_norm: norm_of(weights, "self_attn.k_norm")?,
                    kind,
                }),
                FeedForward::Split(Mlp {
                    gate_proj: linear(weights, gate)?,
                    up_proj: linear(weights, up)?,
                    down_proj: linear(weights, down)?,
                    activation,
                }),
            ),
            Projections::Fused([qkv, o, gate_up, down]) => (
                SelfAttention::Fused(FusedAttention {
                    qkv_proj: linear(weights, qkv)?,
                    o_proj: linear(weights, o)?,
                    kind,
                }),
                FeedForward::Fused(FusedMlp {
                    gate_up_proj: linear(weights, gate_up)?,
                    down_proj: linear(weights, down)?,
                    activation,
                }),
            ),
        };
        layers.push(DecoderLayer {
            self_attn,
            mlp,
            input_layernorm: norm_of(weights, "input_layernorm")?,
            pre_feedforward_layernorm: norm_of(weights, "pre_feedforward_layernorm")?,
            post_feedforward_layernorm: norm_of(weights, "post_feedforward_layernorm")?,
            // Every family has it.
            post_attention_layernorm: norm(
                weights,
                &format!("layers.{layer}.post_attention_layernorm"),
                config.hidden_size,
            )?,
            residual_multiplier: config.residual_multiplier,
        });
    }
    let norm = norm(weights, "norm", config.hidden_size)?;
    let model = LlamaModel {
        embed_tokens: LoraEmbedding::new(Embedding { weight: table }),
        layers,
        norm,
        embedding_multiplier,
        compute: weights.precision().compute,
    };
    Ok(model.no_grad())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::json;

    use super::*;
    use crate::precision::ComputeType;
    use crate::tiny::{HIDDEN, Tiny};
    use crate::{Checkpoint, Trained};

    #[test]
    fn only_gemmas_multiplier_is_rounded_and_only_where_adapters_train() {
        let root = (HIDDEN as f64).sqrt();
        let rounded = 3.15625;
        for (family, compute, trained, expected) in [
            ("gemma2", ComputeType::Bf16, Trained::Head, rounded),
            ("gemma3_text", ComputeType::Bf16, Trained::Head, rounded),
            ("gemma2", ComputeType::F32, Trained::Head, root),
            ("gemma2", ComputeType::Bf16, "1".parse().unwrap(), root),
            ("gemma2", ComputeType::Bf16, Trained::All, root),
            ("granite", ComputeType::Bf16, Trained::Head, root),
        ] {
            let mut tiny = Tiny::of(family);
            tiny.config["embedding_multiplier"] = json!(root);
            let dir = tiny.write();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            let precision = Precision {
                in_f32: trained.clone(),
                ..compute.into()
            };
            let mode = AttentionMode::Causal;
            let model = checkpoint.load_model(&mode, precision, &Device::flex(), |_, _| ());
            let found = model.unwrap().embedding_multiplier;
            assert_eq!(found, expected, "{family} {compute:?} {trained}");
        }
    }
}

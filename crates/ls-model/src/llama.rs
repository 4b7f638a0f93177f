//! The decoder: attention, MLP, block and model. This is the file to read first.
//!
//! Activations are `[tokens, width]` over the real tokens of a batch (see [`ModelInput`]). Shapes stand at line ends;
//! `kv` = key/value heads, `groups` = query heads per key/value head.

use burn::module::{Module, Param};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Tensor};
use ls_lora::{LoraEmbedding, LoraLinear, lora_module};

use crate::config::LlamaConfig;
use crate::error::Result;
use crate::input::ModelInput;
use crate::mask::{AttentionMode, Visibility};
use crate::rope::{RopeConfig, Rotation};

/// Root mean square normalisation; the mean is taken in f32 whatever the dtype, as transformers does.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale of each channel, `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
    /// Inside the root.
    pub eps: f64,
}

impl RmsNorm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let x = if dtype == DType::F32 {
            x
        } else {
            x.cast(DType::F32)
        };
        let mean_square = x.clone().square().mean_dim(1); // [tokens, 1]
        let x = x / mean_square.add_scalar(self.eps).sqrt();
        let x = if dtype == DType::F32 {
            x
        } else {
            x.cast(dtype)
        };
        x * self.weight.val().unsqueeze()
    }
}

/// Grouped-query self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, `hidden_size -> num_attention_heads * head_dim`.
    pub q_proj: LoraLinear,
    /// Keys, `hidden_size -> num_key_value_heads * head_dim`.
    pub k_proj: LoraLinear,
    /// Values, as keys.
    pub v_proj: LoraLinear,
    /// Output, `num_attention_heads * head_dim -> hidden_size`.
    pub o_proj: LoraLinear,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Attention {
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &BatchContext<'_>,
        blocked: &Option<Tensor<4, Bool>>,
    ) -> Tensor<2> {
        let input = batch.input;
        let tokens = input.tokens();
        let (rows, longest) = (input.batch_size(), input.longest());
        let (heads, kv, head_dim) = (
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
        );
        let groups = heads / kv;

        let q = self
            .q_proj
            .forward(x.clone())
            .reshape([tokens, heads, head_dim]);
        let k = self
            .k_proj
            .forward(x.clone())
            .reshape([tokens, kv, head_dim]);
        let v = self.v_proj.forward(x); // [tokens, kv * head_dim]
        let q = batch.rotation.apply(q).reshape([tokens, heads * head_dim]);
        let k = batch.rotation.apply(k).reshape([tokens, kv * head_dim]);

        // The query heads that share a key/value head become further query rows of it, so that keys and values are
        // neither repeated nor copied.
        let q = input
            .pad(q)
            .reshape([rows, longest, kv, groups, head_dim])
            .permute([0, 2, 3, 1, 4])
            .reshape([rows, kv, groups * longest, head_dim]);
        let k = input
            .pad(k)
            .reshape([rows, longest, kv, head_dim])
            .swap_dims(1, 2); // [rows, kv, longest, head_dim]
        let v = input
            .pad(v)
            .reshape([rows, longest, kv, head_dim])
            .swap_dims(1, 2);

        let out = scaled_dot_product(q, k, v, blocked.clone()) // [rows, kv, groups * longest, head_dim]
            .reshape([rows, kv, groups, longest, head_dim])
            .permute([0, 3, 1, 2, 4])
            .reshape([rows * longest, heads * head_dim]);
        self.o_proj.forward(input.unpad(out)) // [tokens, hidden_size]
    }
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` with `blocked` positions (`true` = not attended) left out.
///
/// # Shapes
///
/// - `q`: `[rows, kv, queries, head_dim]`; `k`, `v`: `[rows, kv, keys, head_dim]`
/// - `blocked`: `[rows, 1, queries, keys]`
fn scaled_dot_product(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    blocked: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [rows, kv, queries, head_dim] = q.dims();
    let keys = k.dims()[2];
    let blocked = blocked.map(|blocked| blocked.expand([rows, kv, queries, keys]));
    if ![&q, &k, &v].iter().any(|tensor| tensor.is_autodiff()) {
        // Off the graph burn has a fused kernel; on it, it would take the steps below one by one, in the input's dtype.
        return attention(q, k, v, blocked, None, AttentionModuleOptions::default());
    }
    let dtype = q.dtype();
    let mut scores = q
        .mul_scalar(1.0 / (head_dim as f64).sqrt())
        .matmul(k.swap_dims(2, 3)); // [rows, kv, queries, keys]
    if dtype != DType::F32 {
        scores = scores.cast(DType::F32);
    }
    if let Some(blocked) = blocked {
        // Finite, so that no row can become NaN.
        scores = scores.mask_fill(blocked, -1e9);
    }
    let weights = softmax(scores, 3);
    let weights = if dtype == DType::F32 {
        weights
    } else {
        weights.cast(dtype)
    };
    weights.matmul(v)
}

/// Gated MLP: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden_size -> intermediate_size`.
    pub gate_proj: LoraLinear,
    /// `hidden_size -> intermediate_size`.
    pub up_proj: LoraLinear,
    /// `intermediate_size -> hidden_size`.
    pub down_proj: LoraLinear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = silu(self.gate_proj.forward(x.clone())); // [tokens, intermediate_size]
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}

/// One decoder block.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Self-attention.
    pub self_attn: Attention,
    /// Feed-forward part.
    pub mlp: Mlp,
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Before the MLP.
    pub post_attention_layernorm: RmsNorm,
}

impl DecoderLayer {
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &BatchContext<'_>,
        blocked: &Option<Tensor<4, Bool>>,
    ) -> Tensor<2> {
        let x = x.clone()
            + self
                .self_attn
                .forward(self.input_layernorm.forward(x), batch, blocked);
        x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x))
    }
}

/// What all layers share for one batch.
struct BatchContext<'a> {
    input: &'a ModelInput,
    rotation: Rotation,
}

/// The decoder without a head: token ids to normalised hidden states.
#[derive(Module, Debug)]
pub struct LlamaModel {
    /// Embedding table, `[vocab_size, hidden_size]`.
    pub embed_tokens: LoraEmbedding,
    /// The blocks.
    pub layers: Vec<DecoderLayer>,
    /// After the last block.
    pub norm: RmsNorm,
    /// Rotary embedding.
    #[module(skip)]
    pub rope: RopeConfig,
    /// What each layer lets a token see.
    #[module(skip)]
    pub visibility: Vec<Visibility>,
}

impl LlamaModel {
    /// What each layer of `config` lets a token see under `attention`.
    ///
    /// # Errors
    ///
    /// If the mode does not fit the model's layers.
    pub fn visibility(config: &LlamaConfig, attention: &AttentionMode) -> Result<Vec<Visibility>> {
        let bidirectional = attention.bidirectional_layers(config.num_hidden_layers)?;
        let visibility = bidirectional.into_iter().zip(&config.sliding_window);
        Ok(visibility
            .map(|(bidirectional, &window)| Visibility {
                bidirectional,
                window,
            })
            .collect())
    }

    /// Hidden states of every real token after the final norm, `[tokens, hidden_size]`, in the weights' dtype.
    pub fn forward(&self, input: &ModelInput) -> Tensor<2> {
        let mut x = self.embed_tokens.rows(input.input_ids.clone()); // [tokens, hidden_size]
        let device = x.device();
        let mut rotation = self.rope.rotation(&input.lengths, &device);
        if x.dtype() != DType::F32 {
            rotation = rotation.cast(x.dtype());
        }
        let batch = BatchContext { input, rotation };
        // Layers that see alike share a mask.
        let mut masks: Vec<(Visibility, Option<Tensor<4, Bool>>)> = Vec::new();
        for (layer, &visibility) in self.layers.iter().zip(&self.visibility) {
            let at = match masks.iter().position(|(of, _)| *of == visibility) {
                Some(at) => at,
                None => {
                    let groups =
                        layer.self_attn.num_attention_heads / layer.self_attn.num_key_value_heads;
                    masks.push((
                        visibility,
                        visibility.blocked(&input.lengths, groups, &device),
                    ));
                    masks.len() - 1
                }
            };
            x = layer.forward(x, &batch, &masks[at].1);
        }
        self.norm.forward(x)
    }
}

// Where adapters can go, in the order of the forward pass.
lora_module!(Attention {
    q_proj,
    k_proj,
    v_proj,
    o_proj
});
lora_module!(Mlp {
    gate_proj,
    up_proj,
    down_proj
});
lora_module!(DecoderLayer { self_attn, mlp });
lora_module!(LlamaModel {
    embed_tokens,
    layers
});

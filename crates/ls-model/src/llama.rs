//! The decoder: attention, MLP, block and model. This is the file to read first;
//! `attention.rs` has what attention does with the rows, `heads.rs` the classifier on top.
//!
//! Activations are `[tokens, width]` over the real tokens of a batch (see [`ModelInput`]). Shapes
//! stand at line ends; `kv` is the number of key/value heads.
//!
//! Embedding, attention and MLP enter tracing spans of these names at level `trace`, for profiles.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ls_lora::{LoraEmbedding, LoraLinear, lora_module};

use crate::attention::{BatchContext, Heads, Pooled};
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::input::ModelInput;
use crate::mask::{AttentionMode, Visibility};
use crate::precision::ComputeType;
use crate::rope::RopeConfig;

/// Root mean square normalisation. The mean is taken in f32 whatever the dtype, as in transformers.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale of each channel, `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        ls_ops::rms_norm(x, self.weight.val(), self.eps)
    }
}

/// Grouped-query self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, `hidden_size -> num_attention_heads * head_dim`.
    pub q_proj: LoraLinear,
    /// Keys, `hidden_size -> num_key_value_heads * head_dim`.
    pub k_proj: LoraLinear,
    /// Values, `hidden_size -> num_key_value_heads * head_dim`.
    pub v_proj: LoraLinear,
    /// Output projection, `num_attention_heads * head_dim -> hidden_size`.
    pub o_proj: LoraLinear,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Attention {
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        visibility: Visibility,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        let _span = tracing::trace_span!("attention").entered();
        let heads = Heads {
            heads: self.num_attention_heads,
            kv: self.num_key_value_heads,
            dim: self.head_dim,
        };
        let project = |queries: Tensor<2>, x: Tensor<2>| {
            [
                self.q_proj.forward(queries),   // [tokens, heads * head_dim]
                self.k_proj.forward(x.clone()), // [tokens, kv * head_dim]
                self.v_proj.forward(x),
            ]
        };
        let out = batch.attend(x, heads, visibility, pooled, project);
        self.o_proj.forward(out) // [tokens, hidden_size]
    }
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
    pub(crate) fn forward(&self, x: Tensor<2>, wanted: Wanted) -> Tensor<2> {
        let _span = tracing::trace_span!("mlp").entered();
        let gate = self.gate_proj.forward(x.clone()); // [tokens, intermediate_size]
        let up = self.up_proj.forward(x);
        let gated = ls_ops::swiglu(gate, up);
        match wanted {
            Wanted::Value => self.down_proj.forward(gated),
            Wanted::Graph => self.down_proj.forward_graph(gated),
        }
    }
}

/// What the caller needs of a block's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The value, and the graph if there is one.
    Value,
    /// The graph only: the caller runs the backward pass and drops the value.
    Graph,
}

/// One decoder block.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Self-attention.
    pub self_attn: Attention,
    /// Feed-forward part.
    pub mlp: Mlp,
    /// Normalises the input of attention.
    pub input_layernorm: RmsNorm,
    /// Normalises the input of the MLP.
    pub post_attention_layernorm: RmsNorm,
}

impl DecoderLayer {
    /// With `pooled`, gives the hidden states of the pooled tokens only and computes no more than
    /// they need.
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        visibility: Visibility,
        pooled: Option<&Pooled>,
        wanted: Wanted,
    ) -> Tensor<2> {
        let attended = self.self_attn.forward(
            self.input_layernorm.forward(x.clone()),
            batch,
            visibility,
            pooled,
        );
        let x = match pooled {
            Some(pooled) => pooled.of(x),
            None => x,
        } + attended;
        let normed = self.post_attention_layernorm.forward(x.clone());
        x + self.mlp.forward(normed, wanted)
    }
}

/// The decoder without a head: token ids to normalised hidden states.
#[derive(Module, Debug)]
pub struct LlamaModel {
    /// Embedding table, `[vocab_size, hidden_size]`.
    pub embed_tokens: LoraEmbedding,
    /// The blocks.
    pub layers: Vec<DecoderLayer>,
    /// Normalises the output of the last block.
    pub norm: RmsNorm,
    /// Rotary embedding.
    #[module(skip)]
    pub(crate) rope: RopeConfig,
    /// What each layer lets a token attend to.
    #[module(skip)]
    pub(crate) visibility: Vec<Visibility>,
    /// Element type of the activations, except on the CPU.
    #[module(skip)]
    pub(crate) compute: ComputeType,
}

impl LlamaModel {
    /// What each layer of `config` lets a token attend to under `attention`.
    ///
    /// # Errors
    ///
    /// If the mode does not fit the model's layers.
    pub(crate) fn visibility(
        config: &LlamaConfig,
        attention: &AttentionMode,
    ) -> Result<Vec<Visibility>> {
        let bidirectional = attention.bidirectional_layers(config.num_hidden_layers)?;
        let visibility = bidirectional.into_iter().zip(&config.sliding_window);
        Ok(visibility
            .map(|(bidirectional, &window)| Visibility {
                bidirectional,
                window,
            })
            .collect())
    }

    /// Hidden states of every real token after the final norm, `[tokens, hidden_size]`; in f32 on
    /// the CPU, in the weights' dtype elsewhere.
    pub fn forward(&self, input: &ModelInput) -> Tensor<2> {
        self.run(input, None)
    }

    /// The hidden state of the last token of each row's text ([`ModelInput::last`]),
    /// `[batch, hidden_size]`.
    ///
    /// The result equals those rows of [`LlamaModel::forward`]; the last block leaves out what only
    /// the other tokens need.
    pub fn forward_last(&self, input: &ModelInput) -> Tensor<2> {
        self.run(input, Some(&Pooled::last(input)))
    }

    fn run(&self, input: &ModelInput, pooled: Option<&Pooled>) -> Tensor<2> {
        let mut x = self.embed(input); // [tokens, hidden_size]
        let mut batch = BatchContext::new(input, &self.rope);
        for (at, layer) in self.layers.iter().enumerate() {
            x = self.block(at, layer, x, &mut batch, pooled, Wanted::Value);
        }
        self.norm.forward(x)
    }

    /// The input of the first block, `[tokens, hidden_size]`.
    pub(crate) fn embed(&self, input: &ModelInput) -> Tensor<2> {
        let _span = tracing::trace_span!("embedding").entered();
        let x = self.embed_tokens.rows(input.input_ids.clone());
        // The table may be of another type: narrower on the CPU, or f32 because it trains.
        let dtype = self.compute.of_activations(&x.device()).dtype();
        if x.dtype() == dtype { x } else { x.cast(dtype) }
    }

    /// Runs the block at place `at` with the weights of `layer`; the last block gives the pooled
    /// tokens only.
    pub(crate) fn block(
        &self,
        at: usize,
        layer: &DecoderLayer,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        pooled: Option<&Pooled>,
        wanted: Wanted,
    ) -> Tensor<2> {
        batch.seed_dropout(at);
        let is_last = at + 1 == self.layers.len();
        let pooled = pooled.filter(|_| is_last);
        layer.forward(x, batch, self.visibility[at], pooled, wanted)
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

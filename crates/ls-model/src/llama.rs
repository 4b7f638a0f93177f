//! The decoder: attention, MLP, block and model. This is the file to read first;
//! `attention.rs` has what attention does with the rows, `heads.rs` the classifier on top.
//!
//! It is every family's decoder. What not all have is an `Option` or a number here, and
//! `config/family.rs` says which have it; LLaMA has the fewest. In Phi-3 layers that read the same
//! are one layer, with one adapter: [`FusedAttention`] and [`FusedMlp`].
//!
//! Activations are `[tokens, width]` over the real tokens of a batch (see [`ModelInput`]). Shapes
//! stand at line ends; `kv` is the number of key/value heads.
//!
//! Embedding, attention and MLP enter tracing spans of these names at level `trace`, for profiles.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ls_lora::{LoraEmbedding, LoraLinear, lora_module};
use ls_ops::{Activation, NormScale};

use crate::attention::{AttentionKind, BatchContext, Pooled};
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::input::ModelInput;
use crate::mask::{AttentionMode, Visibility};
use crate::precision::ComputeType;

/// Root mean square normalisation. The mean is taken in f32 whatever the dtype, as in transformers.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale of each channel, `[hidden_size]`; of each channel of a head, `[head_dim]`, for a norm
    /// that takes each head by itself.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub eps: f64,
    /// What the weight multiplies by.
    #[module(skip)]
    pub scale: NormScale,
}

impl RmsNorm {
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let ([tokens, width], [piece]) = (x.dims(), weight.dims());
        if piece == width {
            return ls_ops::rms_norm(x, weight, self.scale, self.eps);
        }
        let heads = x.reshape([tokens * (width / piece), piece]);
        ls_ops::rms_norm(heads, weight, self.scale, self.eps).reshape([tokens, width])
    }
}

/// A norm that not every family has.
pub(crate) fn normed(norm: Option<&RmsNorm>, x: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
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
    /// Normalises queries.
    pub q_norm: Option<RmsNorm>,
    /// Normalises keys.
    pub k_norm: Option<RmsNorm>,
    /// Heads, scores, and who sees whom.
    #[module(skip)]
    pub(crate) kind: AttentionKind,
}

impl Attention {
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        let _span = tracing::trace_span!("attention").entered();
        let queries = match pooled {
            Some(pooled) => pooled.of(x.clone()),
            None => x.clone(),
        };
        let q = self.q_proj.forward(queries); // [tokens, heads * head_dim]
        let k = self.k_proj.forward(x.clone()); // [tokens, kv * head_dim]
        let v = self.v_proj.forward(x);
        let q = normed(self.q_norm.as_ref(), q);
        let k = normed(self.k_norm.as_ref(), k);
        let out = batch.attend([q, k, v], &self.kind, pooled);
        self.o_proj.forward(out) // [tokens, hidden_size]
    }
}

/// Self-attention whose queries, keys and values are the output of one layer, side by side.
#[derive(Module, Debug)]
pub struct FusedAttention {
    /// `hidden_size -> (num_attention_heads + 2 * num_key_value_heads) * head_dim`.
    pub qkv_proj: LoraLinear,
    /// Output projection, `num_attention_heads * head_dim -> hidden_size`.
    pub o_proj: LoraLinear,
    /// Heads, scores, and who sees whom.
    #[module(skip)]
    pub(crate) kind: AttentionKind,
}

impl FusedAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        let _span = tracing::trace_span!("attention").entered();
        let qkv = self.qkv_proj.forward(x); // [tokens, (heads + 2 * kv) * head_dim]
        let out = batch.attend(self.split(qkv, pooled), &self.kind, pooled);
        self.o_proj.forward(out) // [tokens, hidden_size]
    }

    /// Queries, keys and values; with `pooled` the queries are the pooled tokens'.
    pub(crate) fn split(&self, qkv: Tensor<2>, pooled: Option<&Pooled>) -> [Tensor<2>; 3] {
        let heads = [self.kind.heads, self.kind.kv_heads];
        let [queries, keys] = heads.map(|heads| heads * self.kind.head_dim);
        let q = qkv.clone().narrow(1, 0, queries);
        [
            match pooled {
                Some(pooled) => pooled.of(q),
                None => q,
            },
            qkv.clone().narrow(1, queries, keys),
            qkv.narrow(1, queries + keys, keys),
        ]
    }
}

/// Self-attention, with the layers that a checkpoint has for it.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // every block of a model has the same
pub enum SelfAttention {
    /// `q_proj`, `k_proj` and `v_proj`.
    Split(Attention),
    /// `qkv_proj`.
    Fused(FusedAttention),
}

impl SelfAttention {
    pub(crate) fn kind_mut(&mut self) -> &mut AttentionKind {
        match self {
            Self::Split(attention) => &mut attention.kind,
            Self::Fused(attention) => &mut attention.kind,
        }
    }

    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        match self {
            Self::Split(attention) => attention.forward(x, batch, pooled),
            Self::Fused(attention) => attention.forward(x, batch, pooled),
        }
    }
}

/// Gated MLP: `down(activation(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden_size -> intermediate_size`.
    pub gate_proj: LoraLinear,
    /// `hidden_size -> intermediate_size`.
    pub up_proj: LoraLinear,
    /// `intermediate_size -> hidden_size`.
    pub down_proj: LoraLinear,
    /// What the gate goes through.
    #[module(skip)]
    pub activation: Activation,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>, wanted: Wanted) -> Tensor<2> {
        let _span = tracing::trace_span!("mlp").entered();
        let gate = self.gate_proj.forward(x.clone()); // [tokens, intermediate_size]
        let up = self.up_proj.forward(x);
        wanted.of(&self.down_proj, ls_ops::glu(gate, up, self.activation))
    }
}

/// Gated MLP whose gate and up are the output of one layer, side by side.
#[derive(Module, Debug)]
pub struct FusedMlp {
    /// `hidden_size -> 2 * intermediate_size`.
    pub gate_up_proj: LoraLinear,
    /// `intermediate_size -> hidden_size`.
    pub down_proj: LoraLinear,
    /// What the gate goes through.
    #[module(skip)]
    pub activation: Activation,
}

impl FusedMlp {
    fn forward(&self, x: Tensor<2>, wanted: Wanted) -> Tensor<2> {
        let _span = tracing::trace_span!("mlp").entered();
        let gate_up = self.gate_up_proj.forward(x); // [tokens, 2 * intermediate_size]
        let gated = ls_ops::joined_glu(gate_up, self.activation);
        wanted.of(&self.down_proj, gated)
    }
}

/// The MLP, with the layers that a checkpoint has for it.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // every block of a model has the same
pub enum FeedForward {
    /// `gate_proj` and `up_proj`.
    Split(Mlp),
    /// `gate_up_proj`.
    Fused(FusedMlp),
}

impl FeedForward {
    pub(crate) fn forward(&self, x: Tensor<2>, wanted: Wanted) -> Tensor<2> {
        match self {
            Self::Split(mlp) => mlp.forward(x, wanted),
            Self::Fused(mlp) => mlp.forward(x, wanted),
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

impl Wanted {
    /// The output of a block's last layer.
    fn of(self, layer: &LoraLinear, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Value => layer.forward(x),
            Self::Graph => layer.forward_graph(x),
        }
    }
}

/// One decoder block.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Self-attention.
    pub self_attn: SelfAttention,
    /// Feed-forward part.
    pub mlp: FeedForward,
    /// Normalises the input of attention.
    pub input_layernorm: Option<RmsNorm>,
    /// Normalises the input of the MLP; or, where the MLP's output has a norm too, the output of
    /// attention.
    pub post_attention_layernorm: RmsNorm,
    /// Normalises the input of the MLP.
    pub pre_feedforward_layernorm: Option<RmsNorm>,
    /// Normalises the output of the MLP.
    pub post_feedforward_layernorm: Option<RmsNorm>,
    /// What the outputs of attention and MLP are multiplied by.
    pub residual_multiplier: f64,
}

/// The norms of a block by where they stand.
pub(crate) struct Norms<'a> {
    pub before_attention: Option<&'a RmsNorm>,
    pub after_attention: Option<&'a RmsNorm>,
    pub before_mlp: Option<&'a RmsNorm>,
    pub after_mlp: Option<&'a RmsNorm>,
}

impl DecoderLayer {
    /// The names are older than norms behind attention, so one of them has two meanings.
    pub(crate) fn norms(&self) -> Norms<'_> {
        let after_attention = Some(&self.post_attention_layernorm);
        let after_mlp = self.post_feedforward_layernorm.as_ref();
        let (after_attention, before_mlp) = match after_mlp {
            None => (None, after_attention),
            Some(_) => (after_attention, self.pre_feedforward_layernorm.as_ref()),
        };
        Norms {
            before_attention: self.input_layernorm.as_ref(),
            after_attention,
            before_mlp,
            after_mlp,
        }
    }

    /// With `pooled`, gives the hidden states of the pooled tokens only and computes no more than
    /// they need.
    fn forward(
        &self,
        x: Tensor<2>,
        batch: &mut BatchContext<'_>,
        pooled: Option<&Pooled>,
        wanted: Wanted,
    ) -> Tensor<2> {
        let norms = self.norms();
        let attended = normed(norms.before_attention, x.clone());
        let attended = self.self_attn.forward(attended, batch, pooled);
        let attended = normed(norms.after_attention, attended);
        let x = match pooled {
            Some(pooled) => pooled.of(x),
            None => x,
        };
        let x = self.add(x, attended);
        let gated = normed(norms.before_mlp, x.clone());
        let gated = match norms.after_mlp {
            // The backward pass of a norm reads what it was given.
            Some(norm) => norm.forward(self.mlp.forward(gated, Wanted::Value)),
            None => self.mlp.forward(gated, wanted),
        };
        self.add(x, gated)
    }

    /// The residual stream with what a part of the block gives.
    pub(crate) fn add(&self, x: Tensor<2>, part: Tensor<2>) -> Tensor<2> {
        if self.residual_multiplier == 1.0 {
            x + part
        } else {
            x + part.mul_scalar(self.residual_multiplier)
        }
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
    /// What embeddings are multiplied by.
    pub embedding_multiplier: f64,
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

    /// The same weights, each layer of `config` under another attention.
    ///
    /// # Errors
    ///
    /// If the mode does not fit the model's layers.
    pub fn with_attention(
        mut self,
        config: &LlamaConfig,
        attention: &AttentionMode,
    ) -> Result<Self> {
        let visibility = Self::visibility(config, attention)?;
        for (layer, visibility) in self.layers.iter_mut().zip(visibility) {
            layer.self_attn.kind_mut().visibility = visibility;
        }
        Ok(self)
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
        let mut batch = BatchContext::new(input);
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
        let x = if x.dtype() == dtype { x } else { x.cast(dtype) };
        if self.embedding_multiplier == 1.0 {
            x
        } else {
            x.mul_scalar(self.embedding_multiplier)
        }
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
        layer.forward(x, batch, pooled, wanted)
    }
}

// Where adapters can go, in the order of the forward pass.
lora_module!(Attention {
    q_proj,
    k_proj,
    v_proj,
    o_proj
});
lora_module!(FusedAttention { qkv_proj, o_proj });
lora_module!(
    enum SelfAttention {
        Split,
        Fused,
    }
);
lora_module!(Mlp {
    gate_proj,
    up_proj,
    down_proj
});
lora_module!(FusedMlp {
    gate_up_proj,
    down_proj
});
lora_module!(
    enum FeedForward {
        Split,
        Fused,
    }
);
lora_module!(DecoderLayer { self_attn, mlp });
lora_module!(LlamaModel {
    embed_tokens,
    layers
});

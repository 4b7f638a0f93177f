//! The decoder: attention, MLP, block and model. This is the file to read first.
//!
//! Activations are `[tokens, width]` over the real tokens of a batch (see [`ModelInput`]). Shapes stand at line ends;
//! `kv` = key/value heads, `groups` = query heads per key/value head.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use ls_lora::{LoraEmbedding, LoraLinear, lora_module};

use crate::attention::{BatchContext, Heads, Pooled};
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::input::ModelInput;
use crate::mask::{AttentionMode, Visibility};
use crate::rope::RopeConfig;

/// Root mean square normalisation; the mean is taken in f32 whatever the dtype, as transformers does.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale of each channel, `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
    /// Inside the root.
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
        batch: &mut BatchContext<'_>,
        visibility: Visibility,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
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
    fn forward(&self, x: Tensor<2>, wanted: Wanted) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone()); // [tokens, intermediate_size]
        let up = self.up_proj.forward(x);
        let gated = ls_ops::swiglu(gate, up);
        match wanted {
            Wanted::Value => self.down_proj.forward(gated),
            Wanted::Graph => self.down_proj.forward_graph(gated),
        }
    }
}

/// What of a block's output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Its value, and its graph where it has one.
    Value,
    /// Its graph alone: the block is gone through backwards and forgotten.
    Graph,
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
    /// With `pooled`, the hidden states of its tokens alone: what no later layer reads is not computed.
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
        batch.done(Part::Attention);
        let normed = self.post_attention_layernorm.forward(x.clone());
        let x = x + self.mlp.forward(normed, wanted);
        batch.done(Part::Mlp);
        x
    }
}

/// A part of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The rows of the embedding table.
    Embedding,
    /// A block's attention, with the norm before it.
    Attention,
    /// A block's MLP, with the norm before it.
    Mlp,
    /// The norm after the last block.
    Norm,
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

    /// Hidden states of every real token after the final norm, `[tokens, hidden_size]`; on the CPU in f32, elsewhere in the
    /// weights' dtype.
    pub fn forward(&self, input: &ModelInput) -> Tensor<2> {
        let x = self.embed(input);
        let batch = BatchContext::new(input, &self.rope, &x);
        self.run(x, batch, None)
    }

    /// The hidden state of the last token of each row's text ([`ModelInput::last`]) alone, `[batch, hidden_size]`.
    ///
    /// The same as those rows of [`LlamaModel::forward`]; the last block leaves out what only the others need.
    pub fn forward_last(&self, input: &ModelInput) -> Tensor<2> {
        self.forward_last_in_parts(input, &mut |_| ())
    }

    /// [`LlamaModel::forward_last`], telling `done` of every part when all its operations are on the device's queue: who waits
    /// for the device there knows what each part takes.
    pub fn forward_last_in_parts(
        &self,
        input: &ModelInput,
        done: &mut dyn FnMut(Part),
    ) -> Tensor<2> {
        let x = self.embed(input);
        done(Part::Embedding);
        let batch = BatchContext::new(input, &self.rope, &x).telling(done);
        self.run(x, batch, Some(&Pooled::last(input)))
    }

    fn run(
        &self,
        mut x: Tensor<2>,
        mut batch: BatchContext<'_>,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        for (at, layer) in self.layers.iter().enumerate() {
            x = self.block(at, layer, x, &mut batch, pooled, Wanted::Value);
        }
        let x = self.norm.forward(x);
        batch.done(Part::Norm);
        x
    }

    /// What the first block reads, `[tokens, hidden_size]`.
    pub(crate) fn embed(&self, input: &ModelInput) -> Tensor<2> {
        let x = self.embed_tokens.rows(input.input_ids.clone());
        if x.dtype() != DType::F32 && ls_ops::is_host(&x.device()) {
            // A CPU computes in f32; weights stay as they are.
            return x.cast(DType::F32);
        }
        x
    }

    /// The block at this place, whose weights are those of `layer`. Of the last one the tokens of `pooled` alone.
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

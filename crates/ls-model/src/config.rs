//! [`LlamaConfig`]: the shape of a decoder.

mod family;
mod layers;
mod read;

use ls_ops::{Activation, NormScale};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::mask::AttentionMode;
use crate::rope::RopeConfig;

/// Shape of a decoder, with every default of transformers 5 filled in.
///
/// The field names are those of `config.json`. Reading the file resolves what differs between the
/// families, so that no other code asks for the family again.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// What transformers has for classifiers on such a decoder.
    pub classes: Classes,
    /// Entries of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Longest input the checkpoint was made for.
    pub max_position_embeddings: usize,
    /// Inside the root of every RMSNorm.
    pub rms_norm_eps: f64,
    /// What a norm's weight multiplies by.
    pub norm_scale: NormScale,
    /// Where a block has norms.
    pub norms: BlockNorms,
    /// The norms of queries and keys, where there are such.
    pub head_norms: Option<HeadNorms>,
    /// What the gate of the MLP goes through.
    pub hidden_act: Activation,
    /// What embeddings are multiplied by.
    pub embedding_multiplier: f64,
    /// Whether that is held in the type of the embedding table, and rounded to it.
    pub rounds_embedding_multiplier: bool,
    /// What the scores of attention are multiplied by.
    pub attention_multiplier: f64,
    /// What the outputs of attention and MLP are multiplied by.
    pub residual_multiplier: f64,
    /// The largest score of attention, where there is one.
    pub attn_logit_softcapping: Option<f64>,
    /// Rotary embedding of each layer, where it has one.
    pub rope: Vec<Option<RopeConfig>>,
    /// Whether q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub o_bias: bool,
    /// Whether the three MLP projections have a bias.
    pub mlp_bias: bool,
    /// Whether layers that read the same are one layer: `qkv_proj` and `gate_up_proj`.
    pub fused_projections: bool,
    /// Sliding window of each layer in tokens, where it has one: the own place and those before it,
    /// or so many to each side where a layer has no causal mask.
    pub sliding_window: Vec<Option<usize>>,
    /// Whether the output embedding is the input embedding (then a file has no `lm_head`).
    pub tie_word_embeddings: bool,
    /// `"is_causal": false`, which transformers and vLLM read, makes every layer bidirectional, as
    /// Gemma 3's `"use_bidirectional_attention": true` does.
    pub is_causal: bool,
    /// Standard deviation of a fresh head's weights.
    pub initializer_range: f64,
    /// Dropout before a token head.
    pub classifier_dropout: f64,
    /// Whether a token head has a bias.
    pub token_classification_bias: bool,
    /// Class names in order, where `id2label` gives them.
    pub labels: Option<Vec<String>>,
    /// What the answers of a sequence head are, where the file says it.
    pub problem_type: Option<ProblemType>,
    /// The dropout over 0 that transformers would apply in the layers in training, by the names of
    /// its fields: of a head's input and of adapters there is some here, in the layers there is
    /// none.
    pub dropout_not_applied: Vec<(&'static str, f64)>,
    /// The padding id recorded in the file.
    pub pad_token_id: Option<u32>,
    /// The file as read, for writing it out again with additions.
    pub raw: Map<String, Value>,
}

impl LlamaConfig {
    /// The attention mode that the checkpoint asks for.
    pub fn attention(&self) -> AttentionMode {
        if self.is_causal {
            AttentionMode::Causal
        } else {
            AttentionMode::Bidirectional
        }
    }

    /// By what the file says that it is of a model that labels sequences, if it does: the name of a
    /// class in transformers, or its `problem_type` where no class is of taggers.
    pub(crate) fn sequence_class(&self) -> Option<&str> {
        let classes = self.raw.get("architectures").and_then(Value::as_array);
        let names = classes.into_iter().flatten().filter_map(Value::as_str);
        let of = |task: &str| names.clone().find(|name| name.ends_with(task));
        let problem_type = || match of("ForTokenClassification") {
            None => self.raw.get("problem_type")?.as_str(),
            Some(_) => None,
        };
        of("ForSequenceClassification").or_else(problem_type)
    }

    /// The linear layers of a block.
    ///
    /// ```
    /// use std::path::Path;
    /// use ls_model::LlamaConfig;
    ///
    /// # fn main() -> Result<(), ls_model::ModelError> {
    /// let json = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 8,
    ///     "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    ///     "num_key_value_heads": 2}"#;
    /// let config = LlamaConfig::from_json(json, Path::new("config.json"))?;
    /// let projections = config.projections();
    /// let [_q, k, .., down] = projections.all() else { unreachable!() };
    /// assert_eq!((k.name, k.shape), ("self_attn.k_proj", [8, 4]));
    /// assert_eq!((down.name, down.shape), ("mlp.down_proj", [16, 8]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn projections(&self) -> Projections {
        let (hidden, mlp) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let of = |name, shape, has_bias| Projection {
            name,
            shape,
            has_bias,
        };
        let o = of("self_attn.o_proj", [queries, hidden], self.o_bias);
        let down = of("mlp.down_proj", [mlp, hidden], self.mlp_bias);
        if self.fused_projections {
            let qkv = [hidden, queries + 2 * keys];
            let qkv = of("self_attn.qkv_proj", qkv, self.qkv_bias);
            let gate_up = of("mlp.gate_up_proj", [hidden, 2 * mlp], self.mlp_bias);
            return Projections::Fused([qkv, o, gate_up, down]);
        }
        Projections::Split([
            of("self_attn.q_proj", [hidden, queries], self.qkv_bias),
            of("self_attn.k_proj", [hidden, keys], self.qkv_bias),
            of("self_attn.v_proj", [hidden, keys], self.qkv_bias),
            o,
            of("mlp.gate_proj", [hidden, mlp], self.mlp_bias),
            of("mlp.up_proj", [hidden, mlp], self.mlp_bias),
            down,
        ])
    }

    /// The norms of a block by their places in it, as checkpoints name them, and their widths; in
    /// the order of the forward pass.
    pub fn block_norms(&self) -> Vec<(&'static str, usize)> {
        let (hidden, dim) = (self.hidden_size, self.head_dim);
        let heads = match self.head_norms {
            None => None,
            Some(HeadNorms::Each) => Some([dim, dim]),
            Some(HeadNorms::Together) => Some([
                self.num_attention_heads * dim,
                self.num_key_value_heads * dim,
            ]),
        };
        let [first, rest]: [&[&str]; 2] = match self.norms {
            BlockNorms::Before => [&["input_layernorm"], &["post_attention_layernorm"]],
            BlockNorms::After => [
                &[],
                &["post_attention_layernorm", "post_feedforward_layernorm"],
            ],
            BlockNorms::Both => [
                &["input_layernorm"],
                &[
                    "post_attention_layernorm",
                    "pre_feedforward_layernorm",
                    "post_feedforward_layernorm",
                ],
            ],
        };
        let wide = |names: &[&'static str]| names.iter().map(|&name| (name, hidden)).collect();
        let mut norms: Vec<_> = wide(first);
        if let Some([queries, keys]) = heads {
            norms.extend([("self_attn.q_norm", queries), ("self_attn.k_norm", keys)]);
        }
        norms.extend::<Vec<_>>(wide(rest));
        norms
    }

    /// Every tensor of the decoder by its name in a checkpoint, without the prefix `model.`, and
    /// its shape there (`[out, in]`).
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let table = vec![self.vocab_size, hidden];
        let mut tensors = vec![("embed_tokens.weight".to_string(), table)];
        for layer in 0..self.num_hidden_layers {
            for &Projection {
                name,
                shape: [d_in, d_out],
                has_bias,
            } in self.projections().all()
            {
                let name = format!("layers.{layer}.{name}");
                tensors.push((format!("{name}.weight"), vec![d_out, d_in]));
                if has_bias {
                    tensors.push((format!("{name}.bias"), vec![d_out]));
                }
            }
            for (name, width) in self.block_norms() {
                tensors.push((format!("layers.{layer}.{name}.weight"), vec![width]));
            }
        }
        tensors.push(("norm.weight".to_string(), vec![hidden]));
        tensors
    }
}

/// The classes of transformers 5 that classify with a family's decoder, by what their names begin
/// with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// For sequences and for tokens.
    Both(&'static str),
    /// For sequences alone.
    Sequence(&'static str),
    /// None.
    Neither,
}

impl Classes {
    /// The one for sequences: `LlamaForSequenceClassification`.
    pub fn sequence(self) -> Option<String> {
        match self {
            Self::Both(stem) | Self::Sequence(stem) => {
                Some(format!("{stem}ForSequenceClassification"))
            }
            Self::Neither => None,
        }
    }

    /// The one for tokens: `LlamaForTokenClassification`.
    pub fn token(self) -> Option<String> {
        match self {
            Self::Both(stem) => Some(format!("{stem}ForTokenClassification")),
            Self::Sequence(_) | Self::Neither => None,
        }
    }
}

/// Where a block has norms of the residual stream's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNorms {
    /// Before attention and before the MLP: LLaMA.
    Before,
    /// Behind both, before what they give is added: OLMo 2.
    After,
    /// Before and behind both: Gemma.
    Both,
}

/// How queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// Each head by itself, with one scale for all: Qwen3.
    Each,
    /// All heads of a token together: OLMo 2.
    Together,
}

/// What the answers of a sequence head are, by transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// Numbers.
    Regression,
    /// One class of several: what is meant where nothing is said.
    #[default]
    SingleLabelClassification,
    /// Any number of classes.
    MultiLabelClassification,
}

impl ProblemType {
    /// Every one.
    pub const ALL: [Self; 3] = [
        Self::Regression,
        Self::SingleLabelClassification,
        Self::MultiLabelClassification,
    ];

    /// transformers' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regression => "regression",
            Self::SingleLabelClassification => "single_label_classification",
            Self::MultiLabelClassification => "multi_label_classification",
        }
    }
}

/// The linear layers of a block, in the order of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// q, k, v, o, gate, up and down.
    Split([Projection; 7]),
    /// q, k and v as one; o; gate and up as one; down.
    Fused([Projection; 4]),
}

impl Projections {
    /// Every one.
    pub fn all(&self) -> &[Projection] {
        match self {
            Self::Split(all) => all,
            Self::Fused(all) => all,
        }
    }
}

/// A linear layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Its place in the block, as checkpoints name it: `self_attn.q_proj`.
    pub name: &'static str,
    /// `[in, out]`.
    pub shape: [usize; 2],
    /// Whether it has a bias, `[out]`.
    pub has_bias: bool,
}

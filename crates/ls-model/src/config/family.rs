//! The families of decoders: what each has beside LLaMA's block, and the defaults that transformers
//! 5 gives it.
//!
//! All that is known of a family is its entry in [`FAMILIES`]. `read.rs` resolves it with the
//! fields of a `config.json`, and no other code reads the family from it.

use ls_ops::{Activation, NormScale};

use super::{BlockNorms, Classes, HeadNorms};
use crate::rope::RopeDialect;

/// A family, by what transformers takes for absent fields and by what no field says.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name in `model_type`.
    pub model_type: &'static str,
    pub classes: Classes,
    /// Without a number, as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// Without a number, `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub pad_token_id: Option<u32>,
    /// The fields of a dropout in the layers.
    pub dropouts: &'static [&'static str],
    pub tie_word_embeddings: bool,
    pub attention_bias: AttentionBias,
    /// Whether the field `mlp_bias` is read.
    pub mlp_bias: bool,
    /// The field that names the activation, and the one that it names where it is absent.
    pub activation: (&'static str, Activation),
    pub norms: BlockNorms,
    pub head_norms: Option<HeadNorms>,
    pub norm_scale: NormScale,
    pub multipliers: Multipliers,
    /// `attn_logit_softcapping`; without a number the field is not read.
    pub attn_logit_softcapping: Option<f64>,
    /// Whether layers that read the same are one layer.
    pub fused_projections: bool,
    pub rotary: Rotary,
    pub rope_dialect: RopeDialect,
    pub rope_theta: f64,
    pub windows: Windows,
    pub sliding_window: Option<usize>,
    pub bidirectional: Bidirectional,
}

/// Which projections of attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttentionBias {
    /// None.
    Never,
    /// All four if `attention_bias` says so.
    OfField,
    /// Queries, keys and values.
    AllButOutput,
}

/// What embeddings, scores and the outputs of attention and MLP are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multipliers {
    /// Scores by `1 / sqrt(head_dim)`.
    Plain,
    /// Each by a field of its own.
    OfFields,
    /// Embeddings by `sqrt(hidden_size)` in the type of their table, scores by
    /// `1 / sqrt(query_pre_attn_scalar)`.
    OfWidths,
}

/// Which layers have which rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rotary {
    /// All the same.
    Same,
    /// All the same but those that `no_rope_layers` or `no_rope_layer_interval` leaves out.
    SomeWithout,
    /// One for layers with a window, whose base this is, and one for those without.
    OfKind { local_theta: f64 },
}

/// Which layers have a window where `layer_types` does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// None, whatever it says.
    Never,
    /// All, whatever it says.
    Every,
    /// Those from `max_window_layers` on. None, whatever `layer_types` says, without
    /// `use_sliding_window`.
    FromLayer,
    /// Those without rotary embedding, with `use_sliding_window`.
    WithoutRope,
    /// All but every so many-th; `sliding_window_pattern` may say how many where it is read.
    AllBut { every: usize, pattern: bool },
}

/// What `use_bidirectional_attention` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bidirectional {
    /// There is no such field.
    Unknown,
    /// What it does depends on the attention that transformers is told to use.
    Refused,
    /// No causal mask, and half the window to each side.
    HalfWindow,
}

const LLAMA: Family = Family {
    model_type: "llama",
    classes: Classes::Both("Llama"),
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    pad_token_id: None,
    dropouts: &["attention_dropout"],
    tie_word_embeddings: false,
    attention_bias: AttentionBias::OfField,
    mlp_bias: true,
    activation: ("hidden_act", Activation::Silu),
    norms: BlockNorms::Before,
    head_norms: None,
    norm_scale: NormScale::Weight,
    multipliers: Multipliers::Plain,
    attn_logit_softcapping: None,
    fused_projections: false,
    rotary: Rotary::Same,
    rope_dialect: RopeDialect::Llama,
    rope_theta: 10_000.0,
    windows: Windows::Never,
    sliding_window: None,
    bidirectional: Bidirectional::Unknown,
};

const GEMMA2: Family = Family {
    model_type: "gemma2",
    classes: Classes::Both("Gemma2"),
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    pad_token_id: Some(0),
    tie_word_embeddings: true,
    mlp_bias: false,
    activation: ("hidden_activation", Activation::GeluTanh),
    norms: BlockNorms::Both,
    norm_scale: NormScale::OnePlusWeight,
    multipliers: Multipliers::OfWidths,
    attn_logit_softcapping: Some(50.0),
    windows: Windows::AllBut {
        every: 2,
        pattern: false,
    },
    sliding_window: Some(4096),
    bidirectional: Bidirectional::Refused,
    ..LLAMA
};

/// Every family, LLaMA's relatives by what differs from it.
pub(super) const FAMILIES: [Family; 10] = [
    // LLaMA 2, 3, 3.1 and 3.2.
    LLAMA,
    Family {
        model_type: "mistral",
        classes: Classes::Both("Mistral"),
        num_key_value_heads: Some(8),
        max_position_embeddings: 4096 * 32,
        attention_bias: AttentionBias::Never,
        mlp_bias: false,
        windows: Windows::Every,
        sliding_window: Some(4096),
        ..LLAMA
    },
    // Qwen2 and Qwen2.5.
    Family {
        model_type: "qwen2",
        classes: Classes::Both("Qwen2"),
        num_key_value_heads: Some(32),
        max_position_embeddings: 32768,
        attention_bias: AttentionBias::AllButOutput,
        mlp_bias: false,
        windows: Windows::FromLayer,
        sliding_window: Some(4096),
        ..LLAMA
    },
    // Phi-3, 3.5 and 4.
    Family {
        model_type: "phi3",
        classes: Classes::Both("Phi3"),
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        pad_token_id: Some(32_000),
        dropouts: &["attention_dropout", "resid_pdrop"],
        attention_bias: AttentionBias::Never,
        mlp_bias: false,
        fused_projections: true,
        rope_dialect: RopeDialect::Phi3,
        windows: Windows::Every,
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        classes: Classes::Both("Qwen3"),
        num_key_value_heads: Some(32),
        head_dim: Some(128),
        max_position_embeddings: 32768,
        mlp_bias: false,
        head_norms: Some(HeadNorms::Each),
        windows: Windows::FromLayer,
        sliding_window: Some(4096),
        ..LLAMA
    },
    Family {
        model_type: "olmo2",
        classes: Classes::Sequence("Olmo2"),
        rms_norm_eps: 1e-5,
        pad_token_id: Some(1),
        mlp_bias: false,
        norms: BlockNorms::After,
        head_norms: Some(HeadNorms::Together),
        norm_scale: NormScale::WeightInF32,
        ..LLAMA
    },
    // Granite 3 without experts. `logits_scaling` is of the language model's head alone.
    Family {
        model_type: "granite",
        classes: Classes::Neither,
        multipliers: Multipliers::OfFields,
        ..LLAMA
    },
    Family {
        model_type: "smollm3",
        classes: Classes::Both("SmolLM3"),
        num_key_value_heads: Some(4),
        max_position_embeddings: 32768,
        pad_token_id: Some(128_004),
        tie_word_embeddings: true,
        rotary: Rotary::SomeWithout,
        rope_theta: 2_000_000.0,
        windows: Windows::WithoutRope,
        ..LLAMA
    },
    // `final_logit_softcapping` is of the language model's head alone.
    GEMMA2,
    // Gemma 3 without images. transformers reads `attn_logit_softcapping`, and does not use it.
    Family {
        model_type: "gemma3_text",
        classes: Classes::Sequence("Gemma3Text"),
        max_position_embeddings: 131_072,
        head_norms: Some(HeadNorms::Each),
        attn_logit_softcapping: None,
        rotary: Rotary::OfKind {
            local_theta: 10_000.0,
        },
        rope_theta: 1_000_000.0,
        windows: Windows::AllBut {
            every: 6,
            pattern: true,
        },
        bidirectional: Bidirectional::HalfWindow,
        ..GEMMA2
    },
];

impl Family {
    /// The family of a `model_type`.
    pub(super) fn of(model_type: &str) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|family| family.model_type == model_type)
    }

    /// The names of all, for messages.
    pub(super) fn names() -> String {
        FAMILIES.map(|family| family.model_type).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers' names are in no order that a rule could follow.
    #[test]
    fn every_family_has_the_classes_that_transformers_has_for_it() {
        let found = FAMILIES.map(|family| {
            let classes = [family.classes.sequence(), family.classes.token()];
            (family.model_type, classes)
        });
        let both = |stem: &str| {
            ["Sequence", "Token"].map(|task| Some(format!("{stem}For{task}Classification")))
        };
        let sequence = |stem: &str| [Some(format!("{stem}ForSequenceClassification")), None];
        let expected = [
            ("llama", both("Llama")),
            ("mistral", both("Mistral")),
            ("qwen2", both("Qwen2")),
            ("phi3", both("Phi3")),
            ("qwen3", both("Qwen3")),
            ("olmo2", sequence("Olmo2")),
            ("granite", [None, None]),
            ("smollm3", both("SmolLM3")),
            ("gemma2", both("Gemma2")),
            ("gemma3_text", sequence("Gemma3Text")),
        ];
        assert_eq!(found, expected);
    }
}

//! How words and special tokens that stand in a text reach the tokenizer.

use serde::{Deserialize, Serialize};

/// How a list of words becomes ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordsAs {
    /// Joined by single spaces and encoded as running text.
    #[default]
    Text,
    /// Each word by itself, as transformers does with `is_split_into_words=True`. Byte-level
    /// tokenizers then give it no space in front (`met`, not `Ġmet`), unless their
    /// `add_prefix_space` is on; SentencePiece-style ones give each word its `▁`.
    Split,
}

/// What a special token is that a text spells out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokensAs {
    /// Text like any other, so that no text ends its own sequence or pads itself.
    #[default]
    Text,
    /// The token, as in transformers: for texts that carry a chat template.
    Parse,
}

/// How words and special tokens that stand in a text reach the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Reading {
    /// How a list of words becomes ids.
    pub words: WordsAs,
    /// What a special token is that a text spells out.
    pub special_tokens: SpecialTokensAs,
}

//! Special tokens: which ones surround a text, and which one pads a batch.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

/// The token that fills batches up, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PadToken {
    /// Its id.
    pub id: u32,
    /// Its text in the vocabulary.
    pub token: String,
    /// Why this one.
    pub reason: PadReason,
}

/// Why a token was chosen for padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadReason {
    /// `tokenizer_config.json` names it, and neither a text nor a sequence end gives it.
    Configured,
    /// It has the name of a padding token (`<pad>`, `<|finetune_right_pad_id|>`, ...).
    Named,
    /// It is the unknown token of a tokenizer that spells everything in bytes and so never gives
    /// it.
    Unknown,
    /// It is reserved and unused (`<|reserved_special_token_0|>`).
    Reserved,
    /// It is a special token that is neither the beginning nor the end of a sequence.
    Special,
    /// It is the end or the beginning of a sequence, for want of any other special token. Texts do
    /// not give it, but tools that find the last token by comparing ids may stop early.
    Boundary,
}

impl fmt::Display for PadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "named in tokenizer_config.json",
            Self::Named => "it has the name of a padding token",
            Self::Unknown => "the unknown token, which this byte-complete tokenizer never gives",
            Self::Reserved => "a reserved token that nothing uses",
            Self::Special => "a special token that is neither begin nor end of a sequence",
            Self::Boundary => "the tokenizer has no special token but begin and end of a sequence",
        })
    }
}

/// The keys of `tokenizer_config.json` that change ids.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenizerConfig {
    bos_token: Option<TokenSpec>,
    eos_token: Option<TokenSpec>,
    pad_token: Option<TokenSpec>,
    unk_token: Option<TokenSpec>,
    /// Where this is, the file is of a kind that names all special tokens itself.
    added_tokens_decoder: Option<IgnoredAny>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    pub(crate) tokenizer_class: Option<String>,
    pub(crate) add_prefix_space: Option<bool>,
    pub(crate) legacy: Option<bool>,
    model_max_length: Option<f64>,
}

/// The tokens of `special_tokens_map.json`, which older folders have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SpecialTokensMap {
    bos_token: Option<TokenSpec>,
    eos_token: Option<TokenSpec>,
    pad_token: Option<TokenSpec>,
    unk_token: Option<TokenSpec>,
}

/// A token is written as its text or as an object around it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenSpec {
    Text(String),
    Added { content: String },
}

impl TokenSpec {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

impl TokenizerConfig {
    /// Takes in the tokens of `special_tokens_map.json` where transformers does: they win, unless
    /// this file lists the added tokens itself.
    pub(crate) fn with_map(mut self, map: SpecialTokensMap) -> Self {
        if self.added_tokens_decoder.is_none() {
            self.bos_token = map.bos_token.or(self.bos_token);
            self.eos_token = map.eos_token.or(self.eos_token);
            self.pad_token = map.pad_token.or(self.pad_token);
            self.unk_token = map.unk_token.or(self.unk_token);
        }
        self
    }

    /// Files without a limit say 1e30.
    pub(crate) fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
            .filter(|n| (1.0..1e9).contains(n))
            .map(|n| n as usize)
    }

    /// The id of the pad token that the file names.
    pub(crate) fn named_pad(&self, tokenizer: &Tokenizer) -> Option<u32> {
        tokenizer.token_to_id(self.pad_token.as_ref()?.text())
    }

    /// What the file says of the tokens around a text, where `tokenizer.json`, which decides, does
    /// otherwise.
    pub(crate) fn contradictions(&self, around: &[Vec<u32>; 2]) -> Vec<&'static str> {
        let flags = [
            ("add_bos_token", self.add_bos_token),
            ("add_eos_token", self.add_eos_token),
        ];
        let flags = flags.into_iter().zip(around);
        flags
            .filter(|((_, flag), tokens)| flag.is_some_and(|flag| flag == tokens.is_empty()))
            .map(|((name, _), _)| name)
            .collect()
    }
}

/// The parts of `tokenizer.json` that say whether the unknown token can come out of a text.
#[derive(Deserialize)]
pub(crate) struct Outline {
    pub(crate) model: ModelOutline,
}

#[derive(Deserialize)]
pub(crate) struct ModelOutline {
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
}

const PAD_NAMES: [&str; 5] = [
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|finetune_right_pad_id|>",
    "<|finetune_right_pad|>",
];

pub(crate) fn choose_pad(
    tokenizer: &Tokenizer,
    config: &TokenizerConfig,
    model: &ModelOutline,
) -> Option<PadToken> {
    let id_of = |spec: &Option<TokenSpec>| {
        spec.as_ref()
            .and_then(|spec| tokenizer.token_to_id(spec.text()))
    };
    // The begin and end are those the config names, and whatever is put around a text.
    let mut boundaries: Vec<u32> = [&config.eos_token, &config.bos_token]
        .into_iter()
        .filter_map(id_of)
        .collect();
    let around_nothing = tokenizer.encode_fast("", true).ok();
    boundaries.extend(around_nothing.iter().flat_map(|e| e.get_ids()));

    let byte_complete = model.byte_fallback
        && (0..=255u8).all(|b| tokenizer.token_to_id(&format!("<0x{b:02X}>")).is_some());
    let unknown = model
        .unk_token
        .as_deref()
        .and_then(|t| tokenizer.token_to_id(t));
    let never_in_text = |id: u32| {
        let spelled = tokenizer.id_to_token(id).unwrap_or_default();
        let given = tokenizer
            .encode_fast(spelled, false)
            .map_or(true, |encoding| encoding.get_ids().contains(&id));
        !given && (unknown != Some(id) || byte_complete)
    };

    let mut special: Vec<(u32, String)> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| token.special)
        .map(|(id, token)| (id, token.content))
        .collect();
    special.sort();
    let reserved = |text: &str| text.contains("reserved");
    let candidates = id_of(&config.pad_token)
        .map(|id| (id, PadReason::Configured))
        .into_iter()
        .chain(
            PAD_NAMES
                .iter()
                .filter_map(|name| special.iter().find(|(_, text)| text == name))
                .map(|(id, _)| (*id, PadReason::Named)),
        )
        .chain(
            id_of(&config.unk_token)
                .or(unknown)
                .map(|id| (id, PadReason::Unknown)),
        )
        .chain(
            special
                .iter()
                .filter(|(_, text)| reserved(text))
                .map(|(id, _)| (*id, PadReason::Reserved)),
        )
        .chain(special.iter().map(|(id, _)| (*id, PadReason::Special)));
    let chosen = candidates
        .filter(|(id, _)| !boundaries.contains(id))
        .find(|(id, _)| never_in_text(*id))
        .or_else(|| {
            let id = boundaries.iter().copied().find(|id| never_in_text(*id))?;
            tracing::warn!(
                id,
                "no special token is free for padding: a sequence boundary pads"
            );
            Some((id, PadReason::Boundary))
        });
    chosen.map(|(id, reason)| PadToken {
        id,
        token: tokenizer.id_to_token(id).unwrap_or_default(),
        reason,
    })
}

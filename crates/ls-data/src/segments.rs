//! The same ids, faster: a text is encoded piece by piece where that changes nothing, and pieces
//! that came before are looked up.
//!
//! A piece begins at a space that follows something else. Nothing that the tokenizers of LLaMA,
//! Mistral, Qwen and SmolLM do crosses such a place: a pre-tokenizer's pattern never matches a
//! space after anything else, and where there is none, no merge joins a `▁` to what stands before
//! it. [`Segments::of`] looks at the tokenizer's file and takes only those for which this can be
//! seen; all others are encoded as a whole.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxBuildHasher;
use serde_json::Value;
use tokenizers::Tokenizer;

/// Patterns of pre-tokenizers in which a space stands only at the beginning of a match, or among
/// white space.
const PATTERNS: [&str; 3] = [
    // LLaMA 3.
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2.
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-2.
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// Stands for a space in SentencePiece vocabularies.
const MARK: char = '▁';

/// Pieces that one thread remembers; then it begins anew.
const REMEMBERED: usize = 1 << 15;
/// Longer pieces (in bytes) are not remembered: they do not come again.
const LONGEST: usize = 48;

/// How the pieces of a text are handed to the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// As they are.
    AsIs,
    /// Without their first space, in the place of which the normalizer puts its own.
    Prepended,
}

/// A tokenizer whose texts may be encoded piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    kind: Kind,
    /// Tells the pieces of one tokenizer from those of another.
    id: u64,
}

type Remembered = HashMap<Box<str>, Box<[u32]>, FxBuildHasher>;

thread_local! {
    static PIECES: RefCell<(u64, Remembered)> = RefCell::new((0, Remembered::default()));
}

impl Segments {
    /// If the tokenizer in a `tokenizer.json` is one of those. `parse` says whether special tokens
    /// that a text spells out are tokens.
    pub(crate) fn of(file: &Value, parse: bool) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let model = &file["model"];
        let added = file["added_tokens"].as_array().map(Vec::as_slice);
        // Those that are found in a text must not take a space.
        let plain = added.unwrap_or_default().iter().all(|token| {
            let flag = |key: &str| token[key].as_bool().unwrap_or(false);
            let content = token["content"].as_str().unwrap_or(" ");
            (flag("special") && !parse)
                || !(content.contains(char::is_whitespace)
                    || content.contains(MARK)
                    || flag("lstrip")
                    || flag("rstrip")
                    || flag("single_word"))
        });
        let bpe = model["type"].as_str().unwrap_or("BPE") == "BPE"
            && model["dropout"].as_f64().unwrap_or(0.0) == 0.0
            && empty(&model["continuing_subword_prefix"])
            && empty(&model["end_of_word_suffix"]);
        if !plain || !bpe {
            return None;
        }
        let (normalizer, pre_tokenizer) = (&file["normalizer"], &file["pre_tokenizer"]);
        let byte_level = || {
            let composed = normalizer.is_null() || normalizer["type"] == "NFC";
            (composed && is_byte_level(pre_tokenizer)).then_some(Kind::AsIs)
        };
        let sentence_piece = || {
            let kind = match (is_prepend(normalizer), pre_tokenizer.is_null()) {
                (true, true) => Kind::Prepended,
                _ if normalizer.is_null() && is_metaspace(pre_tokenizer) => Kind::AsIs,
                _ => return None,
            };
            let separate = merges(model)?
                .all(|(left, right)| !right.starts_with(MARK) || left.chars().all(|c| c == MARK));
            let bytes = model["byte_fallback"].as_bool() == Some(true)
                && (0..=255u8).all(|byte| !model["vocab"][format!("<0x{byte:02X}>")].is_null());
            let merged = model["ignore_merges"].as_bool() != Some(true);
            (separate && bytes && merged).then_some(kind)
        };
        let kind = byte_level().or_else(sentence_piece)?;
        // What follows an added token in a text gets a space of the normalizer's too.
        let none_found = added
            .unwrap_or_default()
            .iter()
            .all(|token| token["special"] == true && !parse);
        if kind == Kind::Prepended && !none_found {
            return None;
        }
        Some(Self {
            kind,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Appends the ids of a text to `ids`, without special tokens, and calls `piece_ends` with the
    /// number of ids after each piece. False, with `ids` as they were, if the text has to be
    /// encoded as a whole.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        ids: &mut Vec<u32>,
        mut piece_ends: impl FnMut(usize),
    ) -> tokenizers::Result<bool> {
        let before = ids.len();
        PIECES.with_borrow_mut(|(owner, remembered)| {
            if *owner != self.id {
                *owner = self.id;
                remembered.clear();
            }
            let mut rest = text;
            while !rest.is_empty() {
                let first = rest.len() == text.len();
                let end = next_piece(rest).unwrap_or(rest.len());
                let (mut piece, behind) = rest.split_at(end);
                rest = behind;
                if self.kind == Kind::Prepended && !first {
                    piece = &piece[1..];
                }
                if piece.is_empty() {
                    // A space at the very end.
                    ids.truncate(before);
                    return Ok(false);
                }
                match remembered.get(piece) {
                    Some(known) => ids.extend_from_slice(known),
                    None => {
                        let encoding = tokenizer.encode_fast(piece, false)?;
                        ids.extend_from_slice(encoding.get_ids());
                        if piece.len() <= LONGEST {
                            if remembered.len() >= REMEMBERED {
                                remembered.clear();
                            }
                            remembered.insert(piece.into(), encoding.get_ids().into());
                        }
                    }
                }
                piece_ends(ids.len());
            }
            Ok(true)
        })
    }
}

/// Where the second piece begins: at a space after something that is neither white space nor the
/// mark of a space.
fn next_piece(text: &str) -> Option<usize> {
    let mut spaces = text.match_indices(' ').map(|(at, _)| at);
    spaces.find(|at| {
        let before = text[..*at].chars().next_back();
        before.is_some_and(|c| !c.is_whitespace() && c != MARK)
    })
}

fn empty(value: &Value) -> bool {
    value.as_str().unwrap_or("").is_empty()
}

/// `Prepend ▁`, then `Replace " " by ▁`, and nothing else.
fn is_prepend(normalizer: &Value) -> bool {
    let mark = MARK.to_string();
    let Some([prepend, replace]) = normalizer["normalizers"].as_array().map(Vec::as_slice) else {
        return false;
    };
    normalizer["type"] == "Sequence"
        && prepend["type"] == "Prepend"
        && prepend["prepend"] == mark.as_str()
        && replace["type"] == "Replace"
        && replace["pattern"]["String"] == " "
        && replace["content"] == mark.as_str()
}

fn is_metaspace(pre_tokenizer: &Value) -> bool {
    pre_tokenizer["type"] == "Metaspace"
        && pre_tokenizer["replacement"] == MARK.to_string().as_str()
        // One that is put before the first piece is put before the others too, if they lack it:
        // they begin with one.
        && pre_tokenizer["prepend_scheme"].is_string()
}

fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let one = std::slice::from_ref(pre_tokenizer);
    let parts = match pre_tokenizer["type"].as_str() {
        Some("Sequence") => pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice),
        _ => Some(one),
    };
    let Some((last, first)) = parts.and_then(<[Value]>::split_last) else {
        return false;
    };
    let splits = first.iter().all(|part| match part["type"].as_str() {
        Some("Split") => {
            let known = part["pattern"]["Regex"].as_str();
            known.is_some_and(|pattern| PATTERNS.contains(&pattern))
                && part["behavior"] == "Isolated"
                && part["invert"].as_bool() != Some(true)
        }
        Some("Digits") => true,
        _ => false,
    });
    // Without a pattern a merge could join a space to what stands before it.
    let pattern = first.iter().any(|part| part["type"] == "Split")
        || last["use_regex"].as_bool() != Some(false);
    splits
        && pattern
        && last["type"] == "ByteLevel"
        && last["add_prefix_space"].as_bool() == Some(false)
}

/// The merges, in either way of writing them; `None` if one cannot be read.
fn merges(model: &Value) -> Option<impl Iterator<Item = (&str, &str)>> {
    let merges: Option<Vec<_>> = model["merges"]
        .as_array()?
        .iter()
        .map(|merge| match merge {
            Value::String(merge) => merge.split_once(' '),
            pair => Some((pair[0].as_str()?, pair[1].as_str()?)),
        })
        .collect();
    Some(merges?.into_iter())
}

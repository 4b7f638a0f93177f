//! The vocabulary in a GGUF file -> `tokenizer.json` and `tokenizer_config.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ls_files::{FileError, GgufValue, shown};
use serde_json::{Map, Value, json};

use crate::error::Result;

/// The two files of a tokenizer, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub config: String,
}

/// Makes the files of a tokenizer from what a GGUF file says of it (`tokenizer.ggml.*`); `path` is
/// for messages.
///
/// Read are byte-level vocabularies (`gpt2`) and SentencePiece's with merges by score (`llama`).
///
/// # Errors
///
/// [`FileError::Unusable`], naming the key, for another kind of vocabulary or of pre-tokenizer, a
/// list that is missing or has another length than the vocabulary, an id past its end, a merge that
/// is no pair, or pieces of SentencePiece's that are too long or have too many merges.
pub fn tokenizer_from_gguf(
    metadata: &BTreeMap<String, GgufValue>,
    path: &Path,
) -> Result<TokenizerFiles> {
    let said = Said { metadata, path };
    let vocabulary = Vocabulary::read(&said)?;
    let (parts, begins) = match said.text("model")? {
        Some("gpt2") => byte_level(&said, &vocabulary)?,
        Some("llama") => (sentencepiece(&said, &vocabulary)?, true),
        other => {
            let found = shown(other.unwrap_or("none"));
            return Err(said.wrong("model", format!("{found} is not read (read: gpt2, llama)")));
        }
    };
    let begin = said.special("bos")?;
    let end = said.special("eos")?;
    let begins = said.flag("add_bos_token")?.unwrap_or(begins);
    let ends = said.flag("add_eos_token")?.unwrap_or(false);
    let around = [begin.filter(|_| begins), end.filter(|_| ends)];
    let mut processors: Vec<Value> = parts.processor.into_iter().collect();
    if around != [None; 2] {
        processors.push(vocabulary.template(around));
    }
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": match processors.len() {
            0 => Value::Null,
            1 => processors.remove(0),
            _ => json!({"type": "Sequence", "processors": processors}),
        },
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let mut config = Map::new();
    for (field, key) in [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ] {
        if let Some(id) = said.special(key)? {
            config.insert(field.into(), vocabulary.tokens[id].as_str().into());
        }
    }
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    // The class that takes the file as it is.
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    Ok(TokenizerFiles {
        tokenizer: format!("{file}\n"),
        config: format!("{:#}\n", Value::Object(config)),
    })
}

/// What the metadata say under `tokenizer.ggml`.
struct Said<'a> {
    metadata: &'a BTreeMap<String, GgufValue>,
    path: &'a Path,
}

impl<'a> Said<'a> {
    fn wrong(&self, key: &str, reason: impl std::fmt::Display) -> crate::DataError {
        FileError::Unusable {
            path: self.path.to_owned(),
            what: "tokenizer",
            reason: format!("tokenizer.ggml.{key}: {reason}"),
        }
        .into()
    }

    fn get(&self, key: &str) -> Option<&'a GgufValue> {
        self.metadata.get(&format!("tokenizer.ggml.{key}"))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "expected text")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "expected true or false")),
        }
    }

    fn texts(&self, key: &str) -> Result<&'a [String]> {
        match self.get(key) {
            Some(GgufValue::Strings(texts)) => Ok(texts),
            _ => Err(self.wrong(key, "expected a list of texts")),
        }
    }

    /// A number for each token, if there are any.
    fn numbers(&self, key: &str, tokens: usize) -> Result<Option<&'a [f64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Numbers(numbers)) if numbers.len() == tokens => Ok(Some(numbers)),
            Some(_) => Err(self.wrong(key, format!("expected a list of {tokens} numbers"))),
        }
    }

    /// The id of a special token, if there is one.
    fn special(&self, key: &str) -> Result<Option<usize>> {
        let tokens = self.texts("tokens")?.len();
        let key = format!("{key}_token_id");
        match self.get(&key) {
            None => Ok(None),
            Some(GgufValue::Number(id)) if (0.0..tokens as f64).contains(id) => {
                Ok(Some(*id as usize))
            }
            // What older converters write for none.
            Some(GgufValue::Number(id)) if *id < 0.0 || *id >= f64::from(u32::MAX) => Ok(None),
            Some(_) => Err(self.wrong(&key, format!("expected an id under {tokens}"))),
        }
    }
}

/// The kinds of tokens by their numbers in the file.
const NORMAL: f64 = 1.0;
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

struct Vocabulary<'a> {
    tokens: &'a [String],
    /// The kind of each; all are normal where the file says nothing.
    kinds: Option<&'a [f64]>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    fn read(said: &Said<'a>) -> Result<Self> {
        let tokens = said.texts("tokens")?;
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(before) = ids.insert(token.as_str(), id) {
                let reason = format!("{before} and {id} are both {}", shown(token));
                return Err(said.wrong("tokens", reason));
            }
        }
        Ok(Self {
            tokens,
            kinds: said.numbers("token_type", tokens.len())?,
            ids,
        })
    }

    fn kind(&self, id: usize) -> f64 {
        self.kinds.map_or(NORMAL, |kinds| kinds[id])
    }

    /// `vocab` of `tokenizer.json`: every token, those that are added too, so that no id moves.
    fn to_json(&self) -> Value {
        let tokens = self.tokens.iter().enumerate();
        Value::Object(
            tokens
                .map(|(id, token)| (token.clone(), id.into()))
                .collect(),
        )
    }

    /// The tokens that are found in a text before it is taken apart.
    fn added(&self) -> Vec<Value> {
        let tokens = self.tokens.iter().enumerate();
        let added = tokens.filter_map(|(id, token)| {
            let kind = self.kind(id);
            let special = kind == CONTROL || kind == UNKNOWN;
            (special || kind == USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special,
                })
            })
        });
        added.collect()
    }

    /// Tokens before and behind a text.
    fn template(&self, around: [Option<usize>; 2]) -> Value {
        let part = |id: Option<usize>, type_id: u8| {
            let token = id.map(|id| self.tokens[id].as_str());
            token.map(|token| json!({"SpecialToken": {"id": token, "type_id": type_id}}))
        };
        let with = |name: &str, type_id: u8| {
            let text = json!({"Sequence": {"id": name, "type_id": type_id}});
            let [before, behind] = around.map(|id| part(id, type_id));
            before.into_iter().chain([text]).chain(behind)
        };
        let special = around.into_iter().flatten().map(|id| {
            let token = &self.tokens[id];
            (
                token.clone(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            )
        });
        json!({
            "type": "TemplateProcessing",
            "single": with("A", 0).collect::<Vec<_>>(),
            "pair": with("A", 0).chain(with("B", 1)).collect::<Vec<_>>(),
            "special_tokens": special.collect::<Map<_, _>>(),
        })
    }
}

/// What differs between the kinds of vocabularies.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    processor: Option<Value>,
    decoder: Value,
    model: Value,
}

/// How a text is cut into pieces before merges, as a `tokenizer.json` of the family has it.
struct PreTokenizer {
    /// llama.cpp's name.
    name: &'static str,
    cut: Cut,
    /// Whether texts are normalised first.
    nfc: bool,
    /// Whether a piece that is a token is taken without merges.
    ignore_merges: bool,
    /// Whether a text begins with the first special token where the file says nothing.
    begins: bool,
}

enum Cut {
    /// By a pattern of the family.
    Pattern(&'static str),
    /// By GPT-2's pattern, after every digit was set apart.
    Digits,
}

/// Those of the models that load, each compared with what it gives elsewhere: one that is nearly
/// right gives other ids, which nobody sees.
const PRE_TOKENIZERS: [PreTokenizer; 3] = [
    PreTokenizer {
        name: "llama-bpe",
        cut: Cut::Pattern(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: false,
        ignore_merges: true,
        begins: true,
    },
    PreTokenizer {
        name: "qwen2",
        cut: Cut::Pattern(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: true,
        ignore_merges: false,
        begins: false,
    },
    PreTokenizer {
        name: "smollm",
        cut: Cut::Digits,
        nfc: false,
        ignore_merges: false,
        begins: false,
    },
];

/// A byte-level vocabulary, and whether its texts begin with a special token.
fn byte_level(said: &Said<'_>, vocabulary: &Vocabulary<'_>) -> Result<(Parts, bool)> {
    let name = said.text("pre")?.unwrap_or("none");
    let mut known = PRE_TOKENIZERS.iter();
    let Some(pre) = known.find(|pre| pre.name == name) else {
        let names = PRE_TOKENIZERS.each_ref().map(|pre| pre.name).join(", ");
        let reason = format!("{} is not known (known: {names})", shown(name));
        return Err(said.wrong("pre", reason));
    };
    let merges = said.texts("merges")?.iter().map(|merge| {
        // A token may begin with the space that stands for itself nowhere else.
        let pair = merge.split_once(' ');
        let pair = pair.filter(|pair| {
            [pair.0, pair.1]
                .iter()
                .all(|part| vocabulary.ids.contains_key(part))
                && vocabulary
                    .ids
                    .contains_key([pair.0, pair.1].concat().as_str())
        });
        let wrong = || said.wrong("merges", format!("{} is no pair of tokens", shown(merge)));
        pair.map(|pair| json!([pair.0, pair.1])).ok_or_else(wrong)
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    let level = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": use_regex,
        })
    };
    let steps = match pre.cut {
        Cut::Pattern(pattern) => vec![
            json!({
                "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                "invert": false,
            }),
            level(false),
        ],
        Cut::Digits => vec![
            json!({"type": "Digits", "individual_digits": true}),
            level(true),
        ],
    };
    let parts = Parts {
        normalizer: if pre.nfc {
            json!({"type": "NFC"})
        } else {
            Value::Null
        },
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        processor: Some(level(false)),
        decoder: level(true),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": pre.ignore_merges,
            "vocab": vocabulary.to_json(), "merges": merges,
        }),
    };
    Ok((parts, pre.begins))
}

/// The most bytes of a piece of SentencePiece's. Every place in one may be a cut, whose sides are
/// looked up, which is quadratic. Pieces have up to 16 characters unless the training says more.
const MAX_PIECE_BYTES: usize = 1024;
/// The most bytes of all merges. A piece stands in as many as it has cuts, so that a vocabulary of
/// one letter repeated is hundreds of times as large in merges. LLaMA 2's 61,249 take below 1 MB.
const MAX_MERGES_BYTES: usize = 1 << 25;

/// SentencePiece's byte pair encoding: two neighbours become one piece in the order of the scores
/// of what they become, which is what a list of merges says too.
fn sentencepiece(said: &Said<'_>, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let tokens = vocabulary.tokens;
    let Some(scores) = said.numbers("scores", tokens.len())? else {
        return Err(said.wrong("scores", "is missing"));
    };
    let spaced = said.flag("add_space_prefix")?.unwrap_or(true);
    let normal = |id: usize| vocabulary.kind(id) == NORMAL;
    let mut merges: Vec<([&str; 2], usize)> = Vec::new();
    let mut merges_bytes = 0;
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| normal(*id)) {
        if token.len() > MAX_PIECE_BYTES {
            let (bytes, token) = (token.len(), shown(token));
            let reason =
                format!("{id} has {bytes} bytes, expected at most {MAX_PIECE_BYTES}: {token}");
            return Err(said.wrong("tokens", reason));
        }
        let cuts = token.char_indices().skip(1);
        for (left, right) in cuts.map(|(at, _)| token.split_at(at)) {
            let known = |part: &str| vocabulary.ids.get(part).is_some_and(|id| normal(*id));
            if known(left) && known(right) {
                merges.push(([left, right], id));
                merges_bytes += token.len();
            }
        }
        if merges_bytes > MAX_MERGES_BYTES {
            let reason = format!(
                "up to {id} its merges have {merges_bytes} bytes, \
                 expected at most {MAX_MERGES_BYTES}"
            );
            return Err(said.wrong("tokens", reason));
        }
    }
    // Of one piece the cut whose left part came first in the training.
    merges.sort_by(|(a, a_id), (b, b_id)| {
        let ids = |pair: &[&str; 2]| pair.map(|part| vocabulary.ids[part]);
        let by_score = scores[*b_id].total_cmp(&scores[*a_id]);
        by_score.then(a_id.cmp(b_id)).then(ids(a).cmp(&ids(b)))
    });
    let merges: Vec<[&str; 2]> = merges.into_iter().map(|(pair, _)| pair).collect();
    let unknown = said.special("unknown")?.map(|id| tokens[id].as_str());
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normalizer = if spaced {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        json!({"type": "Sequence", "normalizers": [prepend, space]})
    } else {
        space
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if spaced {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer,
        pre_tokenizer: Value::Null,
        processor: None,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary.to_json(), "merges": merges,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of SentencePiece's whose tokens are all of one kind.
    fn sentencepiece(tokens: Vec<String>, kind: f64) -> Result<TokenizerFiles> {
        let count = tokens.len();
        let metadata = BTreeMap::from([
            ("model", GgufValue::String("llama".into())),
            ("tokens", GgufValue::Strings(tokens)),
            ("scores", GgufValue::Numbers(vec![0.0; count])),
            ("token_type", GgufValue::Numbers(vec![kind; count])),
        ]);
        let metadata = metadata.into_iter();
        let metadata = metadata.map(|(key, of)| (format!("tokenizer.ggml.{key}"), of));
        tokenizer_from_gguf(&metadata.collect(), Path::new("a.gguf"))
    }

    #[test]
    fn the_merges_of_pieces_have_a_largest_size() {
        // The sum over n of (n - 1) * n is a third of the cube: 21 MB, 42 MB.
        let pieces = |longest: usize| (1..=longest).map(|n| "a".repeat(n)).collect();
        assert!(sentencepiece(pieces(400), NORMAL).is_ok());
        let error = sentencepiece(pieces(500), NORMAL).unwrap_err().to_string();
        let expected = "tokenizer.ggml.tokens: up to 465 its merges have 33";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_piece_of_sentencepiece_has_a_longest_length() {
        let read =
            |bytes: usize, kind: f64| sentencepiece(vec!["a".into(), "b".repeat(bytes)], kind);
        assert!(read(1024, NORMAL).is_ok());
        let error = read(1025, NORMAL).unwrap_err().to_string();
        let expected = "tokenizer.ggml.tokens: 1 has 1025 bytes, expected at most 1024: bbb";
        assert!(error.contains(expected), "{error}");
        // What is never the outcome of a merge is not taken apart.
        assert!(read(1025, CONTROL).is_ok());
    }
}

//! Text to token ids with a Hugging Face tokenizer: special tokens, truncation, word alignment,
//! and the choice of a token for padding. The only file that knows the `tokenizers` crate.
//!
//! Ids equal those of the fast tokenizer in transformers 5 with `add_special_tokens=True`, except
//! in one place: a text that spells out a special token (`</s>`) is text here. transformers reads
//! it as the token, by which a tweet could end its own sequence or pad itself.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{EncodeInput, Encoding, PostProcessor, Tokenizer};

use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::labels::write_atomic;

const TOKENIZER_FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";
/// Files that hold a tokenizer; a copy of those that exist is a copy of the tokenizer.
const FILES: [&str; 4] = [
    TOKENIZER_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "tokenizer.model",
];

/// Texts handed to the tokenizer at once: enough for every core, and the encodings (with offsets
/// and token strings, many times the ids) of a large split are never all in memory.
const CHUNK: usize = 2048;

/// A tokenizer from a Hugging Face folder.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    pad: PadToken,
    vocab_size: usize,
    model_max_length: Option<usize>,
    files: Vec<PathBuf>,
}

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
    /// It is the unknown token of a tokenizer that spells everything in bytes and so never gives it.
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

/// A text as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedSequence {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Tokens that came from the text before truncation; 0 when it tokenises to nothing.
    pub text_tokens: usize,
}

/// A list of words as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTokens {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Word of each id; `None` for special tokens.
    pub word_ids: Vec<Option<usize>>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Words that truncation removed.
    pub cut_words: usize,
    /// Words of which the tokenizer makes nothing (an empty word, a control character that
    /// normalisation drops). They have no id, carry no label and are predicted as `O`.
    pub empty_words: usize,
    /// Tokens that came from the text before truncation; 0 when it tokenises to nothing.
    pub text_tokens: usize,
}

/// What truncation cost, summed over a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReport {
    /// Examples counted.
    pub examples: usize,
    /// Examples that lost something.
    pub cut_examples: usize,
    /// Tokens of the texts, before truncation, without special ones.
    pub tokens: usize,
    /// Tokens removed.
    pub cut_tokens: usize,
    /// Words of the examples (token classification).
    pub words: usize,
    /// Words removed.
    pub cut_words: usize,
    /// Words of which the tokenizer makes nothing.
    pub empty_words: usize,
    /// Longest example after truncation, special tokens included.
    pub longest: usize,
}

impl CutReport {
    /// Counts a text.
    pub fn add_sequence(&mut self, encoded: &EncodedSequence) {
        self.add(
            encoded.input_ids.len(),
            encoded.text_tokens,
            encoded.cut_tokens,
        );
    }

    /// Counts a list of `n_words` words.
    pub fn add_tokens(&mut self, encoded: &EncodedTokens, n_words: usize) {
        self.add(
            encoded.input_ids.len(),
            encoded.text_tokens,
            encoded.cut_tokens,
        );
        self.words += n_words;
        self.cut_words += encoded.cut_words;
        self.empty_words += encoded.empty_words;
    }

    fn add(&mut self, length: usize, tokens: usize, cut: usize) {
        self.examples += 1;
        self.cut_examples += usize::from(cut > 0);
        self.tokens += tokens;
        self.cut_tokens += cut;
        self.longest = self.longest.max(length);
    }
}

impl fmt::Display for CutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |cut: usize, all: usize, what: &str| {
            let percent = 100.0 * cut as f64 / all.max(1) as f64;
            format!("{cut} of {all} {what} ({percent:.1}%)")
        };
        write!(
            f,
            "cut: {}, {}",
            part(self.cut_examples, self.examples, "examples"),
            part(self.cut_tokens, self.tokens, "tokens")
        )?;
        if self.words > 0 {
            write!(f, ", {}", part(self.cut_words, self.words, "words"))?;
        }
        if self.empty_words > 0 {
            write!(f, "; {} words without tokens", self.empty_words)?;
        }
        Ok(())
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json` and, if it is there, `tokenizer_config.json`.
    ///
    /// Special tokens follow transformers 5: the post-processor of `tokenizer.json` adds them,
    /// unless `tokenizer_config.json` says `add_bos_token` or `add_eos_token`, which then decide
    /// alone. Truncation and padding stored in `tokenizer.json` are switched off: this crate does
    /// both and counts what it cuts.
    ///
    /// # Errors
    /// A file that is missing or malformed; a tokenizer without any special token.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join(TOKENIZER_FILE);
        let bytes = read_if_exists(&path)?.ok_or_else(|| DataError::NoTokenizer {
            path: dir.to_path_buf(),
            sentencepiece: dir.join("tokenizer.model").is_file(),
        })?;
        let config_path = dir.join(CONFIG_FILE);
        let config: TokenizerConfig = match read_if_exists(&config_path)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| bad_tokenizer(&config_path, &e))?
            }
            None => TokenizerConfig::default(),
        };

        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| bad_tokenizer(&path, &e))?;
        let outline: Outline =
            serde_json::from_slice(&bytes).map_err(|e| bad_tokenizer(&path, &e))?;
        tokenizer
            .with_truncation(None)
            .map_err(|e| bad_tokenizer(&path, &e))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        if config.add_bos_token.is_some() || config.add_eos_token.is_some() {
            let template = config
                .template(&tokenizer)
                .map_err(|message| bad_tokenizer(&config_path, &message))?;
            tokenizer.with_post_processor(Some(template));
        }

        let pad = choose_pad(&tokenizer, &config, &outline.model)
            .ok_or(DataError::NoPadToken { path })?;
        tracing::debug!(id = pad.id, token = %pad.token, reason = %pad.reason, "padding token");
        let highest = tokenizer.get_vocab(true).into_values().max();
        Ok(Self {
            pad,
            vocab_size: highest.map_or(0, |id| id as usize + 1),
            model_max_length: config.model_max_length(),
            files: FILES
                .iter()
                .map(|name| dir.join(name))
                .filter(|p| p.is_file())
                .collect(),
            tokenizer,
        })
    }

    /// One past the highest id: the least number of rows of a matching embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token for padding, with the reason it was chosen.
    pub fn pad_token(&self) -> &PadToken {
        &self.pad
    }

    /// Longest input in tokens that the tokenizer's config speaks of, if it does.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Special tokens added to a text, or to a pair.
    pub fn special_tokens(&self, pair: bool) -> usize {
        self.tokenizer
            .get_post_processor()
            .map_or(0, |p| p.added_tokens(pair))
    }

    /// Id of a token of the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Token of an id, as the vocabulary spells it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The files that hold the tokenizer.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Copies the tokenizer's files to another folder, each whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn copy_to(&self, dir: &Path) -> Result<()> {
        for file in &self.files {
            let bytes = fs::read(file).map_err(|source| DataError::Read {
                path: file.clone(),
                source,
            })?;
            if let Some(name) = file.file_name() {
                write_atomic(&dir.join(name), &bytes)?;
            }
        }
        Ok(())
    }

    /// A text, or a pair of texts, as at most `max_length` ids, special ones included.
    ///
    /// Truncation cuts the end and keeps special tokens; of a pair it cuts the longer text first,
    /// as `truncation="longest_first"` does.
    ///
    /// # Errors
    /// No room for text; a failure of the tokenizer. A text that tokenises to nothing is no error
    /// here: `text_tokens` is 0.
    pub fn encode_sequence(
        &self,
        text: &str,
        pair: Option<&str>,
        max_length: usize,
    ) -> Result<EncodedSequence> {
        self.check_room(pair.is_some(), max_length)?;
        let encoding = self
            .tokenizer
            .encode_fast(sequence_input(text, pair), true)
            .map_err(|e| encode_error(text, e))?;
        Ok(cut_sequence(&encoding, pair.is_some(), max_length))
    }

    /// [`TextTokenizer::encode_sequence`] for many inputs, on all cores.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_sequence`].
    pub fn encode_sequences(
        &self,
        inputs: &[(&str, Option<&str>)],
        max_length: usize,
    ) -> Result<Vec<EncodedSequence>> {
        let mut encoded = Vec::with_capacity(inputs.len());
        for chunk in inputs.chunks(CHUNK) {
            for (_, pair) in chunk {
                self.check_room(pair.is_some(), max_length)?;
            }
            let batch = chunk
                .iter()
                .map(|(text, pair)| sequence_input(text, *pair))
                .collect();
            let encodings = self
                .tokenizer
                .encode_batch_fast(batch, true)
                .map_err(|e| encode_error(chunk[0].0, e))?;
            encoded.extend(
                encodings.iter().zip(chunk).map(|(encoding, (_, pair))| {
                    cut_sequence(encoding, pair.is_some(), max_length)
                }),
            );
        }
        Ok(encoded)
    }

    /// A split of sequence examples, with the count of what was cut.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_sequence`]; and a text that tokenises to nothing, with the line
    /// of `source` on which it stands.
    pub fn encode_sequence_examples(
        &self,
        examples: &[SequenceExample],
        source: &Path,
        max_length: usize,
    ) -> Result<(Vec<EncodedSequence>, CutReport)> {
        let inputs: Vec<_> = examples
            .iter()
            .map(|e| (e.text.as_str(), e.text_pair.as_deref()))
            .collect();
        let encoded = self.encode_sequences(&inputs, max_length)?;
        let mut report = CutReport::default();
        for (example, encoded) in examples.iter().zip(&encoded) {
            require_tokens(encoded.text_tokens, source, example.line)?;
            report.add_sequence(encoded);
        }
        Ok((encoded, report))
    }

    /// Words as at most `max_length` ids, special ones included, with the word of each.
    ///
    /// The words are joined by single spaces and encoded as running text, and each token goes to
    /// the first word that its span of the text touches; a token that is only the space before a
    /// word goes to none. (Words encoded one by one would lose their leading space in byte-level
    /// tokenizers and get other ids than in running text.)
    ///
    /// Truncation drops whole words from the end: half a word is no evidence for a tag.
    ///
    /// # Errors
    /// No room for text; a failure of the tokenizer.
    pub fn encode_words(&self, words: &[String], max_length: usize) -> Result<EncodedTokens> {
        self.check_room(false, max_length)?;
        let (text, spans) = join_words(words);
        let encoding = self
            .tokenizer
            .encode(text.as_str(), true)
            .map_err(|e| encode_error(&text, e))?;
        Ok(cut_words(&encoding, &spans, max_length))
    }

    /// [`TextTokenizer::encode_words`] for many lists, on all cores.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_words`].
    pub fn encode_words_batch(
        &self,
        lists: &[&[String]],
        max_length: usize,
    ) -> Result<Vec<EncodedTokens>> {
        self.check_room(false, max_length)?;
        let mut encoded = Vec::with_capacity(lists.len());
        for chunk in lists.chunks(CHUNK) {
            let joined: Vec<_> = chunk.iter().map(|words| join_words(words)).collect();
            let texts = joined.iter().map(|(text, _)| text.as_str()).collect();
            let encodings = self
                .tokenizer
                .encode_batch::<&str>(texts, true)
                .map_err(|e| encode_error(&joined[0].0, e))?;
            encoded.extend(
                encodings
                    .iter()
                    .zip(&joined)
                    .map(|(encoding, (_, spans))| cut_words(encoding, spans, max_length)),
            );
        }
        Ok(encoded)
    }

    /// A split of token examples, with the count of what was cut.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_words`]; and an example of which no word gives a token, with the
    /// line of `source` on which it stands.
    pub fn encode_token_examples(
        &self,
        examples: &[TokenExample],
        source: &Path,
        max_length: usize,
    ) -> Result<(Vec<EncodedTokens>, CutReport)> {
        let lists: Vec<_> = examples.iter().map(|e| e.tokens.as_slice()).collect();
        let encoded = self.encode_words_batch(&lists, max_length)?;
        let mut report = CutReport::default();
        for (example, encoded) in examples.iter().zip(&encoded) {
            require_tokens(
                example.tokens.len() - encoded.empty_words,
                source,
                example.line,
            )?;
            report.add_tokens(encoded, example.tokens.len());
        }
        Ok((encoded, report))
    }

    fn check_room(&self, pair: bool, max_length: usize) -> Result<()> {
        let special = self.special_tokens(pair);
        match max_length > special {
            true => Ok(()),
            false => Err(DataError::MaxLength {
                max_length,
                special,
            }),
        }
    }
}

fn require_tokens(text_tokens: usize, source: &Path, line: usize) -> Result<()> {
    match text_tokens {
        0 => Err(DataError::NoTokens {
            path: source.to_path_buf(),
            line,
        }),
        _ => Ok(()),
    }
}

fn sequence_input<'s>(text: &'s str, pair: Option<&'s str>) -> EncodeInput<'s> {
    match pair {
        Some(pair) => (text, pair).into(),
        None => text.into(),
    }
}

fn cut_sequence(encoding: &Encoding, pair: bool, max_length: usize) -> EncodedSequence {
    let special = encoding.get_special_tokens_mask();
    let text_tokens = special.iter().filter(|mask| **mask == 0).count();
    let room = max_length.saturating_sub(special.len() - text_tokens);
    let cut_tokens = text_tokens.saturating_sub(room);
    let mut input_ids = encoding.get_ids().to_vec();
    if cut_tokens > 0 {
        let sequences = match pair {
            true => encoding.get_sequence_ids(),
            false => vec![Some(0); special.len()],
        };
        let is_text = |i: usize, sequence: usize| special[i] == 0 && sequences[i] == Some(sequence);
        let lengths = [0, 1].map(|s| (0..special.len()).filter(|i| is_text(*i, s)).count());
        let mut keep = longest_first(lengths, room);
        let mut index = 0;
        input_ids.retain(|_| {
            let i = index;
            index += 1;
            match (0..2).find(|s| is_text(i, *s)) {
                Some(s) if keep[s] == 0 => false,
                Some(s) => {
                    keep[s] -= 1;
                    true
                }
                None => true,
            }
        });
    }
    EncodedSequence {
        input_ids,
        cut_tokens,
        text_tokens,
    }
}

/// How many tokens of each text stay in `room`: the longer one is cut down to the shorter first,
/// then both to half, with the odd token for the longer (the second, if they are equal).
fn longest_first(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let swap = lengths[0] > lengths[1];
    let [mut short, mut long] = if swap {
        [lengths[1], lengths[0]]
    } else {
        lengths
    };
    if short + long > room {
        long = short.max(room.saturating_sub(short));
        if short + long > room {
            short = room / 2;
            long = room - short;
        }
    }
    if swap { [long, short] } else { [short, long] }
}

/// The words as one text, and the byte range of each in it.
fn join_words(words: &[String]) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(words.iter().map(|w| w.len() + 1).sum());
    let mut spans = Vec::with_capacity(words.len());
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            text.push(' ');
        }
        spans.push(text.len()..text.len() + word.len());
        text.push_str(word);
    }
    (text, spans)
}

fn cut_words(encoding: &Encoding, spans: &[Range<usize>], max_length: usize) -> EncodedTokens {
    let special = encoding.get_special_tokens_mask();
    let mut word_ids = words_of_tokens(encoding, spans);
    let mut input_ids = encoding.get_ids().to_vec();

    let positions: Vec<usize> = (0..special.len()).filter(|i| special[*i] == 0).collect();
    let text_tokens = positions.len();
    let mut with_tokens = vec![false; spans.len()];
    for word in word_ids.iter().flatten() {
        with_tokens[*word] = true;
    }
    let room = max_length.saturating_sub(special.len() - text_tokens);
    let (mut cut_tokens, mut cut_words) = (0, 0);
    if text_tokens > room {
        // Back to where the first word begins that does not fit.
        let word_at = |kept: usize| word_ids[positions[kept]];
        let mut kept = room;
        while kept > 0 && word_at(kept).is_some() && word_at(kept - 1) == word_at(kept) {
            kept -= 1;
        }
        let mut cut = vec![false; spans.len()];
        for word in positions[kept..].iter().filter_map(|i| word_ids[*i]) {
            cut[word] = true;
        }
        cut_tokens = text_tokens - kept;
        cut_words = cut.iter().filter(|c| **c).count();

        let dropped = &positions[kept..];
        let stays = |i: usize| dropped.binary_search(&i).is_err();
        let mut index = 0..;
        input_ids.retain(|_| index.next().is_some_and(stays));
        let mut index = 0..;
        word_ids.retain(|_| index.next().is_some_and(stays));
    }
    EncodedTokens {
        input_ids,
        word_ids,
        cut_tokens,
        cut_words,
        empty_words: with_tokens.iter().filter(|w| !**w).count(),
        text_tokens,
    }
}

/// The word of each token: the first that its span touches. So "▁word" (its span takes in the
/// space) goes to its word, and each token of a split character (all have the character's span).
///
/// A token that is only the space before a word goes to none: it holds nothing of the word, and
/// under a causal mask it has seen nothing of it. (transformers' `word_ids` of words that were
/// split beforehand count a lone "▁" as the first sub-word.)
fn words_of_tokens(encoding: &Encoding, spans: &[Range<usize>]) -> Vec<Option<usize>> {
    let words: Vec<usize> = (0..spans.len()).filter(|w| !spans[*w].is_empty()).collect();
    let special = encoding.get_special_tokens_mask();
    let (offsets, tokens) = (encoding.get_offsets(), encoding.get_tokens());
    let mut word_ids: Vec<Option<usize>> = vec![None; special.len()];
    for i in (0..special.len()).rev().filter(|i| special[*i] == 0) {
        let (start, end) = offsets[i];
        let next = words.partition_point(|w| spans[*w].end <= start);
        word_ids[i] = words.get(next).copied().filter(|word| {
            // The mark before the first word of a text spans that word's first character.
            let only_space = matches!(tokens[i].as_str(), "▁" | "Ġ");
            let more_follow = word_ids.get(i + 1) == Some(&Some(*word));
            spans[*word].start < end && !(only_space && more_follow)
        });
    }
    word_ids
}

/// The keys of `tokenizer_config.json` that change ids.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    bos_token: Option<TokenSpec>,
    eos_token: Option<TokenSpec>,
    pad_token: Option<TokenSpec>,
    unk_token: Option<TokenSpec>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    model_max_length: Option<f64>,
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
    /// Files without a limit say 1e30.
    fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
            .filter(|n| (1.0..1e9).contains(n))
            .map(|n| n as usize)
    }

    /// The post-processor that transformers 5 builds from `add_bos_token` and `add_eos_token`
    /// (`update_post_processor`): a flag without its token adds nothing.
    fn template(&self, tokenizer: &Tokenizer) -> Result<TemplateProcessing, String> {
        let mut special = Vec::new();
        let mut token = |flag: Option<bool>, spec: &Option<TokenSpec>| {
            let text = spec
                .as_ref()
                .filter(|_| flag == Some(true))?
                .text()
                .to_string();
            let id = tokenizer.token_to_id(&text)?;
            special.push((text.clone(), id));
            Some(text)
        };
        let bos = token(self.add_bos_token, &self.bos_token);
        let eos = token(self.add_eos_token, &self.eos_token);
        let side = |sequence: &str, type_id: usize| -> Vec<String> {
            let parts = [bos.as_deref(), Some(sequence), eos.as_deref()];
            parts
                .into_iter()
                .flatten()
                .map(|part| format!("{part}:{type_id}"))
                .collect()
        };
        let single = side("$A", 0);
        let pair = [single.clone(), side("$B", 1)].concat();
        TemplateProcessing::builder()
            .try_single(single)
            .map_err(|e| e.to_string())?
            .try_pair(pair)
            .map_err(|e| e.to_string())?
            .special_tokens(special)
            .build()
            .map_err(|e| e.to_string())
    }
}

/// The parts of `tokenizer.json` that say whether the unknown token can come out of a text.
#[derive(Deserialize)]
struct Outline {
    model: ModelOutline,
}

#[derive(Deserialize)]
struct ModelOutline {
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

fn choose_pad(
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

fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn bad_tokenizer(path: &Path, message: &dyn fmt::Display) -> DataError {
    DataError::Tokenizer {
        path: path.to_path_buf(),
        message: message.to_string(),
    }
}

fn encode_error(text: &str, error: tokenizers::Error) -> DataError {
    DataError::Encode {
        text: text.chars().take(80).collect(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_cut_from_the_longer_side_first() {
        assert_eq!(longest_first([3, 9], 8), [3, 5]);
        assert_eq!(longest_first([9, 3], 8), [5, 3]);
        assert_eq!(longest_first([7, 7], 9), [4, 5]);
        assert_eq!(longest_first([9, 7], 9), [5, 4]);
        assert_eq!(longest_first([0, 9], 4), [0, 4]);
    }

    #[test]
    fn joined_words_are_found_at_their_spans() {
        let words: Vec<String> = ["né", "", "b\tc"].map(String::from).to_vec();
        let (text, spans) = join_words(&words);
        assert_eq!(text, "né  b\tc");
        for (word, span) in words.iter().zip(spans) {
            assert_eq!(&text[span], word);
        }
    }
}

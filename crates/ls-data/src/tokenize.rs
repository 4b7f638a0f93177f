//! Text to token ids with a Hugging Face tokenizer: special tokens, truncation, word alignment,
//! and the choice of a token for padding. The only file that knows the `tokenizers` crate.
//!
//! Ids equal those of the fast tokenizer in transformers 5 with `add_special_tokens=True`, except
//! in one place: a text that spells out a special token (`</s>`) is text here. transformers reads
//! it as the token, by which a tweet could end its own sequence or pad itself.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ls_files::{optional, read};
use serde::{Deserialize, Serialize};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, PostProcessor, Tokenizer};

use crate::error::{DataError, Result};
use crate::long::{self, InputLimits, LongInputs};
use crate::segments::Segments;

const TOKENIZER_FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";
/// Files that hold a tokenizer; a copy of those that exist is a copy of the tokenizer.
const FILES: [&str; 4] = [
    TOKENIZER_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "tokenizer.model",
];

/// A tokenizer from a Hugging Face folder.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    segments: Option<Segments>,
    /// Special tokens before and after a text.
    around: [Vec<u32>; 2],
    /// The token of a lone space, where there is one.
    space: Option<u32>,
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

/// A text as the model reads it: one input, or several windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceInputs {
    /// Ids of each input, special tokens included.
    pub inputs: Vec<Vec<u32>>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Tokens that came from the text before truncation; 0 when it tokenises to nothing.
    pub text_tokens: usize,
}

/// A list of words as the model reads it: one input, or several windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordInputs {
    /// The inputs, in the order of the words.
    pub inputs: Vec<WordInput>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Words that truncation removed.
    pub cut_words: usize,
    /// Words of which the tokenizer makes nothing.
    pub empty_words: usize,
    /// Tokens that came from the text before truncation; 0 when it tokenises to nothing.
    pub text_tokens: usize,
}

/// One input of a list of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordInput {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Word of each id, counted over the whole list; `None` for special tokens.
    pub word_ids: Vec<Option<usize>>,
    /// The words that are labelled in this input. No word is labelled in two; one that was cut is in none.
    pub scored: Range<usize>,
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
    /// Longest input, special tokens included.
    pub longest: usize,
    /// Examples that are read in several windows.
    pub windowed_examples: usize,
    /// Inputs of all examples: one each, more where there are windows.
    pub inputs: usize,
}

impl CutReport {
    /// Counts a text.
    pub fn add_sequence(&mut self, encoded: &SequenceInputs) {
        let lengths = encoded.inputs.iter().map(Vec::len);
        self.add(lengths, encoded.text_tokens, encoded.cut_tokens);
    }

    /// Counts a list of `n_words` words.
    pub fn add_words(&mut self, encoded: &WordInputs, n_words: usize) {
        let lengths = encoded.inputs.iter().map(|input| input.input_ids.len());
        self.add(lengths, encoded.text_tokens, encoded.cut_tokens);
        self.words += n_words;
        self.cut_words += encoded.cut_words;
        self.empty_words += encoded.empty_words;
    }

    fn add(&mut self, lengths: impl ExactSizeIterator<Item = usize>, tokens: usize, cut: usize) {
        self.examples += 1;
        self.cut_examples += usize::from(cut > 0);
        self.tokens += tokens;
        self.cut_tokens += cut;
        self.windowed_examples += usize::from(lengths.len() > 1);
        self.inputs += lengths.len();
        self.longest = lengths.fold(self.longest, usize::max);
    }
}

impl std::ops::AddAssign for CutReport {
    fn add_assign(&mut self, other: Self) {
        self.examples += other.examples;
        self.cut_examples += other.cut_examples;
        self.tokens += other.tokens;
        self.cut_tokens += other.cut_tokens;
        self.words += other.words;
        self.cut_words += other.cut_words;
        self.empty_words += other.empty_words;
        self.longest = self.longest.max(other.longest);
        self.windowed_examples += other.windowed_examples;
        self.inputs += other.inputs;
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
        if self.windowed_examples > 0 {
            let inputs = self.inputs - (self.examples - self.windowed_examples);
            write!(f, "; {} in {inputs} windows", self.windowed_examples)?;
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
        let bytes = optional(read(&path))?.ok_or_else(|| DataError::NoTokenizer {
            path: dir.to_path_buf(),
            sentencepiece: dir.join("tokenizer.model").is_file(),
        })?;
        let config_path = dir.join(CONFIG_FILE);
        let config: TokenizerConfig = match optional(read(&config_path))? {
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
            .ok_or_else(|| DataError::NoPadToken { path: path.clone() })?;
        tracing::debug!(id = pad.id, token = %pad.token, reason = %pad.reason, "padding token");
        let around = tokenizer
            .encode_fast("a", true)
            .map(|encoding| {
                let text = text_range(&encoding);
                let ids = encoding.get_ids();
                [ids[..text.start].to_vec(), ids[text.end..].to_vec()]
            })
            .map_err(|e| bad_tokenizer(&path, &e))?;
        let segments = serde_json::from_slice(&bytes).ok();
        let space = ["▁", "Ġ"]
            .iter()
            .find_map(|mark| tokenizer.token_to_id(mark));
        let highest = tokenizer.get_vocab(true).into_values().max();
        Ok(Self {
            segments: segments.as_ref().and_then(Segments::of),
            around,
            space,
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
            let bytes = ls_files::read(file)?;
            if let Some(name) = file.file_name() {
                ls_files::write_atomic(dir.join(name), bytes)?;
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
        let limits = InputLimits::truncate(max_length);
        let mut found = self.sequence_inputs(text, pair, &limits)?;
        Ok(EncodedSequence {
            input_ids: found.inputs.swap_remove(0),
            cut_tokens: found.cut_tokens,
            text_tokens: found.text_tokens,
        })
    }

    /// A text, or a pair of texts, as the model reads it under `limits`.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_sequence`]; windows over a pair.
    pub fn sequence_inputs(
        &self,
        text: &str,
        pair: Option<&str>,
        limits: &InputLimits,
    ) -> Result<SequenceInputs> {
        self.check_room(pair.is_some(), limits.max_length)?;
        let keep = match limits.long_inputs {
            LongInputs::Truncate => Some(Keep::Head),
            LongInputs::Tail => Some(Keep::Tail),
            LongInputs::HeadTail => Some(Keep::HeadTail),
            LongInputs::Window => None,
        };
        let Some(pair) = pair else {
            let whole = self.whole_text(text)?;
            return Ok(match keep {
                _ if whole.ids.len() <= limits.max_length => whole.uncut(),
                Some(keep) => whole.cut(limits.max_length, keep),
                None => whole.windows(limits),
            });
        };
        let encoding = self
            .tokenizer
            .encode_fast((text, pair), true)
            .map_err(|e| encode_error(text, e))?;
        match keep {
            None if encoding.len() > limits.max_length => Err(DataError::WindowsOfPair),
            keep => Ok(cut_pair(
                &encoding,
                limits.max_length,
                keep.unwrap_or(Keep::Head),
            )),
        }
    }

    /// A text as ids, special ones included.
    fn whole_text(&self, text: &str) -> Result<Whole> {
        let [before, after] = &self.around;
        if let Some(segments) = &self.segments {
            let mut ids = before.clone();
            let done = segments
                .encode(&self.tokenizer, text, &mut ids, |_| ())
                .map_err(|e| encode_error(text, e))?;
            if done {
                let text = before.len()..ids.len();
                ids.extend_from_slice(after);
                return Ok(Whole { ids, text });
            }
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| encode_error(text, e))?;
        Ok(Whole {
            text: text_range(&encoding),
            ids: encoding.get_ids().to_vec(),
        })
    }

    /// Words as at most `max_length` ids, special ones included, with the word of each.
    ///
    /// The words are joined by single spaces and encoded as running text, and each token goes to
    /// the first word that its span of the text touches; a token that is only the space before a
    /// word goes to none. (Words encoded one by one would lose their leading space in byte-level
    /// tokenizers and get other ids than in running text.)
    ///
    /// Truncation cuts the end, as transformers does: a word of which a token is left still has its label.
    ///
    /// # Errors
    /// No room for text; a failure of the tokenizer.
    pub fn encode_words(&self, words: &[String], max_length: usize) -> Result<EncodedTokens> {
        self.check_room(false, max_length)?;
        Ok(cut_words(self.whole_words(words)?, words.len(), max_length))
    }

    /// Words as ids, special ones included, and the word of each.
    fn whole_words(&self, words: &[String]) -> Result<(Whole, Vec<Option<usize>>)> {
        let (text, spans) = join_words(words);
        let [before, after] = &self.around;
        // A piece for each word, if no word has a space in it or is one.
        let separate = |word: &String| {
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '▁')
        };
        if let Some(segments) = self
            .segments
            .as_ref()
            .filter(|_| words.iter().all(separate))
        {
            let mut ids = before.clone();
            let mut ends = Vec::with_capacity(words.len());
            let done = segments
                .encode(&self.tokenizer, &text, &mut ids, |end| ends.push(end))
                .map_err(|e| encode_error(&text, e))?;
            if done && ends.len() == words.len() {
                let range = before.len()..ids.len();
                ids.extend_from_slice(after);
                let mut word_ids = vec![None; ids.len()];
                let mut start = range.start;
                for (word, end) in ends.into_iter().enumerate() {
                    word_ids[start..end].fill(Some(word));
                    // The space before a word is no part of it.
                    if end - start > 1 && Some(ids[start]) == self.space {
                        word_ids[start] = None;
                    }
                    start = end;
                }
                return Ok((Whole { ids, text: range }, word_ids));
            }
        }
        let encoding = self
            .tokenizer
            .encode(text.as_str(), true)
            .map_err(|e| encode_error(&text, e))?;
        let whole = Whole {
            text: text_range(&encoding),
            ids: encoding.get_ids().to_vec(),
        };
        Ok((whole, words_of_tokens(&encoding, &spans)))
    }

    /// A list of words as the model reads it under `limits`: aligned as [`TextTokenizer::encode_words`] says. Windows
    /// begin and end between words; a word that is longer than a window is labelled by what of it fits.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode_words`]; a way to cut that is for texts only.
    pub fn word_inputs(&self, words: &[String], limits: &InputLimits) -> Result<WordInputs> {
        self.check_room(false, limits.max_length)?;
        match limits.long_inputs {
            LongInputs::Window => {
                let (whole, word_ids) = self.whole_words(words)?;
                Ok(word_windows(&whole, &word_ids, words.len(), limits))
            }
            LongInputs::Truncate => {
                let cut = cut_words(self.whole_words(words)?, words.len(), limits.max_length);
                let kept = words.len() - trailing_cut(&cut, words.len());
                Ok(WordInputs {
                    inputs: vec![WordInput {
                        input_ids: cut.input_ids,
                        word_ids: cut.word_ids,
                        scored: 0..kept,
                    }],
                    cut_tokens: cut.cut_tokens,
                    cut_words: cut.cut_words,
                    empty_words: cut.empty_words,
                    text_tokens: cut.text_tokens,
                })
            }
            LongInputs::Tail | LongInputs::HeadTail => Err(DataError::CutOfWords),
        }
    }

    /// The bytes that decide how a text becomes ids, for a key of what was encoded.
    pub(crate) fn identity(&self) -> Result<Vec<Vec<u8>>> {
        let parts = self.files.iter().filter(|file| {
            [TOKENIZER_FILE, CONFIG_FILE]
                .map(Some)
                .contains(&file.file_name().and_then(|n| n.to_str()))
        });
        Ok(parts.map(ls_files::read).collect::<Result<_, _>>()?)
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

/// Which end of a text stays.
#[derive(Clone, Copy)]
enum Keep {
    Head,
    Tail,
    HeadTail,
}

impl Keep {
    /// Whether token `i` of `length` stays where `kept` do.
    fn keeps(self, i: usize, length: usize, kept: usize) -> bool {
        let head = match self {
            Self::Head => kept,
            Self::Tail => 0,
            Self::HeadTail => kept.div_ceil(2),
        };
        i < head || i + (kept - head) >= length
    }
}

/// A text as ids, and where it stands among the special ones.
struct Whole {
    ids: Vec<u32>,
    text: Range<usize>,
}

impl Whole {
    /// Text tokens that fit beside the special ones.
    fn room(&self, max_length: usize) -> usize {
        max_length.saturating_sub(self.ids.len() - self.text.len())
    }

    fn uncut(self) -> SequenceInputs {
        SequenceInputs {
            text_tokens: self.text.len(),
            inputs: vec![self.ids],
            cut_tokens: 0,
        }
    }

    fn cut(self, max_length: usize, keep: Keep) -> SequenceInputs {
        let (kept, length) = (self.room(max_length), self.text.len());
        let mut input_ids = self.ids[..self.text.start].to_vec();
        let text = self.ids[self.text.clone()].iter().enumerate();
        let stays = text.filter(|(i, _)| keep.keeps(*i, length, kept));
        input_ids.extend(stays.map(|(_, id)| id));
        input_ids.extend_from_slice(&self.ids[self.text.end..]);
        SequenceInputs {
            inputs: vec![input_ids],
            cut_tokens: length - kept,
            text_tokens: length,
        }
    }

    /// A part of the text with the special tokens around it.
    fn part(&self, window: &Range<usize>) -> Vec<u32> {
        let window = self.text.start + window.start..self.text.start + window.end;
        let (before, after) = (&self.ids[..self.text.start], &self.ids[self.text.end..]);
        [before, &self.ids[window], after].concat()
    }

    fn windows(&self, limits: &InputLimits) -> SequenceInputs {
        let room = self.room(limits.max_length);
        let windows = long::windows(self.text.len(), room, limits.overlap(room), |_| true);
        SequenceInputs {
            inputs: windows.iter().map(|window| self.part(window)).collect(),
            cut_tokens: 0,
            text_tokens: self.text.len(),
        }
    }
}

fn cut_pair(encoding: &Encoding, max_length: usize, keep: Keep) -> SequenceInputs {
    let special = encoding.get_special_tokens_mask();
    let text_tokens = special.iter().filter(|mask| **mask == 0).count();
    let room = max_length.saturating_sub(special.len() - text_tokens);
    let mut input_ids = encoding.get_ids().to_vec();
    if text_tokens > room {
        let sequences = encoding.get_sequence_ids();
        let is_text = |i: usize, sequence: usize| special[i] == 0 && sequences[i] == Some(sequence);
        let lengths = [0, 1].map(|s| (0..special.len()).filter(|i| is_text(*i, s)).count());
        let kept = longest_first(lengths, room);
        let (mut index, mut seen) = (0.., [0, 0]);
        input_ids.retain(|_| {
            let i = index.next().unwrap_or_default();
            match (0..2).find(|s| is_text(i, *s)) {
                Some(s) => {
                    seen[s] += 1;
                    keep.keeps(seen[s] - 1, lengths[s], kept[s])
                }
                None => true,
            }
        });
    }
    SequenceInputs {
        inputs: vec![input_ids],
        cut_tokens: text_tokens.saturating_sub(room),
        text_tokens,
    }
}

/// Where the text stands between the special tokens before and after it.
fn text_range(encoding: &Encoding) -> Range<usize> {
    let special = encoding.get_special_tokens_mask();
    let first = special.iter().position(|mask| *mask == 0);
    let last = special.iter().rposition(|mask| *mask == 0);
    match (first, last) {
        (Some(first), Some(last)) => first..last + 1,
        _ => special.len()..special.len(),
    }
}

fn word_windows(
    whole: &Whole,
    word_ids: &[Option<usize>],
    count: usize,
    limits: &InputLimits,
) -> WordInputs {
    let text = &whole.text;
    let words = &word_ids[text.clone()];
    let room = whole.room(limits.max_length);
    // Not inside a word, nor between the mark of a space and its word.
    let breaks = |i: usize| words[i - 1].is_some() && words[i - 1] != words[i];
    let windows = long::windows(text.len(), room, limits.overlap(room), breaks);

    // The tokens of each word, and the window that it is labelled in. Words without tokens go with the word before.
    let mut pieces: Vec<Option<Range<usize>>> = vec![None; count];
    for (i, word) in words.iter().enumerate() {
        if let Some(word) = *word {
            let piece = pieces[word].get_or_insert(i..i + 1);
            piece.end = i + 1;
        }
    }
    let mut bounds = vec![0; windows.len() + 1];
    let mut current = 0;
    for (word, piece) in pieces.iter().enumerate() {
        if let Some(piece) = piece {
            // No word goes to a window before its neighbour's, and none to one that begins behind it.
            let end = windows.partition_point(|window| window.start <= piece.start);
            let near = &windows[current.min(end)..end];
            let best = long::best_window(near, piece, text.len(), limits.context);
            current += best.unwrap_or(0);
        }
        bounds[current + 1] = word + 1;
    }
    for window in 1..bounds.len() {
        bounds[window] = bounds[window].max(bounds[window - 1]);
    }
    let input = |(index, window): (usize, &Range<usize>)| {
        let of_window = &words[window.clone()];
        let mut of_input = vec![None; whole.ids.len() - text.len() + window.len()];
        of_input[text.start..text.start + window.len()].copy_from_slice(of_window);
        WordInput {
            input_ids: whole.part(window),
            word_ids: of_input,
            scored: bounds[index]..bounds[index + 1],
        }
    };
    let past_room = |piece: &Range<usize>| piece.len().saturating_sub(room);
    WordInputs {
        inputs: windows.iter().enumerate().map(input).collect(),
        cut_tokens: pieces.iter().flatten().map(past_room).sum(),
        cut_words: 0,
        empty_words: pieces.iter().filter(|piece| piece.is_none()).count(),
        text_tokens: text.len(),
    }
}

/// Words at the end of the list that truncation removed, with those without tokens behind the first of them.
fn trailing_cut(cut: &EncodedTokens, words: usize) -> usize {
    if cut.cut_words == 0 {
        return 0;
    }
    let last = cut.word_ids.iter().flatten().max();
    words - last.map_or(0, |last| last + 1)
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

fn cut_words(
    (whole, mut word_ids): (Whole, Vec<Option<usize>>),
    count: usize,
    max_length: usize,
) -> EncodedTokens {
    let (text, room) = (whole.text.clone(), whole.room(max_length));
    let mut input_ids = whole.ids;
    let mut with_tokens = vec![false; count];
    for word in word_ids.iter().flatten() {
        with_tokens[*word] = true;
    }
    let (mut cut_tokens, mut cut_words) = (0, 0);
    if text.len() > room {
        let end = text.start + room;
        let kept = word_ids[..end].iter().flatten().next_back().copied();
        let mut cut: Vec<usize> = word_ids[end..text.end].iter().flatten().copied().collect();
        cut.dedup();
        cut.retain(|word| Some(*word) != kept);
        (cut_tokens, cut_words) = (text.end - end, cut.len());
        input_ids.drain(end..text.end);
        word_ids.drain(end..text.end);
    }
    EncodedTokens {
        input_ids,
        word_ids,
        cut_tokens,
        cut_words,
        empty_words: with_tokens.iter().filter(|w| !**w).count(),
        text_tokens: text.len(),
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

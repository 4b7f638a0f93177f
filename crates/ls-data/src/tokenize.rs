//! Text and lists of words to token ids, with a Hugging Face tokenizer.
//!
//! Ids equal those of the fast tokenizer in transformers 5 with `add_special_tokens=True`, except
//! in one place: a text that spells out a special token (`</s>`) is text here. transformers reads
//! it as the token, by which a tweet could end its own sequence or pad itself;
//! [`SpecialTokensAs::Parse`] does so too. Words become ids in either of two ways ([`WordsAs`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ls_files::{Panicked, guarded, optional, read, sha256, sha256_of_parts, shown};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{Encoding, NormalizerWrapper, PostProcessor, PostProcessorWrapper, Tokenizer};

use crate::error::{DataError, Result};
use crate::inputs::{EncodedSequence, EncodedTokens, SequenceInputs, WordInput, WordInputs};
use crate::reading::{Reading, SpecialTokensAs, WordsAs};
use crate::segments::Segments;
use crate::special_tokens::{Outline, PadToken, TokenizerConfig, choose_pad};
use crate::tokenizer_class::{self, has_byte_level};
use crate::windows::{
    InputLimits, Keep, LongInputs, Whole, cut_words, longest_first, trailing_cut, word_windows,
};

const TOKENIZER_FILE: &str = "tokenizer.json";
pub(crate) const CONFIG_FILE: &str = "tokenizer_config.json";
pub(crate) const MAP_FILE: &str = "special_tokens_map.json";
/// SentencePiece's own; only copied.
const MODEL_FILE: &str = "tokenizer.model";
/// Files that hold a tokenizer; a copy of those that exist is a copy of the tokenizer.
const FILES: [&str; 4] = [TOKENIZER_FILE, CONFIG_FILE, MAP_FILE, MODEL_FILE];

/// A tokenizer from a Hugging Face folder.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    /// Copies of it share this, its largest part.
    tokenizer: Arc<Tokenizer>,
    reading: Reading,
    /// Whether its class decides over its file.
    by_class: bool,
    segments: Option<Segments>,
    /// Special tokens before and after a text.
    around: [Vec<u32>; 2],
    /// Ids of tokens that are only spaces, in rising order.
    spaces: Arc<[u32]>,
    pad: PadToken,
    named_pad: Option<u32>,
    vocab_size: usize,
    model_max_length: Option<usize>,
    files: Arc<[TokenizerFile]>,
    /// Of `tokenizer.json`, for messages.
    path: PathBuf,
}

/// A file of a tokenizer, as it was read. What is written later and hashed is this, whatever
/// becomes of the file.
#[derive(Debug)]
struct TokenizerFile {
    name: &'static str,
    bytes: Vec<u8>,
}

impl TextTokenizer {
    /// Reads a folder for the default [`Reading`].
    ///
    /// # Errors
    /// As [`TextTokenizer::for_reading`].
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::for_reading(dir, Reading::default())
    }

    /// Reads `tokenizer.json` and, if they are there, `tokenizer_config.json` and
    /// `special_tokens_map.json`.
    ///
    /// Where transformers 5 builds a tokenizer by its class instead of taking the file as it is
    /// (`LlamaTokenizer`, with its `add_prefix_space`), it is built likewise.
    ///
    /// Special tokens are those that the post-processor of `tokenizer.json` adds, as in
    /// transformers 5, which passes over `add_bos_token` and `add_eos_token` in
    /// `tokenizer_config.json`. Truncation and padding stored in `tokenizer.json` are switched off:
    /// this crate does both and counts what it cuts.
    ///
    /// # Errors
    /// A file that is missing or malformed; a tokenizer without any special token.
    pub fn for_reading(dir: &Path, reading: Reading) -> Result<Self> {
        let path = dir.join(TOKENIZER_FILE);
        let mut files = Vec::with_capacity(FILES.len());
        for name in FILES {
            let bytes = optional(read(dir.join(name)))?;
            files.extend(bytes.map(|bytes| TokenizerFile { name, bytes }));
        }
        let files: Arc<[TokenizerFile]> = files.into();
        let bytes_of = |name: &str| {
            let mut files = files.iter();
            let found = files.find(|file| file.name == name);
            found.map(|file| file.bytes.as_slice())
        };
        let bytes = bytes_of(TOKENIZER_FILE).ok_or_else(|| DataError::NoTokenizer {
            path: dir.to_path_buf(),
            sentencepiece: bytes_of(MODEL_FILE).is_some(),
        })?;
        let config_path = dir.join(CONFIG_FILE);
        let config: TokenizerConfig = optional_json(bytes_of(CONFIG_FILE), &config_path)?;
        let config = config.with_map(optional_json(bytes_of(MAP_FILE), &dir.join(MAP_FILE))?);
        // The crate unwraps what a damaged file may lack.
        let built = guarded(|| Self::of_bytes(dir, &path, bytes, &config, reading));
        let built = built.map_err(|panic| bad_tokenizer(&path, &panic))??;
        Ok(Self { files, ..built })
    }

    /// The tokenizer in the bytes of a `tokenizer.json`.
    fn of_bytes(
        dir: &Path,
        path: &Path,
        bytes: &[u8],
        config: &TokenizerConfig,
        reading: Reading,
    ) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| bad_tokenizer(path, &e))?;
        // Not `from_bytes`: it is generic, and would be compiled here with all of its parser.
        let tokenizer = text.parse::<Tokenizer>();
        let mut tokenizer = tokenizer.map_err(|e| bad_tokenizer(path, &e))?;
        let outline: Outline = serde_json::from_str(text).map_err(|e| bad_tokenizer(path, &e))?;
        tokenizer
            .with_truncation(None)
            .map_err(|e| bad_tokenizer(path, &e))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let mut file: Value = serde_json::from_str(text).map_err(|e| bad_tokenizer(path, &e))?;
        if keep_spaces_in_offsets(&mut file["post_processor"]) {
            let processor = file["post_processor"].take();
            let processor = PostProcessorWrapper::deserialize(processor);
            let processor = processor.map_err(|e| bad_tokenizer(path, &e))?;
            tokenizer.with_post_processor(Some(processor));
        }
        let by_class = tokenizer_class::pre_tokenizer(dir, config, &file)?;
        if let Some(pre_tokenizer) = &by_class {
            file["normalizer"] = Value::Null;
            file["pre_tokenizer"] = tokenizer_class::as_json(pre_tokenizer);
            tokenizer
                .with_normalizer(None::<NormalizerWrapper>)
                .map_err(|e| bad_tokenizer(path, &e))?;
            tokenizer.with_pre_tokenizer(Some(pre_tokenizer.clone()));
        }
        let pad = choose_pad(&tokenizer, config, &outline.model)
            .ok_or_else(|| DataError::NoPadToken { path: path.into() })?;
        tracing::debug!(id = pad.id, token = %pad.token, reason = %pad.reason, "padding token");
        let around = tokenizer
            .encode_fast("a", true)
            .map(|encoding| {
                let text = text_range(&encoding);
                let ids = encoding.get_ids();
                [ids[..text.start].to_vec(), ids[text.end..].to_vec()]
            })
            .map_err(|e| bad_tokenizer(path, &e))?;
        for flag in config.contradictions(&around) {
            tracing::warn!(
                "{}: {flag} says otherwise than tokenizer.json, whose post-processor decides, as in \
                 transformers 5",
                dir.join(CONFIG_FILE).display()
            );
        }
        // Not before: what pads is none that a text gives unless it spells it out.
        let parse = reading.special_tokens == SpecialTokensAs::Parse;
        tokenizer.set_encode_special_tokens(!parse);
        let vocab = tokenizer.get_vocab(true);
        Ok(Self {
            reading,
            by_class: by_class.is_some(),
            segments: Segments::of(&file, parse),
            around,
            spaces: spaces(&file, &vocab),
            pad,
            named_pad: config.named_pad(&tokenizer),
            vocab_size: vocab.values().max().map_or(0, |id| *id as usize + 1),
            model_max_length: config.model_max_length(),
            files: Arc::default(),
            path: path.to_path_buf(),
            tokenizer: Arc::new(tokenizer),
        })
    }

    /// This one with the parts of another, which was read from the same bytes and reads alike: what
    /// both have is in memory once.
    #[must_use]
    pub fn sharing(self, other: &Self) -> Self {
        let path = self.path;
        Self {
            path,
            ..other.clone()
        }
    }

    /// Whether it is in memory once with another.
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tokenizer, &other.tokenizer)
    }

    /// Whether any other shares it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.tokenizer) > 1
    }

    /// One past the highest id: the least number of rows of a matching embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// How words and special tokens are read.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// Ids of tokens that are only spaces (`▁`, `▁▁`, `Ġ`), in rising order.
    pub(crate) fn spaces(&self) -> Arc<[u32]> {
        self.spaces.clone()
    }

    /// The token for padding, with the reason it was chosen.
    pub fn pad_token(&self) -> &PadToken {
        &self.pad
    }

    /// The pad token that `tokenizer_config.json` names, whatever else it stands for: often it is
    /// the end token. transformers pads with it.
    pub fn named_pad(&self) -> Option<u32> {
        self.named_pad
    }

    /// The last special token that the tokenizer puts behind each text, if it puts one there.
    pub fn end_token(&self) -> Option<u32> {
        self.around[1].last().copied()
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

    /// SHA-256 of the `tokenizer.json` that was read.
    pub fn sha256(&self) -> String {
        let mut files = self.files.iter();
        // There is one: without it there is no tokenizer.
        let file = files.find(|file| file.name == TOKENIZER_FILE);
        sha256(file.map_or(&[], |file| &file.bytes))
    }

    /// SHA-256 over all files that were read: what the tokenizer does follows from them.
    pub fn sha256_of_files(&self) -> String {
        let files = self.files.iter();
        sha256_of_parts(files.flat_map(|file| [file.name.as_bytes(), &*file.bytes]))
    }

    /// Writes the tokenizer's files, as they were when they were read, to another folder, each
    /// whole or not at all. A class that was passed over because of the model's family is not named
    /// there: the family is not known from that folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn copy_to(&self, dir: &Path) -> Result<()> {
        for (name, bytes) in self.copied() {
            ls_files::write_atomic(dir.join(name), bytes)?;
        }
        Ok(())
    }

    /// SHA-256 over all files as [`TextTokenizer::copy_to`] writes them: the same for the tokenizer
    /// of a model and for its copy.
    pub fn sha256_of_copy(&self) -> String {
        let files: Vec<_> = self.copied().collect();
        let parts = files.iter();
        sha256_of_parts(parts.flat_map(|(name, bytes)| [name.as_bytes(), bytes]))
    }

    /// Whether its class decides over its file.
    pub(crate) fn is_by_class(&self) -> bool {
        self.by_class
    }

    pub(crate) fn copied(&self) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
        self.files.iter().map(|TokenizerFile { name, bytes }| {
            let mut bytes = Cow::Borrowed(bytes.as_slice());
            if *name == CONFIG_FILE && !self.by_class {
                tokenizer_class::take_file_as_it_is(bytes.to_mut());
            }
            (&**name, bytes)
        })
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
        let encode = || self.of_sequence(text, pair, limits);
        guarded(encode).unwrap_or_else(|panic| Err(self.panicked(text, &panic)))
    }

    fn of_sequence(
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
    /// By [`WordsAs::Split`] ids and words are those that transformers has with
    /// `is_split_into_words=True`.
    ///
    /// By [`WordsAs::Text`] the words are joined by single spaces and encoded as running text, and
    /// each token goes to the first word that its span of the text touches. A token that is only
    /// the space in front of a word is the word's first, as it is where words are split. (Where
    /// each word gets its `▁`, the two ways give the same.)
    ///
    /// Truncation cuts the end, as transformers does: a word of which a token is left still has its
    /// label.
    ///
    /// # Errors
    /// No room for text; a failure of the tokenizer.
    pub fn encode_words(&self, words: &[String], max_length: usize) -> Result<EncodedTokens> {
        self.check_room(false, max_length)?;
        Ok(cut_words(self.whole_words(words)?, words.len(), max_length))
    }

    /// Words as ids, special ones included, and the word of each.
    fn whole_words(&self, words: &[String]) -> Result<(Whole, Vec<Option<usize>>)> {
        let encode = || match self.reading.words {
            WordsAs::Text => self.joined_words(words),
            WordsAs::Split => self.split_words(words),
        };
        guarded(encode).unwrap_or_else(|panic| Err(self.panicked(&words.join(" "), &panic)))
    }

    /// What is said where the tokenizer's own code broke down on a text.
    fn panicked(&self, text: &str, panic: &Panicked) -> DataError {
        encode_error(text, format!("{}: {panic}", self.path.display()).into())
    }

    /// Words as transformers encodes them where they were split beforehand.
    fn split_words(&self, words: &[String]) -> Result<(Whole, Vec<Option<usize>>)> {
        let encoding = self
            .tokenizer
            .encode(words, true)
            .map_err(|e| encode_error(&words.join(" "), e))?;
        let word_ids = encoding.get_word_ids().iter();
        let word_ids = word_ids.map(|word| word.map(|word| word as usize));
        let whole = Whole {
            text: text_range(&encoding),
            ids: encoding.get_ids().to_vec(),
        };
        Ok((whole, word_ids.collect()))
    }

    fn joined_words(&self, words: &[String]) -> Result<(Whole, Vec<Option<usize>>)> {
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

    /// A list of words as the model reads it under `limits`: aligned as
    /// [`TextTokenizer::encode_words`] says. Windows begin and end between words; a word that is
    /// longer than a window is labelled by what of it fits.
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
    pub(crate) fn identity(&self) -> Vec<Vec<u8>> {
        // Nothing is read off the fourth.
        let files = self.files.iter().filter(|file| file.name != MODEL_FILE);
        let mut parts: Vec<Vec<u8>> = files.map(|file| file.bytes.clone()).collect();
        parts.push(serde_json::to_vec(&(self.reading, self.by_class)).unwrap_or_default());
        parts
    }

    fn check_room(&self, pair: bool, max_length: usize) -> Result<()> {
        let special = self.special_tokens(pair);
        if max_length > special {
            Ok(())
        } else {
            Err(DataError::MaxLength {
                max_length,
                special,
            })
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

/// The word of each token: the first that its span touches. So "▁word" (its span takes in the
/// space) goes to its word, and each token of a split character (all have the character's span).
///
/// A token that touches none is the space in front of a word. It goes with the token behind it if
/// that begins its word right there: transformers' `word_ids` of words that were split beforehand
/// have such a lone "▁" as the word's first. Spaces of words that are empty go to none.
fn words_of_tokens(encoding: &Encoding, spans: &[Range<usize>]) -> Vec<Option<usize>> {
    let words: Vec<usize> = (0..spans.len()).filter(|w| !spans[*w].is_empty()).collect();
    let special = encoding.get_special_tokens_mask();
    let offsets = encoding.get_offsets();
    let mut word_ids: Vec<Option<usize>> = vec![None; special.len()];
    for i in (0..special.len()).rev().filter(|i| special[*i] == 0) {
        let (start, end) = offsets[i];
        let next = words.partition_point(|w| spans[*w].end <= start);
        word_ids[i] = words.get(next).copied().filter(|word| {
            let behind = word_ids.get(i + 1) == Some(&Some(*word));
            spans[*word].start < end || (spans[*word].start == end && behind)
        });
    }
    word_ids
}

/// What a JSON file holds, or nothing if there is no file.
fn optional_json<T: DeserializeOwned + Default>(bytes: Option<&[u8]>, path: &Path) -> Result<T> {
    match bytes {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|e| bad_tokenizer(path, &e)),
        None => Ok(T::default()),
    }
}

/// Ids of the tokens that are only spaces, in rising order.
fn spaces(file: &Value, vocab: &HashMap<String, u32>) -> Arc<[u32]> {
    // In a vocabulary of bytes `Ġ` stands for a space; in others it is a letter.
    let mark = if has_byte_level(&file["pre_tokenizer"]) || has_byte_level(&file["normalizer"]) {
        'Ġ'
    } else {
        '▁'
    };
    let only_spaces =
        |token: &str| !token.is_empty() && token.chars().all(|c| c == mark || c == ' ');
    let mut ids: Vec<u32> = vocab
        .iter()
        .filter(|(token, _)| only_spaces(token))
        .map(|(_, id)| *id)
        .collect();
    ids.sort_unstable();
    ids.into()
}

/// Lets the offsets of a token take in its spaces, by which its word is found; whether they were
/// trimmed by this post-processor, which has no other use for them.
fn keep_spaces_in_offsets(processor: &mut Value) -> bool {
    let trims = processor["trim_offsets"] == true;
    if trims {
        processor["trim_offsets"] = false.into();
    }
    let parts = processor
        .get_mut("processors")
        .and_then(Value::as_array_mut);
    let of_parts = parts.into_iter().flatten().map(keep_spaces_in_offsets);
    // Of all parts, so not with `any`.
    of_parts.fold(trims, |any, part| any | part)
}

fn bad_tokenizer(path: &Path, message: &dyn fmt::Display) -> DataError {
    DataError::Tokenizer {
        path: path.to_path_buf(),
        message: shown(message),
    }
}

fn encode_error(text: &str, error: tokenizers::Error) -> DataError {
    DataError::Encode {
        text: text.chars().take(80).collect(),
        message: shown(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! What the model reads of a text or of a list of words, and what was cut of it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A text as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedSequence {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Tokens of the text before truncation, without special ones; 0 if it yields none.
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
    /// Words that yield no tokens (an empty word, a control character that normalisation drops).
    /// They have no id, carry no label and are predicted as `O`.
    pub empty_words: usize,
    /// Tokens of the text before truncation, without special ones; 0 if it yields none.
    pub text_tokens: usize,
}

/// A text as the model reads it: one input, or several windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceInputs {
    /// Ids of each input, special tokens included.
    pub inputs: Vec<Vec<u32>>,
    /// Tokens that truncation removed.
    pub cut_tokens: usize,
    /// Tokens of the text before truncation, without special ones; 0 if it yields none.
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
    /// Words that yield no tokens.
    pub empty_words: usize,
    /// Tokens of the text before truncation, without special ones; 0 if it yields none.
    pub text_tokens: usize,
}

/// One input of a list of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordInput {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Word of each id, counted over the whole list; `None` for special tokens.
    pub word_ids: Vec<Option<usize>>,
    /// The words that are labelled in this input. No word is labelled in two; one that was cut is
    /// in none.
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
    /// Words that yield no tokens.
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

//! Words and sub-words: where a word's label sits, and where its prediction is read.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::IGNORE_INDEX;
use crate::tokenize::TextTokenizer;

/// Which sub-words of a word carry its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelPosition {
    /// The first one, as published tagging scripts and the code of arXiv 2310.01208 do. A lone `▁`
    /// (or `Ġ`) in front of a word is its first, as in transformers' `word_ids`.
    #[default]
    First,
    /// The first one that is more than the space in front of the word: under a causal mask a lone
    /// `▁` has seen nothing of it. Of a word that is nothing but spaces, the first.
    FirstVisible,
    /// The last one: in a causal model the only one that has seen the whole word.
    Last,
    /// Each of them; the prediction is read at the first.
    All,
}

/// Which sub-words speak for the words of an input: those at a [`LabelPosition`], with a
/// tokenizer's tokens.
///
/// Word ids give the word of each sub-word (`None` for special tokens); a word's sub-words stand
/// side by side.
#[derive(Debug, Clone)]
pub struct Alignment {
    position: LabelPosition,
    /// Ids of tokens that are only spaces, in rising order.
    spaces: Arc<[u32]>,
}

impl Alignment {
    /// The place of labels among the tokens of a tokenizer.
    pub fn new(position: LabelPosition, tokenizer: &TextTokenizer) -> Self {
        Self {
            position,
            spaces: tokenizer.spaces(),
        }
    }

    /// Label of each sub-word: the word's at the positions chosen, [`IGNORE_INDEX`] elsewhere.
    ///
    /// # Panics
    /// If a word id is past `word_labels`, or the lengths of `input_ids` and `word_ids` differ.
    pub fn labels(
        &self,
        input_ids: &[u32],
        word_ids: &[Option<usize>],
        word_labels: &[usize],
    ) -> Vec<i64> {
        let mut labels = vec![IGNORE_INDEX; word_ids.len()];
        for (word, of_word) in sub_words(word_ids) {
            let at = match self.position {
                LabelPosition::All => of_word,
                _ => {
                    let at = self.speaker(input_ids, of_word);
                    at..at + 1
                }
            };
            labels[at].fill(word_labels[word] as i64);
        }
        labels
    }

    /// Of each sub-word the word that is read there, if any: each word once, at the sub-word that
    /// speaks for it.
    ///
    /// # Panics
    /// If the lengths of `input_ids` and `word_ids` differ.
    pub fn words_read(&self, input_ids: &[u32], word_ids: &[Option<usize>]) -> Vec<Option<usize>> {
        let mut read = vec![None; word_ids.len()];
        for (word, of_word) in sub_words(word_ids) {
            read[self.speaker(input_ids, of_word)] = Some(word);
        }
        read
    }

    /// Prediction of each word; `None` for a word without sub-words: it was cut, or it yields no
    /// tokens.
    ///
    /// # Panics
    /// If the lengths differ, or a word id is past `n_words`.
    pub fn predictions<T: Copy>(
        &self,
        input_ids: &[u32],
        word_ids: &[Option<usize>],
        n_words: usize,
        per_token: &[T],
    ) -> Vec<Option<T>> {
        let read = self.words_read(input_ids, word_ids);
        assert_eq!(read.len(), per_token.len(), "one prediction per sub-word");
        let mut words = vec![None; n_words];
        for (word, prediction) in read.into_iter().zip(per_token) {
            if let Some(word) = word {
                words[word] = Some(*prediction);
            }
        }
        words
    }

    /// Where the word of these sub-words is read.
    fn speaker(&self, input_ids: &[u32], of_word: Range<usize>) -> usize {
        let first = of_word.start;
        match self.position {
            LabelPosition::First | LabelPosition::All => first,
            LabelPosition::Last => of_word.end - 1,
            LabelPosition::FirstVisible => {
                let visible = |at: &usize| self.spaces.binary_search(&input_ids[*at]).is_err();
                of_word.into_iter().find(visible).unwrap_or(first)
            }
        }
    }
}

/// The words of an input, each with its sub-words.
fn sub_words(word_ids: &[Option<usize>]) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut next = 0;
    word_ids.chunk_by(|a, b| a == b).filter_map(move |of_word| {
        let start = next;
        next += of_word.len();
        of_word[0].map(|word| (word, start..next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: i64 = IGNORE_INDEX;
    /// A special token, a word of three sub-words, one of one, none for word 2, one of two, one of
    /// two spaces.
    const WORDS: [Option<usize>; 9] = [
        None,
        Some(0),
        Some(0),
        Some(0),
        Some(1),
        Some(3),
        Some(3),
        Some(4),
        Some(4),
    ];
    /// 7 and 8 are only spaces; word 1 is one.
    const IDS: [u32; 9] = [1, 7, 20, 21, 8, 22, 7, 8, 7];

    fn alignment(position: LabelPosition) -> Alignment {
        Alignment {
            position,
            spaces: [7, 8].into(),
        }
    }

    #[test]
    fn labels_sit_on_the_chosen_sub_words() {
        let check = |position, expected: [i64; 9]| {
            let labels = alignment(position).labels(&IDS, &WORDS, &[5, 0, 7, 6, 9]);
            assert_eq!(labels, expected);
        };
        check(LabelPosition::First, [X, 5, X, X, 0, 6, X, 9, X]);
        check(LabelPosition::FirstVisible, [X, X, 5, X, 0, 6, X, 9, X]);
        check(LabelPosition::Last, [X, X, X, 5, 0, X, 6, X, 9]);
        check(LabelPosition::All, [X, 5, 5, 5, 0, 6, 6, 9, 9]);
    }

    #[test]
    fn predictions_come_back_from_the_same_place() {
        let per_token = [9, 1, 2, 3, 4, 5, 6, 7, 8];
        let check = |position, [a, b, c, d]: [i32; 4]| {
            let found = alignment(position).predictions(&IDS, &WORDS, 5, &per_token);
            assert_eq!(found, [Some(a), Some(b), None, Some(c), Some(d)]);
        };
        check(LabelPosition::First, [1, 4, 5, 7]);
        check(LabelPosition::FirstVisible, [2, 4, 5, 7]);
        check(LabelPosition::All, [1, 4, 5, 7]);
        check(LabelPosition::Last, [3, 4, 6, 8]);
    }

    #[test]
    fn a_label_comes_back_for_every_word_with_sub_words() {
        for position in [
            LabelPosition::First,
            LabelPosition::FirstVisible,
            LabelPosition::Last,
            LabelPosition::All,
        ] {
            let alignment = alignment(position);
            let aligned = alignment.labels(&IDS, &WORDS, &[5, 0, 7, 6, 9]);
            let back = alignment.predictions(&IDS, &WORDS, 5, &aligned);
            assert_eq!(back, [Some(5), Some(0), None, Some(6), Some(9)]);
        }
    }

    #[test]
    fn a_position_is_written_as_in_a_configuration() {
        for (position, name) in [
            (LabelPosition::First, "first"),
            (LabelPosition::FirstVisible, "first_visible"),
            (LabelPosition::Last, "last"),
            (LabelPosition::All, "all"),
        ] {
            assert_eq!(serde_json::to_value(position).unwrap(), name);
        }
    }
}

//! Words and sub-words: where a word's label sits, and where its prediction is read.

use serde::{Deserialize, Serialize};

use crate::labels::IGNORE_INDEX;

/// Which sub-words of a word carry its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelPosition {
    /// The first one, as the published code of arXiv 2310.01208 does.
    #[default]
    First,
    /// The last one: in a causal model the only one that has seen the whole word.
    Last,
    /// Each of them; the prediction is read at the first.
    All,
}

/// Label of each sub-word: the word's at the positions chosen, [`IGNORE_INDEX`] elsewhere.
///
/// `word_ids` gives the word of each sub-word (`None` for special tokens); a word's sub-words
/// stand side by side.
///
/// # Panics
/// If a word id is past `word_labels`.
pub fn align_labels(
    word_ids: &[Option<usize>],
    word_labels: &[usize],
    position: LabelPosition,
) -> Vec<i64> {
    let carries = |i: usize| match position {
        LabelPosition::First => i == 0 || word_ids[i - 1] != word_ids[i],
        LabelPosition::Last => i + 1 == word_ids.len() || word_ids[i + 1] != word_ids[i],
        LabelPosition::All => true,
    };
    let label = |(i, word): (usize, &Option<usize>)| match word {
        Some(word) if carries(i) => word_labels[*word] as i64,
        _ => IGNORE_INDEX,
    };
    word_ids.iter().enumerate().map(label).collect()
}

/// Prediction of each word, read at its first sub-word ([`LabelPosition::Last`]: its last).
///
/// `None` for a word without sub-words: it was cut, or it yields no tokens.
///
/// # Panics
/// If the lengths of `word_ids` and `per_token` differ, or a word id is past `n_words`.
pub fn word_predictions<T: Copy>(
    word_ids: &[Option<usize>],
    n_words: usize,
    position: LabelPosition,
    per_token: &[T],
) -> Vec<Option<T>> {
    assert_eq!(
        word_ids.len(),
        per_token.len(),
        "one prediction per sub-word"
    );
    let mut words = vec![None; n_words];
    for (word, prediction) in word_ids.iter().zip(per_token) {
        let Some(word) = *word else { continue };
        if words[word].is_none() || position == LabelPosition::Last {
            words[word] = Some(*prediction);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: i64 = IGNORE_INDEX;
    /// A special token, a word of three sub-words, one of one, none for word 2, one of two.
    const WORDS: [Option<usize>; 7] = [None, Some(0), Some(0), Some(0), Some(1), Some(3), Some(3)];

    #[test]
    fn labels_sit_on_the_chosen_sub_words() {
        let labels = [5, 0, 7, 6];
        let check = |position, expected: [i64; 7]| {
            assert_eq!(align_labels(&WORDS, &labels, position), expected);
        };
        check(LabelPosition::First, [X, 5, X, X, 0, 6, X]);
        check(LabelPosition::Last, [X, X, X, 5, 0, X, 6]);
        check(LabelPosition::All, [X, 5, 5, 5, 0, 6, 6]);
    }

    #[test]
    fn predictions_come_back_from_the_same_place() {
        let per_token = [9, 1, 2, 3, 4, 5, 6];
        let check = |position, expected| {
            assert_eq!(word_predictions(&WORDS, 4, position, &per_token), expected);
        };
        check(LabelPosition::First, [Some(1), Some(4), None, Some(5)]);
        check(LabelPosition::All, [Some(1), Some(4), None, Some(5)]);
        check(LabelPosition::Last, [Some(3), Some(4), None, Some(6)]);
    }

    #[test]
    fn a_label_comes_back_for_every_word_with_sub_words() {
        for position in [
            LabelPosition::First,
            LabelPosition::Last,
            LabelPosition::All,
        ] {
            let aligned = align_labels(&WORDS, &[5, 0, 7, 6], position);
            let back = word_predictions(&WORDS, 4, position, &aligned);
            assert_eq!(back, [Some(5), Some(0), None, Some(6)]);
        }
    }
}

//! [`Distribution`]: how long the inputs of a split are and how often each label occurs in it,
//! small enough to be kept in `report.json`.

use serde::{Deserialize, Serialize};

/// Most bars of [`Distribution::lengths`].
const BARS: usize = 32;

/// What a split is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Examples with each label (words, for tags), in the order of the labels; none of numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, usize)>,
    /// Tokens that a bar of `lengths` spans.
    pub tokens_a_bar: usize,
    /// Inputs by their tokens as the model reads them: of 1 to `tokens_a_bar` tokens, of the next
    /// as many, and so on.
    pub lengths: Vec<usize>,
}

impl Distribution {
    /// Of inputs of these lengths.
    pub fn new(labels: Vec<(String, usize)>, lengths: &[usize]) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // Round widths, so that the ends of bars can be read.
        let round = [1, 2, 4, 5, 8, 10].into_iter();
        let widths = round.clone().chain((1..).flat_map(|power| {
            [2, 4, 5, 8, 10].map(|digit: usize| digit.saturating_mul(10usize.saturating_pow(power)))
        }));
        let mut widths = widths;
        let width = widths.find(|width| longest.div_ceil(*width) <= BARS);
        let width = width.unwrap_or(longest.max(1));
        let mut bars = vec![0; longest.div_ceil(width)];
        for length in lengths.iter().filter(|length| **length > 0) {
            bars[(length - 1) / width] += 1;
        }
        Self {
            labels,
            tokens_a_bar: width,
            lengths: bars,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_in_one_bar() {
        let all: Vec<usize> = (1..=100).collect();
        let found = Distribution::new(Vec::new(), &all);
        assert_eq!((found.tokens_a_bar, found.lengths.len()), (4, 25));
        assert!(found.lengths.iter().all(|count| *count == 4));
        let found = Distribution::new(Vec::new(), &[1, 2048, 2048]);
        assert_eq!((found.tokens_a_bar, found.lengths.len()), (80, 26));
        assert_eq!((found.lengths[0], found.lengths[25]), (1, 2));
        let found = Distribution::new(Vec::new(), &[32, 33]);
        assert_eq!(found.tokens_a_bar, 2);
        let none = Distribution::new(Vec::new(), &[]);
        assert_eq!((none.tokens_a_bar, none.lengths), (1, vec![]));
    }
}

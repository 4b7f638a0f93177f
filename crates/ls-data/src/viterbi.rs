//! [`TagGrammar`]: the likeliest tags of a sentence that a scheme allows, found by Viterbi's
//! algorithm over what [`crate::convert`] knows of neighbours.

use crate::convert::may_stand_between;
use crate::scheme::TagScheme;

/// Which tags of a label set may follow each other, begin a sentence and end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagGrammar {
    /// Of each tag those that may stand behind it.
    follows: Vec<Vec<bool>>,
    begins: Vec<bool>,
    ends: Vec<bool>,
}

impl TagGrammar {
    /// That of a scheme for tags by these names. A tag that is not of the scheme's form stands for
    /// itself, as `O` does.
    pub fn new<S: AsRef<str>>(names: &[S], scheme: TagScheme) -> Self {
        let allowed = |before: Option<&S>, here: Option<&S>| {
            let [before, here] = [before, here].map(|tag| tag.map(AsRef::as_ref));
            may_stand_between(before, here, scheme)
        };
        let behind = |before: Option<&S>| -> Vec<bool> {
            let all = names.iter();
            all.map(|here| allowed(before, Some(here))).collect()
        };
        Self {
            follows: names.iter().map(|tag| behind(Some(tag))).collect(),
            begins: behind(None),
            ends: names.iter().map(|tag| allowed(Some(tag), None)).collect(),
        }
    }

    /// The tags with the highest sum of scores (logarithms of probabilities), one for each row,
    /// that are allowed together; of equally good ones those with lower ids. Nothing where none
    /// are: a set with `O` always has some, where `O` has a score.
    ///
    /// # Panics
    /// If a row has not one score for each tag.
    pub fn decode(&self, scores: &[Vec<f64>]) -> Option<Vec<usize>> {
        let tags = self.begins.len();
        let mut sums: Vec<f64> = match scores.first() {
            None => return Some(Vec::new()),
            Some(row) => (0..tags)
                .map(|tag| only(self.begins[tag], row[tag]))
                .collect(),
        };
        // Of each word but the first the best tag before each tag.
        let mut before: Vec<Vec<usize>> = Vec::new();
        for row in &scores[1..] {
            let best = (0..tags).map(|here| {
                let paths = (0..tags).map(|tag| only(self.follows[tag][here], sums[tag]));
                best_of(paths)
            });
            let best: Vec<(usize, f64)> = best.collect();
            sums = best
                .iter()
                .zip(row)
                .map(|((_, sum), score)| sum + score)
                .collect();
            before.push(best.into_iter().map(|(tag, _)| tag).collect());
        }
        let (last, sum) = best_of((0..tags).map(|tag| only(self.ends[tag], sums[tag])));
        if sum == f64::NEG_INFINITY {
            return None;
        }
        let mut path = vec![last];
        for best in before.iter().rev() {
            path.push(best[path[path.len() - 1]]);
        }
        path.reverse();
        Some(path)
    }
}

fn only(allowed: bool, score: f64) -> f64 {
    if allowed { score } else { f64::NEG_INFINITY }
}

/// The first of the highest scores, and its place.
fn best_of(scores: impl Iterator<Item = f64>) -> (usize, f64) {
    let first = (0, f64::NEG_INFINITY);
    scores.enumerate().fold(
        first,
        |best, (at, score)| {
            if score > best.1 { (at, score) } else { best }
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::convert::check_tags;

    fn sequences(tags: usize, words: usize) -> Vec<Vec<usize>> {
        let count = tags.pow(words as u32);
        let digits = |number: usize| (0..words).map(move |at| number / tags.pow(at as u32) % tags);
        (0..count).map(|number| digits(number).collect()).collect()
    }

    #[test]
    fn of_all_sequences_that_a_scheme_allows_the_best_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for scheme in TagScheme::ALL {
            let mut names = vec!["O".to_string()];
            for prefix in scheme
                .table()
                .prefixes
                .chars()
                .filter(|prefix| *prefix != 'O')
            {
                names.extend(["X", "Yé"].map(|kind| format!("{prefix}-{kind}")));
            }
            let grammar = TagGrammar::new(&names, scheme);
            for words in 1..=4 {
                let row = |rng: &mut ChaCha8Rng| -> Vec<f64> {
                    names.iter().map(|_| rng.random_range(-9.0..0.0)).collect()
                };
                let scores: Vec<Vec<f64>> = (0..words).map(|_| row(&mut rng)).collect();
                let sum = |path: &[usize]| -> f64 {
                    path.iter().zip(&scores).map(|(tag, row)| row[*tag]).sum()
                };
                let named = |path: &[usize]| -> Vec<&str> {
                    path.iter().map(|tag| names[*tag].as_str()).collect()
                };
                let found = grammar.decode(&scores).unwrap();
                check_tags(&named(&found), scheme).unwrap();
                let all = sequences(names.len(), words);
                let allowed = all
                    .iter()
                    .filter(|path| check_tags(&named(path), scheme).is_ok());
                let best = allowed.map(|path| sum(path)).fold(f64::MIN, f64::max);
                assert!(
                    (sum(&found) - best).abs() < 1e-9,
                    "{} {words}",
                    scheme.name()
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_is_nothing_and_no_words_are_no_tags() {
        let grammar = TagGrammar::new(&["I-X"], TagScheme::Iob2);
        assert_eq!(grammar.decode(&[vec![0.0]]), None);
        assert_eq!(grammar.decode(&[]), Some(Vec::new()));
        // What is no tag of the scheme is as `O`.
        let grammar = TagGrammar::new(&["NOUN", "B-X", "I-X"], TagScheme::Iob2);
        let sure = |tag: usize| {
            (0..3)
                .map(|at| if at == tag { 0.0 } else { -5.0 })
                .collect()
        };
        let scores: Vec<Vec<f64>> = [0, 2, 2].map(sure).to_vec();
        assert_eq!(grammar.decode(&scores), Some(vec![0, 1, 2]));
        // A tag without a score is not taken.
        let never = vec![f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY];
        assert_eq!(grammar.decode(&[never]), Some(vec![1]));
    }
}

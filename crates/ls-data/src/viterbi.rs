//! [`TagGrammar`]: the likeliest tags of a sentence that a scheme allows, found by Viterbi's
//! algorithm over what [`crate::convert`] knows of neighbours.

use crate::convert::{is_of_scheme, may_stand_between};
use crate::error::{DataError, Result};
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
    /// That of a scheme for tags by these names.
    ///
    /// # Errors
    /// If a tag is not of the scheme or can stand in no sentence (`I-PER` of IOB2 without `B-PER`),
    /// or if there is no `O`.
    pub fn new<S: AsRef<str>>(names: &[S], scheme: TagScheme) -> Result<Self> {
        let misfit = |reason: String| DataError::SchemeMisfit {
            scheme: scheme.name(),
            reason,
        };
        if let Some(name) = names
            .iter()
            .find(|name| !is_of_scheme(name.as_ref(), scheme))
        {
            let prefixes = scheme.table().prefixes;
            let reason = format!("`{}` does not begin with one of {prefixes}", name.as_ref());
            return Err(misfit(reason));
        }
        if !names.iter().any(|name| name.as_ref() == "O") {
            return Err(misfit("there is no `O`".into()));
        }
        let allowed = |before: Option<&S>, here: Option<&S>| {
            let [before, here] = [before, here].map(|tag| tag.map(AsRef::as_ref));
            may_stand_between(before, here, scheme)
        };
        let behind = |before: Option<&S>| -> Vec<bool> {
            let all = names.iter();
            all.map(|here| allowed(before, Some(here))).collect()
        };
        let grammar = Self {
            follows: names.iter().map(|tag| behind(Some(tag))).collect(),
            begins: behind(None),
            ends: names.iter().map(|tag| allowed(Some(tag), None)).collect(),
        };
        match grammar.never() {
            None => Ok(grammar),
            Some(tag) => Err(misfit(format!(
                "`{}` may stand nowhere beside the other labels",
                names[tag].as_ref()
            ))),
        }
    }

    /// The first tag that no allowed sentence has.
    fn never(&self) -> Option<usize> {
        let behind = spread(&self.begins, |from, to| self.follows[from][to]);
        let before = spread(&self.ends, |from, to| self.follows[to][from]);
        (0..self.begins.len()).find(|tag| !(behind[*tag] && before[*tag]))
    }

    /// The tags with the highest sum of scores (logits, or logarithms of probabilities), one for
    /// each row, that are allowed together; of equally good ones those with lower ids. Nothing
    /// where none are, which is only where `O` has no score.
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

/// All tags that are reached from some of them, step by step.
fn spread(from: &[bool], step: impl Fn(usize, usize) -> bool) -> Vec<bool> {
    let mut reached = from.to_vec();
    let mut open: Vec<usize> = (0..from.len()).filter(|tag| from[*tag]).collect();
    while let Some(tag) = open.pop() {
        for (next, reached) in reached.iter_mut().enumerate() {
            if !*reached && step(tag, next) {
                *reached = true;
                open.push(next);
            }
        }
    }
    reached
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
            let grammar = TagGrammar::new(&names, scheme).unwrap();
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
    fn labels_that_a_scheme_cannot_use_are_named() {
        let refused = |names: &[&str], scheme| {
            let refused = TagGrammar::new(names, scheme).map_err(|error| error.to_string());
            refused.err().unwrap_or_default()
        };
        for (names, scheme, fault) in [
            (
                &["O", "S-X"][..],
                TagScheme::Iob2,
                "`S-X` does not begin with one of IOB",
            ),
            (
                &["O", "B-X", "I-X", "NOUN"],
                TagScheme::Iob2,
                "`NOUN` does not begin",
            ),
            (&["B-X", "I-X"], TagScheme::Iob2, "there is no `O`"),
            (
                &["O", "B-X", "I-Y"],
                TagScheme::Iob2,
                "`I-Y` may stand nowhere",
            ),
            (&["O", "B-X"], TagScheme::Iob1, "`B-X` may stand nowhere"),
            (
                &["O", "B-X", "S-X"],
                TagScheme::Iobes,
                "`B-X` may stand nowhere",
            ),
            (&["O", "I-X"], TagScheme::Ioe2, "`I-X` may stand nowhere"),
            (
                &["O", "B-X", "I-X", "U-X"],
                TagScheme::Bilou,
                "`B-X` may stand nowhere",
            ),
        ] {
            let found = refused(names, scheme);
            assert!(found.contains(fault), "{found}");
            assert!(found.contains(scheme.name()), "{found}");
        }
        assert_eq!(refused(&["O"], TagScheme::Iobes), "");
        assert_eq!(refused(&["O", "I-X", "B-Y", "I-Y"], TagScheme::Iob1), "");
    }

    #[test]
    fn without_a_score_a_tag_is_not_taken() {
        let grammar = TagGrammar::new(&["O", "B-X", "I-X"], TagScheme::Iob2).unwrap();
        assert_eq!(grammar.decode(&[]), Some(Vec::new()));
        let never = f64::NEG_INFINITY;
        assert_eq!(grammar.decode(&[vec![never, -9.0, never]]), Some(vec![1]));
        assert_eq!(grammar.decode(&[vec![never, never, 0.0]]), None);
    }
}

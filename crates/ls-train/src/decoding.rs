//! What is chosen by scores beside the highest: [`Answering`], what may be asked of models at
//! prediction, and [`Decoding`], what one of them makes of it.

use ls_data::{LabelSet, TagGrammar, TagKind, TagScheme, decode_spans};
use serde::Serialize;

use crate::decision::Decision;
use crate::prediction::{Prediction, lenient_names};
use crate::problem::Problem;

/// How a model answers: of what it was asked, what is for it, with the tag scheme named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Decoding {
    /// The score under which nothing is answered: no label for a text, no entity for the words that
    /// it spans, no label for a word.
    pub abstain_below: Option<f32>,
    /// The scheme that the tags of a sentence have to be of together.
    pub constrained: Option<TagScheme>,
}

/// How a model is asked to answer. Nothing is asked of it by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answering {
    /// Where any number of labels may hold: the score from which on each of them does, in place of
    /// those that training fitted (`--threshold`).
    pub threshold: Option<f32>,
    /// The score under which nothing is answered (`--abstain-below`).
    pub abstain_below: Option<f32>,
    /// The scheme that the tags of a sentence have to be of together; without a name the one that
    /// the model was trained on (`--constrained`).
    pub constrained: Option<Option<TagScheme>>,
}

impl Answering {
    /// That of it which can be asked of models of such problems: the rest is refused by
    /// [`Predictor::set_answering`](crate::Predictor::set_answering).
    #[must_use]
    pub fn for_problem(self, problem: Problem) -> Self {
        let of_one_label = !matches!(problem, Problem::MultiLabel | Problem::Regression);
        Self {
            threshold: self.threshold.filter(|_| problem == Problem::MultiLabel),
            abstain_below: self.abstain_below.filter(|_| of_one_label),
            constrained: self.constrained.filter(|_| problem.is_of_spans()),
        }
    }
}

/// How many answers there are, where unsure ones are left out: of texts, of words that have a
/// label, or of the entities that would have been found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Those that are given.
    pub answered: usize,
    /// Those that are sure enough or not.
    pub of: usize,
}

impl Coverage {
    fn count(&mut self, is_answered: bool) {
        self.answered += usize::from(is_answered);
        self.of += 1;
    }

    /// Those that are left out.
    pub fn left_out(self) -> usize {
        self.of - self.answered
    }

    /// The part that is given; all of nothing.
    pub fn part(self) -> f64 {
        match self.of {
            0 => 1.0,
            of => self.answered as f64 / of as f64,
        }
    }
}

impl Decoding {
    /// What is answered where the highest scores would give `prediction`, which is counted.
    pub(crate) fn choose(
        &self,
        prediction: Prediction,
        labels: &LabelSet,
        tags: TagKind,
        coverage: &mut Coverage,
    ) -> Prediction {
        if self.abstain_below.is_none() {
            return prediction;
        }
        match prediction {
            Prediction::Sequence(decision) => {
                let is_answered = !self.is_too_unsure(decision.score);
                coverage.count(is_answered);
                if is_answered {
                    Prediction::Sequence(decision)
                } else {
                    Prediction::Abstained(decision)
                }
            }
            Prediction::Token(mut words) => {
                self.leave_out(&mut words, labels, tags, coverage);
                Prediction::Token(words)
            }
            other => other,
        }
    }

    fn is_too_unsure(&self, score: f32) -> bool {
        self.abstain_below.is_some_and(|least| score < least)
    }

    /// Takes back the tags of entities, or the labels of words, of which the model is too unsure.
    fn leave_out(
        &self,
        words: &mut [Option<Decision>],
        labels: &LabelSet,
        tags: TagKind,
        coverage: &mut Coverage,
    ) {
        if tags == TagKind::Labels {
            for word in words {
                word.take_if(|decision| self.is_too_unsure(decision.score));
                coverage.count(word.is_some());
            }
            return;
        }
        let names = lenient_names(labels, tags);
        let name = |word: &Option<Decision>| match word {
            Some(decision) => names[decision.label].as_ref(),
            None => "O",
        };
        let tags: Vec<&str> = words.iter().map(name).collect();
        for span in decode_spans(&tags) {
            let inside = &mut words[span.start..span.end];
            let scores = inside.iter().flatten().map(|decision| decision.score);
            let score = scores.sum::<f32>() / inside.len() as f32;
            let is_answered = !self.is_too_unsure(score);
            coverage.count(is_answered);
            if !is_answered {
                for word in inside {
                    *word = word.take().and_then(|decision| outside(decision, labels));
                }
            }
        }
        if let Some(scheme) = self.constrained {
            write_anew(words, labels, scheme);
        }
    }
}

/// Writes the spans of a sentence by their scheme: behind one that was left out another begins
/// otherwise in IOB1, and ends otherwise before one in IOE1. Scores stay those of the spans.
fn write_anew(words: &mut [Option<Decision>], labels: &LabelSet, scheme: TagScheme) {
    let name = |word: &Option<Decision>| match word {
        Some(decision) => labels.name(decision.label),
        None => "O",
    };
    let tags: Vec<&str> = words.iter().map(name).collect();
    let written = scheme.written(&tags);
    for (word, tag) in words.iter_mut().zip(&written) {
        if let (Some(decision), Some(label)) = (word, labels.id(tag)) {
            decision.label = label;
        }
    }
}

/// The same word outside of any entity.
fn outside(decision: Decision, labels: &LabelSet) -> Option<Decision> {
    labels.id("O").map(|label| decision.of_label(label))
}

/// Puts the likeliest tags in the place of each word's own that are allowed together, by the logits
/// of each word. A word without logits is answered `O`, so that nothing goes on across it.
///
/// Logits differ from logarithms of probabilities, at any temperature, by what is the same for all
/// tags of a word, or by one factor; but those of tiny probabilities are numbers, too.
pub(crate) fn constrain(
    words: &mut [Option<Decision>],
    logits: &[Option<&[f32]>],
    outside: usize,
    grammar: &TagGrammar,
) {
    let tags = logits.iter().flatten().next().map_or(0, |row| row.len());
    let row = |row: &Option<&[f32]>| -> Vec<f64> {
        let score = |label: usize| match row {
            Some(row) => f64::from(row[label]),
            None if label == outside => 0.0,
            None => f64::NEG_INFINITY,
        };
        (0..tags).map(score).collect()
    };
    let scores: Vec<Vec<f64>> = logits.iter().map(row).collect();
    if tags == 0 {
        return;
    }
    // There are some: a grammar has an `O`, which may stand anywhere.
    let found = grammar.decode(&scores).unwrap_or_default();
    for (word, label) in words.iter_mut().zip(found) {
        if let Some(decision) = word.take() {
            *word = Some(decision.of_label(label));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::FunctionToApply;

    fn labels(names: &[&str]) -> LabelSet {
        LabelSet::from_names(names.iter().map(|name| name.to_string()).collect()).unwrap()
    }

    fn word(probabilities: &[f32]) -> Option<Decision> {
        let most = probabilities.iter().copied().fold(0.0, f32::max);
        let label = probabilities.iter().position(|p| *p == most).unwrap();
        Some(Decision {
            label,
            score: most,
            probabilities: probabilities.to_vec(),
        })
    }

    fn chosen(decoding: Decoding, words: Vec<Option<Decision>>, set: &LabelSet) -> String {
        let tags = TagKind::of(set.names().iter().map(String::as_str));
        let chosen = decoding.choose(
            Prediction::Token(words),
            set,
            tags,
            &mut Coverage::default(),
        );
        let Prediction::Token(words) = chosen else {
            panic!("words stay words");
        };
        let names = words.iter().map(|word| match word {
            Some(decision) => set.name(decision.label),
            None => "-",
        });
        names.collect::<Vec<_>>().join(" ")
    }

    fn held(logits: &[Option<[f32; 3]>], set: &LabelSet) -> String {
        let rows: Vec<Option<&[f32]>> = logits
            .iter()
            .map(|row| row.as_ref().map(|r| &r[..]))
            .collect();
        let softmax = FunctionToApply::Softmax;
        let mut words: Vec<Option<Decision>> = rows
            .iter()
            .map(|row| row.map(|row| Decision::of(row, softmax)))
            .collect();
        let grammar = TagGrammar::new(set.names(), TagScheme::Iob2).unwrap();
        constrain(&mut words, &rows, set.id("O").unwrap(), &grammar);
        chosen(Decoding::default(), words, set)
    }

    #[test]
    fn no_tag_stands_where_its_scheme_forbids_it() {
        let set = labels(&["O", "B-X", "I-X"]);
        let mut words = vec![
            Some([6.0, 1.0, 3.0]),
            Some([1.0, 3.0, 6.0]),
            Some([2.0, 2.0, 6.0]),
        ];
        assert_eq!(held(&words, &set), "O B-X I-X");
        // A word that was cut off is outside, so that nothing goes on behind it.
        words[1] = None;
        assert_eq!(held(&words, &set), "O - O");
        assert_eq!(held(&[None, None], &set), "- -");
        // Of probabilities so small that they are 0.
        let sure = [Some([300.0, 0.0, 0.0]), Some([0.0, 100.0, 300.0])];
        assert_eq!(held(&sure, &set), "O B-X");
        let most = f32::MAX;
        let sure = [Some([most, 0.0, -most]), Some([-most, 0.0, most])];
        assert_eq!(held(&sure, &set), "O B-X");
    }

    #[test]
    fn what_is_too_unsure_is_not_answered() {
        let unsure = Decoding {
            abstain_below: Some(0.5),
            constrained: None,
        };
        let set = labels(&["O", "B-X", "I-X"]);
        let words = vec![
            word(&[0.1, 0.4, 0.3]),
            word(&[0.1, 0.3, 0.5]),
            word(&[0.4, 0.3, 0.3]),
            word(&[0.1, 0.6, 0.3]),
            word(&[0.2, 0.1, 0.4]),
        ];
        // The first entity has 0.45, the second 0.5; a word outside stays one.
        assert_eq!(chosen(unsure, words, &set), "O O O B-X I-X");
        let set = labels(&["NOUN", "VERB"]);
        let words = vec![word(&[0.6, 0.4]), word(&[0.4, 0.45]), None];
        assert_eq!(chosen(unsure, words, &set), "NOUN - -");
        let text = word(&[0.3, 0.4]).unwrap();
        let mut coverage = Coverage::default();
        let mut choose = |text: &Decision| {
            let text = Prediction::Sequence(text.clone());
            unsure.choose(text, &set, TagKind::Labels, &mut coverage)
        };
        assert_eq!(choose(&text), Prediction::Abstained(text));
        let sure = word(&[0.1, 0.9]).unwrap();
        assert_eq!(choose(&sure), Prediction::Sequence(sure));
        assert_eq!((coverage.answered, coverage.of), (1, 2));
        assert_eq!((coverage.left_out(), coverage.part()), (1, 0.5));
        assert_eq!(Coverage::default().part(), 1.0);
    }

    #[test]
    fn what_is_left_between_is_written_as_its_scheme_has_it() {
        let unsure = |constrained| Decoding {
            abstain_below: Some(0.5),
            constrained,
        };
        // Two neighbours of one type, of which the first is too unsure.
        let iob1 = labels(&["O", "I-X", "B-X"]);
        let words = || {
            vec![
                word(&[0.2, 0.4, 0.1]),
                word(&[0.1, 0.2, 0.7]),
                word(&[0.1, 0.9, 0.0]),
            ]
        };
        assert_eq!(chosen(unsure(None), words(), &iob1), "O B-X I-X");
        let scheme = Some(TagScheme::Iob1);
        assert_eq!(chosen(unsure(scheme), words(), &iob1), "O I-X I-X");
        // Of which the second is.
        let ioe1 = labels(&["O", "I-X", "E-X"]);
        let words = vec![word(&[0.1, 0.2, 0.7]), word(&[0.2, 0.4, 0.1])];
        let scheme = Some(TagScheme::Ioe1);
        assert_eq!(chosen(unsure(scheme), words, &ioe1), "I-X O");
        // What has no tag there stays without one.
        let bilou = labels(&["O", "U-X", "B-X", "L-X"]);
        let words = vec![
            word(&[0.0, 0.4, 0.0, 0.0]),
            None,
            word(&[0.0, 0.9, 0.0, 0.0]),
        ];
        let scheme = Some(TagScheme::Bilou);
        assert_eq!(chosen(unsure(scheme), words, &bilou), "O - U-X");
    }
}

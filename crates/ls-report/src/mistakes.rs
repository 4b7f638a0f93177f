//! What a tagger got wrong, span by span: each fault with its kind and how sure the tagger was.

use std::collections::BTreeMap;

use ls_data::{Span, decode_spans};

use crate::answers::TagsAnswer;

/// What is wrong with a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A gold span that no found one touches.
    Missed,
    /// A found span that no gold one touches.
    Spurious,
    /// The words are right, the type is not.
    WrongType,
    /// The type is right, the words are not.
    WrongBoundary,
    /// A gold span of another type has some of the words.
    WrongBoth,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::Missed,
        Self::Spurious,
        Self::WrongType,
        Self::WrongBoundary,
        Self::WrongBoth,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Spurious => "spurious",
            Self::WrongType => "wrong type",
            Self::WrongBoundary => "wrong boundary",
            Self::WrongBoth => "wrong type and boundary",
        }
    }
}

/// A span that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) fault: Fault,
    /// The found span; of a missed one, the gold span.
    pub(crate) span: Span,
    /// The gold span that it should have been.
    pub(crate) gold: Option<Span>,
    /// Mean sureness of the tags of its words, where it is known.
    pub(crate) score: Option<f64>,
}

/// The mistakes in a sentence, in the order of its words.
pub(crate) fn mistakes(answer: &TagsAnswer) -> Vec<Mistake> {
    let (gold, found) = (decode_spans(&answer.gold), decode_spans(&answer.found));
    let touch = |a: &Span, b: &Span| a.start < b.end && b.start < a.end;
    let words = |a: &Span, b: &Span| (a.start, a.end) == (b.start, b.end);
    let mut all = Vec::new();
    for span in found.iter().filter(|span| !gold.contains(span)) {
        let touched: Vec<&Span> = gold.iter().filter(|gold| touch(gold, span)).collect();
        let same_words = touched.iter().find(|gold| words(gold, span));
        let same_type = touched
            .iter()
            .find(|gold| gold.entity_type == span.entity_type);
        let (fault, should) = match (same_words, same_type, touched.first()) {
            (Some(gold), _, _) => (Fault::WrongType, Some(*gold)),
            (_, Some(gold), _) => (Fault::WrongBoundary, Some(*gold)),
            (_, _, Some(gold)) => (Fault::WrongBoth, Some(*gold)),
            _ => (Fault::Spurious, None),
        };
        all.push((fault, span, should));
    }
    let missed = gold
        .iter()
        .filter(|gold| !found.iter().any(|span| touch(gold, span)));
    all.extend(missed.map(|gold| (Fault::Missed, gold, None)));
    all.sort_by_key(|(_, span, _)| span.start);
    let mistake = |(fault, span, gold): (Fault, &Span, Option<&Span>)| {
        let scores = &answer.scores[span.start..span.end];
        let sum = scores.iter().copied().sum::<Option<f64>>();
        Mistake {
            fault,
            span: span.clone(),
            gold: gold.cloned(),
            score: sum.map(|sum| sum / scores.len() as f64),
        }
    };
    all.into_iter().map(mistake).collect()
}

/// How often each type has each fault: by the type of the found span, of missed ones of the gold.
pub(crate) fn by_type(answers: &[TagsAnswer]) -> BTreeMap<String, BTreeMap<Fault, usize>> {
    let mut counts: BTreeMap<String, BTreeMap<Fault, usize>> = BTreeMap::new();
    for mistake in answers.iter().flat_map(mistakes) {
        let of_type = counts.entry(mistake.span.entity_type).or_default();
        *of_type.entry(mistake.fault).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(gold: &str, found: &str) -> TagsAnswer {
        let tags = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let words = tags(gold);
        TagsAnswer {
            text: None,
            scores: (0..words.len())
                .map(|at| Some(0.5 + at as f64 / 10.0))
                .collect(),
            untempered: vec![None; words.len()],
            words,
            gold: tags(gold),
            found: tags(found),
        }
    }

    #[test]
    fn each_fault_has_its_kind() {
        let kinds = |gold, found| -> Vec<(Fault, usize)> {
            let all = mistakes(&answer(gold, found)).into_iter();
            all.map(|one| (one.fault, one.span.start)).collect()
        };
        assert_eq!(kinds("B-PER I-PER O", "B-PER I-PER O"), []);
        assert_eq!(kinds("O B-PER O", "O O O"), [(Fault::Missed, 1)]);
        assert_eq!(kinds("O O O", "O B-PER O"), [(Fault::Spurious, 1)]);
        assert_eq!(kinds("O B-PER O", "O B-LOC O"), [(Fault::WrongType, 1)]);
        assert_eq!(
            kinds("B-PER I-PER O", "B-PER O O"),
            [(Fault::WrongBoundary, 0)]
        );
        assert_eq!(kinds("B-PER I-PER O", "O B-LOC O"), [(Fault::WrongBoth, 1)]);
        // One span in the place of two, the first of which is of its type.
        assert_eq!(
            kinds("B-LOC B-PER O", "B-PER I-PER O"),
            [(Fault::WrongBoundary, 0)]
        );
        let two = kinds("B-PER O B-LOC", "O O B-ORG");
        assert_eq!(two, [(Fault::Missed, 0), (Fault::WrongType, 2)]);
    }

    #[test]
    fn how_sure_a_span_is_is_the_mean_of_its_words() {
        let mut answer = answer("O O O", "B-PER I-PER O");
        assert_eq!(mistakes(&answer)[0].score, Some(0.55));
        answer.scores[1] = None;
        assert_eq!(mistakes(&answer)[0].score, None);
        let counts = by_type(&[answer.clone(), answer]);
        assert_eq!(counts["PER"][&Fault::Spurious], 2);
    }
}

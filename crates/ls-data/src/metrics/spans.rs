//! Scores of tagging by spans, equal to seqeval 1.2.2's.

use std::collections::{BTreeMap, HashSet};

use serde::{Serialize, Serializer};

use super::{ClassScores, as_map, mean, ratio};
use crate::error::{DataError, Result};
use crate::scheme::TagScheme;
use crate::span::{Span, decode_spans, decode_spans_strict};

/// How tags are read as spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpanMode {
    /// Leniently, as conlleval and seqeval's default mode: malformed sequences are repaired.
    #[default]
    Default,
    /// By a scheme: only whole spans count.
    Strict(TagScheme),
}

/// Written as `"default"` or `"strict"`.
impl Serialize for SpanMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Default => "default",
            Self::Strict(_) => "strict",
        })
    }
}

/// Scores of a tagger over a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanScores {
    /// How tags were read as spans.
    pub mode: SpanMode,
    /// Right spans among the predicted ones.
    pub span_precision_micro: f64,
    /// Right spans among the gold ones.
    pub span_recall_micro: f64,
    /// Harmonic mean of both.
    pub span_f1_micro: f64,
    /// Mean F1 of the types that occur in gold or predictions.
    pub span_f1_macro: f64,
    /// Right tags among all.
    pub token_accuracy: f64,
    /// Scores by type, sorted by name.
    #[serde(serialize_with = "as_map")]
    pub per_type: Vec<(String, ClassScores)>,
}

/// Right, predicted and gold spans.
#[derive(Default, Clone, Copy)]
struct Counts {
    right: usize,
    predicted: usize,
    gold: usize,
}

impl SpanScores {
    /// Compares tags, sentence by sentence. A span is right when its type and both its ends are.
    ///
    /// # Errors
    /// The numbers of sentences or of tags in a sentence differ; in strict mode, a tag that the
    /// scheme does not have.
    pub fn compute<G: AsRef<str>, P: AsRef<str>>(
        gold: &[Vec<G>],
        predicted: &[Vec<P>],
        mode: SpanMode,
    ) -> Result<Self> {
        check_length("sentences", None, gold.len(), predicted.len())?;
        let mut types: BTreeMap<String, Counts> = BTreeMap::new();
        let (mut tags, mut right_tags) = (0, 0);
        for (sentence, (gold, predicted)) in gold.iter().zip(predicted).enumerate() {
            check_length("tags", Some(sentence), gold.len(), predicted.len())?;
            tags += gold.len();
            right_tags += gold
                .iter()
                .zip(predicted)
                .filter(|(g, p)| g.as_ref() == p.as_ref())
                .count();
            let gold = decode(gold, mode)?;
            let predicted = decode(predicted, mode)?;
            for span in &predicted {
                let counts = types.entry(span.entity_type.clone()).or_default();
                counts.predicted += 1;
                counts.right += usize::from(gold.contains(span));
            }
            for span in gold {
                types.entry(span.entity_type).or_default().gold += 1;
            }
        }
        let sum = |f: fn(&Counts) -> usize| types.values().map(f).sum::<usize>();
        let all = ClassScores::from_counts(sum(|c| c.right), sum(|c| c.predicted), sum(|c| c.gold));
        let per_type: Vec<(String, ClassScores)> = types
            .into_iter()
            .map(|(name, c)| (name, ClassScores::from_counts(c.right, c.predicted, c.gold)))
            .collect();
        Ok(Self {
            mode,
            span_precision_micro: all.precision,
            span_recall_micro: all.recall,
            span_f1_micro: all.f1,
            span_f1_macro: mean(per_type.iter().map(|(_, scores)| scores.f1)),
            token_accuracy: ratio(right_tags as f64, tags as f64),
            per_type,
        })
    }
}

fn decode<S: AsRef<str>>(tags: &[S], mode: SpanMode) -> Result<HashSet<Span>> {
    let spans = match mode {
        SpanMode::Default => decode_spans(tags),
        SpanMode::Strict(scheme) => decode_spans_strict(tags, scheme)?,
    };
    Ok(spans.into_iter().collect())
}

fn check_length(
    what: &'static str,
    sentence: Option<usize>,
    expected: usize,
    found: usize,
) -> Result<()> {
    match expected == found {
        true => Ok(()),
        false => Err(DataError::ScoreLength {
            what,
            sentence,
            found,
            expected,
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn right_starts_with_wrong_ends_score_nothing() {
        let gold = [vec!["B-PER", "I-PER", "O"]];
        let predicted = [vec!["B-PER", "O", "O"]];
        let scores = SpanScores::compute(&gold, &predicted, SpanMode::Default).unwrap();
        assert_eq!(scores.span_f1_micro, 0.0);
        assert_eq!(scores.token_accuracy, 2.0 / 3.0);
        let json = serde_json::to_value(&scores).unwrap();
        assert_eq!(json["mode"], "default");
        assert_eq!(json["per_type"]["PER"]["support"], 1);
    }

    #[test]
    fn unequal_lengths_are_errors() {
        let gold = [vec!["O"], vec!["O", "O"]];
        let error = SpanScores::compute(&gold, &[vec!["O"], vec!["O"]], SpanMode::Default);
        assert_eq!(
            error.unwrap_err().to_string(),
            "1 predictions for 2 gold tags in sentence 1"
        );
        let error = SpanScores::compute(&gold, &[vec!["O"]], SpanMode::Default);
        assert_eq!(
            error.unwrap_err().to_string(),
            "1 predictions for 2 gold sentences"
        );
    }
}

//! Scores of tagging by spans, equal to seqeval 1.2.2's to the last bit.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize, Serializer};

use super::classification::ClassScores;
use super::mean::{as_map, check_length, mean, ratio, weighted_mean};
use super::resample::Tally;
use crate::error::Result;
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanScores {
    /// How tags were read as spans. What is written does not say the scheme of the strict mode: it
    /// reads back as the default mode, which is a run's.
    #[serde(skip_deserializing)]
    pub mode: SpanMode,
    /// Right spans among the predicted ones.
    pub span_precision_micro: f64,
    /// Right spans among the gold ones.
    pub span_recall_micro: f64,
    /// Harmonic mean of both.
    pub span_f1_micro: f64,
    /// Mean precision of the types that occur in gold or predictions.
    pub span_precision_macro: f64,
    /// Mean recall of the same types.
    pub span_recall_macro: f64,
    /// Mean F1 of the same types.
    pub span_f1_macro: f64,
    /// Mean precision weighted by the gold spans of each type.
    pub span_precision_weighted: f64,
    /// Mean recall weighted in the same way.
    pub span_recall_weighted: f64,
    /// Mean F1 weighted in the same way.
    pub span_f1_weighted: f64,
    /// Right tags among all.
    pub token_accuracy: f64,
    /// Tags.
    pub tokens: usize,
    /// Right tags.
    pub correct_tokens: usize,
    /// Scores by type, sorted by name.
    #[serde(with = "as_map")]
    pub per_type: Vec<(String, ClassScores)>,
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
        Ok(SpanTally::new(gold, predicted, mode)?.scores())
    }

    /// The scores of the whole by their JSON keys.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("span_precision_micro", self.span_precision_micro),
            ("span_recall_micro", self.span_recall_micro),
            ("span_f1_micro", self.span_f1_micro),
            ("span_precision_macro", self.span_precision_macro),
            ("span_recall_macro", self.span_recall_macro),
            ("span_f1_macro", self.span_f1_macro),
            ("span_precision_weighted", self.span_precision_weighted),
            ("span_recall_weighted", self.span_recall_weighted),
            ("span_f1_weighted", self.span_f1_weighted),
            ("token_accuracy", self.token_accuracy),
        ]
    }
}

/// What a tagger got right in each sentence.
#[derive(Debug, Clone)]
pub struct SpanTally {
    mode: SpanMode,
    /// Sorted.
    types: Vec<String>,
    tally: Tally,
}

/// Counts of a sentence: its tags, the right ones, and for each type three from `TYPES` on.
const TAGS: usize = 0;
const RIGHT_TAGS: usize = 1;
const TYPES: usize = 2;
/// Of a type: right, predicted and gold spans.
const PER_TYPE: usize = 3;

impl SpanTally {
    /// Counts tags, sentence by sentence.
    ///
    /// # Errors
    /// As [`SpanScores::compute`].
    pub fn new<G: AsRef<str>, P: AsRef<str>>(
        gold: &[Vec<G>],
        predicted: &[Vec<P>],
        mode: SpanMode,
    ) -> Result<Self> {
        let [tally] = Self::of_systems(gold, [predicted], mode)?;
        Ok(tally)
    }

    /// Counts for several taggers of the same sentences, so that their tallies can be compared.
    ///
    /// # Errors
    /// As [`SpanScores::compute`].
    pub fn of_systems<G: AsRef<str>, P: AsRef<str>, const N: usize>(
        gold: &[Vec<G>],
        systems: [&[Vec<P>]; N],
        mode: SpanMode,
    ) -> Result<[Self; N]> {
        for predicted in systems {
            check_length("sentences", None, gold.len(), predicted.len())?;
            for (sentence, (gold, predicted)) in gold.iter().zip(predicted).enumerate() {
                check_length("tags", Some(sentence), gold.len(), predicted.len())?;
            }
        }
        let gold_spans = decode_all(gold, mode)?;
        let mut spans = Vec::with_capacity(N);
        for predicted in systems {
            spans.push(decode_all(predicted, mode)?);
        }
        let types: BTreeSet<&str> = gold_spans
            .iter()
            .chain(spans.iter().flatten())
            .flatten()
            .map(|span| span.entity_type.as_str())
            .collect();
        let types: Vec<&str> = types.into_iter().collect();
        let slot = |span: &Span, count: usize| {
            // Every type is in the list.
            let place = types.binary_search(&span.entity_type.as_str());
            TYPES + PER_TYPE * place.unwrap_or_else(|next| next) + count
        };
        let mut tallies = systems.map(|_| Tally::new(TYPES + PER_TYPE * types.len()));
        for ((tally, predicted), spans) in tallies.iter_mut().zip(systems).zip(&spans) {
            let sentences = gold.iter().zip(predicted).zip(gold_spans.iter().zip(spans));
            for ((gold, predicted), (gold_spans, spans)) in sentences {
                let pairs = gold.iter().zip(predicted);
                let right = pairs.filter(|(g, p)| g.as_ref() == p.as_ref()).count();
                let mut counts = vec![(TAGS, gold.len()), (RIGHT_TAGS, right)];
                counts.extend(
                    gold_spans
                        .intersection(spans)
                        .map(|span| (slot(span, 0), 1)),
                );
                counts.extend(spans.iter().map(|span| (slot(span, 1), 1)));
                counts.extend(gold_spans.iter().map(|span| (slot(span, 2), 1)));
                tally.push(counts);
            }
        }
        Ok(tallies.map(|tally| Self {
            mode,
            types: types.iter().map(|name| name.to_string()).collect(),
            tally,
        }))
    }

    /// The counts, for [`super::bootstrap`] and [`super::compare`].
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Scores of all sentences.
    pub fn scores(&self) -> SpanScores {
        self.scores_of(&self.tally.totals())
    }

    /// Scores of any sums of the counts. Types that occur in neither gold nor predictions are left
    /// out.
    ///
    /// # Panics
    /// If there are fewer sums than counts.
    pub fn scores_of(&self, totals: &[usize]) -> SpanScores {
        let (counts, _) = totals[TYPES..].as_chunks::<PER_TYPE>();
        let mut all = [0; PER_TYPE];
        let mut per_type = Vec::new();
        for (name, counts) in self.types.iter().zip(counts) {
            for (all, count) in all.iter_mut().zip(counts) {
                *all += count;
            }
            let [right, predicted, gold] = *counts;
            if predicted + gold > 0 {
                per_type.push((name.clone(), span_scores(right, predicted, gold)));
            }
        }
        let [right, predicted, gold] = all;
        let all = span_scores(right, predicted, gold);
        let of = |value: fn(&ClassScores) -> f64| -> Vec<f64> {
            per_type.iter().map(|(_, scores)| value(scores)).collect()
        };
        let [precision, recall, f1] = [of(|s| s.precision), of(|s| s.recall), of(|s| s.f1)];
        let support: Vec<usize> = per_type.iter().map(|(_, scores)| scores.support).collect();
        SpanScores {
            mode: self.mode,
            span_precision_micro: all.precision,
            span_recall_micro: all.recall,
            span_f1_micro: all.f1,
            span_precision_macro: mean(&precision),
            span_recall_macro: mean(&recall),
            span_f1_macro: mean(&f1),
            span_precision_weighted: weighted_mean(&precision, &support),
            span_recall_weighted: weighted_mean(&recall, &support),
            span_f1_weighted: weighted_mean(&f1, &support),
            token_accuracy: ratio(totals[RIGHT_TAGS] as f64, totals[TAGS] as f64),
            tokens: totals[TAGS],
            correct_tokens: totals[RIGHT_TAGS],
            per_type,
        }
    }
}

/// seqeval takes F1 from precision and recall, scikit-learn from counts: the last bit differs.
fn span_scores(right: usize, predicted: usize, gold: usize) -> ClassScores {
    let scores = ClassScores::from_counts(right, predicted, gold);
    let ClassScores {
        precision, recall, ..
    } = scores;
    ClassScores {
        f1: ratio(2.0 * precision * recall, precision + recall),
        ..scores
    }
}

fn decode_all<S: AsRef<str>>(sentences: &[Vec<S>], mode: SpanMode) -> Result<Vec<HashSet<Span>>> {
    sentences
        .iter()
        .map(|tags| {
            let spans = match mode {
                SpanMode::Default => decode_spans(tags),
                SpanMode::Strict(scheme) => decode_spans_strict(tags, scheme)?,
            };
            Ok(spans.into_iter().collect())
        })
        .collect()
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

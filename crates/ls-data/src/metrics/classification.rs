//! Scores of single-label classification, equal to scikit-learn's with `zero_division=0`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::mean::{as_map, check_length, mean, ratio, weighted_mean};
use super::probabilities::{ECE_BINS, expected_calibration_error, log_loss};
use super::resample::Tally;
use crate::error::{DataError, Result};
use crate::labels::LabelSet;

/// Most classes of which [`ClassificationScores::confusion`] is kept: its size is their square.
pub const CONFUSION_CLASSES: usize = 1000;

/// Precision, recall and F1 of one class or entity type.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Right predictions among the predictions.
    pub precision: f64,
    /// Right predictions among the gold values.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Gold values.
    pub support: usize,
    /// Predictions.
    pub predicted: usize,
    /// Right predictions.
    pub correct: usize,
}

impl ClassScores {
    pub(super) fn from_counts(right: usize, predicted: usize, gold: usize) -> Self {
        let [r, p, g] = [right, predicted, gold].map(|n| n as f64);
        Self {
            precision: ratio(r, p),
            recall: ratio(r, g),
            f1: ratio(2.0 * r, p + g),
            support: gold,
            predicted,
            correct: right,
        }
    }
}

/// Scores of a classifier over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationScores {
    /// Right predictions among all.
    pub accuracy: f64,
    /// Mean precision of the classes that occur in gold or predictions.
    pub precision_macro: f64,
    /// Mean recall of the same classes.
    pub recall_macro: f64,
    /// Mean F1 of the same classes.
    pub f1_macro: f64,
    /// Precision of all decisions together; with one label per example, the accuracy.
    pub precision_micro: f64,
    /// Recall of all decisions together; with one label per example, the accuracy.
    pub recall_micro: f64,
    /// F1 of all decisions together; with one label per example, the accuracy.
    pub f1_micro: f64,
    /// Mean precision weighted by the gold values of each class.
    pub precision_weighted: f64,
    /// Mean recall weighted in the same way.
    pub recall_weighted: f64,
    /// Mean F1 weighted in the same way.
    pub f1_weighted: f64,
    /// Matthews correlation, for any number of classes.
    pub mcc: f64,
    /// [`log_loss`], in nats, where probabilities are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// [`expected_calibration_error`] in [`ECE_BINS`] bins, where probabilities are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// Scores by class name, in label order, absent classes included.
    #[serde(with = "as_map")]
    pub per_class: Vec<(String, ClassScores)>,
    /// `confusion[gold][predicted]`, in label order; left out (empty) above [`CONFUSION_CLASSES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<usize>>,
}

impl ClassificationScores {
    /// Compares class ids; `names` are the classes in the order of their ids.
    ///
    /// # Errors
    /// `gold` and `predicted` differ in length, or an id is past `names`.
    pub fn compute(gold: &[usize], predicted: &[usize], names: &[String]) -> Result<Self> {
        Ok(ClassTally::new(gold, predicted, names)?.scores())
    }

    /// As [`ClassificationScores::compute`], with what the probabilities of every class say: one
    /// row per example, in the order of `names`.
    ///
    /// # Errors
    /// Also those of [`log_loss`].
    pub fn with_probabilities(
        gold: &[usize],
        predicted: &[usize],
        probabilities: &[Vec<f64>],
        names: &[String],
    ) -> Result<Self> {
        let ece = expected_calibration_error(probabilities, predicted, gold, ECE_BINS)?;
        Ok(Self {
            log_loss: Some(log_loss(probabilities, gold)?),
            ece: Some(ece),
            ..Self::compute(gold, predicted, names)?
        })
    }

    /// The scores of the whole by their JSON keys, without those of probabilities.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("accuracy", self.accuracy),
            ("precision_macro", self.precision_macro),
            ("recall_macro", self.recall_macro),
            ("f1_macro", self.f1_macro),
            ("precision_micro", self.precision_micro),
            ("recall_micro", self.recall_micro),
            ("f1_micro", self.f1_micro),
            ("precision_weighted", self.precision_weighted),
            ("recall_weighted", self.recall_weighted),
            ("f1_weighted", self.f1_weighted),
            ("mcc", self.mcc),
        ]
    }
}

/// What a classifier answered to each example: one cell of the confusion matrix, or one for each
/// word. Only cells that occur are counted, so that memory grows with the answers, not with the
/// square of the classes.
#[derive(Debug, Clone)]
pub struct ClassTally {
    names: Vec<String>,
    /// Gold and predicted class of each count, for several systems the same.
    cells: Arc<Vec<(usize, usize)>>,
    tally: Tally,
}

impl ClassTally {
    /// Counts class ids; `names` are the classes in the order of their ids.
    ///
    /// # Errors
    /// As [`ClassificationScores::compute`].
    pub fn new(gold: &[usize], predicted: &[usize], names: &[String]) -> Result<Self> {
        let [tally] = Self::of_systems(gold, [predicted], names)?;
        Ok(tally)
    }

    /// Counts the class ids of several systems, to be compared.
    ///
    /// # Errors
    /// As [`ClassTally::new`].
    pub fn of_systems<const N: usize>(
        gold: &[usize],
        systems: [&[usize]; N],
        names: &[String],
    ) -> Result<[Self; N]> {
        let count = names.len();
        for predicted in systems {
            check_length("examples", None, gold.len(), predicted.len())?;
            let mut ids = gold.iter().chain(predicted).copied();
            if let Some(id) = ids.find(|id| *id >= count) {
                return Err(DataError::ClassId { id, count });
            }
        }
        let pairs = |predicted: &[usize]| -> Vec<Vec<(usize, usize)>> {
            let pairs = gold.iter().copied().zip(predicted.iter().copied());
            pairs.map(|pair| vec![pair]).collect()
        };
        Ok(Self::of_pairs(systems.map(pairs), names))
    }

    /// Counts pairs of gold and predicted classes, by example.
    fn of_pairs<const N: usize>(
        systems: [Vec<Vec<(usize, usize)>>; N],
        names: &[String],
    ) -> [Self; N] {
        let cells: BTreeSet<(usize, usize)> = systems.iter().flatten().flatten().copied().collect();
        let slots: BTreeMap<(usize, usize), usize> = cells.iter().copied().zip(0..).collect();
        let cells = Arc::new(cells.into_iter().collect::<Vec<_>>());
        systems.map(|examples| {
            let mut tally = Tally::new(cells.len());
            for pairs in examples {
                tally.push(pairs.iter().map(|pair| (slots[pair], 1)));
            }
            Self {
                names: names.to_vec(),
                cells: cells.clone(),
                tally,
            }
        })
    }

    /// Counts the labels of words for several systems, sentence by sentence: a sentence is an
    /// example, so that resampling keeps its words together. The classes are `names`, and behind
    /// them what else occurs.
    ///
    /// # Errors
    /// The numbers of sentences or of labels in a sentence differ; there is no label at all.
    pub fn of_words<G: AsRef<str>, P: AsRef<str>, const N: usize>(
        gold: &[Vec<G>],
        systems: [&[Vec<P>]; N],
        names: &[String],
    ) -> Result<[Self; N]> {
        let mut rest: BTreeSet<&str> = gold.iter().flatten().map(AsRef::as_ref).collect();
        for predicted in systems {
            check_length("sentences", None, gold.len(), predicted.len())?;
            for (sentence, (gold, predicted)) in gold.iter().zip(predicted).enumerate() {
                check_length("tags", Some(sentence), gold.len(), predicted.len())?;
            }
            rest.extend(predicted.iter().flatten().map(AsRef::as_ref));
        }
        for name in names {
            rest.remove(name.as_str());
        }
        let mut all = names.to_vec();
        if !rest.is_empty() {
            all.extend(Vec::from(LabelSet::of_tags(rest)?));
        }
        let classes = LabelSet::from_names(all)?;
        // Every label is among the classes.
        let id = |label: &str| classes.id(label).unwrap_or_default();
        let pairs = systems.map(|predicted| {
            let sentences = gold.iter().zip(predicted);
            let pairs = sentences.map(|(gold, predicted)| {
                let words = gold.iter().zip(predicted);
                words
                    .map(|(g, p)| (id(g.as_ref()), id(p.as_ref())))
                    .collect()
            });
            pairs.collect()
        });
        Ok(Self::of_pairs(pairs, classes.names()))
    }

    /// The counts, for [`super::bootstrap`] and [`super::compare`].
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Scores of all examples.
    pub fn scores(&self) -> ClassificationScores {
        self.scores_of(&self.tally.totals())
    }

    /// Scores of any sums of the counts.
    ///
    /// # Panics
    /// If there are fewer sums than counts.
    pub fn scores_of(&self, totals: &[usize]) -> ClassificationScores {
        let count = self.names.len();
        let mut confusion = match count {
            0..=CONFUSION_CLASSES => vec![vec![0; count]; count],
            _ => Vec::new(),
        };
        let [mut gold, mut predicted, mut right] = [(); 3].map(|()| vec![0; count]);
        for (slot, (g, p)) in self.cells.iter().enumerate() {
            let total = totals[slot];
            gold[*g] += total;
            predicted[*p] += total;
            if g == p {
                right[*g] += total;
            }
            if let Some(row) = confusion.get_mut(*g) {
                row[*p] = total;
            }
        }
        let scores: Vec<ClassScores> = (0..count)
            .map(|c| ClassScores::from_counts(right[c], predicted[c], gold[c]))
            .collect();

        let present = || scores.iter().filter(|s| s.support + s.predicted > 0);
        let of = |value: fn(&ClassScores) -> f64| present().map(value).collect::<Vec<f64>>();
        let [precision, recall, f1] = [of(|s| s.precision), of(|s| s.recall), of(|s| s.f1)];
        let support: Vec<usize> = present().map(|s| s.support).collect();
        let total = gold.iter().sum::<usize>() as f64;
        let accuracy = ratio(right.iter().sum::<usize>() as f64, total);
        ClassificationScores {
            accuracy,
            precision_macro: mean(&precision),
            recall_macro: mean(&recall),
            f1_macro: mean(&f1),
            precision_micro: accuracy,
            recall_micro: accuracy,
            f1_micro: accuracy,
            precision_weighted: weighted_mean(&precision, &support),
            recall_weighted: weighted_mean(&recall, &support),
            f1_weighted: weighted_mean(&f1, &support),
            mcc: matthews(&right, &gold, &predicted),
            log_loss: None,
            ece: None,
            per_class: self.names.iter().cloned().zip(scores).collect(),
            confusion,
        }
    }
}

/// The generalisation of the Matthews correlation to many classes that scikit-learn uses.
fn matthews(right: &[usize], gold: &[usize], predicted: &[usize]) -> f64 {
    let dot = |a: &[usize], b: &[usize]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| *a as f64 * *b as f64)
            .sum::<f64>()
    };
    let total = gold.iter().sum::<usize>() as f64;
    let both = right.iter().sum::<usize>() as f64 * total - dot(gold, predicted);
    let spread = |counts: &[usize]| total * total - dot(counts, counts);
    ratio(both, (spread(gold) * spread(predicted)).sqrt())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("c{i}")).collect()
    }

    #[test]
    fn json_has_the_keys_and_the_label_order() {
        let scores = ClassificationScores::compute(&[0, 1, 1], &[0, 1, 0], &names(3)).unwrap();
        let json = serde_json::to_string(&scores).unwrap();
        assert!(
            json.contains(r#""per_class":{"c0":{"precision":0.5,"recall":1.0,"#),
            "{json}"
        );
        assert!(
            json.contains(r#""confusion":[[1,0,0],[1,1,0],[0,0,0]]"#),
            "{json}"
        );
    }

    #[test]
    fn many_classes_take_no_square_of_memory() {
        // Each word has a class of its own; of two sentences one is labelled wrongly.
        let count = 100_000;
        let labels: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
        let gold = [labels[..count / 2].to_vec(), labels[count / 2..].to_vec()];
        let predicted = [gold[0].clone(), vec![labels[0].clone(); count / 2]];
        let [tally, right] = ClassTally::of_words(&gold, [&predicted, &gold], &[]).unwrap();
        let scores = tally.scores();
        assert_eq!(scores.accuracy, 0.5);
        assert_eq!(scores.per_class.len(), count);
        assert_eq!(scores.confusion, Vec::<Vec<usize>>::new());
        let json = serde_json::to_value(&scores).unwrap();
        assert_eq!(json.get("confusion"), None);
        assert_eq!(right.scores().accuracy, 1.0);
        // The same counts mean the same in both: systems can change sides.
        assert_eq!(tally.scores_of(&right.tally().totals()).accuracy, 1.0);
    }

    #[test]
    fn nothing_scores_zero_and_bad_input_is_an_error() {
        let scores = ClassificationScores::compute(&[], &[], &names(2)).unwrap();
        assert_eq!(
            (scores.accuracy, scores.f1_macro, scores.mcc),
            (0.0, 0.0, 0.0)
        );
        let scores = |gold: &[usize], predicted: &[usize]| {
            ClassificationScores::compute(gold, predicted, &names(2)).unwrap_err()
        };
        assert_eq!(
            scores(&[0], &[]).to_string(),
            "0 predictions for 1 gold examples"
        );
        assert_eq!(
            scores(&[0], &[2]).to_string(),
            "class 2 is past the 2 labels"
        );
    }
}

//! Scores of single-label classification, equal to scikit-learn's with `zero_division=0`.

use serde::Serialize;

use super::{as_map, mean, ratio};
use crate::error::{DataError, Result};

/// Precision, recall and F1 of one class or entity type.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassScores {
    /// Right predictions among the predictions.
    pub precision: f64,
    /// Right predictions among the gold values.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Gold values.
    pub support: usize,
}

impl ClassScores {
    pub(super) fn from_counts(right: usize, predicted: usize, gold: usize) -> Self {
        let [right, predicted, total] = [right, predicted, gold].map(|n| n as f64);
        Self {
            precision: ratio(right, predicted),
            recall: ratio(right, total),
            f1: ratio(2.0 * right, predicted + total),
            support: gold,
        }
    }
}

/// Scores of a classifier over a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassificationScores {
    /// Right predictions among all.
    pub accuracy: f64,
    /// Mean F1 of the classes that occur in gold or predictions.
    pub f1_macro: f64,
    /// F1 of all decisions together; with one label per example, the accuracy.
    pub f1_micro: f64,
    /// Mean F1 weighted by the gold values of each class.
    pub f1_weighted: f64,
    /// Matthews correlation, for any number of classes.
    pub mcc: f64,
    /// Scores by class name, in label order, absent classes included.
    #[serde(serialize_with = "as_map")]
    pub per_class: Vec<(String, ClassScores)>,
    /// `confusion[gold][predicted]`, in label order.
    pub confusion: Vec<Vec<usize>>,
}

impl ClassificationScores {
    /// Compares class ids; `names` are the classes in the order of their ids.
    ///
    /// # Errors
    /// `gold` and `predicted` differ in length, or an id is past `names`.
    pub fn compute(gold: &[usize], predicted: &[usize], names: &[String]) -> Result<Self> {
        if gold.len() != predicted.len() {
            return Err(DataError::ScoreLength {
                what: "examples",
                sentence: None,
                found: predicted.len(),
                expected: gold.len(),
            });
        }
        let count = names.len();
        if let Some(id) = gold
            .iter()
            .chain(predicted)
            .copied()
            .find(|id| *id >= count)
        {
            return Err(DataError::ClassId { id, count });
        }
        let mut confusion = vec![vec![0; count]; count];
        for (g, p) in gold.iter().zip(predicted) {
            confusion[*g][*p] += 1;
        }
        Ok(Self::from_confusion(confusion, names))
    }

    fn from_confusion(confusion: Vec<Vec<usize>>, names: &[String]) -> Self {
        let classes = 0..names.len();
        let gold: Vec<usize> = confusion.iter().map(|row| row.iter().sum()).collect();
        let predicted: Vec<usize> = classes
            .clone()
            .map(|c| confusion.iter().map(|row| row[c]).sum())
            .collect();
        let right: Vec<usize> = classes.clone().map(|c| confusion[c][c]).collect();
        let scores: Vec<ClassScores> = classes
            .clone()
            .map(|c| ClassScores::from_counts(right[c], predicted[c], gold[c]))
            .collect();

        let total = gold.iter().sum::<usize>() as f64;
        let accuracy = ratio(right.iter().sum::<usize>() as f64, total);
        let present = classes.filter(|c| gold[*c] + predicted[*c] > 0);
        Self {
            accuracy,
            f1_macro: mean(present.map(|c| scores[c].f1)),
            f1_micro: accuracy,
            f1_weighted: ratio(scores.iter().map(|s| s.f1 * s.support as f64).sum(), total),
            mcc: matthews(&right, &gold, &predicted),
            per_class: names.iter().cloned().zip(scores).collect(),
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

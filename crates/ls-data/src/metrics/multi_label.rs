//! Scores of multi-label classification, where any number of labels may hold, equal to
//! scikit-learn's with `zero_division=0`.

use serde::{Deserialize, Serialize};

use super::classification::ClassScores;
use super::mean::{as_map, check_length, mean, ratio, weighted_mean};
use crate::error::{DataError, Result};

/// Scores of a multi-label classifier over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelScores {
    /// Examples whose labels are exactly the gold ones, among all (`accuracy_score`).
    pub subset_accuracy: f64,
    /// Mean precision of the labels.
    pub precision_macro: f64,
    /// Mean recall of the labels.
    pub recall_macro: f64,
    /// Mean F1 of the labels.
    pub f1_macro: f64,
    /// Precision of all decisions together.
    pub precision_micro: f64,
    /// Recall of all decisions together.
    pub recall_micro: f64,
    /// F1 of all decisions together.
    pub f1_micro: f64,
    /// Mean precision weighted by the examples of each label.
    pub precision_weighted: f64,
    /// Mean recall weighted in the same way.
    pub recall_weighted: f64,
    /// Mean F1 weighted in the same way.
    pub f1_weighted: f64,
    /// Mean of [`MultiLabelScores::average_precision`] over the labels (mAP).
    pub average_precision_macro: f64,
    /// Average precision of all decisions together.
    pub average_precision_micro: f64,
    /// Scores by label, in label order.
    #[serde(with = "as_map")]
    pub per_class: Vec<(String, ClassScores)>,
    /// [`average_precision`] by label, in label order.
    #[serde(with = "as_map")]
    pub average_precision: Vec<(String, f64)>,
}

/// What is known of an example once it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelAnswer {
    /// Its labels, as ids.
    pub gold: Vec<usize>,
    /// The labels that were found.
    pub predicted: Vec<usize>,
    /// The score of every label.
    pub probabilities: Vec<f64>,
}

impl MultiLabelScores {
    /// Scores of answers; `names` are the labels in the order of their ids.
    ///
    /// # Errors
    /// As [`MultiLabelScores::compute`].
    pub fn of_answers(answers: Vec<MultiLabelAnswer>, names: &[String]) -> Result<Self> {
        let (mut gold, mut predicted, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
        for answer in answers {
            gold.push(answer.gold);
            predicted.push(answer.predicted);
            probabilities.push(answer.probabilities);
        }
        Self::compute(&gold, &predicted, &probabilities, names)
    }

    /// Compares the labels of each example, as ids; `probabilities` has a row per example with the
    /// score of every label, and `names` are the labels in the order of their ids.
    ///
    /// # Errors
    /// The numbers of examples, or of labels in a row, differ; an id is past `names`.
    pub fn compute(
        gold: &[Vec<usize>],
        predicted: &[Vec<usize>],
        probabilities: &[Vec<f64>],
        names: &[String],
    ) -> Result<Self> {
        check_length("examples", None, gold.len(), predicted.len())?;
        check_length("examples", None, gold.len(), probabilities.len())?;
        let count = names.len();
        if let Some(example) = probabilities.iter().position(|row| row.len() != count) {
            let (found, expected) = (probabilities[example].len(), count);
            return Err(DataError::ProbabilityCount {
                example,
                found,
                expected,
            });
        }
        let mut ids = gold.iter().chain(predicted).flatten();
        if let Some(id) = ids.find(|id| **id >= count) {
            return Err(DataError::ClassId { id: *id, count });
        }
        // Columns: of each label whether it is gold, and whether it is predicted.
        let column = |side: &[Vec<usize>], label: usize| -> Vec<bool> {
            side.iter().map(|labels| labels.contains(&label)).collect()
        };
        let columns: Vec<[Vec<bool>; 2]> = (0..count)
            .map(|label| [column(gold, label), column(predicted, label)])
            .collect();
        let counts: Vec<[usize; 3]> = columns.iter().map(counted).collect();
        let of =
            |[right, predicted, gold]: [usize; 3]| ClassScores::from_counts(right, predicted, gold);
        let scores: Vec<ClassScores> = counts.iter().copied().map(of).collect();
        let all = of([0, 1, 2].map(|at| counts.iter().map(|count| count[at]).sum()));

        let score =
            |label: usize| -> Vec<f64> { probabilities.iter().map(|row| row[label]).collect() };
        let average: Vec<f64> = columns
            .iter()
            .enumerate()
            .map(|(label, [gold, _])| average_precision(&score(label), gold))
            .collect();
        let flat: Vec<f64> = (0..count).flat_map(score).collect();
        let gold_flat: Vec<bool> = columns.iter().flat_map(|[gold, _]| gold.clone()).collect();

        let right = (0..gold.len()).filter(|at| {
            let mut columns = columns.iter();
            columns.all(|[gold, predicted]| gold[*at] == predicted[*at])
        });
        let values = |value: fn(&ClassScores) -> f64| scores.iter().map(value).collect();
        let [precision, recall, f1]: [Vec<f64>; 3] = [
            values(|score| score.precision),
            values(|score| score.recall),
            values(|score| score.f1),
        ];
        let support: Vec<usize> = scores.iter().map(|score| score.support).collect();
        Ok(Self {
            subset_accuracy: ratio(right.count() as f64, gold.len() as f64),
            precision_macro: mean(&precision),
            recall_macro: mean(&recall),
            f1_macro: mean(&f1),
            precision_micro: all.precision,
            recall_micro: all.recall,
            f1_micro: all.f1,
            precision_weighted: weighted_mean(&precision, &support),
            recall_weighted: weighted_mean(&recall, &support),
            f1_weighted: weighted_mean(&f1, &support),
            average_precision_macro: mean(&average),
            average_precision_micro: average_precision(&flat, &gold_flat),
            per_class: names.iter().cloned().zip(scores).collect(),
            average_precision: names.iter().cloned().zip(average).collect(),
        })
    }

    /// The scores of the whole by their JSON keys.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("subset_accuracy", self.subset_accuracy),
            ("precision_macro", self.precision_macro),
            ("recall_macro", self.recall_macro),
            ("f1_macro", self.f1_macro),
            ("precision_micro", self.precision_micro),
            ("recall_micro", self.recall_micro),
            ("f1_micro", self.f1_micro),
            ("precision_weighted", self.precision_weighted),
            ("recall_weighted", self.recall_weighted),
            ("f1_weighted", self.f1_weighted),
            ("average_precision_macro", self.average_precision_macro),
            ("average_precision_micro", self.average_precision_micro),
        ]
    }
}

/// Of a label the examples that have it in both, in the prediction, and in gold.
fn counted([gold, predicted]: &[Vec<bool>; 2]) -> [usize; 3] {
    let count = |side: &[bool]| side.iter().filter(|holds| **holds).count();
    let both = gold.iter().zip(predicted).filter(|(g, p)| **g && **p);
    [both.count(), count(predicted), count(gold)]
}

/// A point at which scores are cut in two: those of it or higher, and the rest.
struct Cut {
    /// The lowest score that is above the cut.
    score: f64,
    /// Examples above it.
    above: usize,
    /// Of them those that have the label.
    right: usize,
}

/// The cuts between different scores, from the highest down.
fn cuts(scores: &[f64], gold: &[bool]) -> Vec<Cut> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut cuts: Vec<Cut> = Vec::new();
    let mut right = 0;
    for (at, &example) in order.iter().enumerate() {
        right += usize::from(gold[example]);
        let cut = Cut {
            score: scores[example],
            above: at + 1,
            right,
        };
        match cuts.last_mut() {
            Some(last) if last.score == cut.score => *last = cut,
            _ => cuts.push(cut),
        }
    }
    cuts
}

/// Average precision of the scores of one label: the precision at each different score, weighted by
/// the recall that is won there. As `sklearn.metrics.average_precision_score`; 0 where no example
/// has the label.
///
/// # Panics
/// If `gold` is shorter than `scores`.
pub fn average_precision(scores: &[f64], gold: &[bool]) -> f64 {
    let all = gold.iter().filter(|holds| **holds).count();
    let (mut sum, mut before) = (0.0, 0);
    for cut in cuts(scores, gold) {
        let won = ratio((cut.right - before) as f64, all as f64);
        sum += won * ratio(cut.right as f64, cut.above as f64);
        before = cut.right;
    }
    // Parts of 1 may add up to more in the last digit.
    sum.min(1.0)
}

/// The threshold from which on a label holds for the best F1 on these examples. It lies halfway
/// between two scores (or between the lowest and 0), so that a score may move in its last digits;
/// of several that are equally good the one nearest to 0.5 is taken. 0.5 where no example has the
/// label: any other would be learnt from nothing.
///
/// # Panics
/// If `gold` is shorter than `scores`.
pub fn best_f1_threshold(scores: &[f64], gold: &[bool]) -> f64 {
    const UNTUNED: f64 = 0.5;
    let all = gold.iter().filter(|holds| **holds).count();
    if all == 0 {
        return UNTUNED;
    }
    let cuts = cuts(scores, gold);
    let f1 = |cut: &Cut| ratio(2.0 * cut.right as f64, (cut.above + all) as f64);
    let most = cuts.iter().map(f1).fold(0.0, f64::max);
    let threshold = |at: usize| {
        let below = cuts.get(at + 1).map_or(0.0, |next| next.score);
        // 0.5 itself where it parts the same examples.
        if below < UNTUNED && UNTUNED <= cuts[at].score {
            UNTUNED
        } else {
            // It is kept in f32, in which it has to be above the lower score still.
            let middle = (cuts[at].score + below) / 2.0;
            let parts = f64::from(middle as f32) > below;
            if parts { middle } else { cuts[at].score }
        }
    };
    let best = (0..cuts.len()).filter(|at| f1(&cuts[*at]) == most);
    let from_half = |value: &f64| (value - UNTUNED).abs();
    let nearest = best
        .map(threshold)
        .min_by(|a, b| from_half(a).total_cmp(&from_half(b)));
    nearest.unwrap_or(UNTUNED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_lies_between_the_scores_that_it_parts() {
        let gold = [true, true, false, false];
        // Both that have it are above both that have not; 0.5 parts them too.
        assert_eq!(best_f1_threshold(&[0.9, 0.6, 0.4, 0.1], &gold), 0.5);
        assert_eq!(best_f1_threshold(&[0.4, 0.3, 0.1, 0.05], &gold), 0.2);
        assert!((best_f1_threshold(&[0.9, 0.8, 0.7, 0.6], &gold) - 0.75).abs() < 1e-12);
        // Every example has it: all of them, down to 0.
        assert_eq!(best_f1_threshold(&[0.2, 0.1], &[true, true]), 0.05);
        // None has it, or there are none.
        assert_eq!(best_f1_threshold(&[0.9, 0.8], &[false, false]), 0.5);
        assert_eq!(best_f1_threshold(&[], &[]), 0.5);
        // Two neighbours among f32, whose middle would round down to the lower one.
        for bits in 0.25f32.to_bits()..0.25f32.to_bits() + 2 {
            let [first, next] = [bits, bits + 1].map(f32::from_bits);
            let scores = [next, first].map(f64::from);
            let found = best_f1_threshold(&scores, &[true, false]) as f32;
            assert!(found > first && found <= next, "{first}: {found}");
        }
        // Equal scores are not parted.
        let found = best_f1_threshold(&[0.7, 0.7, 0.2], &[true, false, false]);
        assert_eq!(found, 0.5);
    }

    #[test]
    fn lists_that_do_not_fit_together_are_refused() {
        let names = ["a".to_string(), "b".to_string()];
        let compute = |gold: &[Vec<usize>], predicted: &[Vec<usize>], rows: &[Vec<f64>]| {
            let error = MultiLabelScores::compute(gold, predicted, rows, &names);
            error.unwrap_err().to_string()
        };
        let one = [vec![0]];
        let row = [vec![0.5, 0.5]];
        assert_eq!(
            compute(&one, &[], &row),
            "0 predictions for 1 gold examples"
        );
        assert_eq!(
            compute(&one, &[vec![2]], &row),
            "class 2 is past the 2 labels"
        );
        assert_eq!(
            compute(&one, &one, &[vec![0.5]]),
            "example 0 has 1 probabilities, expected 2"
        );
    }
}

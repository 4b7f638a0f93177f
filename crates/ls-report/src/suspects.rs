//! Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068): which given labels are
//! likely wrong, by probabilities of models that did not learn from them.

use serde::{Deserialize, Serialize};

/// What cleanlab allows a probability to lack of a threshold, so that rounding hides no example.
const ROUNDING: f64 = 1e-6;

/// How often examples that are labelled as one class are confidently of another.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidentJoint {
    /// Of each class the mean probability that examples labelled so have of it; nothing of a class
    /// without examples.
    pub thresholds: Vec<Option<f64>>,
    /// `counts[given][likely]`: examples by the label that they have and the most probable class
    /// among those whose threshold they reach.
    pub counts: Vec<Vec<usize>>,
    /// Numbers of the examples that are likely labelled wrong, with the class that is likelier:
    /// those off the diagonal of the counts for which the given label is not the most probable
    /// class, the least probable given label first.
    pub suspects: Vec<(usize, usize)>,
}

impl ConfidentJoint {
    /// Of the labels that examples have, and of the probabilities of every class.
    ///
    /// # Panics
    ///
    /// If there are not as many rows as labels, or a label is past its row.
    pub fn new(given: &[usize], probabilities: &[Vec<f64>]) -> Self {
        assert_eq!(given.len(), probabilities.len(), "a row for each label");
        let classes = probabilities.first().map_or(0, Vec::len);
        let (mut sums, mut sizes) = (vec![0.0; classes], vec![0usize; classes]);
        for (label, row) in given.iter().zip(probabilities) {
            sums[*label] += row[*label];
            sizes[*label] += 1;
        }
        let means = sums.iter().zip(&sizes);
        let thresholds: Vec<Option<f64>> = means
            .map(|(sum, size)| (*size > 0).then(|| sum / *size as f64))
            .collect();
        let mut counts = vec![vec![0; classes]; classes];
        let mut suspects = Vec::new();
        for (example, (label, row)) in given.iter().zip(probabilities).enumerate() {
            let reaches = |class: &usize| {
                thresholds[*class].is_some_and(|threshold| row[*class] >= threshold - ROUNDING)
            };
            let Some(likely) = largest(row, (0..classes).filter(reaches)) else {
                continue;
            };
            counts[*label][likely] += 1;
            if likely != *label && largest(row, 0..classes) != Some(*label) {
                suspects.push((example, likely));
            }
        }
        // Stable, so that equal ones stay in the order of the data.
        suspects.sort_by(|(a, _), (b, _)| {
            let own = |example: usize| probabilities[example][given[example]];
            own(*a).total_cmp(&own(*b))
        });
        Self {
            thresholds,
            counts,
            suspects,
        }
    }

    /// How many of all labels are likely wrong: what lies off the diagonal of the counts once each
    /// row is scaled to the examples with its label, so that those that reach no threshold count as
    /// the others do.
    pub fn estimated_errors(&self, given: &[usize]) -> f64 {
        let rows = self.counts.iter().enumerate().map(|(label, row)| {
            let size = given.iter().filter(|given| **given == label).count() as f64;
            let total: usize = row.iter().sum();
            match total {
                0 => 0.0,
                total => size * (total - row[label]) as f64 / total as f64,
            }
        });
        rows.sum()
    }
}

/// The first of the classes with the largest probability.
fn largest(row: &[f64], classes: impl Iterator<Item = usize>) -> Option<usize> {
    classes.fold(None, |best: Option<usize>, class| match best {
        Some(best) if row[best] >= row[class] => Some(best),
        _ => Some(class),
    })
}

/// Labels of a training split that are likely wrong: `label_errors.json` of a run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspects {
    /// Parts of the training split, each labelled by a model that learnt from the others.
    pub folds: usize,
    /// Examples that were looked at: texts, or words of a tagger.
    pub examples: usize,
    /// How many labels are likely wrong, by [`ConfidentJoint::estimated_errors`].
    pub estimated_errors: f64,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// [`ConfidentJoint::thresholds`], in their order.
    pub thresholds: Vec<Option<f64>>,
    /// [`ConfidentJoint::counts`], in their order.
    pub confident_joint: Vec<Vec<usize>>,
    /// The labels that are likely wrong, the likeliest first.
    pub found: Vec<Suspect>,
}

/// A label that is likely wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The file of the example.
    pub file: String,
    /// Its line there, from 1.
    pub line: usize,
    /// The text; of a tagger the words with spaces between them.
    pub text: String,
    /// The second text of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// Number of the word, from 0, and the word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<(usize, String)>,
    /// The label that it has.
    pub given: String,
    /// The one that is likelier.
    pub suggested: String,
    /// Probability of the label that it has.
    pub score_given: f64,
    /// Probability of the one that is likelier.
    pub score_suggested: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_the_threshold_of_another_class_is_suspect() {
        let given = [0, 0, 0, 1, 1, 1];
        let rows = [
            [0.9, 0.1],
            [0.8, 0.2],
            // Called 0, and surer of 1 than those that are called 1.
            [0.05, 0.95],
            [0.2, 0.8],
            [0.45, 0.55],
            // More probably 0, but less than those that are called 0.
            [0.52, 0.48],
        ];
        let rows = rows.map(Vec::from);
        let joint = ConfidentJoint::new(&given, &rows);
        let thresholds = [(0.9 + 0.8 + 0.05) / 3.0, (0.8 + 0.55 + 0.48) / 3.0];
        for (found, expected) in joint.thresholds.iter().zip(thresholds) {
            assert!((found.unwrap() - expected).abs() < 1e-12);
        }
        // Thresholds 0.583 and 0.61: 0.55 and 0.52 reach none.
        assert_eq!(joint.counts, [[2, 1], [0, 1]]);
        assert_eq!(joint.suspects, [(2, 1)]);
        assert!((joint.estimated_errors(&given) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_class_without_examples_is_never_likelier() {
        let joint = ConfidentJoint::new(&[0, 0], &[vec![0.6, 0.4], vec![0.0, 1.0]]);
        assert_eq!(joint.thresholds[1], None);
        assert_eq!(joint.counts, [[1, 0], [0, 0]]);
        assert!(joint.suspects.is_empty());
        let none = ConfidentJoint::new(&[], &[]);
        assert!(none.suspects.is_empty() && none.estimated_errors(&[]) == 0.0);
    }
}

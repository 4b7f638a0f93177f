//! [`Decision`]: the scores of one example, or of one word.

use crate::problem::FunctionToApply;

/// Scores of every label for one unit: an example, or a word.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The label with the highest score.
    pub label: usize,
    /// Its score.
    pub score: f32,
    /// Of each label, in the label set's order: its probability, or the value of a regression.
    pub probabilities: Vec<f32>,
}

impl Decision {
    /// The scores of the logits of one unit, and their largest entry.
    pub(crate) fn of(logits: &[f32], function: FunctionToApply) -> Self {
        let probabilities = match function {
            FunctionToApply::Softmax => softmax(logits),
            FunctionToApply::Sigmoid => {
                let sigmoid = |logit: &f32| 1.0 / (1.0 + (-logit).exp());
                logits.iter().map(sigmoid).collect()
            }
            FunctionToApply::None => logits.to_vec(),
        };
        let label = (0..logits.len())
            .rev()
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap_or(0);
        Self {
            label,
            score: probabilities.get(label).copied().unwrap_or(0.0),
            probabilities,
        }
    }

    /// The score of its label before the logits were divided by a temperature, where scores are
    /// probabilities of all labels: powers of them, which add up to 1 again.
    pub(crate) fn untempered(&self, temperature: f32) -> f32 {
        let most = self.probabilities.iter().copied().fold(0.0, f32::max);
        // From the largest, so that not all of them vanish.
        let power = |p: f32| f64::from(p / most).powf(f64::from(temperature));
        let total: f64 = self.probabilities.iter().copied().map(power).sum();
        (power(self.score) / total) as f32
    }

    /// The same scores with another label than the one with the highest.
    pub(crate) fn of_label(self, label: usize) -> Self {
        let score = self.probabilities.get(label).copied().unwrap_or(0.0);
        Self {
            label,
            score,
            ..self
        }
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let total: f32 = exponentials.iter().sum();
    exponentials.iter().map(|value| value / total).collect()
}

//! [`Reliability`]: how often answers are right by how sure they are, before a temperature and
//! after it (Guo et al. 2017, "On calibration of modern neural networks").

use ls_data::{ECE_BINS, TEMPERATURES};

use crate::answers::Answers;

/// Answers that are about as sure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bin {
    pub(crate) count: usize,
    /// Mean probability of the answers.
    pub(crate) confidence: f64,
    /// Part of them that is right.
    pub(crate) right: f64,
}

/// Bins of equal width over the probability of the answer, open below and closed above.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reliability {
    pub(crate) bins: Vec<Bin>,
    pub(crate) count: usize,
}

impl Reliability {
    /// Of answers: how sure each is, and whether it is right.
    fn of(answers: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut bins = vec![Bin::default(); ECE_BINS];
        let mut count = 0;
        for (confidence, right) in answers {
            let at = (confidence * ECE_BINS as f64).ceil() as usize;
            let bin = &mut bins[at.clamp(1, ECE_BINS) - 1];
            bin.count += 1;
            bin.confidence += confidence;
            bin.right += f64::from(u8::from(right));
            count += 1;
        }
        for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
            bin.confidence /= bin.count as f64;
            bin.right /= bin.count as f64;
        }
        Self { bins, count }
    }

    /// Expected calibration error: the mean distance of sureness from rightness.
    pub(crate) fn error(&self) -> f64 {
        let gap = |bin: &Bin| bin.count as f64 * (bin.confidence - bin.right).abs();
        self.bins.iter().map(gap).sum::<f64>() / self.count.max(1) as f64
    }
}

/// What has a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The class that is answered of a text.
    Text,
    /// Each label of a text, whether it is answered or not.
    Label,
    /// The tag that is answered of a word.
    Word,
}

/// What is sure of an answer, for people.
pub(crate) struct Calibrated {
    /// Of what it is.
    pub(crate) unit: Unit,
    /// As the model answers.
    pub(crate) after: Reliability,
    /// As it would without the temperature, where one was fitted.
    pub(crate) before: Option<Reliability>,
    pub(crate) temperature: Option<f64>,
}

impl Calibrated {
    /// Of a run's answers; nothing of numbers, and of taggers whose answers do not say how sure
    /// they are.
    pub(crate) fn of(answers: &Answers, temperature: Option<f64>) -> Option<Self> {
        let [least, most] = TEMPERATURES;
        let temperature = temperature.filter(|value| (least..=most).contains(value));
        let (unit, after, before) = match answers {
            Answers::Classes(answers) => {
                let of = |temperature: f64| {
                    let each = answers.iter().map(|one| {
                        let scores = untempered(&one.scores, temperature);
                        (scores[one.found], one.found == one.gold)
                    });
                    Reliability::of(each)
                };
                (Unit::Text, of(1.0), temperature.map(of))
            }
            Answers::Labels(answers) => {
                // Of each label its own probability, and whether it holds.
                let of = |temperature: f64| {
                    let each = answers.iter().flat_map(|one| {
                        let scores = one.scores.iter().enumerate();
                        scores.map(move |(label, score)| {
                            let both = untempered(&[*score, 1.0 - score], temperature);
                            (both[0], one.gold.contains(&label))
                        })
                    });
                    Reliability::of(each)
                };
                (Unit::Label, of(1.0), temperature.map(of))
            }
            Answers::Numbers(_) => return None,
            Answers::Spans(answers) | Answers::Words(answers) => {
                let of = |kept: fn(&crate::answers::TagsAnswer) -> &[Option<f64>]| {
                    let each = answers.iter().flat_map(move |one| {
                        let right = one.gold.iter().zip(&one.found).map(|(g, f)| g == f);
                        let sure = kept(one).iter().zip(right);
                        sure.filter_map(|(score, right)| Some(((*score)?, right)))
                    });
                    Reliability::of(each)
                };
                let before = of(|one| &one.untempered);
                let before = (before.count > 0).then_some(before);
                (Unit::Word, of(|one| &one.scores), before)
            }
        };
        (after.count > 0).then_some(Self {
            unit,
            after,
            before,
            temperature,
        })
    }
}

/// Probabilities as they were before their logits were divided by a temperature: `p^T`, which adds
/// up to 1 again.
fn untempered(probabilities: &[f64], temperature: f64) -> Vec<f64> {
    if temperature == 1.0 {
        return probabilities.to_vec();
    }
    let most = probabilities.iter().copied().fold(0.0, f64::max);
    let powers = probabilities.iter();
    // From the largest, so that not all of them vanish.
    let powers: Vec<f64> = powers.map(|p| (p / most).powf(temperature)).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

#[cfg(test)]
mod tests {
    use ls_data::expected_calibration_error;

    use super::*;

    #[test]
    fn the_error_is_that_of_the_scores() {
        let rows = [
            [0.9, 0.1],
            [0.55, 0.45],
            [0.2, 0.8],
            [0.95, 0.05],
            [1.0, 0.0],
        ];
        let (found, gold) = ([0, 0, 1, 0, 0], [0, 1, 1, 1, 0]);
        let answers = (0..5).map(|at| (rows[at][found[at]], found[at] == gold[at]));
        let rows = rows.map(Vec::from);
        let expected = expected_calibration_error(&rows, &found, &gold, ECE_BINS).unwrap();
        let reliability = Reliability::of(answers);
        assert!((reliability.error() - expected).abs() < 1e-15);
        assert_eq!(reliability.bins[14].count, 2);
        assert_eq!(reliability.bins[14].right, 0.5);
    }

    #[test]
    fn a_temperature_is_taken_back() {
        let softmax = |logits: [f64; 3]| {
            let powers = logits.map(f64::exp);
            let total: f64 = powers.iter().sum();
            powers.map(|power| power / total)
        };
        let logits = [3.0, -1.0, 0.5];
        for temperature in [0.25, 1.0, 2.5] {
            let tempered = softmax(logits.map(|logit| logit / temperature));
            let found = untempered(&tempered, temperature);
            for (found, expected) in found.iter().zip(softmax(logits)) {
                assert!((found - expected).abs() < 1e-12, "{temperature}");
            }
        }
        assert_eq!(untempered(&[1.0, 0.0], 2.0), [1.0, 0.0]);
    }
}

//! [`Calibration`]: what is fitted to the validation split beside the weights, and decides how
//! scores become answers.

use std::borrow::Cow;

use ls_data::{TEMPERATURES, best_f1_threshold, fit_temperature};
use serde::{Deserialize, Serialize};

use crate::decision::Decision;

/// From this score on, a label holds where any number of labels may and nothing was fitted.
const HOLDS: f32 = 0.5;

/// How scores become answers, where that is not by the usual rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Of each label the score from which on it holds, where any number of labels may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<f32>>,
    /// What logits are divided by before they become probabilities (temperature scaling, Guo et al.
    /// 2017): labels keep their order, and probabilities say how often they are right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
}

impl Calibration {
    /// Whether nothing was fitted.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same with the thresholds by which the labels of these examples are found best, each by
    /// its own F1.
    pub(crate) fn with_thresholds_of(
        mut self,
        decisions: &[Decision],
        gold: &[Vec<usize>],
        labels: usize,
    ) -> Self {
        let threshold = |label: usize| {
            let score = |decision: &Decision| f64::from(decision.probabilities[label]);
            let scores: Vec<f64> = decisions.iter().map(score).collect();
            let holds: Vec<bool> = gold.iter().map(|gold| gold.contains(&label)).collect();
            best_f1_threshold(&scores, &holds) as f32
        };
        self.thresholds = Some((0..labels).map(threshold).collect());
        self
    }

    /// The same with the temperature of least loss for logits and what is right of them, or with
    /// none where that would be without end, as it is where every answer is right.
    pub(crate) fn with_temperature_of(mut self, rows: &[(Cow<'_, [f32]>, usize)]) -> Self {
        let rows = rows.iter().map(|(row, gold)| (row.as_ref(), *gold));
        self.temperature = fit_temperature(rows).map(|temperature| temperature as f32);
        self
    }

    /// Logits as probabilities are made of them.
    pub(crate) fn scaled(&self, mut logits: Vec<f32>) -> Vec<f32> {
        if let Some(temperature) = self.temperature {
            logits.iter_mut().for_each(|logit| *logit /= temperature);
        }
        logits
    }

    /// The same threshold for each label.
    pub(crate) fn with_threshold(mut self, threshold: f32, labels: usize) -> Self {
        self.thresholds = Some(vec![threshold; labels]);
        self
    }

    /// The labels that hold by the scores of an example.
    pub(crate) fn holding(&self, decision: &Decision) -> Vec<usize> {
        let thresholds = self.thresholds(decision.probabilities.len());
        let scores = decision.probabilities.iter().zip(thresholds).enumerate();
        let holding = scores.filter(|(_, (score, threshold))| *score >= threshold);
        holding.map(|(label, _)| label).collect()
    }

    /// Of so many labels the score from which on each holds: 0.5 where none was fitted or said.
    pub fn thresholds(&self, labels: usize) -> Vec<f32> {
        match &self.thresholds {
            Some(thresholds) => thresholds.clone(),
            None => vec![HOLDS; labels],
        }
    }

    /// What is wrong with it for so many labels, if anything is.
    pub(crate) fn fault(&self, labels: usize) -> Option<String> {
        let [least, most] = TEMPERATURES.map(|bound| bound as f32);
        if let Some(temperature) = self.temperature
            && !(least..=most).contains(&temperature)
        {
            return Some(format!(
                "calibration.temperature: expected a number from {least} to {most}, found \
                 {temperature}"
            ));
        }
        let thresholds = self.thresholds.as_ref()?;
        if thresholds.len() != labels {
            let found = thresholds.len();
            return Some(format!(
                "calibration.thresholds: expected one for each of {labels} labels, found {found}"
            ));
        }
        let wrong = thresholds
            .iter()
            .find(|value| !(0.0..=1.0).contains(*value))?;
        Some(format!(
            "calibration.thresholds: expected numbers from 0 to 1, found {wrong}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(probabilities: &[f32]) -> Decision {
        Decision {
            label: 0,
            score: probabilities[0],
            probabilities: probabilities.to_vec(),
        }
    }

    #[test]
    fn each_label_has_a_threshold_of_its_own() {
        let decisions = [
            decision(&[0.9, 0.3]),
            decision(&[0.8, 0.2]),
            decision(&[0.7, 0.1]),
        ];
        let gold = [vec![0, 1], vec![1], vec![]];
        let found = Calibration::default().with_thresholds_of(&decisions, &gold, 2);
        let thresholds = found.thresholds.clone().unwrap();
        assert!((thresholds[0] - 0.85).abs() < 1e-6 && (thresholds[1] - 0.15).abs() < 1e-6);
        let holding: Vec<Vec<usize>> = decisions.iter().map(|d| found.holding(d)).collect();
        assert_eq!(holding, gold);
        assert_eq!(Calibration::default().holding(&decisions[0]), [0]);
        // A score that is the threshold holds.
        let half = Calibration::default().with_threshold(0.3, 2);
        assert_eq!(half.holding(&decisions[0]), [0, 1]);
    }

    #[test]
    fn thresholds_of_other_labels_or_past_their_bounds_are_faults() {
        let of = |thresholds: &[f32]| {
            let thresholds = Some(thresholds.to_vec());
            let temperature = None;
            let calibration = Calibration {
                thresholds,
                temperature,
            };
            calibration.fault(2).unwrap_or_default()
        };
        assert_eq!(of(&[0.0, 1.0]), "");
        assert!(of(&[0.5]).contains("each of 2 labels, found 1"));
        assert!(of(&[0.5, 1.5]).contains("from 0 to 1, found 1.5"));
        assert!(of(&[f32::NAN, 0.5]).contains("found NaN"));
        assert_eq!(Calibration::default().fault(2), None);
        for wrong in [0.0, -1.0, 1e-45, 1e6, f32::NAN, f32::INFINITY] {
            let calibration = Calibration {
                temperature: Some(wrong),
                ..Calibration::default()
            };
            assert!(
                calibration.fault(2).unwrap().contains("temperature"),
                "{wrong}"
            );
        }
    }
}

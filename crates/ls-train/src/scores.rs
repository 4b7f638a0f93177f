//! Scores by problem, and the keys by which a configuration names one.

use ls_data::{ClassificationScores, MultiLabelScores, RegressionScores, SpanScores, TagKind};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Scores by problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of classes, of texts or of words.
    Classification(ClassificationScores),
    /// Of texts for which any number of labels may hold.
    MultiLabel(MultiLabelScores),
    /// Of numbers.
    Regression(RegressionScores),
    /// Of spans, lenient as conlleval and seqeval count them by default.
    Spans(SpanScores),
}

impl Scores {
    /// A score by its JSON key. What only `ls-cli score` knows (`log_loss`, `ece`) is not among
    /// them: it needs probabilities.
    pub fn get(&self, metric: &str) -> Option<f64> {
        let found = self.metrics().into_iter().find(|(key, _)| *key == metric);
        found.map(|(_, value)| value)
    }

    /// The scores of the whole by their JSON keys.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Classification(scores) => scores.metrics(),
            Self::MultiLabel(scores) => scores.metrics(),
            Self::Regression(scores) => scores.metrics(),
            Self::Spans(scores) => scores.metrics(),
        }
    }

    /// The keys that [`Scores::get`] knows for a problem, and `loss`; those of all tags where it is
    /// not known what the tags say.
    pub(crate) fn keys(problem: Problem) -> Vec<&'static str> {
        let lists: &[&[&'static str]] = match problem {
            Problem::SingleLabel | Problem::Tags(Some(TagKind::Labels)) => &[&CLASSES],
            Problem::MultiLabel => &[&LABELS],
            Problem::Regression => &[&NUMBERS],
            Problem::Tags(Some(TagKind::Spans)) => &[&SPANS],
            Problem::Tags(None) => &[&SPANS, &CLASSES],
        };
        [&lists.concat()[..], &["loss"]].concat()
    }

    /// Those of all problems.
    pub(crate) fn all_keys() -> Vec<&'static str> {
        let mut all: Vec<&str> = Vec::new();
        for problem in [
            Problem::Tags(None),
            Problem::MultiLabel,
            Problem::Regression,
        ] {
            for key in Self::keys(problem) {
                if key != "loss" && !all.contains(&key) {
                    all.push(key);
                }
            }
        }
        all.push("loss");
        all
    }

    /// Whether a value of a metric is the better the lower it is.
    pub(crate) fn falls(metric: &str) -> bool {
        matches!(metric, "loss" | "mae" | "mse")
    }
}

/// A baseline's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// `majority class` (of each label, where any number may hold), or of a regression `mean
    /// value`; `frozen backbone`.
    pub name: String,
    /// Scores on the reported split.
    pub scores: Scores,
}

const CLASSES: [&str; 11] = [
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_micro",
    "recall_micro",
    "f1_micro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "mcc",
];

const LABELS: [&str; 12] = [
    "subset_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_micro",
    "recall_micro",
    "f1_micro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "average_precision_macro",
    "average_precision_micro",
];

const NUMBERS: [&str; 4] = ["pearson", "spearman", "mae", "mse"];

const SPANS: [&str; 10] = [
    "span_precision_micro",
    "span_recall_micro",
    "span_f1_micro",
    "span_precision_macro",
    "span_recall_macro",
    "span_f1_macro",
    "span_precision_weighted",
    "span_recall_weighted",
    "span_f1_weighted",
    "token_accuracy",
];

#[cfg(test)]
mod tests {
    use ls_data::SpanMode;

    use super::*;

    #[test]
    fn the_metrics_of_a_problem_are_those_of_its_scores() {
        let classes = ["a".to_string()];
        let labels = [vec![0]];
        let multi_label = MultiLabelScores::compute(&labels, &labels, &[vec![0.75]], &classes);
        let regression = RegressionScores::compute(&[1.0, 2.5], &[2.0, 2.25]).unwrap();
        let classes = ClassificationScores::compute(&[0], &[0], &classes).unwrap();
        let words = [vec!["O"]];
        let spans = SpanScores::compute(&words, &words, SpanMode::Default).unwrap();
        let tags = |kind| Problem::Tags(Some(kind));
        for (problem, scores) in [
            (
                Problem::SingleLabel,
                Scores::Classification(classes.clone()),
            ),
            (
                Problem::MultiLabel,
                Scores::MultiLabel(multi_label.unwrap()),
            ),
            (Problem::Regression, Scores::Regression(regression)),
            (tags(TagKind::Labels), Scores::Classification(classes)),
            (tags(TagKind::Spans), Scores::Spans(spans)),
        ] {
            let metrics = Scores::keys(problem);
            let (loss, others) = metrics.split_last().unwrap();
            assert_eq!(*loss, "loss");
            assert!(others.iter().all(|metric| scores.get(metric).is_some()));
            assert!(metrics.contains(&problem.default_metric()));
            let json = serde_json::to_value(&scores).unwrap();
            let floats = json.as_object().unwrap().iter().filter(|(_, v)| v.is_f64());
            let keys: Vec<&str> = floats.map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, others, "{problem:?}");
            // What is read back is of the same kind.
            assert_eq!(serde_json::from_value::<Scores>(json).unwrap(), scores);
        }
    }
}

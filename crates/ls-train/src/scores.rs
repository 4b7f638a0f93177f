//! Scores by task, and the keys by which a configuration names one.

use ls_data::{ClassificationScores, SpanScores, TagKind, TaskKind};
use serde::{Deserialize, Serialize};

/// Scores by task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of classes, of texts or of words.
    Classification(ClassificationScores),
    /// Of spans, lenient as conlleval and seqeval count them by default.
    Spans(SpanScores),
}

impl Scores {
    /// A score by its JSON key. What only `ls-cli score` knows (`log_loss`, `ece`) is not among
    /// them: it needs probabilities.
    pub fn get(&self, metric: &str) -> Option<f64> {
        let metrics = match self {
            Self::Classification(scores) => scores.metrics(),
            Self::Spans(scores) => scores.metrics(),
        };
        let found = metrics.into_iter().find(|(key, _)| *key == metric);
        found.map(|(_, value)| value)
    }

    /// The keys that [`Scores::get`] knows for a task, and `loss`; those of all tags where it is
    /// not known what the tags say.
    pub(crate) fn metrics(task: TaskKind, tags: Option<TagKind>) -> Vec<&'static str> {
        let (classes, spans) = match (task, tags) {
            (TaskKind::Sequence, _) | (TaskKind::Token, Some(TagKind::Labels)) => (true, false),
            (TaskKind::Token, Some(TagKind::Spans)) => (false, true),
            (TaskKind::Token, None) => (true, true),
        };
        let mut metrics = Vec::new();
        if spans {
            metrics.extend(SPANS);
        }
        if classes {
            metrics.extend(CLASSES);
        }
        metrics.push("loss");
        metrics
    }
}

/// A baseline's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// `majority class`, `frozen backbone`.
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
    fn the_metrics_of_a_task_are_those_of_its_scores() {
        let classes = ["a".to_string()];
        let classes = ClassificationScores::compute(&[0], &[0], &classes).unwrap();
        let words = [vec!["O"]];
        let spans = SpanScores::compute(&words, &words, SpanMode::Default).unwrap();
        for (tags, scores) in [
            (None, Scores::Classification(classes.clone())),
            (Some(TagKind::Labels), Scores::Classification(classes)),
            (Some(TagKind::Spans), Scores::Spans(spans)),
        ] {
            let task = match tags {
                None => TaskKind::Sequence,
                Some(_) => TaskKind::Token,
            };
            let metrics = Scores::metrics(task, tags);
            let (loss, others) = metrics.split_last().unwrap();
            assert_eq!(*loss, "loss");
            assert!(others.iter().all(|metric| scores.get(metric).is_some()));
            let json = serde_json::to_value(&scores).unwrap();
            let floats = json.as_object().unwrap().iter().filter(|(_, v)| v.is_f64());
            let keys: Vec<&str> = floats.map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, others, "{task:?} {tags:?}");
        }
    }
}

//! Scores by task, and the keys by which a configuration names one.

use ls_data::{ClassificationScores, SpanScores, TaskKind};
use serde::Serialize;

/// Scores by task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of classes.
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

    /// The keys that [`Scores::get`] knows for a task, and `loss`.
    pub(crate) fn metrics(task: TaskKind) -> &'static [&'static str] {
        match task {
            TaskKind::Sequence => &[
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
                "loss",
            ],
            TaskKind::Token => &[
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
                "loss",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use ls_data::SpanMode;

    use super::*;

    #[test]
    fn the_metrics_of_a_task_are_those_of_its_scores() {
        let classes = ["a".to_string()];
        let classes = ClassificationScores::compute(&[0], &[0], &classes).unwrap();
        let tags = [vec!["O"]];
        let spans = SpanScores::compute(&tags, &tags, SpanMode::Default).unwrap();
        for (task, scores) in [
            (TaskKind::Sequence, Scores::Classification(classes)),
            (TaskKind::Token, Scores::Spans(spans)),
        ] {
            let (loss, others) = Scores::metrics(task).split_last().unwrap();
            assert_eq!(*loss, "loss");
            assert!(others.iter().all(|metric| scores.get(metric).is_some()));
            let json = serde_json::to_value(&scores).unwrap();
            let floats = json.as_object().unwrap().iter().filter(|(_, v)| v.is_f64());
            let keys: Vec<&str> = floats.map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, others, "{task:?}");
        }
    }
}

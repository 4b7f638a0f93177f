//! [`Settings`]: what the answers of a run's model mean.

use ls_data::{LabelSet, TagKind, TaskKind};
use ls_files::Fingerprint;
use serde::Deserialize;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One class of a text.
    Class,
    /// Any number of labels of a text.
    Labels,
    /// A number.
    Number,
    /// Tags that are spans.
    Spans,
    /// A label of each word.
    Words,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Class => "with one class of a text",
            Self::Labels => "with any number of labels of a text",
            Self::Number => "with a number for a text",
            Self::Spans => "with spans of words",
            Self::Words => "with a label of each word",
        })
    }
}

/// What answers of the model mean: `best/ls_llama.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settings {
    pub(crate) task: TaskKind,
    pub(crate) labels: LabelSet,
    tags: Option<TagKind>,
    problem_type: Option<String>,
    #[serde(default)]
    pub(crate) calibration: Calibration,
    /// Of the base model, beside an adapter.
    pub(crate) base_weights: Option<Fingerprint>,
}

/// What was fitted beside the weights.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Calibration {
    pub(crate) thresholds: Option<Vec<f64>>,
    pub(crate) temperature: Option<f64>,
}

impl Settings {
    pub(crate) fn kind(&self) -> Kind {
        match (self.task, self.problem_type.as_deref()) {
            (TaskKind::Sequence, Some("multi_label_classification")) => Kind::Labels,
            (TaskKind::Sequence, Some("regression")) => Kind::Number,
            (TaskKind::Sequence, _) => Kind::Class,
            (TaskKind::Token, _) => {
                let names = self.labels.names().iter().map(String::as_str);
                match self.tags.unwrap_or_else(|| TagKind::of(names)) {
                    TagKind::Spans => Kind::Spans,
                    TagKind::Labels => Kind::Words,
                }
            }
        }
    }
}

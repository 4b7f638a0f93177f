//! [`Problem`]: what is learnt of an example, which decides how its label is read, what is
//! minimised, how it is answered and by what it is scored.

use ls_data::{LabelKind, LabelSet, SeenLabel, TagKind, TaskKind};
use ls_model::ProblemType;

use crate::error::Result;

/// What is learnt of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// One class of several for a text.
    SingleLabel,
    /// Any number of labels for a text.
    MultiLabel,
    /// A number for a text.
    Regression,
    /// A tag for each word, and what the tags say if that is known.
    Tags(Option<TagKind>),
}

/// What turns the logits of a unit into its scores, as the pipelines of transformers choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionToApply {
    /// The labels exclude each other: their scores sum to 1.
    Softmax,
    /// Each label holds or not, whatever the others do.
    Sigmoid,
    /// The logits are the answer: numbers of a regression.
    None,
}

impl Problem {
    /// That of a task: the type of a head for texts, or what tags say.
    pub fn of(task: TaskKind, problem_type: Option<ProblemType>, tags: Option<TagKind>) -> Self {
        match (task, problem_type) {
            (TaskKind::Token, _) => Self::Tags(tags),
            (_, Some(ProblemType::Regression)) => Self::Regression,
            (_, Some(ProblemType::MultiLabelClassification)) => Self::MultiLabel,
            (_, Some(ProblemType::SingleLabelClassification) | None) => Self::SingleLabel,
        }
    }

    /// What the labels of its texts are; that of words is a class each.
    pub fn label_kind(self) -> LabelKind {
        match self {
            Self::SingleLabel | Self::Tags(_) => LabelKind::Class,
            Self::MultiLabel => LabelKind::Classes,
            Self::Regression => LabelKind::Number,
        }
    }

    /// Whether words have the tags of spans.
    pub fn is_of_spans(self) -> bool {
        self == Self::Tags(Some(TagKind::Spans))
    }

    /// What turns the logits of a head of so many labels into scores: the choice of
    /// `TextClassificationPipeline`, and of `TokenClassificationPipeline`.
    pub(crate) fn function_to_apply(self, num_labels: usize) -> FunctionToApply {
        match self {
            Self::Regression => FunctionToApply::None,
            Self::MultiLabel => FunctionToApply::Sigmoid,
            Self::SingleLabel if num_labels == 1 => FunctionToApply::Sigmoid,
            Self::SingleLabel | Self::Tags(_) => FunctionToApply::Softmax,
        }
    }

    /// The outputs of a head that learns from such labels. The only one of a regression goes by the
    /// name of the column that its numbers stand in, or where that has none by transformers' own.
    ///
    /// # Errors
    ///
    /// If classes are learnt, and there are none.
    pub(crate) fn label_set(self, seen: &[SeenLabel], column: Option<&str>) -> Result<LabelSet> {
        let names = seen.iter().map(|seen| seen.name.as_str());
        Ok(match self {
            Self::SingleLabel | Self::MultiLabel => LabelSet::of_classes(names)?,
            Self::Tags(_) => LabelSet::of_tags(names)?,
            Self::Regression => {
                let column = column.filter(|name| !name.trim().is_empty());
                LabelSet::from_names(vec![column.unwrap_or("LABEL_0").into()])?
            }
        })
    }

    /// The score that chooses the best checkpoint where none is named.
    pub(crate) fn default_metric(self) -> &'static str {
        match self {
            Self::SingleLabel | Self::Tags(Some(TagKind::Labels) | None) => "accuracy",
            Self::MultiLabel => "f1_micro",
            Self::Regression => "mse",
            Self::Tags(Some(TagKind::Spans)) => "span_f1_micro",
        }
    }
}

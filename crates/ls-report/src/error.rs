//! [`ReportError`]: why there is no page, or no comparison.

use std::path::PathBuf;

use ls_data::DataError;
use ls_files::FileError;

/// Result of this crate.
pub type Result<T, E = ReportError> = std::result::Result<T, E>;

/// What can be wrong with the files of a run, or with runs that are to be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read or written, or is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Answers cannot be scored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The folder holds no run.
    #[error("{}: not a run folder: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// A line of a file is not what a run writes there.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was found, and what was expected.
        reason: String,
    },
    /// A run lacks what a comparison needs.
    #[error("{}: cannot be compared: {reason}", path.display())]
    Lacks {
        /// The run folder.
        path: PathBuf,
        /// What is missing, or does not fit.
        reason: String,
        /// Where it comes from.
        way_out: &'static str,
    },
    /// Two runs say nothing about each other.
    #[error("{} and {} cannot be compared: {reason}", first.display(), other.display())]
    Differ {
        /// The first run.
        first: PathBuf,
        /// The one that differs from it.
        other: PathBuf,
        /// In what, with both values.
        reason: String,
        /// Whether the model of the other, asked what the first was, could be compared.
        by_answers: bool,
    },
    /// A page would take the place of what a run keeps.
    #[error("{}: is in the run {}, expected a file that ends in .html", path.display(), run.display())]
    InRun {
        /// Where the page was to be written.
        path: PathBuf,
        /// The run folder.
        run: PathBuf,
    },
}

impl ReportError {
    /// The way out, where there is one that the message does not say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Line { .. } => {
                Some("a run writes this file; take it from a copy of the run".into())
            }
            Self::Lacks { way_out, .. } => Some((*way_out).into()),
            Self::Differ {
                first,
                other,
                by_answers: true,
                ..
            } => {
                let [first, other] = [first, other].map(|run| run.display());
                Some(format!(
                    "let the model of {other} answer the file TEST whose scores {first} reports: \
                     `predict --run {other} --input TEST --output ANSWERS.jsonl`, then `score \
                     --gold TEST --pred ANSWERS.jsonl --compare {first}/predictions.jsonl`"
                ))
            }
            Self::InRun { .. } => {
                Some("say a path outside the run, or one that ends in .html".into())
            }
            _ => None,
        }
    }

    /// Whether the command cannot be carried out as written.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Differ { .. } | Self::InRun { .. })
    }
}

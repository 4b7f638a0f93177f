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
        /// What is missing.
        reason: &'static str,
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
            Self::Differ { .. } => Some(
                "compare runs that were scored on the same examples; `evaluate --run RUN --data \
                 FILE` scores a run on others"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Whether the command cannot be carried out as written.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Differ { .. })
    }
}

//! [`TaskKind`]: what is labelled, a whole text or each of its words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// What is labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// A whole text: one of several classes.
    Sequence,
    /// Every word of a text: a tag.
    Token,
}

impl TaskKind {
    /// Both tasks.
    pub const ALL: [Self; 2] = [Self::Sequence, Self::Token];

    /// The name in configurations and on the command line: `sequence` or `token`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Token => "token",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskKind {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        let mut all = Self::ALL.into_iter();
        all.find(|task| task.name() == name)
            .ok_or_else(|| DataError::UnknownTask {
                name: name.to_string(),
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_in_files() {
        for task in TaskKind::ALL {
            assert_eq!(task.to_string().parse::<TaskKind>().unwrap(), task);
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
        assert_eq!(
            "words".parse::<TaskKind>().unwrap_err().to_string(),
            "unknown task \"words\" (expected sequence or token)"
        );
    }
}

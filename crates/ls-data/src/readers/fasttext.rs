//! Lines of fastText to sequence examples: `__label__` with the label, then the text.

use super::lines::Line;
use super::row::Labels;
use crate::error::{DataError, Result};
use crate::example::SequenceExample;

/// What a label begins with.
const PREFIX: &str = "__label__";

/// The label must stand first and alone: fastText itself takes a word with the prefix for a label
/// wherever it stands, so a second one would be lost, or be read as text.
pub(super) fn row(line: Line<'_>, labels: &Labels, labelled: bool) -> Result<SequenceExample> {
    let place = line.place;
    let text = line.text.trim();
    let (label, text) = match text.strip_prefix(PREFIX) {
        Some(rest) => match rest.split_once(char::is_whitespace) {
            Some((label, text)) => (Some(label), text.trim_start()),
            None => (Some(rest), ""),
        },
        None => (None, text),
    };
    let others = text
        .split_whitespace()
        .filter(|w| w.starts_with(PREFIX))
        .count();
    let found = others + usize::from(label.is_some());
    if found > 1 || (found == 1 && label.is_none()) {
        return Err(DataError::LabelPlace {
            path: place.path.to_path_buf(),
            line: place.line,
            found,
        });
    }
    let label = match (labelled, label) {
        (false, _) => None,
        (true, Some(label)) => Some(labels.resolve(label, place)?),
        (true, None) => {
            return Err(DataError::Unlabelled {
                path: place.path.to_path_buf(),
                line: place.line,
            });
        }
    };
    if labelled {
        place.required(text, "text")?;
    }
    Ok(SequenceExample {
        text: text.to_string(),
        text_pair: None,
        label,
        line: place.line,
        extra: None,
    })
}

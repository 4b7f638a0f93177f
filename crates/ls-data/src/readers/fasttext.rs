//! Lines of fastText to sequence examples: `__label__` with the label, then the text.

use super::lines::Line;
use super::row::Labels;
use crate::error::{DataError, Result};
use crate::example::SequenceExample;
use crate::text_label::{LabelKind, TextLabel};

/// What a label begins with.
const PREFIX: &str = "__label__";

/// Labels must stand first, and where a text has one of several classes there is one alone:
/// fastText itself takes a word with the prefix for a label wherever it stands, so another one
/// would be lost, or be read as text.
pub(super) fn row(line: Line<'_>, labels: &Labels, labelled: bool) -> Result<SequenceExample> {
    let place = line.place;
    let mut text = line.text.trim();
    let mut found = Vec::new();
    while let Some(rest) = text.strip_prefix(PREFIX) {
        let (label, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        found.push(label.to_string());
        text = rest.trim_start();
    }
    let behind = text
        .split_whitespace()
        .filter(|w| w.starts_with(PREFIX))
        .count();
    let several = labels.kind == LabelKind::Classes;
    if behind > 0 || (found.len() > 1 && !several) {
        return Err(DataError::LabelPlace {
            path: place.path.to_path_buf(),
            line: place.line,
            found: found.len() + behind,
            expected: if several {
                "all of them"
            } else {
                "one, and that"
            },
        });
    }
    let label: Option<TextLabel> = match (labelled, found.first()) {
        (false, _) => None,
        (true, _) if several => Some(labels.classes(&found, place)?),
        (true, Some(label)) => Some(labels.written(label, place)?),
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

//! What a file holds, in a message: short, however long it is.

use std::fmt::Display;

/// Characters of it that are shown.
const MOST: usize = 500;

/// A value as a message shows it: a long one by its beginning and its length.
///
/// ```
/// assert_eq!(ls_files::shown("[1, 2]"), "[1, 2]");
/// assert!(ls_files::shown("a".repeat(1 << 20)).ends_with("aaa... (1048576 characters)"));
/// ```
#[must_use]
pub fn shown(value: impl Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        None => text,
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
    }
}

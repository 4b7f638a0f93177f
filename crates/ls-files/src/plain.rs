//! Text from files on a terminal or in a comment: what could move its cursor or forge a line is
//! shown, and not done.

/// The text with U+FFFD in the place of every control character, line breaks too.
///
/// ```
/// assert_eq!(ls_files::plain("good\n\u{1b}[2Jété"), "good\u{fffd}\u{fffd}[2Jété");
/// ```
#[must_use]
pub fn plain(text: &str) -> String {
    // The separators break lines as well, in what shows the text if not in a terminal.
    text.replace(
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'),
        "\u{fffd}",
    )
}

//! Names in a message.

/// The first `most` names, separated by commas, and how many more there are.
///
/// ```
/// assert_eq!(ls_files::listed(["a", "b", "c"], 2), "a, b and 1 more");
/// assert_eq!(ls_files::listed([""; 0], 2), "");
/// ```
pub fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>, most: usize) -> String {
    let names: Vec<S> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

//! The width of prose: lines of Markdown, and of comments in Rust, TOML, Python and shell scripts.

/// The widest line, in characters.
pub const WIDEST: usize = 100;

/// The numbers and widths of the lines of prose that are too wide.
///
/// Code, tables, and lines with an address or with no place to break count as they are.
pub fn too_wide(file: &str, text: &str) -> Vec<(usize, usize)> {
    let comment = match file.rsplit_once('.').map(|(_, end)| end) {
        Some("md") => "",
        Some("rs") => "//",
        Some("toml" | "py" | "sh") => "#",
        _ => return Vec::new(),
    };
    let mut wide = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        let Some(prose) = line.trim_start().strip_prefix(comment) else {
            in_code = false;
            continue;
        };
        let prose = prose.trim_start_matches(['/', '!', '#']).trim();
        if prose.starts_with("```") {
            in_code = !in_code;
        }
        let width = line.chars().count();
        if width > WIDEST && !in_code && !prose.starts_with('|') && can_be_broken(prose) {
            wide.push((at + 1, width));
        }
    }
    wide
}

/// Whether a line has a space at which it can go on in the next: outside of links and of code.
fn can_be_broken(prose: &str) -> bool {
    if prose.contains("://") {
        return false;
    }
    // What a list item, a heading or a quotation begins with.
    let prose = prose.trim_start_matches(['-', '*', '>', ' ']);
    let mut in_code = false;
    let mut in_link = 0;
    prose.chars().any(|c| {
        match c {
            '`' => in_code = !in_code,
            '[' => in_link += 1,
            ']' => in_link -= 1,
            _ => {}
        }
        c == ' ' && !in_code && in_link == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        let wide = too_wide(file, text);
        wide.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn prose_is_at_most_a_hundred_characters_wide() {
        let words = "é word ".repeat(14) + "on";
        assert_eq!(words.chars().count(), 100);
        assert!(lines("a.md", &words).is_empty());
        assert_eq!(lines("a.md", &format!("{words}\n{words}e")), [2]);
        assert_eq!(
            lines("a.rs", &format!("/// {words}\n    //! {words}")),
            [1, 2]
        );
        assert_eq!(lines("a.py", &format!("x = 1\n# {words}")), [2]);
        // Code is rustfmt's.
        assert!(lines("a.rs", &format!("f(\"{words} {words}\"); // {words}")).is_empty());
        assert!(lines("a.json", &format!("{words} {words}")).is_empty());
    }

    #[test]
    fn tables_code_and_links_are_as_wide_as_they_are() {
        let words = "a word ".repeat(20);
        for text in [
            format!("| {words} |"),
            format!("```\n{words}\n```"),
            format!("- [{words}](a.md)"),
            format!("> `{words}`"),
            format!("see https://example.org/ {words}"),
            "word".repeat(30),
        ] {
            assert!(lines("a.md", &text).is_empty(), "{text}");
            let comment = text.replace('\n', "\n/// ");
            assert!(
                lines("a.rs", &format!("/// {comment}")).is_empty(),
                "{text}"
            );
        }
        // A fence ends with its comment.
        assert_eq!(
            lines("a.rs", &format!("/// ```\nfn f() {{}}\n/// {words}")),
            [3]
        );
    }
}

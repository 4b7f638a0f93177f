//! Commands as a shell takes them, to be copied from a message.

use std::path::Path;

/// A command of these words.
pub fn command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words = words.into_iter().map(|word| quoted(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// The command that goes on with a run, with further flags.
pub fn resume(run: &Path, flags: &[&str]) -> String {
    let program = std::env::args().next().unwrap_or("ls-cli".into());
    let run = shown(run);
    command([&[&*program, "train", "--resume", &run], flags].concat())
}

/// A path relative to here where it is below.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_what_a_shell_reads_are_quoted() {
        let words = ["ls-cli", "--set", "data.text=my text", "it's", "", "$HOME"];
        let expected = r"ls-cli --set 'data.text=my text' 'it'\''s' '' '$HOME'";
        assert_eq!(command(words), expected);
    }
}

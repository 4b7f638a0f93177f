//! Commands as a shell takes them, to be copied from a message.

/// A command of these words.
pub fn command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words = words.into_iter().map(|word| quoted(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
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

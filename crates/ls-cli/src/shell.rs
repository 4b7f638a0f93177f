//! Commands as a shell takes them, to be copied from a message.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

/// A command of these words.
pub fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let words = words.into_iter().map(|word| quoted(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// The command that goes on with a run, with further flags.
pub fn resume(run: &Path, flags: &[&str]) -> String {
    let run = from_here(run);
    let mut words: Vec<OsString> = vec![program(), "train".into(), "--resume".into(), run.into()];
    words.extend(flags.iter().map(OsString::from));
    command(words)
}

/// This program as it was called.
pub fn program() -> OsString {
    std::env::args_os()
        .next()
        .unwrap_or_else(|| "ls-cli".into())
}

/// A path relative to here where it is below.
pub fn from_here(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

/// Bytes that are no UTF-8, as names of files may have, are printed by the shell.
fn quoted(word: &OsStr) -> String {
    if word.is_empty() {
        return "''".into();
    }
    let mut quoted = String::new();
    for chunk in word.as_encoded_bytes().utf8_chunks() {
        quoted.push_str(&quoted_text(chunk.valid()));
        for byte in chunk.invalid() {
            // The system's memory is the only thing that could fail.
            let _ = write!(quoted, "\"$(printf '\\{byte:03o}')\"");
        }
    }
    quoted
}

fn quoted_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
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

    #[test]
    fn a_path_is_told_from_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(from_here(&here), Path::new("."));
        assert_eq!(from_here(&here.join("runs/a")), Path::new("runs/a"));
        assert_eq!(from_here(Path::new("a")), Path::new("a"));
        assert_eq!(from_here(Path::new("/")), Path::new("/"));
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_same_bytes() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt as _;
        let every = (1..=255).collect::<Vec<u8>>();
        let latin = b"Stra\xdfe \xe2\x82.jsonl".to_vec();
        let words = [every, latin, "it's".into()].map(OsString::from_vec);
        let mut shell = std::process::Command::new("sh");
        let said = shell.args(["-c", &format!("printf '%s|' {}", command(&words))]);
        let expected = words.map(|word| [word.into_vec(), b"|".to_vec()].concat());
        assert_eq!(said.output().unwrap().stdout, expected.concat());
    }
}

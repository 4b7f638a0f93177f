//! Text that the program prints, stored in files beside the tests: held against them, or written
//! anew with `LS_LLAMA_UPDATE_SNAPSHOTS=1 cargo test -p ls-cli --test cli stored_`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A folder of stored texts.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/cli/stored")
        .join(name)
}

/// The names of the texts in a folder.
pub fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).map(|entries| {
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
    });
    entries.into_iter().flatten().collect()
}

/// Whether texts are to be written anew.
pub fn is_asked_to_record() -> bool {
    std::env::var_os("LS_LLAMA_UPDATE_SNAPSHOTS").is_some()
}

/// Sees that the texts of a folder are these, by their names, and that there are no others.
#[track_caller]
pub fn are_as_stored(name: &str, texts: &[(String, String)]) {
    let folder = folder(name);
    let mut gone = names(&folder);
    let mut faults = Vec::new();
    for (name, text) in texts {
        gone.remove(name);
        let path = folder.join(name);
        if is_asked_to_record() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        if stored != *text {
            let difference = difference(&stored, text);
            faults.push(format!(
                "tests/cli/stored/{}/{name}\n{difference}",
                folder_name(&folder)
            ));
        }
    }
    for name in gone {
        if is_asked_to_record() {
            std::fs::remove_file(folder.join(name)).unwrap();
        } else {
            faults.push(format!(
                "tests/cli/stored/{}/{name} is of nothing any more\n",
                folder_name(&folder)
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "{}if that is meant, write it anew:\n  LS_LLAMA_UPDATE_SNAPSHOTS=1 cargo test -p ls-cli \
         --test cli stored_",
        faults.concat()
    );
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// The lines between the first and the last that differ: `-` as they are stored, `+` as they are
/// now, each with its number.
fn difference(stored: &str, found: &str) -> String {
    let [stored, found] = [stored, found].map(|text| text.lines().collect::<Vec<_>>());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(stored, found)| stored == found).count()
    };
    let before = same(&mut stored.iter().zip(&found));
    let (rest, new) = (&stored[before..], &found[before..]);
    let behind = same(&mut rest.iter().rev().zip(new.iter().rev()));
    let lines = |sign: char, lines: &[&str]| -> String {
        let lines = &lines[..lines.len() - behind];
        let lines = lines.iter().enumerate();
        lines
            .map(|(at, line)| format!("  {sign} {:>3} {line}\n", before + at + 1))
            .collect()
    };
    match lines('-', rest) + &lines('+', new) {
        lines if lines.is_empty() => "  the last line ends otherwise\n".into(),
        lines => lines,
    }
}

#[test]
fn a_difference_shows_what_differs_alone() {
    assert_eq!(
        difference("a\nb\nc\nd\n", "a\nx\ny\nd\n"),
        "  -   2 b\n  -   3 c\n  +   2 x\n  +   3 y\n"
    );
    assert_eq!(difference("a\nb\n", "a\nb\nb\n"), "  +   3 b\n");
    assert_eq!(difference("", "a\n"), "  +   1 a\n");
    assert_eq!(difference("a", "a\n"), "  the last line ends otherwise\n");
}

//! The other splits of a data set, by the names that they usually have beside the one to learn
//! from.

use std::path::{Path, PathBuf};

use ls_files::is_file;

use crate::error::Result;

/// How the split to learn from is called in names of files.
const TRAIN: [&str; 2] = ["training", "train"];
/// How the split that chooses the best epoch is called.
const VALIDATION: [&str; 5] = ["validation", "valid", "val", "dev", "devel"];
/// How the split that is scored at the end is called.
const TEST: [&str; 2] = ["test", "testing"];

/// The files beside `train` that are its validation and its test split: those of the same name with
/// another word in the place of `train` (`reviews-train.csv`, `reviews-dev.csv`).
///
/// # Errors
/// The system does not say whether a file is there.
pub fn splits_beside(train: &Path) -> Result<[Option<PathBuf>; 2]> {
    let mut found = [None, None];
    let Some(name) = train.file_name().and_then(|name| name.to_str()) else {
        return Ok(found);
    };
    for (found, words) in found.iter_mut().zip([&VALIDATION[..], &TEST]) {
        for name in names(name, words) {
            let file = train.with_file_name(name);
            if is_file(&file)? {
                *found = Some(file);
                break;
            }
        }
    }
    Ok(found)
}

/// The name with each of the words in the place of `train`, where that is a word in it, in small
/// letters, in capitals or with one of them, as `train` is.
fn names(name: &str, words: &[&str]) -> Vec<String> {
    let small = name.to_ascii_lowercase();
    let whole = |start: usize, end: usize| {
        let letter = |c: char| c.is_alphanumeric();
        !name[..start].ends_with(letter) && !name[end..].starts_with(letter)
    };
    let place = TRAIN.iter().find_map(|train| {
        let mut places = small
            .match_indices(train)
            .map(|(at, _)| (at, at + train.len()));
        places.find(|(start, end)| whole(*start, *end))
    });
    let Some((start, end)) = place else {
        return Vec::new();
    };
    let as_train = |word: &str| match &name[start..end] {
        train if train == train.to_ascii_uppercase() => word.to_ascii_uppercase(),
        train if train.starts_with('T') => {
            let (first, rest) = word.split_at(1);
            format!("{}{rest}", first.to_ascii_uppercase())
        }
        _ => word.to_string(),
    };
    let of = |word: &&str| format!("{}{}{}", &name[..start], as_train(word), &name[end..]);
    words.iter().map(of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_have_another_word_in_the_place_of_train() {
        let name = |train: &str| names(train, &["dev"]).join(" ");
        assert_eq!(name("train.csv"), "dev.csv");
        assert_eq!(name("de-Train_2.jsonl"), "de-Dev_2.jsonl");
        assert_eq!(name("TRAINING.TSV"), "DEV.TSV");
        assert_eq!(name("zug-train.été.csv"), "zug-dev.été.csv");
        for other in ["trainer.csv", "strain.csv", "étrain.csv", "reviews.csv"] {
            assert_eq!(name(other), "", "{other}");
        }
    }

    #[test]
    fn the_files_that_are_there_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let beside = || splits_beside(&path("a-train.csv")).unwrap();
        assert_eq!(beside(), [None, None]);
        std::fs::create_dir(path("a-validation.csv")).unwrap();
        std::fs::write(path("a-dev.csv"), "").unwrap();
        std::fs::write(path("a-test.csv"), "").unwrap();
        assert_eq!(
            beside(),
            [Some(path("a-dev.csv")), Some(path("a-test.csv"))]
        );
        assert_eq!(splits_beside(&path("b.csv")).unwrap(), [None, None]);
    }
}

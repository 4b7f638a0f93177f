//! Known data sets by name: what they hold, where they come from, and in which forms people have
//! their files.
//!
//! A TOML file in `datasets/` of the repository describes each; those that `BUILT_IN` names are
//! part of the program, and a file of one's own works the same way. [`get`] gives a
//! [`DatasetSpec`]; its [`locate`](DatasetSpec::locate) looks into a folder, sees which of the
//! forms is there, and says how each file is read. Nothing is fetched and nothing is read but the
//! first lines. Mirrors of one data set number its labels differently, so names come from the file
//! wherever it has them, and else from the form's own documented numbers.

mod folder;
mod locate;
mod spec;

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use ls_files::nearest;

use crate::error::{DataError, Result};

pub use locate::{LocatedDataset, LocatedSplit};
pub use spec::{DatasetSpec, HubSource, SplitName, SplitSize, Splits};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../datasets/", $name, ".toml")))),*]
    };
}

/// The name and the text of each TOML file, in the order in which messages list them. A test fails
/// if a file of `datasets/` is missing here.
const BUILT_IN: &[(&str, &str)] = &built_in![
    "sst2",
    "sst5",
    "agnews",
    "twitterfin",
    "amazon_reviews_multi",
    "amazon_reviews_multi_stars",
    "conll03",
    "ontonotes5",
    "wnut17",
];

static ALL: LazyLock<Vec<DatasetSpec>> = LazyLock::new(|| {
    let read = |&(name, text): &(&str, &str)| DatasetSpec::parse(name, text, Path::new(name));
    // All of them can be read: a test does.
    BUILT_IN.iter().flat_map(read).collect()
});

/// Every data set that is built in.
pub fn all() -> &'static [DatasetSpec] {
    &ALL
}

/// The built-in data set of a name or of one of its aliases; case does not matter.
pub fn find(name: &str) -> Option<&'static DatasetSpec> {
    all().iter().find(|spec| {
        let mut names = std::iter::once(&spec.name).chain(&spec.aliases);
        names.any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// The error of a folder that was named in the place of a file: what it holds, and what to write.
pub fn folder_fault(path: &Path) -> DataError {
    folder::fault(path, all())
}

/// The data set of a name, as [`find`], or the one that a path to a TOML file describes.
///
/// # Errors
/// An unknown name, with those that there are; a file that cannot be used, see
/// [`DatasetSpec::from_file`].
pub fn get(name: &str) -> Result<Cow<'static, DatasetSpec>> {
    if name.ends_with(".toml") {
        return DatasetSpec::from_file(Path::new(name)).map(Cow::Owned);
    }
    find(name).map(Cow::Borrowed).ok_or_else(|| {
        let known = all().iter().map(|spec| spec.name.as_str());
        DataError::UnknownDataset {
            name: name.to_string(),
            known: known.clone().map(String::from).collect(),
            nearest: nearest(name, known),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::path::PathBuf;

    use super::*;
    use crate::task::TaskKind;

    #[test]
    fn every_file_is_built_in_and_can_be_read() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets"));
        let files = std::fs::read_dir(folder).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let mut names = HashSet::new();
        for file in files.filter(|file| file.extension().is_some_and(|e| e == "toml")) {
            let spec = DatasetSpec::from_file(&file).unwrap();
            for said in [
                &spec.title,
                &spec.homepage,
                &spec.licence,
                &spec.citation,
                &spec.notes,
            ] {
                assert!(!said.is_empty(), "{}", spec.name);
            }
            assert!(spec.splits.train.is_some(), "{}", spec.name);
            names.insert(spec.name);
        }
        assert_eq!(names, all().iter().map(|spec| spec.name.clone()).collect());
        assert_eq!(all().len(), BUILT_IN.len());
    }

    #[test]
    fn names_are_unique() {
        let mut names = HashSet::new();
        for spec in all() {
            for name in spec.aliases.iter().chain([&spec.name]) {
                assert!(names.insert(name), "{name}");
                assert_eq!(find(&name.to_uppercase()).unwrap().name, spec.name);
            }
        }
        assert_eq!(
            get("conl03").unwrap_err().to_string(),
            "no data set is called `conl03`; the known ones are `sst2`, `sst5`, `agnews`, `twitterfin`, \
             `amazon_reviews_multi`, `amazon_reviews_multi_stars`, `conll03`, `ontonotes5`, `wnut17`; did \
             you mean `conll03`?"
        );
    }

    #[test]
    fn tags_are_those_of_whole_spans() {
        for spec in all().iter().filter(|spec| spec.task == TaskKind::Token) {
            assert_eq!(spec.labels[0], "O");
            for pair in spec.labels[1..].chunks(2) {
                let kind = pair[0].strip_prefix("B-").unwrap();
                assert_eq!(pair[1], format!("I-{kind}"));
            }
        }
    }

    /// What is fetched is what is looked for.
    #[test]
    fn the_files_of_the_hub_are_files_of_a_form() {
        for spec in all() {
            let language = &spec.languages[0];
            for source in &spec.hub {
                let dir = tempfile::tempdir().unwrap();
                let mut paths = Vec::new();
                for file in spec.hub_files(source, &[language]).unwrap() {
                    let path = dir.path().join(file);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, "").unwrap();
                    if !path.ends_with("label.json") {
                        paths.push(path);
                    }
                }
                let whole = spec.forms.iter().any(|form| {
                    let found = form.splits.iter();
                    let found: Vec<PathBuf> = found
                        .filter_map(|(_, split)| split.find(dir.path(), language).unwrap())
                        .flatten()
                        .collect();
                    paths.iter().all(|path| found.contains(path))
                });
                assert!(whole, "{} {}", spec.name, source.repo);
            }
        }
    }
}

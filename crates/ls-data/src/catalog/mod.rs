//! Known data sets by name: what they hold, where they come from, and in which forms people have
//! their files.
//!
//! [`find`] gives a [`DatasetSpec`]; its [`locate`](DatasetSpec::locate) looks into a folder, sees which
//! of the forms is there, and says how each file is read. Nothing is fetched and nothing is read but
//! the first lines. Mirrors of one data set number its labels differently, so names come from the
//! file wherever it has them, and else from the form's own documented numbers.

mod forms;
mod sets;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, nearest};
use crate::readers::ReadSpec;
use crate::task::TaskKind;
use forms::Form;

/// A known data set.
#[derive(Debug)]
pub struct DatasetSpec {
    /// Name in configs and on the command line.
    pub name: &'static str,
    /// Other names under which it is found.
    pub aliases: &'static [&'static str],
    /// Name for people.
    pub title: &'static str,
    /// What is labelled.
    pub task: TaskKind,
    /// Names of the labels in the order of their ids. For tags, those of IOB2.
    pub labels: &'static [&'static str],
    /// Splits with their published sizes. A form may have other sizes, see
    /// [`LocatedSplit::expected`].
    pub splits: &'static [SplitSpec],
    /// Languages as two letters; a data set of several is read one at a time.
    pub languages: &'static [&'static str],
    /// Where the Hugging Face Hub has it; the first is fetched unless another is asked for.
    pub hub: &'static [HubSource],
    /// Where it is described.
    pub homepage: &'static str,
    /// Terms under which it is given.
    pub licence: &'static str,
    /// BibTeX of the work to cite.
    pub citation: &'static str,
    /// Limit in tokens of the paper's runs (arXiv 2310.01208, its repository's scripts).
    pub paper_max_length: usize,
    /// Whether the paper's data has a tag on the first word of a name only.
    pub paper_starts_only: bool,
    /// What to know before quoting a score, and what could not be checked.
    pub notes: &'static str,
    forms: &'static [Form],
}

/// The form of OntoNotes in which only the first word of an entity has a tag.
pub const PAPER_ONTONOTES: &str = "JSON lines of the paper's repository";

/// Part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// What is trained on.
    Train,
    /// By which a checkpoint is chosen.
    Validation,
    /// By which it is judged.
    Test,
}

impl SplitName {
    /// The name used in configs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// A split with its published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSpec {
    /// Which split.
    pub name: SplitName,
    /// Number of examples, per language.
    pub examples: Option<usize>,
    /// Number of spans, for tags.
    pub spans: Option<usize>,
}

/// Files on the Hugging Face Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubSource {
    /// Repository of type `dataset`.
    pub repo: &'static str,
    /// Commit, or a branch where files are only on one that moves.
    pub revision: &'static str,
    /// The files that are needed; `{lang}` stands for a language.
    pub files: &'static [&'static str],
}

/// What a folder holds of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct LocatedDataset {
    /// Name of the form, for messages.
    pub form: &'static str,
    /// The splits that are there, in the order train, validation, test.
    pub splits: Vec<LocatedSplit>,
}

impl LocatedDataset {
    /// A split, if it is there.
    pub fn split(&self, name: SplitName) -> Option<&LocatedSplit> {
        self.splits.iter().find(|split| split.name == name)
    }
}

/// The files of a split and how to read them.
#[derive(Debug, Clone, PartialEq)]
pub struct LocatedSplit {
    /// Which split.
    pub name: SplitName,
    /// Its files in order; several where it is in shards.
    pub files: Vec<PathBuf>,
    /// How each of them is read. The label names of the data set, or of the files, are in it.
    pub read: ReadSpec,
    /// Whether it has labels: the test split of GLUE has none.
    pub labelled: bool,
    /// Number of examples that this form has, if it is known.
    pub expected: Option<usize>,
}

/// Every known data set, by name.
pub fn all() -> &'static [DatasetSpec] {
    sets::ALL
}

/// The data set of a name or of one of its aliases; case does not matter.
pub fn find(name: &str) -> Option<&'static DatasetSpec> {
    all().iter().find(|spec| {
        let mut names = std::iter::once(&spec.name).chain(spec.aliases);
        names.any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// As [`find`], with an error that lists the names there are.
///
/// # Errors
/// An unknown name.
pub fn get(name: &str) -> Result<&'static DatasetSpec> {
    find(name).ok_or_else(|| DataError::UnknownDataset {
        name: name.to_string(),
        known: all().iter().map(|spec| spec.name.to_string()).collect(),
        nearest: nearest(name, all().iter().map(|spec| spec.name)),
    })
}

impl DatasetSpec {
    /// The names of the labels, owned.
    pub fn label_names(&self) -> Vec<String> {
        self.labels.iter().map(|name| name.to_string()).collect()
    }

    /// Names of the forms in which its files are known, in the order in which they are looked for.
    pub fn forms(&self) -> impl Iterator<Item = &'static str> {
        self.forms.iter().map(|form| form.name)
    }

    /// Sees which of the known forms a folder holds. A snapshot of the Hub is a folder like any other.
    ///
    /// `language` is needed where there are several. Where a folder holds more than one form, the
    /// first of [`forms`](Self::forms) counts.
    ///
    /// # Errors
    /// No file of any form, with the names that were looked for; a language that is missing or
    /// unknown; a `label.json` that cannot be used.
    pub fn locate(&self, dir: &Path, language: Option<&str>) -> Result<LocatedDataset> {
        let language = self.language(language)?;
        let mut unfit = Vec::new();
        for form in self.forms {
            if let Some(located) = form.locate(self, dir, language, &mut unfit)? {
                return Ok(located);
            }
        }
        if !dir.is_dir() {
            return Err(DataError::NotFound {
                path: dir.to_path_buf(),
            });
        }
        Err(DataError::NoDatasetFiles {
            path: dir.to_path_buf(),
            dataset: self.name,
            looked_for: self
                .forms
                .iter()
                .map(|form| form.sought(language))
                .collect(),
            unfit,
            fetchable: !self.hub.is_empty(),
        })
    }

    fn language(&self, language: Option<&str>) -> Result<&'static str> {
        let known = || self.languages.iter().map(|name| name.to_string()).collect();
        match (language, self.languages) {
            (None, [only]) => Ok(only),
            (None, _) => Err(DataError::LanguageNeeded {
                dataset: self.name,
                known: known(),
            }),
            (Some(language), languages) => {
                let found = languages
                    .iter()
                    .find(|name| name.eq_ignore_ascii_case(language));
                found.copied().ok_or_else(|| DataError::UnknownLanguage {
                    dataset: self.name,
                    language: language.to_string(),
                    known: known(),
                })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_labels_are_unique() {
        let mut names = HashSet::new();
        for spec in all() {
            for name in spec.aliases.iter().chain([&spec.name]) {
                assert!(names.insert(*name), "{name}");
                assert_eq!(find(&name.to_uppercase()).unwrap().name, spec.name);
            }
            let labels: HashSet<_> = spec.labels.iter().collect();
            assert_eq!(labels.len(), spec.labels.len(), "{}", spec.name);
            assert!(
                spec.splits
                    .iter()
                    .any(|split| split.name == SplitName::Train)
            );
            // A config may name a form, so names of forms are unique too.
            let forms: HashSet<_> = spec.forms().collect();
            assert_eq!(forms.len(), spec.forms.len(), "{}", spec.name);
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
        for name in sets::PAPER_ONTONOTES {
            assert!(find("ontonotes5").unwrap().labels.contains(name));
        }
    }

    /// What is fetched is what is looked for.
    #[test]
    fn the_files_of_the_hub_are_files_of_a_form() {
        for spec in all() {
            for source in spec.hub {
                let dir = tempfile::tempdir().unwrap();
                let mut paths = Vec::new();
                for file in source.files {
                    let path = dir.path().join(file.replace("{lang}", spec.languages[0]));
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, "").unwrap();
                    if !path.ends_with("label.json") {
                        paths.push(path);
                    }
                }
                let whole = spec.forms.iter().any(|form| {
                    let found = form.files(dir.path(), spec.languages[0]);
                    paths.iter().all(|path| found.contains(path))
                });
                assert!(whole, "{} {}", spec.name, source.repo);
            }
        }
    }
}

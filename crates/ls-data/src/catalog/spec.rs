//! What a data set is and how it is stored: the contents of a `datasets/NAME.toml`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ls_files::FileError;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::labels::LabelSet;
use crate::readers::{ColumnRef, FileFormat, SequenceColumns};
use crate::scheme::TagScheme;
use crate::task::TaskKind;

/// A data set: its labels, its splits, where it comes from, and the forms in which people have its
/// files.
///
/// Only `task`, `labels` and `forms` are needed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Name in configurations and on the command line: that of the TOML file.
    #[serde(skip)]
    pub name: String,
    /// The TOML file, if the data set is not one of those that are built in.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Other names under which it is found.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Name for people.
    #[serde(default)]
    pub title: String,
    /// What is labelled.
    pub task: TaskKind,
    /// Names of the labels in the order of their ids. For tags, those of IOB2.
    pub labels: Vec<String>,
    /// Splits with their published sizes. A form may have other sizes, see
    /// [`LocatedSplit::expected`](super::LocatedSplit::expected).
    #[serde(default)]
    pub splits: Splits<SplitSize>,
    /// Languages as two letters; a data set with several is read one language at a time.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Where the Hugging Face Hub has it; the first is fetched unless another is asked for.
    #[serde(default)]
    pub hub: Vec<HubSource>,
    /// Where it is described.
    #[serde(default)]
    pub homepage: String,
    /// Terms under which it is given.
    #[serde(default)]
    pub licence: String,
    /// BibTeX of the work to cite.
    #[serde(default)]
    pub citation: String,
    /// Limit in tokens of the paper's runs (arXiv 2310.01208, its repository's scripts).
    #[serde(default = "paper_max_length")]
    pub paper_max_length: usize,
    /// Whether the paper's data has a tag on the first word of a name only.
    #[serde(default)]
    pub paper_starts_only: bool,
    /// What to know before quoting a score, and what could not be checked.
    #[serde(default)]
    pub notes: String,
    /// The forms in the order in which they are looked for.
    pub(super) forms: Vec<Form>,
}

fn paper_max_length() -> usize {
    64
}

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
    /// The name used in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Something about each split that there is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits<T> {
    /// About [`SplitName::Train`].
    pub train: Option<T>,
    /// About [`SplitName::Validation`].
    pub validation: Option<T>,
    /// About [`SplitName::Test`].
    pub test: Option<T>,
}

impl<T> Default for Splits<T> {
    fn default() -> Self {
        Self {
            train: None,
            validation: None,
            test: None,
        }
    }
}

impl<T> Splits<T> {
    /// What there is about a split.
    pub fn get(&self, name: SplitName) -> Option<&T> {
        match name {
            SplitName::Train => self.train.as_ref(),
            SplitName::Validation => self.validation.as_ref(),
            SplitName::Test => self.test.as_ref(),
        }
    }

    /// The splits that there are, in the order train, validation, test.
    pub fn iter(&self) -> impl Iterator<Item = (SplitName, &T)> {
        [SplitName::Train, SplitName::Validation, SplitName::Test]
            .into_iter()
            .filter_map(|name| Some((name, self.get(name)?)))
    }
}

/// The published size of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSize {
    /// Number of examples, per language.
    pub examples: usize,
    /// Number of spans, for tags.
    pub spans: Option<usize>,
}

/// Files on the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// Repository of type `dataset`.
    pub repo: String,
    /// Commit, or a branch where files are only on one that moves.
    pub revision: String,
    /// The files that are needed; `{lang}` stands for a language.
    pub files: Vec<String>,
}

/// One way in which a data set is stored. The keys are those of `[data]` in a run's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub(super) name: String,
    pub(super) format: FileFormat,
    #[serde(default = "yes")]
    pub(super) header: bool,
    pub(super) text: Option<ColumnRef>,
    #[serde(default)]
    pub(super) text_append: Vec<ColumnRef>,
    /// What stands between texts that are put together.
    pub(super) separator: Option<String>,
    pub(super) text_pair: Option<ColumnRef>,
    pub(super) label: Option<ColumnRef>,
    #[serde(default)]
    pub(super) first_label: i64,
    pub(super) tokens: Option<ColumnRef>,
    pub(super) tags: Option<ColumnRef>,
    /// Names of integer labels, if not those of the data set in its order. An empty list: what the
    /// file itself says.
    pub(super) labels: Option<Vec<String>>,
    /// A file beside those of a split that has the names of integer labels, as `label.json`.
    pub(super) labels_file: Option<String>,
    /// Scheme of the tags. Without, the first spans of CoNLL columns tell.
    pub(super) scheme: Option<TagScheme>,
    /// Whether only the first word of a name has a tag.
    #[serde(default)]
    pub(super) starts_only: bool,
    /// Tells the files from those of other forms that have the same names and format.
    #[serde(default)]
    pub(super) first_line: FirstLine,
    pub(super) splits: Splits<FormSplit>,
}

fn yes() -> bool {
    true
}

/// What the first line of a file that is not blank looks like, beside what its format asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FirstLine {
    /// It begins with one of these, if there are any.
    pub(super) starts_with: Vec<String>,
    /// It holds this.
    pub(super) contains: String,
    /// It ends with one of these, if there are any.
    pub(super) ends_with: Vec<String>,
}

/// A split in a form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormSplit {
    /// Places to look at; the first that has files counts. `*` stands for anything in a name, `**`
    /// for any folders, `{lang}` for the language.
    pub(super) files: Vec<String>,
    /// Number of examples, if not the published one.
    #[serde(default)]
    pub(super) examples: FormSize,
    #[serde(default = "yes")]
    pub(super) labelled: bool,
}

/// Number of examples of a split in a form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) enum FormSize {
    /// The published number.
    #[default]
    Published,
    /// Another.
    Count(usize),
    /// Another that is not known.
    Unknown,
}

impl TryFrom<toml::Value> for FormSize {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let count = value.as_integer().map(usize::try_from);
        match (count, value.as_str()) {
            (Some(Ok(count)), _) => Ok(Self::Count(count)),
            (_, Some("unknown")) => Ok(Self::Unknown),
            _ => Err(format!("expected a number or \"unknown\", found {value}")),
        }
    }
}

impl Form {
    /// The columns of its texts and labels.
    pub(super) fn columns(&self) -> SequenceColumns {
        let usual = SequenceColumns::default();
        SequenceColumns {
            text: self.text.clone().unwrap_or(usual.text),
            append: self.text_append.clone(),
            separator: self.separator.clone().unwrap_or(usual.separator),
            text_pair: self.text_pair.clone(),
            label: self.label.clone().or(usual.label),
            first_label: self.first_label,
            ..usual
        }
    }
}

impl DatasetSpec {
    /// Reads the description of a data set, as those in `datasets/*.toml`; its name is that of the
    /// file.
    ///
    /// # Errors
    /// A file that cannot be read; the place of a key that is missing, unknown or of the wrong
    /// type; labels or forms that do not fit together.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = ls_files::read_text(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let spec = Self::parse(&name, &text, path)?;
        Ok(Self {
            file: Some(path.to_path_buf()),
            ..spec
        })
    }

    /// The data set of a name from the text of its file; `path` is for messages.
    pub(super) fn parse(name: &str, text: &str, path: &Path) -> Result<Self> {
        let mut spec: Self = ls_files::parse_toml(text, path)?;
        spec.name = name.to_string();
        match spec.fault() {
            Some(reason) => Err(FileError::Unusable {
                path: path.to_path_buf(),
                what: "description of a data set",
                reason,
            }
            .into()),
            None => Ok(spec),
        }
    }

    /// What does not fit together.
    fn fault(&self) -> Option<String> {
        if let Err(fault) = LabelSet::from_names(self.labels.clone()) {
            return Some(format!("labels: {fault}"));
        }
        if self.forms.is_empty() {
            return Some("forms: there are none".into());
        }
        for form in &self.forms {
            let fault = |fault: String| Some(format!("form {:?}: {fault}", form.name));
            if let Some((name, _)) = form.splits.iter().find(|(_, split)| split.files.is_empty()) {
                return fault(format!("splits.{}.files: there are none", name.name()));
            }
            if form.splits.iter().next().is_none() {
                return fault("splits: there are none".into());
            }
            let mut labels = form.labels.iter().flatten();
            if let Some(label) = labels.find(|label| !self.labels.contains(label)) {
                return fault(format!(
                    "labels: {label:?} is not among those of the data set"
                ));
            }
        }
        let mut names = HashSet::new();
        let twice = self.forms().find(|name| !names.insert(*name));
        twice.map(|name| format!("forms: {name:?} is described twice"))
    }

    /// Names of the forms in which its files are known, in the order in which they are looked for.
    pub fn forms(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().map(|form| form.name.as_str())
    }

    /// The columns of a form's texts; none where no form has this name.
    pub fn columns(&self, form: &str) -> Option<SequenceColumns> {
        let form = self.forms.iter().find(|known| known.name == form)?;
        Some(form.columns())
    }

    /// Where its files are unless another folder is named: `datasets/NAME`, or for a data set that
    /// is not built in, the folder of the TOML file's name beside it.
    pub fn default_dir(&self) -> PathBuf {
        match &self.file {
            Some(file) => file.with_extension(""),
            None => Path::new("datasets").join(&self.name),
        }
    }

    /// The language that is meant, as this data set writes it; case does not matter. Empty where it
    /// has no languages.
    ///
    /// # Errors
    /// No language where there are several; one that is not there.
    pub fn language(&self, language: Option<&str>) -> Result<&str> {
        match (language, self.languages.as_slice()) {
            (None, []) => Ok(""),
            (None, [only]) => Ok(only),
            (None, several) => Err(DataError::LanguageNeeded {
                dataset: self.name.clone(),
                known: several.to_vec(),
            }),
            (Some(language), known) => known
                .iter()
                .find(|name| name.eq_ignore_ascii_case(language))
                .map(String::as_str)
                .ok_or_else(|| DataError::UnknownLanguage {
                    dataset: self.name.clone(),
                    language: language.to_string(),
                    known: known.to_vec(),
                }),
        }
    }

    /// The files of a repository of the Hub that hold these languages; all of them where none is
    /// named.
    ///
    /// # Errors
    /// A language that the data set does not have.
    pub fn hub_files(&self, source: &HubSource, languages: &[&str]) -> Result<Vec<String>> {
        let wanted = languages
            .iter()
            .map(|language| self.language(Some(language)));
        let mut wanted = wanted.collect::<Result<Vec<&str>>>()?;
        if wanted.is_empty() {
            wanted.extend(self.languages.iter().map(String::as_str));
        }
        let mut files = Vec::new();
        for file in &source.files {
            if file.contains("{lang}") {
                files.extend(
                    wanted
                        .iter()
                        .map(|language| file.replace("{lang}", language)),
                );
            } else {
                files.push(file.clone());
            }
        }
        Ok(files)
    }
}

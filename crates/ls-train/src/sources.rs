//! From settings to the files of each split: a known data set's, or those that are named.

use std::path::{Path, PathBuf};

use ls_data::catalog::{self, DatasetSpec, LocatedSplit, SplitName};
use ls_data::{
    BadRows, ColumnRef, DataError, FileFormat, Malformed, ReadSpec, Scheme, SequenceColumns,
    SplitSource, TagChanges, TagScheme, TokenColumns, with_hyphen,
};

use ls_files::{FileError, is_folder};

use crate::config::{DataSettings, Files, Protocol, RunConfig};
use crate::error::{Result, TrainError};

/// The splits of a run, not read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// To learn from.
    pub train: Source,
    /// To choose the best checkpoint by; without, a part of `train` is set aside: a fold of it, if
    /// the configuration names one.
    pub validation: Option<Source>,
    /// To report.
    pub test: Option<Source>,
    /// Label names in order, where they are known beforehand.
    pub labels: Option<Vec<String>>,
    /// The name that the split in `test` was published under, where that is another.
    pub published: Option<&'static str>,
    /// The form that a known data set was found in.
    pub form: Option<String>,
}

/// A split and what is known of it beforehand.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its files and how they are read.
    pub split: SplitSource,
    /// Examples that it should have.
    pub expected: Option<usize>,
}

impl Sources {
    /// The splits that a configuration speaks of.
    ///
    /// # Errors
    ///
    /// If a data set has no description or is not in its folder, or a file's ending does not say
    /// its format.
    pub fn of(config: &RunConfig) -> Result<Self> {
        let data = &config.data;
        let known = data.dataset.as_deref().map(catalog::get).transpose()?;
        let mut sources = match &known {
            Some(known) => Self::of_known(data, known)?,
            None => Self::of_files(data)?,
        };
        if data.protocol == Protocol::Paper {
            // The reference's choice of the best epoch is made on the split that it reports.
            if let Some(test) = &sources.test {
                sources.validation = Some(test.clone());
            }
            let starts_only = known.is_some_and(|known| known.paper_starts_only);
            if starts_only {
                sources.each(|source| source.split.tags.starts_only = true);
                if let Some(labels) = &mut sources.labels {
                    labels.retain(|label| !label.starts_with("I-"));
                }
            }
        }
        let kind = config.problem().label_kind();
        sources.each(|source| source.split.read.sequence.label_kind = kind);
        if data.fold.is_some() {
            // A part of the training split chooses.
            sources.validation = None;
        }
        Ok(sources)
    }

    /// Changes the source of every split.
    fn each(&mut self, change: impl Fn(&mut Source)) {
        let others = [self.validation.as_mut(), self.test.as_mut()];
        let all = std::iter::once(&mut self.train).chain(others.into_iter().flatten());
        all.for_each(change);
    }

    fn of_files(data: &DataSettings) -> Result<Self> {
        let source = |files: &Files| named(data, files.paths(), true);
        let train = data.train.as_ref().ok_or(TrainError::EmptySplit {
            split: "train".into(),
        })?;
        Ok(Self {
            train: source(train)?,
            validation: data.validation.as_ref().map(source).transpose()?,
            test: data.test.as_ref().map(source).transpose()?,
            labels: data.labels.as_deref().map(|names| label_names(data, names)),
            published: None,
            form: None,
        })
    }

    fn of_known(data: &DataSettings, known: &DatasetSpec) -> Result<Self> {
        let default = known.default_dir();
        let dir = data.dir.as_deref().unwrap_or(&default);
        if !is_folder(dir)? {
            return Err(TrainError::NoDataset {
                path: dir.into(),
                name: known.name.clone(),
            });
        }
        let located = known.locate(dir, data.language.as_deref())?;
        if located.starts_only && data.protocol == Protocol::Strict {
            let reason = format!(
                "{}: only the first word of an entity has a tag in these files, so that spans cannot \
                 be scored: set data.protocol = \"paper\", or give data.dir another form of {}",
                located.form, known.name
            );
            return Err(TrainError::Settings {
                path: dir.into(),
                reason,
            });
        }
        if known.splits.test.is_some() && located.split(SplitName::Test).is_none() {
            tracing::warn!(
                "{}: no test split of {} in it: its validation split is reported in the place of it",
                dir.display(),
                known.name
            );
        }
        let mut splits = [None, None, None];
        for split in &located.splits {
            if split.labelled {
                splits[split.name as usize] = Some(known_source(data, split));
            }
        }
        let [train, validation, test] = splits;
        let train = train.ok_or(TrainError::EmptySplit {
            split: SplitName::Train.name().into(),
        })?;
        // Where the published test split has no labels, or there is none, the validation split is
        // what is reported.
        let (validation, test, published) = match test {
            None => {
                let published = validation.as_ref().map(|_| SplitName::Validation.name());
                (None, validation, published)
            }
            Some(test) => (validation, Some(test), None),
        };
        Ok(Self {
            train,
            validation,
            test,
            labels: Some(known_labels(data, known)),
            published,
            form: Some(located.form),
        })
    }

    /// Whether the split that is reported also chooses the checkpoint.
    pub(crate) fn reported_split_chose(&self) -> bool {
        self.test.is_none() || self.test == self.validation
    }

    /// Every file of every split.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let splits = [
            Some(&self.train),
            self.validation.as_ref(),
            self.test.as_ref(),
        ];
        let mut files: Vec<&Path> = Vec::new();
        for file in splits.into_iter().flatten().flat_map(|s| &s.split.files) {
            if !files.contains(&file.as_path()) {
                files.push(file);
            }
        }
        files
    }
}

/// Label names that are given, as tags are once they are read.
fn label_names(data: &DataSettings, names: &[String]) -> Vec<String> {
    let name = |name: &String| match &data.tag_separator {
        Some(separator) => with_hyphen(name, separator).into_owned(),
        None => name.clone(),
    };
    names.iter().map(name).collect()
}

/// The label names of a known data set in the scheme that is trained.
fn known_labels(data: &DataSettings, known: &DatasetSpec) -> Vec<String> {
    if let Some(labels) = &data.labels {
        return labels.clone();
    }
    let prefixes: &[&str] = match data.train_scheme {
        None | Some(TagScheme::Iob1 | TagScheme::Iob2) => return known.labels.clone(),
        Some(TagScheme::Ioe1 | TagScheme::Ioe2) => &["I", "E"],
        Some(TagScheme::Iobes) => &["B", "I", "E", "S"],
        Some(TagScheme::Bilou) => &["B", "I", "L", "U"],
    };
    let types = known
        .labels
        .iter()
        .filter_map(|label| label.strip_prefix("B-"));
    let tags = types.flat_map(|name| {
        prefixes
            .iter()
            .map(move |prefix| format!("{prefix}-{name}"))
    });
    ["O".to_string()].into_iter().chain(tags).collect()
}

fn known_source(data: &DataSettings, located: &LocatedSplit) -> Source {
    let mut read = located.read.clone();
    if data.scheme.is_some() {
        read.scheme = data.scheme.and_then(Scheme::of_spans);
    }
    read.encoding = data.encoding;
    read.delimiter = data.delimiter;
    Source {
        split: SplitSource {
            files: located.files.clone(),
            // Its labels are in this scheme.
            tags: changes(data, read.scheme.map(|_| TagScheme::Iob2)),
            read,
            bad_rows: bad_rows(data),
        },
        expected: located.expected,
    }
}

/// A file as one of the run's known data set, if it has one: the split of the folder that it stands
/// in, else in the form of the run's own files.
///
/// # Errors
///
/// If a folder cannot be looked through.
pub fn known_form(data: &DataSettings, file: &Path) -> Result<Option<Source>> {
    let Some(known) = data.known() else {
        return Ok(None);
    };
    let language = data.language.as_deref();
    let same = |found: &PathBuf| {
        found == file || found.canonicalize().ok() == file.canonicalize().ok() && file.exists()
    };
    // A folder that does not hold the data set is none of it; one that cannot be read may be.
    let located = |dir: &Path| match known.locate(dir, language) {
        Err(error @ DataError::File(FileError::Read { .. })) => Err(TrainError::from(error)),
        located => Ok(located.ok()),
    };
    let of_folder = |dir: &Path| -> Result<Option<Source>> {
        let Some(located) = located(dir)? else {
            return Ok(None);
        };
        let mut splits = located.splits.iter();
        let split = splits.find(|split| split.files.iter().any(same));
        Ok(split.map(|split| known_source(data, split)))
    };
    let folders = [ls_files::parent_of(file).to_path_buf()];
    let own = data.dir.iter().cloned();
    let mut found = None;
    for dir in folders.into_iter().chain(own) {
        found = of_folder(&dir)?;
        if found.is_some() {
            break;
        }
    }
    let found = match found {
        Some(found) => Some(found),
        None => {
            // Another file: as the run's own, if it is written the same way.
            let dir = data.dir.clone().unwrap_or_default();
            let located = located(&dir)?;
            let split = located.as_ref().and_then(|located| located.splits.first());
            let source = split.map(|split| known_source(data, split));
            source.filter(|source| {
                FileFormat::from_path(file).is_ok_and(|format| format == source.split.read.format)
            })
        }
    };
    let starts_only = data.protocol == Protocol::Paper && known.paper_starts_only;
    Ok(found.map(|mut source| {
        source.split.files = vec![file.to_path_buf()];
        source.split.tags.starts_only = starts_only;
        source.expected = None;
        source
    }))
}

/// The format of the run's own files, where a file has their ending and that does not say it.
pub fn recorded_format(data: &DataSettings, file: &Path) -> Option<FileFormat> {
    let format = FileFormat::from_name(data.format.as_ref()?)?;
    let ending = |path: &Path| path.extension().map(|ending| ending.to_ascii_lowercase());
    let own = [&data.train, &data.validation, &data.test];
    let mut own = own.into_iter().flatten().flat_map(Files::paths);
    let same = own.any(|path| ending(path) == ending(file));
    (same && FileFormat::from_path(file).ok() != Some(format)).then_some(format)
}

fn changes(data: &DataSettings, to: Option<TagScheme>) -> TagChanges {
    let default = match data.dataset {
        Some(_) => Malformed::Repair,
        None => Malformed::Refuse,
    };
    TagChanges {
        separator: data.tag_separator.clone(),
        to: data.train_scheme.or(to),
        malformed: data.malformed.unwrap_or(default),
        starts_only: false,
    }
}

fn bad_rows(data: &DataSettings) -> BadRows {
    BadRows {
        skip: data.skip_bad_rows,
        ..BadRows::default()
    }
}

/// Files that are read by the columns of `data`; without `labelled` they need no labels.
///
/// # Errors
///
/// If a file's ending does not say its format.
pub fn named(data: &DataSettings, files: &[PathBuf], labelled: bool) -> Result<Source> {
    for file in files {
        if is_folder(file)? {
            return Err(catalog::folder_fault(file).into());
        }
    }
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    let format = match &data.format {
        Some(name) => FileFormat::from_name(name),
        None => None,
    };
    let format = match format {
        Some(format) => format,
        None => FileFormat::from_path(first)?,
    };
    Ok(Source {
        split: SplitSource {
            files: files.to_vec(),
            read: read_spec(data, format, labelled),
            tags: changes(data, None),
            bad_rows: bad_rows(data),
        },
        expected: None,
    })
}

/// The settings of a run for JSON: the numbers of its columns say nothing of objects, in which the
/// usual keys stand for them. What was `said` for this file stays.
pub fn with_keys(data: &DataSettings, said: impl Fn(&str) -> bool) -> DataSettings {
    let mut data = data.clone();
    let usual = |at: &mut ColumnRef, key: &str| {
        if matches!(at, ColumnRef::Index(_)) && !said(key) {
            *at = key.into();
        }
    };
    usual(&mut data.text, "text");
    usual(&mut data.label, "label");
    if let Some(pair) = &mut data.text_pair {
        usual(pair, "text_pair");
    }
    data
}

/// How a file of a format is read by the columns of `data`.
pub(crate) fn read_spec(data: &DataSettings, format: FileFormat, labelled: bool) -> ReadSpec {
    ReadSpec {
        format,
        header: data.header,
        delimiter: data.delimiter,
        encoding: data.encoding,
        sequence: sequence_columns(data, labelled),
        tokens: token_columns(data, labelled),
        label_names: data.labels.clone().filter(|_| labelled),
        scheme: data.scheme.and_then(Scheme::of_spans),
    }
}

fn sequence_columns(data: &DataSettings, labelled: bool) -> SequenceColumns {
    SequenceColumns {
        text: data.text.clone(),
        append: data.text_append.clone(),
        first_label: data.first_label,
        label_delimiter: data.label_delimiter.clone(),
        text_pair: data.text_pair.clone(),
        label: labelled.then(|| data.label.clone()),
        keep_extra: !labelled,
        blank: !labelled,
        ..SequenceColumns::default()
    }
}

fn token_columns(data: &DataSettings, labelled: bool) -> TokenColumns {
    let usual = TokenColumns::at(data.tokens.as_ref(), data.tags.as_ref());
    TokenColumns {
        tagged: labelled,
        keep_extra: !labelled,
        blank: !labelled,
        text_key: match &data.text {
            ColumnRef::Name(key) => key.clone(),
            ColumnRef::Index(_) => usual.text_key.clone(),
        },
        offsets: data.offsets,
        bad_spans: data.bad_spans,
        ..usual
    }
}

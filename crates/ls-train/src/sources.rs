//! From settings to the files of each split: a known data set's, or those that are named.

use std::path::{Path, PathBuf};

use ls_data::catalog::{LocatedSplit, SplitName};
use ls_data::{
    BadRows, ColumnRef, FileFormat, ReadSpec, SequenceColumns, SplitSource, TagChanges, TagScheme,
    TokenColumns,
};

use crate::config::{DataSettings, Protocol, RunConfig};
use crate::error::{Result, TrainError};

/// The splits of a run, not read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// To learn from.
    pub train: Source,
    /// To choose the best checkpoint by; without, a part of `train` is set aside.
    pub validation: Option<Source>,
    /// To report.
    pub test: Option<Source>,
    /// Label names in order, where they are known beforehand.
    pub labels: Option<Vec<String>>,
    /// The form that a known data set was found in.
    pub form: Option<&'static str>,
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
    /// If a known data set is not in its folder, or a file's ending does not say its format.
    pub fn of(config: &RunConfig) -> Result<Self> {
        let data = &config.data;
        let mut sources = match data.known() {
            Some(known) => {
                let default = Path::new("datasets").join(known.name);
                let dir = data.dir.as_deref().unwrap_or(&default);
                if !dir.is_dir() {
                    return Err(TrainError::NoDataset {
                        path: dir.into(),
                        name: known.name.into(),
                    });
                }
                let located = known.locate(dir, data.language.as_deref())?;
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
                // Where the published test split has no labels, or there is none, the validation split is what is reported.
                let (validation, test) = match test {
                    None => (None, validation),
                    Some(test) => (validation, Some(test)),
                };
                Self {
                    train,
                    validation,
                    test,
                    labels: data.labels.clone().or(Some(known.label_names())),
                    form: Some(located.form),
                }
            }
            None => {
                let source = |files: &crate::config::Files| named(data, files.paths(), true);
                let train = data.train.as_ref().ok_or(TrainError::EmptySplit {
                    split: "train".into(),
                })?;
                Self {
                    train: source(train)?,
                    validation: data.validation.as_ref().map(source).transpose()?,
                    test: data.test.as_ref().map(source).transpose()?,
                    labels: data.labels.clone(),
                    form: None,
                }
            }
        };
        if data.protocol == Protocol::Paper {
            // The reference's choice of the best epoch is made on the split that it reports.
            if let Some(test) = &sources.test {
                sources.validation = Some(test.clone());
            }
            let starts_only = data.known().is_some_and(|known| known.paper_starts_only);
            if starts_only {
                let Self {
                    train,
                    validation,
                    test,
                    labels,
                    ..
                } = &mut sources;
                for source in [Some(train), validation.as_mut(), test.as_mut()]
                    .into_iter()
                    .flatten()
                {
                    source.split.tags.starts_only = true;
                }
                if let Some(labels) = labels {
                    labels.retain(|label| !label.starts_with("I-"));
                }
            }
        }
        Ok(sources)
    }

    /// Every file of every split.
    pub fn files(&self) -> Vec<&Path> {
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

fn known_source(data: &DataSettings, located: &LocatedSplit) -> Source {
    let mut read = located.read.clone();
    read.sequence.keep_extra = false;
    read.tokens.keep_extra = false;
    if data.scheme.is_some() {
        read.scheme = data.scheme;
    }
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

fn changes(data: &DataSettings, to: Option<TagScheme>) -> TagChanges {
    TagChanges {
        to: data.train_scheme.or(to),
        malformed: data.malformed,
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

/// How a file of a format is read by the columns of `data`.
pub fn read_spec(data: &DataSettings, format: FileFormat, labelled: bool) -> ReadSpec {
    ReadSpec {
        format,
        header: data.header,
        sequence: sequence_columns(data, labelled),
        tokens: token_columns(data, labelled),
        label_names: data.labels.clone().filter(|_| labelled),
        scheme: data.scheme,
    }
}

fn sequence_columns(data: &DataSettings, labelled: bool) -> SequenceColumns {
    SequenceColumns {
        text: data.text.clone(),
        text_pair: data.text_pair.clone(),
        label: labelled.then(|| data.label.clone()),
        keep_extra: !labelled,
        ..SequenceColumns::default()
    }
}

/// A number is for CoNLL files, a name for JSON.
fn token_columns(data: &DataSettings, labelled: bool) -> TokenColumns {
    let mut columns = TokenColumns {
        tagged: labelled,
        keep_extra: !labelled,
        ..TokenColumns::default()
    };
    match &data.tokens {
        Some(ColumnRef::Index(column)) => columns.token = *column,
        Some(ColumnRef::Name(key)) => columns.tokens_key = key.clone(),
        None => {}
    }
    match &data.tags {
        Some(ColumnRef::Index(column)) => columns.tag = Some(*column),
        Some(ColumnRef::Name(key)) => columns.tags_key = Some(key.clone()),
        None => {}
    }
    columns
}

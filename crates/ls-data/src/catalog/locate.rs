//! From a folder to the files of each split: which form of a data set is there, and how it is read.

use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use ls_files::{FileError, is_file, is_folder, open_regular};

use super::spec::{DatasetSpec, FirstLine, Form, FormSize, FormSplit, SplitName};
use crate::error::{DataError, Result, unknown_label};
use crate::readers::{FileFormat, ReadSpec, TokenColumns, read_label_json, source};
use crate::scheme::TagScheme;
use crate::task::TaskKind;

/// What a folder holds of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct LocatedDataset {
    /// Name of the form, for messages.
    pub form: String,
    /// Whether only the first word of a name has a tag in these files, so that spans cannot be
    /// scored.
    pub starts_only: bool,
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

impl DatasetSpec {
    /// Sees which of the known forms a folder holds. A snapshot of the Hub is a folder like any
    /// other.
    ///
    /// `language` is needed where there are several. Where a folder holds more than one form, the
    /// first of [`forms`](Self::forms) counts.
    ///
    /// # Errors
    /// No file of any form, with the names that were looked for; a language that is missing or
    /// unknown; a `label.json` that cannot be used.
    pub fn locate(&self, dir: &Path, language: Option<&str>) -> Result<LocatedDataset> {
        let language = self.language(language)?;
        if !is_folder(dir)? {
            return Err(FileError::NoFolder {
                path: dir.to_path_buf(),
            }
            .into());
        }
        let mut unfit = Vec::new();
        for form in &self.forms {
            let splits = self.splits_in(form, dir, language, &mut unfit)?;
            if !splits.is_empty() {
                return Ok(LocatedDataset {
                    form: form.name.clone(),
                    starts_only: form.starts_only,
                    splits,
                });
            }
        }
        let sought = |form: &Form| {
            let first = form.splits.iter().next();
            let first = first.and_then(|(_, split)| split.files.first());
            first.map_or(String::new(), |name| name.replace("{lang}", language))
        };
        Err(DataError::NoDatasetFiles {
            path: dir.to_path_buf(),
            dataset: self.name.clone(),
            looked_for: self.forms.iter().map(sought).collect(),
            unfit,
            remedy: match &self.file {
                _ if self.hub.is_empty() => {
                    "; it is not on the Hub, so the files must be your own".into()
                }
                None => format!("; `cargo xtask fetch-data {}` fetches it", self.name),
                Some(_) => "; --download fetches it".into(),
            },
        })
    }

    /// The splits that a folder holds in a form. Files of the right name that are not of this form
    /// are added to `unfit`.
    fn splits_in(
        &self,
        form: &Form,
        dir: &Path,
        language: &str,
        unfit: &mut Vec<PathBuf>,
    ) -> Result<Vec<LocatedSplit>> {
        let mut splits = Vec::new();
        for (name, split) in form.splits.iter() {
            let Some(files) = split.find(dir, language)? else {
                continue;
            };
            if !form.fits(&files[0])? {
                if !unfit.contains(&files[0]) {
                    unfit.push(files[0].clone());
                }
                continue;
            }
            splits.push(LocatedSplit {
                name,
                read: self.read_spec(form, split, &files[0])?,
                labelled: split.labelled,
                expected: match split.examples {
                    FormSize::Published => self.splits.get(name).map(|size| size.examples),
                    FormSize::Count(count) => Some(count),
                    FormSize::Unknown => None,
                },
                files,
            });
        }
        Ok(splits)
    }

    /// How a split is read whose first file this is.
    fn read_spec(&self, form: &Form, split: &FormSplit, file: &Path) -> Result<ReadSpec> {
        let mut read = ReadSpec::new(form.format);
        read.header = form.header;
        read.label_names = self.label_names(form, file)?;
        match self.task {
            TaskKind::Sequence => {
                read.sequence = form.columns();
                read.sequence.label.take_if(|_| !split.labelled);
            }
            TaskKind::Token => {
                read.tokens = TokenColumns {
                    tagged: split.labelled,
                    ..TokenColumns::at(form.tokens.as_ref(), form.tags.as_ref())
                };
                read.scheme = match form.scheme {
                    None if form.format == FileFormat::Conll => Some(scheme_of(&read, file)?),
                    scheme => scheme,
                };
            }
        }
        read.sequence.keep_extra = false;
        read.tokens.keep_extra = false;
        Ok(read)
    }

    /// What the integers in a file stand for, if the form knows it.
    fn label_names(&self, form: &Form, file: &Path) -> Result<Option<Vec<String>>> {
        if let Some(name) = &form.labels_file {
            let path = file.with_file_name(name);
            let names = read_label_json(&path)?;
            return match names.iter().find(|name| !self.labels.contains(name)) {
                Some(other) => Err(unknown_label(other, &self.labels, &path, 1)),
                None => Ok(Some(names)),
            };
        }
        let names = form.labels.as_ref().unwrap_or(&self.labels);
        Ok(Some(names.clone()).filter(|names| !names.is_empty()))
    }
}

impl FormSplit {
    pub(super) fn find(&self, dir: &Path, language: &str) -> Result<Option<Vec<PathBuf>>> {
        for pattern in &self.files {
            let files = expand(dir, &pattern.replace("{lang}", language))?;
            if !files.is_empty() {
                return Ok(Some(files));
            }
        }
        Ok(None)
    }
}

impl Form {
    /// Whether a file with a name of this form is of it.
    fn fits(&self, file: &Path) -> Result<bool> {
        Ok(match self.format {
            FileFormat::Parquet => true,
            format => {
                let line = first_line(file)?;
                begins(format, &line) && self.first_line.fits(&line)
            }
        })
    }
}

impl FirstLine {
    fn fits(&self, line: &str) -> bool {
        let any = |texts: &[String], fits: &dyn Fn(&str) -> bool| {
            texts.is_empty() || texts.iter().any(|text| fits(text))
        };
        any(&self.starts_with, &|text| line.starts_with(text))
            && any(&self.ends_with, &|text| line.ends_with(text))
            && line.contains(&self.contains)
    }
}

/// Whether a file of this format can begin with this line.
fn begins(format: FileFormat, line: &str) -> bool {
    let fields = || line.split_ascii_whitespace().count();
    match format {
        FileFormat::Jsonl => line.starts_with('{'),
        FileFormat::Conll => !line.starts_with('{') && !line.starts_with("#begin") && fields() > 1,
        FileFormat::Conll2012 => line.starts_with("#begin document") || fields() > 10,
        FileFormat::FastText => line.starts_with("__label__"),
        FileFormat::Trees => line.starts_with('('),
        FileFormat::Csv | FileFormat::Tsv | FileFormat::Parquet => true,
    }
}

/// The first line that is not blank, as far as it is text, or its beginning.
fn first_line(path: &Path) -> Result<String> {
    const MOST: u64 = 1 << 16;
    let failed = FileError::reading(path);
    let (file, _) = open_regular(path)?;
    let mut reader = source(file.take(MOST), None);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(&failed)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if count == 0 || !text.is_empty() {
            return Ok(text.to_string());
        }
    }
}

/// The files under `dir` that a pattern names, in order.
fn expand(dir: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let mut found = Vec::new();
    walk(dir, &parts, &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(dir: &Path, parts: &[&str], found: &mut Vec<PathBuf>) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    if *part == "**" {
        walk(dir, rest, found)?;
        // Folders that are links are passed over: they may lead back.
        for (path, is_folder) in entries(dir)? {
            if is_folder {
                walk(&path, parts, found)?;
            }
        }
    } else if part.contains('*') {
        for (path, _) in entries(dir)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| matches(name, part)) {
                step(path, rest, found)?;
            }
        }
    } else {
        step(dir.join(part), rest, found)?;
    }
    Ok(())
}

fn step(path: PathBuf, rest: &[&str], found: &mut Vec<PathBuf>) -> Result<()> {
    if !rest.is_empty() {
        if is_folder(&path)? {
            walk(&path, rest, found)?;
        }
    } else if is_file(&path)? {
        found.push(path);
    }
    Ok(())
}

/// What a folder holds, and whether it is a folder. One that cannot be read is not one without
/// files.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let reading = FileError::reading(dir);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(&reading)? {
        let entry = entry.map_err(&reading)?;
        let kind = entry.file_type().map_err(&reading)?;
        all.push((entry.path(), kind.is_dir()));
    }
    Ok(all)
}

/// Whether a name is of a pattern in which `*` stands for anything.
fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|behind| {
            let ends = behind
                .char_indices()
                .map(|(at, _)| at)
                .chain([behind.len()]);
            ends.into_iter().any(|at| matches(&behind[at..], rest))
        }),
    }
}

/// The scheme of a file's tags by the first span that tells: CoNLL 2003 is passed on in both. A
/// span that begins with `I-` is IOB1's; one that begins with `B-`, where none of its type is
/// before it, IOB2's.
fn scheme_of(read: &ReadSpec, file: &Path) -> Result<TagScheme> {
    const SENTENCES: usize = 1000;
    for sentence in read.read_tokens(file)?.take(SENTENCES) {
        // Bad rows are reported when the split is read.
        let Ok(sentence) = sentence else { continue };
        let mut before = "";
        for tag in sentence.tags.iter().flatten() {
            let kind = tag.get(2..).unwrap_or_default();
            let continues = before.get(2..) == Some(kind);
            match tag.get(..2) {
                Some("I-") if !continues => return Ok(TagScheme::Iob1),
                Some("B-") if !continues => return Ok(TagScheme::Iob2),
                _ => before = tag,
            }
        }
    }
    Ok(TagScheme::Iob2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("train.csv");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            let error = first_line(&pipe).unwrap_err();
            let is_refused = matches!(error, DataError::File(FileError::NotRegular { .. }));
            assert!(is_refused, "{error}");
        }
    }

    #[test]
    fn stars_stand_for_anything_in_a_name() {
        for (pattern, name) in [
            ("train-*.parquet", "train-00000-of-00001.parquet"),
            ("train*.json", "train.json"),
            ("*", "é"),
            ("*gold_conll", "a.v4_gold_conll"),
            ("a*b*c", "abbc"),
        ] {
            assert!(matches(name, pattern), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("train-*.parquet", "validation-0.parquet"),
            ("train*.json", "train.jsonl"),
            ("a*b", "ab c"),
            ("a", "ab"),
        ] {
            assert!(!matches(name, pattern), "{pattern} {name}");
        }
    }
}

//! Forms of a data set: the names of its files, how to tell them from others of the same name, and
//! how they are read.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{DatasetSpec, LocatedDataset, LocatedSplit, SplitName};
use crate::error::{DataError, Result};
use crate::readers::{FileFormat, ReadSpec, read_label_json};
use crate::scheme::TagScheme;

/// One way in which a data set is stored.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) splits: &'static [FormSplit],
    /// Whether the first line that is not blank is one of this form; Parquet has no lines.
    pub(super) fits: fn(&str) -> bool,
    /// How a split is read.
    pub(super) read: fn(&Split<'_>) -> Result<ReadSpec>,
}

/// Where a split stands in a form.
#[derive(Debug)]
pub(super) struct FormSplit {
    pub(super) name: SplitName,
    /// Places to look at, the first that has files counts. `*` stands for anything in a name, `**`
    /// for any folders, `{lang}` for the language.
    pub(super) files: &'static [&'static str],
    /// Number of examples, if it is known.
    pub(super) examples: Option<usize>,
    pub(super) labelled: bool,
}

/// A split whose files were found.
pub(super) struct Split<'a> {
    pub(super) spec: &'a DatasetSpec,
    pub(super) labelled: bool,
    pub(super) files: &'a [PathBuf],
}

/// The labelled split of this size.
pub(super) const fn split(
    name: SplitName,
    files: &'static [&'static str],
    examples: Option<usize>,
) -> FormSplit {
    FormSplit {
        name,
        files,
        examples,
        labelled: true,
    }
}

impl FormSplit {
    fn find(&self, dir: &Path, language: &str) -> Option<Vec<PathBuf>> {
        let places = self.files.iter();
        places
            .map(|pattern| expand(dir, &pattern.replace("{lang}", language)))
            .find(|files| !files.is_empty())
    }
}

impl Form {
    /// Every file that has a name of this form.
    #[cfg(test)]
    pub(super) fn files(&self, dir: &Path, language: &str) -> Vec<PathBuf> {
        let splits = self.splits.iter();
        splits
            .filter_map(|split| split.find(dir, language))
            .flatten()
            .collect()
    }

    /// What the folder holds in this form, if anything. Files of the right name that are not of
    /// this form are added to `unfit`.
    pub(super) fn locate(
        &self,
        spec: &DatasetSpec,
        dir: &Path,
        language: &str,
        unfit: &mut Vec<PathBuf>,
    ) -> Result<Option<LocatedDataset>> {
        let mut splits = Vec::new();
        for split in self.splits {
            let Some(files) = split.find(dir, language) else {
                continue;
            };
            if !self.is_of_form(&files[0])? {
                if !unfit.contains(&files[0]) {
                    unfit.push(files[0].clone());
                }
                continue;
            }
            let read = (self.read)(&Split {
                spec,
                labelled: split.labelled,
                files: &files,
            })?;
            splits.push(LocatedSplit {
                name: split.name,
                read,
                labelled: split.labelled,
                expected: split.examples,
                files,
            });
        }
        Ok(match splits.is_empty() {
            true => None,
            false => Some(LocatedDataset {
                form: self.name,
                splits,
            }),
        })
    }

    fn is_of_form(&self, file: &Path) -> Result<bool> {
        if file
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            return Ok(true);
        }
        Ok((self.fits)(&first_line(file)?))
    }

    /// What a message says was looked for.
    pub(super) fn sought(&self, language: &str) -> String {
        let first = self.splits.first().and_then(|split| split.files.first());
        first.map_or(String::new(), |name| name.replace("{lang}", language))
    }
}

/// The first line that is not blank, as far as it is text, or its beginning.
fn first_line(path: &Path) -> Result<String> {
    const MOST: u64 = 1 << 16;
    let read = |source| DataError::Read {
        path: path.to_path_buf(),
        source,
    };
    let file = fs::File::open(path).map_err(read)?;
    let mut reader = BufReader::new(file.take(MOST));
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(read)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_start_matches('\u{feff}').trim();
        if count == 0 || !text.is_empty() {
            return Ok(text.to_string());
        }
    }
}

/// The files under `dir` that a pattern names, in order.
fn expand(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let mut found = Vec::new();
    walk(dir, &parts, &mut found);
    found.sort();
    found.dedup();
    found
}

fn walk(dir: &Path, parts: &[&str], found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else {
        return;
    };
    if *part == "**" {
        walk(dir, rest, found);
        // Folders that are links are passed over: they may lead back.
        for (path, is_folder) in entries(dir) {
            if is_folder {
                walk(&path, parts, found);
            }
        }
    } else if part.contains('*') {
        for (path, _) in entries(dir) {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| matches(name, part)) {
                step(path, rest, found);
            }
        }
    } else {
        step(dir.join(part), rest, found);
    }
}

fn step(path: PathBuf, rest: &[&str], found: &mut Vec<PathBuf>) {
    match rest.is_empty() {
        true if path.is_file() => found.push(path),
        true => {}
        false => walk(&path, rest, found),
    }
}

fn entries(dir: &Path) -> Vec<(PathBuf, bool)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            (
                entry.path(),
                entry.file_type().is_ok_and(|kind| kind.is_dir()),
            )
        })
        .collect()
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

/// Any first line.
pub(super) fn anything(_: &str) -> bool {
    true
}

/// A JSON object.
pub(super) fn is_object(line: &str) -> bool {
    line.starts_with('{')
}

/// A line of SetFit's files.
pub(super) fn has_label_text(line: &str) -> bool {
    is_object(line) && line.contains("\"label_text\"")
}

/// Columns of CoNLL, or the mark of a document.
pub(super) fn is_columns(line: &str) -> bool {
    !is_object(line) && !line.starts_with("#begin") && line.split_ascii_whitespace().count() > 1
}

/// A table of texts in Parquet. Its own label names come first; those of the data set are for
/// integers without.
fn parquet(split: &Split<'_>, text: &str) -> ReadSpec {
    let mut read = ReadSpec::new(FileFormat::Parquet);
    read.sequence.text = text.into();
    labelled(&mut read, split, "label");
    read
}

/// Sets the column of the labels, and which there may be.
fn labelled(read: &mut ReadSpec, split: &Split<'_>, column: &str) {
    read.sequence.keep_extra = false;
    read.sequence.label = split.labelled.then(|| column.into());
    read.label_names = Some(split.spec.label_names());
}

/// Parquet with `sentence` and `label`.
pub(super) fn parquet_sentence(split: &Split<'_>) -> Result<ReadSpec> {
    Ok(parquet(split, "sentence"))
}

/// Parquet with `text` and `label`.
pub(super) fn parquet_text(split: &Split<'_>) -> Result<ReadSpec> {
    Ok(parquet(split, "text"))
}

/// JSON lines with `text` and `label_text`.
pub(super) fn setfit(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Jsonl);
    labelled(&mut read, split, "label_text");
    Ok(read)
}

/// JSON lines with `text` and `label`, an integer in the order of the data set.
pub(super) fn json_label(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Jsonl);
    labelled(&mut read, split, "label");
    Ok(read)
}

/// CSV with the header `text,label`, labels as integers in the order of the data set.
pub(super) fn csv_text(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Csv);
    labelled(&mut read, split, "label");
    Ok(read)
}

/// GLUE's table with the header `sentence`, `label`.
pub(super) fn glue(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Tsv);
    read.sequence.text = "sentence".into();
    labelled(&mut read, split, "label");
    Ok(read)
}

/// A table without header: text, then the label.
pub(super) fn bare_tsv(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Tsv);
    read.header = false;
    labelled(&mut read, split, "label");
    read.sequence.text = 0.into();
    read.sequence.label = Some(1.into());
    Ok(read)
}

/// Trees whose labels count in the order of the data set.
pub(super) fn trees(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Trees);
    labelled(&mut read, split, "label");
    Ok(read)
}

/// AG's original table: class from 1, title, description.
pub(super) fn ag_csv(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Csv);
    read.header = false;
    labelled(&mut read, split, "label");
    read.sequence.label = Some(0.into());
    read.sequence.text = 1.into();
    read.sequence.append = vec![2.into()];
    read.sequence.first_label = 1;
    Ok(read)
}

/// AG's table with the header that Kaggle gave it.
pub(super) fn ag_kaggle(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Csv);
    labelled(&mut read, split, "Class Index");
    read.sequence.text = "Title".into();
    read.sequence.append = vec!["Description".into()];
    read.sequence.first_label = 1;
    Ok(read)
}

/// AG as the scripts of fastText write it: `__label__` with the class from 1.
pub(super) fn ag_fasttext(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::FastText);
    labelled(&mut read, split, "label");
    read.sequence.first_label = 1;
    Ok(read)
}

/// The reviews of Amazon as first published; title and text are joined as the paper's scripts do.
fn reviews(split: &Split<'_>, label: &str) -> ReadSpec {
    let mut read = ReadSpec::new(FileFormat::Jsonl);
    labelled(&mut read, split, label);
    read.sequence.text = "review_title".into();
    read.sequence.append = vec!["review_body".into()];
    read.sequence.separator = "\n".to_string();
    read
}

/// The reviews by the category of their product.
pub(super) fn reviews_category(split: &Split<'_>) -> Result<ReadSpec> {
    Ok(reviews(split, "product_category"))
}

/// The reviews by their stars.
pub(super) fn reviews_stars(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = reviews(split, "stars");
    read.sequence.first_label = 1;
    Ok(read)
}

/// Parquet with `tokens` and `ner_tags`. Only the file's own names say what integers mean.
pub(super) fn parquet_tokens(_: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Parquet);
    read.tokens.tags_key = Some("ner_tags".to_string());
    read.scheme = Some(TagScheme::Iob2);
    Ok(read)
}

/// JSON lines of tner with `tokens` and `tags`; a `label.json` beside them has the names.
pub(super) fn tner(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = json_tokens();
    let path = split.files[0].with_file_name("label.json");
    let names = read_label_json(&path)?;
    if let Some(other) = names
        .iter()
        .find(|name| !split.spec.labels.contains(&name.as_str()))
    {
        return Err(crate::labels::unknown_label(
            other,
            &split.spec.label_names(),
            &path,
            1,
        ));
    }
    read.label_names = Some(names);
    Ok(read)
}

/// The JSON lines of the paper's repository, tags as integers in the order of its scripts.
pub(super) fn paper_ontonotes(_: &Split<'_>) -> Result<ReadSpec> {
    let mut read = json_tokens();
    let names = super::sets::PAPER_ONTONOTES
        .iter()
        .map(|name| name.to_string());
    read.label_names = Some(names.collect());
    Ok(read)
}

fn json_tokens() -> ReadSpec {
    let mut read = ReadSpec::new(FileFormat::Jsonl);
    read.tokens.keep_extra = false;
    read.scheme = Some(TagScheme::Iob2);
    read
}

/// Columns with the word first and the tag last.
pub(super) fn conll(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Conll);
    read.label_names = Some(split.spec.label_names());
    read.scheme = Some(scheme_of(&read, &split.files[0])?);
    Ok(read)
}

/// Columns of CoNLL 2012.
pub(super) fn conll2012(split: &Split<'_>) -> Result<ReadSpec> {
    let mut read = ReadSpec::new(FileFormat::Conll2012);
    read.label_names = Some(split.spec.label_names());
    read.scheme = Some(TagScheme::Iob2);
    Ok(read)
}

/// The scheme of a file's tags by the first span that tells: CoNLL 2003 is passed on in both. A span
/// that begins with `I-` is IOB1's; one that begins with `B-`, where none of its type is before it,
/// IOB2's.
fn scheme_of(read: &ReadSpec, file: &Path) -> Result<TagScheme> {
    const SENTENCES: usize = 1000;
    for sentence in read.read_tokens(file)?.take(SENTENCES) {
        // What is wrong with the file is said when it is read.
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
mod tests {
    use super::*;

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

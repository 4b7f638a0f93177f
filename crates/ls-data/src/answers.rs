//! Answers to be scored: the labels or tags of a file, gold or a system's, with their places, so
//! that two files can be laid side by side.
//!
//! The text of an example is read where it is known, to see that both files hold the same; an
//! answer needs none.

use std::collections::HashSet;
use std::path::Path;

use ls_files::{FileError, nearest};
use serde_json::{Map, Value};

use crate::error::{DataError, Result};
use crate::labels::LabelSet;
use crate::readers::{
    ColumnRef, FileFormat, SequenceColumns, TokenColumns, begins_as_json, conll_width,
    read_objects, read_sequence_from, read_tokens_from,
};
use crate::tag_names::NoLabel;
use crate::task::TaskKind;
use crate::text_label::{LabelKind, TextLabel};

/// Where a file holds the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerColumn<'a> {
    /// The last column of a CoNLL file, the key `tags`, `ner_tags` or `label`, the column `label`;
    /// of lists of labels the key `labels` before `label`, of numbers the `score` beside `scores`.
    Usual,
    /// Gold beside predictions: the last but one column of a CoNLL file, else `gold`.
    Gold,
    /// Here.
    At(&'a ColumnRef),
}

/// How answers are read.
#[derive(Debug, Clone, Copy)]
pub struct AnswerOptions<'a> {
    /// What is labelled: texts or words; `None` goes by the file.
    pub task: Option<TaskKind>,
    /// What the labels of texts are.
    pub kind: LabelKind,
    /// What parts the labels of a text where they stand in one string; without, that is a JSON
    /// list.
    pub delimiter: Option<&'a str>,
    /// Where the answers stand.
    pub column: AnswerColumn<'a>,
    /// Names of integer labels, and then the only ones there are.
    pub names: Option<&'a LabelSet>,
    /// Whether the first row of a CSV or TSV file names its columns.
    pub header: bool,
}

/// The answer to a text.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelAnswer {
    /// Line of the file, from 1.
    pub line: usize,
    /// The text, if the file has a field of that name.
    pub text: Option<String>,
    /// The label, or the labels, or the number.
    pub label: TextLabel,
    /// Whether there is none, as the system was too unsure (`"label": null, "abstained": true`, as
    /// `predict` writes it); `label` is empty then.
    pub abstained: bool,
    /// Probability of each class by its name, if the file has an object `scores`.
    pub probabilities: Option<Vec<(String, f64)>>,
}

/// The answer to a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagAnswer {
    /// Line of the file on which the sentence begins, from 1.
    pub line: usize,
    /// Whether each word has a line of its own.
    pub lines_of_words: bool,
    /// The words, if the file has them.
    pub words: Option<Vec<String>>,
    /// One tag per word.
    pub tags: Vec<String>,
}

impl TagAnswer {
    /// Line of a word.
    pub fn line_of(&self, word: usize) -> usize {
        if self.lines_of_words {
            self.line + word
        } else {
            self.line
        }
    }
}

/// The answers of a file, at least one.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// To texts.
    Labels(Vec<LabelAnswer>),
    /// To sentences.
    Tags(Vec<TagAnswer>),
}

/// Reads the answers that a file's `bytes` hold; `name` is its path, for its format and for
/// messages. A file of no known extension is JSON if it begins with an object or a list of them,
/// else CoNLL; a `.tsv` of tags is CoNLL.
///
/// # Errors
/// Each way a file can be wrong is a variant of [`DataError`]; a file without answers is one.
pub fn read_answers(bytes: &[u8], name: &Path, options: &AnswerOptions<'_>) -> Result<Answers> {
    read(bytes, name, options).map_err(|error| match error {
        // Nothing names the encoding of an answer.
        DataError::NotUtf8 {
            path,
            line,
            column,
            byte,
        } => DataError::File(FileError::NotUtf8 {
            path,
            line,
            column,
            byte,
        }),
        error => error,
    })
}

fn read(bytes: &[u8], name: &Path, options: &AnswerOptions<'_>) -> Result<Answers> {
    let format = match (FileFormat::from_path(name), options.task) {
        (Ok(FileFormat::Tsv), Some(TaskKind::Token)) => FileFormat::Conll,
        (Ok(format), _) => format,
        (Err(_), _) if begins_as_json(bytes) => FileFormat::Jsonl,
        (Err(_), _) => FileFormat::Conll,
    };
    let mut answers = match (format, options.task) {
        (FileFormat::Jsonl, _) => of_objects(bytes, name, options)?,
        (FileFormat::Conll, None) | (_, Some(TaskKind::Token)) => {
            Answers::Tags(of_columns(bytes, name, format, options.column)?)
        }
        (_, _) => Answers::Labels(of_table(bytes, name, format, options)?),
    };
    if let Some(names) = options.names {
        match &mut answers {
            Answers::Labels(answers) => {
                for LabelAnswer { label, line, .. } in answers {
                    match label {
                        TextLabel::Class(class) => *class = named(class, names, name, *line)?,
                        TextLabel::Classes(classes) => {
                            for class in classes {
                                *class = named(class, names, name, *line)?;
                            }
                        }
                        TextLabel::Number(_) => {}
                    }
                }
            }
            Answers::Tags(answers) => {
                let unsure = NoLabel::Unsure.beside(|mark| names.id(mark).is_some());
                for answer in answers {
                    for word in 0..answer.tags.len() {
                        if answer.tags[word] == unsure {
                            continue;
                        }
                        let line = answer.line_of(word);
                        answer.tags[word] = named(&answer.tags[word], names, name, line)?;
                    }
                }
            }
        }
    }
    Ok(answers)
}

/// The name that a label stands for: itself, or the one that it numbers.
fn named(label: &str, names: &LabelSet, path: &Path, line: usize) -> Result<String> {
    let index = label.parse::<usize>().ok();
    match names.encode(label, path, line) {
        Ok(id) => Ok(names.name(id).to_string()),
        Err(unknown) => match index.and_then(|index| names.names().get(index)) {
            Some(name) => Ok(name.clone()),
            None => Err(unknown),
        },
    }
}

fn of_columns(
    bytes: &[u8],
    path: &Path,
    format: FileFormat,
    column: AnswerColumn<'_>,
) -> Result<Vec<TagAnswer>> {
    let tag = match column {
        AnswerColumn::Usual => None,
        AnswerColumn::Gold => {
            // Two columns are a word and a tag: one is missing.
            let width = conll_width(bytes, path).unwrap_or_default();
            Some(width.saturating_sub(2))
        }
        AnswerColumn::At(ColumnRef::Index(index)) => Some(*index),
        AnswerColumn::At(ColumnRef::Name(column)) => {
            return Err(DataError::NoHeader {
                path: path.to_path_buf(),
                column: column.clone(),
            });
        }
    };
    let columns = TokenColumns {
        tag,
        ..TokenColumns::default()
    };
    let examples = read_tokens_from(bytes, path, format, &columns);
    let examples = examples.map_err(|error| match (error, column) {
        // Nobody named that column.
        (DataError::OneColumn { path, line, .. }, AnswerColumn::Gold) => {
            let found = conll_width(bytes, &path).unwrap_or_default();
            DataError::NoTagColumn {
                path,
                line,
                found,
                expected: found + 1,
            }
        }
        (error, _) => error,
    })?;
    Ok(examples
        .into_iter()
        .map(|example| TagAnswer {
            line: example.line,
            lines_of_words: true,
            words: Some(example.tokens),
            tags: example.tags.unwrap_or_default(),
        })
        .collect())
}

fn of_table(
    bytes: &[u8],
    path: &Path,
    format: FileFormat,
    options: &AnswerOptions<'_>,
) -> Result<Vec<LabelAnswer>> {
    let label: ColumnRef = match options.column {
        AnswerColumn::Usual => "label".into(),
        AnswerColumn::Gold => "gold".into(),
        AnswerColumn::At(column) => column.clone(),
    };
    let read = |text: ColumnRef| {
        let columns = SequenceColumns {
            text,
            label: Some(label.clone()),
            label_kind: options.kind,
            label_delimiter: options.delimiter.map(str::to_string),
            ..SequenceColumns::default()
        };
        read_sequence_from(bytes, path, format, options.header, &columns, None)
    };
    let with_text = read("text".into());
    // The label serves as the text of a file that has none.
    let (examples, has_text) = match with_text {
        Err(DataError::UnknownColumn { column, .. } | DataError::NoHeader { column, .. })
            if column == "text" =>
        {
            (read(label.clone())?, false)
        }
        with_text => (with_text?, true),
    };
    Ok(examples
        .into_iter()
        .filter_map(|example| {
            Some(LabelAnswer {
                line: example.line,
                label: example.label?,
                abstained: false,
                text: has_text.then_some(example.text),
                probabilities: None,
            })
        })
        .collect())
}

/// One object per line.
struct Row<'a> {
    path: &'a Path,
    line: usize,
    object: Map<String, Value>,
}

fn of_objects(bytes: &[u8], path: &Path, options: &AnswerOptions<'_>) -> Result<Answers> {
    let rows = rows(bytes, path)?;
    let Some(first) = rows.first() else {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
        });
    };
    let usual = ["tags", "ner_tags", "label"];
    let key = match (options.column, options.task) {
        (AnswerColumn::At(ColumnRef::Name(key)), _) => key,
        (AnswerColumn::At(ColumnRef::Index(index)), _) => {
            return Err(DataError::IndexInJson {
                path: path.to_path_buf(),
                index: *index,
            });
        }
        (AnswerColumn::Gold, _) => "gold",
        (AnswerColumn::Usual, Some(TaskKind::Sequence)) => first.usual(options.kind),
        (AnswerColumn::Usual, task) => usual
            .into_iter()
            .filter(|key| task.is_none() || *key != "label")
            .find(|key| first.object.contains_key(*key))
            .unwrap_or(if task.is_none() { "label" } else { "tags" }),
    };
    let task = options.task.unwrap_or(match first.get(key)? {
        Value::Array(_) => TaskKind::Token,
        _ => TaskKind::Sequence,
    });
    let has_names = options.names.is_some();
    Ok(match task {
        TaskKind::Sequence => Answers::Labels(
            rows.iter()
                .map(|row| row.label(key, options))
                .collect::<Result<_>>()?,
        ),
        TaskKind::Token => Answers::Tags(
            rows.iter()
                .map(|row| row.tags(key, has_names))
                .collect::<Result<_>>()?,
        ),
    })
}

fn rows<'a>(bytes: &[u8], path: &'a Path) -> Result<Vec<Row<'a>>> {
    let objects = read_objects(bytes, path)?.into_iter();
    Ok(objects
        .map(|(line, object)| Row { path, line, object })
        .collect())
}

impl Row<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        self.object.get(key).ok_or_else(|| DataError::MissingKey {
            path: self.path.to_path_buf(),
            line: self.line,
            key: key.to_string(),
            available: self.object.keys().cloned().collect(),
            nearest: nearest(key, self.object.keys().map(String::as_str)),
        })
    }

    fn wrong_type(&self, key: String, found: &Value, expected: &'static str) -> DataError {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(text) if text.trim().is_empty() => "an empty string",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        DataError::WrongType {
            path: self.path.to_path_buf(),
            line: self.line,
            key,
            found,
            expected,
        }
    }

    /// The key of the answers where none is said.
    fn usual(&self, kind: LabelKind) -> &'static str {
        match kind {
            LabelKind::Classes if self.object.contains_key("labels") => "labels",
            // Beside it the label is the name of the number.
            LabelKind::Number if self.object.get("scores").is_some_and(Value::is_object) => "score",
            _ => "label",
        }
    }

    fn label(&self, key: &str, options: &AnswerOptions<'_>) -> Result<LabelAnswer> {
        let value = self.get(key)?;
        let label = match (options.kind, value) {
            (LabelKind::Class, Value::String(label)) if !label.trim().is_empty() => {
                TextLabel::Class(label.trim().to_string())
            }
            (LabelKind::Class, Value::Number(number)) if number.is_i64() => {
                TextLabel::Class(number.to_string())
            }
            (LabelKind::Classes, Value::Array(list)) => self.classes(key, list)?,
            (LabelKind::Classes, Value::String(text)) if options.delimiter.is_some() => {
                let parts = text
                    .split(options.delimiter.unwrap_or_default())
                    .map(str::trim);
                let parts = parts.filter(|_| !text.trim().is_empty());
                let parts: Vec<Value> = parts.map(Value::from).collect();
                self.classes(key, &parts)?
            }
            (LabelKind::Number, Value::Number(_) | Value::String(_)) => self.number(value)?,
            // So `predict` answers what it can read nothing of; a gold label is the input's own.
            (_, Value::Null)
                if key != "gold" && self.object.get("error").is_some_and(Value::is_string) =>
            {
                return Err(DataError::Unanswered {
                    path: self.path.to_path_buf(),
                    line: self.line,
                    key: key.to_string(),
                    reason: self.object["error"].as_str().unwrap_or_default().into(),
                });
            }
            (_, Value::Null) if key != "gold" && self.abstained() => TextLabel::Classes(Vec::new()),
            (kind, other) => {
                let expected = match kind {
                    LabelKind::Class => "a string or an integer",
                    LabelKind::Classes => "a list of labels",
                    LabelKind::Number => "a number",
                };
                return Err(self.wrong_type(key.to_string(), other, expected));
            }
        };
        let text = self.object.get("text").and_then(Value::as_str);
        Ok(LabelAnswer {
            line: self.line,
            text: text.map(str::to_string),
            abstained: value.is_null(),
            label,
            probabilities: self.probabilities(),
        })
    }

    /// Whether `predict` was too unsure to answer.
    fn abstained(&self) -> bool {
        self.object.get("abstained") == Some(&Value::Bool(true))
    }

    /// Labels, each once.
    fn classes(&self, key: &str, list: &[Value]) -> Result<TextLabel> {
        let mut names: Vec<String> = Vec::new();
        for (i, value) in list.iter().enumerate() {
            let name = match value {
                Value::String(name) if !name.trim().is_empty() => name.trim().to_string(),
                Value::Number(number) if number.is_i64() => number.to_string(),
                other => {
                    let expected = "a string or an integer";
                    return Err(self.wrong_type(format!("{key}[{i}]"), other, expected));
                }
            };
            if names.contains(&name) {
                return Err(DataError::LabelTwice {
                    path: self.path.to_path_buf(),
                    line: self.line,
                    label: name,
                });
            }
            names.push(name);
        }
        Ok(TextLabel::Classes(names))
    }

    fn number(&self, value: &Value) -> Result<TextLabel> {
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        };
        let number = number.map(|number: f64| number as f32);
        let number = number.filter(|number| number.is_finite());
        let number = number.ok_or_else(|| DataError::NotANumber {
            path: self.path.to_path_buf(),
            line: self.line,
            found: value.to_string(),
        })?;
        Ok(TextLabel::Number(number))
    }

    /// Those of `scores`, if it is an object of numbers.
    fn probabilities(&self) -> Option<Vec<(String, f64)>> {
        let scores = self.object.get("scores")?.as_object()?;
        let entries = scores.iter();
        entries
            .map(|(name, value)| Some((name.clone(), value.as_f64()?)))
            .collect()
    }

    fn tags(&self, key: &str, has_names: bool) -> Result<TagAnswer> {
        let tag = |(i, value): (usize, &Value)| match value {
            Value::String(tag) if !tag.trim().is_empty() => Ok(tag.trim().to_string()),
            Value::Number(number) if number.is_i64() => {
                if has_names {
                    Ok(number.to_string())
                } else {
                    Err(DataError::NamesNeeded {
                        path: self.path.to_path_buf(),
                        line: self.line,
                        key: key.to_string(),
                    })
                }
            }
            other => Err(self.wrong_type(format!("{key}[{i}]"), other, "a string or an integer")),
        };
        let value = self.get(key)?;
        let list = value.as_array();
        let list = list.ok_or_else(|| self.wrong_type(key.to_string(), value, "a list"))?;
        let tags = list
            .iter()
            .enumerate()
            .map(tag)
            .collect::<Result<Vec<_>>>()?;
        let words: Option<Vec<String>> = self.object.get("tokens").and_then(|tokens| {
            let words = tokens.as_array()?.iter();
            words.map(|word| Some(word.as_str()?.to_string())).collect()
        });
        if let Some(words) = words.as_ref().filter(|words| words.len() != tags.len()) {
            return Err(DataError::TokenTagCount {
                path: self.path.to_path_buf(),
                line: self.line,
                tokens: words.len(),
                tags: tags.len(),
            });
        }
        Ok(TagAnswer {
            line: self.line,
            lines_of_words: false,
            words,
            tags,
        })
    }
}

/// What the labels of texts are by the predictions that a file of JSON lines begins with, as
/// `predict` writes them: a list `labels` beside an object `scores`, or one `score` beside the same
/// in `scores` that answers no class.
pub fn predicted_kind(bytes: &[u8]) -> LabelKind {
    let lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    let first = first.and_then(|line| serde_json::from_slice::<Map<String, Value>>(line).ok());
    let Some(first) = first.filter(|first| !first.contains_key("tokens")) else {
        return LabelKind::Class;
    };
    let Some(Value::Object(scores)) = first.get("scores") else {
        return LabelKind::Class;
    };
    let named = first.get("label").and_then(Value::as_str);
    let is_number = |gold: &Value| gold.is_number();
    if first.get("labels").is_some_and(Value::is_array) {
        LabelKind::Classes
    } else if scores.len() == 1
        && named.is_some_and(|name| scores.get(name) == first.get("score"))
        && first.get("gold").is_none_or(is_number)
    {
        LabelKind::Number
    } else {
        LabelKind::Class
    }
}

/// Sees that two files answer the same examples: as many, in sentences as many words, and the same
/// words or texts where both files have them.
///
/// # Errors
/// The first difference, with both places; one file holds labels and the other tags.
pub fn check_aligned(
    gold: &Answers,
    gold_path: &Path,
    answers: &Answers,
    path: &Path,
) -> Result<()> {
    let differ = |line, found: String, gold_line, expected: String| DataError::NotAligned {
        path: path.to_path_buf(),
        line,
        found,
        gold_path: gold_path.to_path_buf(),
        gold_line,
        expected,
    };
    let counts = |found: &[usize], expected: &[usize], what: &str| {
        let last = |lines: &[usize]| lines.last().copied().unwrap_or_default();
        if found.len() == expected.len() {
            Ok(())
        } else {
            Err(differ(
                last(found),
                format!("the last of {} {what}", found.len()),
                last(expected),
                format!("the last of {}", expected.len()),
            ))
        }
    };
    match (gold, answers) {
        (Answers::Labels(gold), Answers::Labels(answers)) => {
            for (gold, answer) in gold.iter().zip(answers) {
                let texts = (&answer.text, &gold.text);
                if let (Some(found), Some(expected)) = texts
                    && found.trim() != expected.trim()
                {
                    let [found, expected] = [found, expected].map(|text| beginning(text));
                    return Err(differ(
                        answer.line,
                        format!("the text {found}"),
                        gold.line,
                        expected,
                    ));
                }
            }
            let lines =
                |answers: &[LabelAnswer]| answers.iter().map(|a| a.line).collect::<Vec<_>>();
            counts(&lines(answers), &lines(gold), "examples")
        }
        (Answers::Tags(gold), Answers::Tags(answers)) => {
            for (gold, answer) in gold.iter().zip(answers) {
                let words = answer
                    .words
                    .iter()
                    .flatten()
                    .zip(gold.words.iter().flatten());
                if let Some((at, (found, expected))) = words
                    .enumerate()
                    .find(|(_, (found, expected))| found != expected)
                {
                    return Err(differ(
                        answer.line_of(at),
                        format!("the word {}", beginning(found)),
                        gold.line_of(at),
                        beginning(expected),
                    ));
                }
                if answer.tags.len() != gold.tags.len() {
                    return Err(differ(
                        answer.line,
                        format!("a sentence of {} words", answer.tags.len()),
                        gold.line,
                        format!("one of {}", gold.tags.len()),
                    ));
                }
            }
            let lines = |answers: &[TagAnswer]| answers.iter().map(|a| a.line).collect::<Vec<_>>();
            counts(&lines(answers), &lines(gold), "sentences")
        }
        (Answers::Labels(_), Answers::Tags(answers)) => {
            let line = answers.first().map_or(1, |answer| answer.line);
            Err(differ(line, "tags".into(), 1, "labels".into()))
        }
        (Answers::Tags(_), Answers::Labels(answers)) => {
            let line = answers.first().map_or(1, |answer| answer.line);
            Err(differ(line, "labels".into(), 1, "tags".into()))
        }
    }
}

/// Enough of a text to find it.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// The classes of several files of answers to the same texts: `names` and those that probabilities
/// name, in their order, then what else occurs, sorted as in [`LabelSet::of_classes`].
///
/// # Errors
/// No label at all.
pub fn class_names(files: &[&[LabelAnswer]], names: Option<&LabelSet>) -> Result<LabelSet> {
    let answers = || files.iter().copied().flatten();
    let given = names.map_or(&[][..], LabelSet::names).iter();
    let probable = answers().flat_map(|answer| answer.probabilities.iter().flatten());
    let mut seen = HashSet::new();
    let mut ordered: Vec<&str> = given
        .chain(probable.map(|(name, _)| name))
        .map(String::as_str)
        .filter(|name| seen.insert(*name))
        .collect();
    let labels = answers().flat_map(|answer| answer.label.names());
    let labels = labels.map(String::as_str);
    let rest: Vec<&str> = labels.filter(|label| !seen.contains(label)).collect();
    let rest = if rest.is_empty() {
        Vec::new()
    } else {
        Vec::from(LabelSet::of_classes(rest)?)
    };
    ordered.extend(rest.iter().map(String::as_str));
    LabelSet::from_names(ordered.into_iter().map(str::to_string).collect())
}

/// The probabilities of each answer in the order of the classes, if every answer has some. A class
/// that an answer does not name has none of it: a model gives nothing to what it does not know.
pub fn probability_rows(answers: &[LabelAnswer], classes: &LabelSet) -> Option<Vec<Vec<f64>>> {
    answers
        .iter()
        .map(|answer| {
            let probabilities = answer.probabilities.as_ref()?;
            let mut row = vec![0.0; classes.len()];
            for (name, probability) in probabilities {
                row[classes.id(name)?] = *probability;
            }
            Some(row)
        })
        .collect()
}

//! A file -> examples ready for the model: read, labelled, tokenised, aligned, counted.

use std::path::{Path, PathBuf};

use ls_data::{
    ColumnRef, CutReport, EncodedExample, ExampleLabels, FileFormat, LabelPosition, LabelSet,
    SequenceColumns, SequenceExample, TextTokenizer, TokenColumns, TokenExample, align_labels,
    read_sequence, read_tokens,
};

use crate::config::{DataSettings, TaskKind};
use crate::error::{Result, TrainError};

/// Examples as read.
#[derive(Debug, Clone)]
pub enum Examples {
    /// Texts with a class each.
    Sequence(Vec<SequenceExample>),
    /// Words with a tag each.
    Token(Vec<TokenExample>),
}

impl Examples {
    /// Reads a file by the columns of `settings`; without `labelled` it needs no labels.
    ///
    /// # Errors
    ///
    /// If the file or a line of it cannot be used; the message says where.
    pub fn read(
        path: &Path,
        task: TaskKind,
        settings: &DataSettings,
        labelled: bool,
    ) -> Result<Self> {
        let format = match settings.format.as_deref() {
            Some("csv") => FileFormat::Csv,
            Some("tsv") => FileFormat::Tsv,
            Some("jsonl") => FileFormat::Jsonl,
            Some("conll") => FileFormat::Conll,
            _ => FileFormat::from_path(path)?,
        };
        match task {
            TaskKind::Sequence => {
                let columns = sequence_columns(settings, labelled);
                let examples = read_sequence(
                    path,
                    format,
                    settings.header,
                    &columns,
                    settings.labels.as_deref(),
                )?;
                Ok(Self::Sequence(examples))
            }
            TaskKind::Token => Ok(Self::Token(read_tokens(
                path,
                format,
                &token_columns(settings, labelled),
            )?)),
        }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Sequence(examples) => examples.len(),
            Self::Token(examples) => examples.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label set found in these examples.
    ///
    /// # Errors
    ///
    /// If there is no label in them.
    pub fn label_set(&self) -> Result<LabelSet> {
        Ok(match self {
            Self::Sequence(examples) => LabelSet::from_sequence_examples(examples)?,
            Self::Token(examples) => LabelSet::from_token_examples(examples)?,
        })
    }

    /// The examples at these places.
    pub fn pick(&self, indices: &[usize]) -> Self {
        match self {
            Self::Sequence(examples) => {
                Self::Sequence(indices.iter().map(|&at| examples[at].clone()).collect())
            }
            Self::Token(examples) => {
                Self::Token(indices.iter().map(|&at| examples[at].clone()).collect())
            }
        }
    }

    /// Line of an example in its file.
    pub fn line(&self, index: usize) -> usize {
        match self {
            Self::Sequence(examples) => examples[index].line,
            Self::Token(examples) => examples[index].line,
        }
    }
}

/// Columns of a sequence file as `settings` name them.
pub fn sequence_columns(settings: &DataSettings, labelled: bool) -> SequenceColumns {
    SequenceColumns {
        text: settings.text.clone(),
        text_pair: settings.text_pair.clone(),
        label: labelled.then(|| settings.label.clone()),
        label_map: settings.labels.clone(),
        ..SequenceColumns::default()
    }
}

/// Columns of a token file as `settings` name them: a number is for CoNLL files, a name for JSON.
pub fn token_columns(settings: &DataSettings, labelled: bool) -> TokenColumns {
    let mut columns = TokenColumns {
        tagged: labelled,
        label_names: settings.labels.clone(),
        ..TokenColumns::default()
    };
    match &settings.tokens {
        Some(ColumnRef::Index(column)) => columns.token = *column,
        Some(ColumnRef::Name(key)) => columns.tokens_key = key.clone(),
        None => {}
    }
    match &settings.tags {
        Some(ColumnRef::Index(column)) => columns.tag = Some(*column),
        Some(ColumnRef::Name(key)) => columns.tags_key = Some(key.clone()),
        None => {}
    }
    columns
}

/// How text becomes ids and labels.
#[derive(Debug, Clone, Copy)]
pub struct Encoding<'a> {
    /// The tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Words that the model knows.
    pub vocab_size: usize,
    /// Longest input in sub-word tokens, special ones included.
    pub max_length: usize,
    /// Which sub-word carries a word's tag.
    pub label_position: LabelPosition,
}

/// A split ready for the model.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its file, for messages.
    pub path: PathBuf,
    /// The examples as read.
    pub examples: Examples,
    /// Ids and labels of each.
    pub encoded: Vec<EncodedExample>,
    /// For tokens: the word of each id of each example.
    pub word_ids: Vec<Vec<Option<usize>>>,
    /// Label ids of each example: one class, or a tag per word; empty where the file has none.
    pub gold: Vec<Vec<usize>>,
    /// What was cut.
    pub cut: CutReport,
}

impl Dataset {
    /// Tokenises and labels examples. With `labels` every example must have one of them.
    ///
    /// # Errors
    ///
    /// If a label is not in the set, a text leaves no token, or a token is past the vocabulary.
    pub fn encode(
        path: &Path,
        examples: Examples,
        encoding: Encoding<'_>,
        labels: Option<&LabelSet>,
    ) -> Result<Self> {
        let Encoding {
            tokenizer,
            vocab_size,
            max_length,
            label_position,
        } = encoding;
        let mut word_ids = Vec::new();
        let mut gold = Vec::with_capacity(examples.len());
        let (encoded, cut) = match &examples {
            Examples::Sequence(examples) => {
                let (sequences, cut) =
                    tokenizer.encode_sequence_examples(examples, path, max_length)?;
                let mut encoded = Vec::with_capacity(examples.len());
                for (example, sequence) in examples.iter().zip(sequences) {
                    let class = match labels {
                        Some(labels) => {
                            let label = example
                                .label
                                .as_deref()
                                .ok_or_else(|| unlabelled(path, example.line))?;
                            Some(labels.encode(label, path, example.line)?)
                        }
                        None => None,
                    };
                    gold.push(class.into_iter().collect());
                    let labels = class.map_or(ExampleLabels::None, |class| {
                        ExampleLabels::Class(class as i64)
                    });
                    encoded.push(EncodedExample {
                        input_ids: sequence.input_ids,
                        labels,
                    });
                }
                (encoded, cut)
            }
            Examples::Token(examples) => {
                let (lists, cut) = tokenizer.encode_token_examples(examples, path, max_length)?;
                let mut encoded = Vec::with_capacity(examples.len());
                for (example, tokens) in examples.iter().zip(lists) {
                    let tags = match labels {
                        Some(labels) => {
                            let tags = example
                                .tags
                                .as_ref()
                                .ok_or_else(|| unlabelled(path, example.line))?;
                            Some(labels.encode_tags(tags, path, example.line)?)
                        }
                        None => None,
                    };
                    let labels = tags.as_ref().map_or(ExampleLabels::None, |tags| {
                        ExampleLabels::Tokens(align_labels(&tokens.word_ids, tags, label_position))
                    });
                    encoded.push(EncodedExample {
                        input_ids: tokens.input_ids,
                        labels,
                    });
                    gold.push(tags.unwrap_or_default());
                    word_ids.push(tokens.word_ids);
                }
                (encoded, cut)
            }
        };
        for (index, example) in encoded.iter().enumerate() {
            let past = |id: &&u32| **id as usize >= vocab_size;
            if let Some(&id) = example.input_ids.iter().find(past) {
                return Err(TrainError::TokenId {
                    path: path.into(),
                    line: examples.line(index),
                    id,
                    vocab_size,
                });
            }
        }
        Ok(Self {
            path: path.into(),
            examples,
            encoded,
            word_ids,
            gold,
            cut,
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Ids of each example.
    pub fn lengths(&self) -> Vec<usize> {
        self.encoded
            .iter()
            .map(|example| example.input_ids.len())
            .collect()
    }

    /// How many examples (or words) have each label.
    pub fn label_counts(&self, num_labels: usize) -> Vec<usize> {
        let mut counts = vec![0; num_labels];
        for &label in self.gold.iter().flatten() {
            counts[label] += 1;
        }
        counts
    }

    /// Where examples stand, for messages: `train.tsv lines 3, 7`.
    pub fn place(&self, indices: &[usize]) -> String {
        let lines: Vec<String> = indices
            .iter()
            .map(|&index| self.examples.line(index).to_string())
            .collect();
        format!(
            "{} line{} {}",
            self.path.display(),
            if lines.len() == 1 { "" } else { "s" },
            lines.join(", ")
        )
    }
}

fn unlabelled(path: &Path, line: usize) -> TrainError {
    TrainError::Example {
        path: path.into(),
        line,
        reason: "has no label".into(),
    }
}

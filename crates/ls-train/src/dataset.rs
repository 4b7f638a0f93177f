//! A split ready for the model: encoded, labelled, counted; batches of it, and its examples as they
//! were read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ls_data::{
    Alignment, Batch, BatchOptions, Concern, CutReport, DataError, EncodedExample, EncodedInput,
    EncodedRow, EncodedSplit, ExampleLabels, HighestId, IGNORE_INDEX, InputLimits, InputRow,
    LabelKind, LabelPosition, LabelSet, SeenLabel, SequenceExample, SplitSource, SplitWriter,
    TaskKind, TextTokenizer, TokenExample, collate, in_parallel,
};
use serde_json::{Map, Value};

use crate::error::{Result, TrainError};
use crate::events::{Event, Observer};

/// Examples in memory, as they were read.
#[derive(Debug, Clone)]
pub enum Examples {
    /// Texts with a class each.
    Sequence(Vec<SequenceExample>),
    /// Words with a tag each.
    Token(Vec<TokenExample>),
}

impl Examples {
    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Sequence(examples) => examples.len(),
            Self::Token(examples) => examples.len(),
        }
    }

    /// The bytes of their texts or words.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Sequence(examples) => {
                let pair = |of: &SequenceExample| of.text_pair.as_ref().map_or(0, String::len);
                examples.iter().map(|of| of.text.len() + pair(of)).sum()
            }
            Self::Token(examples) => {
                let words = examples.iter().flat_map(|of| &of.tokens);
                words.map(String::len).sum()
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub(crate) fn get(&self, index: usize) -> Example<'_> {
        match self {
            Self::Sequence(examples) => Example::Sequence(&examples[index]),
            Self::Token(examples) => Example::Token(&examples[index]),
        }
    }
}

/// Where examples are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// On all of them, in the pool in which the kernels compute too.
    All,
    /// On the thread that asks.
    This,
}

impl Cores {
    /// Calls `each` with the examples on which `work` was done, in their order.
    fn each<T: InputRow + Sync, R: Send, X>(
        self,
        examples: &[T],
        work: impl Fn(&T) -> Result<R, DataError> + Sync,
        each: impl FnOnce(&mut dyn Iterator<Item = Result<R, DataError>>) -> X,
    ) -> X {
        match self {
            Self::All => in_parallel(examples.iter().map(Ok), |row| row.bytes(), work, each),
            Self::This => each(&mut examples.iter().map(work)),
        }
    }
}

/// An example as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Example<'a> {
    /// A text.
    Sequence(&'a SequenceExample),
    /// A list of words.
    Token(&'a TokenExample),
}

impl Example<'_> {
    fn line(&self) -> usize {
        match self {
            Self::Sequence(example) => example.line,
            Self::Token(example) => example.line,
        }
    }
}

/// Why a model can read nothing of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The named part of it is empty, or white space.
    Blank(&'static str),
    /// The named part of it is `null`.
    Missing(&'static str),
    /// It yields no tokens.
    NoTokens,
}

impl Unreadable {
    /// Whether the text of an example, or the second one, is blank.
    pub(crate) fn text(example: &SequenceExample) -> Option<Self> {
        let blank = |text: &str| text.trim().is_empty();
        if blank(&example.text) {
            Some(Self::part("text", example.extra.as_ref()))
        } else if example.text_pair.as_deref().is_some_and(blank) {
            Some(Self::part("text_pair", example.extra.as_ref()))
        } else {
            None
        }
    }

    /// A part that is blank, or that was not there: what the example came from has `null` for it.
    fn part(what: &'static str, from: Option<&Map<String, Value>>) -> Self {
        match from.and_then(|object| object.get(what)) {
            Some(Value::Null) => Self::Missing(what),
            _ => Self::Blank(what),
        }
    }

    /// Whether there are no words, in a text or in a list.
    pub(crate) fn words(example: &TokenExample) -> Option<Self> {
        let from = example.extra.as_ref();
        let what = match from.and_then(|extra| extra.get("text")) {
            Some(Value::String(text)) if text.trim().is_empty() => "text",
            // A list of words beside it is what was to be read.
            Some(Value::Null) if from.is_none_or(|extra| !extra.contains_key("tokens")) => "text",
            _ => "tokens",
        };
        let empty = example.tokens.is_empty();
        empty.then(|| Self::part(what, from))
    }

    /// The same as the fault of a row.
    pub(crate) fn at(self, path: &Path, line: usize) -> DataError {
        let path = path.into();
        match self {
            Self::Blank(what) => DataError::EmptyField { path, line, what },
            Self::Missing(key) => DataError::WrongType {
                path,
                line,
                key: key.to_string(),
                found: "null",
                expected: if key == "tokens" {
                    "a list"
                } else {
                    "a string"
                },
            },
            Self::NoTokens => DataError::NoTokens { path, line },
        }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blank(what) => write!(f, "{what} is empty"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::NoTokens => f.write_str("the text tokenises to nothing"),
        }
    }
}

/// What an example is labelled with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gold {
    /// Its class, its classes, or the class of each of its words; none where no labels are wanted.
    Classes(Vec<usize>),
    /// Its number.
    Value(f32),
}

impl Gold {
    /// No label.
    pub(crate) const NONE: Self = Self::Classes(Vec::new());

    /// The classes in it.
    pub(crate) fn classes(&self) -> &[usize] {
        match self {
            Self::Classes(classes) => classes,
            Self::Value(_) => &[],
        }
    }

    /// The number, where it is one.
    pub(crate) fn value(&self) -> Option<f32> {
        match self {
            Self::Classes(_) => None,
            Self::Value(value) => Some(*value),
        }
    }
}

/// An example of a [`Dataset`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DatasetExample {
    /// Its inputs, counted in the data set: one, or its windows.
    pub(crate) inputs: Range<usize>,
    /// Number of its words; 0 for a text.
    pub(crate) words: usize,
    /// What it is labelled with.
    pub(crate) gold: Gold,
}

/// How text becomes ids and labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding<'a> {
    /// The tokenizer.
    pub(crate) tokenizer: &'a TextTokenizer,
    /// Words that the model knows.
    pub(crate) vocab_size: usize,
    /// Longest input, and what happens to longer ones.
    pub(crate) limits: InputLimits,
    /// Which sub-word carries a word's tag.
    pub(crate) label_position: LabelPosition,
}

/// A split, or a part of one, ready for the model.
#[derive(Debug, Clone)]
pub struct Dataset {
    split: Arc<EncodedSplit>,
    part: Part,
    /// Class of each of the split's labels; empty where none are wanted.
    classes: Vec<usize>,
    /// Outputs of the head that learns from the labels; none where no labels are wanted.
    outputs: Option<usize>,
    alignment: Alignment,
    lengths: Vec<usize>,
    /// What was cut.
    pub cut: CutReport,
}

/// Which examples of a split, and which inputs.
#[derive(Debug, Clone)]
enum Part {
    All,
    Some {
        examples: Vec<u32>,
        inputs: Vec<u32>,
        /// Place among `inputs` of the first input of each example.
        starts: Vec<u32>,
    },
}

/// The error of the first example with an id past the vocabulary, whose highest is `highest`.
fn past_vocabulary(
    split: &EncodedSplit,
    highest: HighestId,
    vocab_size: usize,
) -> Result<TrainError> {
    let mut at = highest;
    for index in 0..split.lengths().len() {
        let input = split.input(index)?;
        let past = |id: &&u32| **id as usize >= vocab_size;
        if let Some(&id) = input.input_ids.iter().find(past) {
            let row = split
                .examples(input.example..input.example + 1)?
                .swap_remove(0);
            at = HighestId {
                id,
                file: row.file,
                line: row.line,
            };
            break;
        }
    }
    Ok(TrainError::TokenId {
        path: split.files()[at.file].clone(),
        line: at.line,
        id: at.id,
        vocab_size,
    })
}

/// The class of each label that the files have.
///
/// # Errors
///
/// If one is not in the set.
pub(crate) fn classes_of(
    seen: &[SeenLabel],
    files: &[PathBuf],
    labels: &LabelSet,
) -> Result<Vec<usize>> {
    let (mut classes, mut unknown) = (Vec::new(), Vec::new());
    for seen in seen {
        match labels.encode(&seen.name, &files[seen.file], seen.line) {
            Ok(class) => classes.push(class),
            Err(error) => unknown.push(error),
        }
    }
    if unknown.is_empty() {
        return Ok(classes);
    }
    let found = unknown.iter().filter_map(|error| match error {
        DataError::UnknownLabel { label, .. } => Some(label.clone()),
        _ => None,
    });
    let found = found.collect();
    let fault = match unknown.len() {
        1 => unknown.swap_remove(0),
        count => DataError::BadRows {
            path: files[0].clone(),
            shown: unknown.iter().take(20).map(ToString::to_string).collect(),
            count,
        },
    };
    Err(TrainError::UnknownLabels {
        fault: Box::new(fault),
        found,
        way_out: None,
    })
}

impl Dataset {
    /// The whole of a split, without labels.
    ///
    /// # Errors
    ///
    /// If a token is past the vocabulary.
    pub(crate) fn new(split: EncodedSplit, encoding: Encoding<'_>) -> Result<Self> {
        if let Some(highest) = split.highest_id()
            && highest.id as usize >= encoding.vocab_size
        {
            return Err(past_vocabulary(&split, highest, encoding.vocab_size)?);
        }
        let cut = *split.report();
        let lengths = split.lengths().iter().map(|n| *n as usize).collect();
        Ok(Self {
            split: Arc::new(split),
            part: Part::All,
            classes: Vec::new(),
            outputs: None,
            alignment: Alignment::new(encoding.label_position, encoding.tokenizer),
            lengths,
            cut,
        })
    }

    /// The same with labels: those of every example must be in the set, which a number needs not.
    ///
    /// # Errors
    ///
    /// If an example has no label, or one that is not in the set.
    pub(crate) fn with_labels(mut self, labels: &LabelSet) -> Result<Self> {
        self.classes = classes_of(self.split.seen_labels(), self.split.files(), labels)?;
        self.outputs = Some(labels.len());
        self.check_labelled()?;
        Ok(self)
    }

    /// Path and line of the first example with a label.
    pub(crate) fn place_of_label(&self, name: &str) -> Option<String> {
        let mut seen = self.split.seen_labels().iter();
        let seen = seen.find(|seen| seen.name == name)?;
        let path = self.split.files()[seen.file].display();
        Some(format!("{path}:{}", seen.line))
    }

    /// The labels that occur in the split.
    pub(crate) fn seen_labels(&self) -> &[SeenLabel] {
        self.split.seen_labels()
    }

    /// Logs a warning of labels that look the same.
    pub(crate) fn warn_of_look_alikes(&self) {
        let seen = self.split.seen_labels().iter();
        let labels = seen.map(|label| (label.name.as_str(), label.count));
        if let Some(concern) = Concern::of_look_alikes(labels) {
            tracing::warn!("{concern}");
        }
    }

    fn check_labelled(&self) -> Result<()> {
        let seen: usize = self
            .split
            .seen_labels()
            .iter()
            .map(|label| label.count)
            .sum();
        let expected = match (self.is_words(), self.split.label_kind()) {
            (true, _) => self.cut.words,
            (false, LabelKind::Class) => self.split.len(),
            // Their readers see to it that each has its own, which may be no class at all.
            (false, LabelKind::Classes | LabelKind::Number) => return Ok(()),
        };
        if seen == expected {
            return Ok(());
        }
        for index in 0..self.len() {
            let row = self.row(index)?;
            let labels = if self.is_words() { row.words } else { 1 };
            if self.gold_of(&row)?.classes().len() != labels {
                return Err(TrainError::Example {
                    path: self.split.files()[row.file].clone(),
                    line: row.line,
                    reason: "has no label".into(),
                });
            }
        }
        Ok(())
    }

    /// A file of examples, encoded, or found encoded in the folder `cache`. The observer hears how
    /// far it is.
    ///
    /// # Errors
    ///
    /// If the file or a row of it cannot be used, or as [`Dataset::new`].
    pub(crate) fn encode(
        source: &SplitSource,
        task: TaskKind,
        encoding: Encoding<'_>,
        cache: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let files = &source.files;
        let mut progress = |progress| observer.event(&Event::Tokenizing { files, progress });
        let (tokenizer, limits) = (encoding.tokenizer, &encoding.limits);
        let split = source.encode_watched(task, tokenizer, limits, cache, &mut progress)?;
        Self::new(split, encoding)
    }

    /// Examples in memory, encoded on all cores or on this thread alone; `path` is for messages.
    /// Their labels are not looked at. Those that leave the model nothing to read are left out:
    /// why, by their numbers. If all of them do, there is no data set.
    ///
    /// # Errors
    ///
    /// If a token is past the vocabulary.
    pub(crate) fn encode_examples(
        path: &Path,
        examples: &Examples,
        encoding: Encoding<'_>,
        on: Cores,
    ) -> Result<(Option<Self>, BTreeMap<usize, Unreadable>)> {
        let (tokenizer, limits) = (encoding.tokenizer, &encoding.limits);
        let mut left_out = BTreeMap::new();
        let writer = match examples {
            Examples::Sequence(examples) => {
                let mut writer = SplitWriter::in_memory(TaskKind::Sequence);
                writer.begin_file(path);
                let encode = |example: &SequenceExample| {
                    let pair = example.text_pair.as_deref();
                    match Unreadable::text(example) {
                        Some(blank) => Ok(Err(blank)),
                        None => tokenizer
                            .sequence_inputs(&example.text, pair, limits)
                            .map(Ok),
                    }
                };
                on.each(examples, encode, |encoded| {
                    for (number, (example, encoded)) in examples.iter().zip(encoded).enumerate() {
                        match encoded? {
                            Ok(encoded) if encoded.text_tokens > 0 => {
                                writer.push_sequence(number, example, &encoded)?;
                            }
                            encoded => {
                                let why = encoded.err().unwrap_or(Unreadable::NoTokens);
                                left_out.insert(number, why);
                            }
                        }
                    }
                    Ok::<_, TrainError>(())
                })?;
                writer
            }
            Examples::Token(examples) => {
                let mut writer = SplitWriter::in_memory(TaskKind::Token);
                writer.begin_file(path);
                let encode = |example: &TokenExample| match Unreadable::words(example) {
                    Some(blank) => Ok(Err(blank)),
                    None => tokenizer.word_inputs(&example.tokens, limits).map(Ok),
                };
                on.each(examples, encode, |encoded| {
                    for (number, (example, encoded)) in examples.iter().zip(encoded).enumerate() {
                        match encoded? {
                            Ok(encoded) if encoded.empty_words < example.tokens.len() => {
                                writer.push_words(number, example, &encoded)?;
                            }
                            encoded => {
                                let why = encoded.err().unwrap_or(Unreadable::NoTokens);
                                left_out.insert(number, why);
                            }
                        }
                    }
                    Ok::<_, TrainError>(())
                })?;
                writer
            }
        };
        if left_out.len() == examples.len() {
            return Ok((None, left_out));
        }
        Ok((Some(Self::new(writer.finish()?, encoding)?), left_out))
    }

    /// The part of these examples, given in rising order.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn part(&self, indices: &[usize]) -> Result<Self> {
        let (mut inputs, mut starts) = (Vec::new(), vec![0]);
        let mut examples = Vec::with_capacity(indices.len());
        let mut cut = CutReport::default();
        for &index in indices {
            let row = self.row(index)?;
            examples.push(self.in_split(index) as u32);
            inputs.extend(row.inputs.clone().map(|input| input as u32));
            starts.push(inputs.len() as u32);
            cut += row.cut;
        }
        let of_split = self.split.lengths();
        let lengths: Vec<usize> = inputs
            .iter()
            .map(|i| of_split[*i as usize] as usize)
            .collect();
        cut.longest = lengths.iter().copied().max().unwrap_or(0);
        Ok(Self {
            split: self.split.clone(),
            part: Part::Some {
                examples,
                inputs,
                starts,
            },
            classes: self.classes.clone(),
            outputs: self.outputs,
            alignment: self.alignment.clone(),
            lengths,
            cut,
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match &self.part {
            Part::All => self.split.len(),
            Part::Some { examples, .. } => examples.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the examples are lists of words.
    pub(crate) fn is_words(&self) -> bool {
        self.split.task() == TaskKind::Token
    }

    /// Tokens of each input. An example is one input, or several where it is read in windows.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Takes the logits of an input off the front of a batch's: a text has one row of them, words
    /// one for each of the `seen` tokens that the model saw, of which padding is left out.
    pub(crate) fn logits_of_input<'a>(
        &self,
        index: usize,
        seen: usize,
        num_labels: usize,
        rows: &mut &'a [f32],
    ) -> &'a [f32] {
        let (seen, text) = if self.is_words() {
            (seen, self.lengths[index])
        } else {
            (1, 1)
        };
        let (own, others) = rows.split_at(seen * num_labels);
        *rows = others;
        &own[..text * num_labels]
    }

    /// Messages about rows of the split's files that were skipped, and how many were.
    pub fn skipped(&self) -> (&[String], usize) {
        self.split.skipped()
    }

    /// The files, for messages.
    pub fn files(&self) -> &[PathBuf] {
        self.split.files()
    }

    /// An example's number in the split.
    fn in_split(&self, index: usize) -> usize {
        match &self.part {
            Part::All => index,
            Part::Some { examples, .. } => examples[index] as usize,
        }
    }

    fn row(&self, index: usize) -> Result<EncodedRow> {
        let at = self.in_split(index);
        let mut rows = self.split.examples(at..at + 1)?;
        Ok(rows.swap_remove(0))
    }

    /// An input, counted in this part.
    fn input(&self, index: usize) -> Result<EncodedInput> {
        let at = match &self.part {
            Part::All => index,
            Part::Some { inputs, .. } => inputs[index] as usize,
        };
        Ok(self.split.input(at)?)
    }

    /// An example: its inputs, the number of its words and its classes.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn example(&self, index: usize) -> Result<DatasetExample> {
        let row = self.row(index)?;
        Ok(DatasetExample {
            gold: self.gold_of(&row)?,
            words: row.words,
            inputs: match &self.part {
                Part::All => row.inputs,
                Part::Some { starts, .. } => starts[index] as usize..starts[index + 1] as usize,
            },
        })
    }

    /// All examples, in order.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn examples(&self) -> Result<Vec<DatasetExample>> {
        (0..self.len()).map(|index| self.example(index)).collect()
    }

    fn gold_of(&self, row: &EncodedRow) -> Result<Gold> {
        if self.outputs.is_none() {
            return Ok(Gold::NONE);
        }
        let of_split = match (row.label, row.value) {
            (_, Some(value)) => return Ok(Gold::Value(value)),
            (Some(class), _) => vec![class],
            (None, None) => self.split.listed(row)?,
        };
        let class = |label: usize| self.classes.get(label).copied();
        Ok(Gold::Classes(
            of_split.into_iter().filter_map(class).collect(),
        ))
    }

    /// Of each id of an input the word that is read there, if any: a word that is labelled in this
    /// input, at the sub-word that speaks for it.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn words_read(&self, input: usize) -> Result<Vec<Option<usize>>> {
        let input = self.input(input)?;
        let scored = |word: &usize| input.scored.contains(word);
        let word_ids = input.word_ids.unwrap_or_default();
        let read = self.alignment.words_read(&input.input_ids, &word_ids);
        Ok(read.into_iter().map(|word| word.filter(scored)).collect())
    }

    /// Weight of an input in the loss: 1 in the mean of the split. A text that is read in windows
    /// weighs as much as any other, each window its share. A word has its target in one window
    /// only, so that a list's windows weigh 1.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn weight(&self, index: usize) -> Result<f64> {
        if self.is_words() || self.cut.windowed_examples == 0 {
            return Ok(1.0);
        }
        let example = self.input(index)?.example;
        let row = self.split.examples(example..example + 1)?.swap_remove(0);
        let windows = self.lengths.len() as f64 / self.len() as f64;
        Ok(windows / row.inputs.len() as f64)
    }

    /// Examples of the whole split, of which this may be a part.
    pub(crate) fn len_of_split(&self) -> usize {
        self.split.len()
    }

    /// The targets of an input: a class, or one per id.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn targets(&self, index: usize) -> Result<ExampleLabels> {
        Ok(self.encoded(index)?.labels)
    }

    fn encoded(&self, index: usize) -> Result<EncodedExample> {
        let input = self.input(index)?;
        let labels = match self.outputs {
            None => ExampleLabels::None,
            Some(outputs) => self.target(&input, outputs)?,
        };
        Ok(EncodedExample {
            input_ids: input.input_ids,
            labels,
        })
    }

    /// What a head of so many outputs is to give for an input.
    fn target(&self, input: &EncodedInput, outputs: usize) -> Result<ExampleLabels> {
        let mut rows = self.split.examples(input.example..input.example + 1)?;
        let gold = self.gold_of(&rows.swap_remove(0))?;
        if let Some(word_ids) = &input.word_ids {
            let mut labels = self
                .alignment
                .labels(&input.input_ids, word_ids, gold.classes());
            for (label, word) in labels.iter_mut().zip(word_ids) {
                if word.is_none_or(|word| !input.scored.contains(&word)) {
                    *label = IGNORE_INDEX;
                }
            }
            return Ok(ExampleLabels::Tokens(labels));
        }
        Ok(match (self.split.label_kind(), gold) {
            (_, Gold::Value(value)) => ExampleLabels::Outputs(vec![value]),
            (LabelKind::Classes, Gold::Classes(classes)) => {
                let mut holds = vec![0.0; outputs];
                for class in classes {
                    holds[class] = 1.0;
                }
                ExampleLabels::Outputs(holds)
            }
            (_, Gold::Classes(classes)) => classes.first().map_or(ExampleLabels::None, |class| {
                ExampleLabels::Class(*class as i64)
            }),
        })
    }

    /// A padded batch of inputs.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn batch(&self, inputs: &[usize], options: &BatchOptions) -> Result<Batch> {
        let rows: Vec<EncodedExample> = inputs
            .iter()
            .map(|&input| self.encoded(input))
            .collect::<Result<_>>()?;
        let all: Vec<usize> = (0..rows.len()).collect();
        let mut batch = collate(&rows, &all, options);
        batch.indices = inputs.to_vec();
        Ok(batch)
    }

    /// How many examples (or words) have each label; of a regression all have the only one.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn label_counts(&self, num_labels: usize) -> Result<Vec<usize>> {
        if self.split.label_kind() == LabelKind::Number {
            return Ok(vec![self.len(); num_labels]);
        }
        let mut counts = vec![0; num_labels];
        if let Part::All = self.part {
            for (label, class) in self.split.seen_labels().iter().zip(&self.classes) {
                counts[*class] += label.count;
            }
            return Ok(counts);
        }
        for index in 0..self.len() {
            for label in self.gold_of(&self.row(index)?)?.classes() {
                counts[*label] += 1;
            }
        }
        Ok(counts)
    }

    /// Where inputs stand, for messages: `train.tsv lines 3, 7`.
    pub(crate) fn place(&self, inputs: &[usize]) -> String {
        let row = |input: &usize| {
            let example = self.input(*input).ok()?.example;
            let row = self
                .split
                .examples(example..example + 1)
                .ok()?
                .swap_remove(0);
            Some((row.file, row.line))
        };
        let mut rows: Vec<(usize, usize)> = inputs.iter().filter_map(row).collect();
        rows.sort_unstable();
        rows.dedup();
        let mut text = String::new();
        for rows in rows.chunk_by(|a, b| a.0 == b.0) {
            let lines: Vec<String> = rows.iter().map(|(_, line)| line.to_string()).collect();
            let separator = if text.is_empty() { "" } else { "; " };
            let plural = if lines.len() == 1 { "" } else { "s" };
            let path = self.split.files()[rows[0].0].display();
            text += &format!("{separator}{path} line{plural} {}", lines.join(", "));
        }
        text
    }

    /// File and line of an example.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn origin(&self, index: usize) -> Result<(&Path, usize)> {
        let row = self.row(index)?;
        Ok((&self.split.files()[row.file], row.line))
    }

    /// Reads the split's files again and calls `each` with the examples of this part, by their
    /// number.
    ///
    /// # Errors
    ///
    /// If the files can no longer be read or have changed, or whatever `each` says.
    pub(crate) fn for_each_example(
        &self,
        source: &SplitSource,
        mut each: impl FnMut(usize, Example<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut next = 0;
        let place = |index: usize| -> Result<Option<(usize, usize, usize)>> {
            if index == self.len() {
                return Ok(None);
            }
            let row = self.row(index)?;
            Ok(Some((row.file, row.number, row.line)))
        };
        let mut wanted = place(0)?;
        let mut see = |file: usize, number: usize, example: Example<'_>| {
            // Rows that were skipped, or belong to another part, stand between.
            if wanted == Some((file, number, example.line())) {
                each(next, example)?;
                next += 1;
                wanted = place(next)?;
            }
            Ok::<_, TrainError>(())
        };
        if self.is_words() {
            source.for_each_words(|file, number, row| see(file, number, Example::Token(&row)))?;
        } else {
            source.for_each_sequence(|file, number, row| {
                see(file, number, Example::Sequence(&row))
            })?;
        }
        if next == self.len() {
            return Ok(());
        }
        Err(TrainError::Changed {
            path: source.name().into(),
            expected: self.len(),
            found: next,
        })
    }

    /// The mean of the numbers that texts are labelled with; 0 where there are none.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn mean_value(&self) -> Result<f64> {
        let mut sum = 0.0;
        for index in 0..self.len() {
            let value = self.gold_of(&self.row(index)?)?.value();
            sum += f64::from(value.unwrap_or_default());
        }
        Ok(sum / self.len().max(1) as f64)
    }

    /// The class of each text, for drawing equal shares: of several its rarest. Nothing for lists
    /// of words and for numbers.
    ///
    /// # Errors
    ///
    /// If the split's file can no longer be read.
    pub(crate) fn strata(&self) -> Result<Option<Vec<usize>>> {
        const BLOCK: usize = 4096;
        if self.is_words() || self.split.label_kind() == LabelKind::Number {
            return Ok(None);
        }
        let seen = self.split.seen_labels();
        let mut strata = Vec::with_capacity(self.split.len());
        for start in (0..self.split.len()).step_by(BLOCK) {
            let rows = self
                .split
                .examples(start..(start + BLOCK).min(self.split.len()))?;
            for row in &rows {
                strata.push(match self.split.label_kind() {
                    LabelKind::Class => row.label.unwrap_or_default(),
                    // By its rarest label, which could otherwise be in one part alone.
                    _ => {
                        let labels = self.split.listed(row)?.into_iter();
                        let rarest = labels.min_by_key(|label| (seen[*label].count, *label));
                        rarest.unwrap_or(seen.len())
                    }
                });
            }
        }
        // By name, so that the parts do not depend on the order in which labels come first.
        let mut by_name: Vec<usize> = (0..seen.len()).collect();
        by_name.sort_by_key(|label| &seen[*label].name);
        // Behind them is what has no label.
        let mut rank = vec![by_name.len(); by_name.len() + 1];
        for (place, label) in by_name.into_iter().enumerate() {
            rank[label] = place;
        }
        let ranked = (0..self.len()).map(|example| {
            let label = strata[self.in_split(example)];
            rank.get(label).copied().unwrap_or(0)
        });
        Ok(Some(ranked.collect()))
    }
}

//! What a split is like before anything is learnt from it: how many examples, of which labels, how
//! long, which of them repeat each other, and which rows cannot be used.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::encoded::{HighestId, SeenLabel};
use crate::error::{DataError, Result};
use crate::example::{InputRow, SequenceExample, TokenExample};
use crate::inputs::CutReport;
use crate::labels::LabelSet;
use crate::parallel::in_parallel;
use crate::readers::{BadRows, RowSieve, SkippedRows};
use crate::source::SplitSource;
use crate::span::decode_spans;
use crate::tag_names::TagKind;
use crate::task::TaskKind;
use crate::text_label::{LabelKind, TextLabel};
use crate::tokenize::TextTokenizer;
use crate::windows::InputLimits;

/// Places that are kept of what is counted.
const SHOWN: usize = 5;

/// How a split is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProfileOptions<'a> {
    /// What the tags of words say, if it is known; without, their names tell.
    pub kind: Option<TagKind>,
    /// By what tokens are counted, if they are, and how many the model may read.
    pub tokens: Option<(&'a TextTokenizer, &'a InputLimits)>,
    /// Tokens that the model knows, where tokens are counted: others are looked for.
    pub vocab_size: Option<usize>,
}

/// What a split is like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Its files.
    pub files: Vec<PathBuf>,
    /// What is labelled.
    pub task: TaskKind,
    /// What the labels of texts are.
    #[serde(skip)]
    pub label_kind: LabelKind,
    /// Examples that can be used.
    pub examples: usize,
    /// Examples, or words, of each label, in the order that label sets have.
    pub labels: Vec<SeenLabel>,
    /// Spans of each type, most first, where the tags are spans.
    pub spans: Option<Vec<(String, usize)>>,
    /// Characters of the texts (of both of a pair), or words of the lists.
    pub lengths: Lengths,
    /// Tokens of the examples, special ones not counted, where they are counted.
    pub tokens: Option<Lengths>,
    /// What would be cut or read in windows, where tokens are counted.
    pub cut: Option<CutReport>,
    /// Rows that cannot be used.
    pub bad_rows: SkippedRows,
    /// Those of them that have nothing to read.
    pub blank: usize,
    /// Rows that are no examples because their annotator turned them down.
    pub turned_down: usize,
    /// Examples whose text stood before.
    pub repeats: usize,
    /// Those of them that have another label, or other tags, than the first.
    pub contradictions: usize,
    /// The first contradictions, each with both places.
    pub contradicting: Vec<String>,
    /// The first token that the model does not know.
    #[serde(skip)]
    pub past: Option<HighestId>,
    #[serde(skip)]
    texts: Texts,
}

/// How lengths are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The smallest.
    pub shortest: usize,
    /// Half of them are at most so long.
    pub median: usize,
    /// 95% of them are at most so long.
    pub p95: usize,
    /// The largest.
    pub longest: usize,
}

impl Lengths {
    /// Of these; zeros if there are none.
    ///
    /// ```
    /// let lengths = ls_data::Lengths::of((1..=100).rev().collect());
    /// assert_eq!((lengths.shortest, lengths.median), (1, 50));
    /// assert_eq!((lengths.p95, lengths.longest), (95, 100));
    /// ```
    pub fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let part = |percent: usize| {
            let at = (lengths.len() * percent).div_ceil(100).saturating_sub(1);
            lengths.get(at).map_or(0, |length| *length as usize)
        };
        Self {
            shortest: part(0),
            median: part(50),
            p95: part(95),
            longest: part(100),
        }
    }
}

/// Texts that two splits have both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Examples of the later split whose text stands in the earlier one.
    pub count: usize,
    /// The first of them: its place, and the place in the earlier split.
    pub first: Option<[String; 2]>,
}

/// Where a text stands first: 16 bytes for each, whatever its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    file: u32,
    line: u32,
    /// Stands for its label or its tags.
    answer: u32,
    count: u32,
}

/// Texts by eight bytes of their SHA-256: of ten million different ones, two are taken for one with
/// a probability of 3e-6.
type Texts = FxHashMap<u64, Stand>;

/// What is counted of an example.
struct Row {
    line: usize,
    text: u64,
    labels: Vec<String>,
    number: Option<f32>,
    spans: Vec<String>,
    length: usize,
    cut: Option<CutReport>,
    past: Option<u32>,
}

impl Profile {
    /// Reads a split. Rows that cannot be used are listed, and no error, as long as there is
    /// another. Memory grows by some sixty bytes an example, whatever its length.
    ///
    /// # Errors
    /// A file that cannot be read, or without any row that can be used.
    pub fn of(source: &SplitSource, task: TaskKind, options: &ProfileOptions<'_>) -> Result<Self> {
        let mut counts = Counts::new(source, task);
        for (index, file) in source.files.iter().enumerate() {
            let tokens = options.tokens;
            let known = options.vocab_size.unwrap_or(usize::MAX);
            let seen = &mut counts;
            match task {
                TaskKind::Sequence => {
                    let rows = source.read.read_sequence(file)?;
                    let turned_down = rows.turned_down();
                    let work = |row| of_text(row, file, tokens, known);
                    in_parallel(rows, InputRow::bytes, work, |rows| seen.add(index, rows))?;
                    counts.turned_down += turned_down.count();
                }
                TaskKind::Token => {
                    let rows = source.read.read_tokens(file)?;
                    let turned_down = rows.turned_down();
                    let work = |row| {
                        let row = source.change_tags(row, file, &AtomicUsize::new(0))?;
                        of_words(row, file, tokens, known)
                    };
                    in_parallel(rows, InputRow::bytes, work, |rows| seen.add(index, rows))?;
                    counts.turned_down += turned_down.count();
                }
            }
        }
        counts.finish(options)
    }

    /// The texts of a later split that stand in this one too.
    pub fn overlap(&self, later: &Self) -> Overlap {
        let both = later.texts.iter().filter_map(|(text, there)| {
            let here = self.texts.get(text)?;
            Some((there, here))
        });
        let mut count = 0;
        let mut first: Option<(&Stand, &Stand)> = None;
        for (there, here) in both {
            count += there.count as usize;
            let place = |stand: &Stand| (stand.file, stand.line);
            if first.is_none_or(|(known, _)| place(there) < place(known)) {
                first = Some((there, here));
            }
        }
        let first = first.map(|(there, here)| [later.place(there), self.place(here)]);
        Overlap { count, first }
    }

    fn place(&self, stand: &Stand) -> String {
        place(&self.files, stand)
    }
}

fn place(files: &[PathBuf], stand: &Stand) -> String {
    let file = files.get(stand.file as usize);
    let file = file.map(|file| file.display().to_string());
    format!("{}:{}", file.unwrap_or_default(), stand.line)
}

/// A profile that grows.
struct Counts<'a> {
    source: &'a SplitSource,
    task: TaskKind,
    examples: usize,
    labels: HashMap<String, SeenLabel>,
    spans: HashMap<String, usize>,
    lengths: Vec<u32>,
    tokens: Vec<u32>,
    cut: CutReport,
    bad_rows: SkippedRows,
    blank: usize,
    turned_down: usize,
    repeats: usize,
    contradictions: usize,
    contradicting: Vec<String>,
    past: Option<HighestId>,
    texts: Texts,
}

impl<'a> Counts<'a> {
    fn new(source: &'a SplitSource, task: TaskKind) -> Self {
        Self {
            source,
            task,
            examples: 0,
            labels: HashMap::new(),
            spans: HashMap::new(),
            lengths: Vec::new(),
            tokens: Vec::new(),
            cut: CutReport::default(),
            bad_rows: SkippedRows::default(),
            blank: 0,
            turned_down: 0,
            repeats: 0,
            contradictions: 0,
            contradicting: Vec::new(),
            past: None,
            texts: Texts::with_hasher(FxBuildHasher),
        }
    }

    /// Adds the rows of a file.
    fn add(&mut self, file: usize, rows: &mut dyn Iterator<Item = Result<Row>>) -> Result<()> {
        let policy = BadRows {
            skip: true,
            ..self.source.bad_rows
        };
        let mut sieve = RowSieve::new(&self.source.files[file], policy);
        for row in rows {
            self.blank += usize::from(row.as_ref().is_err_and(has_nothing_to_read));
            if let Some(row) = sieve.sift(row) {
                self.count(file, row);
            }
            if sieve.is_over() {
                break;
            }
        }
        let bad = sieve.finish()?;
        let room = policy.limit.saturating_sub(self.bad_rows.shown.len());
        self.bad_rows.shown.extend(bad.shown.into_iter().take(room));
        self.bad_rows.count += bad.count;
        Ok(())
    }

    fn count(&mut self, file: usize, row: Row) {
        self.examples += 1;
        self.lengths.push(at_most_u32(row.length));
        if let Some(cut) = row.cut {
            self.tokens.push(at_most_u32(cut.tokens));
            self.cut += cut;
        }
        if let (None, Some(id)) = (self.past, row.past) {
            let line = row.line;
            self.past = Some(HighestId { id, file, line });
        }
        self.count_text(file, &row);
        for kind in row.spans {
            *self.spans.entry(kind).or_default() += 1;
        }
        for name in row.labels {
            let seen = self
                .labels
                .entry(name)
                .or_insert_with_key(|name| SeenLabel {
                    name: name.clone(),
                    count: 0,
                    file,
                    line: row.line,
                });
            seen.count += 1;
        }
    }

    fn count_text(&mut self, file: usize, row: &Row) {
        let labels = &row.labels;
        let here = Stand {
            file: at_most_u32(file),
            line: at_most_u32(row.line),
            answer: match row.number {
                Some(number) => number.to_bits(),
                None => (digest(labels) >> 32) as u32,
            },
            count: 1,
        };
        let first = match self.texts.entry(row.text) {
            Entry::Vacant(place) => {
                place.insert(here);
                return;
            }
            Entry::Occupied(mut first) => {
                first.get_mut().count += 1;
                *first.get()
            }
        };
        self.repeats += 1;
        if first.answer == here.answer {
            return;
        }
        self.contradictions += 1;
        if self.contradicting.len() == SHOWN {
            return;
        }
        let files = &self.source.files;
        let [at, first_at] = [&here, &first].map(|stand| place(files, stand));
        let kind = self.source.read.sequence.label_kind;
        self.contradicting
            .push(match (self.task, &labels[..], kind) {
                (TaskKind::Sequence, [label], LabelKind::Class) => {
                    let of = |seen: &&SeenLabel| {
                        (digest(std::slice::from_ref(&seen.name)) >> 32) as u32 == first.answer
                    };
                    let first = self.labels.values().find(of);
                    let first = first.map_or("another label", |seen| seen.name.as_str());
                    format!("{at} is {label:?}, the same text in {first_at} {first:?}")
                }
                (TaskKind::Sequence, _, LabelKind::Number) => {
                    let [here, first] = [here, first].map(|stand| f32::from_bits(stand.answer));
                    format!("{at} is {here}, the same text in {first_at} {first}")
                }
                (TaskKind::Sequence, ..) => {
                    format!("{at} has other labels than the same text in {first_at}")
                }
                _ => format!("{at} has other tags than the same words in {first_at}"),
            });
    }

    fn finish(self, options: &ProfileOptions<'_>) -> Result<Profile> {
        let names = self.labels.keys().map(String::as_str);
        let kind = self.source.read.sequence.label_kind;
        let (order, kind) = match self.task {
            // Numbers have no names.
            TaskKind::Sequence if kind == LabelKind::Number => (Vec::new(), None),
            TaskKind::Sequence => (LabelSet::of_classes(names)?.into(), None),
            TaskKind::Token => {
                let kind = options.kind.unwrap_or_else(|| TagKind::of(names.clone()));
                (LabelSet::of_tags(names)?.into(), Some(kind))
            }
        };
        let mut labels = self.labels;
        let labels = order.iter().filter_map(|name| labels.remove(name));
        let labels = labels.collect();
        let spans = (kind == Some(TagKind::Spans)).then(|| {
            let mut spans: Vec<(String, usize)> = self.spans.into_iter().collect();
            spans.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            spans
        });
        let measured = options.tokens.is_some();
        Ok(Profile {
            files: self.source.files.clone(),
            task: self.task,
            label_kind: self.source.read.sequence.label_kind,
            examples: self.examples,
            labels,
            spans,
            lengths: Lengths::of(self.lengths),
            tokens: measured.then(|| Lengths::of(self.tokens)),
            cut: measured.then_some(self.cut),
            bad_rows: self.bad_rows,
            blank: self.blank,
            turned_down: self.turned_down,
            repeats: self.repeats,
            contradictions: self.contradictions,
            contradicting: self.contradicting,
            past: self.past,
            texts: self.texts,
        })
    }
}

fn at_most_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether a row is bad for want of a text.
fn has_nothing_to_read(error: &DataError) -> bool {
    match error {
        DataError::EmptyField { what, .. } => ["text", "tokens"].contains(what),
        DataError::NoTokens { .. } => true,
        _ => false,
    }
}

/// Eight bytes that stand for a list of texts.
fn digest<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length first, so that no two lists are the same bytes.
        hash.update((part.as_ref().len() as u64).to_le_bytes());
        hash.update(part.as_ref());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_le_bytes(first)
}

/// White space around a text makes it no other one.
fn of_text(
    example: SequenceExample,
    file: &Path,
    tokens: Option<(&TextTokenizer, &InputLimits)>,
    known: usize,
) -> Result<Row> {
    let SequenceExample {
        text,
        text_pair: pair,
        label,
        line,
        ..
    } = example;
    let (mut cut, mut past) = (None, None);
    if let Some((tokenizer, limits)) = tokens {
        let encoded = tokenizer.sequence_inputs(&text, pair.as_deref(), limits)?;
        if encoded.text_tokens == 0 {
            return Err(no_tokens(file, line));
        }
        past = first_past(encoded.inputs.iter().flatten(), known);
        let mut report = CutReport::default();
        report.add_sequence(&encoded);
        cut = Some(report);
    }
    let number = match label {
        // -0 is 0.
        Some(TextLabel::Number(number)) => Some(number + 0.0),
        _ => None,
    };
    let mut labels = label.map(TextLabel::into_names).unwrap_or_default();
    // The order of a list says nothing.
    labels.sort();
    let texts = || std::iter::once(text.trim()).chain(pair.as_deref().map(str::trim));
    Ok(Row {
        line,
        text: digest(texts()),
        length: texts().map(|text| text.chars().count()).sum(),
        labels,
        number,
        spans: Vec::new(),
        cut,
        past,
    })
}

fn of_words(
    example: TokenExample,
    file: &Path,
    tokens: Option<(&TextTokenizer, &InputLimits)>,
    known: usize,
) -> Result<Row> {
    let (mut cut, mut past) = (None, None);
    if let Some((tokenizer, limits)) = tokens {
        let words = example.tokens.len();
        let encoded = tokenizer.word_inputs(&example.tokens, limits)?;
        if encoded.empty_words >= words {
            return Err(no_tokens(file, example.line));
        }
        let ids = encoded.inputs.iter().flat_map(|input| &input.input_ids);
        past = first_past(ids, known);
        let mut report = CutReport::default();
        report.add_words(&encoded, words);
        cut = Some(report);
    }
    let tags = example.tags.unwrap_or_default();
    let spans = decode_spans(&tags).into_iter();
    Ok(Row {
        line: example.line,
        text: digest(&example.tokens),
        length: example.tokens.len(),
        spans: spans.map(|span| span.entity_type).collect(),
        labels: tags,
        number: None,
        cut,
        past,
    })
}

/// The first id past a vocabulary of so many.
fn first_past<'a>(mut ids: impl Iterator<Item = &'a u32>, known: usize) -> Option<u32> {
    ids.find(|id| **id as usize >= known).copied()
}

fn no_tokens(file: &Path, line: usize) -> DataError {
    DataError::NoTokens {
        path: file.to_path_buf(),
        line,
    }
}

//! A split as ids: encoded once, in memory or in a file, and read back one input at a time.
//!
//! Texts are not kept. What is kept of a file of any size is, in memory, the length of each input;
//! the ids, the word of each id and the gold labels stay in a file where the split is large
//! ([`SplitWriter::in_file`](crate::SplitWriter::in_file)).
//!
//! Layout, little-endian: a magic; the records (the tags of words, or the classes of a text that
//! may have any number of them, then for each input the ids and, for words, the word of each id,
//! all `u32`); a table of examples; a table of inputs; a JSON footer. Behind that, in a file, the
//! checksum of each block of it, and a trailer: the bytes before the checksums, those of the
//! footer, the checksum of checksums and trailer, the magic.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ls_files::{FileError, open_regular, read_exact_at};
use serde::{Deserialize, Serialize};

use crate::checksums::{BLOCK, Summed};
use crate::error::{DataError, Result};
use crate::inputs::CutReport;
use crate::task::TaskKind;
use crate::text_label::LabelKind;

pub(crate) const MAGIC: &[u8; 8] = b"LSLENC\x00\x04";
/// In place of a label or a word.
pub(crate) const NONE: u32 = u32::MAX;

/// A label as the files have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLabel {
    /// Its name.
    pub name: String,
    /// Examples, or words, that have it.
    pub count: usize,
    /// Where it stands first: the file, counted from 0.
    pub file: usize,
    /// Where it stands first: the line, counted from 1.
    pub line: usize,
}

/// The highest token id of a split, and the first example that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighestId {
    /// The id.
    pub id: u32,
    /// File of the example, counted from 0.
    pub file: usize,
    /// Its line, counted from 1.
    pub line: usize,
}

/// Bytes of the trailer.
const TRAILER: usize = 8 + 8 + 4 + MAGIC.len();

/// The end of a file behind its footer: the checksums of its blocks, and the trailer.
pub(crate) fn ending(len: u64, footer: u64, sums: &[u32]) -> Vec<u8> {
    let mut end: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    end.extend(len.to_le_bytes());
    end.extend(footer.to_le_bytes());
    let sum = crc32fast::hash(&end);
    end.extend(sum.to_le_bytes());
    end.extend(MAGIC);
    end
}

/// What is known of a split as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Footer {
    /// The name that the file was written for, without its ending: what decides its content.
    pub(crate) key: String,
    /// How many; their names stay outside, because the same bytes may go by others later.
    pub(crate) files: usize,
    pub(crate) examples: usize,
    pub(crate) inputs: usize,
    pub(crate) task: TaskKind,
    /// What the labels of texts are.
    pub(crate) label_kind: LabelKind,
    pub(crate) labels: Vec<SeenLabel>,
    pub(crate) highest: Option<HighestId>,
    pub(crate) report: CutReport,
    /// Messages about rows that were skipped, and how many were.
    pub(crate) skipped: (Vec<String>, usize),
}

/// What is known of an example of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedRow {
    /// Its file, counted from 0.
    pub file: usize,
    /// Its line, counted from 1.
    pub line: usize,
    /// Its number among the rows of its file, counted from 0.
    pub number: usize,
    /// Its inputs: one, or several windows.
    pub inputs: Range<usize>,
    /// The class of a text as an index into [`EncodedSplit::seen_labels`]; none where it has none,
    /// several or a number, and for a list of words.
    pub label: Option<usize>,
    /// The number that a text is labelled with.
    pub value: Option<f32>,
    /// Words of the list; 0 for a text.
    pub words: usize,
    /// What was cut of it: a report of this example alone, without the length of its inputs.
    pub cut: CutReport,
    record: u64,
    /// Gold labels at the beginning of its record: tags of words, or classes of a text.
    listed: usize,
}

/// An input of a split: an example, or one window of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedInput {
    /// The example that it is (a part) of.
    pub example: usize,
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Word of each id, for a list of words.
    pub word_ids: Option<Vec<Option<usize>>>,
    /// The words that are labelled in this input.
    pub scored: Range<usize>,
}

/// Bytes somewhere.
#[derive(Debug)]
pub(crate) enum Storage {
    Memory(Vec<u8>),
    File(Summed),
}

impl Storage {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Memory(all) => {
                let start = at as usize;
                bytes.copy_from_slice(&all[start..start + bytes.len()]);
                Ok(())
            }
            Self::File(file) => file.read(at, bytes),
        }
    }

    /// The error of an entry whose checksums are right and whose parts do not fit together: it was
    /// not written by this program.
    fn contradicts(&self, parts: &str) -> DataError {
        let path = match self {
            Self::Memory(_) => Path::new(""),
            Self::File(file) => &file.path,
        };
        FileError::reading(path)(bad(&format!("{parts} contradict each other"))).into()
    }

    fn words(&self, at: u64, count: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        self.read(at, &mut bytes)?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(bytes.chunks_exact(4).map(word).collect())
    }
}

/// Bytes of a row of the table of examples: where its record is, its line; first input, inputs,
/// label (the number of labels, or the bits of a number) or words, file; tokens, and tokens and
/// words that were cut, and empty words; its number.
pub(crate) const EXAMPLE: usize = 52;
/// Bytes of a row of the table of inputs: where its record is, its example, tokens, first and last
/// labelled word.
pub(crate) const INPUT: usize = 24;

/// A split as ids.
#[derive(Debug)]
pub struct EncodedSplit {
    pub(crate) storage: Storage,
    pub(crate) examples_at: u64,
    pub(crate) inputs_at: u64,
    pub(crate) lengths: Vec<u32>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) footer: Footer,
}

impl EncodedSplit {
    /// Opens a file that [`SplitWriter::in_file`](crate::SplitWriter::in_file) left, and checks
    /// every byte of it.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a file, not a whole one, damaged, or one that was
    /// written under another name.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = open_regular(path)?;
        let opened = || {
            let file = summed(file, size, path)?;
            file.0.check()?;
            Self::of_file(file.0, file.1, true)
        };
        let split = opened().map_err(FileError::reading(path))?;
        if Some(split.footer.key.as_str()) != path.file_stem().and_then(|stem| stem.to_str()) {
            let bad = bad("it was written under another name");
            return Err(FileError::reading(path)(bad).into());
        }
        Ok(split)
    }

    /// A file whose footer has so many bytes. What was just written is not `checked` again.
    pub(crate) fn of_file(file: Summed, footer: u64, checked: bool) -> io::Result<Self> {
        let storage = Storage::File(file);
        let Storage::File(file) = &storage else {
            return Err(ErrorKind::InvalidData.into());
        };
        let read = |at: u64, bytes: u64| {
            let mut part = vec![0; bytes as usize];
            file.read(at, &mut part).map_err(io::Error::other)?;
            Ok::<_, io::Error>(part)
        };
        let footer_at = file.len.checked_sub(footer);
        let footer_at = footer_at.ok_or_else(|| bad("its footer is longer than it is"))?;
        let footer: Footer = serde_json::from_slice(&read(footer_at, footer)?)?;
        let mut of_files = footer.labels.iter().map(|label| label.file);
        if !of_files.all(|file| file < footer.files)
            || footer
                .highest
                .is_some_and(|highest| highest.file >= footer.files)
        {
            return Err(bad("its footer names a file that it does not count"));
        }
        let table = |rows: usize, row: usize, end: u64| {
            let bytes = (rows as u64).checked_mul(row as u64);
            let at = bytes.and_then(|bytes| end.checked_sub(bytes));
            at.filter(|at| *at >= MAGIC.len() as u64)
                .ok_or_else(|| bad("its tables are longer than it is"))
        };
        let inputs_at = table(footer.inputs, INPUT, footer_at)?;
        let examples_at = table(footer.examples, EXAMPLE, inputs_at)?;
        let mut lengths = Vec::with_capacity(footer.inputs);
        for_rows(inputs_at, footer.inputs, INPUT, &read, |row| {
            let (at, tokens) = (u64_at(row, 0), u32_at(row, 12));
            let words = if footer.task == TaskKind::Token { 2 } else { 1 };
            let end = at.checked_add(u64::from(tokens) * 4 * words);
            let whole = end.is_some_and(|end| end <= examples_at)
                && (u32_at(row, 8) as usize) < footer.examples
                && u32_at(row, 16) <= u32_at(row, 20);
            lengths.push(tokens);
            whole
        })?;
        let split = Self {
            examples_at,
            inputs_at,
            lengths,
            files: Vec::new(),
            footer,
            storage,
        };
        if checked {
            split.check_examples()?;
        }
        Ok(split)
    }

    /// Checks that every example lies in the file.
    fn check_examples(&self) -> io::Result<()> {
        let read = |at: u64, bytes: u64| {
            let mut part = vec![0; bytes as usize];
            self.storage.read(at, &mut part).map_err(io::Error::other)?;
            Ok(part)
        };
        let (footer, mut next) = (&self.footer, 0);
        for_rows(self.examples_at, footer.examples, EXAMPLE, &read, |row| {
            let row = self.row(row);
            let end = row.record.checked_add(row.listed as u64 * 4);
            let whole = row.inputs.start == next
                && row.inputs.end <= footer.inputs
                && row.file < footer.files
                && row.label.is_none_or(|label| label < footer.labels.len())
                && end.is_some_and(|end| end <= self.examples_at);
            next = row.inputs.end;
            whole
        })
    }

    /// The same split with the names of its files, which it does not keep: they may have moved
    /// since it was encoded.
    pub(crate) fn with_files(mut self, files: &[PathBuf]) -> Self {
        self.files = files.to_vec();
        self
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.footer.examples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is labelled: texts, or the words of lists.
    pub fn task(&self) -> TaskKind {
        self.footer.task
    }

    /// What the labels of texts are.
    pub fn label_kind(&self) -> LabelKind {
        self.footer.label_kind
    }

    /// Tokens of each input.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// The files, in order; none of a split that was only opened.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The labels that occur, in the order of their first occurrence.
    pub fn seen_labels(&self) -> &[SeenLabel] {
        &self.footer.labels
    }

    /// The highest token id.
    pub fn highest_id(&self) -> Option<HighestId> {
        self.footer.highest
    }

    /// Sizes, and what was cut.
    pub fn report(&self) -> &CutReport {
        &self.footer.report
    }

    /// Messages about rows that were skipped, and how many were.
    pub fn skipped(&self) -> (&[String], usize) {
        (&self.footer.skipped.0, self.footer.skipped.1)
    }

    /// Some examples, side by side: reading them together is faster than one by one.
    ///
    /// # Errors
    /// The split's file can no longer be read.
    ///
    /// # Panics
    /// If there are no such examples.
    pub fn examples(&self, range: Range<usize>) -> Result<Vec<EncodedRow>> {
        let len = self.len();
        assert!(range.end <= len, "examples {range:?} of {len}");
        let mut table = vec![0; range.len() * EXAMPLE];
        let at = self.examples_at + (range.start * EXAMPLE) as u64;
        self.storage.read(at, &mut table)?;
        Ok(table
            .chunks_exact(EXAMPLE)
            .map(|row| self.row(row))
            .collect())
    }

    fn row(&self, row: &[u8]) -> EncodedRow {
        let value = |at: usize| u32_at(row, at) as usize;
        let (first, inputs, said) = (value(16), value(20), u32_at(row, 24));
        let (label, words) = match self.footer.task {
            TaskKind::Sequence => (Some(said).filter(|label| *label != NONE), 0),
            TaskKind::Token => (None, said as usize),
        };
        let of_kind = |kind| label.filter(|_| self.footer.label_kind == kind);
        let classes = of_kind(LabelKind::Classes).unwrap_or_default() as usize;
        EncodedRow {
            file: value(28),
            line: u64_at(row, 8) as usize,
            number: value(48),
            inputs: first..first + inputs,
            label: of_kind(LabelKind::Class).map(|label| label as usize),
            value: of_kind(LabelKind::Number).map(f32::from_bits),
            listed: words + classes,
            words,
            cut: CutReport {
                examples: 1,
                cut_examples: usize::from(value(36) > 0),
                tokens: value(32),
                cut_tokens: value(36),
                words,
                cut_words: value(40),
                empty_words: value(44),
                longest: 0,
                windowed_examples: usize::from(inputs > 1),
                inputs,
            },
            record: u64_at(row, 0),
        }
    }

    /// The gold tags of a list of words, or the classes of a text that may have any number of them,
    /// as indices into [`EncodedSplit::seen_labels`]; empty where there are none.
    ///
    /// # Errors
    /// The split's file can no longer be read, or names a label that it does not have.
    pub fn listed(&self, row: &EncodedRow) -> Result<Vec<usize>> {
        let labels = self.storage.words(row.record, row.listed)?;
        let known = labels.into_iter().filter(|label| *label != NONE);
        let labels: Vec<usize> = known.map(|label| label as usize).collect();
        if labels
            .iter()
            .any(|label| *label >= self.footer.labels.len())
        {
            return Err(self.storage.contradicts("its labels and the names of them"));
        }
        Ok(labels)
    }

    /// An input.
    ///
    /// # Errors
    /// Its file can no longer be read, or names a word that its example does not have.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn input(&self, index: usize) -> Result<EncodedInput> {
        let tokens = self.lengths[index] as usize;
        let mut row = [0; INPUT];
        self.storage
            .read(self.inputs_at + (index * INPUT) as u64, &mut row)?;
        let (at, example) = (u64_at(&row, 0), u32_at(&row, 8) as usize);
        let scored = u32_at(&row, 16) as usize..u32_at(&row, 20) as usize;
        let (input_ids, word_ids) = match self.footer.task {
            TaskKind::Sequence => (self.storage.words(at, tokens)?, None),
            TaskKind::Token => {
                let mut record = self.storage.words(at, tokens * 2)?;
                let word = |id: u32| (id != NONE).then_some(id as usize);
                let word_ids: Vec<_> = record.drain(tokens..).map(word).collect();
                let words = self.words_of(example)?;
                if scored.end > words || word_ids.iter().flatten().any(|word| *word >= words) {
                    return Err(self.storage.contradicts("its inputs and their words"));
                }
                (record, Some(word_ids))
            }
        };
        Ok(EncodedInput {
            example,
            input_ids,
            word_ids,
            scored,
        })
    }

    /// The words of an example of lists of words.
    fn words_of(&self, example: usize) -> Result<usize> {
        let mut words = [0; 4];
        let at = self.examples_at + (example * EXAMPLE) as u64 + 24;
        self.storage.read(at, &mut words)?;
        Ok(u32_at(&words, 0) as usize)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_string())
}

/// The bytes of a file with their checksums, and the length of its footer.
fn summed(file: std::fs::File, size: u64, path: &Path) -> io::Result<(Summed, u64)> {
    let sums_end = size.checked_sub(TRAILER as u64);
    let sums_end = sums_end.ok_or_else(|| bad("not a file of encoded examples"))?;
    let mut start = [0; MAGIC.len()];
    read_exact_at(&file, &mut start, 0)?;
    let mut trailer = [0; TRAILER];
    read_exact_at(&file, &mut trailer, sums_end)?;
    if start != *MAGIC || trailer[TRAILER - MAGIC.len()..] != *MAGIC {
        return Err(bad("not a whole file of encoded examples of this version"));
    }
    let (len, footer) = (u64_at(&trailer, 0), u64_at(&trailer, 8));
    let blocks = len.div_ceil(BLOCK as u64);
    let whole = blocks.checked_mul(4).and_then(|sums| sums.checked_add(len));
    if whole != Some(sums_end) {
        return Err(bad("not a whole file of encoded examples"));
    }
    // No longer than the file, which was asked for its size.
    let mut sums = vec![0; (sums_end - len) as usize];
    read_exact_at(&file, &mut sums, len)?;
    let sums: Vec<u32> = sums.chunks_exact(4).map(|sum| u32_at(sum, 0)).collect();
    if ending(len, footer, &sums)[sums.len() * 4..] != trailer {
        return Err(bad("damaged: its checksums"));
    }
    let path = path.to_path_buf();
    Ok((
        Summed {
            file,
            path,
            len,
            sums,
        },
        footer,
    ))
}

/// Calls `whole` with every row of a table; an error where it says that one is not.
fn for_rows(
    at: u64,
    rows: usize,
    row: usize,
    read: &impl Fn(u64, u64) -> io::Result<Vec<u8>>,
    mut whole: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    const TOGETHER: usize = 4096;
    for first in (0..rows).step_by(TOGETHER) {
        let count = TOGETHER.min(rows - first);
        let part = read(at + (first * row) as u64, (count * row) as u64)?;
        if !part.chunks_exact(row).all(&mut whole) {
            return Err(bad("its tables contradict each other"));
        }
    }
    Ok(())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

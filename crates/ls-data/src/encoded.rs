//! A split as ids: encoded once, in memory or in a file, and read back one input at a time.
//!
//! Texts are not kept. What is kept of a file of any size is, in memory, the length of each input; the ids, the word of each
//! id and the gold labels stay in a file where the split is large ([`SplitWriter::in_file`]).
//!
//! Layout, little-endian: a magic; the records (gold labels of an example, then for each of its inputs the ids and, for
//! words, the word of each id, all `u32`); a table of examples; a table of inputs; a JSON footer; its length; the magic.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use ls_files::{FileError, read_exact_at};
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::task::TaskKind;
use crate::tokenize::{CutReport, SequenceInputs, WordInputs};

const MAGIC: &[u8; 8] = b"LSLENC\x00\x01";
/// Rows that are worked on at once: enough for every core, few enough that their encodings stay small.
const CHUNK: usize = 1024;
/// Chunks that may wait for the next stage.
const AHEAD: usize = 2;
/// In place of a label or a word.
const NONE: u32 = u32::MAX;

/// Calls `each` with the rows on which `work` was done on all cores, in their order, while rows behind them are worked on and
/// others still are read. Some thousand are held at most, however many there are.
pub fn in_parallel<T, R, I, W, X>(
    rows: I,
    work: W,
    each: impl FnOnce(&mut dyn Iterator<Item = Result<R>>) -> X,
) -> X
where
    T: Send,
    R: Send,
    I: Iterator<Item = Result<T>> + Send,
    W: Fn(T) -> Result<R> + Sync,
{
    std::thread::scope(|scope| {
        let (read, to_work) = sync_channel::<Vec<Result<T>>>(AHEAD);
        let (worked, to_take) = sync_channel::<Vec<Result<R>>>(AHEAD);
        // A stage whose next has stopped listening stops too.
        scope.spawn(move || {
            let mut rows = rows;
            loop {
                let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
                if chunk.is_empty() || read.send(chunk).is_err() {
                    return;
                }
            }
        });
        let work = &work;
        scope.spawn(move || {
            for chunk in to_work {
                let rows = chunk.into_par_iter().map(|row| row.and_then(work));
                if worked.send(rows.collect()).is_err() {
                    return;
                }
            }
        });
        each(&mut to_take.into_iter().flatten())
    })
}

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

/// What is known of a split as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Footer {
    files: Vec<PathBuf>,
    examples: usize,
    inputs: usize,
    /// Whether the examples are lists of words.
    words: bool,
    labels: Vec<SeenLabel>,
    highest: Option<HighestId>,
    report: CutReport,
    /// Messages about rows that were skipped, and how many were.
    skipped: (Vec<String>, usize),
}

/// What is known of an example of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow {
    /// Its file, counted from 0.
    pub file: usize,
    /// Its line, counted from 1.
    pub line: usize,
    /// Its number among the rows of its file, counted from 0.
    pub number: usize,
    /// Its inputs: one, or several windows.
    pub inputs: Range<usize>,
    /// Label of a text as an index into [`EncodedSplit::seen_labels`]; none where it has none, and for a list of words.
    pub label: Option<usize>,
    /// Words of the list; 0 for a text.
    pub words: usize,
    /// What was cut of it: a report of this example alone, without the length of its inputs.
    pub cut: CutReport,
    record: u64,
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
enum Storage {
    Memory(Vec<u8>),
    File(File, PathBuf),
}

impl Storage {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Memory(all) => {
                let start = at as usize;
                bytes.copy_from_slice(&all[start..start + bytes.len()]);
                Ok(())
            }
            Self::File(file, path) => {
                Ok(read_exact_at(file, bytes, at).map_err(FileError::reading(path))?)
            }
        }
    }

    fn words(&self, at: u64, count: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        self.read(at, &mut bytes)?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(bytes.chunks_exact(4).map(word).collect())
    }
}

/// Bytes of a row of the table of examples: where its record is, its line; first input, inputs, label or words, file; tokens,
/// and tokens and words that were cut, and empty words; its number.
const EXAMPLE: usize = 52;
/// Bytes of a row of the table of inputs: where its record is, its example, tokens, first and last labelled word.
const INPUT: usize = 24;

/// A split as ids.
#[derive(Debug)]
pub struct EncodedSplit {
    storage: Storage,
    examples_at: u64,
    inputs_at: u64,
    lengths: Vec<u32>,
    footer: Footer,
}

impl EncodedSplit {
    /// Opens a file that [`SplitWriter::in_file`] left.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a file, or not a whole one.
    pub fn open(path: &Path) -> Result<Self> {
        let reading = FileError::reading(path);
        let mut file = File::open(path).map_err(&reading)?;
        Ok(Self::from_file(&mut file, path).map_err(&reading)?)
    }

    fn from_file(file: &mut File, path: &Path) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let size = file.metadata()?.len();
        let trailer = 8 + MAGIC.len() as u64;
        if size < trailer + MAGIC.len() as u64 {
            return Err(bad("not a file of encoded examples"));
        }
        let mut start = [0; 8];
        read_exact_at(file, &mut start, 0)?;
        let mut end = [0; 16];
        read_exact_at(file, &mut end, size - trailer)?;
        let (length, magic) = end.split_at(8);
        if start != *MAGIC || magic != MAGIC {
            return Err(bad("not a whole file of encoded examples"));
        }
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        let footer_at = (size - trailer).checked_sub(length);
        let footer_at = footer_at.ok_or_else(|| bad("its footer is longer than it is"))?;
        let mut footer = vec![0; length as usize];
        read_exact_at(file, &mut footer, footer_at)?;
        let footer: Footer = serde_json::from_slice(&footer)?;
        let inputs_at = footer_at.checked_sub((footer.inputs * INPUT) as u64);
        let examples_at =
            inputs_at.and_then(|at| at.checked_sub((footer.examples * EXAMPLE) as u64));
        let (Some(inputs_at), Some(examples_at)) = (inputs_at, examples_at) else {
            return Err(bad("its tables are longer than it is"));
        };
        file.seek(SeekFrom::Start(inputs_at))?;
        let mut table = io::BufReader::new(&mut *file);
        let mut lengths = Vec::with_capacity(footer.inputs);
        let mut row = [0; INPUT];
        for _ in 0..footer.inputs {
            table.read_exact(&mut row)?;
            lengths.push(u32_at(&row, 12));
        }
        Ok(Self {
            storage: Storage::File(file.try_clone()?, path.into()),
            examples_at,
            inputs_at,
            lengths,
            footer,
        })
    }

    /// The same split under other names of its files: they may have moved since it was encoded.
    pub(crate) fn with_files(mut self, files: &[PathBuf]) -> Self {
        self.footer.files = files.to_vec();
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
        if self.footer.words {
            TaskKind::Token
        } else {
            TaskKind::Sequence
        }
    }

    /// Tokens of each input.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// The files, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.footer.files
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
        let (first, inputs, label_or_words) = (value(16), value(20), value(24));
        let is_words = self.footer.words;
        let words = if is_words { label_or_words } else { 0 };
        EncodedRow {
            file: value(28),
            line: u64_at(row, 8) as usize,
            number: value(48),
            inputs: first..first + inputs,
            label: (!is_words && label_or_words != NONE as usize).then_some(label_or_words),
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

    /// The gold tags of a list of words as indices into [`EncodedSplit::seen_labels`]; empty where it has none.
    ///
    /// # Errors
    /// The split's file can no longer be read.
    pub fn tags(&self, row: &EncodedRow) -> Result<Vec<usize>> {
        let tags = self.storage.words(row.record, row.words)?;
        let known = tags.into_iter().filter(|tag| *tag != NONE);
        Ok(known.map(|tag| tag as usize).collect())
    }

    /// An input.
    ///
    /// # Errors
    /// Its file can no longer be read.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn input(&self, index: usize) -> Result<EncodedInput> {
        let tokens = self.lengths[index] as usize;
        let mut row = [0; INPUT];
        self.storage
            .read(self.inputs_at + (index * INPUT) as u64, &mut row)?;
        let words = self.footer.words;
        let mut record = self
            .storage
            .words(u64_at(&row, 0), tokens * if words { 2 } else { 1 })?;
        let word_ids = words.then(|| {
            let word = |id: u32| (id != NONE).then_some(id as usize);
            record.drain(tokens..).map(word).collect()
        });
        Ok(EncodedInput {
            example: u32_at(&row, 8) as usize,
            input_ids: record,
            word_ids,
            scored: u32_at(&row, 16) as usize..u32_at(&row, 20) as usize,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Beginning of the name of a file that is not whole yet.
const PART: &str = "part-";

/// Removes what encodings that were killed have left: parts that nobody has written to for a day. One that cannot be removed
/// is left for the next time.
fn sweep(folder: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let part = entry.file_name().to_string_lossy().starts_with(PART);
        let written = entry.metadata().and_then(|data| data.modified());
        let age = written.ok().and_then(|written| written.elapsed().ok());
        if part && age.is_some_and(|age| age > DAY) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Where a writer puts its bytes.
#[derive(Debug)]
enum Sink {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Memory(all) => all.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.flush(),
        }
    }
}

/// Writes a split example by example.
#[derive(Debug)]
pub struct SplitWriter {
    /// Of the file that is written; for messages.
    path: PathBuf,
    /// Keeps the name of the file that becomes the split's; none for a nameless one.
    target: Option<(tempfile::TempPath, PathBuf)>,
    records: Sink,
    written: u64,
    examples: Sink,
    inputs: Sink,
    label_ids: HashMap<String, u32, FxBuildHasher>,
    footer: Footer,
    /// Reused.
    record: Vec<u8>,
}

impl SplitWriter {
    /// Keeps everything in memory.
    pub fn in_memory(task: TaskKind) -> Self {
        let records = Sink::Memory(MAGIC.to_vec());
        let table = || Sink::Memory(Vec::new());
        Self::new(task, PathBuf::new(), None, [records, table(), table()])
    }

    /// Writes a file that appears at `path` when it is whole.
    ///
    /// # Errors
    /// The folder cannot be made or written in.
    pub fn in_file(task: TaskKind, path: &Path) -> Result<Self> {
        let write = FileError::writing(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(&write)?;
        sweep(folder);
        let part = tempfile::Builder::new().prefix(PART).tempfile_in(folder);
        let (mut file, name) = part.map_err(&write)?.into_parts();
        file.write_all(MAGIC).map_err(&write)?;
        let table = || Ok(Sink::File(BufWriter::new(tempfile::tempfile_in(folder)?)));
        let sinks = [
            Sink::File(BufWriter::new(file)),
            table().map_err(&write)?,
            table().map_err(&write)?,
        ];
        Ok(Self::new(
            task,
            path.into(),
            Some((name, path.into())),
            sinks,
        ))
    }

    /// Writes a file without a name, which goes with the split.
    ///
    /// # Errors
    /// The system has no room for temporary files.
    pub fn in_temporary_file(task: TaskKind) -> Result<Self> {
        let path = std::env::temp_dir();
        let sink = |start: &[u8]| -> io::Result<Sink> {
            let mut file = tempfile::tempfile()?;
            file.write_all(start)?;
            Ok(Sink::File(BufWriter::new(file)))
        };
        let sinks = || Ok([sink(MAGIC)?, sink(&[])?, sink(&[])?]);
        let sinks = sinks().map_err(FileError::writing(&path))?;
        Ok(Self::new(task, path, None, sinks))
    }

    fn new(
        task: TaskKind,
        path: PathBuf,
        target: Option<(tempfile::TempPath, PathBuf)>,
        sinks: [Sink; 3],
    ) -> Self {
        let [records, examples, inputs] = sinks;
        Self {
            path,
            target,
            records,
            written: 0,
            examples,
            inputs,
            label_ids: HashMap::default(),
            footer: Footer {
                files: Vec::new(),
                examples: 0,
                inputs: 0,
                words: task == TaskKind::Token,
                labels: Vec::new(),
                highest: None,
                report: CutReport::default(),
                skipped: (Vec::new(), 0),
            },
            record: Vec::new(),
        }
    }

    /// The examples that follow are of this file.
    pub fn begin_file(&mut self, path: &Path) {
        self.footer.files.push(path.into());
    }

    /// Rows of the current file were skipped.
    pub fn skipped(&mut self, shown: &[String], count: usize) {
        self.footer.skipped.0.extend_from_slice(shown);
        self.footer.skipped.1 += count;
    }

    /// Adds a text, the row of this number in its file, counted from 0.
    ///
    /// # Errors
    /// It tokenises to nothing; the file cannot be written.
    pub fn push_sequence(
        &mut self,
        number: usize,
        example: &SequenceExample,
        encoded: &SequenceInputs,
    ) -> Result<()> {
        self.record.clear();
        let label = example.label.as_deref();
        let label = label.map_or(NONE, |label| self.label(label, example.line));
        let cut = [encoded.text_tokens, encoded.cut_tokens, 0, 0, number];
        self.add_row(example.line, encoded.inputs.len(), label, cut)?;
        for ids in &encoded.inputs {
            self.add_input(ids, example.line, 0..0)?;
        }
        self.footer.report.add_sequence(encoded);
        self.write_record()
    }

    /// Adds a list of words, the row of this number in its file, counted from 0.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push_words(
        &mut self,
        number: usize,
        example: &TokenExample,
        encoded: &WordInputs,
    ) -> Result<()> {
        self.record.clear();
        let gold: Vec<u32> = match &example.tags {
            Some(tags) => {
                let tags = tags.iter().map(|tag| self.label(tag, example.line));
                tags.collect()
            }
            None => vec![NONE; example.tokens.len()],
        };
        let cut = [
            encoded.text_tokens,
            encoded.cut_tokens,
            encoded.cut_words,
            encoded.empty_words,
            number,
        ];
        self.add_row(example.line, encoded.inputs.len(), gold.len() as u32, cut)?;
        self.add_to_record(&gold);
        for input in &encoded.inputs {
            self.add_input(&input.input_ids, example.line, input.scored.clone())?;
            let word = |word: &Option<usize>| word.map_or(NONE, |word| word as u32);
            let words: Vec<u32> = input.word_ids.iter().map(word).collect();
            self.add_to_record(&words);
        }
        self.footer.report.add_words(encoded, example.tokens.len());
        self.write_record()
    }

    fn file(&self) -> usize {
        self.footer.files.len().saturating_sub(1)
    }

    fn label(&mut self, name: &str, line: usize) -> u32 {
        let file = self.file();
        let id = match self.label_ids.get(name) {
            Some(id) => *id,
            None => {
                let id = self.footer.labels.len() as u32;
                self.label_ids.insert(name.to_string(), id);
                self.footer.labels.push(SeenLabel {
                    name: name.to_string(),
                    count: 0,
                    file,
                    line,
                });
                id
            }
        };
        self.footer.labels[id as usize].count += 1;
        id
    }

    fn add_to_record(&mut self, words: &[u32]) {
        self.record
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn add_row(
        &mut self,
        line: usize,
        inputs: usize,
        label_or_words: u32,
        cut: [usize; 5],
    ) -> Result<()> {
        let mut row = Vec::with_capacity(EXAMPLE);
        row.extend((MAGIC.len() as u64 + self.written).to_le_bytes());
        row.extend((line as u64).to_le_bytes());
        let values = [
            self.footer.inputs,
            inputs,
            label_or_words as usize,
            self.file(),
        ];
        for value in values.into_iter().chain(cut) {
            row.extend((value as u32).to_le_bytes());
        }
        self.examples.write_all(&row).map_err(|e| self.failed(e))?;
        self.footer.examples += 1;
        Ok(())
    }

    fn add_input(&mut self, ids: &[u32], line: usize, scored: Range<usize>) -> Result<()> {
        let mut row = Vec::with_capacity(INPUT);
        let at = MAGIC.len() as u64 + self.written + self.record.len() as u64;
        row.extend(at.to_le_bytes());
        for value in [
            self.footer.examples - 1,
            ids.len(),
            scored.start,
            scored.end,
        ] {
            row.extend((value as u32).to_le_bytes());
        }
        self.inputs.write_all(&row).map_err(|e| self.failed(e))?;
        self.footer.inputs += 1;
        self.add_to_record(ids);
        let highest = ids.iter().copied().max().unwrap_or_default();
        if self.footer.highest.is_none_or(|h| highest > h.id) {
            let file = self.file();
            self.footer.highest = Some(HighestId {
                id: highest,
                file,
                line,
            });
        }
        Ok(())
    }

    fn write_record(&mut self) -> Result<()> {
        let record = std::mem::take(&mut self.record);
        self.records
            .write_all(&record)
            .map_err(|e| self.failed(e))?;
        self.written += record.len() as u64;
        self.record = record;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> DataError {
        FileError::writing(&self.path)(source).into()
    }

    /// The split.
    ///
    /// # Errors
    /// The file cannot be written; there are no examples.
    pub fn finish(mut self) -> Result<EncodedSplit> {
        if self.footer.examples == 0 {
            let path = self.footer.files.first().cloned().unwrap_or_default();
            return Err(DataError::Empty { path });
        }
        let path = self.path.clone();
        let target = self.target.take();
        let written = FileError::writing(&path);
        let mut split = self.close().map_err(&written)?;
        if let (Some((part, target)), Storage::File(_, path)) = (target, &mut split.storage) {
            part.persist(&target).map_err(|e| written(e.error))?;
            *path = target;
        }
        Ok(split)
    }

    fn close(self) -> io::Result<EncodedSplit> {
        let footer = serde_json::to_vec(&self.footer)?;
        let examples_at = MAGIC.len() as u64 + self.written;
        let inputs_at = examples_at + (self.footer.examples * EXAMPLE) as u64;
        let end = |sink: &mut dyn Write| -> io::Result<()> {
            sink.write_all(&footer)?;
            sink.write_all(&(footer.len() as u64).to_le_bytes())?;
            sink.write_all(MAGIC)
        };
        match (self.records, self.examples, self.inputs) {
            (Sink::Memory(mut all), Sink::Memory(examples), Sink::Memory(inputs)) => {
                let length = |row: &[u8]| u32_at(row, 12);
                let lengths = inputs.chunks_exact(INPUT).map(length).collect();
                all.extend(examples);
                all.extend(inputs);
                end(&mut all)?;
                Ok(EncodedSplit {
                    storage: Storage::Memory(all),
                    examples_at,
                    inputs_at,
                    lengths,
                    footer: self.footer,
                })
            }
            (Sink::File(mut all), examples, inputs) => {
                for table in [examples, inputs] {
                    if let Sink::File(table) = table {
                        let mut table =
                            table.into_inner().map_err(io::IntoInnerError::into_error)?;
                        table.rewind()?;
                        io::copy(&mut table, &mut all)?;
                    }
                }
                end(&mut all)?;
                let mut file = all.into_inner().map_err(io::IntoInnerError::into_error)?;
                EncodedSplit::from_file(&mut file, &self.path)
            }
            // All three are of one kind.
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

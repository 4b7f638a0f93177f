//! Writing a split as ids, example by example; [`crate::encoded`] has the layout.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ls_files::{AtomicFile, FileError, create_folder, parent_of, sweep};
use rustc_hash::FxBuildHasher;

use crate::checksums::{Summed, Summing};
use crate::encoded::{
    EXAMPLE, EncodedSplit, Footer, HighestId, INPUT, MAGIC, NONE, SeenLabel, Storage, ending,
    u32_at,
};
use crate::error::{DataError, Result};
use crate::example::{SequenceExample, TokenExample};
use crate::inputs::{CutReport, SequenceInputs, WordInputs};
use crate::task::TaskKind;
use crate::text_label::{LabelKind, TextLabel};

/// Writes a split example by example.
#[derive(Debug)]
pub struct SplitWriter {
    /// Of the file that is written; for messages.
    path: PathBuf,
    /// Whether a file that can take its place in a folder is to take it.
    named: bool,
    records: Sink,
    written: u64,
    examples: Sink,
    inputs: Sink,
    label_ids: HashMap<String, u32, FxBuildHasher>,
    files: Vec<PathBuf>,
    footer: Footer,
    /// Reused.
    record: Vec<u8>,
}

impl SplitWriter {
    /// Keeps everything in memory.
    pub fn in_memory(task: TaskKind) -> Self {
        let records = Sink::Memory(MAGIC.to_vec());
        let table = || Sink::Memory(Vec::new());
        Self::new(task, PathBuf::new(), [records, table(), table()])
    }

    /// Writes a file that appears at `path` when it is whole.
    ///
    /// # Errors
    /// The folder cannot be made or written in.
    pub fn in_file(task: TaskKind, path: &Path) -> Result<Self> {
        let folder = parent_of(path);
        create_folder(folder)?;
        sweep(folder);
        let write = FileError::writing(path);
        let table = || tempfile::tempfile_in(folder).map(Sink::table);
        let sinks = [
            Sink::records(AtomicFile::create(path)?.into()).map_err(&write)?,
            table().map_err(&write)?,
            table().map_err(&write)?,
        ];
        let mut writer = Self::new(task, path.into(), sinks);
        let key = path.file_stem().unwrap_or_default();
        writer.footer.key = key.to_string_lossy().into_owned();
        Ok(writer)
    }

    /// Writes a file without a name, which goes with the split.
    ///
    /// # Errors
    /// The system has no room for temporary files.
    pub(crate) fn in_temporary_file(task: TaskKind) -> Result<Self> {
        let path = std::env::temp_dir();
        let table = || tempfile::tempfile().map(Sink::table);
        let records = || Sink::records(tempfile::tempfile()?.into());
        let sinks = || Ok([records()?, table()?, table()?]);
        let sinks = sinks().map_err(FileError::writing(&path))?;
        Ok(Self::new(task, path, sinks))
    }

    fn new(task: TaskKind, path: PathBuf, sinks: [Sink; 3]) -> Self {
        let [records, examples, inputs] = sinks;
        Self {
            path,
            named: true,
            records,
            written: 0,
            examples,
            inputs,
            label_ids: HashMap::default(),
            files: Vec::new(),
            footer: Footer {
                key: String::new(),
                files: 0,
                examples: 0,
                inputs: 0,
                task,
                label_kind: LabelKind::Class,
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
        self.files.push(path.into());
        self.footer.files += 1;
    }

    /// Rows of the current file were skipped.
    pub fn skipped(&mut self, shown: &[String], count: usize) {
        self.footer.skipped.0.extend_from_slice(shown);
        self.footer.skipped.1 += count;
    }

    /// Adds a text, the row of this number in its file, counted from 0. The labels of a split are
    /// all of one kind.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push_sequence(
        &mut self,
        number: usize,
        example: &SequenceExample,
        encoded: &SequenceInputs,
    ) -> Result<()> {
        self.record.clear();
        let label = match &example.label {
            None => NONE,
            Some(TextLabel::Class(name)) => self.label(name, example.line),
            Some(TextLabel::Number(number)) => number.to_bits(),
            Some(TextLabel::Classes(names)) => names.len() as u32,
        };
        if let Some(label) = &example.label {
            self.footer.label_kind = label.kind();
        }
        let cut = [encoded.text_tokens, encoded.cut_tokens, 0, 0, number];
        self.add_row(example.line, encoded.inputs.len(), label, cut)?;
        if let Some(TextLabel::Classes(names)) = &example.label {
            let names = names.iter().map(|name| self.label(name, example.line));
            let classes: Vec<u32> = names.collect();
            self.add_to_record(&classes);
        }
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

    /// The file is to go with the split, as one without a name does.
    pub(crate) fn forget_name(&mut self) {
        self.named = false;
    }

    fn file(&self) -> usize {
        self.footer.files.saturating_sub(1)
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

    /// The split. Where it cannot take its place in the folder, that is no error: a warning is
    /// logged, and its file goes with it.
    ///
    /// # Errors
    /// The file cannot be written; there are no examples.
    pub fn finish(self) -> Result<EncodedSplit> {
        if self.footer.examples == 0 {
            let path = self.files.first().cloned().unwrap_or_default();
            return Err(DataError::Empty { path });
        }
        let path = self.path.clone();
        let failed = FileError::writing(&path);
        let examples_at = MAGIC.len() as u64 + self.written;
        let inputs_at = examples_at + (self.footer.examples * EXAMPLE) as u64;
        match (self.records, self.examples, self.inputs) {
            (Sink::Memory(mut all), Sink::Memory(examples), Sink::Memory(inputs)) => {
                let length = |row: &[u8]| u32_at(row, 12);
                let lengths = inputs.chunks_exact(INPUT).map(length).collect();
                all.extend(examples);
                all.extend(inputs);
                Ok(EncodedSplit {
                    storage: Storage::Memory(all),
                    examples_at,
                    inputs_at,
                    lengths,
                    files: self.files,
                    footer: self.footer,
                })
            }
            (Sink::Records(all), Sink::Table(examples), Sink::Table(inputs)) => {
                let footer = serde_json::to_vec(&self.footer).map_err(|e| failed(e.into()))?;
                let len = inputs_at + (self.footer.inputs * INPUT + footer.len()) as u64;
                let (mut all, sums) =
                    end_with(all, [examples, inputs], &footer, len).map_err(&failed)?;
                let file = match &mut all {
                    RecordFile::Named(file) => file.reader()?,
                    RecordFile::Nameless(file) => file.get_ref().try_clone().map_err(&failed)?,
                };
                if let (RecordFile::Named(file), true) = (all, self.named)
                    && let Err(FileError::Write { source, .. }) = file.commit()
                {
                    tracing::warn!("{}: what is encoded is not kept: {source}", path.display());
                }
                let file = Summed {
                    file,
                    path: path.clone(),
                    len,
                    sums,
                };
                let split = EncodedSplit::of_file(file, footer.len() as u64, false);
                let split = split.map_err(FileError::reading(&path))?;
                Ok(split.with_files(&self.files))
            }
            // All three are of one kind.
            _ => Err(failed(io::ErrorKind::InvalidInput.into()).into()),
        }
    }
}

/// Writes what follows the records; `len` is the length of all but the ending. Gives the file and
/// its checksums.
fn end_with(
    mut all: Summing<RecordFile>,
    tables: [BufWriter<File>; 2],
    footer: &[u8],
    len: u64,
) -> io::Result<(RecordFile, Vec<u32>)> {
    for table in tables {
        let mut table = table.into_inner().map_err(io::IntoInnerError::into_error)?;
        table.rewind()?;
        io::copy(&mut table, &mut all)?;
    }
    all.write_all(footer)?;
    let (mut all, sums) = all.finish();
    all.write_all(&ending(len, footer.len() as u64, &sums))?;
    all.flush()?;
    Ok((all, sums))
}

/// Where a writer puts its bytes.
#[derive(Debug)]
enum Sink {
    Memory(Vec<u8>),
    Table(BufWriter<File>),
    /// The file that becomes the split's.
    Records(Summing<RecordFile>),
}

/// The file that becomes the split's.
#[derive(Debug)]
enum RecordFile {
    /// May take its place in a folder.
    Named(AtomicFile),
    /// Goes with the split.
    Nameless(BufWriter<File>),
}

impl From<AtomicFile> for RecordFile {
    fn from(file: AtomicFile) -> Self {
        Self::Named(file)
    }
}

impl From<File> for RecordFile {
    fn from(file: File) -> Self {
        Self::Nameless(BufWriter::new(file))
    }
}

impl Write for RecordFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Named(file) => file.write(bytes),
            Self::Nameless(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Named(file) => file.flush(),
            Self::Nameless(file) => file.flush(),
        }
    }
}

impl Sink {
    fn table(file: File) -> Self {
        Self::Table(BufWriter::new(file))
    }

    fn records(file: RecordFile) -> io::Result<Self> {
        let mut file = Summing::new(file);
        file.write_all(MAGIC)?;
        Ok(Self::Records(file))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Memory(all) => all.write(bytes),
            Self::Table(file) => file.write(bytes),
            Self::Records(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Table(file) => file.flush(),
            Self::Records(file) => file.flush(),
        }
    }
}

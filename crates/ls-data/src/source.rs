//! A split's files and how they are read: to examples, or to ids that a later run finds again.

use std::borrow::Cow;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ls_files::{FileError, FileStamp, hex, sha256_of_file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache;
use crate::convert::{Malformed, check_tags, convert_tags};
use crate::encoded::{EncodedSplit, Storage};
use crate::error::{DataError, Result};
use crate::example::{InputRow, SequenceExample, TokenExample};
use crate::parallel::in_parallel;
use crate::readers::{BadRows, Position, ReadSpec, SkippedRows, for_each_row};
use crate::scheme::TagScheme;
use crate::span::decode_spans;
use crate::split_writer::SplitWriter;
use crate::tag_names::with_hyphen;
use crate::task::TaskKind;
use crate::tokenize::TextTokenizer;
use crate::windows::InputLimits;

/// Changes with everything that changes what is encoded.
const VERSION: &str = "ls-data encoding 8";
/// Files smaller than this together are encoded anew each time: it takes less than a second, and
/// leaves nothing behind.
const SMALL: u64 = 8 << 20;

/// What is done to the tags of a file before they are labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TagChanges {
    /// What stands between the prefix and the type of a tag, where that is no hyphen: it becomes
    /// one.
    pub separator: Option<String>,
    /// The scheme that they are rewritten in; without, they stay as they are.
    pub to: Option<TagScheme>,
    /// What happens to tags that are not whole spans by the file's scheme.
    pub malformed: Malformed,
    /// Only the first word of a span keeps its tag, as `B-`; the others become `O`. So the data of
    /// the published code of arXiv 2310.01208 has OntoNotes.
    pub starts_only: bool,
}

/// How far the encoding of a split has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodingProgress {
    /// Examples that are encoded.
    pub examples: usize,
    /// Bytes of the files in which they stand; of a Parquet file, by its rows.
    pub bytes: u64,
    /// Bytes of all files of the split.
    pub of_bytes: u64,
}

/// A split's files and how they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitSource {
    /// One file, or several that follow each other.
    pub files: Vec<PathBuf>,
    /// How they are read.
    pub read: ReadSpec,
    /// What is done to their tags.
    pub tags: TagChanges,
    /// What happens to bad rows.
    pub bad_rows: BadRows,
}

impl SplitSource {
    /// Calls `each` with every text: the number of its file, its number among the file's rows, and
    /// itself.
    ///
    /// # Errors
    /// A file or a row of it cannot be used; whatever `each` says.
    pub fn for_each_sequence<E: From<DataError>>(
        &self,
        mut each: impl FnMut(usize, usize, SequenceExample) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, file) in self.files.iter().enumerate() {
            let rows = self.read.read_sequence(file)?;
            let position = rows.position();
            for_each_row(placed(rows, position), file, self.bad_rows, |(at, row)| {
                each(index, at.number, row)
            })?;
        }
        Ok(())
    }

    /// Calls `each` with every list of words: the number of its file, its number among the file's
    /// rows, and itself.
    ///
    /// # Errors
    /// As [`SplitSource::for_each_sequence`].
    pub fn for_each_words<E: From<DataError>>(
        &self,
        mut each: impl FnMut(usize, usize, TokenExample) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, file) in self.files.iter().enumerate() {
            let rows = self.read.read_tokens(file)?;
            let position = rows.position();
            let rows = placed(rows, position).map(|row| {
                let (at, row) = row?;
                Ok((at, self.change_tags(row, file, &AtomicUsize::new(0))?))
            });
            for_each_row(rows, file, self.bad_rows, |(at, row)| {
                each(index, at.number, row)
            })?;
        }
        Ok(())
    }

    /// The example with its tags as they are trained; `repaired` counts those that their scheme
    /// does not allow.
    pub(crate) fn change_tags(
        &self,
        mut example: TokenExample,
        file: &Path,
        repaired: &AtomicUsize,
    ) -> Result<TokenExample> {
        let &TagChanges {
            ref separator,
            to,
            malformed,
            starts_only,
        } = &self.tags;
        let Some(tags) = &mut example.tags else {
            return Ok(example);
        };
        if let Some(separator) = separator {
            for tag in tags.iter_mut() {
                if let Cow::Owned(changed) = with_hyphen(tag, separator) {
                    *tag = changed;
                }
            }
        }
        let scheme = self.read.scheme;
        if malformed == Malformed::Repair
            && scheme.is_some_and(|scheme| check_tags(tags, scheme).is_err())
        {
            repaired.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(to) = to.or(scheme) {
            let converted = convert_tags(tags, scheme.unwrap_or(to), to, malformed);
            *tags = converted.map_err(|error| DataError::BadTags {
                path: file.to_path_buf(),
                line: example.line,
                reason: error.to_string(),
            })?;
        }
        if starts_only {
            let spans = decode_spans(tags);
            tags.fill("O".to_string());
            for span in spans {
                tags[span.start] = format!("B-{}", span.entity_type);
            }
        }
        Ok(example)
    }

    /// Encodes the split. With a `cache` folder, a large split that was encoded before from the
    /// same bytes, by the same tokenizer and with the same settings is only opened.
    ///
    /// # Errors
    /// A file or a row of it cannot be used. A cache that cannot be written is no error: a warning
    /// is logged, and the split stays in a temporary file.
    pub fn encode(
        &self,
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
        cache: Option<&Path>,
    ) -> Result<EncodedSplit> {
        self.encode_watched(task, tokenizer, limits, cache, &mut |_| ())
    }

    /// As [`SplitSource::encode`]; `progress` hears after each example how far it is. Of a split
    /// that was encoded before, it hears nothing.
    ///
    /// # Errors
    /// As [`SplitSource::encode`].
    pub fn encode_watched(
        &self,
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
        cache: Option<&Path>,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<EncodedSplit> {
        let mut size = 0;
        for file in &self.files {
            size += std::fs::metadata(file).map_or(0, |data| data.len());
        }
        if size < SMALL {
            let writer = SplitWriter::in_memory(task);
            return self.write(writer, task, tokenizer, limits, progress);
        }
        let Some(cache) = cache else {
            let writer = SplitWriter::in_temporary_file(task)?;
            return self.write(writer, task, tokenizer, limits, progress);
        };
        // First: what changes after it shows.
        let stamps = self.stamps();
        let key = self.key(task, tokenizer, limits)?;
        let path = cache.join(key).with_extension(cache::ENTRY);
        let split = match EncodedSplit::open(&path) {
            Ok(split) => {
                tracing::info!("{}: encoded before, as {}", self.name(), path.display());
                split.with_files(&self.files)
            }
            Err(error) => {
                if !matches!(error, DataError::File(FileError::NotFound { .. })) {
                    tracing::warn!("encoding anew: {}", with_causes(&error));
                }
                self.write_kept(&path, &stamps, task, tokenizer, limits, progress)?
            }
        };
        if let Storage::File(file) = &split.storage {
            cache::in_use(&file.file);
            cache::make_room(cache, &path, cache::limit());
        }
        Ok(split)
    }

    /// Encodes the split into the entry of a cache or, where that cannot be written, into a
    /// temporary file: with another disk it may have another fate. `stamps` are those from before
    /// the entry got its name.
    fn write_kept(
        &self,
        path: &Path,
        stamps: &[Option<FileStamp>],
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<EncodedSplit> {
        let not_kept = match SplitWriter::in_file(task, path) {
            Ok(mut writer) => match self.fill(&mut writer, task, tokenizer, limits, progress) {
                Ok(()) => {
                    // The name is that of other bytes than those that were encoded.
                    if self.stamps() != stamps {
                        tracing::warn!(
                            "{}: changed while it was read: what is encoded is not kept",
                            self.name()
                        );
                        writer.forget_name();
                    }
                    match writer.finish() {
                        Err(DataError::File(error)) => error,
                        finished => return finished,
                    }
                }
                Err(DataError::File(error @ FileError::Write { .. })) => error,
                Err(error) => return Err(error),
            },
            Err(DataError::File(error)) => error,
            Err(error) => return Err(error),
        };
        let cause = std::error::Error::source(&not_kept).map(ToString::to_string);
        tracing::warn!(
            "{}: what is encoded is not kept: {}",
            path.display(),
            cause.unwrap_or_else(|| not_kept.to_string())
        );
        let writer = SplitWriter::in_temporary_file(task)?;
        self.write(writer, task, tokenizer, limits, progress)
    }

    /// The files, for messages.
    pub fn name(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|f| f.display().to_string()).collect();
        names.join(", ")
    }

    fn write(
        &self,
        mut writer: SplitWriter,
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<EncodedSplit> {
        self.fill(&mut writer, task, tokenizer, limits, progress)?;
        writer.finish()
    }

    fn fill(
        &self,
        writer: &mut SplitWriter,
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<()> {
        let began = Instant::now();
        let repaired = AtomicUsize::new(0);
        let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |data| data.len());
        let mut done = EncodingProgress {
            of_bytes: self.files.iter().map(size).sum(),
            ..EncodingProgress::default()
        };
        for file in &self.files {
            writer.begin_file(file);
            let before = done.bytes;
            let mut pushed = |at: At| {
                done.examples += 1;
                done.bytes = (before + at.bytes).min(done.of_bytes);
                progress(done);
            };
            let no_tokens = |line: usize| DataError::NoTokens {
                path: file.clone(),
                line,
            };
            let skipped: SkippedRows = if task == TaskKind::Token {
                let encode = |(at, row): (At, TokenExample)| {
                    let row = self.change_tags(row, file, &repaired)?;
                    let encoded = tokenizer.word_inputs(&row.tokens, limits)?;
                    if encoded.empty_words < row.tokens.len() {
                        Ok((at, row, encoded))
                    } else {
                        Err(no_tokens(row.line))
                    }
                };
                let rows = self.read.read_tokens(file)?;
                let (repairs, turned_down) = (rows.repairs(), rows.turned_down());
                let position = rows.position();
                let skipped = in_parallel(
                    placed(rows, position),
                    |(_, row)| row.bytes(),
                    encode,
                    |rows| {
                        for_each_row(rows, file, self.bad_rows, |(at, row, encoded)| {
                            writer.push_words(at.number, &row, &encoded)?;
                            pushed(at);
                            Ok::<_, DataError>(())
                        })
                    },
                );
                passed_over(file, turned_down.count());
                let skipped = skipped?;
                let repairs = repairs.seen();
                if repairs.count > 0 {
                    tracing::warn!(
                        "{}: {} spans were no whole words or overlapped; they were widened, and of \
                         overlapping ones the longest kept:\n{repairs}",
                        file.display(),
                        repairs.count
                    );
                }
                skipped
            } else {
                let encode = |(at, row): (At, SequenceExample)| {
                    let pair = row.text_pair.as_deref();
                    let encoded = tokenizer.sequence_inputs(&row.text, pair, limits)?;
                    if encoded.text_tokens > 0 {
                        Ok((at, row, encoded))
                    } else {
                        Err(no_tokens(row.line))
                    }
                };
                let rows = self.read.read_sequence(file)?;
                let (turned_down, position) = (rows.turned_down(), rows.position());
                let skipped = in_parallel(
                    placed(rows, position),
                    |(_, row)| row.bytes(),
                    encode,
                    |rows| {
                        for_each_row(rows, file, self.bad_rows, |(at, row, encoded)| {
                            writer.push_sequence(at.number, &row, &encoded)?;
                            pushed(at);
                            Ok::<_, DataError>(())
                        })
                    },
                );
                passed_over(file, turned_down.count());
                skipped?
            };
            writer.skipped(&skipped.shown, skipped.count);
            done.bytes = before + size(file);
            progress(done);
        }
        tracing::debug!(
            "{}: {} examples encoded in {:.1?}",
            self.name(),
            done.examples,
            began.elapsed()
        );
        if let (1.., Some(scheme)) = (repaired.load(Ordering::Relaxed), self.read.scheme) {
            tracing::warn!(
                "{}: the tags of {} sentences are not as {} has them, and were read as conlleval reads them",
                self.name(),
                repaired.load(Ordering::Relaxed),
                scheme.name()
            );
        }
        Ok(())
    }

    /// The files whose bytes decide what is encoded, each followed by where the names of its
    /// integer tags may stand.
    fn read_from(&self) -> impl Iterator<Item = (&Path, PathBuf)> {
        let files = self.files.iter();
        files.map(|file| (file.as_path(), file.with_file_name("label.json")))
    }

    /// Shows whether the bytes that [`SplitSource::key`] stands for have changed since; none for a
    /// file that is not there.
    fn stamps(&self) -> Vec<Option<FileStamp>> {
        let files = self.read_from();
        let stamps = files.map(|(file, names)| [FileStamp::of(file), FileStamp::of(names)]);
        stamps.flatten().map(std::result::Result::ok).collect()
    }

    /// Stands for everything that decides what is encoded: the bytes of the files and of the
    /// tokenizer, and the settings.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn key(
        &self,
        task: TaskKind,
        tokenizer: &TextTokenizer,
        limits: &InputLimits,
    ) -> Result<String> {
        let mut hash = Sha256::new();
        // With its length before each part, so that no two lists of parts run together to the same
        // bytes.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(VERSION.as_bytes());
        // Its tokenizers crate may have changed with it.
        part(env!("CARGO_PKG_VERSION").as_bytes());
        let settings = (task, limits, &self.read, &self.tags, self.bad_rows.skip);
        part(&serde_json::to_vec(&settings).unwrap_or_default());
        for bytes in tokenizer.identity() {
            part(&bytes);
        }
        for (file, names) in self.read_from() {
            part(sha256_of_file(file)?.as_bytes());
            part(&ls_files::read(names).unwrap_or_default());
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Says how many rows of a file were not read because their annotator turned them down.
fn passed_over(file: &Path, count: usize) {
    if count > 0 {
        tracing::warn!(
            "{}: {count} rows passed over: their annotator rejected or ignored them (`answer`), or \
             cancelled each annotation (`was_cancelled`)",
            file.display()
        );
    }
}

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Counted from 0, bad ones too: what tells two rows apart where they stand in one line.
    number: usize,
    /// Bytes of the file that were read for it and those before it.
    bytes: u64,
}

/// The rows with their places; `position` is that of their reader.
fn placed<T>(
    rows: impl Iterator<Item = Result<T>>,
    position: Position,
) -> impl Iterator<Item = Result<(At, T)>> {
    let place = move |number| At {
        number,
        bytes: position.bytes(),
    };
    rows.enumerate()
        .map(move |(number, row)| row.map(|row| (place(number), row)))
}

/// The message of an error, then those of its causes.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    let messages: Vec<String> = errors.map(ToString::to_string).collect();
    messages.join(": ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_error_has_its_causes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        std::fs::write(&path, "x").unwrap();
        let error = EncodedSplit::open(&path).unwrap_err();
        let expected = "cannot read: not a file of encoded examples";
        assert_eq!(
            with_causes(&error),
            format!("{}: {expected}", path.display())
        );
    }
}

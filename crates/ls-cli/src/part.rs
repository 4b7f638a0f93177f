//! Answers that outlive a kill: they grow in `OUT.part`, `OUT.part.progress` says which inputs they
//! are of, and both are gone once `OUT` is whole.
//!
//! The progress is a list of lines, only ever appended to, each a CRC-32 and JSON: first what
//! decides the answers (model, settings, format), then, each time the answers so far are synced,
//! how many inputs they are of, their bytes, and a hash of these inputs. The last whole line
//! counts: what the answers hold behind its bytes is cut off, and the inputs before it are passed
//! over, and seen to be the same by their hash. So it does not matter how many lines an answer has,
//! or which rows were bad. Whoever goes on with answers that are all there passes over all inputs,
//! and then has nothing to add.
//!
//! Whoever writes holds a lock on `OUT.part`. Nothing is read before the lock is held, and both
//! files come to be with the first answer. Without `OUT.part` a progress is a leftover.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use ls_data::CutReport;
use ls_files::{
    AtomicFile, FileError, optional, parent_of, put_in_place, same_permissions, sweep, sync_folder,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::UsageError;

/// Syncing takes at most this part of the time.
const SHARE: u32 = 20;
/// However fast it is, it is not done more often than after this times [`SHARE`].
const LEAST: Duration = Duration::from_millis(5);
/// Version of the lines.
const FORMAT_VERSION: u32 = 1;
/// The first line is not longer, and the last ones are looked for in so many bytes.
const READ: u64 = 1 << 20;
/// Nothing that is counted comes near it. Sums of such numbers are numbers.
const MOST: u64 = 1 << 48;

/// The first line of the progress.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    format_version: u32,
    /// What decides the answers, by a name for messages.
    begun_with: BTreeMap<String, String>,
}

/// What has been answered. The other lines of the progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Inputs that are answered.
    pub inputs: usize,
    /// Bytes of their answers.
    pub bytes: u64,
    /// Of the inputs, see [`ls_data::InputRow::digest`].
    pub inputs_sha256: String,
    /// How many of them have no label, because there was nothing to read.
    pub unreadable: usize,
    /// How many answers were too unsure: texts, words or entities.
    #[serde(default)]
    pub left_out: usize,
    /// How many have no words.
    pub without_words: usize,
    /// What was cut of them.
    pub cut: CutReport,
}

impl Progress {
    /// Whether this can be so.
    fn is_possible(&self) -> bool {
        let cut = &self.cut;
        let counts = [
            self.inputs,
            self.left_out,
            cut.examples,
            cut.tokens,
            cut.words,
            cut.inputs,
            cut.longest,
        ];
        let parts = [
            (self.unreadable, self.inputs),
            (self.without_words, self.inputs),
            (cut.examples, self.inputs),
            (cut.cut_examples, cut.examples),
            (cut.windowed_examples, cut.examples),
            (cut.cut_tokens, cut.tokens),
            (cut.cut_words, cut.words),
            (cut.empty_words, cut.words),
        ];
        self.inputs > 0
            && self.bytes <= MOST
            && counts.into_iter().all(|count| count as u64 <= MOST)
            && parts.into_iter().all(|(part, whole)| part <= whole)
    }
}

/// Answers that are being written.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    answers: PathBuf,
    progress: PathBuf,
    /// Nothing before the first answer.
    files: Option<Files>,
    /// What an earlier process left that had kept nothing.
    leftover: Option<File>,
    /// What the answers were begun with, or will be.
    begun_with: BTreeMap<String, String>,
    /// Synced, and in the progress.
    kept: Progress,
    kept_at: Instant,
    cost: Duration,
    placed: bool,
}

/// What is written to.
#[derive(Debug)]
struct Files {
    /// Locked as long as it is open.
    answers: File,
    log: File,
    /// Bytes of the log behind which the next line comes.
    log_end: u64,
}

/// What a progress says.
#[derive(Debug, Default)]
struct Log {
    begun: Option<Begun>,
    kept: Option<Progress>,
    /// Behind the last line that counts.
    end: u64,
    /// Whether no line counts but the first, though others are there that were whole.
    is_damaged: bool,
}

impl Part {
    /// Begins the answers that will be `target`, or with `resume` goes on with those that an
    /// earlier process left. No file is created yet.
    ///
    /// # Errors
    ///
    /// If the files cannot be written; if there are answers and `resume` does not say what is to
    /// become of them; if another process is writing them.
    pub fn open(target: &Path, resume: bool) -> Result<Self> {
        let ending = |ending: &str| {
            let mut path = target.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        let mut part = Self {
            target: target.to_path_buf(),
            answers: ending(".part"),
            progress: ending(".part.progress"),
            files: None,
            leftover: None,
            begun_with: BTreeMap::new(),
            kept: Progress::default(),
            kept_at: Instant::now(),
            cost: LEAST,
            placed: false,
        };
        is_file_if_there(&part.answers)?;
        is_file_if_there(&part.progress)?;
        let Some(answers) = part.locked()? else {
            // Nothing is there to go on with. Whether something can be written is seen now, and
            // what a kill left of that is removed.
            sweep(parent_of(target));
            AtomicFile::create(target)?;
            return Ok(part);
        };
        let size = answers
            .metadata()
            .map_err(FileError::reading(&part.answers))?
            .len();
        let log = Log::read(&part.progress)?;
        let (begun, kept) = match (log.begun, log.kept) {
            (Some(begun), Some(kept)) if size >= kept.bytes => (begun, kept),
            // Nothing was answered yet, or nothing that was kept.
            (Some(_), None) if !log.is_damaged => {
                part.leftover = Some(answers);
                return Ok(part);
            }
            (_, None) if size == 0 => {
                part.leftover = Some(answers);
                return Ok(part);
            }
            (_, kept) => {
                let least = kept.map(|kept| format!(", and should have at least {}", kept.bytes));
                return Err(UsageError {
                    message: format!(
                        "{} has {size} bytes{}, and {} does not say what they are",
                        part.answers.display(),
                        least.unwrap_or_default(),
                        part.progress.display()
                    ),
                    hint: Some("delete both, or move them away".into()),
                }
                .into());
            }
        };
        if !resume {
            let (answers, inputs) = (part.answers.display(), kept.inputs);
            return Err(UsageError {
                message: format!("{answers} is there, with the answers to {inputs} inputs"),
                hint: Some(format!(
                    "go on with them by --resume, or delete {answers} and {} to begin again",
                    part.progress.display()
                )),
            }
            .into());
        }
        let opened = OpenOptions::new().write(true).open(&part.progress);
        part.files = Some(Files {
            answers,
            log: opened.map_err(FileError::writing(&part.progress))?,
            log_end: log.end,
        });
        (part.begun_with, part.kept) = (begun.begun_with, kept);
        Ok(part)
    }

    /// The answers that are there, locked.
    fn locked(&self) -> Result<Option<File>> {
        loop {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&self.answers);
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(FileError::writing(&self.answers))?,
            };
            self.lock(&file)?;
            // The process that held the lock may have put them in their place meanwhile.
            if is_at(&file, &self.answers)? {
                return Ok(Some(file));
            }
        }
    }

    /// Some milliseconds are waited for: a lock outlives its holder for as long as a process that
    /// it was starting right then has the file too.
    fn lock(&self, file: &File) -> Result<()> {
        for pause in [10, 40, 150] {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(pause)),
                // Where a file system knows no locks, there is none to respect.
                _ => return Ok(()),
            }
        }
        Err(self.is_taken())
    }

    fn is_taken(&self) -> anyhow::Error {
        let message = format!("{}: another process is writing it", self.answers.display());
        UsageError::new(message).into()
    }

    /// Goes on, or begins, with a model and settings. What it returns has been answered: its inputs
    /// are to be passed over.
    ///
    /// # Errors
    ///
    /// If the answers were begun with others; if the files cannot be written.
    pub fn begin(&mut self, with: BTreeMap<String, String>) -> Result<Progress> {
        let Some(files) = &mut self.files else {
            self.begun_with = with;
            return Ok(self.kept.clone());
        };
        let before = &self.begun_with;
        if *before != with {
            let of = |settings: &BTreeMap<String, String>, name: &str| {
                let value = settings.get(name).cloned();
                value.unwrap_or_else(|| "not set".into())
            };
            let names = before
                .keys()
                .chain(with.keys().filter(|name| !before.contains_key(*name)));
            let differ = names
                .filter(|name| before.get(*name) != with.get(*name))
                .map(|name| format!("{name} was {}, is {}", of(before, name), of(&with, name)));
            let differ: Vec<String> = differ.collect();
            let answers = self.answers.display();
            return Err(self.other(&format!(
                "{answers} was begun otherwise: {}",
                differ.join("; ")
            )));
        }
        // What was written behind the last sync is taken off, and no line without an end may stand
        // before the next one.
        cut_to(&mut files.answers, self.kept.bytes).map_err(FileError::writing(&self.answers))?;
        cut_to(&mut files.log, files.log_end).map_err(FileError::writing(&self.progress))?;
        Ok(self.kept.clone())
    }

    /// What is written to, created where it is not there.
    fn files(&mut self) -> Result<&mut Files> {
        if self.files.is_none() {
            let files = self.create()?;
            self.files = Some(files);
            let begun = Begun {
                format_version: FORMAT_VERSION,
                begun_with: self.begun_with.clone(),
            };
            self.append(&begun)?;
            // So that a power cut leaves both names or none.
            sync_folder(parent_of(&self.target))?;
        }
        self.files
            .as_mut()
            .ok_or_else(|| anyhow::anyhow!("{}: not open", self.answers.display()))
    }

    fn create(&mut self) -> Result<Files> {
        let writing = FileError::writing(&self.answers);
        let mut answers = match self.leftover.take() {
            Some(file) => file,
            None => {
                let opened = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&self.answers);
                let file = match opened {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        return Err(self.is_taken());
                    }
                    opened => opened.map_err(&writing)?,
                };
                self.lock(&file)?;
                // Between the two another process may have taken it for a leftover.
                if !is_at(&file, &self.answers)? {
                    return Err(self.is_taken());
                }
                file
            }
        };
        let log = cut_to(&mut answers, 0).map_err(&writing).and_then(|()| {
            same_permissions(&answers, &self.target);
            // Another file than that which the last process may be about to remove.
            let _ = fs::remove_file(&self.progress);
            let log = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&self.progress);
            log.map_err(FileError::writing(&self.progress))
        });
        let log = log.inspect_err(|_| {
            let _ = fs::remove_file(&self.answers);
        })?;
        Ok(Files {
            answers,
            log,
            log_end: 0,
        })
    }

    /// Writes answers.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let written = self.files()?.answers.write_all(text.as_bytes());
        Ok(written.map_err(FileError::writing(&self.answers))?)
    }

    /// Keeps what was written if it is time to.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn keep_if_due(&mut self, progress: &Progress) -> Result<()> {
        if self.kept_at.elapsed() < self.cost.max(LEAST) * SHARE {
            return Ok(());
        }
        self.keep(progress)
    }

    /// Keeps what was written: from now on neither a kill nor a power cut takes it away.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn keep(&mut self, progress: &Progress) -> Result<()> {
        if self.kept == *progress {
            return Ok(());
        }
        let began = Instant::now();
        let synced = self.files()?.answers.sync_data();
        synced.map_err(FileError::writing(&self.answers))?;
        self.append(progress)?;
        self.kept = progress.clone();
        self.kept_at = Instant::now();
        self.cost = began.elapsed();
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let line = line_of(line)?;
        let files = self.files()?;
        let written = files.log.write_all(line.as_bytes());
        let written = written.and_then(|()| files.log.sync_data());
        match written {
            Ok(()) => files.log_end += line.len() as u64,
            Err(_) => {
                // A part of a line would spoil the next one.
                let _ = cut_to(&mut files.log, files.log_end);
            }
        }
        Ok(written.map_err(FileError::writing(&self.progress))?)
    }

    /// Puts the answers, which are all, in their place.
    ///
    /// # Errors
    ///
    /// The system's. The answers are then kept as they are.
    pub fn finish(mut self, progress: &Progress) -> Result<()> {
        self.keep(progress)?;
        let log = self.files()?.log.try_clone();
        put_in_place(&self.answers, &self.target)?;
        self.placed = true;
        // The answers stand. A progress that stays is a leftover, which says nothing.
        let is_ours = |log| is_at(&log, &self.progress).is_ok_and(|ours| ours);
        if log.is_ok_and(is_ours) && fs::remove_file(&self.progress).is_ok() {
            let _ = sync_folder(parent_of(&self.target));
        }
        Ok(())
    }

    /// How many inputs are answered and kept.
    pub fn kept(&self) -> usize {
        self.kept.inputs
    }

    /// Where the answers are.
    pub fn path(&self) -> &Path {
        &self.answers
    }

    /// Says of answers why they are not continued, and what can be done.
    pub fn other(&self, why: &str) -> anyhow::Error {
        UsageError {
            message: why.into(),
            hint: Some(format!(
                "give what they were begun with, or delete {} and {} to begin again",
                self.answers.display(),
                self.progress.display()
            )),
        }
        .into()
    }
}

impl Drop for Part {
    /// Nothing is left of answers that never came to be.
    fn drop(&mut self) {
        let ours = self.files.is_some() || self.leftover.is_some();
        if ours && !self.placed && self.kept.inputs == 0 {
            // The one that is locked goes last.
            let _ = fs::remove_file(&self.progress);
            let _ = fs::remove_file(&self.answers);
        }
    }
}

/// Refuses what is no file where one is to be written.
fn is_file_if_there(path: &Path) -> Result<()> {
    match optional(fs::metadata(path).map_err(FileError::reading(path)))? {
        Some(found) if !found.is_file() => {
            let kind = if found.is_dir() {
                "a folder"
            } else {
                "no file"
            };
            let message = format!("{} is {kind}, and answers grow there", path.display());
            Err(UsageError {
                message,
                hint: Some("move it away, or give another --output".into()),
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Whether a path is that of an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let here = file.metadata().map_err(FileError::reading(path))?;
    let there = optional(fs::metadata(path).map_err(FileError::reading(path)))?;
    Ok(there.is_some_and(|there| (here.dev(), here.ino()) == (there.dev(), there.ino())))
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> Result<bool> {
    Ok(true)
}

/// Takes off what is behind so many bytes, and goes on there.
fn cut_to(file: &mut File, bytes: u64) -> std::io::Result<()> {
    file.set_len(bytes)?;
    file.seek(SeekFrom::Start(bytes)).map(|_| ())
}

/// A line of the progress: a CRC-32 in eight digits, and JSON.
fn line_of(what: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(what)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
}

/// What such a line says. Nothing if it was cut by a kill, or is damaged.
fn said<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if line[8] != b' ' || crc32fast::hash(json) != crc {
        return None;
    }
    serde_json::from_slice(json).ok()
}

impl Log {
    /// The first line and the last whole one.
    fn read(path: &Path) -> Result<Self> {
        let reading = FileError::reading(path);
        let Some(file) = optional(File::open(path).map_err(&reading))? else {
            return Ok(Self::default());
        };
        let size = file.metadata().map_err(&reading)?.len();
        let mut file = BufReader::new(file);
        let (mut first, mut tail) = (Vec::new(), Vec::new());
        file.by_ref()
            .take(READ)
            .read_until(b'\n', &mut first)
            .map_err(&reading)?;
        let begun = said(&first).filter(|begun: &Begun| begun.format_version == FORMAT_VERSION);
        let mut end = first.len() as u64;
        // It grows with the answers, and only its end counts.
        let mut at = size.saturating_sub(READ).max(end);
        file.seek(SeekFrom::Start(at)).map_err(&reading)?;
        file.take(READ).read_to_end(&mut tail).map_err(&reading)?;
        let (mut kept, mut is_damaged) = (None, false);
        for line in tail.split_inclusive(|byte| *byte == b'\n') {
            at += line.len() as u64;
            match said(line).filter(Progress::is_possible) {
                Some(progress) => (kept, end) = (Some(progress), at),
                None => is_damaged |= line.ends_with(b"\n"),
            }
        }
        Ok(Self {
            is_damaged: is_damaged && kept.is_none(),
            begun,
            kept,
            end,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(format: &str) -> BTreeMap<String, String> {
        [("format".to_string(), format.to_string())].into()
    }

    fn part(target: &Path, resume: bool) -> Result<Part> {
        Part::open(target, resume)
    }

    fn progress(inputs: usize, bytes: u64) -> Progress {
        Progress {
            inputs,
            bytes,
            ..Progress::default()
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_behind_the_last_whole_line_comes_again_and_nothing_is_left_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut first = part(&out, false).unwrap();
        assert_eq!(first.begin(with("jsonl")).unwrap(), Progress::default());
        first.write("a\n").unwrap();
        first.keep(&progress(1, 2)).unwrap();
        first.write("b, torn").unwrap();
        drop(first);
        let log = dir.path().join("out.part.progress");
        let mut torn = OpenOptions::new().append(true).open(&log).unwrap();
        torn.write_all(br#"{"inputs":9,"#).unwrap();

        let refused = part(&out, false).unwrap_err().to_string();
        assert!(
            refused.contains("out.part is there, with the answers to 1 inputs"),
            "{refused}"
        );
        let other = part(&out, true)
            .unwrap()
            .begin(with("text"))
            .unwrap_err()
            .to_string();
        assert!(other.ends_with("format was jsonl, is text"), "{other}");

        let mut second = part(&out, true).unwrap();
        assert_eq!(second.begin(with("jsonl")).unwrap(), progress(1, 2));
        // Only one writes.
        let twice = part(&out, true).unwrap_err().to_string();
        assert!(twice.contains("another process"), "{twice}");
        second.write("b\n").unwrap();
        second.keep(&progress(2, 4)).unwrap();
        drop(second);
        let mut third = part(&out, true).unwrap();
        assert_eq!(third.begin(with("jsonl")).unwrap().inputs, 2);
        third.finish(&progress(2, 4)).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "a\nb\n");
        assert_eq!(names(dir.path()), ["out"]);
    }

    /// Leaves answers that are kept, as a kill does: `count` times `a` and a new line.
    fn killed(out: &Path, count: usize) {
        let mut part = part(out, false).unwrap();
        part.begin(with("jsonl")).unwrap();
        for inputs in 1..=count {
            part.write("a\n").unwrap();
            part.keep(&progress(inputs, 2 * inputs as u64)).unwrap();
        }
    }

    #[test]
    fn a_kill_between_the_last_steps_loses_nothing_with_and_without_resume() {
        let dir = tempfile::tempdir().unwrap();
        let [out, left] = ["out", "out.part"].map(|name| dir.path().join(name));
        // Before the answers take their place.
        killed(&out, 1);
        let mut last = part(&out, true).unwrap();
        let other = last.begin(with("text")).unwrap_err().to_string();
        assert!(other.ends_with("format was jsonl, is text"), "{other}");
        drop(last);
        let mut behind = OpenOptions::new().append(true).open(&left).unwrap();
        behind.write_all(b"not ours").unwrap();
        let mut last = part(&out, true).unwrap();
        assert_eq!(last.begin(with("jsonl")).unwrap(), progress(1, 2));
        last.finish(&progress(1, 2)).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "a\n");
        assert_eq!(names(dir.path()), ["out"]);
        // After that: the progress is a leftover.
        for resume in [false, true] {
            fs::write(&out, "old").unwrap();
            killed(&out, 1);
            fs::rename(&left, &out).unwrap();
            let mut again = part(&out, resume).unwrap();
            assert_eq!(again.begin(with("jsonl")).unwrap(), Progress::default());
            assert_eq!(fs::read_to_string(&out).unwrap(), "a\n");
            drop(again);
            assert_eq!(fs::read_to_string(&out).unwrap(), "a\n");
            let mut again = part(&out, resume).unwrap();
            again.begin(with("jsonl")).unwrap();
            again.write("b\n").unwrap();
            again.finish(&progress(1, 2)).unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), "b\n");
            assert_eq!(names(dir.path()), ["out"]);
        }
    }

    #[test]
    fn nothing_is_created_before_the_first_answer_and_then_by_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let [mut one, mut other] = [(); 2].map(|()| part(&out, false).unwrap());
        one.begin(with("jsonl")).unwrap();
        other.begin(with("jsonl")).unwrap();
        assert!(names(dir.path()).is_empty());
        one.write("a\n").unwrap();
        let taken = other.write("b\n").unwrap_err().to_string();
        assert!(taken.contains("another process"), "{taken}");
        drop(other);
        one.finish(&progress(1, 2)).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "a\n");
        // No answers are answers too.
        let mut none = part(&out, false).unwrap();
        none.begin(with("jsonl")).unwrap();
        none.finish(&Progress::default()).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"");
        assert_eq!(names(dir.path()), ["out"]);
    }

    /// Those that wait for the lock see what the one that held it has done.
    #[test]
    fn many_at_once_write_the_answers_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let Ok(mut one) = part(&out, true) else {
                            continue;
                        };
                        let before = one.begin(with("jsonl")).unwrap();
                        assert_eq!(before.bytes, 2 * before.inputs as u64);
                        if one.write("a\n").is_err() {
                            continue;
                        }
                        let now = progress(before.inputs + 1, before.bytes + 2);
                        one.keep(&now).unwrap();
                        if now.inputs > 2 {
                            one.finish(&now).unwrap();
                            let found = fs::read_to_string(&out).unwrap();
                            assert_eq!(found, "a\na\na\n");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn whatever_byte_of_the_progress_is_damaged_no_answer_is_lost_or_false() {
        let dir = tempfile::tempdir().unwrap();
        let [out, left, log] =
            ["out", "out.part", "out.part.progress"].map(|name| dir.path().join(name));
        killed(&out, 3);
        let (answers, whole) = (fs::read(&left).unwrap(), fs::read(&log).unwrap());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&log, &damaged).unwrap();
            match part(&out, true) {
                Err(error) => assert!(error.to_string().contains("does not say"), "{error}"),
                Ok(mut part) => {
                    let kept = part.begin(with("jsonl")).unwrap();
                    let inputs = kept.inputs;
                    assert!((1..=3).contains(&inputs), "{at}");
                    assert_eq!(kept, progress(inputs, 2 * inputs as u64), "{at}");
                    part.write(&"a\n".repeat(3 - inputs)).unwrap();
                    part.keep(&progress(3, 6)).unwrap();
                }
            }
            assert_eq!(fs::read(&left).unwrap(), answers, "{at}");
        }
        // With none that counts but the first, it is not begun again.
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
        fs::write(&log, [&whole[..=first], b"\xff\n"].concat()).unwrap();
        let error = part(&out, true).unwrap_err().to_string();
        assert!(error.contains("does not say"), "{error}");
        assert_eq!(fs::read(&left).unwrap(), answers);
    }

    #[test]
    fn numbers_that_cannot_be_are_not_believed() {
        let huge = usize::MAX;
        let report = |change: fn(&mut CutReport, usize)| {
            let mut cut = CutReport::default();
            change(&mut cut, huge);
            Progress {
                cut,
                ..progress(1, 2)
            }
        };
        let lies = [
            progress(0, 2),
            progress(huge, 2),
            progress(1, u64::MAX),
            Progress {
                unreadable: huge,
                ..progress(1, 2)
            },
            Progress {
                without_words: 2,
                ..progress(1, 2)
            },
            report(|cut, huge| cut.tokens = huge),
            report(|cut, huge| cut.inputs = huge),
            report(|cut, huge| cut.longest = huge),
            report(|cut, huge| cut.cut_words = huge),
        ];
        for lie in lies {
            assert!(!lie.is_possible(), "{lie:?}");
        }
        assert!(progress(1, 2).is_possible());
    }

    #[test]
    fn of_a_long_progress_the_first_line_and_the_last_count() {
        let dir = tempfile::tempdir().unwrap();
        let [out, log] = ["out", "out.part.progress"].map(|name| dir.path().join(name));
        killed(&out, 3);
        let whole = fs::read_to_string(&log).unwrap();
        let (first, lines) = whole.split_once('\n').unwrap();
        let before = lines.lines().next().unwrap();
        let many = format!("{before}\n").repeat(3 * READ as usize / before.len());
        fs::write(&log, format!("{first}\n{many}{lines}")).unwrap();
        let mut last = part(&out, true).unwrap();
        assert_eq!(last.begin(with("jsonl")).unwrap(), progress(3, 6));
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for name in ["out.part", "out.part.progress"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            let error = part(&out, false).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is a folder")), "{error}");
            assert_eq!(names(dir.path()), [name]);
            fs::remove_dir(dir.path().join(name)).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn answers_are_as_private_as_those_that_they_replace() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let [out, left] = ["out", "out.part"].map(|name| dir.path().join(name));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(&out, "old").unwrap();
        for wanted in [0o600, 0o440, 0o666] {
            fs::set_permissions(&out, fs::Permissions::from_mode(wanted)).unwrap();
            killed(&out, 1);
            // Whoever goes on must be able to.
            assert_eq!(mode(&left), wanted | 0o200);
            let mut last = part(&out, true).unwrap();
            last.begin(with("jsonl")).unwrap();
            last.finish(&progress(1, 2)).unwrap();
            assert_eq!(mode(&out), wanted);
        }
    }

    #[test]
    fn what_holds_no_answers_is_no_obstacle_and_what_is_no_part_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        drop(part(&out, false).unwrap());
        assert!(names(dir.path()).is_empty());
        // Killed before the first answer.
        let mut killed = part(&out, false).unwrap();
        killed.begin(with("jsonl")).unwrap();
        killed.write("a\n").unwrap();
        killed.placed = true;
        drop(killed);
        drop(part(&out, false).unwrap());
        assert!(names(dir.path()).is_empty());
        fs::write(dir.path().join("out.part"), "somebody's").unwrap();
        for resume in [false, true] {
            let error = part(&out, resume).unwrap_err().to_string();
            assert!(error.contains("out.part has 10 bytes"), "{error}");
            assert_eq!(
                fs::read(dir.path().join("out.part")).unwrap(),
                b"somebody's"
            );
        }
    }
}

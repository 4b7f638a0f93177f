//! Answers that outlive a kill: they grow in `OUT.part`, `OUT.part.progress` says which inputs they
//! are of, and both are gone once `OUT` is whole.
//!
//! The progress is a list of JSON lines, only ever appended to: first what decides the answers
//! (model, settings, format), then, each time the answers so far are synced, how many inputs they
//! are of, their bytes, and a hash of these inputs. The last whole line counts: what the answers
//! hold behind its bytes is cut off, and the inputs before it are passed over, and seen to be the
//! same by their hash. So it does not matter how many lines an answer has, or which rows were bad.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use ls_data::CutReport;
use ls_files::{FileError, optional, put_in_place, read, sync_folder};
use serde::{Deserialize, Serialize};

use crate::error::UsageError;

/// Syncing takes at most this part of the time.
const SHARE: u32 = 20;
/// However fast it is, it is not done more often than after this times [`SHARE`].
const LEAST: Duration = Duration::from_millis(5);
/// Version of the lines.
const FORMAT_VERSION: u32 = 1;

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
    /// How many have no words.
    pub without_words: usize,
    /// What was cut of them.
    pub cut: CutReport,
    /// Whether these are all.
    pub whole: bool,
}

/// What stands on the disk as a command begins.
pub enum Opened {
    /// Answers are to be written.
    Part(Box<Part>),
    /// They are all there already.
    Whole,
}

/// Answers that are being written.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    answers: PathBuf,
    progress: PathBuf,
    file: File,
    log: File,
    /// What an earlier process was begun with, if its answers are continued.
    begun_with: Option<BTreeMap<String, String>>,
    /// Synced, and in the progress.
    kept: Progress,
    kept_at: Instant,
    cost: Duration,
    placed: bool,
}

impl Part {
    /// Begins the answers that will be `target`, or with `resume` goes on with those that an
    /// earlier process left.
    ///
    /// # Errors
    ///
    /// If the files cannot be written; if there are answers and `resume` does not say what is to
    /// become of them; if another process is writing them.
    pub fn open(target: &Path, resume: bool) -> Result<Opened> {
        let ending = |ending: &str| {
            let mut path = target.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        let (answers, progress) = (ending(".part"), ending(".part.progress"));
        let (begun, kept) = Self::read(&progress)?;
        let whole = kept.as_ref().is_some_and(|kept| kept.whole);
        let size = optional(fs::metadata(&answers).map_err(FileError::reading(&answers)))?;
        let size = size.map(|found| found.len());
        if resume && whole && size.is_none() {
            // The process was killed behind its last but one step.
            remove(&progress)?;
            return Ok(Opened::Whole);
        }
        let writing = FileError::writing(target);
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(path)
        };
        let file = open(&answers).map_err(&writing)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let message = format!("{}: another process is writing it", answers.display());
            return Err(UsageError::new(message).into());
        }
        // Without answers the progress is a leftover.
        let kept = kept.filter(|kept| kept.inputs > 0 && size.is_some());
        let size = size.unwrap_or(0);
        let continued = match (begun, &kept) {
            // Nothing was answered yet, or nothing that was kept.
            (_, None) if size == 0 => None,
            (Some(_), None) => None,
            (Some(begun), Some(kept)) if size >= kept.bytes => Some(begun.begun_with),
            _ => {
                let least = kept.map(|kept| format!(", and should have at least {}", kept.bytes));
                return Err(UsageError {
                    message: format!(
                        "{} has {size} bytes{}, and {} does not say what they are",
                        answers.display(),
                        least.unwrap_or_default(),
                        progress.display()
                    ),
                    hint: Some("delete both, or move them away".into()),
                }
                .into());
            }
        };
        if let (Some(kept), false) = (&kept, resume) {
            let (answers, inputs) = (answers.display(), kept.inputs);
            return Err(UsageError {
                message: format!("{answers} is there, with the answers to {inputs} inputs"),
                hint: Some(format!(
                    "go on with them by --resume, or delete {answers} and {} to begin again",
                    progress.display()
                )),
            }
            .into());
        }
        let log = open(&progress).inspect_err(|_| {
            if continued.is_none() {
                let _ = fs::remove_file(&answers);
            }
        });
        let log = log.map_err(&writing)?;
        if continued.is_none() {
            file.set_len(0).map_err(&writing)?;
            log.set_len(0).map_err(&writing)?;
            // So that a power cut leaves both names or none.
            sync_folder(parent(target))?;
        }
        let part = Self {
            target: target.to_path_buf(),
            answers,
            progress,
            file,
            log,
            begun_with: continued,
            kept: kept.unwrap_or_default(),
            kept_at: Instant::now(),
            cost: LEAST,
            placed: false,
        };
        if whole {
            part.put_in_place()?;
            return Ok(Opened::Whole);
        }
        Ok(Opened::Part(Box::new(part)))
    }

    /// The first line and the last whole one.
    fn read(path: &Path) -> Result<(Option<Begun>, Option<Progress>)> {
        let bytes = optional(read(path))?.unwrap_or_default();
        // A line that was cut by a kill has no end.
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let begun = lines
            .next()
            .and_then(|line| serde_json::from_slice(line).ok());
        let begun = begun.filter(|begun: &Begun| begun.format_version == FORMAT_VERSION);
        let read = lines.map_while(|line| {
            let ended = line.ends_with(b"\n");
            ended.then(|| serde_json::from_slice(line).ok()).flatten()
        });
        Ok((begun, read.last()))
    }

    /// Goes on, or begins, with a model and settings. What it returns has been answered: its inputs
    /// are to be passed over.
    ///
    /// # Errors
    ///
    /// If the answers were begun with others; if the files cannot be written.
    pub fn begin(&mut self, with: BTreeMap<String, String>) -> Result<Progress> {
        if let Some(before) = &self.begun_with {
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
            if !differ.is_empty() {
                let answers = self.answers.display();
                return Err(self.other(&format!(
                    "{answers} was begun otherwise: {}",
                    differ.join("; ")
                )));
            }
            self.cut_back()?;
        } else {
            let begun = Begun {
                format_version: FORMAT_VERSION,
                begun_with: with,
            };
            self.append(&begun)?;
        }
        Ok(self.kept.clone())
    }

    /// Takes off what was written behind the last sync.
    fn cut_back(&mut self) -> Result<()> {
        let bytes = self.kept.bytes;
        let cut = self.file.set_len(bytes);
        cut.and_then(|()| self.file.seek(SeekFrom::Start(bytes)))
            .map_err(FileError::writing(&self.answers))?;
        // Nor may a line without an end stand before the next one.
        let whole = read(&self.progress)?;
        let end = whole
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let end = end as u64;
        let cut = self.log.set_len(end);
        cut.and_then(|()| self.log.seek(SeekFrom::Start(end)))
            .map_err(FileError::writing(&self.progress))?;
        Ok(())
    }

    /// Writes answers.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let written = self.file.write_all(text.as_bytes());
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
        let synced = self.file.sync_data();
        synced.map_err(FileError::writing(&self.answers))?;
        self.append(progress)?;
        self.kept = progress.clone();
        self.kept_at = Instant::now();
        self.cost = began.elapsed();
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(line)?);
        let writing = FileError::writing(&self.progress);
        let before = self.log.stream_position().map_err(&writing)?;
        let written = self.log.write_all(line.as_bytes());
        written
            .and_then(|()| self.log.sync_data())
            .inspect_err(|_| {
                // A part of a line would spoil the next one.
                let _ = self.log.set_len(before);
                let _ = self.log.seek(SeekFrom::Start(before));
            })
            .map_err(&writing)?;
        Ok(())
    }

    /// Puts the answers, which are all, in their place.
    ///
    /// # Errors
    ///
    /// The system's. The answers are then kept as they are.
    pub fn finish(mut self, progress: Progress) -> Result<()> {
        self.keep(&Progress {
            whole: true,
            ..progress
        })?;
        self.put_in_place()
    }

    fn put_in_place(mut self) -> Result<()> {
        put_in_place(&self.answers, &self.target)?;
        self.placed = true;
        remove(&self.progress)?;
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
        if !self.placed && self.kept.inputs == 0 {
            let _ = fs::remove_file(&self.answers);
            let _ = fs::remove_file(&self.progress);
        }
    }
}

/// The folder of a file.
fn parent(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(FileError::writing(path))?),
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
        match Part::open(target, resume)? {
            Opened::Part(part) => Ok(*part),
            Opened::Whole => panic!("whole"),
        }
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
        third.finish(progress(2, 4)).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "a\nb\n");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_kill_between_the_last_steps_leaves_only_these() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let whole = || {
            let mut part = part(&out, false).unwrap();
            part.begin(with("jsonl")).unwrap();
            part.write("a\n").unwrap();
            let all = Progress {
                whole: true,
                ..progress(1, 2)
            };
            part.keep(&all).unwrap();
        };
        whole();
        assert!(matches!(Part::open(&out, true).unwrap(), Opened::Whole));
        assert_eq!(names(dir.path()), ["out"]);
        whole();
        fs::rename(dir.path().join("out.part"), &out).unwrap();
        assert!(matches!(Part::open(&out, true).unwrap(), Opened::Whole));
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(fs::read_to_string(&out).unwrap(), "a\n");
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

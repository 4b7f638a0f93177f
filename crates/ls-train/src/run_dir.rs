//! The run folder: every path in it, named once, and how it is written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ls_files::{
    AtomicFile, FileError, create_folder, exists, is_file, is_folder, replace_folder,
    standing_folder, sweep, sync_folder,
};
use serde::Serialize;

use crate::checkpoint;
use crate::error::{Result, TrainError};
use crate::events::StepRecord;

/// The files of a run.
///
/// | path | holds |
/// |---|---|
/// | `config.toml` | the resolved configuration |
/// | `environment.json` | versions, device, seed, hashes of the data files, their description, and the model's configuration and tokenizer |
/// | `metrics.jsonl` | one object per step (kind `step`, or `skipped`) and per evaluation |
/// | `events.out.tfevents.*` | with `train.tensorboard`: the same for TensorBoard, a file for each start |
/// | `checkpoints/` | where the training can go on from: `checkpoint-STEP.safetensors`, the newest `train.save_total_limit` |
/// | `best/` | PEFT adapter with head, or the whole model, with tokenizer, labels and inference settings of the best checkpoint |
/// | `predictions.jsonl` | of the best checkpoint on the test split, else on the validation split |
/// | `report.html` | the page about the run, made of the other files; a run may be without |
/// | `report.json` | scores, cost, labels and lengths of the splits; written last: a run without it is not finished |
/// | `label_errors.json` | where it was asked for: labels of the training split that are likely wrong |
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// A folder, of which nothing is asked yet.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Takes a folder for a new run, creating it. [`MetricsLog::create`] claims it.
    ///
    /// # Errors
    ///
    /// If it exists and is not free, or cannot be created.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let run = Self::at(root);
        run.check_free()?;
        create_folder(root)?;
        Ok(run)
    }

    /// Sees that a run can begin in the folder.
    ///
    /// # Errors
    ///
    /// If it is not free.
    pub(crate) fn check_free(&self) -> Result<()> {
        if self.is_free()? {
            return Ok(());
        }
        let path = self.root.clone();
        Err(if self.is_locked() {
            TrainError::RunInUse { path }
        } else if self.is_begun()? && !self.is_finished()? {
            let at = self.last_step();
            TrainError::Unfinished { path, at }
        } else {
            TrainError::RunNotEmpty { path }
        })
    }

    /// Whether there is nothing in the folder, or only what a run left that was killed when it had
    /// just claimed it.
    ///
    /// # Errors
    ///
    /// If the folder is there and cannot be read.
    pub(crate) fn is_free(&self) -> Result<bool> {
        sweep(&self.root);
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            entries => entries.map_err(FileError::reading(&self.root))?,
        };
        for entry in entries {
            let path = entry.map_err(FileError::reading(&self.root))?.path();
            let claim = path == self.metrics();
            if !claim
                || fs::metadata(&path)
                    .map_err(FileError::reading(&path))?
                    .len()
                    > 0
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps other processes that would begin a run here from reading data and a model until
    /// [`MetricsLog::create`] turns them away: as long as the file is open the folder is locked,
    /// where the system can lock a folder.
    ///
    /// # Errors
    ///
    /// If another process holds it.
    pub(crate) fn hold(&self) -> Result<Option<Held>> {
        let Ok(folder) = File::open(&self.root) else {
            return Ok(None);
        };
        lock(&folder, &self.metrics())?;
        Ok(Some(Held(folder)))
    }

    /// Whether a process trains here, as far as the file system knows of locks.
    fn is_locked(&self) -> bool {
        let log = File::open(self.metrics());
        log.is_ok_and(|log| lock(&log, &self.metrics()).is_err())
    }

    /// Whether a run was begun here. Its records may have been lost since.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub(crate) fn is_begun(&self) -> Result<bool> {
        Ok(is_file(self.config())?
            && (is_file(self.metrics())? || !checkpoint::list(&self.checkpoints())?.is_empty()))
    }

    /// Whether the run has come to its end.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub(crate) fn is_finished(&self) -> Result<bool> {
        Ok(exists(self.report())?)
    }

    /// Takes away what only a finished run has.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed.
    pub(crate) fn unfinish(&self) -> Result<()> {
        for path in [self.report(), self.predictions()] {
            if exists(&path)? {
                fs::remove_file(&path).map_err(FileError::writing(&path))?;
            }
        }
        // What else stands in its place ends no run.
        let page = self.page();
        if is_file(&page)? {
            fs::remove_file(&page).map_err(FileError::writing(&page))?;
        }
        Ok(())
    }

    /// The step of the newest checkpoint, and of how many. It is only to be shown: a checkpoint
    /// that cannot be read counts as none.
    pub(crate) fn last_step(&self) -> Option<(usize, usize)> {
        let found = checkpoint::list(&self.checkpoints()).ok()?;
        let states = found.iter().map(|(_, path)| checkpoint::read_state(path));
        let state = states.flatten().next()?;
        Some((state.step, state.steps))
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    ///
    /// If there is no such folder or it has no configuration.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let reason = |reason: &str| TrainError::NotARun {
            path: root.into(),
            reason: reason.into(),
        };
        if !is_folder(root)? {
            return Err(reason("no such folder"));
        }
        let run = Self { root: root.into() };
        run.check_config()?;
        match standing_folder(run.best())? {
            None if run.is_begun()? && !run.is_finished()? => {
                let (path, at) = (root.into(), run.last_step());
                return Err(TrainError::NoBestYet { path, at });
            }
            None => return Err(reason("no best/")),
            Some(best) if !is_folder(&best)? => {
                return Err(TrainError::NotARun {
                    path: best,
                    reason: "found a file, expected a folder".into(),
                });
            }
            Some(_) => {}
        }
        Ok(run)
    }

    /// Sees that the run has a configuration.
    ///
    /// # Errors
    ///
    /// If there is none, or none that is a regular file; if the system does not say.
    pub(crate) fn check_config(&self) -> Result<()> {
        let config = self.config();
        if is_file(&config)? {
            return Ok(());
        }
        Err(if exists(&config)? {
            let found = if is_folder(&config)? {
                "a folder"
            } else {
                "a pipe or a device"
            };
            FileError::NotRegular {
                path: config,
                found,
            }
            .into()
        } else {
            TrainError::NotARun {
                path: self.root.clone(),
                reason: "no config.toml".into(),
            }
        })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    /// The resolved configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// Versions, device, seed, hashes.
    pub(crate) fn environment(&self) -> PathBuf {
        self.root.join("environment.json")
    }
    /// One JSON object per step and per evaluation.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }
    /// A name for another event file of TensorBoard, which reads them in the order of their names:
    /// by these seconds since 1970, or behind those there are.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(crate) fn new_event_file(&self, seconds: u64) -> Result<PathBuf> {
        let mut begun = seconds;
        let reading = FileError::reading(&self.root);
        for entry in fs::read_dir(&self.root).map_err(&reading)? {
            let name = entry.map_err(&reading)?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix(EVENT_FILE).and_then(|rest| {
                let (seconds, _) = rest.split_once('.')?;
                seconds.parse::<u64>().ok()
            });
            begun = begun.max(number.map_or(0, |number| number + 1));
        }
        let name = format!("{EVENT_FILE}{begun:010}.ls-llama");
        Ok(self.root.join(name))
    }
    /// The record of a step in `metrics.jsonl`, if it is there.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn recorded_step(&self, step: usize) -> Result<Option<StepRecord>> {
        let mut found = None;
        ls_files::for_each_line(self.metrics(), |_, line, _| {
            // The last one, where a step was done again.
            let record = serde_json::from_slice::<StepRecord>(line).ok();
            found = record.filter(|record| record.step == step).or(found.take());
            Ok::<_, FileError>(())
        })?;
        Ok(found)
    }
    /// Where the training can go on from.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
    /// The best checkpoint.
    pub(crate) fn best(&self) -> PathBuf {
        self.root.join("best")
    }
    /// Where the best checkpoint is: in `best/`, unless a stop came as it was replaced.
    ///
    /// # Errors
    ///
    /// If the folder cannot be looked at.
    pub(crate) fn standing_best(&self) -> Result<PathBuf> {
        let best = self.best();
        Ok(standing_folder(&best)?.unwrap_or(best))
    }
    /// Predictions of the best checkpoint.
    pub(crate) fn predictions(&self) -> PathBuf {
        self.root.join("predictions.jsonl")
    }
    /// Scores and cost.
    pub(crate) fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }
    /// The page about the run.
    pub(crate) fn page(&self) -> PathBuf {
        self.root.join(ls_report::PAGE)
    }
    /// Labels of the training split that are likely wrong.
    pub(crate) fn label_errors(&self) -> PathBuf {
        self.root.join(ls_report::LABEL_ERRORS)
    }
    /// Where those are looked for: a sweep over the parts of the training split.
    pub(crate) fn label_errors_sweep(&self) -> PathBuf {
        self.root.join("label-errors")
    }

    /// Writes a text file whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        Ok(ls_files::write_atomic(path, text)?)
    }

    /// Writes a file line by line, whole or not at all: `fill` is called with what takes a line.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or whatever `fill` says.
    pub(crate) fn write_lines(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut dyn FnMut(&str) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let mut file = AtomicFile::create(path)?;
        fill(&mut |line| Ok(writeln!(file, "{line}").map_err(FileError::writing(path))?))?;
        Ok(file.commit()?)
    }

    /// Writes pretty JSON whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        Ok(ls_files::write_json(path, value)?)
    }

    /// Replaces `best/` by what `fill` writes, at a single moment: see [`replace_folder`].
    ///
    /// # Errors
    ///
    /// If `fill` fails, or the folders cannot be written.
    pub(crate) fn replace_best(&self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        replace_folder(self.best(), fill)
    }
}

/// What the names of event files begin with, by which TensorBoard knows them.
const EVENT_FILE: &str = "events.out.tfevents.";

/// Own metadata beside an adapter. Not `config.json`: with one, transformers no longer sees an
/// adapter there.
pub(crate) const INFERENCE_FILE: &str = "ls_llama.json";

/// A folder that is held for a run, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        release(&self.0);
    }
}

/// Takes a lock off. Closing the file is not enough: a program that another thread is starting has
/// the file too for a moment, and with it the lock.
fn release(file: &File) {
    // Without a lock there is nothing to take off.
    let _ = file.unlock();
}

/// Appends JSON objects, a line each, handed to the system line by line so that a killed run keeps
/// them. Whoever writes a checkpoint syncs them before ([`MetricsLog::handle`]).
///
/// It holds the run folder: as long as it is open the file is locked, and no other process trains
/// there. The system takes the lock off a file whose process was killed.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Drop for MetricsLog {
    fn drop(&mut self) {
        release(&self.file);
    }
}

impl MetricsLog {
    /// Starts the file, and with it claims the run folder: of two runs that found it empty only one
    /// can.
    ///
    /// # Errors
    ///
    /// If it is there already, unless a run left it that was killed right then; or if it cannot be
    /// created.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let (file, locked) = match OpenOptions::new().append(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => open_locked(&path)?,
            file => {
                let file = file.map_err(FileError::writing(&path))?;
                lock(&file, &path)?;
                sync_folder(folder_of(&path))?;
                (file, true)
            }
        };
        let bytes = file.metadata().map_err(FileError::reading(&path))?.len();
        if bytes > 0 || !locked {
            let path = folder_of(&path);
            return Err(TrainError::RunNotEmpty { path });
        }
        Ok(Self { path, file, bytes })
    }

    /// Opens the file of a run that is to go on, and with it claims the run folder again.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or a process that is alive has it.
    pub(crate) fn reopen(path: PathBuf) -> Result<Self> {
        let (file, locked) = open_locked(&path)?;
        if !locked {
            tracing::warn!(
                "{}: this file system has no locks: nothing keeps a second process from training \
                 in the folder",
                path.display()
            );
        }
        let bytes = file.metadata().map_err(FileError::reading(&path))?.len();
        Ok(Self { path, file, bytes })
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Cuts the file back to a length that it had: what is behind it is to be recorded again.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn cut(&mut self, bytes: u64) -> Result<()> {
        let cut = self.file.set_len(bytes).and_then(|()| self.file.sync_all());
        cut.map_err(FileError::writing(&self.path))?;
        self.bytes = bytes;
        Ok(())
    }

    /// The file, to be synced elsewhere.
    ///
    /// # Errors
    ///
    /// If the system has no room for it.
    pub(crate) fn handle(&self) -> Result<File> {
        Ok(self
            .file
            .try_clone()
            .map_err(FileError::writing(&self.path))?)
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn push(&mut self, value: &impl Serialize) -> Result<()> {
        let writing = FileError::writing(&self.path);
        let mut line = serde_json::to_vec(value).map_err(|error| writing(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(&writing)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Opens a file that is there, to append to it, and locks it. Says whether it could be locked: some
/// file systems know no locks.
fn open_locked(path: &Path) -> Result<(File, bool)> {
    let file = OpenOptions::new().append(true).open(path);
    let file = file.map_err(FileError::reading(path))?;
    let locked = lock(&file, path)?;
    Ok((file, locked))
}

/// Some milliseconds are waited for: a lock outlives its holder for as long as a process that it
/// was starting right then has the file too, and who only asks holds it for a moment.
fn lock(file: &File, path: &Path) -> Result<bool> {
    for pause in [10, 40, 150, 300] {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(pause)),
            Err(TryLockError::Error(_)) => return Ok(false),
        }
    }
    let path = folder_of(path);
    Err(TrainError::RunInUse { path })
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_runs_that_found_a_folder_empty_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (
            RunDir::create(dir.path()).unwrap(),
            RunDir::create(dir.path()).unwrap(),
        );
        let held = first.hold().unwrap();
        if cfg!(unix) {
            let error = second.hold().unwrap_err();
            assert!(matches!(error, TrainError::RunInUse { .. }), "{error}");
        }
        drop(held);
        let log = MetricsLog::create(first.metrics()).unwrap();
        let error = MetricsLog::create(second.metrics()).unwrap_err();
        assert!(matches!(error, TrainError::RunInUse { .. }), "{error}");
        // What was killed right then is in nobody's way; a run that recorded something is.
        drop(log);
        let mut log = MetricsLog::create(second.metrics()).unwrap();
        log.push(&1).unwrap();
        let error = RunDir::create(dir.path()).unwrap_err();
        assert!(matches!(error, TrainError::RunInUse { .. }), "{error}");
        drop(log);
        let error = MetricsLog::create(first.metrics()).unwrap_err();
        assert!(matches!(error, TrainError::RunNotEmpty { .. }), "{error}");
        assert!(RunDir::create(dir.path()).is_err());
    }

    /// As a program has it that is just being started.
    #[test]
    fn a_lock_ends_with_its_log_though_the_file_is_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunDir::create(dir.path()).unwrap();
        let held = folder.hold().unwrap().unwrap();
        let other = held.0.try_clone().unwrap();
        drop(held);
        drop(folder.hold().unwrap());
        let log = MetricsLog::create(folder.metrics()).unwrap();
        let handle = log.handle().unwrap();
        assert!(MetricsLog::reopen(folder.metrics()).is_err());
        drop(log);
        MetricsLog::reopen(folder.metrics()).unwrap();
        drop((other, handle));
    }

    #[test]
    fn records_are_cut_back_and_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(path.clone()).unwrap();
        for value in [1, 2, 3] {
            log.push(&value).unwrap();
        }
        assert_eq!(log.bytes(), 6);
        drop(log);
        // The end of a line is missing, as after a kill.
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"4")
            .unwrap();
        let mut log = MetricsLog::reopen(path.clone()).unwrap();
        assert_eq!(log.bytes(), 7);
        log.cut(4).unwrap();
        log.push(&5).unwrap();
        assert_eq!(
            (log.bytes(), &*fs::read(&path).unwrap()),
            (6, &b"1\n2\n5\n"[..])
        );
    }
}

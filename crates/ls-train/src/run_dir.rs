//! The run folder: every path in it, named once, and how it is written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ls_files::{
    AtomicFile, FileError, create_folder, is_file, is_folder, replace_folder, standing_folder,
    sweep, sync_folder,
};
use serde::Serialize;

use crate::error::{Result, TrainError};

/// The files of a run.
///
/// | path | holds |
/// |---|---|
/// | `config.toml` | the resolved configuration |
/// | `environment.json` | versions, device, seed, hashes of the data files, their description, and the model's configuration and tokenizer |
/// | `metrics.jsonl` | one object per step and per evaluation |
/// | `best/` | PEFT adapter with head, tokenizer, labels and inference settings of the best checkpoint |
/// | `predictions.jsonl` | of the best checkpoint on the test split, else on the validation split |
/// | `report.json` | scores and cost of the finished run |
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Takes a folder for a new run, creating it. [`MetricsLog::create`] claims it.
    ///
    /// # Errors
    ///
    /// If it exists and holds anything, or cannot be created.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        sweep(root);
        if holds_anything(root)? {
            return Err(TrainError::RunNotEmpty { path: root.into() });
        }
        create_folder(root)?;
        Ok(Self { root: root.into() })
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
        if !is_file(run.config())? {
            return Err(reason("no config.toml"));
        }
        if standing_folder(run.best())?.is_none() {
            return Err(reason(
                "no best/ yet: the run did not reach its first evaluation",
            ));
        }
        Ok(run)
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

/// Whether there is a folder with anything in it.
fn holds_anything(path: &Path) -> Result<bool> {
    match path.read_dir() {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::reading(path)(error).into()),
    }
}

/// Own metadata beside an adapter. Not `config.json`: with one, transformers no longer sees an
/// adapter there.
pub(crate) const INFERENCE_FILE: &str = "ls_llama.json";

/// Appends JSON objects, a line each, handed to the system line by line so that a killed run keeps
/// them; [`MetricsLog::sync`] keeps them through a power cut too.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Starts the file, and with it claims the run folder: of two runs that found it empty only one
    /// can.
    ///
    /// # Errors
    ///
    /// If it is there already or cannot be created.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        match File::create_new(&path) {
            Ok(file) => {
                sync_folder(path.parent().unwrap_or(&path))?;
                Ok(Self { path, file })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let folder = path.parent().unwrap_or(&path);
                Err(TrainError::RunNotEmpty {
                    path: folder.into(),
                })
            }
            Err(error) => Err(FileError::writing(&path)(error).into()),
        }
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
        Ok(self.file.write_all(&line).map_err(&writing)?)
    }

    /// Writes to the disk what was added.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let synced = self.file.sync_data();
        Ok(synced.map_err(FileError::writing(&self.path))?)
    }
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
        let _log = MetricsLog::create(first.metrics()).unwrap();
        let error = MetricsLog::create(second.metrics()).unwrap_err();
        assert!(matches!(error, TrainError::RunNotEmpty { .. }), "{error}");
    }
}

//! [`TensorBoard`]: the scalars of a run in an event file, as TensorBoard reads them.
//!
//! The file stands in the run folder, so that `tensorboard --logdir runs` calls each run by its
//! folder's name. A run that goes on begins another file with the step from which everything is
//! told anew; TensorBoard then forgets what older files say of it.

mod event;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ls_files::FileError;
use serde_json::Value;

use crate::checkpoint::State;
use crate::environment::resident_memory;
use crate::error::{Result, TrainError};
use crate::events::{EvaluationRecord, StepRecord};
use crate::run_dir::RunDir;
use event::{Content, record};

/// Writes the scalars of a run as they come.
pub(crate) struct TensorBoard {
    path: PathBuf,
    /// None once it could not be written: no run ends for that.
    file: Option<File>,
}

impl TensorBoard {
    /// Begins an event file. Of a run that goes on, `from` is where it stands: what older files say
    /// of later steps is forgotten. An evaluation at that very step, which may have been written
    /// before a kill, is made again, and so the step itself has to be told again.
    ///
    /// Nothing, and a warning, if the file cannot be created or the folder not be read.
    pub(crate) fn begin(folder: &RunDir, from: Option<&State>) -> Option<Self> {
        let board = Self::try_begin(folder, from);
        let warn = |error: &TrainError| {
            tracing::warn!("nothing is written for TensorBoard: {}", error.chain());
        };
        board.inspect_err(warn).ok()
    }

    fn try_begin(folder: &RunDir, from: Option<&State>) -> Result<Self> {
        let seconds = now() as u64;
        let path = folder.new_event_file(seconds)?;
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let mut board = Self {
            file: Some(file.map_err(FileError::writing(&path))?),
            path,
        };
        board.write(0, &Content::Version);
        match from {
            // The first file has it too: one of TensorBoard's readers heeds it only in a run whose
            // first file begins with it.
            None => board.write(0, &Content::Start),
            Some(state) if state.last_evaluation == state.step => {
                board.write(state.step + 1, &Content::Start);
            }
            Some(state) => {
                board.write(state.step, &Content::Start);
                if let Some(step) = folder.recorded_step(state.step)? {
                    board.step(&step);
                }
            }
        }
        Ok(board)
    }

    /// Adds the scalars of a step.
    pub(crate) fn step(&mut self, record: &StepRecord) {
        let rate = record.tokens as f64 / record.seconds.max(1e-9);
        let mut scalars = vec![
            ("train/loss".to_owned(), record.loss),
            ("train/learning_rate".to_owned(), record.learning_rate),
            ("train/grad_norm".to_owned(), record.grad_norm),
            ("train/tokens_per_second".to_owned(), rate),
            ("train/epoch".to_owned(), record.epoch),
        ];
        let memory = resident_memory().map(|bytes| ("train/memory".to_owned(), bytes as f64));
        scalars.extend(memory);
        self.write(record.step, &Content::Scalars(&scalars));
    }

    /// Adds the scores of an evaluation: each that is a number.
    pub(crate) fn evaluation(&mut self, record: &EvaluationRecord) {
        let mut scalars = vec![("eval/loss".to_owned(), record.loss)];
        let scores = serde_json::to_value(&record.scores).unwrap_or_default();
        if let Value::Object(scores) = scores {
            let numbers = scores
                .iter()
                .filter_map(|(name, value)| Some((format!("eval/{name}"), value.as_f64()?)));
            scalars.extend(numbers);
        }
        self.write(record.step, &Content::Scalars(&scalars));
    }

    fn write(&mut self, step: usize, content: &Content<'_>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(&record(now(), step as u64, content)) {
            tracing::warn!(
                "{}: {error}: from step {step} on nothing more is written for TensorBoard",
                self.path.display()
            );
            self.file = None;
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_created_ends_no_run() {
        let dir = tempfile::tempdir().unwrap();
        let gone = RunDir::at(&dir.path().join("gone"));
        assert!(TensorBoard::begin(&gone, None).is_none());
        assert!(TensorBoard::begin(&RunDir::at(dir.path()), None).is_some());
    }
}

//! [`Saver`]: says when a checkpoint is due, and writes it on a thread of its own.

use std::fs::File;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use ls_files::FileError;

use crate::checkpoint::{self, Saved};
use crate::config::TrainSettings;
use crate::error::Result;

/// A tensor as it is now, on its way to the host: training goes on with others.
pub(crate) enum ToHost {
    /// In the host's memory, to be copied by who needs it.
    There(Tensor<1>),
    /// A copy that the device was asked for, in the order of its work; it may still be coming.
    Asked(TensorData),
}

impl ToHost {
    pub(crate) fn of(tensor: Tensor<1>) -> Self {
        if ls_ops::is_host(&tensor.device()) {
            Self::There(tensor)
        } else {
            Self::Asked(tensor.into_data())
        }
    }

    /// Waits for the values.
    pub(crate) fn values(self) -> Vec<f32> {
        match self {
            Self::There(tensor) => ls_lora::host_values(tensor),
            Self::Asked(data) => data.iter::<f32>().collect(),
        }
    }
}

/// Writes the checkpoints of a run, one at a time, and removes old ones.
///
/// A checkpoint that cannot be written is no reason to end a run that can go on: it is warned of,
/// and the next one is tried. Only who needs one to be there waits for it ([`Saver::finish`]).
pub(crate) struct Saver {
    folder: PathBuf,
    every_steps: Option<usize>,
    every: Option<Duration>,
    total_limit: usize,
    /// When the last one was begun.
    since: Instant,
    writing: Option<JoinHandle<Result<()>>>,
}

impl Saver {
    /// Writes into a folder, which need not be there yet.
    pub(crate) fn new(folder: PathBuf, settings: &TrainSettings) -> Self {
        let seconds = settings.save_seconds;
        Self {
            folder,
            every_steps: settings.save_steps,
            every: (seconds > 0).then(|| Duration::from_secs(seconds)),
            total_limit: settings.save_total_limit,
            since: Instant::now(),
            writing: None,
        }
    }

    /// Whether a checkpoint is due after `step` steps.
    pub(crate) fn due(&self, step: usize) -> bool {
        self.every_steps
            .is_some_and(|every| step.is_multiple_of(every))
            || self
                .every
                .is_some_and(|every| self.since.elapsed() >= every)
    }

    /// Begins to write a checkpoint, after the one before is written. `saved` is called by the
    /// thread that writes: what it reads from the device, training does not wait for. `metrics` is
    /// the file whose length the checkpoint holds, to be synced before it.
    pub(crate) fn begin(&mut self, metrics: File, saved: impl FnOnce() -> Saved + Send + 'static) {
        self.settle();
        let (folder, limit) = (self.folder.clone(), self.total_limit);
        let write = move || {
            let saved = saved();
            metrics.sync_data().map_err(FileError::writing(&folder))?;
            ls_files::create_folder(&folder)?;
            saved.write(&folder)?;
            if let Err(error) = checkpoint::remove(&folder, |rank, _| rank >= limit) {
                tracing::warn!("an old checkpoint stays: {error}");
            }
            Ok(())
        };
        self.writing = Some(thread::spawn(write));
        self.since = Instant::now();
    }

    /// Waits for what is being written.
    ///
    /// # Errors
    ///
    /// If the last checkpoint could not be written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    /// The same where a fault is only warned of.
    pub(crate) fn settle(&mut self) {
        if let Err(error) = self.finish() {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::warn!("no checkpoint was written, training goes on: {error}{cause}");
        }
    }
}

/// A program that ended meanwhile would leave no whole file.
impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
    }
}

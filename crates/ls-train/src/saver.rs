//! [`Saver`]: says when a checkpoint is due, and writes it on a thread of its own.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use ls_files::{FileError, HostTensor};

use crate::checkpoint::{self, Saved};
use crate::config::TrainSettings;
use crate::error::{Result, TrainError};

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

    /// Waits for the values, as a file holds them.
    pub(crate) fn values(self) -> HostTensor {
        let values = match self {
            Self::There(tensor) => ls_lora::host_values(tensor),
            Self::Asked(data) => data.iter::<f32>().collect(),
        };
        HostTensor::from_f32([values.len()], &values)
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
    writing: Option<JoinHandle<Result<(usize, usize)>>>,
    /// The step of the newest checkpoint that is on the disk, and of how many.
    written: Option<(usize, usize)>,
    /// Whether the last one could not be written.
    failing: bool,
}

impl Saver {
    /// Writes into a folder, which need not be there yet. `written` is the step of the checkpoint
    /// that the run goes on from, and of how many.
    pub(crate) fn new(
        folder: PathBuf,
        settings: &TrainSettings,
        written: Option<(usize, usize)>,
    ) -> Self {
        let seconds = settings.save_seconds;
        Self {
            folder,
            every_steps: settings.save_steps,
            every: (seconds > 0).then(|| Duration::from_secs(seconds)),
            total_limit: settings.save_total_limit,
            since: Instant::now(),
            writing: None,
            written,
            failing: false,
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

    /// The step of the newest checkpoint that is on the disk, and of how many, once what is being
    /// written is waited for.
    pub(crate) fn written(&self) -> Option<(usize, usize)> {
        self.written
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
            make_room_if_full(&folder, || saved.write(&folder))?;
            if let Err(error) = checkpoint::remove(&folder, |rank, _| rank >= limit) {
                tracing::warn!("an old checkpoint stays: {error}");
            }
            Ok((saved.state.step, saved.state.steps))
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
            Some(Ok(written)) => {
                self.written = Some(written?);
                self.failing = false;
                Ok(())
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    /// The same where a fault is only warned of, once as long as each of them fails.
    pub(crate) fn settle(&mut self) {
        let Err(error) = self.finish() else { return };
        if !std::mem::replace(&mut self.failing, true) {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::warn!(
                "no checkpoint was written, training goes on and tries the next: {error}{cause}"
            );
        }
    }
}

/// Writes a checkpoint; where there is no room for it, once more without the old ones but the
/// newest.
fn make_room_if_full(folder: &Path, write: impl Fn() -> Result<()>) -> Result<()> {
    match write() {
        Err(TrainError::File(FileError::Write { source, .. }))
            if matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) && checkpoint::list(folder)?.len() > 1 =>
        {
            checkpoint::remove(folder, |rank, _| rank > 0)?;
            write()
        }
        written => written,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_room_without_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let path = |step| dir.path().join(format!("checkpoint-{step}.safetensors"));
        // Room for two files.
        let write = |step: usize, kind: ErrorKind| {
            make_room_if_full(dir.path(), || {
                if checkpoint::list(dir.path())?.len() > 1 {
                    return Err(FileError::writing(&path(step))(kind.into()).into());
                }
                std::fs::write(path(step), "").unwrap();
                Ok(())
            })
        };
        let steps = || {
            let list = checkpoint::list(dir.path()).unwrap();
            list.into_iter().map(|(step, _)| step).collect::<Vec<_>>()
        };
        for (step, expected) in [(1, vec![1]), (2, vec![2, 1]), (3, vec![3, 2])] {
            write(step, ErrorKind::StorageFull).unwrap();
            assert_eq!(steps(), expected);
        }
        // Another fault costs no checkpoint.
        assert!(write(4, ErrorKind::PermissionDenied).is_err());
        assert_eq!(steps(), [3, 2]);
    }
}

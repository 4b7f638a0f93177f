//! The file of a checkpoint: all that a run goes on from between two steps.
//!
//! It is a safetensors file with the optimizer's buffer, which has the size of what trains, and
//! with the rest as TOML in its metadata: TOML holds every f64, as it was to the bit. A hash over
//! both shows damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ls_files::{Dtype, FileError, HostTensor, TensorFile, sha256_of_parts, write_tensors_with};
use serde::{Deserialize, Serialize};

use crate::bounds::{BATCH, STEPS};
use crate::error::{Result, TrainError};
use crate::events::EvaluationRecord;
use crate::identity::Identity;
use crate::scores::Baseline;

/// Changes with the meaning of what a file holds.
const FORMAT_VERSION: u32 = 1;
/// Keys of the metadata.
const STATE: &str = "state";
const SHA256: &str = "sha256";
/// Names of the tensors.
const VALUES: &str = "values";
const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];
const BEST: &str = "best_values";

/// Where a run stands, without its tensors. The sampler has no state of its own: the order of an
/// epoch's examples follows from the seed and the epoch, dropout from the seed and the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Version of the program that wrote it.
    pub(crate) ls_llama: String,
    /// The device that it ran on, as burn names it.
    pub(crate) device: String,
    /// Optimizer steps done.
    pub(crate) step: usize,
    /// Of how many.
    pub(crate) steps: usize,
    /// Of an epoch.
    pub(crate) steps_per_epoch: usize,
    /// Of the steps done, those that were passed over.
    pub(crate) skipped_steps: usize,
    /// Inputs of a pass, which `train.micro_batch_size = "auto"` chooses.
    pub(crate) pass_size: usize,
    /// The step of the last evaluation, 0 before the first. One that is due at `step` is still to
    /// be made if it is another.
    pub(crate) last_evaluation: usize,
    /// Evaluations without a better one.
    pub(crate) without_better: usize,
    /// Steps by which the optimizer's moments are corrected.
    pub(crate) optimizer_steps: i32,
    /// Real tokens trained on.
    pub(crate) tokens: usize,
    /// Time in steps.
    pub(crate) seconds: f64,
    /// Length of `metrics.jsonl`.
    pub(crate) metrics_bytes: u64,
    /// Names of the labels, in the order of the head.
    pub(crate) labels: Vec<String>,
    /// Path and number of values of each parameter, in the order of the buffer.
    pub(crate) layout: Vec<(String, usize)>,
    /// Hashes of what went in.
    pub(crate) identity: Identity,
    /// The best evaluation so far.
    pub(crate) best: Option<EvaluationRecord>,
    /// What was scored before the training.
    pub(crate) baselines: Vec<Baseline>,
}

/// A checkpoint in memory: the state, and the optimizer's buffer as the file has it, f32.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Saved {
    pub(crate) state: State,
    /// The parameters, end to end.
    pub(crate) values: HostTensor,
    /// The means of the gradients and of their squares; none before the first step.
    pub(crate) moments: Option<[HostTensor; 2]>,
    /// The parameters of the best evaluation, where they are others.
    pub(crate) best_values: Option<HostTensor>,
}

/// The file of a checkpoint after `step` steps.
fn path(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("checkpoint-{step}.safetensors"))
}

/// The checkpoints in a folder by their steps, the newest first; none where there is no folder.
///
/// # Errors
///
/// If the folder is there and cannot be read.
pub(crate) fn list(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::reading(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(FileError::reading(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name
            .and_then(|name| name.strip_prefix("checkpoint-"))
            .and_then(|name| name.strip_suffix(".safetensors"))
            .and_then(|step| step.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

/// Removes the checkpoints for which `remove` says so of their rank (0 is the newest) and step.
///
/// # Errors
///
/// If one cannot be removed.
pub(crate) fn remove(folder: &Path, remove: impl Fn(usize, usize) -> bool) -> Result<()> {
    for (rank, (step, path)) in list(folder)?.into_iter().enumerate() {
        if remove(rank, step) {
            fs::remove_file(&path).map_err(FileError::writing(&path))?;
        }
    }
    Ok(())
}

/// Takes the checkpoints behind `step` out of the way of the run that goes on from it: it will
/// write others in their places. They are damaged, or they would have been gone on from.
///
/// # Errors
///
/// If one cannot be renamed.
pub(crate) fn set_aside(folder: &Path, step: usize) -> Result<()> {
    for (_, path) in list(folder)?.into_iter().filter(|(later, _)| *later > step) {
        let aside = path.with_extension("safetensors.damaged");
        fs::rename(&path, aside).map_err(FileError::writing(&path))?;
    }
    Ok(())
}

/// An error in reading a checkpoint: what the system does not let be read says nothing of what is
/// in it, anything else is damage.
fn unreadable(error: FileError, path: &Path) -> TrainError {
    match error {
        FileError::Read { .. } | FileError::NotFound { .. } => error.into(),
        damage => {
            // Its message begins with the path, and so will the new one.
            let reason = damage.to_string();
            let reason = reason.strip_prefix(&path.display().to_string());
            let reason = reason.map(|reason| reason.trim_start_matches(':').trim_start());
            TrainError::Checkpoint {
                path: path.into(),
                reason: format!("it is damaged: {}", reason.unwrap_or(&damage.to_string())),
            }
        }
    }
}

impl State {
    /// The first number that the loop cannot have come by, if there is one.
    fn fault(&self) -> Option<String> {
        let best = self.best.as_ref().map_or(0, |best| best.step);
        let kept = self.step.saturating_sub(self.skipped_steps);
        let bounded = [
            ("steps", self.steps, 1, STEPS.most as usize),
            ("steps_per_epoch", self.steps_per_epoch, 1, self.steps),
            ("step", self.step, 0, self.steps),
            ("skipped_steps", self.skipped_steps, 0, self.step),
            ("pass_size", self.pass_size, 1, BATCH.most as usize),
            ("last_evaluation", self.last_evaluation, 0, self.step),
            ("without_better", self.without_better, 0, self.step),
            ("the step of the best evaluation", best, 0, self.step),
        ];
        let mut bounded = bounded.into_iter();
        let outside = bounded.find(|(_, found, least, most)| !(least..=most).contains(&found));
        if let Some((what, found, least, most)) = outside {
            return Some(format!("{what} is {found}, expected {least} to {most}"));
        }
        let found = self.optimizer_steps;
        if usize::try_from(found).is_ok_and(|found| found <= kept) {
            return None;
        }
        Some(format!("optimizer_steps is {found}, expected 0 to {kept}"))
    }
}

impl Saved {
    /// Writes the file into its folder, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = path(folder, self.state.step);
        let state = toml::to_string(&self.state).map_err(|error| TrainError::Checkpoint {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let named = [
            (VALUES, Some(&self.values)),
            (BEST, self.best_values.as_ref()),
        ];
        let moments = self
            .moments
            .iter()
            .flat_map(|moments| MOMENTS.into_iter().zip(moments));
        let named = named
            .into_iter()
            .filter_map(|(name, values)| Some((name, values?)));
        let tensors: Vec<(&str, &HostTensor)> = named.chain(moments).collect();
        let hash = hash(&state, &tensors);
        let metadata = [
            ("format_version", &*FORMAT_VERSION.to_string()),
            (STATE, &*state),
            (SHA256, &*hash),
        ];
        Ok(write_tensors_with(&path, tensors, &metadata)?)
    }

    /// Reads a file and checks that it is what was written.
    ///
    /// # Errors
    ///
    /// [`TrainError::Checkpoint`] if it is damaged; if it cannot be read, or is of another version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let damaged = |reason: String| TrainError::Checkpoint {
            path: path.into(),
            reason,
        };
        let file = TensorFile::open(path).map_err(|error| unreadable(error, path))?;
        let (state, text) = state(&file)?;
        let mut tensors = file
            .names()
            .map(|name| Ok((name, file.read(name)?)))
            .collect::<Result<BTreeMap<_, _>, FileError>>()
            .map_err(|error| unreadable(error, path))?;
        let all: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (*name, tensor))
            .collect();
        if file.metadata(SHA256) != Some(&*hash(&text, &all)) {
            return Err(damaged("it is damaged: its SHA-256 is another".into()));
        }
        let length = tensors.get(VALUES).map_or(0, HostTensor::len);
        let mut take = |wanted: &str| -> Result<Option<HostTensor>> {
            let Some(tensor) = tensors.remove(wanted) else {
                return Ok(None);
            };
            let (found, dtype) = (tensor.len(), tensor.dtype);
            if (found, dtype) == (length, Dtype::F32) {
                return Ok(Some(tensor));
            }
            Err(damaged(format!(
                "tensor {wanted} has {found} values of type {dtype:?}, expected {length} of F32"
            )))
        };
        let missing = || damaged(format!("no tensor {VALUES}"));
        let saved = Self {
            values: take(VALUES)?.ok_or_else(missing)?,
            moments: match MOMENTS.map(&mut take) {
                [first, second] => first?.zip(second?).map(|(first, second)| [first, second]),
            },
            best_values: take(BEST)?,
            state,
        };
        let State { step, best, .. } = &saved.state;
        let pairs = [
            (
                "moments",
                saved.moments.is_some(),
                saved.state.optimizer_steps > 0,
            ),
            (
                BEST,
                saved.best_values.is_some(),
                best.as_ref().is_some_and(|best| best.step != *step),
            ),
        ];
        match pairs
            .into_iter()
            .find(|(_, found, expected)| found != expected)
        {
            Some((what, true, _)) => Err(damaged(format!("{what} that no step brought"))),
            Some((what, false, _)) => {
                Err(damaged(format!("no {what}, of a step that brought them")))
            }
            None => Ok(saved),
        }
    }
}

/// The state in a file, whose tensors are not looked at.
///
/// # Errors
///
/// As [`Saved::read`].
pub(crate) fn read_state(path: &Path) -> Result<State> {
    let file = TensorFile::open(path).map_err(|error| unreadable(error, path))?;
    Ok(state(&file)?.0)
}

/// The state in a file's metadata, and its text.
fn state(file: &TensorFile) -> Result<(State, String)> {
    let path = file.path();
    let unusable = |reason: String| TrainError::Checkpoint {
        path: path.into(),
        reason,
    };
    let version = file.metadata("format_version");
    let version = version.and_then(|version| version.parse::<u32>().ok());
    let found = version.ok_or_else(|| unusable("it is damaged: no format_version in it".into()))?;
    if found != FORMAT_VERSION {
        return Err(TrainError::CheckpointVersion {
            path: path.into(),
            found,
            expected: FORMAT_VERSION,
        });
    }
    let text = file
        .metadata(STATE)
        .ok_or_else(|| unusable("it is damaged: no state in it".into()))?;
    let state: State = ls_files::parse_toml(text, path).map_err(|error| unreadable(error, path))?;
    match state.fault() {
        Some(fault) => Err(unusable(fault)),
        None => Ok((state, text.to_owned())),
    }
}

/// Over the state and all tensors, by name.
fn hash(state: &str, tensors: &[(&str, &HostTensor)]) -> String {
    let mut tensors: Vec<_> = tensors.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    let parts = tensors
        .iter()
        .flat_map(|(name, tensor)| [name.as_bytes(), &tensor.bytes]);
    sha256_of_parts(std::iter::once(state.as_bytes()).chain(parts))
}

#[cfg(test)]
mod tests {
    use ls_data::ClassificationScores;
    use ls_files::{Fingerprint, Hashed};

    use super::*;
    use crate::calibration::Calibration;
    use crate::config::Protocol;
    use crate::scores::Scores;

    /// With the floats that a text form may lose.
    fn saved(step: usize) -> Saved {
        let names = ["a \"b\" = [c]\n".to_string(), "d.e".to_string()];
        let scores = ClassificationScores::compute(&[0, 1, 1], &[0, 1, 0], &names).unwrap();
        let scores = Scores::Classification(scores);
        let best = EvaluationRecord {
            calibration: Calibration::default().with_threshold(0.3, 2),
            kind: "evaluation",
            split: "validation".into(),
            protocol: Protocol::Paper,
            step: 2,
            epoch: 1.0 / 3.0,
            loss: f64::INFINITY,
            metric: "loss".into(),
            value: f64::MIN_POSITIVE / 4.0,
            best: true,
            scores: scores.clone(),
            seconds: -0.0,
        };
        let baseline = Baseline {
            name: "majority class".into(),
            scores,
        };
        let identity = Identity {
            train: vec!["00".into()],
            validation: Vec::new(),
            test: vec!["11".into(), "22".into()],
            description: None,
            adapter: vec!["66".into()],
            tokenizer: "33".into(),
            model_config: "44".into(),
            weights: Fingerprint {
                hashed: Hashed::Sample,
                sha256: "55".into(),
            },
        };
        Saved {
            state: State {
                ls_llama: "0.1.0".into(),
                device: "Flex".into(),
                step,
                skipped_steps: 1,
                pass_size: 4,
                steps: 9,
                steps_per_epoch: 3,
                last_evaluation: 2,
                without_better: 1,
                optimizer_steps: 2,
                tokens: 1 << 40,
                seconds: 0.1 + 0.2,
                metrics_bytes: 77,
                labels: names.to_vec(),
                layout: vec![("x".into(), 2), ("y.z".into(), 1)],
                identity,
                best: Some(best),
                baselines: vec![baseline],
            },
            values: HostTensor::from_f32([3], &[f32::MIN_POSITIVE / 8.0, -0.0, 1.0 / 3.0]),
            moments: Some([1e-38, 3.4e38].map(|moment| HostTensor::from_f32([3], &[moment; 3]))),
            best_values: Some(HostTensor::from_f32([3], &[0.0, 1.0, 2.0])),
        }
    }

    #[test]
    fn what_is_written_reads_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let full = saved(3);
        let mut bare = saved(4);
        (bare.moments, bare.best_values) = (None, None);
        bare.state.optimizer_steps = 0;
        (bare.state.best, bare.state.baselines) = (None, Vec::new());
        for saved in [full, bare] {
            saved.write(dir.path()).unwrap();
            let path = path(dir.path(), saved.state.step);
            let read = Saved::read(&path).unwrap();
            assert_eq!(read, saved);
            assert_eq!(read_state(&path).unwrap(), saved.state);
            assert_eq!(read.values.bytes, saved.values.bytes);
            let seconds =
                |saved: &Saved| saved.state.best.as_ref().map(|best| best.seconds.to_bits());
            assert_eq!(seconds(&read), seconds(&saved));
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        saved(3).write(dir.path()).unwrap();
        let path = path(dir.path(), 3);
        let whole = fs::read(&path).unwrap();
        let mut unseen = Vec::new();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            match Saved::read(&path) {
                Err(_) => {}
                Ok(read) if read == saved(3) => unseen.push(at),
                Ok(_) => panic!("byte {at} is read as another state"),
            }
        }
        // What is no part of the state: spaces of the header, and `format` for other programs.
        assert!(unseen.len() < 64, "{unseen:?}");
    }

    #[test]
    fn numbers_that_no_loop_comes_by_are_refused_whatever_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        type Change = fn(&mut Saved);
        let changes: [(Change, &str); 12] = [
            (|saved| saved.state.pass_size = 0, "pass_size is 0"),
            (
                |saved| saved.state.pass_size = 1 << 40,
                "pass_size is 1099511627776",
            ),
            (
                |saved| saved.state.optimizer_steps = -1,
                "optimizer_steps is -1",
            ),
            (
                |saved| saved.state.optimizer_steps = 3,
                "optimizer_steps is 3, expected 0 to 2",
            ),
            (
                |saved| saved.state.skipped_steps = 4,
                "skipped_steps is 4, expected 0 to 3",
            ),
            (|saved| saved.state.steps = 2, "expected 1 to 2"),
            (
                |saved| saved.state.steps_per_epoch = 0,
                "steps_per_epoch is 0",
            ),
            (
                |saved| saved.state.last_evaluation = 4,
                "last_evaluation is 4",
            ),
            (
                |saved| saved.state.without_better = 9,
                "without_better is 9",
            ),
            (|saved| saved.moments = None, "no moments"),
            (|saved| saved.best_values = None, "no best_values"),
            (
                |saved| saved.state.best = None,
                "best_values that no step brought",
            ),
        ];
        for (change, says) in changes {
            let mut forged = saved(3);
            change(&mut forged);
            forged.write(dir.path()).unwrap();
            let error = Saved::read(&path(dir.path(), 3)).unwrap_err();
            assert!(matches!(error, TrainError::Checkpoint { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn damage_is_told_from_what_cannot_be_read_and_from_another_version() {
        let dir = tempfile::tempdir().unwrap();
        saved(3).write(dir.path()).unwrap();
        let path = path(dir.path(), 3);
        let whole = fs::read(&path).unwrap();
        for length in [0, 5, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Saved::read(&path).unwrap_err();
            assert!(matches!(error, TrainError::Checkpoint { .. }), "{error}");
            let said = error.to_string();
            assert!(
                said.contains(": it is damaged: ") && said.matches("checkpoint-3").count() == 1,
                "{said}"
            );
        }
        let key = b"format_version\":\"";
        let at = whole
            .windows(key.len())
            .position(|window| window == key)
            .unwrap();
        let mut later = whole;
        later[at + key.len()] = b'2';
        fs::write(&path, later).unwrap();
        let error = Saved::read(&path).unwrap_err();
        assert!(
            matches!(error, TrainError::CheckpointVersion { .. }),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        let error = Saved::read(&path).unwrap_err();
        assert!(matches!(error, TrainError::File(_)), "{error}");
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkpoints");
        assert_eq!(list(&folder).unwrap(), []);
        fs::create_dir(&folder).unwrap();
        for step in [9, 100, 20] {
            fs::write(path(&folder, step), "").unwrap();
        }
        fs::write(folder.join("checkpoint-x.safetensors"), "").unwrap();
        let steps = || list(&folder).unwrap().into_iter().map(|(step, _)| step);
        assert!(steps().eq([100, 20, 9]));
        remove(&folder, |rank, _| rank >= 2).unwrap();
        assert!(steps().eq([100, 20]));
        remove(&folder, |_, step| step > 20).unwrap();
        assert!(steps().eq([20]));
        set_aside(&folder, 20).unwrap();
        assert!(steps().eq([20]));
        set_aside(&folder, 19).unwrap();
        assert!(steps().next().is_none());
        assert!(folder.join("checkpoint-20.safetensors.damaged").exists());
        fs::write(path(&folder, 20), "").unwrap();
        assert!(list(&path(&folder, 20)).is_err());
    }
}

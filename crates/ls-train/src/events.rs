//! Events of a run for an observer, and the records of `metrics.jsonl`.

use std::path::PathBuf;

use ls_data::{CutReport, EncodingProgress};
use ls_lora::{ParameterCount, TrainableTensor, trainable_tensors};
use ls_model::{Checkpoint, LlamaClassifier};
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::config::{Protocol, ResolvedRun};
use crate::error::TrainError;
use crate::scores::Scores;

/// What a run tells while it goes on. A command line shows it; a library may ignore it (`&mut ()`).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A split is read and tokenised.
    Data {
        /// `train`, `validation` or `test`.
        split: &'a str,
        /// Its files.
        files: &'a [PathBuf],
        /// Examples that it should have and has not, if the data set is a known one.
        expected: Option<usize>,
        /// Examples with each label (words, for tags); none of a regression.
        labels: Vec<(&'a str, usize)>,
        /// Sizes, and what was cut.
        cut: &'a CutReport,
        /// Messages about rows that were skipped, and how many were.
        skipped: (&'a [String], usize),
    },
    /// A split that is not known from before is tokenised. The last of these, for each file, comes
    /// when it is read to its end.
    Tokenizing {
        /// The files of the split.
        files: &'a [PathBuf],
        /// Examples and bytes so far, and bytes of all.
        progress: EncodingProgress,
    },
    /// What was decided about the data without being asked, or is odd in it, and what to set.
    Note(&'a str),
    /// A tensor of the checkpoint is loaded.
    Loading {
        /// Tensors so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The model is loaded, with its adapters.
    Model {
        /// Trainable and all.
        parameters: ParameterCount,
        /// Names and shapes of the tensors that train.
        trainable: Vec<TrainableTensor>,
        /// Tensors of the checkpoint that nothing uses.
        surplus: Vec<String>,
    },
    /// Steps and memory that training will take.
    Plan {
        /// Optimizer steps.
        steps: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Passes over the data.
        epochs: usize,
        /// Steps from one evaluation to the next; the last step is always followed by one.
        eval_steps: usize,
        /// Estimated peak memory, in bytes.
        expected_memory: usize,
    },
    /// A part of the run begins: `trial evaluation`, `frozen baseline`, `training`, `test`.
    Phase(&'a str),
    /// Training goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: usize,
        /// Optimizer steps of the run.
        steps: usize,
        /// The evaluation of the best model so far, if there is one.
        best: Option<&'a EvaluationRecord>,
    },
    /// An optimizer step is done, and the next one queued unless an evaluation follows.
    Step(&'a StepRecord),
    /// An optimizer step was undone: something in it was no number.
    Skipped(&'a SkippedRecord),
    /// An evaluation goes on.
    Evaluating {
        /// Inputs so far: first none, at last all.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// An evaluation is done.
    Evaluation(&'a EvaluationRecord),
    /// Early stopping.
    Stopped {
        /// Evaluations without a better one.
        evaluations: usize,
    },
    /// A model is written for others.
    Writing {
        /// Tensors so far.
        done: usize,
        /// Of how many; 0 before the first, when the folder is begun.
        total: usize,
    },
    /// A run of a sweep begins, or goes on.
    Run {
        /// Its number, from 1.
        number: usize,
        /// Of how many.
        runs: usize,
        /// Its name, which is that of its folder.
        name: &'a str,
    },
    /// A run of a sweep ended in an error. The others go on.
    RunFailed {
        /// Its name.
        name: &'a str,
        /// Why.
        error: &'a TrainError,
    },
}

impl Event<'_> {
    /// A model is loaded from a checkpoint.
    pub(crate) fn model(
        model: &LlamaClassifier,
        parameters: ParameterCount,
        checkpoint: &Checkpoint,
    ) -> Self {
        Self::Model {
            parameters,
            trainable: trainable_tensors(model),
            surplus: checkpoint.surplus(),
        }
    }

    /// The plan of a run.
    pub(crate) fn plan(run: &ResolvedRun, steps_per_epoch: usize, expected_memory: usize) -> Self {
        let train = &run.config.train;
        let epochs = train.epochs;
        Self::Plan {
            steps: steps_per_epoch * epochs,
            steps_per_epoch,
            epochs,
            eval_steps: train.eval_steps.unwrap_or(steps_per_epoch),
            expected_memory,
        }
    }
}

/// Hears the events of a run, and may end it.
pub trait Observer {
    /// Called in the order of the run, from its thread.
    fn event(&mut self, event: &Event<'_>);

    /// Whether the run should stop, with a checkpoint to go on from. Asked after each step, in
    /// evaluations after each batch, and between the parts of a run.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Hears nothing.
impl Observer for () {
    fn event(&mut self, _: &Event<'_>) {}
}

/// A line of `metrics.jsonl`: an optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// `step`.
    #[serde(skip_deserializing, default = "step")]
    pub kind: &'static str,
    /// Counted from 1.
    pub step: usize,
    /// Passes over the data so far, as a fraction.
    pub epoch: f64,
    /// Mean of what is minimised over the step's labels, before the step.
    pub loss: f64,
    /// Used by this step.
    pub learning_rate: f64,
    /// Over all gradients, before clipping.
    pub grad_norm: f64,
    /// Real tokens of the step.
    pub tokens: usize,
    /// Time from the arrival of the step before's loss, or from where training began or went on
    /// after an evaluation, to the arrival of this step's: all steps add up to the time of
    /// training.
    pub seconds: f64,
    /// Time until the step's batches were read and padded. A device that has more queued does not
    /// wait for it.
    pub data_seconds: f64,
}

/// A line of `metrics.jsonl`: an optimizer step that was undone, because something in it was NaN or
/// infinite.
#[derive(Debug, Clone, Serialize)]
pub struct SkippedRecord {
    /// `skipped`.
    pub kind: &'static str,
    /// Counted from 1, among the others.
    pub step: usize,
    /// Passes over the data so far, as a fraction.
    pub epoch: f64,
    /// What was no number: `loss`, `gradient norm` or `a parameter after the update`.
    pub quantity: &'static str,
    /// `NaN`, `inf` or `-inf`: JSON has no numbers for them.
    pub value: String,
    /// Where its examples stand: path and lines.
    pub examples: String,
    /// The module or the parameter in which it was found first.
    pub cause: String,
    /// The one that it would have used.
    pub learning_rate: f64,
    /// As of other steps.
    pub seconds: f64,
}

/// A line of `metrics.jsonl`: an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// `evaluation`.
    #[serde(skip_deserializing, default = "evaluation")]
    pub kind: &'static str,
    /// Split.
    pub split: String,
    /// How its scores were taken.
    pub protocol: Protocol,
    /// Steps done.
    pub step: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Mean loss, without weights, smoothing and focus.
    pub loss: f64,
    /// The metric that chooses the best.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Whether it is the best so far.
    pub best: bool,
    /// Scores.
    pub scores: Scores,
    /// What was fitted to the split, with which its scores were taken.
    #[serde(default, skip_serializing_if = "Calibration::is_default")]
    pub calibration: Calibration,
    /// Time of the evaluation.
    pub seconds: f64,
}

/// The kind of a line of a step.
fn step() -> &'static str {
    "step"
}

/// The kind of a line of an evaluation.
fn evaluation() -> &'static str {
    "evaluation"
}

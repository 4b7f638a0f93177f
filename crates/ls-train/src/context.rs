//! [`Context`]: what the parts of a training run share.

use std::path::PathBuf;

use burn::tensor::Device;
use ls_lora::TrainableTensor;
use ls_model::LlamaConfig;

use crate::config::ResolvedRun;
use crate::decoding::Decoding;
use crate::error::{Result, TrainError};
use crate::evaluate::{Fits, Pass};
use crate::events::Observer;
use crate::inference::InferenceSettings;
use crate::largest::Largest;
use crate::loss::Objective;
use crate::memory::{Footprint, program};
use crate::splits::Splits;

/// Inputs of the loop besides the model.
pub(crate) struct Context<'a> {
    pub(crate) run: &'a ResolvedRun,
    pub(crate) model_config: &'a LlamaConfig,
    pub(crate) settings: &'a InferenceSettings,
    pub(crate) splits: &'a Splits,
    /// What is minimised.
    pub(crate) objective: &'a Objective,
    /// Without autodiff.
    pub(crate) device: &'a Device,
    /// Bytes that training is expected to take; 0 while nobody has counted.
    pub(crate) expected_memory: usize,
    /// Inputs of a pass at the beginning: of a run that goes on, where it stands.
    pub(crate) pass_size: usize,
    /// The step of the checkpoint that the run goes on from, and of how many it was one.
    pub(crate) resumed: Option<(usize, usize)>,
}

impl<'a> Context<'a> {
    /// What a run is before its memory is counted. `device` is without autodiff.
    pub(crate) fn of(
        run: &'a ResolvedRun,
        model_config: &'a LlamaConfig,
        settings: &'a InferenceSettings,
        splits: &'a Splits,
        objective: &'a Objective,
        device: &'a Device,
    ) -> Self {
        Self {
            run,
            model_config,
            settings,
            splits,
            objective,
            device,
            expected_memory: 0,
            pass_size: run.config.train.largest_pass(),
            resumed: None,
        }
    }
}

impl Context<'_> {
    pub(crate) fn steps_per_epoch(&self) -> usize {
        let settings = &self.run.config.train;
        let inputs = self.splits.train.lengths().len();
        inputs
            .div_ceil(settings.micro_batch_size.largest())
            .div_ceil(settings.gradient_accumulation_steps)
    }

    /// Evaluations in training.
    pub(crate) fn evaluations(&self) -> usize {
        let steps = self.steps();
        match self.run.config.train.eval_steps {
            Some(every) => steps.div_ceil(every),
            None => self.run.config.train.epochs,
        }
    }

    /// Optimizer steps in all epochs.
    pub(crate) fn steps(&self) -> usize {
        self.steps_per_epoch() * self.run.config.train.epochs
    }

    /// What decides how much memory the run takes, where the program had taken so much before it.
    pub(crate) fn footprint<'a>(
        &'a self,
        trainable: &'a [TrainableTensor],
        largest: &'a Largest,
        host: bool,
        resident: Option<u64>,
    ) -> Footprint<'a> {
        Footprint {
            run: self.run,
            model: self.model_config,
            trainable,
            num_labels: self.splits.labels.len(),
            largest,
            host,
            program: program(resident, host),
            steps: self.steps(),
            evaluations: self.evaluations(),
        }
    }

    /// The run folder.
    pub(crate) fn run_folder(&self) -> PathBuf {
        self.run.config.run.clone().unwrap_or_default()
    }

    /// Evaluation with the run's settings.
    pub(crate) fn pass(&self) -> Pass<'_> {
        Pass {
            config: self.model_config,
            settings: self.settings,
            batch_size: self.run.config.train.eval_batch_size,
            protocol: self.run.config.data.protocol,
            decoding: Decoding::default(),
            grammar: None,
            fits: Fits::default(),
            device: self.device,
        }
    }
}

/// Stops where there is nothing to be saved, or where who called knows what.
///
/// # Errors
///
/// [`TrainError::Interrupted`] if the observer asks to stop.
pub(crate) fn stop_if_asked(observer: &dyn Observer, context: &Context<'_>) -> Result<()> {
    if !observer.stop_requested() {
        return Ok(());
    }
    Err(TrainError::Interrupted {
        run: context.run_folder(),
        at: None,
        saved: context.resumed,
    })
}

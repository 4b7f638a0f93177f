//! Loss and gradient of one optimizer step, over as many passes as it takes.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ls_data::{Batch, BatchOptions};
use ls_model::input::mixed_seed;
use ls_model::{LlamaClassifier, ModelInput};

use crate::context::Context;
use crate::error::{Result, TrainError};
use crate::loss::Targets;
use crate::optim::AdamW;
use crate::tensors::{model_input, targets};

/// The examples of one optimizer step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The inputs of each pass.
    pub(crate) passes: Vec<Vec<usize>>,
    /// Fixes dropout.
    pub(crate) seed: u64,
}

impl Step {
    /// All of its inputs.
    pub(crate) fn inputs(&self) -> Vec<usize> {
        self.passes.concat()
    }
}

/// What a step gives.
pub(crate) struct Outcome {
    /// In the order of the optimizer's buffer.
    pub(crate) gradient: Tensor<1>,
    /// Over the labels that count in the whole step, `[1]`: their mean, or where texts are read in
    /// windows what they weigh of one.
    pub(crate) loss: Tensor<1>,
    pub(crate) tokens: usize,
    pub(crate) data_seconds: f64,
}

/// One pass, read and padded.
pub(crate) struct Read {
    pub(crate) batch: Batch,
    targets: Targets,
    /// Of each row in the loss; empty where all weigh the same.
    weights: Vec<f64>,
}

/// What the passes of a step have in common.
pub(crate) struct Backward<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) optimizer: &'a AdamW,
    pub(crate) options: &'a BatchOptions,
}

impl Backward<'_> {
    /// Loss and gradient, on the device. A label weighs the same, whichever pass it is in; the
    /// windows of a long text share its weight.
    pub(crate) fn run(&self, model: &LlamaClassifier, step: &Step) -> Result<Outcome> {
        let started = Instant::now();
        let passes = self.read(&step.passes)?;
        let data_seconds = started.elapsed().as_secs_f64();
        let count = self.count(&passes);
        let mut sums: Option<[Tensor<1>; 2]> = None;
        let mut tokens = 0;
        for (at, read) in passes.iter().enumerate() {
            let [loss, gradient] = self.pass(model, read, mixed_seed(step.seed, at), count)?;
            tokens += read.batch.real_tokens();
            sums = Some(match sums {
                None => [loss, gradient],
                Some([losses, sum]) => [losses + loss, sum + gradient],
            });
        }
        let [loss, gradient] = sums.ok_or(TrainError::EmptySplit {
            split: "train".into(),
        })?;
        Ok(Outcome {
            gradient,
            loss,
            tokens,
            data_seconds,
        })
    }

    /// The batches of passes.
    pub(crate) fn read(&self, passes: &[Vec<usize>]) -> Result<Vec<Read>> {
        let train = &self.context.splits.train;
        let windowed = self.is_windowed();
        let read = |inputs: &Vec<usize>| {
            let weights = inputs
                .iter()
                .filter(|_| windowed)
                .map(|input| train.weight(*input));
            let batch = train.batch(inputs, self.options)?;
            Ok(Read {
                weights: weights.collect::<Result<_>>()?,
                targets: targets(&batch),
                batch,
            })
        };
        passes.iter().map(read).collect()
    }

    /// What the losses of passes are divided by: the labels that count in them. Not by what their
    /// inputs weigh, which is 1 in the mean of the split: windows of long texts, which are often
    /// together in a step, would weigh as much as whole texts then.
    pub(crate) fn count(&self, passes: &[Read]) -> f64 {
        let objective = self.context.objective;
        let counts = passes.iter();
        let counts = counts.map(|read| objective.count(&read.targets));
        let count = counts.sum::<f64>();
        if count > 0.0 { count } else { 1.0 }
    }

    /// The part of one pass in the loss and the gradient of a step with so many labels.
    pub(crate) fn pass(
        &self,
        model: &LlamaClassifier,
        read: &Read,
        seed: u64,
        count: f64,
    ) -> Result<[Tensor<1>; 2]> {
        let input = self.input(read, seed)?;
        let objective = self.context.objective;
        let loss_of = |logits: Tensor<2>| {
            let sum = objective.sum(logits, &read.targets, &read.weights);
            sum.div_scalar(count)
        };
        let checkpointing = self.context.run.config.train.gradient_checkpointing;
        let (loss, gradients) = if checkpointing {
            model.backward_checkpointed(&input, loss_of)
        } else {
            let loss = loss_of(model.forward(&input));
            let gradients = GradientsParams::from_grads(loss.backward(), model);
            (loss.inner(), gradients)
        };
        Ok([loss, self.optimizer.gradient(model, gradients)])
    }

    /// The model's input of a pass.
    pub(crate) fn input(&self, read: &Read, seed: u64) -> Result<ModelInput> {
        let input = model_input(
            &read.batch,
            self.context.model_config,
            self.context.settings.not_pooled(),
            self.context.device,
        )?;
        Ok(input.with_dropout_seed(seed))
    }

    /// Whether texts are read in windows, which share a text's weight.
    fn is_windowed(&self) -> bool {
        let train = &self.context.splits.train;
        !train.is_words() && train.cut.windowed_examples > 0
    }
}

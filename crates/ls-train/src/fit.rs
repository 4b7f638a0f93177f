//! The training loop: optimizer steps with evaluations between, and the best model of them.

use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use ls_data::{Batch, BatchOptions, epoch_order};
use ls_lora::LoraPlus;
use ls_model::input::mixed_seed;
use ls_model::{LlamaClassifier, LlamaConfig};

use crate::config::ResolvedRun;
use crate::error::{Result, TrainError};
use crate::evaluate::{Pass, evaluate};
use crate::events::{EvaluationRecord, Event, Observer, StepRecord};
use crate::inference::InferenceSettings;
use crate::loss::{cross_entropy_sum, weighted_cross_entropy_sum};
use crate::optim::{adamw, clip_grad_norm, learning_rate};
use crate::run_dir::MetricsLog;
use crate::splits::Splits;
use crate::tensors::{labels as flat_labels, model_input};

/// Inputs of the loop besides the model.
pub(crate) struct Context<'a> {
    pub(crate) run: &'a ResolvedRun,
    pub(crate) model_config: &'a LlamaConfig,
    pub(crate) settings: &'a InferenceSettings,
    pub(crate) splits: &'a Splits,
    /// Without autodiff.
    pub(crate) device: &'a Device,
}

impl Context<'_> {
    pub(crate) fn steps_per_epoch(&self) -> usize {
        let settings = &self.run.config.train;
        let inputs = self.splits.train.lengths().len();
        inputs
            .div_ceil(settings.micro_batch_size)
            .div_ceil(settings.gradient_accumulation_steps)
    }

    /// Evaluation with the run's settings.
    pub(crate) fn pass(&self) -> Pass<'_> {
        Pass {
            config: self.model_config,
            settings: self.settings,
            batch_size: self.run.config.train.eval_batch_size,
            protocol: self.run.config.data.protocol,
            device: self.device,
        }
    }
}

/// The result of a fit.
pub(crate) struct Fitted {
    /// Off the graph.
    pub(crate) best_model: LlamaClassifier,
    pub(crate) best: EvaluationRecord,
    pub(crate) steps: usize,
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
}

/// The loop: epochs of optimizer steps, each over `gradient_accumulation_steps` passes, with
/// evaluations between.
///
/// `keep` is called with every model that is the best so far.
pub(crate) fn fit(
    mut model: LlamaClassifier,
    context: &Context<'_>,
    observer: &mut dyn Observer,
    mut log: Option<&mut MetricsLog>,
    keep: &mut dyn FnMut(&LlamaClassifier, &EvaluationRecord) -> Result<()>,
) -> Result<Fitted> {
    let settings = &context.run.config.train;
    let options = context
        .settings
        .batch_options(settings.micro_batch_size, settings.group_by_length);
    let train = &context.splits.train;
    let steps_per_epoch = context.steps_per_epoch();
    let total_steps = steps_per_epoch * settings.epochs;
    let mut optimizer = adamw(settings);
    let mut best: Option<(LlamaClassifier, EvaluationRecord)> = None;
    let (mut step, mut tokens, mut seconds, mut without_better) = (0, 0, 0.0, 0);

    'epochs: for epoch in 0..settings.epochs {
        let order = epoch_order(train.lengths(), &options, settings.seed, epoch);
        for micro_batches in order.chunks(settings.gradient_accumulation_steps) {
            let started = Instant::now();
            let rate = learning_rate(settings, step, total_steps);
            step += 1;
            // Dropout draws from the device's generator, whose state cannot be saved: each step has
            // its own.
            let seed = mixed_seed(settings.seed, step);
            let outcome = backward(&model, context, micro_batches, &options, seed)?;
            let not_finite = |quantity, value| TrainError::NotFinite {
                quantity,
                value,
                step,
                examples: train.place(&micro_batches.concat()),
            };
            if !outcome.loss.is_finite() {
                return Err(not_finite("loss", outcome.loss));
            }
            let mut gradients = outcome.gradients;
            let grad_norm = clip_grad_norm(&model, &mut gradients, settings.max_grad_norm);
            if !grad_norm.is_finite() {
                return Err(not_finite("gradient norm", grad_norm));
            }
            let rates = match settings.loraplus_lr_ratio {
                Some(ratio) => LoraPlus::new(ratio).learning_rates(&model, rate),
                None => rate.into(),
            };
            model = optimizer.step(rates, model, gradients);
            let record = StepRecord {
                kind: "step",
                step,
                epoch: step as f64 / steps_per_epoch as f64,
                loss: outcome.loss,
                learning_rate: rate,
                grad_norm,
                tokens: outcome.tokens,
                seconds: started.elapsed().as_secs_f64(),
                data_seconds: outcome.data_seconds,
            };
            tokens += record.tokens;
            seconds += record.seconds;
            if let Some(log) = &mut log {
                log.push(&record)?;
            }
            observer.event(&Event::Step(&record));

            let epoch_ends = step % steps_per_epoch == 0;
            let due = settings
                .eval_steps
                .map_or(epoch_ends, |every| step % every == 0 || step == total_steps);
            if !due {
                continue;
            }
            let evaluated = model.valid();
            let mut record =
                evaluate_validation(&evaluated, context, step, steps_per_epoch, observer)?;
            record.best = best
                .as_ref()
                .is_none_or(|(_, best)| better(&context.run.metric, record.value, best.value));
            if let Some(log) = &mut log {
                log.push(&record)?;
            }
            observer.event(&Event::Evaluation(&record));
            if record.best {
                keep(&evaluated, &record)?;
                best = Some((evaluated, record));
                without_better = 0;
            } else {
                without_better += 1;
                if settings
                    .early_stopping_patience
                    .is_some_and(|patience| without_better >= patience)
                {
                    observer.event(&Event::Stopped {
                        evaluations: without_better,
                    });
                    break 'epochs;
                }
            }
        }
    }
    // At least one epoch of at least one step ran, and its end is always evaluated.
    let (best_model, best) = best.ok_or(TrainError::EmptySplit {
        split: "train".into(),
    })?;
    Ok(Fitted {
        best_model,
        best,
        steps: step,
        tokens,
        seconds,
    })
}

struct Outcome {
    gradients: GradientsParams,
    /// Mean over the labels that count in the whole step.
    loss: f64,
    tokens: usize,
    data_seconds: f64,
}

/// Loss and gradients of one optimizer step. Every label that counts weighs the same, whichever
/// pass it is in; the windows of a long text share its weight. `seed` fixes dropout.
fn backward(
    model: &LlamaClassifier,
    context: &Context<'_>,
    micro_batches: &[Vec<usize>],
    options: &BatchOptions,
    seed: u64,
) -> Result<Outcome> {
    let train = &context.splits.train;
    let windowed = !train.is_words() && train.cut.windowed_examples > 0;
    let started = Instant::now();
    let batches: Vec<_> = micro_batches
        .iter()
        .map(|inputs| {
            let weights = if windowed {
                inputs.iter().map(|input| train.weight(*input)).collect()
            } else {
                Ok(Vec::new())
            };
            Ok((train.batch(inputs, options)?, weights?))
        })
        .collect::<Result<_>>()?;
    let data_seconds = started.elapsed().as_secs_f64();
    let weight = |(batch, weights): &(Batch, Vec<f64>)| {
        if windowed {
            weights.iter().sum()
        } else {
            batch.counted_labels() as f64
        }
    };
    let count = batches.iter().map(weight).sum::<f64>();
    let count = if count > 0.0 { count } else { 1.0 };
    let mut accumulator = GradientsAccumulator::new();
    let (mut loss, mut tokens) = (0.0, 0);
    for (at, (batch, weights)) in batches.iter().enumerate() {
        let input = model_input(batch, context.model_config, context.device)?;
        let input = input.with_dropout_seed(mixed_seed(seed, at));
        let labels = flat_labels(batch);
        let loss_of = |logits: Tensor<2>| {
            let sum = if windowed {
                weighted_cross_entropy_sum(logits, &labels, weights)
            } else {
                cross_entropy_sum(logits, &labels)
            };
            sum.div_scalar(count)
        };
        let (batch_loss, gradients) = if context.run.config.train.gradient_checkpointing {
            model.backward_checkpointed(&input, loss_of)
        } else {
            let loss = loss_of(model.forward(&input));
            let gradients = GradientsParams::from_grads(loss.backward(), model);
            (loss, gradients)
        };
        loss += f64::from(batch_loss.into_scalar::<f32>());
        tokens += batch.real_tokens();
        accumulator.accumulate(model, gradients);
    }
    Ok(Outcome {
        gradients: accumulator.grads(),
        loss,
        tokens,
        data_seconds,
    })
}

/// Evaluates on the validation split after `step` steps.
fn evaluate_validation(
    model: &LlamaClassifier,
    context: &Context<'_>,
    step: usize,
    steps_per_epoch: usize,
    observer: &mut dyn Observer,
) -> Result<EvaluationRecord> {
    let started = Instant::now();
    let Splits {
        validation, labels, ..
    } = context.splits;
    let total = validation.lengths().len();
    let tick = |done| observer.event(&Event::Evaluating { done, total });
    let evaluation =
        evaluate(model, validation, labels, context.pass(), tick).map_err(|error| match error {
            TrainError::OutputNotFinite { value, examples } => TrainError::NotFinite {
                quantity: "an output in the evaluation",
                value,
                step,
                examples,
            },
            error => error,
        })?;
    let metric = &context.run.metric;
    Ok(EvaluationRecord {
        kind: "evaluation",
        split: "validation".into(),
        protocol: context.run.config.data.protocol,
        step,
        epoch: step as f64 / steps_per_epoch as f64,
        loss: evaluation.loss,
        metric: metric.clone(),
        value: evaluation.get(metric).unwrap_or(f64::NAN),
        best: false,
        scores: evaluation.scores,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether a value of the metric beats another: a lower one for `loss`, else a higher one. NaN
/// beats nothing.
fn better(metric: &str, value: f64, best: f64) -> bool {
    best.is_nan()
        || if metric == "loss" {
            value < best
        } else {
            value > best
        }
}

//! The training loop: optimizer steps with evaluations between, and the best model of them.

use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ls_data::{Batch, BatchOptions, epoch_order};
use ls_model::input::mixed_seed;
use ls_model::{LlamaClassifier, LlamaConfig};

use crate::config::ResolvedRun;
use crate::error::{Result, TrainError};
use crate::evaluate::{Pass, evaluate};
use crate::events::{EvaluationRecord, Event, Observer, StepRecord};
use crate::inference::InferenceSettings;
use crate::loss::{cross_entropy_sum, weighted_cross_entropy_sum};
use crate::optim::AdamW;
use crate::readback::Readback;
use crate::run_dir::MetricsLog;
use crate::schedule::learning_rate;
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
/// A step only queues its work. Its loss and gradient norm are looked at when the next step is
/// queued, so that a device never waits for this thread; before an evaluation, and at the end, they
/// are waited for. `keep` is called with every model that is the best so far.
pub(crate) fn fit(
    mut model: LlamaClassifier,
    context: &Context<'_>,
    observer: &mut dyn Observer,
    log: Option<&mut MetricsLog>,
    keep: &mut dyn FnMut(&LlamaClassifier, &EvaluationRecord) -> Result<()>,
) -> Result<Fitted> {
    let settings = &context.run.config.train;
    let options = context
        .settings
        .batch_options(settings.micro_batch_size, settings.group_by_length);
    let train = &context.splits.train;
    let steps_per_epoch = context.steps_per_epoch();
    let total_steps = steps_per_epoch * settings.epochs;
    let mut optimizer = AdamW::new(&model, settings);
    let mut best: Option<(LlamaClassifier, EvaluationRecord)> = None;
    let (mut step, mut without_better) = (0, 0);
    let mut records = Records::new(context, observer, log);

    'epochs: for epoch in 0..settings.epochs {
        let order = epoch_order(train.lengths(), &options, settings.seed, epoch);
        for micro_batches in order.chunks(settings.gradient_accumulation_steps) {
            let rate = learning_rate(settings, step, total_steps);
            step += 1;
            // Each step has dropout of its own, which no step before decides.
            let seed = mixed_seed(settings.seed, step);
            let outcome = match backward(&model, &optimizer, context, micro_batches, &options, seed)
            {
                Ok(outcome) => outcome,
                Err(error) => {
                    // What is wrong with the step before came first.
                    records.finish()?;
                    return Err(error);
                }
            };
            let (stepped, grad_norm) = optimizer.step(model, outcome.gradient, rate);
            model = stepped;
            let values = Tensor::cat(vec![outcome.loss, grad_norm], 0);
            let queued = Queued {
                step,
                learning_rate: rate,
                tokens: outcome.tokens,
                data_seconds: outcome.data_seconds,
                inputs: micro_batches.concat(),
            };
            records.push(queued, values)?;

            let epoch_ends = step % steps_per_epoch == 0;
            let due = settings
                .eval_steps
                .map_or(epoch_ends, |every| step % every == 0 || step == total_steps);
            if !due {
                continue;
            }
            records.finish()?;
            let evaluated = model.valid();
            let mut record =
                evaluate_validation(&evaluated, context, step, steps_per_epoch, records.observer)?;
            record.best = best
                .as_ref()
                .is_none_or(|(_, best)| better(&context.run.metric, record.value, best.value));
            records.evaluated(&record)?;
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
                    records.observer.event(&Event::Stopped {
                        evaluations: without_better,
                    });
                    break 'epochs;
                }
            }
            records.resume();
        }
    }
    // The last step is evaluated, so its record is written.
    let (tokens, seconds) = (records.tokens, records.seconds);
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

/// What a step's record holds besides the values that are on their way from the device.
struct Queued {
    step: usize,
    learning_rate: f64,
    tokens: usize,
    data_seconds: f64,
    inputs: Vec<usize>,
}

/// The records of a run in their order, and what they add up to.
struct Records<'a> {
    context: &'a Context<'a>,
    observer: &'a mut dyn Observer,
    log: Option<&'a mut MetricsLog>,
    reads: Readback,
    /// The step whose values are on their way.
    queued: Option<Queued>,
    /// Where the time of the next record begins: where the values of the step before came, or where
    /// training went on after an evaluation.
    since: Instant,
    tokens: usize,
    seconds: f64,
}

impl<'a> Records<'a> {
    fn new(
        context: &'a Context<'a>,
        observer: &'a mut dyn Observer,
        log: Option<&'a mut MetricsLog>,
    ) -> Self {
        Self {
            context,
            observer,
            log,
            reads: Readback::new(),
            queued: None,
            since: Instant::now(),
            tokens: 0,
            seconds: 0.0,
        }
    }

    /// Begins to read a step's values, its loss and its gradient norm, and records the step before.
    fn push(&mut self, queued: Queued, values: Tensor<1>) -> Result<()> {
        self.reads.begin(values);
        match self.queued.replace(queued) {
            Some(before) => self.record(before),
            None => Ok(()),
        }
    }

    /// Records the step whose values are on their way, if there is one.
    fn finish(&mut self) -> Result<()> {
        match self.queued.take() {
            Some(last) => self.record(last),
            None => Ok(()),
        }
    }

    /// Waits for the oldest values that are on their way, those of this step.
    fn record(&mut self, queued: Queued) -> Result<()> {
        let (values, at) = self.reads.finish();
        let [loss, grad_norm] = [0, 1].map(|index: usize| f64::from(values[index]));
        for (quantity, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    quantity,
                    value,
                    step: queued.step,
                    examples: self.context.splits.train.place(&queued.inputs),
                });
            }
        }
        let record = StepRecord {
            kind: "step",
            step: queued.step,
            epoch: queued.step as f64 / self.context.steps_per_epoch() as f64,
            loss,
            learning_rate: queued.learning_rate,
            grad_norm,
            tokens: queued.tokens,
            seconds: at.saturating_duration_since(self.since).as_secs_f64(),
            data_seconds: queued.data_seconds,
        };
        self.since = at.max(self.since);
        self.tokens += record.tokens;
        self.seconds += record.seconds;
        if let Some(log) = &mut self.log {
            log.push(&record)?;
        }
        self.observer.event(&Event::Step(&record));
        Ok(())
    }

    /// Records an evaluation.
    fn evaluated(&mut self, record: &EvaluationRecord) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.push(record)?;
            log.sync()?;
        }
        self.observer.event(&Event::Evaluation(record));
        Ok(())
    }

    /// Training goes on after an evaluation, whose time is not its own.
    fn resume(&mut self) {
        self.since = Instant::now();
    }
}

struct Outcome {
    /// In the order of the optimizer's buffer.
    gradient: Tensor<1>,
    /// Mean over the labels that count in the whole step, `[1]`.
    loss: Tensor<1>,
    tokens: usize,
    data_seconds: f64,
}

/// Loss and gradient of one optimizer step, on the device. Every label that counts weighs the same,
/// whichever pass it is in; the windows of a long text share its weight. `seed` fixes dropout.
fn backward(
    model: &LlamaClassifier,
    optimizer: &AdamW,
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
    let mut sums: Option<[Tensor<1>; 2]> = None;
    let mut tokens = 0;
    for (at, (batch, weights)) in batches.iter().enumerate() {
        let input = model_input(
            batch,
            context.model_config,
            context.settings.not_pooled(),
            context.device,
        )?;
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
        let (loss, gradients) = if context.run.config.train.gradient_checkpointing {
            model.backward_checkpointed(&input, loss_of)
        } else {
            let loss = loss_of(model.forward(&input));
            let gradients = GradientsParams::from_grads(loss.backward(), model);
            (loss.inner(), gradients)
        };
        let gradient = optimizer.gradient(model, gradients);
        tokens += batch.real_tokens();
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

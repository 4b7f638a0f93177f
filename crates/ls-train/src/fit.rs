//! The training loop: optimizer steps with evaluations between, and the best model of them.

use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_data::{Batch, BatchOptions, epoch_order};
use ls_model::input::mixed_seed;
use ls_model::{LlamaClassifier, LlamaConfig};

use crate::checkpoint::{Saved, State};
use crate::config::ResolvedRun;
use crate::error::{Result, TrainError};
use crate::evaluate::{Pass, evaluate};
use crate::events::{EvaluationRecord, Event, Observer, StepRecord};
use crate::identity::Identity;
use crate::inference::InferenceSettings;
use crate::loss::{cross_entropy_sum, weighted_cross_entropy_sum};
use crate::optim::{AdamState, AdamW};
use crate::readback::Readback;
use crate::run_dir::MetricsLog;
use crate::saver::Saver;
use crate::schedule::learning_rate;
use crate::scores::Baseline;
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
            device: self.device,
        }
    }
}

/// What a run leaves while it trains, and what a checkpoint holds besides where that stands.
pub(crate) struct Journal<'a> {
    pub(crate) log: &'a mut MetricsLog,
    pub(crate) saver: Saver,
    /// Called with every model that is the best so far.
    pub(crate) keep: &'a mut dyn FnMut(&LlamaClassifier, &EvaluationRecord) -> Result<()>,
    pub(crate) identity: &'a Identity,
    pub(crate) baselines: &'a [Baseline],
    /// The device, as burn names it.
    pub(crate) name_of_device: String,
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
/// evaluations between. It begins at the first step, or goes on from a checkpoint.
///
/// A step only queues its work. Its loss and gradient norm are looked at when the next step is
/// queued, so that a device never waits for this thread; before an evaluation or a checkpoint, and
/// at the end, they are waited for.
///
/// Wherever it is ended from outside, a checkpoint leads to the same files: an evaluation is first
/// recorded, then its model kept if it is the best, then a checkpoint written that knows both. What
/// was recorded and kept behind the last checkpoint is made again.
///
/// # Errors
///
/// [`TrainError::Interrupted`] where the observer asks to stop, after a checkpoint.
pub(crate) fn fit<'a>(
    mut model: LlamaClassifier,
    context: &'a Context<'a>,
    observer: &'a mut dyn Observer,
    journal: Option<Journal<'a>>,
    from: Option<Saved>,
) -> Result<Fitted> {
    let mut fit = Fit::new(&model, context, observer, journal);
    match from {
        Some(saved) => model = fit.restore(model, saved)?,
        // What was scored before the training need not be scored again.
        None if fit.has_baselines() => fit.save()?,
        None => {}
    }
    loop {
        if fit.evaluation_is_due() {
            fit.evaluate(&model)?;
        }
        if fit.step == fit.steps || fit.stops_early() {
            return fit.finish();
        }
        model = fit.step(model)?;
        fit.pause()?;
    }
}

/// Where the loop stands, besides the model that trains.
struct Fit<'a> {
    context: &'a Context<'a>,
    options: BatchOptions,
    steps_per_epoch: usize,
    /// In all epochs.
    steps: usize,
    optimizer: AdamW,
    records: Records<'a>,
    keeper: Option<Keeper<'a>>,
    /// Steps done.
    step: usize,
    /// The step of the last evaluation, 0 before the first.
    last_evaluation: usize,
    best: Option<Best>,
    /// Evaluations without a better one.
    without_better: usize,
    /// The epoch whose batches these are.
    epoch: Option<(usize, Vec<Vec<usize>>)>,
}

/// The best so far.
struct Best {
    /// Off the graph.
    model: LlamaClassifier,
    /// Its part of the optimizer's buffer.
    values: Tensor<1>,
    record: EvaluationRecord,
}

/// A [`Journal`] without its log.
struct Keeper<'a> {
    saver: Saver,
    keep: &'a mut dyn FnMut(&LlamaClassifier, &EvaluationRecord) -> Result<()>,
    identity: &'a Identity,
    baselines: &'a [Baseline],
    name_of_device: String,
}

impl<'a> Fit<'a> {
    /// Before the first step.
    fn new(
        model: &LlamaClassifier,
        context: &'a Context<'a>,
        observer: &'a mut dyn Observer,
        journal: Option<Journal<'a>>,
    ) -> Self {
        let settings = &context.run.config.train;
        let (log, keeper) = match journal {
            None => (None, None),
            Some(journal) => {
                let keeper = Keeper {
                    saver: journal.saver,
                    keep: journal.keep,
                    identity: journal.identity,
                    baselines: journal.baselines,
                    name_of_device: journal.name_of_device,
                };
                (Some(journal.log), Some(keeper))
            }
        };
        let steps_per_epoch = context.steps_per_epoch();
        Self {
            context,
            options: context
                .settings
                .batch_options(settings.micro_batch_size, settings.group_by_length),
            steps_per_epoch,
            steps: steps_per_epoch * settings.epochs,
            optimizer: AdamW::new(model, settings),
            records: Records::new(context, observer, log),
            keeper,
            step: 0,
            last_evaluation: 0,
            best: None,
            without_better: 0,
            epoch: None,
        }
    }

    /// Stands where a checkpoint was written, and puts its best model back, which a later one may
    /// have replaced. Returns the model with its parameters.
    fn restore(&mut self, model: LlamaClassifier, saved: Saved) -> Result<LlamaClassifier> {
        let state = saved.state;
        let ours = self.optimizer.layout();
        let fault = layout_fault(&state.layout, &ours).or_else(|| {
            let (found, expected) = (saved.values.len(), self.optimizer.len());
            (found != expected).then(|| format!("{found} values in it and {expected} in the model"))
        });
        if let Some(reason) = fault {
            return Err(TrainError::Checkpoint {
                path: self.context.run_folder(),
                reason: format!("the checkpoint of step {}: {reason}", state.step),
            });
        }
        let device = self.optimizer.device();
        let buffer = |values: Vec<f32>| {
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), (&device, DType::F32))
        };
        let values = buffer(saved.values);
        let best_values = saved.best_values.map_or_else(|| values.clone(), buffer);
        let adam = AdamState {
            values,
            moments: saved.moments.map(|moments| moments.map(buffer)),
            steps: state.optimizer_steps,
        };
        let model = self.optimizer.restore(model, adam);
        if let Some(record) = state.best {
            let best = self
                .optimizer
                .laid_over(model.clone(), &best_values)
                .valid();
            if let Some(keeper) = &mut self.keeper {
                (keeper.keep)(&best, &record)?;
            }
            self.best = Some(Best {
                model: best,
                values: best_values,
                record,
            });
        }
        self.step = state.step;
        self.last_evaluation = state.last_evaluation;
        self.without_better = state.without_better;
        (self.records.tokens, self.records.seconds) = (state.tokens, state.seconds);
        Ok(model)
    }

    fn has_baselines(&self) -> bool {
        let keeper = self.keeper.as_ref();
        keeper.is_some_and(|keeper| !keeper.baselines.is_empty())
    }

    /// Whether the model is to be evaluated before the next step.
    fn evaluation_is_due(&self) -> bool {
        let step = self.step;
        let settings = &self.context.run.config.train;
        let due = match settings.eval_steps {
            Some(every) => step.is_multiple_of(every) || step == self.steps,
            None => step.is_multiple_of(self.steps_per_epoch),
        };
        due && step > 0 && step != self.last_evaluation
    }

    /// Evaluates the model, keeps it if it is the best so far, and writes a checkpoint.
    fn evaluate(&mut self, model: &LlamaClassifier) -> Result<()> {
        self.records.finish()?;
        let evaluated = model.valid();
        let observer = &mut *self.records.observer;
        let context = self.context;
        let mut record = match evaluate_validation(
            &evaluated,
            context,
            self.step,
            self.steps_per_epoch,
            observer,
        ) {
            Err(TrainError::Interrupted { .. }) => return self.interrupted(),
            record => record?,
        };
        let metric = &context.run.metric;
        let best = self.best.as_ref();
        record.best = best.is_none_or(|best| better(metric, record.value, best.record.value));
        self.records.evaluated(&record)?;
        self.last_evaluation = self.step;
        if record.best {
            if let Some(keeper) = &mut self.keeper {
                (keeper.keep)(&evaluated, &record)?;
            }
            self.without_better = 0;
            self.best = Some(Best {
                model: evaluated,
                values: self.optimizer.state().values,
                record,
            });
        } else {
            self.without_better += 1;
        }
        self.save()?;
        self.records.resume();
        Ok(())
    }

    /// Whether as many evaluations as were to be waited for brought nothing better.
    fn stops_early(&mut self) -> bool {
        let patience = self.context.run.config.train.early_stopping_patience;
        let stops = patience.is_some_and(|patience| self.without_better >= patience);
        if stops {
            self.records.observer.event(&Event::Stopped {
                evaluations: self.without_better,
            });
        }
        stops
    }

    /// Queues an optimizer step.
    fn step(&mut self, model: LlamaClassifier) -> Result<LlamaClassifier> {
        let context = self.context;
        let settings = &context.run.config.train;
        let micro_batches = self.micro_batches();
        let learning_rate = learning_rate(settings, self.step, self.steps);
        self.step += 1;
        // Each step has dropout of its own, which no step before decides.
        let seed = mixed_seed(settings.seed, self.step);
        let outcome = backward(
            &model,
            &self.optimizer,
            context,
            &micro_batches,
            &self.options,
            seed,
        );
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // What is wrong with the step before came first.
                self.records.finish()?;
                return Err(error);
            }
        };
        let (model, grad_norm) = self.optimizer.step(model, outcome.gradient, learning_rate);
        let queued = Queued {
            step: self.step,
            learning_rate,
            tokens: outcome.tokens,
            data_seconds: outcome.data_seconds,
            inputs: micro_batches.concat(),
        };
        let values = Tensor::cat(vec![outcome.loss, grad_norm], 0);
        self.records.push(queued, values)?;
        Ok(model)
    }

    /// The batches of the next step.
    fn micro_batches(&mut self) -> Vec<Vec<usize>> {
        let settings = &self.context.run.config.train;
        let epoch = self.step / self.steps_per_epoch;
        if self.epoch.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let lengths = self.context.splits.train.lengths();
            let order = epoch_order(lengths, &self.options, settings.seed, epoch);
            self.epoch = Some((epoch, order));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        let first = self.step % self.steps_per_epoch * settings.gradient_accumulation_steps;
        let batches = order.iter().skip(first);
        batches
            .take(settings.gradient_accumulation_steps)
            .cloned()
            .collect()
    }

    /// Between two steps: stops if the observer asks for it, and writes a checkpoint that is due.
    fn pause(&mut self) -> Result<()> {
        if self.records.observer.stop_requested() {
            return self.interrupted();
        }
        let due = |keeper: &Keeper<'_>| keeper.saver.due(self.step);
        if self.keeper.as_ref().is_some_and(due) {
            self.save()?;
        }
        Ok(())
    }

    /// Ends the loop at the wish of the observer, once a checkpoint is on the disk.
    fn interrupted(&mut self) -> Result<()> {
        let run = self.context.run_folder();
        self.save()?;
        let Some(keeper) = &mut self.keeper else {
            return Err(TrainError::Interrupted { run, saved: None });
        };
        let (step, steps) = (self.step, self.steps);
        Err(match keeper.saver.finish() {
            Ok(()) => TrainError::Interrupted {
                run,
                saved: Some((step, steps)),
            },
            Err(source) => TrainError::NotSaved {
                step,
                source: Box::new(source),
            },
        })
    }

    /// Begins to write a checkpoint. Training goes on as soon as its tensors are copied or, where
    /// the device keeps them meanwhile, named.
    fn save(&mut self) -> Result<()> {
        self.records.finish()?;
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let Some(log) = &self.records.log else {
            return Ok(());
        };
        let started = Instant::now();
        let AdamState {
            values,
            moments,
            steps: optimizer_steps,
        } = self.optimizer.state();
        let best = self.best.as_ref();
        let other = best.filter(|best| best.record.step != self.step);
        let state = State {
            ls_llama: env!("CARGO_PKG_VERSION").into(),
            device: keeper.name_of_device.clone(),
            step: self.step,
            steps: self.steps,
            steps_per_epoch: self.steps_per_epoch,
            last_evaluation: self.last_evaluation,
            without_better: self.without_better,
            optimizer_steps,
            tokens: self.records.tokens,
            seconds: self.records.seconds,
            metrics_bytes: log.bytes(),
            labels: self.context.splits.labels.names().to_vec(),
            layout: self.optimizer.layout(),
            identity: keeper.identity.clone(),
            best: best.map(|best| best.record.clone()),
            baselines: keeper.baselines.to_vec(),
        };
        let values = values.into_data();
        let moments = moments.map(|moments| moments.map(Tensor::into_data));
        let best_values = other.map(|best| best.values.clone().into_data());
        let host = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        keeper.saver.begin(log.handle()?, move || Saved {
            state,
            values: host(values),
            moments: moments.map(|moments| moments.map(host)),
            best_values: best_values.map(host),
        });
        let pause = started.elapsed();
        tracing::info!("checkpoint of step {}: paused for {pause:.1?}", self.step);
        Ok(())
    }

    fn finish(mut self) -> Result<Fitted> {
        // The last step is evaluated, so its record is written.
        let (tokens, seconds) = (self.records.tokens, self.records.seconds);
        if let Some(keeper) = &mut self.keeper {
            keeper.saver.settle();
        }
        // At least one epoch of at least one step ran, and its end is always evaluated.
        let best = self.best.ok_or(TrainError::EmptySplit {
            split: "train".into(),
        })?;
        Ok(Fitted {
            best_model: best.model,
            best: best.record,
            steps: self.step,
            tokens,
            seconds,
        })
    }
}

/// What is wrong with the parameters of a checkpoint, if they are not those of the model.
fn layout_fault(saved: &[(String, usize)], ours: &[(String, usize)]) -> Option<String> {
    let shown = |at: Option<&(String, usize)>| match at {
        Some((path, len)) => format!("{path} ({len} values)"),
        None => "nothing".into(),
    };
    let at = (0..saved.len().max(ours.len())).find(|&at| saved.get(at) != ours.get(at))?;
    let (found, expected) = (shown(saved.get(at)), shown(ours.get(at)));
    Some(format!(
        "parameter {at} is {found} in it and {expected} in the model"
    ))
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
    let tick = |done| {
        observer.event(&Event::Evaluating { done, total });
        stop_if_asked(&*observer, context)
    };
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
        saved: None,
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

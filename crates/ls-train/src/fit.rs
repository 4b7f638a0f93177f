//! The training loop: optimizer steps with evaluations between, and the best model of them.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData};
use ls_data::{BatchOptions, epoch_order};
use ls_files::HostTensor;
use ls_lora::LoraError;
use ls_model::LlamaClassifier;
use ls_model::input::mixed_seed;

use crate::backward::{Backward, Step};
use crate::checkpoint::{Saved, State};
use crate::config::MicroBatchSize;
use crate::context::{Context, stop_if_asked};
use crate::diagnosis;
use crate::error::{Result, TrainError};
use crate::evaluate::{Fits, Pass, evaluate};
use crate::events::{EvaluationRecord, Event, Observer, SkippedRecord, StepRecord};
use crate::identity::Identity;
use crate::optim::{AdamState, AdamW};
use crate::out_of_memory::{self, OutOfMemory, advice, smaller_passes};
use crate::readback::Readback;
use crate::run_dir::MetricsLog;
use crate::saver::{Saver, ToHost};
use crate::schedule::learning_rate;
use crate::scores::{Baseline, Scores};
use crate::splits::Splits;
use crate::tensorboard::TensorBoard;

/// What a run leaves while it trains, and what a checkpoint holds besides where that stands.
pub(crate) struct Journal<'a> {
    pub(crate) log: &'a mut MetricsLog,
    /// Where it is wanted.
    pub(crate) board: Option<TensorBoard>,
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
    /// As many as there would have been without early stopping.
    pub(crate) all_steps: usize,
    /// The step that a run that is stopped now goes on from, and of how many.
    pub(crate) saved: Option<(usize, usize)>,
    /// Of them, those that changed nothing.
    pub(crate) skipped: usize,
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    /// Inputs of a pass at the end.
    pub(crate) pass_size: usize,
}

/// The loop: epochs of optimizer steps, each over `gradient_accumulation_steps` passes, with
/// evaluations between. It begins at the first step, or goes on from a checkpoint.
///
/// A step only queues its work. Its loss and gradient norm are looked at when the next step is
/// queued, so that a device never waits for this thread; before an evaluation or a checkpoint, and
/// at the end, they are waited for. The state before a step is kept until its values are known: a
/// step that brought no numbers, or for which memory had no room, is undone with all that was
/// queued behind it, and passed over or taken again in smaller passes.
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
        Some(saved) => {
            let recorded = saved.state.metrics_bytes;
            model = fit.restore(model, saved)?;
            // Where the records were lost, the next start has to know the length of the new ones.
            if fit
                .records
                .log
                .as_ref()
                .is_some_and(|log| log.bytes() != recorded)
            {
                fit.save()?;
            }
        }
        // What was scored before the training need not be scored again.
        None if fit.has_baselines() => fit.save()?,
        None => {}
    }
    loop {
        if fit.evaluation_is_due() {
            model = fit.settle(model)?;
        }
        // The last step may have to be taken again first.
        if fit.evaluation_is_due() {
            fit.evaluate(&model)?;
        }
        if fit.step == fit.steps || fit.stops_early() {
            return fit.finish();
        }
        model = fit.step(model)?;
        model = fit.pause(model)?;
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
    /// Inputs of a pass.
    pass_size: usize,
    /// Steps done, those that were passed over among them.
    step: usize,
    /// Steps that were passed over.
    skipped: usize,
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
        let (log, board, keeper) = match journal {
            None => (None, None, None),
            Some(journal) => {
                let keeper = Keeper {
                    saver: journal.saver,
                    keep: journal.keep,
                    identity: journal.identity,
                    baselines: journal.baselines,
                    name_of_device: journal.name_of_device,
                };
                (Some(journal.log), journal.board, Some(keeper))
            }
        };
        let steps_per_epoch = context.steps_per_epoch();
        Self {
            context,
            options: context.settings.batch_options(
                settings.micro_batch_size.largest(),
                settings.group_by_length,
            ),
            steps_per_epoch,
            steps: steps_per_epoch * settings.epochs,
            optimizer: AdamW::new(model, settings),
            records: Records::new(context, observer, log, board),
            keeper,
            pass_size: context.pass_size,
            step: 0,
            skipped: 0,
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
        let buffer = |tensor: HostTensor| -> Result<Tensor<1>> {
            let values = tensor.to_f32().map_err(LoraError::NotAFloat)?;
            let data = TensorData::new(values, [tensor.len()]);
            Ok(Tensor::from_data(data, (&device, DType::F32)))
        };
        let values = buffer(saved.values)?;
        let best_values = match saved.best_values {
            Some(best_values) => buffer(best_values)?,
            None => values.clone(),
        };
        let moments = match saved.moments {
            Some([first, second]) => Some([buffer(first)?, buffer(second)?]),
            None => None,
        };
        let adam = AdamState {
            values,
            moments,
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
        self.skipped = state.skipped_steps;
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
        let recorded = self.records.log.as_ref().map(|log| log.bytes());
        self.records.evaluated(&record)?;
        if record.best {
            if let Some(keeper) = &mut self.keeper
                && let Err(error) = (keeper.keep)(&evaluated, &record)
            {
                return self.rescued(recorded, error);
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
        self.last_evaluation = self.step;
        self.save()?;
        self.records.resume();
        Ok(())
    }

    /// The best model could not be written: the steps since the last checkpoint need not be lost
    /// with it. The evaluation, whose record is taken back, is made again when the run goes on.
    fn rescued(&mut self, recorded: Option<u64>, error: TrainError) -> Result<()> {
        if let (Some(log), Some(bytes)) = (&mut self.records.log, recorded) {
            log.cut(bytes)?;
        }
        self.save()?;
        if let Some(keeper) = &mut self.keeper {
            keeper.saver.settle();
        }
        Err(error)
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

    /// Queues an optimizer step, and looks at the values of the one before.
    fn step(&mut self, model: LlamaClassifier) -> Result<LlamaClassifier> {
        let before = self.optimizer.state();
        let kept = model.clone();
        let number = self.step + 1;
        match out_of_memory::caught(|| self.queue(model, number, before.clone())) {
            Ok(Ok((model, queued))) => {
                self.step = number;
                match self.records.queued.replace(queued) {
                    Some(last) => Ok(self.conclude(last, model)?.0),
                    None => Ok(model),
                }
            }
            Ok(Err(error)) => {
                // What is wrong with the step before came first.
                self.settle(kept)?;
                Err(error)
            }
            Err(full) => {
                let model = self.optimizer.restore(kept, before);
                let (model, stands) = self.settled(model)?;
                if stands {
                    self.take_smaller_passes(number, full)?;
                }
                Ok(model)
            }
        }
    }

    /// Queues everything of a step, and the reading of its values.
    fn queue(
        &mut self,
        model: LlamaClassifier,
        number: usize,
        before: AdamState,
    ) -> Result<(LlamaClassifier, Queued)> {
        let settings = &self.context.run.config.train;
        let step = Step {
            passes: self.passes(),
            // Each step has dropout of its own, which no step before decides.
            seed: mixed_seed(settings.seed, number),
        };
        #[cfg(test)]
        injected::allocate(&step, number);
        let learning_rate = learning_rate(settings, number - 1, self.steps);
        let work = Backward {
            context: self.context,
            optimizer: &self.optimizer,
            options: &self.options,
        };
        let outcome = work.run(&model, &step)?;
        #[cfg(test)]
        let outcome = injected::spoil(outcome, number);
        let (model, grad_norm) = self.optimizer.step(model, outcome.gradient, learning_rate);
        let values = vec![outcome.loss, grad_norm, self.optimizer.witness()];
        self.records.reads.begin(Tensor::cat(values, 0));
        let queued = Queued {
            number,
            learning_rate,
            tokens: outcome.tokens,
            data_seconds: outcome.data_seconds,
            step,
            before,
        };
        Ok((model, queued))
    }

    /// Waits for the values of the last step that was queued, and records it. Returns the model
    /// behind it.
    fn settle(&mut self, model: LlamaClassifier) -> Result<LlamaClassifier> {
        Ok(self.settled(model)?.0)
    }

    /// The same, and whether the step stands.
    fn settled(&mut self, model: LlamaClassifier) -> Result<(LlamaClassifier, bool)> {
        match self.records.queued.take() {
            Some(last) => self.conclude(last, model),
            None => Ok((model, true)),
        }
    }

    /// Waits for the values of a step, and records it; or undoes it, and what was queued behind it.
    /// Returns the model to go on with, and whether the step stands.
    fn conclude(
        &mut self,
        queued: Queued,
        model: LlamaClassifier,
    ) -> Result<(LlamaClassifier, bool)> {
        let (values, at) = match self.records.reads.finish() {
            Ok(values) => values,
            Err(full) => {
                self.records.forget();
                self.step = queued.number - 1;
                self.take_smaller_passes(queued.number, full)?;
                return Ok((self.optimizer.restore(model, queued.before), false));
            }
        };
        let [loss, grad_norm, witness] = [0, 1, 2].map(|index: usize| f64::from(values[index]));
        let quantities = [
            ("loss", loss),
            ("gradient norm", grad_norm),
            ("a parameter after the update", witness),
        ];
        let bad = quantities.into_iter().find(|(_, value)| !value.is_finite());
        let Some((quantity, value)) = bad else {
            self.records.done(queued, loss, grad_norm, at)?;
            return Ok((model, true));
        };

        let next = self.records.forget();
        let after = next.map_or_else(|| self.optimizer.state(), |next| next.before);
        let model = self.optimizer.restore(model, queued.before.clone());
        self.step = queued.number;
        let work = Backward {
            context: self.context,
            optimizer: &self.optimizer,
            options: &self.options,
        };
        let number = queued.number;
        let updated = loss.is_finite() && grad_norm.is_finite();
        let after = updated.then_some(&after.values);
        let finding = diagnosis::of_step(&work, &model, number, &queued.step, after)?;
        let examples = self.context.splits.train.place(&queued.step.inputs());
        if self.skipped < self.context.run.config.train.skip_nonfinite_steps {
            self.skipped += 1;
            let cause = finding.what;
            self.records
                .skipped(queued, quantity, value, examples, cause, at)?;
            return Ok((model, false));
        }
        Err(TrainError::NotFinite {
            quantity,
            value,
            step: number,
            examples,
            found: finding.what,
            hint: finding.hint,
            set: finding.set,
        })
    }

    /// Halves the inputs of a pass, if that is left to the program and leaves any.
    fn take_smaller_passes(&mut self, number: usize, full: OutOfMemory) -> Result<()> {
        let context = self.context;
        let auto = context.run.config.train.micro_batch_size == MicroBatchSize::Auto;
        if !auto || self.pass_size == 1 {
            let during = format!("step {number}, in passes of {} inputs", self.pass_size);
            let advice = advice(context.run, self.pass_size);
            let set = smaller_passes(context.run, self.pass_size);
            return Err(full.error(during, context.expected_memory, advice, set));
        }
        self.pass_size = self.pass_size.div_ceil(2);
        let text = format!(
            "no memory left at step {number}{}: passes of {} inputs from here on, the same examples \
             in each step (train.micro_batch_size = \"auto\")",
            full.asked_for(),
            self.pass_size
        );
        self.records.observer.event(&Event::Note(&text));
        Ok(())
    }

    /// The inputs of each pass of the next step.
    fn passes(&mut self) -> Vec<Vec<usize>> {
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
            .flat_map(|batch| batch.chunks(self.pass_size).map(<[usize]>::to_vec))
            .collect()
    }

    /// Between two steps: stops if the observer asks for it, and writes a checkpoint that is due.
    fn pause(&mut self, model: LlamaClassifier) -> Result<LlamaClassifier> {
        let stops = self.records.observer.stop_requested();
        let due = |keeper: &Keeper<'_>| keeper.saver.due(self.step);
        if !stops && !self.keeper.as_ref().is_some_and(due) {
            return Ok(model);
        }
        let model = self.settle(model)?;
        if stops {
            self.interrupted()?;
        } else {
            self.save()?;
        }
        Ok(model)
    }

    /// Ends the loop at the wish of the observer, once a checkpoint is on the disk.
    fn interrupted(&mut self) -> Result<()> {
        let run = self.context.run_folder();
        self.save()?;
        let Some(keeper) = &mut self.keeper else {
            return Err(TrainError::Interrupted {
                run,
                at: None,
                saved: None,
            });
        };
        let at = (self.step, self.steps);
        let finished = keeper.saver.finish();
        let saved = keeper.saver.written();
        Err(match finished {
            Ok(()) => TrainError::Interrupted {
                run,
                at: Some(at),
                saved,
            },
            Err(source) => TrainError::NotSaved {
                at,
                saved,
                source: Box::new(source),
            },
        })
    }

    /// Begins to write a checkpoint. Training does not wait until its tensors are copied.
    fn save(&mut self) -> Result<()> {
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
            skipped_steps: self.skipped,
            pass_size: self.pass_size,
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
        let values = ToHost::of(values);
        let moments = moments.map(|moments| moments.map(ToHost::of));
        let best_values = other.map(|best| ToHost::of(best.values.clone()));
        keeper.saver.begin(log.handle()?, move || Saved {
            state,
            values: values.values(),
            moments: moments.map(|moments| moments.map(ToHost::values)),
            best_values: best_values.map(ToHost::values),
        });
        let pause = started.elapsed();
        tracing::info!("checkpoint of step {}: paused for {pause:.1?}", self.step);
        Ok(())
    }

    fn finish(mut self) -> Result<Fitted> {
        // The last step is evaluated, so its record is written.
        let (tokens, seconds) = (self.records.tokens, self.records.seconds);
        let saved = self.keeper.as_mut().and_then(|keeper| {
            keeper.saver.settle();
            keeper.saver.written()
        });
        // At least one epoch of at least one step ran, and its end is always evaluated.
        let best = self.best.ok_or(TrainError::EmptySplit {
            split: "train".into(),
        })?;
        Ok(Fitted {
            best_model: best.model,
            best: best.record,
            steps: self.step,
            all_steps: self.steps,
            saved,
            skipped: self.skipped,
            tokens,
            seconds,
            pass_size: self.pass_size,
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

/// A step whose values are on their way from the device.
struct Queued {
    /// Counted from 1.
    number: usize,
    learning_rate: f64,
    tokens: usize,
    data_seconds: f64,
    step: Step,
    /// The optimizer before it.
    before: AdamState,
}

/// The records of a run in their order, and what they add up to.
struct Records<'a> {
    context: &'a Context<'a>,
    observer: &'a mut dyn Observer,
    log: Option<&'a mut MetricsLog>,
    board: Option<TensorBoard>,
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
        board: Option<TensorBoard>,
    ) -> Self {
        Self {
            context,
            observer,
            log,
            board,
            reads: Readback::new(),
            queued: None,
            since: Instant::now(),
            tokens: 0,
            seconds: 0.0,
        }
    }

    /// Takes away the step that is on its way, without looking at its values.
    fn forget(&mut self) -> Option<Queued> {
        let queued = self.queued.take()?;
        // Whatever they are, they come before those of the next step.
        let _ = self.reads.finish();
        Some(queued)
    }

    /// Records a step whose values came.
    fn done(&mut self, queued: Queued, loss: f64, grad_norm: f64, at: Instant) -> Result<()> {
        let record = StepRecord {
            kind: "step",
            step: queued.number,
            epoch: self.epoch(queued.number),
            loss,
            learning_rate: queued.learning_rate,
            grad_norm,
            tokens: queued.tokens,
            seconds: self.seconds_until(at),
            data_seconds: queued.data_seconds,
        };
        self.tokens += record.tokens;
        tracing::trace!(
            step = record.step,
            loss,
            grad_norm,
            seconds = record.seconds,
            data_seconds = record.data_seconds,
            "step"
        );
        if let Some(log) = &mut self.log {
            log.push(&record)?;
        }
        if let Some(board) = &mut self.board {
            board.step(&record);
        }
        self.observer.event(&Event::Step(&record));
        Ok(())
    }

    /// Records a step that was passed over.
    fn skipped(
        &mut self,
        queued: Queued,
        quantity: &'static str,
        value: f64,
        examples: String,
        cause: String,
        at: Instant,
    ) -> Result<()> {
        let record = SkippedRecord {
            kind: "skipped",
            step: queued.number,
            epoch: self.epoch(queued.number),
            quantity,
            value: value.to_string(),
            examples,
            cause,
            learning_rate: queued.learning_rate,
            seconds: self.seconds_until(at),
        };
        if let Some(log) = &mut self.log {
            log.push(&record)?;
        }
        self.observer.event(&Event::Skipped(&record));
        Ok(())
    }

    fn epoch(&self, number: usize) -> f64 {
        number as f64 / self.context.steps_per_epoch() as f64
    }

    /// The time of a step whose values came at `at`.
    fn seconds_until(&mut self, at: Instant) -> f64 {
        let seconds = at.saturating_duration_since(self.since).as_secs_f64();
        self.since = at.max(self.since);
        self.seconds += seconds;
        seconds
    }

    /// Records an evaluation.
    fn evaluated(&mut self, record: &EvaluationRecord) -> Result<()> {
        tracing::debug!(
            "evaluation of step {} took {:.1} s",
            record.step,
            record.seconds
        );
        if let Some(log) = &mut self.log {
            log.push(record)?;
        }
        if let Some(board) = &mut self.board {
            board.evaluation(record);
        }
        self.observer.event(&Event::Evaluation(record));
        Ok(())
    }

    /// Training goes on after an evaluation, whose time is not its own.
    fn resume(&mut self) {
        self.since = Instant::now();
    }
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
        // After each batch, as an observer is told.
        if done > 0 {
            stop_if_asked(&*observer, context)?;
        }
        Ok(())
    };
    let pass = Pass {
        fits: Fits {
            thresholds: true,
            temperature: context.run.config.train.temperature_scaling,
        },
        ..context.pass()
    };
    let evaluation = evaluate(model, validation, labels, pass, tick);
    let evaluation = evaluation.map_err(|error| diagnosis::in_evaluation(error, step, context))?;
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
        calibration: evaluation.calibration,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether a value of the metric beats another: a lower one of a loss or an error, else a higher
/// one. NaN beats nothing.
pub(crate) fn better(metric: &str, value: f64, best: f64) -> bool {
    best.is_nan()
        || if Scores::falls(metric) {
            value < best
        } else {
            value > best
        }
}

#[cfg(test)]
mod injected;
#[cfg(test)]
mod tests;

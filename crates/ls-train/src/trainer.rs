//! The training run, from files to a scored best checkpoint, and its loop (`fit`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use ls_data::{CutReport, LabelSet, SplitSource, TaskKind, TextTokenizer, epoch_order, split_off};
use ls_lora::{LoraConfig, LoraPlus, ParameterCount, TaskType, TrainableTensor, trainable_tensors};
use ls_model::input::mixed_seed;
use ls_model::{ADAPTER, AttentionMode, Checkpoint, LlamaClassifier, LlamaConfig, LlamaModel};
use serde::Serialize;

use crate::config::{Protocol, RunConfig};
use crate::dataset::{Dataset, Encoding};
use crate::environment::{Environment, peak_memory};
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, Pass, Prediction, Scores, evaluate};
use crate::inference::{FORMAT_VERSION, InferenceSettings};
use crate::loss::{cross_entropy_sum, weighted_cross_entropy_sum};
use crate::memory::expected_memory;
use crate::optim::{adamw, clip_grad_norm, learning_rate};
use crate::predict::prediction_object;
use crate::run_dir::{MetricsLog, RunDir};
use crate::sources::{Source, Sources};
use crate::tensors::{labels as flat_labels, model_input};

/// What a run tells while it goes on. A command line shows it; a library may ignore it.
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
        /// Examples with each label (words, for tags).
        labels: Vec<(&'a str, usize)>,
        /// Sizes, and what was cut.
        cut: &'a CutReport,
        /// Messages about rows that were skipped, and how many were.
        skipped: (&'a [String], usize),
    },
    /// A tensor of the checkpoint is loaded.
    Loading {
        /// Tensors so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The model stands, with its adapters.
    Model {
        /// Trainable and all.
        parameters: ParameterCount,
        /// Names and shapes of what trains.
        trainable: Vec<TrainableTensor>,
        /// Tensors of the checkpoint that nothing uses.
        surplus: Vec<String>,
    },
    /// What is about to happen.
    Plan {
        /// Optimizer steps.
        steps: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Passes over the data.
        epochs: usize,
        /// Estimated peak memory, in bytes.
        expected_memory: usize,
    },
    /// A part of the run begins: `trial evaluation`, `frozen baseline`, `training`, `test`.
    Phase(&'a str),
    /// An optimizer step is done.
    Step(&'a StepRecord),
    /// An evaluation goes on.
    Evaluating {
        /// Examples so far.
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
}

/// Hears the events of a run.
pub trait Observer {
    /// Called in the order of the run, from its thread.
    fn event(&mut self, event: &Event<'_>);
}

/// Hears nothing.
impl Observer for () {
    fn event(&mut self, _: &Event<'_>) {}
}

/// A line of `metrics.jsonl`: an optimizer step.
#[derive(Debug, Clone, Serialize)]
pub struct StepRecord {
    /// `step`.
    pub kind: &'static str,
    /// Counted from 1.
    pub step: usize,
    /// Passes over the data so far, as a fraction.
    pub epoch: f64,
    /// Mean cross-entropy of the step's labels, before the step.
    pub loss: f64,
    /// Used by this step.
    pub learning_rate: f64,
    /// Over all gradients, before clipping.
    pub grad_norm: f64,
    /// Real tokens of the step.
    pub tokens: usize,
    /// Time of the step.
    pub seconds: f64,
    /// Of it, time until the step's batches were read and padded: what a device waits for.
    pub data_seconds: f64,
}

/// A line of `metrics.jsonl`: an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationRecord {
    /// `evaluation`.
    pub kind: &'static str,
    /// Split.
    pub split: String,
    /// How its scores were taken.
    pub protocol: Protocol,
    /// Steps done.
    pub step: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// The metric that chooses the best.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Whether it is the best so far.
    pub best: bool,
    /// Scores.
    pub scores: Scores,
    /// Time of the evaluation.
    pub seconds: f64,
}

/// A finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// What is labelled.
    pub task: TaskKind,
    /// How its scores were taken.
    pub protocol: Protocol,
    /// The metric that chose the best checkpoint.
    pub metric: String,
    /// The chosen checkpoint's evaluation on the validation split.
    pub best: EvaluationRecord,
    /// Which split the scores below are of: `test`, or `validation` where there is no test split.
    pub reported_split: String,
    /// Whether that split also chose the checkpoint: by the protocol `paper`, and where no other was given.
    pub reported_split_chose: bool,
    /// The name that the reported split was published under, where that is another: SST-2's and Twitter's `validation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_split: Option<&'static str>,
    /// The form that a known data set was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Of the best checkpoint.
    pub loss: f64,
    /// Of the best checkpoint.
    pub scores: Scores,
    /// Baselines on the same split.
    pub baselines: Vec<Baseline>,
    /// Sizes of the splits, and what was cut of them.
    pub cut: BTreeMap<String, CutReport>,
    /// Parameters.
    pub trainable_parameters: usize,
    /// Parameters.
    pub all_parameters: usize,
    /// Optimizer steps done.
    pub steps: usize,
    /// Time in steps.
    pub train_seconds: f64,
    /// Real tokens trained on, a second.
    pub tokens_per_second: f64,
    /// Highest resident memory of the process, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The run folder.
    pub run: PathBuf,
}

/// A baseline's scores.
#[derive(Debug, Clone, Serialize)]
pub struct Baseline {
    /// `majority class`, `frozen backbone`.
    pub name: String,
    /// Scores on the reported split.
    pub scores: Scores,
}

/// A run: trains, keeps the best checkpoint, scores it once, and leaves everything in `run`.
///
/// # Errors
///
/// If the folder is in use, or the model or the data cannot be used, or the loss stops being a number.
pub fn train(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let metric = config.metric().to_string();
    let run = RunDir::create(run)?;
    let checkpoint = Checkpoint::open(&config.model.path)?;
    let mut config = config.clone();
    config.run = Some(run.root().to_path_buf());
    absolute_paths(&mut config);
    let attention = config
        .model
        .attention
        .get_or_insert_with(|| checkpoint.config.attention())
        .clone();
    if config.task == TaskKind::Sequence {
        config.model.pooling = Some(config.pooling());
    } else {
        config
            .model
            .classifier_dropout
            .get_or_insert(checkpoint.config.classifier_dropout);
    }
    config.train.metric_for_best_model = Some(metric.clone());
    config.resolve();
    let sources = Sources::of(&config)?;
    let config = &config;
    let resolved = config.to_toml()?;
    let mut lora = config.lora.config();
    lora.base_model_name_or_path = Some(config.model.path.display().to_string());
    // Its heads train too.
    lora.task_type = Some(match config.task {
        TaskKind::Sequence => TaskType::SeqCls,
        TaskKind::Token => TaskType::TokenCls,
    });
    checkpoint.check_settings(&attention, &lora)?;
    let tokenizer = TextTokenizer::from_dir(&config.model.path)?;
    let encoding = Encoding {
        tokenizer: &tokenizer,
        vocab_size: checkpoint.config.vocab_size,
        limits: config.limits(&attention),
        label_position: config.data.label_position,
    };
    let splits = Splits::read(config, &sources, encoding, observer)?;
    let settings = inference_settings(config, attention.clone(), &tokenizer, splits.labels.clone());

    let plain = device.clone().without_autodiff();
    let backbone = checkpoint.load_model(
        &attention,
        config.model.precision(),
        &plain,
        |done, total| {
            observer.event(&Event::Loading { done, total });
        },
    )?;
    let task = settings.model_task(&checkpoint.config, config.model.classifier_dropout);
    let context = Context {
        config,
        model_config: &checkpoint.config,
        settings: &settings,
        labels: &splits.labels,
        train: &splits.train,
        validation: &splits.validation,
        device: &plain,
        metric: &metric,
    };
    let (reported_split, reported) = match &splits.test {
        Some(test) => ("test", test),
        None => ("validation", &splits.validation),
    };

    let model = fresh_model(backbone.clone(), &context, task, Some(&lora))?;
    let parameters = ParameterCount::of(&model);
    observer.event(&Event::Model {
        parameters,
        trainable: trainable_tensors(&model),
        surplus: checkpoint.surplus(),
    });
    let steps_per_epoch = context.steps_per_epoch();
    observer.event(&Event::Plan {
        steps: steps_per_epoch * config.train.epochs,
        steps_per_epoch,
        epochs: config.train.epochs,
        expected_memory: expected_memory(
            config,
            &checkpoint.config,
            checkpoint.num_parameters(),
            splits.train.lengths(),
            parameters.trainable,
            device,
        ),
    });

    observer.event(&Event::Phase("trial evaluation"));
    trial(&model, &context, &splits)?;

    // Not before: what fails until here leaves the folder empty, free for the next try.
    let mut log = MetricsLog::create(run.metrics())?;
    run.write(&run.config(), &resolved)?;
    run.write_json(
        &run.environment(),
        &Environment::capture(config, device, &sources.files())?,
    )?;

    let mut baselines = Vec::new();
    if config.train.baselines {
        baselines.push(majority(&splits, reported, config.data.protocol)?);
        observer.event(&Event::Phase("frozen baseline"));
        let frozen = fresh_model(backbone, &context, task, None)?;
        let fitted = fit(frozen, &context, observer, None, &mut |_, _| Ok(()))?;
        let evaluation = evaluate(
            &fitted.best_model,
            reported,
            &splits.labels,
            context.pass(),
            |_| (),
        )?;
        baselines.push(Baseline {
            name: "frozen backbone".into(),
            scores: evaluation.scores,
        });
    }

    observer.event(&Event::Phase("training"));
    let mut save = |model: &LlamaClassifier, _: &EvaluationRecord| {
        run.replace_best(|dir| {
            save_adapter(model, &lora, &settings, dir)?;
            tokenizer.copy_to(dir)?;
            Ok(settings.labels.save(&dir.join("labels.json"))?)
        })
    };
    let fitted = fit(model, &context, observer, Some(&mut log), &mut save)?;

    observer.event(&Event::Phase(reported_split));
    let total = reported.lengths().len();
    let evaluation = evaluate(
        &fitted.best_model,
        reported,
        &splits.labels,
        context.pass(),
        |done| {
            observer.event(&Event::Evaluating { done, total });
        },
    )?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        task: config.task,
        protocol: config.data.protocol,
        metric: metric.clone(),
        best: fitted.best,
        reported_split: reported_split.into(),
        reported_split_chose: sources.reported_split_chose(),
        published_split: sources.published,
        form: sources.form,
        loss: evaluation.loss,
        scores: evaluation.scores,
        baselines,
        cut: splits.cut(),
        trainable_parameters: parameters.trainable,
        all_parameters: parameters.all,
        steps: fitted.steps,
        train_seconds: fitted.seconds,
        tokens_per_second: fitted.tokens as f64 / fitted.seconds.max(1e-9),
        peak_memory: peak_memory(),
        run: run.root().to_path_buf(),
    };
    run.write_json(&run.report(), &report)?;
    let source = match reported_split {
        "test" => sources.test.as_ref(),
        _ => sources.validation.as_ref(),
    };
    let source = &source.unwrap_or(&sources.train).split;
    let write = |keep_extra: bool| {
        run.write_lines(&run.predictions(), |write| {
            let labels = &splits.labels;
            write_predictions(
                reported,
                source,
                keep_extra,
                &evaluation.predictions,
                labels,
                write,
            )
        })
    };
    // A row of which the wanted keys can be read may have others that cannot.
    write(true).or_else(|_| write(false))?;
    Ok(report)
}

/// The splits of a run, ready for the model.
pub struct Splits {
    /// To learn from.
    pub train: Dataset,
    /// To choose the best checkpoint by.
    pub validation: Dataset,
    /// To report.
    pub test: Option<Dataset>,
    /// Of all three.
    pub labels: LabelSet,
}

impl Splits {
    /// What was cut, by split.
    fn cut(&self) -> BTreeMap<String, CutReport> {
        let test = self.test.as_ref().map(|test| ("test", test));
        let splits = [("train", &self.train), ("validation", &self.validation)];
        let splits = splits.into_iter().chain(test);
        splits
            .map(|(name, split)| (name.to_string(), split.cut))
            .collect()
    }

    /// Reads and tokenises the splits of a configuration. Without a validation split a part of the training split is set
    /// aside, in equal shares of each class, by the seed.
    ///
    /// # Errors
    ///
    /// If a file or a row of one cannot be used.
    pub fn read(
        config: &RunConfig,
        sources: &Sources,
        encoding: Encoding<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let cache = config.data.cache.then(ls_data::default_cache).flatten();
        let read = |source: &Source| {
            Dataset::encode(&source.split, config.task, encoding, cache.as_deref())
        };
        let train = read(&sources.train)?;
        let labels = match &sources.labels {
            Some(names) => LabelSet::from_names(names.clone())?,
            None => train.label_set()?,
        };
        let train = train.with_labels(&labels)?;
        let (train, validation) = match &sources.validation {
            Some(source) => (train, read(source)?.with_labels(&labels)?),
            None => set_aside(&train, config)?,
        };
        let test = match &sources.test {
            // By the paper's protocol they are the same.
            Some(test) if Some(test) == sources.validation.as_ref() => Some(validation.clone()),
            Some(test) => Some(read(test)?.with_labels(&labels)?),
            None => None,
        };
        let splits = [
            ("train", Some(&train), Some(&sources.train)),
            ("validation", Some(&validation), sources.validation.as_ref()),
            ("test", test.as_ref(), sources.test.as_ref()),
        ];
        for (split, dataset, source) in splits {
            let Some(dataset) = dataset else { continue };
            let counts = dataset.label_counts(labels.len())?;
            let names = labels.names().iter().map(String::as_str);
            let expected = source.and_then(|source| source.expected);
            observer.event(&Event::Data {
                split,
                files: dataset.files(),
                // A part that was set aside counts with what it was taken from.
                expected: expected.filter(|expected| *expected != dataset.len_of_split()),
                labels: names.zip(counts).collect(),
                cut: &dataset.cut,
                skipped: dataset.skipped(),
            });
        }
        Ok(Self {
            train,
            validation,
            test,
            labels,
        })
    }
}

/// Parts the training examples into those that train and those that choose the best checkpoint:
/// `data.validation_fraction` of them, in equal shares of each class, by the run's seed.
///
/// # Errors
///
/// If either part is empty.
pub fn set_aside(train: &Dataset, config: &RunConfig) -> Result<(Dataset, Dataset)> {
    let strata = train.strata()?;
    let fraction = config.data.validation_fraction;
    let (rest, part) = split_off(train.len(), fraction, config.train.seed, strata.as_deref());
    if rest.is_empty() || part.is_empty() {
        let split = if part.is_empty() {
            "validation"
        } else {
            "train"
        };
        return Err(TrainError::EmptySplit {
            split: split.into(),
        });
    }
    Ok((train.part(&rest)?, train.part(&part)?))
}

/// The answers for a split as JSON lines: its files are read again, since texts are not kept.
fn write_predictions(
    dataset: &Dataset,
    source: &SplitSource,
    keep_extra: bool,
    predictions: &[Prediction],
    labels: &LabelSet,
    write: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut source = source.clone();
    source.read.sequence.keep_extra = keep_extra;
    source.read.tokens.keep_extra = keep_extra;
    dataset.for_each_example(&source, |index, example| {
        let gold = dataset.gold(index)?;
        let object = prediction_object(example, &gold, &predictions[index], labels);
        write(&object.to_string())
    })
}

/// What the loop needs besides the model.
struct Context<'a> {
    config: &'a RunConfig,
    model_config: &'a LlamaConfig,
    settings: &'a InferenceSettings,
    labels: &'a LabelSet,
    train: &'a Dataset,
    validation: &'a Dataset,
    /// Without autodiff.
    device: &'a Device,
    metric: &'a str,
}

impl Context<'_> {
    fn steps_per_epoch(&self) -> usize {
        let settings = &self.config.train;
        self.train
            .lengths()
            .len()
            .div_ceil(settings.micro_batch_size)
            .div_ceil(settings.gradient_accumulation_steps)
    }

    /// Evaluation with the run's settings.
    fn pass(&self) -> Pass<'_> {
        Pass {
            config: self.model_config,
            settings: self.settings,
            batch_size: self.config.train.eval_batch_size,
            protocol: self.config.data.protocol,
            device: self.device,
        }
    }
}

/// A head, and adapters if wanted, on the frozen backbone, all drawn from the run's seed.
fn fresh_model(
    backbone: LlamaModel,
    context: &Context<'_>,
    task: ls_model::Task,
    lora: Option<&LoraConfig>,
) -> Result<LlamaClassifier> {
    let training = context.device.clone().autodiff();
    training.seed(context.config.train.seed);
    let mut model = LlamaClassifier::new(
        backbone,
        context.model_config,
        task,
        context.labels.len(),
        &training,
    );
    if let Some(lora) = lora {
        ls_lora::add_adapter(&mut model, ADAPTER, lora, &training)?;
    }
    Ok(model)
}

/// What a fit leaves.
struct Fitted {
    /// Off the graph.
    best_model: LlamaClassifier,
    best: EvaluationRecord,
    steps: usize,
    tokens: usize,
    seconds: f64,
}

/// The loop: epochs of optimizer steps, each over `gradient_accumulation_steps` passes, with evaluations between.
///
/// `keep` is called with every model that is the best so far.
fn fit(
    mut model: LlamaClassifier,
    context: &Context<'_>,
    observer: &mut dyn Observer,
    mut log: Option<&mut MetricsLog>,
    keep: &mut dyn FnMut(&LlamaClassifier, &EvaluationRecord) -> Result<()>,
) -> Result<Fitted> {
    let settings = &context.config.train;
    let options = context
        .settings
        .batch_options(settings.micro_batch_size, settings.group_by_length);
    let lengths = context.train.lengths();
    let steps_per_epoch = context.steps_per_epoch();
    let total_steps = steps_per_epoch * settings.epochs;
    let mut optimizer = adamw(settings);
    let mut best: Option<(LlamaClassifier, EvaluationRecord)> = None;
    let (mut step, mut tokens, mut seconds, mut without_better) = (0, 0, 0.0, 0);

    'epochs: for epoch in 0..settings.epochs {
        let order = epoch_order(lengths, &options, settings.seed, epoch);
        for micro_batches in order.chunks(settings.gradient_accumulation_steps) {
            let started = Instant::now();
            let rate = learning_rate(settings, step, total_steps);
            step += 1;
            // Dropout draws from the device's generator, whose state cannot be saved: each step has its own.
            let seed = mixed_seed(settings.seed, step);
            let outcome = backward(&model, context, micro_batches, &options, seed)?;
            let not_finite = |quantity, value| TrainError::NotFinite {
                quantity,
                value,
                step,
                examples: context.train.place(&micro_batches.concat()),
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
                evaluate_validation(&evaluated, context, step, steps_per_epoch, observer).map_err(
                    |error| match error {
                        TrainError::OutputNotFinite { value, examples } => TrainError::NotFinite {
                            quantity: "an output in the evaluation",
                            value,
                            step,
                            examples,
                        },
                        error => error,
                    },
                )?;
            record.best = best
                .as_ref()
                .is_none_or(|(_, best)| better(context.metric, record.value, best.value));
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

/// Loss and gradients of one optimizer step. Every label that counts weighs the same, whichever pass it is in; the windows of
/// a long text share its weight. `seed` fixes dropout.
fn backward(
    model: &LlamaClassifier,
    context: &Context<'_>,
    micro_batches: &[Vec<usize>],
    options: &ls_data::BatchOptions,
    seed: u64,
) -> Result<Outcome> {
    let train = context.train;
    let windowed = !train.is_words() && train.cut.windowed_examples > 0;
    let started = Instant::now();
    let batches: Vec<_> = micro_batches
        .iter()
        .map(|inputs| {
            let weights = match windowed {
                true => inputs.iter().map(|input| train.weight(*input)).collect(),
                false => Ok(Vec::new()),
            };
            Ok((train.batch(inputs, options)?, weights?))
        })
        .collect::<Result<_>>()?;
    let data_seconds = started.elapsed().as_secs_f64();
    let weight = |(batch, weights): &(ls_data::Batch, Vec<f64>)| match windowed {
        true => weights.iter().sum(),
        false => batch.counted_labels() as f64,
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
            let sum = match windowed {
                true => weighted_cross_entropy_sum(logits, &labels, weights),
                false => cross_entropy_sum(logits, &labels),
            };
            sum.div_scalar(count)
        };
        let (batch_loss, gradients) = match context.config.train.gradient_checkpointing {
            true => model.backward_checkpointed(&input, loss_of),
            false => {
                let loss = loss_of(model.forward(&input));
                let gradients = GradientsParams::from_grads(loss.backward(), model);
                (loss, gradients)
            }
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

fn evaluate_validation(
    model: &LlamaClassifier,
    context: &Context<'_>,
    step: usize,
    steps_per_epoch: usize,
    observer: &mut dyn Observer,
) -> Result<EvaluationRecord> {
    let started = Instant::now();
    let total = context.validation.lengths().len();
    let evaluation: Evaluation = evaluate(
        model,
        context.validation,
        context.labels,
        context.pass(),
        |done| {
            observer.event(&Event::Evaluating { done, total });
        },
    )?;
    Ok(EvaluationRecord {
        kind: "evaluation",
        split: "validation".into(),
        protocol: context.config.data.protocol,
        step,
        epoch: step as f64 / steps_per_epoch as f64,
        loss: evaluation.loss,
        metric: context.metric.into(),
        value: evaluation.get(context.metric).unwrap_or(f64::NAN),
        best: false,
        scores: evaluation.scores,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether a value of the metric beats another. Of `loss` less is more; NaN beats nothing.
fn better(metric: &str, value: f64, best: f64) -> bool {
    best.is_nan()
        || if metric == "loss" {
            value < best
        } else {
            value > best
        }
}

/// Runs the longest batch of each split once, so that what would fail in an evaluation fails now.
fn trial(model: &LlamaClassifier, context: &Context<'_>, splits: &Splits) -> Result<()> {
    let model = model.valid();
    for dataset in [Some(&splits.validation), splits.test.as_ref()]
        .into_iter()
        .flatten()
    {
        let lengths = dataset.lengths();
        let order = ls_data::sequential_order(lengths, context.config.train.eval_batch_size, true);
        if let Some(longest) = order.first() {
            let options = context
                .settings
                .batch_options(context.config.train.eval_batch_size, true);
            let batch = dataset.batch(longest, &options)?;
            let logits = model.forward(&model_input(&batch, context.model_config, context.device)?);
            let values = ls_lora::host_values(logits);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let (value, examples) = (f64::from(*value), dataset.place(longest));
                return Err(TrainError::OutputNotFinite { value, examples });
            }
        }
    }
    Ok(())
}

/// Scores of always answering the training split's commonest label.
fn majority(splits: &Splits, reported: &Dataset, protocol: Protocol) -> Result<Baseline> {
    let counts = splits.train.label_counts(splits.labels.len())?;
    let commonest = (0..counts.len())
        .rev()
        .max_by_key(|&label| counts[label])
        .unwrap_or(0);
    let scores = crate::evaluate::score_constant(reported, commonest, &splits.labels, protocol)?;
    Ok(Baseline {
        name: "majority class".into(),
        scores,
    })
}

fn inference_settings(
    config: &RunConfig,
    attention: AttentionMode,
    tokenizer: &TextTokenizer,
    labels: LabelSet,
) -> InferenceSettings {
    let pad = tokenizer.pad_token();
    let limits = config.limits(&attention);
    InferenceSettings {
        format_version: FORMAT_VERSION,
        task: config.task,
        labels,
        attention,
        pooling: (config.task == TaskKind::Sequence).then(|| config.pooling()),
        max_length: limits.max_length,
        long_inputs: limits.long_inputs,
        stride: config.data.stride,
        label_position: config.data.label_position,
        padding: config.data.padding.unwrap_or_default(),
        padding_side: config.data.padding_side,
        pad_to: config.data.pad_to,
        pad_token_id: pad.id,
        pad_token: pad.token.clone(),
        base_model: config.model.path.clone(),
        dtype: config.model.dtype,
        quantization: config.model.quantization,
        batch_size: config.train.eval_batch_size,
    }
}

/// The PEFT folder with the head in it, and own settings beside it.
fn save_adapter(
    model: &LlamaClassifier,
    lora: &LoraConfig,
    settings: &InferenceSettings,
    dir: &Path,
) -> Result<()> {
    model
        .to_adapter(lora)
        .save_with_card(dir, &crate::card::model_card(settings, lora))?;
    settings.save(dir)
}

/// So that the resolved configuration means the same from any folder.
fn absolute_paths(config: &mut RunConfig) {
    let data = &mut config.data;
    if let Some(known) = data.known() {
        data.dir.get_or_insert_with(|| known.default_dir());
        if let Some(file) = &known.file
            && let Ok(absolute) = std::path::absolute(file)
        {
            data.dataset = Some(absolute.to_string_lossy().into_owned());
        }
    }
    let files = [&mut data.train, &mut data.validation, &mut data.test];
    let files = files
        .into_iter()
        .flatten()
        .flat_map(|files| files.paths_mut());
    let others = [
        Some(&mut config.model.path),
        data.dir.as_mut(),
        config.run.as_mut(),
    ];
    for path in files.chain(others.into_iter().flatten()) {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
}

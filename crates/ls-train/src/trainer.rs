//! A training run, from files to a scored best checkpoint. `fit.rs` holds its loop.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use ls_data::{NoLabel, TextTokenizer};
use ls_files::{FileError, Hashed, exists, write_atomic};
use ls_lora::{LoraConfig, ParameterCount, TrainableTensor, trainable_tensors};
use ls_model::{ADAPTER, Checkpoint, LlamaClassifier, LlamaModel, Trained};

use crate::checkpoint::{self, Saved, State};
use crate::config::{MicroBatchSize, RunConfig};
use crate::context::{Context, stop_if_asked};
use crate::environment::Environment;
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, Pass, evaluate, full_in_evaluation, not_finite, score_constant};
use crate::events::{EvaluationRecord, Event, Observer};
use crate::fit::{Fitted, Journal, fit};
use crate::identity::Identity;
use crate::inference::InferenceSettings;
use crate::largest::Largest;
use crate::loss::Objective;
use crate::memory::{fitting_pass, is_host};
use crate::opened::Opened;
use crate::out_of_memory::{advice, caught, gigabytes};
use crate::prediction::{prediction_object, with_tag_scores};
use crate::read_files::ReadFiles;
use crate::report::Report;
use crate::resume::Earlier;
use crate::run_dir::{MetricsLog, RunDir};
use crate::saver::Saver;
use crate::schedule::learning_rate;
use crate::scores::Baseline;
use crate::shared::{BeforeWeights, DecoderOf, Shared};
use crate::sources::Sources;
use crate::splits::Splits;
use crate::tensorboard::TensorBoard;
use crate::tensors::model_input;
use crate::whole;

/// A run: trains, keeps the best checkpoint, scores it once, and leaves everything in `run`.
///
/// # Errors
///
/// If the folder is in use, the model or the data cannot be used, or the loss is NaN or infinite;
/// [`TrainError::Interrupted`] if the observer asked to stop.
pub fn train(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Report> {
    begin(config, run, device, &mut Shared::default(), observer)
}

/// Sees that a run can begin in a folder, as [`train`] does.
///
/// # Errors
///
/// If the folder is in use, or holds something.
pub fn check_free(run: &Path) -> Result<()> {
    RunDir::at(run).check_free()
}

/// As [`train`], with what other runs of the process have.
fn begin(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    shared: &mut Shared,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let missing = missing_folders(run);
    let folder = RunDir::create(run)?;
    let held = folder.hold()?;
    let result = carry_out(config, &folder, None, device, shared, observer);
    drop(held);
    if result.is_err() {
        // What was refused leaves nothing; a folder that holds something stays.
        let made = missing.iter();
        made.take_while(|folder| std::fs::remove_dir(folder).is_ok())
            .for_each(drop);
    }
    result
}

/// A folder and those above it, as far as they are not there.
fn missing_folders(folder: &Path) -> Vec<PathBuf> {
    let above = folder.ancestors();
    let missing = above.take_while(|folder| matches!(exists(folder), Ok(false)));
    missing.map(Path::to_path_buf).collect()
}

/// Goes on with a run that was interrupted or killed: on a CPU everything that it leaves, times
/// aside, is what it would have been without. A run that was killed before its first checkpoint
/// starts over; a folder that nothing was begun in gets a new run.
///
/// `config` may differ from the run's own ([`config_of_run`]) in what changes nothing that is done:
/// how long to train, when to evaluate and to save. A finished run goes on if it is to train
/// longer.
///
/// [`config_of_run`]: crate::config_of_run
///
/// # Errors
///
/// As [`train`]; if the run is finished or another process has it; if the configuration, the data,
/// the tokenizer or the model's weights are not those that it began with.
pub fn resume(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let folder = RunDir::at(run);
    if folder.is_free()? {
        observer.event(&Event::Note("no run in the folder yet: it begins"));
        return train(config, run, device, observer);
    }
    let earlier = Earlier::open(&folder)?;
    let shared = &mut Shared::default();
    carry_out(config, &folder, Some(earlier), device, shared, observer)
}

/// Begins a run, or goes on with it, with what other runs of the process have.
///
/// # Errors
///
/// As [`train`] and [`resume`].
pub(crate) fn begin_or_go_on(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    shared: &mut Shared,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let folder = RunDir::at(run);
    if folder.is_free()? {
        return begin(config, run, device, shared, observer);
    }
    let earlier = Earlier::open(&folder)?;
    carry_out(config, &folder, Some(earlier), device, shared, observer)
}

/// A run from its beginning, or from where an earlier process left it.
fn carry_out(
    config: &RunConfig,
    folder: &RunDir,
    earlier: Option<Earlier>,
    device: &Device,
    shared: &mut Shared,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let checkpoint = Checkpoint::open(&config.model.path)?;
    tracing::debug!(
        "{}: a decoder of {} parameters",
        config.model.path.display(),
        checkpoint.num_parameters()
    );
    let mut config = config.clone();
    config.run = Some(folder.root().to_path_buf());
    if let Some(earlier) = &earlier {
        earlier.settle(&mut config);
    }
    let run = config.resolve(&checkpoint.config);
    if let Some(earlier) = &earlier {
        for change in earlier.changes(folder, &run.config)? {
            observer.event(&Event::Note(&format!("from here on: {change}")));
        }
    }
    let mut opened = Opened::of(run, checkpoint, observer)?;
    // It may take minutes: what is wrong with the settings is said by now.
    let hashed = opened.run.config.model.hash_weights;
    let weights = opened.checkpoint.fingerprint(hashed)?;
    let identity = opened.identity(weights.clone());
    see_inputs(shared, &opened, &identity)?;
    let saved = match &earlier {
        Some(earlier) => earlier.checkpoint(folder, &identity, &opened.read)?,
        None => None,
    };
    let splits = opened.splits(shared, observer)?;
    let old_head = opened.old_head(&weights)?;
    let concerns = match &saved {
        Some(_) => Vec::new(),
        None => opened.concerns(&weights)?,
    };
    let Opened {
        mut run,
        checkpoint,
        model_config,
        begun,
        sources,
        read,
        tokenizer,
        tokenizer_dir,
        ..
    } = opened;
    if let (Some(earlier), Some(saved)) = (&earlier, &saved) {
        earlier.settle_passes(&saved.state, &mut run.config);
    }
    let (labels, tags) = (splits.labels.clone(), splits.tags);
    let kept = old_head.map(|head| head.kept(&labels, run.config.problem()));
    if saved.is_none() {
        for concern in concerns {
            tracing::warn!("{concern}");
        }
        for (field, part) in &checkpoint.config.dropout_not_applied {
            tracing::warn!(
                "{}: {field} {part} is not applied: no dropout is, inside the layers; \
                 lora.lora_dropout and model.classifier_dropout are",
                checkpoint.dir.join("config.json").display()
            );
        }
        let notes = begun.as_ref().map(|begun| begun.notes(&run));
        let said = kept.as_ref().map(|kept| &kept.said);
        for note in notes.iter().flatten().chain(said) {
            observer.event(&Event::Note(note));
        }
    }
    let settings = InferenceSettings::of_run(&run, &checkpoint, &tokenizer, labels, tags, weights);
    let problem = settings.problem();
    let objective = Objective::of_run(&run.config.train, problem, &settings.labels, &splits.train)?;
    let plain = device.clone().without_autodiff();
    let mut context = Context::of(&run, &model_config, &settings, &splits, &objective, &plain);
    context.resumed = saved
        .as_ref()
        .map(|saved| (saved.state.step, saved.state.steps));
    if let Some(saved) = &saved {
        check_steps(&context, &saved.state)?;
        tell_schedule(&context, &saved.state, observer);
    }
    stop_if_asked(observer, &context)?;

    // Before the weights are a part of what is taken.
    let before = shared.before_weights();
    let of = DecoderOf {
        path: run.config.model.path.clone(),
        config_sha256: identity.model_config.clone(),
        weights: identity.weights.clone(),
        precision: run.precision.clone(),
    };
    let backbone = shared.decoder(of, || load_backbone(&checkpoint, &context, observer))?;
    let backbone = backbone.with_attention(&checkpoint.config, &run.attention)?;
    let to_compare = run.config.train.baselines && saved.is_none();
    let to_compare = to_compare.then(|| backbone.clone());
    let mut model = with_new_head(backbone, &context);
    let began_from = kept.map(|kept| kept.put(&mut model)).transpose()?;
    let model = match (begun, &run.lora) {
        (Some(begun), Some(lora)) => begun.place(model, lora, &device.clone().autodiff())?,
        (_, lora) => to_train(model, &context, lora.as_ref(), &run.trained)?,
    };
    let parameters = ParameterCount::of(&model);
    observer.event(&Event::model(&model, parameters, &checkpoint));
    let context = with_room(context, &trainable_tensors(&model), before, observer);
    let (steps_per_epoch, memory) = (context.steps_per_epoch(), context.expected_memory);
    observer.event(&Event::plan(&run, steps_per_epoch, memory));
    stop_if_asked(observer, &context)?;
    observer.event(&Event::Phase("trial evaluation"));
    trial(&model, &context)?;

    // Not before: what fails until here leaves the folder empty, free for the next try, or as an
    // earlier process left it.
    let mut log = claim(folder, earlier, saved.as_ref(), observer)?;
    folder.write(&folder.config(), &as_it_runs(&context)?)?;
    if saved.is_none() {
        let tokenizer = (&tokenizer, tokenizer_dir.as_path());
        let environment = Environment::capture(&run.config, device, &read, &checkpoint, tokenizer);
        folder.write_json(&folder.environment(), &environment)?;
    }

    let baselines = match (&saved, to_compare) {
        (Some(saved), _) => saved.state.baselines.clone(),
        (None, Some(backbone)) => baselines(backbone, &context, observer)?,
        (None, None) => Vec::new(),
    };
    observer.event(&Event::Phase("training"));
    let name_of_device = format!("{device:?}");
    if let Some(saved) = &saved {
        tell_where(&saved.state, &name_of_device, &context, observer);
    }
    let wanted = run.config.train.tensorboard;
    let from = saved.as_ref().map(|saved| &saved.state);
    let board = wanted.then(|| TensorBoard::begin(folder, from)).flatten();
    let mut keep = |model: &LlamaClassifier, record: &EvaluationRecord| {
        save_best(folder, model, record, &context, &checkpoint, &tokenizer)
    };
    let journal = Journal {
        log: &mut log,
        board,
        saver: Saver::new(folder.checkpoints(), &run.config.train, context.resumed),
        keep: &mut keep,
        identity: &identity,
        baselines: &baselines,
        name_of_device,
    };
    let fitted = fit(model, &context, observer, Some(journal), saved)?;
    let evaluation = score_reported(&fitted, &context, observer)?;
    let mut report = Report::new(&context, &sources, &fitted, &evaluation, parameters)?;
    report.baselines = baselines;
    report.began_from = began_from;
    report.run = folder.root().to_path_buf();
    // Extra keys of a row may be unreadable where the wanted ones are not: then they are left out.
    let predictions = write_predictions(folder, &context, &sources, &read, &evaluation, true)
        .or_else(|_| write_predictions(folder, &context, &sources, &read, &evaluation, false));
    if let Err(error @ TrainError::File(FileError::Write { .. })) = predictions {
        // The run is not finished: it can go on when there is room.
        return Err(error);
    }
    // A checkpoint is only needed to train longer.
    if let Err(error) = checkpoint::remove(&folder.checkpoints(), |rank, _| rank > 0) {
        tracing::warn!("an old checkpoint stays: {error}");
    }
    if run.config.train.report {
        write_page(folder, &report);
    }
    folder.write_json(&folder.report(), &report)?;
    predictions.map_err(|error| TrainError::NoPredictions {
        run: folder.root().to_path_buf(),
        split: splits.reported().0,
        source: Box::new(error),
    })?;
    Ok(report)
}

/// Sees that what a run reads is what the runs before it read.
fn see_inputs(shared: &mut Shared, opened: &Opened, identity: &Identity) -> Result<()> {
    for (path, sha256) in opened.read.sha256() {
        shared.see(path, sha256)?;
    }
    let model = opened.run.config.model.path.display();
    let of_model = |what: &str| format!("{model} ({what})");
    let of_tokenizer = format!("{} (tokenizer)", opened.tokenizer_dir.display());
    let weights = &identity.weights;
    let hashed = match weights.hashed {
        Hashed::Whole => "weights",
        Hashed::Sample => "sample of the weights",
    };
    shared.see(of_model("config.json"), identity.model_config.clone())?;
    shared.see(of_tokenizer, identity.tokenizer.clone())?;
    shared.see(of_model(hashed), weights.sha256.clone())
}

/// Takes the folder for the training: what an earlier process did behind the checkpoint is undone,
/// as it is done again.
fn claim(
    folder: &RunDir,
    earlier: Option<Earlier>,
    saved: Option<&Saved>,
    observer: &mut dyn Observer,
) -> Result<MetricsLog> {
    let Some(earlier) = earlier else {
        return MetricsLog::create(folder.metrics());
    };
    if saved.is_none() {
        observer.event(&Event::Note(
            "the run was ended before its first checkpoint: it starts over",
        ));
    }
    if earlier.finished {
        folder.unfinish()?;
    }
    let step = saved.map_or(0, |saved| saved.state.step);
    checkpoint::set_aside(&folder.checkpoints(), step)?;
    let mut log = earlier.log;
    let recorded = saved.map_or(0, |saved| saved.state.metrics_bytes);
    if recorded > 0 && log.bytes() == 0 {
        observer.event(&Event::Note(&format!(
            "the records of the steps up to {step} are gone: metrics.jsonl begins behind them"
        )));
    }
    log.cut(recorded.min(log.bytes()))?;
    Ok(log)
}

/// The configuration with the size of a pass that was chosen, so that it is chosen once: who starts
/// over, or begins the same run elsewhere, gets the same numbers.
fn as_it_runs(context: &Context<'_>) -> Result<String> {
    let mut config = context.run.config.clone();
    if config.train.micro_batch_size == MicroBatchSize::Auto {
        config.train.pass_size = Some(context.pass_size);
    }
    config.to_toml()
}

/// Says what another number of steps does to the learning rate, unless the steps that are done had
/// the rates that they would have: then it is one schedule.
fn tell_schedule(context: &Context<'_>, state: &State, observer: &mut dyn Observer) {
    let train = &context.run.config.train;
    let (done, was, is) = (
        state.step,
        state.steps,
        context.steps_per_epoch() * train.epochs,
    );
    let same = |step| learning_rate(train, step, was) == learning_rate(train, step, is);
    if (0..done).all(same) {
        return;
    }
    observer.event(&Event::Note(&format!(
        "the learning rates are those of another schedule from here on, of {is} steps instead of \
         {was}: that of the next step is {:.2e} instead of {:.2e}. A run that began with train.epochs = \
         {} ends in another model",
        learning_rate(train, done, is),
        learning_rate(train, done, was),
        train.epochs,
    )));
}

/// Whether the data make the labels and steps of a checkpoint, and it is not past the last.
fn check_steps(context: &Context<'_>, state: &State) -> Result<()> {
    let mut differences = Vec::new();
    let mut check = |what: &str, was: String, is: String| {
        if was != is {
            differences.push(format!("{what} was {was}, is {is}"));
        }
    };
    let labels = context.splits.labels.names();
    check(
        "the list of labels",
        state.labels.join(", "),
        labels.join(", "),
    );
    let steps_per_epoch = context.steps_per_epoch();
    let steps = [state.steps_per_epoch, steps_per_epoch].map(|steps| steps.to_string());
    let [was, is] = steps;
    check("the number of steps in an epoch", was, is);
    let epochs = context.run.config.train.epochs;
    if differences.is_empty() && state.step > steps_per_epoch * epochs {
        differences.push(format!(
            "{} steps are done, more than train.epochs = {epochs} has",
            state.step
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let path = context.run_folder();
    Err(TrainError::Differs { path, differences })
}

/// Says where the training goes on, and what may make the numbers others than they would have been.
fn tell_where(state: &State, device: &str, context: &Context<'_>, observer: &mut dyn Observer) {
    let (was, version) = (&state.ls_llama, env!("CARGO_PKG_VERSION"));
    let changes = [
        (
            state.device != device,
            format!("it ran on {}, and runs on {device}", state.device),
        ),
        (
            was != version,
            format!("version {was} began it, and {version} goes on"),
        ),
    ];
    if state.pass_size != context.pass_size {
        observer.event(&Event::Note(&format!(
            "passes of {} inputs instead of {}: the same examples in each step, but what follows \
             is not to the bit what it would have been, as sums and dropout masks are others",
            context.pass_size, state.pass_size
        )));
    }
    for (changed, what) in changes {
        if changed {
            observer.event(&Event::Note(&format!(
                "{what}: what follows may differ in the last digits from a run in one piece"
            )));
        }
    }
    observer.event(&Event::Resumed {
        step: state.step,
        steps: context.steps_per_epoch() * context.run.config.train.epochs,
        best: state.best.as_ref(),
    });
}

/// The decoder of a checkpoint, frozen.
pub(crate) fn load_backbone(
    checkpoint: &Checkpoint,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<LlamaModel> {
    let run = context.run;
    let loading = |done, total| observer.event(&Event::Loading { done, total });
    let began = Instant::now();
    let load = || {
        let precision = run.precision.clone();
        checkpoint.load_model(&run.attention, precision, context.device, loading)
    };
    let loaded = caught(load).map_err(|full| {
        let weights = "the weights of the model".into();
        // Nothing of a pass is there yet.
        full.error(weights, 0, advice(run, 1), None)
    })?;
    tracing::debug!("weights loaded in {:.1?}", began.elapsed());
    Ok(loaded?)
}

/// Counts the memory that training is expected to take, and holds it against what was there before
/// the weights were loaded: on the CPU, a size of a pass that is left to the program is chosen by
/// that. More than there is is warned of, since the system ends a program that takes too much
/// without a word.
fn with_room<'a>(
    context: Context<'a>,
    trainable: &[TrainableTensor],
    before: BeforeWeights,
    observer: &mut dyn Observer,
) -> Context<'a> {
    let host = is_host(context.device);
    let available = before.available.filter(|_| host);
    let lengths = context.splits.lengths();
    let largest = Largest::of(context.run, &lengths, context.pass_size);
    let footprint = context.footprint(trainable, &largest, host, before.resident);
    let (pass_size, _, memory) = fitting_pass(&footprint, &lengths, available);
    let (expected_memory, beside) = (memory.total(), memory.beside_program());
    if let Some(available) = available.filter(|available| beside > *available) {
        tracing::warn!(
            "training is expected to take {}, and {} are free: the system may end it; {}",
            gigabytes(beside),
            gigabytes(available),
            advice(context.run, pass_size)
        );
    }
    if pass_size < context.pass_size {
        observer.event(&Event::Note(&format!(
            "passes of {pass_size} inputs, for which there is memory: the same examples in each \
             step as in passes of {} (train.micro_batch_size = \"auto\")",
            context.pass_size
        )));
    }
    Context {
        expected_memory,
        pass_size,
        ..context
    }
}

/// Replaces the best checkpoint of a run folder: the adapter or the whole model, card, settings,
/// tokenizer and labels.
fn save_best(
    folder: &RunDir,
    model: &LlamaClassifier,
    record: &EvaluationRecord,
    context: &Context<'_>,
    checkpoint: &Checkpoint,
    tokenizer: &TextTokenizer,
) -> Result<()> {
    let mut settings = context.settings.clone();
    settings.step = Some(record.step);
    settings.calibration.clone_from(&record.calibration);
    folder.replace_best(|dir| {
        let card = |lora| crate::card::model_card(&settings, lora, &checkpoint.config, tokenizer);
        match &context.run.lora {
            Some(lora) => model
                .to_adapter(lora)
                .save_with_card(dir, &card(Some(lora)))?,
            None => {
                write_atomic(dir.join("README.md"), card(None))?;
                let config = whole::save(model, checkpoint, &settings, tokenizer, dir)?;
                settings.config_sha256 = Some(config);
            }
        }
        settings.save(dir)?;
        tokenizer.copy_to(dir)?;
        Ok(settings.labels.save(&dir.join("labels.json"))?)
    })
}

/// Scores the best model on the split that is reported.
fn score_reported(
    fitted: &Fitted,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let (name, reported) = context.splits.reported();
    observer.event(&Event::Phase(name));
    let total = reported.lengths().len();
    let labels = &context.splits.labels;
    let settings = calibrated(fitted, context);
    if context.run.config.train.temperature_scaling {
        let said = match settings.calibration.temperature {
            Some(temperature) => format!("logits are divided by a temperature of {temperature}"),
            None => {
                "no temperature was fitted: on the validation split none is best, as where every \
                     answer is right"
                    .into()
            }
        };
        observer.event(&Event::Note(&said));
    }
    let tick = |done| {
        observer.event(&Event::Evaluating { done, total });
        // After each batch, as an observer is told.
        if done > 0 {
            stop_if_asked(&*observer, context)?;
        }
        Ok(())
    };
    let pass = Pass {
        settings: &settings,
        ..context.pass()
    };
    let scored = evaluate(&fitted.best_model, reported, labels, pass, tick);
    scored.map_err(|error| match error {
        TrainError::Interrupted { run, .. } => TrainError::Interrupted {
            run,
            at: Some((fitted.steps, fitted.all_steps)),
            saved: fitted.saved,
        },
        error => error,
    })
}

/// The settings with which the best model answers.
fn calibrated(fitted: &Fitted, context: &Context<'_>) -> InferenceSettings {
    let mut settings = context.settings.clone();
    settings.calibration.clone_from(&fitted.best.calibration);
    settings
}

/// A head on the backbone, drawn from the run's seed.
pub(crate) fn with_new_head(backbone: LlamaModel, context: &Context<'_>) -> LlamaClassifier {
    LlamaClassifier::new(
        backbone,
        context.model_config,
        context.run.head,
        context.splits.labels.len(),
        context.run.config.train.seed,
        &context.device.clone().autodiff(),
    )
}

/// The model with adapters if wanted, drawn from the run's seed; without them what is `trained` of
/// the decoder trains.
pub(crate) fn to_train(
    mut model: LlamaClassifier,
    context: &Context<'_>,
    lora: Option<&LoraConfig>,
    trained: &Trained,
) -> Result<LlamaClassifier> {
    let Some(lora) = lora else {
        return Ok(ls_lora::set_trainable(
            model,
            &|name| trained.holds(name),
            true,
        ));
    };
    let training = context.device.clone().autodiff();
    let seed = context.run.config.train.seed;
    ls_lora::add_adapter(&mut model, ADAPTER, lora, seed, &training)?;
    Ok(model)
}

/// Runs the longest batch of each evaluated split once, so that what would fail in an evaluation
/// fails now.
fn trial(model: &LlamaClassifier, context: &Context<'_>) -> Result<()> {
    let model = model.valid();
    let batch_size = context.run.config.train.eval_batch_size;
    let options = context.settings.batch_options(batch_size, true);
    let splits = context.splits;
    for dataset in [&splits.validation].into_iter().chain(&splits.test) {
        let order = ls_data::sequential_order(dataset.lengths(), batch_size, true);
        if let Some(longest) = order.first() {
            let batch = dataset.batch(longest, &options)?;
            let input = model_input(
                &batch,
                context.model_config,
                context.settings.not_pooled(),
                context.device,
            )?;
            let values = caught(|| ls_lora::host_values(model.forward(&input)));
            let values = values.map_err(|full| full_in_evaluation(full, longest.len()))?;
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(not_finite(&model, dataset, context.pass(), longest, value)?);
            }
        }
    }
    Ok(())
}

/// Scores of two baselines on the reported split: the constant answer that most of the training
/// split has, and a head that is trained on the frozen backbone.
fn baselines(
    backbone: LlamaModel,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<Baseline>> {
    let Splits { train, labels, .. } = context.splits;
    let (_, reported) = context.splits.reported();
    let protocol = context.run.config.data.protocol;
    let problem = context.settings.problem();
    let constant = score_constant(reported, train, labels, problem, protocol)?;
    observer.event(&Event::Phase("frozen baseline"));
    let frozen = with_new_head(backbone, context);
    let frozen = to_train(frozen, context, None, &Trained::Head)?;
    let fitted = fit(frozen, context, observer, None, None)?;
    let total = reported.lengths().len();
    let tick = |done| {
        observer.event(&Event::Evaluating { done, total });
        // After each batch, as an observer is told.
        if done > 0 {
            stop_if_asked(&*observer, context)?;
        }
        Ok(())
    };
    let settings = calibrated(&fitted, context);
    let pass = Pass {
        settings: &settings,
        ..context.pass()
    };
    let frozen = evaluate(&fitted.best_model, reported, labels, pass, tick)?;
    Ok(vec![
        constant,
        Baseline {
            name: "frozen backbone".into(),
            scores: frozen.scores,
        },
    ])
}

/// Writes the page about a run that is finished but for its report. The run is whole without it.
fn write_page(folder: &RunDir, report: &Report) {
    if let Err(error) = ls_report::write_last_page(folder.root(), report) {
        let error = TrainError::from(error);
        tracing::warn!(
            "no page about the run: {}; `report {}` makes it",
            error.chain(),
            folder.root().display()
        );
    }
}

/// Writes the answers for the reported split as JSON lines. Its files are read again, since texts
/// are not kept.
fn write_predictions(
    folder: &RunDir,
    context: &Context<'_>,
    sources: &Sources,
    read: &ReadFiles,
    evaluation: &Evaluation,
    keep_extra: bool,
) -> Result<()> {
    let (splits, tags) = (context.splits, context.settings.tag_kind());
    let (split, dataset) = splits.reported();
    let source = match split {
        "test" => sources.test.as_ref(),
        _ => sources.validation.as_ref(),
    };
    let mut source = source.unwrap_or(&sources.train).split.clone();
    source.read.sequence.keep_extra = keep_extra;
    source.read.tokens.keep_extra = keep_extra;
    folder.write_lines(&folder.predictions(), |write| {
        let written = dataset.for_each_example(&source, |index, example| {
            let gold = dataset.example(index)?.gold;
            let prediction = &evaluation.predictions[index];
            let (labels, why) = (&splits.labels, NoLabel::Unread);
            let object = prediction_object(example, Some(&gold), prediction, labels, tags, why);
            let temperature = evaluation.calibration.temperature;
            let object = with_tag_scores(object, prediction, temperature);
            write(&object.to_string())
        });
        // Rows of files that have changed are not those that were scored, if they are rows at all.
        read.check()?;
        written
    })
}

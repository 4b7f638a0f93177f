//! A training run, from files to a scored best checkpoint. `fit.rs` holds its loop.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use ls_data::TextTokenizer;
use ls_lora::{LoraConfig, ParameterCount};
use ls_model::{ADAPTER, Checkpoint, LlamaClassifier, LlamaModel};

use crate::config::RunConfig;
use crate::environment::Environment;
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, evaluate, score_constant};
use crate::events::{EvaluationRecord, Event, Observer};
use crate::fit::{Context, fit};
use crate::inference::InferenceSettings;
use crate::memory::expected_memory;
use crate::prediction::prediction_object;
use crate::read_files::ReadFiles;
use crate::report::{Baseline, Report};
use crate::run_dir::{MetricsLog, RunDir};
use crate::sources::Sources;
use crate::splits::Splits;
use crate::tensors::model_input;

/// A run: trains, keeps the best checkpoint, scores it once, and leaves everything in `run`.
///
/// # Errors
///
/// If the folder is in use, the model or the data cannot be used, or the loss is NaN or infinite.
pub fn train(
    config: &RunConfig,
    run: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let folder = RunDir::create(run)?;
    let checkpoint = Checkpoint::open(&config.model.path)?;
    let weights = checkpoint.fingerprint(config.model.hash_weights)?;
    let mut config = config.clone();
    config.run = Some(folder.root().to_path_buf());
    let mut run = config.resolve(&checkpoint.config);
    // What is read from here on is what was there at the beginning, or the run ends.
    let mut read = ReadFiles::default();
    let described = run.config.data.known().and_then(|known| known.file.clone());
    if let Some(described) = described {
        read.add(&described)?;
    }
    let sources = Sources::of(&run.config)?;
    for file in sources.files() {
        read.add(file)?;
        read.add_optional(&file.with_file_name("label.json"))?;
    }
    run.config.to_toml()?;
    checkpoint.check_settings(&run.attention, &run.lora)?;

    let reading = run.config.data.reading();
    let tokenizer = TextTokenizer::for_reading(&run.config.model.path, reading)?;
    let vocab_size = checkpoint.config.vocab_size;
    let splits = Splits::read(&run, &sources, &tokenizer, vocab_size, observer)?;
    read.check()?;
    if let Some(tags) = splits.tags {
        run.settle_tags(tags)?;
    }
    let written = run.config.to_toml()?;
    let (labels, tags) = (splits.labels.clone(), splits.tags);
    let settings =
        InferenceSettings::of_run(&run, &checkpoint.config, &tokenizer, labels, tags, weights);
    let plain = device.clone().without_autodiff();
    let context = Context {
        run: &run,
        model_config: &checkpoint.config,
        settings: &settings,
        splits: &splits,
        device: &plain,
    };

    let backbone = load_backbone(&checkpoint, &context, observer)?;
    let model = fresh_model(backbone.clone(), &context, Some(&run.lora))?;
    let parameters = ParameterCount::of(&model);
    observer.event(&Event::model(&model, parameters, &checkpoint));
    let memory = memory_of_run(&context, &checkpoint, parameters, device);
    observer.event(&Event::plan(&run, context.steps_per_epoch(), memory));
    observer.event(&Event::Phase("trial evaluation"));
    trial(&model, &context)?;

    // Not before: what fails until here leaves the folder empty, free for the next try.
    let mut log = MetricsLog::create(folder.metrics())?;
    folder.write(&folder.config(), &written)?;
    let environment = Environment::capture(&run.config, device, &read, &checkpoint, &tokenizer);
    folder.write_json(&folder.environment(), &environment)?;

    let baselines = if run.config.train.baselines {
        baselines(backbone, &context, observer)?
    } else {
        Vec::new()
    };
    observer.event(&Event::Phase("training"));
    let mut keep = |model: &LlamaClassifier, _: &EvaluationRecord| {
        save_best(&folder, model, &context, &tokenizer)
    };
    let fitted = fit(model, &context, observer, Some(&mut log), &mut keep)?;
    let evaluation = score_reported(&fitted.best_model, &context, observer)?;
    let mut report = Report::new(&context, &sources, &fitted, &evaluation, parameters);
    report.baselines = baselines;
    report.run = folder.root().to_path_buf();
    folder.write_json(&folder.report(), &report)?;
    // Extra keys of a row may be unreadable where the wanted ones are not: then they are left out.
    write_predictions(&folder, &context, &sources, &read, &evaluation, true)
        .or_else(|_| write_predictions(&folder, &context, &sources, &read, &evaluation, false))
        .map_err(|error| TrainError::NoPredictions {
            run: folder.root().to_path_buf(),
            split: splits.reported().0,
            source: Box::new(error),
        })?;
    Ok(report)
}

/// The frozen decoder of a checkpoint.
fn load_backbone(
    checkpoint: &Checkpoint,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<LlamaModel> {
    let run = context.run;
    let loading = |done, total| observer.event(&Event::Loading { done, total });
    Ok(checkpoint.load_model(&run.attention, run.precision, context.device, loading)?)
}

/// The memory that training is expected to take on `device`.
fn memory_of_run(
    context: &Context<'_>,
    checkpoint: &Checkpoint,
    parameters: ParameterCount,
    device: &Device,
) -> usize {
    expected_memory(
        context.run,
        context.model_config,
        checkpoint.num_parameters(),
        context.splits.train.lengths(),
        parameters.trainable,
        device,
    )
}

/// Replaces the best checkpoint of a run folder: adapter, card, settings, tokenizer and labels.
fn save_best(
    folder: &RunDir,
    model: &LlamaClassifier,
    context: &Context<'_>,
    tokenizer: &TextTokenizer,
) -> Result<()> {
    let (settings, lora) = (context.settings, &context.run.lora);
    folder.replace_best(|dir| {
        let adapter = model.to_adapter(lora);
        adapter.save_with_card(
            dir,
            &crate::card::model_card(settings, lora, tokenizer.end_token()),
        )?;
        settings.save(dir)?;
        tokenizer.copy_to(dir)?;
        Ok(settings.labels.save(&dir.join("labels.json"))?)
    })
}

/// Scores the best model on the split that is reported.
fn score_reported(
    model: &LlamaClassifier,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let (name, reported) = context.splits.reported();
    observer.event(&Event::Phase(name));
    let total = reported.lengths().len();
    let tick = |done| observer.event(&Event::Evaluating { done, total });
    evaluate(
        model,
        reported,
        &context.splits.labels,
        context.pass(),
        tick,
    )
}

/// A head, and adapters if wanted, on the frozen backbone, all drawn from the run's seed.
fn fresh_model(
    backbone: LlamaModel,
    context: &Context<'_>,
    lora: Option<&LoraConfig>,
) -> Result<LlamaClassifier> {
    let training = context.device.clone().autodiff();
    let seed = context.run.config.train.seed;
    let mut model = LlamaClassifier::new(
        backbone,
        context.model_config,
        context.run.head,
        context.splits.labels.len(),
        seed,
        &training,
    );
    if let Some(lora) = lora {
        ls_lora::add_adapter(&mut model, ADAPTER, lora, seed, &training)?;
    }
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
            let logits = model.forward(&model_input(
                &batch,
                context.model_config,
                context.settings.not_pooled(),
                context.device,
            )?);
            let values = ls_lora::host_values(logits);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let (value, examples) = (f64::from(*value), dataset.place(longest));
                return Err(TrainError::OutputNotFinite { value, examples });
            }
        }
    }
    Ok(())
}

/// Scores of two baselines on the reported split: the training split's commonest label as the
/// constant answer, and a head that is trained on the frozen backbone.
fn baselines(
    backbone: LlamaModel,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<Baseline>> {
    let Splits { train, labels, .. } = context.splits;
    let (_, reported) = context.splits.reported();
    let counts = train.label_counts(labels.len())?;
    let commonest = (0..counts.len())
        .rev()
        .max_by_key(|&label| counts[label])
        .unwrap_or(0);
    let protocol = context.run.config.data.protocol;
    let tags = context.settings.tag_kind();
    let majority = score_constant(reported, commonest, labels, tags, protocol)?;
    observer.event(&Event::Phase("frozen baseline"));
    let frozen = fresh_model(backbone, context, None)?;
    let fitted = fit(frozen, context, observer, None, &mut |_, _| Ok(()))?;
    let frozen = evaluate(&fitted.best_model, reported, labels, context.pass(), |_| ())?;
    Ok(vec![
        Baseline {
            name: "majority class".into(),
            scores: majority,
        },
        Baseline {
            name: "frozen backbone".into(),
            scores: frozen.scores,
        },
    ])
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
            let object = prediction_object(example, &gold, prediction, &splits.labels, tags);
            write(&object.to_string())
        });
        // Rows of files that have changed are not those that were scored, if they are rows at all.
        read.check()?;
        written
    })
}

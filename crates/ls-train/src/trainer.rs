//! A training run, from files to a scored best checkpoint. `fit.rs` holds its loop.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use ls_data::TextTokenizer;
use ls_lora::{LoraConfig, ParameterCount, trainable_tensors};
use ls_model::{ADAPTER, Checkpoint, LlamaClassifier, LlamaModel};

use crate::config::RunConfig;
use crate::environment::{Environment, peak_memory};
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, evaluate, score_constant};
use crate::events::{EvaluationRecord, Event, Observer};
use crate::fit::{Context, fit};
use crate::inference::InferenceSettings;
use crate::memory::expected_memory;
use crate::prediction::prediction_object;
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
    let mut config = config.clone();
    config.run = Some(folder.root().to_path_buf());
    let run = config.resolve(&checkpoint.config);
    let sources = Sources::of(&run.config)?;
    let written = run.config.to_toml()?;
    checkpoint.check_settings(&run.attention, &run.lora)?;

    let tokenizer = TextTokenizer::from_dir(&run.config.model.path)?;
    let vocab_size = checkpoint.config.vocab_size;
    let splits = Splits::read(&run, &sources, &tokenizer, vocab_size, observer)?;
    let settings = InferenceSettings::of_run(&run, &tokenizer, splits.labels.clone());
    let plain = device.clone().without_autodiff();
    let context = Context {
        run: &run,
        model_config: &checkpoint.config,
        settings: &settings,
        splits: &splits,
        device: &plain,
    };

    let backbone =
        checkpoint.load_model(&run.attention, run.precision, &plain, |done, total| {
            observer.event(&Event::Loading { done, total });
        })?;
    let model = fresh_model(backbone.clone(), &context, Some(&run.lora))?;
    let parameters = ParameterCount::of(&model);
    observer.event(&Event::Model {
        parameters,
        trainable: trainable_tensors(&model),
        surplus: checkpoint.surplus(),
    });
    let steps_per_epoch = context.steps_per_epoch();
    observer.event(&Event::Plan {
        steps: steps_per_epoch * run.config.train.epochs,
        steps_per_epoch,
        epochs: run.config.train.epochs,
        expected_memory: expected_memory(
            &run,
            &checkpoint.config,
            checkpoint.num_parameters(),
            splits.train.lengths(),
            parameters.trainable,
            device,
        ),
    });
    observer.event(&Event::Phase("trial evaluation"));
    trial(&model, &context)?;

    // Not before: what fails until here leaves the folder empty, free for the next try.
    let mut log = MetricsLog::create(folder.metrics())?;
    folder.write(&folder.config(), &written)?;
    let environment = Environment::capture(&run.config, device, &sources.files())?;
    folder.write_json(&folder.environment(), &environment)?;

    let baselines = if run.config.train.baselines {
        baselines(backbone, &context, observer)?
    } else {
        Vec::new()
    };

    observer.event(&Event::Phase("training"));
    let mut keep = |model: &LlamaClassifier, _: &EvaluationRecord| {
        folder.replace_best(|dir| {
            let adapter = model.to_adapter(&run.lora);
            adapter.save_with_card(dir, &crate::card::model_card(&settings, &run.lora))?;
            settings.save(dir)?;
            tokenizer.copy_to(dir)?;
            Ok(settings.labels.save(&dir.join("labels.json"))?)
        })
    };
    let fitted = fit(model, &context, observer, Some(&mut log), &mut keep)?;

    let (reported_split, reported) = splits.reported();
    observer.event(&Event::Phase(reported_split));
    let total = reported.lengths().len();
    let tick = |done| observer.event(&Event::Evaluating { done, total });
    let best = &fitted.best_model;
    let evaluation = evaluate(best, reported, &splits.labels, context.pass(), tick)?;

    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        task: run.config.task,
        protocol: run.config.data.protocol,
        metric: run.metric.clone(),
        best: fitted.best,
        reported_split: reported_split.into(),
        reported_split_chose: sources.reported_split_chose(),
        published_split: sources.published,
        form: sources.form.clone(),
        loss: evaluation.loss,
        scores: evaluation.scores.clone(),
        baselines,
        cut: splits.cut(),
        trainable_parameters: parameters.trainable,
        all_parameters: parameters.all,
        steps: fitted.steps,
        train_seconds: fitted.seconds,
        tokens_per_second: fitted.tokens as f64 / fitted.seconds.max(1e-9),
        peak_memory: peak_memory(),
        run: folder.root().to_path_buf(),
    };
    folder.write_json(&folder.report(), &report)?;
    // Extra keys of a row may be unreadable where the wanted ones are not: then they are left out.
    write_predictions(&folder, &splits, &sources, &evaluation, true)
        .or_else(|_| write_predictions(&folder, &splits, &sources, &evaluation, false))?;
    Ok(report)
}

/// A head, and adapters if wanted, on the frozen backbone, all drawn from the run's seed.
fn fresh_model(
    backbone: LlamaModel,
    context: &Context<'_>,
    lora: Option<&LoraConfig>,
) -> Result<LlamaClassifier> {
    let training = context.device.clone().autodiff();
    training.seed(context.run.config.train.seed);
    let mut model = LlamaClassifier::new(
        backbone,
        context.model_config,
        context.run.head,
        context.splits.labels.len(),
        &training,
    );
    if let Some(lora) = lora {
        ls_lora::add_adapter(&mut model, ADAPTER, lora, &training)?;
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
    let majority = score_constant(reported, commonest, labels, protocol)?;
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
    splits: &Splits,
    sources: &Sources,
    evaluation: &Evaluation,
    keep_extra: bool,
) -> Result<()> {
    let (split, dataset) = splits.reported();
    let source = match split {
        "test" => sources.test.as_ref(),
        _ => sources.validation.as_ref(),
    };
    let mut source = source.unwrap_or(&sources.train).split.clone();
    source.read.sequence.keep_extra = keep_extra;
    source.read.tokens.keep_extra = keep_extra;
    folder.write_lines(&folder.predictions(), |write| {
        dataset.for_each_example(&source, |index, example| {
            let gold = dataset.example(index)?.gold;
            let prediction = &evaluation.predictions[index];
            let object = prediction_object(example, &gold, prediction, &splits.labels);
            write(&object.to_string())
        })
    })
}

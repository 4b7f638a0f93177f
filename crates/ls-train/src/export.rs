//! [`export`]: the best model of a finished run as a folder for others, who have transformers or
//! peft and nothing of this project.
//!
//! `card.rs` writes the model card, `scores.rs` finds the scores in it, and `classifier.py` runs
//! what the classes of transformers would answer otherwise.

mod card;
mod scores;

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use ls_data::{ForTransformers, LongInputs, TextTokenizer};
use ls_files::{Dtype, HostTensor, read_own_json, replace_folder, write_atomic};
use ls_lora::{LoraError, MergeReport, PeftAdapter};
use ls_model::{Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, ModelError, Trained};
use serde_json::{Value, json};

use crate::config::RunConfig;
use crate::error::{Result, TrainError};
use crate::events::{Event, Observer};
use crate::inference::{InferenceSettings, WRONG_ANSWERS};
use crate::model_files::warn_of_surplus;
use crate::new_folder::{create_above, new_folder};
use crate::out_of_memory::{OutOfMemory, caught};
use crate::run_dir::RunDir;
use crate::whole;

use card::{Handed, Kind};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// A whole model: the decoder with the head, merged with the adapter if the run trained one.
    Whole {
        /// The type of its weights: F32, BF16 or F16.
        dtype: Dtype,
        /// Whether there has to be an adapter to merge.
        merge: bool,
    },
    /// The adapter and the head alone, for peft.
    Adapter,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The number of weights.
    pub num_parameters: usize,
    /// What the adapters changed, and what casting took of it.
    pub merged: MergeReport,
    /// Why the classes of transformers would give other answers, a phrase each: then the folder has
    /// a `classifier.py`.
    pub no_counterpart: Vec<String>,
    /// What an adapter calls its base model whose name on the Hub is not known: its folder, without
    /// what is above it. Whoever loads it has to say where the base is.
    pub base_folder: Option<String>,
}

/// The file that runs a classifier of which transformers has no counterpart.
const CLASSIFIER: &str = include_str!("export/classifier.py");
const CLASSIFIER_FILE: &str = "classifier.py";
const CARD_FILE: &str = "README.md";

/// Writes the best model of a finished run into a new folder, which appears whole or not at all: as
/// a whole model that `from_pretrained` and `pipeline` of transformers load, or as an adapter that
/// peft loads, with tokenizer, labels and a model card.
///
/// A whole model is the function that `predict` computes: adapters are merged into the weights as
/// the run held them, so that the base's weights are rounded to bf16, or are what their packed form
/// unpacks to, where they were in the run. `name_on_hub` gives the name of a model's folder on the
/// Hub, where it is known. The observer hears of the tensors that are loaded and written, and may
/// stop it: nothing is left then. `device` merges the weights; where it is no CPU, their values may
/// differ in the last digits.
///
/// # Errors
///
/// If the run is not finished, or has no adapter and one is wanted; if the folder holds something;
/// if the weights, the configuration or the tokenizer of the base are missing, or are not those of
/// the training; if a weight is past the range of its type; if a file cannot be written; if `out`
/// is the working directory or a mount point, or has no name. [`ModelError::Stopped`] if the
/// observer asks to stop.
pub fn export(
    run: &Path,
    out: &Path,
    form: ExportForm,
    name_on_hub: impl Fn(&Path) -> Option<String>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Exported> {
    let given = out;
    let out = &new_folder(given, "folder for the exported model")?;
    let folder = RunDir::open(run)?;
    if !folder.is_finished()? {
        let (path, at) = (run.to_path_buf(), folder.last_step());
        return Err(TrainError::Unfinished { path, at });
    }
    let config = RunConfig::of_finished(&folder.config())?;
    let wants_adapter = matches!(
        form,
        ExportForm::Adapter | ExportForm::Whole { merge: true, .. }
    );
    if wants_adapter && config.lora.is_none() {
        return Err(TrainError::NoAdapter { run: run.into() });
    }
    let base = name_on_hub(&config.model.path);
    let base = base.as_deref();
    let best = folder.standing_best()?;
    let settings = InferenceSettings::load(&best)?.ok_or_else(|| TrainError::NotARun {
        path: best.clone(),
        reason: "no ls_llama.json".into(),
    })?;
    let model_dir = match config.lora {
        Some(_) => &config.model.path,
        None => &best,
    };
    let checkpoint = Checkpoint::open(model_dir)?;
    warn_of_surplus(&checkpoint);
    let tokenizer = TextTokenizer::for_reading(&best, settings.reading())?;
    let others =
        settings.not_those_of_training(&checkpoint, &tokenizer, &best, None, WRONG_ANSWERS)?;
    if !others.is_empty() {
        let trained = |other: String| format!("{other}, which it was trained with");
        let (run, others) = (run.into(), others.into_iter().map(trained).collect());
        return Err(TrainError::OtherBase { run, others });
    }
    let mut adapter = match config.lora {
        Some(_) => Some(PeftAdapter::load(&best)?),
        None => None,
    };
    for warning in adapter.iter().flat_map(|adapter| &adapter.warnings) {
        tracing::warn!("{}: {warning}", best.display());
    }
    let mut decoder = checkpoint.config.clone();
    let of_adapter = adapter.as_ref().and_then(PeftAdapter::vocab_size);
    decoder.vocab_size = of_adapter.unwrap_or(decoder.vocab_size);
    settings.check_model(&decoder, &best)?;
    settings.check_attention(&decoder, &best)?;

    let report: Value = read_own_json(folder.report())?;
    let of_report = serde_json::from_value(report["scores"].clone());
    let of_report = of_report.map_err(|error| TrainError::NotARun {
        path: folder.report(),
        reason: format!("scores: {error}"),
    })?;
    let measured = scores::measured(&of_report, folder.root())?;
    // As it is called, also where that is a link.
    let name = given.file_name().unwrap_or(out.as_os_str());
    let temperature = settings.calibration.temperature;
    if let Some(adapter) = &mut adapter {
        divide_head(adapter, temperature)?;
    }
    let mut hand = Handed {
        config: &config,
        settings: for_others(settings, &decoder, base),
        temperature,
        tokenizer: &tokenizer,
        decoder: &decoder,
        report,
        measured,
        base,
        name: name.to_string_lossy().into_owned(),
        no_counterpart: Vec::new(),
    };
    hand.no_counterpart = whole::no_counterpart(hand.decoder, &hand.settings, hand.tokenizer);
    let mut exported = Exported {
        num_parameters: checkpoint.num_parameters(),
        merged: MergeReport::default(),
        no_counterpart: hand.no_counterpart.clone(),
        base_folder: None,
    };
    let model = match form {
        ExportForm::Adapter => None,
        ExportForm::Whole { .. } => {
            let adapter = adapter.as_ref();
            Some(loaded(
                &checkpoint,
                &hand,
                adapter,
                &best,
                device,
                observer,
            )?)
        }
    };
    let mut progress = |done, total| {
        observer.event(&Event::Writing { done, total });
        if observer.stop_requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    if progress(0, 0).is_break() {
        return Err(ModelError::Stopped.into());
    }
    create_above(out)?;
    replace_folder(out, |dir| {
        match (form, model, adapter) {
            (ExportForm::Whole { dtype, .. }, Some(model), _) => {
                exported.num_parameters = decoder_size(&decoder) + head_size(&model);
                let written = caught(|| model.export(&decoder, dtype, dir, &mut progress));
                exported.merged = written.map_err(full)??;
                write_whole(&mut hand, &model, dtype, dir)?;
            }
            (_, _, Some(mut adapter)) => {
                let tensors = adapter.tensors().map(|(_, tensor)| tensor.len());
                exported.num_parameters = tensors.sum();
                // No path of this machine: it would say nothing on another, and who works here.
                let called = base_name(&hand.settings, base);
                exported.base_folder = base.is_none().then(|| called.clone());
                adapter.config.base_model_name_or_path = Some(called);
                write_adapter(&mut hand, &adapter, dir)?;
            }
            // A form without what it is made of was refused.
            (_, _, None) => {}
        }
        hand.settings.labels.save(&dir.join("labels.json"))?;
        Ok::<_, TrainError>(())
    })?;
    Ok(exported)
}

/// Divides the head of an adapter by the temperature that was fitted, so that logits are those
/// that probabilities are made of: transformers and peft know no temperature.
fn divide_head(adapter: &mut PeftAdapter, temperature: Option<f32>) -> Result<()> {
    let Some(temperature) = temperature else {
        return Ok(());
    };
    let saved = adapter.saved_modules.iter_mut();
    for (_, tensor) in saved.filter(|(name, _)| name.starts_with("score.")) {
        let values = tensor.to_f32().map_err(LoraError::NotAFloat)?;
        let divided: Vec<f32> = values.iter().map(|value| value / temperature).collect();
        *tensor = HostTensor::from_f32(tensor.shape.clone(), &divided);
    }
    Ok(())
}

/// The settings of a run as those have them who know nothing of its folders. The temperature is in
/// the head.
fn for_others(
    mut settings: InferenceSettings,
    decoder: &LlamaConfig,
    base: Option<&str>,
) -> InferenceSettings {
    settings.attention = whole::mask_of(decoder, &settings.attention);
    settings.base_model = base_name(&settings, base).into();
    settings.calibration.temperature = None;
    settings
}

/// What a base model is called: on the Hub, or else its folder, without what is above it.
fn base_name(settings: &InferenceSettings, base: Option<&str>) -> String {
    let folder = settings.base_model.file_name().unwrap_or_default();
    base.map_or_else(|| folder.to_string_lossy().into_owned(), Into::into)
}

/// The model as the run computes with it, adapters beside the weights.
fn loaded(
    checkpoint: &Checkpoint,
    hand: &Handed<'_>,
    adapter: Option<&PeftAdapter>,
    best: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<LlamaClassifier> {
    let device = device.clone().without_autodiff();
    let settings = &hand.settings;
    let loading = |done, total| observer.event(&Event::Loading { done, total });
    let (mode, precision) = (&settings.attention, settings.precision());
    let task = settings.head(hand.decoder);
    let load = || match adapter {
        Some(adapter) => {
            let backbone = checkpoint.load_model(mode, precision, &device, loading)?;
            let config = hand.decoder;
            LlamaClassifier::with_adapter(backbone, config, task, adapter, best, &device)
        }
        None => {
            let model =
                checkpoint.load_classifier_watched(mode, task, precision, &device, loading)?;
            Ok(match hand.temperature {
                Some(temperature) => model.with_logits_divided(temperature),
                None => model,
            })
        }
    };
    let model = caught(load).map_err(full)??;
    let (names, head) = (settings.labels.len(), model.num_labels());
    if names != head {
        return Err(TrainError::LabelCount {
            what: "the model's head and the label names differ".into(),
            expected: head,
            found: names,
        });
    }
    Ok(model)
}

/// A GPU that has no memory left. Of a program that is built with the CPU none is asked.
fn full(out_of_memory: OutOfMemory) -> TrainError {
    let advice = "take a program that is built with the CPU (--features flex): it exports there, in \
                  the machine's memory";
    out_of_memory.error("the export of the model".into(), 0, advice.into(), None)
}

fn decoder_size(decoder: &LlamaConfig) -> usize {
    let tensors = decoder.tensors().into_iter();
    tensors
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

fn head_size(model: &LlamaClassifier) -> usize {
    let head = ls_lora::parameters(model, &|name| name.starts_with("score."));
    head.values().map(|tensor| tensor.len()).sum()
}

/// Everything of a whole model but its weights.
fn write_whole(
    hand: &mut Handed<'_>,
    model: &LlamaClassifier,
    dtype: Dtype,
    dir: &Path,
) -> Result<()> {
    let settings = &mut hand.settings;
    let mut config = whole::config(hand.decoder, settings, model.task, hand.tokenizer, dtype);
    config.insert("vocab_size".into(), json!(hand.decoder.vocab_size));
    // Paths of a machine that had the base.
    for key in ["_name_or_path", "_model_name_or_path"] {
        config.remove(key);
    }
    if !hand.no_counterpart.is_empty() {
        write_atomic(dir.join(CLASSIFIER_FILE), CLASSIFIER)?;
    }
    settings.config_sha256 = Some(whole::write_config(&config, dir)?);
    settings.base_weights = None;
    settings.dtype = match dtype {
        Dtype::BF16 => ComputeType::Bf16,
        _ => ComputeType::F32,
    };
    settings.quantization = None;
    settings.trained = Trained::Head;
    write_tokenizer(hand, dir)?;
    write_atomic(dir.join(CARD_FILE), hand.card(Kind::Whole(dtype)))?;
    Checkpoint::open(dir)?;
    Ok(())
}

/// Everything of an adapter.
fn write_adapter(hand: &mut Handed<'_>, adapter: &PeftAdapter, dir: &Path) -> Result<()> {
    let card = hand.card(Kind::Adapter(&adapter.config));
    adapter.save_with_card(dir, &card)?;
    write_tokenizer(hand, dir)
}

/// The tokenizer, and the settings that know it again.
fn write_tokenizer(hand: &mut Handed<'_>, dir: &Path) -> Result<()> {
    let settings = &mut hand.settings;
    let written = ForTransformers {
        pad_token: &settings.pad_token,
        padding_side: settings.padding_side,
        max_length: settings.max_length,
        keeps_end: settings.long_inputs == LongInputs::Tail,
    };
    hand.tokenizer.save_for_transformers(dir, &written)?;
    let again = TextTokenizer::for_reading(dir, settings.reading())?;
    settings.tokenizer_files_sha256 = Some(again.sha256_of_copy());
    settings.save(dir)
}

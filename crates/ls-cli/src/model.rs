//! The trained model of a command, from its flags: a run's, or one from elsewhere.

use anyhow::{Context, Result};
use burn::tensor::Device;
use ls_data::TaskKind;
use ls_train::{Overrides, Predictor, RunConfig, TrainError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{ModelArgs, OverrideArgs};
use crate::error::UsageError;
use crate::hub;
use crate::output::Display;

/// Of a tagger from elsewhere nothing says how its words were encoded.
const WORDS_ASSUMED: &str = "note: no ls_llama.json says how this tagger's words were encoded; \
     assumed: joined by spaces (--words text). If it was trained with is_split_into_words=True, as \
     with transformers' scripts, give --words split";

/// The model that the flags speak of, and of a run its configuration. The display shows how its
/// weights are loaded.
pub fn open(
    args: &ModelArgs,
    device: &Device,
    display: &mut Display,
) -> Result<(Predictor, Option<RunConfig>)> {
    let (mut predictor, config) = loaded(args, device, display)?;
    predictor.set_answering(args.answering.asked())?;
    Ok((predictor, config))
}

fn loaded(
    args: &ModelArgs,
    device: &Device,
    display: &mut Display,
) -> Result<(Predictor, Option<RunConfig>)> {
    match (&args.run, &args.model) {
        (Some(run), _) => {
            let (mut predictor, config) = Predictor::from_run(run, device, display)
                .with_context(|| format!("cannot open run {}", run.display()))?;
            predictor.settings.max_length =
                args.max_length.unwrap_or(predictor.settings.max_length);
            Ok((predictor, Some(config)))
        }
        (None, Some(model)) => {
            let predictor = Predictor::from_pretrained(
                &hub::model(model, false)?,
                args.adapter.as_deref(),
                &overrides(&args.overrides, args.max_length)?,
                device,
                display,
            )
            .with_context(|| match &args.adapter {
                Some(adapter) => {
                    format!("cannot load {} on {}", adapter.display(), model.display())
                }
                None => format!("cannot load {}", model.display()),
            })?;
            Ok((predictor, None))
        }
        (None, None) => Err(UsageError::new("expected --run or --model").into()),
    }
}

/// What has to be said of a model before it answers: what is assumed of it or found for it, and
/// that it is not the best of a finished run.
pub fn notes(args: &ModelArgs, predictor: &Predictor) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if let (Some(None), Some(scheme)) =
        (args.answering.constrained, predictor.decoding().constrained)
    {
        let guess = if predictor.guesses_scheme() {
            ": a guess by the names of the labels, as nothing records their scheme"
        } else {
            ""
        };
        notes.push(format!(
            "note: tags are held to {0} (--constrained={0}){guess}",
            scheme.name()
        ));
    }
    let tagger = predictor.settings.task == TaskKind::Token;
    if tagger && !predictor.recorded && args.overrides.words.is_none() {
        notes.push(WORDS_ASSUMED.into());
    }
    if let Some(run) = &args.run
        && let Some(progress) = ls_train::unfinished(run)?
    {
        let best = progress
            .best
            .map_or("its best model so far".into(), |step| {
                format!("its best model so far, that of step {step},")
            });
        let at = match progress.at {
            Some((step, steps)) => format!(" (it stands at step {step} of {steps})"),
            None => String::new(),
        };
        notes.push(format!("note: the run is not finished{at}: {best} is used"));
    }
    Ok(notes)
}

/// What the flags say that a model does not record.
pub fn overrides(args: &OverrideArgs, max_length: Option<usize>) -> Result<Overrides> {
    let pooling = choice("--pooling", "last, last_not_pad, mean, max", &args.pooling)?;
    let problem_type = problem_type(&args.problem_type)?;
    let dtype = choice("--dtype", "f32, bf16", &args.dtype)?;
    let words = choice("--words", "text, split", &args.words)?;
    let special_tokens = choice("--special-tokens", "text, parse", &args.special_tokens)?;
    let attention = match &args.attention {
        Some(mode) => Some(mode.parse().map_err(TrainError::from)?),
        None => None,
    };
    Ok(Overrides {
        task: args.task,
        attention,
        pooling,
        problem_type,
        labels: args.labels.clone(),
        max_length,
        words,
        special_tokens,
        dtype,
    })
}

/// The value of `--problem-type`.
pub fn problem_type<T: DeserializeOwned>(value: &Option<String>) -> Result<Option<T>> {
    choice(
        "--problem-type",
        "regression, single_label_classification, multi_label_classification",
        value,
    )
}

/// Parses a flag's value by its name in a configuration.
fn choice<T: DeserializeOwned>(
    flag: &str,
    known: &str,
    value: &Option<String>,
) -> Result<Option<T>> {
    let Some(value) = value else { return Ok(None) };
    let parsed = serde_json::from_value(Value::String(value.clone()));
    Ok(Some(parsed.map_err(|_| {
        UsageError::new(format!("{flag}: expected one of {known}, found {value:?}"))
    })?))
}

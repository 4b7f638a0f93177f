//! A whole model in `best/`: what a run without adapters leaves there, for transformers to load.

use std::path::Path;

use ls_data::{PaddingMode, TaskKind, TextTokenizer};
use ls_files::{Dtype, FileError, sha256, write_atomic};
use ls_model::{AttentionMode, Checkpoint, LlamaClassifier, LlamaConfig, Pooling, Task};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::inference::InferenceSettings;

/// Writes `config.json` and the weights; returns the SHA-256 of the former.
///
/// # Errors
///
/// If a file cannot be written, or the weights that were frozen can no longer be read.
pub(crate) fn save(
    model: &LlamaClassifier,
    checkpoint: &Checkpoint,
    settings: &InferenceSettings,
    tokenizer: &TextTokenizer,
    dir: &Path,
) -> Result<String> {
    checkpoint.save_weights(model, &settings.trained, dir)?;
    // In another type, transformers would round what was trained.
    let dtype = Dtype::F32;
    let config = config(&checkpoint.config, settings, model.task, tokenizer, dtype);
    write_config(&config, dir)
}

/// Writes `config.json`; returns its SHA-256.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_config(config: &Map<String, Value>, dir: &Path) -> Result<String> {
    let path = dir.join("config.json");
    let text = serde_json::to_string_pretty(config);
    let text = text.map_err(|error| FileError::writing(&path)(error.into()))? + "\n";
    write_atomic(&path, &text)?;
    Ok(sha256(text.as_bytes()))
}

/// The pad token that transformers may be told of, which pools the last token that is not it: none
/// where that would be the token that is pooled here.
pub(crate) fn pad_token_id(settings: &InferenceSettings, tokenizer: &TextTokenizer) -> Option<u32> {
    let ends = tokenizer.end_token() == Some(settings.pad_token_id);
    let taken = settings.pooling == Some(Pooling::Last) && ends;
    (!taken).then_some(settings.pad_token_id)
}

/// What the base says of another head, of its own code and of the type of its weights, which has an
/// older name and a newer.
const OF_THE_BASE: [&str; 5] = [
    "architectures",
    "auto_map",
    "torch_dtype",
    "problem_type",
    "num_labels",
];

/// The `config.json` of a classifier on the decoder of `base`, with weights that transformers takes
/// as `dtype`.
pub(crate) fn config(
    base: &LlamaConfig,
    settings: &InferenceSettings,
    task: Task,
    tokenizer: &TextTokenizer,
    dtype: Dtype,
) -> Map<String, Value> {
    let labels = settings.labels.names();
    let mut config = of_decoder(base, &mask_of(base, &settings.attention));
    for key in OF_THE_BASE {
        config.remove(key);
    }
    let by_id = labels.iter().enumerate();
    let by_id = by_id.map(|(id, name)| (id.to_string(), name.as_str().into()));
    let by_name = labels.iter().enumerate();
    let by_name = by_name.map(|(id, name)| (name.clone(), id.into()));
    let fields = [
        (
            "dtype",
            json!(match dtype {
                Dtype::BF16 => "bfloat16",
                Dtype::F16 => "float16",
                _ => "float32",
            }),
        ),
        ("id2label", Value::Object(by_id.collect())),
        ("label2id", Value::Object(by_name.collect())),
        ("pad_token_id", json!(pad_token_id(settings, tokenizer))),
    ];
    config.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    // Programs that serve models go by it.
    if let Some(class) = class(base, settings.task)
        && no_counterpart(base, settings, tokenizer).is_empty()
    {
        config.insert("architectures".into(), json!([class]));
    }
    match task {
        Task::Sequence(_) => {
            let problem = settings.problem_type.unwrap_or_default();
            config.insert("problem_type".into(), json!(problem.name()));
        }
        Task::Token { dropout } => {
            config.insert("classifier_dropout".into(), json!(dropout));
        }
    }
    config
}

/// The class of transformers that runs such a classifier, if it has one.
pub(crate) fn class(base: &LlamaConfig, task: TaskKind) -> Option<String> {
    match task {
        TaskKind::Sequence => base.classes.sequence(),
        TaskKind::Token => base.classes.token(),
    }
}

/// What the Hub calls a task.
pub(crate) fn pipeline_tag(task: TaskKind) -> &'static str {
    match task {
        TaskKind::Sequence => "text-classification",
        TaskKind::Token => "token-classification",
    }
}

/// Why the classes of transformers would answer otherwise than this model, a phrase each.
pub(crate) fn no_counterpart(
    base: &LlamaConfig,
    settings: &InferenceSettings,
    tokenizer: &TextTokenizer,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if class(base, settings.task).is_none() {
        let family = base.raw.get("model_type").and_then(Value::as_str);
        let task = pipeline_tag(settings.task);
        let family = family.unwrap_or("this architecture");
        reasons.push(format!("it has no class for {task} with {family}"));
    }
    match settings.pooling {
        Some(pooling @ (Pooling::Mean | Pooling::Max)) => {
            reasons.push(format!(
                "its classes pool the last token, this one `{pooling}`"
            ));
        }
        Some(Pooling::Last) if pad_token_id(settings, tokenizer).is_none() => {
            let pad = &settings.pad_token;
            reasons.push(format!(
                "its classes pool the last token that is not the pad token, and {pad}, which stands \
                 at the end of each text, is the only one that is free to pad"
            ));
        }
        _ => {}
    }
    let mode = mask_of(base, &settings.attention);
    if !matches!(mode, AttentionMode::Causal | AttentionMode::Bidirectional) {
        reasons.push(format!(
            "it removes the causal mask in all layers or in none, this one in some (`{mode}`)"
        ));
    }
    if settings.padding == PaddingMode::Attended {
        reasons.push("its classes do not attend to padding, this one was trained to".into());
    }
    reasons
}

/// A mask that is removed in every layer by their numbers is removed, and one in none is kept.
pub(crate) fn mask_of(base: &LlamaConfig, attention: &AttentionMode) -> AttentionMode {
    match attention.bidirectional_layers(base.num_hidden_layers) {
        Ok(layers) if layers.iter().all(|both| *both) => AttentionMode::Bidirectional,
        Ok(layers) if !layers.contains(&true) => AttentionMode::Causal,
        // Which layers are not there was told when the model was loaded.
        _ => attention.clone(),
    }
}

/// The `config.json` of the base, with the mask that its decoder was trained with.
fn of_decoder(base: &LlamaConfig, attention: &AttentionMode) -> Map<String, Value> {
    let mut config = base.raw.clone();
    config.remove("is_causal");
    // Beside the mask it says to halve the window, so both are written as they came out.
    let halves = config.remove("use_bidirectional_attention");
    let bidirectional = *attention == AttentionMode::Bidirectional;
    if halves.is_some()
        && let Some(window) = base.sliding_window.iter().flatten().next()
    {
        if *window == 0 && *attention != AttentionMode::Causal {
            // Half of 1 is none to either side, which no window says by itself.
            config.extend(halves.map(|halves| ("use_bidirectional_attention".into(), halves)));
            return config;
        }
        // Under the causal mask the own place is one.
        config.insert("sliding_window".into(), json!(window.max(&1)));
    }
    if bidirectional {
        config.insert("is_causal".into(), json!(false));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &Value) -> LlamaConfig {
        LlamaConfig::from_json(&raw.to_string(), Path::new("config.json")).unwrap()
    }

    #[test]
    fn the_mask_and_its_window_read_back_whatever_the_base_says_of_them() {
        let model = "../../tests/fixtures/parity/models/gemma3-both/config.json";
        let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(model)).unwrap();
        let both: Value = serde_json::from_slice(&text).unwrap();
        for (is_causal, window, resolved) in [
            (json!(null), json!(4), Some(2)),
            (json!(true), json!(7), Some(3)),
            (json!(false), json!(7), Some(4)),
            (json!(false), json!(null), None),
            (json!(null), json!(1), Some(0)),
        ] {
            let mut raw = both.clone();
            raw["is_causal"] = is_causal;
            raw["sliding_window"] = window;
            let base = read(&raw);
            assert_eq!(base.sliding_window, [None, resolved]);
            for (attention, expected) in [
                ("bidirectional", AttentionMode::Bidirectional),
                ("causal", AttentionMode::Causal),
                // ls_llama.json says it.
                ("from:1", AttentionMode::Causal),
            ] {
                let saved = of_decoder(&base, &attention.parse().unwrap());
                let saved = read(&saved.into());
                // The own place alone, which under the causal mask is one.
                let (window, expected) = match (resolved, attention) {
                    (Some(0), "causal") => (Some(1), expected),
                    (Some(0), _) => (resolved, AttentionMode::Bidirectional),
                    _ => (resolved, expected),
                };
                assert_eq!(saved.sliding_window, [None, window], "{attention}");
                assert_eq!(saved.attention(), expected, "{attention}");
            }
        }
    }
}

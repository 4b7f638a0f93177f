//! A whole model in `best/`: what a run without adapters leaves there, for transformers to load.

use std::path::Path;

use ls_data::{TaskKind, TextTokenizer};
use ls_files::{FileError, sha256, write_atomic};
use ls_model::{
    AttentionMode, Checkpoint, LlamaClassifier, LlamaConfig, Pooling, ProblemType, Task,
};
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
    let config = config(&checkpoint.config, settings, model.task, tokenizer);
    let path = dir.join("config.json");
    let text = serde_json::to_string_pretty(&config);
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

/// The `config.json` of a classifier on the decoder of `base`.
fn config(
    base: &LlamaConfig,
    settings: &InferenceSettings,
    task: Task,
    tokenizer: &TextTokenizer,
) -> Map<String, Value> {
    let labels = settings.labels.names();
    let mut config = base.raw.clone();
    // Both are named anew: one file may have the older name and the other the newer.
    for key in ["torch_dtype", "is_causal", "problem_type", "num_labels"] {
        config.remove(key);
    }
    let by_id = labels.iter().enumerate();
    let by_id = by_id.map(|(id, name)| (id.to_string(), name.as_str().into()));
    let by_name = labels.iter().enumerate();
    let by_name = by_name.map(|(id, name)| (name.clone(), id.into()));
    let class = match settings.task {
        TaskKind::Sequence => "ForSequenceClassification",
        TaskKind::Token => "ForTokenClassification",
    };
    let fields = [
        ("architectures", json!([format!("{}{class}", family(base))])),
        // In another, transformers would round what was trained.
        ("dtype", json!("float32")),
        ("id2label", Value::Object(by_id.collect())),
        ("label2id", Value::Object(by_name.collect())),
        ("pad_token_id", json!(pad_token_id(settings, tokenizer))),
    ];
    config.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    match task {
        Task::Sequence(_) => {
            let problem = ProblemType::SingleLabelClassification.name();
            config.insert("problem_type".into(), json!(problem));
        }
        Task::Token { dropout } => {
            config.insert("classifier_dropout".into(), json!(dropout));
        }
    }
    if settings.attention == AttentionMode::Bidirectional {
        config.insert("is_causal".into(), json!(false));
    }
    config
}

/// What the names of the family's classes begin with: `Llama`.
fn family(base: &LlamaConfig) -> String {
    let classes = base.raw.get("architectures").and_then(Value::as_array);
    let class = classes.and_then(|classes| classes.first()?.as_str());
    let of_class = class.and_then(|class| {
        let (family, _) = class.split_once("For")?;
        (!family.is_empty()).then(|| family.to_owned())
    });
    of_class
        .or_else(|| Some(class?.strip_suffix("Model")?.to_owned()))
        .unwrap_or_else(|| {
            let name = base.raw.get("model_type").and_then(Value::as_str);
            let mut letters = name.unwrap_or_default().chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_of_the_bases_family() {
        for (fields, expected) in [
            (r#""model_type": "llama""#, "Llama"),
            (r#""model_type": "qwen2""#, "Qwen2"),
            (
                r#""model_type": "mistral", "architectures": ["MistralForCausalLM"]"#,
                "Mistral",
            ),
            (
                r#""model_type": "llama", "architectures": ["LlamaModel"]"#,
                "Llama",
            ),
            (
                r#""model_type": "llama", "architectures": ["LlamaForTokenClassification"]"#,
                "Llama",
            ),
            (r#""model_type": "llama", "architectures": null"#, "Llama"),
        ] {
            let json = format!(
                r#"{{{fields}, "vocab_size": 8, "hidden_size": 4, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}}"#
            );
            let base = LlamaConfig::from_json(&json, Path::new("config.json")).unwrap();
            assert_eq!(family(&base), expected, "{fields}");
        }
    }
}

//! The model card of `best/`: what the model there is and how Python loads it.

use ls_data::{LabelPosition, SpecialTokensAs, TaskKind, TextTokenizer, WordsAs};
use ls_lora::LoraConfig;
use ls_model::{AttentionMode, LlamaConfig, Pooling, Trained};
use serde_json::Value;

use crate::inference::InferenceSettings;
use crate::problem::Problem;
use crate::whole::{mask_of, no_counterpart, pipeline_tag};

/// How a tagger's words were encoded and where their tags are read, in transformers' terms.
pub(crate) fn words_read(settings: &InferenceSettings) -> String {
    let words = match settings.words {
        WordsAs::Text => "joined by single spaces and encoded as running text",
        WordsAs::Split => "each encoded by itself (`is_split_into_words=True`)",
    };
    let read = match settings.label_position {
        LabelPosition::First | LabelPosition::All => "first sub-word",
        LabelPosition::FirstVisible => "first sub-word that is more than a space (`▁`, `Ġ`)",
        LabelPosition::Last => "last sub-word",
    };
    format!("- words: {words}; a tag is read at the {read}\n")
}

/// The lines that give the configuration of an adapter's base the mask that the adapter was trained
/// with, where it is another.
pub(crate) fn mask(base: &LlamaConfig, attention: &AttentionMode) -> String {
    let says = |field: &str, value: bool| base.raw.get(field) == Some(&Value::Bool(value));
    match attention {
        AttentionMode::Bidirectional if base.is_causal => {
            "config.is_causal = False  # this adapter was trained without the causal mask\n".into()
        }
        AttentionMode::Causal if !base.is_causal => {
            let mut lines = "# This adapter was trained with the causal mask.\n".to_owned();
            if says("is_causal", false) {
                lines += "config.is_causal = True\n";
            }
            if says("use_bidirectional_attention", true) {
                lines += "config.use_bidirectional_attention = False\n";
                // Which that field had halved.
                if let Some(window) = base.sliding_window.iter().flatten().next() {
                    lines += &format!("config.sliding_window = {window}\n");
                }
            }
            lines
        }
        AttentionMode::Causal | AttentionMode::Bidirectional => String::new(),
        _ => IN_SOME_LAYERS.into(),
    }
}

/// The line that gives the configuration of an adapter's base the type of the problem, which
/// decides what transformers makes of the logits.
pub(crate) fn problem_line(settings: &InferenceSettings) -> String {
    match settings.problem_type {
        Some(problem) => format!("config.problem_type = \"{}\"\n", problem.name()),
        None => String::new(),
    }
}

/// What the answers are, where they are not one of the labels, and what becomes of logits before
/// that: lines of a list, or nothing.
pub(crate) fn answers_line(settings: &InferenceSettings) -> String {
    let temperature = match settings.calibration.temperature {
        Some(temperature) => format!(
            "- temperature: logits are divided by {temperature} before they become probabilities. \
             transformers knows none: divide its logits\n"
        ),
        None => String::new(),
    };
    let answers = match settings.problem() {
        Problem::SingleLabel | Problem::Tags(_) => String::new(),
        Problem::Regression => "- answers: a number (`problem_type` regression)\n".into(),
        Problem::MultiLabel => {
            let labels = settings.labels.names().iter();
            let thresholds = settings.calibration.thresholds.iter().flatten();
            let each = labels.zip(thresholds);
            let each: Vec<String> = each
                .map(|(name, from)| format!("`{name}` {from}"))
                .collect();
            let each = if each.is_empty() {
                "0.5".into()
            } else {
                each.join(", ")
            };
            format!(
                "- answers: any number of labels, each by its own probability (sigmoid); a label holds \
                 from this on: {each}. transformers knows no thresholds: apply them to its scores\n"
            )
        }
    };
    temperature + &answers
}

const IN_SOME_LAYERS: &str = "# The causal mask was removed in some layers only, which transformers \
                              cannot express: run this model with ls-llama.\n";

/// The text of `README.md` in the folder of an adapter, or without `lora` in that of a whole model.
pub(crate) fn model_card(
    settings: &InferenceSettings,
    lora: Option<&LoraConfig>,
    decoder: &LlamaConfig,
    tokenizer: &TextTokenizer,
) -> String {
    let tag = pipeline_tag(settings.task);
    let auto = match settings.task {
        TaskKind::Sequence => "AutoModelForSequenceClassification",
        TaskKind::Token => "AutoModelForTokenClassification",
    };
    let base = settings.base_model.display();
    let answers = answers_line(settings);
    let labels = settings.labels.names();
    let rows: String = labels
        .iter()
        .enumerate()
        .map(|(id, name)| format!("| {id} | {name} |\n"))
        .collect();
    let pooling = match settings.pooling {
        Some(Pooling::Last) => "- pooling: the last token\n".to_string(),
        Some(Pooling::LastNotPad) => "- pooling: the last token that does not pad\n".to_string(),
        Some(pooling) => format!(
            "- pooling: `{pooling}` over the tokens (transformers' own classes pool the last one)\n"
        ),
        None => words_read(settings),
    };
    // What a text spells out.
    let special = match settings.special_tokens {
        SpecialTokensAs::Text => {
            "- special tokens that a text spells out (`</s>`): text, as any other. In transformers \
             they become tokens unless the tokenizer is loaded with `split_special_tokens=True`\n"
        }
        SpecialTokensAs::Parse => {
            "- special tokens that a text spells out (`</s>`): tokens, as in transformers\n"
        }
    };
    let (title, library, tag_of_kind, trained, with_ls_llama, with_python) = match lora {
        Some(lora) => {
            let mask = mask(decoder, &mask_of(decoder, &settings.attention));
            let problem = problem_line(settings);
            (
                "LoRA adapter with a classification head",
                "peft",
                "- lora\n",
                format!(
                    "- r {}, lora_alpha {}, lora_dropout {}\n",
                    lora.r, lora.lora_alpha, lora.lora_dropout
                ),
                format!("--model {base} --adapter . --task {}", settings.task),
                format!(
                    "from transformers import AutoConfig, {auto}\nfrom peft import PeftModel\n\n\
                     config = AutoConfig.from_pretrained(\"{base}\", num_labels={}, \
                     pad_token_id={})\n{problem}{mask}\
                     model = {auto}.from_pretrained(\"{base}\", config=config, \
                     dtype=\"float32\")\n\
                     model = PeftModel.from_pretrained(model, \".\")\n",
                    labels.len(),
                    settings.pad_token_id
                ),
            )
        }
        None => (
            "Decoder with a classification head",
            "transformers",
            "",
            match &settings.trained {
                Trained::Head => "- trained: the head\n".into(),
                Trained::Layers(layers) => {
                    format!("- trained in full: layers {layers} and the head\n")
                }
                Trained::All => "- trained in full: every weight\n".into(),
            },
            format!("--model . --task {}", settings.task),
            format!(
                "from transformers import {auto}\n\n\
                     model = {auto}.from_pretrained(\".\")\n"
            ),
        ),
    };
    let python = if lora.is_some() {
        "transformers and peft"
    } else {
        "transformers"
    };
    let reasons = no_counterpart(decoder, settings, tokenizer);
    let with_python = if reasons.is_empty() {
        format!("With {python}:\n\n```python\n{with_python}```\n")
    } else {
        let reasons: String = reasons.iter().map(|why| format!("- {why}\n")).collect();
        format!(
            "transformers by itself would answer otherwise:\n\n{reasons}\n\
             `ls-cli export` writes the model with the Python code that answers as it does.\n"
        )
    };
    format!(
        "---\nbase_model: {base}\nlibrary_name: {library}\npipeline_tag: {tag}\ntags:\n\
         {tag_of_kind}- ls-llama\n---\n\n\
         # {title}\n\n\
         - attention: `{}`\n{pooling}{special}{answers}{trained}\n\
         | id | label |\n|---|---|\n{rows}\n\
         With ls-llama: `ls-cli predict {with_ls_llama} \"a text\"`\n\n\
         {with_python}",
        settings.attention,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_what_the_base_says_of_its_mask_is_changed() {
        for (family, fields, attention, expected) in [
            ("llama", "", "causal", &[][..]),
            ("llama", "", "bidirectional", &["is_causal = False"]),
            ("llama", r#""is_causal": false"#, "bidirectional", &[]),
            (
                "llama",
                r#""is_causal": false"#,
                "causal",
                &["is_causal = True"],
            ),
            (
                "gemma3_text",
                r#""use_bidirectional_attention": true"#,
                "bidirectional",
                &[],
            ),
            (
                "gemma3_text",
                r#""use_bidirectional_attention": true, "sliding_window": 512"#,
                "causal",
                &[
                    "use_bidirectional_attention = False",
                    "sliding_window = 256",
                ],
            ),
            (
                "gemma3_text",
                r#""use_bidirectional_attention": true, "is_causal": false, "sliding_window": 7"#,
                "causal",
                &[
                    "is_causal = True",
                    "use_bidirectional_attention = False",
                    "sliding_window = 4",
                ],
            ),
        ] {
            let comma = if fields.is_empty() { "" } else { "," };
            let json = format!(
                r#"{{"model_type": "{family}", "vocab_size": 8, "hidden_size": 4,
                "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2{comma} {fields}}}"#
            );
            let base = LlamaConfig::from_json(&json, Path::new("config.json")).unwrap();
            let lines = mask(&base, &attention.parse().unwrap());
            let found: Vec<&str> = lines
                .lines()
                .filter_map(|line| line.strip_prefix("config."))
                .map(|line| line.split("  #").next().unwrap_or(line))
                .collect();
            assert_eq!(found, expected, "{family} {fields} {attention}");
        }
    }
}

//! The model card of `best/`: what the model there is and how Python loads it.

use ls_data::{LabelPosition, SpecialTokensAs, TaskKind, TextTokenizer, WordsAs};
use ls_lora::LoraConfig;
use ls_model::{AttentionMode, Pooling, Trained};

use crate::inference::InferenceSettings;
use crate::whole::pad_token_id;

/// How a tagger's words were encoded and where their tags are read, in transformers' terms.
fn words_read(settings: &InferenceSettings) -> String {
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

/// The text of `README.md` in the folder of an adapter, or without `lora` in that of a whole model.
pub(crate) fn model_card(
    settings: &InferenceSettings,
    lora: Option<&LoraConfig>,
    tokenizer: &TextTokenizer,
) -> String {
    let (tag, class) = match settings.task {
        TaskKind::Sequence => ("text-classification", "AutoModelForSequenceClassification"),
        TaskKind::Token => ("token-classification", "AutoModelForTokenClassification"),
    };
    let base = settings.base_model.display();
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
    let (pad, one_at_a_time) = match pad_token_id(settings, tokenizer) {
        Some(id) => (id.to_string(), ""),
        None => (
            "None".into(),
            "  # one text at a time: the end token is pooled, and no other token is free to pad",
        ),
    };
    let in_some_layers = "# The causal mask was removed in some layers only, which transformers \
                          cannot express: run this model with ls-llama.\n";
    let (title, library, tag_of_kind, trained, with_ls_llama, with_python) = match lora {
        Some(lora) => {
            let mask = match settings.attention {
                AttentionMode::Causal => "",
                AttentionMode::Bidirectional => {
                    "config.is_causal = False  # this adapter was trained without the causal mask\n"
                }
                _ => in_some_layers,
            };
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
                    "from transformers import AutoConfig, {class}\nfrom peft import PeftModel\n\n\
                     config = AutoConfig.from_pretrained(\"{base}\", num_labels={}, \
                     pad_token_id={pad}){one_at_a_time}\n{mask}\
                     model = {class}.from_pretrained(\"{base}\", config=config)\n\
                     model = PeftModel.from_pretrained(model, \".\")\n",
                    labels.len()
                ),
            )
        }
        None => {
            let mask = match settings.attention {
                AttentionMode::Causal | AttentionMode::Bidirectional => "",
                _ => in_some_layers,
            };
            (
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
                    "from transformers import {class}\n\n{mask}\
                     model = {class}.from_pretrained(\".\"){one_at_a_time}\n"
                ),
            )
        }
    };
    let python = if lora.is_some() {
        "transformers and peft"
    } else {
        "transformers"
    };
    format!(
        "---\nbase_model: {base}\nlibrary_name: {library}\npipeline_tag: {tag}\ntags:\n\
         {tag_of_kind}- ls-llama\n---\n\n\
         # {title}\n\n\
         - attention: `{}`\n{pooling}{special}{trained}\n\
         | id | label |\n|---|---|\n{rows}\n\
         With ls-llama: `ls-cli predict {with_ls_llama} \"a text\"`\n\n\
         With {python}:\n\n```python\n{with_python}```\n",
        settings.attention,
    )
}

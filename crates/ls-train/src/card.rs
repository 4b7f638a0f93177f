//! The model card beside an adapter: what it is and how Python loads it.

use ls_data::{LabelPosition, SpecialTokensAs, TaskKind, WordsAs};
use ls_lora::LoraConfig;
use ls_model::{AttentionMode, Pooling};

use crate::inference::InferenceSettings;

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

/// The text of `README.md` in an adapter folder. `end_token` is the one that the tokenizer puts
/// behind each text.
pub(crate) fn model_card(
    settings: &InferenceSettings,
    lora: &LoraConfig,
    end_token: Option<u32>,
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
    let mask = match settings.attention {
        AttentionMode::Causal => String::new(),
        AttentionMode::Bidirectional => {
            "config.is_causal = False  # this adapter was trained without the causal mask\n"
                .to_string()
        }
        _ => {
            "# The causal mask was removed in some layers only, which transformers cannot express: \
             run this adapter with ls-llama.\n"
                .to_string()
        }
    };
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
    // transformers pools the last token that is not this one.
    let pads_and_ends = end_token == Some(settings.pad_token_id);
    let pad = if settings.pooling == Some(Pooling::Last) && pads_and_ends {
        "None)  # one text at a time: the end token is pooled, and no other token is free to pad"
            .to_string()
    } else {
        format!("{})", settings.pad_token_id)
    };
    format!(
        "---\nbase_model: {base}\nlibrary_name: peft\npipeline_tag: {tag}\ntags:\n- lora\n- ls-llama\n---\n\n\
         # LoRA adapter with a classification head\n\n\
         - attention: `{}`\n{pooling}{special}- r {}, lora_alpha {}, lora_dropout {}\n\n\
         | id | label |\n|---|---|\n{rows}\n\
         With ls-llama: `ls-cli predict --model {base} --adapter . --task {} \"a text\"`\n\n\
         With transformers and peft:\n\n\
         ```python\nfrom transformers import AutoConfig, {class}\nfrom peft import PeftModel\n\n\
         config = AutoConfig.from_pretrained(\"{base}\", num_labels={}, pad_token_id={pad}\n{mask}\
         model = {class}.from_pretrained(\"{base}\", config=config)\n\
         model = PeftModel.from_pretrained(model, \".\")\n```\n",
        settings.attention,
        lora.r,
        lora.lora_alpha,
        lora.lora_dropout,
        settings.task,
        labels.len(),
    )
}

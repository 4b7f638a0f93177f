//! What a tokenizer's class changes in `tokenizer.json`: transformers 5 builds some tokenizers anew
//! instead of taking the file as it is.

use std::path::Path;

use ls_files::{optional, read_text};
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use crate::error::Result;
use crate::special_tokens::TokenizerConfig;

/// The pre-tokenizer that takes the place of the file's own, and of its normalizer.
///
/// A `LlamaTokenizer` has this one whatever its file says, unless the file is of bytes, or the
/// model beside it is of a family that takes the file as it is. The difference shows in texts that
/// begin with a space or a `▁`, behind special tokens that a text spells out, and where
/// `add_prefix_space` is off.
pub(crate) fn pre_tokenizer(
    dir: &Path,
    config: &TokenizerConfig,
    file: &Value,
) -> Result<Option<Metaspace>> {
    let llama = config.tokenizer_class.as_deref().is_some_and(is_llama);
    let bpe = file["model"]["type"] == "BPE";
    let bytes = ["pre_tokenizer", "decoder"].map(|part| has_byte_level(&file[part]));
    if !llama || !bpe || bytes.contains(&true) || !family_heeds_class(dir)? {
        return Ok(None);
    }
    let scheme = match (config.add_prefix_space, config.legacy) {
        (Some(false), _) => PrependScheme::Never,
        (_, Some(true)) => PrependScheme::Always,
        _ => PrependScheme::First,
    };
    Ok(Some(Metaspace::new('▁', scheme, false)))
}

/// As it stands in a `tokenizer.json`.
pub(crate) fn as_json(metaspace: &Metaspace) -> Value {
    serde_json::to_value(metaspace).unwrap_or_else(|_| json!(null))
}

/// Changes a `tokenizer_config.json` so that its class is one that takes the file as it is.
pub(crate) fn take_file_as_it_is(config: &mut Vec<u8>) {
    let Ok(mut found) = serde_json::from_slice::<Value>(config) else {
        return;
    };
    let class = found.get_mut("tokenizer_class");
    if let Some(class) = class.filter(|class| class.as_str().is_some_and(is_llama)) {
        *class = "PreTrainedTokenizerFast".into();
        *config = format!("{found:#}\n").into_bytes();
    }
}

fn is_llama(class: &str) -> bool {
    class.strip_suffix("Fast").unwrap_or(class) == "LlamaTokenizer"
}

/// Whether a model of the folder's family gets a tokenizer of the class that is named. Mistral's
/// does not. An adapter's folder has no model, and then the class decides.
fn family_heeds_class(dir: &Path) -> Result<bool> {
    let config = optional(read_text(dir.join("config.json")))?;
    let config: Option<Value> = config.and_then(|text| serde_json::from_str(&text).ok());
    Ok(match config.as_ref().map(|config| &config["model_type"]) {
        Some(Value::String(family)) => family == "llama",
        _ => true,
    })
}

/// Whether a part of a tokenizer is the byte-level one, or a sequence that has it.
pub(crate) fn has_byte_level(part: &Value) -> bool {
    let of_sequence = ["normalizers", "pretokenizers", "decoders"].map(|key| part[key].as_array());
    part["type"] == "ByteLevel"
        || of_sequence
            .into_iter()
            .flatten()
            .flatten()
            .any(has_byte_level)
}

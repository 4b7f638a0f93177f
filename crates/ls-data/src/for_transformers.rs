//! [`ForTransformers`]: what a tokenizer's files say so that the pipelines of transformers read
//! texts as they are read here.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::batch::PaddingSide;
use crate::error::Result;
use crate::reading::SpecialTokensAs;
use crate::tokenize::{CONFIG_FILE, MAP_FILE, TextTokenizer};

/// How batches are padded and long texts cut.
#[derive(Debug, Clone, Copy)]
pub struct ForTransformers<'a> {
    /// The token that fills batches up.
    pub pad_token: &'a str,
    /// On which side.
    pub padding_side: PaddingSide,
    /// Longest input in tokens, special ones included.
    pub max_length: usize,
    /// Whether the end of longer texts is kept, in place of their beginning.
    pub keeps_end: bool,
}

impl TextTokenizer {
    /// Writes the tokenizer's files as [`TextTokenizer::copy_to`] does, with a
    /// `tokenizer_config.json` by which transformers pads and cuts as here: `pad_token`,
    /// `padding_side`, `model_max_length`, `truncation_side`, and `split_special_tokens` where
    /// special tokens that a text spells out are text. Its class is one that takes
    /// `tokenizer.json` as it is, unless the tokenizer is built by its class here too. Code that it
    /// names (`auto_map`) is left out.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_for_transformers(&self, dir: &Path, settings: &ForTransformers<'_>) -> Result<()> {
        let mut config = Map::new();
        for (name, bytes) in self.copied() {
            match name {
                CONFIG_FILE => config = object(&bytes),
                MAP_FILE => {
                    // It wins over the other file in what it names.
                    let mut map = object(&bytes);
                    map.insert("pad_token".into(), json!(settings.pad_token));
                    ls_files::write_json(dir.join(name), &map)?;
                }
                _ => ls_files::write_atomic(dir.join(name), bytes)?,
            }
        }
        config.remove("auto_map");
        if !self.is_by_class() {
            config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        }
        let cut = if settings.keeps_end { "left" } else { "right" };
        let is_text = self.reading().special_tokens == SpecialTokensAs::Text;
        let fields = [
            ("pad_token", json!(settings.pad_token)),
            ("padding_side", json!(settings.padding_side)),
            ("model_max_length", json!(settings.max_length)),
            ("truncation_side", json!(cut)),
            ("split_special_tokens", json!(is_text)),
        ];
        config.extend(fields.map(|(key, value)| (key.to_owned(), value)));
        Ok(ls_files::write_json(dir.join(CONFIG_FILE), &config)?)
    }
}

/// The object of a file that was read as one before.
fn object(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(bytes).unwrap_or_default()
}

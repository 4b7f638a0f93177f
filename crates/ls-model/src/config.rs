//! `config.json` of a Hugging Face folder, resolved into what the forward pass needs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};
use crate::mask::AttentionMode;
use crate::rope::{RopeConfig, RopeScaling};

/// The families whose decoder block this crate implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// LLaMA 2, 3, 3.1 and 3.2.
    Llama,
    /// Mistral: the LLaMA block with a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: the LLaMA block with biases on q, k and v.
    Qwen2,
}

impl Architecture {
    /// Prefix of the transformers classes (`LlamaForSequenceClassification`).
    pub fn class_prefix(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        })
    }
}

/// Shape of a decoder, with every default of transformers 5 filled in.
///
/// Field names are those of `config.json`; what differs between the families is resolved here, so that nothing below
/// this file asks for the family again.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// The family.
    pub architecture: Architecture,
    /// Entries of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Longest input the checkpoint was made for.
    pub max_position_embeddings: usize,
    /// Inside the root of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Whether q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub o_bias: bool,
    /// Whether the three MLP projections have a bias.
    pub mlp_bias: bool,
    /// Sliding window of each layer in tokens, where it has one.
    pub sliding_window: Vec<Option<usize>>,
    /// Whether the output embedding is the input embedding (then a file has no `lm_head`).
    pub tie_word_embeddings: bool,
    /// `"is_causal": false`, which transformers and vLLM read, makes every layer bidirectional.
    pub is_causal: bool,
    /// Standard deviation of a fresh head's weights.
    pub initializer_range: f64,
    /// Dropout before a token head.
    pub classifier_dropout: f64,
    /// Whether a token head has a bias.
    pub token_classification_bias: bool,
    /// Class names in order, where `id2label` gives them.
    pub labels: Option<Vec<String>>,
    /// The padding id recorded in the file.
    pub pad_token_id: Option<u32>,
    /// The file as read, for writing it out again with additions.
    pub raw: Map<String, Value>,
}

impl LlamaConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    ///
    /// If the file is missing, is not JSON, lacks a field, or asks for something this crate does not implement: an
    /// architecture, activation, RoPE scaling or quantisation is refused by its name.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !dir.is_dir() {
            return Err(ModelError::NotACheckpoint {
                path: dir.to_path_buf(),
                reason: "no such folder".into(),
            });
        }
        if !path.exists() {
            let reason = "no config.json: this is not a Hugging Face model folder".into();
            return Err(ModelError::NotACheckpoint {
                path: dir.to_path_buf(),
                reason,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Io {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&text, &path)
    }

    /// Parses the text of a `config.json`; `path` is only for messages.
    ///
    /// # Errors
    ///
    /// As [`LlamaConfig::from_dir`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| ModelError::Json {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        let Value::Object(raw) = value else {
            return Err(ModelError::Json {
                path: path.to_path_buf(),
                reason: "expected an object".into(),
            });
        };
        resolve(Fields { path, map: &raw }, raw.clone())
    }

    /// The attention mode that the checkpoint asks for.
    pub fn attention(&self) -> AttentionMode {
        if self.is_causal {
            AttentionMode::Causal
        } else {
            AttentionMode::Bidirectional
        }
    }

    /// Query heads per key/value head.
    pub fn num_key_value_groups(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }
}

fn resolve(fields: Fields<'_>, raw: Map<String, Value>) -> Result<LlamaConfig> {
    let architecture = match fields.string("model_type")?.as_deref() {
        Some("llama") => Architecture::Llama,
        Some("mistral") => Architecture::Mistral,
        Some("qwen2") => Architecture::Qwen2,
        Some(other) => {
            return Err(fields.unsupported("model_type", other, "llama, mistral, qwen2"));
        }
        None => return Err(fields.error("model_type", "is missing")),
    };
    if let Some(activation) = fields.string("hidden_act")?
        && activation != "silu"
    {
        return Err(fields.unsupported("hidden_act", &activation, "silu"));
    }
    if fields
        .map
        .get("quantization_config")
        .is_some_and(|value| !value.is_null())
    {
        let method = fields.map["quantization_config"]
            .get("quant_method")
            .and_then(Value::as_str)
            .unwrap_or("unnamed");
        return Err(fields.unsupported("quantization_config", method, "f32, f16 and bf16 weights"));
    }

    let hidden_size = fields.required_size("hidden_size")?;
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    // An explicit null means as many as query heads; an absent field is the family's default.
    let default_kv = match architecture {
        _ if fields.map.contains_key("num_key_value_heads") => num_attention_heads,
        Architecture::Llama => num_attention_heads,
        Architecture::Mistral => 8,
        Architecture::Qwen2 => 32,
    };
    let num_key_value_heads = fields.size("num_key_value_heads")?.unwrap_or(default_kv);
    if num_attention_heads % num_key_value_heads != 0 {
        let reason = format!(
            "{num_key_value_heads} does not divide num_attention_heads {num_attention_heads}"
        );
        return Err(fields.error("num_key_value_heads", reason));
    }
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
        None => {
            let reason = format!(
                "{hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            );
            return Err(fields.error("hidden_size", reason));
        }
    };
    if head_dim % 2 != 0 {
        return Err(fields.error(
            "head_dim",
            format!("{head_dim} is odd, rotary embedding needs an even one"),
        ));
    }
    let num_hidden_layers = fields.required_size("num_hidden_layers")?;
    let default_positions = match architecture {
        Architecture::Llama => 2048,
        Architecture::Mistral => 4096 * 32,
        Architecture::Qwen2 => 32768,
    };
    let max_position_embeddings = fields
        .size("max_position_embeddings")?
        .unwrap_or(default_positions);
    let attention_bias =
        architecture == Architecture::Llama && fields.flag("attention_bias")?.unwrap_or(false);

    Ok(LlamaConfig {
        architecture,
        vocab_size: fields.required_size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope: rope(&fields, head_dim, max_position_embeddings)?,
        qkv_bias: attention_bias || architecture == Architecture::Qwen2,
        o_bias: attention_bias,
        mlp_bias: architecture == Architecture::Llama && fields.flag("mlp_bias")?.unwrap_or(false),
        sliding_window: sliding_window(&fields, architecture, num_hidden_layers)?,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        is_causal: fields.flag("is_causal")?.unwrap_or(true),
        initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
        classifier_dropout: fields.number("classifier_dropout")?.unwrap_or(0.1),
        token_classification_bias: fields.flag("token_classification_bias")?.unwrap_or(true),
        labels: labels(&fields)?,
        pad_token_id: fields.token_id("pad_token_id")?,
        raw,
    })
}

/// `rope_parameters` (transformers 5) or `rope_scaling` beside `rope_theta` (before).
fn rope(
    fields: &Fields<'_>,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<RopeConfig> {
    let (name, map) = match (
        fields.map.get("rope_parameters"),
        fields.map.get("rope_scaling"),
    ) {
        // transformers gives the old spelling the first word.
        (_, Some(Value::Object(map))) => ("rope_scaling", Some(map)),
        (Some(Value::Object(map)), _) => ("rope_parameters", Some(map)),
        (None | Some(Value::Null), None | Some(Value::Null)) => ("rope_parameters", None),
        _ => return Err(fields.error("rope_parameters", "expected an object")),
    };
    let empty = Map::new();
    let rope = Fields {
        path: fields.path,
        map: map.unwrap_or(&empty),
    };
    let named = |field: &str| format!("{name}.{field}");
    if let Some(value) = rope.map.values().find(|value| value.is_object()) {
        return Err(fields.unsupported(
            name,
            &value.to_string(),
            "one set of parameters for all layers",
        ));
    }
    let theta = match rope.number("rope_theta")? {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    let partial = rope
        .number("partial_rotary_factor")?
        .or(fields.number("partial_rotary_factor")?)
        .unwrap_or(1.0);
    if partial != 1.0 {
        return Err(fields.unsupported(
            &named("partial_rotary_factor"),
            &partial.to_string(),
            "1.0",
        ));
    }
    if theta <= 0.0 {
        return Err(fields.error("rope_theta", format!("{theta} is not positive")));
    }
    let required = |field: &str| -> Result<f64> {
        match rope.number(field)? {
            Some(value) if value > 0.0 => Ok(value),
            Some(value) => Err(fields.error(&named(field), format!("{value} is not positive"))),
            None => Err(fields.error(&named(field), "is missing")),
        }
    };
    let kind = rope
        .string("rope_type")?
        .or(rope.string("type")?)
        .unwrap_or_else(|| "default".into());
    let scaling = match kind.as_str() {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear {
            factor: required("factor")?,
        },
        "dynamic" => RopeScaling::Dynamic {
            factor: required("factor")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_max_position_embeddings: rope
                .number("original_max_position_embeddings")?
                .unwrap_or(max_position_embeddings as f64),
        },
        other => {
            return Err(fields.unsupported(
                &named("rope_type"),
                other,
                "default, linear, dynamic, llama3",
            ));
        }
    };
    Ok(RopeConfig {
        theta,
        scaling,
        head_dim,
        max_position_embeddings,
    })
}

fn sliding_window(
    fields: &Fields<'_>,
    architecture: Architecture,
    layers: usize,
) -> Result<Vec<Option<usize>>> {
    let window = match fields.map.get("sliding_window") {
        // An explicit null switches it off; transformers defaults both families to 4096.
        Some(Value::Null) => None,
        Some(_) => fields.size("sliding_window")?,
        None => Some(4096),
    };
    match architecture {
        Architecture::Llama => Ok(vec![None; layers]),
        Architecture::Mistral => Ok(vec![window; layers]),
        Architecture::Qwen2 => {
            let window = if fields.flag("use_sliding_window")?.unwrap_or(false) {
                window
            } else {
                None
            };
            if let Some(Value::Array(types)) = fields.map.get("layer_types") {
                if types.len() != layers {
                    let reason = format!("has {} entries for {layers} layers", types.len());
                    return Err(fields.error("layer_types", reason));
                }
                return types
                    .iter()
                    .map(|kind| match kind.as_str() {
                        Some("full_attention") => Ok(None),
                        Some("sliding_attention") => Ok(window),
                        _ => Err(fields.unsupported(
                            "layer_types",
                            &kind.to_string(),
                            "full_attention, sliding_attention",
                        )),
                    })
                    .collect();
            }
            let first = fields.size_or_zero("max_window_layers")?.unwrap_or(28);
            Ok((0..layers)
                .map(|layer| if layer >= first { window } else { None })
                .collect())
        }
    }
}

fn labels(fields: &Fields<'_>) -> Result<Option<Vec<String>>> {
    let map = match fields.map.get("id2label") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => {
            let reason = format!("expected an object, found {other}");
            return Err(fields.error("id2label", reason));
        }
    };
    let mut names = vec![None; map.len()];
    for (id, name) in map {
        let slot = id.parse::<usize>().ok().and_then(|id| names.get_mut(id));
        match (slot, name.as_str()) {
            (Some(slot), Some(name)) => *slot = Some(name.to_string()),
            _ => {
                return Err(fields.error(
                    "id2label",
                    format!("entry {id:?} is not one of 0..{}", map.len()),
                ));
            }
        }
    }
    Ok(names.into_iter().collect())
}

/// Typed access to a JSON object, with errors that name file and field.
struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    fn error(&self, field: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Config {
            path: self.path(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    fn unsupported(&self, field: &str, value: &str, supported: &str) -> ModelError {
        ModelError::Unsupported {
            path: self.path(),
            field: field.into(),
            value: value.into(),
            supported: supported.into(),
        }
    }

    fn get<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(field, format!("expected {expected}, found {value}"))),
            },
        }
    }

    fn string(&self, field: &str) -> Result<Option<String>> {
        self.get(field, "a string", |value| value.as_str().map(String::from))
    }

    fn number(&self, field: &str) -> Result<Option<f64>> {
        self.get(field, "a number", Value::as_f64)
    }

    fn flag(&self, field: &str) -> Result<Option<bool>> {
        self.get(field, "true or false", Value::as_bool)
    }

    fn size(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a positive integer", |value| {
            value.as_u64().filter(|n| *n > 0).map(|n| n as usize)
        })
    }

    fn size_or_zero(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a non-negative integer", |value| {
            value.as_u64().map(|n| n as usize)
        })
    }

    /// A negative id is how older conversions say that there is none.
    fn token_id(&self, field: &str) -> Result<Option<u32>> {
        let id = self.get(field, "a token id", |value| {
            value.as_i64().filter(|id| *id <= u32::MAX.into())
        })?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    fn required_size(&self, field: &str) -> Result<usize> {
        self.size(field)?
            .ok_or_else(|| self.error(field, "is missing"))
    }
}

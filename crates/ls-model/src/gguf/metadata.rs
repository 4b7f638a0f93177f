//! What a GGUF file says of its model -> the fields of `config.json`.

use ls_files::{FileError, GgufFile, GgufValue, shown};
use serde_json::{Map, Value, json};

use super::names::{EMBEDDINGS, OUTPUT, ROPE_FACTORS};
use crate::error::{ModelError, Result};
use crate::rope::{RopeConfig, RopeScaling};

/// An architecture of llama.cpp whose decoder block this crate implements.
struct Architecture {
    /// llama.cpp's name; Mistral's models have that of LLaMA.
    name: &'static str,
    model_type: &'static str,
    class: &'static str,
    /// Whether the rows of query and key projections are reordered.
    rotated: bool,
}

const ARCHITECTURES: [Architecture; 3] = [
    Architecture {
        name: "llama",
        model_type: "llama",
        class: "LlamaForCausalLM",
        rotated: true,
    },
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        rotated: false,
    },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        rotated: false,
    },
];

/// The kind of `rope_scaling` of LLaMA 3.1, of which a GGUF file keeps only the divisors that come
/// of it. All models that have it share these numbers.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_MAX_POSITION_EMBEDDINGS: f64 = 8192.0;

/// Keys of a model with which it would be another function than what is converted, and the values
/// that change nothing.
const NEUTRAL: [(&str, &[f64]); 8] = [
    ("expert_count", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.scale", &[0.0]),
    ("rope.scaling.alpha", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("rope.scaling.yarn_attn_factor", &[1.0]),
    ("rope.scaling.yarn_log_multiplier", &[0.0]),
];

/// The fields of `config.json`, and whether query and key projections are reordered in the file.
pub(super) fn config(file: &GgufFile) -> Result<(Map<String, Value>, bool)> {
    let name = text(file, "general.architecture")?;
    let mut known = ARCHITECTURES.iter();
    let Some(architecture) = known.find(|of| Some(of.name) == name) else {
        return Err(ModelError::Unsupported {
            path: file.path().to_owned(),
            field: "general.architecture".into(),
            value: shown(name.unwrap_or("none")),
            supported: ARCHITECTURES.map(|of| of.name).join(", "),
        });
    };
    if number(file, "split.count")?.is_some_and(|parts| parts > 1.0) {
        return Err(FileError::Unusable {
            path: file.path().to_owned(),
            what: "model",
            reason: "it is one part of several: join them (llama-gguf-split --merge)".into(),
        }
        .into());
    }
    let of = Model { file, architecture };
    of.expect_neutral()?;
    let heads = of.required("attention.head_count")?;
    let key_value_heads = of.number("attention.head_count_kv")?.unwrap_or(heads);
    let head_dim = of.head_dim(heads)?;
    let base = of.number("rope.freq_base")?.unwrap_or(10_000.0);
    let context = of.required("context_length")?;
    let window = of.number("attention.sliding_window")?.unwrap_or(0.0);
    if window != 0.0 && window < context {
        let key = of.key("attention.sliding_window");
        let supported = format!("none (0, or the context length, {context})");
        return Err(unsupported(file, &key, &window.to_string(), &supported));
    }
    let table = file.tensor(EMBEDDINGS)?;
    let mut config = json!({
        "architectures": [architecture.class],
        "model_type": architecture.model_type,
        "vocab_size": table.rows(),
        "hidden_size": whole(of.required("embedding_length")?),
        "intermediate_size": whole(of.required("feed_forward_length")?),
        "num_hidden_layers": whole(of.required("block_count")?),
        "num_attention_heads": whole(heads),
        "num_key_value_heads": whole(key_value_heads),
        "head_dim": whole(head_dim),
        "hidden_act": "silu",
        "max_position_embeddings": whole(context),
        "rms_norm_eps": of.required("attention.layer_norm_rms_epsilon")?,
        "rope_theta": whole(base),
        "tie_word_embeddings": !file.tensors().contains_key(OUTPUT),
    });
    if architecture.model_type == "llama" {
        let has = |name: &str| file.tensors().contains_key(name);
        config["attention_bias"] = has("blk.0.attn_q.bias").into();
        config["mlp_bias"] = has("blk.0.ffn_gate.bias").into();
    }
    if let Some(scaling) = of.rope_scaling(base, head_dim)? {
        config["rope_scaling"] = scaling;
    }
    match file.metadata().get(&of.key("attention.causal")) {
        None | Some(GgufValue::Bool(true)) => {}
        Some(GgufValue::Bool(false)) => config["is_causal"] = false.into(),
        Some(_) => {
            return Err(wrong(
                file,
                &of.key("attention.causal"),
                "expected true or false",
            ));
        }
    }
    for (field, key) in [
        ("bos_token_id", "bos"),
        ("eos_token_id", "eos"),
        ("pad_token_id", "padding"),
    ] {
        let id = number(file, &format!("tokenizer.ggml.{key}_token_id"))?;
        // Older converters write a number past the vocabulary, or -1, for none.
        let vocabulary = 0.0..table.rows() as f64;
        if let Some(id) = id.filter(|id| vocabulary.contains(id)) {
            config[field] = whole(id);
        }
    }
    match config {
        Value::Object(config) => Ok((config, architecture.rotated)),
        _ => unreachable!("it was made an object"),
    }
}

/// A number as `config.json` has it: without a point where it is whole.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 2f64.powi(53) {
        json!(number as i64)
    } else {
        json!(number)
    }
}

struct Model<'a> {
    file: &'a GgufFile,
    architecture: &'static Architecture,
}

impl Model<'_> {
    /// Keys of a model begin with the name of its architecture.
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        number(self.file, &self.key(key))
    }

    fn required(&self, key: &str) -> Result<f64> {
        let missing = || wrong(self.file, &self.key(key), "is missing");
        self.number(key)?.ok_or_else(missing)
    }

    /// Refuses what would make it another function.
    fn expect_neutral(&self) -> Result<()> {
        // -1 leaves it to the kind of the scaling.
        let is_yarn = text(self.file, &self.key("rope.scaling.type"))? == Some("yarn");
        let extrapolated: &[f64] = if is_yarn { &[1.0, -1.0] } else { &[0.0, -1.0] };
        let all = NEUTRAL.into_iter();
        for (key, neutral) in all.chain([("rope.scaling.yarn_ext_factor", extrapolated)]) {
            let found = self.number(key)?;
            if let Some(found) = found.filter(|found| !neutral.contains(found)) {
                let supported: Vec<_> = neutral.iter().map(f64::to_string).collect();
                let (file, key) = (self.file, self.key(key));
                return Err(unsupported(
                    file,
                    &key,
                    &found.to_string(),
                    &supported.join(", "),
                ));
            }
        }
        Ok(())
    }

    /// The width of a head.
    fn head_dim(&self, heads: f64) -> Result<f64> {
        let keys = self.number("attention.key_length")?;
        let values = self.number("attention.value_length")?;
        if let (Some(keys), Some(values)) = (keys, values)
            && keys != values
        {
            let key = self.key("attention.value_length");
            return Err(wrong(
                self.file,
                &key,
                format!("{values}, but keys have {keys}"),
            ));
        }
        let width = match keys.or(values) {
            Some(width) => width,
            None => self.required("embedding_length")? / heads,
        };
        let rotated = self.number("rope.dimension_count")?;
        if let Some(rotated) = rotated.filter(|rotated| *rotated != width) {
            let key = self.key("rope.dimension_count");
            let reason = format!("expected all {width} values of a head, found {rotated}");
            return Err(wrong(self.file, &key, reason));
        }
        Ok(width)
    }

    fn rope_scaling(&self, base: f64, head_dim: f64) -> Result<Option<Value>> {
        let key = self.key("rope.scaling.type");
        let kind = text(self.file, &key)?;
        let factor = self.number("rope.scaling.factor")?;
        // The oldest files say only this.
        let linear = factor.or(self.number("rope.scale_linear")?);
        let linear = linear.filter(|factor| *factor != 1.0);
        if self.file.tensors().contains_key(ROPE_FACTORS) {
            let other = kind.or(linear.map(|_| "linear"));
            if let Some(kind) = other.filter(|kind| *kind != "none") {
                let supported = format!("none, beside the tensor {ROPE_FACTORS}");
                return Err(unsupported(self.file, &key, kind, &supported));
            }
            return self.llama3_scaling(base, head_dim);
        }
        Ok(match kind {
            None => linear.map(|factor| json!({"rope_type": "linear", "factor": factor})),
            Some("none") => None,
            Some(kind) => {
                let mut scaling = json!({"rope_type": kind, "factor": factor});
                if let Some(length) = self.number("rope.scaling.original_context_length")? {
                    scaling["original_max_position_embeddings"] = whole(length);
                }
                for beta in ["beta_fast", "beta_slow"] {
                    let key = format!("rope.scaling.yarn_{beta}");
                    // Below 0 it is left to whoever reads.
                    if let Some(value) = self.number(&key)?.filter(|value| *value >= 0.0) {
                        scaling[beta] = whole(value);
                    }
                }
                Some(scaling)
            }
        })
    }

    /// LLaMA 3.1's, from the divisors in the file: they have to be those of its formula.
    fn llama3_scaling(&self, base: f64, head_dim: f64) -> Result<Option<Value>> {
        let tensor = self.file.tensor(ROPE_FACTORS)?;
        let mut found = vec![0.0; tensor.width()];
        self.file.read_rows(tensor, 0, &mut found)?;
        let factor = found.iter().copied().fold(1.0, f32::max);
        let length = ORIGINAL_MAX_POSITION_EMBEDDINGS;
        let frequencies = |scaling: RopeScaling| {
            let rope = RopeConfig {
                theta: base,
                scaling,
                rotary_dim: 2 * found.len(),
                max_position_embeddings: length as usize,
            };
            rope.inverse_frequencies(1)
        };
        let plain = frequencies(RopeScaling::Default);
        let scaled = frequencies(RopeScaling::Llama3 {
            factor: f64::from(factor),
            low_freq_factor: LOW_FREQ_FACTOR,
            high_freq_factor: HIGH_FREQ_FACTOR,
            original_max_position_embeddings: length,
        });
        let expected = plain.iter().zip(&scaled).map(|(plain, by)| plain / by);
        // What is computed in f32 elsewhere differs in the sixth digit.
        let fit = found
            .iter()
            .zip(expected)
            .all(|(found, expected)| (f64::from(*found) - expected).abs() <= 1e-3 * expected);
        let of_each = found.len() as f64 * 2.0 == head_dim;
        if !of_each || !fit {
            let shown = shown(format!("{found:?}"));
            let supported = "the divisors of LLaMA 3.1";
            return Err(unsupported(self.file, ROPE_FACTORS, &shown, supported));
        }
        let scaling = json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LOW_FREQ_FACTOR,
            "high_freq_factor": HIGH_FREQ_FACTOR,
            "original_max_position_embeddings": whole(length),
        });
        Ok((factor > 1.0).then_some(scaling))
    }
}

fn wrong(file: &GgufFile, key: &str, reason: impl Into<String>) -> ModelError {
    ModelError::Config {
        path: file.path().to_owned(),
        field: key.into(),
        reason: reason.into(),
    }
}

fn unsupported(file: &GgufFile, key: &str, value: &str, supported: &str) -> ModelError {
    ModelError::Unsupported {
        path: file.path().to_owned(),
        field: key.into(),
        value: value.into(),
        supported: supported.into(),
    }
}

/// A number by its key. Some keys have one for each layer, which have to be the same.
fn number(file: &GgufFile, key: &str) -> Result<Option<f64>> {
    match file.metadata().get(key) {
        None => Ok(None),
        Some(GgufValue::Number(number)) if number.is_finite() => Ok(Some(*number)),
        Some(GgufValue::Numbers(of_layers)) => {
            let (first, others) = of_layers.split_first().unzip();
            if others.is_some_and(|others| others.iter().any(|other| Some(other) != first)) {
                return Err(wrong(file, key, "differs from layer to layer"));
            }
            Ok(first.copied())
        }
        Some(_) => Err(wrong(file, key, "expected a number")),
    }
}

fn text<'a>(file: &'a GgufFile, key: &str) -> Result<Option<&'a str>> {
    match file.metadata().get(key) {
        None => Ok(None),
        Some(GgufValue::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(file, key, "expected text")),
    }
}

//! Reads `config.json` of a Hugging Face folder, with every default of transformers 5 filled in.
//!
//! The defaults of each family are in `family.rs`, what differs from layer to layer in `layers.rs`;
//! the defaults of the rotary embedding's parameters are in `rope.rs`.

use std::path::{Path, PathBuf};

use ls_files::{exists, is_folder, shown};
use ls_ops::Activation;
use serde_json::{Map, Value};

use super::family::{AttentionBias, Family, Multipliers};
use super::layers::Layers;
use super::{LlamaConfig, ProblemType};
use crate::bounds::{HEAD_DIM, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};
use crate::error::{ModelError, Result};
use crate::fields::Fields;

impl LlamaConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    ///
    /// If the file is missing, is not JSON, lacks a field, or asks for something this crate does
    /// not implement: an architecture, activation, RoPE scaling or quantisation is refused by its
    /// name.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let (path, text) = Self::text_of_dir(dir)?;
        Self::from_json(&text, &path)
    }

    /// The path of a folder's `config.json`, and what it holds.
    pub(crate) fn text_of_dir(dir: &Path) -> Result<(PathBuf, String)> {
        let path = dir.join("config.json");
        if !is_folder(dir)? {
            return Err(ModelError::NotACheckpoint {
                path: dir.to_path_buf(),
                reason: "no such folder".into(),
            });
        }
        if !exists(&path)? {
            let reason = "no config.json: this is not a Hugging Face model folder".into();
            return Err(ModelError::NotACheckpoint {
                path: dir.to_path_buf(),
                reason,
            });
        }
        let text = ls_files::read_text(&path)?;
        Ok((path, text))
    }

    /// Parses the text of a `config.json`; `path` is only for messages.
    ///
    /// # Errors
    ///
    /// As [`LlamaConfig::from_dir`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let raw: Map<String, Value> = ls_files::parse_json(text.as_bytes(), path)?;
        let fields = Fields {
            path,
            within: "",
            map: &raw,
        };
        resolve(&fields, raw.clone())
    }
}

fn resolve(fields: &Fields<'_>, raw: Map<String, Value>) -> Result<LlamaConfig> {
    let family = match fields.string("model_type")?.as_deref() {
        Some(name) => match Family::of(name) {
            Some(family) => family,
            None if fields.map.contains_key("text_config") => {
                let names = Family::names();
                let supported = format!(
                    "only models of text alone, and this one has its own text model in \
                     text_config: {names}"
                );
                return Err(fields.unsupported("model_type", name, &supported));
            }
            None => return Err(fields.unsupported("model_type", name, &Family::names())),
        },
        None => return Err(fields.error("model_type", "is missing")),
    };
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

    let hidden_size = fields.required_size("hidden_size", WIDTH)?;
    let num_attention_heads = fields.required_size("num_attention_heads", HEADS)?;
    // An explicit null means as many as query heads; an absent field is the family's default.
    let default_kv = family
        .num_key_value_heads
        .filter(|_| !fields.map.contains_key("num_key_value_heads"));
    let num_key_value_heads = fields
        .size("num_key_value_heads", HEADS)?
        .or(default_kv)
        .unwrap_or(num_attention_heads);
    if num_attention_heads % num_key_value_heads != 0 {
        let reason = format!(
            "{num_key_value_heads} does not divide num_attention_heads {num_attention_heads}"
        );
        return Err(fields.error("num_key_value_heads", reason));
    }
    let head_dim = match fields.size("head_dim", HEAD_DIM)?.or(family.head_dim) {
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
    let num_hidden_layers = fields.required_size("num_hidden_layers", LAYERS)?;
    let max_position_embeddings = fields
        .size("max_position_embeddings", TOKENS)?
        .unwrap_or(family.max_position_embeddings);
    let flag =
        |field: &str, default: bool| -> Result<bool> { Ok(fields.flag(field)?.unwrap_or(default)) };
    let [qkv_bias, o_bias] = match family.attention_bias {
        AttentionBias::Never => [false, false],
        AttentionBias::OfField => [flag("attention_bias", false)?; 2],
        AttentionBias::AllButOutput => [true, false],
    };
    let factor =
        |field: &str, default: f64| -> Result<f64> { Ok(fields.factor(field)?.unwrap_or(default)) };
    let [embeddings, scores, residuals] = match family.multipliers {
        Multipliers::Plain => [1.0, 1.0 / (head_dim as f64).sqrt(), 1.0],
        Multipliers::OfFields => [
            factor("embedding_multiplier", 1.0)?,
            factor("attention_multiplier", 1.0)?,
            factor("residual_multiplier", 1.0)?,
        ],
        Multipliers::OfWidths => {
            let width = factor("query_pre_attn_scalar", 256.0)?;
            [(hidden_size as f64).sqrt(), 1.0 / width.sqrt(), 1.0]
        }
    };
    let attn_logit_softcapping = match family.attn_logit_softcapping {
        Some(_) if fields.map.contains_key("attn_logit_softcapping") => {
            fields.factor("attn_logit_softcapping")?
        }
        default => default,
    };

    let Layers {
        rope,
        sliding_window,
        is_causal,
    } = Layers::read(
        fields,
        family,
        num_hidden_layers,
        head_dim,
        max_position_embeddings,
    )?;

    Ok(LlamaConfig {
        classes: family.classes,
        vocab_size: fields.required_size("vocab_size", VOCABULARY)?,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size", WIDTH)?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        rms_norm_eps: fields
            .fraction("rms_norm_eps", true)?
            .unwrap_or(family.rms_norm_eps),
        norm_scale: family.norm_scale,
        norms: family.norms,
        head_norms: family.head_norms,
        hidden_act: activation(fields, family)?,
        embedding_multiplier: embeddings,
        rounds_embedding_multiplier: family.multipliers == Multipliers::OfWidths,
        attention_multiplier: scores,
        residual_multiplier: residuals,
        attn_logit_softcapping,
        rope,
        qkv_bias,
        o_bias,
        mlp_bias: family.mlp_bias && flag("mlp_bias", false)?,
        fused_projections: family.fused_projections,
        sliding_window,
        tie_word_embeddings: flag("tie_word_embeddings", family.tie_word_embeddings)?,
        is_causal,
        initializer_range: fields.fraction("initializer_range", true)?.unwrap_or(0.02),
        // As transformers' token classifiers read it.
        classifier_dropout: fields
            .fraction("classifier_dropout", false)?
            .or(fields.fraction("hidden_dropout", false)?)
            .unwrap_or(0.1),
        dropout_not_applied: family
            .dropouts
            .iter()
            .filter_map(|field| Some((*field, fields.map.get(*field)?.as_f64()?)))
            .filter(|(_, part)| *part > 0.0)
            .collect(),
        token_classification_bias: flag("token_classification_bias", true)?,
        labels: labels(fields)?,
        problem_type: problem_type(fields)?,
        pad_token_id: if fields.map.contains_key("pad_token_id") {
            fields.token_id("pad_token_id")?
        } else {
            family.pad_token_id
        },
        raw,
    })
}

fn activation(fields: &Fields<'_>, family: &Family) -> Result<Activation> {
    let (field, default) = family.activation;
    match fields.string(field)?.as_deref() {
        None => Ok(default),
        Some("silu") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some(other) => Err(fields.unsupported(field, other, "silu, gelu_pytorch_tanh")),
    }
}

fn problem_type(fields: &Fields<'_>) -> Result<Option<ProblemType>> {
    let Some(name) = fields.string("problem_type")? else {
        return Ok(None);
    };
    let known = ProblemType::ALL
        .into_iter()
        .find(|kind| kind.name() == name);
    match known {
        Some(known) => Ok(Some(known)),
        None => {
            let names = ProblemType::ALL.map(ProblemType::name).join(", ");
            Err(fields.unsupported("problem_type", &name, &names))
        }
    }
}

fn labels(fields: &Fields<'_>) -> Result<Option<Vec<String>>> {
    let map = match fields.map.get("id2label") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => {
            let reason = format!("expected an object, found {}", shown(other));
            return Err(fields.error("id2label", reason));
        }
    };
    let mut names = vec![None; map.len()];
    for (id, name) in map {
        let slot = id.parse::<usize>().ok().and_then(|id| names.get_mut(id));
        // A slot that is taken has two spellings of one id.
        let slot = slot.filter(|slot| slot.is_none());
        match (slot, name.as_str()) {
            (Some(slot), Some(name)) => *slot = Some(name.to_string()),
            _ => {
                return Err(fields.error(
                    "id2label",
                    format!(
                        "entry {:?} is not one of 0..{}, each once",
                        shown(id),
                        map.len()
                    ),
                ));
            }
        }
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::HeadNorms;
    use crate::mask::AttentionMode;
    use crate::rope::{RopeConfig, RopeScaling};

    fn read(value: &Value) -> Result<LlamaConfig> {
        LlamaConfig::from_json(&value.to_string(), Path::new("folder/config.json"))
    }

    /// The least that a file can say, with these fields on top.
    fn with(family: &str, fields: Value) -> Value {
        let mut config = json!({
            "model_type": family, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 4, "num_attention_heads": 8,
        });
        if let (Value::Object(config), Value::Object(fields)) = (&mut config, fields) {
            config.extend(fields);
        }
        config
    }

    fn llama(fields: Value) -> LlamaConfig {
        read(&with("llama", fields)).unwrap()
    }

    #[track_caller]
    fn refused(value: &Value, parts: &[&str]) {
        let error = read(value).unwrap_err().to_string();
        for part in parts.iter().chain(&["folder/config.json"]) {
            assert!(error.contains(part), "{error} / {part}");
        }
    }

    #[test]
    fn llamas_defaults_are_transformers() {
        let config = llama(json!({}));
        assert_eq!((config.num_key_value_heads, config.head_dim), (8, 8));
        assert_eq!(config.max_position_embeddings, 2048);
        assert_eq!(config.rms_norm_eps, 1e-6);
        assert_eq!(config.initializer_range, 0.02);
        assert_eq!(
            (config.qkv_bias, config.o_bias, config.mlp_bias),
            (false, false, false)
        );
        assert_eq!(config.sliding_window, [None; 4]);
        assert!(!config.tie_word_embeddings && config.is_causal);
        assert_eq!(config.classifier_dropout, 0.1);
        let hidden = json!({"hidden_dropout": 0.3});
        assert_eq!(llama(hidden).classifier_dropout, 0.3);
        let both = json!({"hidden_dropout": 0.3, "classifier_dropout": 0.0});
        assert_eq!(llama(both).classifier_dropout, 0.0);
        assert!(config.token_classification_bias);
        let rope = RopeConfig {
            theta: 10_000.0,
            scaling: RopeScaling::Default,
            rotary_dim: 8,
            max_position_embeddings: 2048,
        };
        assert_eq!(config.rope, vec![Some(rope); 4]);
        let biased = llama(json!({"attention_bias": true, "mlp_bias": true, "head_dim": 12}));
        assert_eq!(
            (biased.qkv_bias, biased.o_bias, biased.mlp_bias),
            (true, true, true)
        );
        let turned = biased.rope[0].as_ref().map(|rope| rope.rotary_dim);
        assert_eq!((biased.head_dim, turned), (12, Some(12)));
    }

    #[test]
    fn mistrals_defaults_are_transformers() {
        let config = read(&with("mistral", json!({}))).unwrap();
        assert_eq!(config.num_key_value_heads, 8);
        assert_eq!(config.max_position_embeddings, 131_072);
        assert_eq!(config.sliding_window, [Some(4096); 4]);
        assert!(!config.qkv_bias);
        let fields =
            json!({"sliding_window": null, "num_attention_heads": 16, "num_key_value_heads": null});
        let config = read(&with("mistral", fields)).unwrap();
        assert_eq!(config.sliding_window, [None; 4]);
        // Absent it is 8, null as many as query heads.
        assert_eq!(config.num_key_value_heads, 16);
    }

    #[test]
    fn qwen2s_defaults_are_transformers() {
        let qwen2 = |fields: Value| read(&with("qwen2", fields));
        // Its default of 32 key/value heads does not fit 8 query heads.
        refused(&with("qwen2", json!({})), &["num_key_value_heads", "32"]);
        let config = qwen2(json!({"num_key_value_heads": 2})).unwrap();
        assert_eq!(
            (config.qkv_bias, config.o_bias, config.mlp_bias),
            (true, false, false)
        );
        assert_eq!(config.max_position_embeddings, 32_768);
        assert_eq!(config.sliding_window, [None; 4]);
        // The window has to be switched on, and starts at a layer.
        let fields = json!({"num_key_value_heads": 2, "sliding_window": 7, "max_window_layers": 3});
        let mut config = with("qwen2", fields);
        assert_eq!(read(&config).unwrap().sliding_window, [None; 4]);
        config["use_sliding_window"] = json!(true);
        assert_eq!(
            read(&config).unwrap().sliding_window,
            [None, None, None, Some(7)]
        );
        let [full, sliding] = ["full_attention", "sliding_attention"];
        config["layer_types"] = json!([sliding, full, full, sliding]);
        assert_eq!(
            read(&config).unwrap().sliding_window,
            [Some(7), None, None, Some(7)]
        );
        config["layer_types"] = json!([full]);
        refused(&config, &["layer_types", "1 entries for 4 layers"]);
        config["layer_types"] = json!([full, full, full, "chunked_attention"]);
        refused(&config, &["layer_types", "chunked_attention"]);
    }

    #[test]
    fn qwen3s_and_olmo2s_defaults_are_transformers() {
        let config = read(&with("qwen3", json!({"num_key_value_heads": 2}))).unwrap();
        assert_eq!((config.head_dim, config.qkv_bias), (128, false));
        assert_eq!(config.attention_multiplier, 1.0 / 128f64.sqrt());
        assert_eq!(config.head_norms, Some(HeadNorms::Each));
        assert_eq!(config.max_position_embeddings, 32_768);
        let fields = json!({
            "num_key_value_heads": 2, "use_sliding_window": true, "sliding_window": 7,
            "max_window_layers": 3, "attention_bias": true,
        });
        let config = read(&with("qwen3", fields)).unwrap();
        assert_eq!(config.sliding_window, [None, None, None, Some(7)]);
        assert_eq!((config.qkv_bias, config.o_bias), (true, true));

        let config = read(&with("olmo2", json!({}))).unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim), (8, 8));
        assert_eq!((config.rms_norm_eps, config.pad_token_id), (1e-5, Some(1)));
        let names = [
            ("self_attn.q_norm", 64),
            ("self_attn.k_norm", 64),
            ("post_attention_layernorm", 64),
            ("post_feedforward_layernorm", 64),
        ];
        assert_eq!(config.block_norms(), names);
    }

    #[test]
    fn granites_multipliers_are_one_unless_they_are_given() {
        let multipliers = |fields: Value| {
            let config = read(&with("granite", fields)).unwrap();
            [
                config.embedding_multiplier,
                config.attention_multiplier,
                config.residual_multiplier,
            ]
        };
        assert_eq!(multipliers(json!({})), [1.0; 3]);
        let given = json!({
            "embedding_multiplier": 12, "attention_multiplier": 0.25, "residual_multiplier": 0.5,
            "logits_scaling": 8.0,
        });
        assert_eq!(multipliers(given), [12.0, 0.25, 0.5]);
        for value in [json!(0), json!(-1.0), json!(1e300), json!("12")] {
            let fields = json!({"embedding_multiplier": value});
            refused(
                &with("granite", fields),
                &["embedding_multiplier", "a number from 1e-6 to 1e6"],
            );
        }
        // LLaMA has no such fields.
        let ignored = llama(json!({"embedding_multiplier": 12}));
        assert_eq!(ignored.embedding_multiplier, 1.0);
    }

    #[test]
    fn smollm3_leaves_the_rotary_embedding_out_of_some_layers() {
        let read = |fields: Value| read(&with("smollm3", fields));
        let turned = |fields: Value| -> Vec<bool> {
            let config = read(fields).unwrap();
            config.rope.iter().map(Option::is_some).collect()
        };
        assert_eq!(turned(json!({})), [true, true, true, false]);
        let by_two = json!({"no_rope_layer_interval": 2, "no_rope_layers": null});
        assert_eq!(turned(by_two), [true, false, true, false]);
        // As the published file has them, one for each layer of a larger model.
        let listed = json!({"no_rope_layer_interval": 2, "no_rope_layers": [0, 1, 1, 0, 1, 1]});
        assert_eq!(turned(listed), [false, true, true, false]);

        let config = read(json!({})).unwrap();
        assert_eq!(config.rope[0].as_ref().unwrap().theta, 2_000_000.0);
        assert_eq!(
            (config.num_key_value_heads, config.sliding_window),
            (4, vec![None; 4])
        );
        assert_eq!(config.pad_token_id, Some(128_004));
        assert!(config.tie_word_embeddings);
        let windows = |fields: Value| read(fields).unwrap().sliding_window;
        let window = json!({"use_sliding_window": true, "sliding_window": 7});
        assert_eq!(windows(window), [None, None, None, Some(7)]);

        for (fields, parts) in [
            (
                json!({"no_rope_layers": [1, 0]}),
                ["no_rope_layers", "2 entries for 4 layers"],
            ),
            (
                json!({"no_rope_layers": [1, 0, 2, 1]}),
                ["no_rope_layers", "a list of 0"],
            ),
            (
                json!({"no_rope_layers": 1}),
                ["no_rope_layers", "a list of 0"],
            ),
            (
                json!({"no_rope_layer_interval": 0}),
                ["no_rope_layer_interval", "from 1 to"],
            ),
            (
                json!({"layer_types": "full_attention"}),
                ["layer_types", "a list of names"],
            ),
        ] {
            refused(&with("smollm3", fields), &parts);
        }
    }

    #[test]
    fn gemmas_defaults_are_transformers() {
        let gemma2 = |fields: Value| read(&with("gemma2", fields)).unwrap();
        let config = gemma2(json!({}));
        assert_eq!((config.num_key_value_heads, config.head_dim), (4, 256));
        assert_eq!(
            (config.embedding_multiplier, config.attention_multiplier),
            (8.0, 0.0625)
        );
        assert_eq!(config.attn_logit_softcapping, Some(50.0));
        assert_eq!(config.hidden_act, Activation::GeluTanh);
        assert_eq!(config.sliding_window, [Some(4096), None, Some(4096), None]);
        assert_eq!(
            (config.pad_token_id, config.tie_word_embeddings),
            (Some(0), true)
        );
        let uncapped = gemma2(json!({"attn_logit_softcapping": null, "pad_token_id": null}));
        assert_eq!(
            (uncapped.attn_logit_softcapping, uncapped.pad_token_id),
            (None, None)
        );
        // transformers reads another name than LLaMA's.
        assert!(read(&with("gemma2", json!({"hidden_act": "gelu"}))).is_ok());
        refused(
            &with("gemma2", json!({"hidden_activation": "gelu"})),
            &["hidden_activation \"gelu\"", "silu, gelu_pytorch_tanh"],
        );
        refused(
            &with("gemma2", json!({"use_bidirectional_attention": true})),
            &["use_bidirectional_attention", "is_causal"],
        );

        let gemma3 = |fields: Value| read(&with("gemma3_text", fields)).unwrap();
        let thetas = |config: &LlamaConfig| -> Vec<f64> {
            config
                .rope
                .iter()
                .flatten()
                .map(|rope| rope.theta)
                .collect()
        };
        let config = gemma3(json!({"sliding_window_pattern": 3, "attn_logit_softcapping": 50}));
        assert_eq!(thetas(&config), [1e4, 1e4, 1e6, 1e4]);
        let window = Some(4096);
        assert_eq!(config.sliding_window, [window, window, None, window]);
        assert_eq!(config.attn_logit_softcapping, None);
        assert_eq!(config.head_norms, Some(HeadNorms::Each));
        assert_eq!(gemma3(json!({})).sliding_window, [window; 4]);
        // Half of it to each side, and the own place.
        for (window, is_causal, expected) in [(512, true, 256), (7, true, 3), (512, false, 257)] {
            let config = gemma3(json!({
                "use_bidirectional_attention": true, "sliding_window": window,
                "is_causal": is_causal,
            }));
            assert_eq!(config.attention(), AttentionMode::Bidirectional);
            assert_eq!(config.sliding_window[0], Some(expected));
        }
    }

    #[test]
    fn phi3s_defaults_are_transformers() {
        let config = read(&with("phi3", json!({}))).unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim), (8, 8));
        assert_eq!(config.max_position_embeddings, 4096);
        assert_eq!(config.rms_norm_eps, 1e-5);
        assert_eq!(config.sliding_window, [None; 4]);
        assert_eq!(config.rope[0].as_ref().unwrap().rotary_dim, 8);
        assert_eq!(config.pad_token_id, Some(32_000));
        assert_eq!(
            (config.qkv_bias, config.o_bias, config.mlp_bias),
            (false, false, false)
        );
        let names = config.projections();
        let names: Vec<&str> = names.all().iter().map(|of| of.name).collect();
        let [qkv, o] = ["self_attn.qkv_proj", "self_attn.o_proj"];
        assert_eq!(names, [qkv, o, "mlp.gate_up_proj", "mlp.down_proj"]);
        let fields = json!({
            "num_key_value_heads": 2, "sliding_window": 7, "partial_rotary_factor": 0.75,
            "pad_token_id": null,
        });
        let config = read(&with("phi3", fields)).unwrap();
        assert_eq!(config.dropout_not_applied, []);
        let dropout = json!({
            "num_key_value_heads": 2, "attention_dropout": 0.25, "resid_pdrop": 0.5, "embd_pdrop": 0.1,
        });
        let names = |family| {
            let config = read(&with(family, dropout.clone())).unwrap();
            config.dropout_not_applied
        };
        let attention = ("attention_dropout", 0.25);
        assert_eq!(names("phi3"), [attention, ("resid_pdrop", 0.5)]);
        assert_eq!(names("llama"), [attention]);
        assert_eq!(config.sliding_window, [Some(7); 4]);
        assert_eq!(config.rope[0].as_ref().unwrap().rotary_dim, 6);
        assert_eq!(config.pad_token_id, None);
        let shapes: Vec<_> = config
            .projections()
            .all()
            .iter()
            .map(|of| of.shape)
            .collect();
        assert_eq!(shapes, [[64, 96], [64, 64], [64, 192], [96, 64]]);
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        for (fields, parts) in [
            (
                json!({"model_type": "gpt2"}),
                [
                    "model_type \"gpt2\"",
                    "llama, mistral, qwen2, phi3, qwen3, olmo2",
                ],
            ),
            (
                json!({"model_type": "gemma3", "text_config": {}}),
                ["model_type \"gemma3\"", "in text_config"],
            ),
            (
                json!({"hidden_act": "gelu"}),
                ["hidden_act \"gelu\"", "silu"],
            ),
            (
                json!({"quantization_config": {"quant_method": "gptq"}}),
                ["quantization_config \"gptq\"", "bf16"],
            ),
            (json!({"head_dim": 7}), ["head_dim", "odd"]),
            (json!({"num_attention_heads": 64}), ["head_dim", "odd"]),
            (
                json!({"num_attention_heads": 6}),
                ["hidden_size", "not a multiple"],
            ),
            (
                json!({"num_key_value_heads": 3}),
                [
                    "num_key_value_heads",
                    "3 does not divide num_attention_heads 8",
                ],
            ),
        ] {
            refused(&with("llama", fields), &parts);
        }
        assert!(
            read(&with(
                "llama",
                json!({"quantization_config": null, "hidden_act": null})
            ))
            .is_ok()
        );
    }

    #[test]
    fn wrong_types_and_missing_fields_are_named() {
        for (field, value, expected) in [
            ("model_type", json!(null), "is missing"),
            ("vocab_size", json!(null), "is missing"),
            (
                "hidden_size",
                json!("64"),
                "expected an integer from 1 to 1048576, found \"64\"",
            ),
            (
                "intermediate_size",
                json!(0),
                "expected an integer from 1 to 1048576, found 0",
            ),
            (
                "num_hidden_layers",
                json!(4.5),
                "expected an integer from 1 to 4096, found 4.5",
            ),
            (
                "num_attention_heads",
                json!(-8),
                "expected an integer from 1 to 16384, found -8",
            ),
            (
                "rms_norm_eps",
                json!("small"),
                "expected a number from 0 to 1",
            ),
            (
                "attention_bias",
                json!(1),
                "expected true or false, found 1",
            ),
            ("is_causal", json!("no"), "expected true or false"),
            ("hidden_act", json!(["silu"]), "expected a string"),
            ("pad_token_id", json!("<pad>"), "expected a token id"),
            ("id2label", json!(["a", "b"]), "expected an object"),
            ("problem_type", json!(3), "expected a string, found 3"),
            (
                "problem_type",
                json!("ranking"),
                "regression, single_label_classification, multi_label_classification",
            ),
        ] {
            let mut config = with("llama", json!({}));
            config[field] = value;
            refused(&config, &[field, expected]);
        }
        for (text, part) in [
            ("{", "malformed JSON"),
            ("[]", "expected a map"),
            ("", "malformed JSON"),
        ] {
            let error = LlamaConfig::from_json(text, Path::new("config.json")).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    /// Every number of the file at the edges of machine integers and floats, and past its bounds.
    #[test]
    fn a_number_past_its_bounds_is_refused_with_them() {
        for (field, expected) in [
            ("vocab_size", "from 1 to 16777216"),
            ("hidden_size", "from 1 to 1048576"),
            ("intermediate_size", "from 1 to 1048576"),
            ("num_hidden_layers", "from 1 to 4096"),
            ("num_attention_heads", "from 1 to 16384"),
            ("num_key_value_heads", "from 1 to 16384"),
            ("head_dim", "from 2 to 16384"),
            ("max_position_embeddings", "from 1 to 2147483648"),
            ("sliding_window", "from 1 to 2147483648"),
            ("max_window_layers", "from 0 to 4096"),
        ] {
            for value in [
                json!(1u64 << 32),
                json!(1u64 << 63),
                json!(u64::MAX),
                json!(-1),
                json!(1e308),
            ] {
                let fields = json!({field: value, "use_sliding_window": true});
                let family = if field == "vocab_size" {
                    "llama"
                } else {
                    "qwen2"
                };
                let mut config = with(family, json!({"num_key_value_heads": 2}));
                config
                    .as_object_mut()
                    .unwrap()
                    .extend(fields.as_object().unwrap().clone());
                refused(&config, &[field, expected, &format!("found {value}")]);
            }
        }
        for (field, value) in [
            ("rms_norm_eps", 1e308),
            ("rms_norm_eps", -1e-6),
            ("initializer_range", 1e300),
            ("classifier_dropout", 1.0),
            ("classifier_dropout", -0.1),
            ("rope_theta", 1e300),
        ] {
            refused(&with("llama", json!({field: value})), &[field, "expected"]);
        }
        let llama3 = |low: f64, high: f64| {
            let scaling = json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": low,
                "high_freq_factor": high,
            });
            with("llama", json!({"rope_scaling": scaling}))
        };
        assert!(read(&llama3(1.0, 4.0)).is_ok());
        refused(&llama3(4.0, 4.0), &["high_freq_factor", "more than"]);
        refused(&llama3(1.0, 1e300), &["high_freq_factor", "at most 1e15"]);
        let dynamic = json!({"rope_type": "dynamic", "factor": 2.0});
        let fields = json!({"head_dim": 2, "rope_scaling": dynamic});
        refused(&with("llama", fields), &["rope_type", "head_dim over 2"]);
    }

    #[test]
    fn is_causal_false_means_bidirectional() {
        assert_eq!(llama(json!({})).attention(), AttentionMode::Causal);
        let config = llama(json!({"is_causal": false}));
        assert_eq!(config.attention(), AttentionMode::Bidirectional);
    }

    #[test]
    fn labels_come_in_the_order_of_their_ids() {
        let labels = |map: Value| read(&with("llama", json!({"id2label": map})));
        let eleven: serde_json::Map<_, _> = (0..11)
            .rev()
            .map(|id| (id.to_string(), json!(format!("L{id}"))))
            .collect();
        let expected: Vec<String> = (0..11).map(|id| format!("L{id}")).collect();
        assert_eq!(
            labels(Value::Object(eleven)).unwrap().labels,
            Some(expected)
        );
        assert_eq!(llama(json!({})).labels, None);
        for (map, entry) in [
            (json!({"0": "a", "2": "b"}), "\"2\""),
            (json!({"0": "a", "one": "b"}), "\"one\""),
            (json!({"0": "a", "1": 3}), "\"1\""),
            (json!({"0": "a", "00": "b"}), "\"00\""),
        ] {
            let error = labels(map).unwrap_err().to_string();
            assert!(
                error.contains("id2label") && error.contains(entry),
                "{error}"
            );
        }
    }

    #[test]
    fn a_negative_padding_id_is_none() {
        let id = |value: Value| llama(json!({"pad_token_id": value})).pad_token_id;
        assert_eq!(id(json!(0)), Some(0));
        assert_eq!(id(json!(128_004)), Some(128_004));
        assert_eq!((id(json!(-1)), id(json!(null))), (None, None));
    }
}

//! `adapter_config.json`: a [`LoraConfig`] as peft 0.21.2 writes and reads it.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::{InitLoraWeights, LoraConfig, TargetModules};
use crate::error::{LoraError, Result, invalid};

/// The peft release whose files are written here.
pub(super) const PEFT_VERSION: &str = "0.21.2";

impl LoraConfig {
    /// The content of `adapter_config.json`: every key that peft 0.21.2 writes for LoRA, sorted.
    ///
    /// Lists that are sets in peft are sorted. The patterns keep their order, because it decides
    /// which one counts; peft itself sorts them when it saves.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let ranks: Map<String, Value> = self
            .rank_pattern
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        let alphas: Map<String, Value> = self
            .alpha_pattern
            .iter()
            .map(|(k, v)| (k.clone(), number(*v)))
            .collect();
        let saved = self.saved_modules();
        json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": alphas,
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias,
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": self.exclude_modules.as_ref().map(sorted),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": self.init_lora_weights,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": self.layers_pattern,
            "layers_to_transform": self.layers_to_transform,
            "loftq_config": {},
            "lora_alpha": number(self.lora_alpha),
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": sorted(&self.target_modules),
            "target_parameters": null,
            "task_type": self.task_type,
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        })
    }

    /// Reads the text of an `adapter_config.json`; see [`LoraConfig::from_json_value`].
    ///
    /// # Errors
    ///
    /// [`LoraError::ConfigJson`] when it is not JSON; else as [`LoraConfig::from_json_value`].
    pub fn from_json(text: &str) -> Result<(Self, Vec<String>)> {
        let value: Value =
            serde_json::from_str(text).map_err(|source| LoraError::ConfigJson { source })?;
        Self::from_json_value(&value)
    }

    /// Reads an adapter configuration; the second part of the result are warnings about fields
    /// without effect here.
    ///
    /// Absent fields get peft's defaults; only `peft_type` must be there. What would change the
    /// result and is not implemented is refused. Fields that only steer how a *fresh* adapter
    /// starts are noted and ignored as long as they leave the base weights alone. Of fields that
    /// peft 0.21.2 does not know, those that switch a method on by peft's naming (`use_*` or
    /// `*_config` with a value) are refused; the others are noted and ignored, as peft does.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnsupportedConfig`] and [`LoraError::InvalidConfig`], naming the field.
    pub fn from_json_value(value: &Value) -> Result<(Self, Vec<String>)> {
        let Some(object) = value.as_object() else {
            return Err(invalid(
                "adapter configuration",
                value,
                "it must be a JSON object",
            ));
        };
        match object.get("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(other) => return Err(unsupported("peft_type", other)),
            None => {
                return Err(invalid(
                    "peft_type",
                    "nothing",
                    "an adapter configuration must have it",
                ));
            }
        }
        let mut warnings = Vec::new();
        for (key, value) in object {
            check_field(key, value, &mut warnings)?;
        }

        let fields = Fields(object);
        let default = Self::default();
        // An empty string or list means nothing to peft.
        let exclude_modules = match object.get("exclude_modules") {
            Some(Value::String(text)) => {
                (!text.is_empty()).then(|| TargetModules::Pattern(text.clone()))
            }
            _ => fields
                .get("exclude_modules")?
                .filter(|names: &Vec<String>| !names.is_empty())
                .map(TargetModules::List),
        };
        let layers_pattern = fields.list("layers_pattern")?;
        let is_given = |names: &Vec<String>| names.iter().any(|name| !name.is_empty());
        let mut modules_to_save: Vec<String> = Vec::new();
        // peft appends the heads again each time it loads and saves.
        for name in fields
            .get::<Vec<String>>("modules_to_save")?
            .unwrap_or_default()
        {
            if !modules_to_save.contains(&name) {
                modules_to_save.push(name);
            }
        }
        let config = Self {
            r: fields.present("r", default.r)?,
            lora_alpha: fields.present("lora_alpha", default.lora_alpha)?,
            lora_dropout: fields.present("lora_dropout", default.lora_dropout)?,
            use_rslora: fields.get("use_rslora")?.unwrap_or_default(),
            use_dora: fields.get("use_dora")?.unwrap_or_default(),
            target_modules: fields
                .get("target_modules")?
                .unwrap_or(default.target_modules),
            exclude_modules,
            layers_to_transform: fields.list("layers_to_transform")?,
            layers_pattern: layers_pattern.filter(is_given),
            rank_pattern: fields.pattern("rank_pattern")?,
            alpha_pattern: fields.pattern("alpha_pattern")?,
            modules_to_save,
            init_lora_weights: init_lora_weights(object.get("init_lora_weights"), &mut warnings)?,
            bias: fields.get("bias")?.unwrap_or_default(),
            task_type: fields.get("task_type")?,
            base_model_name_or_path: fields.get("base_model_name_or_path")?,
            revision: fields.get("revision")?,
        };
        config.validate()?;
        Ok((config, warnings))
    }
}

/// Module names sorted, for they are sets in peft, which writes them in an order that changes from
/// run to run.
fn sorted(targets: &TargetModules) -> Value {
    match targets {
        TargetModules::List(names) => json!(names.iter().collect::<BTreeSet<_>>()),
        other => json!(other),
    }
}

/// Refuses a field that would change the result, notes one that has no effect here, and passes the
/// others.
fn check_field(key: &str, value: &Value, warnings: &mut Vec<String>) -> Result<()> {
    let off = is_off(value);
    match key {
        // Read by the caller, or information only.
        "peft_type"
        | "r"
        | "lora_alpha"
        | "lora_dropout"
        | "use_rslora"
        | "use_dora"
        | "bias"
        | "target_modules"
        | "exclude_modules"
        | "layers_to_transform"
        | "layers_pattern"
        | "rank_pattern"
        | "alpha_pattern"
        | "modules_to_save"
        | "init_lora_weights"
        | "task_type"
        | "base_model_name_or_path"
        | "revision"
        | "peft_version"
        | "inference_mode"
        | "auto_mapping" => Ok(()),
        // Details of a method that another field switches on.
        "megatron_core" | "qalora_group_size" => Ok(()),
        "alora_invocation_tokens"
        | "arrow_config"
        | "ensure_weight_tying"
        | "kasa_config"
        | "layer_replication"
        | "lora_bias"
        | "megatron_config"
        | "monteclora_config"
        | "target_parameters"
        | "trainable_token_indices"
        | "use_bdlora"
        | "use_qalora"
        | "velora_config" => {
            if off {
                Ok(())
            } else {
                Err(unsupported(key, value))
            }
        }
        // Settings of initialisations that are refused or noted by their own name; peft resets
        // fan_in_fan_out for linear layers; it never reads runtime_config from a file.
        "corda_config" | "eva_config" | "loftq_config" | "lora_ga_config" | "fan_in_fan_out"
        | "runtime_config" => {
            if !off {
                warnings.push(format!(
                    "`{key}` has no effect on linear layers of a saved adapter and is ignored"
                ));
            }
            Ok(())
        }
        _ if off => Ok(()),
        // The naming by which peft switches methods on.
        _ if key.starts_with("use_") || key.ends_with("_config") => Err(unsupported(key, value)),
        _ => {
            warnings.push(format!("unknown field `{key}` is ignored"));
            Ok(())
        }
    }
}

/// Whether a switch or an optional setting is at rest.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

/// Initialisations that leave the base alone do not matter for saved weights. Of those that change
/// it, PiSSA and OLoRA can be repeated on the base, as peft does on loading; a random approximation
/// cannot.
fn init_lora_weights(value: Option<&Value>, warnings: &mut Vec<String>) -> Result<InitLoraWeights> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(InitLoraWeights::Default);
    };
    match InitLoraWeights::deserialize(value) {
        Ok(InitLoraWeights::Pissa { niter: Some(_) }) => {
            return Err(unsupported("init_lora_weights", value));
        }
        Ok(init) => return Ok(init),
        Err(_) => {}
    }
    let base_untouched = [json!(false), json!("eva"), json!("mica")].contains(value);
    if !base_untouched {
        return Err(unsupported("init_lora_weights", value));
    }
    warnings.push(format!(
        "`init_lora_weights` = {value} only steers how a fresh adapter starts and is ignored"
    ));
    Ok(InitLoraWeights::Default)
}

/// The fields of a configuration as what they should be.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A field that may be null, which counts as absent.
    fn get<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>> {
        let value = self.0.get(key).filter(|value| !value.is_null());
        value.map(|value| typed(key, value)).transpose()
    }

    /// A field that may be absent and not null.
    fn present<T: Deserialize<'a>>(&self, key: &str, default: T) -> Result<T> {
        self.0
            .get(key)
            .map_or(Ok(default), |value| typed(key, value))
    }

    /// A field that may hold one value in place of a list.
    fn list<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<Vec<T>>> {
        match self.0.get(key) {
            None | Some(Value::Null | Value::Array(_)) => self.get(key),
            Some(one) => Ok(Some(vec![typed(key, one)?])),
        }
    }

    /// A field that holds values by pattern, in the file's order.
    fn pattern<T: Deserialize<'a>>(&self, key: &str) -> Result<Vec<(String, T)>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(entries)) => entries
                .iter()
                .map(|(pattern, value)| Ok((pattern.clone(), typed(key, value)?)))
                .collect(),
            Some(other) => Err(invalid(key, other, "an object is needed")),
        }
    }
}

fn typed<'a, T: Deserialize<'a>>(field: &str, value: &'a Value) -> Result<T> {
    T::deserialize(value).map_err(|error| match value {
        Value::String(text) => invalid(field, text, error.to_string()),
        other => invalid(field, other, error.to_string()),
    })
}

/// A number as Python would have it: 8 rather than 8.0, since alphas usually are whole.
fn number(value: f64) -> Value {
    // Past 2^53 not every whole number is a float, and no alpha is that large.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn unsupported(field: &str, value: &Value) -> LoraError {
    LoraError::UnsupportedConfig {
        field: field.to_owned(),
        value: value.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::TaskType;

    /// Written by peft 0.21.2 for a sequence classifier, but for the order in `target_modules`,
    /// which is random there.
    const PEFT_SEQ_CLS: &str = include_str!("../../tests/fixtures/peft/config/seq_cls.json");
    /// Fields that are not at their defaults, from the same release (after `save_pretrained` of the
    /// configuration).
    const PEFT_RICH: &str = include_str!("../../tests/fixtures/peft/config/rich.json");

    fn read(text: &str) -> LoraConfig {
        let (config, warnings) = LoraConfig::from_json(text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    /// A configuration with these fields beside `peft_type`.
    fn read_fields(fields: Value) -> Result<(LoraConfig, Vec<String>)> {
        let mut object = json!({"peft_type": "LORA"});
        for (key, value) in fields.as_object().unwrap() {
            object[key] = value.clone();
        }
        LoraConfig::from_json_value(&object)
    }

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_peft_writes_is_read_and_written_again_unchanged() {
        for text in [PEFT_SEQ_CLS, PEFT_RICH] {
            assert_eq!(read(text).to_json(), parse(text));
        }
        // Also to the byte, where peft sorts the patterns as they are.
        assert_eq!(
            format!("{:#}\n", read(PEFT_SEQ_CLS).to_json()),
            PEFT_SEQ_CLS
        );
    }

    #[test]
    fn pefts_fields_arrive() {
        let config = read(PEFT_SEQ_CLS);
        assert_eq!(
            (config.r, config.lora_alpha, config.lora_dropout),
            (2, 5.0, 0.1)
        );
        assert_eq!(
            config.target_modules,
            TargetModules::list(["q_proj", "v_proj"])
        );
        assert_eq!(config.task_type, Some(TaskType::SeqCls));
        assert_eq!(config.rank_of("model.layers.0.self_attn.v_proj"), 3);
        assert_eq!(config.scaling_of("model.layers.1.self_attn.q_proj"), 5.0);

        let config = read(PEFT_RICH);
        assert!(config.use_rslora);
        assert_eq!(config.lora_alpha, 2.5);
        assert_eq!(config.init_lora_weights, InitLoraWeights::Gaussian);
        assert_eq!(config.layers_to_transform, Some(vec![0, 1]));
        assert_eq!(config.layers_pattern, Some(vec!["layers".to_owned()]));
        assert_eq!(
            config.exclude_modules,
            Some(TargetModules::list(["0.self_attn.q_proj"]))
        );
        assert_eq!(
            config.base_model_name_or_path.as_deref(),
            Some("org/modèle")
        );
        assert_eq!(config.revision.as_deref(), Some("main"));
    }

    #[test]
    fn keys_are_written_in_alphabetical_order() {
        let json = LoraConfig::default().to_json();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted());
        assert_eq!(keys.len(), 41);
    }

    #[test]
    fn absent_and_null_fields_have_pefts_defaults() {
        let (config, warnings) = LoraConfig::from_json(r#"{"peft_type": "LORA"}"#).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(config, LoraConfig::default());
        assert_eq!((config.r, config.lora_alpha), (8, 8.0));
        assert_eq!(
            config.target_modules,
            TargetModules::list(["q_proj", "v_proj"])
        );
        let nulls = json!({"target_modules": null, "exclude_modules": null, "modules_to_save": null,
            "rank_pattern": null, "alpha_pattern": {}, "layers_pattern": [], "task_type": null, "bias": "none"});
        assert_eq!(read_fields(nulls).unwrap().0, config);
        let empty = json!({"exclude_modules": "", "layers_pattern": ""});
        assert_eq!(read_fields(empty).unwrap().0, config);
    }

    #[test]
    fn a_configuration_survives_the_file() {
        let mut config = LoraConfig::new(3, 0.75)
            .with_lora_dropout(0.25)
            .with_target_modules(TargetModules::parse(r".*\.(q|v)_proj"))
            .with_task_type(TaskType::TokenCls)
            .with_modules_to_save(["norm", "classifier", "score"]);
        config.use_rslora = true;
        config.exclude_modules = Some(TargetModules::parse(".*0.*"));
        config.rank_pattern = vec![("z".into(), 1), ("a".into(), 2)];
        config.alpha_pattern = vec![("z".into(), 1.5), ("a".into(), 2.0)];
        config.init_lora_weights = InitLoraWeights::Gaussian;
        assert_eq!(read(&config.to_json().to_string()), config);
        config.exclude_modules = None;
        config.target_modules = TargetModules::AllLinear;
        assert_eq!(read(&config.to_json().to_string()), config);
    }

    #[test]
    fn one_layer_and_one_pattern_may_stand_without_a_list() {
        let (config, _) =
            read_fields(json!({"layers_to_transform": 3, "layers_pattern": "h"})).unwrap();
        assert_eq!(config.layers_to_transform, Some(vec![3]));
        assert_eq!(config.layers_pattern, Some(vec!["h".to_owned()]));
    }

    #[test]
    fn heads_of_the_task_are_saved_once_and_after_the_listed_modules() {
        let config = LoraConfig::default();
        assert!(config.saved_modules().is_empty());
        assert_eq!(config.to_json()["modules_to_save"], Value::Null);
        let config = config.with_task_type(TaskType::TokenCls);
        assert_eq!(config.saved_modules(), ["classifier", "score"]);
        let config = config.with_modules_to_save(["norm", "score"]);
        assert_eq!(config.saved_modules(), ["norm", "score", "classifier"]);
        let again =
            json!({"modules_to_save": ["norm", "classifier", "score", "classifier", "score"]});
        assert_eq!(
            read_fields(again).unwrap().0.modules_to_save,
            ["norm", "classifier", "score"]
        );
    }

    #[test]
    fn fields_that_would_change_the_result_are_refused_by_name() {
        let cases = [
            json!({"lora_bias": true}),
            json!({"ensure_weight_tying": true}),
            json!({"use_qalora": true}),
            json!({"use_bdlora": {"nblocks": 2}}),
            json!({"alora_invocation_tokens": [1, 2]}),
            json!({"arrow_config": {"top_k": 3}}),
            json!({"kasa_config": {"beta": 1e-4}}),
            json!({"monteclora_config": {"num_samples": 8}}),
            json!({"velora_config": {"scale": 1.0}}),
            json!({"megatron_config": {"a": 1}}),
            json!({"layer_replication": [[0, 4], [2, 5]]}),
            json!({"target_parameters": ["experts.gate_up_proj"]}),
            json!({"trainable_token_indices": [0]}),
            json!({"init_lora_weights": "pissa_niter_4"}),
            json!({"init_lora_weights": "loftq"}),
            json!({"init_lora_weights": "corda"}),
            json!({"init_lora_weights": "lora_ga"}),
            json!({"init_lora_weights": 3}),
            json!({"peft_type": "IA3"}),
            // Unknown, but switched on by peft's naming.
            json!({"use_newlora": true}),
            json!({"newlora_config": {"depth": 1}}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            match read_fields(fields).unwrap_err() {
                LoraError::UnsupportedConfig { field, .. } => assert_eq!(field, name),
                other => panic!("{name}: {other}"),
            }
        }
    }

    #[test]
    fn fields_without_effect_here_are_noted() {
        let cases = [
            json!({"init_lora_weights": "eva"}),
            json!({"init_lora_weights": "mica"}),
            json!({"init_lora_weights": false}),
            json!({"eva_config": {"rho": 2.0}}),
            json!({"fan_in_fan_out": true}),
            json!({"runtime_config": {"ephemeral_gpu_offload": true}}),
            json!({"ls_llama": {"labels": ["a"]}}),
            json!({"note": "mine"}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            let (config, warnings) = read_fields(fields).unwrap();
            assert_eq!(config, LoraConfig::default());
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(&format!("`{name}`")), "{warnings:?}");
        }
        // Switches of later releases that are off, and details of methods that are not in use, are
        // no news.
        let silent = json!({"use_newlora": false, "newlora_config": null, "qalora_group_size": 32,
            "megatron_core": "x", "inference_mode": false, "peft_version": "0.99", "init_lora_weights": "Gaussian",
            "auto_mapping": {"base_model_class": "X", "parent_library": "y"}});
        assert!(read_fields(silent).unwrap().1.is_empty());
    }

    #[test]
    fn invalid_values_name_their_field() {
        let cases = [
            json!({"r": 0}),
            json!({"r": -1}),
            json!({"r": 2.5}),
            json!({"r": null}),
            json!({"lora_alpha": "16"}),
            json!({"lora_alpha": null}),
            json!({"lora_dropout": 1.0}),
            json!({"lora_dropout": -0.1}),
            json!({"use_rslora": "yes"}),
            json!({"target_modules": []}),
            json!({"target_modules": [1]}),
            json!({"target_modules": {"a": 1}}),
            json!({"target_modules": "(q_proj"}),
            json!({"exclude_modules": 1}),
            json!({"modules_to_save": "score"}),
            json!({"layers_to_transform": [-1]}),
            json!({"layers_to_transform": [0], "target_modules": ".*q_proj"}),
            json!({"layers_pattern": ["layers"]}),
            json!({"rank_pattern": {"q_proj": 0}}),
            json!({"rank_pattern": {"q_proj": 1.5}}),
            json!({"rank_pattern": ["q_proj"]}),
            json!({"alpha_pattern": {"q_proj": "x"}}),
            json!({"task_type": "SEQ_CLASS"}),
            json!({"base_model_name_or_path": 1}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            match read_fields(fields.clone()).unwrap_err() {
                LoraError::InvalidConfig { field, .. } => assert_eq!(field, name),
                other => panic!("{fields}: {other}"),
            }
        }
        for text in ["[]", "{}", "\"LORA\""] {
            assert!(matches!(
                LoraConfig::from_json(text),
                Err(LoraError::InvalidConfig { .. })
            ));
        }
        assert!(matches!(
            LoraConfig::from_json("{"),
            Err(LoraError::ConfigJson { .. })
        ));
        // Python writes such numbers, JSON has none.
        assert!(LoraConfig::from_json(r#"{"peft_type": "LORA", "lora_alpha": NaN}"#).is_err());
    }
}

//! What the adapter that a run begins from (`model.adapter`) says of its configuration. The JSON of
//! its folder is read, no weights.

use std::path::Path;

use ls_data::TaskKind;
use ls_files::exists;
use ls_lora::LoraConfig;
use serde::Serialize;
use toml::{Table, Value};

use super::checks::Faults;
use super::settings::LoraSettings;
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;

/// The keys of adapters that may be others than the adapter's: those that say only how it trains.
const FREE: [&str; 1] = ["lora_dropout"];
/// What is compared by the layers that it means, once the model is known: a list and `all-linear`
/// may mean the same.
const BY_LAYERS: &str = "target_modules";

impl LoraSettings {
    /// Those of an adapter, as far as there are keys for them.
    fn of_adapter(config: &LoraConfig) -> Self {
        Self {
            r: config.r,
            lora_alpha: config.lora_alpha,
            lora_dropout: config.lora_dropout,
            target_modules: Some(config.target_modules.clone()),
            use_rslora: config.use_rslora,
            use_dora: config.use_dora,
            init_lora_weights: config.init_lora_weights,
            bias: config.bias,
            modules_to_save: config.modules_beside_heads(),
        }
    }

    /// Where these contradict the adapter in a folder, a sentence each.
    ///
    /// # Errors
    ///
    /// If they cannot be written as TOML: a number is past its range.
    pub(crate) fn contradictions(&self, adapter: &LoraConfig, dir: &Path) -> Result<Vec<String>> {
        let own = keys(&Self::of_adapter(adapter))?;
        let stated = keys(self)?;
        let stated = stated
            .iter()
            .filter(|(key, _)| *key != BY_LAYERS && !FREE.contains(&key.as_str()));
        let faults = stated.filter_map(|(key, value)| contradiction(key, value, &own, dir));
        Ok(faults.collect())
    }
}

/// Fills in what the adapter of `model.adapter` says, if there is one, where the file does not:
/// `[lora]`, the base model, and of one that was trained here how it reads and pools. What `[lora]`
/// says otherwise is a fault.
pub(super) fn fill(table: &mut Table, task: Option<TaskKind>, faults: &mut Faults) {
    let Some(Value::Table(model)) = table.get("model") else {
        return;
    };
    let Some(Value::String(dir)) = model.get("adapter") else {
        return;
    };
    if dir.is_empty() {
        return;
    }
    if table.get("lora").and_then(Value::as_bool) == Some(false) {
        faults.unread(
            "model.adapter".into(),
            "there are no adapters (lora = false): leave one of the two out",
        );
        return;
    }
    let dir = dir.clone();
    if let Err(error) = fill_from(table, task, Path::new(&dir), faults) {
        faults.unread("model.adapter".into(), &error.chain());
    }
}

fn fill_from(
    table: &mut Table,
    task: Option<TaskKind>,
    dir: &Path,
    faults: &mut Faults,
) -> Result<()> {
    let (config, _) = LoraConfig::from_folder(dir)?;
    let record = InferenceSettings::load(dir)?;

    let own = keys(&LoraSettings::of_adapter(&config))?;
    let mut empty = Value::Table(Table::new());
    let stated = table.get_mut("lora").unwrap_or(&mut empty);
    // A value of another kind is a fault of its own.
    if let Value::Table(stated) = stated {
        for (key, value) in &own {
            let Some(said) = stated.get(key) else {
                stated.insert(key.clone(), value.clone());
                continue;
            };
            if key == BY_LAYERS || FREE.contains(&key.as_str()) {
                continue;
            }
            // As the value is read: 8 for 8.0. One that cannot be read is a fault of its own.
            let alone = Table::from_iter([(key.clone(), said.clone())]);
            if let Ok(said) = alone.try_into::<LoraSettings>()
                && let Some(said) = keys(&said)?.get(key)
                && let Some(fault) = contradiction(key, said, &own, dir)
            {
                faults.add(fault);
            }
        }
    }
    let lora = stated.clone();
    table.insert("lora".into(), lora);

    let mut defaults = Vec::new();
    let named = record.as_ref().map(|record| record.base_model.clone());
    let named = named.or_else(|| config.base_model_name_or_path.as_ref().map(Into::into));
    if let Some(base) = named.filter(|base| !base.as_os_str().is_empty()) {
        let is_stated = section(table, "model").is_some_and(|model| model.contains_key("path"));
        if base.is_absolute() && !is_stated && !exists(&base)? {
            faults.unread(
                "model.path".into(),
                &format!(
                    "{} names the base model {}, which is not here: say where it is",
                    dir.display(),
                    base.display()
                ),
            );
        } else {
            defaults.push(("model", "path", base.to_string_lossy().into_owned().into()));
        }
    }
    if let Some(record) = &record {
        let same_task = task == Some(record.task);
        defaults.push(("model", "attention", value(&record.attention)?));
        defaults.push(("model", "dtype", value(&record.dtype)?));
        if let Some(quantization) = &record.quantization {
            defaults.push(("model", "quantization", value(quantization)?));
        }
        let special_tokens = value(&record.special_tokens)?;
        defaults.push(("data", "special_tokens", special_tokens));
        if let Some(pooling) = record.pooling.filter(|_| same_task) {
            defaults.push(("model", "pooling", value(&pooling)?));
        }
        if same_task && record.task == TaskKind::Token {
            defaults.push(("data", "label_position", value(&record.label_position)?));
            defaults.push(("data", "words", value(&record.words)?));
        }
    }
    for (name, key, value) in defaults {
        if let Some(keys) = section(table, name) {
            keys.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// A table of the file, which is made where it is missing.
fn section<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    let section = table.entry(name).or_insert_with(|| Table::new().into());
    section.as_table_mut()
}

/// What is wrong with a value of `[lora]` beside an adapter, whose own values are `own`.
fn contradiction(key: &str, said: &Value, own: &Table, dir: &Path) -> Option<String> {
    let own = own.get(key)?;
    (sorted(said) != sorted(own)).then(|| {
        format!(
            "lora.{key}: expected {own}, as the adapter in {} has it (model.adapter), found \
             {said}: leave it out",
            dir.display()
        )
    })
}

/// Names in a list are a set.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut names: Vec<String> = values.iter().map(ToString::to_string).collect();
            names.sort();
            names.dedup();
            names.into()
        }
        value => value.clone(),
    }
}

fn keys(settings: &LoraSettings) -> Result<Table> {
    Table::try_from(settings).map_err(unwritable)
}

fn value(value: &impl Serialize) -> Result<Value> {
    Value::try_from(value).map_err(unwritable)
}

fn unwritable(error: toml::ser::Error) -> TrainError {
    TrainError::Config {
        origin: "model.adapter".into(),
        faults: vec![error.to_string()],
    }
}

//! What the adapter that a run begins from (`model.adapter`) says of its configuration. The JSON of
//! its folder is read, no weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ls_data::TaskKind;
use ls_files::{exists, listed};
use ls_lora::{LoraConfig, TargetModules};
use ls_model::LlamaConfig;
use serde::Serialize;
use toml::{Table, Value};

use super::checks::Faults;
use super::settings::{LoraSettings, Protocol, RunConfig};
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;

/// The keys of adapters that may be others than the adapter's: those that say only how it trains.
const FREE: [&str; 1] = ["lora_dropout"];
/// What is compared by the layers that it means, once the model is known: a list and `all-linear`
/// may mean the same.
const BY_LAYERS: &str = "target_modules";
/// Names that are listed in a message.
const LISTED: usize = 10;

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

    /// Where these contradict the adapter in a folder, a sentence each. `model` is that of both.
    ///
    /// # Errors
    ///
    /// If they cannot be written as TOML: a number is past its range; if a target that is named
    /// matches no layer of the model.
    pub(crate) fn contradictions(
        &self,
        adapter: &LoraConfig,
        dir: &Path,
        model: &LlamaConfig,
    ) -> Result<Vec<String>> {
        let own = keys(&Self::of_adapter(adapter))?;
        let stated = keys(self)?;
        let stated = stated
            .iter()
            .filter(|(key, _)| *key != BY_LAYERS && !FREE.contains(&key.as_str()));
        let faults = stated.filter_map(|(key, value)| contradiction(key, value, &own, dir));
        let mut faults: Vec<String> = faults.collect();
        faults.extend(self.other_targets(adapter, dir, model)?);
        Ok(faults)
    }

    /// What is wrong with the targets, if they mean other layers than the adapter's. Whatever else
    /// the adapter says of its layers (single ones, excluded ones) holds for both.
    fn other_targets(
        &self,
        adapter: &LoraConfig,
        dir: &Path,
        model: &LlamaConfig,
    ) -> Result<Option<String>> {
        let Some(targets) = &self.target_modules else {
            return Ok(None);
        };
        if as_set(targets) == as_set(&adapter.target_modules) {
            return Ok(None);
        }
        let mut stated = adapter.clone();
        stated.target_modules = targets.clone();
        if !matches!(targets, TargetModules::List(_)) {
            // Only lists are of single layers.
            (stated.layers_to_transform, stated.layers_pattern) = (None, None);
        }
        let named = BTreeSet::from_iter(model.adapted_by(&stated)?);
        let own = BTreeSet::from_iter(model.adapted_by_trained(adapter)?);
        let only = |one: &BTreeSet<String>, other| {
            let names = one.difference(other).cloned();
            match listed(names.collect::<Vec<_>>(), LISTED) {
                names if names.is_empty() => "none".into(),
                names => names,
            }
        };
        Ok((named != own).then(|| {
            format!(
                "lora.target_modules: expected the layers that the adapter in {} adapts \
                 (model.adapter), found others: beside them {}, without {}: leave it out",
                dir.display(),
                only(&named, &own),
                only(&own, &named),
            )
        }))
    }
}

impl RunConfig {
    /// Sees that `[lora]` says nothing else than the adapter that the run begins from, if its model
    /// is here: which layers the targets mean follows from that. What is wrong with the model
    /// itself, the run says.
    ///
    /// # Errors
    ///
    /// If it does; if the adapter's configuration cannot be read.
    pub fn check_adapter(&self) -> Result<()> {
        if self.model.adapter.is_none() {
            return Ok(());
        }
        match LlamaConfig::from_dir(&self.model.path) {
            Ok(model) => self.check_adapter_on(&model),
            Err(_) => Ok(()),
        }
    }

    /// The same by the model's configuration.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub(super) fn check_adapter_on(&self, model: &LlamaConfig) -> Result<()> {
        let (Some(dir), Some(lora)) = (&self.model.adapter, &self.lora) else {
            return Ok(());
        };
        let (adapter, _) = LoraConfig::from_folder(dir)?;
        let faults = lora.contradictions(&adapter, dir, model)?;
        if faults.is_empty() {
            return Ok(());
        }
        Err(TrainError::Config {
            origin: "the configuration".into(),
            faults,
        })
    }
}

/// The base model that the adapter in a folder names, if it names one.
///
/// # Errors
///
/// If what stands in the folder cannot be read.
pub fn base_of_adapter(dir: &Path) -> Result<Option<PathBuf>> {
    let (config, _) = LoraConfig::from_folder(dir)?;
    Ok(base(&config, InferenceSettings::load(dir)?.as_ref()))
}

fn base(config: &LoraConfig, record: Option<&InferenceSettings>) -> Option<PathBuf> {
    let named = record.map(|record| record.base_model.clone());
    let named = named.or_else(|| config.base_model_name_or_path.as_ref().map(Into::into));
    named.filter(|base| !base.as_os_str().is_empty())
}

/// Whether something stands where the adapter of `model.adapter` should. Where the system does not
/// say, its error is that of who reads it.
pub(super) fn is_there(table: &Table) -> bool {
    let dir = stated_in(table, "model", "adapter").and_then(Value::as_str);
    dir.is_some_and(|dir| exists(dir).unwrap_or(true))
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
    if let Some(base) = base(&config, record.as_ref()) {
        let is_stated = stated_in(table, "model", "path").is_some();
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
        defaults.extend(padding(table, record)?);
        if let Some(pooling) = record.pooling.filter(|_| same_task) {
            defaults.push(("model", "pooling", value(&pooling)?));
        }
        // A known data set decides by itself.
        let free = stated_in(table, "data", "dataset").is_none();
        if let Some(problem) = record.problem_type.filter(|_| same_task && free) {
            defaults.push(("model", "problem_type", problem.name().into()));
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

/// How an adapter's inputs were filled up, as far as it goes with what the file says: the protocol
/// paper decides by itself, and a side or a length that is stated may leave no room for it.
fn padding(
    table: &Table,
    record: &InferenceSettings,
) -> Result<Vec<(&'static str, &'static str, Value)>> {
    let side = value(&record.padding_side)?;
    let mut found = vec![("data", "padding_side", side.clone())];
    if stated_in(table, "data", "protocol") == Some(&value(&Protocol::Paper)?) {
        return Ok(found);
    }
    if stated_in(table, "data", "padding_side").is_none_or(|stated| *stated == side) {
        found.push(("data", "padding", value(&record.padding)?));
    }
    let longest = stated_in(table, "data", "max_length").and_then(Value::as_integer);
    if let Some(pad_to) = record.pad_to
        && longest.is_none_or(|longest| longest <= pad_to as i64)
    {
        found.push(("data", "pad_to", value(&pad_to)?));
    }
    Ok(found)
}

/// What the file says of a key.
pub(super) fn stated_in<'a>(table: &'a Table, name: &str, key: &str) -> Option<&'a Value> {
    table.get(name)?.as_table()?.get(key)
}

/// A table of the file, which is made where it is missing.
pub(super) fn section<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
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

/// A choice of modules whose order and repetitions do not count.
fn as_set(targets: &TargetModules) -> TargetModules {
    match targets {
        TargetModules::List(names) => {
            TargetModules::list(names.iter().collect::<BTreeSet<_>>().into_iter().cloned())
        }
        other => other.clone(),
    }
}

/// The keys without the heads in `modules_to_save`, which train whether or not they are listed.
fn keys(settings: &LoraSettings) -> Result<Table> {
    let mut settings = settings.clone();
    settings.modules_to_save = settings.config().modules_beside_heads();
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

//! [`PeftAdapter`]: PEFT's adapter folder, read, checked and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ls_files::{
    Dtype, FileError, HostTensor, TensorFile, create_folder, exists, is_file, is_folder, sweep,
    write_atomic, write_tensors,
};

use super::config::PEFT_VERSION;
use super::tensors::{
    AdapterTensors, PREFIX, Part, VOCABULARY, is_vocabulary, no_surplus, sort_keys,
};
use crate::config::{Bias, LoraConfig, TargetModules, TaskType, matches_pattern_key};
use crate::error::{LoraError, Result};
use crate::layer::LayerKind;
use crate::target::{ModuleMatcher, Selection, modules_of_adapter};

/// The file that holds the configuration of an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The name of the weights in an adapter folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Their name where an older peft wrote them, or a newer one with `safe_serialization=False`.
pub const PICKLED_WEIGHTS_FILE: &str = "adapter_model.bin";
const CARD_FILE: &str = "README.md";

/// The file that holds the weights of an adapter folder: [`WEIGHTS_FILE`], unless there is only
/// [`PICKLED_WEIGHTS_FILE`].
///
/// # Errors
///
/// [`FileError::Read`] if the system does not say what is there.
pub fn weights_file(dir: impl AsRef<Path>) -> Result<PathBuf> {
    let path = dir.as_ref().join(WEIGHTS_FILE);
    let pickle = dir.as_ref().join(PICKLED_WEIGHTS_FILE);
    Ok(if !exists(&path)? && exists(&pickle)? {
        pickle
    } else {
        path
    })
}

/// An adapter folder in memory.
///
/// ```
/// use std::collections::BTreeMap;
/// use ls_lora::{AdapterTensors, HostTensor, LoraConfig, PeftAdapter, TargetModules};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let folder = dir.path().join("adapter");
/// let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
/// let adapter = PeftAdapter {
///     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
///     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
///     saved_modules: BTreeMap::new(),
///     warnings: Vec::new(),
/// };
/// adapter.save(&folder)?;
/// assert_eq!(PeftAdapter::load(&folder)?, adapter);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// The configuration.
    pub config: LoraConfig,
    /// The adapted modules by their full name in the base model, such as
    /// `model.layers.0.self_attn.q_proj`.
    pub lora: BTreeMap<String, AdapterTensors>,
    /// Tensors that are saved in full, under their names in the file without the prefix: tensors of
    /// saved modules such as `score.weight`, trained biases (`fc1.base_layer.bias` of an adapted
    /// layer), the table of an adapted embedding.
    pub saved_modules: BTreeMap<String, HostTensor>,
    /// Warnings about the file that was read; empty for an adapter made here.
    pub warnings: Vec<String>,
}

/// Whether an adapter of a classifier must hold its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Needed,
    Optional,
}

impl LoraConfig {
    /// Reads the configuration of an adapter folder, and none of its weights; the second part of
    /// the result are warnings, as of [`LoraConfig::from_json_value`].
    ///
    /// # Errors
    ///
    /// [`LoraError::File`] if there is no such folder or no configuration in it,
    /// [`LoraError::AdapterConfig`] with its cause.
    pub fn from_folder(dir: impl AsRef<Path>) -> Result<(Self, Vec<String>)> {
        let dir = dir.as_ref();
        if !is_folder(dir)? {
            return Err(FileError::NoFolder {
                path: dir.to_owned(),
            }
            .into());
        }
        let path = dir.join(CONFIG_FILE);
        if !exists(&path)?
            && let Some(below) = adapter_below(dir)?
        {
            return Err(FileError::Unusable {
                path: dir.to_owned(),
                what: "adapter folder",
                reason: format!(
                    "no {CONFIG_FILE} in it; there is one in {}",
                    below.display()
                ),
            }
            .into());
        }
        let json: serde_json::Value = ls_files::read_json(&path)?;
        Self::from_json_value(&json).map_err(|source| LoraError::AdapterConfig {
            path,
            source: Box::new(source),
        })
    }
}

impl PeftAdapter {
    /// Reads an adapter folder that peft or [`PeftAdapter::save`] wrote.
    ///
    /// Nothing is ignored silently: every tensor must be one that the configuration accounts for.
    /// Whether they are those of a model is checked when the adapter is placed on it
    /// ([`load_adapter`](crate::load_adapter)).
    ///
    /// # Errors
    ///
    /// [`LoraError::File`], [`LoraError::AdapterConfig`] with its cause, [`FileError::Truncated`],
    /// [`FileError::Unusable`]; and, naming the tensor: [`FileError::TensorMissing`] for an A
    /// without its B, the reverse, and a classifier without any head; [`FileError::TensorShape`],
    /// also for a rank that is not the configuration's; [`FileError::TensorDtype`];
    /// [`FileError::TensorNotFinite`]; [`LoraError::SurplusTensors`];
    /// [`LoraError::UnsupportedTensor`].
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        Self::read(dir.as_ref(), Head::Needed)
    }

    /// As [`PeftAdapter::load`], but a classifier's head may be missing: for training that goes on
    /// with a head of its own.
    ///
    /// # Errors
    ///
    /// As [`PeftAdapter::load`], the missing head aside.
    pub fn load_for_training(dir: impl AsRef<Path>) -> Result<Self> {
        Self::read(dir.as_ref(), Head::Optional)
    }

    fn read(dir: &Path, head: Head) -> Result<Self> {
        let (mut config, warnings) = LoraConfig::from_folder(dir)?;
        let weights_path = weights_file(dir)?;
        let file = if weights_path.ends_with(PICKLED_WEIGHTS_FILE) {
            TensorFile::open_pickled(&weights_path)?
        } else {
            TensorFile::open(&weights_path)?
        };
        let sorted = sort_keys(&file, config.bias)?;
        // peft writes the table of a vocabulary that was changed for the training (a padding token
        // was added) whether or not the configuration names it, and puts it in the base's place.
        let has_vocabulary = sorted.saved.keys().any(|name| is_vocabulary(name));
        if has_vocabulary && !config.modules_to_save.iter().any(|name| name == VOCABULARY) {
            config.modules_to_save.push(VOCABULARY.to_owned());
        }

        let mut adapter = Self {
            config,
            lora: BTreeMap::new(),
            saved_modules: BTreeMap::new(),
            warnings,
        };
        for (module, parts) in sorted.lora {
            let tensors = AdapterTensors::read(&file, &module, &parts, adapter.config.use_dora)?;
            adapter.lora.insert(module, tensors);
        }
        for (name, key) in sorted.saved {
            adapter.saved_modules.insert(name, file.read(key)?);
        }
        adapter.check(&weights_path, head)?;
        adapter.note_patterns_without_match();
        Ok(adapter)
    }

    /// peft gives a key of `rank_pattern` or `alpha_pattern` that matches no adapted module no
    /// effect. As the rank is in the file, only a wrong alpha could go unnoticed; both are noted.
    fn note_patterns_without_match(&mut self) {
        let ranks = self.config.rank_pattern.iter().map(|(key, _)| key);
        let alphas = self.config.alpha_pattern.iter().map(|(key, _)| key);
        let keys = ranks.map(|key| ("rank_pattern", key));
        let keys = keys.chain(alphas.map(|key| ("alpha_pattern", key)));
        let without_match = keys.filter(|(_, key)| {
            let mut modules = self.lora.keys();
            !modules.any(|module| matches_pattern_key(key, module))
        });
        let notes: Vec<String> = without_match
            .map(|(field, key)| {
                format!("`{field}`: {key} matches no adapted module and has no effect, as in peft")
            })
            .collect();
        self.warnings.extend(notes);
    }

    /// Writes the adapter folder, with a model card if there is none yet; the folder is created.
    ///
    /// Everything is checked before the first byte is written, and each file appears whole or not
    /// at all, the configuration last. `all-linear` is written as the list of adapted modules, as
    /// peft does, because peft would adapt the head of a token classifier.
    ///
    /// # Errors
    ///
    /// [`LoraError::ConfigJsonPresent`], [`LoraError::File`], [`LoraError::InvalidConfig`], and
    /// those that [`PeftAdapter::load`] would meet in the file: what could not be read is not
    /// written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let has_card = exists(dir.join(CARD_FILE))?;
        self.write(dir, if has_card { None } else { Some(self.card()) })
    }

    /// As [`PeftAdapter::save`], with this text as the model card (`README.md`), replacing one that
    /// is there.
    ///
    /// # Errors
    ///
    /// As [`PeftAdapter::save`].
    pub fn save_with_card(&self, dir: impl AsRef<Path>, card: &str) -> Result<()> {
        self.write(dir.as_ref(), Some(card.to_owned()))
    }

    /// Checks that the adapter holds exactly these modules, which the configuration selects in the
    /// base model.
    ///
    /// # Errors
    ///
    /// [`FileError::TensorMissing`] for the first module without tensors,
    /// [`LoraError::SurplusTensors`] for those that the model does not adapt. `dir` is only for
    /// these messages.
    pub(crate) fn expect_modules(&self, dir: impl AsRef<Path>, selected: &[String]) -> Result<()> {
        let path = weights_file(dir)?;
        if let Some(module) = selected
            .iter()
            .find(|module| !self.lora.contains_key(*module))
        {
            let keys: Vec<String> = self
                .lora
                .iter()
                .map(|(module, tensors)| Part::a(tensors.kind).key(module))
                .collect();
            return Err(FileError::tensor_missing(
                &path,
                &Part::A.key(module),
                keys.iter().map(String::as_str),
            )
            .into());
        }
        let surplus = self
            .lora
            .iter()
            .filter(|(module, _)| !selected.contains(module));
        let keys = surplus.map(|(module, tensors)| Part::a(tensors.kind).key(module));
        no_surplus(&path, keys.collect())
    }

    /// Checks that placing the adapter on a model with these layers, each with its shape
    /// `[in, out]`, would succeed, as far as the layers decide it: so that nothing is loaded before
    /// it is known. `dir` is only for messages.
    ///
    /// # Errors
    ///
    /// As [`load_adapter`](crate::load_adapter) says of the adapted layers.
    pub fn expect_layers(
        &self,
        dir: impl AsRef<Path>,
        linear: &[(String, [usize; 2])],
        embeddings: &[(String, [usize; 2])],
        heads: &[&str],
    ) -> Result<()> {
        let [of_linear, of_embeddings] = [linear, embeddings].map(names);
        let selected = modules_of_adapter(&self.config, &of_linear, &of_embeddings, heads)?;
        self.expect_modules(&dir, &selected)?;
        let path = weights_file(dir)?;
        for (name, shape) in linear.iter().chain(embeddings) {
            if let Some(tensors) = self.lora.get(name) {
                tensors.expect_shape(name, *shape, &path)?;
            }
        }
        Ok(())
    }

    /// Checks that the adapter was made for this task. A file without a task passes, as in peft.
    ///
    /// peft itself loads the adapter of a token classifier onto a sequence classifier without
    /// complaint when the numbers of classes agree.
    ///
    /// # Errors
    ///
    /// [`LoraError::WrongTask`].
    pub fn expect_task(&self, expected: TaskType) -> Result<()> {
        match self.config.task_type {
            Some(found) if found != expected => Err(LoraError::WrongTask {
                expected: expected.as_str().to_owned(),
                found: found.as_str().to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The number of tokens in the vocabulary's table, if the adapter has one of its own: it is not
    /// the base's where tokens were added for the training.
    #[must_use]
    pub fn vocab_size(&self) -> Option<usize> {
        let mut saved = self.saved_modules.iter();
        let (_, table) = saved.find(|(name, _)| is_vocabulary(name))?;
        table.shape.first().copied()
    }

    /// Every tensor under its key in the file, such as `base_model.model.fc1.lora_A.weight`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &HostTensor)> {
        let adapted = self
            .lora
            .iter()
            .flat_map(|(module, tensors)| tensors.named(module));
        let saved = self.saved_modules.iter();
        adapted.chain(saved.map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)))
    }

    /// The configuration as written.
    fn config_to_write(&self) -> LoraConfig {
        let mut config = self.config.clone();
        if config.target_modules == TargetModules::AllLinear {
            config.target_modules = TargetModules::list(self.lora.keys());
        }
        config
    }

    fn write(&self, dir: &Path, card: Option<String>) -> Result<()> {
        let config_json = dir.join("config.json");
        if exists(&config_json)? {
            return Err(LoraError::ConfigJsonPresent { path: config_json });
        }
        let weights_path = dir.join(WEIGHTS_FILE);
        self.config.validate()?;
        self.check(&weights_path, Head::Needed)?;

        let keyed: Vec<(String, &HostTensor)> = self.tensors().collect();
        create_folder(dir)?;
        sweep(dir);
        write_tensors(
            &weights_path,
            keyed.iter().map(|(key, tensor)| (key.as_str(), *tensor)),
        )?;
        if let Some(card) = card {
            write_atomic(dir.join(CARD_FILE), card)?;
        }
        let json = python_json(&self.config_to_write().to_json());
        Ok(write_atomic(dir.join(CONFIG_FILE), json)?)
    }

    /// Checks tensors against configuration; `path` is the file they come from or go to.
    fn check(&self, path: &Path, head: Head) -> Result<()> {
        let matcher = ModuleMatcher::new(&self.config)?;
        let unselected = self
            .lora
            .iter()
            .filter(|(module, _)| matcher.decide(module) != Selection::Selected);
        let mut surplus: Vec<String> = unselected
            .flat_map(|(module, tensors)| tensors.named(module).map(|(key, _)| key))
            .collect();
        let unsaved = self
            .saved_modules
            .keys()
            .filter(|name| !self.accounts_for(&matcher, name));
        surplus.extend(unsaved.map(|name| format!("{PREFIX}{name}")));
        no_surplus(path, surplus)?;

        if self.lora.is_empty() {
            let any = format!("{PREFIX}*.lora_A.weight");
            return Err(FileError::tensor_missing(path, &any, std::iter::empty()).into());
        }
        // Whether it is the model's head is for the model to say; a head under another name is
        // listed by the user.
        let heads = self
            .config
            .task_type
            .filter(|_| head == Head::Needed)
            .map_or(&[][..], TaskType::head_modules);
        if let (Some(head), true) = (heads.last(), self.saved_modules.is_empty()) {
            return Err(FileError::tensor_missing(
                path,
                &format!("{PREFIX}{head}.weight"),
                std::iter::empty(),
            )
            .into());
        }

        // Whoever makes room for such a shape may find no end: its other sides are not held to what
        // the file has.
        if let Some((name, tensor)) = self.tensors().find(|(_, of)| of.shape.contains(&0)) {
            let shape = &tensor.shape;
            return Err(FileError::Unusable {
                path: path.to_owned(),
                what: "adapter",
                reason: format!(
                    "tensor {name} is empty (shape {shape:?}), as when DeepSpeed ZeRO-3 saves weights that were not gathered"
                ),
            }
            .into());
        }
        for (module, tensors) in &self.lora {
            let r = self.config.rank_of(module);
            if self.config.use_dora && tensors.magnitude.is_none() {
                let key = Part::Magnitude.key(module);
                return Err(FileError::tensor_missing(path, &key, std::iter::empty()).into());
            }
            // Dimensions, and the axis whose length is known; the magnitude's length is B's.
            let d_out = tensors.b.shape.first().copied().unwrap_or(0);
            let axes = [(2, 0, r), (2, 1, r), (1, 0, d_out)];
            for ((name, tensor), (rank, axis, length)) in tensors.named(module).zip(axes) {
                let mut expected = tensor.shape.clone();
                expected.resize(rank, 0);
                expected[axis] = length;
                if tensor.shape != expected {
                    return Err(FileError::TensorShape {
                        path: path.to_owned(),
                        name,
                        expected,
                        found: tensor.shape.clone(),
                    }
                    .into());
                }
                check_values(path, name, tensor)?;
            }
        }
        for (name, tensor) in &self.saved_modules {
            check_values(path, format!("{PREFIX}{name}"), tensor)?;
        }
        Ok(())
    }

    /// Whether the configuration has a place for a tensor that is saved in full.
    fn accounts_for(&self, matcher: &ModuleMatcher<'_>, name: &str) -> bool {
        let adapted = |module: &str| self.lora.get(module);
        if let Some(module) = name.strip_suffix(".base_layer.bias") {
            return self.config.bias != Bias::None && adapted(module).is_some();
        }
        if let Some(module) = name.strip_suffix(".base_layer.weight") {
            // peft saves the table of an adapted embedding too, by default.
            return adapted(module).is_some_and(|layer| layer.kind == LayerKind::Embedding);
        }
        let is_bias = name == "bias" || name.ends_with(".bias");
        self.config.bias == Bias::All && is_bias || matcher.is_in_saved(name)
    }

    /// The smallest card that the hub recognises as a peft adapter.
    fn card(&self) -> String {
        let mut card = "---\n".to_owned();
        let base = self
            .config
            .base_model_name_or_path
            .as_deref()
            .filter(|base| !base.is_empty());
        // A JSON string is a YAML string.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        if let Some(base) = base {
            card += &format!("base_model: {}\n", quoted(base));
        }
        card += "library_name: peft\ntags:\n";
        if let Some(base) = base {
            card += &format!("- {}\n", quoted(&format!("base_model:adapter:{base}")));
        }
        card += "- lora\n- transformers\n---\n\n# LoRA adapter\n\n";
        card += &match base {
            Some(base) => format!("A LoRA adapter for `{base}`.\n"),
            None => "A LoRA adapter.\n".to_owned(),
        };
        card += &format!("\n### Framework versions\n\n- PEFT {PEFT_VERSION} (file format)\n");
        card
    }
}

fn names(layers: &[(String, [usize; 2])]) -> Vec<&str> {
    layers.iter().map(|(name, _)| name.as_str()).collect()
}

/// The first folder in `dir` that holds an adapter: peft saves one that has a name of its own into
/// a folder of that name, and a Trainer saves checkpoints.
fn adapter_below(dir: &Path) -> Result<Option<PathBuf>> {
    let mut first: Option<PathBuf> = None;
    for entry in fs::read_dir(dir).map_err(FileError::reading(dir))? {
        let path = entry.map_err(FileError::reading(dir))?.path();
        let holds_one = is_folder(&path)? && is_file(path.join(CONFIG_FILE))?;
        if holds_one && first.as_ref().is_none_or(|first| path < *first) {
            first = Some(path);
        }
    }
    Ok(first)
}

fn check_values(path: &Path, name: String, tensor: &HostTensor) -> Result<()> {
    let path = path.to_owned();
    if !matches!(
        tensor.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
    ) {
        return Err(FileError::TensorDtype {
            path,
            name,
            expected: "F64, F32, F16 or BF16",
            found: tensor.dtype,
        }
        .into());
    }
    // What is read from files becomes f32.
    match tensor.not_finite(Dtype::F32)? {
        Some(found) => Err(FileError::TensorNotFinite {
            path,
            name,
            shape: tensor.shape.clone(),
            found,
            into: Dtype::F32,
        }
        .into()),
        None => Ok(()),
    }
}

/// JSON as Python's `json.dumps(indent=2)` has it: in ASCII, because peft opens the file in the
/// system's encoding.
fn python_json(value: &serde_json::Value) -> String {
    let text = format!("{value:#}");
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            // Only strings hold such characters, and there these escapes mean the same.
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii += &format!("\\u{unit:04x}");
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests;

//! PEFT's adapter folder: `adapter_config.json` and `adapter_model.safetensors`, both ways, on host tensors.
//!
//! Shapes are those of the files: A is `[r, in]`, B is `[out, r]`, heads are `[out, in]`. Where they go in a model, and
//! their transposition for burn's `[in, out]`, is left to others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ls_files::{FileError, write_atomic};

use crate::adapter::LayerKind;
use crate::config::{Bias, LoraConfig, PEFT_VERSION, TaskType};
use crate::error::{LoraError, Result};
use crate::target::{ModuleMatcher, Selection, TargetModules};
use crate::tensor_file::{Dtype, HostTensor, TensorFile, missing, write_tensors};

/// The name of the configuration in an adapter folder.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
/// use ls_lora::peft::{CONFIG_FILE, PeftAdapter};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
/// # let adapter = PeftAdapter {
/// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
/// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
/// #     saved_modules: BTreeMap::new(),
/// #     warnings: Vec::new(),
/// # };
/// # let dir = tempfile::tempdir().unwrap();
/// # let folder = dir.path().join("adapter");
/// adapter.save(&folder)?;
/// let text = std::fs::read_to_string(folder.join(CONFIG_FILE)).unwrap_or_default();
/// assert_eq!(LoraConfig::from_json(&text)?.0, adapter.config);
/// # Ok(())
/// # }
/// ```
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The name of the weights in an adapter folder.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
/// use ls_lora::TensorFile;
/// use ls_lora::peft::{PeftAdapter, WEIGHTS_FILE};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
/// # let adapter = PeftAdapter {
/// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
/// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
/// #     saved_modules: BTreeMap::new(),
/// #     warnings: Vec::new(),
/// # };
/// # let dir = tempfile::tempdir().unwrap();
/// # let folder = dir.path().join("adapter");
/// adapter.save(&folder)?;
/// let file = TensorFile::open(folder.join(WEIGHTS_FILE))?;
/// assert_eq!(file.names().len(), 2);
/// # Ok(())
/// # }
/// ```
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
const PICKLED_WEIGHTS_FILE: &str = "adapter_model.bin";
const CARD_FILE: &str = "README.md";
/// What peft's wrapping puts before the name of every tensor.
pub(crate) const PREFIX: &str = "base_model.model.";

/// What a file holds for one adapted layer.
///
/// ```
/// use ls_lora::{AdapterTensors, HostTensor, LayerKind};
///
/// let tensors = AdapterTensors {
///     a: HostTensor::from_f32([2, 100], &[0.0; 200]),
///     b: HostTensor::from_f32([8, 2], &[0.1; 16]),
///     magnitude: None,
///     kind: LayerKind::Embedding,                     // of 100 ids, 8 wide
/// };
/// assert_eq!(tensors.a.shape[0], tensors.b.shape[1]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterTensors {
    /// A, `[r, in]`: applied to the layer's input. Of an embedding `[r, vocabulary]`.
    pub a: HostTensor,
    /// B, `[out, r]`: applied to A's output.
    pub b: HostTensor,
    /// DoRA's magnitude, `[out]`.
    pub magnitude: Option<HostTensor>,
    /// The kind of layer, which decides how the tensors are called.
    pub kind: LayerKind,
}

impl AdapterTensors {
    /// The two factors of a linear layer.
    ///
    /// ```
    /// use ls_lora::{AdapterTensors, HostTensor, LayerKind};
    ///
    /// let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// let tensors = AdapterTensors::linear(a, b);
    /// assert_eq!((tensors.kind, tensors.magnitude), (LayerKind::Linear, None));
    /// ```
    #[must_use]
    pub fn linear(a: HostTensor, b: HostTensor) -> Self {
        Self {
            a,
            b,
            magnitude: None,
            kind: LayerKind::Linear,
        }
    }

    /// The tensors under their keys in the file: A, B and, if there is one, the magnitude.
    pub(crate) fn named(&self, module: &str) -> impl Iterator<Item = (String, &HostTensor)> {
        let magnitude = self.magnitude.iter();
        [
            (Part::a(self.kind).key(module), &self.a),
            (Part::b(self.kind).key(module), &self.b),
        ]
        .into_iter()
        .chain(magnitude.map(|tensor| (Part::Magnitude.key(module), tensor)))
    }

    /// Fills the factors with zeros up to a rank, which changes nothing of their product.
    pub(crate) fn pad_rank(&mut self, r: usize) {
        let ([rank, d_in], [d_out, _]) = (
            [self.a.shape[0], self.a.shape[1]],
            [self.b.shape[0], self.b.shape[1]],
        );
        if rank >= r {
            return;
        }
        let size = self.a.dtype.bitsize() / 8;
        self.a.bytes.resize(r * d_in * size, 0);
        self.a.shape = vec![r, d_in];
        let size = self.b.dtype.bitsize() / 8;
        let mut bytes = Vec::with_capacity(d_out * r * size);
        for row in self.b.bytes.chunks((rank * size).max(1)) {
            bytes.extend_from_slice(row);
            bytes.resize(bytes.len() + (r - rank) * size, 0);
        }
        self.b.bytes = bytes;
        self.b.shape = vec![d_out, r];
    }
}

/// A tensor of an adapted layer, by its name in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::A,
        Self::B,
        Self::EmbeddingA,
        Self::EmbeddingB,
        Self::Magnitude,
    ];

    fn a(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Linear => Self::A,
            LayerKind::Embedding => Self::EmbeddingA,
        }
    }

    fn b(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Linear => Self::B,
            LayerKind::Embedding => Self::EmbeddingB,
        }
    }

    /// What follows the module's name; the second form keeps the name of peft's default adapter, and peft reads it too.
    fn suffixes(self) -> [&'static str; 2] {
        match self {
            Self::A => [".lora_A.weight", ".lora_A.default.weight"],
            Self::B => [".lora_B.weight", ".lora_B.default.weight"],
            Self::EmbeddingA => [".lora_embedding_A", ".lora_embedding_A.default"],
            Self::EmbeddingB => [".lora_embedding_B", ".lora_embedding_B.default"],
            Self::Magnitude => [
                ".lora_magnitude_vector",
                ".lora_magnitude_vector.default.weight",
            ],
        }
    }

    fn key(self, module: &str) -> String {
        format!("{PREFIX}{module}{}", self.suffixes()[0])
    }

    /// The part and module that a name without prefix is of.
    fn of(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|part| {
            let module = part
                .suffixes()
                .into_iter()
                .find_map(|end| name.strip_suffix(end));
            module.map(|module| (part, module))
        })
    }
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
    /// The adapted modules by their full name in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub lora: BTreeMap<String, AdapterTensors>,
    /// What is saved in full, under its name in the file without the prefix: tensors of saved modules such as
    /// `score.weight`, trained biases (`fc1.base_layer.bias` of an adapted layer), the table of an adapted embedding.
    pub saved_modules: BTreeMap<String, HostTensor>,
    /// What a person should know about the file that was read; empty for an adapter made here.
    pub warnings: Vec<String>,
}

impl PeftAdapter {
    /// Reads an adapter folder that peft or [`PeftAdapter::save`] wrote.
    ///
    /// Nothing is ignored silently: every tensor must be one that the configuration accounts for. Which modules the
    /// base model would have adapted is not known here; compare with [`PeftAdapter::expect_modules`].
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::{LoraError, PeftAdapter};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let folder = dir.path().join("adapter");
    /// # adapter.save(&folder)?;
    /// let adapter = PeftAdapter::load(&folder)?;
    /// for warning in &adapter.warnings {
    ///     eprintln!("{warning}");
    /// }
    /// assert_eq!(adapter.lora["fc1"].a.shape, [adapter.config.r, 8]);
    /// assert!(matches!(PeftAdapter::load(folder.join("elsewhere")), Err(LoraError::File(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::File`], [`LoraError::PickleOnly`], [`LoraError::AdapterConfig`] with its cause,
    /// [`LoraError::TruncatedFile`], [`LoraError::CorruptFile`]; and, naming the tensor: [`LoraError::TensorMissing`]
    /// for an A without its B, the reverse, and a classifier without any head; [`LoraError::TensorShape`], also for a
    /// rank that is not the configuration's; [`LoraError::TensorDtype`]; [`LoraError::NonFinite`];
    /// [`LoraError::SurplusTensors`]; [`LoraError::UnsupportedTensor`].
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(FileError::NoFolder {
                path: dir.to_owned(),
            }
            .into());
        }
        let config_path = dir.join(CONFIG_FILE);
        let in_config = |source| LoraError::AdapterConfig {
            path: config_path.clone(),
            source: Box::new(source),
        };
        let json: serde_json::Value = ls_files::read_json(&config_path)?;
        let (config, warnings) = LoraConfig::from_json_value(&json).map_err(in_config)?;

        let weights_path = dir.join(WEIGHTS_FILE);
        let pickle = dir.join(PICKLED_WEIGHTS_FILE);
        if !weights_path.exists() && pickle.exists() {
            return Err(LoraError::PickleOnly { path: pickle });
        }
        let file = TensorFile::open(&weights_path)?;
        let sorted = sort_keys(&file, config.bias)?;

        let mut adapter = Self {
            config,
            lora: BTreeMap::new(),
            saved_modules: BTreeMap::new(),
            warnings,
        };
        for (module, parts) in sorted.lora {
            let read = |part: Part| parts.iter().find(|(p, _)| *p == part).map(|(_, key)| *key);
            let has = |kind| {
                read(Part::a(kind))
                    .or_else(|| read(Part::b(kind)))
                    .is_some()
            };
            let kind = if has(LayerKind::Embedding) && !has(LayerKind::Linear) {
                LayerKind::Embedding
            } else {
                LayerKind::Linear
            };
            let (a, b) = (Part::a(kind), Part::b(kind));
            let tensor = |part: Part| match read(part) {
                Some(key) => file.read(key),
                None => Err(missing(&weights_path, &part.key(&module), file.names())),
            };
            let magnitude = match (adapter.config.use_dora, read(Part::Magnitude)) {
                (true, _) => Some(tensor(Part::Magnitude)?),
                (false, None) => None,
                (false, Some(key)) => {
                    return Err(LoraError::SurplusTensors {
                        path: weights_path,
                        names: vec![key.to_owned()],
                    });
                }
            };
            if let Some((_, key)) = parts
                .iter()
                .find(|(part, _)| ![a, b, Part::Magnitude].contains(part))
            {
                return Err(LoraError::SurplusTensors {
                    path: weights_path,
                    names: vec![(*key).to_owned()],
                });
            }
            let tensors = AdapterTensors {
                a: tensor(a)?,
                b: tensor(b)?,
                magnitude,
                kind,
            };
            adapter.lora.insert(module, tensors);
        }
        for (name, key) in sorted.saved {
            adapter.saved_modules.insert(name, file.read(key)?);
        }
        adapter.check(&weights_path)?;
        Ok(adapter)
    }

    /// Writes the adapter folder, with a model card if there is none yet; the folder is created.
    ///
    /// Everything is checked before the first byte is written, and each file appears whole or not at all, the
    /// configuration last. `all-linear` is written as the list of adapted modules, as peft does, because peft would
    /// adapt the head of a token classifier.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::PeftAdapter;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let folder = dir.path().join("adapter");
    /// adapter.save(&folder)?;
    /// for file in ["README.md", "adapter_config.json", "adapter_model.safetensors"] {
    ///     assert!(folder.join(file).exists());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::ConfigJsonPresent`], [`LoraError::File`], [`LoraError::InvalidConfig`], and those that
    /// [`PeftAdapter::load`] would meet in the file: what could not be read is not written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let has_card = dir.join(CARD_FILE).exists();
        self.write(dir, if has_card { None } else { Some(self.card()) })
    }

    /// As [`PeftAdapter::save`], with this text as the model card (`README.md`), replacing one that is there.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::PeftAdapter;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let folder = dir.path().join("adapter");
    /// adapter.save_with_card(&folder, "# Trained on nothing\n")?;
    /// adapter.save(&folder)?;                             // leaves the card
    /// assert_eq!(std::fs::read(folder.join("README.md")).ok().as_deref(), Some(&b"# Trained on nothing\n"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`PeftAdapter::save`].
    pub fn save_with_card(&self, dir: impl AsRef<Path>, card: &str) -> Result<()> {
        self.write(dir.as_ref(), Some(card.to_owned()))
    }

    /// Checks that the adapter holds exactly these modules, which the configuration selects in the base model.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::{LoraError, PeftAdapter};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// adapter.expect_modules("my_adapter", &["fc1".to_owned()])?;
    /// let missing = adapter.expect_modules("my_adapter", &["fc1".to_owned(), "fc2".to_owned()]);
    /// assert!(matches!(missing, Err(LoraError::TensorMissing { name, .. }) if name.contains(".fc2.")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::TensorMissing`] for the first module without tensors, [`LoraError::SurplusTensors`] for those
    /// that the model does not adapt. `dir` is only for these messages.
    pub fn expect_modules(&self, dir: impl AsRef<Path>, selected: &[String]) -> Result<()> {
        let path = dir.as_ref().join(WEIGHTS_FILE);
        if let Some(module) = selected
            .iter()
            .find(|module| !self.lora.contains_key(*module))
        {
            let keys: Vec<String> = self
                .lora
                .iter()
                .map(|(module, tensors)| Part::a(tensors.kind).key(module))
                .collect();
            return Err(missing(
                &path,
                &Part::A.key(module),
                keys.iter().map(String::as_str),
            ));
        }
        let surplus = self
            .lora
            .iter()
            .filter(|(module, _)| !selected.contains(module));
        let keys = surplus.map(|(module, tensors)| Part::a(tensors.kind).key(module));
        no_surplus(&path, keys.collect())
    }

    /// Checks that the adapter was made for this task. A file without a task passes, as in peft.
    ///
    /// peft itself loads the adapter of a token classifier onto a sequence classifier without complaint when the
    /// numbers of classes agree.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::{PeftAdapter, TaskType};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// # let mut adapter = adapter;
    /// adapter.config.task_type = Some(TaskType::SeqCls);
    /// adapter.expect_task(TaskType::SeqCls)?;
    /// assert!(adapter.expect_task(TaskType::TokenCls).is_err());
    /// # Ok(())
    /// # }
    /// ```
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

    /// Every tensor under its key in the file, such as `base_model.model.fc1.lora_A.weight`.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use ls_lora::{AdapterTensors, HostTensor, LoraConfig, TargetModules};
    /// use ls_lora::PeftAdapter;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let (a, b) = (HostTensor::from_f32([2, 8], &[0.5; 16]), HostTensor::from_f32([4, 2], &[0.0; 8]));
    /// # let adapter = PeftAdapter {
    /// #     config: LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc1"])),
    /// #     lora: BTreeMap::from([("fc1".to_owned(), AdapterTensors::linear(a, b))]),
    /// #     saved_modules: BTreeMap::new(),
    /// #     warnings: Vec::new(),
    /// # };
    /// let keys: Vec<String> = adapter.tensors().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["base_model.model.fc1.lora_A.weight", "base_model.model.fc1.lora_B.weight"]);
    /// # Ok(())
    /// # }
    /// ```
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
        if config_json.exists() {
            return Err(LoraError::ConfigJsonPresent { path: config_json });
        }
        let weights_path = dir.join(WEIGHTS_FILE);
        self.config.validate()?;
        self.check(&weights_path)?;

        let keyed: Vec<(String, &HostTensor)> = self.tensors().collect();
        fs::create_dir_all(dir).map_err(FileError::writing(dir))?;
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
    fn check(&self, path: &Path) -> Result<()> {
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
            return Err(missing(path, &any, std::iter::empty()));
        }
        // Whether it is the model's head is for the model to say; a head under another name is listed by the user.
        let heads = self
            .config
            .task_type
            .map_or(&[][..], TaskType::head_modules);
        if let (Some(head), true) = (heads.last(), self.saved_modules.is_empty()) {
            return Err(missing(
                path,
                &format!("{PREFIX}{head}.weight"),
                std::iter::empty(),
            ));
        }

        for (module, tensors) in &self.lora {
            let r = self.config.rank_of(module);
            if self.config.use_dora && tensors.magnitude.is_none() {
                let key = Part::Magnitude.key(module);
                return Err(missing(path, &key, std::iter::empty()));
            }
            // Dimensions, and the axis whose length is known; the magnitude's length is B's.
            let d_out = tensors.b.shape.first().copied().unwrap_or(0);
            let axes = [(2, 0, r), (2, 1, r), (1, 0, d_out)];
            for ((name, tensor), (rank, axis, length)) in tensors.named(module).zip(axes) {
                let mut expected = tensor.shape.clone();
                expected.resize(rank, 0);
                expected[axis] = length;
                if tensor.shape != expected {
                    return Err(LoraError::TensorShape {
                        path: path.to_owned(),
                        name,
                        expected,
                        found: tensor.shape.clone(),
                    });
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

/// The keys of a weights file by what they are.
#[derive(Default)]
struct SortedKeys<'a> {
    /// Module -> what there is of it, with its key.
    lora: BTreeMap<String, Vec<(Part, &'a str)>>,
    /// Name without the prefix -> key.
    saved: BTreeMap<String, &'a str>,
}

/// Takes keys apart. Whether the configuration accounts for them is checked once they are read.
fn sort_keys(file: &TensorFile, bias: Bias) -> Result<SortedKeys<'_>> {
    let mut sorted = SortedKeys::default();
    let mut surplus = Vec::new();
    for key in file.names() {
        let Some(name) = key.strip_prefix(PREFIX) else {
            surplus.push(key.to_owned());
            continue;
        };
        if bias == Bias::All && is_stray_bias(name) {
            continue;
        }
        if let Some((part, module)) = Part::of(name) {
            let parts = sorted.lora.entry(module.to_owned()).or_default();
            if parts.iter().any(|(p, _)| *p == part) {
                surplus.push(key.to_owned());
            } else {
                parts.push((part, key));
            }
        } else if let Some(kind) = unsupported_kind(name) {
            return Err(LoraError::UnsupportedTensor {
                path: file.path().to_owned(),
                name: key.to_owned(),
                kind,
            });
        } else {
            sorted.saved.insert(name.to_owned(), key);
        }
    }
    no_surplus(file.path(), surplus)?;
    Ok(sorted)
}

/// With `bias = "all"` peft also writes the biases of its two copies of a saved module: the frozen one, and the trained one
/// a second time under another name.
fn is_stray_bias(name: &str) -> bool {
    [".original_module.bias", ".modules_to_save.bias"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The kind of adapter that a tensor name without prefix belongs to, if it is none that is read here.
fn unsupported_kind(name: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 3] = [
        (".lora_B.bias", "LoRA with a bias on B"),
        (".trainable_tokens_", "trainable tokens"),
        (
            ".modules_to_save.",
            "a module saved under peft's name inside the model",
        ),
    ];
    if let Some((_, kind)) = KINDS.iter().find(|(part, _)| name.contains(part)) {
        return Some(kind);
    }
    // Also the factors of an adapter with a name of its own, which peft does not read either.
    name.contains(".lora_").then_some("an unknown kind of LoRA")
}

fn check_values(path: &Path, name: String, tensor: &HostTensor) -> Result<()> {
    let path = path.to_owned();
    if !matches!(
        tensor.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
    ) {
        return Err(LoraError::TensorDtype {
            path,
            name,
            expected: "F64, F32, F16 or BF16",
            found: tensor.dtype,
        });
    }
    match tensor.first_non_finite()? {
        Some((index, value)) => Err(LoraError::NonFinite {
            path,
            name,
            index,
            value,
        }),
        None => Ok(()),
    }
}

fn no_surplus(path: &Path, mut names: Vec<String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    Err(LoraError::SurplusTensors {
        path: path.to_owned(),
        names,
    })
}

/// JSON as Python's `json.dumps(indent=2)` has it: in ASCII, because peft opens the file in the system's encoding.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::error::Error as _;

    const Q0: &str = "model.layers.0.self_attn.q_proj";
    const V0: &str = "model.layers.0.self_attn.v_proj";

    fn tensor(shape: [usize; 2], first: f32) -> HostTensor {
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|i| first + i as f32 * 0.25)
            .collect();
        HostTensor::from_f32(shape, &values)
    }

    fn lora_key(module: &str, part: &str) -> String {
        format!("{PREFIX}{module}.lora_{part}.weight")
    }

    fn pair(r: usize, inputs: usize, outputs: usize) -> AdapterTensors {
        AdapterTensors::linear(tensor([r, inputs], 1.0), tensor([outputs, r], -2.0))
    }

    /// A sequence classifier with grouped heads and a rank of its own for `v_proj`.
    fn sample() -> PeftAdapter {
        let mut config = LoraConfig::new(2, 8.0)
            .with_lora_dropout(0.1)
            .with_task_type(TaskType::SeqCls)
            .with_modules_to_save(["classifier", "score"]);
        config.rank_pattern = vec![("v_proj".into(), 3)];
        PeftAdapter {
            config,
            lora: BTreeMap::from([(Q0.into(), pair(2, 4, 4)), (V0.into(), pair(3, 4, 1))]),
            saved_modules: BTreeMap::from([("score.weight".into(), tensor([3, 4], 0.5))]),
            warnings: Vec::new(),
        }
    }

    fn key(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// The sample as file content, to be spoilt by a test.
    fn files() -> (Value, BTreeMap<String, HostTensor>) {
        let sample = sample();
        let mut tensors = BTreeMap::new();
        for (module, pair) in sample.lora {
            tensors.insert(lora_key(&module, "A"), pair.a);
            tensors.insert(lora_key(&module, "B"), pair.b);
        }
        for (name, tensor) in sample.saved_modules {
            tensors.insert(key(&name), tensor);
        }
        (sample.config.to_json(), tensors)
    }

    fn load(config: &Value, tensors: &BTreeMap<String, HostTensor>) -> Result<PeftAdapter> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_tensors(dir.path().join(WEIGHTS_FILE), tensors).unwrap();
        PeftAdapter::load(dir.path())
    }

    /// Loads the sample after a change to its tensors.
    fn load_spoilt(spoil: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> LoraError {
        let (config, mut tensors) = files();
        spoil(&mut tensors);
        load(&config, &tensors).unwrap_err()
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_saved_folder_is_read_back_equal_and_holds_three_files() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("new/best");
        let adapter = sample();
        adapter.save(&dir).unwrap();
        assert_eq!(listing(&dir), ["README.md", CONFIG_FILE, WEIGHTS_FILE]);
        assert_eq!(PeftAdapter::load(&dir).unwrap(), adapter);

        let bytes = fs::read(dir.join(CONFIG_FILE)).unwrap();
        adapter.save(&dir).unwrap();
        assert_eq!(fs::read(dir.join(CONFIG_FILE)).unwrap(), bytes);
    }

    #[test]
    fn half_precision_and_keys_with_the_adapters_name_are_read() {
        let (config, tensors) = files();
        let tensors: BTreeMap<String, HostTensor> = tensors
            .iter()
            .map(|(name, tensor)| {
                let name = name
                    .replace("_A.weight", "_A.default.weight")
                    .replace("_B.weight", "_B.default.weight");
                (name, tensor.to_dtype(Dtype::BF16).unwrap())
            })
            .collect();
        let adapter = load(&config, &tensors).unwrap();
        assert_eq!(
            adapter.lora[Q0].a.to_f32().unwrap(),
            sample().lora[Q0].a.to_f32().unwrap()
        );
        assert_eq!(adapter.saved_modules["score.weight"].dtype, Dtype::BF16);
    }

    #[test]
    fn five_config_keys_suffice() {
        let (_, mut tensors) = files();
        tensors.insert(lora_key(V0, "A"), tensor([2, 4], 0.0));
        tensors.insert(lora_key(V0, "B"), tensor([1, 2], 0.0));
        let config = json!({
            "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
        });
        let adapter = load(&config, &tensors).unwrap();
        assert_eq!(adapter.config.scaling_of(Q0), 4.0);
        assert!(adapter.warnings.is_empty());
    }

    #[test]
    fn an_a_without_its_b_and_the_reverse_are_named() {
        for (gone, there) in [("A", "B"), ("B", "A")] {
            let error = load_spoilt(|tensors| {
                tensors.remove(&lora_key(Q0, gone));
            });
            let LoraError::TensorMissing { name, nearest, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(name, lora_key(Q0, gone));
            assert_eq!(nearest.as_deref(), Some(&*lora_key(Q0, there)));
        }
    }

    #[test]
    fn a_classifier_without_a_head_and_a_folder_without_lora_are_refused() {
        let error = load_spoilt(|tensors| {
            tensors.remove(&key("score.weight"));
        });
        assert!(
            matches!(error, LoraError::TensorMissing { name, .. } if name == "base_model.model.score.weight")
        );
        let error = load_spoilt(|tensors| tensors.retain(|name, _| name.contains("score")));
        assert!(
            matches!(error, LoraError::TensorMissing { name, .. } if name == "base_model.model.*.lora_A.weight")
        );
    }

    #[test]
    fn surplus_tensors_are_listed() {
        let k0 = "model.layers.0.self_attn.k_proj";
        let cases = [
            // Without the prefix, twice the same factor, a module that is not targeted, one that is not saved.
            vec!["score.weight".to_owned()],
            vec![format!("{PREFIX}{Q0}.lora_A.weight")],
            vec![lora_key(k0, "A"), lora_key(k0, "B")],
            vec![key("model.norm.weight"), key("weight")],
            // Of variants that the configuration does not have.
            vec![key(&format!("{Q0}.lora_magnitude_vector"))],
            vec![key(&format!("{Q0}.base_layer.bias"))],
            vec![key(&format!("{Q0}.base_layer.weight"))],
            vec![key(&format!("{Q0}.lora_embedding_A"))],
        ];
        for names in cases {
            let error = load_spoilt(|tensors| {
                if names[0] == lora_key(Q0, "A") {
                    tensors.insert(
                        key(&format!("{Q0}.lora_A.default.weight")),
                        tensor([2, 4], 0.0),
                    );
                }
                for name in &names {
                    tensors
                        .entry(name.clone())
                        .or_insert_with(|| tensor([2, 2], 0.0));
                }
            });
            assert!(
                matches!(&error, LoraError::SurplusTensors { names: found, .. } if *found == names),
                "{error}"
            );
        }
    }

    #[test]
    fn tensors_of_other_kinds_of_adapter_are_refused_by_name() {
        let cases = [
            (format!("{Q0}.lora_B.bias"), "bias on B"),
            (
                "model.embed_tokens.token_adapter.trainable_tokens_delta".to_owned(),
                "trainable tokens",
            ),
            ("score.modules_to_save.weight".to_owned(), "peft's name"),
            (format!("{Q0}.lora_A.sentiment.weight"), "unknown kind"),
        ];
        for (name, kind) in cases {
            let error = load_spoilt(|tensors| {
                tensors.insert(key(&name), tensor([2, 2], 0.0));
            });
            let text = error.to_string();
            assert!(
                matches!(&error, LoraError::UnsupportedTensor { name: n, .. } if *n == key(&name)),
                "{text}"
            );
            assert!(text.contains(kind), "{text}");
        }
    }

    #[test]
    fn a_rank_that_is_not_the_configurations_is_a_wrong_shape() {
        let cases = [
            (lora_key(Q0, "A"), vec![3, 4], vec![2, 4]),
            (lora_key(Q0, "B"), vec![4, 3], vec![4, 2]),
            (lora_key(V0, "A"), vec![2, 4], vec![3, 4]),
            (lora_key(Q0, "A"), vec![8], vec![2, 0]),
            (lora_key(Q0, "B"), vec![4, 2, 1], vec![4, 2]),
        ];
        for (name, wrong, right) in cases {
            let error = load_spoilt(|tensors| {
                let values = vec![0.0; wrong.iter().product()];
                tensors.insert(name.clone(), HostTensor::from_f32(wrong.clone(), &values));
            });
            assert!(
                matches!(&error, LoraError::TensorShape { name: n, expected, found, .. }
                    if *n == name && *expected == right && *found == wrong),
                "{error}"
            );
        }
    }

    #[test]
    fn nan_and_infinities_are_named_and_neither_read_nor_written() {
        for name in [lora_key(Q0, "B"), key("score.weight")] {
            let error = load_spoilt(|tensors| {
                let tensor = tensors.get_mut(&name).unwrap();
                tensor.bytes[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
            });
            assert!(
                matches!(&error, LoraError::NonFinite { name: n, index: 3, .. } if *n == name),
                "{error}"
            );
        }
        let mut adapter = sample();
        adapter.lora.get_mut(Q0).unwrap().a.bytes[..4]
            .copy_from_slice(&f32::INFINITY.to_le_bytes());
        let root = tempfile::tempdir().unwrap();
        let error = adapter.save(root.path().join("out")).unwrap_err();
        assert!(matches!(error, LoraError::NonFinite { index: 0, .. }));
        assert!(listing(root.path()).is_empty());
    }

    #[test]
    fn whole_numbers_are_no_weights() {
        let error = load_spoilt(|tensors| {
            tensors.get_mut(&lora_key(Q0, "A")).unwrap().dtype = Dtype::I32;
        });
        assert!(matches!(
            error,
            LoraError::TensorDtype {
                found: Dtype::I32,
                ..
            }
        ));
    }

    #[test]
    fn missing_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        let missing_file = |path: &Path| match PeftAdapter::load(path).unwrap_err() {
            LoraError::File(FileError::NotFound { path } | FileError::NoFolder { path }) => path,
            other => panic!("{other}"),
        };
        let absent = root.path().join("absent");
        assert_eq!(missing_file(&absent), absent);

        let dir = root.path().join("adapter");
        sample().save(&dir).unwrap();
        fs::rename(dir.join(WEIGHTS_FILE), root.path().join("w")).unwrap();
        assert_eq!(missing_file(&dir), dir.join(WEIGHTS_FILE));
        fs::write(dir.join(PICKLED_WEIGHTS_FILE), b"").unwrap();
        assert!(matches!(
            PeftAdapter::load(&dir),
            Err(LoraError::PickleOnly { .. })
        ));
        fs::remove_file(dir.join(CONFIG_FILE)).unwrap();
        assert_eq!(missing_file(&dir), dir.join(CONFIG_FILE));
    }

    #[test]
    fn a_bad_configuration_is_reported_with_its_path_and_cause() {
        let (mut config, tensors) = files();
        config["use_qalora"] = json!(true);
        let error = load(&config, &tensors).unwrap_err();
        assert!(
            matches!(&error, LoraError::AdapterConfig { path, .. } if path.ends_with(CONFIG_FILE))
        );
        assert!(
            error
                .source()
                .unwrap()
                .to_string()
                .contains("`use_qalora` = true")
        );

        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"{", b"{\"peft_type\": \"LO\xffRA\"}"] {
            fs::write(dir.path().join(CONFIG_FILE), bytes).unwrap();
            let error = PeftAdapter::load(dir.path()).unwrap_err();
            assert!(
                matches!(&error, LoraError::File(FileError::Malformed { path, .. }) if path.ends_with(CONFIG_FILE)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_truncated_weights_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        sample().save(dir.path()).unwrap();
        let path = dir.path().join(WEIGHTS_FILE);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        assert!(matches!(
            PeftAdapter::load(dir.path()),
            Err(LoraError::TruncatedFile { .. })
        ));
    }

    #[test]
    fn all_linear_is_written_as_the_modules_it_meant() {
        let dir = tempfile::tempdir().unwrap();
        let mut adapter = sample();
        adapter.config.target_modules = TargetModules::AllLinear;
        adapter.save(dir.path()).unwrap();
        let loaded = PeftAdapter::load(dir.path()).unwrap();
        assert_eq!(loaded.config.target_modules, TargetModules::list([Q0, V0]));
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let mut adapter = sample();
        adapter
            .saved_modules
            .insert("model.norm.weight".into(), tensor([1, 4], 1.0));
        let root = tempfile::tempdir().unwrap();
        let error = adapter.save(root.path().join("out")).unwrap_err();
        assert!(
            matches!(error, LoraError::SurplusTensors { names, .. } if names == [key("model.norm.weight")])
        );
        assert!(listing(root.path()).is_empty());
    }

    #[test]
    fn no_adapter_is_written_beside_a_config_json() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), b"{}").unwrap();
        assert!(matches!(
            sample().save(dir.path()),
            Err(LoraError::ConfigJsonPresent { .. })
        ));
        assert_eq!(listing(dir.path()), ["config.json"]);
    }

    #[test]
    fn a_card_is_written_once_and_replaced_only_when_given() {
        let dir = tempfile::tempdir().unwrap();
        let card = || fs::read_to_string(dir.path().join(CARD_FILE)).unwrap();
        let mut adapter = sample();
        adapter.config.base_model_name_or_path = Some("org/base: \"x\"".into());
        adapter.save(dir.path()).unwrap();
        assert!(
            card().starts_with("---\nbase_model: \"org/base: \\\"x\\\"\"\nlibrary_name: peft\n"),
            "{}",
            card()
        );
        adapter.save_with_card(dir.path(), "mine").unwrap();
        adapter.save(dir.path()).unwrap();
        assert_eq!(card(), "mine");
    }

    #[test]
    fn modules_are_compared_with_those_of_the_model() {
        let adapter = sample();
        let selected: Vec<String> = vec![Q0.into(), V0.into()];
        adapter.expect_modules("dir", &selected).unwrap();
        let fewer = adapter.expect_modules("dir", &selected[..1]).unwrap_err();
        assert!(
            matches!(fewer, LoraError::SurplusTensors { names, .. } if names == [lora_key(V0, "A")])
        );
        let more = [selected, vec!["model.layers.1.self_attn.q_proj".into()]].concat();
        let error = adapter.expect_modules("dir", &more).unwrap_err();
        assert!(
            matches!(error, LoraError::TensorMissing { name, nearest, .. }
            if name.contains("layers.1.") && nearest.as_deref() == Some(&*lora_key(Q0, "A")))
        );
    }

    #[test]
    fn an_adapter_for_another_task_is_refused() {
        let mut adapter = sample();
        adapter.expect_task(TaskType::SeqCls).unwrap();
        let error = adapter.expect_task(TaskType::TokenCls).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the adapter is for task SEQ_CLS, the model is for task TOKEN_CLS"
        );
        adapter.config.task_type = None;
        adapter.expect_task(TaskType::TokenCls).unwrap();
    }

    #[test]
    fn json_is_written_as_python_does() {
        let value = json!({"a": "è😀\u{1}\n", "b": [1, []], "c": {}});
        let expected = "{\n  \"a\": \"\\u00e8\\ud83d\\ude00\\u0001\\n\",\n  \"b\": [\n    1,\n    []\n  ],\n  \"c\": {}\n}";
        assert_eq!(python_json(&value), expected);
        assert_eq!(serde_json::from_str::<Value>(expected).unwrap(), value);
    }
}
